//! Outputs with one column (or row) for each box, already in pixels: YOLOv5, YOLOv8 and similar models.
//!
//! Source: the documented export format of these models: `4 + classes (+ landmarks)` values for each box, YOLOv5 with an
//! objectness score after the first four.

use framerail_core::{BBox, InstanceMask, OrientedBox, Point};
use serde::Deserialize;

use super::{
    Activation, BoxForm, Candidate, Candidates, Decode, Expected, KeyError, PrototypesCard, Seen, Tensors, ensure,
    prototypes::prototype_mask, sigmoid, to_pixels,
};
use crate::{card::ModelCard, size::InputSize};

/// Parameters of an anchor-free model.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorFreeCard {
    /// The output.
    pub output: String,
    /// Whether values or boxes come first.
    pub order: ValueOrder,
    /// Meaning of the first four values.
    #[serde(default = "center_and_size")]
    pub form: BoxForm,
    /// Whether coordinates go from 0 to 1 instead of in model pixels.
    #[serde(default)]
    pub normalized: bool,
    /// Whether an objectness score follows the box; class scores are multiplied by it.
    #[serde(default)]
    pub objectness: bool,
    /// Activation that the scores still need.
    #[serde(default)]
    pub activation: Activation,
    /// Values per landmark after the scores: 2 (x, y) or 3 (x, y, visibility); 0 without landmarks.
    #[serde(default)]
    pub landmark_values: usize,
    /// Whether the last value is the rotation of the box, in radians, clockwise; overlaps are then those of rotated boxes.
    #[serde(default)]
    pub angle: bool,
    /// Mask coefficients at the end of each box, for models with prototypes.
    pub masks: Option<PrototypesCard>,
}

/// The order of an output's last two axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueOrder {
    /// `[batch, values, boxes]`, as YOLOv8 exports.
    ValuesFirst,
    /// `[batch, boxes, values]`, as YOLOv5 exports.
    BoxesFirst,
}

fn center_and_size() -> BoxForm {
    BoxForm::Cxcywh
}

impl AnchorFreeCard {
    pub(crate) fn check(&self, card: &ModelCard) -> Result<(), KeyError> {
        let fitting: &[usize] = if card.landmarks.is_empty() { &[0] } else { &[2, 3] };
        ensure(fitting.contains(&self.landmark_values), "landmark_values", "2 or 3 if the card names landmarks, else 0")?;
        let fits = !self.angle || (self.masks.is_none() && self.form == BoxForm::Cxcywh);
        ensure(fits, "angle", "false for boxes with masks, or of another form than cxcywh")?;
        self.masks.as_ref().map_or(Ok(()), PrototypesCard::check)
    }

    pub(crate) fn expected(&self, card: &ModelCard) -> Vec<Expected> {
        let values = Some(self.values(card));
        let shape = match self.order {
            ValueOrder::ValuesFirst => [None, values, None],
            ValueOrder::BoxesFirst => [None, None, values],
        };
        let mut expected = vec![Expected::new(&self.output, &[&shape])];
        expected.extend(self.masks.as_ref().map(PrototypesCard::expected));
        expected
    }

    pub(crate) fn output_names(&self) -> Vec<&str> {
        std::iter::once(self.output.as_str()).chain(self.masks.as_ref().map(|masks| masks.prototypes.as_str())).collect()
    }

    /// Values of one box.
    fn values(&self, card: &ModelCard) -> usize {
        let coefficients = self.masks.as_ref().map_or(0, |masks| masks.coefficients);
        4 + usize::from(self.objectness)
            + card.class_count()
            + self.landmark_values * card.landmarks.len()
            + coefficients
            + usize::from(self.angle)
    }
}

/// Decodes anchor-free outputs for one input size.
pub(crate) struct AnchorFree {
    card: AnchorFreeCard,
    values: usize,
    classes: usize,
    landmarks: usize,
    input: InputSize,
}

/// One box's values within the output, wherever they lie.
struct Row<'a> {
    data: &'a [f32],
    start: usize,
    step: usize,
}

impl Row<'_> {
    fn value(&self, index: usize) -> f32 {
        self.data.get(self.start + index * self.step).copied().unwrap_or(f32::NAN)
    }
}

impl AnchorFree {
    pub(crate) fn new(anchor_free: &AnchorFreeCard, card: &ModelCard, input: InputSize) -> Self {
        let (classes, landmarks) = (card.class_count(), card.landmarks.len());
        Self { card: anchor_free.clone(), values: anchor_free.values(card), classes, landmarks, input }
    }

