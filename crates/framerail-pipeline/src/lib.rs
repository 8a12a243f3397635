//! The assembly line: stages side by side on their own threads, joined by bounded queues.
//!
//! A [`Stage`] takes items and gives items; it knows nothing of threads. [`Graph`] joins stages,
//! [`Graph::start`] runs them, [`RunStats`] says where the time went. A pipeline written as text or TOML becomes a
//! [`Description`], is checked against a [`Registry`] of stages, and becomes a graph.
#![forbid(unsafe_code)]

pub mod error;
pub mod format;
pub mod item;
pub mod plan;
pub mod stage;
pub mod stats;

pub use error::{ErrorKind, RunError, StageError};
pub use format::{DetectionFormat, EdgeFormat};
pub use item::{FrameItem, Item, StreamEnd};
pub use plan::{LinkContext, LinkMismatch, PlanError, StagePlan};
pub use stage::{BatchPolicy, Closed, Counter, Emitter, Flow, Source, Stage, StageContext, Work};
pub use stats::{CopyKind, RunStats};
