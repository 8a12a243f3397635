//! Drafts a card for a model: the family from the names and shapes of its outputs, with guesses marked.
//!
//! Source: the documented exports of the tools that are named beside each family.

use std::{fmt::Write, path::Path};

use crate::{
    InferError, ModelCard,
    onnx::{Declared, Dim, OnnxFile},
};

/// A card's text, the recognised family, and what its author must check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardDraft {
    /// The TOML.
    pub text: String,
    /// The family of the outputs, and how it was recognised.
    pub family: String,
    /// Guesses, one line each; the text repeats them after `UNKNOWN:`.
    pub unknown: Vec<String>,
}

/// Landmarks of people as COCO orders them.
const COCO_POINTS: &str = "[\"nose\", \"left_eye\", \"right_eye\", \"left_ear\", \"right_ear\", \"left_shoulder\", \"right_shoulder\", \"left_elbow\", \
\"right_elbow\", \"left_wrist\", \"right_wrist\", \"left_hip\", \"right_hip\", \"left_knee\", \"right_knee\", \"left_ankle\", \"right_ankle\"]";

/// COCO's skeleton of these points.
const COCO_SKELETON: &str = "[[\"left_ankle\", \"left_knee\"], [\"left_knee\", \"left_hip\"], [\"right_ankle\", \"right_knee\"], \
[\"right_knee\", \"right_hip\"], [\"left_hip\", \"right_hip\"], [\"left_shoulder\", \"left_hip\"], [\"right_shoulder\", \"right_hip\"], \
[\"left_shoulder\", \"right_shoulder\"], [\"left_shoulder\", \"left_elbow\"], [\"right_shoulder\", \"right_elbow\"], [\"left_elbow\", \"left_wrist\"], \
[\"right_elbow\", \"right_wrist\"], [\"left_eye\", \"right_eye\"], [\"nose\", \"left_eye\"], [\"nose\", \"right_eye\"], [\"left_eye\", \"left_ear\"], \
[\"right_eye\", \"right_ear\"], [\"left_ear\", \"left_shoulder\"], [\"right_ear\", \"right_shoulder\"]]";

/// Landmarks of faces as their detectors order them.
const FACE_POINTS: &str = "[\"left_eye\", \"right_eye\", \"nose\", \"left_mouth\", \"right_mouth\"]";

/// Typical lengths of embedding vectors.
const EMBEDDINGS: [i64; 6] = [64, 128, 256, 384, 512, 2048];

/// Drafts a card for a model, which the card names as `place`.
///
/// # Errors
/// `ModelMismatch` for a model without an image input, or whose outputs are of no family that is recognised; the message lists them.
pub fn draft(file: &OnnxFile, place: &Path) -> Result<CardDraft, InferError> {
    let mismatch = |reason: String| InferError::ModelMismatch { path: file.path().to_owned(), reason };
    let image = Image::of(file).map_err(mismatch)?;
    let guess = guess(file, &image).map_err(mismatch)?;
    let text = write(file, place, &image, &guess);
    // A draft that the program itself refuses would be useless.
    ModelCard::parse(&text, file.path())?;
    Ok(CardDraft { text, family: guess.family, unknown: image.unknown.into_iter().chain(guess.unknown).collect() })
}

/// The input that takes images.
struct Image {
    name: String,
    layout: &'static str,
    channels: usize,
    /// Width and height, where the model fixes them.
    size: Option<(i64, i64)>,
    is_bytes: bool,
    unknown: Vec<String>,
}

