//! Frames, times, size, colour, audio and subtitles are preserved for every codec and container.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, OnceLock},
};

use framerail::pipeline::{ErrorKind, FrameItem, RunOptions, RunOutcome, RunStats, RunSwitch, Verdict};
use framerail_testkit::{
    AudioCodec, Clip, ClipSpec, Codec, Container, ProbedStream, SubtitleCodec, compare::stream_hashes, corpus, ffprobe_frames,
    ffprobe_stream, ffprobe_streams, read_frame_code,
};
use tempfile::TempDir;

/// A frame's number, as far as it can be read, and its time in seconds.
type Seen = (Option<u64>, f64);

/// Frames of a pipeline's source, in order of arrival.
struct Delivered {
    outcome: RunOutcome,
    numbers: Vec<Option<u64>>,
    secs: Vec<f64>,
}

/// Runs a pipeline and checks every frame that leaves its `read`.
fn deliver(text: &str) -> Delivered {
    deliver_and(text, |_, _| {})
}

/// The same; `each` also gets the number of frames so far, and a switch to stop the run with.
fn deliver_and(text: &str, each: impl Fn(usize, &RunSwitch) + Send + Sync + 'static) -> Delivered {
    let plan = framerail::plan(text).unwrap_or_else(|error| panic!("{text}\n{error}"));
    let mut planned = plan.into_graph().unwrap_or_else(|error| panic!("{text}\n{error}"));
    let read = planned.node("read").expect("a pipeline that reads").id;
    let edge = planned.edges_from(read).next().expect("a stage after read").id;
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let switch: Arc<OnceLock<RunSwitch>> = Arc::default();
    let (list, shared_switch) = (Arc::clone(&seen), Arc::clone(&switch));
    let look = move |item: &mut FrameItem| {
        let number = item.frame.surface.host().ok().and_then(read_frame_code).map(|code| code.number);
        let count = {
            let mut list = list.lock().expect("no probe panics");
            list.push((number, item.frame.seconds()));
            list.len()
        };
        each(count, shared_switch.wait());
        Verdict::Keep
    };
    planned.graph.probe(edge, Arc::new(look));
    let handle = planned.graph.start(RunOptions::default()).unwrap_or_else(|error| panic!("{text}\n{error}"));
    assert!(switch.set(handle.switch()).is_ok());
    let outcome = handle.wait();
    let (numbers, secs) = seen.lock().expect("no probe panics").iter().copied().unzip();
    Delivered { outcome, numbers, secs }
}

fn quoted(path: &Path) -> String {
    format!("'{}'", path.display())
}

fn spec_of(name: &str) -> ClipSpec {
    corpus().into_iter().find(|(clip, _)| *clip == name).unwrap_or_else(|| panic!("the corpus has no {name}")).1
}

fn expected_numbers(spec: &ClipSpec) -> Vec<Option<u64>> {
    spec.frame_numbers().into_iter().map(Some).collect()
}

/// Seconds after the first frame by ffprobe; by the description where the file has no timestamps.
fn reference_secs(clip: &Clip) -> Vec<f64> {
    let spec = clip.spec();
    let probed = if clip.path().is_dir() { Vec::new() } else { probed_secs(clip.path()) };
    if probed.len() == spec.frame_numbers().len() { probed } else { spec.relative_secs() }
}

fn probed_secs(path: &Path) -> Vec<f64> {
    let time_base = ffprobe_stream(path, "v:0").time_base;
    let pts: Vec<i64> = ffprobe_frames(path).iter().filter_map(|frame| frame.best_effort_pts).collect();
    pts.iter().map(|ticks| time_base.seconds(ticks - pts[0])).collect()
}

fn assert_secs(found: &[f64], wanted: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), wanted.len(), "{what}: number of frames");
    for (index, (found, wanted)) in found.iter().zip(wanted).enumerate() {
        assert!((found - wanted).abs() <= tolerance, "{what}: frame {index} at {found} s for {wanted} s");
    }
}

