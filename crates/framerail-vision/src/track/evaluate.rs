//! Measures identities against the true ones: HOTA, identity switches, MOTA, IDF1.

use std::collections::HashMap;

use framerail_core::BBox;

use super::{assignment::Costs, boxes::Corners};

/// A box with an identity.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IdentifiedBox {
    /// The same for the same object on every frame; at most once per frame.
    pub id: u64,
    /// The box, in frame pixels.
    pub bbox: BBox,
}

/// The measures of one sequence. Shares are 0 to 1; 1 is best.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Evaluation {
    /// Higher order tracking accuracy: the mean of `sqrt(DetA * AssA)` over overlap thresholds from 0.05 to 0.95.
    ///
    /// Source: J. Luiten et al., HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking, IJCV 2021.
    pub hota: f64,
    /// HOTA's part for detection: the mean of `TP / (TP + FN + FP)`.
    pub detection_accuracy: f64,
    /// HOTA's part for association, that is for keeping identities.
    pub association_accuracy: f64,
    /// How often an object is found under another identity than the last time it was found (overlap from 0.5 on).
    ///
    /// Source: K. Bernardin and R. Stiefelhagen, Evaluating Multiple Object Tracking Performance: The CLEAR MOT Metrics, 2008.
    pub identity_switches: u64,
    /// `1 - (FN + FP + switches) / true boxes` (overlap from 0.5 on); may be negative.
    pub mota: f64,
    /// Share of boxes with the right identity, when each true identity is assigned its best counterpart (overlap from 0.5 on).
    ///
    /// Source: E. Ristani et al., Performance Measures and a Data Set for Multi-Target, Multi-Camera Tracking, 2016.
    pub idf1: f64,
}

/// Thresholds of HOTA: 0.05, 0.10 and so on to 0.95.
const THRESHOLDS: usize = 19;

/// Minimum overlap at which the other measures treat two boxes as the same object.
const SAME_FROM: f64 = 0.5;

struct EvaluatedFrame {
    truth: Vec<usize>,
    found: Vec<usize>,
    /// Overlaps; rows are true boxes, columns found ones.
    overlaps: Costs,
}

/// Identities, numbered in order of appearance, and how often each appeared.
#[derive(Default)]
struct Census {
    numbers: HashMap<u64, usize>,
    counts: Vec<f64>,
}

impl Census {
    fn count(&mut self, boxes: &[IdentifiedBox]) -> Vec<usize> {
        let number = |known: &IdentifiedBox| {
            let next = self.numbers.len();
            let number = *self.numbers.entry(known.id).or_insert(next);
            self.counts.resize(self.counts.len().max(number + 1), 0.0);
            self.counts[number] += 1.0;
            number
        };
        boxes.iter().map(number).collect()
    }

    fn boxes(&self) -> f64 {
        self.counts.iter().sum()
    }
}

/// Takes a sequence frame by frame and computes its [`Evaluation`].
#[derive(Default)]
pub struct Evaluator {
    frames: Vec<EvaluatedFrame>,
    truth: Census,
    found: Census,
}

/// Numbers by true and found identity.
struct Table {
    columns: usize,
    values: Vec<f64>,
}

impl Table {
    fn new(rows: usize, columns: usize) -> Self {
        Self { columns, values: vec![0.0; rows * columns] }
    }

    fn at(&self, row: usize, column: usize) -> f64 {
        self.values[row * self.columns + column]
    }

    fn add(&mut self, row: usize, column: usize, value: f64) {
        self.values[row * self.columns + column] += value;
    }
}

impl Evaluator {
    /// Adds the next frame: the true boxes, and those that a tracker found.
    pub fn add_frame(&mut self, truth: &[IdentifiedBox], found: &[IdentifiedBox]) {
        let (truth_corners, found_corners): (Vec<Corners>, Vec<Corners>) =
            (truth.iter().map(|known| (&known.bbox).into()).collect(), found.iter().map(|known| (&known.bbox).into()).collect());
        let overlaps = Costs::new(truth.len(), found.len(), |row, column| truth_corners[row].iou(&found_corners[column]));
        self.frames.push(EvaluatedFrame { truth: self.truth.count(truth), found: self.found.count(found), overlaps });
    }

    /// The measures of all frames so far.
    pub fn evaluation(&self) -> Evaluation {
        let mut evaluation = Evaluation::default();
        if self.truth.boxes() > 0.0 && self.found.boxes() > 0.0 {
            self.hota(&mut evaluation);
            self.clear(&mut evaluation);
            evaluation.idf1 = 2.0 * self.identity_matches() / (self.truth.boxes() + self.found.boxes());
        }
        evaluation
    }

    fn table(&self) -> Table {
        Table::new(self.truth.counts.len(), self.found.counts.len())
    }

    /// How well each pair of identities matches over the whole sequence.
    fn alignment(&self) -> Table {
        let mut shared = self.table();
        for frame in &self.frames {
            let row_sum = |row: usize| (0..frame.found.len()).map(|column| frame.overlaps.at(row, column)).sum::<f64>();
            let column_sum = |column: usize| (0..frame.truth.len()).map(|row| frame.overlaps.at(row, column)).sum::<f64>();
            let row_sums: Vec<f64> = (0..frame.truth.len()).map(row_sum).collect();
            let column_sums: Vec<f64> = (0..frame.found.len()).map(column_sum).collect();
            for (row, &truth) in frame.truth.iter().enumerate() {
                for (column, &found) in frame.found.iter().enumerate() {
                    let overlap = frame.overlaps.at(row, column);
                    let total = row_sums[row] + column_sums[column] - overlap;
                    shared.add(truth, found, if total > f64::EPSILON { overlap / total } else { 0.0 });
                }
            }
        }
        let mut alignment = self.table();
        for (truth, truth_count) in self.truth.counts.iter().enumerate() {
            for (found, found_count) in self.found.counts.iter().enumerate() {
                let together = shared.at(truth, found);
                alignment.add(truth, found, together / (truth_count + found_count - together));
            }
        }
        alignment
    }

