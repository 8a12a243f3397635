//! Tensors compared with a plain reference in double precision.

use framerail_core::{
    BBox, ColorDescription, ColorMatrix, ColorPrimaries, ColorRange, ColorTransfer, DType, Frame, HostSurface, PixelAspect, PixelFamily,
    PixelFormat, Resize, ResizeFilter, Sampling, TensorLayout,
};
use half::{bf16, f16};
use proptest::prelude::*;

use super::{Cut, TensorConverter, TensorOptions, TensorSize, ToneMap};
use crate::{
    ChannelOrder, Fit, VisionError,
    hsv::hsv_from_rgb,
    test_images::{code_at, frame, image, noisy},
};

/// A component's value at a position in the component's grid: 0 to 255, chroma -127.5 to 127.5.
///
/// Source: Rec. ITU-T H.273, clause 8.3.
fn value(surface: &HostSurface, color: &ColorDescription, component: usize, x: i64, y: i64) -> f64 {
    let format = surface.format();
    let (columns, rows) = format.component_size(component, surface.width(), surface.height());
    let (x, y) = (x.clamp(0, i64::from(columns) - 1), y.clamp(0, i64::from(rows) - 1));
    let code = f64::from(code_at(surface, component, x as usize, y as usize));
    let bits = format.bits() as i32;
    let (unit, most) = (2f64.powi(bits - 8), 2f64.powi(bits) - 1.0);
    let full = color.is_full_range(format.family() != PixelFamily::Yuv);
    match (format.is_chroma(component), full) {
        (true, true) => (code - 128.0 * unit) / most * 255.0,
        (true, false) => (code - 128.0 * unit) / (224.0 * unit) * 255.0,
        (false, true) => code / most * 255.0,
        (false, false) => (code - 16.0 * unit) / (219.0 * unit) * 255.0,
    }
}

/// Full-range channels of one pixel of the frame, clamped to 0..=255 but not rounded; alpha is last.
fn channels(surface: &HostSurface, color: &ColorDescription, order: ChannelOrder, (x, y): (i64, i64)) -> Vec<f64> {
    let format = surface.format();
    let component = |index: usize| {
        let (shift_x, shift_y) = if format.is_chroma(index) { format.chroma_shift() } else { (0, 0) };
        value(surface, color, index, x >> shift_x, y >> shift_y)
    };
    let (kr, kb) = color.matrix_or_default().luma_weights();
    let family = format.family();
    let rgb = match family {
        PixelFamily::Gray => [component(0); 3],
        PixelFamily::Rgb => [component(0), component(1), component(2)],
        PixelFamily::Yuv => {
            let (luma, cb, cr) = (component(0), component(1), component(2));
            let (red, blue) = (luma + 2.0 * (1.0 - kr) * cr, luma + 2.0 * (1.0 - kb) * cb);
            [red, (luma - kr * red - kb * blue) / (1.0 - kr - kb), blue]
        }
    };
    let luma = if family == PixelFamily::Rgb { 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] } else { component(0) };
    let [red, green, blue] = rgb.map(|value| value.clamp(0.0, 255.0));
    match order {
        ChannelOrder::Bgr => vec![blue, green, red],
        ChannelOrder::Gray => vec![luma.clamp(0.0, 255.0)],
        ChannelOrder::Rgba => {
            let most = f64::from(format.max_value());
            let alpha = format.components().len() - 1;
            let code = || f64::from(code_at(surface, alpha, x as usize, y as usize));
            vec![red, green, blue, if format.has_alpha() { code() * 255.0 / most } else { 255.0 }]
        }
        _ => vec![red, green, blue],
    }
}

