//! `framerail blur-faces`, from file to file.

mod common;

use std::{fs, path::Path};

use common::{Place, SMALL, carphone, has_browser, names, wait_until};
use framerail_core::PixelFormat;
use framerail_testkit::{
    AudioCodec, ClipSpec, FacesSpec, clip::Content, difference, faces_clip, ffprobe_packets, ffprobe_stream, reference_planes,
    stream_hashes,
};
use serde_json::Value;

fn frame_count(path: &Path) -> usize {
    ffprobe_packets(path, "v:0").len()
}

#[test]
fn frames_times_size_and_audio_are_those_of_the_input() {
    let ticks: Vec<i64> = (0..24).map(|frame| frame * 40 + (frame % 3) * 7).collect();
    let faces = ClipSpec::default().size(320, 182).frames(24).content(Content::Faces(FacesSpec::crossing(&[])));
    let clip = faces.pts(1, 1000, &ticks).audio(AudioCodec::Aac).make();
    let place = Place::new();
    place.framerail().arg("blur-faces").arg(clip.path()).args(["-o", "out.mp4"]).args(SMALL).run().assert_success();
    let out = place.path("out.mp4");
    let (before, after) = (ffprobe_stream(clip.path(), "v:0"), ffprobe_stream(&out, "v:0"));
    assert_eq!((after.width, after.height), (before.width, before.height));
    let seconds = |path: &Path| {
        let base = ffprobe_stream(path, "v:0").time_base;
        let mut pts: Vec<i64> = ffprobe_packets(path, "v:0").iter().filter_map(|packet| packet.pts).collect();
        pts.sort_unstable();
        pts.iter().map(|pts| (base.seconds(*pts) * 1e6).round() as i64).collect::<Vec<_>>()
    };
    assert_eq!(seconds(&out), seconds(clip.path()));
    assert_eq!(stream_hashes(&out, "a"), stream_hashes(clip.path(), "a"));
    assert_eq!(stream_hashes(&out, "a").len(), 1);
}

#[test]
fn the_face_is_covered_and_the_records_are_written() {
    let clip = faces_clip(&FacesSpec::crossing(&[5, 6]), 12);
    let place = Place::new();
    let records = ["--contact-sheet", "sheet.png", "--stats", "stats.json", "--graph", "graph.svg"];
    let output = place.framerail().arg("blur-faces").arg(clip.path()).args(["-o", "out.mp4", "--scale", "320x192"]).args(records).run();
    output.assert_success().assert_stderr_contains("12 frames").assert_stderr_contains("filled in");
    assert_eq!(place.names(), ["graph.svg", "out.mp4", "sheet.png", "stats.json"]);
    let sheet = fs::read(place.path("sheet.png")).expect("written");
    assert!(sheet.starts_with(b"\x89PNG") && sheet.len() > 10_000, "{} bytes", sheet.len());
    let stats: Value = serde_json::from_slice(&fs::read(place.path("stats.json")).expect("written")).expect("JSON");
    assert_eq!(stats["stages"].as_array().map(Vec::len), Some(5));
    let [before, after] = [clip.path(), &place.path("out.mp4")].map(|path| reference_planes(path, PixelFormat::Gray8).collect::<Vec<_>>());
    let face = FacesSpec::crossing(&[]).boxes(2)[0];
    let spread = |surface: &framerail_core::HostSurface| {
        let row = surface.row(0, face.center().y as usize);
        let inside = &row[face.x1 as usize + 4..face.x2 as usize - 4];
        inside.windows(2).map(|pair| u64::from(pair[0].abs_diff(pair[1]))).sum::<u64>()
    };
    assert!(spread(&after[2]) * 4 < spread(&before[2]), "{} of {}", spread(&after[2]), spread(&before[2]));
}

