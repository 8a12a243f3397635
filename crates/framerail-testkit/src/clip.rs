//! Description of a clip to generate, and the generated clip.

use std::path::{Path, PathBuf};

use framerail_core::{ColorDescription, Rational, Rotation, TimeBase};

use crate::{FacesSpec, cache, encode, tool};

/// Video codec.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Codec {
    H264,
    Hevc,
    Vp8,
    Vp9,
    /// Encoded with SVT-AV1.
    Av1,
    Mpeg2,
    Mpeg4,
    Mjpeg,
    ProRes,
    Ffv1,
    Gif,
    Png,
    HuffYuv,
    RawVideo,
}

/// Container format.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Container {
    Mp4,
    Mov,
    Mkv,
    Webm,
    Avi,
    Ts,
    Gif,
    /// The codec's packets one after another, without timestamps or index (Annex B for H.264 and HEVC).
    Elementary,
    /// A folder of numbered images, starting with `00000.png` or `00000.jpg`; [`Clip::path`] is the folder.
    Images,
}

/// Audio codec.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AudioCodec {
    Aac,
    Mp3,
    /// 16-bit little endian.
    Pcm,
    Opus,
}

/// Subtitle codec.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SubtitleCodec {
    Srt,
    MovText,
}

/// What the frames show.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// Each frame's number (see [`crate::frame_code`]) over a moving gradient.
    Numbers,
    /// Faces on known paths, without frame numbers.
    Faces(FacesSpec),
}

/// A clip to generate. Default: 16 frames of 160x120 H.264 4:2:0 at 25 frames/s in MP4, without audio.
///
/// Each description is encoded once and cached in the build folder.
#[derive(Clone, Debug)]
pub struct ClipSpec {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) frames: u32,
    pub(crate) frame_rate: Rational,
    pub(crate) pts: Option<(TimeBase, Vec<i64>)>,
    pub(crate) codec: Codec,
    pub(crate) container: Container,
    pub(crate) pixel_format: String,
    pub(crate) gop: u32,
    pub(crate) b_frames: u32,
    pub(crate) open_gop: bool,
    pub(crate) color: ColorDescription,
    pub(crate) rotation: Rotation,
    pub(crate) sample_aspect_ratio: Option<Rational>,
    pub(crate) audio: Vec<AudioCodec>,
    pub(crate) subtitles: Option<SubtitleCodec>,
    pub(crate) start_offset_secs: f64,
    pub(crate) interlaced: bool,
    pub(crate) unseekable: bool,
    pub(crate) fast_start: bool,
    pub(crate) repeats: u32,
    pub(crate) edit_list_skip: u32,
    pub(crate) size_change: Option<(u32, u32, u32)>,
    pub(crate) pixel_format_change: Option<(u32, String)>,
    pub(crate) title: Option<String>,
    pub(crate) content: Content,
    pub(crate) encoder_options: Vec<String>,
}

impl Default for ClipSpec {
    fn default() -> Self {
        Self {
            width: 160,
            height: 120,
            frames: 16,
            frame_rate: Rational { num: 25, den: 1 },
            pts: None,
            codec: Codec::H264,
            container: Container::Mp4,
            pixel_format: "yuv420p".to_owned(),
            gop: 12,
            b_frames: 0,
            open_gop: false,
            color: ColorDescription::default(),
            rotation: Rotation::None,
            sample_aspect_ratio: None,
            audio: Vec::new(),
            subtitles: None,
            start_offset_secs: 0.0,
            interlaced: false,
            unseekable: false,
            fast_start: false,
            repeats: 1,
            edit_list_skip: 0,
            size_change: None,
            pixel_format_change: None,
            title: None,
            content: Content::Numbers,
            encoder_options: Vec::new(),
        }
    }
}

impl ClipSpec {
    /// The default clip in another codec and container, with a pixel format that the codec supports.
    pub fn new(codec: Codec, container: Container) -> Self {
        let pixel_format = match codec {
            Codec::Mjpeg => "yuvj420p",
            Codec::ProRes => "yuv422p10le",
            Codec::Gif => "rgb8",
            Codec::Png => "rgb24",
            Codec::HuffYuv => "yuv422p",
            _ => "yuv420p",
        };
        Self { codec, container, ..Self::default() }.pixel_format(pixel_format)
    }