impl Image {
    fn of(file: &OnnxFile) -> Result<Self, String> {
        let shapes = || file.inputs().iter().map(Declared::to_string).collect::<Vec<_>>().join(", ");
        let found = file.inputs().iter().find_map(|input| {
            let dims = input.dims.as_deref()?;
            let sides = dims.len().checked_sub(3).filter(|before| *before <= 1).and_then(|before| dims.get(before..))?;
            let [first, second, third] = sides else { return None };
            let is_channels = |dim: &Dim| matches!(dim, Dim::Fixed(1 | 3));
            match (is_channels(first), is_channels(third)) {
                (true, _) => Some((input, "TCHW", first, (third, second))),
                (false, true) => Some((input, "THWC", third, (second, first))),
                // Every size open, as some exporters leave it.
                _ if dims.len() == 4 && dims.iter().all(|dim| matches!(dim, Dim::Symbolic(_))) => {
                    Some((input, "TCHW", first, (third, second)))
                }
                _ => None,
            }
        });
        let (input, layout, channels, (width, height)) =
            found.ok_or_else(|| format!("none of its inputs takes images ([batch, 3, height, width] or channels last): {}", shapes()))?;
        let mut unknown = Vec::new();
        let size = match (width, height) {
            (Dim::Fixed(width), Dim::Fixed(height)) if *width > 0 && *height > 0 => Some((*width, *height)),
            _ => {
                unknown.push("input.width and height: the model takes any size; give the one that it was trained with".to_owned());
                None
            }
        };
        let is_bytes = input.elem_type == 2;
        if !is_bytes {
            unknown.push("input.scale, mean and std: as in the code that trained the model".to_owned());
        }
        let channels = if *channels == Dim::Fixed(1) { 1 } else { 3 };
        if channels == 3 {
            unknown.push("input.channel_order: rgb, or bgr for models trained with OpenCV".to_owned());
        }
        unknown.push("input.fit: letterbox, or stretch for models trained with distorted images".to_owned());
        Ok(Self { name: input.name.clone(), layout, channels, size, is_bytes, unknown })
    }
}

/// The recognised outputs.
#[derive(Default)]
struct Guess {
    family: String,
    /// `labels = …` or `classes = …`, and `landmarks = …`.
    head: String,
    /// `[output.…]` and what follows.
    output: String,
    thresholds: String,
    /// Letterbox, unless the family's exports are known to stretch.
    stretch: bool,
    /// Whether the model accepts frames of every size, despite a fixed size in the file.
    any_size: bool,
    /// Factor of values 0 to 255, if the family's exports are known.
    scale: Option<&'static str>,
    /// The image inputs for the frame before and for the frame, of models that compare two.
    pair: Option<[String; 2]>,
    unknown: Vec<String>,
}

/// The sizes of an output's axes, open ones as `None`.
fn sizes(output: &Declared) -> Vec<Option<i64>> {
    let fixed = |dim: &Dim| if let Dim::Fixed(size) = dim { Some(*size) } else { None };
    output.dims.iter().flatten().map(fixed).collect()
}

fn guess(file: &OnnxFile, image: &Image) -> Result<Guess, String> {
    let outputs = file.outputs();
    let named = |name: &str| outputs.iter().find(|output| output.name == name);
    let last = |output: &Declared| sizes(output).last().copied().flatten();
    let shapes = || outputs.iter().map(Declared::to_string).collect::<Vec<_>>().join(", ");
    if let Some(found) = dense(file, image) {
        return Ok(found);
    }
    if let Some(found) = per_stride(file, image) {
        return Ok(found);
    }
    if let Some(found) = heatmap(file, image) {
        return Ok(found);
    }
    if let (Some(boxes), Some(scores)) = (named("pred_boxes"), named("logits").or(named("pred_logits"))) {
        return Ok(detr(file, boxes, scores, named("pred_masks")));
    }
    if let (Some(_), Some(_), Some(_)) = (named("boxes"), named("scores"), named("labels")) {
        return Ok(listed(file));
    }
    if let (Some(boxes), Some(scores)) = (named("bbox_regression"), named("cls_logits")) {
        let count = last(scores).unwrap_or(91);
        let mut found = Guess { head: classes(file, count), ..Guess::default() };
        if let Some(center) = named("bbox_ctrness") {
            found.family = "strides: the outputs of torchvision's FCOS head".into();
            found.output = format!(
                "[output.strides]\nscores = {}\nboxes = {}\nobjectness = {}\nactivation = \"sigmoid\"\ncombine = \"root\"\n\
                 levels = [{{ stride = 8.0 }}, {{ stride = 16.0 }}, {{ stride = 32.0 }}, {{ stride = 64.0 }}, {{ stride = 128.0 }}]\n",
                quoted(&scores.name),
                quoted(&boxes.name),
                quoted(&center.name)
            );
            found.thresholds = "confidence = 0.2\niou = 0.6\n".into();
            return Ok(found);
        }
        return Err(format!(
            "its outputs are those of torchvision's anchor heads; take models/ssd300.toml or models/retinanet.toml, which have their \
             anchors: {}",
            shapes()
        ));
    }
    if let (Some(boxes), Some(scores)) = (named("boxes"), named("scores"))
        && last(boxes) == Some(4)
    {
        let columns = last(scores).unwrap_or(2);
        let mut found = Guess { family: "boxes: a box and a score for each class".into(), ..Guess::default() };
        let background = if columns == 2 { "background = 0\n" } else { "" };
        found.head = classes(file, if columns == 2 { 1 } else { columns });
        found.output = format!("[output.boxes]\nboxes = \"boxes\"\nscores = \"scores\"\nnormalized = true\n{background}");
        found.stretch = true;
        found.unknown.push("output.boxes.normalized: boxes from 0 to 1; leave it out for pixels. form: xyxy, or cxcywh".into());
        found.unknown.push("output.boxes.activation: none, or sigmoid or softmax for raw scores".into());
        return Ok(found);
    }
    match outputs {
        [only] => one_output(file, only).ok_or_else(|| format!("its output does not match a known family: {}", shapes())),
        [first, second] if sizes(first).len() == 3 && sizes(second).len() == 4 => {
            let coefficients = sizes(second).get(1).copied().flatten().unwrap_or(32);
            let mut found =
                boxes_of_one(file, first, coefficients).ok_or_else(|| format!("its outputs are not recognised: {}", shapes()))?;
            found.family = "anchor_free: boxes with mask coefficients, and prototypes, as YOLOv8-seg exports them".into();
            let _ = writeln!(found.output, "masks = {{ prototypes = {}, coefficients = {coefficients} }}", quoted(&second.name));
            Ok(found)
        }
        _ => Err(format!("its outputs do not match a known family; see docs/models.md and write the card by hand: {}", shapes())),
    }
}

