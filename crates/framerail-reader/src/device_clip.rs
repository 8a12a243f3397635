//! Frames of a file by number, in the memory of a CUDA GPU.

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
    /// Frame number in presentation order, from 0.
    pub number: usize,
    /// Presentation time in ticks of the stream.
    pub pts: Pts,
    /// The converted frame. Frames requested twice share it.
    pub surface: Arc<dyn DeviceSurface>,
    /// Whether the bitstream had errors at this frame.
    pub has_errors: bool,
}

/// A file whose frames are read by number.
///
/// A request visits each GOP once, spread over the GPU's engines. Disposable packets that are not wanted are skipped, and only the
/// requested frames leave the decoder.
pub struct DeviceClip {
    info: StreamInfo,
    frames: DeviceFrames,
}

impl DeviceClip {
    /// Opens a file and builds its frame index: from the container's index if that is exact, otherwise by reading every packet once.
    ///
    /// # Errors
    /// `NotOnDevice` when the GPU cannot decode it or its packets do not identify its frames; otherwise as [`Input::open`], and `Cuda`.
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
        let mut gpus = vec![DecodingCard { device: Arc::clone(&device.device), make }];
        gpus.extend(device.others.iter().cloned());
        let frames = DeviceFrames::new(input, Arc::new(index), &options, &gpus, device.decoders, usize::MAX)?;
        Ok(Self { info, frames })
    }

    /// The stream, as its header describes it.
    pub fn info(&self) -> &StreamInfo {
        &self.info
    }

    /// Number of frames.
    pub fn len(&self) -> usize {
        self.frames.index().len()
    }

    /// Whether the file has no frames.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Presentation time of a frame, in ticks of the stream.
    pub fn pts(&self, number: usize) -> Option<Pts> {
        self.frames.index().frames.get(number).map(|frame| Pts(frame.pts))
    }

    /// Returns frames by number, in the order requested; duplicates are allowed.
    ///
    /// # Errors
    /// `OutOfRange` for a number that does not exist; `Media`, `Cuda`. After a GPU error the clip cannot be used again.
    pub fn frames(&mut self, numbers: &[usize]) -> Result<Vec<ClipFrame>, ReaderError> {
        let refuse = |reason| ReaderError::OutOfRange { source_name: self.info.source.to_string(), reason };
        if let Some(number) = numbers.iter().find(|number| **number >= self.len()) {
            return Err(refuse(format!("frame {number} was requested; there are {}, numbered from 0", self.len())));
        }
        let found = self.frames.images(numbers)?;
        let frame = |number: &usize| {
            let pts = self.pts(*number).unwrap_or(Pts(0));
            let missing = || refuse(format!("frame {number} at PTS {} did not come out of the decoder", pts.0));
            let image = found.get(number).ok_or_else(missing)?;
            Ok(ClipFrame { number: *number, pts, surface: Arc::clone(&image.surface), has_errors: image.has_errors })
        };
        numbers.iter().map(frame).collect()
    }
}
