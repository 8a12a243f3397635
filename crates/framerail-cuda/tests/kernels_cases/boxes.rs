//! Compares box decoding with a simple reference implementation.

use std::sync::Arc;

use framerail_core::{BBox, DType, Detection, Label, Point};
use framerail_cuda::kernels::{Activation, BoxDecoder, BoxFamily, BoxForm, FrameBoxes};

use super::{KernelRunner, Noise, convert::half};

/// Numbers as a tensor's bytes, and their values after storing.
struct Numbers {
    bytes: Vec<u8>,
    values: Vec<f32>,
}

impl Numbers {
    fn new(dtype: DType, values: impl IntoIterator<Item = f32>) -> Self {
        let values: Vec<f32> = values.into_iter().collect();
        if dtype == DType::F32 {
            return Self { bytes: values.iter().flat_map(|value| value.to_le_bytes()).collect(), values };
        }
        // Truncated instead of rounded: any value will do.
        let bits = values.iter().map(|value| {
            let (bits, exponent) = (value.to_bits(), (value.to_bits() >> 23 & 255) as i32 - 112);
            let magnitude = if exponent <= 0 { 0 } else { (exponent as u32) << 10 | (bits >> 13 & 1023) };
            if value.is_finite() { (bits >> 16 & 0x8000 | magnitude) as u16 } else { 0x7e00 }
        });
        let bits: Vec<u16> = bits.collect();
        let values = bits.iter().map(|bits| if *bits == 0x7e00 { f32::NAN } else { half(*bits) }).collect();
        Self { bytes: bits.iter().flat_map(|bits| bits.to_le_bytes()).collect(), values }
    }
}

/// A box above the threshold, before non-finite ones are removed.
#[derive(Clone, Debug)]
struct Candidate {
    score: f32,
    class: u32,
    index: u32,
    bbox: BBox,
    landmarks: Vec<Point>,
}