/// Optical flow from two images, and depth, which is recognised by its name.
fn dense(file: &OnnxFile, image: &Image) -> Option<Guess> {
    let [output] = file.outputs() else { return None };
    let (dims, name) = (sizes(output), quoted(&output.name));
    let first = file.inputs().iter().find(|input| input.name == image.name)?;
    if let (Some(second), [_, Some(2), _, _]) = (file.inputs().iter().find(|it| it.name != first.name && it.dims == first.dims), &dims[..])
    {
        let mut found = Guess { family: "flow: the motion between two images".into(), stretch: true, ..Guess::default() };
        found.pair = Some([first.name.clone(), second.name.clone()]);
        found.output = format!("[output.flow]\noutput = {name}\n");
        found.unknown.push("input.name and previous: which image is the earlier one; output.flow.scale: 20 for FlowNet and PWC-Net".into());
        return Some(found);
    }
    let is_named = ["depth", "disp"].iter().any(|word| output.name.to_lowercase().contains(word));
    if is_named && matches!(dims[..], [_, _, _] | [_, Some(1), _, _]) {
        let mut found = Guess { family: "depth: a depth for each cell".into(), stretch: true, ..Guess::default() };
        found.output = format!("[output.depth]\noutput = {name}\nvalues = \"inverse\"\n");
        found.unknown.push("output.depth.values: inverse (larger is nearer), relative (larger is further away) or metres".into());
        return Some(found);
    }
    None
}

