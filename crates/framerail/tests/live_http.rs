//! Sources over HTTP whose connection is cut in the middle.

mod live_support;

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use framerail::pipeline::{RunHandle, RunStats};
use framerail_testkit::{ClipSpec, Codec, Container, ffprobe_packets, read_frame_number};
use live_support::{Seen, assert_in_step, flash_and_click, wait_for_stream};

const FRAMES: u32 = 60;

/// Serves one file, with ranges, to any number of connections, which break in the middle of the file.
struct Server {
    url: String,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Which connections break: FFmpeg may need several to open a file.
    fn start(breaks_off: fn(usize) -> bool) -> Self {
        Self::of(ClipSpec::new(Codec::H264, Container::Ts).frames(FRAMES).gop(12).make().path(), breaks_off)
    }

    fn of(clip: &Path, breaks_off: fn(usize) -> bool) -> Self {
        let bytes = Arc::new(std::fs::read(clip).expect("made"));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let name = clip.file_name().expect("a file").to_string_lossy();
        let url = format!("http://{}/{name}", listener.local_addr().expect("bound"));
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        // Runs until the test process ends.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let number = count.fetch_add(1, Ordering::SeqCst);
                let is_cut = breaks_off(number);
                let bytes = Arc::clone(&bytes);
                // Clients may disconnect: not a failure of the server.
                thread::spawn(move || {
                    if number % 5 == 4 {
                        // A gap that can be seen in the file.
                        thread::sleep(Duration::from_millis(150));
                    }
                    drop(answer(stream, &bytes, is_cut));
                });
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
    // Ranges that begin after the middle are sent completely.
    stream.write_all(rest.get(..until).filter(|part| !part.is_empty()).unwrap_or(rest))
}

/// Numbers read from the pixels, and frame numbers.
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
    // The client requests the rest; what is not sent is counted.
    assert!(seen.len() == FRAMES as usize || lost > 0, "{} frames, {:?}", seen.len(), stats.stage("read").map(|stage| &stage.counters));
}

#[test]
fn a_file_continues_where_it_broke_off_with_ffmpegs_option() {
    let server = Server::start(|_| true);
    let (stats, seen) = read(&server, "options=reconnect=1");
    assert_eq!((stats.counter("sources_ended_early"), stats.counter("decode_errors")), (0, 0));
    assert_eq!(seen, (0..u64::from(FRAMES)).map(|number| (number, number)).collect::<Vec<_>>());
    assert!(server.connections.load(Ordering::SeqCst) >= 2);
}

#[test]
fn a_live_source_that_breaks_off_is_opened_again_as_the_same_stream() {
    let (handle, seen) = start(&Server::start(|number| number == 0), "live=yes drop=none latency=none retry_wait=10ms");
    // Twice: after the break, and at the end of the server's data.
    wait_for_stream(&handle, "its second return", |stream| stream.reconnects >= 2);
    handle.stop();
    let outcome = handle.wait();
    outcome.result.expect("a stop is not a failure");
    let stream = outcome.stats.stream(0).expect("listed").clone();
    assert_eq!(stream.frames_read, stream.frames_delivered + stream.frames_dropped, "{stream:?}");
    assert!(stream.last_error.is_some(), "{stream:?}");
    let seen = seen.lock();
    assert!(seen.windows(2).all(|pair| pair[0].1 < pair[1].1), "frame numbers go on: {seen:?}");
    assert!(seen.iter().any(|(number, _)| *number == u64::from(FRAMES) - 1), "the second connection gives all of it: {seen:?}");
    assert!(seen.iter().filter(|(number, _)| *number == 0).count() >= 2, "from its start each time: {seen:?}");
}

