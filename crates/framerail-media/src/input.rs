//! A source of compressed packets: one video stream and its side streams.

mod ending;
mod file_end;
mod fragments;
mod packet_clock;
mod packets;
mod random_access;

pub use self::random_access::KeyframeSpacing;

use std::{collections::VecDeque, ops::Range, path::Path, sync::Arc};

use ffmpeg_the_third::ffi;
use framerail_core::{MediaKind, Rational, Rotation, SideStream, SourceUrl, StreamInfo, TimeBase};

use self::{fragments::FragmentCheck, packet_clock::PacketClock};
use crate::{
    Break, Damage, InputOptions, MediaError, Parameters, ProbeEffort, RotationPolicy, SideStreams,
    av::{self, AvPacket},
    container::Container,
    decoder::{self, DecoderSetup, FrameLoad},
    describe,
    facts::is_intra_only,
    guarded_reader::GuardedReader,
    images::ImageList,
    interrupt::Interrupt,
    log::DemuxerNotes,
    loss::stated_frames,
    packet::{InputPacket, PacketKind},
    parameters::SideParameters,
    still::Moving,
    still_tags::StillTags,
    webp::WebpAnimation,
};

/// A step back of the DTS, in seconds, that means that a transport stream's clock was reset.
const CLOCK_STEP_SECS: f64 = 1.0;
/// Tolerance for seconds that were rounded to microseconds.
const SECONDS_TOLERANCE: f64 = 2e-6;

/// An open source.
pub struct Input {
    source: Source,
    options: InputOptions,
    interrupt: Arc<Interrupt>,
    info: StreamInfo,
    parameters: Parameters,
    /// The container's rotation, regardless of the rotation policy.
    coded_rotation: Rotation,
    damage: Damage,
    /// Bounds of the selection in absolute seconds.
    start: Option<f64>,
    end: Option<f64>,
    progress: Progress,
    /// Packets read ahead.
    pending: VecDeque<InputPacket>,
    is_at_end: bool,
    /// Messages of the demuxer since the last packet of the video.
    unplaced: DemuxerNotes,
    /// For [`Input::take_breaks`].
    breaks: Vec<Break>,
    stated_frames: Option<u64>,
    /// Of a HEIF or AVIF image that is not a local file; the tags of other images are in their packets.
    still: Option<StillTags>,
}

enum Source {
    Container {
        container: Box<Container>,
        video: usize,
        /// Container stream of each side stream; `None` for chapters.
        sides: Vec<Option<usize>>,
    },
    Images {
        list: ImageList,
        codec: ffi::AVCodecID,
    },
    Webp(Box<WebpAnimation>),
}

/// What has been read so far, to detect clock jumps and premature ends.
#[derive(Default)]
struct Progress {
    /// Number of packets read from each container stream.
    packets: Vec<u64>,
    last_is_corrupt: bool,
    was_sought: bool,
    clock: PacketClock,
    /// The latest end of any packet, in seconds.
    latest_secs: f64,
    /// No packet was read to probe the source.
    is_header_only: bool,
    /// Number of packets of each container stream according to its index.
    index_entries: Vec<u64>,
    /// Check of the fragments of an MP4, once it was read.
    fragments: Option<FragmentCheck>,
    /// Place in the file of the last packet that states it.
    last_packet: Range<u64>,
    /// Position in the file of the end of the last video packet.
    last_end: Option<u64>,
    /// Whether an MXF does not state in which order frames are shown; by its first packet.
    states_no_order: Option<bool>,
    /// A server closed the connection without having stated a length, which counts as the end.
    ended_without_length: bool,
}

impl Input {
    /// Opens a source and reads its headers; decodes only as much as FFmpeg needs to detect the format.
    ///
    /// # Errors
    /// `NotFound`, `NotMedia`, `NoVideo`, `Damaged`, `Unsupported`, `BadOption`, `Cancelled`, `Timeout`, `Io`.
    pub fn open(options: &InputOptions) -> Result<Self, MediaError> {
        av::init();
        check_selection(options)?;
        let options = &options.resolved()?;
        let interrupt = Interrupt::new(options.cancel.clone(), options.read_timeout);
        if let Some(list) = ImageList::of_options(options)? {
            return Self::open_images(list, options, interrupt);
        }
        match options.moving(&interrupt) {
            Some(Moving::Webp) => Self::open_webp(options, interrupt),
            // FFmpeg would treat it as a still image because of its name.
            Some(Moving::Apng) => {
                let options = InputOptions { format: Some("apng".into()), ..options.clone() };
                Self::open_container(&options, interrupt)
            }
            _ => Self::open_container(options, interrupt),
        }
    }

