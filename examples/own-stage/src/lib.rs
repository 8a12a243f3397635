//! The stage `movement` for framerail pipelines: tells how much of the picture moves, and leaves still frames out.
//!
//! A template for a stage of your own. [`register`] is all that a program needs; `main.rs` is such a program.
#![forbid(unsafe_code)]

mod motion;
mod spec;

use framerail_pipeline::{Registry, RegistryError, StagePlan};

pub use motion::Motion;

/// Makes the stage known, so that pipeline texts and files may use it.
///
/// # Errors
/// When there is a stage of this name already.
pub fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec::spec(), |options| Ok(Box::new(motion::MotionPlan::new(options)) as Box<dyn StagePlan>))
}
