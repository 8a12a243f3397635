//! FFmpeg behind a fence: reading, decoding, converting, encoding and writing video.
//!
//! [`MediaReader`] gives frames and the packets that travel beside them; [`MediaWriter`] takes both. The parts are
//! usable alone: [`Input`] (packets), [`Converter`] (pixel formats and sizes),
//! [`probe`](probe::probe) and [`KeyframeIndex`]. Everything FFmpeg would print goes to the `log` crate under the
//! target `ffmpeg`.
//!
//! # Links
//! Dynamic FFmpeg 5.1 or later through `pkg-config`, or static libraries under `FFMPEG_DIR` with the feature `static-ffmpeg`.

pub mod error;
pub mod image;
pub mod input;
pub mod keyframes;
pub mod options;
pub mod probe;
pub mod reader;
pub mod scale;
pub mod version;
pub mod writer;

pub use error::MediaError;
pub use image::{load_image, save_image};
pub use input::Input;
pub use keyframes::KeyframeIndex;
pub use options::{CancelFlag, InputOptions, Quality, RotationPolicy, SideStreams, WriterOptions};
pub use probe::{ProbeReport, probe};
pub use reader::{Damage, MediaItem, MediaReader};
pub use scale::{Converter, ScaleOptions, ScaleQuality};
pub use writer::{MediaWriter, WriteReport};
