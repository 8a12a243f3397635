//! Custom sources: bytes in memory, Rust readers, and implementations of [`SourceFactory`].

use std::{
    fmt,
    io::{self, Cursor, Read, Seek, SeekFrom},
    sync::Arc,
};

use parking_lot::Mutex;

/// A reader that can seek.
pub trait ReadSeek: Read + Seek + Send {}

impl<T: Read + Seek + Send> ReadSeek for T {}

/// An opened source.
pub enum OpenSource {
    /// Seekable, like a file.
    Seekable(Box<dyn ReadSeek>),
    /// Bytes can be read once, in order, as from a pipe.
    Stream(Box<dyn Read + Send>),
}

/// Opens a source as often as needed: for probing, for its index, for each decoder.
///
/// # For implementors
/// Each opened value has an independent position, starting at the first byte. Values are read and dropped on dedicated
/// threads, so that the reader can abandon a read that does not return. A panic becomes an error. If an implementation needs
/// a lock that callers of this crate may hold (such as Python's GIL), callers must not hold it during calls.
pub trait SourceFactory: Send + Sync {
    /// Name for messages. Its extension helps to detect formats that cannot be recognised by content.
    fn name(&self) -> &str;

    /// Opens it at its first byte.
    ///
    /// # Errors
    /// Any error; its message is passed on.
    fn open(&self) -> io::Result<OpenSource>;

    /// Size in bytes, if known without opening; if `None`, a seekable source is measured by seeking.
    fn size_bytes(&self) -> Option<u64> {
        None
    }

    /// Whether a read may block. Memory does not, and is read without an extra thread.
    fn may_wait(&self) -> bool {
        true
    }

    /// Opens a URL that the media refers to, such as a playlist's segment, or the bytes of `range` (start, end); `None` if nothing
    /// may be opened.
    fn nested(&self, _url: &str, _range: Option<(u64, u64)>) -> Option<CustomSource> {
        None
    }
}

/// A source for [`crate::InputOptions::custom`]; clones refer to the same source.
#[derive(Clone)]
pub struct CustomSource(Arc<dyn SourceFactory>);

impl CustomSource {
    /// Wraps a [`SourceFactory`].
    pub fn new(factory: impl SourceFactory + 'static) -> Self {
        Self(Arc::new(factory))
    }

    /// A whole file in memory. The bytes are not copied.
    pub fn bytes(name: impl Into<String>, bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self::new(Memory { name: name.into(), bytes: Shared(Arc::new(bytes)) })
    }

    /// A reader that can seek, such as an open file; it is read from its first byte, whatever its current position. Several
    /// readers may share it: each one seeks back to its own position when another was in between.
    pub fn seekable(name: impl Into<String>, value: impl Read + Seek + Send + 'static) -> Self {
        let place = Place { value: Box::new(value), position: None };
        Self::new(SharedValue { name: name.into(), place: Arc::new(Mutex::new(place)) })
    }

    /// A reader that cannot seek, such as a socket. It can be opened once, like a pipe.
    pub fn stream(name: impl Into<String>, value: impl Read + Send + 'static) -> Self {
        Self::new(Once { name: name.into(), value: Mutex::new(Some(Box::new(value))) })
    }

    /// Name for messages.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Size in bytes, if known without opening.
    pub fn size_bytes(&self) -> Option<u64> {
        self.0.size_bytes()
    }

    /// Opens it at its first byte. Reads may block forever: the reader's timeouts do not apply here.
    ///
    /// # Errors
    /// The source's own.
    pub fn open(&self) -> io::Result<OpenSource> {
        self.0.open()
    }

    pub(crate) fn factory(&self) -> &Arc<dyn SourceFactory> {
        &self.0
    }
}

impl fmt::Debug for CustomSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("CustomSource").field(&self.name()).finish()
    }
}

/// Bytes in memory.
struct Memory {
    name: String,
    bytes: Shared,
}

