//! Statistics of a reader and its threads.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{FrameInfo, FrameStatus, ReaderStats};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Counts shared by a reader, its decoders and its batches.
        #[derive(Default)]
        pub(crate) struct Counters {
            $($(#[$doc])* pub(crate) $name: Counter,)+
        }

        impl Counters {
            pub(crate) fn stats(&self) -> ReaderStats {
                ReaderStats { $($name: self.$name.get(),)+ }
            }
        }

        impl ReaderStats {
            /// Combines each counter of both.
            pub(crate) fn each(self, other: Self, combine: impl Fn(u64, u64) -> u64) -> Self {
                Self { $($name: combine(self.$name, other.$name),)+ }
            }
        }
    };
}

/// A counter.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        // Sums only: no ordering with other data is needed.
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

counters!(
    pictures_decoded,
    packets_skipped,
    pictures_converted,
    frames_delivered,
    frames_repaired,
    frames_missing,
    frames_rescaled,
    seeks,
    decoders_opened,
    upload_bytes,
    download_bytes,
    device_copies,
);

impl Counters {
    /// Counts frames that are returned to the caller.
    pub(crate) fn deliver(&self, frames: &[FrameInfo]) {
        let with = |status| frames.iter().filter(|frame| frame.status == status).count() as u64;
        self.frames_delivered.add(frames.len() as u64);
        self.frames_repaired.add(with(FrameStatus::Repaired));
        self.frames_missing.add(with(FrameStatus::Missing));
    }
}
