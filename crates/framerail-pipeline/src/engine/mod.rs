//! Threads, queues, ordering and shutdown, which stages do not have to handle.

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