/// A tensor's elements as floats.
fn numbers(bytes: &[u8], dtype: DType) -> Vec<f64> {
    match dtype {
        DType::U8 => bytes.iter().map(|byte| f64::from(*byte)).collect(),
        DType::U16 => bytes.as_chunks::<2>().0.iter().map(|bytes| f64::from(u16::from_ne_bytes(*bytes))).collect(),
        DType::F16 => bytes.as_chunks::<2>().0.iter().map(|bytes| f16::from_ne_bytes(*bytes).to_f64()).collect(),
        DType::Bf16 => bytes.as_chunks::<2>().0.iter().map(|bytes| bf16::from_ne_bytes(*bytes).to_f64()).collect(),
        _ => bytes.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_ne_bytes(*bytes))).collect(),
    }
}

fn convert(options: TensorOptions, frame: &Frame) -> Vec<u8> {
    let mut out = vec![99; options.image_bytes(frame.width, frame.height)];
    let mut converter = TensorConverter::new(options).expect("valid");
    converter.convert(frame, &mut out).expect("host frame");
    let mut again = vec![33; out.len()];
    converter.convert(frame, &mut again).expect("host frame");
    assert!(out == again, "nothing of the picture before may show");
    out
}

/// Whether FFmpeg's 16-bit arithmetic is used, which rounds down in up to three places.
fn rounds_down(options: &TensorOptions, format: PixelFormat, height: u32) -> bool {
    matches!(format, PixelFormat::Yuv420p | PixelFormat::Yuv422p | PixelFormat::Yuva420p | PixelFormat::Nv12)
        && height.is_multiple_of(2)
        && options.channel_order != ChannelOrder::Gray
}

/// The frame at its own size as interleaved channels, rounded to 8 bits for 8-bit formats.
fn own_size(options: &TensorOptions, frame: &Frame) -> Vec<f64> {
    let format = frame.surface.host().expect("host").format();
    let dtype = if format.bits() == 8 { DType::U8 } else { DType::F32 };
    let own = TensorOptions { channel_order: options.channel_order, layout: TensorLayout::Thwc, dtype, ..TensorOptions::default() };
    numbers(&convert(own, frame), dtype)
}

/// Checks every element: channels at the frame's own size against exact arithmetic, and resized ones against those.
fn check(options: TensorOptions, frame: &Frame) {
    let surface = frame.surface.host().expect("host");
    let (format, count) = (surface.format(), options.channel_order.channels());
    let (width, height) = options.image_size(frame.width, frame.height);
    let own = own_size(&options, frame);
    for (index, own) in own.iter().enumerate() {
        let (pixel, channel) = (index / count, index % count);
        let at = ((pixel as u32 % frame.width).into(), (pixel as u32 / frame.width).into());
        let exact = channels(surface, &frame.color, options.channel_order, at)[channel];
        let (above, below) = match format.bits() {
            8 if rounds_down(&options, format, frame.height) => (0.7, 3.2),
            8 => (0.51, 0.51),
            _ => (0.01, 0.01),
        };
        assert!(*own - exact <= above && exact - *own <= below, "{format} {:?} {at:?} {channel}: {own} for {exact}", frame.color);
    }
    let plan = options.plan(frame.width, frame.height, format, &frame.color, frame.pixel_aspect()).expect("valid");
    let (across, down) = plan.taps(frame.width, frame.height);
    let found = numbers(&convert(options, frame), options.dtype);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        for channel in 0..count {
            let ((left, columns), (top, rows)) = (across.at(x as usize), down.at(y as usize));
            let mut exact = 0.0;
            for (row, down) in (top..).zip(rows) {
                for (column, across) in (left..).zip(columns) {
                    let at = (row * frame.width + column) as usize * count + channel;
                    exact += own[at] * f64::from(*across) * f64::from(*down);
                }
            }
            let exact = exact.clamp(0.0, 255.0);
            let index = match options.layout {
                TensorLayout::Tchw => (channel as u32 * height + y) * width + x,
                TensorLayout::Thwc => (y * width + x) * count as u32 + channel as u32,
            } as usize;
            let is_color = channel < 3;
            let (mean, std) = if is_color { (f64::from(options.mean[channel]), f64::from(options.std[channel])) } else { (0.0, 1.0) };
            let unit = if options.dtype == DType::U16 { 257.0 } else { 1.0 };
            let back = (found[index] / unit * std + mean) / f64::from(options.scale);
            // Half a unit in the last place of the type.
            let steps = |bits: i32| (found[index].abs() * 2f64.powi(-bits) * std / f64::from(options.scale)).abs();
            // Maximum error of fixed point between pixels of noise; deep frames use floats.
            let arithmetic = if format.bits() == 8 { 0.12 } else { 0.002 };
            let rounding = match options.dtype {
                DType::U8 => 0.5,
                DType::U16 => 0.5 / 257.0,
                DType::F16 => steps(11),
                DType::Bf16 => steps(8),
                _ => 0.001,
            };
            let off = (back - exact).abs();
            assert!(off <= arithmetic + rounding, "{surface:?} {options:?} {:?} {x},{y},{channel}: {back} for {exact}", frame.color);
        }
    }
}

