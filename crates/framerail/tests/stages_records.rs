//! `save` in every format: content, when the file gets its name, and what a killed run leaves.

mod stages_support;

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant, SystemTime},
};

use arrow_array::{
    Array, RecordBatch,
    cast::AsArray,
    types::{Float32Type, TimestampMicrosecondType, UInt32Type, UInt64Type},
};
use framerail::{
    core::{BBox, DetectionOrigin, Label, OrientedBox, Point},
    pipeline::{Arrival, Item},
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use stages_support::{end, face, files, frame, interleaved, run, seen, stream, try_run, whole};
use tempfile::TempDir;

fn folder() -> TempDir {
    tempfile::tempdir().expect("temporary folder")
}

/// Two faces and a plate on three frames, one of which no model saw.
fn clip() -> Vec<Item> {
    let mut plate = face(0.5, None, DetectionOrigin::Detected);
    plate.label = Label { id: 1, name: "plate, \"old\"".into() };
    plate.landmarks.clear();
    let mut broken = face(0.5, Some(1), DetectionOrigin::Held);
    broken.score = f32::NAN;
    let mut live = seen(0, 2, vec![face(0.25, Some(8), DetectionOrigin::Held)]);
    let wall = SystemTime::UNIX_EPOCH + Duration::from_micros(1_795_253_400_250_000);
    live.arrival = Some(Arrival { at: Instant::now(), wall, budget: None, may_drop: false });
    vec![
        Item::StreamStart(stream(0, "clip")),
        seen(0, 0, vec![face(0.912_345_7, Some(7), DetectionOrigin::Interpolated), plate, broken]).into(),
        frame(0, 1).into(),
        live.into(),
        end(0),
    ]
}

/// A face per frame. All frames have the same pixels.
fn faces(id: u32, name: &str, frames: u64) -> Vec<Item> {
    let first = seen(id, 0, vec![face(0.5, Some(1), DetectionOrigin::Detected)]);
    let numbered = |index| {
        let mut item = first.clone();
        item.frame.index = index;
        item.into()
    };
    let start = [Item::StreamStart(stream(id, name))];
    start.into_iter().chain((0..frames).map(numbered)).chain([end(id)]).collect()
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn csv_has_a_row_for_each_detection() {
    let folder = folder();
    let path = folder.path().join("boxes.csv");
    let ran = run(&format!("save {}", path.display()), clip());
    assert_eq!(ran.error(), "none");
    let expected = "\
stream,stream_id,frame,pts,time_base,seconds,wall_time,analysed,label,label_id,score,x1,y1,x2,y2,landmarks,track_id,origin,zones,attributes,oriented
clip,0,0,0,1/1000,0,,true,face,0,0.912346,10.125,12,30.5,36.25,\"[[15.0,20.0],[25.0,20.1235]]\",7,interpolated,,,
clip,0,0,0,1/1000,0,,true,\"plate, \"\"old\"\"\",1,0.5,10.125,12,30.5,36.25,[],,detected,,,
clip,0,2,80,1/1000,0.08,2026-11-21T09:30:00.250000Z,true,face,0,0.25,10.125,12,30.5,36.25,\"[[15.0,20.0],[25.0,20.1235]]\",8,held,,,
";
    assert_eq!(text(&path), expected);
    let counted = ["frames_recorded", "detections_recorded", "boxes_not_finite", "files_written"].map(|name| ran.counter(name));
    assert_eq!((counted, files(folder.path())), ([3, 3, 1, 1], vec!["boxes.csv".to_owned()]));
}

#[test]
fn times_of_live_streams_are_in_json_lines() {
    let folder = folder();
    let path = folder.path().join("boxes.ndjson");
    run(&format!("save {}", path.display()), clip());
    let lines: Vec<Value> = text(&path).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((lines.len(), &lines[2]["wall_time"]), (3, &json!("2026-11-21T09:30:00.250000Z")));
    assert!(lines[0].get("wall_time").is_none());
}

/// The rows of a Parquet file, and its row groups.
fn rows(path: &Path) -> (RecordBatch, usize) {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (schema, groups) = (builder.schema().clone(), builder.metadata().num_row_groups());
    let mut batches = builder.with_batch_size(1 << 20).build().expect("readable").map(|batch| batch.expect("readable"));
    (batches.next().unwrap_or_else(|| RecordBatch::new_empty(schema)), groups)
}

fn frames_of(path: &Path) -> Vec<u64> {
    rows(path).0["frame"].as_primitive::<UInt64Type>().values().to_vec()
}

#[test]
fn parquet_has_typed_columns() {
    let folder = folder();
    let path = folder.path().join("boxes.parquet");
    let ran = run(&format!("save {}", path.display()), clip());
    assert_eq!((ran.error().as_str(), ran.counter("row_groups_written")), ("none", 1));
    let (rows, groups) = rows(&path);
    assert_eq!((rows.num_rows(), groups, files(folder.path())), (3, 1, vec!["boxes.parquet".to_owned()]));
    let types: Vec<String> = rows.schema().fields().iter().map(|field| format!("{} {}", field.name(), field.data_type())).collect();
    let expected = [
        "stream Utf8",
        "stream_id UInt32",
        "frame UInt64",
        "pts Int64",
        "time_base Utf8",
        "seconds Float64",
        "wall_time Timestamp(µs, \"UTC\")",
        "analysed Boolean",
        "label Utf8",
        "label_id UInt32",
        "score Float32",
        "x1 Float32",
        "y1 Float32",
        "x2 Float32",
        "y2 Float32",
        "landmarks List(non-null FixedSizeList(2 x non-null Float32))",
        "track_id UInt64",
        "origin Utf8",
        "zones List(non-null Utf8)",
        "attributes Utf8",
        "oriented List(non-null Float32)",
    ];
    assert_eq!(types, expected);
    let column = |name: &str| rows[name].as_primitive::<Float32Type>().values().to_vec();
    assert_eq!((column("score"), column("y2")), (vec![0.912_346, 0.5, 0.25], vec![36.25; 3]));
    let wall = rows["wall_time"].as_primitive::<TimestampMicrosecondType>();
    assert_eq!((wall.is_null(0), wall.value(2)), (true, 1_795_253_400_250_000));
    let tracks = rows["track_id"].as_primitive::<UInt64Type>();
    assert_eq!((tracks.value(0), tracks.is_null(1), tracks.value(2)), (7, true, 8));
    assert_eq!(rows["label"].as_string::<i32>().value(1), "plate, \"old\"");
    let landmarks = rows["landmarks"].as_list::<i32>();
    let first = landmarks.value(0);
    assert_eq!(first.as_fixed_size_list().values().as_primitive::<Float32Type>().values().to_vec(), [15.0, 20.0, 25.0, 20.1235]);
    assert!(landmarks.value(1).is_empty() && rows["zones"].is_null(0));
}

#[test]
fn rotated_boxes_are_in_every_format() {
    let oriented = OrientedBox { center: Point { x: 50.0, y: 40.0 }, width: 30.0, height: 10.0, angle: 0.5 };
    let mut plane = face(0.5, None, DetectionOrigin::Detected);
    (plane.bbox, plane.oriented) = (oriented.bbox(), Some(oriented));
    plane.landmarks.clear();
    let items =
        vec![Item::StreamStart(stream(0, "clip")), seen(0, 0, vec![plane, face(0.4, None, DetectionOrigin::Detected)]).into(), end(0)];
    let folder = folder();
    let saved = |name: &str| {
        let path = folder.path().join(name);
        assert_eq!(run(&format!("save {}", path.display()), items.clone()).error(), "none");
        path
    };
    let numbers = json!([50.0, 40.0, 30.0, 10.0, 0.5]);
    let line: Value = serde_json::from_str(&text(&saved("boxes.jsonl"))).expect("JSON");
    assert_eq!((&line["detections"][0]["oriented"], line["detections"][1].get("oriented")), (&numbers, None));
    let csv = text(&saved("boxes.csv"));
    let ends: Vec<bool> = csv.lines().skip(1).map(|row| row.ends_with(",\"[50.0,40.0,30.0,10.0,0.5]\"")).collect();
    assert_eq!(ends, [true, false], "{csv}");
    let (rows, _) = rows(&saved("boxes.parquet"));
    let column = rows["oriented"].as_list::<i32>();
    assert_eq!((column.is_null(0), column.is_null(1)), (false, true));
    assert_eq!(column.value(0).as_primitive::<Float32Type>().values().to_vec(), [50.0, 40.0, 30.0, 10.0, 0.5]);
    let coco: Value = serde_json::from_str(&text(&saved("boxes.json"))).expect("JSON");
    let (plane, upright) = (&coco["annotations"][0], &coco["annotations"][1]);
    assert_eq!((plane["segmentation"][0].as_array().map(Vec::len), &plane["area"]), (Some(8), &json!(300.0)));
    assert!(upright.get("segmentation").is_none());
}

#[test]
fn row_groups_are_joined_and_streams_may_share_a_file() {
    let folder = folder();
    let path = folder.path().join("all.parquet");
    let items = interleaved(faces(0, "a", 25), faces(1, "b", 15));
    let ran = run(&format!("save {} together=yes group_rows=8", path.display()), items);
    assert_eq!((ran.error().as_str(), ran.counter("row_groups_written"), ran.counter("files_written")), ("none", 5, 1));
    let (rows, groups) = rows(&path);
    let (streams, frames) = (rows["stream_id"].as_primitive::<UInt32Type>(), rows["frame"].as_primitive::<UInt64Type>());
    let of = |id: u32| -> Vec<u64> {
        streams.values().iter().zip(frames.values()).filter(|(stream, _)| **stream == id).map(|(_, frame)| *frame).collect()
    };
    assert_eq!((groups, of(0), of(1)), (5, (0..25).collect(), (0..15).collect()));
    let metadata = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).expect("there")).expect("Parquet").metadata().clone();
    let pairs = metadata.file_metadata().key_value_metadata().expect("metadata").clone();
    let streams = pairs.iter().find(|pair| pair.key == "framerail.streams").and_then(|pair| pair.value.clone()).expect("streams");
    let streams: Value = serde_json::from_str(&streams).expect("JSON");
    let second = json!({ "stream": "b", "stream_id": 1, "width": 64, "height": 48, "time_base": "1/1000", "frames_per_second": 25.0 });
    assert_eq!((&streams[1], streams[0]["stream"].as_str()), (&second, Some("a")));
    // A group ends with its time too.
    let timed = folder.path().join("timed.parquet");
    let ran = run(&format!("save {} group_time=0", timed.display()), faces(0, "a", 4));
    assert_eq!((ran.counter("row_groups_written"), frames_of(&timed)), (4, vec![0, 1, 2, 3]));
    let csv = folder.path().join("all.csv");
    run(&format!("save {} together=yes", csv.display()), interleaved(faces(0, "a", 3), faces(1, "b", 2)));
    assert_eq!(text(&csv).lines().count(), 6);
}

