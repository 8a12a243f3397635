//! Writes packets into a container.

use std::{
    path::Path,
    ptr::{self, NonNull},
};

use ffmpeg_the_third::ffi;
use framerail_core::{MediaKind, Rotation, SideStream, StreamInfo, TimeBase};

use crate::{
    Chapter, MediaError, SideParameters, WriterOptions,
    av::{self, AvPacket, Dictionary},
    encoder::{Demands, Encoder},
    error::{is_no_space, nearest},
    output::OutputFile,
    version,
};

/// Tags that describe the file they were in, not its content.
const FILE_TAGS: &[&str] = &["major_brand", "minor_version", "compatible_brands", "encoder", "duration", "vendor_id", "rotate"];
/// Tags that belong to the video stream.
const STREAM_TAGS: &[&str] = &["language", "handler_name", "timecode"];

/// An output container.
pub(crate) struct Muxer {
    context: NonNull<ffi::AVFormatContext>,
    path: String,
    /// Output stream of each side stream.
    sides: Vec<Option<SideTarget>>,
    /// Seconds by which the container moves everything so that no time is negative.
    shift_secs: f64,
    pub(crate) warnings: Vec<String>,
}

#[derive(Clone, Copy)]
struct SideTarget {
    stream: usize,
    time_base: TimeBase,
}

// SAFETY: a format context may be used from any thread, one at a time; `&mut self` guards every changing call.
unsafe impl Send for Muxer {}

impl Muxer {
    /// Chooses the container by option or file name.
    pub(crate) fn new(path: &Path, options: &WriterOptions) -> Result<Self, MediaError> {
        let shown = path.display().to_string();
        let format = find_format(path, options.format.as_deref())?;
        let mut context = ptr::null_mut();
        // SAFETY: a static format; the context is written to a live pointer.
        let code = unsafe { ffi::avformat_alloc_output_context2(&mut context, format, ptr::null(), ptr::null()) };
        let Some(context) = NonNull::new(context) else { return Err(av::error(shown, code)) };
        Ok(Self { context, path: shown, sides: Vec::new(), shift_secs: 0.0, warnings: Vec::new() })
    }

    fn get(&self) -> &ffi::AVFormatContext {
        // SAFETY: owned by self.
        unsafe { self.context.as_ref() }
    }

    fn format(&self) -> &ffi::AVOutputFormat {
        // SAFETY: an output context has a static format.
        unsafe { &*self.get().oformat }
    }

    pub(crate) fn format_name(&self) -> String {
        // SAFETY: a static name.
        unsafe { av::string(self.format().name) }
    }

    /// What the container asks of its encoder.
    pub(crate) fn demands(&self) -> Demands {
        let flags = self.format().flags;
        Demands {
            global_header: flags & ffi::AVFMT_GLOBALHEADER != 0,
            fixed_rate: flags & ffi::AVFMT_VARIABLE_FPS == 0 && self.format_name() == "avi",
        }
    }

    /// The usual encoder for the container.
    pub(crate) fn default_encoder(&self) -> Result<String, MediaError> {
        let format = self.format_name();
        let preferred = match format.as_str() {
            "mp4" | "mov" | "matroska" | "ipod" | "flv" | "mpegts" | "3gp" | "h264" | "psp" | "f4v" | "ismv" => {
                &["libx264", "libopenh264", "mpeg4"][..]
            }
            "webm" => &["libvpx-vp9", "libaom-av1", "libvpx"][..],
            "avi" => &["mpeg4"][..],
            _ => &[],
        };
        let available = version::video_encoders();
        if let Some(name) = preferred.iter().find(|name| available.iter().any(|known| known == *name)) {
            return Ok((*name).to_owned());
        }
        // SAFETY: a static format; an encoder's description is static or null.
        let name = unsafe {
            let codec = ffi::avcodec_find_encoder(self.format().video_codec);
            if codec.is_null() { String::new() } else { av::string((*codec).name) }
        };
        if name.is_empty() || self.format().video_codec == ffi::AVCodecID::NONE {
            return Err(MediaError::Unsupported {
                what: format!("video in {format}"),
                reason: "choose another container, such as .mp4 or .mkv".into(),
            });
        }
        Ok(name)
    }

