//! Outputs that are offsets from fixed anchor boxes: SSD and RetinaFace.
//!
//! Source: Liu et al., "SSD: Single Shot MultiBox Detector" (2016), section 2.2, for anchors and coding; Deng et al.,
//! "RetinaFace" (2019) for landmarks coded like centres.

use framerail_core::{BBox, Point};
use serde::Deserialize;

use super::{Activation, Candidate, Candidates, Decode, Expected, KeyError, Tensors, class_of, ensure, positive};
use crate::{card::ModelCard, size::InputSize};

/// Parameters of an anchor model. Outputs are `[batch, anchors, values]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorsCard {
    /// Output with four offsets for each anchor: centre x and y, width, height.
    pub boxes: String,
    /// Output with a score for each anchor and class, background included where there is one.
    pub scores: String,
    /// Output with two values for each landmark of each anchor.
    pub landmarks: Option<String>,
    /// Activation that the scores still need.
    #[serde(default)]
    pub activation: Activation,
    /// Number of the background class among the scores; those after it move down by one. Left out when there is none.
    pub background: Option<u32>,
    /// Factors of the four offsets.
    #[serde(default = "ssd_variances")]
    pub variances: [f32; 4],
    /// Whether anchors are clipped to the input.
    #[serde(default)]
    pub clip: bool,
    /// Position of the anchors' centre in a cell: 0 = top left corner, 0.5 = middle.
    #[serde(default = "middle")]
    pub cell_origin: f32,
    /// The feature maps, in the order of the outputs.
    pub levels: Vec<AnchorLevel>,
}

fn middle() -> f32 {
    0.5
}

/// The anchors of one feature map. Cells are in row order; the anchors of a cell are, for each of `sizes`, a square, then the square of
/// `between`, then for each of `aspect_ratios` a wide and a tall box.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnchorLevel {
    /// Model pixels between cells; as many cells as needed to cover the input.
    pub step: f32,
    /// Sides of square anchors in model pixels.
    #[serde(default)]
    pub sizes: Vec<f32>,
    /// Width and height of each anchor in model pixels, instead of `sizes`, `between` and `aspect_ratios` (RetinaNet).
    #[serde(default)]
    pub shapes: Vec<[f32; 2]>,
    /// The next level's size: adds a square of `sqrt(sizes[0] * between)`.
    pub between: Option<f32>,
    /// Adds two boxes each: `sizes[0] * sqrt(ratio)` by `sizes[0] / sqrt(ratio)`, and the same turned.
    #[serde(default)]
    pub aspect_ratios: Vec<f32>,
}

fn ssd_variances() -> [f32; 4] {
    [0.1, 0.1, 0.2, 0.2]
}

impl AnchorsCard {
    pub(crate) fn check(&self, card: &ModelCard) -> Result<(), KeyError> {
        ensure(!self.levels.is_empty(), "levels", "one table for each feature map")?;
        for level in &self.levels {
            ensure(level.step >= 1.0 && level.step.is_finite(), "step", "1 or more")?;
            if level.shapes.is_empty() {
                ensure(
                    (1..=64).contains(&level.sizes.len()) && level.sizes.iter().copied().all(positive),
                    "sizes",
                    "1 to 64 numbers above 0",
                )?;
            } else {
                let has_others = !level.sizes.is_empty() || level.between.is_some() || !level.aspect_ratios.is_empty();
                ensure(!has_others, "shapes", "left out beside sizes, between and aspect_ratios")?;
                let sound = level.shapes.len() <= 64 && level.shapes.as_flattened().iter().copied().all(positive);
                ensure(sound, "shapes", "1 to 64 pairs of numbers above 0")?;
            }
            ensure(level.between.is_none_or(positive), "between", "a number above 0")?;
            ensure(
                level.aspect_ratios.len() <= 64 && level.aspect_ratios.iter().copied().all(positive),
                "aspect_ratios",
                "numbers above 0",
            )?;
        }
        ensure((0.0..=1.0).contains(&self.cell_origin), "cell_origin", "0 to 1")?;
        ensure(self.variances.iter().copied().all(positive), "variances", "four numbers above 0")?;
        ensure(self.background.is_none_or(|id| id as usize <= card.class_count()), "background", "the number of one of the classes")?;
        ensure(self.landmarks.is_some() || card.landmarks.is_empty(), "landmarks", "the name of an output, since the card names landmarks")
    }

    pub(crate) fn expected(&self, card: &ModelCard) -> Vec<Expected> {
        let values = |name: &str, values: usize| Expected::new(name, &[&[None, None, Some(values)]]);
        let mut expected = vec![values(&self.boxes, 4), values(&self.scores, self.columns(card))];
        expected.extend(self.landmarks.as_ref().map(|name| values(name, 2 * card.landmarks.len())));
        expected
    }

    /// Scores of one anchor.
    fn columns(&self, card: &ModelCard) -> usize {
        card.class_count() + usize::from(self.background.is_some())
    }

