//! Custom sources deliver the same as files.

mod common;

use std::{
    fs::{self, File},
    io::{self, Cursor, Read, Seek, SeekFrom},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{at, ffmpeg, folder, options, pts, read, samples};
use framerail_core::FramePool;
use framerail_media::{
    CustomSource, Input, InputOptions, KeyframeIndex, MediaError, MediaReader, OpenSource, SideStreams, SourceFactory, probe,
};
use framerail_testkit::{ClipSpec, Codec, Container, corpus};

fn alone(source: CustomSource) -> InputOptions {
    InputOptions { side_streams: SideStreams::None, ..InputOptions::of_custom(source) }
}

fn refused(options: &InputOptions) -> MediaError {
    MediaReader::open(options, &FramePool::new(2)).err().expect("refused")
}

/// All frames' times and samples.
fn frames(options: &InputOptions) -> Vec<(i64, Vec<u8>)> {
    read(options).frames.iter().map(|frame| (frame.pts.0, samples(frame))).collect()
}

/// Returns a few bytes at a time.
struct Short<R>(R, usize);

impl<R: Read> Read for Short<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = self.1 % 97 + 1;
        let room = buffer.len().min(self.1 * 13);
        self.0.read(&mut buffer[..room])
    }
}

impl<R: Seek> Seek for Short<R> {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        self.0.seek(target)
    }
}

#[test]
fn the_corpus_reads_the_same_from_memory_and_from_values_that_read() {
    for (name, spec) in corpus() {
        if spec.unavailable().is_some() {
            continue;
        }
        let clip = spec.make();
        if clip.path().is_dir() {
            continue;
        }
        let file_name = clip.path().file_name().expect("name").to_string_lossy().into_owned();
        let expected = frames(&options(clip.path()));
        let bytes = fs::read(clip.path()).expect("clip");
        let memory = CustomSource::bytes(file_name.clone(), bytes.clone());
        assert!(frames(&InputOptions::of_custom(memory.clone())) == expected, "{name} from memory");
        let value = CustomSource::seekable(file_name, Short(Cursor::new(bytes), 0));
        assert!(frames(&InputOptions::of_custom(value)) == expected, "{name} from a value");
        let index = |options: &InputOptions| {
            let mut input = Input::open(options).expect("readable");
            input.container_index().expect("readable").map(|index| index.packets)
        };
        let file = InputOptions { side_streams: SideStreams::None, ..options(clip.path()) };
        assert_eq!(index(&alone(memory.clone())), index(&file), "{name}: the container's own index");
        let scan = |options| KeyframeIndex::scan(options).expect("readable").packets;
        assert_eq!(scan(&alone(memory)), scan(&file), "{name}: the scanned index");
    }
}

#[test]
fn one_open_file_serves_several_readers() {
    let clip = ClipSpec::new(Codec::H264, Container::Mp4).frames(48).gop(12).make();
    let source = alone(CustomSource::seekable("clip.mp4", File::open(clip.path()).expect("clip")));
    let index = KeyframeIndex::scan(&source).expect("readable");
    let (mut one, mut two) = (Input::open(&source).expect("readable"), Input::open(&source).expect("readable"));
    let places: Vec<usize> = index.keyframes().collect();
    for (first, second) in places.iter().zip(places.iter().rev()) {
        for (input, place) in [(&mut one, *first), (&mut two, *second)] {
            assert_eq!(input.seek_packet(&index, place).expect("sought"), 0);
            let packet = input.next_packet().expect("readable").expect("a packet");
            assert_eq!(packet.pts(), index.packets[place].pts);
        }
    }
    let report = probe(&InputOptions::of_custom(CustomSource::bytes("clip", fs::read(clip.path()).expect("clip"))), true).expect("probed");
    assert_eq!(
        (report.size_bytes, report.scan.map(|scan| scan.packets)),
        (fs::metadata(clip.path()).ok().map(|file| file.len()), Some(48))
    );
}

