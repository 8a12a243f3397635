//! The stage `movement` for framerail pipelines: measures how much of the frame moves, and drops still frames.
//!
//! A template for your own stage. A program only needs [`register`]; `main.rs` is such a program.
#![forbid(unsafe_code)]

mod motion;
mod spec;

use framerail_pipeline::{Registry, RegistryError, StagePlan};

pub use motion::Motion;

/// Registers the stage, so that pipeline texts and files can use it.
///
/// # Errors
/// If there already is a stage of this name.
pub fn register(registry: &mut Registry) -> Result<(), RegistryError> {
    registry.register_with(spec::spec(), |options| Ok(Box::new(motion::MotionPlan::new(options)) as Box<dyn StagePlan>))
}