    /// An input of which nothing was read.
    fn new(source: Source, options: &InputOptions, interrupt: Arc<Interrupt>, info: StreamInfo, parameters: Parameters) -> Self {
        Self {
            source,
            options: options.clone(),
            interrupt,
            info,
            parameters,
            coded_rotation: Rotation::None,
            damage: Damage::default(),
            start: None,
            end: None,
            progress: Progress::default(),
            pending: VecDeque::new(),
            is_at_end: false,
            unplaced: DemuxerNotes::default(),
            breaks: Vec::new(),
            stated_frames: None,
            still: None,
        }
    }

    fn open_webp(options: &InputOptions, interrupt: Arc<Interrupt>) -> Result<Self, MediaError> {
        let animation = match &options.custom {
            Some(custom) => {
                let failed = |error: std::io::Error| MediaError::Io { path: options.source.to_string(), reason: error.to_string() };
                WebpAnimation::open(GuardedReader::open(custom, Arc::clone(&interrupt)).map_err(failed)?, options)?
            }
            None => WebpAnimation::open_file(options)?,
        };
        let (info, parameters) = (animation.info(options), animation.parameters());
        let (frames, is_damaged) = (animation.frames(), animation.is_damaged());
        let mut input = Self::new(Source::Webp(Box::new(animation)), options, interrupt, info, parameters);
        input.stated_frames = Some(frames);
        input.damage.container_errors = u64::from(is_damaged);
        input.set_selection(0.0);
        Ok(input)
    }

    fn open_container(options: &InputOptions, interrupt: Arc<Interrupt>) -> Result<Self, MediaError> {
        let mut container = Container::open(options.source.reveal(), options, &interrupt)?;
        let (video, is_header_only) = find_video(&mut container, options)?;
        let mut sides = Vec::new();
        let mut side_streams = Vec::new();
        if options.side_streams == SideStreams::AudioAndSubtitles {
            for (index, stream) in container.streams().enumerate() {
                // FFmpeg reads these streams itself, such as QuickTime's chapter text track.
                let is_left_out = index == video || stream.discard == ffi::AVDiscard::ALL;
                if let Some(kind) = describe::side_kind(stream).filter(|_| !is_left_out) {
                    sides.push(Some(index));
                    side_streams.push(describe::side_stream(stream, kind)?);
                }
            }
            let chapters = describe::chapters(&container);
            if !chapters.is_empty() {
                sides.push(None);
                side_streams.push(SideStream {
                    kind: MediaKind::Data,
                    codec: "chapters".into(),
                    time_base: TimeBase::MICROS,
                    parameters: Arc::new(SideParameters::Chapters(chapters)),
                });
            }
        }
        if let Some(stream) = container.stream(video).filter(|_| options.video_packets) {
            // They are copies of the video's packets.
            sides.push(None);
            side_streams.push(describe::side_stream(stream, MediaKind::Video)?);
        }
        let wanted: Vec<usize> = sides.iter().flatten().copied().chain([video]).collect();
        container.discard_others(&wanted);
        let Some(stream) = container.stream(video) else {
            return Err(MediaError::NoVideo { source_name: options.source.to_string(), found: describe::listing(&container) });
        };
        let coded_rotation = describe::rotation(stream);
        let info = describe::stream_info(&container, stream, options, side_streams)?;
        // SAFETY: every stream has parameters.
        let parameters = unsafe { Parameters::copy_of(stream.codecpar)? };
        let index_entries: Vec<u64> = (0..container.stream_count()).map(|index| ending::filled_entries(&container, index)).collect();
        let streams = index_entries.len();
        let load = FrameLoad::of(&parameters, false);
        options.check_image(info.width, info.height, load.pixel_bytes, load.at_once)?;
        let origin = av::timestamp(container.get().start_time).map_or(0.0, |micros| micros as f64 / 1e6);
        let stated_frames = container.stream(video).and_then(|stream| stated_frames(&container, stream, is_header_only));
        let mut unplaced = container.take_opening_notes();
        if container.format_name() == "filmstrip" {
            // Its trailer, which the demuxer gives as a packet.
            unplaced.corrupt_streams.clear();
        }
        let still = container.still_head().map(|head| StillTags::of_bytes(&head));
        let progress = Progress { index_entries, packets: vec![0; streams], is_header_only, ..Progress::default() };
        let source = Source::Container { container: Box::new(container), video, sides };
        let input = Self::new(source, options, interrupt, info, parameters);
        let mut input = Self { coded_rotation, progress, unplaced, still, stated_frames, ..input };
        input.set_selection(origin);
        input.seek_to_start()?;
        Ok(input)
    }

