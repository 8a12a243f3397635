//! Frames of clips, spread evenly over each.

use std::sync::{Arc, Mutex, PoisonError};

use framerail::{
    core::{Frame, RunFiles, StreamId},
    pipeline::{Description, Diagnostics, FrameItem, Probe, Verdict},
};

use crate::{
    exit::{Failure, INPUT, INTERNAL},
    interrupt,
    progress::Progress,
    runner::{self, RunArgs},
};

/// Every so many frames are kept; doubles when there are more than twice the wanted number.
struct Kept {
    seen: u64,
    stride: u64,
    wanted: usize,
    frames: Vec<Frame>,
}

impl Kept {
    fn see(&mut self, frame: &Frame) {
        let number = self.seen;
        self.seen += 1;
        if !number.is_multiple_of(self.stride) {
            return;
        }
        self.frames.push(frame.clone());
        if self.frames.len() > 2 * self.wanted {
            self.stride *= 2;
            let mut place = 0_usize;
            self.frames.retain(|_| {
                place += 1;
                place % 2 == 1
            });
        }
    }
}

/// Decodes a clip and keeps `wanted` frames, spread evenly; fewer where it has fewer. `number` identifies the clip.
///
/// # Errors
/// As a run of the clip; `INPUT` for one without a frame.
pub fn frames_of(clip: &str, number: u32, wanted: usize, shows_progress: bool) -> Result<Vec<Frame>, Failure> {
    let args = &RunArgs::internal();
    let text = format!("read {} ! null", super::quoted(clip));
    let description = Description::parse(&text).map_err(|diagnostic| Failure::from(Diagnostics::from(diagnostic)))?;
    let mut planned = runner::link(&description, args, false, RunFiles::default())?.into_graph()?;
    let edge = planned.edges.first().map(|edge| edge.id);
    let edge = edge.ok_or_else(|| Failure::new(INTERNAL, "the pipeline has no edge; please report it"))?;
    let kept = Arc::new(Mutex::new(Kept { seen: 0, stride: 1, wanted, frames: Vec::new() }));
    let seen = Arc::clone(&kept);
    let probe: Probe = Arc::new(move |item: &mut FrameItem| {
        seen.lock().unwrap_or_else(PoisonError::into_inner).see(&item.frame);
        Verdict::Keep
    });
    planned.graph.probe(edge, probe);
    let outcome = runner::run(planned, args, None, Progress::new(shows_progress, clip))?;
    outcome.result?;
    if interrupt::came() {
        return Err(Failure::interrupted("interrupted: nothing was written"));
    }
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    let frames = std::mem::take(&mut kept.frames);
    let chosen = spread(frames.len(), wanted);
    let mut frames: Vec<Frame> =
        frames.into_iter().enumerate().filter(|(place, _)| chosen.contains(place)).map(|(_, frame)| frame).collect();
    frames.iter_mut().for_each(|frame| frame.stream = StreamId(number));
    if frames.is_empty() { Err(Failure::new(INPUT, format_args!("{clip}: no frame could be decoded"))) } else { Ok(frames) }
}

/// Up to `wanted` places of `count`, spread evenly.
fn spread(count: usize, wanted: usize) -> Vec<usize> {
    if count <= wanted { (0..count).collect() } else { (0..wanted).map(|place| place * count / wanted).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_spread() {
        assert_eq!(spread(3, 4), [0, 1, 2]);
        assert_eq!(spread(10, 4), [0, 2, 5, 7]);
    }
}
