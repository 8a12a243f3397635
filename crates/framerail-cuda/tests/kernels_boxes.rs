//! Box decoding kernels, run on the host.

mod emulation;
mod kernels_cases;

use emulation::Emulator;
use framerail_core::DType;
use framerail_cuda::kernels::{Activation, BoxDecoder, BoxFamily, RawOutputs, RawScratch, decode_boxes_raw, read_boxes};
use kernels_cases::boxes as cases;

#[test]
fn anchors_become_boxes() {
    cases::anchors_become_boxes(&Emulator::default());
}

#[test]
fn heatmaps_become_boxes() {
    cases::heatmaps_become_boxes(&Emulator::default());
}

#[test]
fn anchor_free_outputs_become_boxes() {
    cases::anchor_free_outputs_become_boxes(&Emulator::default());
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let family = BoxFamily::Anchors { anchors: 10, activation: Activation::None, background: None, variances: [0.1; 4] };
    let good = BoxDecoder {
        family,
        input_width: 300,
        input_height: 300,
        classes: 3,
        landmarks: 0,
        confidence_threshold: 0.5,
        iou_threshold: 0.5,
        max_detections: 10,
        class_agnostic: false,
    };
    let outputs = RawOutputs { tensors: [64, 64, 0, 64], dtype: DType::F32, batch: 1 };
    let refused = [
        (BoxDecoder { landmarks: 6, ..good }, outputs),
        (BoxDecoder { landmarks: 1, ..good }, outputs),
        (BoxDecoder { confidence_threshold: -0.1, ..good }, outputs),
        (BoxDecoder { iou_threshold: f32::NAN, ..good }, outputs),
        (BoxDecoder { max_detections: 0, ..good }, outputs),
        (BoxDecoder { classes: u32::MAX, ..good }, outputs),
        (good, RawOutputs { batch: 0, ..outputs }),
        (good, RawOutputs { dtype: DType::U8, ..outputs }),
        (good, RawOutputs { tensors: [64, 0, 0, 64], ..outputs }),
    ];
    for (decoder, outputs) in refused {
        let scratch = RawScratch { counters: 64, candidates: 64 };
        // SAFETY: rejected before memory is accessed.
        let result = unsafe { decode_boxes_raw(&Emulator::default(), &decoder, &outputs, &scratch, 64) };
        assert!(result.is_err(), "{decoder:?} {outputs:?}");
    }
    assert!(read_boxes(&good, 2, &[0; 100]).is_err());
}
