//! Threads, queues, order and shutdown: everything that a stage need not know.

mod control;
mod metrics;
mod ordered;
mod outlet;
mod queue;
mod range;
mod run;
mod watchdog;
mod worker;

pub use run::{RunHandle, RunOptions, RunOutcome, RunSwitch};

pub(crate) use run::start;
