//! Tensors against a plain reference in double precision.

use framerail_core::{
    BBox, ColorDescription, ColorMatrix, ColorPrimaries, ColorRange, ColorTransfer, DType, Frame, HostSurface, PixelFamily, PixelFormat,
    Sampling, TensorLayout,
};
use half::{bf16, f16};
use proptest::prelude::*;

use super::{TensorConverter, TensorOptions, ToneMap};
use crate::{
    ChannelOrder, Fit, VisionError,
    hsv::hsv_from_rgb,
    test_pictures::{code_at, frame, noisy, picture},
};

/// A component's value at a pixel of the component's grid: 0 to 255, chroma -127.5 to 127.5.
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

/// A component at a place of the output, in double precision.
fn resampled(
    surface: &HostSurface,
    color: &ColorDescription,
    component: usize,
    crop: BBox,
    size: (u32, u32),
    at: (u32, u32),
    sampling: Sampling,
) -> f64 {
    let format = surface.format();
    let (shift_x, shift_y) = if format.is_chroma(component) { format.chroma_shift() } else { (0, 0) };
    let (columns, rows) = format.component_size(component, surface.width(), surface.height());
    let axis = |from: f32, to: f32, out: u32, position: u32, pixels: u32, samples: u32, shift: u32| -> Vec<(i64, f64)> {
        let (from, extent) = (f64::from(from), f64::from(to) - f64::from(from));
        let step = extent / f64::from(out);
        if sampling == Sampling::Area {
            let sample_pixels = f64::from(1u32 << shift);
            let end = f64::from(samples);
            let start = ((from + step * f64::from(position)) / sample_pixels).clamp(0.0, end - 1e-6);
            let stop = ((from + step * f64::from(position + 1)) / sample_pixels).clamp(1e-6, end);
            let whole = start as i64..=(stop.ceil() as i64 - 1).max(start as i64);
            let overlap = |sample: i64| (stop.min(sample as f64 + 1.0) - start.max(sample as f64)).max(0.0);
            let total: f64 = whole.clone().map(overlap).sum();
            return whole.map(|sample| (sample, if total > 0.0 { overlap(sample) / total } else { 1.0 })).collect();
        }
        let place = (from + (f64::from(position) + 0.5) * step - 0.5).clamp(0.0, f64::from(pixels - 1));
        let near = place.floor() as i64;
        vec![(near >> shift, 1.0 - place.fract()), ((near + 1).min(i64::from(pixels) - 1) >> shift, place.fract())]
    };
    let across = axis(crop.x1, crop.x2, size.0, at.0, surface.width(), columns, shift_x);
    let down = axis(crop.y1, crop.y2, size.1, at.1, surface.height(), rows, shift_y);
    let mut sum = 0.0;
    for (y, down) in &down {
        for (x, across) in &across {
            sum += value(surface, color, component, *x, *y) * across * down;
        }
    }
    sum
}

/// Full-range channels of one output pixel, cut off at 0 and 255 but not rounded.
fn channels(
    surface: &HostSurface,
    color: &ColorDescription,
    options: &TensorOptions,
    crop: BBox,
    size: (u32, u32),
    at: (u32, u32),
) -> Vec<f64> {
    let component = |index: usize| resampled(surface, color, index, crop, size, at, options.sampling);
    let (kr, kb) = color.matrix_or_default().luma_weights();
    let family = surface.format().family();
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
    match options.channel_order {
        ChannelOrder::Bgr => vec![blue, green, red],
        ChannelOrder::Gray => vec![luma.clamp(0.0, 255.0)],
        _ => vec![red, green, blue],
    }
}

/// A tensor's elements as numbers.
fn numbers(bytes: &[u8], dtype: DType) -> Vec<f64> {
    match dtype {
        DType::U8 => bytes.iter().map(|byte| f64::from(*byte)).collect(),
        DType::F16 => bytes.as_chunks::<2>().0.iter().map(|bytes| f16::from_ne_bytes(*bytes).to_f64()).collect(),
        DType::Bf16 => bytes.as_chunks::<2>().0.iter().map(|bytes| bf16::from_ne_bytes(*bytes).to_f64()).collect(),
        _ => bytes.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_ne_bytes(*bytes))).collect(),
    }
}

