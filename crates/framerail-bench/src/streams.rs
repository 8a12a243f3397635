//! Measures how many real-time streams one detector can process without late results.

use std::{
    path::PathBuf,
    sync::{
        Arc, Barrier,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

use framerail_core::{Device, Frame, StreamId};
use framerail_cuda::{CudaDevice, DevicePool};
use framerail_infer::{Detector, DetectorOptions};
use framerail_media::MediaItem;
use framerail_reader::{DeviceOptions, DeviceReader, FrameSource, TensorFrames, TensorOptions, TensorSize};
use serde_json::json;

/// A result is late if it arrives this long after its frame was due: three frames at 30 frames/s.
const LATE: Duration = Duration::from_millis(100);
/// Warm-up frames per stream, which are not counted: memory is allocated during them.
const WARM_UP_FRAMES: u64 = 60;
/// Maximum time that a frame waits for its batch to fill.
const MAX_WAIT: Duration = Duration::from_millis(10);

/// Options of the `streams` job.
#[derive(clap::Args)]
pub(crate) struct Streams {
    /// Input file of every stream.
    clip: PathBuf,
    /// Number of concurrent streams.
    #[arg(long, default_value_t = 60)]
    streams: u32,
    /// Frames per second of each stream.
    #[arg(long, default_value_t = 30.0)]
    rate: f64,
    /// Number of frames per stream.
    #[arg(long, default_value_t = 600)]
    frames: u64,
    /// Model name or model card.
    #[arg(long, default_value = "ssd300")]
    model: String,
    /// Frames per model run.
    #[arg(long, default_value_t = 32)]
    batch: usize,
}

struct Due {
    frame: Frame,
    stream: u32,
    at: Instant,
    /// When its reader delivered it, after waiting until it was due.
    sent: Instant,
    is_warm: bool,
}

/// Timing of one frame.
#[derive(Clone, Copy)]
struct Way {
    stream: u32,
    at: Instant,
    sent: Instant,
    submitted: Instant,
    done: Instant,
    is_warm: bool,
}

impl Way {
    fn delay(&self) -> Duration {
        self.done.saturating_duration_since(self.at)
    }
}

/// Summarises where and when late frames lost their time.
fn account_for_late(ways: &[Way], start: Instant) -> serde_json::Value {
    let late: Vec<&Way> = ways.iter().filter(|way| way.is_warm && way.delay() > LATE).collect();
    let streams: std::collections::BTreeSet<u32> = late.iter().map(|way| way.stream).collect();
    let millis = |from: fn(&Way) -> Duration| late.iter().map(|way| from(way).as_secs_f64() * 1e3).fold(0.0, f64::max);
    let second = |way: Option<&&Way>| way.map(|way| way.at.saturating_duration_since(start).as_secs_f64());
    json!({
        "streams": streams.len(),
        "first_s": second(late.iter().min_by_key(|way| way.at)),
        "last_s": second(late.iter().max_by_key(|way| way.at)),
        "worst_read_ms": millis(|way| way.sent.saturating_duration_since(way.at)),
        "worst_queue_ms": millis(|way| way.submitted.saturating_duration_since(way.sent)),
        "worst_model_ms": millis(|way| way.done.saturating_duration_since(way.submitted)),
    })
}

impl Streams {
    pub(crate) fn run(&self, device: &Arc<CudaDevice>) -> anyhow::Result<()> {
        let mut detector_options = DetectorOptions::new(&self.model);
        detector_options.device = Device::Cuda(device.info().ordinal);
        detector_options.batch = self.batch;
        detector_options.precision = "fp16".parse()?;
        let mut detector = Detector::load(&detector_options)?;
        detector.warm_up(1920, 1080)?;
        let spec = detector.input_spec(1920, 1080)?;
        let wanted = TensorOptions {
            size: TensorSize::Exact(spec.preprocess.width, spec.preprocess.height),
            fit: spec.preprocess.fit,
            sampling: spec.sampling,
            channel_order: spec.preprocess.channel_order,
            layout: spec.preprocess.layout,
            dtype: spec.dtype,
            scale: spec.preprocess.scale,
            mean: spec.preprocess.mean,
            std: spec.preprocess.std,
            ..TensorOptions::default()
        };
        let pool = DevicePool::new(device, 1 << 30)?;
        let make = Arc::new(TensorFrames::new(wanted, pool));
        let ready = Barrier::new(self.streams as usize + 1);
        let (sender, receiver) = channel();
        std::thread::scope(|scope| {
            let readers: Vec<_> = (0..self.streams)
                .map(|stream| {
                    let options = DeviceOptions { decoders: Some(1), make: Some(make.clone()), ..DeviceOptions::new(device) };
                    let (sender, ready) = (sender.clone(), &ready);
                    scope.spawn(move || self.pace(stream, &options, &sender, ready))
                })
                .collect();
            drop(sender);
            ready.wait();
            let start = Instant::now();
            let ways = self.detect(&mut detector, &receiver)?;
            let seconds = start.elapsed().as_secs_f64();
            for reader in readers {
                reader.join().map_err(|_| anyhow::anyhow!("a stream panicked"))??;
            }
            let frames = ways.len() as u64;
            let late_in_warm_up = ways.iter().filter(|way| !way.is_warm && way.delay() > LATE).count();
            let mut delays: Vec<Duration> = ways.iter().filter(|way| way.is_warm).map(Way::delay).collect();
            delays.sort_unstable();
            let at =
                |share: f64| delays.get((delays.len().saturating_sub(1) as f64 * share) as usize).map_or(0.0, |d| d.as_secs_f64() * 1e3);
            let late = delays.iter().filter(|delay| **delay > LATE).count();
            let more = json!({ "streams": self.streams, "rate": self.rate, "late": late, "late_in_warm_up": late_in_warm_up, "median_ms": at(0.5), "p99_ms": at(0.99), "worst_ms": at(1.0), "late_frames": account_for_late(&ways, start) });
            crate::report::print("streams", &self.clip, device, frames, seconds, more)
        })
    }

    /// Reads a stream in real time.
    fn pace(&self, stream: u32, options: &DeviceOptions, sender: &Sender<Due>, ready: &Barrier) -> anyhow::Result<()> {
        let mut input = crate::read::input(&self.clip);
        input.stream = StreamId(stream);
        let opened = DeviceReader::open(&input, options);
        ready.wait();
        let mut reader = opened?;
        // Offsets the streams in time, so that their frames are not due at the same moment.
        let start = Instant::now() + Duration::from_secs_f64(f64::from(stream) / f64::from(self.streams) / self.rate);
        let mut count = 0;
        while count < self.frames {
            let frame = match reader.next_item()? {
                Some(MediaItem::Frame(frame)) => frame,
                Some(_) => continue,
                None => {
                    reader = DeviceReader::open(&input, options)?;
                    continue;
                }
            };
            let at = start + Duration::from_secs_f64(count as f64 / self.rate);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            let is_warm = count >= WARM_UP_FRAMES;
            if sender.send(Due { frame, stream, at, sent: Instant::now(), is_warm }).is_err() {
                break;
            }
            count += 1;
        }
        Ok(())
    }

    /// Runs the model on incoming frames; returns the timing of each frame from its due time to its boxes.
    fn detect(&self, detector: &mut Detector, frames: &Receiver<Due>) -> anyhow::Result<Vec<Way>> {
        let (mut ways, mut under_way) = (Vec::new(), std::collections::VecDeque::new());
        let mut is_open = true;
        while is_open || detector.in_flight() > 0 {
            let mut batch: Vec<Due> = Vec::new();
            let mut deadline = Instant::now() + MAX_WAIT;
            while is_open && batch.len() < self.batch {
                match frames.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                    Ok(due) => {
                        if batch.is_empty() {
                            deadline = Instant::now() + MAX_WAIT;
                        }
                        batch.push(due);
                    }
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => is_open = false,
                }
            }
            if !batch.is_empty() {
                let images: Vec<&Frame> = batch.iter().map(|due| &due.frame).collect();
                detector.submit(&images)?;
                let submitted = Instant::now();
                let way =
                    |due: &Due| Way { stream: due.stream, at: due.at, sent: due.sent, submitted, done: submitted, is_warm: due.is_warm };
                under_way.push_back(batch.iter().map(way).collect::<Vec<_>>());
            }
            while detector.in_flight() > 0 && (detector.would_wait() || batch.is_empty() || detector.in_flight() > 1) {
                detector.collect()?;
                let done = Instant::now();
                ways.extend(under_way.pop_front().unwrap_or_default().into_iter().map(|way| Way { done, ..way }));
            }
        }
        Ok(ways)
    }
}
