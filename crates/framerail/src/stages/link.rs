//! What stages say when they do not fit.

use framerail_core::Device;
use framerail_pipeline::{DetectionFormat, EdgeFormat, LinkMismatch, PlanError};

/// The input of a stage that is not a source. The engine links no such stage without one.
pub(super) fn input_of(input: Option<&EdgeFormat>) -> Result<&EdgeFormat, PlanError> {
    input.ok_or_else(|| PlanError::Link(LinkMismatch { needs: "frames".into(), mend: "put `read FILE` before it".into() }))
}

/// Frames in host memory; the planner copies those that lie elsewhere.
pub(super) fn host_frames(input: Option<&EdgeFormat>) -> Result<&EdgeFormat, PlanError> {
    let input = input_of(input)?;
    if input.device == Device::Cpu { Ok(input) } else { Err(PlanError::NeedsDevice(Device::Cpu)) }
}

/// Whether a model has said something of the frames: of things in them, or of each as a whole.
pub(super) fn models_of(input: &EdgeFormat) -> Result<Option<&DetectionFormat>, PlanError> {
    if input.frame_models.is_empty() { detections_of(input).map(Some) } else { Ok(input.detections.as_ref()) }
}

/// The detections of the input.
pub(super) fn detections_of(input: &EdgeFormat) -> Result<&DetectionFormat, PlanError> {
    input.detections.as_ref().ok_or_else(|| {
        PlanError::Link(LinkMismatch {
            needs: "frames with detections".into(),
            mend: "put `infer MODEL` before it, such as `infer centerface`".into(),
        })
    })
}
