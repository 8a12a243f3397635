//! Several sources in one pipeline: concurrent reading gives the same results as sequential.

mod stages_support;

use std::{
    fs,
    path::{Path, PathBuf},
};

use framerail::pipeline::{ErrorKind, RunStats, StreamState};
use framerail_testkit::{ClipSpec, damage};
use stages_support::files;
use tempfile::TempDir;

/// Clips of different lengths, rates and sizes, which carry their frame numbers.
fn clips() -> TempDir {
    let folder = tempfile::tempdir().expect("temporary folder");
    let specs = [
        ("a", ClipSpec::default().frames(40)),
        ("b", ClipSpec::default().frames(7).size(96, 64)),
        ("c", ClipSpec::default().frames(25).frame_rate(10, 1)),
        ("d", ClipSpec::default().frames(33).gop(5).b_frames(2)),
    ];
    for (name, spec) in specs {
        fs::copy(spec.make().path(), folder.path().join(format!("{name}.mp4"))).expect("copied");
    }
    folder
}

/// Runs a pipeline on clips; `@` stands for a new folder, whose files are given by name.
fn outputs(clips: &Path, options: &str, rest: &str) -> (Vec<(String, Vec<u8>)>, RunStats) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let text = format!("read {} {options} ! {}", clips.display(), rest.replace('@', &folder.path().display().to_string()));
    let stats = framerail::run(&text).unwrap_or_else(|error| panic!("{text}\n{error}")).stats;
    let read = |name: String| {
        let bytes = fs::read(folder.path().join(&name)).expect("readable");
        (name, bytes)
    };
    (files(folder.path()).into_iter().map(read).collect(), stats)
}

#[test]
fn side_by_side_is_as_one_after_another() {
    let clips = clips();
    for rest in [
        "sample every=3 start=2 ! frames '@/{name}-{index:04}.png'",
        "sample fps=7 ! frames '@/{name}-{index:04}.png'",
        "frames '@/{name}-{index:04}.png' every=4",
        "frames '@/{stream}-{index:04}.png' workers=3",
        "tee ( sample every=2 ! write '@/{name}.avi' codec=ffv1 ) ( frames '@/{stream}-{index:04}.png' every=10 )",
    ] {
        let (expected, _) = outputs(clips.path(), "", rest);
        for options in ["streams=all", "streams=2", "streams=all buffer=1 threads=1"] {
            let (found, stats) = outputs(clips.path(), options, rest);
            let names = |outputs: &[(String, Vec<u8>)]| outputs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
            assert_eq!(names(&found), names(&expected), "{options}: {rest}");
            assert!(found == expected, "{options}: {rest}: other bytes");
            let read: Vec<u64> = stats.streams.iter().map(|stream| stream.frames_read).collect();
            assert_eq!(read, [40, 7, 25, 33]);
            assert!(stats.streams.iter().all(|stream| stream.state == StreamState::Ended && stream.frames_dropped == 0));
        }
    }
}

#[test]
fn files_opened_ahead_give_what_each_gives_alone() {
    let clips = clips();
    fs::copy(damage::wreck_packets(&clips.path().join("a.mp4"), &[20]), clips.path().join("e.mp4")).expect("copied");
    let rest = "frames '@/{name}-{index:04}.png' every=2";
    let mut expected = Vec::new();
    let (mut repaired, mut lost) = (0, 0);
    for name in ["a", "b", "c", "d", "e"] {
        let (found, stats) = outputs(&clips.path().join(format!("{name}.mp4")), "threads=1", rest);
        expected.extend(found);
        repaired += stats.counter("frames_repaired");
        lost += stats.counter("frames_lost");
    }
    expected.sort();
    for options in ["", "threads=2", "threads=7", "threads=3 memory=1", "streams=1 threads=4 memory=3"] {
        let (found, stats) = outputs(clips.path(), options, rest);
        let names = |outputs: &[(String, Vec<u8>)]| outputs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&found), names(&expected), "{options}");
        // The output of FFmpeg's threads for damage varies between runs.
        let images = |outputs: &[(String, Vec<u8>)]| outputs.iter().filter(|(name, _)| !name.starts_with('e')).cloned().collect::<Vec<_>>();
        assert!(images(&found) == images(&expected), "{options}: other pictures");
        assert_eq!((stats.counter("frames_repaired"), stats.counter("frames_lost")), (repaired, lost), "{options}");
    }
}