fn tagged(matrix: ColorMatrix, range: ColorRange) -> ColorDescription {
    ColorDescription { matrix, range, ..Default::default() }
}

const BILINEAR: Sampling = filter(ResizeFilter::Bilinear, true);

const fn filter(filter: ResizeFilter, antialias: bool) -> Sampling {
    Sampling::Filter(Resize { filter, antialias })
}

fn imagenet() -> TensorOptions {
    TensorOptions { scale: 1.0 / 255.0, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], ..Default::default() }
}

#[test]
fn every_format_and_type_is_near_exact_arithmetic() {
    let colors = [
        (ColorMatrix::Unspecified, ColorRange::Unspecified),
        (ColorMatrix::Bt709, ColorRange::Full),
        (ColorMatrix::Bt2020, ColorRange::Limited),
    ];
    let dtypes = [DType::U8, DType::U16, DType::F16, DType::Bf16, DType::F32];
    for (index, &format) in PixelFormat::ALL.iter().enumerate() {
        for (round, dtype) in dtypes.into_iter().enumerate().filter(|(round, _)| (index + round) % 2 == 0) {
            let (matrix, range) = colors[(index + round) % 3];
            let frame = frame(noisy(format, 45, 32), tagged(matrix, range));
            let options = if matches!(dtype, DType::U8 | DType::U16) { TensorOptions::default() } else { imagenet() };
            for (size, sampling) in [
                (TensorSize::Own, BILINEAR),
                (TensorSize::Exact(15, 16), BILINEAR),
                (TensorSize::Exact(70, 40), filter(ResizeFilter::Bilinear, false)),
                (TensorSize::Exact(15, 16), filter(ResizeFilter::Bicubic, true)),
                (TensorSize::Exact(7, 5), filter(ResizeFilter::Area, true)),
                (TensorSize::Exact(60, 50), filter(ResizeFilter::Bicubic, false)),
                (TensorSize::Exact(20, 50), filter(ResizeFilter::Lanczos, true)),
                (TensorSize::Exact(90, 16), filter(ResizeFilter::Nearest, true)),
            ] {
                let layout = [TensorLayout::Tchw, TensorLayout::Thwc][round % 2];
                let (width, _) = size.of(45, 32);
                let order = (round + width as usize) % 4;
                let channel_order = [ChannelOrder::Rgb, ChannelOrder::Bgr, ChannelOrder::Gray, ChannelOrder::Rgba][order];
                check(TensorOptions { size, sampling, layout, channel_order, dtype, ..options }, &frame);
            }
        }
    }
}