#[test]
fn without_a_detection_there_are_columns_all_the_same() {
    let folder = folder();
    let path = folder.path().join("none.parquet");
    assert_eq!(run(&format!("save {}", path.display()), whole(0, "a", 3)).error(), "none");
    let (rows, groups) = rows(&path);
    assert_eq!((rows.num_rows(), rows.num_columns(), groups), (0, 21, 0));
    assert_eq!(files(folder.path()), ["none.parquet"]);
}

#[test]
fn what_is_finished_of_a_failed_run_stays() {
    let folder = folder();
    let path = folder.path().join("boxes.parquet");
    let mut items = faces(0, "a", 20);
    items.pop();
    items.push(frame(9, 0).into());
    let ran = run(&format!("save {} group_rows=8", path.display()), items.clone());
    assert!(ran.error().contains("before the stream's start"), "{}", ran.error());
    assert_eq!(files(folder.path()), ["boxes.parquet.parts"]);
    let parts = folder.path().join("boxes.parquet.parts");
    assert_eq!(files(&parts), ["part-000000.parquet", "part-000001.parquet"]);
    assert_eq!(frames_of(&parts.join("part-000001.parquet")), (8..16).collect::<Vec<_>>());
    // Starting again does not lose them.
    let text = format!("save {}", path.display());
    let reported = try_run(&text, faces(0, "a", 3), Some(1)).err().expect("parts are present");
    assert!(reported.contains("contains the records of an interrupted run"), "{reported}");
    assert_eq!(run(&format!("{text} overwrite=yes"), faces(0, "a", 3)).error(), "none");
    assert_eq!((files(folder.path()), frames_of(&path)), (vec!["boxes.parquet".to_owned()], vec![0, 1, 2]));
    // A run without a finished group leaves nothing.
    let ran = run(&format!("save {}", folder.path().join("other.parquet").display()), items);
    assert!(ran.error().contains("before the stream's start"));
    assert_eq!(files(folder.path()), ["boxes.parquet"]);
}

