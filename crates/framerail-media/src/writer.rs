//! Encodes frames and writes them, with side packets, to a file that appears only when it is complete.

use std::path::{Path, PathBuf};

use framerail_core::{
    Frame, Packet, PixelFormat, StreamInfo,
    run_files::{is_same, local_path},
};
use serde::Serialize;

use crate::{
    Elsewhere, Ending, Leftover, MediaError, OutputFile, OutputRules, SidePayload, WriterOptions,
    av::{self, AvPacket},
    encoder::Encoder,
    muxer::{Muxer, Place},
    playlist::PlaylistOutput,
    side_tracks::SideTracks,
    tags,
    video_default::VideoDefault,
};

/// Result of a writer.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WriteReport {
    /// Encoder, such as `libx264`.
    pub codec: String,
    /// Pixel format in the file.
    pub pixel_format: String,
    /// Number of frames encoded.
    pub frames: u64,
    /// Number of side packets copied.
    pub packets_copied: u64,
    /// Number of side packets decoded for re-encoding or conversion; see `warnings`.
    pub packets_encoded: u64,
    /// Number of these that could not be decoded; damaged audio is replaced by silence.
    pub packets_damaged: u64,
    /// Number of side packets dropped because the container does not support their stream; see `warnings`.
    pub packets_skipped: u64,
    /// File size in bytes; for a playlist, the size of all packets in its segments; 0 for a device or pipe.
    pub bytes: u64,
    /// Number of segments of a playlist, including deleted ones.
    pub segments: u64,
    /// Number of frames whose pixel format was converted.
    pub frames_converted: u64,
    /// Number of frames scaled because their size differed from the first frame's.
    pub frames_rescaled: u64,
    /// Number of frames whose PTS the container or encoder could not store exactly.
    pub timestamps_rounded: u64,
    /// Number of repeated frames, encoded because the container has a fixed frame rate and the next frame was late.
    pub frames_repeated: u64,
    /// Number of timestamps that were missing, repeated or went back, and were repaired.
    pub timestamps_repaired: u64,
    /// Differences from the input and their reasons, one line each.
    pub warnings: Vec<String>,
    /// Path of the file.
    pub path: PathBuf,
    /// Why it has another name than requested.
    #[serde(skip)]
    pub elsewhere: Option<Elsewhere>,
}

/// Writes one video stream and its side streams.
///
/// The file starts at zero unless [`WriterOptions::keep_start`] is set: frames and side packets are shifted by the same amount.
/// Relative to that, frames keep their exact times in containers with a free time base, such as MP4, MOV and NUT. Matroska and WebM
/// round to milliseconds, GIF to hundredths of a second, MPEG-TS to 1/90000 s, AVI to whole frames; the report counts rounded times.
///
/// A name that ends in `.m3u8` is an HLS playlist. It and its segments are visible while they are written; see
/// [`WriterOptions::hls`].
pub struct MediaWriter {
    // Fields are dropped in this order: the muxer closes the file before the file is removed.
    encoder: Encoder,
    sides: SideTracks,
    muxer: Muxer,
    output: Output,
    warnings: Vec<String>,
    counts: Counts,
}

/// The output being written.
pub(crate) enum Output {
    File(OutputFile),
    Playlist(PlaylistOutput),
}

#[derive(Default)]
struct Counts {
    bytes: u64,
}

impl Output {
    pub(crate) fn create(path: &Path, options: &WriterOptions, info: &StreamInfo, is_playlist: bool) -> Result<Self, MediaError> {
        if local_path(info.source.reveal()).is_some_and(|source| is_same(path, &source)) {
            return Err(MediaError::SameFile { path: path.display().to_string() });
        }
        let rules = OutputRules {
            overwrite: options.overwrite,
            files: options.files.clone(),
            leftover: Leftover::KeepPlayable,
            syncs_later: false,
        };
        if is_playlist {
            return PlaylistOutput::create(path, options.hls, &rules).map(Output::Playlist);
        }
        OutputFile::create(path, &rules).map(Output::File)
    }

