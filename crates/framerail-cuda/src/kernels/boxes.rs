//! Decodes model outputs to boxes on the device; only boxes that pass thresholds and NMS are copied to the host.
//!
//! Formulas, order and limits match framerail-infer's decoders and framerail-vision's `nms`.

pub use framerail_core::{Activation, BoxForm};
use framerail_core::{BBox, DType, Point};

use super::{HEADERS, Runner, bracketed, run_with};
use crate::{CudaError, CudaStream, DeviceBuffer, DevicePool, KernelSource};

/// The kernels of this file.
pub static SOURCE: KernelSource = KernelSource { name: "boxes", code: include_str!("boxes.cu"), headers: HEADERS };

/// Maximum number of candidates stored per frame. As in `boxes.cu`.
const CAPACITY: usize = 8192;
/// Bytes per candidate.
const CANDIDATE_BYTES: usize = 32;
/// Bytes of counters per frame.
const COUNTER_BYTES: usize = 8;
/// Bytes before a frame's boxes.
const HEADER_BYTES: usize = 16;
/// Bytes per box.
const FOUND_BYTES: usize = 72;

/// Maximum number of landmarks per box.
pub const MAX_LANDMARKS: u32 = 5;

/// Maximum number of boxes per frame that enter NMS, highest score first; the rest is counted. Same value as in framerail-infer.
pub const MAX_CANDIDATES: u32 = 5000;

/// A family of model outputs with its parameters, as in framerail-infer's model cards.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BoxFamily {
    /// SSD, RetinaFace. Tensors: offsets `[batch, anchors, 4]`, scores `[batch, anchors, columns]`, landmarks
    /// `[batch, anchors, 2 · landmarks]` or none, anchors `[anchors, 4]` as centre x, centre y, width, height in model pixels,
    /// always `F32`.
    Anchors {
        /// Number of anchors per frame.
        anchors: u32,
        /// Activation still to be applied to scores.
        activation: Activation,
        /// Column of the background class, which is removed from the class numbering.
        background: Option<u32>,
        /// Factors of the four offsets.
        variances: [f32; 4],
    },
    /// CenterNet, CenterFace. Tensors `[batch, channels, rows, columns]`: scores with one channel per class, sizes with two, offsets
    /// with two or none, landmarks with two per landmark or none.
    Heatmap {
        /// Grid width in cells.
        columns: u32,
        /// Grid height in cells.
        rows: u32,
        /// Distance between cells in model pixels.
        stride: f32,
        /// Position of a cell's origin within the cell.
        cell_origin: f32,
        /// Whether y precedes x in sizes, offsets and landmarks.
        y_first: bool,
        /// Whether sizes are natural logarithms, in cells.
        exponential_size: bool,
    },
    /// YOLO. One tensor, `[batch, values, boxes]` or `[batch, boxes, values]`: four values for the box, objectness if any, one score
    /// per class, then landmarks.
    AnchorFree {
        /// Number of boxes per frame.
        boxes: u32,
        /// Whether the values axis precedes the boxes axis.
        values_first: bool,
        /// Format of the first four values.
        form: BoxForm,
        /// Whether coordinates are normalised to 0..1.
        normalized: bool,
        /// Whether an objectness score follows the box.
        objectness: bool,
        /// Activation still to be applied to scores.
        activation: Activation,
        /// Values per landmark: 2 or 3; 0 without landmarks.
        landmark_values: u32,
    },
}

/// Decodes a model's outputs to boxes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BoxDecoder {
    /// How to read the outputs.
    pub family: BoxFamily,
    /// Width of the model's input in pixels.
    pub input_width: u32,
    /// Height of the model's input in pixels.
    pub input_height: u32,
    /// Number of classes, without the background.
    pub classes: u32,
    /// Landmarks per box, up to [`MAX_LANDMARKS`].
    pub landmarks: u32,
    /// Minimum score of a box (exclusive), 0 to 1.
    pub confidence_threshold: f32,
    /// NMS IoU threshold, 0 to 1: the lower-scored of two boxes that overlap more is dropped.
    pub iou_threshold: f32,
    /// Maximum number of boxes returned per frame, highest score first.
    pub max_detections: u32,
    /// Whether boxes of different classes suppress each other.
    pub class_agnostic: bool,
}

/// Outputs of one batch, given by addresses in the family's order; 0 for absent tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawOutputs {
    /// Addresses of the first elements.
    pub tensors: [u64; 4],
    /// `F16` or `F32`, for all tensors but the anchors.
    pub dtype: DType,
    /// Number of frames.
    pub batch: u32,
}