    fn hota(&self, evaluation: &mut Evaluation) {
        let alignment = self.alignment();
        let mut matches: Vec<Table> = (0..THRESHOLDS).map(|_| self.table()).collect();
        let mut matched = [0.0; THRESHOLDS];
        for frame in &self.frames {
            let gains = Costs::new(frame.truth.len(), frame.found.len(), |row, column| {
                -alignment.at(frame.truth[row], frame.found[column]) * frame.overlaps.at(row, column)
            });
            for (row, column) in gains.assign_all() {
                for (index, (matches, matched)) in matches.iter_mut().zip(&mut matched).enumerate() {
                    if frame.overlaps.at(row, column) >= 0.05 * (index + 1) as f64 - f64::EPSILON {
                        matches.add(frame.truth[row], frame.found[column], 1.0);
                        *matched += 1.0;
                    }
                }
            }
        }
        for (matches, matched) in matches.iter().zip(matched) {
            let detection = matched / (self.truth.boxes() + self.found.boxes() - matched);
            let association = self.association(matches) / matched.max(1.0);
            evaluation.detection_accuracy += detection / THRESHOLDS as f64;
            evaluation.association_accuracy += association / THRESHOLDS as f64;
            evaluation.hota += (detection * association).sqrt() / THRESHOLDS as f64;
        }
    }

    /// The sum, over all matches, of the share of both identities' boxes that are matched with each other.
    fn association(&self, matches: &Table) -> f64 {
        let mut sum = 0.0;
        for (truth, truth_count) in self.truth.counts.iter().enumerate() {
            for (found, found_count) in self.found.counts.iter().enumerate() {
                let count = matches.at(truth, found);
                sum += count * count / (truth_count + found_count - count).max(1.0);
            }
        }
        sum
    }

    fn clear(&self, evaluation: &mut Evaluation) {
        let mut last_found: Vec<Option<usize>> = vec![None; self.truth.counts.len()];
        let mut found_before = last_found.clone();
        let mut matched = 0.0;
        for frame in self.frames.iter().filter(|frame| !frame.truth.is_empty() && !frame.found.is_empty()) {
            // Tracks found on the previous frame continue first.
            let costs = Costs::new(frame.truth.len(), frame.found.len(), |row, column| {
                let overlap = frame.overlaps.at(row, column);
                let goes_on = found_before[frame.truth[row]] == Some(frame.found[column]);
                if overlap >= SAME_FROM - f64::EPSILON { -overlap - 1000.0 * f64::from(goes_on) } else { 0.0 }
            });
            found_before.fill(None);
            for (row, column) in costs.assign_all() {
                let (truth, found) = (frame.truth[row], frame.found[column]);
                if costs.at(row, column) < 0.0 {
                    matched += 1.0;
                    evaluation.identity_switches += u64::from(last_found[truth].is_some_and(|last| last != found));
                    (last_found[truth], found_before[truth]) = (Some(found), Some(found));
                }
            }
        }
        let wrong = self.found.boxes() - matched + evaluation.identity_switches as f64;
        evaluation.mota = (matched - wrong) / self.truth.boxes();
    }

    /// Number of boxes with the right identity, when each true identity is assigned its best counterpart.
    fn identity_matches(&self) -> f64 {
        let mut together = self.table();
        for frame in &self.frames {
            for (row, &truth) in frame.truth.iter().enumerate() {
                for (column, &found) in frame.found.iter().enumerate() {
                    together.add(truth, found, f64::from(frame.overlaps.at(row, column) >= SAME_FROM));
                }
            }
        }
        let costs = Costs::new(self.truth.counts.len(), self.found.counts.len(), |row, column| -together.at(row, column));
        costs.assign_all().into_iter().map(|(row, column)| together.at(row, column)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(id: u64, x: f32) -> IdentifiedBox {
        IdentifiedBox { id, bbox: BBox::from_xyxy(x, 0.0, x + 10.0, 10.0) }
    }

    #[test]
    fn a_perfect_tracker_has_full_marks() {
        let mut evaluator = Evaluator::default();
        (0..10u8).for_each(|t| evaluator.add_frame(&[at(1, f32::from(t)), at(2, 50.0)], &[at(8, f32::from(t)), at(9, 50.0)]));
        let found = evaluator.evaluation();
        assert!(
            [found.hota, found.detection_accuracy, found.association_accuracy, found.mota, found.idf1]
                .iter()
                .all(|v| (v - 1.0).abs() < 1e-9)
        );
        assert_eq!(found.identity_switches, 0);
    }

    #[test]
    fn a_switch_halfway_is_counted_once_and_halves_association() {
        let mut evaluator = Evaluator::default();
        (0..10u64).for_each(|t| evaluator.add_frame(&[at(1, 0.0)], &[at(5 + t / 5, 0.0)]));
        let found = evaluator.evaluation();
        assert_eq!(found.identity_switches, 1);
        assert!((found.association_accuracy - 0.5).abs() < 1e-9 && (found.hota - 0.5f64.sqrt()).abs() < 1e-9);
        assert!((found.mota - 0.9).abs() < 1e-9 && (found.idf1 - 0.5).abs() < 1e-9);
    }

    #[test]
    fn nothing_found_is_nothing() {
        let mut evaluator = Evaluator::default();
        assert_eq!(evaluator.evaluation(), Evaluation::default());
        evaluator.add_frame(&[at(1, 0.0)], &[]);
        assert_eq!(evaluator.evaluation(), Evaluation::default());
    }
}
