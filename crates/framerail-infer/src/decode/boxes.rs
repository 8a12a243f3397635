//! Final boxes with scores: models with built-in decoding, and often suppression; and transformers, which return one box per query and
//! need no suppression.
//!
//! Source: Carion et al., "End-to-End Object Detection with Transformers" (2020) for boxes from 0 to 1 with a class for "no object";
//! Zhao et al., "DETRs Beat YOLOs on Real-time Object Detection" (2023) for scores of each class on its own.

use std::borrow::Cow;

use framerail_core::{BBox, InstanceMask};
use framerail_vision::ModelMapping;
use serde::Deserialize;

use super::{
    Activation, BoxForm, Candidate, Candidates, Decode, Expected, KeyError, Seen, Tensors, class_of, ensure, seen::coverage, to_pixels,
};
use crate::{card::ModelCard, more_inputs::FrameScale, size::InputSize};

/// Parameters of a model that returns boxes. Outputs may lack the batch axis if the model takes one image.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxesCard {
    /// Output `[batch, boxes, 4]`; with more values per box if `scores` is omitted, in the order of `row`. Boxes of all images may
    /// follow each other in `[boxes, values]` if `count` or a value of the row separates them.
    pub boxes: String,
    /// Output `[batch, boxes]`, or `[batch, boxes, classes]` when `labels` is left out.
    pub scores: Option<String>,
    /// Output `[batch, boxes]` with the class of each box.
    pub labels: Option<String>,
    /// Output `[batch]` with the number of valid boxes.
    pub count: Option<String>,
    /// Meaning of a row's values, if `scores` is omitted.
    pub row: Option<Vec<RowValue>>,
    /// Meaning of the four box values.
    #[serde(default)]
    pub form: BoxForm,
    /// Whether coordinates go from 0 to 1 instead of in pixels.
    #[serde(default)]
    pub normalized: bool,
    /// Coordinate space of the boxes.
    #[serde(default)]
    pub space: BoxSpace,
    /// Activation that the scores still need.
    #[serde(default)]
    pub activation: Activation,
    /// Number of the background class among the scores; those after it move down by one. Left out when there is none.
    pub background: Option<u32>,
    /// Whether a box has one class only, its best; else every class above the threshold.
    #[serde(default)]
    pub one_class: bool,
    /// Number of the card's first class in the `labels` output.
    #[serde(default)]
    pub first_label: i64,
    /// Whether the model suppresses overlapping boxes itself.
    #[serde(default)]
    pub suppressed: bool,
    /// The masks of the boxes, if the model returns any.
    pub masks: Option<BoxMasksCard>,
}

/// Where a model's masks are: `masks = { output = "pred_masks", activation = "sigmoid" }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxMasksCard {
    /// Output `[batch, boxes, rows, columns]`, whose cells cover the model's input evenly. A mask is cropped to its box.
    pub output: String,
    /// Activation of its values: `none` or `sigmoid`.
    #[serde(default)]
    pub activation: Activation,
    /// Minimum value of a cell inside the mask, 0 to 1.
    #[serde(default = "half")]
    pub threshold: f32,
}

fn half() -> f32 {
    0.5
}

/// Coordinate space of boxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BoxSpace {
    /// Pixels of the model's input.
    #[default]
    Input,
    /// Pixels of the frame, or of the part, because another input holds its size or scale. A model with letterboxed inputs subtracts
    /// the padding itself.
    Frame,
    /// Pixels of the model's input including padding, scaled by the size or factor in another input. Without padding these are frame
    /// pixels.
    Scaled,
}

/// Meaning of a value of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RowValue {
    /// Four values: the box.
    Box,
    /// The score.
    Score,
    /// Number of the class.
    Class,
    /// Index of the image in its batch.
    #[serde(alias = "picture")]
    Image,
    /// Ignored.
    Other,
}

/// Positions of the values in a row.
#[derive(Clone, Copy, Debug)]
struct RowPlaces {
    bbox: usize,
    score: usize,
    class: usize,
    image: Option<usize>,
    values: usize,
}