    /// Adds the streams, opens the file and writes its header.
    pub(crate) fn start(
        &mut self,
        output: &OutputFile,
        options: &WriterOptions,
        info: &StreamInfo,
        encoder: &Encoder,
    ) -> Result<(), MediaError> {
        self.add_video(encoder, info, options)?;
        for side in &info.side_streams {
            let target = self.add_side(side, options)?;
            self.sides.push(target);
        }
        self.set_tags(options, info);
        self.open_file(output)?;
        self.write_header(output, options, encoder.time_base())
    }

    fn add_stream(&mut self) -> Result<NonNull<ffi::AVStream>, MediaError> {
        // SAFETY: an output context without a header yet.
        let stream = unsafe { ffi::avformat_new_stream(self.context.as_ptr(), ptr::null()) };
        NonNull::new(stream).ok_or_else(|| av::error(self.path.clone(), ffi::AVERROR(libc::ENOMEM)))
    }

    fn add_video(&mut self, encoder: &Encoder, info: &StreamInfo, options: &WriterOptions) -> Result<(), MediaError> {
        let is_mov = self.is_mov();
        let mut stream = self.add_stream()?;
        // SAFETY: a fresh stream with parameters, an open encoder.
        unsafe {
            let stream = stream.as_mut();
            let code = ffi::avcodec_parameters_from_context(stream.codecpar, &raw const **encoder.context());
            if code < 0 {
                return Err(av::error(self.path.clone(), code));
            }
            stream.time_base = av::rational(encoder.time_base().ratio());
            if let Some(rate) = info.frame_rate {
                stream.avg_frame_rate = av::rational(rate);
            }
            stream.sample_aspect_ratio = (*stream.codecpar).sample_aspect_ratio;
            if is_mov && (*stream.codecpar).codec_id == ffi::AVCodecID::HEVC {
                // Players of Apple's take no other tag.
                (*stream.codecpar).codec_tag = u32::from_le_bytes(*b"hvc1");
            }
            if info.rotation != Rotation::None {
                let matrix = ffi::av_stream_new_side_data(stream, ffi::AVPacketSideDataType::DISPLAYMATRIX, 36);
                if !matrix.is_null() {
                    ffi::av_display_rotation_set(matrix.cast(), f64::from(info.rotation.degrees()));
                }
            }
            let mut tags = Dictionary::new();
            for (key, value) in info.metadata.iter().filter(|(key, _)| options.keep_metadata && STREAM_TAGS.contains(&key.as_str())) {
                tags.set(key, value);
            }
            stream.metadata = tags.into_raw();
        }
        Ok(())
    }

    pub(crate) fn is_mov(&self) -> bool {
        matches!(self.format_name().as_str(), "mp4" | "mov" | "ipod" | "3gp" | "3g2" | "psp" | "f4v" | "ismv")
    }

