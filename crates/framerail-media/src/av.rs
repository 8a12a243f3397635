//! Owning wrappers of FFmpeg's objects (frames, packets, dictionaries, codec contexts), and its messages as Rust strings.

use std::{
    ffi::{CStr, CString},
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr,
    sync::Once,
};

use ffmpeg_the_third::ffi;
use framerail_core::{Rational, Rotation, TimeBase};

use crate::{MediaError, error::exhausted, owned::Owned};

/// Initialises the library once: log routing and network.
pub(crate) fn init() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        crate::log::route();
        // SAFETY: called once, before any other use of the network layer.
        unsafe { ffi::avformat_network_init() };
        // Exceeding a file-size limit then fails the write, like a full disk, and the partial file is removed.
        // SAFETY: ignoring a signal runs no code of ours.
        unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    });
}

/// FFmpeg's message for an error code.
pub(crate) fn error_text(code: i32) -> String {
    let mut buffer = [0 as libc::c_char; 256];
    // SAFETY: the buffer's length is passed, and av_strerror always zero-terminates the text.
    let text = unsafe {
        ffi::av_strerror(code, buffer.as_mut_ptr(), buffer.len());
        CStr::from_ptr(buffer.as_ptr())
    };
    text.to_string_lossy().into_owned()
}

/// An error with FFmpeg's message; `context` names the operation.
pub(crate) fn error(context: impl Into<String>, code: i32) -> MediaError {
    let context = context.into();
    // FFmpeg's codes are negated errno values.
    exhausted(&context, -code).unwrap_or_else(|| MediaError::Ffmpeg { context, message: error_text(code) })
}

/// A C string; text after a zero byte is cut off.
pub(crate) fn c_string(text: &str) -> CString {
    let bytes = text.split('\0').next().unwrap_or_default();
    CString::new(bytes).unwrap_or_default()
}

/// A file's URL for FFmpeg: its name byte for byte, or standard output for `-`.
pub(crate) fn file_url(path: &Path) -> CString {
    if crate::commit::is_standard_output(path) {
        return c_string("pipe:1");
    }
    // A path cannot contain a zero byte.
    CString::new([b"file:", path.as_os_str().as_bytes()].concat()).unwrap_or_default()
}