fn convert(options: TensorOptions, frame: &Frame) -> Vec<u8> {
    let mut out = vec![99; options.picture_bytes(frame.width, frame.height)];
    let mut converter = TensorConverter::new(options).expect("valid");
    converter.convert(frame, &mut out).expect("host frame");
    let mut again = vec![33; out.len()];
    converter.convert(frame, &mut again).expect("host frame");
    assert!(out == again, "nothing of the picture before may show");
    out
}

/// Whether FFmpeg's 16-bit arithmetic is taken, which rounds down in up to three places.
fn rounds_down(options: &TensorOptions, format: PixelFormat, height: u32) -> bool {
    matches!(format, PixelFormat::Yuv420p | PixelFormat::Yuv422p | PixelFormat::Yuva420p | PixelFormat::Nv12)
        && height.is_multiple_of(2)
        && options.channel_order != ChannelOrder::Gray
        && options.takes_bytes()
}

/// Checks every element; gives the largest difference from exact arithmetic in parts of 255.
fn check(options: TensorOptions, frame: &Frame) -> f64 {
    let surface = frame.surface.host().expect("host");
    let (width, height) = options.picture_size(frame.width, frame.height);
    let crop = options.crop.unwrap_or(BBox::from_xyxy(0.0, 0.0, frame.width as f32, frame.height as f32));
    let count = options.channel_order.channels();
    let found = numbers(&convert(options, frame), options.dtype);
    let mut worst = 0.0_f64;
    for y in 0..height {
        for x in 0..width {
            for (channel, exact) in channels(surface, &frame.color, &options, crop, (width, height), (x, y)).into_iter().enumerate() {
                let index = match options.layout {
                    TensorLayout::Tchw => (channel as u32 * height + y) * width + x,
                    TensorLayout::Thwc => (y * width + x) * count as u32 + channel as u32,
                } as usize;
                let (mean, std) = (f64::from(options.mean[channel]), f64::from(options.std[channel]));
                let back = (found[index] * std + mean) / f64::from(options.scale);
                // Half a unit in the last place of the type.
                let steps = |bits: i32| (found[index].abs() * 2f64.powi(-bits) * std / f64::from(options.scale)).abs();
                let (above, below) = match options.dtype {
                    DType::U8 if rounds_down(&options, surface.format(), frame.height) => (0.7, 3.2),
                    DType::U8 => (0.7, 0.7),
                    DType::F16 => (0.2 + steps(11), 0.2 + steps(11)),
                    DType::Bf16 => (0.2 + steps(8), 0.2 + steps(8)),
                    _ if surface.format().bits() == 8 => (0.2, 0.2),
                    _ => (0.01, 0.01),
                };
                let off = back - exact;
                worst = worst.max(off.abs());
                let what = || format!("{:?} {options:?} {:?} {x},{y},{channel}: {back} for {exact}", surface, frame.color);
                assert!(off <= above && off >= -below, "{}", what());
            }
        }
    }
    worst
}

fn tagged(matrix: ColorMatrix, range: ColorRange) -> ColorDescription {
    ColorDescription { matrix, range, ..Default::default() }
}

fn imagenet() -> TensorOptions {
    TensorOptions { scale: 1.0 / 255.0, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], ..Default::default() }
}

