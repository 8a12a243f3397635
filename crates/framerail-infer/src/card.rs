//! Model cards: a small TOML file beside the ONNX file that describes a model's inputs and outputs.
//!
//! A detector of a known output family needs a card, no code. `models/centerface.toml` is the example with every key explained.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

mod more;

use framerail_core::{Label, Skeleton, TensorLayout};
use framerail_vision::{ChannelOrder, Fit, Resize, ResizeFilter, Sampling};
use serde::{Deserialize, de};

use crate::{
    InferError, Precision,
    decode::{OutputCard, Task},
    nearest::nearest,
    search::SearchPath,
    size::InputSize,
};

pub use more::{InputAxis, InputValue, MoreInputCard};

/// Cards that are compiled in, by name.
const BUILT_IN: &[(&str, &str)] = &[
    ("centerface", include_str!("../cards/centerface.toml")),
    ("face-full-range", include_str!("../cards/face-full-range.toml")),
    ("face-mesh", include_str!("../cards/face-mesh.toml")),
    ("hand", include_str!("../cards/hand.toml")),
    ("palm", include_str!("../cards/palm.toml")),
    ("person-mask", include_str!("../cards/person-mask.toml")),
    ("pose", include_str!("../cards/pose.toml")),
    ("ssd300", include_str!("../cards/ssd300.toml")),
];

/// Behind the name of a model, the name of its quantised form.
pub const QUANTISED_SUFFIX: &str = "-int8";

/// More classes than any published detector has.
const MAX_CLASSES: u32 = 100_000;

/// A longer file is not a model card.
const MAX_CARD_BYTES: u64 = 4 << 20;

/// The content of a model card.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelCard {
    /// Name of the model.
    pub name: String,
    /// The ONNX file: beside the card, else in the search path.
    pub file: PathBuf,
    /// SHA-256 of the ONNX file in hex; checked on loading when given.
    pub sha256: Option<String>,
    /// `int8` for a quantised model.
    #[serde(default)]
    pub precision: Precision,
    /// Of a quantised model: SHA-256 of the float32 model that it was made from.
    pub quantized_from: Option<String>,
    /// Of a quantised model: the float32 model runs too on frames with a score that differs from the threshold by no more than this, 0 to
    /// 1, and decides there. 0 = never.
    #[serde(default)]
    pub recheck_margin: f32,
    /// The float32 model that a quantised one was made from, as `file` names it; needed for `recheck_margin`.
    pub float_file: Option<PathBuf>,
    /// One line on the model's purpose.
    #[serde(default)]
    pub summary: String,
    /// Licence of the model, as an SPDX identifier where there is one.
    pub licence: String,
    /// Where the model comes from.
    #[serde(default)]
    pub source: String,
    /// Whether the model is prepared on loading (initialisers out of the inputs, input size fixed): same results, faster.
    #[serde(default = "yes")]
    pub prepare: bool,
    /// Names of the classes, in the order of the model's output. Give these or `classes`.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Number of classes without names.
    pub classes: Option<u32>,
    /// Names of the landmarks, in the order of the model's output.
    #[serde(default)]
    pub landmarks: Vec<String>,
    /// Pairs of landmarks that are joined by a line where poses are drawn, by name; COCO's skeleton.
    #[serde(default)]
    pub skeleton: Vec<[String; 2]>,
    /// How frames become the model's input.
    pub input: InputCard,
    /// How the model's outputs become detections.
    pub output: OutputCard,
    /// Default thresholds.
    #[serde(default)]
    pub thresholds: Thresholds,
}

fn yes() -> bool {
    true
}

