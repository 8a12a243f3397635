//! Writes a frame, or a part of one, to its place in a batch on the GPU.

use framerail_core::{DType, Device, PixelFormat, Surface};
use framerail_cuda::{
    CudaError, CudaSurface, CudaTensor, DeviceBuffer,
    kernels::{ConvertJob, TableCache, TensorSpec, convert_batch},
};
use framerail_vision::{ConversionPlan, ModelMapping, Preprocessor};

use super::memory::DeviceMemory;
use crate::{InferError, View, shared::frame_error};

/// Writes views into inputs of one size.
pub(super) struct InputWriter {
    preprocessor: Preprocessor,
    spec: TensorSpec,
    tables: TableCache,
}

/// Source of a frame's pixels.
enum Source<'a> {
    Surface(&'a CudaSurface),
    Uploaded(Box<CudaSurface>),
    /// Converted already, by the decoder.
    Tensor(&'a CudaTensor),
    /// As for the previous view: another part of its frame.
    SameAsBefore,
}

/// Result of [`InputWriter::write`].
pub(super) struct Written {
    pub(super) mappings: Vec<ModelMapping>,
    /// Number of frames on the host.
    pub(super) uploaded: usize,
}

impl InputWriter {
    pub(super) fn new(preprocessor: Preprocessor, dtype: DType) -> Self {
        let spec = preprocessor.spec().tensor_spec(dtype);
        Self { preprocessor, spec, tables: TableCache::default() }
    }

    /// Bytes of one frame's input.
    pub(super) fn item_bytes(&self) -> usize {
        self.spec.image_bytes()
    }

    /// Refuses a view that cannot become an input, before anything is queued.
    pub(super) fn check(&self, view: &View<'_>, device: Device) -> Result<(), InferError> {
        self.mapping(view)?;
        let frame = view.frame();
        let Surface::Device(surface) = &frame.surface else { return Ok(()) };
        // An input made from a whole frame cannot be cropped.
        let is_input = |tensor: &CudaTensor| *tensor.spec() == self.spec && view.area().is_none();
        let fits = CudaSurface::of(&frame.surface).is_some() || CudaTensor::of(&frame.surface).is_some_and(is_input);
        if fits && surface.device() == device {
            return Ok(());
        }
        let what = if fits { "memory of another GPU" } else { "a format that is neither a frame nor this model's input" };
        let reason = format!("frame {} lies on {} in {what}; put `download` before this stage", frame.index, surface.device());
        Err(InferError::Device { device, reason })
    }

    /// Queues the writing of views into `out`, one after the other. A frame on the host is uploaded once for neighbouring parts.
    pub(super) fn write(
        &self,
        views: &[View<'_>],
        out: &DeviceBuffer,
        DeviceMemory { pool, stream, .. }: &DeviceMemory,
        failed: impl Fn(CudaError) -> InferError,
    ) -> Result<Written, InferError> {
        let mut written = Written { mappings: Vec::with_capacity(views.len()), uploaded: 0 };
        let mut sources = Vec::with_capacity(views.len());
        for (item, view) in views.iter().enumerate() {
            let frame = view.frame();
            written.mappings.push(self.mapping(view)?);
            let before = item.checked_sub(1).and_then(|before| views.get(before));
            if before.is_some_and(|before| std::ptr::eq(before.frame(), frame)) {
                sources.push(Source::SameAsBefore);
                continue;
            }
            sources.push(match (CudaSurface::of(&frame.surface), CudaTensor::of(&frame.surface)) {
                (Some(surface), _) => Source::Surface(surface),
                (None, Some(tensor)) => Source::Tensor(tensor),
                (None, None) => {
                    written.uploaded += 1;
                    let host = frame.surface.host().map_err(|error| frame_error(frame, error.into()))?;
                    Source::Uploaded(Box::new(CudaSurface::upload(host, pool, stream).map_err(&failed)?))
                }
            });
        }
        let mut placed = Vec::with_capacity(views.len());
        let mut last = None;
        for (item, (view, source)) in views.iter().zip(&sources).enumerate() {
            let out_offset_bytes = item * self.item_bytes();
            let source = if matches!(source, Source::SameAsBefore) { last.unwrap_or(source) } else { source };
            last = Some(source);
            let surface = match source {
                Source::Surface(surface) => *surface,
                Source::Uploaded(surface) => surface,
                // There is no frame before the first.
                Source::SameAsBefore => continue,
                Source::Tensor(tensor) => {
                    out.copy_from(out_offset_bytes, tensor.buffer(), 0, self.item_bytes(), stream).map_err(&failed)?;
                    continue;
                }
            };
            let conversion = self.plan(view, surface.width(), surface.height(), surface.format())?.conversion();
            let tables = self.tables.tables(&conversion, (surface.width(), surface.height()), None, pool, stream).map_err(&failed)?;
            placed.push((surface, conversion, tables, out_offset_bytes));
        }
        let jobs = placed.iter().map(|(surface, conversion, tables, out_offset_bytes)| ConvertJob {
            surface,
            conversion: *conversion,
            tables: tables.as_deref(),
            out,
            out_offset_bytes: *out_offset_bytes,
        });
        let jobs: Vec<ConvertJob<'_>> = jobs.collect();
        if !jobs.is_empty() {
            convert_batch(stream, &self.spec, &jobs).map_err(&failed)?;
        }
        Ok(written)
    }

    /// From the frame's pixels to the model's.
    fn mapping(&self, view: &View<'_>) -> Result<ModelMapping, InferError> {
        let frame = view.frame();
        let (width, height) = match CudaSurface::of(&frame.surface) {
            Some(surface) => (surface.width(), surface.height()),
            None => (frame.width, frame.height),
        };
        // The mapping depends on geometry only, so any format will do.
        Ok(self.plan(view, width, height, PixelFormat::Rgb24)?.mapping)
    }

    fn plan(&self, view: &View<'_>, width: u32, height: u32, format: PixelFormat) -> Result<ConversionPlan, InferError> {
        let frame = view.frame();
        let plan = self.preprocessor.plan(width, height, format, &frame.color, frame.pixel_aspect(), view.area());
        plan.map_err(|error| frame_error(frame, error))
    }
}
