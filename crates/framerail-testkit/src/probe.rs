//! Queries streams, packets and frames with `ffprobe`.

use std::path::Path;

use framerail_core::{Rational, TimeBase};
use serde_json::Value;

use crate::tool;

/// A stream, as reported by ffprobe.
#[derive(Clone, Debug)]
pub struct ProbedStream {
    /// Index in the file.
    pub index: u64,
    /// `video`, `audio`, `subtitle`, `data` or `attachment`.
    pub kind: String,
    /// FFmpeg's codec name.
    pub codec: String,
    /// Stored width in pixels; 0 unless video.
    pub width: u32,
    /// Stored height in pixels; 0 unless video.
    pub height: u32,
    /// FFmpeg's name of the pixel format.
    pub pixel_format: Option<String>,
    /// Sample aspect ratio, if specified.
    pub sample_aspect_ratio: Option<Rational>,
    /// FFmpeg's name of the matrix (`color_space`), if specified.
    pub color_matrix: Option<String>,
    /// `tv` or `pc`, if specified.
    pub color_range: Option<String>,
    /// FFmpeg's name of the primaries, if specified.
    pub color_primaries: Option<String>,
    /// FFmpeg's name of the transfer characteristics, if specified.
    pub color_transfer: Option<String>,
    /// `progressive`, `tt`, `bb`, `tb` or `bt`, if specified.
    pub field_order: Option<String>,
    /// Seconds per tick.
    pub time_base: TimeBase,
    /// Average frame rate, when known.
    pub average_frame_rate: Option<Rational>,
    /// First timestamp in ticks, when known.
    pub start_pts: Option<i64>,
    /// Duration in seconds, if the header has it.
    pub duration_secs: Option<f64>,
    /// Number of frames, if the header has it.
    pub frames: Option<u64>,
    /// Rotation for display in degrees clockwise, from the display matrix; 0 without one.
    pub rotation_degrees: i64,
    /// `language` tag.
    pub language: Option<String>,
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbedPacket {
    /// Presentation time in ticks.
    pub pts: Option<i64>,
    /// Decoding time in ticks.
    pub dts: Option<i64>,
    /// Duration in ticks.
    pub duration: Option<i64>,
    /// Size in bytes.
    pub size_bytes: u64,
    /// Position of the first byte in the file, if the container reports it.
    pub position: Option<u64>,
    /// Whether decoding can start here.
    pub is_keyframe: bool,
    /// Whether the decoder must discard the result (edit lists).
    pub is_discarded: bool,
}

/// A decoded frame, in presentation order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbedFrame {
    /// Presentation time in ticks.
    pub pts: Option<i64>,
    /// FFmpeg's best-effort PTS, estimated if missing.
    pub best_effort_pts: Option<i64>,
    /// Duration in ticks.
    pub duration: Option<i64>,
    /// `I`, `P`, `B` or `?`.
    pub picture_type: char,
    /// Whether decoding can start here.
    pub is_keyframe: bool,
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// FFmpeg's name of the pixel format.
    pub pixel_format: String,
    /// Size of its packet in bytes.
    pub size_bytes: u64,
    /// Whether it is interlaced.
    pub is_interlaced: bool,
    /// Whether the top field comes first.
    pub is_top_field_first: bool,
}

/// All streams of a file.
pub fn ffprobe_streams(path: &Path) -> Vec<ProbedStream> {
    query(path, &["-show_streams"], "streams").iter().map(stream).collect()
}

/// The first stream matched by FFmpeg's stream specifier, such as `v:0` or `a:1`.
///
/// # Panics
/// When there is none.
pub fn ffprobe_stream(path: &Path, specifier: &str) -> ProbedStream {
    let streams = query(path, &["-show_streams", "-select_streams", specifier], "streams");
    stream(streams.first().unwrap_or_else(|| panic!("{} has no stream {specifier}", path.display())))
}

/// A container tag, such as `title`.
pub fn ffprobe_tag(path: &Path, name: &str) -> Option<String> {
    let format = probe(path, &["-show_format"]);
    text(&format["format"]["tags"], name)
}