/// How frames become a model's input.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct InputCard {
    /// Name of the image input; can be omitted if it is the only one apart from those in `more`.
    pub name: Option<String>,
    /// The image input for the frame before, of models that compare two frames.
    pub previous: Option<String>,
    /// The other inputs by name: sizes, factors and constants.
    #[serde(default)]
    pub more: BTreeMap<String, MoreInputCard>,
    /// Width in pixels. With `height`: the model's input size. Without: the frame's size.
    pub width: Option<u32>,
    /// Height in pixels.
    pub height: Option<u32>,
    /// Sides are rounded up to a multiple of this. With `width` and `height` it allows other sizes too.
    pub multiple_of: Option<u32>,
    /// Maximum of the longer side, for frame-sized inputs.
    pub max_side: Option<u32>,
    /// How a frame of another aspect ratio is fitted.
    #[serde(default)]
    pub fit: FitName,
    /// Value that fills a letterboxed input, 0 to 255.
    #[serde(default = "letterbox_grey")]
    pub pad: u8,
    /// Whether a letterboxed frame is centred, or at the top left.
    #[serde(default = "yes")]
    pub centered: bool,
    /// Interpolation.
    #[serde(default)]
    pub sampling: SamplingName,
    /// Whether the filter is widened when frames shrink, as in Pillow and torchvision: use the setting of the model's reference. With
    /// `bilinear` and `bicubic`.
    #[serde(default)]
    pub antialias: bool,
    /// Order of the axes.
    #[serde(default)]
    pub layout: TensorLayout,
    /// Order of the channels.
    #[serde(default)]
    pub channel_order: ChannelOrderName,
    /// Multiplies the values 0 to 255 first.
    #[serde(default = "one")]
    pub scale: f32,
    /// Subtracted from each channel after scaling.
    #[serde(default)]
    pub mean: [f32; 3],
    /// Divides each channel last.
    #[serde(default = "ones")]
    pub std: [f32; 3],
    /// Accepted in older cards, without effect.
    #[serde(default, rename = "strips")]
    _strips: de::IgnoredAny,
}

fn letterbox_grey() -> u8 {
    114
}

fn one() -> f32 {
    1.0
}

fn ones() -> [f32; 3] {
    [1.0; 3]
}

/// How a frame of another aspect ratio is fitted, as spelled in cards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FitName {
    /// Both sides scaled independently.
    #[default]
    Stretch,
    /// The aspect ratio is kept, and the rest is padded.
    Letterbox,
}

/// Interpolation, as spelled in cards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SamplingName {
    /// Bilinear, in floating point.
    #[default]
    Bilinear,
    /// Bilinear, in 8-bit arithmetic as in FFmpeg and OpenCV.
    #[serde(rename = "bilinear_8bit")]
    Bilinear8Bit,
    /// The mean of the area that a pixel covers.
    Area,
    /// Bicubic, over 8-bit RGB.
    Bicubic,
}

/// Order of the channels, as spelled in cards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChannelOrderName {
    /// Red, green, blue.
    #[default]
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel of luma.
    Gray,
}

/// Thresholds of detections.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Thresholds {
    /// Minimum score of a box, class or other result (exclusive), 0 to 1. Default: 0.25 for detection, 0.5 for landmarks (0.2 for
    /// heatmaps), 0 for classification.
    pub confidence: f32,
    /// Whether a score equal to `confidence` counts too, as in detectors of OpenCV and InsightFace, but not in those of torchvision,
    /// Transformers and Ultralytics.
    pub confidence_inclusive: bool,
    /// IoU above which the lower-scored of two boxes is suppressed (non-maximum suppression), 0 to 1; 1 keeps all.
    pub iou: f32,
    /// Maximum number of detections per frame, best first.
    pub max_detections: usize,
    /// Whether boxes of different classes suppress each other too.
    pub class_agnostic: bool,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { confidence: 0.25, confidence_inclusive: false, iou: 0.45, max_detections: 300, class_agnostic: false }
    }
}

impl InputCard {
    /// The card's own input size.
    pub fn default_size(&self) -> Option<InputSize> {
        Some(InputSize { width: self.width?, height: self.height? })
    }

    /// The fit as the preprocessor takes it.
    pub fn fit(&self) -> Fit {
        match self.fit {
            FitName::Stretch => Fit::Stretch,
            FitName::Letterbox => Fit::Letterbox { pad: self.pad, centered: self.centered },
        }
    }