#[test]
fn none_leaves_frames_as_they_are() {
    let place = Place::new();
    let options = ["--replacewith", "none", "--codec", "libx264", "--encoder-options", "qp=0", "-q"];
    place
        .framerail()
        .arg("blur-faces")
        .arg(carphone())
        .args(["-o", "out.mp4", "--duration", "0.2"])
        .args(options)
        .args(SMALL)
        .run()
        .assert_success();
    let [before, after] =
        [carphone(), place.path("out.mp4")].map(|path| reference_planes(&path, PixelFormat::Gray8).next().expect("a frame"));
    assert_eq!(difference(&before, &after).max, 0.0);
}

#[test]
fn inputs_of_one_name_get_outputs_of_their_own() {
    let place = Place::new();
    let clip = ClipSpec::default().make();
    for name in ["a/x.mp4", "b/x.mp4"] {
        place.copy(clip.path(), name);
    }
    place.write("a/notes.txt", "no video");
    place.write("b/broken.mp4", "no video either");
    let output = place.framerail().args(["blur-faces", "a", "b", "-o", "out", "--stats", "stats.json"]).args(SMALL).run();
    output.assert_code(3).assert_stderr_contains("2 of 3 done").assert_stderr_contains("another input has the same name");
    output.assert_stderr_contains("1 file is neither video nor image and was skipped: notes.txt").assert_stderr_contains("broken.mp4: ");
    assert_eq!(names(&place.path("out")), ["x_anonymized-2.mp4", "x_anonymized.mp4"]);
    let stats: Value = serde_json::from_slice(&fs::read(place.path("stats.json")).expect("written")).expect("JSON");
    assert_eq!(stats.as_array().map(Vec::len), Some(2));
}

#[test]
fn outputs_lie_beside_the_inputs_and_nothing_is_replaced_unasked() {
    let place = Place::new();
    place.copy(ClipSpec::default().make().path(), "in.mp4");
    let blur = |arguments: &[&str]| place.framerail().arg("blur-faces").args(SMALL).args(arguments).run();
    blur(&["in.mp4"]).assert_success();
    assert_eq!(place.names(), ["in.mp4", "in_anonymized.mp4"]);
    blur(&["in.mp4"]).assert_code(4).assert_stderr_contains("--overwrite");
    blur(&["in.mp4", "--overwrite"]).assert_success();
    blur(&["in.mp4", "-o", "in.mp4", "--overwrite"]).assert_code(4).assert_stderr_contains("same file");
    blur(&["in.mp4", "in_anonymized.mp4", "-o", "one.mp4"]).assert_code(2).assert_stderr_contains("name a folder");
    assert_eq!(place.names(), ["in.mp4", "in_anonymized.mp4"]);
    assert_eq!(frame_count(&place.path("in.mp4")), 16);
}

#[test]
fn a_folder_is_covered_again_for_what_is_new() {
    let place = Place::new();
    let clip = ClipSpec::default().frames(4).make();
    place.copy(clip.path(), "clips/a.mp4");
    let blur = |arguments: &[&str]| place.framerail().args(["blur-faces", "clips/"]).args(SMALL).args(arguments).run();
    blur(&[]).assert_success();
    place.copy(clip.path(), "clips/b.mp4");
    place.copy(clip.path(), "clips/a_anonymized.unfinished.mp4");
    let first = fs::read(place.path("clips/a_anonymized.mp4")).expect("written");
    let output = blur(&["--skip-existing"]);
    output
        .assert_success()
        .assert_stderr_contains("2 of 4 files are outputs of an earlier run")
        .assert_stderr_contains("1 of 2 inputs already have");
    assert_eq!(names(&place.path("clips")), ["a.mp4", "a_anonymized.mp4", "a_anonymized.unfinished.mp4", "b.mp4", "b_anonymized.mp4"]);
    assert_eq!(fs::read(place.path("clips/a_anonymized.mp4")).expect("there"), first);
    // Without it, the new one is processed too and the others are refused.
    place.copy(clip.path(), "clips/c.mp4");
    blur(&[]).assert_code(4).assert_stderr_contains("1 of 3 done");
    blur(&["--skip-existing"]).assert_success();
    // If named explicitly, such a file is an input like any other.
    place.framerail().args(["blur-faces", "clips/a_anonymized.mp4"]).args(SMALL).run().assert_success();
}