    pub(crate) fn place(&self) -> Place<'_> {
        match self {
            Output::File(file) => Place::File { path: file.working_path(), is_regular: file.is_regular() },
            Output::Playlist(playlist) => Place::Playlist { path: playlist.local_path(), options: playlist.muxer_options() },
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Output::File(file) => file.path(),
            Output::Playlist(playlist) => playlist.path(),
        }
    }

    /// Gives the closed muxer's output its final name, which is set in the report.
    pub(crate) fn complete(self, muxer: &mut Muxer, ending: Ending, report: &mut WriteReport) -> Result<(), MediaError> {
        match self {
            Output::File(mut file) => {
                if let Some(index) = muxer.take_index()? {
                    // If this fails, the fragmented file is complete as well.
                    if let Err(error) = file.rewrite(|from, to| index.write(from, to)) {
                        let why = crate::error::system_words(&error);
                        report.warnings.push(format!("kept as a fragmented file, which could not be rewritten as an ordinary one ({why})"));
                    }
                }
                let committed = file.complete(ending)?;
                (report.bytes, report.path, report.elsewhere) = (committed.bytes, committed.path, committed.elsewhere);
            }
            Output::Playlist(playlist) => report.segments = playlist.complete()?,
        }
        Ok(())
    }

    /// Keeps a playable part; see [`MediaWriter::keep_unfinished`].
    pub(crate) fn keep_unfinished(self) -> Option<PathBuf> {
        match self {
            Output::File(file) => file.keep_unfinished(),
            Output::Playlist(playlist) => playlist.keep_unfinished(),
        }
    }

    /// What happened to partial files of killed writers of this name.
    fn notes(&self) -> &[String] {
        if let Output::File(file) = self { file.notes() } else { &[] }
    }
}

impl MediaWriter {
    /// Checks the container and the encoder by name, before any stream is known; creates nothing.
    ///
    /// # Errors
    /// `BadOption` for a name without a known extension, or an unknown container or encoder; `Unsupported` for a
    /// container without video.
    pub fn check(path: &Path, options: &WriterOptions) -> Result<(), MediaError> {
        av::init();
        let muxer = Muxer::new(path, options)?;
        match &options.codec {
            Some(codec) => Encoder::check(codec),
            None => muxer.format().default_encoder().map(|_| ()),
        }
    }

    /// Whether the encoder that these options choose accepts a pixel format without conversion.
    ///
    /// # Errors
    /// As [`MediaWriter::check`].
    pub fn takes(path: &Path, options: &WriterOptions, format: PixelFormat) -> Result<bool, MediaError> {
        av::init();
        let codec = match &options.codec {
            Some(codec) => codec.clone(),
            None => Muxer::new(path, options)?.format().default_encoder()?,
        };
        Encoder::takes(&codec, format)
    }

    /// Opens the encoder and the file. `info` describes the expected frames: size, format, colour, time base, rotation; frames of
    /// another size are scaled. Its side streams are added if the container supports them; others cause a warning.
    ///
    /// # Errors
    /// `Exists`, `SameFile`, `BadOption`, `Unsupported`, `Io`, `DiskFull`.
    pub fn create(path: &Path, options: &WriterOptions, info: &StreamInfo) -> Result<Self, MediaError> {
        av::init();
        let mut muxer = Muxer::new(path, options)?;
        let chosen = VideoDefault::choose(muxer.format(), options, info)?;
        let is_playlist = muxer.format().name() == "hls";
        let output = Output::create(path, options, info, is_playlist)?;
        let keyframe_every = options.keyframe_every.or(is_playlist.then_some(options.hls.segment));
        let encoding = WriterOptions { keyframe_every, pixel_format: chosen.pixel_format, ..options.clone() };
        let encoder = Encoder::open(&chosen.codec, &encoding, info, &muxer.format().demands())?;
        let track = encoder.track()?;
        let sides = SideTracks::plan(muxer.format(), options, info, &track)?;
        muxer.start(&output.place(), options, info, &track, &sides.layout())?;
        let hdr = VideoDefault::lost_hdr(muxer.format(), encoder.name(), info);
        let stripped = tags::stripped(options, info);
        let location = (!stripped.is_empty()).then(|| format!("location tags are dropped: {}", stripped.join(", ")));
        let warnings = chosen
            .warning
            .iter()
            .chain(&hdr)
            .chain(&location)
            .chain(&encoder.warnings)
            .chain(&sides.warnings)
            .chain(output.notes())
            .cloned()
            .collect();
        Ok(Self { encoder, sides, muxer, output, warnings, counts: Counts::default() })
    }

    /// Encodes a frame. The surface must be on the host; it is not copied if the encoder supports its format.
    ///
    /// # Errors
    /// `DiskFull`, `Io`, `Ffmpeg`; `Core` for a device surface.
    pub fn write_frame(&mut self, frame: &Frame) -> Result<(), MediaError> {
        while self.encoder.repeat_before(frame)? {
            self.write_encoded()?;
        }
        self.encoder.send(frame)?;
        self.write_encoded()
    }

