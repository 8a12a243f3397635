//! Non-maximum suppression: of boxes that overlap, only the one with the highest score is kept.

use framerail_core::{BBox, Detection, OrientedBox};

/// Sorts detections by descending score (equal scores keep their order) and removes those whose intersection over union with a
/// better one exceeds `iou_threshold` (0 to 1), across all classes or within each. Also removes malformed detections, whose box or
/// score is not finite, and returns how many there were.
pub fn nms(detections: &mut Vec<Detection>, iou_threshold: f32, class_agnostic: bool) -> usize {
    nms_by(detections, |detection| detection, iou_threshold, class_agnostic)
}

/// Like [`nms`], for values that contain a detection.
pub fn nms_by<T>(things: &mut Vec<T>, detection_of: impl Fn(&T) -> &Detection, iou_threshold: f32, class_agnostic: bool) -> usize {
    let before = things.len();
    things.retain(|thing| detection_of(thing).score.is_finite() && detection_of(thing).bbox.is_finite());
    let malformed = before - things.len();
    things.sort_by(|a, b| detection_of(b).score.total_cmp(&detection_of(a).score));
    let mut kept = KeptBoxes::new(things.iter().map(|thing| &detection_of(thing).bbox));
    things.retain(|thing| {
        let detection = detection_of(thing);
        let class = if class_agnostic { 0 } else { detection.label.id };
        let suppressed = kept.any_near(&detection.bbox, |other| other.class == class && other.bbox.iou(&detection.bbox) > iou_threshold);
        if !suppressed {
            kept.insert(KeptBox { bbox: detection.bbox, class });
        }
        !suppressed
    });
    malformed
}

/// Non-maximum suppression of rotated boxes, by probabilistic IoU, as YOLO's oriented detectors have it: a box is suppressed by every
/// better one that overlaps it by at least `iou_threshold`, even if that one is suppressed itself. Upright boxes have an angle of 0.
pub fn nms_oriented_by<T>(things: &mut Vec<T>, detection_of: impl Fn(&T) -> &Detection, iou_threshold: f32, class_agnostic: bool) {
    things.sort_by(|a, b| detection_of(b).score.total_cmp(&detection_of(a).score));
    let box_of = |thing: &T| {
        let detection = detection_of(thing);
        let (center, width, height) = (detection.bbox.center(), detection.bbox.width(), detection.bbox.height());
        let upright = OrientedBox { center, width, height, angle: 0.0 };
        (detection.bbox, detection.oriented.unwrap_or(upright), if class_agnostic { 0 } else { detection.label.id })
    };
    let boxes: Vec<(BBox, OrientedBox, u32)> = things.iter().map(box_of).collect();
    let mut place = 0;
    things.retain(|_| {
        let (bbox, oriented, class) = &boxes[place];
        let is_better = |(other, other_oriented, other_class): &(BBox, OrientedBox, u32)| {
            // The distributions reach a little beyond the boxes.
            other_class == class && near(bbox, other) && oriented.probabilistic_iou(other_oriented) >= iou_threshold
        };
        let is_kept = !boxes[..place].iter().any(is_better);
        place += 1;
        is_kept
    });
}

/// Whether two boxes, each grown by its own size on every side, meet: beyond that, the probabilistic IoU is below 0.01.
fn near(a: &BBox, b: &BBox) -> bool {
    let apart =
        |from: f32, to: f32, other_from: f32, other_to: f32| (other_from - to).max(from - other_to) > (to - from) + (other_to - other_from);
    !apart(a.x1, a.x2, b.x1, b.x2) && !apart(a.y1, a.y2, b.y1, b.y2)
}

#[derive(Clone, Copy)]
struct KeptBox {
    bbox: BBox,
    class: u32,
}

/// Boxes in vertical strips, so that a box is compared only with its neighbours.
struct KeptBoxes {
    strips: Vec<Vec<KeptBox>>,
    left: f32,
    strip_width: f32,
}

impl KeptBoxes {
    const MOST_STRIPS: usize = 256;