    fn open_images(list: ImageList, options: &InputOptions, interrupt: Arc<Interrupt>) -> Result<Self, MediaError> {
        let first = list.paths.first().cloned().unwrap_or_default();
        let mut container = open_image(&first, options, &interrupt)?;
        container.find_stream_info()?;
        let rate = options.frame_rate.filter(|rate| rate.is_positive()).unwrap_or(Rational { num: 25, den: 1 });
        let Some(stream) = container.stream(0) else {
            return Err(MediaError::NotMedia { source_name: first.display().to_string(), reason: "it contains no image".into() });
        };
        let coded_rotation = describe::rotation(stream);
        let mut info = describe::stream_info(&container, stream, options, Vec::new())?;
        // Each image has its own rotation, which its packet carries; outputs are configured for the first image.
        let turn = StillTags::of_file(&first).turn;
        match options.rotation {
            RotationPolicy::Auto if turn.swaps_sides() => (info.width, info.height) = (info.height, info.width),
            RotationPolicy::Auto => {}
            _ => info.rotation = turn,
        }
        // SAFETY: every stream has parameters.
        let parameters = unsafe { Parameters::copy_of(stream.codecpar)? };
        let load = FrameLoad::of(&parameters, true);
        options.check_image(info.width, info.height, load.pixel_bytes, load.at_once)?;
        info.time_base = TimeBase::new(rate.den, rate.num).unwrap_or(TimeBase::MICROS);
        info.frame_rate = Some(rate);
        info.container = "image2".into();
        info.duration_secs = Some(list.paths.len() as f64 / rate.as_f64());
        info.frames_estimate = Some(list.paths.len() as u64);
        info.bit_rate = None;
        let (missing, frames) = (list.missing, list.paths.len() as u64);
        let source = Source::Images { list, codec: parameters.get().codec_id };
        let mut input = Self { coded_rotation, ..Self::new(source, options, interrupt, info, parameters) };
        input.damage.images_missing = missing;
        input.stated_frames = Some(frames);
        input.set_selection(0.0);
        Ok(input)
    }

    fn set_selection(&mut self, origin: f64) {
        let options = &self.options;
        self.start = options.start_secs.map(|secs| origin + secs - SECONDS_TOLERANCE);
        let by_duration = options.duration_secs.map(|secs| options.start_secs.unwrap_or(0.0) + secs);
        let end = [options.end_secs, by_duration].into_iter().flatten().reduce(f64::min);
        self.end = end.map(|secs| origin + secs - SECONDS_TOLERANCE);
        self.info.start_offset_micros = -((origin + options.start_secs.unwrap_or(0.0)) * 1e6).round() as i64;
    }

    /// Stream information from the container.
    pub fn info(&self) -> &StreamInfo {
        &self.info
    }

    /// Index of the video stream among all streams of the container, from 0.
    pub fn stream_index(&self) -> usize {
        match &self.source {
            Source::Container { video, .. } => *video,
            Source::Images { .. } | Source::Webp(_) => 0,
        }
    }

