//! Encodes frames and writes them, with the packets beside them, into a file that appears only when complete.

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

/// What a writer did.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct WriteReport {
    /// Encoder, such as `libx264`.
    pub codec: String,
    /// Pixel format in the file.
    pub pixel_format: String,
    /// Frames encoded.
    pub frames: u64,
    /// Side packets copied.
    pub packets_copied: u64,
    /// Side packets that were decoded to be encoded again; see `warnings`.
    pub packets_encoded: u64,
    /// Of these, how many could not be decoded; silence stands for audio.
    pub packets_damaged: u64,
    /// Side packets left out because the container does not take their stream; see `warnings`.
    pub packets_skipped: u64,
    /// Bytes of the file; of a playlist, of all packets in its segments; 0 for a device or pipe.
    pub bytes: u64,
    /// Segments of a playlist, those included that were deleted as it moved on.
    pub segments: u64,
    /// Frames whose pixel format was converted.
    pub frames_converted: u64,
    /// Frames that were scaled because their size differed from the first.
    pub frames_rescaled: u64,
    /// Frames whose PTS the container or encoder could not hold exactly.
    pub timestamps_rounded: u64,
    /// Frames that were encoded again because the container has a fixed frame rate and the next frame came later.
    pub frames_repeated: u64,
    /// Timestamps that were missing, repeated or went back, and were worked out.
    pub timestamps_repaired: u64,
    /// What differs from the input and why, one line each.
    pub warnings: Vec<String>,
    /// Where the file lies.
    pub path: PathBuf,
    /// Why it lies elsewhere than it should.
    #[serde(skip)]
    pub elsewhere: Option<Elsewhere>,
}

/// Writes one video stream and its side streams.
///
/// The file starts at zero unless [`WriterOptions::keep_start`] is set: frames and side packets are moved by the same time. Frames
/// keep their times from there to the tick in MP4, MOV, NUT and whatever else has a free time base; Matroska and WebM know
/// milliseconds, GIF hundredths, MPEG-TS 1/90000 s, AVI whole frames: rounded ones are counted in the report.
///
/// A name that ends in `.m3u8` is an HLS playlist. It and its segments are there while they are written; see
/// [`WriterOptions::hls`].
pub struct MediaWriter {
    // Fields are dropped in this order: the muxer closes the file before it is removed.
    encoder: Encoder,
    sides: SideTracks,
    muxer: Muxer,
    output: Output,
    warnings: Vec<String>,
    counts: Counts,
}

/// What is being written.
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
            Output::Playlist(playlist) => Place::Playlist { path: playlist.path(), options: playlist.muxer_options() },
        }
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Output::File(file) => file.path(),
            Output::Playlist(playlist) => playlist.path(),
        }
    }

    /// Gives what the closed muxer wrote its name; the report says where it is.
    pub(crate) fn complete(self, muxer: &mut Muxer, ending: Ending, report: &mut WriteReport) -> Result<(), MediaError> {
        match self {
            Output::File(mut file) => {
                if let Some(index) = muxer.take_index()? {
                    // Fragmented it is whole as well.
                    if let Err(error) = file.rewrite(|from, to| index.write(from, to)) {
                        let why = crate::error::system_words(&error);
                        report.warnings.push(format!("left in fragments, as it was written; an ordinary file could not be made ({why})"));
                    }
                }
                let committed = file.complete(ending)?;
                (report.bytes, report.path, report.elsewhere) = (committed.bytes, committed.path, committed.elsewhere);
            }
            Output::Playlist(playlist) => report.segments = playlist.complete()?,
        }
        Ok(())
    }

    /// Keeps what a player can show; see [`MediaWriter::keep_unfinished`].
    pub(crate) fn keep_unfinished(self) -> Option<PathBuf> {
        match self {
            Output::File(file) => file.keep_unfinished(),
            Output::Playlist(playlist) => playlist.keep_unfinished(),
        }
    }

    /// What became of what killed writers of this name had left.
    fn notes(&self) -> &[String] {
        if let Output::File(file) = self { file.notes() } else { &[] }
    }
}

impl MediaWriter {
    /// Checks the container and the encoder by their names, before any stream is known; nothing is created.
    ///
    /// # Errors
    /// `BadOption` for a name without a known extension, a container or an encoder that does not exist; `Unsupported` for a
    /// container without video.
    pub fn check(path: &Path, options: &WriterOptions) -> Result<(), MediaError> {
        av::init();
        let muxer = Muxer::new(path, options)?;
        match &options.codec {
            Some(codec) => Encoder::check(codec),
            None => muxer.format().default_encoder().map(|_| ()),
        }
    }

    /// Whether the encoder that these options choose takes frames of a pixel format as they are.
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

    /// Opens encoder and file. `info` says what frames to expect: size, format, colour, time base, rotation; frames of
    /// another size are scaled to it. Its side streams are added where the container takes them; the rest is a warning.
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

    /// Encodes a frame. The surface must be on the host; it is not copied when the encoder takes its format.
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

    /// Writes a side packet: its bytes untouched, or encoded again where the container does not take the codec. One whose stream is
    /// left out is counted as skipped.
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

    /// What will be different from the input, known before the first frame.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// FFmpeg's name of the pixel format that is encoded.
    pub fn pixel_format(&self) -> String {
        self.encoder.format_name()
    }

    /// Name of the encoder.
    pub fn codec(&self) -> &str {
        self.encoder.name()
    }

    /// The name under which the file will appear, or under which the playlist is.
    pub fn path(&self) -> &Path {
        self.output.path()
    }

    /// Drains the encoder, completes the file and gives it its final name. Dropping a writer without this removes the file; a
    /// playlist that is there stays as it is, without its end.
    ///
    /// # Errors
    /// `DiskFull`, `Io`, also as `Unfinished` when something of use is kept.
    pub fn finish(self) -> Result<WriteReport, MediaError> {
        self.finish_as(Ending::Whole)
    }

    /// As [`MediaWriter::finish`]. A file that ends because the run was stopped does not replace an older one.
    ///
    /// # Errors
    /// As there.
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
            warnings: self.warnings.into_iter().chain(damage).chain(self.encoder.late_warnings()).chain(self.muxer.gap_notes()).collect(),
            path: self.output.path().to_owned(),
            elsewhere: None,
        };
        self.output.complete(&mut self.muxer, ending, &mut report)?;
        Ok(report)
    }

    /// Ends a writer that has failed, or whose run has: what was written so far is kept under a free name when a player can
    /// show it, and that name is returned. A playlist keeps its name.
    pub fn keep_unfinished(mut self) -> Option<PathBuf> {
        // After a failure the rest may fail as well; what counts is what is on the disk.
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