/// A copy of a C string; empty for null.
///
/// # Safety
/// `text` is null or points to a zero-terminated string.
pub(crate) unsafe fn string(text: *const libc::c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: not null, and the caller guarantees the terminator.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

/// A timestamp; `None` for `AV_NOPTS_VALUE`.
pub(crate) fn timestamp(ticks: i64) -> Option<i64> {
    (ticks != ffi::AV_NOPTS_VALUE).then_some(ticks)
}

/// A fraction; `None` unless both parts are above zero.
pub(crate) fn positive(ratio: ffi::AVRational) -> Option<Rational> {
    Rational::new(ratio.num.into(), ratio.den.into()).filter(|ratio| ratio.is_positive())
}

/// A time base; an invalid one becomes microseconds.
pub(crate) fn time_base(ratio: ffi::AVRational) -> TimeBase {
    TimeBase::new(ratio.num.into(), ratio.den.into()).unwrap_or(TimeBase::MICROS)
}

/// FFmpeg's fraction; reduced to the nearest one that fits into 31 bits.
pub(crate) fn rational(ratio: Rational) -> ffi::AVRational {
    rational_within(ratio, i32::MAX)
}

/// The nearest fraction whose terms are at most this.
pub(crate) fn rational_within(ratio: Rational, max: i32) -> ffi::AVRational {
    let (mut num, mut den) = (0, 1);
    // SAFETY: both results are written to live integers.
    unsafe { ffi::av_reduce(&mut num, &mut den, ratio.num, ratio.den, max.into()) };
    ffi::AVRational { num, den }
}

/// An owned frame.
pub(crate) type AvFrame = Owned<ffi::AVFrame>;

impl AvFrame {
    /// An empty frame.
    pub(crate) fn new() -> Self {
        // SAFETY: a new frame.
        unsafe { Self::of(ffi::av_frame_alloc()) }
    }

    /// A second frame over the same buffers, with the same properties.
    pub(crate) fn share(&self) -> Result<Self, MediaError> {
        let mut copy = Self::new();
        // SAFETY: the destination is empty, the source is a valid frame.
        let code = unsafe { ffi::av_frame_ref(copy.as_mut_ptr(), self.as_ptr()) };
        if code < 0 { Err(error("referring to a frame", code)) } else { Ok(copy) }
    }

    /// Attaches a copy of side data to the frame; does nothing when memory is exhausted.
    pub(crate) fn add_side_data(&mut self, kind: ffi::AVFrameSideDataType, bytes: &[u8]) {
        // SAFETY: a valid frame; the entry is null or has room for the bytes.
        unsafe {
            if let Some(entry) = ffi::av_frame_new_side_data(self.as_mut_ptr(), kind, bytes.len()).as_ref() {
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), entry.data, bytes.len());
            }
        }
    }

    /// Releases buffers and side data.
    pub(crate) fn clear(&mut self) {
        // SAFETY: a valid frame.
        unsafe { ffi::av_frame_unref(self.as_mut_ptr()) };
    }

    /// Fills an allocated frame with black, of full or limited range.
    pub(crate) fn fill_black(&mut self, is_full_range: bool) -> Result<(), MediaError> {
        let range = if is_full_range { ffi::AVColorRange::JPEG } else { ffi::AVColorRange::MPEG };
        let pitches = self.linesize.map(|pitch| pitch as isize);
        let format = ffi::AVPixelFormat(self.format);
        // SAFETY: the buffers were allocated for this format and size, and are not shared.
        let code = unsafe { ffi::av_image_fill_black(self.data.as_mut_ptr(), pitches.as_ptr(), format, range, self.width, self.height) };
        if code < 0 { Err(error("filling a frame", code)) } else { Ok(()) }
    }

    /// Plane pointers at a pixel, which must lie inside the frame and on whole chroma samples.
    pub(crate) fn planes_at(&self, left: u32, top: u32) -> [*mut u8; 4] {
        let format = ffi::AVPixelFormat(self.format);
        // SAFETY: any number is allowed; descriptors are static.
        let chroma_shift = unsafe { ffi::av_pix_fmt_desc_get(format).as_ref() }.map_or(0, |descriptor| descriptor.log2_chroma_h);
        std::array::from_fn(|plane| {
            if self.data[plane].is_null() {
                return ptr::null_mut();
            }
            let row = if plane == 1 || plane == 2 { top >> chroma_shift } else { top };
            // SAFETY: plain numbers; the width is that of whole chroma samples.
            let column_bytes = unsafe { ffi::av_image_get_linesize(format, left as i32, plane as i32) }.max(0);
            self.data[plane].wrapping_offset(row as isize * self.linesize[plane] as isize + column_bytes as isize)
        })
    }
}

/// Flags of packets, in the `opaque` field that FFmpeg leaves to its callers.
const HAS_EXIF: usize = 1;
const IS_BEHIND_BREAK: usize = 2;

/// An owned packet.
pub(crate) type AvPacket = Owned<ffi::AVPacket>;

impl AvPacket {
    /// An empty packet.
    pub(crate) fn new() -> Self {
        // SAFETY: a new packet.
        unsafe { Self::of(ffi::av_packet_alloc()) }
    }

    /// A packet with room for `bytes` bytes.
    pub(crate) fn of_size(bytes: usize) -> Result<Self, MediaError> {
        let mut packet = Self::new();
        let size = i32::try_from(bytes).map_err(|_| error("making a packet", ffi::AVERROR(libc::ENOMEM)))?;
        // SAFETY: an empty packet.
        let code = unsafe { ffi::av_new_packet(packet.as_mut_ptr(), size) };
        if code < 0 { Err(error("making a packet", code)) } else { Ok(packet) }
    }

    /// The payload of a packet that was allocated here and is not shared.
    pub(crate) fn data_mut(&mut self) -> &mut [u8] {
        let (data, size) = (self.data, usize::try_from(self.size).unwrap_or(0));
        // SAFETY: reading the count of a valid buffer; with one holder, and self borrowed exclusively, nothing else reads it.
        unsafe {
            if data.is_null() || self.buf.is_null() || ffi::av_buffer_is_writable(self.buf) == 0 {
                return &mut [];
            }
            std::slice::from_raw_parts_mut(data, size)
        }
    }