    /// The best class of a box and its score.
    fn best(&self, row: &Row<'_>, scores: &mut [f32]) -> (usize, f32) {
        let first = 4 + usize::from(self.card.objectness);
        scores.iter_mut().enumerate().for_each(|(class, score)| *score = row.value(first + class));
        self.card.activation.apply(scores);
        let best = scores.iter().copied().enumerate().fold((0, f32::NEG_INFINITY), |best, (class, score)| {
            // A NaN must be counted, so it wins.
            if score > best.1 || score.is_nan() { (class, score) } else { best }
        });
        match (self.card.objectness, self.card.activation) {
            (false, _) => best,
            (true, Activation::None) => (best.0, best.1 * row.value(4)),
            (true, _) => (best.0, best.1 * sigmoid(row.value(4))),
        }
    }

    /// The boxes of an item, and the layout of their values.
    fn rows<'a>(&self, tensors: &Tensors<'a>, item: usize) -> Result<(usize, impl Fn(usize) -> Row<'a>), String> {
        let tensor = tensors.item(&self.card.output, item, 2)?;
        let (boxes, values) = match (self.card.order, &tensor.dims[..]) {
            (ValueOrder::ValuesFirst, [values, boxes]) | (ValueOrder::BoxesFirst, [boxes, values]) => (*boxes, *values),
            _ => (0, 0),
        };
        if values != self.values {
            return Err(format!("output '{}' has {values} values per box; the model card expects {}", self.card.output, self.values));
        }
        let order = self.card.order;
        let row = move |index: usize| match order {
            ValueOrder::ValuesFirst => Row { data: tensor.data, start: index, step: boxes },
            ValueOrder::BoxesFirst => Row { data: tensor.data, start: index * values, step: 1 },
        };
        Ok((boxes, row))
    }

    /// The rotated box of a row, in model pixels.
    fn rotated(&self, row: &Row<'_>) -> Option<OrientedBox> {
        let (across, down) = if self.card.normalized { (self.input.width as f32, self.input.height as f32) } else { (1.0, 1.0) };
        let rotated = OrientedBox {
            center: Point { x: row.value(0) * across, y: row.value(1) * down },
            width: row.value(2) * across,
            height: row.value(3) * down,
            angle: row.value(self.values - 1),
        };
        self.card.angle.then_some(rotated)
    }

    fn candidate(&self, row: &Row<'_>, index: usize, class: usize, score: f32) -> Candidate {
        let bbox = self.card.form.bbox([row.value(0), row.value(1), row.value(2), row.value(3)]);
        let first = 4 + usize::from(self.card.objectness) + self.classes;
        let (across, down) = if self.card.normalized { (self.input.width as f32, self.input.height as f32) } else { (1.0, 1.0) };
        let point = |landmark: usize| {
            let at = first + landmark * self.card.landmark_values;
            Point { x: row.value(at) * across, y: row.value(at + 1) * down }
        };
        let bbox = match self.rotated(row) {
            Some(rotated) => rotated.bbox(),
            None if self.card.normalized => to_pixels(bbox, self.input),
            None => bbox,
        };
        Candidate { bbox, score, class, landmarks: (0..self.landmarks).map(point).collect(), row: index }
    }
}

impl Decode for AnchorFree {
    fn decode(&self, tensors: &Tensors<'_>, item: usize, candidates: &mut Candidates) -> Result<(), String> {
        let (boxes, row_of) = self.rows(tensors, item)?;
        let mut scores = vec![0.0; self.classes];
        for index in 0..boxes {
            let row = row_of(index);
            let (class, score) = self.best(&row, &mut scores);
            if candidates.accepts(score) {
                candidates.push(self.candidate(&row, index, class, score))?;
            }
        }
        Ok(())
    }

    fn oriented(&self, tensors: &Tensors<'_>, item: usize, index: usize) -> Option<OrientedBox> {
        let (_, row_of) = self.rows(tensors, item).ok()?;
        self.rotated(&row_of(index)).map(OrientedBox::regular)
    }

    fn mask(&self, tensors: &Tensors<'_>, item: usize, index: usize, bbox: &BBox, seen: &Seen) -> Result<Option<InstanceMask>, String> {
        let Some(masks) = &self.card.masks else { return Ok(None) };
        let (_, row_of) = self.rows(tensors, item)?;
        let (row, first) = (row_of(index), self.values - masks.coefficients);
        let coefficients: Vec<f32> = (first..self.values).map(|value| row.value(value)).collect();
        prototype_mask(&tensors.item(&masks.prototypes, item, 3)?, &coefficients, bbox, self.input, seen)
    }
}

