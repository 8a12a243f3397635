//! An open FFmpeg container: a file, a URL or a pipe.

use std::{
    ffi::CString,
    fs,
    os::unix::fs::FileTypeExt,
    path::Path,
    ptr::{self, NonNull},
    sync::Arc,
    thread,
    time::Duration,
};

use ffmpeg_the_third::ffi;
use framerail_core::run_files::local_path;

use crate::{
    InputOptions, MediaError,
    av::{self, Dictionary},
    byte_stream::ByteStream,
    describe, device_library,
    edges::Edges,
    error::nearest,
    interrupt::Interrupt,
    log::{self, DemuxerNotes},
    nested_io::NestedHandle,
    open_error,
    open_playlist::OpenPlaylist,
    opening::{self, Opening},
    pipe,
    still::Moving,
};

/// Assumed bytes per pixel, and number of frames of a video that exist at once, while streams are probed.
const PROBED_PIXEL_BYTES: u64 = 4;
const PROBED_PICTURES: u64 = 3;

/// Bytes at the start of a HEIF or AVIF image that are searched for its metadata.
const STILL_HEAD_BYTES: usize = 4 << 20;

/// Polling interval of a camera that has no frame yet.
const DEVICE_WAIT: Duration = Duration::from_millis(2);

/// Source of a container's bytes.
enum Bytes {
    /// FFmpeg's own protocols.
    Protocol,
    Custom(ByteStream),
}

impl Bytes {
    /// The custom byte stream for FFmpeg; null if FFmpeg opens the source itself.
    fn context(&self) -> *mut ffi::AVIOContext {
        match self {
            Bytes::Protocol => ptr::null_mut(),
            Bytes::Custom(stream) => stream.context(),
        }
    }

    /// A custom source's last error message.
    fn error(&self) -> Option<String> {
        if let Bytes::Custom(stream) = self { stream.error() } else { None }
    }
}

/// An open `AVFormatContext` for reading.
pub(crate) struct Container {
    context: NonNull<ffi::AVFormatContext>,
    /// Dropped after the context is closed.
    bytes: Bytes,
    interrupt: Arc<Interrupt>,
    source_name: String,
    /// Resources that its playlist opens; dropped after the context.
    nested: NestedHandle,
    /// Dropped after the context, since closing also logs messages.
    _secrecy: log::Secrecy,
    /// Whether it is a capture device of this machine: camera or screen.
    is_device: bool,
    /// What the demuxer reported while it read headers and probed streams.
    opening_notes: DemuxerNotes,
    /// Memory limit for decoded frames.
    image_bytes: u64,
    /// Notice for the user on how the source is read.
    notice: Option<String>,
}

// SAFETY: a format context may be used from any thread, one at a time; `&mut self` guards every changing call.
unsafe impl Send for Container {}

