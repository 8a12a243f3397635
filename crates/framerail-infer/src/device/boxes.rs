//! Decodes a model's outputs on the GPU: translates cards to the kernels' parameters.

use framerail_core::{DType, Point};
use framerail_cuda::{
    CudaError, CudaStream, DeviceBuffer, DevicePool, Download,
    kernels::boxes::{self, BoxDecoder, BoxFamily, DeviceTensor, FrameBoxes, MAX_CANDIDATES, MAX_LANDMARKS, decode_boxes, read_boxes},
};

use super::{memory::DeviceMemory, session::Declared};
use crate::{
    ModelCard, Thresholds,
    binding::BoundTensor,
    decode::{
        AnchorFreeCard, AnchorsCard, Candidate, HeatmapCard, OutputCard,
        anchor_free::ValueOrder,
        anchors::Anchors,
        heatmap::{AxisOrder, SizeCoding},
    },
    element::Element,
    size::InputSize,
};

/// Decodes the outputs of one input size on the GPU.
pub(super) struct GpuBoxes {
    decoder: BoxDecoder,
    /// The family's outputs by name, in the kernels' order.
    names: [Option<String>; 4],
    dtype: DType,
    batch: u32,
    anchors: Option<DeviceBuffer>,
}

/// Boxes of a run being copied to the host.
pub(super) struct Pending {
    download: Download,
    decoder: BoxDecoder,
    items: u32,
}

/// Whether outputs of this card can be decoded on the GPU; otherwise the reason.
pub(super) fn can_decode(card: &ModelCard, max_detections: usize) -> Result<(), String> {
    match &card.output {
        OutputCard::Boxes(_) => return Err("its boxes are final".into()),
        OutputCard::Strides(_) => return Err("its boxes come in a grid for each stride".into()),
        OutputCard::AnchorFree(free) if free.masks.is_some() => return Err("its boxes have masks".into()),
        OutputCard::AnchorFree(free) if free.angle => return Err("its boxes are rotated".into()),
        OutputCard::Heatmap(_) | OutputCard::Anchors(_) | OutputCard::AnchorFree(_) => {}
        other => return Err(format!("it is a model for {}", other.task())),
    }
    if card.landmarks.len() > MAX_LANDMARKS as usize {
        return Err(format!("it has {} landmarks, more than {MAX_LANDMARKS}", card.landmarks.len()));
    }
    if max_detections > MAX_CANDIDATES as usize {
        return Err(format!("max_detections is above {MAX_CANDIDATES}"));
    }
    Ok(())
}

impl GpuBoxes {
    /// The decoder for outputs as the session declares them, or the reason why there is none.
    pub(super) fn new(
        card: &ModelCard,
        (size, batch): (InputSize, usize),
        outputs: &[Declared],
        memory: &DeviceMemory,
    ) -> Result<Self, String> {
        let (family, names) = match &card.output {
            OutputCard::Anchors(anchors) => (anchors_family(anchors, card, size)?, anchor_names(anchors)),
            OutputCard::Heatmap(heatmap) => (heatmap_family(heatmap, outputs)?, heatmap_names(heatmap)),
            OutputCard::AnchorFree(free) => (free_family(free, outputs)?, [Some(free.output.clone()), None, None, None]),
            other => return Err(format!("the GPU has no decoder for models for {}", other.task())),
        };
        let number = |count: usize| u32::try_from(count).map_err(|_| "it is too large".to_owned());
        let decoder = BoxDecoder {
            family,
            input_width: size.width,
            input_height: size.height,
            classes: number(card.class_count())?,
            landmarks: number(card.landmarks.len())?,
            // Each run sets its own.
            confidence_threshold: 1.0,
            iou_threshold: 1.0,
            max_detections: 1,
            class_agnostic: false,
        };
        let batch = number(batch)?;
        let dtype = check(&decoder, &names, outputs, batch)?;
        let anchors = match &card.output {
            OutputCard::Anchors(anchors) => Some(upload_anchors(&Anchors::new(anchors, card, size), &memory.pool, &memory.stream)?),
            _ => None,
        };
        Ok(Self { decoder, names, dtype, batch, anchors })
    }

