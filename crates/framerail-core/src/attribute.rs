//! Attributes that further models add to a detection.

use std::sync::Arc;

use crate::{DepthMap, Detection, FlowMap, FrameMapping, InstanceMask, Label, Point, Rotation};

/// One model's result for a detection or a frame: classes, landmarks, a mask, an embedding, parts, depth or motion.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// Name of the model, from its model card.
    pub model: Arc<str>,
    /// The result.
    pub value: AttributeValue,
}

/// A model's result for a detection. Coordinates are in frame pixels.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum AttributeValue {
    /// Classes by descending score; at least one.
    Classes(Vec<ScoredLabel>),
    /// Points, in the order of the model card.
    Landmarks(Vec<Point>),
    /// Which pixels belong to the detection.
    Mask(Arc<InstanceMask>),
    /// Vector for comparing or re-identifying detections.
    Embedding(Arc<[f32]>),
    /// Detections inside this one, such as the faces of a person.
    Parts(Vec<Detection>),
    /// Depth of each cell of a frame.
    Depth(Arc<DepthMap>),
    /// Motion of each cell of a frame since the frame before.
    Flow(Arc<FlowMap>),
}

/// A class and its score.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoredLabel {
    /// The class.
    pub label: Label,
    /// Confidence, 0 to 1.
    pub score: f32,
}

impl Attribute {
    /// Maps the attribute to the coordinates of a transformed frame.
    #[must_use]
    pub fn mapped(&self, mapping: &FrameMapping) -> Self {
        self.placed(&|point| mapping.point(point), mapping.rotation())
    }

    /// Maps every coordinate through `place`; `rotation` is the orientation part of that map, applied to masks.
    pub(crate) fn placed(&self, place: &dyn Fn(Point) -> Point, rotation: Rotation) -> Self {
        let value = match &self.value {
            AttributeValue::Landmarks(points) => AttributeValue::Landmarks(points.iter().map(|point| place(*point)).collect()),
            AttributeValue::Mask(mask) => {
                // A box that became empty or non-finite cannot hold a mask: keep the old one.
                AttributeValue::Mask(mask.turned(rotation, mask.bbox().placed(place)).map_or_else(|_| Arc::clone(mask), Arc::new))
            }
            AttributeValue::Parts(parts) => AttributeValue::Parts(parts.iter().map(|part| part.placed(place, rotation)).collect()),
            AttributeValue::Depth(depth) => {
                AttributeValue::Depth(depth.placed(place, rotation).map_or_else(|| Arc::clone(depth), Arc::new))
            }
            AttributeValue::Flow(flow) => AttributeValue::Flow(flow.placed(place, rotation).map_or_else(|| Arc::clone(flow), Arc::new)),
            AttributeValue::Classes(_) | AttributeValue::Embedding(_) => self.value.clone(),
        };
        Self { model: Arc::clone(&self.model), value }
    }
}
