//! Compares conversion with framerail-vision.

use framerail_core::{
    BBox, ColorDescription, ColorMatrix, ColorPrimaries, ColorTransfer, DType, HostSurface, PixelAspect, PixelFormat, Resize, ResizeFilter,
    TensorLayout,
};
use framerail_cuda::kernels::{Conversion, Sampling, TensorSpec};
use framerail_vision::{ChannelOrder, ConversionPlan, Fit, Preprocess, Preprocessor, TensorConverter, TensorOptions, TensorSize, ToneMap};

use super::{KernelRunner, Noise, frame, planar};

fn conversion(plan: &ConversionPlan, value_shift: u32) -> Conversion {
    Conversion { value_shift, ..plan.conversion() }
}

/// Converts a half-precision number.
pub fn half(bits: u16) -> f32 {
    let (exponent, mantissa) = (i32::from(bits >> 10 & 31), f32::from(bits & 1023));
    let magnitude = if exponent == 0 { mantissa * 2f32.powi(-24) } else { (mantissa + 1024.0) * 2f32.powi(exponent - 25) };
    if bits >> 15 == 1 { -magnitude } else { magnitude }
}

/// Converts a tensor's elements to numbers.
fn numbers(bytes: &[u8], dtype: DType) -> Vec<f32> {
    match dtype {
        DType::U8 => bytes.iter().map(|byte| f32::from(*byte)).collect(),
        DType::U16 => bytes.as_chunks::<2>().0.iter().map(|bytes| f32::from(u16::from_le_bytes(*bytes))).collect(),
        DType::F16 => bytes.as_chunks::<2>().0.iter().map(|bytes| half(u16::from_le_bytes(*bytes))).collect(),
        DType::Bf16 => bytes.as_chunks::<2>().0.iter().map(|[low, high]| f32::from_le_bytes([0, 0, *low, *high])).collect(),
        _ => bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
    }
}

/// Stretches to a size without normalisation.
fn plain((width, height): (u32, u32), channel_order: ChannelOrder, layout: TensorLayout) -> Preprocess {
    Preprocess { width, height, fit: Fit::Stretch, channel_order, layout, scale: 1.0, mean: [0.0; 3], std: [1.0; 3] }
}

fn convert(gpu: &dyn KernelRunner, image: &HostSurface, conversion: Conversion, tensor: &TensorSpec) -> Vec<f32> {
    numbers(&gpu.convert(std::slice::from_ref(image), &[conversion], tensor), tensor.dtype)
}

fn preprocessor(spec: Preprocess, sampling: Sampling) -> Preprocessor {
    Preprocessor::new(spec).expect("valid").with_sampling(sampling)
}

/// Allowed difference of an element, by type.
fn tolerance(dtype: DType, sampling: Sampling, value: f32) -> f32 {
    match dtype {
        DType::U8 => 0.0,
        DType::F16 => value.abs() / 2048.0 + 1e-6,
        DType::Bf16 => value.abs() / 256.0 + 1e-6,
        // The order of summation over areas may differ.
        _ if sampling == Sampling::Area => value.abs() * 1e-5 + 1e-4,
        _ => value.abs() * 1e-6 + 1e-6,
    }
}

