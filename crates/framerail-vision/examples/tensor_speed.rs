//! Times conversion to tensors on one thread and prints medians: `cargo run --release --example tensor_speed [WORD...]`.
//!
//! Words select cases: only those whose line contains every word are run. Frames and outputs alternate, so that together they do not
//! fit into the CPU's caches, as when reading a file. With the word `hot` there is only one of each.

use std::{error::Error, time::Instant};

use framerail_core::{ColorDescription, ColorMatrix, DType, Frame, FramePool, PixelFormat, TensorLayout};
use framerail_vision::{ChannelOrder, Fit, Resize, ResizeFilter, Sampling, TensorConverter, TensorOptions, TensorSize};

const ROUNDS: usize = 151;
const FRAMES: usize = 8;

fn frame(pool: &FramePool, format: PixelFormat, width: u32, height: u32, seed: usize) -> Result<Frame, Box<dyn Error>> {
    let mut surface = pool.surface(format, width, height)?;
    let mut planes = surface.planes_mut().ok_or("a fresh surface is writable")?;
    for plane in 0..format.planes() {
        for (index, byte) in planes.plane(plane).iter_mut().enumerate() {
            let noise = (index + seed * 7919).wrapping_mul(2_654_435_761) >> 13;
            *byte = if format.sample_bytes() == 2 && index % 2 == 1 { 1 } else { (noise % 220) as u8 };
        }
    }
    Ok(Frame { color: ColorDescription { matrix: ColorMatrix::Bt709, ..Default::default() }, ..Frame::of(surface) })
}

/// Median and best time of one case in milliseconds.
fn time(frames: &[Frame], options: TensorOptions) -> Result<(f64, f64), Box<dyn Error>> {
    let mut converter = TensorConverter::new(options)?;
    let (width, height) = (frames[0].width, frames[0].height);
    let mut outputs = vec![vec![1_u8; options.image_bytes(width, height)]; frames.len()];
    let mut millis: Vec<f64> = Vec::new();
    for round in 0..ROUNDS + FRAMES {
        let place = round % frames.len();
        let start = Instant::now();
        converter.convert(&frames[place], &mut outputs[place])?;
        if round >= FRAMES {
            millis.push(start.elapsed().as_secs_f64() * 1e3);
        }
    }
    millis.sort_by(f64::total_cmp);
    Ok((millis[ROUNDS / 2], millis[0]))
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words: Vec<String> = std::env::args().skip(1).collect();
    let frames_count = if words.iter().any(|word| word == "hot") { 1 } else { FRAMES };
    words.retain(|word| word != "hot");
    let pool = FramePool::new(FRAMES);
    let imagenet = TensorOptions { scale: 1.0 / 255.0, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225], ..Default::default() };
    let letterbox = Fit::Letterbox { pad: 114, centered: true };
    let plain = TensorOptions::default();
    let mut outputs = Vec::new();
    for layout in [TensorLayout::Thwc, TensorLayout::Tchw] {
        outputs.push(("own size u8", TensorOptions { layout, ..plain }));
        let filters = [
            (ResizeFilter::Bilinear, true),
            (ResizeFilter::Bilinear, false),
            (ResizeFilter::Bicubic, true),
            (ResizeFilter::Bicubic, false),
            (ResizeFilter::Area, true),
        ];
        for (filter, antialias) in filters {
            let sampling = Sampling::Filter(Resize { filter, antialias });
            for (width, height) in [(224, 224), (640, 360), (1280, 720), (2560, 1440)] {
                outputs.push(("resized u8", TensorOptions { layout, sampling, size: TensorSize::Exact(width, height), ..plain }));
            }
            let size = TensorSize::Exact(224, 224);
            outputs.push(("resized f16", TensorOptions { layout, sampling, size, dtype: DType::F16, ..imagenet }));
        }
        outputs.push(("letterbox u8", TensorOptions { layout, size: TensorSize::Exact(640, 640), fit: letterbox, ..plain }));
        for dtype in [DType::F16, DType::Bf16, DType::F32] {
            outputs.push(("own size", TensorOptions { layout, dtype, ..imagenet }));
        }
        for channel_order in [ChannelOrder::Bgr, ChannelOrder::Gray, ChannelOrder::Hsv] {
            outputs.push(("own size u8", TensorOptions { layout, channel_order, ..plain }));
        }
    }
    for format in [
        PixelFormat::Yuv420p,
        PixelFormat::Nv12,
        PixelFormat::Yuv422p,
        PixelFormat::Yuv444p,
        PixelFormat::Yuv420p10,
        PixelFormat::P010,
        PixelFormat::Rgb24,
    ] {
        let frames: Vec<Frame> = (0..frames_count).map(|seed| frame(&pool, format, 1920, 1080, seed)).collect::<Result<_, _>>()?;
        for (name, options) in &outputs {
            let TensorOptions { layout, sampling, channel_order, dtype, .. } = options;
            let (width, height) = options.image_size(1920, 1080);
            let line = format!("{format:12} 1920x1080 -> {width}x{height} {layout:?} {channel_order:?} {dtype:?} {sampling:?} ({name})");
            if words.iter().all(|word| line.contains(word.as_str())) {
                let (median, best) = time(&frames, *options)?;
                println!("{line:92} median {median:.3} ms, best {best:.3} ms, {:.0}/s", 1e3 / median);
            }
        }
    }
    Ok(())
}
