//! Boxes above the threshold, in model pixels, before suppression.

use framerail_core::{BBox, Point};

/// Maximum number of boxes per frame that go into suppression, whose cost is quadratic.
pub(crate) const MAX_CANDIDATES: usize = 5000;

/// A box above the threshold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Candidate {
    /// In model pixels.
    pub(crate) bbox: BBox,
    pub(crate) score: f32,
    pub(crate) class: usize,
    /// In model pixels.
    pub(crate) landmarks: Vec<Point>,
    /// Its position in the model's output.
    pub(crate) row: usize,
}

/// Collects boxes above the threshold and counts those left out.
#[derive(Debug)]
pub(crate) struct Candidates {
    confidence: f32,
    classes: usize,
    found: Vec<Candidate>,
    /// Boxes left out for a NaN or infinity.
    pub(crate) non_finite: u64,
    /// Boxes left out beyond [`MAX_CANDIDATES`].
    pub(crate) over_limit: u64,
}

impl Candidates {
    pub(crate) fn new(confidence: f32, classes: usize) -> Self {
        Self { confidence, classes, found: Vec::new(), non_finite: 0, over_limit: 0 }
    }

    /// Whether a score counts. NaN is counted as left out.
    pub(crate) fn accepts(&mut self, score: f32) -> bool {
        if score > self.confidence {
            return score.is_finite() || self.leave_out();
        }
        if score.is_nan() { self.leave_out() } else { false }
    }

    fn leave_out(&mut self) -> bool {
        self.non_finite += 1;
        false
    }

    /// Adds a box whose score was accepted; counts it as left out if one of its numbers is NaN or infinite.
    pub(crate) fn push(&mut self, candidate: Candidate) -> Result<(), String> {
        if candidate.class >= self.classes {
            return Err(format!("the model returned class {}, but the card has only {}", candidate.class, self.classes));
        }
        let finite = candidate.bbox.is_finite() && candidate.landmarks.iter().all(|point| point.x.is_finite() && point.y.is_finite());
        if finite {
            self.found.push(candidate);
        } else {
            self.non_finite += 1;
        }
        if self.found.len() >= 2 * MAX_CANDIDATES {
            self.keep_best();
        }
        Ok(())
    }

    /// The boxes, at most [`MAX_CANDIDATES`].
    pub(crate) fn finish(&mut self) -> Vec<Candidate> {
        if self.found.len() > MAX_CANDIDATES {
            self.keep_best();
        }
        std::mem::take(&mut self.found)
    }

    fn keep_best(&mut self) {
        self.found.select_nth_unstable_by(MAX_CANDIDATES - 1, |a, b| b.score.total_cmp(&a.score));
        self.over_limit += (self.found.len() - MAX_CANDIDATES) as u64;
        self.found.truncate(MAX_CANDIDATES);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(score: f32, x1: f32) -> Candidate {
        Candidate { bbox: BBox::from_xyxy(x1, 0.0, 10.0, 10.0), score, class: 0, landmarks: Vec::new(), row: 0 }
    }

    #[test]
    fn numbers_that_are_none_are_counted() {
        let mut candidates = Candidates::new(0.5, 1);
        assert!(!candidates.accepts(0.5), "the threshold itself does not count");
        assert!(candidates.accepts(0.51));
        assert!(!candidates.accepts(f32::NAN));
        assert!(!candidates.accepts(f32::INFINITY));
        candidates.push(candidate(0.9, f32::NAN)).expect("class 0");
        candidates.push(candidate(0.9, 1.0)).expect("class 0");
        assert_eq!(candidates.non_finite, 3);
        assert_eq!(candidates.finish().len(), 1);
    }

    #[test]
    fn the_best_remain_beyond_the_limit() {
        let mut candidates = Candidates::new(0.0, 1);
        let total = 2 * MAX_CANDIDATES + 7;
        for index in 0..total {
            candidates.push(candidate(index as f32 / total as f32, 0.0)).expect("class 0");
        }
        let kept = candidates.finish();
        assert_eq!(kept.len(), MAX_CANDIDATES);
        assert_eq!(candidates.over_limit as usize, total - MAX_CANDIDATES);
        let lowest = kept.iter().map(|candidate| candidate.score).fold(1.0, f32::min);
        assert_eq!(lowest, (total - MAX_CANDIDATES) as f32 / total as f32);
    }
}
