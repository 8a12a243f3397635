//! FFmpeg's log messages. All of them go to the `log` crate under the target `ffmpeg`, at debug level, so nothing appears on
//! standard error by default. Errors are also kept for the demuxer or decoder that reported them, since many have no error code:
//! demuxers that lost and regained synchronisation, decoders that concealed missing data.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicUsize, Ordering},
    },
};

use ffmpeg_the_third::ffi;
use framerail_core::{SourceUrl, redacted, source_url::without_secrets};
use parking_lot::Mutex;

use crate::ForkSafe;

/// Secrets of the open addresses. FFmpeg's messages may contain them in whole or in part, on any thread.
static SECRETS: ForkSafe<Vec<String>> = ForkSafe::new(Vec::new());

/// Decoder warnings that mean that a frame is incomplete. Most warnings do not.
const DECODER_WARNINGS: &[&str] =
    &["EOI missing", "did not contain a complete image", "Found EOI before any SOF", "Missing picture start code"];
/// Decoder errors that also occur in intact streams: after a cut, at an open GOP, or with a missing reference frame.
const HARMLESS_DECODER_ERRORS: &[&str] = &["co located POCs unavailable", "mmco: unref short failure", "get_buffer() failed"];
/// Demuxer warnings, and messages below, that mean that media was skipped.
const DEMUXER_WARNINGS: &[&str] = &[
    "Failed to open segment",
    "failed too many times, skipping",
    "expired from playlists",
    "Failed to open fragment",
    "PES packet size mismatch",
    // MXF, GXF, NSV.
    "sync lost",
    // WTV.
    "broken chunk",
    // GXF.
    "packet missing",
    // Tables of MP4.
    "reached eof, corrupted",
    // ASF.
    "freeing incomplete packet",
    // NUT.
    "syncing from",
];
/// Start of the message about missing packets of a transport stream, by their numbers. Joined recordings give it too, so it is a loss only
/// where frames are missing.
const DISCONTINUITY: &str = "Continuity check failed for pid ";
/// Beginnings of the formats of those messages that FFmpeg logs for debugging only. Others of that level are too many to be formatted.
#[cfg(target_arch = "x86_64")]
const DEMUXER_DEBUGGING: &[&[u8]] = &[b"syncing from", DISCONTINUITY.as_bytes()];
/// Demuxer warning for a packet with missing bytes. FFmpeg's parsers do not pass the packet's own mark on in every case.
const PACKET_CORRUPT: &str = "Packet corrupt (stream = ";
/// FFmpeg's HTTP message when a server closes a connection without having stated a length, which is a normal end.
const END_WITHOUT_LENGTH: &str = "should be 18446744073709551615";

thread_local! {
    /// The last error that FFmpeg reported on this thread; often more specific than its error code.
    static LAST_ERROR: RefCell<String> = const { RefCell::new(String::new()) };
    /// Reports of the demuxer that this thread is calling.
    static DEMUXER: RefCell<Option<DemuxerNotes>> = const { RefCell::new(None) };
    /// The last picture size that FFmpeg rejected on this thread.
    static REFUSED_SIZE: RefCell<Option<(u32, u32)>> = const { RefCell::new(None) };
}

/// Reports of a demuxer during a call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DemuxerNotes {
    /// Number of errors, such as invalid structures.
    pub(crate) errors: u64,
    /// Packets that a network transport reported missing.
    pub(crate) packets_lost: u64,
    /// Streams with packets that lack bytes.
    pub(crate) corrupt_streams: BTreeSet<usize>,
    /// Packet identifiers of a transport stream's streams that lack packets, or are joined.
    pub(crate) gaps: BTreeSet<i32>,
    /// The first error's text.
    pub(crate) first: String,
    /// A server closed a connection without having stated a length.
    pub(crate) ended_without_length: bool,
}

impl DemuxerNotes {
    /// Adds the reports of a later call.
    pub(crate) fn add(&mut self, later: DemuxerNotes) {
        self.errors += later.errors;
        self.packets_lost += later.packets_lost;
        self.corrupt_streams.extend(later.corrupt_streams);
        self.gaps.extend(later.gaps);
        self.ended_without_length |= later.ended_without_length;
        if self.first.is_empty() {
            self.first = later.first;
        }
    }

