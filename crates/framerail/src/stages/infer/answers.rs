//! Attaches model results to frames: as detections, attributes of detections, or attributes of the frame.

use std::sync::Arc;

use framerail_core::{Attribute, AttributeValue, BBox, Detection, Label, Point};
use framerail_infer::{Description, Prediction};
use framerail_pipeline::FrameItem;
use framerail_vision::{MatchMetric, MergeOptions, MergeRule, merge};

use super::kept::KeptAttributes;
use crate::parts::{FrameAttributes, FrameParts, Part, PartOf};

/// Where the results of a detector that runs on detections go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finds {
    /// Into the parts of the detection.
    Parts,
    /// Detections of the frame.
    Detections,
}

/// IoU at which the weaker of two results in neighbouring detections is suppressed.
const SAME_FIND: f32 = 0.5;

/// How results are attached to frames.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    /// Name of the model.
    pub(super) model: Arc<str>,
    /// Offset of the model's class numbers: after the classes of earlier models.
    pub(super) first_label: u32,
    /// Label of an object that has no class.
    pub(super) thing: Option<Label>,
    /// Whether earlier detectors ran on this frame.
    pub(super) marks_analysed: bool,
    /// Where results inside detections go.
    pub(super) finds: Finds,
}

/// Counts of attached results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Put {
    /// Detections, including parts of others.
    pub(super) detections: u64,
    /// Attributes of detections and of the frame.
    pub(super) attributes: u64,
    /// Attributes of tracks on which the model did not run again.
    pub(super) kept: u64,
    /// Detections merged into others.
    pub(super) merged: u64,
    /// Detections in the box around an area but outside the area.
    pub(super) outside: u64,
}

/// A model's result for a part of a frame, by the part's index; `None` for the whole frame.
pub(super) type Answer = (Option<usize>, Prediction);

impl Answers {
    /// Attaches the results of a frame and removes its parts.
    pub(super) fn put(&self, item: &mut FrameItem, answers: Vec<Answer>, kept: &mut KeptAttributes) -> Put {
        let parts = item.attachments.get::<FrameParts>().cloned().unwrap_or_default();
        item.attachments.remove::<FrameParts>();
        let (mut put, mut found) = (Put::default(), Vec::new());
        for (place, prediction) in answers {
            let part = place.and_then(|place| parts.parts.get(place));
            match part {
                Some(Part { of: PartOf::Detection(index), .. }) if self.finds == Finds::Parts => {
                    self.put_on_detection(item, *index, prediction, &mut put, kept)
                }
                part => found.extend(self.find(item, part, prediction, &mut put)),
            }
        }
        put.kept = kept.put(item, &parts.kept);
        let in_detections = MergeOptions { rule: MergeRule::Suppress, metric: MatchMetric::Iou, threshold: SAME_FIND, by_class: true };
        let merging = parts.merge.or((self.finds == Finds::Detections).then_some(in_detections));
        if let Some(options) = &merging {
            put.merged = merge(&mut found, options) as u64;
        }
        put.detections += found.len() as u64;
        item.detections.append(&mut found);
        put
    }

    fn attribute(&self, value: AttributeValue) -> Attribute {
        Attribute { model: Arc::clone(&self.model), value }
    }

    fn put_on_detection(&self, item: &mut FrameItem, index: usize, prediction: Prediction, put: &mut Put, kept: &mut KeptAttributes) {
        let Some(detection) = item.detections.get_mut(index) else { return };
        let value = match prediction {
            Prediction::Detections(parts) => {
                put.detections += parts.len() as u64;
                (!parts.is_empty()).then_some(AttributeValue::Parts(parts))
            }
            Prediction::Description(description) => description.map(|description| description.value),
            _ => None,
        };
        let attribute = value.map(|value| self.attribute(value));
        put.attributes += u64::from(attribute.is_some());
        kept.remember(item.frame.stream, detection, attribute.as_ref());
        detection.attributes.extend(attribute);
    }

    /// Results for a region, a tile or the whole frame, without those outside a region's outline.
    fn find(&self, item: &mut FrameItem, part: Option<&Part>, prediction: Prediction, put: &mut Put) -> Vec<Detection> {
        let mut found = match prediction {
            Prediction::Detections(detections) => {
                let renumbered = |mut detection: Detection| {
                    detection.label.id = detection.label.id.saturating_add(self.first_label);
                    detection
                };
                detections.into_iter().map(renumbered).collect()
            }
            Prediction::Description(Some(description)) => {
                put.attributes += 1;
                match (self.thing.clone().zip(extent(&description.value)), part) {
                    (Some((label, bbox)), _) => vec![self.with_landmarks(Detection::new(bbox, description.score, label), description)],
                    (None, Some(Part { of: PartOf::Region(number, name), area, .. })) => {
                        // The area itself: the anchor of its box may lie outside the outline.
                        let label = Label { id: self.first_label.saturating_add(*number), name: Arc::clone(name) };
                        return vec![self.with_landmarks(Detection::new(*area, 1.0, label), description)];
                    }
                    (None, _) => {
                        self.put_on_frame(item, description);
                        Vec::new()
                    }
                }
            }
            _ => Vec::new(),
        };
        put.outside += part.map_or(0, |part| part.keep_inside(&mut found));
        found
    }

    fn with_landmarks(&self, mut detection: Detection, description: Description) -> Detection {
        match description.value {
            // An object found by its landmarks keeps them, as one found by a detector does.
            AttributeValue::Landmarks(points) => detection.landmarks = points,
            value => detection.attributes.push(self.attribute(value)),
        }
        detection
    }

    fn put_on_frame(&self, item: &mut FrameItem, description: Description) {
        let mut attributes = item.attachments.get::<FrameAttributes>().cloned().unwrap_or_default();
        attributes.0.push(self.attribute(description.value));
        item.attachments.insert(attributes);
    }
}

/// Minimum coverage of a cell that counts as inside.
const INSIDE: u8 = 128;

/// The box around landmarks or the inside of a mask; `None` for values without a position.
fn extent(value: &AttributeValue) -> Option<BBox> {
    match value {
        AttributeValue::Landmarks(points) => around(points.iter().copied()),
        AttributeValue::Mask(mask) => {
            let bbox = mask.bbox();
            let (across, down) = (bbox.width() / mask.columns() as f32, bbox.height() / mask.rows() as f32);
            let columns = mask.columns().max(1) as usize;
            let inside = mask.coverage().iter().enumerate().filter(|(_, coverage)| **coverage >= INSIDE);
            let corners = inside.flat_map(|(cell, _)| {
                let (x, y) = ((cell % columns) as f32, (cell / columns) as f32);
                let corner = |x: f32, y: f32| Point { x: bbox.x1 + x * across, y: bbox.y1 + y * down };
                [corner(x, y), corner(x + 1.0, y + 1.0)]
            });
            around(corners)
        }
        _ => None,
    }
}

fn around(points: impl Iterator<Item = Point>) -> Option<BBox> {
    let grow =
        |bbox: BBox, point: Point| BBox::from_xyxy(bbox.x1.min(point.x), bbox.y1.min(point.y), bbox.x2.max(point.x), bbox.y2.max(point.y));
    points
        .map(|point| BBox::from_xyxy(point.x, point.y, point.x, point.y))
        .reduce(|all, one| grow(grow(all, Point { x: one.x1, y: one.y1 }), Point { x: one.x2, y: one.y2 }))
}
