//! What was wrong with a source, counted.

use serde::Serialize;

/// What a reader met that was not as it should be. All zero for a sound file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Packets that the container marks as damaged or cut off, and reads that it failed.
    pub packets_corrupt: u64,
    /// Packets that the decoder refused.
    pub packets_dropped: u64,
    /// Frames in which the decoder concealed errors.
    pub frames_repaired: u64,
    /// Frames without a usable picture (no memory, a size out of range, an unknown format).
    pub frames_dropped: u64,
    /// Frames whose timestamp was missing, doubled or backwards, and has been worked out.
    pub timestamps_repaired: u64,
    /// Errors that the decoder reported.
    pub decode_errors: u64,
    /// Numbers missing in an image sequence.
    pub images_missing: u64,
    /// Packets of a live stream left out because they came before its first keyframe. No damage in itself.
    pub packets_before_keyframe: u64,
    /// Why the source ended before its time, if it did.
    pub ended_early: Option<String>,
}

impl Damage {
    /// Whether anything was damaged.
    pub fn is_any(&self) -> bool {
        *self != Damage::default()
    }

    /// The sum of two parts' counts.
    pub fn merged(&self, other: &Damage) -> Damage {
        Damage {
            packets_corrupt: self.packets_corrupt + other.packets_corrupt,
            packets_dropped: self.packets_dropped + other.packets_dropped,
            frames_repaired: self.frames_repaired + other.frames_repaired,
            frames_dropped: self.frames_dropped + other.frames_dropped,
            timestamps_repaired: self.timestamps_repaired + other.timestamps_repaired,
            decode_errors: self.decode_errors + other.decode_errors,
            images_missing: self.images_missing + other.images_missing,
            packets_before_keyframe: self.packets_before_keyframe + other.packets_before_keyframe,
            ended_early: self.ended_early.clone().or_else(|| other.ended_early.clone()),
        }
    }
}
