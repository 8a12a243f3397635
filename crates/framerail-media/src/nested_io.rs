//! Opens resources on behalf of a source: segments, keys and playlists that a playlist refers to.

use std::{
    collections::HashMap,
    ffi::{CStr, CString},
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    ptr::NonNull,
    sync::Arc,
};

use ffmpeg_the_third::ffi;
use framerail_core::SourceUrl;

use crate::{
    CustomSource, MediaError, av,
    byte_stream::ByteStream,
    custom_io::{OpenSource, SourceFactory},
    interrupt::Interrupt,
};

/// The resources that may be opened on behalf of a source.
pub(crate) enum Nested {
    /// Nothing except the source itself.
    Nothing,
    /// Files in a folder.
    Folder {
        /// Canonical path, with links resolved.
        folder: PathBuf,
        /// Files outside the folder are allowed too.
        outside: bool,
        /// Opens http and https URLs, if allowed.
        web: Option<CustomSource>,
    },
    /// URLs that the source opens: http and https, or objects of its bucket.
    Web(CustomSource),
}

/// Opens and closes resources for one format context.
pub(crate) struct NestedIo {
    nested: Nested,
    /// The URL that FFmpeg opened first.
    top: CString,
    interrupt: Arc<Interrupt>,
    /// Open byte streams of custom sources.
    streams: HashMap<*mut ffi::AVIOContext, ByteStream>,
    open_by_ffmpeg: Option<OpenFunction>,
    close_by_ffmpeg: Option<CloseFunction>,
    /// Reason of the first refusal.
    refusal: Option<String>,
}

type OpenFunction = unsafe extern "C" fn(
    *mut ffi::AVFormatContext,
    *mut *mut ffi::AVIOContext,
    *const libc::c_char,
    libc::c_int,
    *mut *mut ffi::AVDictionary,
) -> libc::c_int;
type CloseFunction = unsafe extern "C" fn(*mut ffi::AVFormatContext, *mut ffi::AVIOContext) -> libc::c_int;

/// A [`NestedIo`] at a fixed address for FFmpeg's callbacks.
pub(crate) struct NestedHandle(NonNull<NestedIo>);

// SAFETY: the value is owned; only the thread that currently uses the format context accesses it.
unsafe impl Send for NestedHandle {}

impl NestedHandle {
    /// Makes a fresh format context open everything through these rules. The handle must outlive the context.
    ///
    /// # Safety
    /// `context` is a valid context that has opened nothing yet, and whose `opaque` is unused.
    pub(crate) unsafe fn attach(context: *mut ffi::AVFormatContext, nested: Nested, top: &CStr, interrupt: &Arc<Interrupt>) -> Self {
        // SAFETY: as the caller promises.
        let context = unsafe { &mut *context };
        let state = NestedIo {
            nested,
            top: top.to_owned(),
            interrupt: Arc::clone(interrupt),
            streams: HashMap::new(),
            open_by_ffmpeg: context.io_open,
            close_by_ffmpeg: context.io_close2,
            refusal: None,
        };
        let handle = Self(NonNull::from(Box::leak(Box::new(state))));
        context.opaque = handle.0.as_ptr().cast();
        context.io_open = Some(open);
        context.io_close2 = Some(close);
        handle
    }

    /// The reason of a refusal, if there was one.
    pub(crate) fn refusal(&self) -> Option<String> {
        // SAFETY: owned, and FFmpeg is not in a call.
        unsafe { self.0.as_ref() }.refusal.clone()
    }
}

