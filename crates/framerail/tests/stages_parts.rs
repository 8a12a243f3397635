//! Several models: parts around detections, regions, tiles, other models than detectors; sharing and refusals.

mod stages_support;

use std::{path::Path, process::Command};

use framerail::{
    core::{Attribute, AttributeValue, BBox, ColorMatrix, Detection, DetectionOrigin, Label, PixelFormat, StreamId},
    parts::{FrameAttributes, FrameParts},
    pipeline::{Description, EdgeFormat, FrameItem, Item, RunOptions, check},
};
use framerail_testkit::models::{
    SampleModel, bright_segmentation, brightness_depth, colour_classifier, colour_embedding, eye_landmarks, lucas_kanade_flow,
    spot_detector,
};
use stages_support::{Ran, end, frame, gated, interleaved, run, seen, stream, try_run};
use tempfile::TempDir;

/// Models of the tests in a folder.
struct Models(TempDir);

impl Models {
    fn new(models: &[SampleModel]) -> Self {
        let folder = tempfile::tempdir().expect("temporary folder");
        models.iter().for_each(|model| drop(model.save_in(folder.path())));
        Self(folder)
    }

    /// The text with `@NAME` as the path of that model's card.
    fn text(&self, text: &str) -> String {
        let folder = self.0.path().display();
        text.split(' ')
            .map(|word| word.strip_prefix('@').map_or(word.to_owned(), |name| format!("{folder}/{name}.toml")))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn run(&self, text: &str, items: Vec<Item>) -> Ran {
        let ran = run(&self.text(text), items);
        assert_eq!(ran.error(), "none");
        ran
    }

    fn refused(&self, text: &str) -> String {
        try_run(&self.text(text), one_stream(Vec::new()), Some(1)).err().expect("refused")
    }
}

/// A black 64x48 frame with white squares.
fn spotted(stream: u32, index: u64, squares: &[(usize, usize, usize)]) -> FrameItem {
    let mut item = frame(stream, index);
    let planes = item.frame.surface.host_mut().expect("own").planes_mut();
    let mut planes = planes.expect("own");
    planes.plane(0).fill(16);
    for (x, y, side) in squares {
        (*y..*y + *side).for_each(|row| planes.row(0, row)[*x..*x + *side].fill(235));
    }
    item
}

/// The colour of a frame's left half and of its right half, by their chroma.
fn coloured(item: FrameItem, left: (u8, u8), right: (u8, u8)) -> FrameItem {
    let mut item = item;
    let mut planes = item.frame.surface.host_mut().expect("own").planes_mut().expect("own");
    planes.plane(0).fill(100);
    for row in 0..24 {
        planes.row(1, row)[..16].fill(left.0);
        planes.row(1, row)[16..32].fill(right.0);
        planes.row(2, row)[..16].fill(left.1);
        planes.row(2, row)[16..32].fill(right.1);
    }
    item
}

const RED: (u8, u8) = (100, 220);
const BLUE: (u8, u8) = (220, 110);

fn one_stream(frames: Vec<FrameItem>) -> Vec<Item> {
    let start = [Item::StreamStart(stream(0, "cam"))];
    start.into_iter().chain(frames.into_iter().map(Item::from)).chain([end(0)]).collect()
}

fn thing(bbox: [f32; 4], score: f32, label: &str, track: Option<u64>) -> Detection {
    let [x1, y1, x2, y2] = bbox;
    let id = u32::from(label == "plate");
    Detection { track_id: track, ..Detection::new(BBox::from_xyxy(x1, y1, x2, y2), score, Label { id, name: label.into() }) }
}

fn frames_of(ran: &Ran) -> Vec<&FrameItem> {
    ran.items
        .iter()
        .filter_map(|item| match item {
            Item::Frame(item) => Some(&**item),
            _ => None,
        })
        .collect()
}

/// The best class of each detection of a frame.
fn classes(item: &FrameItem) -> Vec<Option<String>> {
    let best = |found: &Detection| {
        found.attributes.iter().find_map(|attribute| match &attribute.value {
            AttributeValue::Classes(classes) => classes.first().map(|class| class.label.name.to_string()),
            _ => None,
        })
    };
    item.detections.iter().map(best).collect()
}

fn is_near(found: &BBox, expected: [f32; 4]) -> bool {
    [found.x1, found.y1, found.x2, found.y2].iter().zip(expected).all(|(a, b)| (a - b).abs() < 0.6)
}

#[test]
fn a_classifier_tells_of_each_detection() {
    let models = Models::new(&[colour_classifier()]);
    let (left, right) = ([2.0, 2.0, 28.0, 40.0], [36.0, 2.0, 62.0, 40.0]);
    let both = vec![thing(left, 0.6, "face", None), thing(right, 0.9, "plate", None), thing([0.0, 0.0, 3.0, 40.0], 0.8, "face", None)];
    let frames = vec![coloured(seen(0, 0, both), RED, BLUE), seen(0, 1, Vec::new())];
    let ran = models.run("crop min_size=10 ! infer @colour batch=4 ! collect", one_stream(frames));
    let frames = frames_of(&ran);
    assert_eq!(classes(frames[0]), [Some("red".into()), Some("blue".into()), None]);
    assert_eq!(&*frames[0].detections[0].attributes[0].model, "colour");
    assert!(frames.iter().all(|item| item.attachments.get::<FrameParts>().is_none()), "parts are used up");
    assert!(frames[0].analysed && frames[1].analysed, "as the detector left it");
    for (counter, count) in [("parts", 2), ("parts_too_small", 1), ("parts_analysed", 2), ("attributes", 2), ("frames_analysed", 1)] {
        assert_eq!(ran.counter(counter), count, "{counter}");
    }
}

#[test]
fn parts_are_chosen_by_class_and_score() {
    let models = Models::new(&[colour_classifier()]);
    let place = [2.0, 2.0, 28.0, 40.0];
    let all =
        || [(0.5, "face"), (0.9, "plate"), (0.7, "face"), (0.6, "face")].map(|(score, label)| thing(place, score, label, None)).to_vec();
    let reported = |options: &str| {
        let frames = vec![coloured(seen(0, 0, all()), RED, BLUE)];
        let ran = models.run(&format!("crop {options} ! infer @colour ! collect"), one_stream(frames));
        let found = classes(frames_of(&ran)[0]).iter().map(Option::is_some).collect::<Vec<_>>();
        (found, ran.counter("parts_beyond_max"))
    };
    assert_eq!(reported("labels=face"), (vec![true, false, true, true], 0));
    assert_eq!(reported("labels=face max=2"), (vec![false, false, true, true], 1));
    assert_eq!(reported("min_score=0.65"), (vec![false, true, true, false], 0));
}

#[test]
fn a_detector_finds_parts_of_detections() {
    let models = Models::new(&[spot_detector()]);
    let squares = [(12, 12, 4), (40, 20, 4)];
    let mut item = spotted(0, 0, &squares);
    item.detections = vec![thing([8.0, 8.0, 24.0, 24.0], 0.9, "face", None), thing([48.0, 30.0, 64.0, 46.0], 0.9, "face", None)];
    let ran = models.run("crop ! infer @spots size=32x32 ! collect", one_stream(vec![item]));
    let [first, second] = &frames_of(&ran)[0].detections[..] else { panic!("two detections") };
    let AttributeValue::Parts(parts) = &first.attributes[0].value else { panic!("{first:?}") };
    assert!(parts.iter().all(|part| &*part.label.name == "spot" && part.label.id == 0), "{parts:?}");
    assert!(parts.iter().any(|part| part.bbox.center().x > 12.0 && part.bbox.center().x < 16.0), "in frame pixels: {parts:?}");
    assert!(second.attributes.is_empty(), "nothing is there");
    let error = models.refused("crop ! infer @spots ! collect");
    assert!(error.contains("one input size for parts of all sizes") && error.contains("size=320x320"), "{error}");
}

#[test]
fn what_is_found_in_detections_may_be_of_the_frame() {
    let models = Models::new(&[spot_detector(), colour_classifier()]);
    let mut item = spotted(0, 0, &[(12, 12, 4), (40, 20, 4)]);
    item.detections = vec![thing([8.0, 8.0, 24.0, 24.0], 0.9, "face", None), thing([8.0, 8.0, 24.0, 24.0], 0.8, "face", None)];
    let ran = models.run("crop ! infer @spots size=48x48 finds=detections ! collect", one_stream(vec![item]));
    let found = &frames_of(&ran)[0].detections;
    assert!(found[..2].iter().all(|face| face.attributes.is_empty()));
    let spots: Vec<(u32, &str)> = found[2..].iter().map(|spot| (spot.label.id, &*spot.label.name)).collect();
    assert_eq!(spots, [(2, "spot")], "both saw the same one: {found:?}");
    for (text, reported) in [
        ("crop ! infer @colour finds=detections ! collect", "colour is a model for classification"),
        ("infer @spots finds=detections ! collect", "put `crop` before it"),
        ("track ! crop every=2 ! infer @spots size=32x32 finds=detections ! collect", "remove every= of `crop`"),
    ] {
        let error = models.refused(text);
        assert!(error.contains(reported), "{error}");
    }
}

#[test]
fn objects_that_were_gone_are_found_again_by_their_appearance() {
    let models = Models::new(&[colour_embedding()]);
    // A red and a blue face leave and come back on each other's side.
    let at = |index: u64| {
        let mut item = match index {
            0..10 => coloured(frame(0, index), RED, BLUE),
            10..60 => frame(0, index),
            _ => coloured(frame(0, index), BLUE, RED),
        };
        if !(10..60).contains(&index) {
            item.detections = vec![thing([2.0, 2.0, 28.0, 40.0], 0.9, "face", None), thing([36.0, 2.0, 62.0, 40.0], 0.9, "face", None)];
        }
        item.analysed = true;
        item
    };
    for (options, last) in [("", [2, 1]), (" algorithm=ocsort", [2, 1]), (" appearance=no", [3, 4]), (" reidentify=20", [3, 4])] {
        let ran = models.run(&format!("crop ! infer @likeness ! track{options} ! collect"), one_stream((0..70).map(at).collect()));
        let ids = |item: &FrameItem| item.detections.iter().map(|found| found.track_id).collect::<Vec<_>>();
        let frames = frames_of(&ran);
        assert_eq!((ids(frames[9]), ids(frames[69])), (vec![Some(1), Some(2)], last.map(Some).to_vec()), "{options}");
        assert_eq!(ran.counter("tracks_reidentified"), u64::from(last == [2, 1]) * 2, "{options}");
    }
    let error = models.refused("track appearance=yes ! collect");
    assert!(error.contains("embeddings") && error.contains("put `crop ! infer EMBEDDING` before it"), "{error}");
}

#[test]
fn tracks_are_processed_in_turn_and_results_are_kept() {
    let models = Models::new(&[colour_classifier()]);
    let at = |index: u64| {
        let shift = index as f32;
        let item = seen(
            0,
            index,
            vec![thing([2.0 + shift, 2.0, 22.0 + shift, 40.0], 0.9, "face", None), thing([36.0, 2.0, 62.0, 40.0], 0.8, "face", None)],
        );
        coloured(item, RED, BLUE)
    };
    let ran = models.run("track ! crop every=4 ! infer @colour ! collect", one_stream((0..8).map(at).collect()));
    for item in frames_of(&ran) {
        assert_eq!(classes(item), [Some("red".into()), Some("blue".into())], "frame {}", item.frame.index);
    }
    let (looked, kept) = (ran.counter("parts_analysed"), ran.counter("attributes_kept"));
    assert_eq!((looked + kept, ran.counter("parts_kept")), (16, kept));
    assert!((4..=6).contains(&looked), "twice or three times each: {looked}");
    let error = models.refused("crop every=4 ! infer @colour ! collect");
    assert!(error.contains("detections with identities") && error.contains("put `track` before it"), "{error}");
    let error = models.refused("track ! crop every=4 ! infer @colour workers=2 ! collect");
    assert!(error.contains("a single worker keeps the results"), "{error}");
}

#[test]
fn predicted_boxes_are_processed_too() {
    let models = Models::new(&[spot_detector(), colour_classifier()]);
    let frames = (0..6).map(|index| spotted(0, index, &[(20, 20, 4)])).collect();
    let text = "infer @spots every=3 ! track track_thresh=0.5 ! crop ! infer @colour ! collect";
    // `given` declares detections on every frame, so a model that skips frames is refused after it.
    let error = models.refused(text);
    assert!(error.contains("spots") && error.contains("give both `infer` stages the same every="), "{error}");
    let text = text.replace("every=3 ", "");
    let ran = models.run(&text, one_stream(frames));
    let frames = frames_of(&ran);
    assert!(frames.iter().all(|item| item.detections.iter().all(|found| found.attributes.len() == 1)));
    let held: Vec<FrameItem> = (0..3)
        .map(|index| {
            let mut item = coloured(seen(0, index, vec![thing([2.0, 2.0, 28.0, 40.0], 0.9, "face", Some(1))]), RED, BLUE);
            (item.analysed, item.detections[0].origin) = (index == 0, DetectionOrigin::Held);
            item
        })
        .collect();
    let ran = models.run("crop ! infer @colour ! collect", one_stream(held));
    assert!(frames_of(&ran).iter().all(|item| classes(item) == [Some("red".into())]));
    assert_eq!(frames_of(&ran).iter().filter(|item| item.analysed).count(), 1, "what the detector left out stays so");
}

#[test]
fn regions_give_detections_of_the_frame() {
    let models = Models::new(&[spot_detector(), colour_classifier()]);
    let item = || spotted(0, 0, &[(4, 4, 4), (40, 20, 4), (56, 40, 4)]);
    let ran = models.run("regions 'left:0,0,50%,32;32,0,24,32' ! infer @spots size=32x32 ! collect", one_stream(vec![item()]));
    let found = &frames_of(&ran)[0].detections;
    assert!(found.iter().all(|spot| (spot.label.id, &*spot.label.name) == (2, "spot")), "behind the classes before: {found:?}");
    assert!(found.iter().any(|spot| spot.bbox.center().x < 10.0) && found.iter().any(|spot| (spot.bbox.center().x - 42.0).abs() < 2.0));
    assert!(found.iter().all(|spot| spot.bbox.center().x < 50.0), "the third lies in no region: {found:?}");
    // A classifier makes the region itself a detection.
    let ran = models.run(
        "regions 'left:0,0,50%,100%;right:50%,0,50%,100%' ! infer @colour ! collect",
        one_stream(vec![coloured(frame(0, 0), RED, BLUE)]),
    );
    let item = frames_of(&ran)[0];
    assert_eq!(classes(item), [Some("red".into()), Some("blue".into())]);
    let names: Vec<(u32, &str)> = item.detections.iter().map(|found| (found.label.id, &*found.label.name)).collect();
    assert_eq!(names, [(2, "left"), (3, "right")]);
    assert!(is_near(&item.detections[1].bbox, [32.0, 0.0, 64.0, 48.0]));
    assert!(models.refused("regions 1,2,3 ! infer @colour ! collect").contains("write x,y,w,h"));
    assert!(models.refused("regions nowhere.toml ! infer @colour ! collect").contains("nowhere.toml"));
}

#[test]
fn regions_come_from_a_file_of_zones() {
    let models = Models::new(&[colour_classifier()]);
    let file = models.0.path().join("yard.toml");
    let zones = "[[zone]]\nname = 'gate'\npoints = [[0.5, 0], [1, 0.5], [0.5, 1]]\n[[zone]]\nname = 'other'\nstreams = ['cam2']\nunits = 'pixels'\npoints = [[0, 0], [9, 0], [0, 9]]\n";
    std::fs::write(&file, zones).expect("writable");
    let ran = models.run("regions @yard ! infer @colour ! collect", one_stream(vec![coloured(frame(0, 0), RED, BLUE)]));
    let item = frames_of(&ran)[0];
    assert_eq!((classes(item), &*item.detections[0].label.name), (vec![Some("blue".into())], "gate"));
    assert!(is_near(&item.detections[0].bbox, [32.0, 0.0, 64.0, 48.0]));
}

#[test]
fn what_is_found_beside_the_polygon_of_a_region_is_left_out() {
    let models = Models::new(&[spot_detector()]);
    let spots = || one_stream(vec![spotted(0, 0, &[(4, 4, 4), (56, 40, 4)])]);
    let upper = "[[zone]]\nname = 'upper'\npoints = [[0, 0], [1, 0], [0, 1]]\n";
    let lower = "[[zone]]\nname = 'lower'\npoints = [[1, 0], [1, 1], [0, 1]]\nanchor = 'centre'\n";
    let left = |ran: &Ran| frames_of(ran)[0].detections.iter().map(|spot| spot.bbox.center().x).collect::<Vec<_>>();
    let file = models.0.path().join("yard.toml");
    for (zones, places, outside) in
        [(upper.to_owned(), vec![6.0], 1), (lower.to_owned(), vec![58.0], 1), (format!("{upper}{lower}"), vec![6.0, 58.0], 2)]
    {
        std::fs::write(&file, &zones).expect("writable");
        let ran = models.run("regions @yard ! infer @spots size=64x48 ! collect", spots());
        let found = left(&ran);
        assert_eq!(found.len(), places.len(), "{zones}: {found:?}");
        assert!(found.iter().zip(&places).all(|(x, place): (&f32, &f32)| (x - place).abs() < 2.0), "{zones}: {found:?}");
        assert_eq!((ran.counter("detections_outside"), ran.counter("detections")), (outside, places.len() as u64), "{zones}");
    }
    // A rectangle has no outside.
    let ran = models.run("regions 0,0,100%,100% ! infer @spots size=64x48 ! collect", spots());
    assert_eq!((left(&ran).len(), ran.counter("detections_outside")), (2, 0));
}

#[test]
fn tiles_find_what_one_run_on_the_frame_misses() {
    let models = Models::new(&[spot_detector()]);
    let item = || spotted(0, 0, &[(4, 4, 4), (28, 20, 4), (56, 40, 4)]);
    // The whole frame at a quarter of its size: each spot is a pixel in a cell of 16.
    let ran = models.run("infer @spots size=16x12 ! collect", one_stream(vec![item()]));
    assert_eq!(frames_of(&ran)[0].detections, []);
    let ran = models.run("tiles 32x24 overlap=0.5 whole=no threshold=0.1 ! infer @spots ! collect", one_stream(vec![item(), item()]));
    for item in frames_of(&ran) {
        assert_eq!(item.detections.len(), 3, "{:?}", item.detections);
        for (found, x) in item.detections.iter().zip([6.0, 30.0, 58.0]) {
            assert!(item.detections.iter().any(|spot| (spot.bbox.center().x - x).abs() < 1.0), "{found:?}");
        }
        assert!(item.analysed);
    }
    assert_eq!((ran.counter("parts"), ran.counter("parts_analysed")), (18, 18));
    assert!(ran.counter("detections_merged") >= 6, "the middle one is in four tiles of each frame");
    let ran = models.run("tiles 32x24 overlap=0 ! infer @spots batch=2 ! collect", one_stream(vec![item()]));
    assert_eq!((ran.counter("parts"), frames_of(&ran)[0].detections.len()), (5, 3), "four tiles and the whole frame");
}

#[test]
fn what_describes_a_frame_is_an_attribute_of_it_or_finds_a_thing() {
    let models = Models::new(&[colour_classifier(), colour_embedding(), bright_segmentation(), eye_landmarks()]);
    let text = "infer @colour ! infer @likeness ! infer @bright ! infer @eyes confidence=0.01 ! collect";
    let ran = models.run(text, one_stream(vec![spotted(0, 0, &[(8, 12, 16)])]));
    let item = frames_of(&ran)[0];
    let stated: Vec<&str> =
        item.attachments.get::<FrameAttributes>().expect("said of the frame").0.iter().map(|stated| &*stated.model).collect();
    assert_eq!(stated, ["colour", "likeness"]);
    let [bright, eyes] = &item.detections[..] else { panic!("{:?}", item.detections) };
    assert_eq!((bright.label.id, &*bright.label.name, eyes.label.id, &*eyes.label.name), (2, "bright", 3, "face"));
    // Cells of 8x6 pixels that are bright by half or more.
    assert!(is_near(&bright.bbox, [8.0, 12.0, 24.0, 30.0]), "{:?}", bright.bbox);
    assert!(matches!(&bright.attributes[0].value, AttributeValue::Mask(mask) if mask.columns() == 8));
    assert_eq!((eyes.landmarks.len(), eyes.landmarks[1].x, eyes.landmarks[1].y), (2, 48.0, 24.0));
    let ran = models.run("infer @eyes ! collect", one_stream(vec![spotted(0, 0, &[(8, 12, 4)])]));
    assert_eq!(frames_of(&ran)[0].detections, [], "not bright enough to be a face");
}

#[test]
fn places_with_the_same_model_share_it() {
    let models = Models::new(&[colour_classifier()]);
    let both = vec![thing([2.0, 2.0, 28.0, 40.0], 0.9, "face", None), thing([36.0, 2.0, 62.0, 40.0], 0.8, "plate", None)];
    let text = "crop labels=face ! infer @colour ! crop labels=plate ! infer @colour confidence=1 ! infer @colour ! collect";
    let ran = models.run(text, one_stream((0..5).map(|index| coloured(seen(0, index, both.clone()), RED, BLUE)).collect()));
    for item in frames_of(&ran) {
        assert_eq!(classes(item), [Some("red".into()), None], "the second asks for more");
        assert_eq!(item.attachments.get::<FrameAttributes>().map(|stated| stated.0.len()), Some(1));
    }
}

#[test]
fn results_are_recorded_and_drawn() {
    let models = Models::new(&[colour_classifier(), spot_detector()]);
    let folder = tempfile::tempdir().expect("temporary folder");
    let (jsonl, csv) = (folder.path().join("said.jsonl"), folder.path().join("said.csv"));
    let face = || vec![thing([2.0, 2.0, 28.0, 40.0], 0.9, "face", None)];
    let items = || one_stream(vec![coloured(seen(0, 0, face()), RED, BLUE), coloured(seen(0, 1, Vec::new()), RED, BLUE)]);
    let look = "crop ! infer @colour ! infer @colour";
    let branches = format!("{look} ! tee ( save {} only_found=yes ) ( save {} ) ! draw ! collect", jsonl.display(), csv.display());
    let ran = models.run(&branches, items());
    let text = std::fs::read_to_string(&jsonl).expect("written");
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines.len(), 2, "what is said of a frame is something");
    let stated = &lines[0]["detections"][0]["attributes"][0];
    assert_eq!((&stated["model"], &stated["classes"][0]["label"]), (&"colour".into(), &"red".into()));
    assert_eq!(lines[1]["attributes"][0]["classes"].as_array().map(Vec::len), Some(1));
    assert!(lines[0]["detections"][0].get("zones").is_none());
    let rows = std::fs::read_to_string(&csv).expect("written");
    let row = rows.lines().nth(1).expect("a row for the face");
    assert!(row.ends_with("}]}]\",") && row.contains("\"\"model\"\":\"\"colour\"\""), "{row}");
    let drawn = frames_of(&ran);
    let plain = frames_of(&models.run(&format!("{look} ! collect"), items()))[1].frame.surface.host().expect("host").clone();
    let first_row = |surface: &framerail::core::HostSurface| surface.row(0, 4)[..40].to_vec();
    assert_ne!(first_row(drawn[1].frame.surface.host().expect("host")), first_row(&plain), "words in the corner");
}