impl RowPlaces {
    const USUAL: &[RowValue] = &[RowValue::Box, RowValue::Score, RowValue::Class];

    /// `None` unless there is one box, one score, one class and at most one image.
    fn new(row: &[RowValue]) -> Option<Self> {
        let (mut places, mut values) = ([None; 4], 0_usize);
        for value in row {
            let slot = match value {
                RowValue::Box => Some(0),
                RowValue::Score => Some(1),
                RowValue::Class => Some(2),
                RowValue::Image => Some(3),
                RowValue::Other => None,
            };
            if let Some(place) = slot.and_then(|slot| places.get_mut(slot))
                && place.replace(values).is_some()
            {
                return None;
            }
            values += if *value == RowValue::Box { 4 } else { 1 };
        }
        let [bbox, score, class, image] = places;
        Some(Self { bbox: bbox?, score: score?, class: class?, image, values })
    }
}

impl BoxesCard {
    fn row(&self) -> &[RowValue] {
        self.row.as_deref().unwrap_or(RowPlaces::USUAL)
    }

    pub(crate) fn check(&self, card: &ModelCard) -> Result<(), KeyError> {
        ensure(self.labels.is_none() || self.scores.is_some(), "labels", "left out without 'scores'")?;
        ensure(card.landmarks.is_empty(), "landmarks", "left out: this family has no landmarks")?;
        ensure(self.row.is_none() || self.scores.is_none(), "row", "left out beside 'scores'")?;
        ensure(RowPlaces::new(self.row()).is_some(), "row", "a list with one each of box, score and class, and picture or other")?;
        let (in_input, geometry) = (self.space == BoxSpace::Input, FrameScale::of(&card.input).is_some());
        ensure(in_input || !self.normalized, "space", "input, or left out, for boxes from 0 to 1")?;
        if let Some(masks) = &self.masks {
            ensure(in_input, "space", "input if 'masks' is given")?;
            ensure(self.scores.is_some(), "masks", "left out without 'scores'")?;
            ensure(masks.activation != Activation::Softmax, "activation", "none or sigmoid for masks")?;
            ensure(masks.threshold > 0.0 && masks.threshold < 1.0, "threshold", "a number between 0 and 1")?;
        }
        ensure(in_input || geometry, "space", "input, unless [input.more] gives the model frame_width or scale_x")?;
        ensure(self.background.is_none_or(|id| id as usize <= card.class_count()), "background", "the number of one of the classes")
    }

    pub(crate) fn output_names(&self) -> Vec<&str> {
        let masks = self.masks.as_ref().map(|masks| &masks.output);
        [Some(&self.boxes), self.scores.as_ref(), self.labels.as_ref(), self.count.as_ref(), masks]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect()
    }

    pub(crate) fn expected(&self, card: &ModelCard) -> Vec<Expected> {
        let columns = Some(card.class_count() + usize::from(self.background.is_some()));
        let values = match (&self.scores, &self.row) {
            (Some(_), _) => Some(4),
            (None, row) => row.as_deref().and_then(RowPlaces::new).map(|places| places.values),
        };
        let mut expected = vec![Expected::new(&self.boxes, &[&[None, None, values], &[None, values]])];
        let list: &[&[Option<usize>]] = &[&[None, None], &[None]];
        let table: &[&[Option<usize>]] = &[&[None, None, columns], &[None, columns]];
        expected.extend(self.scores.as_ref().map(|name| Expected::new(name, if self.labels.is_some() { list } else { table })));
        expected.extend(self.labels.as_ref().map(|name| Expected::new(name, list)));
        expected.extend(self.masks.as_ref().map(|masks| Expected::new(&masks.output, &[&[None; 4], &[None; 3]])));
        expected.extend(self.count.as_ref().map(|name| Expected::new(name, &[&[None], &[None, Some(1)], &[]])));
        expected
    }
}

