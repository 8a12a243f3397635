//! Settings changed during a run, frame by frame.

mod stages_support;

use std::sync::{
    Arc,
    mpsc::{Receiver, Sender, channel},
};

use framerail::{
    core::{Detection, DetectionOrigin, HostSurface},
    parts::FrameAttributes,
    pipeline::{Description, DetectionFormat, EdgeFormat, FrameItem, Item, RunHandle, RunOptions, RunOutcome, Verdict, check},
};
use framerail_testkit::models::{SampleModel, colour_classifier, colour_embedding};
use parking_lot::Mutex;
use stages_support::{end, face, gated, seen, stream};

/// One running stage, fed by the test.
struct Fed {
    stage: &'static str,
    give: Sender<Item>,
    come: Receiver<FrameItem>,
    run: RunHandle,
}

impl Fed {
    fn start(stage: &'static str, options: &str) -> Self {
        let detections = DetectionFormat { model: "test".into(), labels: vec!["face".into()], ..DetectionFormat::default() };
        let (registry, give) = gated(EdgeFormat { detections: Some(detections), ..EdgeFormat::default() });
        let description = Description::parse(&format!("gate ! {stage} {options} ! null")).expect("well formed");
        let mut planned = check(&description, &registry).expect("known stages").into_graph().expect("fitting stages");
        let (tell, come) = channel();
        let tell = Mutex::new(tell);
        let last = planned.edges.last().expect("an edge").id;
        planned.graph.probe(
            last,
            Arc::new(move |item| {
                let _ = tell.lock().send(item.clone());
                Verdict::Keep
            }),
        );
        let run = planned.graph.start(RunOptions::default()).expect("started");
        give.send(Item::StreamStart(stream(0, "clip"))).expect("it runs");
        Self { stage, give, come, run }
    }

    /// Changes a setting, as soon as its stage has started.
    fn set(&self, name: &str, value: f64) {
        while !self.run.settings().iter().any(|setting| setting.name == name) {
            assert!(!self.run.switch().is_over(), "{} has no {name}", self.stage);
            std::thread::yield_now();
        }
        self.run.set_setting(self.stage, name, value).unwrap_or_else(|error| panic!("{error}"));
    }

    fn give(&self, index: u64, found: Vec<Detection>) {
        self.give.send(seen(0, index, found).into()).expect("it runs");
    }

    /// The luma that the stage outputs for a frame with a face.
    fn through(&self, index: u64) -> HostSurface {
        self.give(index, vec![sure()]);
        self.come.recv().expect("a frame").frame.surface.host().expect("on the host").clone()
    }

    fn end(self) -> RunOutcome {
        self.give.send(end(0)).expect("it runs");
        drop(self.give);
        let outcome = self.run.wait();
        outcome.result.as_ref().expect("no failure");
        outcome
    }

    /// Names of the settings, with the values that they begin with.
    fn offered(stage: &'static str, options: &str) -> Vec<(String, f64)> {
        let fed = Self::start(stage, options);
        let switch = fed.run.switch();
        fed.end();
        switch.settings().into_iter().map(|setting| (setting.name, setting.initial)).collect()
    }
}

fn sure() -> Detection {
    face(0.9, None, DetectionOrigin::Detected)
}

fn named(pairs: &[(&str, f64)]) -> Vec<(String, f64)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

const WHITE: u8 = 235;

#[test]
fn a_mask_grows_and_softens_from_one_frame_to_the_next() {
    // The face reaches from 10.1 to 30.5 and from 12 to 36.3.
    let blur = Fed::start("blur", "kind=solid color=white shape=rectangle mask_scale=1 feather=0");
    let at = |surface: &HostSurface| [surface.row(0, 24)[20], surface.row(0, 24)[36], surface.row(0, 24)[50]];
    assert_eq!(at(&blur.through(0)), [WHITE, 40, 40]);
    blur.set("mask_scale", 1.5);
    assert_eq!(at(&blur.through(1)), [WHITE, WHITE, 41]);
    blur.set("mask_scale", 1.0);
    blur.set("feather", 1.0);
    let soft = at(&blur.through(2));
    assert!(soft[0] == WHITE && soft[1] > 42 && soft[1] < WHITE, "{soft:?}");
    let error = blur.run.set_setting("blur", "mask_scale", 11.0).expect_err("refused");
    assert_eq!(error.message, "mask_scale of blur must be from 0.6 to 10, not 11");
    assert_eq!(blur.end().stats.counter("faces_hidden"), 3);
}

#[test]
fn a_blur_grows_stronger_for_every_worker() {
    let blur = Fed::start("blur", "strength=0.02 mask_scale=1 workers=3");
    let edge = |fed: &Fed, index| {
        let mut item = seen(0, index, vec![sure()]);
        let surface = item.frame.surface.host_mut().expect("on the host");
        let mut planes = surface.planes_mut().expect("own");
        planes.plane(0).chunks_mut(2).for_each(|pair| pair.copy_from_slice(&[0, 255]));
        fed.give.send(item.into()).expect("it runs");
        let item = fed.come.recv().expect("a frame");
        let row = item.frame.surface.host().expect("on the host").row(0, 24).to_vec();
        row[20].abs_diff(row[21])
    };
    let weak = edge(&blur, 0);
    blur.set("strength", 2.0);
    for index in 1..8 {
        let strong = edge(&blur, index);
        assert!(strong < 3 && weak > 10 * (strong + 1), "{weak} to {strong}");
    }
    blur.end();
}

