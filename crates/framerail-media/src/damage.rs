//! Counts of damage found in a source.

use serde::Serialize;

/// Counts of problems that a reader found. All zero for an intact file.
///
/// Each frame is counted once: as repaired, lost or dropped. Container and packet errors are counted separately, since not
/// all of them cost a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Packets that the container marks as damaged or truncated, and failed reads.
    pub packets_corrupt: u64,
    /// Packets that the decoder rejected.
    pub packets_dropped: u64,
    /// Packets that a network transport reported missing.
    pub packets_lost: u64,
    /// Errors in the container's structure, where the demuxer skipped data or resynchronised.
    pub container_errors: u64,
    /// Frames in which the decoder found or concealed errors.
    pub frames_repaired: u64,
    /// Missing frames, by the container's frame count, or by gaps in the timeline where damage was found.
    pub frames_lost: u64,
    /// Frames that could not be used (out of memory, size out of range, unknown format).
    pub frames_dropped: u64,
    /// Frames whose timestamp was a duplicate or backward, and was repaired.
    pub timestamps_repaired: u64,
    /// Frames without a timestamp, which follow the frame before: all of raw H.264, and some of MPEG-PS, which FFmpeg cannot derive from
    /// their neighbours. Not damage.
    pub timestamps_absent: u64,
    /// Errors that the decoder returned, and packets with errors that produced no frame.
    pub decode_errors: u64,
    /// Missing numbers in an image sequence.
    pub images_missing: u64,
    /// Packets of a live stream that were dropped because they precede its first keyframe. Not damage.
    pub packets_before_keyframe: u64,
    /// Why the source ended early, if it did.
    pub ended_early: Option<String>,
}

impl Damage {
    /// Whether anything was damaged.
    pub fn is_any(&self) -> bool {
        let harmless = Damage {
            timestamps_absent: self.timestamps_absent,
            packets_before_keyframe: self.packets_before_keyframe,
            ..Damage::default()
        };
        *self != harmless
    }

    /// Adds the missing frames after a source was read: by the container's frame count if it states one and anything was
    /// damaged, since gaps are not always visible; by gaps if it states none.
    pub fn with_frames_lost(mut self, stated: Option<u64>, delivered: u64, by_gaps: u64) -> Self {
        // An intact file may hold fewer frames than its header states.
        let is_damaged = Damage { timestamps_repaired: 0, ..self.clone() }.is_any();
        self.frames_lost += match stated.filter(|_| is_damaged) {
            Some(stated) => stated.saturating_sub(delivered + self.frames_dropped),
            None => by_gaps,
        };
        self
    }

    /// Whether every frame had a usable timestamp.
    pub fn is_timed(&self) -> bool {
        self.timestamps_repaired == 0 && self.timestamps_absent == 0
    }

    /// The sum of both counts.
    pub fn merged(&self, other: &Damage) -> Damage {
        Damage {
            packets_corrupt: self.packets_corrupt + other.packets_corrupt,
            packets_dropped: self.packets_dropped + other.packets_dropped,
            packets_lost: self.packets_lost + other.packets_lost,
            container_errors: self.container_errors + other.container_errors,
            frames_repaired: self.frames_repaired + other.frames_repaired,
            frames_lost: self.frames_lost + other.frames_lost,
            frames_dropped: self.frames_dropped + other.frames_dropped,
            timestamps_repaired: self.timestamps_repaired + other.timestamps_repaired,
            timestamps_absent: self.timestamps_absent + other.timestamps_absent,
            decode_errors: self.decode_errors + other.decode_errors,
            images_missing: self.images_missing + other.images_missing,
            packets_before_keyframe: self.packets_before_keyframe + other.packets_before_keyframe,
            ended_early: self.ended_early.clone().or_else(|| other.ended_early.clone()),
        }
    }
}
