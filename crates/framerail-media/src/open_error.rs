//! Explains why a source could not be opened.

use std::{fs, io::Read as _, ptr};

use ffmpeg_the_third::ffi;

use crate::{InputOptions, MediaError, av, custom_io::OpenSource, error::exhausted, interrupt::Interrupt, log, opening};

/// Bytes from a file's start that are used to recognise it.
const PROBE_BYTES: u64 = 64 * 1024;

/// The error for a source that could not be opened.
pub(crate) fn of(code: i32, url: &str, options: &InputOptions, interrupt: &Interrupt, source_error: Option<String>) -> MediaError {
    let source_name = options.source.to_string();
    if let Some(reason) = interrupt.reason(&source_name) {
        return reason;
    }
    if let Some(reason) = source_error {
        return MediaError::Io { path: source_name, reason };
    }
    let words = log::take_last_error();
    // FFmpeg's codes are negated errno values.
    if let Some(exhausted) = exhausted(&source_name, -code).filter(|_| code != ffi::AVERROR(libc::EAGAIN)) {
        return exhausted;
    }
    if code == ffi::AVERROR(libc::EINVAL) {
        let disguise = || first_bytes(url, options).and_then(recognised_format).as_deref().and_then(opening::disguise);
        let is_listed = words.as_ref().is_some_and(|words| words.contains("whitelist"));
        if let Some(reason) = disguise().or(is_listed.then_some(opening::DISGUISE)) {
            return MediaError::Refused { source_name, reason: reason.into() };
        }
    }
    match code {
        ffi::AVERROR_HTTP_NOT_FOUND => MediaError::NotFound { source_name },
        _ if code == ffi::AVERROR(libc::ENOENT) => MediaError::NotFound { source_name },
        ffi::AVERROR_PROTOCOL_NOT_FOUND => MediaError::Unsupported {
            what: source_name,
            reason: "this FFmpeg was built without its protocol; `framerail doctor` lists the available ones".into(),
        },
        ffi::AVERROR_INVALIDDATA | ffi::AVERROR_EOF if first_bytes(url, options).is_some_and(|bytes| is_heif(&bytes)) => {
            MediaError::Unsupported {
                what: source_name,
                reason: "a HEIC image or image sequence, which this FFmpeg does not read; convert it to JPEG, PNG or AVIF".into(),
            }
        }
        ffi::AVERROR_INVALIDDATA | ffi::AVERROR_EOF => match first_bytes(url, options).and_then(recognised_format) {
            Some(format) => {
                let words = words.unwrap_or_else(|| av::error_text(code));
                let hint = if words.contains("moov") { "; its index is missing, so the file is incomplete" } else { "" };
                MediaError::Damaged { source_name, reason: format!("it starts like {format} but cannot be opened ({words}){hint}") }
            }
            None => MediaError::NotMedia { source_name, reason: "FFmpeg finds no media in it".into() },
        },
        _ if options.source.is_url() && is_network_error(code) => {
            let resolving = words.filter(|words| words.contains("resolve"));
            let reason = resolving.unwrap_or_else(|| av::error_text(code)).to_lowercase();
            MediaError::Unreachable { source_name, reason }
        }
        _ => MediaError::Io { path: source_name, reason: av::error_text(code).to_lowercase() },
    }
}

/// Whether an error means that a server is unreachable, as opposed to an error that the server returned.
fn is_network_error(code: i32) -> bool {
    [libc::EIO, libc::ECONNREFUSED, libc::ETIMEDOUT, libc::EHOSTUNREACH, libc::ENETUNREACH, libc::ECONNRESET, libc::EADDRNOTAVAIL]
        .into_iter()
        .any(|errno| code == ffi::AVERROR(errno))
}

/// The first bytes of a file, or of a custom source that does not block.
fn first_bytes(path: &str, options: &InputOptions) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    match &options.custom {
        None => fs::File::open(path).ok()?.take(PROBE_BYTES).read_to_end(&mut bytes).ok()?,
        Some(custom) if custom.factory().may_wait() => return None,
        Some(custom) => match custom.open().ok()? {
            OpenSource::Seekable(source) => source.take(PROBE_BYTES).read_to_end(&mut bytes).ok()?,
            OpenSource::Stream(_) => return None,
        },
    };
    Some(bytes)
}

/// The container detected from a file's first bytes, ignoring its name.
fn recognised_format(mut bytes: Vec<u8>) -> Option<String> {
    let length = i32::try_from(bytes.len()).ok()?;
    bytes.resize(bytes.len() + ffi::AVPROBE_PADDING_SIZE as usize, 0);
    let data = ffi::AVProbeData { filename: c"".as_ptr(), buf: bytes.as_mut_ptr(), buf_size: length, mime_type: ptr::null() };
    let mut score = 0;
    // SAFETY: the buffer is followed by the zero padding that FFmpeg requires.
    let format = unsafe { ffi::av_probe_input_format3(&data, 1, &mut score).as_ref() }?;
    // SAFETY: names are static.
    (score > ffi::AVPROBE_SCORE_MAX / 4).then(|| unsafe { av::string(format.name) })
}

/// Whether a file is a HEIF image, according to its major brand.
fn is_heif(bytes: &[u8]) -> bool {
    const BRANDS: [&[u8]; 8] = [b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"];
    bytes.get(4..8) == Some(b"ftyp") && bytes.get(8..12).is_some_and(|brand| BRANDS.contains(&brand))
}
