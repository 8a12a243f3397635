//! Sources over HTTP whose connection is cut in the middle.

mod live_support;

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use framerail::core::PixelFormat;
use framerail::pipeline::{RunHandle, RunStats};
use framerail_testkit::{AudioCodec, Clip, ClipSpec, Codec, Container, read_frame_number, reference_planes};
use live_support::{Seen, wait_for_stream};

const FRAMES: u32 = 60;

/// Serves one file, by ranges too, to any number of connections. Connections break off in the middle of the file.
struct Server {
    url: String,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Which connections break off: FFmpeg may need several to look around in a file.
    fn start(breaks_off: fn(usize) -> bool) -> Self {
        Self::of(&ClipSpec::new(Codec::H264, Container::Ts).frames(FRAMES).gop(12).make(), breaks_off)
    }

    fn of(clip: &Clip, breaks_off: fn(usize) -> bool) -> Self {
        let bytes = Arc::new(std::fs::read(clip.path()).expect("made"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}/clip.ts", listener.local_addr().expect("bound"));
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let is_cut = breaks_off(count.fetch_add(1, Ordering::SeqCst));
                let bytes = Arc::clone(&bytes);
                // Who has enough hangs up: that is no failure of the server's.
                thread::spawn(move || drop(answer(stream, &bytes, is_cut)));
            }
        });
        Self { url, connections }
    }
}

fn answer(mut stream: TcpStream, bytes: &[u8], is_cut: bool) -> std::io::Result<()> {
    let mut from = 0;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?.to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.split('-').next().and_then(|from| from.parse().ok()).unwrap_or(0);
        }
        if line.is_empty() {
            break;
        }
    }
    let (total, rest) = (bytes.len(), bytes.get(from..).unwrap_or_default());
    let length = rest.len();
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nContent-Type: video/mp2t\r\nAccept-Ranges: bytes\r\nContent-Length: {length}\r\n\
         Content-Range: bytes {from}-{}/{total}\r\nConnection: close\r\n\r\n",
        total.saturating_sub(1)
    )?;
    let until = if is_cut { (total / 2).saturating_sub(from) } else { length };
    // What begins behind the middle comes whole.
    stream.write_all(rest.get(..until).filter(|part| !part.is_empty()).unwrap_or(rest))
}

/// Numbers in the pixels, and those of the frames.
fn start(server: &Server, options: &str) -> (RunHandle, Seen<(u64, u64)>) {
    live_support::start(&format!("read {} {options} ! null", server.url), |item| {
        let number = read_frame_number(item.frame.surface.host().expect("on the host"));
        (number.expect("a readable number"), item.frame.index)
    })
}

/// Reads the server's file to its end.
fn read(server: &Server, options: &str) -> (RunStats, Vec<(u64, u64)>) {
    let (handle, seen) = start(server, options);
    let outcome = handle.wait();
    outcome.result.expect("read as far as it goes");
    let seen = seen.lock().clone();
    (outcome.stats, seen)
}

#[test]
fn a_file_that_breaks_off_goes_on_where_it_broke_off() {
    let (stats, seen) = read(&Server::start(|_| true), "");
    let lost = stats.counter("sources_ended_early") + stats.counter("frames_lost");
    // The client asks for the rest; whatever does not come is counted.
    assert!(seen.len() == FRAMES as usize || lost > 0, "{} frames, {:?}", seen.len(), stats.stage("read").map(|stage| &stage.counters));
}

#[test]
fn a_file_goes_on_where_it_broke_off_when_ffmpeg_is_told_so() {
    let server = Server::start(|_| true);
    let (stats, seen) = read(&server, "options=reconnect=1");
    assert_eq!((stats.counter("sources_ended_early"), stats.counter("decode_errors")), (0, 0));
    assert_eq!(seen, (0..u64::from(FRAMES)).map(|number| (number, number)).collect::<Vec<_>>());
    assert!(server.connections.load(Ordering::SeqCst) >= 2);
}