const FILTERS: [ResizeFilter; 6] = [
    ResizeFilter::Bilinear,
    ResizeFilter::Bicubic,
    ResizeFilter::Lanczos,
    ResizeFilter::Area,
    ResizeFilter::Nearest,
    ResizeFilter::NearestExact,
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_geometry_is_near_exact_arithmetic(
        (format, width, height) in (0..PixelFormat::ALL.len(), 1..70u32, 1..50u32),
        size in proptest::option::of((1..90u32, 1..60u32)),
        crop in proptest::option::of((-0.3..0.9f32, -0.3..0.9f32, 0.05..1.2f32, 0.05..1.2f32, any::<bool>())),
        (kernel, antialias, order, planar, dtype) in (0..6usize, any::<bool>(), 0..4usize, any::<bool>(), 0..5usize),
        (full, matrix) in (any::<bool>(), 0..3usize),
    ) {
        let format = PixelFormat::ALL[format];
        let crop = crop.map(|(x, y, w, h, whole)| {
            let bbox = BBox::from_xyxy(x * width as f32, y * height as f32, (x + w) * width as f32, (y + h) * height as f32);
            if !whole {
                return bbox;
            }
            let (x, y) = (bbox.x1.round(), bbox.y1.round());
            BBox::from_xyxy(x, y, x + bbox.width().round().max(1.0), y + bbox.height().round().max(1.0))
        });
        let dtype = [DType::U8, DType::F16, DType::Bf16, DType::F32, DType::U16][dtype];
        let options = TensorOptions {
            size: size.map_or(TensorSize::Own, |(width, height)| TensorSize::Exact(width, height)),
            crop,
            sampling: filter(FILTERS[kernel], antialias),
            channel_order: [ChannelOrder::Rgb, ChannelOrder::Bgr, ChannelOrder::Gray, ChannelOrder::Rgba][order],
            layout: if planar { TensorLayout::Tchw } else { TensorLayout::Thwc },
            dtype,
            ..if matches!(dtype, DType::U8 | DType::U16) { TensorOptions::default() } else { imagenet() }
        };
        let matrix = [ColorMatrix::Bt709, ColorMatrix::Unspecified, ColorMatrix::Bt2020][matrix];
        let color = tagged(matrix, if full { ColorRange::Full } else { ColorRange::Limited });
        check(options, &frame(noisy(format, width, height), color));
    }
}

#[test]
fn colours_beyond_rgb_are_cut_off() {
    for format in [PixelFormat::Yuv420p, PixelFormat::Yuv444p, PixelFormat::Yuv444p12, PixelFormat::P010] {
        let most = format.max_value() as u16;
        let noise = image(format, 64, 16, |component, x, y| {
            let corner = (x * 7 + y * 5 + component as u32 * 3) % 4;
            [0, most, most / 2, most / 3][corner as usize]
        });
        for color in [tagged(ColorMatrix::Bt709, ColorRange::Limited), tagged(ColorMatrix::Bt2020, ColorRange::Full)] {
            let frame = frame(noise.clone(), color);
            for size in [TensorSize::Own, TensorSize::Exact(40, 12)] {
                check(TensorOptions { size, ..Default::default() }, &frame);
                check(TensorOptions { size, dtype: DType::F16, ..imagenet() }, &frame);
            }
        }
    }
}

#[test]
fn rows_are_those_of_the_whole_frame() {
    for format in [PixelFormat::Yuv420p, PixelFormat::Nv12, PixelFormat::Yuv420p10, PixelFormat::Rgb24] {
        let frame = frame(noisy(format, 66, 44), ColorDescription::default());
        let boxed = Fit::Letterbox { pad: 7, centered: true };
        for options in [
            TensorOptions::default(),
            TensorOptions { layout: TensorLayout::Thwc, ..Default::default() },
            TensorOptions { size: TensorSize::Exact(33, 21), fit: boxed, ..Default::default() },
            TensorOptions { size: TensorSize::Exact(33, 40), fit: boxed, dtype: DType::F16, layout: TensorLayout::Thwc, ..imagenet() },
            TensorOptions {
                size: TensorSize::Exact(70, 44),
                fit: boxed,
                channel_order: ChannelOrder::Hsv,
                dtype: DType::F32,
                ..imagenet()
            },
        ] {
            let whole = convert(options, &frame);
            let mut converter = TensorConverter::new(options).expect("valid");
            let (_, height) = options.image_size(66, 44);
            let slices = if options.layout == TensorLayout::Tchw { 3 } else { 1 };
            let row_bytes = whole.len() / slices / height as usize;
            for rows in [0..height, 0..1, 1..height, 3..8, height - 1..height, 5..5] {
                let mut parts = vec![vec![0; row_bytes * rows.len()]; slices];
                let mut out: Vec<&mut [u8]> = parts.iter_mut().map(Vec::as_mut_slice).collect();
                converter.convert_rows(&frame, rows.clone(), &mut out).expect("rows of the frame");
                for (part, whole) in parts.iter().zip(whole.chunks_exact(whole.len() / slices)) {
                    let range = rows.start as usize * row_bytes..rows.end as usize * row_bytes;
                    assert!(part[..] == whole[range], "{format} {options:?} {rows:?}");
                }
            }
            assert!(converter.convert_rows(&frame, 3..height + 1, &mut []).is_err());
        }
    }
}