/// Writes a source with audio to files while its server breaks the connection twenty times, and checks the files.
fn over_twenty_connections(source: &Path, outputs: &[&str]) {
    let server = Server::of(source, |number| number % 2 == 0);
    let folder = source.parent().expect("in a folder");
    let outputs: Vec<_> = outputs.iter().map(|name| folder.join(name)).collect();
    let writes: String = outputs.iter().map(|path| format!("( write '{}' ) ", path.display())).collect();
    let text = format!("read {} live=yes drop=none latency=none retry_wait=1ms ! tee {writes}", server.url);
    let (handle, seen) = live_support::start(&text, |item| item.frame.seconds());
    let found = wait_for_stream(&handle, "its returns", |stream| stream.reconnects >= 20);
    handle.stop();
    let outcome = handle.wait();
    outcome.result.expect("a stop is not a failure");
    let stats = outcome.stats;
    assert!(seen.lock().windows(2).all(|pair| pair[0] < pair[1]), "one clock over all connections");
    assert_eq!(stats.counter("timestamps_repaired"), 0, "no times had to be repaired");
    let frames = stats.stream(0).expect("listed").frames_delivered;
    assert_eq!(stats.counter("frames_written"), frames * outputs.len() as u64);
    for path in &outputs {
        // Those of AVI that last for longer than a frame are repeated.
        let written = ffprobe_packets(path, "v:0").iter().filter(|packet| packet.size_bytes > 0).count() as u64;
        assert_eq!(written, frames, "{}", path.display());
        assert_in_step(path, 40, found.reconnects as usize);
    }
}

#[test]
fn audio_and_frames_stay_in_step_over_twenty_connections() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let source = flash_and_click(&folder.path().join("clip.ts"), 1.2, &["-c:a", "aac"]);
    over_twenty_connections(&source, &["out.mp4", "out.mkv", "out.avi", "out-2.ts"]);
}

/// AVI has no times for any audio, MOV none for PCM: silence stands for the gaps.
#[test]
fn audio_without_timestamps_stays_in_step_over_twenty_connections() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let source = flash_and_click(&folder.path().join("clip.mkv"), 1.2, &["-c:a", "pcm_alaw"]);
    over_twenty_connections(&source, &["out.mov", "out.avi", "out-2.mkv"]);
}

/// A live stream goes through the stages that change, compose, gate and record; nothing is lost on the way without a count.
#[test]
fn a_live_stream_passes_through_stages_that_change_compose_and_record() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let server = Server::start(|_| false);
    let place = |name: &str| folder.path().join(name).display().to_string();
    let text = format!(
        "read {} live=yes on_error=end drop=none latency=none ! tee ( scale 160x ! pad 192x192 ! rotate 90 ! text '{{stream}} {{clock}}' ! write '{}' ) \
         ( motion area=0 hold=10s ! filter hqdn3d ! caps format=yuv420p size=64x48 ! write '{}' codec=libx264 ) \
         ( mosaic size=320x180 fps=25 ! write '{}' ) ( record '{}' on=call ) ( clips '{}' at=1 )",
        server.url,
        place("changed.mkv"),
        place("gated.mp4"),
        place("wall.mp4"),
        place("event.mkv"),
        place("part-{index}.mkv")
    );
    let stats = framerail::run(&text).expect("ran").stats;
    let packets = |name: &str| ffprobe_packets(&folder.path().join(name), "v:0").len();
    assert_eq!(packets("changed.mkv"), FRAMES as usize);
    let shape = framerail_testkit::ffprobe_stream(&folder.path().join("changed.mkv"), "v:0");
    assert_eq!((shape.width, shape.height), (192, 192));
    // The first frame has nothing to be compared with.
    assert_eq!(packets("gated.mp4") as u64, u64::from(FRAMES) - stats.counter("frames_held_back"));
    assert!(packets("gated.mp4") >= FRAMES as usize - 1);
    assert!(packets("wall.mp4") > 0);
    assert_eq!(packets("part-1.mkv") + packets("part-2.mkv"), FRAMES as usize);
    assert!(!folder.path().join("event.mkv").exists(), "nothing called");
}