/// Fast settings that keep frame codes readable.
fn encoder(extension: &str) -> &'static str {
    match extension {
        "mkv" => "codec=ffv1",
        _ => "codec=libx264 preset=ultrafast",
    }
}

/// Half a tick of the coarser of the two time bases, and what rounding of the input's own ticks adds.
fn tolerance(extension: &str) -> f64 {
    // Matroska counts milliseconds.
    if extension == "mkv" { 1.01e-3 } else { 0.6e-3 }
}

/// Reads a corpus clip, writes it as `out.EXTENSION`, and checks every documented property of the result.
fn assert_kept(name: &str, extension: &str) -> RunStats {
    let spec = spec_of(name);
    let clip = spec.make();
    let folder = tempfile::tempdir().expect("temporary folder");
    let output = folder.path().join(format!("out.{extension}"));
    let what = format!("{name} to {extension}");
    let source = quoted(&clip.ffmpeg_input());
    let run = deliver(&format!("read {source} ! write {} {}", quoted(&output), encoder(extension)));
    run.outcome.result.as_ref().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(run.numbers, expected_numbers(&spec), "{what}: frames as read");
    let reference = reference_secs(&clip);
    let first = run.secs.first().copied().unwrap_or_default();
    let arrived: Vec<f64> = run.secs.iter().map(|secs| secs - first).collect();
    assert_secs(&arrived, &reference, 1.01e-3, &what);
    assert_secs(&probed_secs(&output), &reference, tolerance(extension), &what);
    assert_eq!(deliver(&format!("read {} ! null", quoted(&output))).numbers, expected_numbers(&spec), "{what}: frames as written");
    assert_eq!(run.outcome.stats.counter("frames_written"), spec.frame_numbers().len() as u64, "{what}");
    assert_eq!(files_in(folder.path()), [format!("out.{extension}")], "{what}: nothing but the output");
    if !clip.path().is_dir() {
        let (before, after) = (ffprobe_streams(clip.path()), ffprobe_streams(&output));
        assert_format_kept(video(&before), video(&after), &what);
        assert_eq!(before.len(), after.len(), "{what}: streams");
        if before.len() > 1 {
            assert_eq!(stream_hashes(clip.path(), "a"), stream_hashes(&output, "a"), "{what}: sound packets");
        }
    }
    run.outcome.stats
}

fn video(streams: &[ProbedStream]) -> &ProbedStream {
    streams.iter().find(|stream| stream.kind == "video").expect("a video stream")
}

/// Upright size, pixel shape and colour tags.
fn assert_format_kept(before: &ProbedStream, after: &ProbedStream, what: &str) {
    let turned = before.rotation_degrees % 180 != 0;
    let size = if turned { (before.height, before.width) } else { (before.width, before.height) };
    assert_eq!((after.width, after.height), size, "{what}");
    assert_eq!(after.rotation_degrees, 0, "{what}: frames are upright already");
    // Two names of one matrix (ITU-T H.273, values 5 and 6).
    let matrix = |name: &Option<String>| name.as_ref().map(|name| name.replace("bt470bg", "smpte170m"));
    let tags = [
        (&matrix(&before.color_matrix), &matrix(&after.color_matrix)),
        (&before.color_primaries, &after.color_primaries),
        (&before.color_transfer, &after.color_transfer),
    ];
    for (before, after) in tags {
        // RGB is stored as YUV where the encoder takes no RGB; the matrix is then the new one.
        assert!(before == after || before.is_none() || before.as_deref() == Some("gbr"), "{what}: {before:?} became {after:?}");
    }
    if !turned && let Some(shape) = before.sample_aspect_ratio {
        assert_eq!(after.sample_aspect_ratio.unwrap_or(shape), shape, "{what}");
    }
}

fn files_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("folder");
    let mut names: Vec<String> = entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn copied(clip: &Clip, folder: &TempDir, name: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::copy(clip.path(), &path).expect("copied");
    path
}