#[test]
fn whole_crops_are_parts_of_the_frame() {
    for format in [PixelFormat::Yuv420p, PixelFormat::Yuv422p, PixelFormat::Nv12, PixelFormat::Yuv444p, PixelFormat::Rgb24] {
        let frame = frame(noisy(format, 90, 40), tagged(ColorMatrix::Bt709, ColorRange::Limited));
        for layout in [TensorLayout::Tchw, TensorLayout::Thwc] {
            let options = TensorOptions { layout, ..Default::default() };
            let whole = convert(options, &frame);
            for (left, top, width, height) in [(0, 0, 90, 40), (1, 1, 70, 9), (2, 3, 33, 20), (57, 2, 33, 38), (89, 39, 1, 1)] {
                let crop = BBox::from_xyxy(left as f32, top as f32, (left + width) as f32, (top + height) as f32);
                let found = convert(TensorOptions { crop: Some(crop), ..options }, &frame);
                for (x, y, channel) in (0..width * height * 3).map(|index| (index / 3 % width, index / 3 / width, index % 3)) {
                    let at = |x: usize, y: usize, width: usize, height: usize| match layout {
                        TensorLayout::Tchw => (channel * height + y) * width + x,
                        TensorLayout::Thwc => (y * width + x) * 3 + channel,
                    };
                    let expected = whole[at(left + x, top + y, 90, 40)];
                    assert_eq!(found[at(x, y, width, height)], expected, "{format} {layout:?} {crop:?} {x},{y},{channel}");
                }
            }
        }
    }
}

#[test]
fn hsv_is_that_of_the_rounded_colours() {
    for format in [PixelFormat::Yuv420p, PixelFormat::Yuv444p10, PixelFormat::Rgb24] {
        let frame = frame(noisy(format, 40, 30), ColorDescription::default());
        for (size, sampling) in [
            (TensorSize::Own, BILINEAR),
            (TensorSize::Exact(20, 15), filter(ResizeFilter::Area, true)),
            (TensorSize::Exact(33, 31), filter(ResizeFilter::Bicubic, false)),
        ] {
            let options = TensorOptions { size, sampling, layout: TensorLayout::Thwc, ..Default::default() };
            let rgb = convert(options, &frame);
            let hsv = convert(TensorOptions { channel_order: ChannelOrder::Hsv, ..options }, &frame);
            for (hsv, rgb) in hsv.as_chunks::<3>().0.iter().zip(rgb.as_chunks::<3>().0) {
                assert_eq!(*hsv, hsv_from_rgb(*rgb));
            }
            let scaled = TensorOptions { channel_order: ChannelOrder::Hsv, dtype: DType::F32, ..options };
            let floats = numbers(&convert(TensorOptions { std: [2.0, 1.0, 1.0], mean: [0.0, 3.0, 0.0], ..scaled }, &frame), DType::F32);
            for (floats, hsv) in floats.chunks_exact(3).zip(hsv.as_chunks::<3>().0) {
                assert_eq!(floats, [f64::from(hsv[0]) / 2.0, f64::from(hsv[1]) - 3.0, f64::from(hsv[2])]);
            }
        }
    }
}

