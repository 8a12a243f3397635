//! The contact sheet: frames before and after, spread evenly over the frames with faces.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use framerail::{
    core::{Frame, FramePool, HostSurface, RunFiles},
    media::{ImageFormat, encode_image},
    pipeline::{FrameItem, Probe, Verdict},
    vision::{SheetImage, contact_sheet, size_within, thumbnail},
};

use crate::{
    exit::{Failure, INTERNAL, USAGE},
    outputs,
};

/// Frames on a sheet.
const FRAMES: usize = 6;

/// Frames kept during the run, so that the final six can be chosen evenly.
const KEPT: usize = 2 * FRAMES;

/// Maximum side of a thumbnail, in pixels.
const SIDE: u32 = 480;

/// Before, after, before, after.
const COLUMNS: u32 = 4;

const JPEG_QUALITY: u8 = 90;

/// A frame by stream and index.
type Key = (u32, u64);

struct Candidate {
    number: u64,
    seconds: f64,
    before: HostSurface,
    after: Option<HostSurface>,
}

struct Candidates {
    /// Frames with faces so far.
    seen: u64,
    /// Interval of the kept frames; doubles when there are too many.
    stride: u64,
    kept: BTreeMap<Key, Candidate>,
    pool: FramePool,
}

/// Collects thumbnails during the run, in constant memory.
#[derive(Clone)]
pub struct ContactSheet {
    path: PathBuf,
    overwrite: bool,
    files: RunFiles,
    format: ImageFormat,
    /// Caption of the second image of a pair.
    second: &'static str,
    candidates: Arc<Mutex<Candidates>>,
}

impl ContactSheet {
    /// A contact sheet to be written to a file.
    ///
    /// # Errors
    /// `USAGE` unless the name ends in .png or .jpg, `OUTPUT` when it cannot be written.
    pub fn new(path: &Path, overwrite: bool, files: &RunFiles) -> Result<Self, Failure> {
        let format = ImageFormat::of(path, JPEG_QUALITY)
            .map_err(|_| Failure::new(USAGE, format_args!("--contact-sheet {}: name a file that ends in .png or .jpg", path.display())))?;
        outputs::check(path, overwrite, files)?;
        let candidates = Candidates { seen: 0, stride: 1, kept: BTreeMap::new(), pool: FramePool::new(2 * KEPT) };
        Ok(Self {
            path: path.to_owned(),
            overwrite,
            files: files.clone(),
            format,
            second: "after",
            candidates: Arc::new(Mutex::new(candidates)),
        })
    }

    /// The same with another caption for the second image of a pair.
    pub fn with_second(self, second: &'static str) -> Self {
        Self { second, ..self }
    }

    /// Callback for the edge into the stage that covers faces.
    pub fn before(&self) -> Probe {
        let candidates = Arc::clone(&self.candidates);
        Arc::new(move |item: &mut FrameItem| {
            if !item.detections.is_empty() {
                candidates.lock().unwrap_or_else(PoisonError::into_inner).see(&item.frame);
            }
            Verdict::Keep
        })
    }

    /// Callback for the edge into the stage that writes.
    pub fn after(&self) -> Probe {
        let candidates = Arc::clone(&self.candidates);
        Arc::new(move |item: &mut FrameItem| {
            candidates.lock().unwrap_or_else(PoisonError::into_inner).complete(&item.frame);
            Verdict::Keep
        })
    }

    /// Writes the sheet; `None` if no frame had a face.
    ///
    /// # Errors
    /// `OUTPUT`.
    pub fn write(&self) -> Result<Option<&Path>, Failure> {
        let mut candidates = self.candidates.lock().unwrap_or_else(PoisonError::into_inner);
        let images = candidates.choose(self.second);
        if images.is_empty() {
            return Ok(None);
        }
        let failed = |error: &dyn std::fmt::Display| Failure::new(INTERNAL, format_args!("the contact sheet cannot be drawn: {error}"));
        let sheet = contact_sheet(&images, COLUMNS, &candidates.pool).map_err(|error| failed(&error))?;
        let bytes = encode_image(&sheet, &Default::default(), self.format).map_err(|error| failed(&error))?;
        outputs::write(&self.path, &bytes, self.overwrite, &self.files)?;
        Ok(Some(&self.path))
    }
}

fn key(frame: &Frame) -> Key {
    (frame.stream.0, frame.index)
}

impl Candidates {
    fn see(&mut self, frame: &Frame) {
        let number = self.seen;
        self.seen += 1;
        if !number.is_multiple_of(self.stride) {
            return;
        }
        if self.kept.len() >= KEPT {
            self.stride *= 2;
            let stride = self.stride;
            self.kept.retain(|_, candidate| candidate.number.is_multiple_of(stride));
            if !number.is_multiple_of(stride) {
                return;
            }
        }
        if let Some(before) = image(frame, &self.pool) {
            self.kept.insert(key(frame), Candidate { number, seconds: frame.seconds(), before, after: None });
        }
    }

    fn complete(&mut self, frame: &Frame) {
        if let Some(candidate) = self.kept.get_mut(&key(frame)) {
            candidate.after = image(frame, &self.pool);
        }
    }

    /// The thumbnails of up to [`FRAMES`] frames, spread evenly over the kept ones, alternating before and after.
    fn choose(&mut self, second: &str) -> Vec<SheetImage> {
        let complete: Vec<(Key, Candidate)> =
            std::mem::take(&mut self.kept).into_iter().filter(|(_, candidate)| candidate.after.is_some()).collect();
        let wanted = spread(complete.len(), FRAMES);
        let chosen = complete.into_iter().enumerate().filter(|(place, _)| wanted.contains(place));
        let images = chosen.flat_map(|(_, ((_, index), candidate))| {
            let caption = format!("frame {index}, {:.2} s", candidate.seconds);
            let before = SheetImage { image: candidate.before, caption };
            [Some(before), candidate.after.map(|image| SheetImage { image, caption: second.to_owned() })]
        });
        images.flatten().collect()
    }
}

/// `None` for a frame without pixels. A frame on a GPU is copied to the host: there are only a few.
fn image(frame: &Frame, pool: &FramePool) -> Option<HostSurface> {
    let surface = &framerail::devices::host_image(frame).inspect_err(|error| log::debug!("no thumbnail: {error}")).ok()?;
    let (width, height) = size_within(surface.width(), surface.height(), SIDE, SIDE);
    thumbnail(surface, &frame.color, width, height, pool).inspect_err(|error| log::debug!("no thumbnail: {error}")).ok()
}

/// Up to `wanted` places of `count`, first and last among them.
fn spread(count: usize, wanted: usize) -> Vec<usize> {
    if count <= wanted {
        return (0..count).collect();
    }
    (0..wanted).map(|place| place * (count - 1) / (wanted - 1).max(1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_spread_from_first_to_last() {
        assert_eq!(spread(4, 6), [0, 1, 2, 3]);
        assert_eq!(spread(12, 6), [0, 2, 4, 6, 8, 11]);
        assert_eq!(spread(7, 6), [0, 1, 2, 3, 4, 6]);
    }
}