pub fn equals_the_host_for_every_format_size_crop_and_type(gpu: &dyn KernelRunner) {
    let mut noise = Noise(3);
    let formats = [
        PixelFormat::Nv12,
        PixelFormat::P010,
        PixelFormat::Yuv420p,
        PixelFormat::Yuv444p,
        PixelFormat::Yuv444p10,
        PixelFormat::Yuv420p10,
        PixelFormat::Yuv411p,
        PixelFormat::Gray8,
        PixelFormat::Rgb24,
        PixelFormat::Bgr24,
        PixelFormat::Rgb48,
    ];
    let (mut exact, mut total) = (0_usize, 0_usize);
    for round in 0..660 {
        let format = formats[round % formats.len()];
        let (width, height) = noise.pick(&[(64, 48), (33, 21), (1, 1), (150, 20), (7, 90), (320, 180)]);
        let (out_width, out_height) = noise.pick(&[(64, 48), (32, 32), (20, 30), (150, 20), (5, 3), (133, 40), (1, 2)]);
        let sampling = noise.pick(&[Sampling::Bilinear, Sampling::Bilinear8Bit, Sampling::Area]);
        let channel_order = noise.pick(&[ChannelOrder::Rgb, ChannelOrder::Bgr, ChannelOrder::Gray]);
        let layout = noise.pick(&[TensorLayout::Tchw, TensorLayout::Thwc]);
        let dtype = noise.pick(&[DType::U8, DType::F16, DType::Bf16, DType::F32]);
        let fit = noise.pick(&[Fit::Stretch, Fit::Letterbox { pad: 114, centered: true }, Fit::Letterbox { pad: 0, centered: false }]);
        let (scale, mean, std) = match dtype {
            DType::U8 => (1.0, [0.0; 3], [1.0; 3]),
            _ => noise.pick(&[(1.0 / 255.0, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), (1.0, [0.0; 3], [1.0; 3])]),
        };
        let spec = Preprocess { width: out_width, height: out_height, fit, channel_order, layout, scale, mean, std };
        let color = noise.color();
        let image = noise.image(format, width, height);
        let (w, h) = (width as f32, height as f32);
        let crop = noise.pick(&[
            BBox::from_xyxy(0.0, 0.0, w, h),
            BBox::from_xyxy(w * 0.21, h * 0.13, w * 0.77 + 0.5, h * 0.9),
            BBox::from_xyxy(-w * 0.3, -5.25, w * 1.4, h + 3.0),
            BBox::from_xyxy(w + 10.0, h + 10.0, w + 20.0, h + 30.0),
        ]);
        let mut preprocessor = preprocessor(spec, sampling);
        let plan = preprocessor.plan(width, height, format, &color, PixelAspect::SQUARE, Some(crop)).expect("crop in range");
        let found = convert(gpu, &image, conversion(&plan, 0), &spec.tensor_spec(dtype));
        // The host decodes to planar formats instead of NV12.
        let host = if format == PixelFormat::Nv12 { planar(&image) } else { image };
        let mut expected = vec![f32::NAN; spec.elements()];
        let mapping = preprocessor.run_crop(&frame(host, color), crop, &mut expected).expect("host frame");
        assert_eq!(mapping, plan.mapping);
        let what = || format!("round {round}: {format} {width}x{height} {crop:?} {color:?} {sampling:?} {spec:?} {dtype:?}");
        assert_eq!(found.len(), expected.len(), "{}", what());
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let expected = if dtype == DType::U8 { expected.round_ties_even() } else { *expected };
            let off = (found - expected).abs();
            // A tie may be rounded the other way.
            let area_tie = if sampling == Sampling::Area && dtype == DType::U8 { 1.0 } else { 0.0 };
            assert!(off <= tolerance(dtype, sampling, expected) + area_tie, "{}: element {index} is {found}, not {expected}", what());
            exact += usize::from(off == 0.0 || dtype == DType::F16 || dtype == DType::Bf16);
            total += 1;
        }
    }
    println!("{exact} of {total} elements are equal");
    assert!(exact * 1000 > total * 950, "{exact} of {total} elements are equal");
}

/// Compares tensors of the host and a GPU for the same options: the one test that ties both together for readers.
pub fn filters_equal_the_host_for_every_format_size_and_type(gpu: &dyn KernelRunner) {
    let mut noise = Noise(17);
    let formats = [
        PixelFormat::Nv12,
        PixelFormat::P010,
        PixelFormat::Yuv420p,
        PixelFormat::Yuv422p10,
        PixelFormat::Yuv444p,
        PixelFormat::Gray8,
        PixelFormat::Rgb24,
        PixelFormat::Rgb48,
    ];
    let filters = [
        ResizeFilter::Bilinear,
        ResizeFilter::Bicubic,
        ResizeFilter::Lanczos,
        ResizeFilter::Area,
        ResizeFilter::Nearest,
        ResizeFilter::NearestExact,
    ];
    for round in 0..160 {
        let format = formats[round % formats.len()];
        let (width, height) = noise.pick(&[(64, 48), (33, 21), (1, 1), (301, 20), (7, 90), (320, 180)]);
        let dtype = noise.pick(&[DType::U8, DType::U16, DType::F16, DType::F32]);
        let (w, h) = (width as f32, height as f32);
        let crop = noise.pick(&[
            None,
            None,
            Some(BBox::from_xyxy(w * 0.21, h * 0.13, w * 0.77 + 0.5, h * 0.9)),
            Some(BBox::from_xyxy(-w * 0.3, -5.25, w * 1.4, h + 3.0)),
        ]);
        let size = noise.pick(&[
            TensorSize::Own,
            TensorSize::Exact(32, 32),
            TensorSize::Exact(150, 20),
            TensorSize::Exact(5, 3),
            TensorSize::ShortSide { length: 40, max: Some(90) },
        ]);
        let fit = noise.pick(&[Fit::Stretch, Fit::Letterbox { pad: 114, centered: true }]);
        let center_crop = noise.pick(&[None, None, Some((31, 24))]).filter(|_| fit == Fit::Stretch);
        let options = TensorOptions {
            crop,
            size,
            center_crop,
            fit,
            sampling: Sampling::Filter(Resize { filter: noise.pick(&filters), antialias: noise.below(2) == 1 }),
            channel_order: noise.pick(&[ChannelOrder::Rgb, ChannelOrder::Bgr, ChannelOrder::Gray, ChannelOrder::Hsv]),
            layout: noise.pick(&[TensorLayout::Tchw, TensorLayout::Thwc]),
            dtype,
            ..TensorOptions::default()
        };
        check_against_host(gpu, &options, noise.image(format, width, height), noise.color(), &format!("round {round}"));
    }
}

