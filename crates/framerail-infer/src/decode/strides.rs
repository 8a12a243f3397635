//! A score and a box for each cell of several grids, one grid per stride: SCRFD, YuNet, FCOS, YOLOX and similar models.
//!
//! Source: Tian et al., "FCOS: Fully Convolutional One-Stage Object Detection" (2019) for distances to the sides and the square root of
//! class score times centre-ness; Guo et al., "Sample and Computation Redistribution for Efficient Face Detection" (SCRFD, 2021); Wu et
//! al., "YuNet: A Tiny Millisecond-level Face Detector" (2023); Ge et al., "YOLOX" (2021) for centres and logarithms of sizes.

use framerail_core::{BBox, Point};
use serde::Deserialize;

use super::{Activation, Candidate, Candidates, Decode, Expected, KeyError, Tensors, ensure, positive};
use crate::{card::ModelCard, size::InputSize};

/// Parameters of a model with a grid per stride. Outputs are `[batch, boxes, values]`: cells in row order, the boxes of a cell one
/// after the other. Each level names its outputs, or the card names outputs that hold all levels in order.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StridesCard {
    /// Output with a score for each class, where one holds all levels.
    pub scores: Option<String>,
    /// Output with four values for each box, likewise.
    pub boxes: Option<String>,
    /// Output with two values for each landmark, relative to the cell, likewise.
    pub landmarks: Option<String>,
    /// Output with a score that multiplies the class scores, likewise.
    pub objectness: Option<String>,
    /// The grids, in the order of the outputs.
    pub levels: Vec<StrideLevel>,
    /// Boxes of each cell.
    #[serde(default = "one")]
    pub anchors: usize,
    /// Meaning of the four box values.
    #[serde(default)]
    pub coding: StrideCoding,
    /// Unit of boxes and landmarks.
    #[serde(default)]
    pub unit: StrideUnit,
    /// Position of a cell's origin: 0 = top left corner, 0.5 = middle.
    #[serde(default)]
    pub cell_origin: f32,
    /// Activation that scores and objectness still need.
    #[serde(default)]
    pub activation: Activation,
    /// How class score and objectness are combined.
    #[serde(default)]
    pub combine: ScoreCombination,
}

/// One grid.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StrideLevel {
    /// Model pixels between cells; as many cells as needed to cover the input.
    pub stride: f32,
    /// As the card's `scores`, for this level alone.
    pub scores: Option<String>,
    /// As the card's `boxes`, for this level alone.
    pub boxes: Option<String>,
    /// As the card's `landmarks`, for this level alone.
    pub landmarks: Option<String>,
    /// As the card's `objectness`, for this level alone.
    pub objectness: Option<String>,
}

/// Meaning of the four box values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StrideCoding {
    /// Distances from the cell to the left, top, right and bottom side.
    #[default]
    Distances,
    /// Offset of the centre from the cell, and the natural logarithms of width and height.
    CenterAndSize,
}

/// Unit of values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StrideUnit {
    /// Strides.
    #[default]
    Stride,
    /// Model pixels.
    Pixel,
}

/// How class score and objectness are combined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScoreCombination {
    /// Their product.
    #[default]
    Product,
    /// The square root of their product, each limited to 0 to 1.
    Root,
}

fn one() -> usize {
    1
}

/// Values of a box.
const BOX_VALUES: usize = 4;

/// Maximum growth of a box over its stride, 1000/16 as for anchors. Keeps exponentials finite.
const MAX_LOG_GROWTH: f32 = 4.135_166_6;