impl Container {
    /// Opens a source and reads its headers. `url` is what FFmpeg opens, `options.source` what messages name.
    pub(crate) fn open(url: &str, options: &InputOptions, interrupt: &Arc<Interrupt>) -> Result<Self, MediaError> {
        av::init();
        let source_name = options.source.to_string();
        let secrecy = log::Secrecy::of(&options.source);
        let format = find_format(options.format.as_deref())?;
        interrupt.start_clock();
        let is_device = options.format.as_deref().is_some_and(device_library::is_device_format);
        let mut opening = if is_device { Opening::of_device() } else { Opening::of(url, options)? };
        opening.options.extend(opening::tls_options(url, options.insecure)?);
        let bytes = match &options.custom {
            Some(custom) => Bytes::Custom(ByteStream::open(custom, interrupt)?),
            None if is_device => Bytes::Protocol,
            None => open_bytes(url, &source_name, interrupt)?,
        };
        // SAFETY: no preconditions.
        let context = unsafe { ffi::avformat_alloc_context() };
        let Some(context) = NonNull::new(context) else {
            return Err(av::error(source_name, ffi::AVERROR(libc::ENOMEM)));
        };
        // SAFETY: freshly allocated; the interrupt state is kept alive by the container.
        unsafe {
            (*context.as_ptr()).interrupt_callback = interrupt.callback();
            (*context.as_ptr()).pb = bytes.context();
            if is_device {
                // Capture devices do not call the interrupt callback: poll them instead of blocking.
                (*context.as_ptr()).flags |= ffi::AVFMT_FLAG_NONBLOCK;
            }
        }
        let target = if is_device { av::c_string(url) } else { ffmpeg_url(url, options.custom.is_some()) };
        let mut dictionary = Dictionary::new();
        for (key, value) in &opening.options {
            dictionary.set(key, value);
        }
        // SAFETY: a fresh context that has opened nothing yet; the handle outlives it.
        let nested = unsafe { NestedHandle::attach(context.as_ptr(), opening.nested, &target, interrupt) };
        for (key, value) in &options.format_options {
            dictionary.set(key, value);
        }
        if let (Some(rate), true) = (options.frame_rate, options.format.is_some()) {
            dictionary.set("framerate", &rate.to_string());
        }
        let open_playlist = options.custom.is_none().then(|| OpenPlaylist::of(url)).flatten();
        for (key, value) in open_playlist.iter().flat_map(OpenPlaylist::format_options) {
            dictionary.set(key, &value);
        }
        interrupt.start_clock();
        log::take_last_error();
        let mut pointer = context.as_ptr();
        // SAFETY: context, format and dictionary are valid; on failure FFmpeg frees the context itself.
        let (code, opening_notes) =
            log::listening(|| unsafe { ffi::avformat_open_input(&mut pointer, target.as_ptr(), format, dictionary.as_mut_ptr()) });
        if code < 0 {
            if let Some(reason) = nested.refusal() {
                return Err(MediaError::Refused { source_name, reason });
            }
            return Err(open_error::of(code, url, options, interrupt, bytes.error()));
        }
        let container = Self {
            context,
            bytes,
            interrupt: Arc::clone(interrupt),
            source_name,
            nested,
            _secrecy: secrecy,
            is_device,
            opening_notes,
            image_bytes: options.image_bytes,
            notice: open_playlist.map(|playlist| playlist.notice()),
        };
        if let Some((name, _)) =
            dictionary.entries().into_iter().find(|(name, _)| name != "framerate" && name != "pattern_type" && !Opening::is_own(name))
        {
            let reason = format!("the container {} does not have it", container.format_name());
            return Err(MediaError::BadOption { name, reason, nearest: None });
        }
        container.refuse_text_art(options)?;
        Ok(container)
    }

    /// Whether the header has everything a video stream's decoder needs, so that no packet must be read to open it.
    pub(crate) fn header_suffices(&self, video: usize) -> bool {
        use ffi::AVCodecID as Id;
        let format = self.format_name();
        let (is_mov, is_matroska) = (format.starts_with("mov"), format.starts_with("matroska"));
        let Some(stream) = self.stream(video) else { return false };
        // SAFETY: every stream has parameters.
        let parameters = unsafe { &*stream.codecpar };
        let has_headers = parameters.extradata_size > 0;
        let is_complete = match parameters.codec_id {
            Id::H264 | Id::HEVC | Id::AV1 => has_headers,
            Id::VP8 | Id::VP9 | Id::MJPEG => true,
            _ => false,
        };
        // Fragmented files describe their samples in the fragments.
        let is_timed = is_matroska || stream.nb_frames > 0;
        (is_mov || is_matroska) && is_complete && is_timed && parameters.width > 0 && parameters.height > 0
    }

    /// Reads packets to find stream properties that the headers do not state.
    pub(crate) fn find_stream_info(&mut self) -> Result<(), MediaError> {
        self.interrupt.start_clock();
        // Do not decode frames here that the reader would reject for their size.
        let name = self.format_name();
        let at_once = if name.starts_with("image2") || name.ends_with("_pipe") { 1 } else { PROBED_PICTURES };
        let limit = (self.image_bytes / (PROBED_PIXEL_BYTES * at_once)).to_string();
        let mut limits: Vec<Dictionary> = (0..self.stream_count()).map(|_| Dictionary::new()).collect();
        let mut options: Vec<*mut ffi::AVDictionary> = limits
            .drain(..)
            .map(|mut dictionary| {
                dictionary.set("max_pixels", &limit);
                dictionary.into_raw()
            })
            .collect();
        let pointer = if options.is_empty() { ptr::null_mut() } else { options.as_mut_ptr() };
        // SAFETY: an open context, and a dictionary for each of its streams.
        let (code, notes) = log::listening(|| unsafe { ffi::avformat_find_stream_info(self.as_ptr(), pointer) });
        for mut dictionary in options {
            // SAFETY: ours, or what FFmpeg left of it; freed once.
            unsafe { ffi::av_dict_free(&mut dictionary) };
        }
        self.opening_notes.add(notes);
        if let Some(reason) = self.interrupt.reason(&self.source_name) {
            return Err(reason);
        }
        if let Some(error) = self.source_error() {
            return Err(error);
        }
        if code < 0 && self.stream_count() == 0 {
            return Err(MediaError::Damaged {
                source_name: self.source_name.clone(),
                reason: format!("its streams cannot be read ({})", av::error_text(code)),
            });
        }
        Ok(())
    }