    /// The sampling as the preprocessor takes it.
    pub fn sampling(&self) -> Sampling {
        let filter = |filter| Sampling::Filter(Resize { filter, antialias: self.antialias });
        match self.sampling {
            SamplingName::Bilinear if self.antialias => filter(ResizeFilter::Bilinear),
            SamplingName::Bicubic => filter(ResizeFilter::Bicubic),
            SamplingName::Bilinear => Sampling::Bilinear,
            SamplingName::Bilinear8Bit => Sampling::Bilinear8Bit,
            SamplingName::Area => Sampling::Area,
        }
    }

    /// The values that 0 and 255 become in the most affected channel, if not every value maps to a separate integer from 0 to 255;
    /// `None` if all do, so that 8 bits hold them.
    pub(crate) fn range_beyond_bytes(&self) -> Option<(f32, f32)> {
        let ends = |channel: usize| {
            let element = |value: f32| (value * self.scale - self.mean[channel]) / self.std[channel];
            (element(0.0), element(255.0))
        };
        // One step per value, in either direction; rounding loses half a step.
        let is_kept = |(from, to): &(f32, f32)| from.min(*to).abs() < 0.5 && (from.max(*to) - 255.0).abs() < 0.5;
        [0, 1, 2].map(ends).into_iter().find(|ends| !is_kept(ends))
    }

    /// The channels as the preprocessor takes them.
    pub fn channel_order(&self) -> ChannelOrder {
        match self.channel_order {
            ChannelOrderName::Rgb => ChannelOrder::Rgb,
            ChannelOrderName::Bgr => ChannelOrder::Bgr,
            ChannelOrderName::Gray => ChannelOrder::Gray,
        }
    }
}

/// A card and its location.
#[derive(Clone, Debug)]
pub struct CardFile {
    /// The card.
    pub card: ModelCard,
    /// The file; `None` for a built-in card.
    pub path: Option<PathBuf>,
    /// The TOML.
    pub text: String,
}

impl CardFile {
    /// The card of this model's quantised form: `NAME-int8.toml` beside the card or beside the ONNX file `model`, else in the search path
    /// of cards.
    ///
    /// # Errors
    /// `Missing` if there is none; `Card` if it cannot be read or does not describe a quantised model.
    pub(crate) fn quantised(&self, name: &str, model: &Path, search: &SearchPath) -> Result<CardFile, InferError> {
        let stem = self.path.as_deref().and_then(Path::file_stem).map_or_else(|| name.into(), |stem| stem.to_string_lossy().into_owned());
        let wanted = format!("{stem}{QUANTISED_SUFFIX}");
        let beside = [self.path.as_deref(), Some(model)].into_iter().flatten().map(|path| path.with_file_name(format!("{wanted}.toml")));
        let mut looked: Vec<PathBuf> =
            beside.chain(search.card_files(&wanted)).map(|path| path.strip_prefix(".").map(Path::to_owned).unwrap_or(path)).collect();
        let mut known = HashSet::new();
        looked.retain(|path| known.insert(path.clone()));
        let hint = format!("make it from your own footage: `framerail quantize {name} --clips YOUR.mp4`");
        let missing = || InferError::Missing { what: format!("model card '{wanted}' for precision=int8"), looked: looked.clone(), hint };
        let found = read(looked.iter().find(|path| path.is_file()).ok_or_else(missing)?)?;
        if found.card.is_quantised() {
            return Ok(found);
        }
        let reason = "is not of a quantised model: precision = \"int8\" is missing".into();
        Err(InferError::Card { path: found.path.unwrap_or_default(), line: None, reason })
    }