impl Drop for NestedHandle {
    fn drop(&mut self) {
        // SAFETY: made by `Box::leak`, freed once, after the context that points to it.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// How a URL is opened.
enum Way {
    /// By FFmpeg, with this URL.
    Ffmpeg(String),
    Own(CustomSource),
}

impl NestedIo {
    fn way(&self, url: &str, options: &[(String, String)]) -> Result<Way, String> {
        if url.starts_with("data:") {
            return Ok(Way::Ffmpeg(url.to_owned()));
        }
        let plain = url.strip_prefix("crypto+").or_else(|| url.strip_prefix("crypto:"));
        let (address, is_encrypted) = (plain.unwrap_or(url), plain.is_some());
        let source = SourceUrl::new(address);
        let refused = |why: &str| Err(format!("it names {source}, {why}"));
        if source.is_web() || source.is_object() {
            let web = match &self.nested {
                Nested::Web(web) | Nested::Folder { web: Some(web), .. } => web,
                Nested::Folder { .. } => return refused("and a local playlist may open only files; allow=network permits that"),
                Nested::Nothing => return refused("which is not allowed"),
            };
            let own = web.factory().nested(address, range(options)).ok_or_else(|| format!("it names {source}, which is not allowed"))?;
            return if is_encrypted { Decrypted::new(own, options).map(|own| Way::Own(CustomSource::new(own))) } else { Ok(Way::Own(own)) };
        }
        let Nested::Folder { folder, outside, .. } = &self.nested else {
            return refused("and a playlist from the network may open only http and https");
        };
        let path = match address.strip_prefix("file:") {
            Some(path) => path,
            None if address.split('/').next().is_some_and(|first| first.contains(':')) => {
                return refused("and a local playlist may open only files");
            }
            None => address,
        };
        let file = whole(Path::new(path));
        if !outside && !file.starts_with(folder) {
            return refused("which is outside its folder; allow=outside permits that");
        }
        let file = file.to_str().ok_or_else(|| format!("it names {source}, which is not UTF-8"))?;
        Ok(Way::Ffmpeg(if is_encrypted { format!("crypto:file:{file}") } else { format!("file:{file}") }))
    }
}

/// A path with its links resolved as far as it exists: FFmpeg reports missing files.
fn whole(path: &Path) -> PathBuf {
    let beside = || Some(fs::canonicalize(path.parent()?).ok()?.join(path.file_name()?));
    let absolute = || std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    fs::canonicalize(path).ok().or_else(beside).unwrap_or_else(absolute)
}

/// The requested byte range of a file, from FFmpeg's protocol options.
fn range(options: &[(String, String)]) -> Option<(u64, u64)> {
    let number = |wanted: &str| options.iter().find(|(name, _)| name == wanted).and_then(|(_, value)| value.parse::<u64>().ok());
    let (start, end) = (number("offset")?, number("end_offset")?);
    (start < end).then_some((start, end))
}

/// # Safety
/// Called by FFmpeg on a context that [`NestedHandle::attach`] prepared.
unsafe extern "C" fn open(
    context: *mut ffi::AVFormatContext,
    stream: *mut *mut ffi::AVIOContext,
    url: *const libc::c_char,
    flags: libc::c_int,
    options: *mut *mut ffi::AVDictionary,
) -> libc::c_int {
    // SAFETY: the state outlives the context, which FFmpeg uses in one call at a time, namely this one.
    let Some(state) = (unsafe { (*context).opaque.cast::<NestedIo>().as_mut() }) else { return ffi::AVERROR(libc::EPERM) };
    // SAFETY: a zero-terminated URL; the options are null or hold a valid dictionary or null.
    let (address, pairs) = unsafe {
        let pairs = options.as_ref().map(|dictionary| av::entries(*dictionary)).unwrap_or_default();
        (CStr::from_ptr(url), pairs)
    };
    let open_by_ffmpeg = state.open_by_ffmpeg;
    let by_ffmpeg = |address: &CStr| match open_by_ffmpeg {
        // SAFETY: FFmpeg's own function with its own arguments.
        Some(open) => unsafe { open(context, stream, address.as_ptr(), flags, options) },
        None => ffi::AVERROR(libc::ENOSYS),
    };
    if flags & ffi::AVIO_FLAG_WRITE != 0 {
        return ffi::AVERROR(libc::EPERM);
    }
    if address == state.top.as_c_str() && !matches!(state.nested, Nested::Web(_)) {
        return by_ffmpeg(address);
    }
    match state.way(&address.to_string_lossy(), &pairs) {
        Ok(Way::Ffmpeg(address)) => by_ffmpeg(&av::c_string(&address)),
        Ok(Way::Own(source)) => match ByteStream::open(&source, &state.interrupt) {
            Ok(own) => {
                // SAFETY: FFmpeg provides the output location.
                unsafe { *stream = own.context() };
                state.streams.insert(own.context(), own);
                0
            }
            Err(error) => {
                log::debug!("{error}");
                if let MediaError::Refused { reason, .. } = error {
                    state.refusal.get_or_insert(reason);
                }
                ffi::AVERROR(libc::EIO)
            }
        },
        Err(reason) => {
            state.refusal.get_or_insert(reason);
            ffi::AVERROR(libc::EPERM)
        }
    }
}

/// # Safety
/// As [`open`].
unsafe extern "C" fn close(context: *mut ffi::AVFormatContext, stream: *mut ffi::AVIOContext) -> libc::c_int {
    // SAFETY: as in `open`.
    let Some(state) = (unsafe { (*context).opaque.cast::<NestedIo>().as_mut() }) else { return 0 };
    if state.streams.remove(&stream).is_some() {
        return 0;
    }
    match state.close_by_ffmpeg {
        // SAFETY: a stream that FFmpeg's own function opened.
        Some(close) => unsafe { close(context, stream) },
        None => 0,
    }
}

const AES_BLOCK: usize = 16;

/// A file encrypted with AES-128 in CBC mode, like HLS segments.
struct Decrypted {
    inner: CustomSource,
    key: [u8; AES_BLOCK],
    iv: [u8; AES_BLOCK],
}

impl Decrypted {
    fn new(inner: CustomSource, options: &[(String, String)]) -> Result<Self, String> {
        let bytes = |name: &str| {
            let text = options.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
            text.and_then(from_hex).ok_or_else(|| format!("{} is encrypted without a key of 16 bytes", inner.name()))
        };
        let (key, iv) = (bytes("key")?, bytes("iv")?);
        Ok(Self { inner, key, iv })
    }
}

fn from_hex(text: &str) -> Option<[u8; AES_BLOCK]> {
    let mut bytes = [0; AES_BLOCK];
    if text.len() != 2 * AES_BLOCK {
        return None;
    }
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(2 * place..2 * place + 2)?, 16).ok()?;
    }
    Some(bytes)
}

