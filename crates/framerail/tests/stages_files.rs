//! `save` and `frames`: files as documented, complete or absent.

mod stages_support;

use std::{fs, path::Path};

use framerail::{
    core::DetectionOrigin,
    pipeline::{ErrorKind, Item},
};
use serde_json::Value;
use stages_support::{end, face, files, frame, interleaved, run, seen, stream, try_run, whole};

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

#[test]
fn detections_are_written_as_documented() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("boxes.jsonl");
    let mut broken = face(0.5, None, DetectionOrigin::Held);
    broken.bbox.x1 = f32::NAN;
    let items = vec![
        Item::StreamStart(stream(0, "clip")),
        seen(0, 0, vec![face(0.912_345_7, Some(7), DetectionOrigin::Interpolated), broken]).into(),
        frame(0, 1).into(),
        end(0),
    ];
    let ran = run(&format!("save {}", path.display()), items);
    assert_eq!(ran.error(), "none");
    let expected = serde_json::json!({
        "stream": "clip", "stream_id": 0, "frame": 0, "pts": 0, "time_base": "1/1000", "seconds": 0.0, "analysed": true,
        "detections": [{
            "label": "face", "label_id": 0, "score": 0.912346, "box": [10.125, 12.0, 30.5, 36.25],
            "landmarks": [[15.0, 20.0], [25.0, 20.1235]], "track_id": 7, "origin": "interpolated",
        }],
    });
    let found = lines(&path);
    assert_eq!(found[0], expected);
    assert_eq!((found[1]["analysed"].clone(), found[1]["detections"].clone()), (Value::Bool(false), serde_json::json!([])));
    assert_eq!(found[1]["seconds"], serde_json::json!(0.04));
    assert_eq!((found.len(), ran.counter("boxes_not_finite")), (2, 1));
    assert_eq!(files(folder.path()), ["boxes.jsonl"]);
}

#[test]
fn empty_frames_are_left_out_when_asked() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("boxes.jsonl");
    let items = vec![
        Item::StreamStart(stream(0, "clip")),
        frame(0, 0).into(),
        seen(0, 1, vec![face(0.9, None, DetectionOrigin::Detected)]).into(),
        end(0),
    ];
    run(&format!("save {} only_found=yes", path.display()), items);
    let found = lines(&path);
    assert_eq!((found.len(), found[0]["frame"].clone()), (1, serde_json::json!(1)));
}

#[test]
fn streams_get_a_file_each_also_when_interleaved() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let template = folder.path().join("{name}.{stream}.jsonl");
    for items in [interleaved(whole(0, "a", 5), whole(1, "b", 3)), [whole(0, "c", 5), whole(1, "d", 3)].concat()] {
        assert_eq!(run(&format!("save {}", template.display()), items).error(), "none");
    }
    assert_eq!(files(folder.path()), ["a.0.jsonl", "b.1.jsonl", "c.0.jsonl", "d.1.jsonl"]);
    for (name, frames) in [("a.0.jsonl", 5), ("b.1.jsonl", 3), ("c.0.jsonl", 5), ("d.1.jsonl", 3)] {
        let numbers: Vec<u64> = lines(&folder.path().join(name)).iter().filter_map(|line| line["frame"].as_u64()).collect();
        assert_eq!(numbers, (0..frames).collect::<Vec<_>>(), "{name}");
    }
}

#[test]
fn two_streams_into_one_file_are_refused_early_and_late() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let both = || [whole(0, "a", 2), whole(1, "b", 2)].concat();
    for stage in ["save", "frames"] {
        let name = if stage == "save" { "boxes.jsonl" } else { "{index}.png" };
        let text = format!("{stage} {}", folder.path().join(name).display());
        let early = try_run(&text, both(), Some(2)).err().expect("known before the start");
        assert!(early.contains("all 2 streams would be written") && early.contains("{name}"), "{early}");
        let late = try_run(&text, both(), None).expect("not known before the start");
        assert!(late.error().contains("both a and b would be written"), "{}", late.error());
    }
}