    /// Finds a card by its path, by the path of the ONNX file beside it, or by the model's name.
    ///
    /// # Errors
    /// `Missing` with every place that was searched; `Card` if it cannot be read.
    pub fn find(name_or_path: &str, search: &SearchPath) -> Result<CardFile, InferError> {
        let given = Path::new(name_or_path);
        if given.extension().is_some_and(|extension| extension == "onnx") {
            return beside_model(given);
        }
        if given.extension().is_some_and(|extension| extension == "toml") || given.components().count() > 1 {
            return if given.is_file() { read(given) } else { Err(missing(name_or_path, vec![given.to_owned()])) };
        }
        let looked = search.card_files(name_or_path);
        if let Some(path) = looked.iter().find(|path| path.is_file()) {
            return read(path);
        }
        match BUILT_IN.iter().find(|(name, _)| *name == name_or_path) {
            Some((name, text)) => {
                let card = ModelCard::parse(text, Path::new(&format!("built-in {name}")))?;
                Ok(CardFile { card, path: None, text: (*text).to_owned() })
            }
            None => Err(missing(name_or_path, looked)),
        }
    }
}

/// The card beside a model file, if it is for that file.
fn beside_model(model: &Path) -> Result<CardFile, InferError> {
    let path = model.with_extension("toml");
    if !path.is_file() {
        let hint = format!("write a model card for {} (see models/centerface.toml) and put it there", model.display());
        return Err(InferError::Missing { what: "model card".into(), looked: vec![path], hint });
    }
    let mut found = read(&path)?;
    if let Some(file) = model.file_name() {
        found.card.file = PathBuf::from(file);
    }
    Ok(found)
}

fn missing(name: &str, looked: Vec<PathBuf>) -> InferError {
    let built_in = BUILT_IN.iter().map(|(name, _)| *name);
    let hint = match nearest(name, built_in.clone()) {
        Some(near) => format!("did you mean '{near}'?"),
        None => {
            format!("give the path of a model card (such as models/centerface.toml); built in: {}", built_in.collect::<Vec<_>>().join(", "))
        }
    };
    InferError::Missing { what: format!("model card '{name}'"), looked, hint }
}