#[test]
fn the_confidence_may_be_changed_while_it_runs() {
    let models = Models::new(&[spot_detector()]);
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("spots.jsonl");
    let (registry, give) = gated(EdgeFormat::default());
    let text = models.text(&format!("gate ! infer @spots ! save {}", path.display()));
    let mut plan = check(&Description::parse(&text).expect("well formed"), &registry).expect("known stages");
    plan.link().expect("fitting stages");
    let run = plan.into_graph().expect("linked").graph.start(RunOptions::default()).expect("started");
    // Settings exist once their stage has started.
    while run.settings().len() < 2 {
        std::thread::yield_now();
    }
    run.set_setting("infer", "confidence", 1.0).expect("it is there");
    let confidence = run.settings().into_iter().find(|setting| setting.name == "confidence").expect("just set");
    assert_eq!((confidence.initial, confidence.value, run.settings().len()), (0.6, 1.0, 2));
    one_stream(vec![spotted(0, 0, &[(12, 12, 4)])]).into_iter().for_each(|item| give.send(item).expect("it runs"));
    drop(give);
    let outcome = run.wait();
    outcome.result.expect("runs");
    assert_eq!((outcome.stats.counter("frames_analysed"), outcome.stats.counter("detections")), (1, 0), "nothing is as sure");
}