#[test]
fn every_codec_is_kept() {
    for name in ["h264", "h264-b-frames", "mpeg4-b-frames", "av1", "mjpeg", "prores"] {
        assert_kept(name, "mp4");
    }
    for name in ["hevc-b-frames", "vp8", "vp9", "mpeg2", "ffv1", "huffyuv", "rawvideo"] {
        assert_kept(name, "mkv");
    }
}

#[test]
fn images_and_gif_are_kept() {
    for name in ["gif", "png-images", "jpeg-images"] {
        assert_kept(name, "mp4");
    }
    assert_kept("png-palette", "mkv");
    assert_kept("gif-variable-rate", "mkv");
}

#[test]
fn pixel_formats_and_colors_are_kept() {
    for name in ["h264-10-bit", "h264-444", "h264-full-range", "h264-bt709", "hevc-bt2020-pq"] {
        assert_kept(name, "mp4");
    }
    for name in ["h264-gray", "hevc-rgb", "ffv1-gray-16-bit", "ffv1-yuv-alpha", "png-16-bit"] {
        assert_kept(name, "mkv");
    }
}

#[test]
fn times_are_kept() {
    for name in [
        "h264-ntsc-rate",
        "h264-low-rate",
        "h264-variable-rate",
        "h264-variable-rate-b-frames",
        "h264-start-offset",
        "h264-edit-list",
        "h264-one-frame",
    ] {
        assert_kept(name, "mp4");
    }
    for name in ["vp9-variable-rate", "mkv-start-offset", "ts-start-offset"] {
        assert_kept(name, "mkv");
    }
}

#[test]
fn odd_structures_are_kept() {
    for name in [
        "h264-rotated-90",
        "h264-rotated-180",
        "h264-rotated-270",
        "h264-wide-pixels",
        "h264-444-odd-size",
        "h264-tiny",
        "h264-interlaced",
        "mpeg2-interlaced",
        "h264-annexb-b-frames",
        "mp4-fragmented",
        "h264-avi",
    ] {
        assert_kept(name, "mp4");
    }
    for name in ["vp9-odd-size", "ffv1-odd-size", "vp9-ivf", "mkv-unseekable", "h264-ts"] {
        assert_kept(name, "mkv");
    }
}

#[test]
fn a_change_of_size_is_scaled_back_and_counted() {
    let stats = assert_kept("h264-size-change", "mkv");
    assert_eq!(stats.counter("frames_rescaled"), 12, "{:?}", stats.stages);
}

#[test]
fn audio_is_copied_bit_for_bit() {
    for (name, extension) in [("h264-aac", "mp4"), ("h264-two-tracks", "mp4"), ("h264-pcm", "mov"), ("vp9-opus", "mkv")] {
        let stats = assert_kept(name, extension);
        assert!(stats.counter("packets_copied") > 0, "{name}");
        assert_eq!(stats.counter("packets_skipped"), 0, "{name}");
    }
}

#[test]
fn two_audio_tracks_and_subtitles_survive() {
    let spec = |container, first, subtitles| {
        let spec = ClipSpec::new(Codec::H264, container).frames(50).audio(first).audio(AudioCodec::Mp3);
        spec.subtitles(subtitles).title("two tracks")
    };
    for (spec, extension) in [
        (spec(Container::Mp4, AudioCodec::Aac, SubtitleCodec::MovText), "mp4"),
        (spec(Container::Mkv, AudioCodec::Opus, SubtitleCodec::Srt), "mkv"),
    ] {
        let clip = spec.make();
        let folder = tempfile::tempdir().expect("temporary folder");
        let output = folder.path().join(format!("out.{extension}"));
        framerail::run(&format!("read {} ! write {} {}", quoted(clip.path()), quoted(&output), encoder(extension))).expect("written");
        for kind in ["a", "s"] {
            let hashes = stream_hashes(clip.path(), kind);
            assert_eq!(hashes.len(), if kind == "a" { 2 } else { 1 });
            assert_eq!(stream_hashes(&output, kind), hashes, "{extension} {kind}");
        }
        let described = |path: &Path| -> Vec<_> {
            let streams = ffprobe_streams(path).into_iter().filter(|stream| stream.kind != "video");
            streams.map(|stream| (stream.kind, stream.codec, stream.language)).collect()
        };
        assert_eq!(described(&output), described(clip.path()), "{extension}");
        assert_eq!(framerail_testkit::probe::ffprobe_tag(&output, "title").as_deref(), Some("two tracks"), "{extension}");
    }
}

