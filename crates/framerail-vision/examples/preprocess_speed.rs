//! Times preprocessing on one thread and prints medians: `cargo run --release --example preprocess_speed`.

use std::{error::Error, time::Instant};

use framerail_core::{Frame, FramePool, PixelFormat, TensorLayout};
use framerail_vision::{ChannelOrder, Fit, Preprocess, Preprocessor, Sampling};

const ROUNDS: usize = 60;

fn frame(pool: &FramePool, format: PixelFormat, width: u32, height: u32) -> Result<Frame, Box<dyn Error>> {
    let mut surface = pool.surface(format, width, height)?;
    let mut planes = surface.planes_mut().ok_or("a fresh surface is writable")?;
    for plane in 0..format.planes() {
        for (index, byte) in planes.plane(plane).iter_mut().enumerate() {
            *byte = if format.sample_bytes() == 2 && index % 2 == 1 { 1 } else { (index * 7 % 220) as u8 };
        }
    }
    Ok(Frame::of(surface))
}

fn main() -> Result<(), Box<dyn Error>> {
    let pool = FramePool::new(2);
    for format in [PixelFormat::Yuv420p, PixelFormat::Nv12, PixelFormat::Yuv420p10, PixelFormat::Rgb24] {
        let frame = frame(&pool, format, 1280, 720)?;
        for (width, height) in [(1280, 736), (640, 384), (416, 256)] {
            for (layout, sampling) in [
                (TensorLayout::Tchw, Sampling::Bilinear),
                (TensorLayout::Thwc, Sampling::Bilinear),
                (TensorLayout::Tchw, Sampling::Bilinear8Bit),
                (TensorLayout::Thwc, Sampling::Bilinear8Bit),
            ] {
                let (fit, channel_order) = (Fit::Stretch, ChannelOrder::Rgb);
                let spec = Preprocess { width, height, fit, channel_order, layout, scale: 1.0, mean: [0.0; 3], std: [1.0; 3] };
                let mut preprocessor = Preprocessor::new(spec)?.with_sampling(sampling);
                let mut out = vec![0.0; spec.elements()];
                let mut millis: Vec<f64> = Vec::new();
                for _ in 0..ROUNDS {
                    let start = Instant::now();
                    preprocessor.run(&frame, &mut out)?;
                    millis.push(start.elapsed().as_secs_f64() * 1e3);
                }
                millis.sort_by(f64::total_cmp);
                println!(
                    "{format:12} 1280x720 -> {width}x{height} {layout:?} {sampling:?}: median {:.2} ms, best {:.2} ms",
                    millis[ROUNDS / 2],
                    millis[0]
                );
            }
        }
    }
    Ok(())
}