#[test]
fn only_infer_may_follow_and_others_say_so() {
    let models = Models::new(&[colour_classifier(), spot_detector()]);
    for (text, giver) in [
        ("crop ! collect", "crop"),
        ("crop ! draw ! infer @colour ! collect", "crop"),
        ("tiles 32x32 ! tee ( infer @spots ! null ) ! collect", "tiles"),
        ("regions 0,0,9,9 ! crop ! infer @colour ! collect", "regions"),
    ] {
        let error = models.refused(text);
        assert!(error.contains("needs whole frames") && error.contains(&format!("put `infer MODEL` directly after `{giver}`")), "{error}");
    }
    let error = models.refused("tiles 32x32 ! infer @colour ! collect");
    assert!(error.contains("which is a model for classification") && error.contains("use `regions` or `crop`"), "{error}");
    let error = models.refused("track ! crop ! infer @colour every=2 ! collect");
    assert!(error.contains("use every=N of `crop` instead"), "{error}");
    let error = models.refused("crop labels=dog ! infer @colour ! collect");
    assert!(error.contains("no class `dog`; it has face, plate"), "{error}");
    let error = models.refused("tiles 8x8 ! infer @spots ! collect");
    assert!(error.contains("at least 16 pixels"), "{error}");
}

/// A picture of a bright square in one colour, as a PNG.
fn portrait(folder: &Path, name: &str, squares: &str) -> String {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    let image = format!("color=black:s=64x48:d=0.04,format=rgb24,{squares}");
    let mut command = Command::new("ffmpeg");
    command.args(["-v", "error", "-f", "lavfi", "-i", &image, "-frames:v", "1", "-update", "1"]).arg(&path);
    assert!(command.status().expect("ffmpeg").success());
    path.display().to_string()
}

