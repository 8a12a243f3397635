//! Preprocessing compared with FFmpeg's conversion to RGB, resized by a plain reference.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use framerail_core::{ColorDescription, ColorMatrix, ColorRange, Frame, FramePool, PixelFormat, TensorLayout};
use framerail_vision::{ChannelOrder, Fit, Preprocess, Preprocessor, Sampling, TensorConverter, TensorOptions};

const WIDTH: u32 = 320;
const HEIGHT: u32 = 180;

/// Runs FFmpeg with raw video on its standard input and returns its output.
fn ffmpeg(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin"])
        .args(arguments)
        .args(["-frames:v", "1", "-f", "rawvideo", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ffmpeg is installed by the set-up");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // On a separate thread: a full pipe on either side must not block the other. FFmpeg may stop reading early.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("ffmpeg ends");
    writer.join().expect("the writer ends");
    assert!(output.status.success(), "ffmpeg {arguments:?}");
    output.stdout
}

fn frame(format: PixelFormat, raw: &[u8], color: ColorDescription) -> Frame {
    let mut surface = FramePool::new(1).surface(format, WIDTH, HEIGHT).expect("size in range");
    let mut planes = surface.planes_mut().expect("fresh memory is writable");
    let mut rest = raw;
    for plane in 0..format.planes() {
        let layout = planes.layout(plane);
        for y in 0..layout.rows {
            let (row, after) = rest.split_at(layout.row_bytes);
            planes.row(plane, y).copy_from_slice(row);
            rest = after;
        }
    }
    assert!(rest.is_empty());
    Frame { color, ..Frame::of(surface) }
}

/// Bilinear resize with pixel centres at halves, rounded to whole values, as OpenCV's `resize` on 8-bit RGB.
fn resized(rgb: &[u8], width: u32, height: u32) -> Vec<f32> {
    let tap = |position: u32, out: u32, side: u32| {
        let at = ((f64::from(position) + 0.5) * f64::from(side) / f64::from(out) - 0.5).clamp(0.0, f64::from(side - 1));
        (at as usize, (at as usize + 1).min(side as usize - 1), at.fract())
    };
    let mut out = Vec::new();
    for y in 0..height {
        let (y0, y1, wy) = tap(y, height, HEIGHT);
        for x in 0..width {
            let (x0, x1, wx) = tap(x, width, WIDTH);
            for channel in 0..3 {
                let at = |x: usize, y: usize| f64::from(rgb[(y * WIDTH as usize + x) * 3 + channel]);
                let (top, bottom) = (at(x0, y0) * (1.0 - wx) + at(x1, y0) * wx, at(x0, y1) * (1.0 - wx) + at(x1, y1) * wx);
                out.push((top * (1.0 - wy) + bottom * wy).round() as f32);
            }
        }
    }
    out
}

/// Maximum and mean difference from FFmpeg's RGB at each size.
fn differences(format: PixelFormat, color: ColorDescription, tags: &[&str], sampling: Sampling, sizes: &[(u32, u32)]) -> Vec<(f32, f32)> {
    let size = format!("{WIDTH}x{HEIGHT}");
    // Shapes, gradients, text and noise, in colours that a camera might produce. FFmpeg's RGB is clamped before resizing, ours after it,
    // which differs where colours outside the limits of RGB meet others.
    let source = format!("testsrc2=size={size},noise=alls=12:all_seed=7,gblur=sigma=0.6,hue=s=0.5,eq=contrast=0.8");
    let scale = format!("scale={}", tags.join(":"));
    let filter = if tags.is_empty() { "null" } else { &scale };
    let raw = ffmpeg(&["-f", "lavfi", "-i", &source, "-vf", filter, "-pix_fmt", format.name()], &[]);
    let back = tags.join(":").replace("out_", "in_");
    let unscale = if tags.is_empty() { "null".to_owned() } else { format!("scale={back}") };
    let rgb = ffmpeg(&["-f", "rawvideo", "-pix_fmt", format.name(), "-s", &size, "-i", "-", "-vf", &unscale, "-pix_fmt", "rgb24"], &raw);
    let frame = frame(format, &raw, color);
    let at_size = |&(width, height): &(u32, u32)| {
        let expected = resized(&rgb, width, height);
        let (fit, channel_order, layout) = (Fit::Stretch, ChannelOrder::Rgb, TensorLayout::Thwc);
        let spec = Preprocess { width, height, fit, channel_order, layout, scale: 1.0, mean: [0.0; 3], std: [1.0; 3] };
        let mut out = vec![0.0; spec.elements()];
        Preprocessor::new(spec).expect("valid").with_sampling(sampling).run(&frame, &mut out).expect("host frame");
        let off: Vec<f32> = out.iter().zip(&expected).map(|(a, b)| (a - b).abs()).collect();
        (off.iter().copied().fold(0.0, f32::max), off.iter().sum::<f32>() / off.len() as f32)
    };
    sizes.iter().map(at_size).collect()
}

#[test]
fn yuv420p_matches_at_its_own_size_and_resized() {
    let bt709 = ColorDescription { matrix: ColorMatrix::Bt709, ..Default::default() };
    let full = ColorDescription { range: ColorRange::Full, ..Default::default() };
    let cases: [(ColorDescription, &[&str]); 3] =
        [(ColorDescription::default(), &[]), (bt709, &["out_color_matrix=bt709"]), (full, &["out_range=full"])];
    let sizes = [(WIDTH, HEIGHT), (320, 192), (160, 96), (416, 256), (640, 384)];
    for (color, tags) in cases {
        let found = differences(PixelFormat::Yuv420p, color, tags, Sampling::Bilinear8Bit, &sizes);
        assert_eq!(found[0], (0.0, 0.0), "{tags:?}: FFmpeg's own RGB, bit by bit");
        for ((worst, mean), size) in found.into_iter().zip(sizes) {
            // The reference rounds halves up, which are common when a side is halved; weights are in 1/2048.
            assert!(worst <= 1.0 && mean < 0.2, "{tags:?} {size:?}: worst {worst}, mean {mean} of 255");
        }
        let float = differences(PixelFormat::Yuv420p, color, tags, Sampling::Bilinear, &sizes[..1]);
        assert!(float[0].0 <= 3.0, "{tags:?}: worst {} of 255 in floating point", float[0].0);
    }
}

#[test]
fn other_formats_match_on_average() {
    for format in [
        PixelFormat::Yuv422p,
        PixelFormat::Yuv444p,
        PixelFormat::Nv12,
        PixelFormat::Yuv420p10,
        PixelFormat::P010,
        PixelFormat::Yuv422p10,
        PixelFormat::Yuv444p12,
        PixelFormat::Yuva420p,
        PixelFormat::Rgb24,
        PixelFormat::Bgra,
        PixelFormat::Gbrp,
        PixelFormat::Gbrp10,
        PixelFormat::Gray8,
        PixelFormat::Gray10,
    ] {
        let sizes = [(WIDTH, HEIGHT), (160, 96)];
        let mut found = differences(format, ColorDescription::default(), &[], Sampling::Bilinear, &sizes);
        found.extend(differences(format, ColorDescription::default(), &[], Sampling::Bilinear8Bit, &sizes));
        for (worst, mean) in found {
            // Where chroma is subsampled, FFmpeg rounds down, and for semi-planar and deeper formats it interpolates chroma
            // between rows. It is nearly exact for the others.
            let limit = if format.chroma_shift() == (0, 0) { 0.7 } else { 2.2 };
            assert!(mean < limit, "{format}: worst {worst}, mean {mean} of 255");
        }
    }
}

/// Maximum and mean difference of a tensor at its own size from FFmpeg's RGB.
fn tensor_differences(format: PixelFormat, color: ColorDescription, tags: &[&str], layout: TensorLayout) -> (f64, f64) {
    let size = format!("{WIDTH}x{HEIGHT}");
    let source = format!("testsrc2=size={size},noise=alls=12:all_seed=7,gblur=sigma=0.6");
    let scale = |tags: &str| if tags.is_empty() { "null".to_owned() } else { format!("scale={tags}") };
    let forth = tags.join(":");
    let raw = ffmpeg(&["-f", "lavfi", "-i", &source, "-vf", &scale(&forth), "-pix_fmt", format.name()], &[]);
    let back = scale(&forth.replace("out_", "in_"));
    let rgb = ffmpeg(&["-f", "rawvideo", "-pix_fmt", format.name(), "-s", &size, "-i", "-", "-vf", &back, "-pix_fmt", "rgb24"], &raw);
    let mut converter = TensorConverter::new(TensorOptions { layout, ..Default::default() }).expect("valid");
    let mut found = vec![0; rgb.len()];
    converter.convert(&frame(format, &raw, color), &mut found).expect("host frame");
    let pixels = (WIDTH * HEIGHT) as usize;
    let at = |index: usize| if layout == TensorLayout::Thwc { found[index] } else { found[index % 3 * pixels + index / 3] };
    let off: Vec<u8> = rgb.iter().enumerate().map(|(index, value)| value.abs_diff(at(index))).collect();
    let sum: u64 = off.iter().map(|off| u64::from(*off)).sum();
    (off.iter().copied().max().unwrap_or(0).into(), sum as f64 / off.len() as f64)
}

#[test]
fn tensors_equal_ffmpegs_rgb_bit_by_bit() {
    let bt709 = ColorDescription { matrix: ColorMatrix::Bt709, ..Default::default() };
    let full = ColorDescription { range: ColorRange::Full, ..Default::default() };
    let cases: [(ColorDescription, &[&str]); 3] =
        [(ColorDescription::default(), &[]), (bt709, &["out_color_matrix=bt709"]), (full, &["out_range=full"])];
    for (color, tags) in cases {
        for format in [PixelFormat::Yuv420p, PixelFormat::Yuv422p] {
            for layout in [TensorLayout::Thwc, TensorLayout::Tchw] {
                assert_eq!(tensor_differences(format, color, tags, layout), (0.0, 0.0), "{format} {tags:?} {layout:?}");
            }
        }
    }
}

#[test]
fn tensors_of_other_formats_are_near_ffmpegs_rgb() {
    for format in [
        PixelFormat::Gray8,
        PixelFormat::Gray10,
        PixelFormat::Yuv444p,
        PixelFormat::Yuv444p12,
        PixelFormat::Yuva420p,
        PixelFormat::Yuv420p10,
        PixelFormat::Nv12,
        PixelFormat::P010,
        PixelFormat::Rgb24,
        PixelFormat::Bgra,
        PixelFormat::Gbrp10,
        PixelFormat::Rgb48,
    ] {
        let (worst, mean) = tensor_differences(format, ColorDescription::default(), &[], TensorLayout::Thwc);
        // Where chroma is subsampled and FFmpeg has no fast path, it interpolates chroma, which is repeated here: edges differ.
        let limits = if format.chroma_shift() == (0, 0) { (2.0, 0.6) } else { (255.0, 2.2) };
        assert!(worst <= limits.0 && mean < limits.1, "{format}: worst {worst}, mean {mean} of 255");
    }
}
