//! Parts of frames: crops, shared batches, and models shared by several places.

mod common;

use common::{carphone, mean_color_card, mean_color_model, options, placed, raw_frame, rgb_frame};
use framerail_core::{AttributeValue, BBox, Frame, PixelFormat};
use framerail_infer::{DetectorOptions, InferError, Prediction, Predictor, SizeRequest, View};

/// 40x20: a red, a green, a blue and a white quarter side by side.
fn flag() -> Frame {
    let colors = [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255; 3]];
    let rgb: Vec<u8> = (0..20).flat_map(|_| (0..40).flat_map(|x| colors[x / 10])).collect();
    rgb_frame(40, 20, &rgb)
}

fn quarter(index: usize) -> BBox {
    // An edge is shared with the neighbour, whose pixels count a little where they touch.
    BBox::from_xyxy(index as f32 * 10.0 + 1.0, 1.0, index as f32 * 10.0 + 9.0, 19.0)
}

fn classes(prediction: &Prediction) -> Vec<&str> {
    match prediction {
        Prediction::Description(Some(found)) => match &found.value {
            AttributeValue::Classes(classes) => classes.iter().map(|class| &*class.label.name).collect(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn color_options(batch: usize) -> (tempfile::TempDir, DetectorOptions) {
    let card = mean_color_card(8).replace("output = \"mean\"", "output = \"mean\"\ntop_k = 3") + "[thresholds]\nconfidence = 0.5\n";
    let (folder, options) = placed(&mean_color_model(8), &card);
    (folder, DetectorOptions { batch, ..options })
}

#[test]
fn parts_of_several_frames_share_batches() {
    let (_folder, options) = color_options(3);
    let (flag, yuv) = (flag(), raw_frame(PixelFormat::Yuv420p, 16, 8, &[[81; 128].as_slice(), &[90; 32], &[240; 32]].concat()));
    let mut predictor = Predictor::load(&options).expect("sound");
    assert!(predictor.has_fixed_input());
    let views = [
        View::part(&flag, quarter(2)),
        View::part(&flag, quarter(0)),
        View::part(&yuv, BBox::from_xyxy(-3.0, -3.0, 5.5, 4.0)),
        View::part(&flag, quarter(1)),
        View::part(&flag, quarter(3)),
    ];
    let found = predictor.predict(&views).expect("runs");
    let names: Vec<Vec<&str>> = found.iter().map(classes).collect();
    assert_eq!(names, [vec!["blue"], vec!["red"], vec!["red"], vec!["green"], vec!["red", "green", "blue"]]);
    let stats = predictor.stats();
    assert_eq!((stats.frames, stats.descriptions, stats.sessions), (5, 5, 1));
}

#[test]
fn an_empty_part_is_refused_with_its_frame() {
    let (_folder, options) = color_options(2);
    let flag = flag();
    let mut predictor = Predictor::load(&options).expect("sound");
    for area in [(50.0, 0.0, 60.0, 9.0), (5.0, 5.0, 5.0, 9.0), (f32::NAN, 0.0, 5.0, 5.0)] {
        let area = BBox::from_xyxy(area.0, area.1, area.2, area.3);
        let error = predictor.predict(&[View::part(&flag, quarter(0)), View::part(&flag, area)]).expect_err("nothing to see");
        assert!(matches!(error, InferError::Frame { .. }) && error.is_recoverable(), "{error}");
    }
    assert_eq!(predictor.predict(&[View::part(&flag, quarter(0))]).expect("goes on").len(), 1);
}

#[test]
fn faces_in_a_part_are_where_they_are_in_the_frame() {
    let frame = carphone(30, 1).remove(0);
    let mut predictor = Predictor::load(&options("centerface")).expect("installed model");
    assert!(!predictor.has_fixed_input());
    let find = |predictor: &mut Predictor, view| match predictor.predict(&[view]).expect("runs").remove(0) {
        Prediction::Detections(found) => found,
        other => panic!("{other:?}"),
    };
    let whole = find(&mut predictor, View::whole(&frame));
    // A window of the input's own size, so that the model sees the same pixels.
    let part = find(&mut predictor, View::part(&frame, BBox::from_xyxy(32.0, 0.0, 160.0, 128.0)));
    assert_eq!((whole.len(), part.len()), (1, 1));
    assert!(whole[0].bbox.iou(&part[0].bbox) > 0.85, "{:?} {:?}", whole[0].bbox, part[0].bbox);
    assert!(part[0].landmarks.iter().all(|point| point.x > whole[0].bbox.x1 && point.x < whole[0].bbox.x2));
    let fixed = DetectorOptions { size: "96x64".parse::<SizeRequest>().expect("a size"), ..options("centerface") };
    assert!(Predictor::load(&fixed).expect("installed model").has_fixed_input());
}

#[test]
fn a_shared_model_has_one_session_and_its_own_thresholds() {
    let (_folder, options) = color_options(2);
    let flag = flag();
    let mut first = Predictor::load(&options).expect("sound");
    let mut second = first.share();
    second.set_confidence(0.99).expect("in range");
    assert!(second.set_confidence(1.5).is_err());
    let view = View::part(&flag, BBox::from_xyxy(2.0, 2.0, 13.0, 18.0));
    assert_eq!(classes(&first.predict(&[view]).expect("runs")[0]), ["red"]);
    assert_eq!(second.predict(&[view]).expect("runs")[0], Prediction::Description(None));
    assert_eq!((first.stats().sessions, first.stats().frames), (1, 1));
    assert_eq!((second.stats().sessions, second.stats().frames), (0, 1), "it runs the first one's");
    let mut fork = first.fork();
    fork.predict(&[view]).expect("runs");
    assert_eq!((first.stats().sessions, first.stats().frames), (2, 2), "a fork has its own, and counts with the first");
    drop((first, fork));
    assert_eq!(second.predict(&[view, view]).expect("runs").len(), 2);
}

#[test]
fn places_that_share_a_model_run_side_by_side() {
    let (_folder, options) = color_options(1);
    let first = Predictor::load(&options).expect("sound");
    std::thread::scope(|scope| {
        for index in 0..3 {
            let mut predictor = first.share();
            scope.spawn(move || {
                let flag = flag();
                for _ in 0..20 {
                    let found = predictor.predict(&[View::part(&flag, quarter(index))]).expect("runs");
                    assert_eq!(classes(&found[0]), [["red"], ["green"], ["blue"]][index]);
                }
            });
        }
    });
}