const YELLOW: (u8, u8) = (40, 140);
const CYAN: (u8, u8) = (150, 40);

#[test]
fn faces_are_named_by_reference_pictures_and_stay_visible() {
    let models = Models::new(&[colour_embedding(), spot_detector(), colour_classifier()]);
    let folder = models.0.path();
    let anna = portrait(folder, "anna.png", "drawbox=20:16:8:8:0xf0f000:fill");
    let ben = portrait(folder, "people/ben/1.png", "drawbox=20:16:8:8:0x00f0f0:fill");
    let two = portrait(folder, "two.png", "drawbox=8:16:8:8:white:fill,drawbox=40:16:8:8:white:fill");
    let none = portrait(folder, "none.png", "drawbox=8:16:8:8:black:fill");
    // A square to the left in one colour, one to the right in another, each with its identity.
    let two_faces = |index, left, right| {
        let tracked = [([8.0, 16.0, 16.0, 24.0], 1), ([48.0, 16.0, 56.0, 24.0], 2)];
        let item = coloured(spotted(0, index, &[(8, 16, 8), (48, 16, 8)]), left, right);
        let mut item = FrameItem { detections: tracked.map(|(bbox, track)| thing(bbox, 0.9, "face", Some(track))).into(), ..item };
        let mut planes = item.frame.surface.host_mut().expect("own").planes_mut().expect("own");
        planes.plane(0).fill(200);
        item
    };
    let frames = || vec![two_faces(0, YELLOW, CYAN), two_faces(1, YELLOW, RED), two_faces(2, CYAN, YELLOW)];
    let look = "crop around=landmarks ! infer @likeness ! identify";
    let text =
        format!("{look} {anna} model=@likeness detector=@spots similarity=0.9 ! blur kind=solid color=#000000 except_class=anna ! collect");
    // A word of the form `key=@NAME` is a path too.
    let text = text
        .replace("=@", &format!("={}/", folder.display()))
        .replace("likeness detector", "likeness.toml detector")
        .replace("spots similarity", "spots.toml similarity");
    let ran = models.run(&text, one_stream(frames()));
    let shown: Vec<[bool; 2]> = frames_of(&ran)
        .iter()
        .map(|item| {
            let surface = item.frame.surface.host().expect("on the host");
            [12, 52].map(|x| surface.row(0, 20)[x] == 200)
        })
        .collect();
    assert_eq!(shown, [[true, false], [true, false], [false, true]], "the colour decides, not the track");
    let items = frames_of(&ran);
    assert_eq!(classes(items[0]), [Some("anna".into()), None]);
    let is_embedding = |attribute: &framerail::core::Attribute| matches!(attribute.value, AttributeValue::Embedding(_));
    assert!(items.iter().flat_map(|item| &item.detections).all(|found| !found.attributes.iter().any(is_embedding)), "biometric data");
    assert_eq!((ran.counter("faces_recognised"), ran.counter("detections_left_visible"), ran.counter("faces_compared")), (3, 3, 6));

    let identify = |images: &str, model: &str| {
        let folder = folder.display();
        format!("{look} {images} model={folder}/{model}.toml detector={folder}/spots.toml similarity=0.9 keep_embeddings=yes ! collect")
    };
    let ran = models.run(&identify(&format!("{anna} {folder}/people/ben", folder = folder.display()), "likeness"), one_stream(frames()));
    assert_eq!(classes(frames_of(&ran)[0]), [Some("anna".into()), Some("ben".into())]);
    assert!(frames_of(&ran)[0].detections[0].attributes.iter().any(is_embedding));
    assert!(ben.ends_with("1.png"));
    for (images, model, why) in [
        (two.as_str(), "likeness", "two.png: 2 faces were found in it; crop it to the face of one person"),
        (none.as_str(), "likeness", "none.png: no face was found in it"),
        ("nobody.png", "likeness", "nobody.png"),
        (anna.as_str(), "colour", "model=colour: it is a model for classification; this needs one for embedding"),
        (anna.as_str(), "spots", "model=spots: it is a model for detection"),
    ] {
        let problem = try_run(&models.text(&identify(images, model)), one_stream(frames()), Some(1)).err().expect(why);
        assert!(problem.contains(why), "{images}: {problem}");
    }
    let problem = try_run("crop around=landmarks margin=0.2 ! null", one_stream(Vec::new()), Some(1)).err().expect("refused");
    assert!(problem.contains("around=landmarks takes no margin"), "{problem}");
}

