//! Compares augmentation with framerail-vision.

use framerail_core::{AugmentParams, AugmentSpec, BatchSpec, ColorStep, DType, Erasure, GaussianBlur, Region, TensorLayout};
use framerail_vision::{Augment, AugmentScope, Augmenter, ColorJitter, RandomBlur, RandomCrop, RandomErase};

use super::{KernelRunner, Noise};

/// Maximum difference of an element, as a share of the range from black to white.
const TOLERANCE: f32 = 1e-5;

const LAYOUTS: [TensorLayout; 2] = [TensorLayout::Tchw, TensorLayout::Thwc];

fn batch((width, height): (u32, u32), layout: TensorLayout, dtype: DType) -> BatchSpec {
    BatchSpec { width, height, layout, dtype }
}

fn normalised(input: BatchSpec, output: BatchSpec) -> AugmentSpec {
    match output.dtype {
        DType::U8 => AugmentSpec { input, output, scale: 1.0, mean: [0.0; 3], std: [1.0; 3] },
        _ => AugmentSpec { input, output, scale: 1.0 / 255.0, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] },
    }
}

/// Gradients with noise, so that resizing matters.
fn images(noise: &mut Noise, batch: &BatchSpec, count: usize) -> Vec<u8> {
    let bytes: Vec<u8> = (0..batch.pixels() * 3 * count).map(|index| ((index as u32 * 3 % 256 + noise.below(256)) / 2) as u8).collect();
    match batch.dtype {
        DType::F32 => bytes.iter().flat_map(|value| (f32::from(*value) / 255.0).to_ne_bytes()).collect(),
        _ => bytes,
    }
}

fn from_half(half: u16) -> f32 {
    let (sign, exponent, mantissa) = (half >> 15, half >> 10 & 31, f32::from(half & 1023));
    let value = if exponent == 0 { mantissa * 2_f32.powi(-24) } else { (1.0 + mantissa / 1024.0) * 2_f32.powi(i32::from(exponent) - 15) };
    if sign == 1 { -value } else { value }
}

fn elements(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let pairs = || bytes.as_chunks::<2>().0.iter().map(|pair| u16::from_ne_bytes(*pair));
    match dtype {
        DType::U8 => bytes.iter().map(|value| f32::from(*value)).collect(),
        DType::F16 => pairs().map(from_half).collect(),
        DType::Bf16 => pairs().map(|pair| f32::from_bits(u32::from(pair) << 16)).collect(),
        _ => bytes.as_chunks::<4>().0.iter().map(|value| f32::from_ne_bytes(*value)).collect(),
    }
}

/// Runs both and compares them, allowing for rounding.
fn check(gpu: &dyn KernelRunner, spec: &AugmentSpec, params: &[AugmentParams], input: &[u8]) {
    let mut expected = vec![0; spec.output.image_bytes() * params.len()];
    Augmenter::new(*spec).expect("valid").apply(params, input, &mut expected).expect("fitting");
    let found = gpu.augment(spec, params, input);
    let dtype = spec.output.dtype;
    let (found, expected) = (elements(dtype, &found), elements(dtype, &expected));
    let range = 255.0 * spec.scale / spec.std.iter().copied().fold(f32::MAX, f32::min);
    let image = spec.output.pixels() * 3;
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let step = match dtype {
            DType::U8 => 1.0,
            DType::F16 => expected.abs().max(1e-4) / 1024.0,
            DType::Bf16 => expected.abs() / 128.0,
            _ => 0.0,
        };
        let params = &params[index / image];
        assert!((found - expected).abs() <= step + TOLERANCE * range, "{spec:?} {params:?} element {index}: {found}, not {expected}");
    }
    if dtype == DType::U8 {
        let unlike = found.iter().zip(&expected).filter(|(found, expected)| found != expected).count();
        assert!(unlike <= 2 + found.len() / 200, "{unlike} of {} bytes differ", found.len());
    }
}

