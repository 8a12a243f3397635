//! How attributes of detections and frames are drawn: classes as text, landmarks as points.

use framerail_core::{Attribute, AttributeValue, Detection, Point, Skeleton};

use crate::{DrawOptions, Sketch, sketch::color_of};

/// Colour of frame attributes when the options set none.
const FRAME_RGB: [u8; 3] = [240, 240, 240];

/// Landmarks of a detection: its own, and those from further models.
pub(crate) fn landmarks_of(detection: &Detection) -> impl Iterator<Item = Point> {
    poses_of(detection).flatten().copied().filter(|point| point.x.is_finite() && point.y.is_finite())
}

/// The same, model by model.
fn poses_of(detection: &Detection) -> impl Iterator<Item = &[Point]> {
    let further = detection.attributes.iter().map(|attribute| match &attribute.value {
        AttributeValue::Landmarks(points) => points.as_slice(),
        _ => &[],
    });
    std::iter::once(detection.landmarks.as_slice()).chain(further)
}

/// Detections that lie inside a detection.
pub(crate) fn parts_of(detection: &Detection) -> impl Iterator<Item = &[Detection]> {
    detection.attributes.iter().filter_map(|attribute| match &attribute.value {
        AttributeValue::Parts(parts) => Some(parts.as_slice()),
        _ => None,
    })
}

/// The best class of each attribute that has classes.
pub(crate) fn classes_of(attributes: &[Attribute], options: &DrawOptions) -> Vec<String> {
    let words = attributes.iter().filter_map(|attribute| match &attribute.value {
        AttributeValue::Classes(classes) => classes.first(),
        _ => None,
    });
    let word = |name: &str, score: f32| if options.scores { format!("{name} {:.0}%", score * 100.0) } else { name.to_owned() };
    words.filter(|_| options.labels).map(|best| word(&best.label.name, best.score)).collect()
}

impl Sketch {
    /// Draws the bones of poses: those of the first skeleton with as many points as the pose.
    pub fn skeletons(&mut self, detections: &[Detection], skeletons: &[Skeleton], options: &DrawOptions) {
        if skeletons.is_empty() || !options.landmarks {
            return;
        }
        let width = options.line_width.unwrap_or_else(|| self.default_line_width()).max(1) as f32;
        for detection in detections {
            let rgb = options.rgb.unwrap_or_else(|| color_of(detection, options.color_by));
            for pose in poses_of(detection) {
                let bones = skeletons.iter().find(|skeleton| skeleton.points == pose.len()).map(|skeleton| &skeleton.bones);
                for [from, to] in bones.into_iter().flatten() {
                    if let (Some(from), Some(to)) = (pose.get(*from), pose.get(*to)) {
                        self.line(*from, *to, rgb, width);
                    }
                }
            }
            parts_of(detection).for_each(|parts| self.skeletons(parts, skeletons, options));
        }
    }

    /// Draws the best class that each model returns for the whole frame, one below the other in the top left corner.
    pub fn frame_attributes(&mut self, attributes: &[Attribute], options: &DrawOptions) {
        let scale = options.line_width.unwrap_or_else(|| self.default_line_width()).max(1);
        let mut y = i64::from(scale);
        for words in classes_of(attributes, options) {
            let shadow = i64::from(scale.div_ceil(2));
            self.text(i64::from(scale) + shadow, y + shadow, &words, [0; 3], scale);
            self.text(i64::from(scale), y, &words, options.rgb.unwrap_or(FRAME_RGB), scale);
            y += i64::from(self.text_size(&words, scale).1) + i64::from(scale);
        }
    }
}

#[cfg(test)]
mod tests {
    use framerail_core::{BBox, ColorDescription, Label, PixelFormat, ScoredLabel};

    use super::*;

    #[test]
    fn words_points_and_parts_of_attributes_are_drawn() {
        let label = |name: &str| Label { id: 0, name: name.into() };
        let attribute = |value| Attribute { model: "second".into(), value };
        let mut car = Detection::new(BBox::from_xyxy(10.0, 30.0, 60.0, 50.0), 0.9, label("car"));
        let sketch = |car: &Detection, options: &DrawOptions| {
            let mut sketch = Sketch::new((200, 100), PixelFormat::Yuv420p, &ColorDescription::default());
            sketch.detections(std::slice::from_ref(car), options);
            sketch.strokes().len()
        };
        let options = DrawOptions::default();
        let before = sketch(&car, &options);
        let classes = AttributeValue::Classes(vec![ScoredLabel { label: label("red"), score: 0.8 }]);
        car.attributes = vec![attribute(classes.clone()), attribute(AttributeValue::Landmarks(vec![Point { x: 12.0, y: 33.0 }]))];
        assert_eq!(classes_of(&car.attributes, &options), ["red 80%"]);
        assert_eq!(classes_of(&car.attributes, &DrawOptions { scores: false, ..options }), ["red"]);
        assert_eq!(sketch(&car, &options), before + 1, "a dot more; the words are in the caption");
        let plate = Detection::new(BBox::from_xyxy(30.0, 40.0, 40.0, 45.0), 0.7, label("plate"));
        car.attributes = vec![attribute(AttributeValue::Parts(vec![plate]))];
        assert_eq!(sketch(&car, &options), 2 * before);
        let mut frame = Sketch::new((200, 100), PixelFormat::Yuv420p, &ColorDescription::default());
        frame.frame_attributes(&[attribute(classes)], &options);
        assert_eq!(frame.strokes().len(), 2);
    }
}
