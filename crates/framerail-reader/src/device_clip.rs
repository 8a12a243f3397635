//! Frames of a file by their number, in the memory of a CUDA card.

use std::sync::Arc;

use framerail_core::{DeviceSurface, FramePool, Pts, StreamInfo};
use framerail_cuda::DevicePool;
use framerail_media::{Input, InputOptions, ProbeEffort};

use crate::{
    ReaderError,
    device::{DecodingCard, DeviceOptions, check, upright},
    device_engine::DeviceFrames,
    device_pieces::CopySurfaces,
    frame_index::{self, FrameIndex},
};

/// Bytes of surfaces that a clip keeps for the next request.
const KEEP_BYTES: usize = 256 << 20;

/// A frame of a clip.
#[derive(Clone, Debug)]
pub struct ClipFrame {
    /// Its number, in presentation order from 0.
    pub number: usize,
    /// Presentation time in ticks of the stream.
    pub pts: Pts,
    /// What was made of the picture. Frames asked for twice share it.
    pub surface: Arc<dyn DeviceSurface>,
    /// Whether the bitstream had errors here.
    pub has_errors: bool,
}

/// A file whose frames are read by their number.
///
/// A request visits each group of pictures once, spread over the card's engines; packets that nothing refers to are left out,
/// and only the pictures asked for leave the decoder.
pub struct DeviceClip {
    info: StreamInfo,
    frames: DeviceFrames,
}

impl DeviceClip {
    /// Opens a file and learns where its frames are: from the container's index where that is exact, else by reading every packet once.
    ///
    /// # Errors
    /// `NotOnDevice` when the card cannot decode it, or its packets do not tell its frames; else as [`Input::open`] and `Cuda`.
    pub fn open(options: &InputOptions, device: &DeviceOptions) -> Result<Self, ReaderError> {
        let options = InputOptions { probe: ProbeEffort::Header, ..frame_index::whole(options) };
        let mut input = Input::open(&options)?;
        check(&input, &device.device)?;
        let info = upright(&input, options.rotation);
        let index = FrameIndex::make(&mut input, &options, &FramePool::new(0))?;
        let make = match &device.make {
            Some(make) => Arc::clone(make),
            None => {
                let failed = |error| ReaderError::Cuda { source_name: info.source.to_string(), error };
                Arc::new(CopySurfaces::new(DevicePool::new(&device.device, KEEP_BYTES).map_err(failed)?))
            }
        };
        let mut cards = vec![DecodingCard { device: Arc::clone(&device.device), make }];
        cards.extend(device.others.iter().cloned());
        let frames = DeviceFrames::new(input, Arc::new(index), &options, &cards, device.decoders, usize::MAX)?;
        Ok(Self { info, frames })
    }

    /// The stream, as its header describes it.
    pub fn info(&self) -> &StreamInfo {
        &self.info
    }

    /// Frames.
    pub fn len(&self) -> usize {
        self.frames.index().len()
    }

    /// Whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Presentation time of a frame, in ticks of the stream.
    pub fn pts(&self, number: usize) -> Option<Pts> {
        self.frames.index().frames.get(number).map(|frame| Pts(frame.pts))
    }

    /// Frames by their numbers, in the order asked, duplicates allowed.
    ///
    /// # Errors
    /// `OutOfRange` for a number that is not there; `Media`, `Cuda`. The clip is of no use after an error of the card.
    pub fn frames(&mut self, numbers: &[usize]) -> Result<Vec<ClipFrame>, ReaderError> {
        let refuse = |reason| ReaderError::OutOfRange { source_name: self.info.source.to_string(), reason };
        if let Some(number) = numbers.iter().find(|number| **number >= self.len()) {
            return Err(refuse(format!("frame {number} was requested; there are {}, numbered from 0", self.len())));
        }
        let found = self.frames.pictures(numbers)?;
        let frame = |number: &usize| {
            let pts = self.pts(*number).unwrap_or(Pts(0));
            let missing = || refuse(format!("frame {number} at PTS {} did not come out of the decoder", pts.0));
            let picture = found.get(number).ok_or_else(missing)?;
            Ok(ClipFrame { number: *number, pts, surface: Arc::clone(&picture.surface), has_errors: picture.has_errors })
        };
        numbers.iter().map(frame).collect()
    }
}