fn softmax(row: &[f32]) -> Vec<f32> {
    let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f32> = row.iter().map(|value| (value - highest).exp()).collect();
    let sum: f32 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

fn activated(activation: Activation, row: &[f32]) -> Vec<f32> {
    match activation {
        Activation::None => row.to_vec(),
        Activation::Sigmoid => row.iter().map(|value| 1.0 / (1.0 + (-value).exp())).collect(),
        Activation::Softmax => softmax(row),
    }
}

/// Sorts, suppresses and truncates, like detectors on the host.
fn finish(decoder: &BoxDecoder, candidates: Vec<Candidate>) -> FrameBoxes {
    let passing = |score: f32| score > decoder.confidence_threshold || score.is_nan();
    let finite =
        |c: &Candidate| c.score.is_finite() && c.bbox.is_finite() && c.landmarks.iter().all(|p| p.x.is_finite() && p.y.is_finite());
    let (mut good, bad): (Vec<_>, Vec<_>) = candidates.into_iter().filter(|c| passing(c.score)).partition(finite);
    good.sort_by(|a, b| b.score.total_cmp(&a.score));
    let over_limit = good.len().saturating_sub(5000) as u32;
    good.truncate(5000);
    let detection = |c: &Candidate| {
        let mut detection = Detection::new(c.bbox, c.score, Label { id: c.class, name: Arc::from("thing") });
        // Carries the index along.
        detection.track_id = Some(u64::from(c.index));
        detection.landmarks = c.landmarks.clone();
        detection
    };
    let mut detections: Vec<Detection> = good.iter().map(detection).collect();
    framerail_vision::nms(&mut detections, decoder.iou_threshold, decoder.class_agnostic);
    let over_max_detections = detections.len().saturating_sub(decoder.max_detections as usize) as u32;
    detections.truncate(decoder.max_detections as usize);
    let found = |d: &Detection| framerail_cuda::kernels::FoundBox {
        bbox: d.bbox,
        score: d.score,
        class: d.label.id,
        index: d.track_id.unwrap_or_default() as u32,
        landmarks: std::array::from_fn(|index| d.landmarks.get(index).copied().unwrap_or_default()),
    };
    FrameBoxes { boxes: detections.iter().map(found).collect(), non_finite: bad.len() as u32, over_limit, over_max_detections }
}

/// Nearly all boxes must match in order; rounding of exponentials may cause differences.
fn compare(found: &[FrameBoxes], expected: &[FrameBoxes], what: &str) {
    let (mut same, mut total) = (0, 0);
    for (found, expected) in found.iter().zip(expected) {
        let near = |a: u32, b: u32| a.abs_diff(b) <= 1 + b / 200;
        assert!(near(found.non_finite, expected.non_finite), "{what}: {} non-finite, not {}", found.non_finite, expected.non_finite);
        assert!(near(found.over_limit, expected.over_limit), "{what}: {} over the limit, not {}", found.over_limit, expected.over_limit);
        assert!(near(found.over_max_detections, expected.over_max_detections), "{what}: {}", found.over_max_detections);
        assert!(near(found.boxes.len() as u32, expected.boxes.len() as u32), "{what}: {} not {}", found.boxes.len(), expected.boxes.len());
        for (a, b) in found.boxes.iter().zip(&expected.boxes) {
            let close = |a: f32, b: f32| (a - b).abs() <= 1e-3 + 1e-4 * b.abs();
            let corners =
                [(a.bbox.x1, b.bbox.x1), (a.bbox.y1, b.bbox.y1), (a.bbox.x2, b.bbox.x2), (a.bbox.y2, b.bbox.y2), (a.score, b.score)];
            let points = a.landmarks.iter().zip(&b.landmarks).all(|(a, b)| close(a.x, b.x) && close(a.y, b.y));
            let equal = (a.index, a.class) == (b.index, b.class) && corners.iter().all(|(a, b)| close(*a, *b)) && points;
            same += usize::from(equal);
            total += 1;
        }
    }
    println!("{what}: {same} of {total} boxes");
    assert!(total > 0 && same * 100 >= total * 98, "{what}: {same} of {total} boxes are the same");
}

fn decoder(family: BoxFamily, classes: u32, landmarks: u32, confidence_threshold: f32) -> BoxDecoder {
    BoxDecoder {
        family,
        input_width: 300,
        input_height: 200,
        classes,
        landmarks,
        confidence_threshold,
        iou_threshold: 0.45,
        max_detections: 60,
        class_agnostic: false,
    }
}

pub fn anchors_become_boxes(gpu: &dyn KernelRunner) {
    let mut noise = Noise(41);
    for (dtype, activation, background, landmarks) in [
        (DType::F32, Activation::Softmax, Some(0), 0),
        (DType::F16, Activation::Softmax, Some(2), 5),
        (DType::F32, Activation::Sigmoid, None, 1),
        (DType::F32, Activation::None, None, 0),
    ] {
        let (anchors, classes, batch, variances) = (700, 6, 3, [0.1, 0.1, 0.2, 0.2]);
        let family = BoxFamily::Anchors { anchors, activation, background, variances };
        let decoder = BoxDecoder { class_agnostic: landmarks == 1, ..decoder(family, classes, landmarks, 0.4) };
        let columns = (classes + u32::from(background.is_some())) as usize;
        let items = (anchors * batch) as usize;
        let mut boxes = Numbers::new(dtype, (0..items * 4).map(|_| noise.between(-3.0, 3.0)).collect::<Vec<_>>());
        let score = if activation == Activation::None { (0.0, 1.0) } else { (-3.0, 6.0) };
        let scores = Numbers::new(dtype, (0..items * columns).map(|_| noise.between(score.0, score.1)).collect::<Vec<_>>());
        let mut broken: Vec<f32> = boxes.values.clone();
        (broken[8], broken[4003]) = (f32::NAN, f32::NAN);
        boxes = Numbers::new(dtype, broken);
        let points = Numbers::new(dtype, (0..items * 2 * landmarks as usize).map(|_| noise.between(-2.0, 2.0)).collect::<Vec<_>>());
        let place = |_| [noise.between(0.0, 300.0), noise.between(0.0, 200.0), noise.between(10.0, 90.0), noise.between(10.0, 90.0)];
        let places: Vec<[f32; 4]> = (0..anchors).map(place).collect();
        let table = Numbers::new(DType::F32, places.iter().flatten().copied());

        let expected: Vec<FrameBoxes> = (0..batch as usize)
            .map(|image| {
                let mut candidates = Vec::new();
                for (anchor, [x, y, w, h]) in places.iter().copied().enumerate() {
                    let item = image * anchors as usize + anchor;
                    let row = activated(activation, &scores.values[item * columns..(item + 1) * columns]);
                    let [dx, dy, dw, dh] = <[f32; 4]>::try_from(&boxes.values[item * 4..item * 4 + 4]).expect("four");
                    let grow = |log: f32| if log > 4.135_166_6 { 4.135_166_6_f32.exp() } else { log.exp() };
                    let bbox = BBox::from_cxcywh(x + dx * 0.1 * w, y + dy * 0.1 * h, w * grow(dw * 0.2), h * grow(dh * 0.2));
                    let bbox = if bbox.is_finite() { bbox.clamped(300, 200) } else { bbox };
                    let at = item * 2 * landmarks as usize;
                    let pairs = points.values[at..at + 2 * landmarks as usize].chunks_exact(2);
                    let marks: Vec<Point> = pairs.map(|p| Point { x: x + p[0] * 0.1 * w, y: y + p[1] * 0.1 * h }).collect();
                    for (column, score) in row.into_iter().enumerate().filter(|(column, _)| Some(*column as u32) != background) {
                        let class = column as u32 - u32::from(background.is_some_and(|background| column as u32 > background));
                        candidates.push(Candidate {
                            score,
                            class,
                            index: (anchor * columns + column) as u32,
                            bbox,
                            landmarks: marks.clone(),
                        });
                    }
                }
                finish(&decoder, candidates)
            })
            .collect();
        let found = gpu.boxes(&decoder, [&boxes.bytes, &scores.bytes, &points.bytes, &table.bytes], dtype, batch);
        compare(&found, &expected, &format!("anchors {dtype:?} {activation:?}"));
    }
}

pub fn heatmaps_become_boxes(gpu: &dyn KernelRunner) {
    let mut noise = Noise(42);
    // The last case has more candidates than are stored: the kernel must find the best ones again.
    for (dtype, columns, rows, threshold, y_first, exponential_size, landmarks) in
        [(DType::F32, 40, 30, 0.9, true, true, 5), (DType::F16, 25, 61, 0.8, false, false, 2), (DType::F32, 96, 64, 0.05, true, true, 0)]
    {
        let (classes, batch, cells) = (2_u32, 2_u32, (columns * rows) as usize);
        let family = BoxFamily::Heatmap { columns, rows, stride: 4.0, cell_origin: 0.5, y_first, exponential_size };
        // Where there are many candidates, let few survive, so that the reference finishes quickly.
        let iou_threshold = if threshold < 0.1 { 0.01 } else { 0.45 };
        let decoder = BoxDecoder { iou_threshold, ..decoder(family, classes, landmarks, threshold) };
        let mut numbers = |channels: usize, low: f32, high: f32| {
            Numbers::new(dtype, (0..batch as usize * channels * cells).map(|_| noise.between(low, high)).collect::<Vec<_>>())
        };
        let (heat, size, offset) = (numbers(2, 0.0, 1.0), numbers(2, 0.3, 3.0), numbers(2, -0.5, 0.5));
        let points = numbers(2 * landmarks as usize, 0.0, 1.0);
        let expected: Vec<FrameBoxes> = (0..batch as usize)
            .map(|image| {
                let value = |numbers: &Numbers, channels: usize, channel: usize, cell: usize| {
                    numbers.values[(image * channels + channel) * cells + cell]
                };
                let pair = |numbers: &Numbers, channels: usize, first: usize, cell: usize| {
                    let (a, b) = (value(numbers, channels, first, cell), value(numbers, channels, first + 1, cell));
                    if y_first { (b, a) } else { (a, b) }
                };
                let candidate = |index: usize| {
                    let (class, cell) = (index / cells, index % cells);
                    let (w, h) = pair(&size, 2, 0, cell);
                    let (w, h) = if exponential_size { (w.exp() * 4.0, h.exp() * 4.0) } else { (w * 4.0, h * 4.0) };
                    let (dx, dy) = pair(&offset, 2, 0, cell);
                    let (column, row) = ((cell % columns as usize) as f32, (cell / columns as usize) as f32);
                    let x1 = ((column + dx + 0.5) * 4.0 - w / 2.0).clamp(0.0, 300.0);
                    let y1 = ((row + dy + 0.5) * 4.0 - h / 2.0).clamp(0.0, 200.0);
                    let whole = BBox::from_xyxy(x1, y1, x1 + w, y1 + h);
                    let mark = |point: usize| {
                        let (x, y) = pair(&points, 2 * landmarks as usize, 2 * point, cell);
                        Point { x: whole.x1 + x * (whole.x2 - whole.x1), y: whole.y1 + y * (whole.y2 - whole.y1) }
                    };
                    let landmarks = (0..landmarks as usize).map(mark).collect();
                    let score = value(&heat, 2, class, cell);
                    Candidate { score, class: class as u32, index: index as u32, bbox: whole.clamped(300, 200), landmarks }
                };
                finish(&decoder, (0..classes as usize * cells).map(candidate).collect())
            })
            .collect();
        let found = gpu.boxes(&decoder, [&heat.bytes, &size.bytes, &offset.bytes, &points.bytes], dtype, batch);
        compare(&found, &expected, &format!("heatmap {columns}x{rows} {dtype:?}"));
        assert!(threshold > 0.1 || found[0].over_limit > 0, "more than are written down");
        let again = gpu.boxes(&decoder, [&heat.bytes, &size.bytes, &offset.bytes, &points.bytes], dtype, batch);
        assert_eq!(found, again, "the same every time");
    }
}

pub fn anchor_free_outputs_become_boxes(gpu: &dyn KernelRunner) {
    let mut noise = Noise(43);
    for (dtype, values_first, form, normalized, objectness, activation, landmarks, landmark_values) in [
        (DType::F32, true, BoxForm::Cxcywh, false, false, Activation::None, 0, 0),
        (DType::F16, false, BoxForm::Xywh, true, true, Activation::Sigmoid, 5, 3),
        (DType::F32, false, BoxForm::Yxyx, true, true, Activation::None, 2, 2),
        (DType::F32, true, BoxForm::Xyxy, false, false, Activation::Softmax, 0, 0),
    ] {
        let (boxes, classes, batch) = (900_usize, 5_usize, 2_u32);
        let count = u32::try_from(boxes).expect("small");
        let family = BoxFamily::AnchorFree { boxes: count, values_first, form, normalized, objectness, activation, landmark_values };
        let decoder = BoxDecoder { class_agnostic: true, ..decoder(family, classes as u32, landmarks, 0.4) };
        let first = 4 + usize::from(objectness);
        let values = first + classes + (landmarks * landmark_values) as usize;
        let unit = if normalized { 1.0 } else { 200.0 };
        let mut value = |index: usize| match index {
            0 | 1 => noise.between(0.0, unit),
            2 | 3 => noise.between(0.05 * unit, 0.4 * unit),
            _ if index < first + classes && activation != Activation::None => noise.between(-3.0, 5.0),
            _ => noise.between(0.0, 1.0),
        };
        let of_position = |at: usize| if values_first { at / boxes % values } else { at % values };
        let numbers = Numbers::new(dtype, (0..batch as usize * values * boxes).map(|at| value(of_position(at))).collect::<Vec<_>>());
        let expected: Vec<FrameBoxes> = (0..batch as usize)
            .map(|image| {
                let candidate = |item: usize| {
                    let value = |index: usize| {
                        let at = if values_first { index * boxes + item } else { item * values + index };
                        numbers.values[image * values * boxes + at]
                    };
                    let scores = activated(activation, &(first..first + classes).map(value).collect::<Vec<_>>());
                    let best = |best: (usize, f32), (class, score): (usize, f32)| if score > best.1 { (class, score) } else { best };
                    let (class, score) = scores.into_iter().enumerate().fold((0, f32::NEG_INFINITY), best);
                    let object = match (objectness, activation) {
                        (false, _) => 1.0,
                        (true, Activation::None) => value(4),
                        (true, _) => 1.0 / (1.0 + (-value(4)).exp()),
                    };
                    let [a, b, c, d] = [0, 1, 2, 3].map(value);
                    let bbox = match form {
                        BoxForm::Xyxy => BBox::from_xyxy(a, b, c, d),
                        BoxForm::Yxyx => BBox::from_xyxy(b, a, d, c),
                        BoxForm::Cxcywh => BBox::from_cxcywh(a, b, c, d),
                        BoxForm::Xywh => BBox::from_xyxy(a, b, a + c, b + d),
                    };
                    let (across, down) = if normalized { (300.0, 200.0) } else { (1.0, 1.0) };
                    let bbox = BBox::from_xyxy(bbox.x1 * across, bbox.y1 * down, bbox.x2 * across, bbox.y2 * down);
                    let mark = |point: u32| {
                        let at = first + classes + (point * landmark_values) as usize;
                        Point { x: value(at) * across, y: value(at + 1) * down }
                    };
                    let landmarks = (0..landmarks).map(mark).collect();
                    Candidate { score: score * object, class: class as u32, index: item as u32, bbox, landmarks }
                };
                finish(&decoder, (0..boxes).map(candidate).collect())
            })
            .collect();
        let found = gpu.boxes(&decoder, [&numbers.bytes, &[], &[], &[]], dtype, batch);
        compare(&found, &expected, &format!("anchor-free {dtype:?} {form:?}"));
    }
}
