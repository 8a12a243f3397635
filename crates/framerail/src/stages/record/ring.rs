//! The latest packets of a stream, and clips made of them.

use std::{collections::VecDeque, path::PathBuf};

use framerail_media::{MediaError, PacketFile, PacketTarget, PushPacket};

/// How far audio may lag behind video in a container: a clip waits this long for it.
const GRACE_SECS: f64 = 0.5;
/// Tolerance for comparing times that containers round.
const ROUNDING_SECS: f64 = 1e-4;

struct Entry {
    number: u64,
    pts: f64,
    dts: f64,
    is_video: bool,
    is_keyframe: bool,
    packet: PushPacket,
}

/// Packets in order of arrival.
#[derive(Default)]
pub(super) struct Ring {
    entries: VecDeque<Entry>,
    next: u64,
    bytes: usize,
}

impl Ring {
    pub(super) fn push(&mut self, packet: PushPacket) {
        let (is_video, is_keyframe) = (packet.is_video(), packet.is_keyframe());
        let last = self.entries.back().map_or(0.0, |entry| entry.pts);
        let (pts, dts) = (packet.pts_seconds().unwrap_or(last), packet.dts_seconds().unwrap_or(last));
        self.bytes += packet.bytes();
        self.entries.push_back(Entry { number: self.next, pts, dts, is_video, is_keyframe, packet });
        self.next += 1;
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The last keyframe at or before a time, else the first one.
    fn keyframe(&self, secs: f64) -> Option<&Entry> {
        let mut keyframes = self.entries.iter().filter(|entry| entry.is_keyframe);
        keyframes.clone().rfind(|entry| entry.pts <= secs + ROUNDING_SECS).or_else(|| keyframes.next())
    }

    /// Drops packets that no clip from this time on needs, except unwritten ones from `unwritten` on.
    pub(super) fn forget(&mut self, secs: f64, unwritten: Option<u64>) {
        let Some((number, pts)) = self.keyframe(secs).map(|entry| (entry.number, entry.pts)) else { return };
        self.forget_before(number.min(unwritten.unwrap_or(u64::MAX)), pts);
    }

    fn forget_before(&mut self, number: u64, pts: f64) {
        if self.entries.front().is_none_or(|entry| entry.number >= number) {
            return;
        }
        let mut bytes = self.bytes;
        self.entries.retain(|entry| {
            // Audio of the first frames may have arrived before them.
            let is_kept = entry.number >= number || (!entry.is_video && entry.pts >= pts);
            bytes -= if is_kept { 0 } else { entry.packet.bytes() };
            is_kept
        });
        self.bytes = bytes;
    }

    /// Drops the first group of pictures; `false` if it is the only one, or a clip needs it.
    pub(super) fn forget_group(&mut self, unwritten: Option<u64>) -> bool {
        let second = self.entries.iter().filter(|entry| entry.is_keyframe).nth(1).map(|entry| (entry.number, entry.pts));
        match second.filter(|(number, _)| unwritten.is_none_or(|unwritten| *number <= unwritten)) {
            Some((number, pts)) => {
                self.forget_before(number, pts);
                true
            }
            None => false,
        }
    }
}

/// A file written from packets of a ring.
pub(super) struct Clip {
    pub(super) path: PathBuf,
    /// Set once its first packet is there: an encoder delays its input.
    file: Option<PacketFile>,
    /// Time of its first frame, before that the requested time; and the end time (exclusive).
    start_secs: f64,
    end_secs: f64,
    /// Latest possible end.
    last_secs: f64,
    /// Number of the first unwritten packet.
    next: u64,
    keyframes: u64,
    /// Whether video packets after the end were skipped.
    is_closing: bool,
    pub(super) packets: u64,
}

impl Clip {
    /// A clip from the last keyframe at or before `start_secs`.
    pub(super) fn new(path: PathBuf, start_secs: f64, end_secs: f64, last_secs: f64) -> Self {
        let end_secs = end_secs.min(last_secs);
        Self { path, file: None, start_secs, end_secs, last_secs, next: 0, keyframes: 0, is_closing: false, packets: 0 }
    }

    /// Opens the file once its first keyframe is known; returns the keyframe's time.
    pub(super) fn open(&mut self, ring: &Ring, target: &PacketTarget, is_end: bool) -> Result<Option<f64>, MediaError> {
        let has_come = is_end || ring.entries.iter().rev().find(|entry| entry.is_video).is_some_and(|entry| entry.pts >= self.start_secs);
        let Some(first) = ring.keyframe(self.start_secs).filter(|_| has_come && self.file.is_none()) else { return Ok(None) };
        (self.next, self.start_secs) = (first.number, first.pts);
        self.file = Some(target.create(&self.path)?);
        for entry in ring.entries.iter().take_while(|entry| entry.number < first.number).filter(|entry| !entry.is_video) {
            self.side(entry)?;
        }
        Ok(Some(first.pts))
    }

    /// The file, if open.
    pub(super) fn into_file(self) -> Option<PacketFile> {
        self.file
    }

    /// The first packet that it still needs; `None` if it is not open.
    pub(super) fn next(&self) -> Option<u64> {
        self.file.is_some().then_some(self.next)
    }

    /// The start time of a clip that is not open.
    pub(super) fn awaits(&self) -> Option<f64> {
        self.file.is_none().then_some(self.start_secs)
    }

    /// Moves the end; `false` if it is too late.
    pub(super) fn extend(&mut self, end_secs: f64, event_secs: f64) -> bool {
        if self.is_closing || event_secs > self.end_secs || event_secs >= self.last_secs {
            return false;
        }
        self.end_secs = self.end_secs.max(end_secs).min(self.last_secs);
        true
    }

    /// Whether the clip is complete when frames have reached this time.
    pub(super) fn is_over(&self, reached_secs: f64) -> bool {
        self.is_closing && reached_secs >= self.end_secs + GRACE_SECS
    }

    /// Writes the packets needed for frames up to this time.
    pub(super) fn write(&mut self, ring: &Ring, reached_secs: f64) -> Result<(), MediaError> {
        if self.file.is_none() {
            return Ok(());
        }
        let from = ring.entries.partition_point(|entry| entry.number < self.next);
        for entry in ring.entries.range(from..) {
            if entry.is_video && entry.dts > reached_secs {
                break;
            }
            match entry.is_video {
                true if entry.dts >= self.end_secs - ROUNDING_SECS => self.is_closing = true,
                true => self.video(entry)?,
                false => self.side(entry)?,
            }
            self.next = entry.number + 1;
        }
        Ok(())
    }

    fn video(&mut self, entry: &Entry) -> Result<(), MediaError> {
        self.keyframes += u64::from(entry.is_keyframe);
        // Leading pictures refer to frames before the first keyframe.
        if self.keyframes == 1 && entry.pts < self.start_secs - ROUNDING_SECS {
            return Ok(());
        }
        self.packets += 1;
        self.file.as_mut().map_or(Ok(()), |file| file.write(&entry.packet))
    }

    fn side(&mut self, entry: &Entry) -> Result<(), MediaError> {
        if entry.pts < self.start_secs - ROUNDING_SECS || entry.pts >= self.end_secs {
            return Ok(());
        }
        self.packets += 1;
        self.file.as_mut().map_or(Ok(()), |file| file.write(&entry.packet))
    }
}
