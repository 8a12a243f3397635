//! Safe wrappers around FFmpeg: reading, decoding, converting, encoding and writing video.
//!
//! [`MediaReader`] returns frames and the packets of side streams; [`MediaWriter`] takes both. [`PushEncoder`] sends them to a
//! server instead. The parts can be used separately: [`Input`] (packets), [`FactsReader`] (facts about packets without decoding),
//! [`BitstreamFilter`] (packets for other decoders), [`Decoder`] (frames), [`Converter`] (pixel formats and sizes),
//! [`Deinterlacer`], [`probe`](probe::probe) and [`KeyframeIndex`]. A [`CustomSource`] reads from sources other than files.
//! FFmpeg's messages go to the `log` crate under the target `ffmpeg`.
//!
//! # Links
//! Dynamic FFmpeg 5.1 through `pkg-config`, or static libraries under `FFMPEG_DIR` with the feature `static-ffmpeg`.

mod adts;
mod audio_decoder;
pub mod audio_reader;
mod audio_times;
pub mod audio_track;
mod audio_transcoder;
pub mod audio_writer;
mod av;
pub mod bitstream_filter;
mod byte_stream;
pub mod clock;
pub mod coded_format;
mod color;
pub mod color_names;
pub mod commit;
mod container;
pub mod custom_io;
pub mod damage;
pub mod decode_buffers;
pub mod decoder;
mod describe;
mod device_library;
mod edges;
mod encoder;
mod encoder_clock;
mod encoder_name;
pub mod error;
pub mod facts;
pub mod filter;
mod filter_chain;
mod filter_text;
pub mod fork_safe;
mod format;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod gap_filler;
mod guarded_reader;
mod hdr;
mod head;
pub mod http;
pub mod image;
mod image_encoder;
mod images;
mod index_sink;
pub mod input;
mod interrupt;
pub mod join;
mod keyframe_clock;
pub mod keyframes;
mod log;
pub mod loss;
mod matrix_change;
mod mov_index;
mod movie_fragment;
mod mp4_boxes;
mod muxer;
mod nal;
mod nested_io;
pub mod object;
mod open_error;
mod open_playlist;
pub mod opening;
pub mod options;
mod output_format;
mod owned;
pub mod packet;
mod packet_file;
pub mod page_memory;
pub mod parameters;
mod pipe;
mod playlist;
pub mod probe;
pub mod push;
mod ranged;
pub mod reader;
mod rotate;
mod sample_times;
pub mod scale;
mod segment_files;
mod side_tracks;
pub mod sides;
mod source_files;
mod still;
mod still_tags;
mod subtitle_converter;
mod surface;
mod tags;
mod timeline;
mod track_fit;
pub mod version;
mod video_default;
mod video_filter;
mod webp;
pub mod writer;

pub use audio_reader::{AudioBlock, AudioInfo, AudioOutput, AudioReader, AudioSeek};
pub use audio_track::{AudioTrack, SamplePackets};
pub use audio_writer::{AudioWriteReport, AudioWriter, AudioWriterOptions};
pub use bitstream_filter::BitstreamFilter;
pub use coded_format::CodedFormat;
pub use color_names::ColorNames;
pub use commit::{Committed, Elsewhere, Ending, Leftover, OutputFile, OutputRules};
pub use custom_io::{CustomSource, OpenSource, SourceFactory};
pub use damage::Damage;
pub use decode_buffers::DecodeBufferPool;
pub use decoder::{Conversion, Decoded, Decoder, DecoderSetup};
pub use error::MediaError;
pub use facts::{FactsReader, Leading, PacketFacts, RandomAccess};
pub use filter::{DeinterlaceMethod, Deinterlacer};
pub use fork_safe::ForkSafe;
pub use http::HttpSource;
pub use image::{ImageFormat, encode_image, load_image, save_image, write_image};
pub use image_encoder::ImageEncoder;
pub use images::IMAGE_ENDINGS;
pub use input::{Input, KeyframeSpacing};
pub use keyframes::{KeyframeIndex, PacketEntry};
pub use loss::{Break, LossMeter};
pub use opening::Allowance;
pub use options::{
    AudioMode, HlsOptions, InputOptions, PlaylistKind, ProbeEffort, Quality, RotationPolicy, SegmentFormat, SideStreams, Voice, VoiceCover,
    WriterOptions,
};
pub use packet::{InputPacket, PacketKind, SidePayload};
pub use packet_file::{PacketFile, PacketStream, PacketTarget, video_side};
pub use page_memory::{PageMemory, Slot, Slots};
pub use parameters::{Chapter, Parameters, SideParameters};
pub use probe::{ProbeReport, probe};
pub use push::{LONGEST_LINGER, PushConnection, PushEncoder, PushOptions, PushPacket, PushTarget};
pub use ranged::{FetchCounts, Fetched};
pub use reader::{MediaItem, MediaReader};
pub use rotate::{rotated, turnable_format};
pub use scale::{Converter, ScaleOptions, ScaleQuality};
pub use sides::SidePackets;
pub use source_files::source_files;
pub use video_filter::{FilterFormat, FilterGraph, Filtered, VideoFilter, settle_color};
pub use writer::{MediaWriter, WriteReport};