#[test]
fn audio_false_leaves_audio_out() {
    let clip = spec_of("h264-aac").make();
    let folder = tempfile::tempdir().expect("temporary folder");
    let output = folder.path().join("out.mp4");
    framerail::run(&format!("read {} ! write {} preset=ultrafast sound=false", quoted(clip.path()), quoted(&output))).expect("written");
    assert_eq!(ffprobe_streams(&output).len(), 1);
}

#[test]
fn a_folder_of_clips_gives_a_file_for_each() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let outputs = tempfile::tempdir().expect("temporary folder");
    copied(&ClipSpec::default().frames(5).make(), &folder, "b.mp4");
    copied(&ClipSpec::new(Codec::Mpeg4, Container::Avi).frames(7).make(), &folder, "a 10.avi");
    copied(&ClipSpec::new(Codec::Ffv1, Container::Mkv).frames(3).make(), &folder, "a 9.mkv");
    fs::write(folder.path().join("notes.txt"), "no video").expect("written");
    let template = outputs.path().join("{name}.mp4");
    let run = deliver(&format!("read {} ! write {} preset=ultrafast", quoted(folder.path()), quoted(&template)));
    run.outcome.result.expect("written");
    let count = |count: u64| (0..count).map(Some);
    assert_eq!(run.numbers, count(3).chain(count(7)).chain(count(5)).collect::<Vec<_>>(), "in natural order");
    assert_eq!(files_in(outputs.path()), ["a 10.mp4", "a 9.mp4", "b.mp4"]);
    for (name, frames) in [("a 9.mp4", 3), ("a 10.mp4", 7), ("b.mp4", 5)] {
        assert_eq!(ffprobe_frames(&outputs.path().join(name)).len(), frames, "{name}");
    }
    assert_eq!(run.outcome.stats.counter("files_written"), 3);
}

#[test]
fn a_selection_holds_exactly_the_frames_asked_for() {
    // Frame n is at n/25 s; keyframes lie elsewhere.
    let clip = ClipSpec::default().frames(32).b_frames(2).gop(12).audio(AudioCodec::Aac).make();
    for (options, frames) in [("start=0.2 end=0.4", 5..10), ("start=0.68 duration=0.2", 17..22), ("start=1.0", 25..32), ("end=0.12", 0..3)]
    {
        let folder = tempfile::tempdir().expect("temporary folder");
        let output = folder.path().join("out.mp4");
        let run = deliver(&format!("read {} {options} ! write {} preset=ultrafast", quoted(clip.path()), quoted(&output)));
        run.outcome.result.expect("written");
        let wanted: Vec<Option<u64>> = frames.clone().map(Some).collect();
        assert_eq!(run.numbers, wanted, "{options}");
        assert_eq!(deliver(&format!("read {} ! null", quoted(&output))).numbers, wanted, "{options}");
        let reference: Vec<f64> = (0..wanted.len()).map(|frame| frame as f64 / 25.0).collect();
        assert_secs(&probed_secs(&output), &reference, 1e-4, options);
        let sound = ffprobe_stream(&output, "a:0").duration_secs.expect("stated");
        assert!((sound - wanted.len() as f64 / 25.0).abs() < 0.06, "{options}: {sound} s of sound for {} frames", wanted.len());
    }
}

#[test]
fn a_pattern_of_images_takes_the_requested_rate() {
    let clip = ClipSpec::new(Codec::Png, Container::Images).frames(8).make();
    let run = deliver(&format!("read {} fps=10 ! null", quoted(&clip.ffmpeg_input())));
    assert_eq!(run.numbers, expected_numbers(clip.spec()));
    assert!((run.secs[7] - run.secs[0] - 0.7).abs() < 1e-6, "{:?}", run.secs);
    let folder = deliver(&format!("read {} ! null", quoted(clip.path())));
    assert_eq!(folder.numbers, run.numbers, "the folder itself is a stream too");
}