    pub(crate) fn output_names(&self) -> Vec<&str> {
        [Some(&self.boxes), Some(&self.scores), self.landmarks.as_ref()].into_iter().flatten().map(String::as_str).collect()
    }
}

/// An anchor by centre and size, in model pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Anchor {
    x: f32,
    y: f32,
    width: f32,
    height: f32,
}

impl AnchorLevel {
    /// Widths and heights of a cell's anchors.
    fn shapes(&self) -> Vec<(f32, f32)> {
        if !self.shapes.is_empty() {
            return self.shapes.iter().map(|[width, height]| (*width, *height)).collect();
        }
        let first = self.sizes.first().copied().unwrap_or_default();
        let mut shapes: Vec<(f32, f32)> = self.sizes.iter().map(|side| (*side, *side)).collect();
        shapes.extend(self.between.map(|next| ((first * next).sqrt(), (first * next).sqrt())));
        for ratio in &self.aspect_ratios {
            let (long, short) = (first * ratio.sqrt(), first / ratio.sqrt());
            shapes.extend([(long, short), (short, long)]);
        }
        shapes
    }

    fn anchors(&self, input: InputSize, origin: f32) -> impl Iterator<Item = Anchor> {
        let (columns, rows) = ((input.width as f32 / self.step).ceil() as usize, (input.height as f32 / self.step).ceil() as usize);
        let (shapes, step) = (self.shapes(), self.step);
        (0..rows * columns).flat_map(move |cell| {
            let (x, y) = (((cell % columns) as f32 + origin) * step, ((cell / columns) as f32 + origin) * step);
            shapes.clone().into_iter().map(move |(width, height)| Anchor { x, y, width, height })
        })
    }
}

/// Decodes anchor outputs for one input size.
pub(crate) struct Anchors {
    card: AnchorsCard,
    columns: usize,
    landmarks: usize,
    anchors: Vec<Anchor>,
    input: InputSize,
}

/// More anchors than any model has; a card with more does not fit its model, and must not fill the memory first.
const MAX_ANCHORS: usize = 4_000_000;

/// Maximum growth of a box over its anchor, as in torchvision: 1000/16. Keeps exponentials finite.
const MAX_LOG_GROWTH: f32 = 4.135_166_6;

impl Anchors {
    pub(crate) fn new(anchors: &AnchorsCard, card: &ModelCard, input: InputSize) -> Self {
        let (width, height) = (input.width as f32, input.height as f32);
        let clip = |anchor: Anchor| match anchors.clip {
            true => Anchor { width: anchor.width.min(width), height: anchor.height.min(height), ..anchor },
            false => anchor,
        };
        let all = anchors.levels.iter().flat_map(|level| level.anchors(input, anchors.cell_origin)).map(clip).take(MAX_ANCHORS).collect();
        Self { card: anchors.clone(), columns: anchors.columns(card), landmarks: card.landmarks.len(), anchors: all, input }
    }

    /// Number of anchors.
    #[cfg(feature = "cuda")]
    pub(crate) fn count(&self) -> usize {
        self.anchors.len()
    }

    /// Centre x and y, width and height of each anchor, in model pixels.
    #[cfg(feature = "cuda")]
    pub(crate) fn places(&self) -> impl Iterator<Item = [f32; 4]> + '_ {
        self.anchors.iter().map(|anchor| [anchor.x, anchor.y, anchor.width, anchor.height])
    }

    /// Centre `= anchor + offset * variance * anchor size`, size `= anchor size * exp(offset * variance)`.
    fn bbox(&self, anchor: &Anchor, offsets: [f32; 4]) -> BBox {
        let [dx, dy, dw, dh] = offsets;
        let [vx, vy, vw, vh] = self.card.variances;
        let growth = |log: f32| if log > MAX_LOG_GROWTH { MAX_LOG_GROWTH.exp() } else { log.exp() };
        let bbox = BBox::from_cxcywh(
            anchor.x + dx * vx * anchor.width,
            anchor.y + dy * vy * anchor.height,
            anchor.width * growth(dw * vw),
            anchor.height * growth(dh * vh),
        );
        if bbox.is_finite() { bbox.clamped(self.input.width, self.input.height) } else { bbox }
    }

    fn landmarks(&self, anchor: &Anchor, values: &[f32]) -> Vec<Point> {
        let [vx, vy, ..] = self.card.variances;
        let pairs =
            values.chunks_exact(2).map(|pair| (pair.first().copied().unwrap_or(f32::NAN), pair.get(1).copied().unwrap_or(f32::NAN)));
        pairs.map(|(x, y)| Point { x: anchor.x + x * vx * anchor.width, y: anchor.y + y * vy * anchor.height }).collect()
    }

    fn rows<'a>(&self, tensors: &Tensors<'a>, name: &str, item: usize, values: usize) -> Result<&'a [f32], String> {
        let tensor = tensors.item(name, item, 2)?;
        if tensor.dims == [self.anchors.len(), values] {
            return Ok(tensor.data);
        }
        let (anchors, input) = (self.anchors.len(), self.input);
        Err(format!("output '{name}' is {:?}; the card's levels make {anchors} anchors of {values} values at {input}", tensor.dims))
    }
}

