//! Compares frames and audio with the output of the ffmpeg command line for the same file.

use std::{
    fs::File,
    io::{Read, Seek},
    path::Path,
    process::{Child, ChildStdout, Stdio},
};

use framerail_core::{Component, FramePool, HostSurface, PixelFormat};

use crate::{probe, tool};

/// Allowed difference of samples, in 8-bit code values (higher bit depths are scaled down).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Maximum absolute difference of any sample.
    pub max: f64,
    /// Mean absolute difference over all samples.
    pub mean: f64,
}

impl Tolerance {
    /// Identical samples, for decoded planes.
    pub const EXACT: Tolerance = Tolerance { max: 0.0, mean: 0.0 };
    /// Two Y'CbCr to RGB conversions with different rounding.
    pub const CONVERTED: Tolerance = Tolerance { max: 2.0, mean: 0.6 };
    /// Two resamplers of the same kind.
    pub const RESIZED: Tolerance = Tolerance { max: 8.0, mean: 1.0 };
    /// Re-encoded at good quality.
    pub const ENCODED: Tolerance = Tolerance { max: 64.0, mean: 3.0 };
}

/// Difference of two frames, in 8-bit code values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Difference {
    /// Maximum absolute difference of any sample.
    pub max: f64,
    /// Mean absolute difference over all samples.
    pub mean: f64,
}

/// Compares all components of two frames of the same format and size.
///
/// # Panics
/// When format or size differ.
pub fn difference(left: &HostSurface, right: &HostSurface) -> Difference {
    let format = left.format();
    assert_eq!(
        (format, left.width(), left.height()),
        (right.format(), right.width(), right.height()),
        "frames of different format or size cannot be compared"
    );
    let scale = 255.0 / f64::from(format.max_value());
    let (mut max, mut sum, mut count) = (0u32, 0u64, 0u64);
    for (index, component) in format.components().iter().enumerate() {
        let (columns, rows) = format.component_size(index, left.width(), left.height());
        for row in 0..rows as usize {
            let (a, b) = (left.row(component.plane, row), right.row(component.plane, row));
            for x in 0..columns as usize {
                let bytes = format.sample_bytes();
                let apart = sample(a, *component, bytes, x).abs_diff(sample(b, *component, bytes, x));
                max = max.max(apart);
                sum += u64::from(apart);
            }
            count += u64::from(columns);
        }
    }
    Difference { max: f64::from(max) * scale, mean: sum as f64 * scale / count.max(1) as f64 }
}

/// Fails unless two frames match within a tolerance; `what` names them in the message.
pub fn assert_close(left: &HostSurface, right: &HostSurface, tolerance: Tolerance, what: &str) {
    let found = difference(left, right);
    assert!(
        found.max <= tolerance.max && found.mean <= tolerance.mean,
        "{what}: differs by at most {:.2} and {:.3} on average of 255; allowed are {} and {}",
        found.max,
        found.mean,
        tolerance.max,
        tolerance.mean
    );
}

/// One sample of a row, shifted down to its significant bits.
pub(crate) fn sample(row: &[u8], component: Component, sample_bytes: usize, x: usize) -> u32 {
    let at = x * component.step_bytes + component.offset_bytes;
    let value = if sample_bytes == 1 { u32::from(row[at]) } else { u32::from(u16::from_le_bytes([row[at], row[at + 1]])) };
    value >> component.shift
}

/// Options for reference frames from FFmpeg.
#[derive(Clone, Debug, Default)]
pub struct ReferenceOptions {
    /// Index among the file's video streams.
    pub video_stream: usize,
    /// Whether to rotate frames according to the display matrix; default: as stored.
    pub autorotate: bool,
    /// A filter graph for `-vf`.
    pub filter: Option<String>,
    /// Output size, if the filter changes it.
    pub size: Option<(u32, u32)>,
}

/// The frames of the first video stream as decoded by FFmpeg, as stored (not rotated), one at a time.
///
/// If `format` differs from the stream's format, swscale converts with its defaults.
pub fn reference_planes(path: &Path, format: PixelFormat) -> ReferenceFrames {
    reference_planes_with(path, format, &ReferenceOptions::default())
}

