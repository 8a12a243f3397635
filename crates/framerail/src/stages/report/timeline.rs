//! Numbers of detections over time, in bounded memory.

/// Maximum number of parts of a stream; with more, neighbours are merged.
const MAX_BINS: usize = 480;

/// One frame.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moment {
    pub(super) secs: f64,
    /// Number of detections by the model.
    pub(super) detected: u32,
    /// Number of filled-in boxes.
    pub(super) filled: u32,
    pub(super) lowest_score: Option<f32>,
}

/// Consecutive frames.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Bin {
    pub(super) frames: u64,
    pub(super) start_secs: f64,
    /// Of the frame with the most detections.
    pub(super) detected: u32,
    pub(super) filled: u32,
    pub(super) frames_filled: u64,
    pub(super) lowest_score: Option<f32>,
}

/// The stream in at most a fixed number of parts with equally many frames.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    bins: Vec<Bin>,
    frames_per_bin: u64,
    pub(super) end_secs: f64,
}

impl Default for Timeline {
    fn default() -> Self {
        Self { bins: Vec::new(), frames_per_bin: 1, end_secs: 0.0 }
    }
}

impl Timeline {
    pub(super) fn push(&mut self, moment: Moment) {
        self.end_secs = moment.secs;
        let bin = Bin {
            frames: 1,
            start_secs: moment.secs,
            detected: moment.detected,
            filled: moment.filled,
            frames_filled: u64::from(moment.filled > 0),
            lowest_score: moment.lowest_score,
        };
        match self.bins.last_mut().filter(|last| last.frames < self.frames_per_bin) {
            Some(last) => *last = joined(last, &bin),
            None => self.bins.push(bin),
        }
        if self.bins.len() > MAX_BINS {
            self.bins = halved(&self.bins);
            self.frames_per_bin *= 2;
        }
    }

    pub(super) fn frames_per_bin(&self) -> u64 {
        self.frames_per_bin
    }

    pub(super) fn bins(&self) -> &[Bin] {
        &self.bins
    }

    /// The same in fewer parts, for pages with many streams.
    pub(super) fn coarser(mut self, most: usize) -> Self {
        while self.bins.len() > most.max(1) {
            self.bins = halved(&self.bins);
            self.frames_per_bin *= 2;
        }
        self
    }
}

fn halved(bins: &[Bin]) -> Vec<Bin> {
    bins.chunks(2).filter_map(|pair| pair.iter().copied().reduce(|a, b| joined(&a, &b))).collect()
}

fn joined(a: &Bin, b: &Bin) -> Bin {
    let fullest = if b.detected + b.filled > a.detected + a.filled { b } else { a };
    Bin {
        frames: a.frames + b.frames,
        start_secs: a.start_secs,
        detected: fullest.detected,
        filled: fullest.filled,
        frames_filled: a.frames_filled + b.frames_filled,
        lowest_score: [a.lowest_score, b.lowest_score].into_iter().flatten().reduce(f32::min),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_bounded_and_nothing_is_lost() {
        let mut timeline = Timeline::default();
        for frame in 0..100_000u32 {
            let detected = if frame == 70_001 { 9 } else { 1 };
            let (filled, lowest_score) = (u32::from(frame % 1000 == 0), (frame == 5).then_some(0.25));
            timeline.push(Moment { secs: f64::from(frame) / 25.0, detected, filled, lowest_score });
        }
        let bins = timeline.bins();
        assert!(bins.len() <= MAX_BINS && bins.len() > MAX_BINS / 2 - 1, "{}", bins.len());
        assert_eq!(bins.iter().map(|bin| bin.frames).sum::<u64>(), 100_000);
        assert_eq!(bins.iter().map(|bin| bin.frames_filled).sum::<u64>(), 100);
        assert_eq!(bins.iter().map(|bin| bin.detected).max(), Some(9));
        assert_eq!(bins[0].lowest_score, Some(0.25));
        let all_but_last = &bins[..bins.len() - 1];
        assert!(all_but_last.iter().all(|bin| bin.frames == timeline.frames_per_bin()));
        assert!(timeline.clone().coarser(10).bins().len() <= 10);
    }
}