/// A smooth pattern, moved to the right and down.
fn waves(index: u64, right: f32, down: f32) -> FrameItem {
    let mut item = frame(0, index);
    let mut planes = item.frame.surface.host_mut().expect("own").planes_mut().expect("own");
    for y in 0..48 {
        for (x, luma) in planes.row(0, y).iter_mut().enumerate() {
            let (x, y) = (x as f32 - right * index as f32, y as f32 - down * index as f32);
            *luma = (125.0 + 45.0 * (x / 5.0).sin() + 45.0 * (y / 4.0 + x / 9.0).cos()) as u8;
        }
    }
    item
}

fn flow_of(item: &FrameItem) -> Option<[f32; 2]> {
    let attributes = item.attachments.get::<FrameAttributes>()?;
    let [Attribute { value: AttributeValue::Flow(flow), .. }] = &attributes.0[..] else { panic!("{attributes:?}") };
    // Away from the borders, which the model cannot see beyond.
    let cell = |row: usize, column: usize| flow.map.cells()[row * 64 + column];
    let inner: Vec<[f32; 2]> = (12..52).flat_map(|row| (12..52).map(move |column| cell(row, column))).collect();
    Some([0, 1].map(|axis| inner.iter().map(|motion| motion[axis]).sum::<f32>() / inner.len() as f32))
}

