//! Trackers and measures compared with published programs, on scenes with known identities: see `tracking/make_reference.py`.

#[path = "tracking/appearance.rs"]
mod appearance;

use std::{collections::HashMap, fs, path::Path};

use framerail_core::BBox;
use framerail_vision::track::{ByteTrack, ByteTrackOptions, Evaluator, IdentifiedBox, Observation, OcSort, OcSortOptions};

const SCENES: [&str; 3] = ["crowd", "street", "turns"];

struct Row {
    frame: usize,
    thing: Option<u64>,
    truth: Option<BBox>,
    found: Option<BBox>,
    score: f32,
    /// Identities from the two reference programs.
    expected: [Option<u64>; 2],
}

fn text(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tracking").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn bbox(field: &str) -> Option<BBox> {
    let numbers: Vec<f64> = field.split(',').map_while(|number| number.parse().ok()).collect();
    let [x, y, w, h] = numbers[..] else { return None };
    Some(BBox::from_xyxy((x / 10.0) as f32, (y / 10.0) as f32, ((x + w) / 10.0) as f32, ((y + h) / 10.0) as f32))
}

/// The rows of a scene, frame by frame.
fn scene(name: &str) -> Vec<Vec<Row>> {
    let mut frames: Vec<Vec<Row>> = Vec::new();
    for line in text(&format!("{name}.tsv")).lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let row = Row {
            frame: fields[0].parse().expect("a number"),
            thing: fields[1].parse().ok(),
            truth: bbox(fields[2]),
            found: bbox(fields[3]),
            score: fields[4].parse::<f32>().expect("a number") / 10_000.0,
            expected: [fields[5].parse().ok(), fields[6].parse().ok()],
        };
        frames.resize_with(frames.len().max(row.frame + 1), Vec::new);
        frames[row.frame].push(row);
    }
    frames
}

fn observations(rows: &[Row]) -> Vec<Observation<'_>> {
    rows.iter().filter_map(|row| Some(Observation { bbox: row.found?, score: row.score, class: 0, embedding: None })).collect()
}

/// Identities of every detection, frame by frame.
fn tracked(frames: &[Vec<Row>], mut update: impl FnMut(&[Observation<'_>]) -> Vec<Option<u64>>) -> Vec<Vec<Option<u64>>> {
    frames.iter().map(|rows| update(&observations(rows))).collect()
}

fn byte(frames: &[Vec<Row>]) -> Vec<Vec<Option<u64>>> {
    let mut tracker = ByteTrack::new(ByteTrackOptions::default(), 30.0);
    tracked(frames, |found| tracker.update(found, 1.0))
}

fn oc(frames: &[Vec<Row>]) -> Vec<Vec<Option<u64>>> {
    let mut tracker = OcSort::new(OcSortOptions::default());
    tracked(frames, |found| tracker.update(found, 1.0))
}

/// Counts the detections with the same identity as in the reference, and all detections. Identities are paired when they first meet.
fn agreement(frames: &[Vec<Row>], ids: &[Vec<Option<u64>>], program: usize) -> (usize, usize) {
    let expected = frames.iter().flat_map(|rows| rows.iter().filter(|row| row.found.is_some()).map(|row| row.expected[program]));
    let pairs: Vec<(Option<u64>, Option<u64>)> = ids.iter().flatten().copied().zip(expected).collect();
    let (mut ours, mut theirs): (HashMap<u64, u64>, HashMap<u64, u64>) = Default::default();
    let same = pairs.iter().filter(|pair| match **pair {
        (None, None) => true,
        (Some(our), Some(their)) => *ours.entry(our).or_insert(their) == their && *theirs.entry(their).or_insert(our) == our,
        _ => false,
    });
    (same.count(), pairs.len())
}

#[test]
fn identities_are_those_of_the_published_programs() {
    for name in SCENES {
        let frames = scene(name);
        for (program, ids) in [byte(&frames), oc(&frames)].into_iter().enumerate() {
            let (same, all) = agreement(&frames, &ids, program);
            println!("{name} {}: {same} of {all}", ["ByteTrack", "OC-SORT"][program]);
            assert!(same * 1000 >= all * 995, "{name}, program {program}: only {same} of {all} detections agree");
        }
    }
}

fn evaluated(frames: &[Vec<Row>], ids: &[Vec<Option<u64>>]) -> [f64; 6] {
    let mut evaluator = Evaluator::default();
    for (rows, ids) in frames.iter().zip(ids) {
        let truth: Vec<_> = rows.iter().filter_map(|row| Some(IdentifiedBox { id: row.thing?, bbox: row.truth? })).collect();
        let boxes = rows.iter().filter_map(|row| row.found);
        let found: Vec<_> = boxes.zip(ids).filter_map(|(bbox, id)| Some(IdentifiedBox { id: (*id)?, bbox })).collect();
        evaluator.add_frame(&truth, &found);
    }
    let measures = evaluator.evaluation();
    let switches = measures.identity_switches as f64;
    [measures.hota, measures.detection_accuracy, measures.association_accuracy, switches, measures.mota, measures.idf1]
}

fn reference_ids(frames: &[Vec<Row>], program: usize) -> Vec<Vec<Option<u64>>> {
    let ids = |rows: &Vec<Row>| rows.iter().filter(|row| row.found.is_some()).map(|row| row.expected[program]).collect();
    frames.iter().map(ids).collect()
}

#[test]
fn the_measures_are_those_of_trackeval() {
    let table = text("evaluation.tsv");
    let mut checked = 0;
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let program = usize::from(fields[1] == "oc");
        let frames = scene(fields[0]);
        let expected: Vec<f64> = fields[2..].iter().map(|field| field.parse().expect("a number")).collect();
        let found = evaluated(&frames, &reference_ids(&frames, program));
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 2e-4, "{}: {found} for {expected}", fields[..2].join(" "));
        }
        checked += 1;
    }
    assert_eq!(checked, 2 * SCENES.len());
}

#[test]
fn identities_are_as_good_as_those_of_the_published_programs() {
    for name in SCENES {
        let frames = scene(name);
        for (program, ids) in [byte(&frames), oc(&frames)].into_iter().enumerate() {
            let ours = evaluated(&frames, &ids);
            let theirs = evaluated(&frames, &reference_ids(&frames, program));
            println!(
                "{name} {}: HOTA {:.3} ({:.3}), switches {} ({})",
                ["ByteTrack", "OC-SORT"][program],
                ours[0],
                theirs[0],
                ours[3],
                theirs[3]
            );
            assert!(ours[0] > theirs[0] - 0.005 && ours[3] <= theirs[3], "{name}: {ours:?} for {theirs:?}");
        }
    }
}