    /// Stored frame size in pixels, before rotation; at least 64x48.
    pub fn size(self, width: u32, height: u32) -> Self {
        Self { width, height, ..self }
    }

    /// Number of frames.
    pub fn frames(self, frames: u32) -> Self {
        Self { frames, ..self }
    }

    /// Constant frame rate in frames per second, as a fraction.
    pub fn frame_rate(self, num: i64, den: i64) -> Self {
        Self { frame_rate: Rational { num, den }, ..self }
    }

    /// Variable frame rate: an increasing PTS for every frame, in ticks of `num/den` seconds. Also sets the number of frames.
    pub fn pts(self, num: i64, den: i64, ticks: &[i64]) -> Self {
        let time_base = TimeBase::new(num, den).expect("a time base above zero");
        assert!(ticks.windows(2).all(|pair| pair[0] < pair[1]), "PTS must rise: {ticks:?}");
        Self { frames: ticks.len() as u32, pts: Some((time_base, ticks.to_vec())), ..self }
    }

    /// FFmpeg's name of the pixel format, including formats that framerail does not deliver (`pal8`, `yuvj420p`).
    pub fn pixel_format(self, name: impl ToString) -> Self {
        Self { pixel_format: name.to_string(), ..self }
    }

    /// Distance between keyframes in frames.
    pub fn gop(self, gop: u32) -> Self {
        Self { gop, ..self }
    }

    /// Maximum number of consecutive B-frames.
    pub fn b_frames(self, b_frames: u32) -> Self {
        Self { b_frames, ..self }
    }

    /// Lets B-frames before a keyframe refer to the previous GOP (H.264, HEVC; needs B-frames).
    pub fn open_gop(self) -> Self {
        Self { open_gop: true, ..self }
    }

    /// Colour tags; samples are converted with the same matrix and range.
    pub fn color(self, color: ColorDescription) -> Self {
        Self { color, ..self }
    }

    /// Rotation for display, stored as a display matrix (MP4, MOV).
    pub fn rotation(self, rotation: Rotation) -> Self {
        Self { rotation, ..self }
    }

    /// Shape of one pixel, width over height.
    pub fn sample_aspect_ratio(self, num: i64, den: i64) -> Self {
        Self { sample_aspect_ratio: Some(Rational { num, den }), ..self }
    }

    /// Adds an audio track as long as the video: a tone of distinct pitch, with a language tag.
    pub fn audio(mut self, codec: AudioCodec) -> Self {
        self.audio.push(codec);
        self
    }

    /// Adds a subtitle track of two lines.
    pub fn subtitles(self, codec: SubtitleCodec) -> Self {
        Self { subtitles: Some(codec), ..self }
    }

    /// Start time of all streams; default: 0.
    pub fn start_offset_secs(self, start_offset_secs: f64) -> Self {
        Self { start_offset_secs, ..self }
    }

    /// Interlaced, top field first: the second field's background is half a frame later, its number is the same.
    pub fn interlaced(self) -> Self {
        Self { interlaced: true, ..self }
    }

    /// Written as to a pipe: without index and duration (MKV, WebM), or fragmented (MP4, MOV).
    pub fn unseekable(self) -> Self {
        Self { unseekable: true, ..self }
    }

    /// Header before the frames, so that a truncated file still opens (MP4, MOV).
    pub fn fast_start(self) -> Self {
        Self { fast_start: true, ..self }
    }

    /// Repeats the whole clip by copying packets: for long clips that are quick to generate. Frame numbers start
    /// again each time. Not with B-frames, edit list or audio.
    pub fn repeats(self, repeats: u32) -> Self {
        Self { repeats: repeats.max(1), ..self }
    }

    /// Hides the first frames with an edit list, while keeping their packets (MP4, MOV).
    pub fn edit_list_skip(self, frames: u32) -> Self {
        Self { edit_list_skip: frames, ..self }
    }

    /// Changes the frame size from frame `at` on (MPEG-TS, elementary streams).
    pub fn size_change(self, at: u32, width: u32, height: u32) -> Self {
        Self { size_change: Some((at, width, height)), ..self }
    }

    /// Changes the pixel format from frame `at` on (MPEG-TS, elementary streams; not combined with a size change).
    pub fn pixel_format_change(self, at: u32, name: impl ToString) -> Self {
        Self { pixel_format_change: Some((at, name.to_string())), ..self }
    }

