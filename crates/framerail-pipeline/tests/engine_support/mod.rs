//! What tests of the engine share.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::time::Duration;

use framerail_core::{Frame, FramePool, PixelFormat, Pts, StreamId};
use framerail_pipeline::FrameItem;

/// Far beyond what any run takes; one that is not over by then hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A frame of one grey pixel.
pub fn frame(stream: StreamId, index: u64, pts: i64) -> FrameItem {
    let surface = FramePool::new(0).surface(PixelFormat::Gray8, 1, 1).expect("size in range");
    FrameItem::new(Frame { stream, index, pts: Pts(pts), ..Frame::of(surface) })
}

/// A panic that prints nothing, once [`hush_panics_on_purpose`] was called; all others do, so that a failure of a test can be read.
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