    /// Handles a message of the underlying protocol, which recovers from most of the problems it reports.
    fn hear_protocol(&mut self, level: i32, text: &str) {
        if text.contains(END_WITHOUT_LENGTH) {
            self.ended_without_length = true;
        } else if text.contains("prematurely") {
            self.hear(level, text);
        }
    }

    fn hear(&mut self, level: i32, text: &str) {
        if let Some(count) = text.split_once("RTP: missed ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<u64>().ok()) {
            self.packets_lost += count;
            return;
        }
        self.gaps.extend(text.strip_prefix(DISCONTINUITY).and_then(|rest| rest.split(' ').next()?.parse::<i32>().ok()));
        self.corrupt_streams.extend(text.strip_prefix(PACKET_CORRUPT).and_then(|rest| rest.split(',').next()?.parse::<usize>().ok()));
        if level <= ffi::AV_LOG_ERROR || is_among(text, DEMUXER_WARNINGS) {
            self.errors += 1;
            if self.first.is_empty() {
                self.first = text.to_owned();
            }
        }
    }
}

/// Calls a demuxer and collects its reports.
pub(crate) fn listening<T>(call: impl FnOnce() -> T) -> (T, DemuxerNotes) {
    DEMUXER.with(|notes| *notes.borrow_mut() = Some(DemuxerNotes::default()));
    let result = call();
    (result, DEMUXER.with(|notes| notes.borrow_mut().take()).unwrap_or_default())
}

/// Reports of one decoder's threads, by packet. See [`DecoderLog::attach`].
#[derive(Default)]
pub(crate) struct DecoderLog {
    /// Packets in which the decoder found errors.
    packets: Mutex<BTreeSet<i64>>,
}

/// The monitored decoders, by the number in their context's `opaque`. A pointer there could be another library's.
static DECODERS: ForkSafe<BTreeMap<usize, Weak<DecoderLog>>> = ForkSafe::new(BTreeMap::new());

/// A decoder's registration; see [`DecoderLog::attach`].
pub(crate) struct Attachment {
    number: usize,
    log: Arc<DecoderLog>,
}

impl DecoderLog {
    /// Monitors a decoder that is not open yet. From now on, `reordered_opaque` of its context is the number of the packet being
    /// sent, which FFmpeg passes on to the thread that decodes the packet and to the resulting frame.
    pub(crate) fn attach(context: &mut ffi::AVCodecContext) -> Attachment {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let (number, log) = (NEXT.fetch_add(1, Ordering::Relaxed), Arc::new(DecoderLog::default()));
        context.opaque = std::ptr::without_provenance_mut(number);
        DECODERS.lock().insert(number, Arc::downgrade(&log));
        Attachment { number, log }
    }
}

impl Attachment {
    /// Whether an error was reported while this packet was decoded; clears it.
    pub(crate) fn take(&self, packet: i64) -> bool {
        let mut packets = self.log.packets.lock();
        !packets.is_empty() && packets.remove(&packet)
    }

    /// Takes the packets with errors up to this one that [`Attachment::take`] did not ask about: they produced no frame.
    pub(crate) fn take_up_to(&self, packet: i64) -> Vec<i64> {
        let mut packets = self.log.packets.lock();
        if packets.is_empty() {
            return Vec::new();
        }
        let later = packets.split_off(&packet.saturating_add(1));
        std::mem::replace(&mut *packets, later).into_iter().collect()
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        DECODERS.lock().remove(&self.number);
    }
}

/// Routes FFmpeg's messages to the `log` crate.
pub(crate) fn route() {
    static ROUTED: OnceLock<()> = OnceLock::new();
    ROUTED.get_or_init(|| {
        // SAFETY: the callback is a static function that may run on any thread.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            ffi::av_log_set_level(ffi::AV_LOG_VERBOSE);
            ffi::av_log_set_callback(Some(receive));
        }
        // On other architectures C variadic argument lists have another type, so messages are disabled.
        // SAFETY: sets an integer.
        #[cfg(not(target_arch = "x86_64"))]
        unsafe {
            ffi::av_log_set_level(ffi::AV_LOG_QUIET);
        }
    });
}

