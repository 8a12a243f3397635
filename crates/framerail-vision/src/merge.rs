//! Merges detections of overlapping tiles into detections of the frame.
//!
//! Source: Akyon et al., "Slicing Aided Hyper Inference and Fine-tuning for Small Object Detection" (2022), and its published
//! implementation: greedy non-maximum merging, by intersection over union or over the smaller box.

use std::sync::Arc;

use framerail_core::{Attribute, AttributeValue, BBox, Detection, InstanceMask};

/// How detections of the same object are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeRule {
    /// The best one is kept, the others are dropped (non-maximum suppression).
    Suppress,
    /// The best one grows over the others (greedy non-maximum merging), for objects that a tile's edge cuts.
    Merge,
}

/// How the overlap of two boxes is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MatchMetric {
    /// Intersection over union.
    Iou,
    /// Intersection over the smaller box: a part cut off by a tile's edge lies within the whole.
    Ios,
}

/// Options for merging the detections of tiles.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MergeOptions {
    /// How matching detections are combined.
    pub rule: MergeRule,
    /// How the overlap is measured.
    pub metric: MatchMetric,
    /// Minimum overlap of a match, above 0, up to 1.
    pub threshold: f32,
    /// Whether only detections of the same class match.
    pub by_class: bool,
}

impl Default for MergeOptions {
    /// As published: greedy merging from an intersection over the smaller box of 0.5 on, within a class.
    fn default() -> Self {
        Self { rule: MergeRule::Merge, metric: MatchMetric::Ios, threshold: 0.5, by_class: true }
    }
}

impl MatchMetric {
    /// The overlap of two boxes, 0 to 1.
    pub fn overlap(self, a: &BBox, b: &BBox) -> f32 {
        match self {
            MatchMetric::Iou => a.iou(b),
            MatchMetric::Ios => {
                let (x1, y1, x2, y2) = (a.x1.max(b.x1), a.y1.max(b.y1), a.x2.min(b.x2), a.y2.min(b.y2));
                let smaller = a.area().min(b.area());
                if smaller > 0.0 { BBox::from_xyxy(x1, y1, x2, y2).area() / smaller } else { 0.0 }
            }
        }
    }
}

/// Merges detections, best first, and sorts the rest by descending score. Returns how many were merged into others or dropped.
/// A merged detection has the box around all its parts, the score, class, landmarks and identity of the best one, and the
/// union of their masks.
pub fn merge(detections: &mut Vec<Detection>, options: &MergeOptions) -> usize {
    let before = detections.len();
    let mut rest = std::mem::take(detections);
    rest.retain(|detection| detection.score.is_finite() && detection.bbox.is_finite());
    rest.sort_by(|a, b| b.score.total_cmp(&a.score));
    while !rest.is_empty() {
        let mut best = rest.remove(0);
        let matches = |bbox: &BBox, other: &Detection| {
            (!options.by_class || other.label.id == best.label.id) && options.metric.overlap(bbox, &other.bbox) >= options.threshold
        };
        let (matched, others): (Vec<_>, Vec<_>) = rest.into_iter().partition(|other| matches(&best.bbox, other));
        rest = others;
        if options.rule == MergeRule::Merge {
            for other in matched {
                // As published: measured against the box grown so far.
                if options.metric.overlap(&best.bbox, &other.bbox) >= options.threshold {
                    best = grown(best, &other);
                }
            }
        }
        detections.push(best);
    }
    before - detections.len()
}

/// Grows a detection over another of lower score.
fn grown(mut best: Detection, other: &Detection) -> Detection {
    let (a, b) = (best.bbox, other.bbox);
    // The upright box around all parts.
    best.oriented = None;
    best.bbox = BBox::from_xyxy(a.x1.min(b.x1), a.y1.min(b.y1), a.x2.max(b.x2), a.y2.max(b.y2));
    for attribute in &mut best.attributes {
        if let (AttributeValue::Mask(mask), Some(of_other)) = (&attribute.value, mask_of(other, &attribute.model))
            && let Some(union) = union(mask, of_other)
        {
            attribute.value = AttributeValue::Mask(Arc::new(union));
        }
    }
    best
}

fn mask_of<'a>(detection: &'a Detection, model: &str) -> Option<&'a InstanceMask> {
    let of_model = |attribute: &&Attribute| *attribute.model == *model;
    detection.attributes.iter().filter(of_model).find_map(|attribute| match &attribute.value {
        AttributeValue::Mask(mask) => Some(mask.as_ref()),
        _ => None,
    })
}

/// Maximum number of cells of a union along one side.
const MOST_CELLS: f32 = 1024.0;

