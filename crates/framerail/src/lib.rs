//! framerail: a video pipeline for deep learning.
//!
//! Video goes in; detections and finished video come out. Stages run in parallel. A pipeline is a line of text, a TOML file, or a
//! [`pipeline::Graph`] built in code:
//!
//! ```no_run
//! let outcome = framerail::run("read in.mp4 ! infer centerface ! hold ! blur ! write out.mp4")?;
//! println!("{}", outcome.stats.table());
//! # Ok::<(), framerail::Error>(())
//! ```
#![forbid(unsafe_code)]

pub use framerail_core as core;
pub use framerail_cuda as cuda;
pub use framerail_infer as infer;
pub use framerail_media as media;
pub use framerail_pipeline as pipeline;
pub use framerail_reader as reader;
pub use framerail_vision as vision;

mod arrays;
mod canvas;
mod convert;
pub mod devices;
pub mod frame_input;
pub mod frame_writer;
mod gpu_canvas;
pub mod inputs;
pub mod joining;
mod launch;
#[cfg(feature = "otlp")]
pub mod otlp;
mod outputs;
pub mod parts;
pub mod pixels;
#[cfg(any(feature = "otlp", feature = "webhook"))]
mod posting;
pub mod presets;
#[cfg_attr(
    not(any(feature = "kafka", feature = "mqtt", feature = "otlp", feature = "redis", feature = "webhook")),
    allow(dead_code, reason = "`write` alone does not use all of it")
)]
mod sender;
pub mod sources;
pub mod stages;
#[cfg(feature = "parquet")]
pub mod table;
mod typeface;
mod uploader;

pub use launch::{Error, plan, plan_file, plan_with_frames, run};
pub use outputs::{literal_name, literal_path};
pub use stages::{infer::keep_models, registry, registry_for, registry_with_python};
