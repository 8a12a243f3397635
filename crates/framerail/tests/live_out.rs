//! Live output: HLS playlists, and pushing to RTSP servers.

mod live_support;
mod rtsp_support;

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use framerail::{
    core::PixelFormat,
    pipeline::{RunHandle, RunOptions, RunOutcome, RunStats},
};
use framerail_testkit::{AudioCodec, Clip, ClipSpec, Codec, Container, ffprobe_packets, free_port, read_frame_number, reference_planes};
use live_support::{PATIENCE, wait_for};
use rtsp_support::{Camera, has_server};

fn clip(frames: u32) -> Clip {
    ClipSpec::new(Codec::H264, Container::Mp4).frames(frames).b_frames(2).make()
}

fn start(text: &str) -> RunHandle {
    let planned = framerail::plan(text).unwrap_or_else(|error| panic!("{text}: {error}")).into_graph().expect("linked");
    planned.graph.start(RunOptions::default()).expect("started")
}

fn run(text: &str) -> RunStats {
    let outcome = start(text).wait();
    outcome.result.unwrap_or_else(|error| panic!("{text}: {error}"));
    outcome.stats
}

/// Frame numbers in the pixels of a video, by framerail's reader.
fn numbers(path: &Path, options: &str) -> Vec<u64> {
    let text = format!("read '{}' {options} ! null", path.display());
    let (handle, seen) =
        live_support::start(&text, |item| read_frame_number(item.frame.surface.host().expect("on the host")).expect("a readable number"));
    handle.wait().result.unwrap_or_else(|error| panic!("{text}: {error}"));
    let seen = seen.lock();
    seen.clone()
}

/// The same by FFmpeg's program.
fn numbers_by_ffmpeg(path: &Path) -> Vec<u64> {
    reference_planes(path, PixelFormat::Yuv420p).map(|surface| read_frame_number(&surface).expect("a readable number")).collect()
}

/// A playlist as a player sees it.
#[derive(Debug, Default)]
struct Playlist {
    tags: BTreeMap<String, String>,
    secs: Vec<f64>,
    segments: Vec<PathBuf>,
}

impl Playlist {
    fn of(path: &Path) -> Self {
        let text = fs::read_to_string(path).expect("readable");
        assert!(text.starts_with("#EXTM3U\n") && text.ends_with('\n'), "whole: {text}");
        let mut playlist = Self::default();
        for line in text.lines() {
            match line.strip_prefix('#') {
                Some(tag) => {
                    let (name, value) = tag.split_once(':').unwrap_or((tag, ""));
                    if name == "EXTINF" {
                        playlist.secs.push(value.trim_end_matches(',').parse().expect("seconds"));
                    }
                    playlist.tags.insert(name.to_owned(), value.to_owned());
                }
                None => playlist.segments.push(path.with_file_name(line)),
            }
        }
        assert_eq!(playlist.secs.len(), playlist.segments.len(), "{text}");
        playlist
    }

    fn is_ended(&self) -> bool {
        self.tags.contains_key("EXT-X-ENDLIST")
    }

    /// Every listed segment can be fetched.
    fn check(&self) {
        for segment in &self.segments {
            assert!(fs::metadata(segment).is_ok_and(|found| found.len() > 0), "{} is named and not there", segment.display());
        }
    }
}