    /// Adds a side stream if the container takes it; says so if not.
    fn add_side(&mut self, side: &SideStream, options: &WriterOptions) -> Result<Option<SideTarget>, MediaError> {
        let Some(own) = side.parameters.downcast_ref::<SideParameters>() else { return Ok(None) };
        let (parameters, metadata, disposition) = match own {
            SideParameters::Chapters(chapters) => {
                if options.keep_metadata {
                    self.add_chapters(chapters, options.offset_micros);
                }
                return Ok(None);
            }
            SideParameters::Stream { parameters, metadata, disposition } => (parameters, metadata, *disposition),
        };
        if !self.takes(side, parameters.get(), metadata) {
            let kind = match side.kind {
                MediaKind::Audio => "sound",
                MediaKind::Subtitle => "subtitle",
                MediaKind::Data => "data",
                MediaKind::Attachment => "attached",
            };
            let format = self.format_name();
            self.warnings.push(format!("the {kind} stream {} is left out: {format} does not take it; .mkv takes most", side.codec));
            return Ok(None);
        }
        let mut stream = self.add_stream()?;
        // SAFETY: a fresh stream with parameters; the source is valid.
        unsafe {
            let stream = stream.as_mut();
            let code = ffi::avcodec_parameters_copy(stream.codecpar, parameters.get());
            if code < 0 {
                return Err(av::error(self.path.clone(), code));
            }
            (*stream.codecpar).codec_tag = 0;
            stream.time_base = av::rational(side.time_base.ratio());
            stream.disposition = disposition;
            let mut tags = Dictionary::new();
            for (key, value) in metadata.iter().filter(|(key, _)| !is_file_tag(key)) {
                tags.set(key, value);
            }
            stream.metadata = tags.into_raw();
            Ok(Some(SideTarget { stream: stream.index as usize, time_base: side.time_base }))
        }
    }