    /// Refuses text files that FFmpeg would render as video because of their name, such as `.txt`.
    fn refuse_text_art(&self, options: &InputOptions) -> Result<(), MediaError> {
        let is_art = matches!(self.format_name().as_str(), "tty" | "bin" | "xbin" | "adf" | "idf");
        if is_art && options.format.is_none() {
            return Err(MediaError::NotMedia { source_name: self.source_name.clone(), reason: "a text file, not media".into() });
        }
        Ok(())
    }

    pub(crate) fn as_ptr(&self) -> *mut ffi::AVFormatContext {
        self.context.as_ptr()
    }

    pub(crate) fn get(&self) -> &ffi::AVFormatContext {
        // SAFETY: open and owned by self.
        unsafe { self.context.as_ref() }
    }

    /// FFmpeg's container name.
    pub(crate) fn format_name(&self) -> String {
        // SAFETY: an open input has a format with a static name.
        unsafe { av::string((*self.get().iformat).name) }
    }

    pub(crate) fn has_format_flag(&self, flag: i32) -> bool {
        // SAFETY: an open input has a format.
        unsafe { (*self.get().iformat).flags & flag != 0 }
    }

    pub(crate) fn stream_count(&self) -> usize {
        self.get().nb_streams as usize
    }

    /// A stream by its index in the container.
    pub(crate) fn stream(&self, index: usize) -> Option<&ffi::AVStream> {
        // SAFETY: the context holds nb_streams valid pointers.
        (index < self.stream_count()).then(|| unsafe { &**self.get().streams.add(index) })
    }

    pub(crate) fn streams(&self) -> impl Iterator<Item = &ffi::AVStream> {
        (0..self.stream_count()).filter_map(|index| self.stream(index))
    }

    /// Chooses among the streams of a kind: the one with this number among them, or FFmpeg's choice.
    ///
    /// # Errors
    /// `NoVideo`, `NoAudio`; `BadOption` with this option's name.
    pub(crate) fn choose_stream(
        &self,
        kind: ffi::AVMediaType,
        streams: Vec<usize>,
        wanted: Option<usize>,
        option: &str,
    ) -> Result<usize, MediaError> {
        let (source_name, is_video) = (self.source_name.clone(), kind == ffi::AVMediaType::VIDEO);
        let Some(first) = streams.first().copied() else {
            let found = describe::listing(self);
            return Err(if is_video { MediaError::NoVideo { source_name, found } } else { MediaError::NoAudio { source_name, found } });
        };
        let Some(wanted) = wanted else {
            // SAFETY: an open context; no decoder is requested.
            let best = unsafe { ffi::av_find_best_stream(self.as_ptr(), kind, -1, -1, ptr::null_mut(), 0) };
            return Ok(usize::try_from(best).ok().filter(|best| streams.contains(best)).unwrap_or(first));
        };
        streams.get(wanted).copied().ok_or_else(|| {
            let (count, kind) = (streams.len(), if is_video { "video" } else { "audio" });
            let reason = format!("{source_name} has {count} {kind} stream(s), numbered from 0; {wanted} is not among them");
            MediaError::BadOption { name: option.into(), reason, nearest: None }
        })
    }

    /// Makes the demuxer skip every stream that is not in `wanted`.
    pub(crate) fn discard_others(&mut self, wanted: &[usize]) {
        for index in 0..self.stream_count() {
            let discard = if wanted.contains(&index) { ffi::AVDiscard::DEFAULT } else { ffi::AVDiscard::ALL };
            // SAFETY: a valid stream of an exclusively borrowed context.
            unsafe { (**self.get().streams.add(index)).discard = discard };
        }
    }

    /// Notice for the user on how the source is read.
    pub(crate) fn notice(&self) -> Option<&str> {
        self.notice.as_deref()
    }

    /// Takes what the demuxer reported while it was opened.
    pub(crate) fn take_opening_notes(&mut self) -> DemuxerNotes {
        std::mem::take(&mut self.opening_notes)
    }

    /// Current byte position in the file.
    pub(crate) fn position(&self) -> u64 {
        // SAFETY: null, or the context's live byte stream; seeking by 0 from the current position only returns it.
        let position = unsafe { self.get().pb.as_mut().map_or(0, |pb| ffi::avio_seek(pb, 0, libc::SEEK_CUR)) };
        u64::try_from(position).unwrap_or(0)
    }

    /// Whether it is a local file, where small reads at arbitrary positions are cheap.
    pub(crate) fn is_local_file(&self) -> bool {
        matches!(self.bytes, Bytes::Protocol) && !self.is_device && !is_url(&self.source_name)
    }