#[test]
fn a_playlist_reads_back_frame_by_frame() {
    let clip = ClipSpec::new(Codec::H264, Container::Mp4).frames(110).gop(250).b_frames(2).audio(AudioCodec::Aac).make();
    for (format, end, header) in [("ts", "ts", 0), ("fmp4", "m4s", 1)] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("a 5%.m3u8");
        let stats = run(&format!("read '{}' ! write '{}' segment=1s segment_format={format}", clip.path().display(), path.display()));
        let playlist = Playlist::of(&path);
        playlist.check();
        assert!(playlist.is_ended() && playlist.tags["EXT-X-PLAYLIST-TYPE"] == "EVENT", "{playlist:?}");
        assert_eq!(playlist.segments.len(), 5, "{playlist:?}");
        assert!(playlist.secs[..4].iter().all(|secs| (secs - 1.0).abs() < 0.05), "cut at forced keyframes: {playlist:?}");
        assert!(playlist.segments.iter().all(|segment| segment.extension().is_some_and(|found| found == end)));
        assert_eq!((stats.counter("frames_written"), stats.counter("segments_written"), stats.counter("files_written")), (110, 5, 1));
        assert!(stats.counter("bytes_written") > 0);
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 5 + 1 + header, "nothing else is left");

        let all: Vec<u64> = (0..110).collect();
        assert_eq!(numbers(&path, ""), all, "{format} by our own reader");
        assert_eq!(numbers_by_ffmpeg(&path), all, "{format} by FFmpeg");
        let sound = stats.counter("packets_copied") as usize;
        assert!(sound > 150, "{sound} packets of sound");
        assert_eq!(ffprobe_packets(&path, "a:0").len(), sound, "{format}");
    }
}

#[test]
fn a_live_playlist_can_be_played_at_any_moment() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("cam.m3u8");
    let text = format!(
        "read '{}' ! write '{}' playlist=live segments=3 segment=400ms low_latency=yes",
        clip(150).path().display(),
        path.display()
    );
    let playlist = path.clone();
    let (handle, looks) = live_support::start(&text, move |_| {
        if !playlist.exists() {
            return false;
        }
        let found = Playlist::of(&playlist);
        found.check();
        assert!(!found.is_ended() && found.segments.len() <= 3, "{found:?}");
        true
    });
    handle.wait().result.expect("no look fails");
    assert!(looks.lock().iter().filter(|found| **found).count() > 20, "it was there while it was written");
    let last = Playlist::of(&path);
    last.check();
    assert!(last.is_ended() && last.segments.len() == 3 && !last.tags.contains_key("EXT-X-PLAYLIST-TYPE"), "{last:?}");
    assert_eq!(last.tags["EXT-X-MEDIA-SEQUENCE"], "12", "15 segments were written");
    assert_eq!(numbers(&path, ""), (120..150).collect::<Vec<u64>>(), "the latest 1.2 s");
    let left = fs::read_dir(folder.path()).expect("there").count();
    assert!(left <= 1 + 3 + 4, "older segments are deleted: {left} files");
}

#[test]
fn a_playlist_that_is_stopped_has_its_end() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("cam.m3u8");
    let text = format!("read '{}' realtime=yes ! write '{}' playlist=event segment=400ms", clip(1500).path().display(), path.display());
    let handle = start(&text);
    wait_for(&handle, "the playlist", |_| path.exists());
    handle.stop();
    let outcome = handle.wait();
    outcome.result.expect("a stop is not a failure");
    let playlist = Playlist::of(&path);
    playlist.check();
    assert!(playlist.is_ended() && playlist.tags.contains_key("EXT-X-PROGRAM-DATE-TIME"), "{playlist:?}");
    let found = numbers(&path, "");
    assert_eq!(found.len() as u64, outcome.stats.counter("frames_written"));
    assert!(found.len() < 1500 && found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
}

#[test]
fn a_playlist_is_replaced_only_with_overwrite() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("cam.m3u8");
    let text = format!("read '{}' ! write '{}' segment=400ms", clip(50).path().display(), path.display());
    run(&text);
    let again = framerail::run(&text).expect_err("it is there").to_string();
    assert!(again.contains("exists"), "{again}");
    run(&format!("{text} overwrite=yes"));
    assert_eq!(Playlist::of(&path).segments.len(), 5);
    // Segments of an earlier playlist are not mixed with a new one.
    fs::remove_file(&path).expect("there");
    assert!(framerail::run(&text).expect_err("segments are present").to_string().contains("cam-0"));
    let vod = folder.path().join("vod.m3u8");
    run(&format!("read '{}' ! write '{}' playlist=vod", clip(50).path().display(), vod.display()));
    assert_eq!(Playlist::of(&vod).tags["EXT-X-PLAYLIST-TYPE"], "VOD");
}