impl Decode for Anchors {
    fn decode(&self, tensors: &Tensors<'_>, item: usize, candidates: &mut Candidates) -> Result<(), String> {
        let boxes = self.rows(tensors, &self.card.boxes, item, 4)?;
        let scores = self.rows(tensors, &self.card.scores, item, self.columns)?;
        let landmarks = self.card.landmarks.as_ref().map(|name| self.rows(tensors, name, item, 2 * self.landmarks)).transpose()?;
        let mut row = vec![0.0; self.columns];
        let offsets = boxes.chunks_exact(4).map(|four| <[f32; 4]>::try_from(four).unwrap_or([f32::NAN; 4]));
        for (index, ((anchor, offsets), raw)) in self.anchors.iter().zip(offsets).zip(scores.chunks_exact(self.columns)).enumerate() {
            row.copy_from_slice(raw);
            self.card.activation.apply(&mut row);
            for (column, score) in row.iter().copied().enumerate() {
                let Some(class) = class_of(column, self.card.background) else { continue };
                if !candidates.accepts(score) {
                    continue;
                }
                let values = 2 * self.landmarks;
                let points = landmarks.and_then(|all| all.get(index * values..(index + 1) * values));
                let landmarks = points.map(|values| self.landmarks(anchor, values)).unwrap_or_default();
                candidates.push(Candidate { bbox: self.bbox(anchor, offsets), score, class, landmarks, row: index })?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::TensorData, *};
    use crate::decode::{OutputCard, Tensor};

    const SSD300: &str = include_str!("../../cards/ssd300.toml");

    fn ssd() -> (ModelCard, Anchors) {
        let card = ModelCard::parse(SSD300, "ssd300.toml".as_ref()).expect("own card");
        let OutputCard::Anchors(anchors) = &card.output else { unreachable!("the card names anchors") };
        let decoder = Anchors::new(anchors, &card, InputSize { width: 300, height: 300 });
        (card, decoder)
    }

    #[test]
    fn ssd300_has_the_anchors_of_the_paper() {
        let (_, decoder) = ssd();
        assert_eq!(decoder.anchors.len(), 8732, "the number in the paper");
        let first = decoder.anchors[0];
        assert_eq!((first.x, first.y, first.width), (4.0, 4.0, 21.0));
        assert!((decoder.anchors[1].width - (21.0_f32 * 45.0).sqrt()).abs() < 1e-3);
        assert!((decoder.anchors[2].width / decoder.anchors[2].height - 2.0).abs() < 1e-4);
        let last = decoder.anchors[8731];
        assert!((last.x - 150.0).abs() < 1e-4, "the last feature map has one cell: {last:?}");
    }

    #[test]
    fn offsets_move_and_stretch_an_anchor() {
        let (card, decoder) = ssd();
        let anchors = decoder.anchors.len();
        let (mut boxes, mut scores) = (vec![0.0; anchors * 4], vec![0.0; anchors * 91]);
        scores.chunks_exact_mut(91).for_each(|row| row[0] = 20.0);
        let chosen = 2000;
        boxes[chosen * 4..chosen * 4 + 4].copy_from_slice(&[1.0, -1.0, 5.0 * 2.0_f32.ln(), 0.0]);
        (scores[chosen * 91], scores[chosen * 91 + 3]) = (0.0, 20.0);
        let tensors = Tensors::new(vec![
            Tensor { name: "bbox_regression", dims: vec![1, anchors, 4], data: TensorData::F32(&boxes) },
            Tensor { name: "cls_logits", dims: vec![1, anchors, 91], data: TensorData::F32(&scores) },
        ]);
        let mut candidates = Candidates::new(0.5, card.class_count());
        decoder.decode(&tensors, 0, &mut candidates).expect("fitting shapes");
        let found = candidates.finish();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].class, 2, "background is column 0");
        let anchor = decoder.anchors[chosen];
        let center = found[0].bbox.center();
        assert!((center.x - (anchor.x + 0.1 * anchor.width)).abs() < 1e-3);
        assert!((center.y - (anchor.y - 0.1 * anchor.height)).abs() < 1e-3);
        assert!((found[0].bbox.width() - 2.0 * anchor.width).abs() < 1e-3);
    }

    #[test]
    fn outputs_of_another_size_are_an_error() {
        let (card, decoder) = ssd();
        let tensors = Tensors::new(vec![Tensor { name: "bbox_regression", dims: vec![1, 2, 4], data: TensorData::F32(&[0.0; 8]) }]);
        let error = decoder.decode(&tensors, 0, &mut Candidates::new(0.5, card.class_count())).expect_err("too few anchors");
        assert!(error.contains("8732 anchors"), "{error}");
    }
}