    /// Writes a side packet: copied, or re-encoded if the container does not support the codec. A packet of a dropped stream is
    /// counted as skipped.
    ///
    /// # Errors
    /// `DiskFull`, `Io`; `Ffmpeg` when an encoder fails.
    pub fn write_packet(&mut self, packet: &Packet) -> Result<(), MediaError> {
        let Some(payload) = packet.payload.downcast_ref::<SidePayload>() else {
            self.sides.counts.skipped += 1;
            return Ok(());
        };
        let side = packet.side_stream;
        for packet in self.sides.take(side, payload.at(packet)?)? {
            self.write_side(side, packet)?;
        }
        Ok(())
    }

    fn write_side(&mut self, side: usize, packet: AvPacket) -> Result<(), MediaError> {
        self.counts.bytes += packet.data().len() as u64;
        self.muxer.write_side(side, packet).map(|_| ())
    }

    /// Differences from the input that are known before the first frame.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// FFmpeg's name of the encoder's pixel format.
    pub fn pixel_format(&self) -> String {
        self.encoder.format_name()
    }

    /// Name of the encoder.
    pub fn codec(&self) -> &str {
        self.encoder.name()
    }

    /// The final path of the file, or the path of the playlist.
    pub fn path(&self) -> &Path {
        self.output.path()
    }

    /// Drains the encoder, completes the file and gives it its final name. Dropping a writer without this removes the file; an
    /// existing playlist stays, without an end mark.
    ///
    /// # Errors
    /// `DiskFull`, `Io`, wrapped in `Unfinished` when a usable part is kept.
    pub fn finish(self) -> Result<WriteReport, MediaError> {
        self.finish_as(Ending::Whole)
    }

    /// As [`MediaWriter::finish`]. If the run was stopped, the file does not replace an older one.
    ///
    /// # Errors
    /// As [`MediaWriter::finish`].
    pub fn finish_as(mut self, ending: Ending) -> Result<WriteReport, MediaError> {
        if let Err(error) = self.drain() {
            return Err(error.kept_as(self.keep_unfinished().as_deref()));
        }
        let (counts, sides, damaged) = (&self.encoder.counts, self.sides.counts, self.sides.damaged() + self.muxer.refused());
        let damage = match damaged {
            0 => None,
            1 => Some("1 packet of audio or subtitles is damaged".to_owned()),
            _ => Some(format!("{damaged} packets of audio or subtitles are damaged")),
        };
        let mut report = WriteReport {
            codec: self.encoder.name().to_owned(),
            pixel_format: self.encoder.format_name(),
            frames: counts.frames,
            packets_copied: sides.copied,
            packets_encoded: sides.encoded,
            packets_damaged: damaged,
            packets_skipped: sides.skipped,
            bytes: self.counts.bytes,
            segments: 0,
            frames_converted: counts.converted,
            frames_rescaled: counts.rescaled,
            frames_repeated: counts.repeated,
            timestamps_rounded: counts.rounded.max(self.muxer.times().rounded()),
            timestamps_repaired: counts.repaired + self.muxer.times().repaired(),
            warnings: self
                .warnings
                .into_iter()
                .chain(damage)
                .chain(self.encoder.late_warnings())
                .chain(self.sides.late_warnings())
                .chain(self.muxer.gap_notes())
                .collect(),
            path: self.output.path().to_owned(),
            elsewhere: None,
        };
        self.output.complete(&mut self.muxer, ending, &mut report)?;
        Ok(report)
    }

    /// Ends a failed writer, or the writer of a failed run: a playable part is kept under a free name, which is returned. A
    /// playlist keeps its name.
    pub fn keep_unfinished(mut self) -> Option<PathBuf> {
        // After a failure draining may fail as well; what counts is what is on the disk.
        let _ = self.drain();
        self.muxer.close();
        self.output.keep_unfinished()
    }

    fn drain(&mut self) -> Result<(), MediaError> {
        self.encoder.send_end()?;
        self.write_encoded()?;
        for (side, packet) in self.sides.finish()? {
            self.write_side(side, packet)?;
        }
        self.muxer.finish()
    }

    fn write_encoded(&mut self) -> Result<(), MediaError> {
        while let Some(packet) = self.encoder.receive()? {
            self.counts.bytes += packet.data().len() as u64;
            self.muxer.write_video(packet)?;
        }
        Ok(())
    }
}