/// Decodes final boxes for one input size.
pub(crate) struct Boxes {
    card: BoxesCard,
    columns: usize,
    input: InputSize,
    places: RowPlaces,
    /// By the frame geometry that the model gets.
    frame_scale: Option<FrameScale>,
}

/// Source of the scores.
enum Scores<'a> {
    /// Values of each box's row.
    InBoxes,
    /// One score per box, and its class.
    Listed { scores: &'a [f32], labels: Cow<'a, [i64]> },
    /// A score for each class.
    Table { scores: &'a [f32] },
}

impl Boxes {
    pub(crate) fn new(boxes: &BoxesCard, card: &ModelCard, input: InputSize) -> Self {
        let columns = card.class_count() + usize::from(boxes.background.is_some());
        let usual = RowPlaces { bbox: 0, score: 4, class: 5, image: None, values: 6 };
        // Others were refused with the card.
        let places = RowPlaces::new(boxes.row()).unwrap_or(usual);
        Self { card: boxes.clone(), columns, input, places, frame_scale: FrameScale::of(&card.input) }
    }

    /// Number of valid boxes of an image.
    fn counted(&self, tensors: &Tensors<'_>, item: usize) -> Result<Option<usize>, String> {
        let Some(name) = &self.card.count else { return Ok(None) };
        let rank = tensors.rank(name)?.saturating_sub(1);
        let count = tensors.integers(name, item, rank)?.first().copied();
        Ok(Some(count.and_then(|count| usize::try_from(count).ok()).unwrap_or(0)))
    }

    /// The rows of an image, each with this many values. If rows of all images follow each other, they are separated by their count or
    /// by a value of each.
    fn rows<'a>(&self, tensors: &Tensors<'a>, item: usize) -> Result<(usize, Vec<&'a [f32]>), String> {
        let name = &self.card.boxes;
        let follow = tensors.rank(name)? == 2 && (self.places.image.is_some() || self.card.count.is_some());
        let boxes = tensors.item(name, if follow { 0 } else { item }, 2)?;
        let [_, values] = boxes.dims[..] else { return Err("the boxes have no rows".into()) };
        let rows = boxes.data.chunks_exact(values.max(1));
        let rows = match (follow, self.places.image) {
            (true, Some(place)) => rows.filter(|row| row.get(place).is_some_and(|image| *image == item as f32)).collect(),
            (true, None) => {
                let mut before = 0_usize;
                for earlier in 0..item {
                    before = before.saturating_add(self.counted(tensors, earlier)?.unwrap_or(0));
                }
                rows.skip(before).collect()
            }
            (false, _) => rows.collect(),
        };
        Ok((values, rows))
    }

    fn scores<'a>(&self, tensors: &Tensors<'a>, item: usize, boxes: usize) -> Result<Scores<'a>, String> {
        let short = |name: &str, dims: &[usize]| format!("output '{name}' is {dims:?} for {boxes} boxes");
        match (&self.card.scores, &self.card.labels) {
            (None, _) => Ok(Scores::InBoxes),
            (Some(name), Some(labels_name)) => {
                let scores = tensors.item(name, item, 1)?;
                let labels = tensors.integers(labels_name, item, 1)?;
                let fitting = scores.data.len() == boxes && labels.len() == boxes;
                if fitting { Ok(Scores::Listed { scores: scores.data, labels }) } else { Err(short(name, &scores.dims)) }
            }
            (Some(name), None) => {
                let scores = tensors.item(name, item, 2)?;
                if scores.dims == [boxes, self.columns] {
                    Ok(Scores::Table { scores: scores.data })
                } else {
                    Err(short(name, &scores.dims))
                }
            }
        }
    }

    fn class(&self, label: i64) -> Result<usize, String> {
        usize::try_from(label.saturating_sub(self.card.first_label))
            .map_err(|_| format!("the model returned class {label}, which is below first_label"))
    }

    fn push(&self, (row, values): (usize, &[f32]), class: usize, score: f32, candidates: &mut Candidates) -> Result<(), String> {
        let first = if self.card.scores.is_some() { 0 } else { self.places.bbox };
        let four = values.get(first..first + 4).and_then(|four| <[f32; 4]>::try_from(four).ok()).unwrap_or([f32::NAN; 4]);
        let bbox = self.card.form.bbox(four);
        let bbox = if self.card.normalized { to_pixels(bbox, self.input) } else { bbox };
        candidates.push(Candidate { bbox, score, class, landmarks: Vec::new(), row })
    }

    fn push_row(&self, values: (usize, &[f32]), scores: &[f32], row: &mut [f32], candidates: &mut Candidates) -> Result<(), String> {
        row.iter_mut().zip(scores).for_each(|(score, raw)| *score = *raw);
        self.card.activation.apply(row);
        if self.card.one_class {
            let classes =
                row.iter().copied().enumerate().filter_map(|(column, score)| Some((class_of(column, self.card.background)?, score)));
            // A NaN must be counted, so it wins.
            let best = classes.reduce(|best, next| if next.1 > best.1 || next.1.is_nan() { next } else { best });
            return match best {
                Some((class, score)) if candidates.accepts(score) => self.push(values, class, score, candidates),
                _ => Ok(()),
            };
        }
        for (column, score) in row.iter().copied().enumerate() {
            if let Some(class) = class_of(column, self.card.background)
                && candidates.accepts(score)
            {
                self.push(values, class, score, candidates)?;
            }
        }
        Ok(())
    }

    fn one_score(&self, raw: f32) -> f32 {
        let mut score = [raw];
        self.card.activation.apply(&mut score);
        score[0]
    }
}