/// CenterNet and CenterFace: grids of scores, sizes, offsets, and landmarks where there are some.
fn heatmap(file: &OnnxFile, image: &Image) -> Option<Guess> {
    let outputs = file.outputs();
    let channels: Vec<Option<i64>> = outputs.iter().map(sizes).filter(|dims| dims.len() == 4).map(|dims| dims[1]).collect();
    let (count, points) = match channels[..] {
        [Some(count), Some(2), Some(2)] => (count, 0),
        [Some(count), Some(2), Some(2), Some(points)] if points % 2 == 0 => (count, points / 2),
        _ => return None,
    };
    let [scores, size, offset, ..] = outputs else { return None };
    let columns = sizes(scores).last().copied().flatten();
    let stride = image.size.zip(columns).map_or(4, |((width, _), columns)| (width / columns.max(1)).max(1));
    let is_face = count == 1 && points == 5;
    let mut found =
        Guess { family: "heatmap: a grid of scores, with sizes and offsets".into(), stretch: true, any_size: true, ..Guess::default() };
    found.head = if is_face { format!("labels = [\"face\"]\nlandmarks = {FACE_POINTS}\n") } else { classes(file, count) };
    found.output = format!(
        "[output.heatmap]\nheatmap = {}\nsize = {}\noffset = {}\nstride = {stride}.0\n",
        quoted(&scores.name),
        quoted(&size.name),
        quoted(&offset.name)
    );
    if let (true, Some(landmarks)) = (is_face, outputs.get(3)) {
        found.family = "heatmap: scores, sizes, offsets and landmarks of faces, as CenterFace has them".into();
        let _ = write!(found.output, "landmarks = {}\naxes = \"yx\"\nsize_coding = \"exp\"\ncell_origin = 0.5\n", quoted(&landmarks.name));
        found.thresholds = "confidence = 0.2\niou = 0.3\n".into();
        found.scale = Some("1.0");
    } else {
        found
            .unknown
            .push("output.heatmap.size_coding, axes, cell_origin: as in the code that decodes the outputs; landmarks are left out".into());
    }
    Some(found)
}

/// SCRFD and YuNet: outputs for strides 8, 16 and 32.
fn per_stride(file: &OnnxFile, image: &Image) -> Option<Guess> {
    let outputs = file.outputs();
    let has = |name: &str| outputs.iter().any(|output| output.name == name);
    let strides = [8, 16, 32];
    let level = |stride: i32, names: &[(&str, String)]| {
        let names: String = names.iter().map(|(key, name)| format!(", {key} = {}", quoted(name))).collect();
        format!("  {{ stride = {stride}.0{names} }},\n")
    };
    if strides.iter().all(|stride| ["cls", "obj", "bbox", "kps"].iter().all(|kind| has(&format!("{kind}_{stride}")))) {
        let levels: String = strides
            .iter()
            .map(|stride| {
                let name = |kind: &str| format!("{kind}_{stride}");
                level(*stride, &[("scores", name("cls")), ("objectness", name("obj")), ("boxes", name("bbox")), ("landmarks", name("kps"))])
            })
            .collect();
        return Some(Guess {
            family: "strides: classes, objectness, boxes and landmarks for three strides, as YuNet has them".into(),
            head: format!("labels = [\"face\"]\nlandmarks = {FACE_POINTS}\n"),
            output: format!("[output.strides]\ncoding = \"center_and_size\"\ncombine = \"root\"\nlevels = [\n{levels}]\n"),
            thresholds: "confidence = 0.9\nconfidence_inclusive = true\niou = 0.3\n".into(),
            ..Guess::default()
        });
    }
    // Scores, boxes and landmarks of each stride, in this order or grouped; distinguished by their values.
    let of = |values: i64| outputs.iter().filter(|output| sizes(output).last() == Some(&Some(values))).collect::<Vec<_>>();
    let (scores, boxes, points) = (of(1), of(4), of(10));
    let has_points = points.len() == 3 && outputs.len() == 9;
    if scores.len() != 3 || boxes.len() != 3 || !(has_points || outputs.len() == 6) {
        return None;
    }
    let mut anchors = 2;
    if let (Some((width, height)), Some(&Some(rows))) =
        (image.size, scores.first().and_then(|first| sizes(first).iter().rev().nth(1).copied()).as_ref())
    {
        let cells = (width as u64).div_ceil(8) * (height as u64).div_ceil(8);
        anchors = (rows.max(0) as u64 / cells.max(1)).clamp(1, 64);
    }
    let levels: String = strides
        .iter()
        .enumerate()
        .map(|(at, stride)| {
            let name = |list: &[&Declared]| list.get(at).map(|output| output.name.clone()).unwrap_or_default();
            let mut names = vec![("scores", name(&scores)), ("boxes", name(&boxes))];
            names.extend(has_points.then(|| ("landmarks", name(&points))));
            level(*stride, &names)
        })
        .collect();
    let landmarks = if has_points { format!("landmarks = {FACE_POINTS}\n") } else { String::new() };
    Some(Guess {
        family: "strides: scores and distances for three strides, as SCRFD has them".into(),
        head: format!("labels = [\"face\"]\n{landmarks}"),
        output: format!("[output.strides]\nanchors = {anchors}\nlevels = [\n{levels}]\n"),
        thresholds: "confidence = 0.5\nconfidence_inclusive = true\niou = 0.4\n".into(),
        ..Guess::default()
    })
}

