//! The `zones` stage in a pipeline: counts, records, drawings, refusals.

mod stages_support;

use std::{fs, path::PathBuf};

use framerail::{
    core::{BBox, DetectionOrigin},
    pipeline::{FrameItem, Item},
    vision::{FrameZones, ZoneEvent, zones::Direction},
};
use serde_json::{Value, json};
use stages_support::{end, face, run, seen, stream, try_run};
use tempfile::TempDir;

/// For frames of 64x48 pixels.
const MAP: &str = "
units = 'pixels'
[[zone]]
name = 'right'
points = [[32, 0], [64, 0], [64, 48], [32, 48]]
anchor = 'centre'
[[line]]
name = 'middle'
from = [32, 0]
to = [32, 48]
anchor = 'centre'
";

fn map(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("map.toml");
    fs::write(&path, text).expect("written");
    (folder, path)
}

/// A face that moves from left to right by a pixel per frame, and stops.
fn walk() -> Vec<Item> {
    let start = [Item::StreamStart(stream(0, "a"))];
    let frame = |index: u64| {
        let x = 10.0 + index.min(40) as f32;
        let mut found = face(0.9, None, DetectionOrigin::Detected);
        found.bbox = BBox::from_cxcywh(x, 24.0, 12.0, 12.0);
        seen(0, index, vec![found]).into()
    };
    start.into_iter().chain((0..60).map(frame)).chain([end(0)]).collect()
}

fn frames(items: &[Item]) -> Vec<&FrameItem> {
    items.iter().filter_map(|item| if let Item::Frame(item) = item { Some(&**item) } else { None }).collect()
}

#[test]
fn stays_and_crossings_ride_on_the_frames() {
    let (_folder, path) = map(MAP);
    let ran = run(&format!("track ! zones {} ! collect", path.display()), walk());
    assert_eq!(ran.error(), "none");
    let found: Vec<&FrameZones> = frames(&ran.items).iter().map(|item| item.attachments.get().expect("attached")).collect();
    let events: Vec<(usize, &ZoneEvent)> =
        found.iter().enumerate().flat_map(|(index, zones)| zones.events.iter().map(move |event| (index, event))).collect();
    let [
        (22, ZoneEvent::Entered { track_id: 1, .. }),
        (24, ZoneEvent::Crossed { direction: Direction::Out, .. }),
        (59, ZoneEvent::Left { track_id: 1, dwell_secs, vanished: true, .. }),
    ] = events[..]
    else {
        panic!("{events:?}")
    };
    assert!((dwell_secs - 37.0 * 0.04).abs() < 1e-9, "inside when the stream ends: {dwell_secs} s");
    let last = found.last().expect("frames");
    assert_eq!((last.zones[0].count, last.zones[0].entered, last.lines[0].crossed_out, last.lines[0].crossed_in), (1, 1, 1, 0));
    assert!((last.zones[0].inside[0].dwell_secs - 37.0 * 0.04).abs() < 1e-9);
    assert_eq!(last.zones[0].left, 1);
    let counters = ["zones_entered", "zones_left", "lines_crossed_in", "lines_crossed_out"].map(|name| ran.counter(name));
    assert_eq!(counters, [1, 1, 0, 1]);
}

#[test]
fn save_writes_zones_lines_and_events() {
    let (folder, path) = map(MAP);
    let records = folder.path().join("zones.jsonl");
    assert_eq!(run(&format!("track ! zones {} ! save {}", path.display(), records.display()), walk()).error(), "none");
    let text = fs::read_to_string(&records).expect("written");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines[0]["zones"], json!([{"name": "right", "count": 0, "tracks": [], "entered": 0, "left": 0, "mean_dwell_secs": 0.0}]));
    assert_eq!((&lines[0]["events"], &lines[0]["detections"][0]["zones"]), (&json!([]), &json!([])));
    assert_eq!(lines[22]["events"], json!([{"event": "entered", "zone": "right", "track_id": 1, "label": "face"}]));
    assert_eq!(lines[24]["events"], json!([{"event": "crossed", "line": "middle", "track_id": 1, "label": "face", "direction": "out"}]));
    assert_eq!(lines[59]["lines"], json!([{"name": "middle", "in": 0, "out": 1}]));
    assert_eq!(lines[59]["zones"][0]["tracks"], json!([{"track_id": 1, "dwell_secs": 1.48}]));
    assert_eq!(lines[59]["detections"][0]["zones"], json!(["right"]));
    let plain = folder.path().join("plain.jsonl");
    assert_eq!(run(&format!("track ! save {}", plain.display()), walk()).error(), "none");
    let text = fs::read_to_string(&plain).expect("written");
    assert!(!text.contains("zones") && !text.contains("events"), "no keys where there are no zones");
}