    /// The file's size in bytes, if known.
    pub(crate) fn size_bytes(&mut self) -> Option<u64> {
        // SAFETY: null, or the context's live byte stream, exclusively borrowed.
        let size = unsafe { self.get().pb.as_mut().map_or(-1, |pb| ffi::avio_size(pb)) };
        u64::try_from(size).ok().filter(|size| *size > 0)
    }

    /// As [`Container::size_bytes`], also of a source without a known size that was read to its end.
    pub(crate) fn end_bytes(&mut self) -> Option<u64> {
        let edges = if let Bytes::Custom(stream) = &self.bytes { stream.edges() } else { None };
        edges.map(Edges::total).or_else(|| self.size_bytes().filter(|_| self.is_seekable()))
    }

    /// Reads up to `length` bytes at a position; `None` if it cannot seek there: a stream keeps only its first and last bytes.
    /// Reading continues after these bytes.
    pub(crate) fn bytes_at(&mut self, position: u64, length: usize) -> Option<Vec<u8>> {
        if let Bytes::Custom(stream) = &self.bytes
            && let Some(edges) = stream.edges()
        {
            return edges.at(position, length).map(<[u8]>::to_vec);
        }
        let (position, room) = (i64::try_from(position).ok()?, i32::try_from(length).ok()?);
        let mut bytes = vec![0; length];
        // SAFETY: null, or the context's live byte stream, exclusively borrowed; the buffer has room for what is asked.
        let count = unsafe {
            let pb = self.get().pb.as_mut()?;
            if ffi::avio_seek(pb, position, libc::SEEK_SET) < 0 {
                return None;
            }
            ffi::avio_read(pb, bytes.as_mut_ptr(), room)
        };
        bytes.truncate(usize::try_from(count).unwrap_or(0));
        Some(bytes)
    }

    /// Whether each packet is a whole still image.
    pub(crate) fn is_image(&self) -> bool {
        let name = self.format_name();
        name.ends_with("_pipe") || name.starts_with("image2")
    }

    /// The first bytes of a HEIF or AVIF image; `None` for other files, and where seeking back is impossible.
    pub(crate) fn still_head(&mut self) -> Option<Vec<u8>> {
        if !self.format_name().starts_with("mov") || !self.is_seekable() {
            return None;
        }
        let position = self.position();
        let mut head = self.bytes_at(0, 4096)?;
        let is_still = head.get(4..8) == Some(b"ftyp") && Moving::of(&head).is_none();
        if is_still {
            head = self.bytes_at(0, STILL_HEAD_BYTES)?;
        }
        // SAFETY: null, or the context's live byte stream, exclusively borrowed.
        unsafe { ffi::avio_seek(self.get().pb.as_mut()?, i64::try_from(position).ok()?, libc::SEEK_SET) };
        is_still.then_some(head)
    }

    /// As [`Container::read`], with the demuxer's messages.
    pub(crate) fn read_noting(&mut self, packet: &mut av::AvPacket) -> (Result<(), i32>, DemuxerNotes) {
        log::listening(|| self.read(packet))
    }

    /// Reads the next packet; `Err` with FFmpeg's error code at the end and on failure.
    pub(crate) fn read(&mut self, packet: &mut av::AvPacket) -> Result<(), i32> {
        self.interrupt.start_clock();
        loop {
            // SAFETY: an open context and an owned packet.
            let code = unsafe { ffi::av_read_frame(self.as_ptr(), packet.as_mut_ptr()) };
            if self.is_device && code == ffi::AVERROR(libc::EAGAIN) && !self.interrupt.is_due() {
                thread::sleep(DEVICE_WAIT);
                continue;
            }
            return if code < 0 { Err(code) } else { Ok(()) };
        }
    }

    /// The error of the underlying byte stream, if it failed.
    pub(crate) fn io_error(&self) -> Option<String> {
        // SAFETY: null or the context's live byte stream.
        let code = unsafe { self.get().pb.as_ref() }.map_or(0, |pb| pb.error);
        (code < 0 && code != ffi::AVERROR_EOF).then(|| av::error_text(code))
    }

    /// A custom source's error with its own message; FFmpeg has only one code for all of them.
    pub(crate) fn source_error(&self) -> Option<MediaError> {
        if let Some(reason) = self.nested.refusal() {
            return Some(MediaError::Refused { source_name: self.source_name.clone(), reason });
        }
        self.bytes.error().map(|reason| MediaError::Io { path: self.source_name.clone(), reason })
    }

