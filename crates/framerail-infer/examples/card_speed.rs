//! Speed of a model on a GPU, from frames in device memory to boxes on the host, without decoding.
//!
//! `card_speed MODEL [batch=32] [precision=fp16] [slots=2] [seconds=5] [size=1920x1080] [confidence=0.4] [fuse_bias] [graphs]
//! [channels_last] [no_tf32] [limit_mb=N]`

use std::{sync::Arc, time::Instant};

use framerail_core::{Device, Frame, FramePool, PixelFormat, Pts, Surface};
use framerail_cuda::{CudaDevice, CudaStream, CudaSurface, DevicePool, Traffic};
use framerail_infer::{Detector, DetectorOptions, InputSize};

type Anything = Box<dyn std::error::Error>;

fn main() -> Result<(), Anything> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let model = arguments.first().ok_or("name a model or a card")?;
    let value = |key: &str| arguments.iter().find_map(|argument| argument.strip_prefix(key)?.strip_prefix('='));
    let flag = |key: &str| arguments.iter().any(|argument| argument == key);
    let number = |key: &str, default: f64| value(key).map_or(Ok(default), str::parse::<f64>);
    let mut options = DetectorOptions::new(model);
    options.device = Device::Cuda(0);
    options.batch = number("batch", 32.0)? as usize;
    options.precision = value("precision").unwrap_or("fp16").parse()?;
    options.confidence_threshold = value("confidence").map(str::parse).transpose()?;
    options.cuda.slots = number("slots", 2.0)? as usize;
    options.cuda.fuse_bias = flag("fuse_bias");
    options.cuda.graphs = flag("graphs");
    options.cuda.channels_last = flag("channels_last").then_some(true);
    options.cuda.tf32 = !flag("no_tf32");
    options.cuda.memory_limit_bytes = value("limit_mb").map(str::parse::<usize>).transpose()?.map(|megabytes| megabytes << 20);
    let (width, height) = value("size").unwrap_or("1920x1080").split_once('x').ok_or("give size=WIDTHxHEIGHT")?;
    let size = InputSize { width: width.parse()?, height: height.parse()? };
    run(&options, size, number("seconds", 5.0)?)
}

fn run(options: &DetectorOptions, size: InputSize, seconds: f64) -> Result<(), Anything> {
    let device = CudaDevice::open(0)?;
    let (free_before, _) = device.memory()?;
    let begun = Instant::now();
    let mut detector = Detector::load(options)?;
    detector.warm_up(size.width, size.height)?;
    println!("loaded and warmed up in {:.2} s", begun.elapsed().as_secs_f64());
    let (pool, stream) = (DevicePool::new(&device, 64 << 20)?, CudaStream::new(&device)?);
    let frames: Vec<Frame> = (0..options.batch).map(|index| image(index, size, &pool, &stream)).collect::<Result<_, _>>()?;
    let batch: Vec<&Frame> = frames.iter().collect();
    // The second round of buffers and kernels that are compiled late are not measured.
    for _ in 0..4 {
        detector.submit(&batch)?;
        detector.collect()?;
    }
    Traffic::take();
    let (mut frames_done, mut boxes) = (0, 0);
    let begun = Instant::now();
    while begun.elapsed().as_secs_f64() < seconds || detector.in_flight() > 0 {
        if detector.would_wait() || begun.elapsed().as_secs_f64() >= seconds {
            let found = detector.collect()?.unwrap_or_default();
            frames_done += found.len();
            boxes += found.iter().map(Vec::len).sum::<usize>();
        } else {
            detector.submit(&batch)?;
        }
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let (free_after, _) = device.memory()?;
    println!("{:.0} frames/s, {:.1} boxes a frame", frames_done as f64 / elapsed, boxes as f64 / frames_done.max(1) as f64);
    println!("device memory: {} MB more in use than before, pictures included", free_before.saturating_sub(free_after) >> 20);
    println!("{:?}\n{:?}", Traffic::take(), detector.stats());
    Ok(())
}

/// A frame of slanted stripes in device memory.
fn image(index: usize, size: InputSize, pool: &DevicePool, stream: &CudaStream) -> Result<Frame, Anything> {
    let mut host = FramePool::new(1).surface(PixelFormat::Nv12, size.width, size.height)?;
    let mut planes = host.planes_mut().ok_or("a fresh surface is writable")?;
    for plane in 0..2 {
        for row in 0..planes.layout(plane).rows {
            let samples = planes.row(plane, row).iter_mut().enumerate();
            samples.for_each(|(column, sample)| *sample = ((column + row * 2 + index * 7) / 8 * 37 % 220 + 16) as u8);
        }
    }
    let surface = Surface::Device(Arc::new(CudaSurface::upload(&host, pool, stream)?));
    Ok(Frame { surface, index: index as u64, pts: Pts(index as i64), ..Frame::of(host) })
}
