//! Augmentation compared with torchvision's results for a small image; `tests/augment/reference.py` made them.

use framerail_core::{AugmentParams, AugmentSpec, BatchSpec, ColorStep, DType, Erasure, GaussianBlur, Region, TensorLayout};
use framerail_vision::Augmenter;

const REFERENCE: &str = include_str!("augment/reference.txt");
const SIZE: (u32, u32) = (23, 17);
const OUT_SIZE: (u32, u32) = (8, 6);
/// Half of the reference's last digit, plus the error of single precision.
const TOLERANCE: f32 = 1.5e-5;

fn image() -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::new();
    for (y, x) in (0..SIZE.1).flat_map(|y| (0..SIZE.0).map(move |x| (y, x))) {
        for channel in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let slope = (x * 11 * (channel + 1) + y * 7 * (3 - channel)) % 256;
            bytes.push(((slope + ((state >> 33) % 256) as u32) / 2) as u8);
        }
    }
    bytes
}

fn numbers<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str, between: char) -> Vec<T> {
    text.split(between).map(|number| number.parse().expect("a number")).collect()
}

fn region(text: &str) -> Region {
    let sides: Vec<u32> = numbers(text, ',');
    Region { x: sides[0], y: sides[1], width: sides[2], height: sides[3] }
}

fn three(text: &str) -> [f32; 3] {
    numbers(text, ',').try_into().expect("three numbers")
}

fn color_step(text: &str) -> ColorStep {
    let (name, amount) = text.split_once(':').expect("a name and a number");
    let amount = amount.parse().expect("a number");
    match name {
        "brightness" => ColorStep::Brightness(amount),
        "contrast" => ColorStep::Contrast(amount),
        "saturation" => ColorStep::Saturation(amount),
        "hue" => ColorStep::Hue(amount),
        other => panic!("{other} is no step"),
    }
}

/// Parses a case: its parameters, and the mean and standard deviation that normalise its elements.
fn parsed(case: &str) -> (AugmentParams, [f32; 3], [f32; 3]) {
    let (mut params, mut mean, mut std) = (AugmentParams::whole(SIZE.0, SIZE.1), [0.0; 3], [1.0; 3]);
    for word in case.split_whitespace() {
        let (name, value) = word.split_once('=').expect("a name and a value");
        match name {
            "crop" => params.crop = region(value),
            "antialias" => params.antialias = true,
            "flip" => (params.flip_horizontal, params.flip_vertical) = (value.contains('h'), value.contains('v')),
            "color" => params.color.iter_mut().zip(value.split(',')).for_each(|(slot, step)| *slot = color_step(step)),
            "grayscale" => params.grayscale = true,
            "blur" => {
                let (kernel, sigma) = value.split_once(':').expect("kernel and sigma");
                let (kernel, sigma): (Vec<u32>, Vec<f32>) = (numbers(kernel, 'x'), numbers(sigma, ','));
                params.blur = Some(GaussianBlur { kernel: [kernel[0], kernel[1]], sigma: [sigma[0], sigma[1]] });
            }
            "norm" => (mean, std) = value.split_once('/').map(|(mean, std)| (three(mean), three(std))).expect("mean and std"),
            "erase" => {
                let (place, fill) = value.split_once(':').expect("a place and a fill");
                params.erase = Some(Erasure { region: region(place), fill: three(fill) });
            }
            other => panic!("{other} is not known"),
        }
    }
    (params, mean, std)
}

fn interleaved_floats(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|value| (f32::from(*value) / 255.0).to_ne_bytes()).collect()
}

fn planar(bytes: &[u8]) -> Vec<u8> {
    (0..3).flat_map(|channel| bytes.iter().skip(channel).step_by(3).copied()).collect()
}

#[test]
fn results_are_those_of_torchvision_for_every_input() {
    let cases = REFERENCE.lines().filter(|line| !line.starts_with('#'));
    let inputs = [
        (TensorLayout::Thwc, DType::U8, image()),
        (TensorLayout::Tchw, DType::U8, planar(&image())),
        (TensorLayout::Thwc, DType::F32, interleaved_floats(&image())),
        (TensorLayout::Tchw, DType::F32, interleaved_floats(&planar(&image()))),
    ];
    let mut count = 0;
    for line in cases {
        let (case, elements) = line.split_once('|').expect("a case and its elements");
        let expected: Vec<f32> = elements.split_whitespace().map(|part| part.parse::<f32>().expect("a number") / 1e5).collect();
        let (params, mean, std) = parsed(case);
        for (layout, dtype, input) in &inputs {
            let batch = |(width, height), layout, dtype| BatchSpec { width, height, layout, dtype };
            let spec = AugmentSpec {
                input: batch(SIZE, *layout, *dtype),
                output: batch(OUT_SIZE, TensorLayout::Tchw, DType::F32),
                scale: 1.0 / 255.0,
                mean,
                std,
            };
            let mut out = vec![0; spec.output.image_bytes()];
            Augmenter::new(spec).expect("valid").apply(&[params], input, &mut out).expect("fitting");
            let found = out.as_chunks::<4>().0.iter().map(|bytes| f32::from_ne_bytes(*bytes));
            assert_eq!(expected.len(), found.len());
            let scale = 1.0_f32.max(1.0 / std[0]);
            for (index, (found, expected)) in found.zip(&expected).enumerate() {
                assert!(
                    (found - expected).abs() <= TOLERANCE * scale,
                    "{case}, {layout:?} {dtype:?}, element {index}: {found}, not {expected}"
                );
            }
        }
        count += 1;
    }
    assert_eq!(count, 19);
}