/// Hides the secrets of an address in FFmpeg's messages while it exists.
pub(crate) struct Secrecy(Vec<String>);

impl Secrecy {
    pub(crate) fn of(source: &SourceUrl) -> Self {
        let secrets = source.secrets();
        if !secrets.is_empty() {
            SECRETS.lock().extend(secrets.iter().cloned());
        }
        Self(secrets)
    }
}

impl Drop for Secrecy {
    fn drop(&mut self) {
        if self.0.is_empty() {
            return;
        }
        let mut secrets = SECRETS.lock();
        for secret in &self.0 {
            if let Some(place) = secrets.iter().position(|kept| kept == secret) {
                secrets.swap_remove(place);
            }
        }
    }
}

/// A message with secrets removed.
#[cfg(target_arch = "x86_64")]
fn clean(text: &str) -> String {
    without_secrets(&redacted(text), &SECRETS.lock())
}

/// Takes FFmpeg's last error message of this thread, such as "moov atom not found".
pub(crate) fn take_last_error() -> Option<String> {
    LAST_ERROR.with(|last| {
        let text = std::mem::take(&mut *last.borrow_mut());
        (!text.is_empty()).then_some(text)
    })
}

/// Takes the last picture size that FFmpeg rejected on this thread.
pub(crate) fn take_refused_size() -> Option<(u32, u32)> {
    REFUSED_SIZE.with(|size| size.borrow_mut().take())
}

/// The size in "Picture size 20000x20000 is invalid" or "... exceeds specified max pixel count".
fn refused_size(text: &str) -> Option<(u32, u32)> {
    let (size, _) = text.split_once("icture size ")?.1.split_once(' ')?;
    let (width, height) = size.split_once('x')?;
    Some((width.parse().ok()?, height.parse().ok()?))
}

fn is_among(text: &str, known: &[&str]) -> bool {
    known.iter().any(|known| text.contains(known))
}

/// The kind of object that a message comes from.
#[cfg(target_arch = "x86_64")]
enum Speaker {
    /// A monitored decoder, with the packet being decoded.
    Decoder(Arc<DecoderLog>, i64),
    /// A demuxer, or unknown.
    Demuxer,
    /// The protocol that reads a demuxer's bytes.
    Protocol,
    /// Decoders and parsers inside demuxers, encoders, filters.
    Other,
}

#[cfg(target_arch = "x86_64")]
impl Speaker {
    /// # Safety
    /// `object` is null or the object passed to an FFmpeg log callback.
    unsafe fn of(mut object: *mut libc::c_void) -> Self {
        // A helper object points to its parent; chains are short.
        for _ in 0..4 {
            // SAFETY: the object passed to a log callback is null or begins with a pointer to its class, which may be null.
            let Some(class) = (unsafe { object.cast::<*const ffi::AVClass>().as_ref().and_then(|class| class.as_ref()) }) else {
                return Speaker::Demuxer;
            };
            // SAFETY: class names are static.
            let name = unsafe { std::ffi::CStr::from_ptr(class.class_name) };
            if name == c"AVCodecContext" {
                // SAFETY: objects of this class are codec contexts.
                let context = unsafe { &*object.cast::<ffi::AVCodecContext>() };
                let log = DECODERS.lock().get(&context.opaque.addr()).and_then(Weak::upgrade);
                return log.map_or(Speaker::Other, |log| Speaker::Decoder(log, context.reordered_opaque));
            }
            match name.to_bytes() {
                b"AVFormatContext" => return Speaker::Demuxer,
                b"URLContext" | b"AVIOContext" => return Speaker::Protocol,
                // Some log through the object of their own options.
                name if name.ends_with(b" demuxer") => return Speaker::Demuxer,
                _ => {}
            }
            let offset = usize::try_from(class.parent_log_context_offset).unwrap_or(0);
            if offset == 0 {
                return Speaker::Other;
            }
            // SAFETY: by the class, a pointer to the parent is stored there.
            object = unsafe { object.byte_add(offset).cast::<*mut libc::c_void>().read() };
            if object.is_null() {
                return Speaker::Other;
            }
        }
        Speaker::Other
    }
}