/// Names the folder in which the test below writes until it is killed.
const KILLED: &str = "FRAMERAIL_TEST_KILLED_RUN";

/// Not a test: the run that is killed.
#[test]
fn run_that_is_killed() {
    let Some(folder) = std::env::var_os(KILLED) else { return };
    let path = Path::new(&folder).join("boxes.parquet");
    run(&format!("save {} group_rows=100", path.display()), faces(0, "a", 200_000));
}

#[test]
fn a_killed_run_leaves_every_finished_group() {
    let folder = folder();
    let program = std::env::current_exe().expect("this test");
    let mut child = Command::new(program)
        .args(["--exact", "run_that_is_killed", "--nocapture"])
        .env(KILLED, folder.path())
        .stdout(Stdio::null())
        .spawn()
        .expect("starts");
    let parts = folder.path().join("boxes.parquet.parts");
    let began = Instant::now();
    while !parts.join("part-000003.parquet").exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "no row group was finished");
        assert!(child.try_wait().expect("known").is_none(), "it ended by itself");
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().expect("killed");
    child.wait().expect("ended");
    assert!(!folder.path().join("boxes.parquet").exists());
    let finished: Vec<String> = files(&parts).into_iter().filter(|name| name.starts_with("part-")).collect();
    let frames: Vec<u64> = finished.iter().flat_map(|name| frames_of(&parts.join(name))).collect();
    assert!(finished.len() >= 4);
    assert_eq!(frames, (0..finished.len() as u64 * 100).collect::<Vec<_>>());
}