/// A model's output in device memory.
#[derive(Clone, Copy, Debug)]
pub struct DeviceTensor<'a> {
    /// Its buffer.
    pub buffer: &'a DeviceBuffer,
    /// Byte offset in the buffer.
    pub offset_bytes: usize,
}

/// One box of a frame, in model pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FoundBox {
    /// The box.
    pub bbox: BBox,
    /// Score.
    pub score: f32,
    /// Class.
    pub class: u32,
    /// Index of the score among the frame's scores; breaks ties.
    pub index: u32,
    /// Landmarks; entries beyond [`BoxDecoder::landmarks`] are zero.
    pub landmarks: [Point; MAX_LANDMARKS as usize],
}

/// The boxes of one frame.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FrameBoxes {
    /// Boxes after NMS, highest score first.
    pub boxes: Vec<FoundBox>,
    /// Boxes above the score threshold dropped because the score, box or landmarks are not finite.
    pub non_finite: u32,
    /// Boxes dropped before NMS, beyond [`MAX_CANDIDATES`].
    pub over_limit: u32,
    /// Boxes dropped after NMS, beyond `max_detections`.
    pub over_max_detections: u32,
}

/// Same layout as `BoxesParams` in `boxes.cu`.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Parameters {
    tensors: [u64; 4],
    counters: u64,
    candidates: u64,
    results: u64,
    items: u32,
    columns: u32,
    classes: u32,
    points: u32,
    grid: [u32; 2],
    max_detections: u32,
    background: i32,
    input: [f32; 2],
    confidence: f32,
    iou: f32,
    variances: [f32; 4],
    stride: f32,
    cell_origin: f32,
    family: u8,
    is_half: u8,
    activation: u8,
    form: u8,
    normalized: u8,
    objectness: u8,
    values_first: u8,
    point_values: u8,
    y_first: u8,
    exponential_size: u8,
    class_agnostic: u8,
    unused: [u8; 5],
}

const _: () = assert!(size_of::<Parameters>() == 144);

impl BoxDecoder {
    /// Bytes of a batch's results, the input of [`read_boxes`].
    pub fn result_bytes(&self, batch: u32) -> usize {
        batch as usize * (HEADER_BYTES + self.max_detections as usize * FOUND_BYTES)
    }

    /// Bytes of scratch memory for a batch: counters, zeroed before each use, and candidates.
    pub fn scratch_bytes(batch: u32) -> (usize, usize) {
        (batch as usize * COUNTER_BYTES, batch as usize * CAPACITY * CANDIDATE_BYTES)
    }

    /// Number of elements of each tensor for one frame; 0 for those that this family does not use.
    pub fn elements(&self) -> [usize; 4] {
        let (classes, points) = (self.classes as usize, self.landmarks as usize);
        match self.family {
            BoxFamily::Anchors { anchors, background, .. } => {
                let anchors = anchors as usize;
                let columns = classes + usize::from(background.is_some());
                [anchors.saturating_mul(4), anchors.saturating_mul(columns), anchors.saturating_mul(2 * points), 0]
            }
            BoxFamily::Heatmap { columns, rows, .. } => {
                let cells = (columns as usize).saturating_mul(rows as usize);
                [classes, 2, 2, 2 * points].map(|channels| cells.saturating_mul(channels))
            }
            BoxFamily::AnchorFree { boxes, .. } => [(boxes as usize).saturating_mul(self.values() as usize), 0, 0, 0],
        }
    }

    /// Number of values per anchor-free box.
    fn values(&self) -> u32 {
        match self.family {
            BoxFamily::AnchorFree { objectness, landmark_values, .. } => {
                (4 + u32::from(objectness)).saturating_add(self.classes).saturating_add(self.landmarks.saturating_mul(landmark_values))
            }
            _ => 0,
        }
    }

