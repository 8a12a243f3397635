//! Card and ONNX file: found, checked against each other, ready for sessions.

use std::{
    borrow::Cow,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use framerail_core::{Label, TensorLayout};
use sha2::{Digest, Sha256};

use crate::{
    InferError, Precision,
    card::{CardFile, ModelCard},
    element::Element,
    more_inputs::MoreInputs,
    onnx::{Declared, Dim, HalfEnds, HalfModel, InputShape, OnnxFile, elem_type_name, to_half},
    search::SearchPath,
    size::InputSize,
};

/// Axes of an image: its rows, columns and channels.
pub(crate) const PICTURE_AXES: usize = 3;

/// A card with its model file, checked.
pub(crate) struct Model {
    pub(crate) card: ModelCard,
    /// The card's name, as attributes carry it.
    pub(crate) name: Arc<str>,
    pub(crate) labels: Vec<Label>,
    pub(crate) prepare: bool,
    /// Type of the image input's elements, as the file declares it.
    pub(crate) input_element: Element,
    /// The inputs other than the image.
    pub(crate) more: MoreInputs,
    /// The image input for the frame before.
    pub(crate) previous: Option<String>,
    file: OnnxFile,
    /// The card's path; `None` for a built-in one.
    card_path: Option<PathBuf>,
    /// The card's TOML.
    pub(crate) text: String,
    input_name: String,
    /// Whether the image input has a batch axis; without it, a run takes one image.
    has_batch: bool,
    /// The batch size that an unprepared model requires.
    declared_batch: Option<usize>,
}

impl Model {
    pub(crate) fn load(name: &str, precision: Precision, prepare: Option<bool>, search: &SearchPath) -> Result<Self, InferError> {
        let (found, file) = find(name, precision, search)?;
        Self::new(found, file, prepare)
    }

    /// The float32 model that decides where this one is in doubt; `None` if the card has no margin.
    pub(crate) fn float(&self, search: &SearchPath) -> Result<Option<Self>, InferError> {
        let float_file = self.card.float_file.clone().filter(|_| self.card.recheck_margin > 0.0);
        let Some(float_file) = float_file else { return Ok(None) };
        let mut card = self.card.clone();
        (card.file, card.sha256, card.precision) = (float_file, card.quantized_from.take(), Precision::Fp32);
        (card.recheck_margin, card.float_file) = (0.0, None);
        let file = OnnxFile::read(&find_file(&card, self.card_path.as_deref(), search)?)?;
        let found = CardFile { card, path: self.card_path.clone(), text: self.text.clone() };
        Self::new(found, file, Some(self.prepare)).map(Some)
    }

    fn new(CardFile { card, path, text }: CardFile, file: OnnxFile, prepare: Option<bool>) -> Result<Self, InferError> {
        check_hash(&card, &file)?;
        let mismatch = |reason: String| InferError::ModelMismatch { path: file.path().to_owned(), reason };
        let input = image_input(&card, &file).map_err(mismatch)?;
        let input_element = image_element(&card, input).map_err(mismatch)?;
        let previous = card.input.previous.clone();
        if let Some(name) = &previous {
            check_previous(name, input, &file).map_err(mismatch)?;
        }
        let is_image = |other: &Declared| other.name == input.name || previous.as_ref() == Some(&other.name);
        let others: Vec<&Declared> = file.inputs().iter().filter(|other| !is_image(other)).collect();
        let more = MoreInputs::new(&card.input, &others, file.optional_inputs()).map_err(mismatch)?;
        card.output.expected(&card).iter().try_for_each(|expected| expected.check(file.outputs())).map_err(mismatch)?;
        let prepare = prepare.unwrap_or(card.prepare);
        let declared_batch = input.dims.as_ref().filter(|dims| dims.len() > PICTURE_AXES).and_then(|dims| fixed(dims.first()));
        Ok(Self {
            labels: card.label_list(),
            name: Arc::from(card.name.as_str()),
            prepare,
            input_element,
            more,
            previous,
            input_name: input.name.clone(),
            text,
            has_batch: input.dims.as_ref().is_none_or(|dims| dims.len() > PICTURE_AXES),
            declared_batch: if prepare { None } else { declared_batch },
            card,
            file,
            card_path: path,
        })
    }

    /// The files from which it was loaded: the card, the ONNX file, and those with its weights.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let weights = self.file.external_files().iter().map(PathBuf::as_path);
        self.card_path.as_deref().into_iter().chain([self.file.path()]).chain(weights)
    }

    /// Frames per run: as requested, or as an unprepared model requires.
    pub(crate) fn batch(&self, asked: usize) -> Result<usize, InferError> {
        let refused = |reason: String| Err(InferError::Option { option: "batch", given: asked.to_string(), reason });
        match (self.declared_batch, self.more.for_one_image()) {
            (Some(declared), _) if declared != asked => {
                refused(format!("this model only supports batches of {declared}; set prepare = true, or export it with a dynamic batch"))
            }
            (_, Some(input)) if asked > 1 => {
                refused(format!("input '{input}' of this model holds the values of one image; use 1, or export it with a dynamic batch"))
            }
            _ if asked > 1 && self.previous.is_some() => refused("this model compares each frame with the one before it; use 1".into()),
            _ if asked > 1 && !self.has_batch => refused("this model takes one image, without a batch axis; use 1".into()),
            _ => Ok(asked),
        }
    }

    /// The input's shape for a size. The batch axis, if there is one, is fixed for a batch of one, which is faster, and open for more.
    pub(crate) fn shape(&self, size: InputSize, batch: usize) -> InputShape {
        let (width, height) = (Some(u64::from(size.width)), Some(u64::from(size.height)));
        let channels = Some(self.card.input.channel_order().channels() as u64);
        let first = if batch == 1 { Some(1) } else { None };
        let image = match self.card.input.layout {
            TensorLayout::Tchw => [channels, height, width],
            TensorLayout::Thwc => [height, width, channels],
        };
        let dims = self.has_batch.then_some(first).into_iter().chain(image).collect();
        InputShape { name: self.input_name.clone(), dims }
    }

    /// The image input's shape, followed by those of the other inputs.
    fn with_more(&self, shape: &InputShape) -> Vec<InputShape> {
        let sides = match (self.card.input.layout, shape.dims.as_slice()) {
            (TensorLayout::Tchw, [.., height, width]) | (TensorLayout::Thwc, [.., height, width, _]) => [*width, *height],
            _ => [None; 2],
        };
        let [width, height] = sides.map(|side| side.and_then(|side| u32::try_from(side).ok()).unwrap_or(1));
        let batch = if self.has_batch { shape.dims.first().copied().flatten() } else { Some(1) };
        let previous = self.previous.iter().map(|name| InputShape { name: name.clone(), dims: shape.dims.clone() });
        std::iter::once(shape.clone()).chain(previous).chain(self.more.shapes(InputSize { width, height }, batch)).collect()
    }

    /// The model's bytes for a session in float32: prepared, unless the card disables that.
    pub(crate) fn bytes(&self, shape: &InputShape) -> Result<Cow<'_, [u8]>, InferError> {
        if !self.prepare {
            return Ok(self.file.bytes().into());
        }
        Ok(self.file.prepared(&self.with_more(shape), &self.card.output.output_names())?.into())
    }

    /// SHA-256 of the file in hex.
    pub(crate) fn digest(&self) -> Result<String, InferError> {
        hex_digest(&self.file)
    }

    /// The model's bytes with the sizes open that the model card leaves open: for tools that write another model.
    pub(crate) fn open_bytes(&self) -> Result<Cow<'_, [u8]>, InferError> {
        let input = &self.card.input;
        let fixed = input.default_size().filter(|_| input.multiple_of.is_none());
        let mut shape = self.shape(fixed.unwrap_or(InputSize { width: 1, height: 1 }), 2);
        if fixed.is_none() {
            let first = usize::from(self.has_batch);
            let sides = match input.layout {
                TensorLayout::Tchw => first + 1..first + 3,
                TensorLayout::Thwc => first..first + 2,
            };
            shape.dims.get_mut(sides).unwrap_or_default().fill(None);
        }
        self.bytes(&shape)
    }

    /// The model's bytes for a session in float16.
    pub(crate) fn half_bytes(&self, shape: &InputShape, ends: HalfEnds<'_>) -> Result<HalfModel, InferError> {
        let half = to_half(&self.bytes(shape)?, self.file.opset(), ends).map_err(|reason| InferError::Option {
            option: "precision",
            given: "fp16".into(),
            reason: format!("model {} cannot run with this precision: {reason}; leave precision out", self.card.name),
        })?;
        if half.clamped > 0 {
            log::warn!("model {}: {} weights exceed the range of float16 and were clamped", self.card.name, half.clamped);
        }
        Ok(half)
    }
}

