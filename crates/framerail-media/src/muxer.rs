//! Writes packets into a container.

use std::{
    path::Path,
    ptr::{self, NonNull},
    sync::Arc,
};

use ffmpeg_the_third::ffi;
use framerail_core::{Rotation, StreamInfo, TimeBase};

use crate::{
    Chapter, MediaError, WriterOptions,
    av::{self, AvPacket, Dictionary},
    encoder::VideoTrack,
    encoder_clock::FrameTimes,
    error::write_error,
    gap_filler::{GapFiller, Next},
    hdr,
    index_sink::IndexSink,
    interrupt::Interrupt,
    mov_index::MovIndex,
    output_format::OutputFormat,
    segment_files::SegmentFiles,
    side_tracks::{SideLayout, SideTrack},
    tags,
    timeline::{ContainerClock, InterleaveLimits, Timeline, TrackKind},
};

/// Tags that belong to the video stream.
const STREAM_TAGS: &[&str] = &["language", "handler_name", "timecode"];

/// Containers with their own interleaving rules.
const OWN_INTERLEAVING: &[&str] = &["mxf", "mxf_d10", "mxf_opatom", "gxf"];

/// Fragments, with the file's index after the first one, when the first packets of all streams are known.
const FRAGMENTS: &str = "+delay_moov+default_base_moof";
/// Length of a fragment in microseconds, for the muxer.
const FRAGMENT_MICROS: &str = "1000000";
/// FFmpeg's option for the position of the index.
const MOV_FLAGS: &str = "movflags";