#[test]
fn every_format_and_type_is_near_exact_arithmetic() {
    for &format in PixelFormat::ALL {
        for (round, dtype) in [DType::U8, DType::F16, DType::Bf16, DType::F32].into_iter().enumerate() {
            for (matrix, range) in [
                (ColorMatrix::Unspecified, ColorRange::Unspecified),
                (ColorMatrix::Bt709, ColorRange::Full),
                (ColorMatrix::Bt2020, ColorRange::Limited),
            ] {
                let frame = frame(noisy(format, 45, 32), tagged(matrix, range));
                let options = if dtype == DType::U8 { TensorOptions::default() } else { imagenet() };
                for (size, sampling) in [
                    (None, Sampling::Bilinear),
                    (Some((15, 16)), Sampling::Bilinear),
                    (Some((70, 40)), Sampling::Bilinear),
                    (Some((15, 16)), Sampling::Area),
                    (Some((7, 5)), Sampling::Area),
                    (Some((60, 50)), Sampling::Area),
                ] {
                    let layout = [TensorLayout::Tchw, TensorLayout::Thwc][round % 2];
                    let channel_order =
                        [ChannelOrder::Rgb, ChannelOrder::Bgr, ChannelOrder::Gray][(round + size.map_or(0, |s| s.0 as usize)) % 3];
                    check(TensorOptions { size, sampling, layout, channel_order, dtype, ..options }, &frame);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_geometry_is_near_exact_arithmetic(
        (format, width, height) in (0..PixelFormat::ALL.len(), 1..70u32, 1..50u32),
        size in proptest::option::of((1..90u32, 1..60u32)),
        crop in proptest::option::of((-0.3..0.9f32, -0.3..0.9f32, 0.05..1.2f32, 0.05..1.2f32, any::<bool>())),
        (area, order, planar, dtype) in (any::<bool>(), 0..3usize, any::<bool>(), 0..4usize),
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
        let dtype = [DType::U8, DType::F16, DType::Bf16, DType::F32][dtype];
        let options = TensorOptions {
            size,
            crop,
            sampling: if area { Sampling::Area } else { Sampling::Bilinear },
            channel_order: [ChannelOrder::Rgb, ChannelOrder::Bgr, ChannelOrder::Gray][order],
            layout: if planar { TensorLayout::Tchw } else { TensorLayout::Thwc },
            dtype,
            ..if dtype == DType::U8 { TensorOptions::default() } else { imagenet() }
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
        let noise = picture(format, 64, 16, |component, x, y| {
            let corner = (x * 7 + y * 5 + component as u32 * 3) % 4;
            [0, most, most / 2, most / 3][corner as usize]
        });
        for color in [tagged(ColorMatrix::Bt709, ColorRange::Limited), tagged(ColorMatrix::Bt2020, ColorRange::Full)] {
            let frame = frame(noise.clone(), color);
            for size in [None, Some((40, 12))] {
                check(TensorOptions { size, ..Default::default() }, &frame);
                check(TensorOptions { size, dtype: DType::F16, ..imagenet() }, &frame);
            }
        }
    }
}

#[test]
fn rows_are_those_of_the_whole_picture() {
    for format in [PixelFormat::Yuv420p, PixelFormat::Nv12, PixelFormat::Yuv420p10, PixelFormat::Rgb24] {
        let frame = frame(noisy(format, 66, 44), ColorDescription::default());
        let boxed = Fit::Letterbox { pad: 7, centered: true };
        for options in [
            TensorOptions::default(),
            TensorOptions { layout: TensorLayout::Thwc, ..Default::default() },
            TensorOptions { size: Some((33, 21)), fit: boxed, ..Default::default() },
            TensorOptions { size: Some((33, 40)), fit: boxed, dtype: DType::F16, layout: TensorLayout::Thwc, ..imagenet() },
            TensorOptions { size: Some((70, 44)), fit: boxed, channel_order: ChannelOrder::Hsv, dtype: DType::F32, ..imagenet() },
        ] {
            let whole = convert(options, &frame);
            let mut converter = TensorConverter::new(options).expect("valid");
            let (_, height) = options.picture_size(66, 44);
            let slices = if options.layout == TensorLayout::Tchw { 3 } else { 1 };
            let row_bytes = whole.len() / slices / height as usize;
            for rows in [0..height, 0..1, 1..height, 3..8, height - 1..height, 5..5] {
                let mut parts = vec![vec![0; row_bytes * rows.len()]; slices];
                let mut out: Vec<&mut [u8]> = parts.iter_mut().map(Vec::as_mut_slice).collect();
                converter.convert_rows(&frame, rows.clone(), &mut out).expect("rows of the picture");
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
fn whole_crops_are_parts_of_the_picture() {
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
        for (size, sampling) in [(None, Sampling::Bilinear), (Some((20, 15)), Sampling::Area), (Some((33, 31)), Sampling::Bilinear8Bit)] {
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
            if sampling == Sampling::Bilinear8Bit {
                let mut preprocessor = scaled.preprocessor(40, 30).expect("valid");
                let mut floats = vec![f32::NAN; preprocessor.spec().elements()];
                preprocessor.run(&frame, &mut floats).expect("host frame");
                assert!(floats.iter().zip(hsv.iter()).all(|(float, byte)| *float == f32::from(*byte)), "{format}");
            }
        }
    }
}

#[test]
fn padding_lies_around_the_picture_in_every_type() {
    for dtype in [DType::U8, DType::F16, DType::Bf16, DType::F32] {
        for layout in [TensorLayout::Tchw, TensorLayout::Thwc] {
            let frame = frame(noisy(PixelFormat::Yuv420p, 64, 32), ColorDescription::default());
            let fit = Fit::Letterbox { pad: 128, centered: true };
            let options = TensorOptions { fit, layout, dtype, size: Some((64, 64)), ..Default::default() };
            let bytes = convert(options, &frame);
            let found = numbers(&bytes, dtype);
            let inner = numbers(&convert(TensorOptions { size: None, ..options }, &frame), dtype);
            let at = |values: &[f64], height: usize, x: usize, y: usize, channel: usize| match layout {
                TensorLayout::Tchw => values[(channel * height + y) * 64 + x],
                TensorLayout::Thwc => values[(y * 64 + x) * 3 + channel],
            };
            for y in 0..64 {
                for (x, channel) in [(0, 0), (63, 2), (31, 1)] {
                    let expected = if (16..48).contains(&y) { at(&inner, 32, x, y - 16, channel) } else { 128.0 };
                    assert_eq!(at(&found, 64, x, y, channel), expected, "{dtype:?} {layout:?} {x},{y}");
                }
            }
        }
    }
}

#[test]
fn tables_follow_changes_of_the_frames() {
    let mut converter = TensorConverter::new(TensorOptions { size: Some((20, 10)), ..Default::default() }).expect("valid");
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
    // A grey of 50 cd/m2, which the curve leaves alone: 44% of PQ.
    let code = (64.0 + 876.0 * 0.440_28_f64).round() as u16;
    let gray = picture(PixelFormat::Yuv420p10, 34, 20, |component, _, _| if component == 0 { code } else { 512 });
    let light = (50.0_f64 / 203.0).powf(1.0 / 2.4) * 255.0;
    let pq = frame(gray.clone(), hdr(16));
    for (options, expected) in [(TensorOptions::default(), 0.440_28 * 255.0), (mapped, light)] {
        let found = numbers(&convert(TensorOptions { size: Some((20, 30)), ..options }, &pq), DType::U8);
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
    assert!(wrong(TensorOptions { size: Some((0, 4)), ..Default::default() }));
    assert!(wrong(TensorOptions { std: [1.0, 0.0, 1.0], ..Default::default() }));
    assert!(wrong(TensorOptions { crop: Some(BBox::from_xyxy(4.0, 4.0, 4.0, 9.0)), ..Default::default() }));
    assert!(wrong(TensorOptions { crop: Some(BBox::from_xyxy(f32::NAN, 4.0, 4.0, 9.0)), ..Default::default() }));
    let frame = frame(noisy(PixelFormat::Yuv420p, 8, 6), ColorDescription::default());
    let mut converter = TensorConverter::new(TensorOptions::default()).expect("valid");
    let found = converter.convert(&frame, &mut [0; 7]);
    assert!(matches!(&found, Err(VisionError::OutputLength { have: 7, need: 144, layout }) if layout == "3x6x8"), "{found:?}");
    let crop = TensorOptions { crop: Some(BBox::from_xyxy(2.2, 1.0, 6.9, 4.0)), ..Default::default() };
    assert_eq!((crop.picture_size(8, 6), crop.picture_bytes(8, 6), crop.picture_shape(8, 6)), ((5, 3), 45, [3, 3, 5]));
}
