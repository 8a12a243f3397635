//! What further models say of a detection.

use std::sync::Arc;

use crate::{Detection, FrameMapping, InstanceMask, Label, Point, Rotation};

/// One model's word on a detection: its class in another respect, its landmarks, its shape, its likeness, its parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// Name of the model that says so, from its card.
    pub model: Arc<str>,
    /// What it says.
    pub value: AttributeValue,
}

/// What a model says of a detection. Places are in frame pixels.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AttributeValue {
    /// Classes by falling score; at least one.
    Classes(Vec<ScoredLabel>),
    /// Points, in the order of the model's card.
    Landmarks(Vec<Point>),
    /// Which pixels belong to the detection.
    Mask(Arc<InstanceMask>),
    /// A vector by which detections are told apart or found again.
    Embedding(Arc<[f32]>),
    /// Detections inside of it, such as the faces of a person.
    Parts(Vec<Detection>),
}

/// A class and how sure the model is of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredLabel {
    /// The class.
    pub label: Label,
    /// Confidence, 0 to 1.
    pub score: f32,
}

impl Attribute {
    /// The attribute of a frame that was changed, where its places are then.
    #[must_use]
    pub fn mapped(&self, mapping: &FrameMapping) -> Self {
        self.placed(&|point| mapping.point(point), mapping.rotation())
    }

    /// The attribute with its places taken elsewhere, by a map that turns as `rotation` says.
    pub(crate) fn placed(&self, place: &dyn Fn(Point) -> Point, rotation: Rotation) -> Self {
        let value = match &self.value {
            AttributeValue::Landmarks(points) => AttributeValue::Landmarks(points.iter().map(|point| place(*point)).collect()),
            AttributeValue::Mask(mask) => {
                // A box that has become empty or not finite has no mask; the old one is no worse.
                AttributeValue::Mask(mask.turned(rotation, mask.bbox().placed(place)).map_or_else(|_| Arc::clone(mask), Arc::new))
            }
            AttributeValue::Parts(parts) => AttributeValue::Parts(parts.iter().map(|part| part.placed(place, rotation)).collect()),
            AttributeValue::Classes(_) | AttributeValue::Embedding(_) => self.value.clone(),
        };
        Self { model: Arc::clone(&self.model), value }
    }
}