    fn takes(&self, side: &SideStream, parameters: &ffi::AVCodecParameters, metadata: &[(String, String)]) -> bool {
        let format = self.format();
        let usual = match side.kind {
            MediaKind::Audio => format.audio_codec,
            MediaKind::Subtitle => format.subtitle_codec,
            MediaKind::Data => return false,
            // A cover picture in MP4, a named file in Matroska; anything else would become a second video.
            MediaKind::Attachment if parameters.codec_type == ffi::AVMediaType::VIDEO => {
                return self.is_mov() && matches!(side.codec.as_str(), "png" | "mjpeg" | "bmp");
            }
            MediaKind::Attachment => {
                return self.format_name() == "matroska" && metadata.iter().any(|(key, _)| key == "filename");
            }
        };
        // SAFETY: a static format and any codec number.
        let answer = unsafe { ffi::avformat_query_codec(format, parameters.codec_id, ffi::FF_COMPLIANCE_NORMAL) };
        match answer {
            1 => true,
            0 => false,
            // The container does not say: it takes the kind if it has a usual codec for it.
            _ => usual != ffi::AVCodecID::NONE,
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
        for (key, value) in info.metadata.iter().filter(|_| options.keep_metadata) {
            if !is_file_tag(key) && !STREAM_TAGS.contains(&key.as_str()) {
                tags.set(key, value);
            }
        }
        for (key, value) in &options.metadata {
            tags.set(key, value);
        }
        // SAFETY: the context has no tags yet and frees these.
        unsafe { self.context.as_mut().metadata = tags.into_raw() };
    }

    fn open_file(&mut self, output: &OutputFile) -> Result<(), MediaError> {
        let url = av::c_string(&format!("file:{}", output.working_path().display()));
        // SAFETY: the context owns a copy of the URL (faststart reads the file again by it); the byte stream is closed in `close_file`.
        let code = unsafe {
            self.context.as_mut().url = ffi::av_strdup(url.as_ptr());
            if self.format().flags & ffi::AVFMT_NOFILE != 0 {
                return Ok(());
            }
            ffi::avio_open2(&mut self.context.as_mut().pb, url.as_ptr(), ffi::AVIO_FLAG_WRITE, ptr::null(), ptr::null_mut())
        };
        if code < 0 { Err(self.write_error(code)) } else { Ok(()) }
    }

    fn write_header(&mut self, output: &OutputFile, options: &WriterOptions, time_base: TimeBase) -> Result<(), MediaError> {
        let mut dictionary = Dictionary::new();
        if self.is_mov() && output.is_regular() {
            dictionary.set("movflags", "+faststart");
        }
        if self.is_mov() {
            // Edit lists, which hold the start, count in this: with the video's own ticks it is exact.
            let ticks = time_base.ratio().den.clamp(1000, i64::from(i32::MAX));
            dictionary.set("movie_timescale", &ticks.to_string());
        }
        for (key, value) in &options.format_options {
            dictionary.set(key, value);
        }
        // SAFETY: streams and file are set up; entries that the container does not know stay in the dictionary.
        let code = unsafe { ffi::avformat_write_header(self.context.as_ptr(), dictionary.as_mut_ptr()) };
        if code < 0 {
            let words = crate::log::take_last_error();
            return Err(match words.filter(|_| !is_no_space(-code)) {
                Some(words) => MediaError::Unsupported {
                    what: format!("{} as {}", self.path, self.format_name()),
                    reason: format!("FFmpeg says '{words}'; choose another container or codec"),
                },
                None => self.write_error(code),
            });
        }
        let is_own = |key: &str| !options.format_options.iter().any(|(user, _)| user == key);
        if let Some((key, _)) = dictionary.entries().into_iter().find(|(key, _)| !is_own(key)) {
            let reason = format!("the container {} does not know it", self.format_name());
            return Err(MediaError::BadOption { name: key, reason, nearest: None });
        }
        Ok(())
    }

    /// Writes a packet of the encoder's; returns whether its time was kept exactly.
    pub(crate) fn write_video(&mut self, mut packet: AvPacket, time_base: TimeBase) -> Result<bool, MediaError> {
        let target = self.stream_time_base(0);
        let is_exact = av::timestamp(packet.pts).is_none_or(|pts| exactly(pts, time_base, target));
        rescale(&mut packet, time_base, target, 0);
        packet.stream_index = 0;
        self.write(packet)?;
        Ok(is_exact)
    }

    /// Writes a packet of a side stream; returns whether the container has that stream.
    pub(crate) fn write_side(&mut self, side: usize, mut packet: AvPacket, offset_micros: i64) -> Result<bool, MediaError> {
        let Some(target) = self.sides.get(side).copied().flatten() else { return Ok(false) };
        let offset = TimeBase::MICROS.rescale(offset_micros, target.time_base);
        rescale(&mut packet, target.time_base, self.stream_time_base(target.stream), offset);
        packet.stream_index = target.stream as i32;
        packet.pos = -1;
        self.write(packet)?;
        Ok(true)
    }

    fn stream_time_base(&self, stream: usize) -> TimeBase {
        if stream >= self.get().nb_streams as usize {
            return TimeBase::MICROS;
        }
        // SAFETY: the context holds nb_streams valid pointers.
        av::time_base(unsafe { (**self.get().streams.add(stream)).time_base })
    }

    fn write(&mut self, mut packet: AvPacket) -> Result<(), MediaError> {
        let moves_negative = self.format().flags & (ffi::AVFMT_TS_NEGATIVE | ffi::AVFMT_NOTIMESTAMPS) == 0;
        let time = av::timestamp(packet.pts).filter(|_| moves_negative && !self.is_mov());
        let base = self.stream_time_base(usize::try_from(packet.stream_index).unwrap_or(0));
        self.shift_secs = time.map_or(self.shift_secs, |ticks| self.shift_secs.max(-base.seconds(ticks)));
        // SAFETY: the header is written; the packet's reference is taken over.
        let code = unsafe { ffi::av_interleaved_write_frame(self.context.as_ptr(), packet.as_mut_ptr()) };
        self.check(code)
    }

    /// Checks a result and the byte stream beneath, which may have failed earlier and unseen.
    fn check(&self, code: i32) -> Result<(), MediaError> {
        // SAFETY: null or the context's live byte stream.
        let io = unsafe { self.get().pb.as_ref() }.map_or(0, |pb| pb.error);
        match (code, io) {
            (_, io) if io < 0 && io != ffi::AVERROR_EOF => Err(self.write_error(io)),
            (code, _) if code < 0 => Err(self.write_error(code)),
            _ => Ok(()),
        }
    }

    /// What became known while writing.
    pub(crate) fn late_warning(&self) -> Option<String> {
        let (format, secs) = (self.format_name(), self.shift_secs);
        (secs > 0.0).then(|| format!("{format} holds no negative times: video and sound alike start {secs:.3} s later"))
    }

    /// Completes and closes the file.
    pub(crate) fn finish(&mut self) -> Result<(), MediaError> {
        // SAFETY: the header is written, the trailer is not.
        let code = unsafe { ffi::av_write_trailer(self.context.as_ptr()) };
        self.check(code)?;
        let code = self.close_file();
        if code < 0 { Err(self.write_error(code)) } else { Ok(()) }
    }

    fn close_file(&mut self) -> i32 {
        if self.format().flags & ffi::AVFMT_NOFILE != 0 {
            return 0;
        }
        // SAFETY: null or a byte stream that `open_file` opened.
        unsafe { ffi::avio_closep(&mut self.context.as_mut().pb) }
    }

    fn write_error(&self, code: i32) -> MediaError {
        let path = self.path.clone();
        if is_no_space(-code) {
            MediaError::DiskFull { path }
        } else {
            MediaError::Io { path, reason: av::error_text(code).to_lowercase() }
        }
    }
}

impl Drop for Muxer {
    fn drop(&mut self) {
        self.close_file();
        // SAFETY: owned by self and freed once, with its streams, chapters and tags.
        unsafe { ffi::avformat_free_context(self.context.as_ptr()) };
    }
}

fn is_file_tag(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    FILE_TAGS.contains(&lower.as_str())
        || lower.starts_with("_statistics")
        || matches!(lower.as_str(), "bps" | "number_of_frames" | "number_of_bytes")
}

/// Whether a time is the same instant in another time base.
fn exactly(ticks: i64, from: TimeBase, to: TimeBase) -> bool {
    let (from, to) = (from.ratio(), to.ratio());
    let num = i128::from(ticks) * i128::from(from.num) * i128::from(to.den);
    num % (i128::from(from.den) * i128::from(to.num)) == 0
}

fn rescale(packet: &mut AvPacket, from: TimeBase, to: TimeBase, offset: i64) {
    let move_to = |ticks: i64| from.rescale(ticks.saturating_add(offset), to);
    packet.pts = av::timestamp(packet.pts).map_or(packet.pts, move_to);
    packet.dts = av::timestamp(packet.dts).map_or(packet.dts, move_to);
    packet.duration = from.rescale(packet.duration, to);
}

fn find_format(path: &Path, name: Option<&str>) -> Result<*const ffi::AVOutputFormat, MediaError> {
    let shown = path.display().to_string();
    if let Some(name) = name {
        let wanted = av::c_string(name);
        // SAFETY: a zero-ended name.
        let format = unsafe { ffi::av_guess_format(wanted.as_ptr(), ptr::null(), ptr::null()) };
        if format.is_null() {
            let names = version::muxers();
            let nearest = nearest(name, names.iter().map(String::as_str));
            return Err(MediaError::BadOption { name: name.to_owned(), reason: "FFmpeg writes no container of this name".into(), nearest });
        }
        return Ok(format);
    }
    let Some(extension) = path.extension() else {
        let reason = "has no extension, so the container is unknown; write it as .mp4, .mkv or another, or give the format".into();
        return Err(MediaError::BadOption { name: shown, reason, nearest: None });
    };
    let file = av::c_string(&format!("x.{}", extension.to_string_lossy().to_ascii_lowercase()));
    // SAFETY: a zero-ended name.
    let format = unsafe { ffi::av_guess_format(ptr::null(), file.as_ptr(), ptr::null()) };
    if format.is_null() {
        let reason =
            format!("FFmpeg knows no container for .{}; use .mp4, .mkv or another, or give the format", extension.to_string_lossy());
        return Err(MediaError::BadOption { name: shown, reason, nearest: None });
    }
    Ok(format)
}