#[test]
fn options_without_effect_are_refused() {
    for (text, words) in [
        ("write out.mp4 segment=2s", "for HLS playlists"),
        ("write out.m3u8 transport=udp", "for servers"),
        ("write rtsp://host/x segments=3", "for HLS playlists"),
        ("write rtsp://host/x on_loss=fail retries=3", "does not retry"),
        ("write out.m3u8 segment=1ms", "last from"),
        ("write out.m3u8 linger=1s", "for servers"),
        ("write srt://host:9000 linger=1h", "at most a minute"),
        ("write http://host/x", "rtsp"),
    ] {
        let error = framerail::run(&format!("read '{}' ! {text}", clip(50).path().display())).expect_err(text).to_string();
        assert!(error.contains(words), "{text}: {error}");
    }
}

#[test]
fn a_playlist_that_grows_is_read_as_a_live_stream() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("cam.m3u8");
    let writer =
        start(&format!("read '{}' realtime=yes ! write '{}' playlist=event segment=1s", clip(150).path().display(), path.display()));
    wait_for(&writer, "two segments", |_| path.exists() && Playlist::of(&path).segments.len() > 1);
    // From the first segment to the end, which is written later.
    let found = numbers(&path, "live=yes drop=none latency=none options=live_start_index=0 on_error=end");
    let outcome = writer.wait();
    outcome.result.expect("written");
    assert_eq!(found.len() as u64, outcome.stats.counter("frames_written"), "each once");
    assert!(found.windows(2).all(|pair| pair[0] < pair[1]), "{found:?}");
}

/// Frame numbers received by a server, one list per connection.
fn received(folder: &Path) -> Vec<Vec<u64>> {
    let files = (0..).map(|number| folder.join(format!("{number}.h264"))).take_while(|path| path.exists());
    files.filter(|path| fs::metadata(path).is_ok_and(|found| found.len() > 0)).map(|path| numbers(&path, "")).collect()
}

fn push(clip: &Clip, port: u16, place: &str, options: &str) -> RunHandle {
    start(&format!("read '{}' realtime=yes ! write rtsp://127.0.0.1:{port}/{place} retry_wait=50ms {options}", clip.path().display()))
}

fn finish(handle: RunHandle) -> RunOutcome {
    assert!(handle.wait_for(PATIENCE), "the run hangs: {:?}", handle.stats());
    handle.wait()
}

#[test]
fn a_server_gets_what_is_pushed_to_it() {
    if !has_server() {
        return;
    }
    for (transport, place) in [("tcp", "in"), ("udp", "in"), ("tcp", "sound")] {
        let (port, folder) = (free_port(), tempfile::tempdir().expect("temporary folder"));
        let _server = Camera::recording(port, folder.path());
        let spec = ClipSpec::new(Codec::H264, Container::Mp4).frames(60);
        let clip = if place == "sound" { spec.audio(AudioCodec::Aac).make() } else { spec.make() };
        let outcome = finish(push(&clip, port, place, &format!("transport={transport} low_latency=yes")));
        outcome.result.expect("pushed");
        let stats = outcome.stats;
        assert_eq!(
            (stats.counter("frames_written"), stats.counter("frames_not_sent"), stats.counter("reconnects")),
            (60, 0, 0),
            "{transport}"
        );
        assert_eq!(stats.counter("packets_copied") > 80, place == "sound");
        let all = received(folder.path()).concat();
        // Over UDP packets may be lost at any time.
        assert!(all.len() >= 50 && all.windows(2).all(|pair| pair[0] < pair[1]), "{transport}: {all:?}");
        assert!(transport == "udp" || all == (0..60).collect::<Vec<_>>(), "from the first to the last: {all:?}");
    }
}