#[test]
fn flow_is_the_motion_of_frame_pixels_since_the_frame_before() {
    let models = Models::new(&[lucas_kanade_flow()]);
    let frames = |right, down| (0..4).map(|index| waves(index, right, down)).collect::<Vec<_>>();
    for (right, down) in [(1.0, 0.0), (-0.5, 0.75), (0.0, 0.0)] {
        let ran = models.run("infer @flow ! collect", one_stream(frames(right, down)));
        let found: Vec<Option<[f32; 2]>> = frames_of(&ran).into_iter().map(flow_of).collect();
        assert_eq!(found[0], None, "there is no frame before the first");
        for motion in &found[1..] {
            let [x, y] = motion.expect("a motion");
            assert!((x - right).abs() < 0.12 && (y - down).abs() < 0.12, "{x}, {y} instead of {right}, {down}");
        }
    }
    // Each stream is compared with itself.
    let second = |mut item: FrameItem| {
        item.frame.stream = StreamId(1);
        Item::from(item)
    };
    let start = [Item::StreamStart(stream(1, "other"))];
    let other = start.into_iter().chain(frames(0.0, 1.0).into_iter().map(second)).chain([end(1)]).collect();
    let ran = models.run("infer @flow ! collect", interleaved(one_stream(frames(1.0, 0.0)), other));
    for item in frames_of(&ran) {
        let expected = if item.frame.stream == StreamId(0) { [1.0, 0.0] } else { [0.0, 1.0] };
        let found = flow_of(item);
        assert_eq!(found.is_some(), item.frame.index > 0, "frame {} of stream {}", item.frame.index, item.frame.stream);
        assert!(found.is_none_or(|found| found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 0.12)), "{found:?}");
    }
    let ran = models.run("infer @flow every=2 ! collect", one_stream(frames(0.5, 0.0)));
    let found: Vec<Option<[f32; 2]>> = frames_of(&ran).into_iter().map(flow_of).collect();
    let [None, None, Some([x, _]), None] = found[..] else { panic!("{found:?}") };
    assert!((x - 1.0).abs() < 0.12, "{x}: from the frame that the model saw before");
}