#[cfg(target_arch = "x86_64")]
fn note(hear: impl FnOnce(&mut DemuxerNotes)) {
    let _ = DEMUXER.try_with(|notes| {
        if let Some(notes) = &mut *notes.borrow_mut() {
            hear(notes);
        }
    });
}

#[cfg(target_arch = "x86_64")]
unsafe extern "C" fn receive(object: *mut libc::c_void, level: i32, format: *const libc::c_char, arguments: *mut ffi::__va_list_tag) {
    let is_error = level <= ffi::AV_LOG_ERROR;
    let is_wanted = level <= ffi::AV_LOG_VERBOSE && log::log_enabled!(target: "ffmpeg", log::Level::Debug);
    // SAFETY: FFmpeg's formats are zero-terminated.
    let format_text = unsafe { std::ffi::CStr::from_ptr(format) }.to_bytes();
    let may_mean_loss = level <= ffi::AV_LOG_INFO || DEMUXER_DEBUGGING.iter().any(|start| format_text.starts_with(start));
    if !may_mean_loss && !is_wanted {
        return;
    }
    let mut line = [0 as libc::c_char; 512];
    let mut print_prefix = 1;
    // SAFETY: the arguments are FFmpeg's own, read once; the buffer's length is passed, and the text is zero-terminated.
    let text = unsafe {
        ffi::av_log_format_line2(object, level, format, arguments, line.as_mut_ptr(), line.len() as i32, &mut print_prefix);
        std::ffi::CStr::from_ptr(line.as_ptr())
    };
    let text = clean(text.to_string_lossy().trim_end());
    if is_wanted {
        log::debug!(target: "ffmpeg", "{text}");
    }
    if !may_mean_loss || text.is_empty() {
        return;
    }
    let words = text.rsplit("] ").next().unwrap_or(&text);
    // Fails while the thread is ending, when the cells are gone.
    if let Some(size) = refused_size(words) {
        let _ = REFUSED_SIZE.try_with(|last| *last.borrow_mut() = Some(size));
    }
    if is_error {
        let _ = LAST_ERROR.try_with(|last| words.clone_into(&mut last.borrow_mut()));
    }
    // SAFETY: FFmpeg's own object.
    match unsafe { Speaker::of(object) } {
        Speaker::Decoder(log, packet) => {
            if (is_error && !is_among(words, HARMLESS_DECODER_ERRORS)) || is_among(words, DECODER_WARNINGS) {
                log.packets.lock().insert(packet);
            }
        }
        Speaker::Demuxer => note(|notes| notes.hear(level, words)),
        Speaker::Protocol => note(|notes| notes.hear_protocol(level, words)),
        Speaker::Other => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_keep_what_means_loss() {
        let mut notes = DemuxerNotes::default();
        notes.hear(ffi::AV_LOG_WARNING, "RTP: missed 12 packets");
        notes.hear(ffi::AV_LOG_WARNING, "Could not find codec parameters");
        assert_eq!((notes.packets_lost, notes.errors), (12, 0));
        notes.hear(ffi::AV_LOG_WARNING, "Failed to open segment 3 of playlist 0");
        notes.hear(ffi::AV_LOG_ERROR, "File ended prematurely");
        notes.hear(ffi::AV_LOG_WARNING, "Packet corrupt (stream = 2, dts = 5400)");
        assert_eq!((notes.errors, notes.first.as_str()), (2, "Failed to open segment 3 of playlist 0"));
        notes.hear(ffi::AV_LOG_DEBUG, "Continuity check failed for pid 256 expected 14 got 6");
        assert!(notes.corrupt_streams.into_iter().eq([2]) && notes.gaps.into_iter().eq([256]) && notes.errors == 2);
    }

    #[test]
    fn sizes_are_read_from_refusals() {
        assert_eq!(refused_size("Picture size 20000x18000 is invalid"), Some((20_000, 18_000)));
        assert_eq!(refused_size("Picture size 9x8 exceeds specified max pixel count 10, see the documentation"), Some((9, 8)));
        assert_eq!(refused_size("moov atom not found"), None);
    }
}