fn find_file(card: &ModelCard, card_path: Option<&Path>, search: &SearchPath) -> Result<PathBuf, InferError> {
    // A card without folder lies in the working directory: its parent is the empty path.
    let folder = card_path.and_then(Path::parent).map(|folder| if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
    let looked = search.model_files(&card.file, folder);
    looked.iter().find(|path| path.exists()).cloned().ok_or_else(|| {
        let hint = match card_path {
            None if card.sha256.is_some() => "run `make setup`, which installs it, or set FRAMERAIL_MODELS to its folder".to_owned(),
            None => format!("set FRAMERAIL_MODELS to its folder; it comes from: {}", card.source),
            Some(_) => format!("put it beside the card or set FRAMERAIL_MODELS to its folder; it comes from: {}", card.source),
        };
        InferError::Missing { what: format!("model file {}", card.file.display()), looked, hint }
    })
}

/// Card and file for a precision: for `int8` those of the quantised model beside the named one.
fn find(name: &str, precision: Precision, search: &SearchPath) -> Result<(CardFile, OnnxFile), InferError> {
    let found = CardFile::find(name, search)?;
    let file = OnnxFile::read(&find_file(&found.card, found.path.as_deref(), search)?)?;
    match (precision, found.card.is_quantised()) {
        (Precision::Auto, _) | (Precision::Int8, true) | (Precision::Fp32 | Precision::Fp16 | Precision::Bf16, false) => {
            return Ok((found, file));
        }
        (Precision::Fp32 | Precision::Fp16 | Precision::Bf16, true) => {
            let reason = format!("model {name} is quantised to int8; name the model that it was made from, or leave precision out");
            return Err(InferError::Option { option: "precision", given: precision.to_string(), reason });
        }
        (Precision::Int8, false) => {}
    }
    let quantised = found.quantised(name, file.path(), search)?;
    let made_from = quantised.card.quantized_from.as_deref();
    if made_from.is_some_and(|made_from| hex_digest(&file).is_ok_and(|digest| !digest.eq_ignore_ascii_case(made_from))) {
        let path = quantised.path.unwrap_or_default();
        let reason = format!("was made from another file than {}; run `framerail quantize {name}` again", file.path().display());
        return Err(InferError::Card { path, line: None, reason });
    }
    let file = OnnxFile::read(&find_file(&quantised.card, quantised.path.as_deref(), search)?)?;
    Ok((quantised, file))
}

fn check_hash(card: &ModelCard, file: &OnnxFile) -> Result<(), InferError> {
    let Some(expected) = &card.sha256 else { return Ok(()) };
    let found = hex_digest(file)?;
    if found.eq_ignore_ascii_case(expected) {
        return Ok(());
    }
    let reason =
        format!("its sha256 is {found}, the model card states {expected}; fetch the file that the card names, or correct the card");
    Err(InferError::ModelFile { path: file.path().to_owned(), reason })
}

fn hex_digest(file: &OnnxFile) -> Result<String, InferError> {
    Ok(digest(file)?.into_iter().map(|byte| format!("{byte:02x}")).collect())
}

/// SHA-256 of the ONNX file, followed by the files with its weights, if there are any.
fn digest(file: &OnnxFile) -> Result<impl IntoIterator<Item = u8>, InferError> {
    if file.external_files().is_empty() {
        return Ok(Sha256::digest(file.bytes()));
    }
    let mut hasher = Sha256::new();
    for path in std::iter::once(file.path()).chain(file.external_files().iter().map(PathBuf::as_path)) {
        let unread = |error| InferError::ModelFile { path: path.to_owned(), reason: format!("cannot be read: {error}") };
        let mut reader = std::fs::File::open(path).map_err(unread)?;
        let mut chunk = vec![0; 1 << 20];
        loop {
            match reader.read(&mut chunk).map_err(unread)? {
                0 => break,
                read => hasher.update(chunk.get(..read).unwrap_or_default()),
            }
        }
    }
    Ok(hasher.finalize())
}

/// The image input: the one that the card names, else the only one that it does not fill. It must have the shape that the card
/// describes.
fn image_input<'a>(card: &ModelCard, file: &'a OnnxFile) -> Result<&'a Declared, String> {
    let names = || file.inputs().iter().map(Declared::to_string).collect::<Vec<_>>().join(", ");
    let input = match (&card.input.name, file.inputs()) {
        (_, []) => return Err("it has no input".into()),
        (Some(name), inputs) => inputs
            .iter()
            .find(|input| input.name == *name)
            .ok_or_else(|| format!("input '{name}' is not in the model; it has: {}", names()))?,
        (None, inputs) => {
            let is_open =
                |input: &&Declared| !card.input.more.contains_key(&input.name) && card.input.previous.as_ref() != Some(&input.name);
            let mut open = inputs.iter().filter(is_open);
            match (open.next(), open.next()) {
                (Some(only), None) => only,
                (None, _) => {
                    return Err(format!("[input.more] of the model card fills all inputs, and none is left for images: {}", names()));
                }
                (Some(_), Some(_)) => {
                    let count = inputs.len();
                    return Err(format!("it has {count} inputs; set input.name in the model card to the image input: {}", names()));
                }
            }
        }
    };
    let Some(dims) = &input.dims else { return Ok(input) };
    let channels = card.input.channel_order().channels();
    let (axis, layout) = match card.input.layout {
        TensorLayout::Tchw => (0, "batch, channels, rows, columns"),
        TensorLayout::Thwc => (2, "batch, rows, columns, channels"),
    };
    let before = dims.len().checked_sub(PICTURE_AXES).filter(|before| *before <= 1);
    let before =
        before.ok_or_else(|| format!("input {input} has {} axes; the card describes 4 ({layout}), or 3 without the batch", dims.len()))?;
    match fixed(dims.get(before + axis)) {
        Some(declared) if declared != channels => {
            return Err(format!("input {input} has {declared} channels; the card describes {channels}: {layout}"));
        }
        _ => {}
    }
    let (row_axis, column_axis) = match card.input.layout {
        TensorLayout::Tchw => (1, 2),
        TensorLayout::Thwc => (0, 1),
    };
    let declared = (fixed(dims.get(before + column_axis)), fixed(dims.get(before + row_axis)));
    if let (Some(size), (Some(width), Some(height)), None) = (card.input.default_size(), declared, card.input.multiple_of)
        && (size.width as usize, size.height as usize) != (width, height)
    {
        return Err(format!(
            "input {input} is {width}x{height} pixels and the model card states {size}, so boxes would be wrong; correct width and height, \
             or set multiple_of if the model supports other sizes"
        ));
    }
    Ok(input)
}