#[test]
fn maps_are_images_of_the_size_of_the_frame() {
    let models = Models::new(&[brightness_depth(), lucas_kanade_flow()]);
    let surface = |ran: &Ran, index: usize| frames_of(ran)[index].frame.surface.host().expect("on the host").clone();
    let spots = || one_stream(vec![spotted(0, 0, &[(16, 12, 24)]), spotted(0, 1, &[(16, 12, 24)])]);
    let ran = models.run("infer @depth ! maps from=0 to=1 ! collect", spots());
    let color = surface(&ran, 0);
    assert_eq!((color.format(), color.width(), color.height()), (PixelFormat::Rgb24, 64, 48));
    let pixel = |row: usize, column: usize| &color.row(0, row)[3 * column..3 * column + 3];
    assert_eq!((pixel(2, 2), pixel(24, 28)), (&[0, 0, 4][..], &[252, 255, 164][..]), "dark is far, bright is near");
    assert_eq!(frames_of(&ran)[0].frame.color.matrix, ColorMatrix::Rgb);
    let half = surface(&models.run("infer @depth ! maps from=0 to=1 blend=0.5 ! collect", spots()), 0);
    let mixed = &half.row(0, 24)[3 * 28..3 * 28 + 3];
    assert!(mixed[2].abs_diff(209) <= 2 && mixed[1] >= 253, "{mixed:?} is between white and its colour");
    let gray = surface(&models.run("infer @depth ! maps as=gray16 from=0 to=1 ! collect", spots()), 0);
    let level = |row: usize, column: usize| u16::from_le_bytes([gray.row(0, row)[2 * column], gray.row(0, row)[2 * column + 1]]);
    assert_eq!((gray.format(), level(2, 2), level(24, 28)), (PixelFormat::Gray16, 0, 65_535));
    let moving = (0..3).map(|index| waves(index, 1.0, 0.0)).collect();
    let ran = models.run("infer @flow ! maps to=2 ! collect", one_stream(moving));
    let (first, second) = (surface(&ran, 0), surface(&ran, 1));
    assert!(first.row(0, 24).iter().all(|value| *value == 0), "no map yet");
    let to_the_right = &second.row(0, 24)[3 * 32..3 * 32 + 3];
    assert!(to_the_right[0] > 250 && to_the_right[1..].iter().all(|value| (90..170).contains(value)), "{to_the_right:?} is not pale red");
    assert_eq!(ran.counter("frames_without_map"), 1);
}

