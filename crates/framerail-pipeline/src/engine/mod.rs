//! Threads, queues, order and shutdown: everything that a stage need not know.

mod control;
pub(crate) mod memory;
mod metrics;
mod ordered;
mod outlet;
mod queue;
mod range;
mod run;
mod state;
pub(crate) mod stream_table;
mod streams;
mod watchdog;
mod worker;

pub use run::{RunHandle, RunOptions, RunOutcome, RunSwitch};
pub use streams::StreamControl;
pub use watchdog::Stall;

pub(crate) use run::start;