#[test]
fn names_that_look_like_placeholders_are_names() {
    let place = Place::new();
    let clip = ClipSpec::default().frames(4).make();
    for name in ["c/0.mp4", "c/{stream}.mp4", "c/{name}.mp4"] {
        place.copy(clip.path(), name);
    }
    let output = place.framerail().args(["blur-faces", "c", "-o", "o", "--save", "boxes/", "--overwrite"]).args(SMALL).run();
    output.assert_success().assert_stderr_contains("3 of 3 done");
    assert_eq!(names(&place.path("o")), ["0_anonymized.mp4", "{name}_anonymized.mp4", "{stream}_anonymized.mp4"]);
    assert_eq!(names(&place.path("boxes")), ["0_anonymized.jsonl", "{name}_anonymized.jsonl", "{stream}_anonymized.jsonl"]);
}

#[test]
fn a_folder_of_reports_has_an_index() {
    let place = Place::new();
    let clip = ClipSpec::default().frames(4).make();
    place.copy(clip.path(), "clips/a & b.mp4");
    place.copy(clip.path(), "clips/c.mp4");
    let blur = || place.framerail().args(["blur-faces", "clips/", "--report", "reports/", "--skip-existing"]).args(SMALL).run();
    blur().assert_success();
    let index = || fs::read_to_string(place.path("reports/index.html")).expect("written");
    assert_eq!(names(&place.path("reports")), ["a & b_anonymized.html", "c_anonymized.html", "index.html"]);
    assert!(index().contains("href=\"a%20%26%20b_anonymized.html\">a &amp; b_anonymized.html<"), "{}", index());
    // Later ones are added.
    place.copy(clip.path(), "clips/d.mp4");
    blur().assert_success();
    assert_eq!(index().matches("<tr data-report=").count(), 3, "{}", index());
}

#[test]
fn a_stopped_run_keeps_the_older_file_and_says_so() {
    let place = Place::new();
    place.write("out.mp4", "an older complete file");
    let mut running = start_slow(&place);
    running.signal("INT");
    running.wait_for_stderr("finishing the output");
    running.wait().assert_code(130).assert_stderr_contains("out.mp4 is unchanged");
    assert_eq!(place.names(), ["out.mp4", "out.unfinished.mp4"]);
}

#[test]
fn images_become_images() {
    let place = Place::new();
    place.copy(&carphone(), "clip.mp4");
    let first = "read clip.mp4 duration=0.01 ! write photo.png";
    place.framerail().args(["run", "-q", first]).run().assert_success();
    let output = place.framerail().args(["blur-faces", "photo.png", "--replacewith", "mosaic"]).args(SMALL).run();
    output.assert_success().assert_stderr_contains("1 face in 1 frame");
    let png = fs::read(place.path("photo_anonymized.png")).expect("written");
    assert_eq!(png.get(1..4), Some(b"PNG".as_slice()));
}

#[test]
fn a_pattern_of_images_is_taken_as_single_images() {
    let place = Place::new();
    place.copy(&carphone(), "clip.mp4");
    for name in ["a.jpg", "b.jpg"] {
        place.framerail().args(["run", "-q", &format!("read clip.mp4 duration=0.01 ! write {name}")]).run().assert_success();
    }
    place.framerail().args(["blur-faces", "*.jpg", "--save", "boxes.jsonl"]).args(SMALL).run().assert_success();
    let expected =
        ["a.jpg", "a_anonymized.jpg", "b.jpg", "b_anonymized.jpg", "boxes-a_anonymized.jsonl", "boxes-b_anonymized.jsonl", "clip.mp4"];
    assert_eq!(place.names(), expected);
}