    /// Title of the container.
    pub fn title(self, title: &str) -> Self {
        Self { title: Some(title.to_owned()), ..self }
    }

    /// What the frames show.
    pub fn content(self, content: Content) -> Self {
        Self { content, ..self }
    }

    /// Further options for the video encoder, as on the ffmpeg command line, such as `["-crf", "40"]`.
    pub fn encoder_options(mut self, options: &[&str]) -> Self {
        self.encoder_options.extend(options.iter().map(|option| (*option).to_owned()));
        self
    }

    /// FFmpeg's name of the requested pixel format.
    pub fn pixel_format_name(&self) -> &str {
        &self.pixel_format
    }

    /// Why this ffmpeg cannot generate the clip, if so.
    pub fn unavailable(&self) -> Option<String> {
        if let Some(missing) = encode::encoders(self).find(|encoder| !tool::encoders().contains(*encoder)) {
            return Some(format!("this ffmpeg has no encoder {missing}"));
        }
        encode::encoders(self).find(|encoder| !tool::works(encoder)).map(|crashes| format!("the encoder {crashes} of this ffmpeg crashes"))
    }

    /// Encodes the clip, or finds it in the cache.
    ///
    /// # Panics
    /// When FFmpeg is missing or fails; the message includes the command and its error output.
    pub fn make(&self) -> Clip {
        assert!(self.width >= 64 && self.height >= 48, "clips are 64x48 or larger, not {}x{}", self.width, self.height);
        assert!(self.frames > 0, "a clip has at least one frame");
        let plain = self.b_frames == 0 && self.audio.is_empty() && self.pts.is_none();
        assert!(self.repeats == 1 || plain, "only a plain clip can be repeated");
        assert!(self.edit_list_skip == 0 || (self.pts.is_none() && self.repeats == 1), "an edit list needs a constant rate");
        if let Some(reason) = self.unavailable() {
            panic!("{reason}; run `make setup`");
        }
        let description = format!("{self:?}");
        let name = format!("{:?}-{}", self.codec, cache::key(&description)).to_lowercase();
        let name = match encode::extension(self) {
            Some(extension) => format!("{name}.{extension}"),
            None => name,
        };
        Clip { path: cache::once(&name, |work| encode::encode(self, work)), spec: self.clone() }
    }

    /// The frame numbers that a player shows, in order.
    pub fn frame_numbers(&self) -> Vec<u64> {
        let once = u64::from(self.edit_list_skip)..u64::from(self.frames);
        (0..self.repeats).flat_map(|_| once.clone()).collect()
    }

    /// Presentation time of each shown frame, in seconds after the first.
    pub fn relative_secs(&self) -> Vec<f64> {
        match &self.pts {
            Some((time_base, ticks)) => ticks.iter().map(|tick| time_base.seconds(tick - ticks[0])).collect(),
            None => (0..self.frame_numbers().len()).map(|frame| frame as f64 / self.frame_rate.as_f64()).collect(),
        }
    }

    /// Duration in seconds; with a variable rate, the last frame is assumed to last as long as the previous one.
    pub(crate) fn duration_secs(&self) -> f64 {
        match &self.pts {
            Some((time_base, ticks)) => {
                let last = ticks.last().copied().unwrap_or(0);
                let before = ticks.iter().rev().nth(1).copied().unwrap_or(last - 1);
                time_base.seconds(last + (last - before) - ticks.first().copied().unwrap_or(0))
            }
            None => f64::from(self.frames) / self.frame_rate.as_f64(),
        }
    }
}

/// A generated clip.
#[derive(Clone, Debug)]
pub struct Clip {
    path: PathBuf,
    spec: ClipSpec,
}

impl Clip {
    /// The file, or the folder for [`Container::Images`]. Shared by all tests: copy it before changing it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Input argument for the ffmpeg command line: the path, or the pattern of an image sequence.
    pub fn ffmpeg_input(&self) -> PathBuf {
        match self.spec.container {
            Container::Images => self.path.join(encode::image_pattern(&self.spec)),
            _ => self.path.clone(),
        }
    }

    /// Its description.
    pub fn spec(&self) -> &ClipSpec {
        &self.spec
    }
}

impl AsRef<Path> for Clip {
    fn as_ref(&self) -> &Path {
        &self.path
    }
}