/// A clip that cannot end before its 20th frame has passed.
fn long_clip() -> Clip {
    ClipSpec::default().size(64, 48).frames(50).repeats(200).make()
}

#[test]
fn a_run_that_is_stopped_completes_its_file() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let output = folder.path().join("out.mp4");
    let stop_at_20 = |count: usize, switch: &RunSwitch| {
        if count == 20 {
            switch.stop();
        }
    };
    let clip = long_clip();
    let run = deliver_and(&format!("read {} ! write {} preset=ultrafast", quoted(clip.path()), quoted(&output)), stop_at_20);
    run.outcome.result.expect("a stop is not a failure");
    assert!((20..10_000).contains(&run.numbers.len()), "{}", run.numbers.len());
    assert_eq!(run.numbers, (0..run.numbers.len() as u64).map(|number| Some(number % 50)).collect::<Vec<_>>());
    assert_eq!(files_in(folder.path()), ["out.mp4"]);
    assert_eq!(deliver(&format!("read {} ! null", quoted(&output))).numbers, run.numbers);
    assert_eq!(ffprobe_frames(&output).len(), run.numbers.len());
}

#[test]
fn a_run_that_is_aborted_leaves_nothing() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let output = folder.path().join("out.mp4");
    let abort_at_20 = |count: usize, switch: &RunSwitch| {
        if count == 20 {
            switch.abort();
        }
    };
    let clip = long_clip();
    let run = deliver_and(&format!("read {} ! write {} preset=ultrafast", quoted(clip.path()), quoted(&output)), abort_at_20);
    assert_eq!(run.outcome.result.expect_err("aborted").kind(), ErrorKind::Cancelled);
    assert!(run.numbers.len() < 10_000, "{}", run.numbers.len());
    assert_eq!(files_in(folder.path()), [""; 0]);
}

/// A cover image shows what a blur has hidden, so it is left out unless requested; audio after it keeps its place.
#[test]
fn cover_images_are_left_out_and_reported() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let clip = ClipSpec::default().audio(AudioCodec::Aac).make();
    let (cover, input) = (folder.path().join("cover.png"), folder.path().join("in.mp4"));
    let ffmpeg = |arguments: &[&str]| {
        let status = std::process::Command::new("ffmpeg").args(["-v", "error", "-y"]).args(arguments).status().expect("ffmpeg runs");
        assert!(status.success());
    };
    let text = |path: &Path| path.to_str().expect("Unicode").to_owned();
    ffmpeg(&["-f", "lavfi", "-i", "color=red:size=64x64", "-frames:v", "1", &text(&cover)]);
    // The cover precedes the audio, so leaving it out changes the audio's stream number.
    let maps = ["-map", "0:v", "-map", "1:v", "-map", "0:a", "-c", "copy", "-disposition:v:1", "attached_pic"];
    ffmpeg(&[&["-i", &text(clip.path()), "-i", &text(&cover)][..], &maps, &[&text(&input)]].concat());
    let run = |options: &str, name: &str| {
        let output = folder.path().join(name);
        let line = format!("read {} ! write {} {options}", quoted(&input), quoted(&output));
        (framerail::run(&line).unwrap_or_else(|error| panic!("{error}")).stats, output)
    };
    let (stats, output) = run("", "out.mp4");
    assert_eq!(stats.counter("cover_pictures_left_out"), 1);
    assert!(stats.stage("write").expect("named").notices.iter().any(|notice| notice.contains("pictures=yes")));
    assert_eq!(ffprobe_streams(&output).len(), 2);
    assert_eq!(stream_hashes(&output, "a"), stream_hashes(&input, "a"));
    let (_, kept) = run("pictures=yes", "kept.mp4");
    assert_eq!(ffprobe_streams(&kept).len(), 3);
    assert_eq!(stream_hashes(&kept, "a"), stream_hashes(&input, "a"));
}
