//! Augmentation kernels, run on the host.

mod emulation;
mod kernels_cases;

use emulation::Emulator;
use framerail_core::{AugmentParams, AugmentSpec, BatchSpec, DType, GaussianBlur, TensorLayout};
use framerail_cuda::kernels::{RawAugmentJob, augment_raw, augment_scratch_bytes};
use kernels_cases::augment as cases;

#[test]
fn augmentation_equals_the_host_for_every_layout_and_type() {
    cases::augmentation_equals_the_host_for_every_layout_and_type(&Emulator::default());
}

#[test]
fn drawn_numbers_give_what_the_host_gives() {
    cases::drawn_numbers_give_what_the_host_gives(&Emulator::default());
}

#[test]
fn long_batches_take_several_launches() {
    cases::long_batches_take_several_launches(&Emulator::default());
}

fn spec(width: u32, height: u32) -> AugmentSpec {
    let batch = BatchSpec { width, height, layout: TensorLayout::Tchw, dtype: DType::F32 };
    AugmentSpec { input: batch, output: batch, scale: 1.0, mean: [0.0; 3], std: [1.0; 3] }
}

#[test]
fn what_does_not_fit_is_refused() {
    let whole = AugmentParams::whole(16, 8);
    let job = RawAugmentJob { params: &[whole], input: 4096, output: 65536, scratch: 32768 };
    let refusal = |spec: AugmentSpec, job: RawAugmentJob<'_>| {
        // SAFETY: rejected before memory is accessed.
        unsafe { augment_raw(&Emulator::default(), &spec, &job) }.expect_err("does not fit").to_string()
    };
    assert!(refusal(spec(0, 8), job).contains("images of 0x8"));
    assert!(refusal(spec(15, 8), job).starts_with("image 0: Region"));
    assert!(refusal(spec(16, 8), RawAugmentJob { input: 4098, ..job }).contains("aligned"));
    assert!(refusal(spec(16, 8), RawAugmentJob { output: 0, ..job }).contains("aligned"));
    assert!(refusal(spec(16, 8), RawAugmentJob { output: 4096 + 128 * 3 * 4 - 4, ..job }).contains("overlaps"));
}

#[test]
fn scratch_memory_is_for_what_is_done_and_bounded() {
    let plain = AugmentParams::whole(1920, 1080);
    let blurred = AugmentParams { blur: Some(GaussianBlur { kernel: [3, 3], sigma: [1.0; 2] }), ..plain };
    let planes = 1920 * 1080 * 6 * 4;
    assert_eq!(augment_scratch_bytes(&spec(1920, 1080), &[plain; 50]), 0);
    assert_eq!(augment_scratch_bytes(&spec(1920, 1080), &[blurred]), planes);
    assert_eq!(augment_scratch_bytes(&spec(1920, 1080), &[blurred; 50]), 5 * planes);
}