/// Compares a GPU's tensor with the host's: within 1 of 255, and nearly always equal.
fn check_against_host(gpu: &dyn KernelRunner, options: &TensorOptions, image: HostSurface, color: ColorDescription, what: &str) {
    let (width, height, format) = (image.width(), image.height(), image.format());
    let plan = options.plan(width, height, format, &color, PixelAspect::SQUARE).expect("valid");
    let tensor = options.tensor_spec(width, height);
    let tone = options.tone_curves(&color);
    let found = gpu.convert_with(std::slice::from_ref(&image), &[plan.conversion()], tone.as_ref(), &tensor);
    // The host decodes to planar formats instead of NV12.
    let host = if format == PixelFormat::Nv12 { planar(&image) } else { image };
    let mut expected = vec![0; options.image_bytes(width, height)];
    TensorConverter::new(*options).expect("valid").convert(&frame(host, color), &mut expected).expect("host frame");
    let (found, expected) = (numbers(&found, options.dtype), numbers(&expected, options.dtype));
    let unit = if options.dtype == DType::U16 { 257.0 } else { 1.0 };
    let mut sum = 0.0;
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        let mut off = (found - expected).abs() / unit;
        if options.channel_order == ChannelOrder::Hsv {
            // Hue wraps around, and grey has any hue: colours that differ by one are compared as RGB elsewhere.
            off = if off > 1.0 { 0.0 } else { off };
        }
        assert!(off <= 1.0, "{what}: {format} {width}x{height} {options:?} {color:?}: element {index} is {found}, not {expected}");
        sum += off;
    }
    let mean = sum / found.len().max(1) as f32;
    assert!(mean < 0.12, "{what}: {format} {width}x{height} {options:?}: {mean} on average");
}

pub fn high_range_is_mapped_as_on_the_host(gpu: &dyn KernelRunner) {
    let mut noise = Noise(41);
    for (transfer, primaries) in [(16, 9), (18, 9), (16, 12), (1, 1)] {
        let color = ColorDescription {
            matrix: ColorMatrix::Bt2020,
            primaries: ColorPrimaries(primaries),
            transfer: ColorTransfer(transfer),
            ..Default::default()
        };
        for format in [PixelFormat::P010, PixelFormat::Yuv420p10, PixelFormat::Nv12] {
            for size in [TensorSize::Own, TensorSize::Exact(40, 30)] {
                for channel_order in [ChannelOrder::Rgb, ChannelOrder::Bgr] {
                    let tone_map = Some(noise.pick(&[ToneMap::Bt2390, ToneMap::Hable]));
                    let options = TensorOptions { size, channel_order, tone_map, dtype: DType::F32, ..TensorOptions::default() };
                    check_against_host(gpu, &options, noise.image(format, 96, 64), color, "HDR");
                }
            }
        }
    }
}

pub fn nv12_at_its_own_size_takes_the_kernel_for_it_and_equals_the_other(gpu: &dyn KernelRunner) {
    let mut noise = Noise(9);
    for (width, height) in [(64, 48), (528, 35), (16, 1), (1024, 18)] {
        for layout in [TensorLayout::Tchw, TensorLayout::Thwc] {
            for order in [ChannelOrder::Rgb, ChannelOrder::Bgr] {
                let (image, color) = (noise.image(PixelFormat::Nv12, width, height), noise.color());
                let spec = plain((width, height), order, layout);
                for sampling in [Sampling::Bilinear, Sampling::Bilinear8Bit] {
                    let mut preprocessor = preprocessor(spec, sampling);
                    let plan = preprocessor.plan(width, height, PixelFormat::Nv12, &color, PixelAspect::SQUARE, None).expect("whole");
                    let found = convert(gpu, &image, conversion(&plan, 0), &spec.tensor_spec(DType::U8));
                    let mut expected = vec![f32::NAN; spec.elements()];
                    preprocessor.run(&frame(planar(&image), color), &mut expected).expect("host frame");
                    let expected: Vec<f32> = expected.iter().map(|value| value.round_ties_even()).collect();
                    assert!(found == expected, "{width}x{height} {layout:?} {order:?} {sampling:?}");
                }
            }
        }
    }
}