impl SourceFactory for Decrypted {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn open(&self) -> io::Result<OpenSource> {
        let inner: Box<dyn Read + Send> = match self.inner.open()? {
            OpenSource::Seekable(value) => Box::new(value),
            OpenSource::Stream(value) => value,
        };
        Ok(OpenSource::Stream(Box::new(Decrypting {
            inner,
            cipher: Cipher::new(&self.key)?,
            iv: self.iv,
            plain: Vec::new(),
            given: 0,
            ahead: None,
        })))
    }
}

struct Decrypting {
    inner: Box<dyn Read + Send>,
    cipher: Cipher,
    iv: [u8; AES_BLOCK],
    /// Decrypted bytes, of which `given` were already returned.
    plain: Vec<u8>,
    given: usize,
    /// A block that is returned only when another one follows: the last one ends in padding.
    ahead: Option<[u8; AES_BLOCK]>,
}

/// Number of encrypted bytes read at once.
const AES_READ: usize = 64 * 1024;

impl Decrypting {
    fn refill(&mut self) -> io::Result<()> {
        let mut coded = vec![0; AES_READ];
        let mut filled = 0;
        while filled < coded.len() {
            match self.inner.read(coded.get_mut(filled..).unwrap_or_default()) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        (self.plain, self.given) = (Vec::with_capacity(filled), 0);
        for block in coded.get(..filled).unwrap_or_default().chunks_exact(AES_BLOCK) {
            let mut plain = [0; AES_BLOCK];
            self.cipher.decrypt(block, &mut self.iv, &mut plain);
            if let Some(earlier) = self.ahead.replace(plain) {
                self.plain.extend(earlier);
            }
        }
        if filled < coded.len()
            && let Some(last) = self.ahead.take()
        {
            let padding = last.last().map_or(0, |count| usize::from(*count));
            let kept = if (1..=AES_BLOCK).contains(&padding) { AES_BLOCK - padding } else { AES_BLOCK };
            self.plain.extend(last.iter().take(kept));
        }
        Ok(())
    }
}

impl Read for Decrypting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.given == self.plain.len() {
            self.refill()?;
        }
        let rest = self.plain.get(self.given..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(rest) {
            *to = *from;
        }
        self.given += count;
        Ok(count)
    }
}

/// FFmpeg's AES context with a decryption key.
struct Cipher(NonNull<ffi::AVAES>);

// SAFETY: owned memory, not bound to a thread.
unsafe impl Send for Cipher {}

impl Cipher {
    fn new(key: &[u8; AES_BLOCK]) -> io::Result<Self> {
        // SAFETY: the key has the stated number of bits.
        unsafe {
            let cipher = NonNull::new(ffi::av_aes_alloc()).ok_or(io::ErrorKind::OutOfMemory)?;
            let cipher = Self(cipher);
            if ffi::av_aes_init(cipher.0.as_ptr(), key.as_ptr(), 128, 1) < 0 {
                return Err(io::Error::other("no AES"));
            }
            Ok(cipher)
        }
    }

    /// Decrypts one block and updates the initialisation vector for the next one.
    fn decrypt(&mut self, block: &[u8], iv: &mut [u8; AES_BLOCK], plain: &mut [u8; AES_BLOCK]) {
        if block.len() == AES_BLOCK {
            // SAFETY: one block in, one block out, a vector of one block.
            unsafe { ffi::av_aes_crypt(self.0.as_ptr(), plain.as_mut_ptr(), block.as_ptr(), 1, iv.as_mut_ptr(), 1) };
        }
    }
}

impl Drop for Cipher {
    fn drop(&mut self) {
        // SAFETY: allocated by FFmpeg and freed once.
        unsafe { ffi::av_free(self.0.as_ptr().cast()) };
    }
}