/// FFmpeg as the receiver of one connection; `None` if it lacks the protocol and may.
fn receiver(address: &str, path: &Path) -> Option<Child> {
    let scheme = address.split("://").next().expect("an address");
    let known = Command::new("ffmpeg").args(["-v", "error", "-protocols"]).output().expect("FFmpeg's program");
    let is_known = String::from_utf8_lossy(&known.stdout).lines().any(|line| line.trim() == scheme);
    if !framerail_testkit::require(&format!("ffmpeg-{scheme}"), is_known, "install an FFmpeg with this protocol") {
        return None;
    }
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-v", "error", "-y"]);
    if scheme == "rtmp" {
        command.args(["-listen", "1"]);
    }
    command.args(["-i", address, "-c", "copy"]).arg(path).stderr(Stdio::null());
    Some(command.spawn().expect("FFmpeg's program"))
}

#[test]
fn the_last_frames_arrive_before_a_connection_ends() {
    let clip = clip(60);
    // An SRT receiver holds frames back for its latency and discards them when the sender closes. Late packets are delivered here.
    for (scheme, own, theirs, end) in
        [("srt", "", "?mode=listener&latency=600000&tlpktdrop=0", "ts"), ("rtmp", "/live/x", "/live/x", "flv")]
    {
        let (port, folder) = (free_port(), tempfile::tempdir().expect("temporary folder"));
        let path = folder.path().join(format!("out.{end}"));
        let Some(mut receiver) = receiver(&format!("{scheme}://127.0.0.1:{port}{theirs}"), &path) else { continue };
        let address = format!("{scheme}://127.0.0.1:{port}{own}");
        let source = clip.path().display();
        let text = format!("read '{source}' realtime=yes ! write {address} when_full=wait retry_wait=50ms retries=1000 low_latency=yes");
        let outcome = finish(start(&text));
        outcome.result.expect("pushed");
        receiver.wait().expect("it ends with the connection");
        assert_eq!(outcome.stats.counter("frames_written"), 60);
        check_account(&outcome.stats);
        assert_eq!(numbers(&path, ""), (0..60).collect::<Vec<u64>>(), "{scheme}");
    }
}

#[test]
fn datagrams_hold_whole_packets_of_mpeg_ts() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("set");
    let port = socket.local_addr().expect("bound").port();
    let clip = clip(60);
    let handle = start(&format!("read '{}' realtime=yes ! write udp://127.0.0.1:{port} low_latency=yes", clip.path().display()));
    let (mut bytes, mut datagram) = (Vec::new(), [0; 65536]);
    loop {
        match socket.recv(&mut datagram) {
            Ok(size) => {
                assert_eq!((size % 188, datagram[0]), (0, 0x47), "{size} bytes");
                bytes.extend_from_slice(&datagram[..size]);
            }
            // Nothing more is under way once the run has ended.
            Err(_) if handle.wait_for(Duration::ZERO) => break,
            Err(_) => {}
        }
    }
    finish(handle).result.expect("pushed");
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("out.ts");
    fs::write(&path, bytes).expect("written");
    assert_eq!(numbers(&path, ""), (0..60).collect::<Vec<u64>>());
}

/// Frames that were not sent are counted once in their stream.
fn check_account(stats: &RunStats) {
    let (written, lost) = (stats.counter("frames_written"), stats.counter("frames_not_sent"));
    let stream = stats.stream(0).expect("listed");
    assert_eq!(stream.drops.get("write: not sent").copied().unwrap_or(0), lost, "{stream:?}");
    assert_eq!((stream.frames_delivered, stream.frames_read), (written, written + stream.frames_dropped), "{stream:?}");
    assert_eq!(stats.table().contains("dropped (write: not sent)"), lost > 0);
}