#[test]
fn coco_has_images_categories_and_annotations() {
    let folder = folder();
    let path = folder.path().join("boxes.json");
    assert_eq!(run(&format!("save {}", path.display()), clip()).error(), "none");
    let found: Value = serde_json::from_str(&text(&path)).expect("JSON");
    let image = |id: u64, frame: u64, analysed: bool| {
        json!({
            "id": id, "file_name": format!("clip-{frame:06}.png"), "width": 64, "height": 48, "frame": frame,
            "seconds": frame as f64 * 0.04, "analysed": analysed,
        })
    };
    assert_eq!(found["images"], json!([image(1, 0, true), image(2, 1, false), image(3, 2, true)]));
    let category = |id: u64, name: &str| json!({ "id": id, "name": name, "supercategory": "", "keypoints": ["1", "2"], "skeleton": [] });
    // The model's classes, and one that it did not name.
    assert_eq!(found["categories"], json!([category(1, "face"), category(2, "plate"), category(3, "plate, \"old\"")]));
    let keypoints = json!([15.0, 20.0, 2.0, 25.0, 20.1235, 2.0]);
    let first = json!({
        "id": 1, "image_id": 1, "category_id": 1, "bbox": [10.125, 12.0, 20.375, 24.25], "area": 494.0938, "iscrowd": 0,
        "score": 0.912346, "keypoints": keypoints, "num_keypoints": 2, "track_id": 7, "origin": "interpolated",
    });
    let annotations = found["annotations"].as_array().expect("a list");
    let numbers = |name: &str| -> Vec<u64> { annotations.iter().filter_map(|found| found[name].as_u64()).collect() };
    assert_eq!(annotations[0], first);
    assert_eq!((numbers("id"), numbers("image_id"), numbers("category_id")), (vec![1, 2, 3], vec![1, 1, 3], vec![1, 3, 1]));
}