#[test]
fn ctrl_c_completes_the_file() {
    let place = Place::new();
    // Large inputs for the model make the run last for seconds.
    let mut running = start_slow(&place);
    running.signal("INT");
    running.wait_for_stderr("finishing the output");
    let output = running.wait();
    output.assert_code(130).assert_stderr_contains("out.mp4 is complete up to that point");
    assert_eq!(place.names(), ["out.mp4"]);
    let frames = frame_count(&place.path("out.mp4"));
    assert!((1..120).contains(&frames), "{frames} frames");
}

#[test]
fn a_second_ctrl_c_leaves_nothing() {
    let place = Place::new();
    let mut running = start_slow(&place);
    running.signal("INT");
    running.wait_for_stderr("finishing the output");
    running.signal("INT");
    let output = running.wait();
    output.assert_code(130).assert_stderr_contains("aborted");
    assert!(place.names().is_empty(), "{:?}", place.names());
}

/// Starts a run and waits until it has begun to write.
fn start_slow(place: &Place) -> framerail_testkit::cli::RunningCli {
    let blur = place.framerail().arg("blur-faces").arg(carphone()).args(["-o", "out.mp4", "--scale", "1280x1024", "--overwrite"]);
    let running = blur.start();
    // A file of another name appears when the first frame arrives there.
    wait_until(|| place.names().iter().any(|name| name.starts_with(".out.partial-")));
    running
}