#[test]
fn a_stage_offers_what_its_options_use() {
    let mask = [("mask_scale", 1.3), ("feather", 0.05)];
    let with = |first: &[(&str, f64)]| named(&[first, &mask].concat());
    assert_eq!(Fed::offered("blur", ""), with(&[("strength", 0.15)]));
    assert_eq!(Fed::offered("blur", "kind=box"), with(&[("strength", 0.5)]));
    assert_eq!(Fed::offered("blur", "kind=mosaic cell=12"), with(&[("cell", 12.0)]));
    assert_eq!(Fed::offered("blur", "kind=mosaic"), with(&[]));
    assert_eq!(Fed::offered("blur", "kind=none"), []);
    let contour = named(&[("mask_scale", 1.1), ("feather", 0.05), ("contour_share", 0.2)]);
    assert_eq!(Fed::offered("blur", "kind=solid shape=contour"), contour);
    assert_eq!(Fed::offered("hold", ""), named(&[("cut", 0.5)]));
    let names = |options: &str| Fed::offered("track", options).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(""), ["track_thresh", "low_thresh", "new_thresh", "match_thresh", "cut"]);
    assert_eq!(names("algorithm=ocsort"), ["det_thresh", "iou_threshold", "cut"]);
    assert_eq!(names("algorithm=ocsort use_byte=yes"), ["det_thresh", "low_thresh", "iou_threshold", "cut"]);
    let draw = Fed::offered("draw", "scores=no line_width=3");
    assert!(draw.contains(&("scores".into(), 0.0)) && draw.contains(&("line_width".into(), 3.0)), "{draw:?}");
}

#[test]
fn what_is_drawn_is_chosen_while_it_runs() {
    let draw = Fed::start("draw", "labels=no scores=no landmarks=no line_width=1");
    let touched = |index| {
        let surface = draw.through(index);
        (0..48).flat_map(|y| surface.row(0, y)[..64].to_vec()).filter(|luma| u64::from(*luma) != 40 + index).count()
    };
    let thin = touched(0);
    draw.set("line_width", 4.0);
    let thick = touched(1);
    assert!(thin > 0 && thick > 2 * thin, "{thin} and {thick}");
    draw.set("boxes", 0.0);
    assert_eq!(touched(2), 0);
    draw.set("landmarks", 1.0);
    assert!(touched(3) > 0);
    draw.end();
}

/// A face, none, and a face twice, with a scene change in between.
fn give_a_gap(fed: &Fed) {
    fed.give(0, vec![sure()]);
    fed.give(100, Vec::new());
    fed.give(101, vec![sure()]);
    fed.give(102, vec![sure()]);
}

#[test]
fn nothing_is_interpolated_across_what_counts_as_a_cut_now() {
    for (cut, interpolated) in [(1.0, 1), (0.2, 0)] {
        let hold = Fed::start("hold", "frames=2 cut=1");
        hold.set("cut", cut);
        give_a_gap(&hold);
        assert_eq!(hold.end().stats.counter("boxes_interpolated"), interpolated, "cut={cut}");
    }
}

#[test]
fn a_track_begins_by_the_threshold_of_now_and_ends_at_what_counts_as_a_cut() {
    let track = Fed::start("track", "cut=1");
    track.set("new_thresh", 0.95);
    give_a_gap(&track);
    assert_eq!(track.end().stats.counter("tracks_begun"), 0);
    for (cut, begun) in [(1.0, 1), (0.2, 2)] {
        let track = Fed::start("track", "cut=1");
        track.set("cut", cut);
        give_a_gap(&track);
        assert_eq!(track.end().stats.counter("tracks_begun"), begun, "cut={cut}");
    }
}

/// The classifier of the tests under another name.
fn renamed() -> SampleModel {
    let SampleModel { onnx, card, .. } = colour_classifier();
    SampleModel { name: "colour-2", onnx, card: card.replace("\"colour\"", "\"colour-2\"").replace("colour.onnx", "colour-2.onnx") }
}

#[test]
fn a_model_is_replaced_between_two_frames_and_none_is_lost() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let models = [colour_classifier(), renamed(), colour_embedding()];
    let [first, second, other] = models.map(|model| model.save_in(folder.path()).display().to_string());
    for workers in 1..=2 {
        let infer = Fed::start("infer", &format!("{first} workers={workers}"));
        let switch = infer.run.switch();
        let answer = || {
            let item = infer.come.recv().expect("a frame");
            let attributes = item.attachments.get::<FrameAttributes>().expect("classes");
            (item.frame.index, attributes.0[0].model.to_string())
        };
        infer.give(0, Vec::new());
        assert_eq!(answer(), (0, "colour".into()));
        assert_eq!(switch.models()[0].model, first);
        let refused = |model: &str| switch.replace_model("infer", model).expect_err("refused").message;
        assert!(refused(&other).contains("and the stage runs one for"), "{}", refused(&other));
        assert!(refused("nowhere.toml").contains("nowhere.toml"), "{}", refused("nowhere.toml"));
        assert!(switch.replace_model("null", &second).expect_err("no model").message.contains("no model that can be replaced"));
        (1..200).for_each(|index| infer.give(index, Vec::new()));
        switch.replace_model("infer", &second).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(switch.models()[0].model, second);
        (200..400).for_each(|index| infer.give(index, Vec::new()));
        let answers: Vec<(u64, String)> = (1..400).map(|_| answer()).collect();
        assert!(answers.iter().map(|(index, _)| *index).eq(1..400), "all, in order");
        let is_new: Vec<bool> = answers.iter().map(|(_, model)| model == "colour-2").collect();
        assert!(is_new[398] && (workers > 1 || is_new.is_sorted()), "{is_new:?}");
        infer.give(400, Vec::new());
        assert_eq!(answer(), (400, "colour-2".into()));
        let outcome = infer.end();
        assert!((1..=workers).contains(&outcome.stats.counter("models_replaced")));
        let error = switch.replace_model("infer", &first).expect_err("over");
        assert!(error.message.contains("the run has ended"), "{error}");
    }
}