pub fn ten_bits_in_the_high_bits_equal_the_codes_of_the_planar_format(gpu: &dyn KernelRunner) {
    let mut noise = Noise(21);
    let (image, color) = (noise.image(PixelFormat::P010, 61, 40), noise.color());
    let spec = plain((40, 40), ChannelOrder::Rgb, TensorLayout::Tchw);
    let tensor = spec.tensor_spec(DType::F32);
    let preprocessor = preprocessor(spec, Sampling::Bilinear);
    let plan = |format| preprocessor.plan(61, 40, format, &color, PixelAspect::SQUARE, None).expect("whole");
    let stored = convert(gpu, &image, conversion(&plan(PixelFormat::P010), 0), &tensor);
    let codes = convert(gpu, &image, conversion(&plan(PixelFormat::Yuv420p10), 6), &tensor);
    assert!(stored.iter().zip(&codes).all(|(a, b)| (a - b).abs() < 1e-3));
}

pub fn hsv_follows_opencv(gpu: &dyn KernelRunner) {
    // From OpenCV's documentation: V = max, S = 255 (max - min) / max, H = 30 times the sextant, rounded in 12-bit arithmetic.
    let mut noise = Noise(5);
    let image = noise.image(PixelFormat::Rgb24, 256, 64);
    let spec = plain((256, 64), ChannelOrder::Rgb, TensorLayout::Thwc);
    let plan = preprocessor(spec, Sampling::Bilinear)
        .plan(256, 64, PixelFormat::Rgb24, &ColorDescription::default(), PixelAspect::SQUARE, None)
        .expect("whole");
    let tensor = TensorSpec { channel_order: ChannelOrder::Hsv, ..spec.tensor_spec(DType::U8) };
    let found = convert(gpu, &image, conversion(&plan, 0), &tensor);
    for (y, row) in found.chunks_exact(256 * 3).enumerate() {
        for (hsv, rgb) in row.chunks_exact(3).zip(image.row(0, y).chunks_exact(3)) {
            let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(f64::from);
            let (most, least) = (r.max(g).max(b), r.min(g).min(b));
            let spread = most - least;
            let sextant = match () {
                () if spread == 0.0 => 0.0,
                () if most == r => (g - b) / spread,
                () if most == g => 2.0 + (b - r) / spread,
                () => 4.0 + (r - g) / spread,
            };
            let hue = (30.0 * sextant).rem_euclid(180.0);
            let saturation = if most > 0.0 { 255.0 * spread / most } else { 0.0 };
            let turn = (f64::from(hsv[0]) - hue).abs();
            assert!(turn.min(180.0 - turn) <= 0.63, "{rgb:?} has hue {hue}, not {}", hsv[0]);
            assert!(hsv[0] <= 180.0);
            assert!((f64::from(hsv[1]) - saturation).abs() <= 0.55, "{rgb:?} has saturation {saturation}, not {}", hsv[1]);
            assert_eq!(f64::from(hsv[2]), most);
        }
    }
}

pub fn batches_of_many_formats_and_sizes_land_where_they_should(gpu: &dyn KernelRunner) {
    let mut noise = Noise(31);
    let spec = Preprocess { fit: Fit::Letterbox { pad: 7, centered: true }, ..plain((24, 16), ChannelOrder::Rgb, TensorLayout::Thwc) };
    let tensor = spec.tensor_spec(DType::U8);
    let (mut conversions, mut images) = (Vec::new(), Vec::new());
    for index in 0..130 {
        let format = if index / 60 == 1 { PixelFormat::Rgb24 } else { PixelFormat::Nv12 };
        let (width, height) = (8 + noise.below(40), 8 + noise.below(40));
        let image = noise.image(format, width, height);
        let color = ColorDescription::default();
        let plan = preprocessor(spec, Sampling::Bilinear).plan(width, height, format, &color, PixelAspect::SQUARE, None).expect("whole");
        conversions.push(conversion(&plan, 0));
        images.push(image);
    }
    let out = gpu.convert(&images, &conversions, &tensor);
    for (image, found) in images.into_iter().zip(out.chunks_exact(tensor.image_bytes())) {
        let frame = frame(image, ColorDescription::default());
        let mut expected = vec![0.0; spec.elements()];
        preprocessor(spec, Sampling::Bilinear).run(&frame, &mut expected).expect("host frame");
        assert!(found.iter().zip(&expected).all(|(found, expected)| f32::from(*found) == expected.round_ties_even()));
    }
}