    /// A packet with a copy of these bytes; `None` when memory is exhausted.
    pub(crate) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let mut packet = Self::new();
        let size = i32::try_from(bytes.len()).ok()?;
        // SAFETY: an empty packet; its new buffer holds as many bytes as are copied.
        unsafe {
            if ffi::av_new_packet(packet.as_mut_ptr(), size) < 0 {
                return None;
            }
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), packet.data, bytes.len());
        }
        Some(packet)
    }

    /// A second packet over the same bytes.
    pub(crate) fn share(&self) -> Result<Self, MediaError> {
        let mut copy = Self::new();
        // SAFETY: the destination is empty, the source is valid.
        let code = unsafe { ffi::av_packet_ref(copy.as_mut_ptr(), self.as_ptr()) };
        if code < 0 { Err(error("referring to a packet", code)) } else { Ok(copy) }
    }

    /// Releases the data.
    pub(crate) fn clear(&mut self) {
        // SAFETY: a valid packet.
        unsafe { ffi::av_packet_unref(self.as_mut_ptr()) };
    }

    /// The payload.
    pub(crate) fn data(&self) -> &[u8] {
        let (data, size) = (self.data, usize::try_from(self.size).unwrap_or(0));
        if data.is_null() {
            return &[];
        }
        // SAFETY: FFmpeg keeps `size` bytes at `data` for the packet's life, and self is borrowed.
        unsafe { std::slice::from_raw_parts(data, size) }
    }

    /// Attaches a display matrix with this rotation, which the decoder passes on to the frame.
    pub(crate) fn set_turn(&mut self, rotation: Rotation) {
        const ONE: i32 = 1 << 16;
        let turns =
            [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0)];
        let found = turns.into_iter().find(|(a, b, c, d)| Rotation::from_matrix(*a, *b, *c, *d) == rotation);
        let (a, b, c, d) = found.unwrap_or((1, 0, 0, 1));
        let matrix = [a * ONE, b * ONE, 0, c * ONE, d * ONE, 0, 0, 0, 1 << 30];
        // SAFETY: a valid packet; the data are null or have room for the matrix, aligned by FFmpeg's allocator.
        unsafe {
            let data = ffi::av_packet_new_side_data(self.as_mut_ptr(), ffi::AVPacketSideDataType::DISPLAYMATRIX, size_of_val(&matrix));
            if !data.is_null() {
                data.cast::<[i32; 9]>().write(matrix);
            }
        }
    }

    /// Sets whether the image has EXIF data, and attaches a colour profile for the decoder.
    pub(crate) fn set_still_tags(&mut self, has_exif: bool, icc_profile: Option<&[u8]>) {
        self.add_mark(if has_exif { HAS_EXIF } else { 0 });
        let Some(profile) = icc_profile.filter(|profile| !profile.is_empty()) else { return };
        // SAFETY: a valid packet; the data are null or have room for the profile.
        unsafe {
            let data = ffi::av_packet_new_side_data(self.as_mut_ptr(), ffi::AVPacketSideDataType::ICC_PROFILE, profile.len());
            if !data.is_null() {
                std::ptr::copy_nonoverlapping(profile.as_ptr(), data, profile.len());
            }
        }
    }

    /// Whether the image has EXIF data, as set by [`AvPacket::set_still_tags`].
    pub(crate) fn has_exif(&self) -> bool {
        self.opaque.addr() & HAS_EXIF != 0
    }

    /// Marks that packets may be missing before this one.
    pub(crate) fn set_break(&mut self) {
        self.add_mark(IS_BEHIND_BREAK);
    }

    /// Whether packets may be missing before this one, as set by [`AvPacket::set_break`].
    pub(crate) fn is_behind_break(&self) -> bool {
        self.opaque.addr() & IS_BEHIND_BREAK != 0
    }

    fn add_mark(&mut self, mark: usize) {
        self.opaque = std::ptr::without_provenance_mut(self.opaque.addr() | mark);
    }

    /// Samples at the start of this audio packet that are decoded but not played, if stated.
    pub(crate) fn skipped_samples(&self) -> Option<u32> {
        let mut size = 0;
        // SAFETY: a valid packet; the answer is null or `size` bytes that live as long as the packet, which is borrowed.
        let start = unsafe {
            let data = ffi::av_packet_get_side_data(self.as_ptr(), ffi::AVPacketSideDataType::SKIP_SAMPLES, &mut size);
            if data.is_null() || size < 4 { None } else { Some(data.cast::<[u8; 4]>().read()) }
        };
        start.map(u32::from_le_bytes)
    }
}