    fn check(&self, outputs: &RawOutputs) -> Result<(), CudaError> {
        let refuse = |what: String| Err(CudaError::argument(what));
        if self.landmarks > MAX_LANDMARKS || self.classes == 0 {
            return refuse(format!("{} classes and {} landmarks: up to {MAX_LANDMARKS} landmarks", self.classes, self.landmarks));
        }
        let part = |value: f32| (0.0..=1.0).contains(&value);
        if !part(self.confidence_threshold) || !part(self.iou_threshold) {
            return refuse(format!("thresholds of {} and {}: they go from 0 to 1", self.confidence_threshold, self.iou_threshold));
        }
        if self.max_detections == 0 || self.max_detections > MAX_CANDIDATES {
            return refuse(format!("{} detections: from 1 to {MAX_CANDIDATES}", self.max_detections));
        }
        let elements = self.elements();
        // The device indexes scores with 32 bits.
        if elements.iter().any(|count| *count > i32::MAX as usize) || elements[0] == 0 || !matches!(outputs.dtype, DType::F16 | DType::F32)
        {
            return refuse(format!("outputs of {elements:?} elements of {:?} per image", outputs.dtype));
        }
        if outputs.batch == 0 || outputs.batch > 65_535 {
            return refuse(format!("a batch of {}", outputs.batch));
        }
        let makes_sense = match self.family {
            BoxFamily::Anchors { background, .. } => background.is_none_or(|column| column <= self.classes),
            BoxFamily::AnchorFree { landmark_values, .. } => self.landmarks == 0 || (2..=3).contains(&landmark_values),
            BoxFamily::Heatmap { .. } => true,
        };
        if !makes_sense {
            return refuse(format!("{:?} for {} classes and {} landmarks", self.family, self.classes, self.landmarks));
        }
        let needed: [bool; 4] = match self.family {
            BoxFamily::Anchors { .. } => [true, true, self.landmarks > 0, true],
            BoxFamily::Heatmap { .. } => [true, true, false, self.landmarks > 0],
            BoxFamily::AnchorFree { .. } => [true, false, false, false],
        };
        if needed.iter().zip(outputs.tensors).any(|(needed, address)| *needed && address == 0) {
            return refuse(format!("{:?} lacks one of its outputs", self.family));
        }
        Ok(())
    }

    fn parameters(&self, outputs: &RawOutputs) -> Parameters {
        let mut parameters = Parameters {
            tensors: outputs.tensors,
            classes: self.classes,
            points: self.landmarks,
            max_detections: self.max_detections,
            background: -1,
            input: [self.input_width as f32, self.input_height as f32],
            confidence: self.confidence_threshold,
            iou: self.iou_threshold,
            is_half: (outputs.dtype == DType::F16).into(),
            class_agnostic: self.class_agnostic.into(),
            ..Parameters::default()
        };
        let activation = |activation: Activation| match activation {
            Activation::None => 0,
            Activation::Sigmoid => 1,
            Activation::Softmax => 2,
        };
        match self.family {
            BoxFamily::Anchors { anchors, activation: kind, background, variances } => {
                (parameters.items, parameters.columns) = (anchors, self.classes + u32::from(background.is_some()));
                parameters.background = background.map_or(-1, |column| column as i32);
                (parameters.activation, parameters.variances) = (activation(kind), variances);
            }
            BoxFamily::Heatmap { columns, rows, stride, cell_origin, y_first, exponential_size } => {
                (parameters.family, parameters.items, parameters.grid) = (1, columns * rows * self.classes, [columns, rows]);
                (parameters.stride, parameters.cell_origin) = (stride, cell_origin);
                (parameters.y_first, parameters.exponential_size) = (y_first.into(), exponential_size.into());
            }
            BoxFamily::AnchorFree { boxes, values_first, form, normalized, objectness, activation: kind, landmark_values } => {
                (parameters.family, parameters.items, parameters.columns) = (2, boxes, self.values());
                parameters.form = match form {
                    BoxForm::Xyxy => 0,
                    BoxForm::Yxyx => 1,
                    BoxForm::Cxcywh => 2,
                    BoxForm::Xywh => 3,
                };
                (parameters.values_first, parameters.normalized) = (values_first.into(), normalized.into());
                (parameters.objectness, parameters.activation) = (objectness.into(), activation(kind));
                parameters.point_values = landmark_values as u8;
            }
        }
        parameters
    }
}