#[derive(Clone)]
struct Shared(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl SourceFactory for Memory {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self) -> io::Result<OpenSource> {
        Ok(OpenSource::Seekable(Box::new(Cursor::new(self.bytes.clone()))))
    }

    fn size_bytes(&self) -> Option<u64> {
        u64::try_from(self.bytes.as_ref().len()).ok()
    }

    fn may_wait(&self) -> bool {
        false
    }
}

/// One value shared by several readers.
struct SharedValue {
    name: String,
    place: Arc<Mutex<Place>>,
}

struct Place {
    value: Box<dyn ReadSeek>,
    /// Current position; `None` at first and after an error.
    position: Option<u64>,
}

impl SourceFactory for SharedValue {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self) -> io::Result<OpenSource> {
        Ok(OpenSource::Seekable(Box::new(IoContext { place: Arc::clone(&self.place), position: 0 })))
    }
}

/// One of the readers of a shared value.
struct IoContext {
    place: Arc<Mutex<Place>>,
    position: u64,
}

impl Read for IoContext {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut place = self.place.lock();
        if place.position.take() != Some(self.position) {
            place.value.seek(SeekFrom::Start(self.position))?;
        }
        let count = place.value.read(buffer)?;
        self.position = self.position.saturating_add(count as u64);
        place.position = Some(self.position);
        Ok(count)
    }
}

impl Seek for IoContext {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        let moved = |base: u64, by: i64| base.checked_add_signed(by).ok_or(io::Error::from(io::ErrorKind::InvalidInput));
        self.position = match target {
            SeekFrom::Start(position) => position,
            SeekFrom::Current(by) => moved(self.position, by)?,
            SeekFrom::End(_) => {
                let mut place = self.place.lock();
                place.position = None;
                place.value.seek(target)?
            }
        };
        Ok(self.position)
    }
}

/// A value that can be opened once.
struct Once {
    name: String,
    value: Mutex<Option<Box<dyn Read + Send>>>,
}

impl SourceFactory for Once {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self) -> io::Result<OpenSource> {
        let taken = || io::Error::new(io::ErrorKind::Unsupported, "the source is not seekable and was already read; use a seekable source");
        self.value.lock().take().map(OpenSource::Stream).ok_or_else(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(source: &CustomSource) -> Box<dyn ReadSeek> {
        match source.open().expect("opens") {
            OpenSource::Seekable(value) => value,
            OpenSource::Stream(_) => panic!("seekable"),
        }
    }

    #[test]
    fn readers_of_one_value_keep_their_own_places() {
        let mut cursor = Cursor::new((0..100).collect::<Vec<u8>>());
        cursor.set_position(7);
        let source = CustomSource::seekable("numbers", cursor);
        let (mut one, mut two) = (open(&source), open(&source));
        let mut bytes = [0; 3];
        for round in 0..5 {
            one.read_exact(&mut bytes).expect("read");
            assert_eq!(bytes, [0, 1, 2].map(|byte| byte + 3 * round));
            two.seek(SeekFrom::End(-3 - i64::from(round))).expect("sought");
            two.read_exact(&mut bytes).expect("read");
            assert_eq!(bytes, [97, 98, 99].map(|byte| byte - round));
        }
        assert_eq!(two.seek(SeekFrom::Current(-3)).expect("sought"), 93);
        assert!(two.seek(SeekFrom::Current(-1_000)).is_err());
    }

    #[test]
    fn a_stream_is_given_once() {
        let source = CustomSource::stream("pipe", Cursor::new(vec![1, 2]));
        assert!(matches!(source.clone().open(), Ok(OpenSource::Stream(_))));
        assert!(source.open().err().is_some_and(|error| error.kind() == io::ErrorKind::Unsupported));
        assert_eq!(CustomSource::bytes("memory", vec![0; 9]).size_bytes(), Some(9));
    }
}