#[test]
fn a_file_opened_ahead_fails_in_its_turn() {
    let clips = clips();
    fs::copy(damage::text_file("mp4"), clips.path().join("c.mp4")).expect("copied");
    let text = |options: &str| format!("read {} threads=8 {options} ! null", clips.path().display());
    let error = framerail::run(&text("")).expect_err("it cannot be opened");
    assert!(error.kind() == ErrorKind::Input && error.to_string().contains("c.mp4"), "{error}");
    let stats = framerail::run(&text("on_error=end")).expect("the others go on").stats;
    let read: Vec<u64> = stats.streams.iter().map(|stream| stream.frames_read).collect();
    assert_eq!((read, stats.counter("streams_failed")), (vec![40, 7, 0, 33], 1));
}

#[test]
fn one_bad_stream_ends_alone() {
    let clips = clips();
    fs::copy(damage::text_file("mp4"), clips.path().join("b.mp4")).expect("copied");
    let (found, stats) = outputs(clips.path(), "streams=all on_error=end", "write '@/{name}.avi' codec=ffv1");
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a.avi", "c.avi", "d.avi"]);
    let bad = stats.stream(1).expect("listed");
    assert_eq!((bad.name.as_str(), bad.state, stats.counter("streams_failed")), ("b", StreamState::Failed, 1));
    assert!(bad.last_error.as_ref().is_some_and(|error| error.contains("b.mp4")), "{bad:?}");
    let error = framerail::run(&format!("read {} streams=all ! null", clips.path().display())).expect_err("the default");
    assert!(error.kind() == ErrorKind::Input && error.to_string().contains("b.mp4"), "{error}");
}

#[test]
fn paced_files_are_stamped_and_accounted_for() {
    let clips = clips();
    let (found, stats) = outputs(clips.path(), "realtime=yes latency=none", "write '@/{name}.avi' codec=ffv1");
    assert_eq!(found.len(), 4);
    for stream in &stats.streams {
        assert_eq!(stream.frames_read, stream.frames_delivered + stream.frames_dropped, "{stream:?}");
        assert_eq!(stream.frames_late, 0, "there is no budget");
    }
    // The third has 25 frames at 10 frames/s: the last is due after 2.4 s.
    assert!(stats.wall_secs >= 2.4, "{}", stats.wall_secs);
}

#[test]
fn a_budget_that_cannot_be_kept_is_counted() {
    let clips = clips();
    let (_, stats) = outputs(clips.path(), "realtime=yes latency=0.000001 drop=none", "write '@/{name}.avi' codec=ffv1");
    for stream in &stats.streams {
        assert_eq!((stream.frames_late, stream.frames_dropped), (stream.frames_read, 0), "{stream:?}");
    }
    let (_, stats) = outputs(clips.path(), "realtime=yes latency=0.000001", "write '@/{name}.avi' codec=ffv1");
    for stream in &stats.streams {
        let dropped = stream.drops.get("read: over budget").copied().unwrap_or(0);
        assert_eq!(dropped + stream.frames_late, stream.frames_read, "{stream:?}");
    }
}

#[test]
fn streams_are_added_and_removed_while_it_runs() {
    let (clips, folder) = (clips(), tempfile::tempdir().expect("temporary folder"));
    let clip = |name: &str| -> PathBuf { clips.path().join(name) };
    let text = format!("read {} stay=yes ! write '{}/{{name}}.avi' codec=ffv1", clip("a.mp4").display(), folder.path().display());
    let graph = framerail::plan(&text).expect("valid").into_graph().expect("linked").graph;
    let handle = graph.start(framerail::pipeline::RunOptions::default()).expect("started");
    let control = handle.streams();
    let ended = |count: usize| {
        let began = std::time::Instant::now();
        while control.stats().iter().filter(|stream| stream.state == StreamState::Ended).count() < count {
            assert!(began.elapsed().as_secs() < 60, "{:?}", control.stats());
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    };
    for name in ["b.mp4", "a.mp4"] {
        control.add_source(&clip(name).display().to_string()).expect("taken");
    }
    ended(3);
    let gone = control.add_source(&clip("none.mp4").display().to_string()).expect_err("not there");
    assert!(gone.kind == ErrorKind::Input && gone.message.contains("none.mp4"), "{gone}");
    assert_eq!(control.add_source("-").expect_err("one reader only").kind, ErrorKind::Usage);
    handle.stop();
    handle.wait().result.expect("no failure");
    assert_eq!(files(folder.path()), ["a-2.avi", "a.avi", "b.avi"]);
}

#[test]
fn contradictions_are_reported() {
    let error = framerail::run("read in.mp4 on_error=end retries=3 ! null").expect_err("nothing is retried");
    assert!(error.kind() == ErrorKind::Usage && error.to_string().contains("retries"), "{error}");
}
