//! Sources that are not files: bytes in memory, values that read, and whatever its own program makes.

use std::{
    fmt,
    io::{self, Cursor, Read, Seek, SeekFrom},
    sync::Arc,
};

use parking_lot::Mutex;

/// What can be read and sought.
pub trait ReadSeek: Read + Seek + Send {}

impl<T: Read + Seek + Send> ReadSeek for T {}

/// A source that was opened.
pub enum OpenSource {
    /// Any byte can be gone to, as in a file.
    Seekable(Box<dyn ReadSeek>),
    /// Bytes come once, in order, as in a pipe.
    Stream(Box<dyn Read + Send>),
}

/// Opens one source as often as it is needed: for looking at it, for its index, for each decoder.
///
/// # For implementors
/// Each opened value has its own position, starting at the first byte. Values are read on threads of the reader's
/// own, so that a read that does not return can be left alone; they are dropped there too. A panic becomes an error.
/// What needs a lock that callers of this crate may hold (such as Python's) must not be called while they hold it.
pub trait SourceFactory: Send + Sync {
    /// What messages call it. An extension helps to recognise formats that do not tell by themselves.
    fn name(&self) -> &str;

    /// Opens it at its first byte.
    ///
    /// # Errors
    /// Any: it is handed on in its own words.
    fn open(&self) -> io::Result<OpenSource>;

    /// Its length in bytes, when that is known without opening it; a seekable source is asked by seeking otherwise.
    fn size_bytes(&self) -> Option<u64> {
        None
    }

    /// Whether reading may wait for something. Memory does not, and is read without a thread in between.
    fn may_wait(&self) -> bool {
        true
    }

    /// Opens an address that the media itself names, bytes `start..end` of it where they are given; `None` where nothing may be
    /// opened.
    fn nested(&self, _url: &str, _range: Option<(u64, u64)>) -> Option<CustomSource> {
        None
    }
}

/// A source for [`crate::InputOptions::custom`]; clones mean the same source.
#[derive(Clone)]
pub struct CustomSource(Arc<dyn SourceFactory>);

impl CustomSource {
    /// A source of the program's own.
    pub fn new(factory: impl SourceFactory + 'static) -> Self {
        Self(Arc::new(factory))
    }

    /// A whole file in memory. It is not copied.
    pub fn bytes(name: impl Into<String>, bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self::new(Memory { name: name.into(), bytes: Shared(Arc::new(bytes)) })
    }

    /// A value that reads and seeks, such as an open file, from its first byte wherever it stands. Readers take turns: each
    /// goes back to its own place when another was in between.
    pub fn seekable(name: impl Into<String>, value: impl Read + Seek + Send + 'static) -> Self {
        let place = Place { value: Box::new(value), position: None };
        Self::new(SharedValue { name: name.into(), place: Arc::new(Mutex::new(place)) })
    }

    /// A value that only reads, such as a socket. It can be read once, like a pipe.
    pub fn stream(name: impl Into<String>, value: impl Read + Send + 'static) -> Self {
        Self::new(Once { name: name.into(), value: Mutex::new(Some(Box::new(value))) })
    }

    /// What messages call it.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Its length in bytes, when that is known without opening it.
    pub fn size_bytes(&self) -> Option<u64> {
        self.0.size_bytes()
    }

    /// Opens it at its first byte. Reads may wait for ever: this is the source itself, without a reader's limits.
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

/// One value for several readers.
struct SharedValue {
    name: String,
    place: Arc<Mutex<Place>>,
}

struct Place {
    value: Box<dyn ReadSeek>,
    /// Where it stands; unknown at first and after an error.
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

/// A value that is given away once.
struct Once {
    name: String,
    value: Mutex<Option<Box<dyn Read + Send>>>,
}

impl SourceFactory for Once {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self) -> io::Result<OpenSource> {
        let taken = || io::Error::new(io::ErrorKind::Unsupported, "it is not seekable and was read before; use a seekable source");
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