    /// Time of the first frame in seconds on the file's clock, if the header states it.
    pub fn header_start_secs(&self) -> Option<f64> {
        let Source::Container { container, video, .. } = &self.source else { return Some(0.0) };
        av::timestamp(container.stream(*video)?.start_time).map(|ticks| self.info.time_base.seconds(ticks))
    }

    /// Codec parameters of the video stream.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// How much was read to probe the source: the requested effort, or everything if the header was not enough.
    pub fn probe_effort(&self) -> ProbeEffort {
        if self.progress.is_header_only { ProbeEffort::Header } else { ProbeEffort::Full }
    }

    /// Whether every frame of the codec is a keyframe.
    pub fn is_intra_only(&self) -> bool {
        is_intra_only(self.parameters.get().codec_id)
    }

    /// Whether FFmpeg's decoder of the codec can decode several frames at once, each on a thread.
    pub fn has_frame_threads(&self) -> bool {
        decoder::has_frame_threads(self.parameters.get().codec_id)
    }

    /// Threads of decoders opened from here on, in place of `InputOptions::threads`; 0 lets FFmpeg choose.
    pub fn set_decoder_threads(&mut self, threads: usize) {
        self.options.threads = threads;
    }

    /// A setup that opens further decoders for the video stream, on any thread.
    pub fn decoder_setup(&self) -> DecoderSetup {
        DecoderSetup::of(self)
    }

    /// Damage found so far.
    pub fn damage(&self) -> &Damage {
        &self.damage
    }

    /// Whether packets may be missing that [`Input::take_breaks`] has not returned yet.
    pub fn has_breaks(&self) -> bool {
        self.breaks.iter().any(|found| matches!(found, Break::Loss(_)))
    }

    /// Notice for the user on how the source is read.
    pub fn notice(&self) -> Option<&str> {
        if let Source::Container { container, .. } = &self.source { container.notice() } else { None }
    }

    /// Whether the file's index lies behind its frames, and the source cannot seek back to them: in a pipe, or on a
    /// server without range support.
    pub(crate) fn lacks_index_in_front(&self) -> bool {
        let Source::Container { container, video, .. } = &self.source else { return false };
        let is_read = self.progress.packets.get(*video).is_some_and(|packets| *packets > 0);
        container.format_name().starts_with("mov") && !container.is_seekable() && !is_read
    }

    /// Takes the positions in the video, since the last call, where packets may be missing or recordings are joined. For a
    /// [`crate::LossMeter`].
    pub fn take_breaks(&mut self) -> Vec<Break> {
        std::mem::take(&mut self.breaks)
    }

    /// Number of frames of the whole source according to its container; `None` if the container does not state it, and for selections.
    pub fn stated_frames(&self) -> Option<u64> {
        let is_whole = self.start.is_none() && self.end.is_none() && !self.progress.was_sought;
        let by_index = || match &self.source {
            Source::Container { container, video, .. } => ending::indexed_frames(container, &self.progress, *video),
            Source::Images { .. } | Source::Webp(_) => None,
        };
        if is_whole { by_index().or(self.stated_frames) } else { None }
    }

    /// The container's rotation, regardless of the rotation policy.
    pub fn coded_rotation(&self) -> Rotation {
        self.coded_rotation
    }

    /// Whether the reorder delay is unknown: only the header was read, and it does not state the delay.
    pub(crate) fn is_reorder_unknown(&self) -> bool {
        self.progress.is_header_only && !self.info.container.starts_with("mov")
    }

    /// Whether it is a HEIF or AVIF image that is not a local file.
    pub(crate) fn is_still(&self) -> bool {
        self.still.is_some()
    }

    pub(crate) fn options(&self) -> &InputOptions {
        &self.options
    }

    /// Start and end (exclusive) of the selection, in absolute seconds on the file's clock.
    pub fn selection(&self) -> (Option<f64>, Option<f64>) {
        (self.start, self.end)
    }

    /// Start of the selection, in absolute seconds.
    pub(crate) fn start(&self) -> Option<f64> {
        self.start
    }

    /// End (exclusive) of the selection, in absolute seconds.
    pub(crate) fn end(&self) -> Option<f64> {
        self.end
    }

