//! Trackers with and without appearance and camera motion, on generated scenes: a camera that pans and shakes, objects that cross, and walls
//! behind which they turn.
//!
//! FRAMERAIL_TRACKING_SCENES=FOLDER writes the scenes for `compare_appearance.py`, which runs published trackers on them.

use std::{fs, path::Path};

use framerail_core::{Attribute, AttributeValue, BBox, Detection, Label, SplitMix64};
use framerail_vision::track::{
    ByteTrackOptions, CameraMotion, Evaluation, Evaluator, IdentifiedBox, OcSortOptions, TrackAlgorithm, Tracker, TrackerOptions,
};

const FRAMES: usize = 400;
const LENGTH: usize = 64;

/// What differs between scenes.
struct Scene {
    name: &'static str,
    seed: u64,
    things: usize,
    /// Left and right edges of walls, on the ground.
    walls: &'static [(f64, f64)],
    /// Peak speed of the camera, in pixels per frame, and standard deviation of its shake.
    pan: f64,
    shake: f64,
}

const SCENES: [Scene; 3] = [
    Scene { name: "crossings", seed: 11, things: 12, walls: &[], pan: 6.0, shake: 5.0 },
    Scene { name: "occlusions", seed: 12, things: 8, walls: &[(300.0, 520.0), (900.0, 1150.0)], pan: 0.0, shake: 0.0 },
    Scene { name: "both", seed: 13, things: 10, walls: &[(400.0, 620.0), (1000.0, 1200.0)], pan: 8.0, shake: 4.0 },
];

struct Thing {
    place: (f64, f64),
    size: (f64, f64),
    speed: (f64, f64),
    embedding: Vec<f64>,
}

/// One frame: where the camera moved, the true boxes in view, and what a detector finds.
struct Shown {
    motion: CameraMotion,
    truth: Vec<IdentifiedBox>,
    found: Vec<Detection>,
}

fn gauss(random: &mut SplitMix64) -> f64 {
    (0..12).map(|_| random.unit()).sum::<f64>() - 6.0
}

fn covered(a: &BBox, b: &BBox) -> f64 {
    let width = a.x2.min(b.x2) - a.x1.max(b.x1);
    let height = a.y2.min(b.y2) - a.y1.max(b.y1);
    f64::from(width.max(0.0) * height.max(0.0) / a.area())
}

fn bbox((x, y): (f64, f64), (width, height): (f64, f64)) -> BBox {
    BBox::from_cxcywh(x as f32, y as f32, width as f32, height as f32)
}

fn detection(random: &mut SplitMix64, bbox: BBox, score: f64, embedding: Vec<f64>) -> Detection {
    let noise = 0.02 * f64::from(bbox.height());
    let mut off = || (gauss(random) * noise) as f32;
    let bbox = BBox::from_xyxy(bbox.x1 + off(), bbox.y1 + off(), bbox.x2 + off(), bbox.y2 + off());
    let mut found = Detection::new(bbox, score as f32, Label { id: 0, name: "person".into() });
    // Noise of half the length of the embedding.
    let embedding: Vec<f32> = embedding.into_iter().map(|value| (value + 0.5 * gauss(random) / (LENGTH as f64).sqrt()) as f32).collect();
    found.attributes = vec![Attribute { model: "reid".into(), value: AttributeValue::Embedding(embedding.into()) }];
    found
}

fn direction(random: &mut SplitMix64) -> Vec<f64> {
    let vector: Vec<f64> = (0..LENGTH).map(|_| gauss(random)).collect();
    let norm = vector.iter().map(|value| value * value).sum::<f64>().sqrt();
    vector.into_iter().map(|value| value / norm).collect()
}