#[test]
fn nothing_remains_of_a_file_that_is_not_finished() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let below_file = folder.path().join("file/{name}.jsonl");
    let path = folder.path().join("boxes.jsonl");
    // A frame of a stream that never began.
    let mut items = whole(0, "a", 20);
    items.pop();
    items.push(frame(9, 0).into());
    let ran = run(&format!("save {}", path.display()), items);
    assert!(ran.error().contains("before the stream's start"), "{}", ran.error());
    assert!(files(folder.path()).is_empty());
    fs::write(folder.path().join("file"), "x").expect("written");
    let problem = try_run(&format!("save {}", below_file.display()), Vec::new(), Some(1)).err().expect("no folder");
    assert!(problem.contains("file is not a folder"), "{problem}");
}

#[test]
fn existing_files_are_replaced_only_when_asked() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("boxes.jsonl");
    fs::write(&path, "precious").expect("written");
    let text = format!("save {}", path.display());
    let problem = try_run(&text, whole(0, "a", 2), Some(1)).err().expect("exists");
    assert!(problem.contains("overwrite=true"), "{problem}");
    assert_eq!(fs::read_to_string(&path).expect("kept"), "precious");
    assert_eq!(run(&format!("{text} overwrite=true"), whole(0, "a", 2)).error(), "none");
    assert_eq!(lines(&path).len(), 2);
}

#[test]
fn a_full_disk_is_reported_plainly() {
    let ran = run("save /dev/full", whole(0, "a", 2));
    let error = ran.outcome.result.as_ref().expect_err("full");
    assert_eq!(error.kind(), ErrorKind::Output);
    assert!(error.to_string().contains("/dev/full: no space left"), "{error}");
}

#[test]
fn frames_are_written_in_each_format_by_several_workers() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (format, magic) in [("png", &b"\x89PNG"[..]), ("jpg", b"\xff\xd8\xff"), ("npy", b"\x93NUMPY")] {
        let target = folder.path().join(format);
        let items = interleaved(whole(0, "a", 7), whole(1, "b", 4));
        let ran = run(&format!("frames {} format={format} workers=3", target.display()), items);
        assert_eq!((ran.error().as_str(), ran.counter("files_written")), ("none", 11));
        let names = files(&target);
        assert_eq!((names.len(), names[0].as_str()), (11, format!("a-000000.{format}").as_str()));
        for name in names {
            assert!(fs::read(target.join(&name)).expect("readable").starts_with(magic), "{name}");
        }
    }
    let array = fs::read(folder.path().join("npy/b-000003.npy")).expect("readable");
    let data = &array[array.len() - 64 * 48 * 3..];
    // Limited-range luma 43 and no colour.
    assert!(data.iter().all(|value| value.abs_diff(31) <= 1), "{:?}", &data[..6]);
}

#[test]
fn frames_counts_within_each_stream() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let template = folder.path().join("{name}/{index}.png");
    let ran = run(&format!("frames {} every=2 count=2", template.display()), interleaved(whole(0, "a", 9), whole(1, "b", 9)));
    assert_eq!((ran.error().as_str(), ran.counter("frames_skipped")), ("none", 14));
    for name in ["a", "b"] {
        assert_eq!(files(&folder.path().join(name)), ["0.png", "2.png"]);
    }
    let still = folder.path().join("still.jpg");
    let ran = run(&format!("frames {} count=1", still.display()), whole(0, "a", 1000));
    assert!(still.is_file() && ran.outcome.stats.stage("given").expect("there").frames_out < 100);
}

#[test]
fn targets_of_frames_that_cannot_be_written_are_refused() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let at = |name: &str| folder.path().join(name).display().to_string();
    fs::write(folder.path().join("file"), "x").expect("written");
    let problem = |text: String| {
        let ran = try_run(&text, whole(0, "a", 2), Some(1));
        ran.map_or_else(|problem| problem, |ran| ran.error())
    };
    assert_eq!(problem(format!("frames {}", at("no/deep"))), "none", "folders are made");
    assert!(problem(format!("frames {}", at("file"))).contains("is a file; name a folder"));
    assert!(problem(format!("frames {}", at("out.png"))).contains("every frame would be written to"));
    assert!(problem(format!("frames {} count=1 workers=2", at("out"))).contains("workers cannot count"));
    assert_eq!(problem(format!("frames {}", at("out"))), "none");
    // Several workers write: whichever frame is first.
    let again = problem(format!("frames {}", at("out")));
    assert!(again.contains(".png exists") && again.contains("overwrite=true"), "{again}");
    assert_eq!(problem(format!("frames {} overwrite=yes", at("out"))), "none");
}
