//! Helpers shared by reader tests.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::path::Path;

use framerail_core::{Frame, FramePool};
use framerail_media::{Damage, InputOptions, MediaItem, MediaReader, SideStreams};

/// Frames of a decode from the start, and the damage of the source.
pub fn frames_and_damage(options: &InputOptions) -> (Vec<Frame>, Damage) {
    let mut reader = MediaReader::open(options, &FramePool::new(2)).expect("a readable clip");
    let mut frames = Vec::new();
    while let Some(item) = reader.next().expect("no fatal error") {
        if let MediaItem::Frame(frame) = item {
            frames.push(frame);
        }
    }
    (frames, reader.damage().clone())
}

/// Frames of a decode from the start.
pub fn sequential(path: &Path) -> Vec<Frame> {
    let options = InputOptions { side_streams: SideStreams::None, threads: 1, ..InputOptions::new(path.to_string_lossy()) };
    frames_and_damage(&options).0
}

/// The first GPU; `None` when there is none, which is reported on standard error.
#[cfg(feature = "cuda")]
pub fn gpu(test: &str) -> Option<std::sync::Arc<framerail_cuda::CudaDevice>> {
    use std::io::Write;

    let reason = match framerail_cuda::device_count() {
        Ok(count) if count > 0 => return Some(framerail_cuda::CudaDevice::open(0).expect("a GPU that works")),
        Ok(_) => "no GPU".to_owned(),
        Err(error) => error.to_string(),
    };
    let _ = writeln!(std::io::stderr(), "GPU TESTS DID NOT RUN: {test}: {reason}");
    assert!(std::env::var_os("FRAMERAIL_REQUIRE_GPU").is_none(), "FRAMERAIL_REQUIRE_GPU is set, but no GPU was found");
    None
}