fn read(path: &Path) -> Result<CardFile, InferError> {
    let wrong = |reason: String| InferError::Card { path: path.to_owned(), line: None, reason };
    let length = std::fs::metadata(path).map_err(|error| wrong(error.to_string()))?.len();
    if length > MAX_CARD_BYTES {
        return Err(wrong(format!("{length} bytes is too long for a model card; is this the model itself?")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    Ok(CardFile { card: ModelCard::parse(&text, path)?, path: Some(path.to_owned()), text })
}

impl ModelCard {
    /// Parses a card's text; `path` is for messages.
    ///
    /// # Errors
    /// `Card` with line and key: a key that is unknown (with the nearest known one), missing, of the wrong type or out of range.
    pub fn parse(text: &str, path: &Path) -> Result<Self, InferError> {
        let mut card: ModelCard = toml::from_str(text).map_err(|error| describe(&error, text, path))?;
        if !says_confidence(text) {
            card.thresholds.confidence = card.output.default_confidence();
        }
        card.check().map_err(|wrong| InferError::Card {
            path: path.to_owned(),
            line: line_of_key(text, wrong.table, wrong.key),
            reason: wrong.to_string(),
        })?;
        Ok(card)
    }

    /// Whether it is of a quantised model.
    pub fn is_quantised(&self) -> bool {
        self.precision == Precision::Int8
    }

    /// Number of classes.
    pub fn class_count(&self) -> usize {
        if self.labels.is_empty() { self.classes.unwrap_or(1) as usize } else { self.labels.len() }
    }

    /// The classes as labels of detections; a class without a name is called by its number.
    pub fn label_list(&self) -> Vec<Label> {
        let name = |id: usize| self.labels.get(id).cloned().unwrap_or_else(|| id.to_string());
        (0..self.class_count()).map(|id| Label { id: id as u32, name: Arc::from(name(id)) }).collect()
    }

    /// Label of an object found by a model for landmarks or segmentation: the classes of its mask, the card's label, else the model's
    /// name.
    pub fn thing_name(&self) -> String {
        match (&self.output, self.labels.as_slice()) {
            (OutputCard::Segmentation(card), _) if !card.inside.is_empty() => card.inside.join("+"),
            (_, [label, ..]) => label.clone(),
            _ => self.name.clone(),
        }
    }

    /// The bones between landmarks; `None` for a card without them.
    pub fn bones(&self) -> Option<Skeleton> {
        let place = |name: &String| self.landmarks.iter().position(|known| known == name);
        let bones: Vec<[usize; 2]> = self.skeleton.iter().filter_map(|[from, to]| Some([place(from)?, place(to)?])).collect();
        (!bones.is_empty()).then_some(Skeleton { points: self.landmarks.len(), bones })
    }

    fn check(&self) -> Result<(), BadValue> {
        let ensure = |good: bool, table, key, expected: &str| {
            if good { Ok(()) } else { Err(BadValue { table, key, expected: expected.to_owned() }) }
        };
        ensure(!self.name.is_empty(), "", "name", "a name")?;
        ensure(!self.file.as_os_str().is_empty(), "", "file", "the name of an ONNX file")?;
        let is_sha256 = |hex: &String| hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit());
        ensure(self.sha256.as_ref().is_none_or(is_sha256), "", "sha256", "64 hexadecimal digits")?;
        ensure(self.quantized_from.as_ref().is_none_or(is_sha256), "", "quantized_from", "64 hexadecimal digits")?;
        let is_of_file = matches!(self.precision, Precision::Auto | Precision::Fp32 | Precision::Int8);
        ensure(is_of_file, "", "precision", "\"int8\" for a quantised model, else \"fp32\"")?;
        ensure((0.0..=1.0).contains(&self.recheck_margin), "", "recheck_margin", "0 to 1")?;
        let can_recheck = self.is_quantised() && self.output.task() == Task::Detection && self.float_file.is_some();
        let expected = "left out, or used with 'float_file' in the card of a quantised detector";
        ensure(self.recheck_margin == 0.0 || can_recheck, "", "recheck_margin", expected)?;
        let (names, counted) = (self.labels.len(), self.classes.is_some());
        match self.output.task() {
            Task::Embedding => ensure(names == 0 && !counted, "", "labels", "left out: an embedding has no classes")?,
            Task::Depth | Task::Flow => ensure(names == 0 && !counted, "", "labels", "left out: depth and optical flow have no classes")?,
            Task::Landmarks => ensure(names <= 1 && !counted, "", "labels", "at most one name: the object whose points it returns")?,
            _ => ensure((names > 0) != counted, "", "labels", "a list of names, or replaced by 'classes' with their number")?,
        }
        ensure(self.classes.is_none_or(|count| (1..=MAX_CLASSES).contains(&count)), "", "classes", "1 to 100000")?;
        let is_known = |name: &String| self.landmarks.contains(name);
        ensure(self.skeleton.iter().flatten().all(is_known), "", "skeleton", "pairs of names in 'landmarks'")?;
        let input = &self.input;
        let compares = self.output.task() == Task::Flow;
        ensure(compares == input.previous.is_some(), "input", "previous", "the input for the frame before, with [output.flow] only")?;
        let differs = input.previous.is_none() || input.previous != input.name;
        ensure(differs, "input", "previous", "another input than 'name'")?;
        let side = |side: Option<u32>| side.is_none_or(|side| (1..=32_768).contains(&side));
        ensure(side(input.width), "input", "width", "1 to 32768")?;
        ensure(side(input.height), "input", "height", "1 to 32768")?;
        ensure(input.width.is_some() == input.height.is_some(), "input", "width", "given together with 'height', or left out")?;
        ensure(input.multiple_of.is_none_or(|side| (1..=4096).contains(&side)), "input", "multiple_of", "1 to 4096")?;
        ensure(side(input.max_side), "input", "max_side", "1 to 32768")?;
        let has_wide_filter = matches!(input.sampling, SamplingName::Bilinear | SamplingName::Bicubic);
        ensure(!input.antialias || has_wide_filter, "input", "antialias", "left out, or used with sampling = \"bilinear\" or \"bicubic\"")?;
        ensure(input.scale.is_finite() && input.scale != 0.0, "input", "scale", "a number other than 0")?;
        ensure(input.mean.iter().all(|v| v.is_finite()), "input", "mean", "three finite numbers")?;
        ensure(input.std.iter().all(|v| v.is_finite() && *v != 0.0), "input", "std", "three numbers other than 0")?;
        self.thresholds.check().map_err(|(key, expected)| BadValue { table: "thresholds", key, expected: expected.to_owned() })?;
        self.output.check(self).map_err(|(key, expected)| BadValue { table: "output", key, expected })
    }
}

impl Thresholds {
    /// The threshold that a score must exceed.
    pub(crate) fn exclusive_confidence(&self) -> f32 {
        if self.confidence_inclusive { self.confidence.next_down() } else { self.confidence }
    }

    /// Checks that every value is in range; otherwise returns the key and the allowed values.
    pub(crate) fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let unit = |value: f32| (0.0..=1.0).contains(&value);
        match () {
            () if !unit(self.confidence) => Err(("confidence", "0 to 1")),
            () if !unit(self.iou) => Err(("iou", "0 to 1")),
            () if self.max_detections == 0 => Err(("max_detections", "1 or more")),
            () => Ok(()),
        }
    }
}

/// Whether a valid card sets a confidence threshold.
fn says_confidence(text: &str) -> bool {
    let table = toml::from_str::<toml::Table>(text).unwrap_or_default();
    table.get("thresholds").and_then(|thresholds| thresholds.get("confidence")).is_some()
}

/// A key of a card with an invalid value.
struct BadValue {
    table: &'static str,
    key: &'static str,
    expected: String,
}

impl fmt::Display for BadValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{} must be {}", self.table, if self.table.is_empty() { "" } else { "." }, self.key, self.expected)
    }
}

