//! Monitors a run over HTTP: a page with live images, rates and queues; statistics and metrics for other programs; adding and
//! removing streams and changing settings during the run.
//!
//! [`Watch`] sets all this up for a run that is about to start. Its parts: a [`BoundServer`] binds an address before the run starts, a
//! [`View`] selects the place in the pipeline whose frames are shown, [`Pictures`] encodes them as JPEG while clients request them, and
//! a [`Server`] answers requests on a separate thread. It uses a [`framerail_pipeline::RunSwitch`] and never blocks the run.
#![forbid(unsafe_code)]

mod access;
mod body;
mod cost;
mod door;
mod error;
mod guarded_stream;
mod guesses;
mod health;
mod history;
mod image_maker;
mod images;
mod live;
mod metrics;
mod routes;
mod server;
mod site;
mod sources;
mod view;
mod watch;

pub use error::ServeError;
pub use health::{Health, RunState};
pub use images::{ImageOptions, ImageThread, LiveImage, LiveImages};
pub use metrics::{Metric, MetricKind, Sample, metrics, metrics_text};
pub use server::{BoundServer, ServeOptions, Server};
pub use site::{Content, NamedStream};
pub use sources::DEFAULT_SOURCES;
pub use view::View;
pub use watch::{TOKEN_VARIABLE, Watch, WatchOptions, Watched};
