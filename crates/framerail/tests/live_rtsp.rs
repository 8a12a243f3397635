//! An RTSP camera that disconnects, returns and stalls. The server is GStreamer's, from Debian's packages.

mod live_support;
mod rtsp_support;

use std::time::UNIX_EPOCH;

use framerail::pipeline::{RunHandle, StreamState, StreamStats};
use framerail_testkit::{ffprobe_packets, free_port};
use live_support::{Seen, assert_in_step, flash_and_click, wait_for_stream};
use rtsp_support::{Camera, has_server};

/// Number, seconds on the stream's clock and on the wall's of every frame that left `read`.
fn start(text: &str) -> (RunHandle, Seen<(u64, f64, f64)>) {
    live_support::start(text, |item| {
        let arrival = item.arrival.expect("a live frame has its arrival");
        let wall = arrival.wall.duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        (item.frame.index, item.frame.seconds(), wall)
    })
}

#[test]
fn a_camera_that_stops_restarts_and_starves_is_one_stream() {
    if !has_server() {
        return;
    }
    let port = free_port();
    let mut camera = Camera::start(port);
    let text = format!("read rtsp://127.0.0.1:{port}/cam timeout=2s retry_wait=100ms ! null");
    let (handle, seen) = start(&text);
    wait_for_stream(&handle, "the first frames", |stream| stream.frames_delivered > 10);

    drop(camera);
    let gone = wait_for_stream(&handle, "the loss of the camera", |stream| stream.state == StreamState::Retrying);
    assert!(gone.last_error.is_some(), "{gone:?}");
    camera = Camera::start(port);
    wait_for_stream(&handle, "the camera's return", |stream| {
        stream.reconnects >= 1 && stream.frames_delivered > gone.frames_delivered + 10
    });

    camera.tell("starve");
    let silent = wait_for_stream(&handle, "the end of patience", |stream| {
        stream.last_error.as_ref().is_some_and(|error| error.contains("nothing arrived for 2 s"))
    });
    camera.tell("feed");
    wait_for_stream(&handle, "frames after the silence", |stream| {
        stream.reconnects >= 2 && stream.frames_delivered > silent.frames_delivered + 10
    });

    handle.stop();
    let outcome = handle.wait();
    outcome.result.expect("a stop is not a failure");
    let stream = outcome.stats.stream(0).expect("listed").clone();
    assert_eq!(stream.frames_read, stream.frames_delivered + stream.frames_dropped, "{stream:?}");
    let seen = seen.lock();
    assert_eq!(seen.len() as u64, stream.frames_delivered);
    let in_order = |pair: &[(u64, f64, f64)]| pair[0].0 < pair[1].0 && pair[0].1 < pair[1].1 && pair[0].2 <= pair[1].2;
    assert!(seen.windows(2).all(in_order), "over three connections: {seen:?}");
    // Both gaps are as long on the stream's clock as in wall-clock time, except for buffered frames.
    let (first, last) = (seen[0], seen[seen.len() - 1]);
    let (on_clock, on_wall) = (last.1 - first.1, last.2 - first.2);
    assert!((on_clock - on_wall).abs() < 5.0, "{on_clock} s and {on_wall} s");
}

#[test]
fn a_camera_that_drops_its_connection_twenty_times_stays_in_step_with_its_audio() {
    if !has_server() {
        return;
    }
    let (port, folder) = (free_port(), tempfile::tempdir().expect("temporary folder"));
    let clip = flash_and_click(&folder.path().join("clip.mkv"), 30.0, &["-ar", "8000", "-c:a", "pcm_alaw"]);
    let mut camera = Camera::playing(port, &clip);
    let outputs = ["out.mkv", "out.mov", "out.avi", "out.mp4"].map(|name| folder.path().join(name));
    let writes: String = outputs.iter().map(|path| format!("( write '{}' ) ", path.display())).collect();
    let (handle, _) = start(&format!("read rtsp://127.0.0.1:{port}/clip timeout=5s retry_wait=1ms drop=none latency=none ! tee {writes}"));
    let mut delivered = 0;
    for round in 0..=20 {
        let is_there = |stream: &StreamStats| stream.reconnects >= round && stream.frames_delivered > delivered + 8;
        delivered = wait_for_stream(&handle, "frames", is_there).frames_delivered;
        if round < 20 {
            camera.tell("drop");
        }
    }
    handle.stop();
    let outcome = handle.wait();
    outcome.result.expect("a stop is not a failure");
    let stream = outcome.stats.stream(0).expect("listed");
    let frames = stream.frames_delivered;
    assert_eq!(outcome.stats.counter("frames_written"), frames * outputs.len() as u64);
    for path in &outputs {
        // AVI repeats frames that last for longer than one.
        let written = ffprobe_packets(path, "v:0").iter().filter(|packet| packet.size_bytes > 0).count() as u64;
        assert_eq!(written, frames, "{}", path.display());
        assert_in_step(path, 15, stream.reconnects as usize);
    }
}