/// The outputs of one level, each with whether it is the level's alone.
#[derive(Clone, Copy)]
struct Names<'a> {
    scores: (&'a str, bool),
    boxes: (&'a str, bool),
    landmarks: Option<(&'a str, bool)>,
    objectness: Option<(&'a str, bool)>,
}

impl StridesCard {
    pub(crate) fn check(&self, card: &ModelCard) -> Result<(), KeyError> {
        ensure((1..=64).contains(&self.levels.len()), "levels", "one table for each stride, 1 to 64")?;
        ensure(self.levels.iter().all(|level| positive(level.stride) && level.stride >= 1.0), "stride", "1 or more")?;
        ensure((1..=64).contains(&self.anchors), "anchors", "1 to 64")?;
        ensure((0.0..=1.0).contains(&self.cell_origin), "cell_origin", "0 to 1")?;
        ensure(self.activation != Activation::Softmax, "activation", "none or sigmoid")?;
        // Every level names an output, or the card does for all of them.
        let is_named = |own: fn(&StrideLevel) -> &Option<String>, shared: &Option<String>| {
            let named = self.levels.iter().filter(|level| own(level).is_some()).count();
            match (shared, named) {
                (None, 0) => Ok(false),
                (None, named) if named == self.levels.len() => Ok(true),
                (Some(_), 0) => Ok(true),
                _ => Err(()),
            }
        };
        let rule = "the name of one output for all levels, or one in each of them";
        ensure(is_named(|level| &level.scores, &self.scores) == Ok(true), "scores", rule)?;
        ensure(is_named(|level| &level.boxes, &self.boxes) == Ok(true), "boxes", rule)?;
        ensure(is_named(|level| &level.objectness, &self.objectness).is_ok(), "objectness", rule)?;
        let given = is_named(|level| &level.landmarks, &self.landmarks);
        ensure(given.is_ok(), "landmarks", rule)?;
        let named = !card.landmarks.is_empty();
        ensure(!named || given == Ok(true), "landmarks", "the names of outputs, since the card names landmarks")?;
        ensure(named || given == Ok(false), "landmarks", "left out unless the card names landmarks")
    }

    /// The outputs of a level.
    fn names<'a>(&'a self, level: &'a StrideLevel) -> Names<'a> {
        let pick = |own: &'a Option<String>, shared: &'a Option<String>| match own {
            Some(own) => Some((own.as_str(), true)),
            None => shared.as_deref().map(|shared| (shared, false)),
        };
        // A card without scores or boxes was refused.
        Names {
            scores: pick(&level.scores, &self.scores).unwrap_or_default(),
            boxes: pick(&level.boxes, &self.boxes).unwrap_or_default(),
            landmarks: pick(&level.landmarks, &self.landmarks),
            objectness: pick(&level.objectness, &self.objectness),
        }
    }

    pub(crate) fn expected(&self, card: &ModelCard) -> Vec<Expected> {
        let values = |name: &str, values: usize| {
            let list: &[Option<usize>] = &[None, Some(values)];
            let batch: &[Option<usize>] = &[None, None, Some(values)];
            if values == 1 { Expected::new(name, &[batch, list, &[None, None]]) } else { Expected::new(name, &[batch, list]) }
        };
        let mut expected: Vec<Expected> = Vec::new();
        for level in &self.levels {
            let names = self.names(level);
            let found = [
                Some(values(names.scores.0, card.class_count())),
                Some(values(names.boxes.0, BOX_VALUES)),
                names.landmarks.map(|(name, _)| values(name, 2 * card.landmarks.len())),
                names.objectness.map(|(name, _)| values(name, 1)),
            ];
            for output in found.into_iter().flatten() {
                if !expected.iter().any(|known| known.name == output.name) {
                    expected.push(output);
                }
            }
        }
        expected
    }

    pub(crate) fn output_names(&self) -> Vec<&str> {
        let own = self.levels.iter().flat_map(|level| [&level.scores, &level.boxes, &level.landmarks, &level.objectness]);
        [&self.scores, &self.boxes, &self.landmarks, &self.objectness].into_iter().chain(own).flatten().map(String::as_str).collect()
    }
}

/// Decodes the grids of one input size.
pub(crate) struct Strides {
    card: StridesCard,
    classes: usize,
    landmarks: usize,
    input: InputSize,
}

/// Positions of a level's boxes in its outputs.
#[derive(Clone, Copy)]
struct Span {
    /// Boxes of earlier levels in the same output.
    first: usize,
    count: usize,
    /// Boxes of all levels.
    all: usize,
}

impl Strides {
    pub(crate) fn new(strides: &StridesCard, card: &ModelCard, input: InputSize) -> Self {
        Self { card: strides.clone(), classes: card.class_count(), landmarks: card.landmarks.len(), input }
    }

    /// Columns and rows of a level.
    fn grid(&self, level: &StrideLevel) -> (usize, usize) {
        let cells = |side: u32| (side as f32 / level.stride).ceil() as usize;
        (cells(self.input.width), cells(self.input.height))
    }

    fn count(&self, level: &StrideLevel) -> usize {
        let (columns, rows) = self.grid(level);
        columns.saturating_mul(rows).saturating_mul(self.card.anchors)
    }

    /// A level's values of one output.
    fn values<'a>(
        &self,
        (tensors, item): (&Tensors<'a>, usize),
        (name, own): (&str, bool),
        span: Span,
        values: usize,
    ) -> Result<&'a [f32], String> {
        let total = if own { span.count } else { span.all };
        // One value a box may lack its axis.
        let is_list = values == 1 && tensors.rank(name)? == 2 && tensors.dims(name, 0, 2)? != [total, 1];
        let tensor = tensors.item(name, item, if is_list { 1 } else { 2 })?;
        let fits = if is_list { tensor.dims == [total] } else { tensor.dims == [total, values] };
        if !fits {
            let input = self.input;
            return Err(format!(
                "output '{name}' is {:?}; the card's levels make {total} boxes of {values} values at {input}",
                tensor.dims
            ));
        }
        let first = if own { 0 } else { span.first };
        Ok(tensor.data.get(first * values..(first + span.count) * values).unwrap_or_default())
    }

    fn score(&self, class: f32, objectness: Option<f32>) -> f32 {
        let activated = |value: f32| {
            let mut value = [value];
            self.card.activation.apply(&mut value);
            value[0]
        };
        let class = activated(class);
        match (objectness.map(activated), self.card.combine) {
            (None, _) => class,
            (Some(objectness), ScoreCombination::Product) => class * objectness,
            (Some(objectness), ScoreCombination::Root) => (unit(class) * unit(objectness)).sqrt(),
        }
    }

    fn bbox(&self, cell: Point, unit: f32, values: &[f32]) -> BBox {
        let [a, b, c, d] = <[f32; BOX_VALUES]>::try_from(values).unwrap_or([f32::NAN; BOX_VALUES]);
        match self.card.coding {
            StrideCoding::Distances => BBox::from_xyxy(cell.x - a * unit, cell.y - b * unit, cell.x + c * unit, cell.y + d * unit),
            StrideCoding::CenterAndSize => {
                let size = |log: f32| if log > MAX_LOG_GROWTH { MAX_LOG_GROWTH.exp() } else { log.exp() } * unit;
                BBox::from_cxcywh(cell.x + a * unit, cell.y + b * unit, size(c), size(d))
            }
        }
    }
}

/// A score clipped to 0 to 1; NaN stays NaN, and is counted.
fn unit(score: f32) -> f32 {
    if score.is_nan() { score } else { score.clamp(0.0, 1.0) }
}

impl Decode for Strides {
    fn decode(&self, tensors: &Tensors<'_>, item: usize, candidates: &mut Candidates) -> Result<(), String> {
        let all = self.card.levels.iter().map(|level| self.count(level)).fold(0, usize::saturating_add);
        let mut first = 0;
        for level in &self.card.levels {
            let (span, names) = (Span { first, count: self.count(level), all }, self.card.names(level));
            let get = |output: (&str, bool), values: usize| self.values((tensors, item), output, span, values);
            let (scores, boxes) = (get(names.scores, self.classes)?, get(names.boxes, BOX_VALUES)?);
            let landmarks = names.landmarks.map(|output| get(output, 2 * self.landmarks)).transpose()?;
            let objectness = names.objectness.map(|output| get(output, 1)).transpose()?;
            let unit = if self.card.unit == StrideUnit::Stride { level.stride } else { 1.0 };
            let (columns, _) = self.grid(level);
            for (index, (scores, values)) in scores.chunks_exact(self.classes).zip(boxes.chunks_exact(BOX_VALUES)).enumerate() {
                let cell = index / self.card.anchors;
                let place = |number: usize| (number as f32 + self.card.cell_origin) * level.stride;
                let at = Point { x: place(cell % columns.max(1)), y: place(cell / columns.max(1)) };
                let objectness = objectness.and_then(|values| values.get(index).copied());
                for (class, score) in scores.iter().enumerate() {
                    let score = self.score(*score, objectness);
                    if !candidates.accepts(score) {
                        continue;
                    }
                    let count = 2 * self.landmarks;
                    let points = landmarks.and_then(|all| all.get(index * count..(index + 1) * count)).unwrap_or_default();
                    let (pairs, _) = points.as_chunks::<2>();
                    let landmarks = pairs.iter().map(|[x, y]| Point { x: at.x + x * unit, y: at.y + y * unit }).collect();
                    candidates.push(Candidate { bbox: self.bbox(at, unit, values), score, class, landmarks, row: first + index })?;
                }
            }
            first += span.count;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::TensorData, *};
    use crate::decode::Tensor;

    const HEAD: &str = "name = \"t\"\nfile = \"m.onnx\"\nlicence = \"MIT\"\nlabels = [\"face\"]\nlandmarks = [\"nose\"]\n[input]\nwidth = 16\nheight = 8\n[output.strides]\n";
    const INPUT: InputSize = InputSize { width: 16, height: 8 };

    fn card(text: &str) -> ModelCard {
        ModelCard::parse(&format!("{HEAD}{text}"), "t.toml".as_ref()).expect("card of the test")
    }

    fn decode(card: &ModelCard, tensors: Vec<Tensor<'_>>) -> Result<Vec<Candidate>, String> {
        let mut candidates = Candidates::new(0.5, 1);
        card.output.decoder(card, INPUT).boxes().decode(&Tensors::new(tensors), 0, &mut candidates)?;
        Ok(candidates.finish())
    }

    fn tensor<'a>(name: &'a str, dims: &[usize], data: &'a [f32]) -> Tensor<'a> {
        Tensor { name, dims: dims.to_vec(), data: TensorData::F32(data) }
    }

    #[test]
    fn distances_of_two_boxes_a_cell_as_scrfd_gives_them() {
        let card = card(
            "anchors = 2\nlevels = [{ stride = 8.0, scores = \"s8\", boxes = \"b8\", landmarks = \"k8\" }, { stride = 16.0, scores = \"s16\", boxes = \"b16\", landmarks = \"k16\" }]\n",
        );
        // 2x1 cells of stride 8 and one of 16, two boxes each; without a batch axis.
        let (mut s8, mut b8, mut k8) = ([0.1; 4], [0.0; 16], [0.0; 8]);
        (s8[3], k8[6], k8[7]) = (0.9, 0.5, -0.25);
        b8[12..].copy_from_slice(&[1.0, 0.5, 0.25, 1.0]);
        let (s16, b16, k16) = ([0.2, 0.8], [0.0, 0.0, 0.0, 0.0, 0.25, 0.0, 0.5, 0.25], [0.0; 4]);
        let tensors = vec![
            tensor("s8", &[4, 1], &s8),
            tensor("b8", &[4, 4], &b8),
            tensor("k8", &[4, 2], &k8),
            tensor("s16", &[2, 1], &s16),
            tensor("b16", &[2, 4], &b16),
            tensor("k16", &[2, 2], &k16),
        ];
        let found = decode(&card, tensors).expect("fitting shapes");
        assert_eq!(found.iter().map(|found| (found.score, found.row)).collect::<Vec<_>>(), [(0.9, 3), (0.8, 5)]);
        assert_eq!(found[0].bbox, BBox::from_xyxy(0.0, -4.0, 10.0, 8.0));
        assert_eq!(found[0].landmarks, [Point { x: 12.0, y: -2.0 }]);
        assert_eq!(found[1].bbox, BBox::from_xyxy(-4.0, 0.0, 8.0, 4.0));
    }

    #[test]
    fn centres_and_the_root_of_two_scores_as_yunet_gives_them() {
        let card = card(
            "coding = \"center_and_size\"\ncombine = \"root\"\nlevels = [{ stride = 8.0, scores = \"cls\", objectness = \"obj\", boxes = \"bbox\", landmarks = \"kps\" }]\n",
        );
        let (cls, obj, kps) = ([0.2, 0.81], [-0.5, 1.5], [0.0, 0.0, 0.5, 1.0]);
        let boxes = [0.0, 0.0, 0.0, 0.0, 0.5, 0.25, 0.0, 2.0_f32.ln()];
        let tensors = || {
            vec![
                tensor("cls", &[1, 2, 1], &cls),
                tensor("obj", &[1, 2], &obj),
                tensor("bbox", &[1, 2, 4], &boxes),
                tensor("kps", &[1, 2, 2], &kps),
            ]
        };
        let found = decode(&card, tensors()).expect("fitting shapes");
        assert_eq!(found.len(), 1, "an objectness below 0 is none");
        assert!((found[0].score - 0.9).abs() < 1e-6);
        assert_eq!(found[0].landmarks, [Point { x: 12.0, y: 8.0 }]);
        let BBox { x1, y1, x2, y2 } = found[0].bbox;
        assert!([x1 - 8.0, y1 + 6.0, x2 - 16.0, y2 - 10.0].iter().all(|off| off.abs() < 1e-4), "{:?}", found[0].bbox);
    }

    #[test]
    fn one_output_for_all_levels_as_fcos_gives_it() {
        let text = "scores = \"s\"\nboxes = \"b\"\nlandmarks = \"k\"\nobjectness = \"o\"\nactivation = \"sigmoid\"\ncombine = \"root\"\ncell_origin = 0.5\nlevels = [{ stride = 8.0 }, { stride = 16.0 }]\n";
        let (s, o, k) = ([-9.0, -9.0, 9.0], [9.0; 3], [0.0; 6]);
        let boxes = [[0.0; 4], [0.0; 4], [0.5, 0.25, 0.5, 0.25]];
        let found = decode(
            &card(text),
            vec![
                tensor("s", &[1, 3, 1], &s),
                tensor("b", &[1, 3, 4], boxes.as_flattened()),
                tensor("o", &[1, 3, 1], &o),
                tensor("k", &[1, 3, 2], &k),
            ],
        )
        .expect("fitting shapes");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].bbox, BBox::from_xyxy(0.0, 4.0, 16.0, 12.0));
        let short = decode(&card(text), vec![tensor("s", &[1, 2, 1], &s[..2])]).expect_err("too few");
        assert!(short.contains("3 boxes of 1 values"), "{short}");
    }

    #[test]
    fn outputs_are_named_for_all_levels_or_in_each() {
        let refused = |text: &str| match ModelCard::parse(&format!("{HEAD}{text}"), "t.toml".as_ref()) {
            Ok(_) => panic!("refused: {text}"),
            Err(error) => error.to_string(),
        };
        let rule = "one output for all levels";
        assert!(refused("levels = [{ stride = 8.0 }]\n").contains(rule));
        let half = "boxes = \"b\"\nlandmarks = \"k\"\nlevels = [{ stride = 8.0, scores = \"s\" }, { stride = 16.0 }]\n";
        assert!(refused(half).contains(rule));
        assert!(refused("scores = \"s\"\nboxes = \"b\"\nlevels = [{ stride = 8.0 }]\n").contains("names landmarks"));
        assert!(refused("scores = \"s\"\nboxes = \"b\"\nlandmarks = \"k\"\nlevels = [{ stride = 0.0 }]\n").contains("stride"));
        assert!(refused("scores = \"s\"\nboxes = \"b\"\nlevels = [{ strides = 8.0 }]\n").contains("strides"));
    }
}
