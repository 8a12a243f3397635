//! A run watched over HTTP: a page with live pictures, rates and queues; statistics and metrics for other programs; streams
//! added and removed, and settings changed, while it goes on.
//!
//! [`Watch`] is all of it for a run that is about to start. Its parts: a [`BoundServer`] takes an address before the run starts, a [`View`] is the place in the pipeline whose frames are shown,
//! [`Pictures`] makes JPEGs of them while someone asks, and a [`Server`] answers from its own thread. It works with a
//! [`framerail_pipeline::RunSwitch`] and never in the way of the run.
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
mod live;
mod metrics;
mod picture_maker;
mod pictures;
mod routes;
mod server;
mod site;
mod sources;
mod view;
mod watch;

pub use error::ServeError;
pub use health::{Health, RunState};
pub use metrics::metrics_text;
pub use pictures::{Picture, PictureOptions, PictureThread, Pictures};
pub use server::{BoundServer, ServeOptions, Server};
pub use site::{Content, NamedStream};
pub use sources::DEFAULT_SOURCES;
pub use view::View;
pub use watch::{TOKEN_VARIABLE, Watch, WatchOptions, Watched};