/// The packets of the streams matched by FFmpeg's stream specifier, in file order.
pub fn ffprobe_packets(path: &Path, specifier: &str) -> Vec<ProbedPacket> {
    query(path, &["-show_packets", "-select_streams", specifier], "packets").iter().map(packet).collect()
}

/// The frames of the first video stream, as decoded by FFmpeg.
pub fn ffprobe_frames(path: &Path) -> Vec<ProbedFrame> {
    query(path, &["-show_frames", "-select_streams", "v:0"], "frames").iter().map(frame).collect()
}

fn probe(path: &Path, options: &[&str]) -> Value {
    let mut command = tool::ffprobe();
    command.args(options).arg(path);
    let output = tool::run(command);
    serde_json::from_slice(&output).unwrap_or_else(|error| panic!("ffprobe's answer on {} is not JSON: {error}", path.display()))
}

fn query(path: &Path, options: &[&str], section: &str) -> Vec<Value> {
    probe(path, options)[section].as_array().cloned().unwrap_or_default()
}

fn text(value: &Value, key: &str) -> Option<String> {
    value[key].as_str().filter(|text| *text != "unknown" && *text != "N/A").map(str::to_owned)
}

/// Reads a number that is a JSON number or a string.
fn number<T: std::str::FromStr>(value: &Value, key: &str) -> Option<T> {
    match &value[key] {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

fn ratio(value: &Value, key: &str, separator: char) -> Option<Rational> {
    let text = value[key].as_str()?;
    let (num, den) = text.split_once(separator)?;
    Rational::new(num.parse().ok()?, den.parse().ok()?)
}

fn stream(value: &Value) -> ProbedStream {
    let turn = value["side_data_list"].as_array().and_then(|list| list.iter().find_map(|data| number::<i64>(data, "rotation")));
    let time_base = ratio(value, "time_base", '/').and_then(|ratio| TimeBase::new(ratio.num, ratio.den));
    ProbedStream {
        index: number(value, "index").unwrap_or(0),
        kind: text(value, "codec_type").unwrap_or_default(),
        codec: text(value, "codec_name").unwrap_or_default(),
        width: number(value, "width").unwrap_or(0),
        height: number(value, "height").unwrap_or(0),
        pixel_format: text(value, "pix_fmt"),
        sample_aspect_ratio: ratio(value, "sample_aspect_ratio", ':'),
        color_matrix: text(value, "color_space"),
        color_range: text(value, "color_range"),
        color_primaries: text(value, "color_primaries"),
        color_transfer: text(value, "color_transfer"),
        field_order: text(value, "field_order"),
        time_base: time_base.unwrap_or(TimeBase::MICROS),
        average_frame_rate: ratio(value, "avg_frame_rate", '/'),
        start_pts: number(value, "start_pts"),
        duration_secs: number(value, "duration"),
        frames: number(value, "nb_frames"),
        // FFmpeg's angle is counter-clockwise.
        rotation_degrees: (-turn.unwrap_or(0)).rem_euclid(360),
        language: text(&value["tags"], "language"),
    }
}

fn packet(value: &Value) -> ProbedPacket {
    let flags = text(value, "flags").unwrap_or_default();
    ProbedPacket {
        pts: number(value, "pts"),
        dts: number(value, "dts"),
        duration: number(value, "duration"),
        size_bytes: number(value, "size").unwrap_or(0),
        position: number(value, "pos"),
        is_keyframe: flags.contains('K'),
        is_discarded: flags.contains('D'),
    }
}

fn frame(value: &Value) -> ProbedFrame {
    ProbedFrame {
        pts: number(value, "pts"),
        best_effort_pts: number(value, "best_effort_timestamp"),
        duration: number(value, "duration").or_else(|| number(value, "pkt_duration")),
        picture_type: text(value, "pict_type").and_then(|text| text.chars().next()).unwrap_or('?'),
        is_keyframe: number::<u8>(value, "key_frame") == Some(1),
        width: number(value, "width").unwrap_or(0),
        height: number(value, "height").unwrap_or(0),
        pixel_format: text(value, "pix_fmt").unwrap_or_default(),
        size_bytes: number(value, "pkt_size").unwrap_or(0),
        is_interlaced: number::<u8>(value, "interlaced_frame") == Some(1),
        is_top_field_first: number::<u8>(value, "top_field_first") == Some(1),
    }
}