/// The element type of the image input, if images can be written in it as the card describes.
fn image_element(card: &ModelCard, input: &Declared) -> Result<Element, String> {
    let element = Element::of_declared(input.elem_type).filter(|element| element.image_dtype().is_some());
    let Some(element) = element else {
        let (name, found) = (&input.name, elem_type_name(input.elem_type));
        return Err(format!("input '{name}' has type {found}; images are float32, float16 or uint8; export the model with one of these"));
    };
    if element == Element::U8
        && let Some((from, to)) = card.input.range_beyond_bytes()
    {
        return Err(format!(
            "input '{}' takes uint8, but the card's scale, mean and std turn 0 to 255 into {from} to {to}, which uint8 cannot hold; the \
             model scales its input itself, so leave scale, mean and std out",
            input.name
        ));
    }
    Ok(element)
}

/// Checks that the input for the frame before is like the image input.
fn check_previous(name: &str, image: &Declared, file: &OnnxFile) -> Result<(), String> {
    let names = || file.inputs().iter().map(Declared::to_string).collect::<Vec<_>>().join(", ");
    let found = file.inputs().iter().find(|input| input.name == name);
    let found = found.ok_or_else(|| format!("input.previous '{name}' is not in the model; it has: {}", names()))?;
    let axes = |input: &Declared| input.dims.as_ref().map(Vec::len);
    let sizes = |input: &Declared| input.dims.iter().flatten().map(|dim| fixed(Some(dim))).collect::<Vec<_>>();
    let is_alike =
        found.name != image.name && found.elem_type == image.elem_type && axes(found) == axes(image) && sizes(found) == sizes(image);
    is_alike.then_some(()).ok_or_else(|| format!("input.previous {found} must be another input like {image}"))
}

fn fixed(dim: Option<&Dim>) -> Option<usize> {
    match dim {
        Some(Dim::Fixed(size)) => usize::try_from(*size).ok().filter(|size| *size > 0),
        _ => None,
    }
}