#[test]
fn a_value_that_cannot_seek_gives_what_a_pipe_gives() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=320x240:rate=25:duration=2 -pix_fmt yuv420p -c:v libx264 -bf 2 -g 10 a.ts");
    ffmpeg(folder.path(), "-i a.ts -c copy a.mkv");
    ffmpeg(folder.path(), "-i a.ts -c copy -movflags +faststart front.mp4");
    ffmpeg(folder.path(), "-i a.ts -c copy back.mp4");
    for name in ["a.ts", "a.mkv", "front.mp4"] {
        let path = at(&folder, name);
        let stream = || InputOptions::of_custom(CustomSource::stream(name, File::open(&path).expect("clip")));
        assert!(frames(&stream()) == frames(&options(&path)), "{name}");
        let index = KeyframeIndex::scan(&options(&path)).expect("readable");
        let mut input = Input::open(&InputOptions { side_streams: SideStreams::None, ..stream() }).expect("readable");
        assert!(matches!(input.seek_packet(&index, 20), Err(MediaError::Unsupported { .. })), "{name}");
    }
    // Its index comes last, and a pipe cannot seek back.
    let back = CustomSource::stream("back.mp4", File::open(at(&folder, "back.mp4")).expect("clip"));
    assert!(!matches!(refused(&InputOptions::of_custom(back)), MediaError::Io { .. }));
    let once = InputOptions::of_custom(CustomSource::stream("once", File::open(at(&folder, "a.ts")).expect("clip")));
    assert_eq!(read(&once).frames.len(), 50);
    let again = refused(&once);
    assert!(matches!(again, MediaError::Unsupported { .. }) && again.to_string().contains("was already read"), "{again}");
}

/// Behaviour of a source from byte `after` on.
#[derive(Clone, Copy)]
enum Fault {
    Fail,
    Panic,
    Overstate,
    Wait,
}

/// Number of times that a source started to wait.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// A file that fails.
struct Faulty {
    bytes: Arc<[u8]>,
    after: usize,
    fault: Fault,
    is_seekable: bool,
}

impl SourceFactory for Faulty {
    fn name(&self) -> &str {
        "faulty"
    }

    fn open(&self) -> io::Result<OpenSource> {
        let reader = FaultyReader { place: Cursor::new(Arc::clone(&self.bytes)), after: self.after, fault: self.fault };
        Ok(if self.is_seekable { OpenSource::Seekable(Box::new(reader)) } else { OpenSource::Stream(Box::new(reader)) })
    }
}

struct FaultyReader {
    place: Cursor<Arc<[u8]>>,
    after: usize,
    fault: Fault,
}

impl Read for FaultyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.after.saturating_sub(usize::try_from(self.place.position()).expect("small"));
        if left == 0 {
            match self.fault {
                Fault::Fail => return Err(io::Error::other("the tape is torn")),
                Fault::Panic => panic!("the tape is on fire"),
                Fault::Overstate => return Ok(buffer.len() + 1),
                Fault::Wait => {
                    WAITING.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_secs(3));
                }
            }
        }
        let room = buffer.len().min(left);
        self.place.read(&mut buffer[..room])
    }
}

impl Seek for FaultyReader {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        self.place.seek(target)
    }
}

#[test]
fn a_sources_own_words_come_out() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=320x240:rate=25:duration=12 -pix_fmt yuv420p -c:v libx264 -g 10 a.mkv");
    let bytes: Arc<[u8]> = fs::read(at(&folder, "a.mkv")).expect("clip").into();
    assert!(bytes.len() > 400_000, "{}", bytes.len());
    let all = KeyframeIndex::scan(&options(&at(&folder, "a.mkv"))).expect("readable").packets.len();
    for (fault, words) in [(Fault::Fail, "the tape is torn"), (Fault::Panic, "the tape is on fire"), (Fault::Overstate, "for a buffer of")]
    {
        for is_seekable in [true, false] {
            let source = |after| CustomSource::new(Faulty { bytes: Arc::clone(&bytes), after, fault, is_seekable });
            let error = Input::open(&alone(source(0))).err().expect("refused");
            assert!(matches!(&error, MediaError::Io { path, .. } if path == "faulty") && error.to_string().contains(words), "{error}");
            // Data before the fault is delivered; then every read reports the fault.
            let mut input = Input::open(&alone(source(bytes.len() - 100_000))).expect("opens");
            let mut packets = 0;
            let error = loop {
                match input.next_packet() {
                    Ok(Some(_)) => packets += 1,
                    Ok(None) => panic!("an end in place of an error"),
                    Err(error) => break error,
                }
            };
            assert!(packets > all / 2 && packets < all, "{packets} of {all}");
            assert!(matches!(error, MediaError::Io { .. }) && error.to_string().contains(words), "{error}");
            assert!(input.next_packet().is_err());
        }
    }
}