/// The parser's error as one line, with the nearest known key for an unknown one.
fn describe(error: &toml::de::Error, text: &str, path: &Path) -> InferError {
    let line = error.span().map(|span| line_at(text, span.start));
    let message = error.message().lines().collect::<Vec<_>>().join(" ");
    let mut quoted = message.split('`').skip(1).step_by(2);
    let reason = match (quoted.next(), message.split_whitespace().next()) {
        (Some(given), Some("unknown")) => {
            let kind = if message.starts_with("unknown variant") { "value" } else { "key" };
            let known: Vec<&str> = quoted.collect();
            match nearest(given, known.iter().copied()) {
                Some(near) => format!("unknown {kind} '{given}'; did you mean '{near}'?"),
                None => format!("unknown {kind} '{given}'; known: {}", known.join(", ")),
            }
        }
        (Some(key), Some("missing")) => format!("key '{key}' is missing"),
        _ => match error.span().and_then(|span| key_at(text, span.start)) {
            Some(key) => format!("key '{key}': {}", message.replace('`', "'")),
            None => message.replace('`', "'"),
        },
    };
    InferError::Card { path: path.to_owned(), line, reason }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// The key on the line where a value stands.
fn key_at(text: &str, offset: usize) -> Option<&str> {
    let (key, _) = text.lines().nth(line_at(text, offset) - 1)?.split_once('=')?;
    Some(key.trim())
}

/// The line of `key = …` below `[table]` (or a table within it), from 1.
fn line_of_key(text: &str, table: &str, key: &str) -> Option<usize> {
    let mut current = "";
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(header) = line.strip_prefix('[') {
            current = header.trim_start_matches('[').split(']').next().unwrap_or_default().split('.').next().unwrap_or_default();
        } else if current == table && line.split('=').next().is_some_and(|name| name.trim() == key) {
            return Some(index + 1);
        }
    }
    None
}