/// Raw queries of a transformer.
fn detr(file: &OnnxFile, boxes: &Declared, scores: &Declared, masks: Option<&Declared>) -> Guess {
    let columns = sizes(scores).last().copied().flatten().unwrap_or(92);
    let queries = sizes(scores).iter().rev().nth(1).copied().flatten();
    // DETR has 100 queries and a column for no object; its successors have 300 and none.
    let has_background = queries == Some(100) || columns == 92;
    let count = if has_background { columns - 1 } else { columns };
    let mut found = Guess { family: "boxes: queries of a transformer, as DETR and RT-DETR have them".into(), ..Guess::default() };
    found.head = classes(file, count.max(1));
    found.stretch = true;
    let rest = if has_background {
        format!("activation = \"softmax\"\nbackground = {count}\none_class = true\n")
    } else {
        "activation = \"sigmoid\"\n".to_owned()
    };
    found.output = format!(
        "[output.boxes]\nboxes = {}\nscores = {}\nform = \"cxcywh\"\nnormalized = true\nsuppressed = true\n{rest}",
        quoted(&boxes.name),
        quoted(&scores.name)
    );
    if let Some(masks) = masks {
        let _ = writeln!(found.output, "masks = {{ output = {}, activation = \"sigmoid\" }}", quoted(&masks.name));
    }
    found.thresholds = format!("confidence = {}\n", if has_background { "0.7" } else { "0.5" });
    found.unknown.push("output.boxes.activation: softmax with background where the last column means no object, else sigmoid".into());
    found
}

/// Final boxes with scores and labels.
fn listed(file: &OnnxFile) -> Guess {
    let geometry = file.inputs().iter().find(|input| matches!(input.name.as_str(), "orig_target_sizes" | "im_shape" | "image_shape"));
    let mut found = Guess { family: "boxes: finished boxes with scores and labels".into(), ..Guess::default() };
    found.head = classes(file, 91);
    found.stretch = true;
    found.output = "[output.boxes]\nboxes = \"boxes\"\nscores = \"scores\"\nlabels = \"labels\"\nsuppressed = true\n".into();
    if let Some(input) = geometry {
        found.output.push_str("space = \"frame\"\n");
        found.output = format!("[input.more.{}]\nvalue = [\"frame_width\", \"frame_height\"]\n\n{}", input.name, found.output);
        found.unknown.push(format!("input.more.{}: width first, or height first", input.name));
    }
    found.unknown.push("output.boxes.first_label: the number of the first class, 0 unless given".into());
    found
}

fn one_output(file: &OnnxFile, output: &Declared) -> Option<Guess> {
    let dims = sizes(output);
    let name = quoted(&output.name);
    match dims[..] {
        [_, _, Some(6)] => Some(Guess {
            family: "boxes: rows of box, score and class, suppressed already, as YOLOv10 exports them".into(),
            head: classes(file, 80),
            output: format!("[output.boxes]\nboxes = {name}\nsuppressed = true\n"),
            ..Guess::default()
        }),
        [_, _, _] => boxes_of_one(file, output, 0),
        [_, Some(17), _, _] => Some(Guess {
            family: "landmarks: a heatmap for each of COCO's 17 points".into(),
            head: format!("labels = [\"person\"]\nlandmarks = {COCO_POINTS}\nskeleton = {COCO_SKELETON}\n"),
            output: format!("[output.landmarks]\noutput = {name}\nform = \"heatmaps\"\n"),
            ..Guess::default()
        }),
        [_, Some(count), Some(1), Some(1)] | [_, Some(count)] if !is_embedding(&output.name, count) => {
            let mut found = Guess { family: "classes: a score for each class".into(), head: classes(file, count), ..Guess::default() };
            found.output = format!("[output.classes]\noutput = {name}\nactivation = \"softmax\"\n");
            found.unknown.push("output.classes.activation: softmax; none where the model has it inside; sigmoid for classes that do not exclude each other".into());
            Some(found)
        }
        [_, Some(length)] => Some(Guess {
            family: "embedding: a vector".into(),
            output: format!("[output.embedding]\noutput = {name}\nlength = {length}\nnormalize = true\n"),
            ..Guess::default()
        }),
        [_, Some(count), _, _] => {
            let mut found =
                Guess { family: "segmentation: a channel for each class".into(), head: classes(file, count), ..Guess::default() };
            let activation = if count == 1 { "sigmoid" } else { "softmax" };
            found.output = format!("[output.segmentation]\noutput = {name}\nactivation = \"{activation}\"\n");
            found
                .unknown
                .push("output.segmentation.inside: the classes that make the mask; activation: none where the model has it inside".into());
            Some(found)
        }
        _ => None,
    }
}

