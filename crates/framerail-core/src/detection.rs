//! Detections: boxes, labels and their origin.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Attribute, OrientedBox, Rotation};

/// A point in frame pixels; (0, 0) is the top left corner of the top left pixel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Pixels from the left edge.
    pub x: f32,
    /// Pixels from the top edge.
    pub y: f32,
}

/// An axis-aligned box, in frame pixels unless stated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BBox {
    /// Left edge.
    pub x1: f32,
    /// Top edge.
    pub y1: f32,
    /// Right edge.
    pub x2: f32,
    /// Bottom edge.
    pub y2: f32,
}

impl BBox {
    /// A box from its corners (`bbox_xyxy`).
    pub fn from_xyxy(x1: f32, y1: f32, x2: f32, y2: f32) -> Self {
        Self { x1, y1, x2, y2 }
    }

    /// A box from centre and size (`bbox_cxcywh`).
    pub fn from_cxcywh(cx: f32, cy: f32, width: f32, height: f32) -> Self {
        Self { x1: cx - width / 2.0, y1: cy - height / 2.0, x2: cx + width / 2.0, y2: cy + height / 2.0 }
    }

    /// Width, never negative.
    pub fn width(&self) -> f32 {
        (self.x2 - self.x1).max(0.0)
    }

    /// Height, never negative.
    pub fn height(&self) -> f32 {
        (self.y2 - self.y1).max(0.0)
    }

    /// Area in square pixels.
    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }

    /// The centre.
    pub fn center(&self) -> Point {
        Point { x: (self.x1 + self.x2) / 2.0, y: (self.y1 + self.y2) / 2.0 }
    }

    /// Whether all coordinates are finite.
    pub fn is_finite(&self) -> bool {
        [self.x1, self.y1, self.x2, self.y2].iter().all(|v| v.is_finite())
    }

    /// Intersection over union, 0 to 1; 0 when either box is empty.
    pub fn iou(&self, other: &BBox) -> f32 {
        let overlap =
            BBox { x1: self.x1.max(other.x1), y1: self.y1.max(other.y1), x2: self.x2.min(other.x2), y2: self.y2.min(other.y2) }.area();
        let union = self.area() + other.area() - overlap;
        if union > 0.0 { overlap / union } else { 0.0 }
    }

    /// Scales the box about its centre.
    pub fn scaled(&self, factor: f32) -> BBox {
        let center = self.center();
        BBox::from_cxcywh(center.x, center.y, self.width() * factor, self.height() * factor)
    }

    /// Clamps the box to a frame of this size.
    pub fn clamped(&self, width: u32, height: u32) -> BBox {
        let (w, h) = (width as f32, height as f32);
        BBox { x1: self.x1.clamp(0.0, w), y1: self.y1.clamp(0.0, h), x2: self.x2.clamp(0.0, w), y2: self.y2.clamp(0.0, h) }
    }

    /// Bounding box of the mapped corners.
    pub(crate) fn placed(&self, place: &dyn Fn(Point) -> Point) -> BBox {
        let (from, to) = (place(Point { x: self.x1, y: self.y1 }), place(Point { x: self.x2, y: self.y2 }));
        BBox { x1: from.x.min(to.x), y1: from.y.min(to.y), x2: from.x.max(to.x), y2: from.y.max(to.y) }
    }

    /// Interpolates linearly to another box: `t` = 0 returns this one, 1 the other.
    pub fn lerp(&self, to: &BBox, t: f32) -> BBox {
        let mix = |a: f32, b: f32| a + (b - a) * t;
        BBox { x1: mix(self.x1, to.x1), y1: mix(self.y1, to.y1), x2: mix(self.x2, to.x2), y2: mix(self.y2, to.y2) }
    }
}

/// A class: its index in the model's output and its name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Label {
    /// Index of the class in the model's output.
    pub id: u32,
    /// Name from the model card.
    pub name: Arc<str>,
}

/// How a detection was obtained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DetectionOrigin {
    /// Detected by the model on this frame.
    #[default]
    Detected,
    /// Interpolated between detections on earlier and later frames.
    Interpolated,
    /// Extended from a detection on an earlier or a later frame.
    Held,
}

/// A box found by a model, or filled in between detections.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    /// The box in frame pixels; may extend beyond the frame.
    pub bbox: BBox,
    /// The rotated box, from detectors of oriented boxes; `bbox` is the upright one around it.
    pub oriented: Option<OrientedBox>,
    /// Confidence, 0 to 1.
    pub score: f32,
    /// The class.
    pub label: Label,
    /// Landmarks in frame pixels, in the order of the model card; empty if the model has none.
    pub landmarks: Vec<Point>,
    /// Identity across frames, set by a tracking stage.
    pub track_id: Option<u64>,
    /// Detected or filled in.
    pub origin: DetectionOrigin,
    /// Results of further models, in the order in which they ran.
    pub attributes: Vec<Attribute>,
}

