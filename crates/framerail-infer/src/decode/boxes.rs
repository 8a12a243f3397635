//! Finished boxes with scores: models with their own decoding, and often suppression, inside.

use std::borrow::Cow;

use serde::Deserialize;

use super::{Activation, BoxForm, Candidate, Candidates, Decode, Expected, KeyError, Tensors, class_of, ensure, to_pixels};
use crate::{card::ModelCard, size::InputSize};

/// Parameters of a model that gives boxes. Outputs may lack the batch axis when the model takes one frame.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoxesCard {
    /// Output `[batch, boxes, 4]`; with more values a box when `scores` is left out: the fifth is the score, the sixth the class.
    pub boxes: String,
    /// Output `[batch, boxes]`, or `[batch, boxes, classes]` when `labels` is left out.
    pub scores: Option<String>,
    /// Output `[batch, boxes]` with the class of each box.
    pub labels: Option<String>,
    /// Output `[batch]` with the number of boxes that count.
    pub count: Option<String>,
    /// How four values stand for a box.
    #[serde(default)]
    pub form: BoxForm,
    /// Whether coordinates go from 0 to 1 instead of in model pixels.
    #[serde(default)]
    pub normalized: bool,
    /// What is left to be done to the scores.
    #[serde(default)]
    pub activation: Activation,
    /// Number of the background class among the scores; those after it move down by one. Left out when there is none.
    pub background: Option<u32>,
    /// Number that the `labels` output gives the card's first class.
    #[serde(default)]
    pub first_label: i64,
    /// Whether the model suppresses overlapping boxes itself.
    #[serde(default)]
    pub suppressed: bool,
}

impl BoxesCard {
    pub(crate) fn check(&self, card: &ModelCard) -> Result<(), KeyError> {
        ensure(self.labels.is_none() || self.scores.is_some(), "labels", "a name only beside 'scores'")?;
        ensure(card.landmarks.is_empty(), "landmarks", "no landmarks: this family has none")?;
        ensure(self.background.is_none_or(|id| id as usize <= card.class_count()), "background", "the number of one of the classes")
    }

    pub(crate) fn output_names(&self) -> Vec<&str> {
        [Some(&self.boxes), self.scores.as_ref(), self.labels.as_ref(), self.count.as_ref()]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect()
    }

    pub(crate) fn expected(&self, card: &ModelCard) -> Vec<Expected> {
        let columns = Some(card.class_count() + usize::from(self.background.is_some()));
        let values = if self.scores.is_some() { Some(4) } else { None };
        let mut expected = vec![Expected::new(&self.boxes, &[&[None, None, values], &[None, values]])];
        let list: &[&[Option<usize>]] = &[&[None, None], &[None]];
        let table: &[&[Option<usize>]] = &[&[None, None, columns], &[None, columns]];
        expected.extend(self.scores.as_ref().map(|name| Expected::new(name, if self.labels.is_some() { list } else { table })));
        expected.extend(self.labels.as_ref().map(|name| Expected::new(name, list)));
        expected.extend(self.count.as_ref().map(|name| Expected::new(name, &[&[None], &[None, Some(1)], &[]])));
        expected
    }
}

/// Decodes finished boxes for one input size.
pub(crate) struct Boxes {
    card: BoxesCard,
    columns: usize,
    input: InputSize,
}

/// Where the scores of boxes come from.
enum Scores<'a> {
    /// Values five and six of each box.
    InBoxes,
    /// One score a box, and its class.
    Listed { scores: &'a [f32], labels: Cow<'a, [i64]> },
    /// A score for each class.
    Table { scores: &'a [f32] },
}

impl Boxes {
    pub(crate) fn new(boxes: &BoxesCard, card: &ModelCard, input: InputSize) -> Self {
        let columns = card.class_count() + usize::from(boxes.background.is_some());
        Self { card: boxes.clone(), columns, input }
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
        usize::try_from(label.saturating_sub(self.card.first_label)).map_err(|_| format!("class {label} was found, below first_label"))
    }

    fn push(&self, values: &[f32], class: usize, score: f32, candidates: &mut Candidates) -> Result<(), String> {
        let four = values.get(..4).and_then(|four| <[f32; 4]>::try_from(four).ok()).unwrap_or([f32::NAN; 4]);
        let bbox = self.card.form.bbox(four);
        let bbox = if self.card.normalized { to_pixels(bbox, self.input) } else { bbox };
        candidates.push(Candidate { bbox, score, class, landmarks: Vec::new(), row: 0 })
    }

    fn push_row(&self, values: &[f32], scores: &[f32], row: &mut [f32], candidates: &mut Candidates) -> Result<(), String> {
        row.iter_mut().zip(scores).for_each(|(score, raw)| *score = *raw);
        self.card.activation.apply(row);
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
        let boxes = tensors.item(&self.card.boxes, item, 2)?;
        let [total, values] = boxes.dims[..] else { return Err("the boxes have no rows".into()) };
        let scores = self.scores(tensors, item, total)?;
        let needed = if matches!(scores, Scores::InBoxes) { 6 } else { 4 };
        if values < needed {
            return Err(format!("output '{}' has {values} values a box; {needed} are needed", self.card.boxes));
        }
        let counted = match &self.card.count {
            Some(name) => tensors.integers(name, item, 0)?.first().copied().and_then(|count| usize::try_from(count).ok()).unwrap_or(0),
            None => total,
        };
        let mut row = vec![0.0; self.columns];
        for (index, values) in boxes.data.chunks_exact(values).enumerate().take(counted) {
            match &scores {
                Scores::Table { scores } => {
                    let columns = scores.get(index * self.columns..(index + 1) * self.columns).unwrap_or_default();
                    self.push_row(values, columns, &mut row, candidates)?;
                }
                Scores::Listed { scores, labels } => {
                    let score = self.one_score(scores.get(index).copied().unwrap_or(f32::NAN));
                    if candidates.accepts(score) {
                        self.push(values, self.class(labels.get(index).copied().unwrap_or(-1))?, score, candidates)?;
                    }
                }
                Scores::InBoxes => {
                    let (score, label) = (values.get(4).copied().unwrap_or(f32::NAN), values.get(5).copied().unwrap_or(f32::NAN));
                    let score = self.one_score(score);
                    if candidates.accepts(score) {
                        self.push(values, self.class(label as i64)?, score, candidates)?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use framerail_core::BBox;

    use super::{super::TensorData, *};
    use crate::decode::Tensor;

    fn card(output: &str) -> ModelCard {
        let text = format!(
            "name = \"b\"\nfile = \"b.onnx\"\nlicence = \"MIT\"\nlabels = [\"cat\", \"dog\"]\n[input]\nwidth = 100\nheight = 50\n[output.boxes]\n{output}"
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
}