fn is_embedding(name: &str, count: i64) -> bool {
    let name = name.to_lowercase();
    EMBEDDINGS.contains(&count) && ["feat", "emb", "vector", "fc1"].iter().any(|word| name.contains(word))
}

/// One column, or one row, for each box; the shorter axis is that of the values.
fn boxes_of_one(file: &OnnxFile, output: &Declared, coefficients: i64) -> Option<Guess> {
    let dims = sizes(output);
    let (values, order) = match dims[..] {
        [_, Some(a), Some(b)] if a < b => (a, "values-first"),
        [_, Some(_), Some(b)] => (b, "boxes-first"),
        [_, Some(a), None] => (a, "values-first"),
        [_, None, Some(b)] => (b, "boxes-first"),
        _ => return None,
    };
    let names = metadata_names(file);
    let mut found = Guess { thresholds: "confidence = 0.25\niou = 0.7\n".into(), ..Guess::default() };
    let task = file.metadata("task").unwrap_or_default();
    let points = 51;
    let is_pose = task == "pose" || (task.is_empty() && values == 5 + points);
    let is_rotated = task == "obb";
    // YOLOv5 and similar models have rows, with an objectness score before the class scores.
    let objectness =
        i64::from(order == "boxes-first" && names.as_ref().is_none_or(|names| values != 4 + coefficients + names.len() as i64));
    let count = values - 4 - objectness - coefficients - if is_pose { points } else { 0 } - i64::from(is_rotated);
    if !(1..=100_000).contains(&count) {
        return None;
    }
    found.family =
        format!("anchor_free: one {} for each box, as YOLO exports them", if order == "values-first" { "column" } else { "row" });
    found.head = if is_pose {
        format!("labels = [\"person\"]\nlandmarks = {COCO_POINTS}\nskeleton = {COCO_SKELETON}\n")
    } else {
        classes(file, count)
    };
    found.output = format!("[output.anchor_free]\noutput = {}\norder = \"{order}\"\n", quoted(&output.name));
    if objectness == 1 {
        found.output.push_str("objectness = true\n");
        found.unknown.push("output.anchor_free.objectness: whether a fifth value precedes the classes".into());
    }
    if is_pose {
        found.output.push_str("landmark_values = 3\n");
    }
    if is_rotated {
        found.family.push_str(", with the angle of rotated boxes");
        found.output.push_str("angle = true\n");
    }
    Some(found)
}