#[test]
fn every_type_holds_the_same_numbers() {
    for format in [PixelFormat::Yuv420p, PixelFormat::Nv12, PixelFormat::Yuv444p, PixelFormat::Rgba, PixelFormat::Yuv420p10] {
        let frame = frame(noisy(format, 64, 48), tagged(ColorMatrix::Bt709, ColorRange::Limited));
        for size in [TensorSize::Own, TensorSize::Exact(33, 20), TensorSize::Exact(90, 70)] {
            let options = |dtype| TensorOptions { size, dtype, ..TensorOptions::default() };
            let floats = numbers(&convert(options(DType::F32), &frame), DType::F32);
            for (dtype, unit, off) in [(DType::U8, 1.0, 0.51), (DType::U16, 257.0, 0.003), (DType::F16, 1.0, 0.07)] {
                let found = numbers(&convert(options(dtype), &frame), dtype);
                let near = |(found, float): (&f64, &f64)| (found / unit - float).abs() <= off;
                assert!(found.iter().zip(&floats).all(near), "{format} {size:?} {dtype:?}");
            }
        }
    }
}

#[test]
fn deep_frames_keep_their_depth_and_depth_maps_their_numbers() {
    let depth = image(PixelFormat::Gray16, 300, 40, |_, x, y| (x * 211 + y * 17) as u16);
    let frame = frame(depth, ColorDescription::default());
    let options = TensorOptions { channel_order: ChannelOrder::Gray, dtype: DType::U16, ..TensorOptions::default() };
    let found = numbers(&convert(options, &frame), DType::U16);
    assert!(found.iter().enumerate().all(|(at, value)| *value == ((at % 300 * 211 + at / 300 * 17) % 65_536) as f64));
    // Nearest copies numbers at any size.
    let size = TensorSize::Exact(77, 13);
    let sampling = filter(ResizeFilter::Nearest, true);
    let small = numbers(&convert(TensorOptions { size, sampling, ..options }, &frame), DType::U16);
    assert!(small.iter().all(|value| found.contains(value)));
}

#[test]
fn the_middle_is_cut_out_or_padded() {
    let frame = frame(noisy(PixelFormat::Yuv420p, 90, 61), ColorDescription::default());
    for (size, resized) in [(TensorSize::Own, (90, 61)), (TensorSize::ShortSide { length: 40, max: None }, (59, 40))] {
        for (width, height) in [(32, 32), (33, 37), (100, 20), (120, 99)] {
            let whole = convert(TensorOptions { size, ..TensorOptions::default() }, &frame);
            let options = TensorOptions { size, center_crop: Some((width, height)), ..TensorOptions::default() };
            let found = convert(options, &frame);
            let half_even = |length: u32| f64::from(length).mul_add(0.5, 0.0).round_ties_even() as u32;
            let start = |side: u32, kept: u32| i64::from(half_even(side.saturating_sub(kept))) - i64::from(kept.saturating_sub(side) / 2);
            let (left, top) = (start(resized.0, width), start(resized.1, height));
            for (index, found) in found.iter().enumerate() {
                let (pixel, channel) = (index % (width * height) as usize, index / (width * height) as usize);
                let (x, y) = (pixel as i64 % i64::from(width) + left, pixel as i64 / i64::from(width) + top);
                let inside = (0..i64::from(resized.0)).contains(&x) && (0..i64::from(resized.1)).contains(&y);
                let at = || (channel * resized.1 as usize + y as usize) * resized.0 as usize + x as usize;
                let expected = if inside { whole[at()] } else { 0 };
                assert_eq!(*found, expected, "{size:?} {width}x{height} {x},{y},{channel}");
            }
        }
    }
}