#[cfg(test)]
mod tests {
    use framerail_core::BBox;

    use super::{super::TensorData, *};
    use crate::decode::Tensor;

    const YOLOV8: &str = include_str!("../../cards/yolov8.toml");

    fn decode(card: &ModelCard, dims: [usize; 2], data: &[f32]) -> Vec<Candidate> {
        let tensor = Tensor { name: "output0", dims: vec![1, dims[0], dims[1]], data: TensorData::F32(data) };
        let mut candidates = Candidates::new(0.25, card.class_count());
        let decoder = card.output.decoder(card, InputSize { width: 640, height: 640 }).boxes();
        decoder.decode(&Tensors::new(vec![tensor]), 0, &mut candidates).expect("fitting shapes");
        candidates.finish()
    }

    #[test]
    fn yolov8_columns_become_boxes() {
        let card = ModelCard::parse(YOLOV8, "yolov8.toml".as_ref()).expect("own card");
        let boxes = 5;
        let mut data = vec![0.0; 84 * boxes];
        for (value, number) in [(0, 100.0), (1, 200.0), (2, 40.0), (3, 60.0), (4 + 2, 0.3), (4 + 7, 0.8)] {
            data[value * boxes + 3] = number;
        }
        let found = decode(&card, [84, boxes], &data);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].class, found[0].score), (7, 0.8));
        assert_eq!(found[0].bbox, BBox::from_xyxy(80.0, 170.0, 120.0, 230.0));
    }

    #[test]
    fn rotated_boxes_have_their_angle_last_and_an_upright_box_around_them() {
        let text = YOLOV8.split("\nlabels").next().expect("text before the labels").to_owned()
            + "\nlabels = [\"plane\", \"ship\"]\n[input]\nwidth = 640\nheight = 640\n[output.anchor_free]\noutput = \"output0\"\n"
            + "order = \"values-first\"\nangle = true\n";
        let card = ModelCard::parse(&text, "obb.toml".as_ref()).expect("card of the test");
        let quarter = std::f32::consts::FRAC_PI_2;
        let columns = [[100.0, 200.0, 40.0, 20.0, 0.1, 0.9, quarter], [300.0, 200.0, 40.0, 20.0, 0.1, 0.2, 0.0]];
        let data: Vec<f32> = (0..7).flat_map(|value| columns.map(|column| column[value])).collect();
        let found = decode(&card, [7, 2], &data);
        assert_eq!((found.len(), found[0].class, found[0].row), (1, 1, 0));
        let bbox = found[0].bbox;
        assert!((bbox.width() - 20.0).abs() < 1e-3 && (bbox.height() - 40.0).abs() < 1e-3, "{bbox:?}");
        let tensor = Tensor { name: "output0", dims: vec![1, 7, 2], data: TensorData::F32(&data) };
        let decoder = card.output.decoder(&card, InputSize { width: 640, height: 640 }).boxes();
        let rotated = decoder.oriented(&Tensors::new(vec![tensor]), 0, 0).expect("an angle");
        assert_eq!((rotated.width, rotated.height, rotated.angle), (20.0, 40.0, 0.0), "from 0 up to a quarter turn");
        assert!(ModelCard::parse(&text.replace("values-first\"\n", "values-first\"\nform = \"xyxy\"\n"), "obb.toml".as_ref()).is_err());
    }

    #[test]
    fn yolov5_rows_with_objectness_and_landmarks() {
        let text = YOLOV8.split("\nlabels").next().expect("text before the labels").to_owned()
            + "\nlabels = [\"face\"]\nlandmarks = [\"nose\"]\n[input]\nwidth = 640\nheight = 640\n[output.anchor_free]\noutput = \"output0\"\n"
            + "order = \"boxes-first\"\nobjectness = true\nlandmark_values = 3\n";
        let card = ModelCard::parse(&text, "yolov5.toml".as_ref()).expect("card of the test");
        let data = [10.0, 10.0, 4.0, 4.0, 0.5, 0.9, 11.0, 12.0, 1.0, 10.0, 10.0, 4.0, 4.0, 0.1, 0.9, 0.0, 0.0, 0.0];
        let found = decode(&card, [2, 9], &data);
        assert_eq!(found.len(), 1);
        assert!((found[0].score - 0.45).abs() < 1e-6);
        assert_eq!(found[0].landmarks, [Point { x: 11.0, y: 12.0 }]);
    }
}
