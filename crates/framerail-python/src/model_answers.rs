//! Attaches the results of a Python model, for frames or their parts, to the frames.

use std::{collections::BTreeMap, sync::Arc};

use framerail::{
    core::{Attribute, AttributeValue, BBox, Detection, ScoredLabel},
    parts::{FrameParts, PartOf},
    pipeline::{FrameItem, Item},
    vision::merge,
};

/// Tolerance in pixels for a box that fills its part.
const FILLS: f32 = 0.01;

/// A frame, by its index among the items, or a part of it.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub place: usize,
    pub part: Option<usize>,
}

/// Results in a part of a frame, by its index; `None` for the whole frame.
type FoundInPart = (Option<usize>, Vec<Detection>);

/// The views of a frame for the model: its parts, if a stage attached any, else the whole frame.
pub fn looks(item: &FrameItem, place: usize) -> Vec<Look> {
    match item.attachments.get::<FrameParts>() {
        Some(parts) => (0..parts.parts.len()).map(|part| Look { place, part: Some(part) }).collect(),
        None => vec![Look { place, part: None }],
    }
}

/// The part of the frame; `None` for the whole.
pub fn area(item: &FrameItem, look: Look) -> Option<BBox> {
    item.attachments.get::<FrameParts>()?.parts.get(look.part?).map(|part| part.area)
}

/// Attaches the results of each view and removes the parts. Returns the number of detections outside of their regions' outlines, which
/// are left out.
pub fn put(model: &Arc<str>, items: &mut [Item], answers: Vec<(Look, Vec<Detection>)>) -> u64 {
    let mut by_frame: BTreeMap<usize, Vec<FoundInPart>> = BTreeMap::new();
    for (look, found) in answers {
        by_frame.entry(look.place).or_default().push((look.part, found));
    }
    let mut outside = 0;
    for (place, item) in items.iter_mut().enumerate() {
        let Item::Frame(item) = item else { continue };
        let parts = item.attachments.get::<FrameParts>().cloned();
        item.attachments.remove::<FrameParts>();
        if let Some(answers) = by_frame.remove(&place) {
            outside += put_on_frame(model, item, &parts.unwrap_or_default(), answers);
        }
    }
    outside
}

fn put_on_frame(model: &Arc<str>, item: &mut FrameItem, parts: &FrameParts, answers: Vec<FoundInPart>) -> u64 {
    let (mut all, mut outside) = (Vec::new(), 0);
    for (part, found) in answers {
        let part = part.and_then(|part| parts.parts.get(part));
        let detection = part.and_then(|part| match part.of {
            PartOf::Detection(index) => item.detections.get_mut(index).map(|detection| (detection, part.area)),
            _ => None,
        });
        match detection {
            Some((detection, area)) => put_on_detection(model, detection, &area, found),
            None => {
                item.analysed = true;
                match part {
                    // A result for a whole area belongs to the area, whatever its outline.
                    Some(part) => {
                        let (whole, mut found): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| fills(&one.bbox, &part.area));
                        outside += part.keep_inside(&mut found);
                        all.extend(whole.into_iter().chain(found));
                    }
                    None => all.extend(found),
                }
            }
        }
    }
    if let Some(options) = &parts.merge {
        merge(&mut all, options);
    }
    item.detections.append(&mut all);
    outside
}

/// A result that fills the part is the detection itself: it becomes the detection's attributes. The rest become its parts.
fn put_on_detection(model: &Arc<str>, detection: &mut Detection, area: &BBox, found: Vec<Detection>) {
    let (whole, parts): (Vec<_>, Vec<_>) = found.into_iter().partition(|one| fills(&one.bbox, area));
    let attribute = |value| Attribute { model: Arc::clone(model), value };
    for one in whole {
        if !one.landmarks.is_empty() {
            detection.attributes.push(attribute(AttributeValue::Landmarks(one.landmarks)));
        }
        if one.attributes.is_empty() {
            let class = ScoredLabel { label: one.label, score: one.score };
            detection.attributes.push(attribute(AttributeValue::Classes(vec![class])));
        }
        detection.attributes.extend(one.attributes);
    }
    if !parts.is_empty() {
        detection.attributes.push(attribute(AttributeValue::Parts(parts)));
    }
}

fn fills(bbox: &BBox, area: &BBox) -> bool {
    let edges = |bbox: &BBox| [bbox.x1, bbox.y1, bbox.x2, bbox.y2];
    edges(bbox).iter().zip(edges(area)).all(|(edge, of_area)| (edge - of_area).abs() <= FILLS)
}