    fn new<'a>(boxes: impl Iterator<Item = &'a BBox> + Clone) -> Self {
        let count = boxes.clone().count();
        let left = boxes.clone().map(|bbox| bbox.x1).fold(f32::INFINITY, f32::min);
        let right = boxes.clone().map(|bbox| bbox.x2).fold(f32::NEG_INFINITY, f32::max);
        let mean_width = boxes.map(BBox::width).sum::<f32>() / count.max(1) as f32;
        let strips = ((right - left) / mean_width.max(1e-3)).clamp(1.0, Self::MOST_STRIPS as f32) as usize;
        Self { strips: vec![Vec::new(); strips.max(1)], left, strip_width: ((right - left) / strips.max(1) as f32).max(1e-3) }
    }

    fn strips_of(&self, bbox: &BBox) -> std::ops::RangeInclusive<usize> {
        let last = self.strips.len() - 1;
        let strip = |x: f32| (((x - self.left) / self.strip_width).max(0.0) as usize).min(last);
        strip(bbox.x1)..=strip(bbox.x2.max(bbox.x1))
    }

    fn any_near(&self, bbox: &BBox, matches: impl Fn(&KeptBox) -> bool) -> bool {
        self.strips[self.strips_of(bbox)].iter().flatten().any(matches)
    }

    fn insert(&mut self, kept: KeptBox) {
        let strips = self.strips_of(&kept.bbox);
        self.strips[strips].iter_mut().for_each(|strip| strip.push(kept));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use framerail_core::Label;

    use super::*;

    fn detection(x: f32, y: f32, side: f32, score: f32, class: u32) -> Detection {
        Detection::new(BBox::from_xyxy(x, y, x + side, y + side), score, Label { id: class, name: Arc::from("thing") })
    }

    /// The definition, written plainly.
    fn reference(mut detections: Vec<Detection>, threshold: f32, class_agnostic: bool) -> Vec<Detection> {
        detections.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut kept: Vec<Detection> = Vec::new();
        for detection in detections {
            let beaten =
                |other: &Detection| (class_agnostic || other.label.id == detection.label.id) && other.bbox.iou(&detection.bbox) > threshold;
            if !kept.iter().any(beaten) {
                kept.push(detection);
            }
        }
        kept
    }

    #[test]
    fn equals_the_definition_on_many_random_boxes() {
        let mut state = 7u32;
        let mut next = |most: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) % most) as f32
        };
        for round in 0..20 {
            let boxes: Vec<_> =
                (0..400).map(|_| detection(next(900) - 50.0, next(500), 5.0 + next(120), next(1000) / 1000.0, next(3) as u32)).collect();
            for class_agnostic in [true, false] {
                let mut found = boxes.clone();
                assert_eq!(nms(&mut found, 0.3, class_agnostic), 0);
                assert_eq!(found, reference(boxes.clone(), 0.3, class_agnostic), "round {round}");
            }
        }
    }

    #[test]
    fn rotated_boxes_suppress_by_their_probabilistic_overlap() {
        let mut state = 11u32;
        let mut next = |most: u32| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) % most) as f32
        };
        let boxes: Vec<Detection> = (0..300)
            .map(|_| {
                let mut found = detection(0.0, 0.0, 1.0, next(10_000) / 10_000.0, next(2) as u32);
                let center = framerail_core::Point { x: next(500), y: next(300) };
                let rotated = OrientedBox { center, width: 10.0 + next(90), height: 10.0 + next(40), angle: next(157) / 100.0 };
                (found.bbox, found.oriented) = (rotated.bbox(), Some(rotated));
                found
            })
            .collect();
        for class_agnostic in [false, true] {
            let mut sorted = boxes.clone();
            sorted.sort_by(|a, b| b.score.total_cmp(&a.score));
            let overlap = |a: &Detection, b: &Detection| a.oriented.expect("rotated").probabilistic_iou(&b.oriented.expect("rotated"));
            let is_kept = |at: usize| {
                let same = |other: &&Detection| class_agnostic || other.label.id == sorted[at].label.id;
                !sorted[..at].iter().filter(same).any(|other| overlap(other, &sorted[at]) >= 0.3)
            };
            let wanted: Vec<Detection> = (0..sorted.len()).filter(|at| is_kept(*at)).map(|at| sorted[at].clone()).collect();
            let mut found = boxes.clone();
            nms_oriented_by(&mut found, |found| found, 0.3, class_agnostic);
            assert!(found.len() < boxes.len() && found == wanted);
        }
    }

    #[test]
    fn malformed_boxes_are_counted_and_extremes_survive() {
        let mut boxes = vec![
            detection(f32::NAN, 0.0, 10.0, 0.9, 0),
            detection(0.0, 0.0, 10.0, f32::NAN, 0),
            detection(0.0, 0.0, 0.0, 0.8, 0),
            detection(-1e30, -1e30, 2e30, 0.7, 0),
            detection(5.0, 5.0, 10.0, 0.6, 0),
        ];
        assert_eq!(nms(&mut boxes, 0.5, false), 2);
        assert_eq!(boxes.len(), 3);
        let mut empty = Vec::new();
        assert_eq!(nms(&mut empty, 0.5, false), 0);
    }

    #[test]
    fn equal_scores_keep_their_order() {
        let mut boxes: Vec<_> = (0..5).map(|i| detection(i as f32 * 100.0, 0.0, 10.0, 0.5, i)).collect();
        nms(&mut boxes, 0.5, true);
        assert_eq!(boxes.iter().map(|d| d.label.id).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    }
}