#[test]
fn depth_is_written_as_16_bit_images_and_recorded_as_a_summary() {
    let models = Models::new(&[brightness_depth()]);
    let folder = tempfile::tempdir().expect("temporary folder");
    let out = folder.path().display();
    let text = format!("infer @depth ! tee ( save {out}/depth.jsonl ) ! maps as=gray16 ! frames {out}/png");
    models.run(&text, one_stream(vec![spotted(0, 0, &[(16, 12, 24)])]));
    let image = folder.path().join("png/cam-000000.png");
    let decoded = |format: &str| {
        let mut ffmpeg = Command::new("ffmpeg");
        let done = ffmpeg.args(["-v", "error", "-i"]).arg(&image).args(["-f", "rawvideo", "-pix_fmt", format, "-"]).output();
        done.expect("ffmpeg runs").stdout
    };
    let levels: Vec<u16> = decoded("gray16le").as_chunks::<2>().0.iter().map(|bytes| u16::from_le_bytes(*bytes)).collect();
    assert_eq!(levels.len(), 64 * 48);
    // More than 256 levels lie between dark and bright: the edges are interpolated.
    assert_eq!((levels.iter().min(), levels.iter().max()), (Some(&0), Some(&65_535)));
    assert!(levels.iter().any(|level| level % 257 != 0), "16 bits are kept");
    let record = std::fs::read_to_string(folder.path().join("depth.jsonl")).expect("written");
    let record: serde_json::Value = serde_json::from_str(record.lines().next().expect("a line")).expect("JSON");
    let depth = &record["attributes"][0]["depth"];
    assert_eq!((&depth["size"], &depth["unit"]), (&serde_json::json!([16, 16]), &serde_json::json!("inverse")));
    assert!(depth["max"].as_f64() > Some(0.9) && depth["min"].as_f64() < Some(0.1), "{depth}");
}

#[test]
fn where_there_is_no_map_says_what_to_do() {
    let models = Models::new(&[brightness_depth(), lucas_kanade_flow(), colour_classifier(), spot_detector()]);
    for (text, words) in [
        ("maps ! collect", "put `infer` with a depth or flow model before it"),
        ("infer @colour ! maps ! collect", "frames with depth or optical flow"),
        ("infer @flow workers=2 ! collect", "needs them in order"),
        ("infer @flow batch=4 ! collect", "compares each frame with the one before it; use 1"),
        ("infer @spots ! crop ! infer @depth ! collect", "whole frames for depth"),
        ("tiles 32x24 ! infer @flow ! collect", "whole frames for flow"),
        ("infer @depth ! maps as=gray16 show=flow ! collect", "which grey cannot show"),
        ("infer @depth ! maps from=2 to=1 ! collect", "is not above from=2"),
        ("infer @depth ! maps as=gray16 blend=0.5 ! collect", "leave blend out"),
        ("infer @depth ! resize 10x10 ! collect", "did you mean `scale`?"),
        ("infer @depth device=cpu provider=tensorrt ! collect", "provider=tensorrt runs on a GPU, and the device is cpu"),
    ] {
        let refused = models.refused(text);
        assert!(refused.contains(words), "{text}: {refused}");
    }
}