/// Like [`reference_planes`], with options. If the size changes in mid-stream, FFmpeg scales frames to the first size.
pub fn reference_planes_with(path: &Path, format: PixelFormat, options: &ReferenceOptions) -> ReferenceFrames {
    let stream = probe::ffprobe_stream(path, &format!("v:{}", options.video_stream));
    let turned = options.autorotate && stream.rotation_degrees % 180 == 90;
    let stored = if turned { (stream.height, stream.width) } else { (stream.width, stream.height) };
    let (width, height) = options.size.unwrap_or(stored);
    let mut command = tool::ffmpeg();
    if !options.autorotate {
        command.arg("-noautorotate");
    }
    command.arg("-i").arg(path).arg("-map").arg(format!("0:v:{}", options.video_stream));
    if let Some(filter) = &options.filter {
        command.arg("-vf").arg(filter);
    }
    command.args(["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", full_range_name(format, &stream), "pipe:1"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    // A file, because nothing reads a pipe meanwhile.
    let errors = tempfile::tempfile().expect("a temporary file");
    command.stderr(errors.try_clone().expect("a second handle of the file"));
    let mut child = command.spawn().unwrap_or_else(|error| tool::missing("ffmpeg", &error));
    let stdout = child.stdout.take().expect("standard output is piped");
    ReferenceFrames { child, stdout, errors, delivered: 0, pool: FramePool::new(4), format, width, height }
}

/// FFmpeg's legacy names for full range: requesting the plain format would change the range of the samples.
fn full_range_name(format: PixelFormat, stream: &probe::ProbedStream) -> &str {
    match &stream.pixel_format {
        Some(name) if name.strip_prefix("yuvj").is_some_and(|rest| format.name() == format!("yuv{rest}")) => name,
        _ => format.name(),
    }
}

/// Frames from FFmpeg, in presentation order; panics if FFmpeg fails before the first. See [`reference_planes`].
pub struct ReferenceFrames {
    child: Child,
    stdout: ChildStdout,
    errors: File,
    delivered: u64,
    pool: FramePool,
    format: PixelFormat,
    width: u32,
    height: u32,
}

impl Iterator for ReferenceFrames {
    type Item = HostSurface;

    fn next(&mut self) -> Option<HostSurface> {
        let mut surface = self.pool.surface(self.format, self.width, self.height).expect("a size that ffprobe reported");
        let mut planes = surface.planes_mut().expect("sole holder");
        for plane in 0..self.format.planes() {
            for row in 0..planes.layout(plane).rows {
                if let Err(error) = self.stdout.read_exact(planes.row(plane, row)) {
                    assert!(plane == 0 && row == 0, "ffmpeg stopped within a frame: {error}");
                    self.check_end();
                    return None;
                }
            }
        }
        self.delivered += 1;
        Some(surface)
    }
}

impl ReferenceFrames {
    /// Damaged files may end early; a file without any frame is a mistake in the test.
    fn check_end(&mut self) {
        let status = self.child.wait().expect("wait for ffmpeg");
        if self.delivered == 0 && !status.success() {
            let mut text = String::new();
            let _ = self.errors.rewind().and_then(|()| self.errors.read_to_string(&mut text));
            panic!("ffmpeg returned no frame ({status}): {}", text.trim());
        }
    }
}

impl Drop for ReferenceFrames {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// MD5 of the packet data of each stream matched by FFmpeg's stream specifier (`a`, `v:0`, `s`), in file order.
/// Equal hashes mean bit-equal packets; timestamps are not included.
pub fn stream_hashes(path: &Path, specifier: &str) -> Vec<String> {
    let mut command = tool::ffmpeg();
    command.arg("-i").arg(path).arg("-map").arg(format!("0:{specifier}?"));
    command.args(["-c", "copy", "-f", "streamhash", "-hash", "md5", "pipe:1"]);
    if probe::ffprobe_streams(path).iter().all(|stream| !specifier.starts_with(stream.kind.chars().next().unwrap_or(' '))) {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&tool::run(command)).into_owned();
    text.lines().filter_map(|line| line.split_once("MD5=")).map(|(_, hash)| hash.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ClipSpec;

    fn filled(format: PixelFormat, value: u8) -> HostSurface {
        let mut surface = FramePool::new(1).surface(format, 6, 4).expect("size in range");
        let mut planes = surface.planes_mut().expect("sole holder");
        for plane in 0..format.planes() {
            planes.plane(plane).fill(value);
        }
        surface
    }

    #[test]
    fn differences_are_in_steps_of_8_bits() {
        let (left, mut right) = (filled(PixelFormat::Yuv420p, 10), filled(PixelFormat::Yuv420p, 10));
        assert_eq!(difference(&left, &right), Difference::default());
        right.planes_mut().expect("sole holder").row(2, 1)[2] = 46;
        let found = difference(&left, &right);
        assert_eq!((found.max, found.mean), (36.0, 1.0), "36 samples in all");
        let (dark, light) = (filled(PixelFormat::Gray16, 0), filled(PixelFormat::Gray16, 255));
        assert_eq!(difference(&dark, &light).max, 255.0);
    }

    #[test]
    #[should_panic(expected = "a test: differs by at most 3.00")]
    fn frames_apart_fail_with_the_figures() {
        assert_close(&filled(PixelFormat::Rgb24, 3), &filled(PixelFormat::Rgb24, 6), Tolerance::CONVERTED, "a test");
    }

    #[test]
    #[should_panic(expected = "ffmpeg returned no frame")]
    fn a_reference_that_fails_is_no_empty_clip() {
        let options = ReferenceOptions { filter: Some("nosuchfilter".to_owned()), ..Default::default() };
        reference_planes_with(ClipSpec::default().make().path(), PixelFormat::Gray8, &options).next();
    }
}