    /// Queues the decoding of a batch, and the copy of the results of its first `items` images to the host.
    pub(super) fn queue(
        &self,
        outputs: &[BoundTensor],
        items: usize,
        thresholds: &Thresholds,
        DeviceMemory { pool, pinned, stream }: &DeviceMemory,
    ) -> Result<Pending, CudaError> {
        let decoder = BoxDecoder {
            confidence_threshold: thresholds.exclusive_confidence(),
            iou_threshold: thresholds.iou,
            max_detections: u32::try_from(thresholds.max_detections).unwrap_or(u32::MAX).min(MAX_CANDIDATES),
            class_agnostic: thresholds.class_agnostic,
            ..self.decoder
        };
        let items = u32::try_from(items).unwrap_or(u32::MAX).min(self.batch);
        let mut tensors = [None; 4];
        for (tensor, name) in tensors.iter_mut().zip(&self.names) {
            let output = name.as_ref().and_then(|name| outputs.iter().find(|output| output.name == *name));
            *tensor = output.and_then(|output| output.memory.device()).map(|buffer| DeviceTensor { buffer, offset_bytes: 0 });
        }
        if let (Some(anchors), [.., last]) = (&self.anchors, &mut tensors) {
            *last = Some(DeviceTensor { buffer: anchors, offset_bytes: 0 });
        }
        // Whole batches always, so that its memory is of one size.
        let results = decode_boxes(stream, pool, &decoder, tensors, self.dtype, self.batch)?;
        let download = Download::queue(&results, 0, decoder.result_bytes(items), pinned, stream)?;
        Ok(Pending { download, decoder, items })
    }
}

impl Pending {
    /// Waits, and returns the boxes of each image, best first, in model pixels.
    pub(super) fn finish(self) -> Result<Vec<FrameBoxes>, CudaError> {
        let bytes = self.download.wait()?;
        read_boxes(&self.decoder, self.items, bytes.bytes())
    }

    /// Converts a box to this crate's type.
    pub(super) fn candidate(found: &boxes::FoundBox, landmarks: usize) -> Candidate {
        let landmarks: Vec<Point> = found.landmarks.iter().copied().take(landmarks).collect();
        Candidate { bbox: found.bbox, score: found.score, class: found.class as usize, landmarks, row: 0 }
    }
}

fn find<'a>(outputs: &'a [Declared], name: &str) -> Result<&'a Declared, String> {
    outputs.iter().find(|output| output.name == name).ok_or_else(|| format!("output '{name}' is missing"))
}

/// The last axes of an output.
fn dims<const N: usize>(outputs: &[Declared], name: &str) -> Result<[u32; N], String> {
    let open = || format!("the shape of output '{name}' is not known before it runs");
    let dims = find(outputs, name)?.dims.as_deref().ok_or_else(open)?;
    let last = dims.len().checked_sub(N).and_then(|first| dims.get(first..)).ok_or_else(open)?;
    let mut found = [0; N];
    for (found, dim) in found.iter_mut().zip(last) {
        *found = u32::try_from(*dim).map_err(|_| open())?;
    }
    Ok(found)
}

/// Whether every output has the elements that the kernels read, in one type.
fn check(decoder: &BoxDecoder, names: &[Option<String>; 4], outputs: &[Declared], batch: u32) -> Result<DType, String> {
    let mut dtype = None;
    for (name, elements) in names.iter().zip(decoder.elements()) {
        let Some(name) = name else { continue };
        let output = find(outputs, name)?;
        let dims = output.dims.as_deref().ok_or_else(|| format!("the shape of output '{name}' is not known before it runs"))?;
        let item = dims.iter().skip(1).try_fold(1_usize, |product, dim| product.checked_mul(usize::try_from(*dim).ok()?));
        if item != Some(elements) || dims.first() != Some(&i64::from(batch)) {
            return Err(format!("output '{name}' is {dims:?}; the card needs {elements} values for each of {batch} images"));
        }
        let element = output.element.filter(|element| matches!(element, Element::F16 | Element::F32));
        let element = element.ok_or_else(|| format!("output '{name}' has an element type that the GPU does not decode"))?;
        if dtype.is_some_and(|known| known != element) {
            return Err("its outputs are of several types".into());
        }
        dtype = Some(element);
    }
    dtype.and_then(Element::image_dtype).ok_or_else(|| "it has no outputs".into())
}

fn anchors_family(anchors: &AnchorsCard, card: &ModelCard, size: InputSize) -> Result<BoxFamily, String> {
    let count = Anchors::new(anchors, card, size).count();
    Ok(BoxFamily::Anchors {
        anchors: u32::try_from(count).map_err(|_| "it has too many anchors".to_owned())?,
        activation: anchors.activation,
        background: anchors.background,
        variances: anchors.variances,
    })
}

fn anchor_names(anchors: &AnchorsCard) -> [Option<String>; 4] {
    [Some(anchors.boxes.clone()), Some(anchors.scores.clone()), anchors.landmarks.clone(), None]
}

fn upload_anchors(anchors: &Anchors, pool: &DevicePool, stream: &CudaStream) -> Result<DeviceBuffer, String> {
    let bytes: Vec<u8> = anchors.places().flatten().flat_map(f32::to_le_bytes).collect();
    let upload = || {
        let buffer = pool.buffer(bytes.len())?;
        buffer.upload(0, &bytes, stream)?;
        Ok::<_, CudaError>(buffer)
    };
    upload().map_err(|error| error.to_string())
}

