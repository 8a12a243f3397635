//! Counts copies between host and device, and host waits, per thread.
//!
//! Each pipeline stage runs on a separate thread, so calling [`Traffic::take`] after each step counts that stage's traffic.

use std::cell::Cell;

/// Copies and waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Copies from host to device.
    pub uploads: u64,
    /// Bytes of these copies.
    pub upload_bytes: u64,
    /// Copies from device to host.
    pub downloads: u64,
    /// Bytes of these copies.
    pub download_bytes: u64,
    /// Copies within device memory.
    pub device_copies: u64,
    /// Bytes of these copies.
    pub device_bytes: u64,
    /// Copies from one device to another.
    pub peer_copies: u64,
    /// Bytes of these copies.
    pub peer_bytes: u64,
    /// Number of times a thread waited for a stream or an event.
    pub syncs: u64,
}

thread_local! {
    static COUNT: Cell<Traffic> = const { Cell::new(Traffic::ZERO) };
}

impl Traffic {
    const ZERO: Traffic = Traffic {
        uploads: 0,
        upload_bytes: 0,
        downloads: 0,
        download_bytes: 0,
        device_copies: 0,
        device_bytes: 0,
        peer_copies: 0,
        peer_bytes: 0,
        syncs: 0,
    };

    /// Returns this thread's counts since the last call.
    pub fn take() -> Traffic {
        COUNT.take()
    }

    /// Adds another thread's counts to this thread's.
    pub fn charge(other: Traffic) {
        COUNT.with(|count| count.set(count.get().plus(other)));
    }

    /// The sum of both.
    pub fn plus(self, other: Traffic) -> Traffic {
        Traffic {
            uploads: self.uploads + other.uploads,
            upload_bytes: self.upload_bytes + other.upload_bytes,
            downloads: self.downloads + other.downloads,
            download_bytes: self.download_bytes + other.download_bytes,
            device_copies: self.device_copies + other.device_copies,
            device_bytes: self.device_bytes + other.device_bytes,
            peer_copies: self.peer_copies + other.peer_copies,
            peer_bytes: self.peer_bytes + other.peer_bytes,
            syncs: self.syncs + other.syncs,
        }
    }

    pub(crate) fn count_upload(bytes: usize) {
        Self::charge(Traffic { uploads: 1, upload_bytes: bytes as u64, ..Traffic::ZERO });
    }

    pub(crate) fn count_download(bytes: usize) {
        Self::charge(Traffic { downloads: 1, download_bytes: bytes as u64, ..Traffic::ZERO });
    }

    pub(crate) fn count_device_copy(bytes: usize) {
        Self::charge(Traffic { device_copies: 1, device_bytes: bytes as u64, ..Traffic::ZERO });
    }

    pub(crate) fn count_peer_copy(bytes: usize) {
        Self::charge(Traffic { peer_copies: 1, peer_bytes: bytes as u64, ..Traffic::ZERO });
    }

    pub(crate) fn count_sync() {
        Self::charge(Traffic { syncs: 1, ..Traffic::ZERO });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thread_has_its_own_count() {
        Traffic::take();
        Traffic::count_upload(10);
        Traffic::count_sync();
        let other = std::thread::spawn(|| {
            Traffic::count_download(5);
            Traffic::take()
        });
        let other = other.join().expect("no panic");
        assert_eq!((other.downloads, other.download_bytes, other.uploads), (1, 5, 0));
        Traffic::charge(other);
        let sum = Traffic::take();
        assert_eq!((sum.upload_bytes, sum.download_bytes, sum.syncs), (10, 5, 1));
        assert_eq!(Traffic::take(), Traffic::default());
    }
}