impl Decode for Boxes {
    fn decode(&self, tensors: &Tensors<'_>, item: usize, candidates: &mut Candidates) -> Result<(), String> {
        let (values, rows) = self.rows(tensors, item)?;
        let scores = self.scores(tensors, item, rows.len())?;
        let needed = if matches!(scores, Scores::InBoxes) { self.places.values } else { 4 };
        if values < needed {
            return Err(format!("output '{}' has {values} values per box; {needed} are needed", self.card.boxes));
        }
        let counted = self.counted(tensors, item)?.unwrap_or(usize::MAX);
        let mut row = vec![0.0; self.columns];
        for (index, values) in rows.into_iter().enumerate().take(counted) {
            match &scores {
                Scores::Table { scores } => {
                    let columns = scores.get(index * self.columns..(index + 1) * self.columns).unwrap_or_default();
                    self.push_row((index, values), columns, &mut row, candidates)?;
                }
                Scores::Listed { scores, labels } => {
                    let score = self.one_score(scores.get(index).copied().unwrap_or(f32::NAN));
                    if candidates.accepts(score) {
                        self.push((index, values), self.class(labels.get(index).copied().unwrap_or(-1))?, score, candidates)?;
                    }
                }
                Scores::InBoxes => {
                    let value = |place: usize| values.get(place).copied().unwrap_or(f32::NAN);
                    let (score, label) = (value(self.places.score), value(self.places.class));
                    let score = self.one_score(score);
                    if candidates.accepts(score) {
                        self.push((index, values), self.class(label as i64)?, score, candidates)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn mask(&self, tensors: &Tensors<'_>, item: usize, row: usize, bbox: &BBox, seen: &Seen) -> Result<Option<InstanceMask>, String> {
        let Some(masks) = &self.card.masks else { return Ok(None) };
        let tensor = tensors.item(&masks.output, item, 3)?;
        let [_, rows, columns] = tensor.dims[..] else { return Err("masks come as [boxes, rows, columns]".into()) };
        let cells = rows.saturating_mul(columns);
        let plane = row.checked_mul(cells).and_then(|first| tensor.data.get(first..first.checked_add(cells)?));
        let plane = plane.ok_or_else(|| format!("output '{}' is {:?}; it has no mask for box {row}", masks.output, tensor.dims))?;
        let Some(shown) = seen.cells((columns, rows), self.input, Some(bbox)) else { return Ok(None) };
        let covered = shown.iter().map(|(column, row)| {
            let mut value = [plane.get(row * columns + column).copied().unwrap_or(f32::NAN)];
            masks.activation.apply(&mut value);
            coverage(value[0], masks.threshold)
        });
        seen.mask(shown, (columns, rows), self.input, covered.collect()).map(Some)
    }

    fn mapping(&self, seen: &Seen) -> ModelMapping {
        match (self.card.space, self.frame_scale) {
            (BoxSpace::Frame, Some(by)) => seen.geometry(self.input).mapping_of_frame(by, &seen.area),
            (BoxSpace::Scaled, Some(by)) => seen.geometry(self.input).mapping_scaled(by, &seen.mapping),
            _ => seen.mapping,
        }
    }
}

#[cfg(test)]
mod tests {
    use framerail_core::BBox;

    use super::{super::TensorData, *};
    use crate::decode::Tensor;

    fn card(output: &str) -> ModelCard {
        let text = format!(
            "name = \"b\"\nfile = \"b.onnx\"\nlicence = \"MIT\"\nlabels = [\"cat\", \"dog\"]\n[input]\nwidth = 100\nheight = \
             50\n[output.boxes]\n{output}"
        );
        ModelCard::parse(&text, "b.toml".as_ref()).expect("card of the test")
    }

    fn decode(card: &ModelCard, tensors: Vec<Tensor<'_>>) -> Result<Vec<Candidate>, String> {
        let mut candidates = Candidates::new(0.3, 2);
        card.output.decoder(card, InputSize { width: 100, height: 50 }).boxes().decode(&Tensors::new(tensors), 0, &mut candidates)?;
        Ok(candidates.finish())
    }

    #[test]
    fn boxes_scores_and_integer_labels() {
        let card = card("boxes = \"boxes\"\nscores = \"scores\"\nlabels = \"labels\"\nfirst_label = 1\nsuppressed = true\n");
        let data = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        let tensors = vec![
            Tensor { name: "boxes", dims: vec![2, 4], data: TensorData::F32(&data) },
            Tensor { name: "scores", dims: vec![2], data: TensorData::F32(&[0.9, 0.1]) },
            Tensor { name: "labels", dims: vec![2], data: TensorData::I64(&[2, 1]) },
        ];
        let found = decode(&card, tensors).expect("fitting shapes");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].class, found[0].bbox), (1, BBox::from_xyxy(1.0, 2.0, 3.0, 4.0)));
        assert!(!card.output.needs_suppression());
    }

    #[test]
    fn a_table_of_scores_with_background_and_normalized_boxes() {
        let card = card("boxes = \"b\"\nscores = \"s\"\nbackground = 0\nnormalized = true\nform = \"yxyx\"\n");
        let tensors = vec![
            Tensor { name: "b", dims: vec![1, 1, 4], data: TensorData::F32(&[0.0, 0.1, 0.5, 0.2]) },
            Tensor { name: "s", dims: vec![1, 1, 3], data: TensorData::F32(&[0.9, 0.1, 0.6]) },
        ];
        let found = decode(&card, tensors).expect("fitting shapes");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].class, found[0].bbox), (1, BBox::from_xyxy(10.0, 0.0, 20.0, 25.0)));
    }

    #[test]
    fn packed_rows_and_labels_beyond_the_card() {
        let card = card("boxes = \"o\"\nsuppressed = true\n");
        let good = [1.0, 1.0, 2.0, 2.0, 0.8, 1.0];
        let found = decode(&card, vec![Tensor { name: "o", dims: vec![1, 1, 6], data: TensorData::F32(&good) }]).expect("fitting shapes");
        assert_eq!(found[0].class, 1);
        for label in [7.0, -3.0] {
            let bad = [1.0, 1.0, 2.0, 2.0, 0.8, label];
            let error =
                decode(&card, vec![Tensor { name: "o", dims: vec![1, 1, 6], data: TensorData::F32(&bad) }]).expect_err("no such class");
            assert!(error.contains("class"), "{error}");
        }
    }

    fn decode_item(card: &ModelCard, tensors: Vec<Tensor<'_>>, item: usize) -> Vec<Candidate> {
        let mut candidates = Candidates::new(0.3, 2);
        let decoder = card.output.decoder(card, InputSize { width: 100, height: 50 }).boxes();
        decoder.decode(&Tensors::new(tensors), item, &mut candidates).expect("fitting shapes");
        candidates.finish()
    }

    #[test]
    fn rows_of_all_images_are_separated() {
        let counted = card("boxes = \"o\"\ncount = \"n\"\nrow = [\"class\", \"score\", \"box\"]\nsuppressed = true\n");
        let rows = [[1.0, 0.9, 1.0, 1.0, 2.0, 2.0], [0.0, 0.8, 3.0, 3.0, 4.0, 4.0], [0.0, 0.7, 5.0, 5.0, 6.0, 6.0]];
        let tensors = || {
            let boxes = Tensor { name: "o", dims: vec![3, 6], data: TensorData::F32(rows.as_flattened()) };
            vec![boxes, Tensor { name: "n", dims: vec![3], data: TensorData::I32(&[1, 0, 2]) }]
        };
        let found: Vec<Vec<(usize, f32, f32)>> = (0..3)
            .map(|item| decode_item(&counted, tensors(), item).iter().map(|found| (found.class, found.score, found.bbox.x1)).collect())
            .collect();
        assert_eq!(found, [vec![(1, 0.9, 1.0)], vec![], vec![(0, 0.8, 3.0), (0, 0.7, 5.0)]]);
        let numbered = card("boxes = \"o\"\nrow = [\"picture\", \"box\", \"class\", \"score\"]\nsuppressed = true\n");
        let rows = [[1.0, 1.0, 1.0, 2.0, 2.0, 1.0, 0.9], [0.0, 3.0, 3.0, 4.0, 4.0, 0.0, 0.8]];
        let tensor = || vec![Tensor { name: "o", dims: vec![2, 7], data: TensorData::F32(rows.as_flattened()) }];
        let found = [0, 1, 2].map(|item| decode_item(&numbered, tensor(), item).iter().map(|found| found.bbox.x1).collect::<Vec<_>>());
        assert_eq!(found, [vec![3.0], vec![1.0], vec![]]);
    }

    #[test]
    fn the_best_class_of_each_query() {
        let text = "boxes = \"b\"\nscores = \"s\"\nform = \"cxcywh\"\nnormalized = true\nactivation = \"softmax\"\nbackground = 2\nsuppressed = true\n";
        let boxes = [0.5, 0.5, 0.2, 0.4, 0.5, 0.5, 0.2, 0.4];
        // Both classes of the first are above the threshold; the second is nothing.
        let logits = [1.0, 1.1, -9.0, 0.0, 0.0, 9.0];
        let tensors = || {
            let boxes = Tensor { name: "b", dims: vec![1, 2, 4], data: TensorData::F32(&boxes) };
            vec![boxes, Tensor { name: "s", dims: vec![1, 2, 3], data: TensorData::F32(&logits) }]
        };
        let found = decode_item(&card(&format!("{text}one_class = true\n")), tensors(), 0);
        assert_eq!(found.iter().map(|found| found.class).collect::<Vec<_>>(), [1]);
        let BBox { x1, y1, x2, y2 } = found[0].bbox;
        assert!([x1 - 40.0, y1 - 15.0, x2 - 60.0, y2 - 35.0].iter().all(|off| off.abs() < 1e-4), "{:?}", found[0].bbox);
        assert_eq!(decode_item(&card(text), tensors(), 0).len(), 2, "every class that scores");
    }
}
