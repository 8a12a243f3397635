//! Helpers shared by engine tests.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::{sync::Arc, time::Duration};

use framerail_core::{ColorDescription, Frame, FramePool, PixelFormat, Pts, Rotation, StreamId, StreamInfo, TimeBase};
use framerail_pipeline::{FrameItem, StreamRequest};

/// Far longer than any run takes; a run that is not over by then has hung.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A frame of one grey pixel.
pub fn frame(stream: StreamId, index: u64, pts: i64) -> FrameItem {
    let surface = FramePool::new(0).surface(PixelFormat::Gray8, 1, 1).expect("size in range");
    FrameItem::new(Frame { stream, index, pts: Pts(pts), ..Frame::of(surface) })
}

/// Stream info as its source would report it.
pub fn info(request: &StreamRequest) -> Arc<StreamInfo> {
    Arc::new(StreamInfo {
        id: request.id,
        source: request.source.clone(),
        name: request.name.clone(),
        codec: "rawvideo".into(),
        container: "test".into(),
        width: 1,
        height: 1,
        pixel_format: PixelFormat::Gray8,
        sample_aspect_ratio: None,
        color: ColorDescription::default(),
        rotation: Rotation::None,
        time_base: TimeBase::MICROS,
        frame_rate: None,
        start_offset_micros: 0,
        duration_secs: None,
        frames_estimate: None,
        bit_rate: None,
        metadata: Vec::new(),
        hdr: framerail_core::HdrMetadata::default(),
        field_order: framerail_core::FieldOrder::default(),
        not_delivered: Vec::new(),
        side_streams: Vec::new(),
    })
}

/// Panics without output, once [`hush_panics_on_purpose`] was called. Other panics are still printed, so that failures can be read.
pub fn panic_on_purpose() -> ! {
    panic!("on purpose")
}

/// See [`panic_on_purpose`].
pub fn hush_panics_on_purpose() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() != Some(&"on purpose") {
                usual(info);
            }
        }));
    });
}
