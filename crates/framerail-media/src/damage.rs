//! What was wrong with a source, counted.

use serde::Serialize;

/// What a reader met that was not as it should be. All zero for an intact file.
///
/// A frame is counted once: among those that were repaired, lost or dropped. Errors of the container and of packets stand
/// beside them, since not all of them cost a frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Packets that the container marks as damaged or cut off, and reads that failed.
    pub packets_corrupt: u64,
    /// Packets that the decoder refused.
    pub packets_dropped: u64,
    /// Packets that a network transport reported missing.
    pub packets_lost: u64,
    /// Errors in the container's structure: the demuxer skipped something, or searched for the next place that makes sense.
    pub container_errors: u64,
    /// Frames in which the decoder found or concealed errors.
    pub frames_repaired: u64,
    /// Frames that are missing, by the container's count or by a gap in the timeline where damage was met.
    pub frames_lost: u64,
    /// Frames without a usable picture (no memory, a size out of range, an unknown format).
    pub frames_dropped: u64,
    /// Frames whose timestamp was missing, doubled or backwards, and has been worked out.
    pub timestamps_repaired: u64,
    /// Frames of a stream without any timestamps, such as raw H.264, which follow the frame rate, and the last frame of MPEG-PS. Not
    /// damage.
    pub timestamps_absent: u64,
    /// Errors that the decoder returned, and packets with errors of which no frame came.
    pub decode_errors: u64,
    /// Numbers missing in an image sequence.
    pub images_missing: u64,
    /// Packets of a live stream left out because they came before its first keyframe. No damage.
    pub packets_before_keyframe: u64,
    /// Why the source ended before its time, if it did.
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

    /// With the frames that are missing, once a source was read: by its container's count where that states one and anything
    /// was damaged, since gaps do not always show; by gaps where it does not.
    pub fn with_frames_lost(mut self, stated: Option<u64>, delivered: u64, by_gaps: u64) -> Self {
        // Files may well hold fewer frames than their header claims; that alone loses nothing.
        let is_damaged = Damage { timestamps_repaired: 0, ..self.clone() }.is_any();
        self.frames_lost += match stated.filter(|_| is_damaged) {
            Some(stated) => stated.saturating_sub(delivered + self.frames_dropped),
            // Damaged timestamps make gaps where nothing is missing.
            None if self.timestamps_repaired > 0 => by_gaps.min(self.timestamps_repaired),
            None => by_gaps,
        };
        self
    }

    /// Whether every frame had a usable timestamp.
    pub fn is_timed(&self) -> bool {
        self.timestamps_repaired == 0 && self.timestamps_absent == 0
    }

    /// The sum of two parts' counts.
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