#[test]
fn draw_shows_them() {
    let (_folder, path) = map(MAP);
    let brightness = |options: &str| {
        let text = format!("track ! zones {} ! draw boxes=no labels=no scores=no landmarks=no {options} ! collect", path.display());
        let ran = run(&text, walk());
        assert_eq!(ran.error(), "none");
        let item = *frames(&ran.items).last().expect("frames");
        // On the zone's right edge, in the middle.
        item.frame.surface.host().expect("on the host").row(0, 40)[63]
    };
    assert_ne!(brightness("zones=yes"), brightness("zones=no"));
}

#[test]
fn what_cannot_work_is_reported_before_the_start() {
    let reported = |text: &str, before: &str| {
        let (_folder, path) = map(text);
        try_run(&format!("{before}zones {} ! collect", path.display()), walk(), Some(1)).err().unwrap_or_default()
    };
    assert!(reported(MAP, "").contains("put `track` before it"), "{}", reported(MAP, ""));
    let bow = "[[zone]]\nname = 'bow'\npoints = [[0, 0], [1, 1], [1, 0], [0, 1]]\n";
    assert!(reported(bow, "track ! ").contains("zone `bow` crosses itself"), "{}", reported(bow, "track ! "));
    let class = "[[zone]]\nname = 'a'\npoints = [[0, 0], [1, 1], [1, 0]]\nclasses = ['lorry']\n";
    assert!(reported(class, "track ! ").contains("`a` is for class `lorry`, which the model does not have; it has face, plate"));
    let two = "[[zone]]\nname = 'a'\npoints = [[0, 0], [1, 1]]\n";
    assert!(reported(two, "track ! ").contains("zone `a` has 2 points"));
    assert!(reported("[[zoen]]", "track ! ").contains("line 1: unknown field `zoen`"));
    let missing = try_run("track ! zones nowhere.toml ! collect", walk(), Some(1)).err().unwrap_or_default();
    assert!(missing.contains("nowhere.toml"), "{missing}");
}

#[test]
fn pixels_outside_are_reported_when_the_size_is_known() {
    let (_folder, path) = map(&MAP.replace("[64, 0]", "[640, 0]"));
    let error = run(&format!("track ! zones {} ! collect", path.display()), walk()).error();
    assert!(error.contains("zone `right` has point 2 at [640, 0], outside of the frame of 64x48 pixels"), "{error}");
}

#[test]
fn zones_without_identities_are_counted_and_streams_that_do_not_come_are_reported() {
    let (_folder, path) =
        map("[[zone]]\nname = 'a'\npoints = [[0, 0], [1, 0], [1, 1], [0, 1]]\n[[zone]]\nname = 'b'\npoints = [[0, 0], [1, 0], [1, \
         1]]\nstreams = ['yard']\n");
    let ran = run(&format!("zones {} ! collect", path.display()), walk());
    let zones: &FrameZones = frames(&ran.items)[0].attachments.get().expect("attached");
    assert_eq!((zones.zones.len(), zones.zones[0].count, ran.counter("zones_entered")), (1, 1, 0));
    let notices = ran.outcome.stats.stages.iter().flat_map(|stage| stage.notices.clone()).collect::<Vec<_>>().join("; ");
    assert!(notices.contains("counted but not timed") && notices.contains("`b` is for stream `yard`, which did not appear"), "{notices}");
}