#[test]
fn padding_lies_around_the_frame_in_every_type() {
    for dtype in [DType::U8, DType::U16, DType::F16, DType::Bf16, DType::F32] {
        for layout in [TensorLayout::Tchw, TensorLayout::Thwc] {
            let frame = frame(noisy(PixelFormat::Yuv420p, 64, 32), ColorDescription::default());
            let fit = Fit::Letterbox { pad: 128, centered: true };
            let options = TensorOptions { fit, layout, dtype, size: TensorSize::Exact(64, 64), ..Default::default() };
            let bytes = convert(options, &frame);
            let found = numbers(&bytes, dtype);
            let inner = numbers(&convert(TensorOptions { size: TensorSize::Own, ..options }, &frame), dtype);
            let at = |values: &[f64], height: usize, x: usize, y: usize, channel: usize| match layout {
                TensorLayout::Tchw => values[(channel * height + y) * 64 + x],
                TensorLayout::Thwc => values[(y * 64 + x) * 3 + channel],
            };
            for y in 0..64 {
                for (x, channel) in [(0, 0), (63, 2), (31, 1)] {
                    let pad = if dtype == DType::U16 { 128.0 * 257.0 } else { 128.0 };
                    let expected = if (16..48).contains(&y) { at(&inner, 32, x, y - 16, channel) } else { pad };
                    assert_eq!(at(&found, 64, x, y, channel), expected, "{dtype:?} {layout:?} {x},{y}");
                }
            }
        }
    }
}

#[test]
fn tables_follow_changes_of_the_frames() {
    let mut converter = TensorConverter::new(TensorOptions { size: TensorSize::Exact(20, 10), ..Default::default() }).expect("valid");
    for (format, width, height) in [(PixelFormat::Yuv420p, 64, 48), (PixelFormat::Nv12, 64, 48), (PixelFormat::Yuv420p, 31, 17)] {
        for range in [ColorRange::Full, ColorRange::Limited] {
            let frame = frame(noisy(format, width, height), tagged(ColorMatrix::Bt709, range));
            let mut out = vec![0; 600];
            converter.convert(&frame, &mut out).expect("host frame");
            assert!(out == convert(*converter.options(), &frame), "{format} {width}x{height} {range:?}");
        }
    }
}

#[test]
fn tone_mapping_is_for_high_range_alone() {
    let hdr = |transfer| ColorDescription {
        matrix: ColorMatrix::Bt2020,
        primaries: ColorPrimaries(9),
        transfer: ColorTransfer(transfer),
        ..Default::default()
    };
    let mapped = TensorOptions { tone_map: Some(ToneMap::Bt2390), ..Default::default() };
    // A grey of 50 cd/m2, which the curve leaves unchanged: 44% of PQ.
    let code = (64.0 + 876.0 * 0.440_28_f64).round() as u16;
    let gray = image(PixelFormat::Yuv420p10, 34, 20, |component, _, _| if component == 0 { code } else { 512 });
    let light = (50.0_f64 / 203.0).powf(1.0 / 2.4) * 255.0;
    let pq = frame(gray.clone(), hdr(16));
    for (options, expected) in [(TensorOptions::default(), 0.440_28 * 255.0), (mapped, light)] {
        let found = numbers(&convert(TensorOptions { size: TensorSize::Exact(20, 30), ..options }, &pq), DType::U8);
        assert!(found.iter().all(|value| (value - expected).abs() < 1.2), "{} for {expected}", found[0]);
    }
    let standard = frame(gray, hdr(1));
    assert!(convert(mapped, &standard) == convert(TensorOptions::default(), &standard));

    let noise = frame(noisy(PixelFormat::Yuv420p10, 40, 32), hdr(18));
    let rgb = convert(TensorOptions { layout: TensorLayout::Thwc, ..mapped }, &noise);
    let bgr = convert(TensorOptions { layout: TensorLayout::Thwc, channel_order: ChannelOrder::Bgr, ..mapped }, &noise);
    let hsv = convert(TensorOptions { layout: TensorLayout::Thwc, channel_order: ChannelOrder::Hsv, ..mapped }, &noise);
    let gray = convert(TensorOptions { channel_order: ChannelOrder::Gray, ..mapped }, &noise);
    let floats = TensorOptions { layout: TensorLayout::Thwc, dtype: DType::F32, scale: 0.5, ..mapped };
    let floats = numbers(&convert(floats, &noise), DType::F32);
    for (pixel, rgb) in rgb.as_chunks::<3>().0.iter().enumerate() {
        assert_eq!(bgr[3 * pixel..][..3], [rgb[2], rgb[1], rgb[0]]);
        assert_eq!(hsv[3 * pixel..][..3], hsv_from_rgb(*rgb));
        let [red, green, blue] = rgb.map(f64::from);
        assert!((f64::from(gray[pixel]) - (0.2126 * red + 0.7152 * green + 0.0722 * blue)).abs() < 1.1);
        assert!((floats[3 * pixel] * 2.0 - red).abs() < 0.51);
    }
}