#[test]
fn coco_may_leave_empty_frames_out_and_have_none() {
    let folder = folder();
    let path = folder.path().join("boxes.json");
    run(&format!("save {} only_found=yes image_name=x/{{index:04}}.jpg", path.display()), clip());
    let found: Value = serde_json::from_str(&text(&path)).expect("JSON");
    let names: Vec<_> = found["images"].as_array().expect("a list").iter().map(|image| (&image["id"], &image["file_name"])).collect();
    assert_eq!(names, [(&json!(1), &json!("x/0000.jpg")), (&json!(3), &json!("x/0002.jpg"))]);
    run(&format!("save {} overwrite=yes", path.display()), vec![Item::StreamStart(stream(0, "a")), end(0)]);
    let found: Value = serde_json::from_str(&text(&path)).expect("JSON");
    assert_eq!((&found["images"], &found["annotations"]), (&json!([]), &json!([])));
}

#[test]
fn mot_has_a_line_for_each_identity() {
    let folder = folder();
    let path = folder.path().join("tracks.txt");
    let save = format!("save {}", path.display());
    let reported = try_run(&save, clip(), Some(1)).err().expect("no identities");
    assert!(reported.contains("identities") && reported.contains("put `track` before it"), "{reported}");
    let still = |index: u64| {
        let mut weak = face(0.05, None, DetectionOrigin::Detected);
        weak.bbox = BBox::from_xyxy(40.0, 0.0, 50.0, 10.0);
        seen(0, index, vec![face(0.9, None, DetectionOrigin::Detected), weak]).into()
    };
    let items = [Item::StreamStart(stream(0, "a"))].into_iter().chain((0..3).map(still)).chain([end(0)]).collect();
    let ran = run(&format!("track ! {save}"), items);
    let lines = text(&path);
    let first = lines.lines().next().expect("a line");
    assert_eq!((ran.error().as_str(), lines.lines().count(), ran.counter("detections_without_identity")), ("none", 3, 3));
    assert_eq!(first, "1,1,11.125,13,20.375,24.25,0.9,-1,-1,-1");
    assert!(lines.lines().last().is_some_and(|line| line.starts_with("3,1,")), "{lines}");
}

#[test]
fn formats_go_by_the_ending_unless_they_are_named() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let reported = |text: &str| try_run(text, clip(), Some(1)).err().unwrap_or_default();
    assert!(reported(&format!("save {}", at("boxes.xml"))).contains("`.xml` is not the extension of a record format"));
    assert_eq!(run(&format!("save {} format=csv", at("boxes.xml")), clip()).error(), "none");
    assert!(text(&folder.path().join("boxes.xml")).starts_with("stream,stream_id,"));
    assert_eq!(run(&format!("save {}", at("BOXES.CSV")), clip()).error(), "none");
    for (options, expected) in [
        ("boxes.csv only_found=no", "`only_found` is an option of jsonl and coco"),
        ("boxes.json together=yes", "`together` is an option of jsonl, csv and parquet"),
        ("boxes.csv group_rows=3", "`group_rows` is an option of parquet"),
        ("boxes.csv image_name=x.png", "`image_name` is an option of coco"),
    ] {
        let reported = reported(&format!("save {}", at(options)));
        assert!(reported.contains(expected), "{reported}");
    }
    assert!(reported("save - format=parquet").contains("Parquet cannot be written to standard output"));
    assert!(reported("save /dev/null format=parquet").contains("Parquet cannot be written to standard output"));
}