    /// Seeks to the last keyframe at or before a timestamp of a stream; `false` if the source cannot.
    pub(crate) fn seek(&mut self, stream: usize, ticks: i64) -> bool {
        self.interrupt.start_clock();
        // SAFETY: an open context and one of its streams.
        unsafe { ffi::av_seek_frame(self.as_ptr(), stream as i32, ticks, ffi::AVSEEK_FLAG_BACKWARD) >= 0 }
    }

    /// Seeks to a byte position; `false` if the source cannot.
    pub(crate) fn seek_byte(&mut self, stream: usize, position: u64) -> bool {
        let Ok(position) = i64::try_from(position) else { return false };
        self.interrupt.start_clock();
        // SAFETY: an open context and one of its streams.
        unsafe { ffi::av_seek_frame(self.as_ptr(), stream as i32, position, ffi::AVSEEK_FLAG_BYTE) >= 0 }
    }

    /// The container's index entries of a stream, in order.
    pub(crate) fn index_entries(&self, stream: usize) -> impl Iterator<Item = &ffi::AVIndexEntry> {
        let stream = self.stream(stream).map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the count only reads the stream.
        let count = if stream.is_null() { 0 } else { unsafe { ffi::avformat_index_get_entries_count(stream) } };
        // SAFETY: a live stream, which is only read; entries stay put while self is borrowed.
        (0..count).filter_map(move |index| unsafe { ffi::avformat_index_get_entry(stream.cast_mut(), index).as_ref() })
    }

    /// Whether the source can seek.
    pub(crate) fn is_seekable(&self) -> bool {
        // SAFETY: null (formats without their own byte stream) or live.
        unsafe { self.get().pb.as_ref() }.is_none_or(|pb| pb.seekable != 0)
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let mut context = self.context.as_ptr();
        // SAFETY: opened by avformat_open_input and closed once; a custom byte stream is left to its owner.
        unsafe { ffi::avformat_close_input(&mut context) };
    }
}

/// The demuxer with this name.
fn find_format(name: Option<&str>) -> Result<*const ffi::AVInputFormat, MediaError> {
    let Some(name) = name else { return Ok(ptr::null()) };
    let wanted = av::c_string(name);
    // SAFETY: a zero-terminated name.
    let mut format = unsafe { ffi::av_find_input_format(wanted.as_ptr()) };
    if format.is_null() && device_library::is_device_format(name) {
        device_library::load()?;
        // SAFETY: as above.
        format = unsafe { ffi::av_find_input_format(wanted.as_ptr()) };
    }
    if !format.is_null() {
        return Ok(format);
    }
    let names = crate::version::demuxers();
    let nearest = nearest(name, names.iter().map(String::as_str));
    let reason = format!("'{name}': FFmpeg knows no container of this name");
    Err(MediaError::BadOption { name: "format".into(), reason, nearest })
}

/// Whether a source is a URL rather than a path.
pub(crate) fn is_url(source: &str) -> bool {
    let scheme = source.split_once("://").map_or("", |(scheme, _)| scheme);
    !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}

/// The URL for FFmpeg: local paths get the `file:` protocol, so that a colon in a name is not taken for one.
fn ffmpeg_url(url: &str, is_name: bool) -> CString {
    match local_path(url) {
        // Standard input has no name that a format could be detected by.
        _ if url == "-" => CString::default(),
        // A custom source's name only helps to detect its format; nothing is opened by it.
        Some(path) if !is_name => av::file_url(&path),
        _ => av::c_string(url),
    }
}

fn check_file(url: &str, source_name: &str) -> Result<(), MediaError> {
    if url == "-" || (is_url(url) && !url.starts_with("file:")) {
        return Ok(());
    }
    let path = &local_path(url).unwrap_or_default();
    let metadata = fs::metadata(path).map_err(|error| MediaError::io(path, &error))?;
    if metadata.is_file() && metadata.len() == 0 {
        return Err(MediaError::NotMedia { source_name: source_name.to_owned(), reason: "the file is empty".into() });
    }
    if metadata.is_file() {
        fs::File::open(path).map_err(|error| MediaError::io(path, &error))?;
    }
    Ok(())
}

fn open_bytes(url: &str, source_name: &str, interrupt: &Arc<Interrupt>) -> Result<Bytes, MediaError> {
    check_file(url, source_name)?;
    let path = Path::new(url);
    let is_fifo = || !is_url(url) && fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo());
    let source = match url {
        "-" => pipe::open(None, source_name, interrupt)?,
        _ if is_fifo() => pipe::open(Some(path), source_name, interrupt)?,
        _ => return Ok(Bytes::Protocol),
    };
    ByteStream::open(&source, interrupt).map(Bytes::Custom)
}