#[test]
fn a_live_source_that_breaks_off_is_opened_again_as_the_same_stream() {
    let (handle, seen) = start(&Server::start(|number| number == 0), "live=yes drop=none latency=none retry_wait=10ms");
    // Twice: broken off, and at the end of what the server has.
    wait_for_stream(&handle, "its second return", |stream| stream.reconnects >= 2);
    handle.stop();
    let outcome = handle.wait();
    outcome.result.expect("a stop is no failure");
    let stream = outcome.stats.stream(0).expect("listed").clone();
    assert_eq!(stream.frames_read, stream.frames_delivered + stream.frames_dropped, "{stream:?}");
    assert!(stream.last_error.is_some(), "{stream:?}");
    let seen = seen.lock();
    assert!(seen.windows(2).all(|pair| pair[0].1 < pair[1].1), "frame numbers go on: {seen:?}");
    assert!(seen.iter().any(|(number, _)| *number == u64::from(FRAMES) - 1), "the second connection gives all of it: {seen:?}");
    assert!(seen.iter().filter(|(number, _)| *number == 0).count() >= 2, "from its start each time: {seen:?}");
}

/// Presentation times in seconds of a file's packets of one kind, and a hash of each one's bytes, in the file's order.
fn packets(path: &Path, stream: &str) -> Vec<(f64, String)> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", stream, "-show_entries", "packet=pts_time,data_hash", "-show_data_hash", "md5"])
        .args(["-of", "csv=p=0"])
        .arg(path)
        .output()
        .expect("ffprobe is installed");
    let text = String::from_utf8(output.stdout).expect("text");
    let fields = |line: &str| {
        let (pts, rest) = line.split_once(',')?;
        Some((pts.parse().ok()?, rest.trim_matches(',').to_owned()))
    };
    text.lines().filter_map(fields).collect()
}

#[test]
fn a_live_source_with_sound_lives_on_over_connections_and_stays_in_step() {
    let clip = ClipSpec::new(Codec::H264, Container::Ts).frames(FRAMES).gop(12).b_frames(2).audio(AudioCodec::Aac).make();
    let server = Server::of(&clip, |number| number % 2 == 0);
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("out.mp4");
    let text = format!("read {} live=yes drop=none latency=none retry_wait=1ms ! write '{}' preset=ultrafast", server.url, path.display());
    let (handle, seen) = live_support::start(&text, |item| item.frame.seconds());
    wait_for_stream(&handle, "its returns", |stream| stream.reconnects >= 6);
    handle.stop();
    let outcome = handle.wait();
    outcome.result.expect("a stop is no failure");
    assert!(seen.lock().windows(2).all(|pair| pair[0] < pair[1]), "one clock over all connections");
    let stats = outcome.stats;
    let (video, audio) = (packets(&path, "v:0"), packets(&path, "a:0"));
    assert_eq!((video.len() as u64, audio.len() as u64), (stats.counter("frames_written"), stats.counter("packets_copied")));
    assert_eq!(stats.counter("timestamps_repaired"), 0, "no times had to be repaired");
    // Each connection begins with frame 0 and with the source's first packet of audio.
    let mut frames: Vec<f64> = video.iter().map(|(pts, _)| *pts).collect();
    frames.sort_by(f64::total_cmp);
    let numbers = reference_planes(&path, PixelFormat::Yuv420p).map(|surface| read_frame_number(&surface).expect("a readable number"));
    let first_frames: Vec<f64> = numbers.zip(&frames).filter(|(number, _)| *number == 0).map(|(_, pts)| *pts).collect();
    let first_audio: Vec<f64> = audio.iter().filter(|(_, hash)| *hash == audio[0].1).map(|(pts, _)| *pts).collect();
    assert!(first_frames.len() >= 6, "{first_frames:?}");
    assert_eq!(first_frames.len(), first_audio.len(), "{first_frames:?} {first_audio:?}");
    let relation = first_frames[0] - first_audio[0];
    for (frame, sound) in first_frames.iter().zip(&first_audio) {
        assert!((frame - sound - relation).abs() < 0.04, "frames and audio apart: {first_frames:?} {first_audio:?}");
    }
}
