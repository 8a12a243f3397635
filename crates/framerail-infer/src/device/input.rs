//! From a frame to its place in a batch on the card.

use framerail_core::{DType, Device, Frame, PixelFormat, Surface};
use framerail_cuda::{
    CudaError, CudaStream, CudaSurface, CudaTensor, DeviceBuffer, DevicePool,
    kernels::{Channels, ConvertJob, TensorSpec, convert_batch},
};
use framerail_vision::{ChannelOrder, ModelMapping, Preprocess, Preprocessor, VisionError};

use crate::{InferError, binding::Element};

/// Writes frames into inputs of one size.
pub(super) struct InputWriter {
    preprocessor: Preprocessor,
    spec: TensorSpec,
}

/// Where a frame's pixels come from.
enum Source<'a> {
    Surface(&'a CudaSurface),
    Uploaded(Box<CudaSurface>),
    /// Converted already, by the decoder.
    Tensor(&'a CudaTensor),
}

/// What [`InputWriter::write`] did.
pub(super) struct Written {
    pub(super) mappings: Vec<ModelMapping>,
    /// Frames that lay on the host.
    pub(super) uploaded: usize,
}

impl InputWriter {
    pub(super) fn new(preprocessor: Preprocessor, element: Element) -> Self {
        let spec = tensor_spec(preprocessor.spec(), dtype(element));
        Self { preprocessor, spec }
    }

    /// Bytes of one frame's input.
    pub(super) fn item_bytes(&self) -> usize {
        self.spec.picture_bytes()
    }

    /// Refuses a frame that cannot become an input, before anything is queued.
    pub(super) fn check(&self, frame: &Frame, device: Device) -> Result<(), InferError> {
        self.mapping(frame)?;
        let Surface::Device(surface) = &frame.surface else { return Ok(()) };
        let fits =
            CudaSurface::of(&frame.surface).is_some() || CudaTensor::of(&frame.surface).is_some_and(|tensor| *tensor.spec() == self.spec);
        if fits && surface.device() == device {
            return Ok(());
        }
        let what = if fits { "another card's memory" } else { "a form that is neither a picture nor this model's input" };
        let reason = format!("frame {} lies on {} in {what}; put a download before this step", frame.index, surface.device());
        Err(InferError::Device { device, reason })
    }

    /// Queues the writing of frames into `out`, one behind the other.
    pub(super) fn write(
        &self,
        frames: &[&Frame],
        out: &DeviceBuffer,
        pool: &DevicePool,
        stream: &CudaStream,
        failed: impl Fn(CudaError) -> InferError,
    ) -> Result<Written, InferError> {
        let mut written = Written { mappings: Vec::with_capacity(frames.len()), uploaded: 0 };
        let mut sources = Vec::with_capacity(frames.len());
        for frame in frames {
            written.mappings.push(self.mapping(frame)?);
            sources.push(match (CudaSurface::of(&frame.surface), CudaTensor::of(&frame.surface)) {
                (Some(surface), _) => Source::Surface(surface),
                (None, Some(tensor)) => Source::Tensor(tensor),
                (None, None) => {
                    written.uploaded += 1;
                    let host = frame.surface.host().map_err(|error| refused(frame, error.into()))?;
                    Source::Uploaded(Box::new(CudaSurface::upload(host, pool, stream).map_err(&failed)?))
                }
            });
        }
        let mut jobs = Vec::with_capacity(frames.len());
        for (item, (frame, source)) in frames.iter().zip(&sources).enumerate() {
            let out_offset_bytes = item * self.item_bytes();
            let surface = match source {
                Source::Surface(surface) => *surface,
                Source::Uploaded(surface) => surface,
                Source::Tensor(tensor) => {
                    out.copy_from(out_offset_bytes, tensor.buffer(), 0, self.item_bytes(), stream).map_err(&failed)?;
                    continue;
                }
            };
            let plan = self.preprocessor.plan(surface.width(), surface.height(), surface.format(), &frame.color, None);
            let conversion = plan.map_err(|error| refused(frame, error))?.conversion();
            jobs.push(ConvertJob { surface, conversion, out, out_offset_bytes });
        }
        if !jobs.is_empty() {
            convert_batch(stream, &self.spec, &jobs).map_err(&failed)?;
        }
        Ok(written)
    }

    /// From the frame's pixels to the model's.
    fn mapping(&self, frame: &Frame) -> Result<ModelMapping, InferError> {
        let (width, height) = match CudaSurface::of(&frame.surface) {
            Some(surface) => (surface.width(), surface.height()),
            None => (frame.width, frame.height),
        };
        // The mapping is one of geometry only; any format gives it.
        let plan = self.preprocessor.plan(width, height, PixelFormat::Rgb24, &frame.color, None);
        plan.map(|plan| plan.mapping).map_err(|error| refused(frame, error))
    }
}

fn refused(frame: &Frame, source: VisionError) -> InferError {
    InferError::Frame { index: frame.index, stream: frame.stream.0, pts: frame.pts.0, source }
}

pub(super) fn dtype(element: Element) -> DType {
    match element {
        Element::F32 => DType::F32,
        Element::F16 => DType::F16,
    }
}

/// The kernels' words for a model input.
fn tensor_spec(spec: &Preprocess, dtype: DType) -> TensorSpec {
    let channels = match spec.channel_order {
        ChannelOrder::Rgb => Channels::Rgb,
        ChannelOrder::Bgr => Channels::Bgr,
        ChannelOrder::Gray => Channels::Gray,
        ChannelOrder::Hsv => Channels::Hsv,
    };
    TensorSpec { width: spec.width, height: spec.height, layout: spec.layout, dtype, channels }
}