    /// Returns the next packet of the video or of a side stream, in file order; `None` at the end.
    ///
    /// A source that breaks off also returns `None`; [`Input::damage`] reports it.
    ///
    /// # Errors
    /// `Cancelled`, `Timeout`; `Io` with the message of a custom source that failed.
    pub fn next_packet(&mut self) -> Result<Option<InputPacket>, MediaError> {
        if let Some(packet) = self.pending.pop_front() {
            return Ok(Some(packet));
        }
        if self.is_at_end {
            return Ok(None);
        }
        let packet = match self.source {
            Source::Container { .. } => self.next_timed()?,
            Source::Images { .. } => self.next_image()?,
            Source::Webp(_) => self.next_of_webp(),
        };
        self.is_at_end = packet.is_none();
        Ok(packet)
    }

    fn next_image(&mut self) -> Result<Option<InputPacket>, MediaError> {
        let Source::Images { list, codec } = &mut self.source else { return Ok(None) };
        while let Some(path) = list.paths.get(list.next) {
            // Do not count the time that the caller spent since the last image.
            self.interrupt.start_clock();
            if self.interrupt.is_due() {
                return Err(MediaError::Cancelled { source_name: self.options.source.to_string() });
            }
            let number = list.next as i64;
            list.next += 1;
            match read_image(path, &self.options, &self.interrupt) {
                Ok((mut packet, parameters)) => {
                    (packet.pts, packet.dts, packet.duration, packet.stream_index) = (number, number, 1, 0);
                    packet.flags |= ffi::AV_PKT_FLAG_KEY;
                    let changed = parameters.get().codec_id != *codec;
                    *codec = parameters.get().codec_id;
                    return Ok(Some(InputPacket { kind: PacketKind::Video, packet, new_parameters: changed.then_some(parameters) }));
                }
                Err(error @ (MediaError::Cancelled { .. } | MediaError::Timeout { .. })) => return Err(error),
                // A damaged image in a sequence: count it and leave its time empty.
                Err(_) => self.damage.packets_dropped += 1,
            }
        }
        Ok(None)
    }

    fn next_of_webp(&mut self) -> Option<InputPacket> {
        let Source::Webp(animation) = &mut self.source else { return None };
        match animation.next() {
            Ok(packet) => packet.map(|packet| InputPacket { kind: PacketKind::Video, packet, new_parameters: None }),
            Err(reason) => {
                self.damage.container_errors += 1;
                self.damage.ended_early = Some(reason);
                None
            }
        }
    }

    /// Seeks to a keyframe from which every frame of the selection can be decoded.
    fn seek_to_start(&mut self) -> Result<(), MediaError> {
        let Some(start) = self.start.filter(|start| *start > 0.0) else { return Ok(()) };
        let base = self.info.time_base;
        let Source::Container { container, video, .. } = &mut self.source else { return Ok(()) };
        if !container.is_seekable() {
            return Ok(());
        }
        // A seek may land after the target (no index, DTS before PTS): step further back until it does not.
        let mut margin = 0.0;
        while margin < start + CLOCK_STEP_SECS {
            if !container.seek(*video, base.ticks(start - margin)) {
                break;
            }
            self.progress.was_sought = true;
            if lands_before(container, *video, start, &self.interrupt, &self.options.source.to_string())? {
                // The check moved the position; seek to the same place again.
                container.seek(*video, base.ticks(start - margin));
                return Ok(());
            }
            margin = margin * 2.0 + 1.0;
        }
        let rewound = container.seek(*video, i64::MIN / 2) || container.seek(*video, 0);
        if !rewound && self.progress.was_sought {
            return Self::reopen(self);
        }
        Ok(())
    }

    /// Reopens the source from the first byte, for sources that seek but not back to their start.
    fn reopen(&mut self) -> Result<(), MediaError> {
        let options = InputOptions { start_secs: None, ..self.options.clone() };
        let fresh = Self::open_container(&options, Arc::clone(&self.interrupt))?;
        self.source = fresh.source;
        self.progress = fresh.progress;
        Ok(())
    }
}