/// `labels` from the file's own metadata, else the number of classes.
fn classes(file: &OnnxFile, count: i64) -> String {
    let names = metadata_names(file).filter(|names| names.len() as i64 == count);
    match names {
        Some(names) => format!("labels = [{}]\n", names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")),
        None if count == 1 => "labels = [\"thing\"]  # UNKNOWN: the name of the class\n".to_owned(),
        None => format!("classes = {count}  # UNKNOWN: labels = [\"…\"] with their names\n"),
    }
}

/// Names of classes that exporters of YOLO put into the file: `{0: 'person', 1: 'bicycle'}`.
fn metadata_names(file: &OnnxFile) -> Option<Vec<String>> {
    let text = file.metadata("names")?.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((number, after)) = rest.split_once(':') {
        let after = after.trim_start();
        let quote = after.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let (name, after) = after.get(1..)?.split_once(quote)?;
        if number.trim_matches([',', ' ']).parse() != Ok(names.len()) {
            return None;
        }
        names.push(name.to_owned());
        rest = after;
    }
    (!names.is_empty()).then_some(names)
}

/// A string as TOML writes it.
fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

fn write(file: &OnnxFile, place: &Path, image: &Image, guess: &Guess) -> String {
    let stem = file.path().file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let mut text = format!("# Written by `framerail card`: {}.\n", guess.family);
    let marks = image.unknown.iter().chain(&guess.unknown);
    for unknown in marks {
        let _ = writeln!(text, "# UNKNOWN: {unknown}");
    }
    let _ = write!(
        text,
        "\nname = {}\nfile = {}\nlicence = \"unknown\"  # UNKNOWN: the licence of the model\n{}\n[input]\nname = {}\n",
        quoted(&stem),
        quoted(&place.to_string_lossy()),
        guess.head,
        quoted(guess.pair.as_ref().map_or(&image.name, |[_, later]| later))
    );
    if let Some([earlier, _]) = &guess.pair {
        let _ = writeln!(text, "previous = {}", quoted(earlier));
    }
    match image.size.filter(|_| !guess.any_size) {
        None if guess.any_size => text.push_str("multiple_of = 32\n"),
        Some((width, height)) => drop(writeln!(text, "width = {width}\nheight = {height}")),
        None => text.push_str("width = 640\nheight = 640\nmultiple_of = 32\n"),
    }
    let _ = writeln!(text, "fit = \"{}\"\nlayout = \"{}\"", if guess.stretch { "stretch" } else { "letterbox" }, image.layout);
    let order = if image.channels == 1 { "gray" } else { "rgb" };
    let _ = writeln!(text, "channel_order = \"{order}\"");
    if !image.is_bytes {
        text.push_str("# element = (value * scale - mean) / std, with value 0 to 255\nscale = ");
        text.push_str(guess.scale.unwrap_or("0.00392156862745098"));
        text.push('\n');
    }
    let _ = write!(text, "\n{}", guess.output);
    if !guess.thresholds.is_empty() {
        let _ = write!(text, "\n[thresholds]\n{}", guess.thresholds);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::wire::{write_bytes, write_number};

    fn message(parts: &[(u32, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        parts.iter().for_each(|(field, bytes)| write_bytes(*field, bytes, &mut out));
        out
    }

    fn value(name: &str, dims: &[i64]) -> Vec<u8> {
        let mut shape = Vec::new();
        for dim in dims {
            let mut one = Vec::new();
            if *dim >= 0 {
                write_number(1, *dim as u64, &mut one);
            }
            write_bytes(1, &one, &mut shape);
        }
        let mut tensor = Vec::new();
        write_number(1, 1, &mut tensor);
        write_bytes(2, &shape, &mut tensor);
        message(&[(1, name.as_bytes()), (2, &message(&[(1, &tensor)]))])
    }

    fn model(inputs: &[(&str, &[i64])], outputs: &[(&str, &[i64])], names: &str) -> OnnxFile {
        let mut graph = message(&[(1, &message(&[(1, b"x"), (2, b"y"), (4, b"Identity")]))]);
        inputs.iter().for_each(|(name, dims)| write_bytes(11, &value(name, dims), &mut graph));
        outputs.iter().for_each(|(name, dims)| write_bytes(12, &value(name, dims), &mut graph));
        let mut bytes = Vec::new();
        write_number(1, 8, &mut bytes);
        let mut opset = Vec::new();
        write_number(2, 17, &mut opset);
        write_bytes(8, &opset, &mut bytes);
        write_bytes(7, &graph, &mut bytes);
        write_bytes(14, &message(&[(1, b"names"), (2, names.as_bytes())]), &mut bytes);
        OnnxFile::parse(bytes, "some/model.onnx".as_ref()).expect("sound")
    }

    /// Outputs by name and shape.
    type Outputs<'a> = &'a [(&'a str, &'a [i64])];

    const IMAGE: (&str, &[i64]) = ("images", &[1, 3, 640, 640]);

    fn drafted(outputs: &[(&str, &[i64])], names: &str) -> (CardDraft, ModelCard) {
        let draft = draft(&model(&[IMAGE], outputs, names), "model.onnx".as_ref()).unwrap_or_else(|error| panic!("{outputs:?}: {error}"));
        let card = ModelCard::parse(&draft.text, "m.toml".as_ref()).expect("a sound card");
        (draft, card)
    }

    #[test]
    fn families_are_recognised_by_names_and_shapes() {
        let scrfd: Vec<(String, Vec<i64>)> =
            [12800, 3200, 800].iter().flat_map(|rows| [1, 4, 10].map(|values| (format!("{rows}x{values}"), vec![*rows, values]))).collect();
        let scrfd: Vec<(&str, &[i64])> = scrfd.iter().map(|(name, dims)| (name.as_str(), dims.as_slice())).collect();
        let cases: [(Outputs<'_>, &str); 14] = [
            (
                &[("537", &[10, 1, 160, 160]), ("538", &[10, 2, 160, 160]), ("539", &[10, 2, 160, 160]), ("540", &[10, 10, 160, 160])],
                "stride = 4.0",
            ),
            (&[("output0", &[1, 84, 8400])], "anchor_free"),
            (&[("output", &[1, 25200, 85])], "objectness = true"),
            (&[("output0", &[1, 56, 8400])], "landmark_values = 3"),
            (&[("output0", &[1, 116, 8400]), ("output1", &[1, 32, 160, 160])], "masks = { prototypes"),
            (&[("output0", &[1, 300, 6])], "suppressed = true"),
            (&[("logits", &[1, 100, 92]), ("pred_boxes", &[1, 100, 4])], "background = 91"),
            (&[("logits", &[1, 300, 80]), ("pred_boxes", &[1, 300, 4]), ("pred_masks", &[1, 300, 160, 160])], "pred_masks"),
            (&[("scores", &[1, 4420, 2]), ("boxes", &[1, 4420, 4])], "background = 0"),
            (&[("logits", &[1, 1000])], "output.classes"),
            (&[("predicted_depth", &[1, 518, 518])], "output.depth"),
            (&[("disparity", &[1, 1, 192, 640])], "values = \"inverse\""),
            (&[("embedding", &[1, 512])], "length = 512"),
            (&scrfd, "anchors = 2"),
        ];
        for (outputs, part) in cases {
            let (draft, card) = drafted(outputs, "");
            assert!(draft.text.contains(part), "{part} is not in:\n{}", draft.text);
            for name in card.output.output_names() {
                assert!(outputs.iter().any(|(known, _)| *known == name), "{name}");
            }
            for unknown in &draft.unknown {
                assert!(draft.text.contains(&format!("# UNKNOWN: {unknown}")));
            }
        }
    }

    #[test]
    fn two_images_and_two_values_are_optical_flow() {
        let inputs: [(&str, &[i64]); 2] = [("image1", &[1, 3, 360, 520]), ("image2", &[1, 3, 360, 520])];
        let file = model(&inputs, &[("flow", &[1, 2, 360, 520])], "");
        let draft = draft(&file, "model.onnx".as_ref()).expect("recognised");
        let card = ModelCard::parse(&draft.text, "m.toml".as_ref()).expect("a sound card");
        assert_eq!((card.input.name.as_deref(), card.input.previous.as_deref()), (Some("image2"), Some("image1")), "{}", draft.text);
        assert_eq!(card.output.output_names(), ["flow"]);
    }

    #[test]
    fn class_names_come_from_the_file() {
        let (draft, card) = drafted(&[("output0", &[1, 6, 8400])], "{0: 'hard hat', 1: \"driver's vest\"}");
        assert_eq!(card.labels, ["hard hat", "driver's vest"], "{}", draft.text);
        let (_, card) = drafted(&[("output0", &[1, 7, 8400])], "{0: 'two', 2: 'odd'}");
        assert_eq!(card.class_count(), 3);
    }

    #[test]
    fn what_is_not_recognised_is_listed() {
        let refused =
            |inputs: &[(&str, &[i64])], outputs: &[(&str, &[i64])]| match draft(&model(inputs, outputs, ""), "model.onnx".as_ref()) {
                Ok(draft) => panic!("{}", draft.text),
                Err(error) => error.to_string(),
            };
        assert!(refused(&[IMAGE], &[("a", &[1, 2, 3, 4, 5])]).contains("'a' float32[1,2,3,4,5]"));
        assert!(refused(&[("tokens", &[1, 77])], &[("a", &[1, 10])]).contains("'tokens' float32[1,77]"));
    }
}
