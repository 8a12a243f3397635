//! Pipelines on a GPU give the results of the CPU, and count what they copy.
//!
//! Without a GPU these tests report so on standard error and pass, unless `FRAMERAIL_REQUIRE_GPU` is set.

use std::{io::Write, path::Path, sync::Arc};

use framerail::{
    core::{Detection, HostSurface},
    cuda::device_count,
    devices::host_image,
    pipeline::{CopyKind, Description, DeviceChoice, FrameItem, RunOptions, RunStats, Verdict, check},
    presets::BlurFaces,
};
use framerail_testkit::{ClipSpec, Codec, Container, real_clip};
use parking_lot::Mutex;

/// Whether there is a GPU; prints a warning if not.
fn gpu_is_present(test: &str) -> bool {
    let reason = match device_count() {
        Ok(count) if count > 0 => return true,
        Ok(_) => "no GPU".to_owned(),
        Err(error) => error.to_string(),
    };
    report(&format!("GPU TESTS DID NOT RUN: {test}: {reason}"));
    assert!(std::env::var_os("FRAMERAIL_REQUIRE_GPU").is_none(), "FRAMERAIL_REQUIRE_GPU is set, and there is no GPU");
    false
}

/// Bypasses the test harness, which captures the output of passing tests.
fn report(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A frame as received by the last stage.
struct Seen {
    pts: i64,
    detections: Vec<Detection>,
    image: Option<HostSurface>,
}

/// Runs a pipeline; returns what its last stage received, with pixels on request.
fn run(text: &str, device: &str, with_thumbnails: bool) -> (Vec<Seen>, RunStats) {
    let choice: DeviceChoice = device.parse().expect("a device");
    let description = Description::parse(text).unwrap_or_else(|problem| panic!("{}", problem.render(false)));
    let mut plan = check(&description, &framerail::registry_for(choice)).unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    plan.link().unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    let mut planned = plan.into_graph().unwrap_or_else(|problems| panic!("{}", problems.render(false)));
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let keep = Arc::clone(&seen);
    let last = planned.edges.last().expect("an edge").id;
    planned.graph.probe(
        last,
        Arc::new(move |item: &mut FrameItem| {
            let image = with_thumbnails.then(|| host_image(&item.frame).expect("a picture"));
            keep.lock().push(Seen { pts: item.frame.pts.0, detections: item.detections.clone(), image });
            Verdict::Keep
        }),
    );
    let outcome = planned.graph.start(RunOptions::default()).expect("starts").wait();
    outcome.result.unwrap_or_else(|error| panic!("{text} on {device}: {error}"));
    let seen = std::mem::take(&mut *seen.lock());
    (seen, outcome.stats)
}

fn names(stats: &RunStats) -> Vec<&str> {
    stats.stages.iter().map(|stage| stage.name.as_str()).collect()
}

/// Share of samples that differ by more than a tolerance between two frames of one format.
fn differing(a: &HostSurface, b: &HostSurface, tolerance: u8) -> f64 {
    assert_eq!((a.format(), a.width(), a.height()), (b.format(), b.width(), b.height()));
    let (mut differing, mut all) = (0usize, 0usize);
    for plane in 0..a.format().planes() {
        for row in 0..a.layout(plane).rows {
            let pairs = a.row(plane, row).iter().zip(b.row(plane, row));
            differing += pairs.filter(|(a, b)| a.abs_diff(**b) > tolerance).count();
            all += a.row(plane, row).len();
        }
    }
    differing as f64 / all.max(1) as f64
}

/// The share of boxes, of either side, that have a partner with at least this overlap.
fn matching(found: &[Seen], expected: &[Seen], iou: f32) -> f64 {
    assert_eq!(found.len(), expected.len());
    let has = |a: &Detection, others: &[Detection]| others.iter().any(|b| a.label.id == b.label.id && a.bbox.iou(&b.bbox) >= iou);
    let (mut matched, mut all) = (0, 0);
    for (found, expected) in found.iter().zip(expected) {
        assert_eq!(found.pts, expected.pts);
        matched += expected.detections.iter().filter(|a| has(a, &found.detections)).count();
        matched += found.detections.iter().filter(|a| has(a, &expected.detections)).count();
        all += expected.detections.len() + found.detections.len();
    }
    assert!(all > found.len(), "{all} boxes in {} frames say little", found.len());
    matched as f64 / all as f64
}

fn carphone() -> String {
    real_clip("carphone_pristine.mp4").display().to_string()
}

#[test]
fn only_boxes_cross_to_the_host() {
    if !gpu_is_present("only_boxes_cross_to_the_host") {
        return;
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    let boxes = folder.path().join("boxes.jsonl");
    let text = format!("read '{}' ! infer centerface batch=8 max_detections=20 ! save '{}'", carphone(), boxes.display());
    let (found, stats) = run(&text, "cuda", false);
    assert_eq!(names(&stats), ["read", "infer", "save"], "no copy was put in");
    let (down, frames) = (stats.copied_bytes(CopyKind::Download), found.len() as u64);
    let moved = |name: &str| stats.stage(name).map(|stage| (stage.copies.clone(), stage.syncs, stage.memory.clone()));
    report(&format!("{frames} frames: {down} bytes to the host; read {:?}; infer {:?}", moved("read"), moved("infer")));
    assert!(frames > 90 && down > 0 && down <= frames.next_multiple_of(8) * (16 + 20 * 72), "{down} bytes for {frames} frames");
    let read = stats.stage("read").expect("a stage");
    assert!(!read.copies.iter().any(|copy| matches!(copy.kind, CopyKind::Download | CopyKind::Upload)), "{:?}", read.copies);
    assert_eq!((stats.counter("frames_uploaded"), stats.counter("sources_on_cpu")), (0, 0));
    assert!(stats.stages.iter().any(|stage| stage.memory.iter().any(|memory| memory.device == "cuda:0" && memory.peak_bytes > 0)));
    let lines = std::fs::read_to_string(boxes).expect("written");
    assert_eq!(lines.lines().count() as u64, frames);
}

#[test]
fn boxes_are_those_of_the_cpu() {
    if !gpu_is_present("boxes_are_those_of_the_cpu") {
        return;
    }
    let text = format!("read '{}' ! infer centerface ! null", carphone());
    let (expected, _) = run(&text, "cpu", false);
    let (found, stats) = run(&text, "cuda", false);
    let share = matching(&found, &expected, 0.98);
    // With a second stage that reads pixels, frames are kept and `infer` makes the model's input.
    let (images, _) = run(&text.replace("! null", "! draw ! null"), "cuda", false);
    report(&format!(
        "{:.2} % of boxes match; {:.2} % from pictures; batches of {}",
        100.0 * share,
        100.0 * matching(&images, &expected, 0.98),
        found.len() as u64 / stats.counter("runs").max(1)
    ));
    assert!(share >= 0.97, "TF32 moves boxes a little");
    assert!(matching(&images, &found, 0.9999) >= 1.0, "the decoder and `infer` make the same input");
}

#[test]
fn frames_are_those_of_the_cpu_bit_for_bit() {
    if !gpu_is_present("frames_are_those_of_the_cpu_bit_for_bit") {
        return;
    }
    let clip = ClipSpec::new(Codec::H264, Container::Mp4).size(320, 180).frames(150).gop(12).make();
    let clip = clip.path().display();
    let (expected, _) = run(&format!("read '{clip}' ! null"), "cpu", true);
    for text in [
        format!("read '{clip}' device=cuda ! download ! null"),
        format!("read '{clip}' device=cuda engines=1 ! download ! null"),
        format!("read '{clip}' device=cpu ! upload ! download ! null"),
    ] {
        let (found, stats) = run(&text, "auto", true);
        assert_eq!(found.len(), expected.len(), "{text}");
        for (found, expected) in found.iter().zip(&expected) {
            let (a, b) = (found.image.as_ref().expect("kept"), expected.image.as_ref().expect("kept"));
            assert!(found.pts == expected.pts && differing(a, b, 0) == 0.0, "{text}: a frame at {} differs", found.pts);
        }
        let bytes = stats.copied_bytes(CopyKind::Download);
        assert_eq!(bytes, 150 * 320 * 180 * 3 / 2, "{text}: each frame crosses once");
    }
}

#[test]
fn faces_are_covered_as_on_the_cpu() {
    if !gpu_is_present("faces_are_covered_as_on_the_cpu") {
        return;
    }
    for (text, limit) in [
        ("infer centerface ! hold ! blur", 0.01),
        ("infer centerface ! hold ! blur kind=mosaic cell=20", 0.02),
        ("infer centerface ! draw", 0.02),
    ] {
        let text = format!("read '{}' ! {text} ! frames", carphone());
        let (host, gpu) = (tempfile::tempdir().expect("temporary folder"), tempfile::tempdir().expect("temporary folder"));
        let into = |folder: &Path| format!("{text} '{}'", folder.display());
        let (expected, _) = run(&into(host.path()), "cpu", true);
        let (found, stats) = run(&into(gpu.path()), "cuda", true);
        assert!(stats.stage("download").is_some(), "{:?}", names(&stats));
        assert_eq!(found.len(), expected.len());
        let shares = found.iter().zip(&expected).map(|(a, b)| {
            let (a, b) = (a.image.as_ref().expect("kept"), b.image.as_ref().expect("kept"));
            differing(a, b, 2)
        });
        let mean = shares.sum::<f64>() / found.len() as f64;
        report(&format!("{text}: {:.4} % of samples differ by more than 2", 100.0 * mean));
        assert!(mean < limit, "{text}: {:.2} % of samples differ", 100.0 * mean);
    }
}

#[test]
fn areas_are_covered_as_on_the_cpu() {
    if !gpu_is_present("areas_are_covered_as_on_the_cpu") {
        return;
    }
    let areas = "also='8,8,60,40;50%,50%,90%,55%,70%,90%;120,4,30,30@1-2'";
    for text in [
        format!("blur {areas}"),
        format!("blur {areas} kind=mosaic cell=20"),
        format!("blur {areas} kind=solid"),
        format!("blur {areas} except='20,20,20,20'"),
        "infer centerface ! hold ! blur except='0,0,50%,100%'".to_owned(),
    ] {
        let text = format!("read '{}' ! {text}", carphone());
        let (expected, _) = run(&format!("{text} ! null"), "cpu", true);
        // In the CPU's format.
        let (found, stats) = run(&format!("{text} ! download ! null"), "cuda", true);
        let stages = names(&stats);
        let place = |name: &str| stages.iter().position(|stage| *stage == name);
        assert!(place("blur") < place("download") && stages.iter().filter(|stage| **stage == "download").count() == 1, "{stages:?}");
        assert_eq!(found.len(), expected.len());
        let worst = found.iter().zip(&expected).map(|(a, b)| {
            assert_eq!(a.pts, b.pts);
            differing(a.image.as_ref().expect("kept"), b.image.as_ref().expect("kept"), 2)
        });
        let worst = worst.fold(0.0, f64::max);
        report(&format!("{text}: at most {:.4} % of a frame's samples differ by more than 2", 100.0 * worst));
        // With a model, its boxes differ slightly too.
        assert!(worst < if text.contains("infer") { 0.02 } else { 0.001 }, "{text}: {:.2} % of samples differ", 100.0 * worst);
    }
}

#[test]
fn blur_faces_gives_the_same_frames() {
    if !gpu_is_present("blur_faces_gives_the_same_frames") {
        return;
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    let text = |device: &str| {
        let mut preset = BlurFaces::new(carphone(), folder.path().join(format!("{device}.mkv")).display().to_string());
        preset.device = Some(device.parse().expect("a device"));
        preset.write_options = vec![("codec".into(), "ffv1".into())];
        preset.report = Some(folder.path().join(format!("{device}.html")));
        preset.description().to_string()
    };
    let (expected, _) = run(&text("cpu"), "auto", true);
    let (found, stats) = run(&text("cuda"), "auto", true);
    assert_eq!((found.len(), stats.counter("frames_written")), (expected.len(), expected.len() as u64));
    let shares = found.iter().zip(&expected).map(|(a, b)| differing(a.image.as_ref().expect("kept"), b.image.as_ref().expect("kept"), 2));
    let mean = shares.sum::<f64>() / found.len() as f64;
    report(&format!("blur-faces: {:.4} % of samples differ by more than 2", 100.0 * mean));
    assert!(mean < 0.01, "{:.2} % of samples differ", 100.0 * mean);
    assert_eq!(stats.counter("frames_converted"), 0, "frames come back in the encoder's format");
    let images = |device: &str| {
        let page = std::fs::read_to_string(folder.path().join(format!("{device}.html"))).expect("a page");
        page.matches("data:image/jpeg").count()
    };
    assert!(images("cuda") > 0 && images("cuda") == images("cpu"), "{} and {}", images("cuda"), images("cpu"));
    let names: Vec<&str> = stats.stages.iter().map(|stage| stage.name.as_str()).collect();
    let place = |name: &str| names.iter().position(|found| *found == name);
    assert!(place("report") < place("blur") && place("blur") < place("download"), "frames stay on the GPU for the report: {names:?}");
}

#[test]
fn what_the_gpu_does_not_decode_falls_back_with_its_reason() {
    if !gpu_is_present("what_the_card_does_not_decode_falls_back_with_its_reason") {
        return;
    }
    let odd = ClipSpec::new(Codec::Ffv1, Container::Mkv).size(160, 120).frames(20).make();
    let fine = ClipSpec::new(Codec::H264, Container::Mp4).size(160, 120).frames(20).make();
    let both = format!("read '{}' '{}' device=cuda ! infer centerface device=cuda ! null", fine.path().display(), odd.path().display());
    let (seen, stats) = run(&both, "auto", false);
    assert_eq!((seen.len(), stats.counter("sources_on_cpu")), (40, 1));
    let notices = &stats.stage("read").expect("a stage").notices;
    assert!(notices.iter().any(|notice| notice.contains("decoded on the CPU and uploaded") && notice.contains("ffv1")), "{notices:?}");
    assert!(stats.copied_bytes(CopyKind::Upload) >= 20 * 160 * 120 * 3 / 2, "the frames of one went up");
    // Where the device is free to choose, the first source decides.
    let (seen, stats) = run(&format!("read '{}' ! null", odd.path().display()), "auto", true);
    assert_eq!((seen.len(), stats.copied_bytes(CopyKind::Upload)), (20, 0));
    let notices = &stats.stage("read").expect("a stage").notices;
    assert!(notices.iter().any(|notice| notice.starts_with("decoding on the CPU: ") && notice.contains("ffv1")), "{notices:?}");
}

#[test]
fn a_stream_that_changes_to_what_the_gpu_does_not_decode_goes_on() {
    if !gpu_is_present("a_stream_that_changes_to_what_the_card_does_not_decode_goes_on") {
        return;
    }
    // No GPU decodes 4:4:4 H.264.
    let clip = ClipSpec::new(Codec::H264, Container::Ts)
        .frames(300)
        .gop(30)
        .b_frames(2)
        .start_offset_secs(1.0)
        .pixel_format_change(140, "yuv444p")
        .make();
    let clip = clip.path().display();
    let (expected, _) = run(&format!("read '{clip}' ! null"), "cpu", true);
    for engines in [1, 3] {
        let text = format!("read '{clip}' device=cuda engines={engines} ! download ! null");
        let (found, stats) = run(&text, "auto", true);
        let pts = |seen: &[Seen]| seen.iter().map(|frame| frame.pts).collect::<Vec<_>>();
        assert_eq!(pts(&found), pts(&expected), "{text}: each frame once");
        for (found, expected) in found.iter().zip(&expected) {
            let (a, b) = (found.image.as_ref().expect("kept"), expected.image.as_ref().expect("kept"));
            assert!(differing(a, b, 0) == 0.0, "{text}: the frame at {} differs", found.pts);
        }
        let on_cpu = stats.counter("frames_on_cpu");
        assert!((160..=240).contains(&on_cpu), "{text}: {on_cpu} frames came from the CPU");
        assert_eq!(stats.counter("sources_on_cpu"), 1, "{text}");
        let notices = &stats.stage("read").expect("a stage").notices;
        let reported = notices.iter().filter(|notice| notice.contains("decoded on the CPU and uploaded")).count();
        assert_eq!(reported, 1, "{text}: {notices:?}");
    }
    // A model accepts both: inputs made while decoding, and frames.
    let text = format!("read '{clip}' device=cuda ! infer centerface device=cuda ! null");
    let (found, _) = run(&text, "auto", false);
    assert_eq!(found.len(), 300, "{text}");
}

#[test]
fn a_branch_that_holds_frames_sees_them_unchanged() {
    if !gpu_is_present("a_branch_that_holds_frames_sees_them_unchanged") {
        return;
    }
    let folder = tempfile::tempdir().expect("temporary folder");
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));
    let text = format!(
        "read '{}' duration=1s ! infer centerface ! tee ( frames '{}' ) ! blur ! frames '{}'",
        carphone(),
        before.display(),
        after.display()
    );
    let (_, stats) = run(&text, "cuda", false);
    assert_eq!(stats.stages.iter().filter(|stage| stage.name.starts_with("download")).count(), 2, "{:?}", names(&stats));
    let blur = stats.stage("blur").expect("a stage");
    report(&format!("blur beside a branch: {:?}", blur.copies));
    let plain = folder.path().join("plain");
    run(&format!("read '{}' duration=1s ! frames '{}'", carphone(), plain.display()), "cpu", false);
    let (before, after, plain) = (images(&before), images(&after), images(&plain));
    assert_eq!((before.len(), after.len()), (plain.len(), plain.len()));
    assert!(before == plain, "a branch saw what another one changed");
    assert!(after.iter().zip(&plain).all(|(after, plain)| after != plain), "every frame has a face, and it is covered");
}

/// The files of a folder, by name.
fn images(folder: &Path) -> Vec<Vec<u8>> {
    let mut files: Vec<_> = std::fs::read_dir(folder).expect("written").map(|entry| entry.expect("readable").path()).collect();
    files.sort();
    files.iter().map(|file| std::fs::read(file).expect("readable")).collect()
}