#[test]
fn options_become_a_pipeline() {
    let place = Place::new();
    let print = |arguments: &[&str]| {
        let output = place.framerail().args(["blur-faces", "in.mp4", "-o", "out.mp4", "--print-pipeline"]).args(arguments).run();
        output.assert_success();
        output.stdout.trim_end().to_owned()
    };
    let plain =
        "read in.mp4 ! infer centerface confidence=0.12 ! hold start=0.2 ! blur kind=gaussian shape=ellipse mask_scale=1.3 ! write out.mp4";
    assert_eq!(print(&[]), format!("{plain} keep_tags=no_location"));
    assert_eq!(print(&["--strip-tags"]), format!("{plain} keep_tags=no"));
    assert_eq!(print(&["--keep-audio", "-m", "--backend", "onnxrt"]), plain);
    let all = print(&["-t", "0.3", "-s", "640x360", "--boxes", "--mask-scale", "1.5", "--no-audio", "--detect-every", "3", "--crf", "20"]);
    let expected = "read in.mp4 ! infer centerface confidence=0.18 size=640x360 every=3 ! hold start=0.3 ! \
                    blur kind=gaussian shape=rectangle mask_scale=1.5 ! write out.mp4 crf=20 keep_tags=no_location audio=no";
    assert_eq!(all, expected);
    let contour = print(&["--contour-model", "skin", "--replacewith", "mosaic"]);
    let expected = "read in.mp4 ! infer centerface confidence=0.12 ! hold start=0.2 ! crop margin=0.25 square=yes ! infer skin ! \
                    blur kind=mosaic cell=20 shape=contour ! write out.mp4 keep_tags=no_location";
    assert_eq!(contour, expected);
    assert!(
        print(&["--shape", "contour", "--mask-scale", "1.2"]).contains(
            "! hold start=0.2 ! crop margin=0.25 square=yes ! infer face-mesh ! blur kind=gaussian shape=contour mask_scale=1.2 !"
        )
    );
    let mosaic = print(&["--replacewith", "mosaic", "--mosaicsize", "30", "--ffmpeg-config", r#"{"codec": "libx265", "crf": 28}"#]);
    assert!(
        mosaic.contains("blur kind=mosaic cell=30 shape=rectangle") && mosaic.contains("write out.mp4 codec=libx265 crf=28"),
        "{mosaic}"
    );
}

#[test]
fn what_is_not_there_yet_is_reported() {
    let place = Place::new();
    let refused = |arguments: &[&str], words: &str| {
        place.framerail().arg("blur-faces").args(arguments).run().assert_code(2).assert_stderr_contains(words);
    };
    refused(&["cam"], "cameras are not supported");
    refused(&["in.mp4", "--preview"], "--contact-sheet");
    refused(&["in.mp4", "--backend", "opencv"], "ONNX Runtime only");
    refused(&["in.mp4", "--ep", "OpenVINOExecutionProvider"], "CPUExecutionProvider or CUDAExecutionProvider");
    refused(&["in.mp4", "-t", "2"], "0 to 1");
    refused(&["in.mp4", "--scale", "640"], "640x360");
    refused(&["in.mp4", "--contour-model", "skin", "--boxes"], "--shape contour");
    refused(&["in.mp4", "--mask-scale", "99"], "it must be from 0.6 to 10");
    place.framerail().args(["blur-faces", "in.mp4"]).run().assert_code(3).assert_stderr_contains("in.mp4: no such file");
}

#[test]
fn fixed_areas_are_covered_or_left_visible() {
    let clip = faces_clip(&FacesSpec::crossing(&[]), 6);
    let place = Place::new();
    let areas = ["--also-area", "0,0,16,16", "--except-area", "50%,0,50%,100%", "--replacewith", "solid"];
    let output = place.framerail().arg("blur-faces").arg(clip.path()).args(["-o", "out.mp4", "--crf", "10"]).args(SMALL).args(areas).run();
    output.assert_success();
    let after: Vec<_> = reference_planes(&place.path("out.mp4"), PixelFormat::Gray8).collect();
    assert!(after.iter().all(|frame| frame.row(0, 8)[8] < 24), "the corner is black");
    let before: Vec<_> = reference_planes(clip.path(), PixelFormat::Gray8).collect();
    let right = |frame: &framerail_core::HostSurface| frame.row(0, 40)[frame.width() as usize - 4];
    assert!(before.iter().zip(&after).all(|(before, after)| right(before).abs_diff(right(after)) < 24), "the right half stays");
    let wrong = place.framerail().arg("blur-faces").arg(clip.path()).args(["-o", "no.mp4", "--also-area", "1,2,3"]).run();
    wrong.assert_code(2).assert_stderr_contains("x1,y1,x2,y2");
    assert!(!place.path("no.mp4").exists());
}

/// The mean of a box in a frame.
fn mean(frame: &framerail_core::HostSurface, [x1, y1, x2, y2]: [usize; 4]) -> f64 {
    let rows = (y1..y2).map(|row| frame.row(0, row)[x1..x2].iter().map(|value| u64::from(*value)).sum::<u64>());
    rows.sum::<u64>() as f64 / ((x2 - x1) * (y2 - y1)) as f64
}

#[test]
fn what_is_decided_on_the_review_page_shows_in_the_second_run() {
    if !has_browser() {
        return;
    }
    let clip = faces_clip(&FacesSpec::crossing(&[]), 8);
    let place = Place::new();
    let blur = |arguments: &[&str]| place.framerail().arg("blur-faces").arg(clip.path()).args(arguments).run();
    let scale = ["--scale", "320x192"];
    blur(&["-o", "first.mp4", "--review", "pages/check.html", scale[0], scale[1]]).assert_success().assert_stderr_contains("check.html");
    assert_eq!(names(&place.path("pages")), ["check.detections.jsonl", "check.html"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/review.py");
    let page = place.path("pages/check.html");
    let mut python = std::process::Command::new("python3");
    let used = python.arg("-B").arg(script).arg(page).arg(place.path("")).args(["400", "200", "480", "280"]).output().expect("python3");
    assert!(used.status.success(), "{}{}", String::from_utf8_lossy(&used.stdout), String::from_utf8_lossy(&used.stderr));
    let second = ["-o", "second.mp4", "--corrections", "corrections.toml", "--replacewith", "solid", "--mask-scale", "1", "--crf", "8"];
    blur(&second).assert_success().assert_stderr_contains("8 removed").assert_stderr_contains("8 boxes added");
    let [before, after] =
        [clip.path(), &place.path("second.mp4")].map(|path| reference_planes(path, PixelFormat::Gray8).collect::<Vec<_>>());
    let face = FacesSpec::crossing(&[]).boxes(2)[0];
    let face = [face.x1 as usize, face.y1 as usize, face.x2 as usize, face.y2 as usize];
    let added = [410, 210, 470, 270];
    assert!((mean(&before[2], face) - mean(&after[2], face)).abs() < 4.0, "the removed face is visible");
    assert!(mean(&before[2], added) > 60.0 && mean(&after[2], added) < 24.0, "the added one is covered");
}

#[test]
fn corrections_that_do_not_fit_are_refused() {
    let place = Place::new();
    place.copy(ClipSpec::default().frames(4).make().path(), "in.mp4");
    let record = |seconds: f64| {
        let found = r#"{"label":"face","label_id":0,"score":0.9,"box":[1,1,9,9],"landmarks":[],"track_id":3,"origin":"detected"}"#;
        format!(r#"{{"stream":"in","frame":0,"seconds":{seconds},"detections":[{found}]}}"#)
    };
    place.write("boxes.jsonl", &record(0.0));
    let refused = |corrections: &str, code: i32, words: &str| {
        place.write("c.toml", corrections);
        let output = place.framerail().args(["blur-faces", "in.mp4", "-o", "out.mp4", "--corrections", "c.toml"]).run();
        output.assert_code(code).assert_stderr_contains(words);
        assert!(!place.path("out.mp4").exists(), "{words}");
    };
    refused("detections = \"boxes.jsonl\"", 3, "no record of the frame of in at 0.040 s");
    refused("detections = \"boxes.jsonl\"\n[[remove]]\ntrack = 4", 3, "there is no track 4");
    refused("detections = \"boxes.jsonl\"\nsize = [8, 8]", 3, "frames of 8x8");
    refused("detections = \"none.jsonl\"", 3, "none.jsonl");
    refused("", 3, "does not name the detections");
    refused("detections = \"boxes.jsonl\"\n[[add]]\nfirst = 0\nlast = 2\nboxes = []", 3, "[[add]] number 1: 'boxes' has no box");
    refused("detektions = \"boxes.jsonl\"", 3, "line 1");
    place.write("boxes.jsonl", "{}");
    refused("detections = \"boxes.jsonl\"", 3, "boxes.jsonl:1: not a record");
    place.copy(&place.path("in.mp4"), "b.mp4");
    let two = place.framerail().args(["blur-faces", "in.mp4", "b.mp4", "--corrections", "c.toml"]).run();
    two.assert_code(2).assert_stderr_contains("for one input");
}

#[test]
fn a_silhouette_is_covered_along_its_mask() {
    let place = Place::new();
    let output = place.framerail().arg("blur").arg(carphone()).args(["-o", "out.mp4", "--model", "person-mask", "--duration", "0.2"]).run();
    output.assert_success().assert_stderr_contains("persons in");
    let mesh =
        place.framerail().arg("blur-faces").arg(carphone()).args(["-o", "face.mp4", "--shape", "contour", "--duration", "0.2"]).run();
    mesh.assert_success();
    assert!(!mesh.stderr.contains("no contour"), "the face mesh finds the face");
}

#[test]
fn a_thorough_search_and_tiles_find_the_face_once() {
    let place = Place::new();
    let clip = faces_clip(&FacesSpec::crossing(&[]), 4);
    for option in ["--thorough", "--small"] {
        let blur =
            place.framerail().arg("blur-faces").arg(clip.path()).args(["-o", "out.mp4", "--overwrite", "--scale", "320x192", option]).run();
        blur.assert_success().assert_stderr_contains("4 faces in 4 frames");
    }
}

#[test]
fn voices_are_covered_in_their_ranges() {
    let clip = ClipSpec::default().frames(50).audio(AudioCodec::Aac).make();
    let place = Place::new();
    let blur = |voice: &str| {
        let run =
            place.framerail().arg("blur-faces").arg(clip.path()).args(["-o", "out.mp4", "--overwrite", "--voice", voice]).args(SMALL).run();
        run.assert_success().assert_stderr_contains("to cover parts of it");
    };
    let loudest = |from: usize, to: usize| {
        let samples = mono_samples(&place.path("out.mp4"));
        samples[from * 48..to * 48].iter().fold(0.0_f32, |loudest, sample| loudest.max(sample.abs()))
    };
    blur("mute@0.5-1,1.5-");
    assert!(loudest(100, 450) > 0.02, "before");
    assert!(loudest(560, 940) < 0.001 && loudest(1560, 1900) < 0.001, "silent: {} {}", loudest(560, 940), loudest(1560, 1900));
    assert!(loudest(1100, 1400) > 0.02, "between");
    blur("beep@500ms-1");
    assert!((0.15..0.25).contains(&loudest(560, 940)), "{}", loudest(560, 940));
    blur("mute");
    assert!(loudest(0, 1900) < 0.001);
    let refused = |voice: &str, words: &str| {
        let run = place.framerail().arg("blur-faces").arg(clip.path()).args(["-o", "no.mp4", "--voice", voice]).run();
        run.assert_code(2).assert_stderr_contains(words);
    };
    refused("hush", "mute or beep");
    refused("mute@5", "no hyphen");
    refused("mute@5-2", "ends before");
}

/// The audio of a file at 48 kHz.
fn mono_samples(path: &Path) -> Vec<f32> {
    let mut ffmpeg = std::process::Command::new("ffmpeg");
    let output =
        ffmpeg.args(["-v", "error", "-i"]).arg(path).args(["-ac", "1", "-ar", "48000", "-f", "f32le", "-"]).output().expect("ffmpeg");
    output.stdout.chunks_exact(4).filter_map(|bytes| Some(f32::from_le_bytes(bytes.try_into().ok()?))).collect()
}

#[test]
fn no_tag_that_names_a_person_is_left() {
    let place = Place::new();
    place.write("words.srt", "1\n00:00:00,000 --> 00:00:01,000\nANNA speaks\n");
    place.write("chapters.txt", ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=200\ntitle=ANNA enters\n");
    let tags = ["title=ANNA at home", "artist=ANNA", "location=+48.1+11.5/", "com.apple.quicktime.model=phone of ANNA"];
    for (name, subtitles) in [("in.mp4", "mov_text"), ("in.mov", "mov_text"), ("in.mkv", "srt")] {
        let mut command = std::process::Command::new("ffmpeg");
        command.current_dir(place.path(".")).args([
            "-v",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=s=96x64:d=0.2",
            "-f",
            "lavfi",
            "-i",
            "sine=d=0.2",
        ]);
        command.args(["-i", "words.srt", "-i", "chapters.txt", "-map", "0:v", "-map", "1:a", "-map", "2:s", "-map_chapters", "3"]);
        command.args(["-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac", "-c:s", subtitles, "-movflags", "use_metadata_tags"]);
        for tag in tags {
            command.args(["-metadata", tag]);
        }
        assert!(command.args(["-metadata:s:v", "handler_name=ANNA cam", name]).status().expect("ffmpeg").success());
        let out = format!("out-{name}");
        let options = ["--strip-tags", "--no-subtitles", "--scale", "64x64", "-o", &out];
        place.framerail().args(["blur-faces", name]).args(options).run().assert_success();
        let bytes = fs::read(place.path(&out)).expect("written");
        for word in ["ANNA", "+48.1", "phone"] {
            assert!(fs::read(place.path(name)).expect("made").windows(word.len()).any(|part| part == word.as_bytes()), "{name}: {word}");
            assert!(!bytes.windows(word.len()).any(|part| part == word.as_bytes()), "{out} holds {word}");
        }
        assert_eq!(stream_hashes(&place.path(&out), "a"), stream_hashes(&place.path(name), "a"), "{name}: audio is kept");
    }
}