#[test]
fn wrong_options_and_buffers_are_refused() {
    let wrong = |options: TensorOptions| TensorConverter::new(options).is_err();
    assert!(wrong(TensorOptions { size: TensorSize::Exact(0, 4), ..Default::default() }));
    assert!(wrong(TensorOptions { std: [1.0, 0.0, 1.0], ..Default::default() }));
    assert!(wrong(TensorOptions { crop: Some(BBox::from_xyxy(4.0, 4.0, 4.0, 9.0)), ..Default::default() }));
    assert!(wrong(TensorOptions { crop: Some(BBox::from_xyxy(f32::NAN, 4.0, 4.0, 9.0)), ..Default::default() }));
    let frame = frame(noisy(PixelFormat::Yuv420p, 8, 6), ColorDescription::default());
    let mut converter = TensorConverter::new(TensorOptions::default()).expect("valid");
    let found = converter.convert(&frame, &mut [0; 7]);
    assert!(matches!(&found, Err(VisionError::OutputLength { have: 7, need: 144, layout }) if layout == "3x6x8"), "{found:?}");
    let crop = TensorOptions { crop: Some(BBox::from_xyxy(2.2, 1.0, 6.9, 4.0)), ..Default::default() };
    assert_eq!((crop.image_size(8, 6), crop.image_bytes(8, 6), crop.image_shape(8, 6)), ((5, 3), 45, [3, 3, 5]));
}

#[test]
fn a_cut_is_refused_beforehand_only_where_no_frame_can_hold_it() {
    let own = TensorOptions::default();
    let sized = |size| TensorOptions { size, ..own };
    let short = |max| sized(TensorSize::ShortSide { length: 224, max });
    let cropped = TensorOptions { crop: Some(BBox::from_xyxy(10.0, 10.0, 60.0, 50.0)), ..own };
    for (options, cut, is_possible) in [
        (own, (0, 0, 1, 1), true),
        (own, (600, 300, 40, 20), true),
        (own, (0, 0, 0, 5), false),
        (own, (u32::MAX, 0, 5, 5), false),
        (short(None), (100, 0, 224, 224), true),
        (short(None), (0, 100, 224, 200), true),
        (short(None), (0, 0, 225, 225), false),
        (short(Some(300)), (76, 0, 224, 150), true),
        (short(Some(300)), (77, 0, 224, 150), false),
        (sized(TensorSize::LongSide(300)), (0, 0, 300, 200), true),
        (sized(TensorSize::LongSide(300)), (0, 0, 301, 200), false),
        (sized(TensorSize::Exact(64, 48)), (0, 0, 64, 48), true),
        (sized(TensorSize::Exact(64, 48)), (1, 0, 64, 48), false),
        (cropped, (0, 0, 50, 40), true),
        (cropped, (0, 0, 51, 40), false),
    ] {
        let (left, top, width, height) = cut;
        let options = TensorOptions { cut: Some(Cut { left, top, width, height }), ..options };
        let checked = options.check();
        assert_eq!(checked.is_ok(), is_possible, "{cut:?} of {:?}: {checked:?}", options.size);
    }
    // A frame that is too small for it is still refused.
    let options = TensorOptions { cut: Some(Cut { left: 600, top: 300, width: 40, height: 20 }), ..own };
    let plan = |width, height| options.plan(width, height, PixelFormat::Rgb24, &ColorDescription::default(), PixelAspect::SQUARE);
    assert!(plan(640, 320).is_ok() && plan(320, 320).is_err());
}
