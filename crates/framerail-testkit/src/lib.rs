//! Generated media and comparisons for the tests of other crates; a dev-dependency only.
//!
//! [`ClipSpec`] describes a clip; [`ClipSpec::make`] encodes it with the ffmpeg command line, once per build
//! folder. Every frame shows its number ([`read_frame_number`]), so that a test can verify which
//! frames arrived and in which order. [`corpus()`] lists one clip per codec, format and special case.
//!
//! All functions panic with a detailed message on errors, since tests cannot handle them.
#![forbid(unsafe_code)]

mod background;
mod cache;
pub mod cli;
pub mod clip;
pub mod compare;
pub mod corpus;
pub mod damage;
mod encode;
pub mod faces;
pub mod frame_code;
pub mod models;
mod port;
pub mod probe;
pub mod real;
mod require;
mod tool;

pub use cli::{Cli, CliOutput};
pub use clip::{AudioCodec, Clip, ClipSpec, Codec, Container, Content, SubtitleCodec};
pub use compare::{Difference, ReferenceFrames, Tolerance, assert_close, difference, reference_planes, stream_hashes};
pub use corpus::{Corpus, corpus, make_corpus};
pub use faces::{FacePath, FacesSpec, faces_clip};
pub use frame_code::{FrameCode, read_frame_code, read_frame_number};
pub use port::free_port;
pub use probe::{ProbedFrame, ProbedPacket, ProbedStream, ffprobe_frames, ffprobe_packets, ffprobe_stream, ffprobe_streams};
pub use real::real_clip;
pub use require::{ALLOW_MISSING, require};