#[test]
fn waiting_for_a_source_ends() {
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=320x240:rate=25:duration=4 -pix_fmt yuv420p -c:v libx264 -g 10 a.ts");
    let bytes: Arc<[u8]> = fs::read(at(&folder, "a.ts")).expect("clip").into();
    for after in [0, bytes.len() / 2] {
        let source = CustomSource::new(Faulty { bytes: Arc::clone(&bytes), after, fault: Fault::Wait, is_seekable: true });
        let limited = InputOptions { read_timeout: Some(Duration::from_millis(100)), ..alone(source.clone()) };
        let error = KeyframeIndex::scan(&limited).expect_err("a limit");
        assert!(matches!(error, MediaError::Timeout { .. }), "{error}");
        let cancelled = alone(source);
        let token = cancelled.cancel.clone();
        let begun = WAITING.load(Ordering::SeqCst);
        let setter = std::thread::spawn(move || {
            while WAITING.load(Ordering::SeqCst) == begun {
                std::thread::yield_now();
            }
            token.cancel();
        });
        assert!(matches!(KeyframeIndex::scan(&cancelled).expect_err("cancelled"), MediaError::Cancelled { .. }));
        setter.join().expect("joined");
    }
}

/// Counts open sources.
struct Counted(Arc<AtomicUsize>, Arc<[u8]>);

struct CountedReader(Arc<AtomicUsize>, Cursor<Arc<[u8]>>);

impl SourceFactory for Counted {
    fn name(&self) -> &str {
        "counted"
    }

    fn open(&self) -> io::Result<OpenSource> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(OpenSource::Seekable(Box::new(CountedReader(Arc::clone(&self.0), Cursor::new(Arc::clone(&self.1))))))
    }
}

impl Read for CountedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1.read(buffer)
    }
}

impl Seek for CountedReader {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        self.1.seek(target)
    }
}

impl Drop for CountedReader {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[test]
fn what_is_opened_is_closed_with_its_reader() {
    let clip = ClipSpec::new(Codec::H264, Container::Mp4).frames(12).make();
    let open = Arc::new(AtomicUsize::new(0));
    let source = alone(CustomSource::new(Counted(Arc::clone(&open), fs::read(clip.path()).expect("clip").into())));
    for _ in 0..20 {
        let mut input = Input::open(&source).expect("readable");
        assert!(input.container_index().expect("readable").is_some());
        drop(input);
        assert_eq!(open.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn what_is_no_media_is_named() {
    let letter = CustomSource::bytes("letter", "This is a letter, not a video.\n".repeat(50));
    assert!(matches!(refused(&InputOptions::of_custom(letter)), MediaError::NotMedia { .. }));
    let empty = CustomSource::bytes("nothing", Vec::new());
    assert!(matches!(refused(&InputOptions::of_custom(empty)), MediaError::NotMedia { .. }));
    let folder = folder();
    ffmpeg(folder.path(), "-f lavfi -i testsrc2=size=64x48:rate=25:duration=1 -pix_fmt yuv420p -c:v libx264 a.mp4");
    let bytes = fs::read(at(&folder, "a.mp4")).expect("clip");
    let cut = CustomSource::bytes("a.mp4", bytes[..bytes.len() / 2].to_vec());
    let error = refused(&InputOptions::of_custom(cut));
    assert!(matches!(error, MediaError::Damaged { .. }), "{error}");
    // A playlist in memory cannot open files.
    let list = format!("ffconcat version 1.0\nfile '{}'\n", at(&folder, "a.mp4").display());
    let mut options = InputOptions::of_custom(CustomSource::bytes("list.ffconcat", list));
    options.format_options = vec![("safe".into(), "0".into())];
    assert!(Input::open(&options).is_err());
    // The name is not used to find a file or a folder of images.
    let bytes = CustomSource::bytes(folder.path().to_string_lossy(), bytes);
    assert_eq!(pts(&read(&InputOptions::of_custom(bytes)).frames).len(), 25);
}