fn heatmap_family(heatmap: &HeatmapCard, outputs: &[Declared]) -> Result<BoxFamily, String> {
    let [rows, columns] = dims(outputs, &heatmap.heatmap)?;
    Ok(BoxFamily::Heatmap {
        columns,
        rows,
        stride: heatmap.stride,
        cell_origin: heatmap.cell_origin,
        y_first: heatmap.axes == AxisOrder::Yx,
        exponential_size: heatmap.size_coding == SizeCoding::Exp,
    })
}

fn heatmap_names(heatmap: &HeatmapCard) -> [Option<String>; 4] {
    [Some(heatmap.heatmap.clone()), Some(heatmap.size.clone()), heatmap.offset.clone(), heatmap.landmarks.clone()]
}

fn free_family(free: &AnchorFreeCard, outputs: &[Declared]) -> Result<BoxFamily, String> {
    let [first, second] = dims(outputs, &free.output)?;
    let values_first = free.order == ValueOrder::ValuesFirst;
    Ok(BoxFamily::AnchorFree {
        boxes: if values_first { second } else { first },
        values_first,
        form: free.form,
        normalized: free.normalized,
        objectness: free.objectness,
        activation: free.activation,
        landmark_values: free.landmark_values as u32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Activation;

    const SIZE: InputSize = InputSize { width: 300, height: 300 };

    fn output(name: &str, element: Element, dims: &[i64]) -> Declared {
        Declared { name: name.into(), element: Some(element), dims: Some(dims.to_vec()) }
    }

    #[test]
    fn ssd300_reads_what_torchvision_gives() {
        let card = ModelCard::parse(include_str!("../../cards/ssd300.toml"), "ssd300.toml".as_ref()).expect("own card");
        let OutputCard::Anchors(anchors) = &card.output else { unreachable!("the card names anchors") };
        let family = anchors_family(anchors, &card, SIZE).expect("few anchors");
        let BoxFamily::Anchors { anchors: count, background, activation, .. } = family else { unreachable!("anchors") };
        assert_eq!((count, background, activation), (8732, Some(0), Activation::Softmax));
        let decoder = BoxDecoder {
            family,
            input_width: 300,
            input_height: 300,
            classes: card.class_count() as u32,
            landmarks: 0,
            confidence_threshold: 0.4,
            iou_threshold: 0.45,
            max_detections: 200,
            class_agnostic: false,
        };
        let names = anchor_names(anchors);
        let outputs =
            |scores| [output("bbox_regression", Element::F16, &[32, 8732, 4]), output("cls_logits", Element::F16, &[32, 8732, scores])];
        assert_eq!(check(&decoder, &names, &outputs(91), 32), Ok(DType::F16));
        let error = check(&decoder, &names, &outputs(90), 32).expect_err("a column is missing");
        assert!(error.contains("'cls_logits' is [32, 8732, 90]"), "{error}");
        assert!(check(&decoder, &names, &outputs(91), 8).is_err(), "another batch");
        let [boxes, mut scores] = outputs(91);
        scores.element = Some(Element::F32);
        assert!(check(&decoder, &names, &[boxes, scores], 32).expect_err("two types").contains("several types"));
    }

    #[test]
    fn grids_and_boxes_are_counted_from_the_shapes() {
        let card = ModelCard::parse(include_str!("../../cards/centerface.toml"), "centerface.toml".as_ref()).expect("own card");
        let OutputCard::Heatmap(heatmap) = &card.output else { unreachable!("the card names a heatmap") };
        let family = heatmap_family(heatmap, &[output("537", Element::F32, &[4, 1, 184, 320])]).expect("known shape");
        let expected = BoxFamily::Heatmap { columns: 320, rows: 184, stride: 4.0, cell_origin: 0.5, y_first: true, exponential_size: true };
        assert_eq!(family, expected);
        let open = Declared { dims: None, ..output("537", Element::F32, &[]) };
        assert!(heatmap_family(heatmap, &[open]).expect_err("unknown").contains("not known before it runs"));
        let card = ModelCard::parse(include_str!("../../cards/yolov8.toml"), "yolov8.toml".as_ref()).expect("own card");
        let OutputCard::AnchorFree(free) = &card.output else { unreachable!("the card names boxes") };
        let family = free_family(free, &[output("output0", Element::F32, &[1, 84, 8400])]).expect("known shape");
        assert!(matches!(family, BoxFamily::AnchorFree { boxes: 8400, values_first: true, .. }), "{family:?}");
    }
}