/// Whether the first video keyframe from here is presented at or before a time.
fn lands_before(container: &mut Container, video: usize, start: f64, interrupt: &Interrupt, source_name: &str) -> Result<bool, MediaError> {
    let base = container.stream(video).map_or(TimeBase::MICROS, |stream| av::time_base(stream.time_base));
    let mut packet = AvPacket::new();
    while container.read(&mut packet).is_ok() {
        let is_video = usize::try_from(packet.stream_index) == Ok(video);
        if is_video && packet.flags & ffi::AV_PKT_FLAG_KEY != 0 {
            let time = av::timestamp(packet.pts).or_else(|| av::timestamp(packet.dts));
            return Ok(time.is_some_and(|time| base.seconds(time) <= start + SECONDS_TOLERANCE * 2.0));
        }
        packet.clear();
    }
    interrupt.reason(source_name).map_or(Ok(false), Err)
}

fn open_image(path: &Path, options: &InputOptions, interrupt: &Arc<Interrupt>) -> Result<Container, MediaError> {
    let source = path.to_string_lossy().into_owned();
    // FFmpeg would otherwise treat `%` in a name as a pattern.
    let is_patterned = source.contains('%');
    let format_options = if is_patterned { vec![("pattern_type".to_owned(), "none".to_owned())] } else { Vec::new() };
    let options = InputOptions { source: SourceUrl::new(&source), format_options, frame_rate: None, ..options.clone() };
    Container::open(&source, &options, interrupt)
}

fn read_image(path: &Path, options: &InputOptions, interrupt: &Arc<Interrupt>) -> Result<(AvPacket, Parameters), MediaError> {
    let mut container = open_image(path, options, interrupt)?;
    let mut packet = AvPacket::new();
    container.read(&mut packet).map_err(|code| av::error(path.display().to_string(), code))?;
    let Some(stream) = container.stream(0) else {
        return Err(MediaError::NotMedia { source_name: path.display().to_string(), reason: "it contains no image".into() });
    };
    // SAFETY: every stream has parameters.
    let parameters = unsafe { Parameters::copy_of(stream.codecpar)? };
    StillTags::of_file(path).attach(&mut packet);
    Ok((packet, parameters))
}

/// Finds the requested video stream, and returns whether only headers were read to find it.
fn find_video(container: &mut Container, options: &InputOptions) -> Result<(usize, bool), MediaError> {
    let has_selection = options.start_secs.is_some() || options.end_secs.is_some() || options.duration_secs.is_some();
    if options.probe == ProbeEffort::Header && !has_selection {
        // A stream that is missing now may be found below.
        let video = select_video(container, options).ok().filter(|video| container.header_suffices(*video));
        if let Some(video) = video {
            return Ok((video, true));
        }
    }
    container.find_stream_info()?;
    Ok((select_video(container, options)?, false))
}

/// The container index of the requested video stream.
fn select_video(container: &Container, options: &InputOptions) -> Result<usize, MediaError> {
    let is_video = |stream: &ffi::AVStream| {
        // SAFETY: every stream has parameters.
        let kind = unsafe { (*stream.codecpar).codec_type };
        kind == ffi::AVMediaType::VIDEO && stream.disposition & ffi::AV_DISPOSITION_ATTACHED_PIC == 0
    };
    let videos = container.streams().enumerate().filter(|(_, stream)| is_video(stream)).map(|(index, _)| index).collect();
    container.choose_stream(ffi::AVMediaType::VIDEO, videos, options.video_stream, "video_stream")
}

fn check_selection(options: &InputOptions) -> Result<(), MediaError> {
    let bad = |name: &str, reason: &str| Err(MediaError::BadOption { name: name.into(), reason: reason.into(), nearest: None });
    for (name, value) in [("start", options.start_secs), ("end", options.end_secs), ("duration", options.duration_secs)] {
        if value.is_some_and(|secs| !secs.is_finite() || secs < 0.0) {
            return bad(name, "must be a number of seconds from 0");
        }
    }
    let start = options.start_secs.unwrap_or(0.0);
    if options.end_secs.is_some_and(|end| end <= start) {
        return bad("end", "must be after the start");
    }
    if options.duration_secs.is_some_and(|secs| secs <= 0.0) {
        return bad("duration", "must be above 0");
    }
    Ok(())
}