impl Detection {
    /// Creates a detection without landmarks or track.
    pub fn new(bbox: BBox, score: f32, label: Label) -> Self {
        Self {
            bbox,
            oriented: None,
            score,
            label,
            landmarks: Vec::new(),
            track_id: None,
            origin: DetectionOrigin::Detected,
            attributes: Vec::new(),
        }
    }

    /// Moves the detection to another box; its rotated box, landmarks and attributes are moved and scaled with it.
    pub fn moved_to(&self, bbox: BBox) -> Self {
        let from = self.bbox;
        let ratio = |to: f32, from: f32| if from > 0.0 { to / from } else { 1.0 };
        let (across, down) = (ratio(bbox.width(), from.width()), ratio(bbox.height(), from.height()));
        let place = |point: Point| Point { x: bbox.x1 + (point.x - from.x1) * across, y: bbox.y1 + (point.y - from.y1) * down };
        let mut moved = self.placed(&place, Rotation::None);
        moved.bbox = bbox;
        moved
    }

    /// Maps every coordinate through `place`; `rotation` is the orientation part of that map.
    pub(crate) fn placed(&self, place: &dyn Fn(Point) -> Point, rotation: Rotation) -> Self {
        let landmarks = self.landmarks.iter().map(|point| place(*point)).collect();
        let attributes = self.attributes.iter().map(|attribute| attribute.placed(place, rotation)).collect();
        let oriented = self.oriented.map(|oriented| oriented.placed(place));
        Self {
            bbox: oriented.map_or_else(|| self.bbox.placed(place), |oriented| oriented.bbox()),
            oriented,
            landmarks,
            attributes,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AttributeValue, InstanceMask, ScoredLabel};

    #[test]
    fn iou_of_half_overlap() {
        let a = BBox::from_xyxy(0.0, 0.0, 2.0, 2.0);
        let b = BBox::from_xyxy(1.0, 0.0, 3.0, 2.0);
        assert!((a.iou(&b) - 1.0 / 3.0).abs() < 1e-6);
        assert_eq!(a.iou(&a), 1.0);
        assert_eq!(a.iou(&BBox::default()), 0.0);
    }

    #[test]
    fn attributes_go_along_with_the_box() {
        let label = Label { id: 0, name: "face".into() };
        let inside = BBox::from_xyxy(12.0, 12.0, 14.0, 20.0);
        let mask = InstanceMask::new(inside, 1, 2, vec![0, 255]).expect("a mask");
        let model: Arc<str> = "second".into();
        let mut detection = Detection::new(BBox::from_xyxy(10.0, 10.0, 20.0, 30.0), 0.9, label.clone());
        detection.landmarks = vec![Point { x: 15.0, y: 20.0 }];
        detection.attributes = [
            AttributeValue::Landmarks(detection.landmarks.clone()),
            AttributeValue::Mask(Arc::new(mask)),
            AttributeValue::Parts(vec![Detection::new(inside, 0.5, label.clone())]),
            AttributeValue::Classes(vec![ScoredLabel { label, score: 0.5 }]),
        ]
        .map(|value| Attribute { model: Arc::clone(&model), value })
        .into();

        let moved = detection.moved_to(BBox::from_xyxy(100.0, 0.0, 120.0, 20.0));

        assert_eq!(moved.landmarks, [Point { x: 110.0, y: 10.0 }]);
        let placed = BBox::from_xyxy(104.0, 2.0, 108.0, 10.0);
        let values: Vec<&AttributeValue> = moved.attributes.iter().map(|attribute| &attribute.value).collect();
        let [AttributeValue::Landmarks(marks), AttributeValue::Mask(mask), AttributeValue::Parts(parts), classes] = values[..] else {
            panic!("{values:?}")
        };
        assert_eq!((marks, mask.bbox(), parts[0].bbox), (&moved.landmarks, &placed, placed));
        assert_eq!(*classes, detection.attributes[3].value);
        assert_eq!(detection.moved_to(detection.bbox), detection);
    }

    #[test]
    fn scaling_keeps_the_middle() {
        let bbox = BBox::from_xyxy(10.0, 20.0, 30.0, 60.0);
        let scaled = bbox.scaled(1.5);
        assert_eq!(scaled.center(), bbox.center());
        assert!((scaled.width() - 30.0).abs() < 1e-5);
    }
}