/// Decodes, thresholds, sorts and suppresses the boxes of a batch. Returns the results in device memory.
///
/// `tensors` are those of the family, dense; `None` for absent ones. Download the results and pass them to [`read_boxes`].
///
/// # Errors
/// `BadArgument` for tensors that are too short, `OutOfMemory`, `Compile`, `Driver`.
pub fn decode_boxes(
    stream: &CudaStream,
    pool: &DevicePool,
    decoder: &BoxDecoder,
    tensors: [Option<DeviceTensor<'_>>; 4],
    dtype: DType,
    batch: u32,
) -> Result<DeviceBuffer, CudaError> {
    let mut outputs = RawOutputs { tensors: [0; 4], dtype, batch };
    for (index, (tensor, elements)) in tensors.iter().zip(decoder.elements()).enumerate() {
        let Some(tensor) = tensor else { continue };
        let need = match (decoder.family, index) {
            (BoxFamily::Anchors { anchors, .. }, 3) => anchors as usize * 16,
            _ => elements.saturating_mul(batch as usize).saturating_mul(dtype.size_bytes()),
        };
        if tensor.offset_bytes.checked_add(need).is_none_or(|end| end > tensor.buffer.len()) || tensor.offset_bytes % 4 != 0 {
            let (have, at) = (tensor.buffer.len(), tensor.offset_bytes);
            return Err(CudaError::argument(format!("output {index} of {need} bytes at {at} in a buffer of {have}")));
        }
        outputs.tensors[index] = tensor.buffer.address() + tensor.offset_bytes as u64;
    }
    decoder.check(&outputs)?;
    let (counter_bytes, candidate_bytes) = BoxDecoder::scratch_bytes(batch);
    let (counters, candidates) = (pool.buffer(counter_bytes)?, pool.buffer(candidate_bytes)?);
    let results = pool.buffer(decoder.result_bytes(batch))?;
    counters.fill(0, stream)?;
    let scratch = RawScratch { counters: counters.address(), candidates: candidates.address() };
    let read = tensors.iter().flatten().map(|tensor| tensor.buffer);
    bracketed(stream, read, [&counters, &candidates, &results], || {
        // SAFETY: live buffers of checked size, bracketed by their events.
        unsafe { decode_boxes_raw(stream, decoder, &outputs, &scratch, results.address()) }
    })?;
    Ok(results)
}

/// Scratch memory given by addresses; see [`BoxDecoder::scratch_bytes`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawScratch {
    /// Counters, zeroed.
    pub counters: u64,
    /// Candidates; any contents.
    pub candidates: u64,
}

/// [`decode_boxes`] for memory outside this crate's buffers.
///
/// # Safety
/// Outputs are live until the work is done and hold [`BoxDecoder::elements`] for each frame; scratch memory and results have
/// the sizes given by the decoder, start at multiples of 16, and are ordered with their other uses.
///
/// # Errors
/// `BadArgument` for settings out of range, `Compile`, `Driver`.
pub unsafe fn decode_boxes_raw(
    runner: &dyn Runner,
    decoder: &BoxDecoder,
    outputs: &RawOutputs,
    scratch: &RawScratch,
    results: u64,
) -> Result<(), CudaError> {
    decoder.check(outputs)?;
    let mut parameters = decoder.parameters(outputs);
    (parameters.counters, parameters.candidates, parameters.results) = (scratch.counters, scratch.candidates, results);
    let grid = (parameters.items.div_ceil(256), outputs.batch, 1);
    // SAFETY: guaranteed by the caller.
    unsafe {
        run_with(runner, &SOURCE, "find_candidates", (grid, (256, 1, 1)), &parameters)?;
        run_with(runner, &SOURCE, "suppress", ((outputs.batch, 1, 1), (1024, 1, 1)), &parameters)
    }
}

/// Parses the downloaded results of a batch.
///
/// # Errors
/// `BadArgument` when there are fewer bytes than [`BoxDecoder::result_bytes`].
pub fn read_boxes(decoder: &BoxDecoder, batch: u32, bytes: &[u8]) -> Result<Vec<FrameBoxes>, CudaError> {
    let need = decoder.result_bytes(batch);
    let bytes = bytes.get(..need).ok_or_else(|| CudaError::argument(format!("{} bytes of results, {need} are needed", bytes.len())))?;
    Ok(bytes.chunks_exact(decoder.result_bytes(1)).map(boxes_of_frame).collect())
}

fn boxes_of_frame(bytes: &[u8]) -> FrameBoxes {
    let (header, boxes) = bytes.split_at(HEADER_BYTES.min(bytes.len()));
    let [count, non_finite, over_limit, over_max_detections] = words(header);
    let boxes = boxes.chunks_exact(FOUND_BYTES).take(count as usize).map(read_box).collect();
    FrameBoxes { boxes, non_finite, over_limit, over_max_detections }
}

/// The first 32-bit words; zeros where data is missing.
fn words<const N: usize>(bytes: &[u8]) -> [u32; N] {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    words
}

fn read_box(bytes: &[u8]) -> FoundBox {
    let words: [u32; FOUND_BYTES / 4] = words(bytes);
    let [x1, y1, x2, y2, score, ..] = words.map(f32::from_bits);
    let [_, _, _, _, _, class, index, points @ .., _] = words;
    let mut landmarks = [Point::default(); MAX_LANDMARKS as usize];
    for (landmark, [x, y]) in landmarks.iter_mut().zip(points.as_chunks::<2>().0) {
        *landmark = Point { x: f32::from_bits(*x), y: f32::from_bits(*y) };
    }
    FoundBox { bbox: BBox::from_xyxy(x1, y1, x2, y2), score, class, index, landmarks }
}