/// An owned `AVDictionary`: options or tags.
pub(crate) struct Dictionary(*mut ffi::AVDictionary);

impl Dictionary {
    /// Creates an empty dictionary.
    pub(crate) fn new() -> Self {
        Self(ptr::null_mut())
    }

    /// Sets a key; replaces an existing value.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        let (key, value) = (c_string(key), c_string(value));
        // SAFETY: both strings are zero-terminated and copied.
        unsafe { ffi::av_dict_set(&mut self.0, key.as_ptr(), value.as_ptr(), 0) };
    }

    /// The pairs in order.
    pub(crate) fn entries(&self) -> Vec<(String, String)> {
        // SAFETY: a valid dictionary or null.
        unsafe { entries(self.0) }
    }

    /// For calls that remove the entries they use and leave unknown ones.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut *mut ffi::AVDictionary {
        &mut self.0
    }

    /// Passes the dictionary to an object that frees it.
    pub(crate) fn into_raw(mut self) -> *mut ffi::AVDictionary {
        std::mem::replace(&mut self.0, ptr::null_mut())
    }
}

impl Drop for Dictionary {
    fn drop(&mut self) {
        // SAFETY: owned by self; null is allowed.
        unsafe { ffi::av_dict_free(&mut self.0) };
    }
}

/// The pairs of a dictionary in order.
///
/// # Safety
/// `dictionary` is null or valid.
pub(crate) unsafe fn entries(dictionary: *const ffi::AVDictionary) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    let mut entry: *mut ffi::AVDictionaryEntry = ptr::null_mut();
    loop {
        // SAFETY: the dictionary is valid, the empty key with this flag matches every entry, and entries do not move between calls.
        entry = unsafe { ffi::av_dict_get(dictionary, c"".as_ptr(), entry, ffi::AV_DICT_IGNORE_SUFFIX) };
        if entry.is_null() {
            return pairs;
        }
        // SAFETY: an entry holds two zero-terminated strings.
        pairs.push(unsafe { (string((*entry).key), string((*entry).value)) });
    }
}

/// An owned graph of filters.
pub(crate) type FilterNetwork = Owned<ffi::AVFilterGraph>;

impl FilterNetwork {
    /// An empty graph.
    pub(crate) fn new() -> Self {
        // SAFETY: a new graph.
        unsafe { Self::of(ffi::avfilter_graph_alloc()) }
    }
}

/// An owned codec context.
pub(crate) type CodecContext = Owned<ffi::AVCodecContext>;

impl CodecContext {
    /// A context with a codec's default settings.
    pub(crate) fn new(codec: *const ffi::AVCodec) -> Self {
        // SAFETY: the codec is null or one of FFmpeg's static descriptions; a new context.
        unsafe { Self::of(ffi::avcodec_alloc_context3(codec)) }
    }

    /// The encoder's next packet, if one is ready; `Err` with FFmpeg's code.
    pub(crate) fn receive_packet(&mut self) -> Result<Option<AvPacket>, i32> {
        let mut packet = AvPacket::new();
        // SAFETY: an open encoder and an owned packet.
        match unsafe { ffi::avcodec_receive_packet(self.as_mut_ptr(), packet.as_mut_ptr()) } {
            code if code == ffi::AVERROR(libc::EAGAIN) || code == ffi::AVERROR_EOF => Ok(None),
            code if code < 0 => Err(code),
            _ => Ok(Some(packet)),
        }
    }
}
