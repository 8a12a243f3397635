//! FFmpeg's messages go to the `log` crate under the target `ffmpeg`, at debug level: nothing on standard error by default.

use std::{cell::RefCell, sync::OnceLock};

use ffmpeg_the_third::ffi;
use framerail_core::{SourceUrl, redacted, source_url::without_secrets};
use parking_lot::Mutex;

/// Secrets of the addresses that are open. FFmpeg's messages name them whole or in parts, on any thread.
static SECRETS: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    /// The last error that FFmpeg reported on this thread: often says more than its error code.
    static LAST_ERROR: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Routes FFmpeg's messages.
pub(crate) fn route() {
    static ROUTED: OnceLock<()> = OnceLock::new();
    ROUTED.get_or_init(|| {
        // SAFETY: the callback is a static function that may run on any thread.
        #[cfg(target_arch = "x86_64")]
        unsafe {
            ffi::av_log_set_level(ffi::AV_LOG_VERBOSE);
            ffi::av_log_set_callback(Some(receive));
        }
        // Elsewhere the type of a C argument list differs, and messages are switched off.
        // SAFETY: sets an integer.
        #[cfg(not(target_arch = "x86_64"))]
        unsafe {
            ffi::av_log_set_level(ffi::AV_LOG_QUIET);
        }
    });
}

/// Keeps the secrets of an address out of FFmpeg's messages for as long as it is held.
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

/// A message without secrets.
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

#[cfg(target_arch = "x86_64")]
unsafe extern "C" fn receive(object: *mut libc::c_void, level: i32, format: *const libc::c_char, arguments: *mut ffi::__va_list_tag) {
    let is_error = level <= ffi::AV_LOG_ERROR;
    let is_wanted = level <= ffi::AV_LOG_VERBOSE && log::log_enabled!(target: "ffmpeg", log::Level::Debug);
    if !is_error && !is_wanted {
        return;
    }
    let mut line = [0 as libc::c_char; 512];
    let mut print_prefix = 1;
    // SAFETY: the arguments are FFmpeg's own, read once; the length is that of the buffer, and the text ends with a zero.
    let text = unsafe {
        ffi::av_log_format_line2(object, level, format, arguments, line.as_mut_ptr(), line.len() as i32, &mut print_prefix);
        std::ffi::CStr::from_ptr(line.as_ptr())
    };
    let text = clean(text.to_string_lossy().trim_end());
    if is_wanted {
        log::debug!(target: "ffmpeg", "{text}");
    }
    if is_error && !text.is_empty() {
        let words = text.rsplit("] ").next().unwrap_or(&text).to_owned();
        // A message while the thread ends finds the cell gone: nothing to keep it for.
        let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = words);
    }
}
