//! Agreement of the boxes of two models.

use framerail::core::Detection;
use serde::Serialize;

/// IoU from which two boxes count as the same object.
const SAME_OBJECT: f32 = 0.5;

/// Share of differences that counts as usual, in percent.
const USUAL_PERCENT: usize = 95;

/// Comparison of two models on the same frames.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Agreement {
    /// Frames compared.
    pub frames: usize,
    /// Boxes of the first model.
    pub expected: usize,
    /// Boxes of the second.
    pub found: usize,
    /// Boxes of the first that the second has too, each once.
    pub matched: usize,
    /// Smallest overlap of a matched pair.
    pub worst_iou: f32,
    /// Largest difference of the scores of a matched pair.
    pub worst_score: f32,
    /// The differences of all matched pairs.
    #[serde(skip)]
    score_changes: Vec<f32>,
}

impl Default for Agreement {
    fn default() -> Self {
        Self { frames: 0, expected: 0, found: 0, matched: 0, worst_iou: 1.0, worst_score: 0.0, score_changes: Vec::new() }
    }
}

impl Agreement {
    /// Counts a frame; whether the two differ by a box.
    pub fn add(&mut self, expected: &[Detection], found: &[Detection]) -> bool {
        let mut pairs: Vec<(f32, usize, usize)> = Vec::new();
        for (place, one) in expected.iter().enumerate() {
            let same = found.iter().enumerate().filter(|(_, other)| other.label.id == one.label.id);
            pairs.extend(same.map(|(other_place, other)| (one.bbox.iou(&other.bbox), place, other_place)));
        }
        pairs.retain(|(iou, ..)| *iou >= SAME_OBJECT);
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let (mut one_taken, mut other_taken) = (vec![false; expected.len()], vec![false; found.len()]);
        let mut matched = 0;
        for (iou, place, other_place) in pairs {
            let (Some(one), Some(other)) = (one_taken.get_mut(place), other_taken.get_mut(other_place)) else { continue };
            if *one || *other {
                continue;
            }
            (*one, *other) = (true, true);
            matched += 1;
            self.worst_iou = self.worst_iou.min(iou);
            let scores = expected.get(place).zip(found.get(other_place)).map(|(one, other)| (one.score - other.score).abs());
            self.worst_score = self.worst_score.max(scores.unwrap_or(0.0));
            self.score_changes.extend(scores);
        }
        self.frames += 1;
        self.expected += expected.len();
        self.found += found.len();
        self.matched += matched;
        matched < expected.len() || matched < found.len()
    }

    /// The difference of scores that 19 of 20 matched pairs do not exceed; 0 where there are none.
    pub fn usual_score_change(&self) -> f32 {
        let mut changes = self.score_changes.clone();
        changes.sort_by(f32::total_cmp);
        changes.get((changes.len() * USUAL_PERCENT / 100).min(changes.len().saturating_sub(1))).copied().unwrap_or(0.0)
    }

    /// Part of the first model's boxes that the second has too; 1 where there are none.
    pub fn recall(&self) -> f64 {
        part(self.matched, self.expected)
    }

    /// Part of the second model's boxes that the first has too; 1 where there are none.
    pub fn precision(&self) -> f64 {
        part(self.matched, self.found)
    }

    /// Boxes of the first model that the second lost.
    pub fn lost(&self) -> usize {
        self.expected - self.matched
    }

    /// Boxes of the second that the first does not have.
    pub fn added(&self) -> usize {
        self.found - self.matched
    }
}

fn part(matched: usize, all: usize) -> f64 {
    if all == 0 { 1.0 } else { matched as f64 / all as f64 }
}

#[cfg(test)]
mod tests {
    use framerail::core::{BBox, Label};

    use super::*;

    fn boxed(x: f32, score: f32, id: u32) -> Detection {
        Detection::new(BBox::from_xyxy(x, 0.0, x + 10.0, 10.0), score, Label { id, name: "thing".into() })
    }

    #[test]
    fn every_box_counts_once() {
        let mut agreement = Agreement::default();
        assert!(!agreement.add(&[boxed(0.0, 0.9, 0)], &[boxed(1.0, 0.8, 0)]), "a pair");
        assert!(agreement.add(&[boxed(0.0, 0.9, 0), boxed(1.0, 0.9, 0)], &[boxed(0.0, 0.9, 0)]), "one box for two");
        assert!(agreement.add(&[boxed(0.0, 0.9, 0)], &[boxed(0.0, 0.9, 1)]), "of another class");
        assert!(!agreement.add(&[], &[]));
        assert_eq!((agreement.frames, agreement.expected, agreement.found, agreement.matched), (4, 4, 3, 2));
        assert_eq!((agreement.lost(), agreement.added()), (2, 1));
        assert!((agreement.recall() - 0.5).abs() < 1e-9 && (agreement.precision() - 2.0 / 3.0).abs() < 1e-9);
        assert!((agreement.worst_iou - 9.0 / 11.0).abs() < 1e-6 && (agreement.worst_score - 0.1).abs() < 1e-6);
        assert!((agreement.usual_score_change() - 0.1).abs() < 1e-6 && Agreement::default().usual_score_change() == 0.0);
    }

    #[test]
    fn without_boxes_nothing_is_lost() {
        assert_eq!((Agreement::default().recall(), Agreement::default().precision()), (1.0, 1.0));
    }
}
