//! Notices a model that returns the same boxes for different frames: its input does not reach it as its model card says.

use std::{
    collections::{HashMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
};

use framerail_core::{BBox, Detection, Frame, StreamId};

/// Frames in a row after which the same boxes are reported.
const FRAMES: u32 = 30;

/// Rows and columns of pixels that are compared.
const SAMPLES: usize = 32;

struct Last {
    boxes: Vec<(BBox, f32)>,
    pixels: u64,
    /// Frames in a row with these boxes and other pixels than the frame before.
    frames: u32,
}

/// The last boxes of each stream.
#[derive(Default)]
pub(super) struct SameBoxes {
    streams: HashMap<StreamId, Last>,
    is_reported: bool,
}

impl SameBoxes {
    /// Takes the boxes that a model found in a whole frame. Returns whether to report them, which is at most once. Frames that are not in
    /// host memory are not compared.
    pub(super) fn is_stuck(&mut self, frame: &Frame, found: &[Detection]) -> bool {
        let Ok(surface) = frame.surface.host() else { return false };
        if self.is_reported || found.is_empty() {
            self.streams.remove(&frame.stream);
            return false;
        }
        let mut hasher = DefaultHasher::new();
        for y in (0..surface.height() as usize).step_by((surface.height() as usize / SAMPLES).max(1)) {
            let row = surface.row(0, y);
            row.iter().step_by((row.len() / SAMPLES).max(1)).for_each(|byte| byte.hash(&mut hasher));
        }
        let (pixels, boxes) = (hasher.finish(), found.iter().map(|found| (found.bbox, found.score)).collect());
        let last = self.streams.entry(frame.stream).or_insert(Last { boxes: Vec::new(), pixels, frames: 0 });
        if last.boxes != boxes {
            *last = Last { boxes, pixels, frames: 0 };
        } else if last.pixels != pixels {
            (last.pixels, last.frames) = (pixels, last.frames + 1);
        }
        self.is_reported = last.frames >= FRAMES;
        self.is_reported
    }
}

#[cfg(test)]
mod tests {
    use framerail_core::{FramePool, Label, PixelFormat};

    use super::*;

    /// The number of reports for 100 frames.
    fn reports(brightness: impl Fn(u8) -> u8, left: impl Fn(u8) -> f32) -> usize {
        let mut same = SameBoxes::default();
        let is_stuck = |index: &u8| {
            let mut surface = FramePool::new(1).surface(PixelFormat::Gray8, 64, 48).expect("size in range");
            surface.planes_mut().expect("fresh memory").plane(0).fill(brightness(*index));
            let bbox = BBox::from_xyxy(left(*index), 0.0, left(*index) + 5.0, 9.0);
            same.is_stuck(&Frame::of(surface), &[Detection::new(bbox, 0.9, Label { id: 0, name: "face".into() })])
        };
        (0..100).filter(is_stuck).count()
    }

    #[test]
    fn the_same_boxes_in_different_frames_are_reported_once() {
        assert_eq!(reports(|index| index, |_| 3.0), 1);
        assert_eq!(reports(|index| index, |index| f32::from(index / 20)), 0, "boxes that move");
        assert_eq!(reports(|_| 40, |_| 3.0), 0, "a still");
    }
}
