//! Frames to draw on, on the host or a GPU.

use framerail_core::{Frame, FramePool};
use framerail_cuda::kernels::{DrawJob, draw_batch};
use framerail_pipeline::{CopyKind, StageContext, StageError};
use framerail_vision::{Canvas, Sketch};

use crate::{
    convert::{core_error, cuda_error, vision_error},
    gpu_canvas::GpuCanvases,
};

/// One worker's resources for drawing on frames. Frames with other holders are copied first, and the copies are counted.
pub(crate) struct FrameCanvas {
    pool: FramePool,
    gpus: GpuCanvases,
    context: Option<StageContext>,
}

impl FrameCanvas {
    /// Copies come from `pool`.
    pub(crate) fn new(pool: &FramePool) -> Self {
        Self { pool: pool.clone(), gpus: GpuCanvases::default(), context: None }
    }

    /// Counter of copies.
    pub(crate) fn start(&mut self, context: &StageContext) {
        self.context = Some(context.clone());
    }

    /// Draws a sketch, which the callback fills for the frame.
    ///
    /// # Errors
    /// `Resource`, and `Internal` for a frame that cannot be written.
    pub(crate) fn draw(&mut self, frame: &mut Frame, sketched: impl FnOnce(Sketch) -> Sketch) -> Result<(), StageError> {
        let color = frame.color;
        if let Some(gpu) = self.gpus.for_frame(frame).map_err(cuda_error)? {
            let surface = gpu.writable(frame).map_err(cuda_error)?;
            let sketch = sketched(Sketch::new((surface.width(), surface.height()), surface.format(), &color));
            draw_batch(&gpu.stream, &gpu.pool, &[DrawJob { surface, strokes: sketch.strokes() }]).map_err(cuda_error)?;
            if let Some(context) = &self.context {
                self.gpus.account(context);
            }
            return Ok(());
        }
        let copied_bytes = frame.make_writable(&self.pool).map_err(core_error)?;
        if let Some(context) = &self.context {
            context.count_copy(CopyKind::Host, copied_bytes);
        }
        let surface = frame.surface.host_mut().map_err(core_error)?;
        let sketch = sketched(Sketch::new((surface.width(), surface.height()), surface.format(), &color));
        Canvas::new(surface, &color).paint(&sketch).map_err(vision_error)
    }
}