#[test]
fn a_camera_may_be_late_and_be_joined_in_the_middle() {
    if !has_server() {
        return;
    }
    let port = free_port();
    // The server does not exist yet: the run waits for the camera. A second viewer joins during the first one's run.
    let url = format!("rtsp://127.0.0.1:{port}/cam");
    let (first, _) = start(&format!("read {url} retry_wait=100ms ! null"));
    wait_for_stream(&first, "an attempt", |stream| stream.last_error.is_some());
    let _camera = Camera::start(port);
    wait_for_stream(&first, "the camera", |stream| stream.frames_delivered > 5);
    for transport in ["tcp", "udp"] {
        let (second, _) = start(&format!("read {url} retry_wait=100ms transport={transport} ! null"));
        wait_for_stream(&second, transport, |stream| stream.frames_delivered > 30);
        second.stop();
        let outcome = second.wait();
        outcome.result.expect("a stop is not a failure");
        let errors = outcome.stats.counter("decode_errors");
        assert_eq!(errors, 0, "{transport}: decoding begins at a keyframe");
    }
    first.stop();
    first.wait().result.expect("a stop is not a failure");
}

#[test]
fn a_missing_camera_ends_as_configured() {
    let url = format!("rtsp://127.0.0.1:{}/cam", free_port());
    for rest in ["on_error=fail", "on_error=end", "retries=2 retry_wait=1ms"] {
        let error = framerail::run(&format!("read {url} {rest} ! null")).expect_err("nobody is there");
        assert!(error.to_string().contains(&url), "{rest}: {error}");
    }
}

#[test]
fn stages_that_hold_change_and_record_go_on_over_a_lost_camera() {
    if !has_server() {
        return;
    }
    let (port, folder) = (free_port(), tempfile::tempdir().expect("temporary folder"));
    let camera = Camera::start(port);
    let out = folder.path().display();
    let text = format!(
        "read rtsp://127.0.0.1:{port}/cam timeout=2s retry_wait=100ms drop=none latency=none ! tee ( mosaic size=320x240 ! null name=wall ) \
         ( motion every=1s ! text '{{name}} {{pts}}' ! null name=seen ) \
         ( flip horizontal ! scale 80x60 ! pad 100x80 ! write '{out}/small.mkv' ) \
         ( record '{out}/clip-{{index}}.mkv' on=call before=1s after=1s )"
    );
    let (handle, _) = start(&text);
    let mut delivered = 0;
    let mut cameras = vec![camera];
    for call in [1.0, 2.0] {
        let wanted = delivered + 40;
        delivered = wait_for_stream(&handle, "frames", |stream| stream.frames_delivered > wanted).frames_delivered;
        handle.switch().set_setting("record", "trigger", call).expect("triggered");
        // The post-roll, before the camera is lost.
        let wanted = delivered + 40;
        delivered = wait_for_stream(&handle, "the post-roll", |stream| stream.frames_delivered > wanted).frames_delivered;
        cameras.clear();
        cameras.push(Camera::start(port));
    }
    wait_for_stream(&handle, "the camera's return", |stream| stream.reconnects >= 2 && stream.frames_delivered > delivered + 10);
    handle.stop();
    let outcome = handle.wait();
    outcome.result.expect("a stop is not a failure");
    let stats = &outcome.stats;
    let frames = stats.stream(0).expect("listed").frames_delivered;
    assert_eq!((stats.counter("frames_written"), stats.counter("frames_passed") > 0), (frames, true));
    assert_eq!(ffprobe_packets(&folder.path().join("small.mkv"), "v:0").len() as u64, frames);
    assert_eq!((stats.counter("events"), stats.counter("clips_written")), (2, 2));
    for clip in 1..=2 {
        // A second before and after the event, from the keyframe before.
        let packets = ffprobe_packets(&folder.path().join(format!("clip-{clip}.mkv")), "v:0");
        assert!(packets.len() >= 45 && packets[0].is_keyframe, "{} packets", packets.len());
    }
}