/// The destination of a container.
pub(crate) enum Place<'a> {
    /// A file.
    File {
        /// The file to write.
        path: &'a Path,
        /// Whether its bytes can be read back.
        is_regular: bool,
    },
    /// A playlist with its segments.
    Playlist {
        /// The playlist.
        path: &'a Path,
        /// Options for FFmpeg's muxer.
        options: Vec<(&'static str, String)>,
    },
    /// In memory, to get only the index.
    Index(&'a IndexSink),
    /// A server.
    Server {
        /// Its full URL.
        url: &'a str,
        /// Ends blocking calls.
        interrupt: &'a Arc<Interrupt>,
        /// Options for FFmpeg's protocol and muxer.
        options: Vec<(&'static str, String)>,
    },
}

/// An output container.
pub(crate) struct Muxer {
    context: NonNull<ffi::AVFormatContext>,
    format: OutputFormat,
    path: String,
    /// Output stream of each side stream.
    sides: Vec<Option<usize>>,
    timeline: Timeline,
    /// By stream index; `None` for streams whose times the container stores.
    fillers: Vec<Option<GapFiller>>,
    refused: u64,
    /// The header is written and the trailer is not: a server must be notified of the end.
    is_connected: bool,
    /// Polled by FFmpeg while the context exists.
    interrupt: Option<Arc<Interrupt>>,
    /// Monitors the files of a playlist while the context exists.
    files: Option<Arc<SegmentFiles>>,
    /// Creates the index of a regular file while a fragmented one is written.
    twin: Option<Box<Twin>>,
}

/// A second muxer that receives the same packets.
struct Twin {
    // Fields are dropped in this order: the muxer writes to the sink.
    muxer: Muxer,
    sink: IndexSink,
}

// SAFETY: a format context may be used from any thread, one at a time; `&mut self` guards every changing call.
unsafe impl Send for Muxer {}

impl Muxer {
    /// Chooses the container by option or file name.
    pub(crate) fn new(path: &Path, options: &WriterOptions) -> Result<Self, MediaError> {
        let shown = path.display().to_string();
        Self::of_format(OutputFormat::find(path, options.format.as_deref())?, shown, options)
    }

    fn of_format(format: OutputFormat, shown: String, options: &WriterOptions) -> Result<Self, MediaError> {
        let mut context = ptr::null_mut();
        // SAFETY: a static format; the context is written to a live pointer.
        let code = unsafe { ffi::avformat_alloc_output_context2(&mut context, format.as_ptr(), ptr::null(), ptr::null()) };
        let Some(mut context) = NonNull::new(context) else { return Err(av::error(shown, code)) };
        // SAFETY: fresh and owned here.
        unsafe { context.as_mut().strict_std_compliance = format.strictness() };
        let limits = if options.low_latency || format.name() == "rtsp" { InterleaveLimits::LIVE } else { InterleaveLimits::FILE };
        let clock = ContainerClock {
            holds_negative: format.has(ffi::AVFMT_TS_NEGATIVE | ffi::AVFMT_NOTIMESTAMPS),
            is_by_pts: matches!(format.name().as_str(), "matroska" | "webm"),
            holds_equal: format.has(ffi::AVFMT_TS_NONSTRICT),
        };
        Ok(Self {
            context,
            format,
            path: shown,
            sides: Vec::new(),
            timeline: Timeline::new(options.keep_start, limits, clock),
            fillers: Vec::new(),
            refused: 0,
            is_connected: false,
            interrupt: None,
            files: None,
            twin: None,
        })
    }

    /// Sets the output's name for messages, without secrets.
    pub(crate) fn call_it(&mut self, name: &str) {
        name.clone_into(&mut self.path);
    }

    pub(crate) fn format(&self) -> OutputFormat {
        self.format
    }

    fn get(&self) -> &ffi::AVFormatContext {
        // SAFETY: owned by self.
        unsafe { self.context.as_ref() }
    }

    /// Adds the streams, opens the destination and writes the header.
    pub(crate) fn start(
        &mut self,
        place: &Place<'_>,
        options: &WriterOptions,
        info: &StreamInfo,
        track: &VideoTrack,
        sides: &SideLayout,
    ) -> Result<(), MediaError> {
        self.add_video(track, info, options)?;
        for side in &sides.tracks {
            let target = side.as_ref().map(|side| self.add_side(side, options)).transpose()?;
            self.sides.push(target);
        }
        self.add_chapters(&sides.chapters, if options.keep_start { 0 } else { info.start_offset_micros });
        self.set_tags(options, info);
        self.open(place)?;
        self.write_header(place, options, track.time_base)?;
        if let Place::File { is_regular: true, .. } = place
            && options.crash_safe
        {
            // SAFETY: the context is ours; every complete packet or fragment is written out immediately.
            unsafe { self.context.as_mut().flush_packets = 1 };
            if self.format.is_mov() && !chooses_mov_flags(options) {
                self.twin = Some(Box::new(Twin::start(self, options, info, track, sides)?));
            }
        }
        Ok(())
    }

    fn add_stream(&mut self, kind: TrackKind) -> Result<NonNull<ffi::AVStream>, MediaError> {
        // SAFETY: an output context without a header yet.
        let stream = unsafe { ffi::avformat_new_stream(self.context.as_ptr(), ptr::null()) };
        let stream = NonNull::new(stream).ok_or_else(|| av::error(self.path.clone(), ffi::AVERROR(libc::ENOMEM)))?;
        self.timeline.add(kind);
        Ok(stream)
    }

    fn add_video(&mut self, track: &VideoTrack, info: &StreamInfo, options: &WriterOptions) -> Result<(), MediaError> {
        let is_mov = self.format.is_mov();
        let mut stream = self.add_stream(TrackKind::Video { is_fixed_rate: self.format.demands().times != FrameTimes::Stamped })?;
        // SAFETY: a fresh stream with parameters; the source is valid.
        unsafe {
            let stream = stream.as_mut();
            let code = ffi::avcodec_parameters_copy(stream.codecpar, track.parameters.get());
            if code < 0 {
                return Err(av::error(self.path.clone(), code));
            }
            stream.time_base = av::rational(track.time_base.ratio());
            if let Some(rate) = info.frame_rate {
                stream.avg_frame_rate = av::rational(rate);
            }
            stream.sample_aspect_ratio = (*stream.codecpar).sample_aspect_ratio;
            if is_mov && (*stream.codecpar).codec_id == ffi::AVCodecID::HEVC {
                // Apple's players accept no other tag.
                (*stream.codecpar).codec_tag = u32::from_le_bytes(*b"hvc1");
            }
            if info.rotation != Rotation::None {
                let matrix = ffi::av_stream_new_side_data(stream, ffi::AVPacketSideDataType::DISPLAYMATRIX, 36);
                if !matrix.is_null() {
                    ffi::av_display_rotation_set(matrix.cast(), f64::from(info.rotation.degrees()));
                }
            }
            hdr::add_to(stream, &info.hdr);
            let kept = info.metadata.iter().filter(|(key, value)| tags::is_kept(key, value, options));
            let mut tags = Dictionary::new();
            for (key, value) in kept.filter(|(key, _)| STREAM_TAGS.contains(&key.as_str())) {
                tags.set(key, value);
            }
            stream.metadata = tags.into_raw();
        }
        Ok(())
    }

    fn add_side(&mut self, side: &SideTrack, options: &WriterOptions) -> Result<usize, MediaError> {
        let is_mov = self.format.is_mov();
        let mut stream = self.add_stream(track_kind(side.parameters.get()))?;
        // SAFETY: a fresh stream with parameters; the source is valid.
        unsafe {
            let stream = stream.as_mut();
            let code = ffi::avcodec_parameters_copy(stream.codecpar, side.parameters.get());
            if code < 0 {
                return Err(av::error(self.path.clone(), code));
            }
            stream.time_base = av::rational(side.time_base.ratio());
            stream.disposition = side.disposition;
            let mut tags = Dictionary::new();
            for (key, value) in &side.metadata {
                // Languages and titles belong to the stream; without them players could not offer a choice.
                if tags::is_kept(key, value, &WriterOptions { keep_metadata: true, ..options.clone() }) {
                    tags.set(key, value);
                }
            }
            // MP4 has no other place for a track's title.
            if let Some((_, title)) = side.metadata.iter().find(|(key, value)| is_mov && key == "title" && !value.is_empty()) {
                tags.set("handler_name", title);
            }
            stream.metadata = tags.into_raw();
            Ok(usize::try_from(stream.index).unwrap_or_default())
        }
    }

    fn add_chapters(&mut self, chapters: &[Chapter], offset_micros: i64) {
        for (index, chapter) in chapters.iter().enumerate() {
            let end = chapter.end_micros.saturating_add(offset_micros);
            if end <= 0 {
                continue;
            }
            let mut tags = Dictionary::new();
            for (key, value) in &chapter.metadata {
                tags.set(key, value);
            }
            // SAFETY: chapters are allocated one by one with FFmpeg's allocator and belong to the context, which frees them.
            unsafe {
                let context = self.context.as_mut();
                let count = context.nb_chapters as usize;
                let size = size_of::<*mut ffi::AVChapter>();
                let list: *mut *mut ffi::AVChapter = ffi::av_realloc_array(context.chapters.cast(), count + 1, size).cast();
                if list.is_null() {
                    return;
                }
                context.chapters = list;
                let entry: *mut ffi::AVChapter = ffi::av_mallocz(size_of::<ffi::AVChapter>()).cast();
                if entry.is_null() {
                    return;
                }
                (*entry).id = index as i64 + 1;
                (*entry).time_base = av::rational(TimeBase::MICROS.ratio());
                (*entry).start = chapter.start_micros.saturating_add(offset_micros).max(0);
                (*entry).end = end;
                (*entry).metadata = tags.into_raw();
                list.add(count).write(entry);
                context.nb_chapters += 1;
            }
        }
    }

    fn set_tags(&mut self, options: &WriterOptions, info: &StreamInfo) {
        let mut tags = Dictionary::new();
        for (key, value) in info.metadata.iter().filter(|(key, value)| tags::is_kept(key, value, options)) {
            if !STREAM_TAGS.contains(&key.as_str()) {
                tags.set(key, value);
            }
        }
        for (key, value) in &options.metadata {
            tags.set(key, value);
        }
        // SAFETY: the context has no tags yet and frees these.
        unsafe { self.context.as_mut().metadata = tags.into_raw() };
    }

    fn open(&mut self, place: &Place<'_>) -> Result<(), MediaError> {
        let url = match place {
            Place::File { path, .. } => av::file_url(path),
            Place::Playlist { path, .. } => av::c_string(&path.display().to_string()),
            Place::Index(sink) => {
                // SAFETY: the sink outlives the context, which does not close it.
                unsafe {
                    let context = self.context.as_mut();
                    context.pb = sink.context();
                    context.flags |= ffi::AVFMT_FLAG_CUSTOM_IO;
                }
                return Ok(());
            }
            Place::Server { url, .. } => av::c_string(url),
        };
        let mut asks = ffi::AVIOInterruptCB { callback: None, opaque: ptr::null_mut() };
        let mut dictionary = Dictionary::new();
        if let Place::Server { interrupt, options, .. } = place {
            asks = interrupt.callback();
            interrupt.start_clock();
            self.interrupt = Some(Arc::clone(interrupt));
            options.iter().for_each(|(key, value)| dictionary.set(key, value));
        }
        // SAFETY: the context owns a copy of the URL (faststart uses it to read the file again); the byte stream is closed in
        // `close_file`; the interrupt state lives as long as self.
        let code = unsafe {
            let context = self.context.as_mut();
            context.url = ffi::av_strdup(url.as_ptr());
            if self.interrupt.is_some() {
                context.interrupt_callback = ffi::AVIOInterruptCB { callback: asks.callback, opaque: asks.opaque };
                context.flush_packets = 1;
            }
            if matches!(place, Place::Playlist { .. }) {
                self.files = Some(SegmentFiles::watch(context));
            }
            if (*context.oformat).flags & ffi::AVFMT_NOFILE != 0 {
                return Ok(());
            }
            ffi::avio_open2(&mut context.pb, url.as_ptr(), ffi::AVIO_FLAG_WRITE, &asks, dictionary.as_mut_ptr())
        };
        if code < 0 { Err(self.write_error(code)) } else { Ok(()) }
    }

    fn write_header(&mut self, place: &Place<'_>, options: &WriterOptions, time_base: TimeBase) -> Result<(), MediaError> {
        let mut dictionary = Dictionary::new();
        match place {
            Place::File { is_regular, .. } => {
                if self.format.is_mov() && *is_regular && !options.crash_safe {
                    dictionary.set(MOV_FLAGS, "+faststart");
                } else if self.format.is_mov() && !chooses_mov_flags(options) {
                    // Pipes cannot seek back, so they get fragments too.
                    dictionary.set(MOV_FLAGS, FRAGMENTS);
                    dictionary.set("frag_duration", FRAGMENT_MICROS);
                }
                self.set_movie_timescale(&mut dictionary, time_base);
            }
            Place::Index(_) => self.set_movie_timescale(&mut dictionary, time_base),
            Place::Playlist { options, .. } => options.iter().for_each(|(key, value)| dictionary.set(key, value)),
            Place::Server { options, .. } if self.format.has(ffi::AVFMT_NOFILE) => {
                options.iter().for_each(|(key, value)| dictionary.set(key, value));
            }
            Place::Server { .. } => {}
        }
        for (key, value) in &options.format_options {
            dictionary.set(key, value);
        }
        // SAFETY: streams and file are set up; unknown entries stay in the dictionary.
        let code = unsafe { ffi::avformat_write_header(self.context.as_ptr(), dictionary.as_mut_ptr()) };
        if code < 0 {
            let words = crate::log::take_last_error();
            if let Some(interrupt) = &self.interrupt {
                return Err(interrupt.reason(&self.path).unwrap_or_else(|| self.write_error(code)));
            }
            return Err(match words.filter(|_| matches!(self.write_error(code), MediaError::Io { .. })) {
                Some(words) => MediaError::Unsupported {
                    what: format!("{} as {}", self.path, self.format.name()),
                    reason: format!("FFmpeg reports '{words}'; choose another container or codec"),
                },
                None => self.write_error(code),
            });
        }
        let is_own = |key: &str| !options.format_options.iter().any(|(user, _)| user == key);
        if let Some((key, _)) = dictionary.entries().into_iter().find(|(key, _)| !is_own(key)) {
            let reason = format!("the container {} does not have it", self.format.name());
            return Err(MediaError::BadOption { name: key, reason, nearest: None });
        }
        // The MP4 muxer disables its filters for fragments, as if the index were already written. But the index is delayed until the
        // first packets are known, so AAC from a transport stream can still have its per-packet headers removed.
        // SAFETY: the context is ours.
        unsafe { self.context.as_mut().flags |= ffi::AVFMT_FLAG_AUTO_BSF };
        self.is_connected = true;
        for stream in 0..self.get().nb_streams as usize {
            let base = self.stream_time_base(stream);
            self.timeline.set_base(stream, base);
            // SAFETY: the context holds nb_streams valid streams with parameters.
            let parameters = unsafe { &*(**self.get().streams.add(stream)).codecpar };
            let filler = GapFiller::of(self.format, parameters, base)?;
            self.fillers.push(filler);
        }
        Ok(())
    }

    /// Sets the time scale of edit lists, which store the start: with the video's own ticks it is exact.
    fn set_movie_timescale(&self, dictionary: &mut Dictionary, time_base: TimeBase) {
        if self.format.is_mov() {
            let ticks = time_base.ratio().den.clamp(1000, i64::from(i32::MAX));
            dictionary.set("movie_timescale", &ticks.to_string());
        }
    }

    /// Writes a packet of the encoder, which states its time base.
    pub(crate) fn write_video(&mut self, mut packet: AvPacket) -> Result<(), MediaError> {
        if let Some(twin) = &mut self.twin {
            twin.muxer.write_video(packet.share()?)?;
        }
        packet.stream_index = 0;
        self.timeline.push(packet);
        self.write_due(false)
    }

    /// Writes a packet of a side stream, which states its time base; returns whether the container has that stream.
    pub(crate) fn write_side(&mut self, side: usize, mut packet: AvPacket) -> Result<bool, MediaError> {
        let Some(stream) = self.sides.get(side).copied().flatten() else { return Ok(false) };
        if let Some(twin) = &mut self.twin {
            twin.muxer.write_side(side, packet.share()?)?;
        }
        packet.stream_index = i32::try_from(stream).unwrap_or(i32::MAX);
        packet.pos = -1;
        self.timeline.push(packet);
        self.write_due(false)?;
        Ok(true)
    }

    /// The timeline, with its counts of repaired and rounded times.
    pub(crate) fn times(&self) -> &Timeline {
        &self.timeline
    }

    fn stream_time_base(&self, stream: usize) -> TimeBase {
        if stream >= self.get().nb_streams as usize {
            return TimeBase::MICROS;
        }
        // SAFETY: the context holds nb_streams valid pointers.
        av::time_base(unsafe { (**self.get().streams.add(stream)).time_base })
    }

    /// Writes packets that no other packet can precede any more; at the end, all packets.
    fn write_due(&mut self, is_end: bool) -> Result<(), MediaError> {
        while let Some(packet) = self.timeline.next(is_end) {
            self.write_filled(packet)?;
        }
        Ok(())
    }

    /// Writes a packet, preceded by silence for a gap if the container stores no times for its stream.
    fn write_filled(&mut self, mut packet: AvPacket) -> Result<(), MediaError> {
        let stream = packet.stream_index;
        loop {
            let filler = usize::try_from(stream).ok().and_then(|stream| self.fillers.get_mut(stream)?.as_mut());
            match filler.map_or(Ok(Next::Packet), |filler| filler.next(&mut packet))? {
                Next::Filling(mut filling) => {
                    filling.stream_index = stream;
                    self.write(filling)?;
                }
                Next::Packet => return self.write(packet),
                Next::Nothing => {
                    self.refused += 1;
                    return Ok(());
                }
            }
        }
    }

    /// Describes how gaps in audio were handled, one line each.
    pub(crate) fn gap_notes(&self) -> impl Iterator<Item = String> {
        self.fillers.iter().flatten().filter_map(GapFiller::note).map(|note| format!("audio {note}"))
    }

    fn write(&mut self, mut packet: AvPacket) -> Result<(), MediaError> {
        if let Some(interrupt) = &self.interrupt {
            interrupt.start_clock();
        }
        let is_side = packet.stream_index != 0;
        let context = self.context.as_ptr();
        // SAFETY: the header is written; the packet is valid, and FFmpeg takes its reference if it interleaves.
        let code = unsafe {
            if OWN_INTERLEAVING.contains(&self.format.name().as_str()) {
                ffi::av_interleaved_write_frame(context, packet.as_mut_ptr())
            } else {
                ffi::av_write_frame(context, packet.as_mut_ptr())
            }
        };
        let is_bad = code == ffi::AVERROR_INVALIDDATA || code == ffi::AVERROR(libc::EINVAL);
        if is_side && is_bad && self.check(0).is_ok() {
            // Do not lose the file because of a damaged packet.
            self.refused += 1;
            return Ok(());
        }
        self.check(code)
    }

    /// Number of side stream packets that the container rejected.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Checks a result and the underlying byte stream, where an earlier failure may have gone unnoticed.
    fn check(&self, code: i32) -> Result<(), MediaError> {
        // SAFETY: null or the context's live byte stream.
        let io = unsafe { self.get().pb.as_ref() }.map_or(0, |pb| pb.error);
        let reason = self.interrupt.as_ref().filter(|_| code < 0 || io < 0).and_then(|interrupt| interrupt.reason(&self.path));
        if let Some(reason) = reason {
            return Err(reason);
        }
        if let Some(code) = self.files.as_ref().and_then(|files| files.error()) {
            return Err(self.write_error(code));
        }
        match (code, io) {
            (_, io) if io < 0 && io != ffi::AVERROR_EOF => Err(self.write_error(io)),
            (code, _) if code < 0 => Err(self.write_error(code)),
            _ => Ok(()),
        }
    }

    /// Writes out buffered data: packets that waited for those of other streams, and bytes.
    pub(crate) fn flush(&mut self) -> Result<(), MediaError> {
        if let Some(interrupt) = &self.interrupt {
            interrupt.start_clock();
        }
        self.write_due(true)?;
        // SAFETY: the header is written, the trailer is not; a null packet requests a flush. The byte stream is null or live.
        let code = unsafe {
            let context = self.context.as_ptr();
            let code = ffi::av_write_frame(context, ptr::null_mut());
            if !(*context).pb.is_null() {
                ffi::avio_flush((*context).pb);
            }
            code
        };
        self.check(code)
    }

    /// Completes and closes the file; does nothing on further calls.
    pub(crate) fn finish(&mut self) -> Result<(), MediaError> {
        if let Some(interrupt) = &self.interrupt {
            interrupt.start_clock();
        }
        if !std::mem::take(&mut self.is_connected) {
            return Ok(());
        }
        // Write the trailer even after a failure, for the data that is there.
        let due = self.write_due(true);
        self.set_final_delay();
        // SAFETY: the header is written, the trailer is not.
        let code = unsafe { ffi::av_write_trailer(self.context.as_ptr()) };
        due?;
        self.check(code)?;
        let code = self.close_file();
        if code < 0 { Err(self.write_error(code)) } else { Ok(()) }
    }

    /// Sets the last frame's duration in animated images, which would otherwise repeat the previous frame's.
    fn set_final_delay(&mut self) {
        let Some(ticks) = self.timeline.last_duration(0) else { return };
        let secs = self.stream_time_base(0).seconds(ticks);
        let delay = match self.format.name().as_str() {
            "gif" => ((secs * 100.0).round() as i64).clamp(0, 65535).to_string(),
            "apng" => format!("{}/1000", ((secs * 1000.0).round() as i64).clamp(0, 65535)),
            _ => return,
        };
        let delay = av::c_string(&delay);
        // SAFETY: the muxer's settings live as long as the context; an unknown option returns an error code, which leaves the delay
        // unchanged.
        unsafe { ffi::av_opt_set(self.get().priv_data, c"final_delay".as_ptr(), delay.as_ptr(), 0) };
    }

    /// Takes the index of a regular file, if this one is fragmented; call it after [`Muxer::finish`].
    ///
    /// # Errors
    /// As [`Muxer::finish`].
    pub(crate) fn take_index(&mut self) -> Result<Option<MovIndex>, MediaError> {
        self.twin.take().map(|twin| twin.finish()).transpose()
    }

    /// Closes the file after a failure, without completing it.
    pub(crate) fn close(&mut self) {
        // The failure was already reported.
        self.close_file();
    }

    fn close_file(&mut self) -> i32 {
        if self.format.has(ffi::AVFMT_NOFILE) || self.get().flags & ffi::AVFMT_FLAG_CUSTOM_IO != 0 {
            return 0;
        }
        // SAFETY: null or a byte stream that `open` opened.
        unsafe { ffi::avio_closep(&mut self.context.as_mut().pb) }
    }

    fn write_error(&self, code: i32) -> MediaError {
        write_error(&self.path, code)
    }
}

impl Twin {
    fn start(
        muxer: &Muxer,
        options: &WriterOptions,
        info: &StreamInfo,
        track: &VideoTrack,
        sides: &SideLayout,
    ) -> Result<Self, MediaError> {
        let mut twin = Self { muxer: Muxer::of_format(muxer.format, muxer.path.clone(), options)?, sink: IndexSink::new()? };
        twin.muxer.start(&Place::Index(&twin.sink), options, info, track, sides)?;
        twin.sink.end_header();
        Ok(twin)
    }

    fn finish(mut self) -> Result<MovIndex, MediaError> {
        self.muxer.write_due(true)?;
        self.sink.begin_trailer();
        self.muxer.finish()?;
        Ok(self.sink.take())
    }
}

/// Whether the user sets the position of the index.
fn chooses_mov_flags(options: &WriterOptions) -> bool {
    options.format_options.iter().any(|(key, _)| key == MOV_FLAGS)
}

impl Drop for Muxer {
    fn drop(&mut self) {
        if let Some(interrupt) = self.interrupt.as_ref().filter(|_| self.is_connected && self.format.name() == "rtsp") {
            // Only writing the trailer closes the sockets.
            interrupt.start_clock();
            // SAFETY: the header is written, the trailer is not; the result is ignored, since a broken connection was already reported.
            unsafe { ffi::av_write_trailer(self.context.as_ptr()) };
        }
        self.close_file();
        // SAFETY: owned by self and freed once, with its streams, chapters and tags.
        unsafe { ffi::avformat_free_context(self.context.as_ptr()) };
    }
}

fn track_kind(parameters: &ffi::AVCodecParameters) -> TrackKind {
    let positive = |number: i32| u32::try_from(number).unwrap_or(0);
    if parameters.codec_type == ffi::AVMediaType::AUDIO {
        TrackKind::Audio { sample_rate: positive(parameters.sample_rate), padding: positive(parameters.initial_padding) }
    } else {
        TrackKind::Sparse
    }
}