/// Every operation alone, and all together.
fn operations(crop: Region) -> Vec<AugmentParams> {
    let plain = AugmentParams { crop, ..AugmentParams::whole(1, 1) };
    let steps = [ColorStep::Hue(-0.31), ColorStep::Saturation(1.6), ColorStep::Contrast(1.4), ColorStep::Brightness(0.9)];
    let blur = Some(GaussianBlur { kernel: [7, 3], sigma: [1.3, 0.7] });
    let erase = Some(Erasure { region: Region { x: 3, y: 2, width: 5, height: 4 }, fill: [0.25, 2.0, 7.0] });
    let mut all = vec![
        plain,
        AugmentParams { antialias: true, ..plain },
        AugmentParams { flip_horizontal: true, ..plain },
        AugmentParams { flip_vertical: true, antialias: true, ..plain },
        AugmentParams { grayscale: true, ..plain },
        AugmentParams { blur, ..plain },
        AugmentParams { erase, ..plain },
        AugmentParams { color: steps, ..plain },
    ];
    let alone = |step| AugmentParams { color: [ColorStep::None, step, ColorStep::None, ColorStep::None], ..plain };
    all.extend(steps.map(alone));
    all.push(AugmentParams {
        crop,
        antialias: true,
        flip_horizontal: true,
        flip_vertical: true,
        color: [ColorStep::Brightness(1.2), ColorStep::Contrast(0.7), ColorStep::Saturation(0.4), ColorStep::Hue(0.5)],
        grayscale: true,
        blur,
        erase,
    });
    all
}

pub fn augmentation_equals_the_host_for_every_layout_and_type(gpu: &dyn KernelRunner) {
    let mut noise = Noise(31);
    let params = operations(Region { x: 5, y: 3, width: 61, height: 37 });
    for (in_layout, in_type) in LAYOUTS.into_iter().flat_map(|layout| [(layout, DType::U8), (layout, DType::F32)]) {
        let input = batch((70, 45), in_layout, in_type);
        let data = images(&mut noise, &input, params.len());
        for dtype in [DType::U8, DType::F16, DType::Bf16, DType::F32] {
            for layout in LAYOUTS {
                check(gpu, &normalised(input, batch((41, 35), layout, dtype)), &params, &data);
            }
        }
    }
}

pub fn drawn_numbers_give_what_the_host_gives(gpu: &dyn KernelRunner) {
    let mut noise = Noise(32);
    let augment = Augment {
        crop: RandomCrop::Resized { area: [0.08, 1.0], aspect_ratio: [0.75, 4.0 / 3.0] },
        size: None,
        antialias: true,
        flip_horizontal: 0.5,
        flip_vertical: 0.2,
        color_jitter: Some(ColorJitter {
            probability: 0.8,
            brightness: Some([0.6, 1.4]),
            contrast: Some([0.6, 1.4]),
            saturation: Some([0.6, 1.4]),
            hue: Some([-0.1, 0.1]),
        }),
        grayscale: 0.2,
        blur: Some(RandomBlur { probability: 0.5, kernel: (9, 9), sigma: [0.1, 2.0] }),
        erase: Some(RandomErase { probability: 0.25, area: [0.02, 0.33], aspect_ratio: [0.3, 3.3], fill: [0.0; 3] }),
        scope: AugmentScope::Frame,
    };
    for (seed, (size, out)) in (0..).zip([((64, 48), (32, 32)), ((130, 90), (57, 5)), ((9, 7), (40, 70)), ((200, 6), (33, 33))]) {
        let augment = Augment { size: Some(out), ..augment.clone() };
        let params = augment.draw(seed, 0, 8, size.0, size.1).expect("fitting");
        let input = batch(size, TensorLayout::Tchw, DType::U8);
        let data = images(&mut noise, &input, params.len());
        check(gpu, &normalised(input, batch(out, TensorLayout::Tchw, DType::F32)), &params, &data);
    }
}

pub fn long_batches_take_several_launches(gpu: &dyn KernelRunner) {
    let mut noise = Noise(33);
    let input = batch((24, 20), TensorLayout::Thwc, DType::U8);
    let some = operations(Region { x: 1, y: 2, width: 22, height: 15 });
    let params: Vec<AugmentParams> = (0..95).map(|_| some[noise.below(some.len() as u32) as usize]).collect();
    let data = images(&mut noise, &input, params.len());
    check(gpu, &normalised(input, batch((9, 10), TensorLayout::Thwc, DType::U8)), &params, &data);
    check(gpu, &normalised(input, batch((9, 10), TensorLayout::Thwc, DType::U8)), &[], &[]);
}
