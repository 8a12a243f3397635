//! Tests of the stage with frames on the host and, if there is one, on a GPU.

use std::sync::Arc;

use framerail_core::{BBox, Detection, DetectionOrigin, DeviceSurface, Frame, FramePool, Label, PixelFormat, Pts, Surface};
use framerail_cuda::{CudaDevice, CudaStream, CudaSurface, DevicePool};
use framerail_pipeline::StreamEnd;

use super::*;

const FRAMES: i64 = 14;
/// The first frame of the second scene.
const CUT: i64 = 6;

/// A dark scene after a bright one, with a face in the same place shortly before and after.
fn clip(place: impl Fn(framerail_core::HostSurface) -> Surface) -> Vec<Item> {
    let label = Label { id: 0, name: Arc::from("face") };
    let face = Detection::new(BBox::from_xyxy(20.0, 10.0, 60.0, 58.0), 0.9, label);
    let mut items = Vec::new();
    for pts in 0..FRAMES {
        let mut surface = FramePool::new(1).surface(PixelFormat::Nv12, 96, 64).expect("size in range");
        let mut planes = surface.planes_mut().expect("fresh memory");
        planes.plane(0).fill(if pts < CUT { 200 } else { 30 });
        planes.plane(1).fill(128);
        let mut item = FrameItem::new(Frame { surface: place(surface.clone()), index: pts as u64, pts: Pts(pts), ..Frame::of(surface) });
        item.analysed = true;
        if pts == CUT - 2 || pts == CUT + 2 {
            item.detections.push(face.clone());
        }
        items.push(item.into());
    }
    items.push(Item::StreamEnd(StreamEnd::default()));
    items
}

/// The output, in calls of up to this many items; checks the order.
fn run(items: Vec<Item>, cut: f64, together: usize) -> (Vec<Vec<Detection>>, Hold) {
    let options = HoldOptions::default();
    let (mut hold, mut out) = (Hold::new(Reach::Frames(5), 0.0, options, cut), Vec::new());
    for items in items.chunks(together) {
        hold.batch(items.to_vec(), &mut out).expect("a working GPU");
    }
    hold.finish(&mut out).expect("a working GPU");
    assert!(matches!(out.pop(), Some(Item::StreamEnd(_))), "the end comes last");
    let mut detections = Vec::new();
    for (item, pts) in out.into_iter().zip(0..) {
        let Item::Frame(item) = item else { panic!("only frames before the end") };
        assert_eq!(item.frame.pts, Pts(pts));
        detections.push(item.detections);
    }
    assert_eq!(detections.len() as i64, FRAMES);
    (detections, hold)
}

#[test]
fn reach_is_a_time_at_every_rate() {
    let frames = |secs, rate| Reach::Secs(secs).options(HoldOptions::default(), 0.0, rate).hold_frames;
    let rates = [Some(10.0), Some(24.0), Some(25.0), Some(30_000.0 / 1001.0), Some(60.0), None, Some(0.0), Some(1.0)];
    assert_eq!(rates.map(|rate| frames(0.35, rate)), [3, 8, 8, 10, 21, 8, 8, 1]);
    assert_eq!((frames(0.0, None), frames(1e9, Some(60.0))), (0, 1000));
    assert_eq!(Reach::Frames(12).options(HoldOptions::default(), 0.0, Some(10.0)).hold_frames, 12);
    assert_eq!(Reach::Secs(0.35).options(HoldOptions::default(), 0.0, Some(10.0)).weak_frames, 1);
}

fn interpolated(found: &[Vec<Detection>]) -> usize {
    found.iter().flatten().filter(|detection| detection.origin == DetectionOrigin::Interpolated).count()
}

#[test]
fn nothing_is_interpolated_across_a_cut() {
    for together in [1, 4] {
        let (found, hold) = run(clip(Surface::Host), 0.5, together);
        assert_eq!((interpolated(&found), hold.frames_unseen), (0, 0));
        assert_eq!(found[CUT as usize].len(), 2, "held from both sides");
        let (found, hold) = run(clip(Surface::Host), NEVER, together);
        assert_eq!((interpolated(&found), hold.frames_unseen), (3, 0));
    }
}

/// Device memory without a frame, like a model's input.
#[derive(Debug)]
struct NoPicture;

impl DeviceSurface for NoPicture {
    fn device(&self) -> Device {
        Device::Cuda(0)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

#[test]
fn frames_without_pixels_are_counted_and_held() {
    let clip = || clip(|_| Surface::Device(Arc::new(NoPicture)));
    let (found, hold) = run(clip(), 0.5, 4);
    assert_eq!((interpolated(&found), hold.frames_unseen), (3, FRAMES as u64));
    assert_eq!(run(clip(), NEVER, 4).1.frames_unseen, 0, "no look was asked for");
}

#[test]
fn cuts_are_seen_on_a_gpu_as_on_the_host() {
    let gpu = CudaDevice::open(0).and_then(|device| Ok((CudaStream::new(&device)?, DevicePool::new(&device, 64 << 20)?)));
    let (stream, pool) = match gpu {
        Ok(gpu) => gpu,
        Err(error) => {
            eprintln!("GPU TESTS DID NOT RUN: {error}");
            assert!(std::env::var_os("FRAMERAIL_REQUIRE_GPU").is_none(), "FRAMERAIL_REQUIRE_GPU is set, and there is no GPU");
            return;
        }
    };
    let on_gpu = || clip(|host| Surface::Device(Arc::new(CudaSurface::upload(&host, &pool, &stream).expect("a working GPU"))));
    for together in [1, 4] {
        Traffic::take();
        let items = on_gpu();
        Traffic::take();
        let (found, hold) = run(items, 0.5, together);
        let moved = Traffic::take();
        assert_eq!(found, run(clip(Surface::Host), 0.5, together).0);
        assert_eq!(hold.frames_unseen, 0);
        assert_eq!((moved.download_bytes, moved.uploads, moved.device_copies), (FRAMES as u64 * 128, 0, 0));
        let (found, _) = run(on_gpu(), NEVER, together);
        assert_eq!(interpolated(&found), 3);
        assert_eq!(Traffic::take().downloads, 0, "cut=1 looks at nothing");
    }
}
