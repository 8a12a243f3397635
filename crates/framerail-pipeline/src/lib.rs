//! The pipeline engine: stages run in parallel on their own threads, connected by bounded queues.
//!
//! A [`Stage`] processes items and does not deal with threads. [`Graph`] connects stages, [`Graph::start`] runs them, and [`RunStats`]
//! reports where the time was spent. A pipeline written as text or TOML becomes a [`Description`], which is checked against a [`Registry`]
//! of stages and turned into a graph.
#![forbid(unsafe_code)]

pub mod attachments;
pub mod engine;
pub mod error;
pub mod format;
pub mod graph;
pub mod item;
pub mod plan;
pub mod setting;
pub mod stage;
pub mod stats;
pub mod stream_set;
mod trace;

pub use attachments::Attachments;
pub use engine::memory::FrameLease;
pub use engine::{RunHandle, RunOptions, RunOutcome, RunSwitch, Stall, StreamControl};
pub use error::{ErrorKind, RunError, StageError};
pub use format::{DetectionFormat, EdgeFormat, PartFormat};
pub use graph::{EdgeId, Graph, NodeId, NodeOptions, Probe, Verdict};
pub use item::{Arrival, FrameItem, Item, StreamEnd};
pub use plan::{LinkContext, LinkMismatch, PlanError, StagePlan, TensorRequest};
pub use setting::{ModelInfo, Setting, SettingInfo, SettingSpec};
pub use stage::{BatchPolicy, Closed, Counter, Emitter, Flow, OnSinkError, Replace, Source, Stage, StageContext, Work};
pub use stats::{CopyKind, RunStats, StreamState, StreamStats, StreamTotals};
pub use stream_set::{
    DropPolicy, OnStreamError, OpenedStream, RetryPolicy, StreamLine, StreamOpener, StreamPolicy, StreamReader, StreamRequest, StreamSet,
};
pub use trace::{FrameTrace, StageVisit, TraceSink};

// Pipelines as text and TOML, and the stages that they use.
pub mod check;
mod configure;
pub mod copies;
pub mod description;
mod device_choice;
pub mod diagnostic;
pub mod drawing;
pub mod file;
mod gpu_set;
pub mod inspect;
mod nearest;
pub mod options;
pub mod planned;
pub mod planned_graph;
pub mod registry;
pub mod spec;
pub mod text;
pub mod value;

pub use check::check;
pub use description::{Chain, Description, OptionDescription, Origin, OtlpDescription, ServeDescription, Span, StageDescription, Value};
pub use device_choice::DeviceChoice;
pub use diagnostic::{Diagnostic, Diagnostics};
#[cfg(feature = "png")]
pub use drawing::DrawingError;
pub use drawing::{DrawnEdge, DrawnStage, GraphDrawing, Traffic};
pub use gpu_set::GpuSet;
pub use inspect::StageList;
pub use options::{CheckedValue, ConfigError, Options};
pub use planned::{Plan, PlannedStage};
pub use planned_graph::{PlannedEdge, PlannedGraph, PlannedNode};
pub use registry::{RegisteredStage, Registry, RegistryError, StageFactory};
pub use spec::{ArgumentSpec, Example, OptionSpec, Presence, Role, StageSpec};
pub use value::{Choice, OptionKind, OptionValue, parse_time};