/// Combines both masks on one grid, as fine as the finer of the two; `None` for masks without cells.
fn union(a: &InstanceMask, b: &InstanceMask) -> Option<InstanceMask> {
    let (first, second) = (a.bbox(), b.bbox());
    let bbox = BBox::from_xyxy(first.x1.min(second.x1), first.y1.min(second.y1), first.x2.max(second.x2), first.y2.max(second.y2));
    let cells = |side: f32, cell: f32| (side / cell).round().clamp(1.0, MOST_CELLS) as u32;
    let finer = |of_a: (f32, u32), of_b: (f32, u32)| (of_a.0 / of_a.1 as f32).min(of_b.0 / of_b.1 as f32);
    let columns = cells(bbox.width(), finer((first.width(), a.columns()), (second.width(), b.columns())));
    let rows = cells(bbox.height(), finer((first.height(), a.rows()), (second.height(), b.rows())));
    let (across, down) = (bbox.width() / columns as f32, bbox.height() / rows as f32);
    let mut coverage = Vec::with_capacity(columns as usize * rows as usize);
    for row in 0..rows {
        let y = bbox.y1 + (row as f32 + 0.5) * down;
        coverage.extend((0..columns).map(|column| {
            let x = bbox.x1 + (column as f32 + 0.5) * across;
            covered(a, x, y).max(covered(b, x, y))
        }));
    }
    InstanceMask::new(bbox, columns, rows, coverage).ok()
}

/// Coverage of the cell at a point; 0 outside the mask.
fn covered(mask: &InstanceMask, x: f32, y: f32) -> u8 {
    let cell = |at: f32, from: f32, side: f32, cells: u32| {
        let place = (at - from) / side * cells as f32;
        (place >= 0.0 && place < cells as f32).then_some(place as usize)
    };
    let bbox = mask.bbox();
    let column = cell(x, bbox.x1, bbox.width(), mask.columns());
    let row = cell(y, bbox.y1, bbox.height(), mask.rows());
    let index = column.zip(row).map(|(column, row)| row * mask.columns() as usize + column);
    index.and_then(|index| mask.coverage().get(index).copied()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use framerail_core::Label;

    use super::*;

    fn found(x1: f32, x2: f32, score: f32, class: u32) -> Detection {
        Detection::new(BBox::from_xyxy(x1, 0.0, x2, 10.0), score, Label { id: class, name: "thing".into() })
    }

    fn merged(mut detections: Vec<Detection>, options: MergeOptions) -> Vec<(f32, f32, f32)> {
        let before = detections.len();
        let gone = merge(&mut detections, &options);
        assert_eq!(gone, before - detections.len());
        detections.iter().map(|found| (found.bbox.x1, found.bbox.x2, found.score)).collect()
    }

    #[test]
    fn a_thing_that_an_edge_cuts_is_whole_again() {
        // 0 to 60 and 40 to 100 overlap by a third; the whole frame found most of it.
        let cut = vec![found(0.0, 60.0, 0.8, 0), found(40.0, 100.0, 0.7, 0), found(10.0, 95.0, 0.6, 0), found(200.0, 240.0, 0.5, 0)];
        let merge = MergeOptions { threshold: 0.3, ..MergeOptions::default() };
        assert_eq!(merged(cut.clone(), merge), [(0.0, 100.0, 0.8), (200.0, 240.0, 0.5)]);
        let suppress = MergeOptions { rule: MergeRule::Suppress, ..merge };
        assert_eq!(merged(cut.clone(), suppress), [(0.0, 60.0, 0.8), (200.0, 240.0, 0.5)]);
        // By IoU these are different objects: 20 of 100, 50 of 95, and 55 of 90.
        let by_iou = MergeOptions { metric: MatchMetric::Iou, threshold: 0.65, ..merge };
        assert_eq!(merged(cut, by_iou).len(), 4);
    }

    #[test]
    fn classes_are_separate_by_default() {
        let two = vec![found(0.0, 50.0, 0.8, 0), found(0.0, 49.0, 0.7, 1)];
        assert_eq!(merged(two.clone(), MergeOptions::default()).len(), 2);
        assert_eq!(merged(two, MergeOptions { by_class: false, ..MergeOptions::default() }), [(0.0, 50.0, 0.8)]);
        assert_eq!(merged(vec![found(f32::NAN, 1.0, 0.9, 0)], MergeOptions::default()), []);
    }

    #[test]
    fn masks_grow_together() {
        let with_mask = |x1: f32, score, cells: [u8; 4]| {
            let mut thing = found(x1, x1 + 20.0, score, 0);
            let mask = InstanceMask::new(thing.bbox, 2, 2, cells.to_vec()).expect("a mask");
            thing.attributes.push(Attribute { model: "seg".into(), value: AttributeValue::Mask(Arc::new(mask)) });
            thing
        };
        let mut things = vec![with_mask(0.0, 0.9, [255, 0, 0, 100]), with_mask(10.0, 0.8, [0, 200, 150, 0])];
        assert_eq!(merge(&mut things, &MergeOptions::default()), 1);
        let AttributeValue::Mask(mask) = &things[0].attributes[0].value else { panic!("{things:?}") };
        assert_eq!((*mask.bbox(), mask.columns(), mask.rows()), (BBox::from_xyxy(0.0, 0.0, 30.0, 10.0), 3, 2));
        assert_eq!(mask.coverage(), [255, 0, 200, 0, 150, 0]);
    }
}
