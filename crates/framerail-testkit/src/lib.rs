//! Media and comparisons for the tests of the other crates; a dev-dependency only.
//!
//! [`ClipSpec`] describes a clip, [`ClipSpec::make`] has FFmpeg's command line encode it, once per build
//! folder. Every frame shows its own number ([`read_frame_number`]), so that a test can tell exactly which
//! frames came through and in which order. [`corpus()`] lists one clip per codec, format and oddity.
//!
//! Everything here panics with a full account when something is wrong: a test has nobody to return errors to.
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
pub use probe::{ProbedFrame, ProbedPacket, ProbedStream, ffprobe_frames, ffprobe_packets, ffprobe_stream, ffprobe_streams};
pub use real::real_clip;
pub use require::{ALLOW_MISSING, require};
