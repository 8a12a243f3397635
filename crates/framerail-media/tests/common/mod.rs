//! Clips made by the `ffmpeg` command, and its output for comparison.
#![allow(dead_code)]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use framerail_core::{Frame, FramePool, Packet};
use framerail_media::{Damage, InputOptions, MediaError, MediaItem, MediaReader, MediaWriter, WriteReport, WriterOptions};

/// Runs `ffmpeg` quietly in a folder; arguments are split at spaces.
pub fn ffmpeg(folder: &Path, arguments: &str) {
    let status = Command::new("ffmpeg")
        .current_dir(folder)
        .args(["-nostdin", "-v", "error", "-y"])
        .args(arguments.split_whitespace())
        .status()
        .expect("ffmpeg is installed");
    assert!(status.success(), "ffmpeg {arguments}");
}

/// The output of an FFmpeg command.
pub fn output(program: &str, folder: &Path, arguments: &str) -> Vec<u8> {
    let output = Command::new(program)
        .current_dir(folder)
        .args(arguments.split_whitespace())
        .stderr(std::process::Stdio::null())
        .output()
        .expect("FFmpeg's commands are installed");
    output.stdout
}

/// A folder that is removed after the test.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("temporary folder")
}

/// All items of a reader.
pub struct Contents {
    pub frames: Vec<Frame>,
    pub packets: Vec<Packet>,
    pub damage: Damage,
}

/// Options for a file in a folder.
pub fn options(path: &Path) -> InputOptions {
    InputOptions::new(path.to_string_lossy())
}

/// Reads a source to its end.
pub fn read(options: &InputOptions) -> Contents {
    let mut reader = MediaReader::open(options, &FramePool::new(8)).expect("a readable source");
    read_on(&mut reader)
}

/// Reads the rest of a source.
pub fn read_on(reader: &mut MediaReader) -> Contents {
    let (mut frames, mut packets) = (Vec::new(), Vec::new());
    while let Some(item) = reader.next().expect("no fatal error") {
        match item {
            MediaItem::Frame(frame) => frames.push(frame),
            MediaItem::Packet(packet) => packets.push(packet),
        }
    }
    Contents { frames, packets, damage: reader.damage() }
}

/// PTS of a file's frames according to ffprobe, in presentation order.
pub fn probed_pts(path: &Path) -> Vec<i64> {
    let text = output(
        "ffprobe",
        Path::new("."),
        &format!("-v error -select_streams v:0 -show_entries frame=best_effort_timestamp -of csv=p=0 {}", path.display()),
    );
    let text = String::from_utf8(text).expect("text");
    text.split(['\n', ',']).filter_map(|line| line.trim().parse().ok()).collect()
}

/// PTS of frames.
pub fn pts(frames: &[Frame]) -> Vec<i64> {
    frames.iter().map(|frame| frame.pts.0).collect()
}

/// A frame's samples, plane by plane without padding, as `ffmpeg -f rawvideo` writes them.
pub fn samples(frame: &Frame) -> Vec<u8> {
    let surface = frame.surface.host().expect("on the host");
    let mut bytes = Vec::with_capacity(surface.sample_bytes_total());
    for plane in 0..surface.format().planes() {
        for row in 0..surface.layout(plane).rows {
            bytes.extend_from_slice(surface.row(plane, row));
        }
    }
    bytes
}

/// A path in a folder.
pub fn at(folder: &tempfile::TempDir, name: &str) -> PathBuf {
    folder.path().join(name)
}

/// Reads a source and writes everything.
pub fn copy(input: &InputOptions, output: &Path, options: &WriterOptions) -> Result<WriteReport, MediaError> {
    let mut reader = MediaReader::open(input, &FramePool::new(8))?;
    let mut writer = MediaWriter::create(output, options, reader.info())?;
    while let Some(item) = reader.next()? {
        match item {
            MediaItem::Frame(frame) => writer.write_frame(&frame)?,
            MediaItem::Packet(packet) => writer.write_packet(&packet)?,
        }
    }
    writer.finish()
}