fn scene(scene: &Scene) -> Vec<Shown> {
    let mut random = SplitMix64::new(scene.seed);
    // Persons that a model trained for them tells apart have something in common.
    let common = direction(&mut random);
    let thing = |random: &mut SplitMix64| {
        let height = random.between(90.0, 180.0);
        let own = direction(random);
        Thing {
            place: (random.between(100.0, 1500.0), random.between(250.0, 450.0)),
            size: (height * random.between(0.35, 0.5), height),
            speed: (random.between(2.0, 6.0) * if random.chance(0.5) { 1.0 } else { -1.0 }, 0.0),
            embedding: own.iter().zip(&common).map(|(own, common)| 0.8 * own + 0.6 * common).collect(),
        }
    };
    let mut things: Vec<Thing> = (0..scene.things).map(|_| thing(&mut random)).collect();
    let mut camera = (0.0, 0.0);
    let mut frames = Vec::new();
    for frame in 0..FRAMES {
        let before = camera;
        let pan = scene.pan * (frame as f64 / 40.0).sin();
        let shake = (gauss(&mut random) * scene.shake, gauss(&mut random) * scene.shake);
        camera = (camera.0 + pan + shake.0 - 0.2 * camera.0 / 10.0, 0.8 * camera.1 + shake.1);
        let motion = CameraMotion { shift_x: before.0 - camera.0, shift_y: before.1 - camera.1, ..CameraMotion::NONE };
        for thing in &mut things {
            thing.place = (thing.place.0 + thing.speed.0, thing.place.1 + thing.speed.1);
            let is_hidden = scene.walls.iter().any(|(left, right)| (*left..*right).contains(&thing.place.0));
            // Behind a wall, objects wait and turn; elsewhere they turn seldom.
            if is_hidden && random.chance(0.05) {
                thing.speed.0 = random.between(0.5, 5.0) * if random.chance(0.5) { 1.0 } else { -1.0 };
            }
            if !(50.0..1550.0).contains(&thing.place.0) {
                thing.speed.0 = thing.speed.0.abs() * if thing.place.0 < 800.0 { 1.0 } else { -1.0 };
            }
            thing.speed.0 += 0.1 * gauss(&mut random);
        }
        let boxes: Vec<BBox> = things.iter().map(|thing| bbox((thing.place.0 - camera.0, thing.place.1 - camera.1), thing.size)).collect();
        let (mut truth, mut found) = (Vec::new(), Vec::new());
        for (number, (thing, place)) in things.iter().zip(&boxes).enumerate() {
            let behind_wall = scene.walls.iter().any(|(left, right)| (*left..*right).contains(&thing.place.0));
            let nearer = boxes.iter().enumerate().filter(|(other, _)| boxes[*other].y2 > place.y2);
            let hider = nearer.map(|(other, by)| (covered(place, by), other)).max_by(|a, b| a.0.total_cmp(&b.0));
            let (hidden, by) = hider.unwrap_or((0.0, number));
            if behind_wall || hidden > 0.8 || place.x2 < 0.0 || place.x1 > 1600.0 {
                continue;
            }
            truth.push(IdentifiedBox { id: number as u64, bbox: *place });
            if random.chance(0.03) {
                continue;
            }
            let mixed = thing.embedding.iter().zip(&things[by].embedding).map(|(own, other)| own * (1.0 - hidden) + other * hidden);
            let score = if hidden > 0.4 { random.between(0.2, 0.65) } else { random.between(0.7, 0.95) };
            found.push(detection(&mut random, *place, score, mixed.collect()));
        }
        if random.chance(0.1) {
            let place = bbox((random.between(0.0, 1600.0), random.between(100.0, 500.0)), (50.0, 110.0));
            let (score, embedding) = (random.between(0.3, 0.8), direction(&mut random));
            found.push(detection(&mut random, place, score, embedding));
        }
        frames.push(Shown { motion, truth, found });
    }
    frames
}

fn evaluated(frames: &[Shown], options: TrackerOptions, follows_camera: bool) -> Evaluation {
    let (mut tracker, mut evaluator) = (Tracker::new(options), Evaluator::default());
    for frame in frames {
        let mut found = frame.found.clone();
        if follows_camera {
            tracker.move_camera(&frame.motion);
        }
        tracker.track(&mut found, 1.0);
        let found: Vec<IdentifiedBox> =
            found.iter().filter_map(|found| Some(IdentifiedBox { id: found.track_id?, bbox: found.bbox })).collect();
        evaluator.add_frame(&frame.truth, &found);
    }
    evaluator.evaluation()
}

/// Lines of numbers: `frame` and the camera's shift, `truth` with an identity and a box, `found` with a box, a score and an embedding.
fn written(frames: &[Shown]) -> String {
    let corners = |bbox: &BBox| format!("{} {} {} {}", bbox.x1, bbox.y1, bbox.x2, bbox.y2);
    let mut lines = Vec::new();
    for frame in frames {
        lines.push(format!("frame {} {}", frame.motion.shift_x, frame.motion.shift_y));
        lines.extend(frame.truth.iter().map(|truth| format!("truth {} {}", truth.id, corners(&truth.bbox))));
        for found in &frame.found {
            let AttributeValue::Embedding(embedding) = &found.attributes[0].value else { unreachable!("as made above") };
            let values: Vec<String> = embedding.iter().map(f32::to_string).collect();
            lines.push(format!("found {} {} {}", corners(&found.bbox), found.score, values.join(" ")));
        }
    }
    lines.join("\n") + "\n"
}

#[test]
fn appearance_and_camera_motion_keep_identities() {
    let algorithms = [
        ("ByteTrack", TrackAlgorithm::ByteTrack(ByteTrackOptions::default())),
        ("OC-SORT", TrackAlgorithm::OcSort(OcSortOptions::default())),
    ];
    for scene_options in &SCENES {
        let frames = scene(scene_options);
        if let Some(folder) = std::env::var_os("FRAMERAIL_TRACKING_SCENES") {
            fs::write(Path::new(&folder).join(format!("{}.txt", scene_options.name)), written(&frames)).expect("a folder");
        }
        for (name, algorithm) in algorithms {
            let run = |appearance, follows_camera| {
                let options = TrackerOptions { algorithm, appearance, ..TrackerOptions::default() };
                let found = evaluated(&frames, options, follows_camera);
                let text = format!("{:.3} | {:.3} | {}", found.hota, found.idf1, found.identity_switches);
                println!("| {} | {name} | {appearance} | {follows_camera} | {text} |", scene_options.name);
                found
            };
            let (plain, camera) = (run(false, false), run(false, true));
            let (appearance, both) = (run(true, false), run(true, true));
            let label = format!("{} with {name}", scene_options.name);
            assert!(both.hota >= plain.hota + 0.05, "{label}: {} for {}", both.hota, plain.hota);
            assert!(both.hota >= camera.hota + 0.05 || scene_options.walls.is_empty(), "{label}: {} for {}", both.hota, camera.hota);
            assert!(both.idf1 > plain.idf1 && both.identity_switches <= plain.identity_switches, "{label}");
            assert!(appearance.hota >= plain.hota + 0.05, "{label}: {} for {}", appearance.hota, plain.hota);
        }
    }
}