#[test]
fn frames_that_were_not_sent_are_drops_of_their_stream() {
    let clip = clip(120);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let server = std::thread::spawn(move || {
        // The first connection breaks, the second receives everything.
        let mut bytes = Vec::new();
        let (first, _) = listener.accept().expect("a connection");
        first.take(20_000).read_to_end(&mut bytes).expect("readable");
        let (mut second, _) = listener.accept().expect("another");
        second.read_to_end(&mut bytes).expect("readable");
    });
    let text = format!("read '{}' ! write tcp://127.0.0.1:{port} retry_wait=50ms gop=20 buffer=10", clip.path().display());
    let outcome = finish(start(&text));
    outcome.result.expect("a lost server is no failure");
    server.join().expect("two connections");
    let stats = outcome.stats;
    assert!(stats.counter("frames_not_sent") > 0 && stats.counter("reconnects") == 1, "{stats:?}");
    assert_eq!(stats.counter("frames_written") + stats.counter("frames_not_sent"), 120);
    check_account(&stats);
}

#[test]
fn a_push_that_fails_accounts_for_what_it_was_given() {
    let clip = clip(60);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    let server = std::thread::spawn(move || {
        let (first, _) = listener.accept().expect("a connection");
        first.take(10_000).read_to_end(&mut Vec::new()).expect("readable");
    });
    let outcome = finish(start(&format!("read '{}' ! write tcp://127.0.0.1:{port} on_loss=fail", clip.path().display())));
    assert!(outcome.result.is_err());
    server.join().expect("a connection");
    let stats = outcome.stats;
    let came = stats.stage("write").expect("there").frames_in;
    let (written, lost) = (stats.counter("frames_written"), stats.counter("frames_not_sent"));
    // The frame at which it failed may not have reached the encoder.
    assert!(lost > 0 && (came - 1..=came).contains(&(written + lost)), "{came} came, {written} were sent, {lost} were not");
}

#[test]
fn a_server_that_is_killed_is_reached_again() {
    if !has_server() {
        return;
    }
    let (port, folder) = (free_port(), tempfile::tempdir().expect("temporary folder"));
    let server = Camera::recording(port, folder.path());
    // A minute: a server may take seconds to start.
    let clip = clip(1500);
    let handle = push(&clip, port, "in", "buffer=20");
    wait_for(&handle, "frames", |stats| stats.counter("frames_written") > 20);
    drop(server);
    wait_for(&handle, "the loss of a frame", |stats| stats.counter("frames_not_sent") > 0);
    let _server = Camera::recording(port, folder.path());
    let back = wait_for(&handle, "the server's return", |stats| stats.counter("reconnects") > 0).counter("frames_written");
    wait_for(&handle, "frames after its return", |stats| stats.counter("frames_written") > back + 20);
    handle.stop();
    let outcome = finish(handle);
    outcome.result.expect("a lost server is no failure");
    let stats = outcome.stats;
    let (written, lost) = (stats.counter("frames_written"), stats.counter("frames_not_sent"));
    assert_eq!(written + lost, stats.stage("write").expect("there").frames_in, "each frame is accounted for");
    check_account(&stats);
    let connections = received(folder.path());
    assert!(connections.len() >= 2, "{connections:?}");
    let received = connections.concat();
    assert!(received.windows(2).all(|pair| pair[0] < pair[1]), "{connections:?}");
    assert!(received.last().is_some_and(|last| *last > back), "what followed its return: {connections:?}");
    let notices = &stats.stage("write").expect("there").notices;
    assert!(notices.iter().any(|notice| notice.contains("trying again")), "{notices:?}");
}

#[test]
fn a_missing_server_ends_as_configured() {
    let port = free_port();
    let clip = clip(50);
    for (options, words) in [("on_loss=fail", "on_loss=retry"), ("retries=1", "rtsp://127.0.0.1"), ("", "was never reached")] {
        let error = finish(push(&clip, port, "in", options)).result.expect_err("nobody is there").to_string();
        assert!(error.contains(words) && error.contains(&port.to_string()), "{options}: {error}");
    }
    // A stopped run ends at once, although its buffer is full and the pipeline was waiting.
    let handle = push(&clip, port, "in", "when_full=wait buffer=5 retries=1000000");
    wait_for(&handle, "an attempt", |stats| stats.stage("write").is_some_and(|stage| !stage.notices.is_empty()));
    handle.stop();
    assert!(finish(handle).result.is_err(), "nothing was sent");
}
