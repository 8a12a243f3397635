//! The installed face detector on real frames: prepared and plain model, sizes, forks and batches agree.

mod common;

use common::{carphone, carphone_in, home, installed, options, rgb_frame, search};
use framerail_core::{BBox, Detection, Frame, PixelFormat, Rational};
use framerail_infer::{
    Detector, DetectorOptions, InferError, InputSize, Runtime, SizeRequest,
    onnx::{InputShape, OnnxFile},
    session::{ModelSession, SessionOptions},
};

fn detector(change: impl FnOnce(&mut DetectorOptions)) -> Detector {
    let mut options = options("centerface");
    change(&mut options);
    Detector::load(&options).expect("installed model")
}

fn detect(detector: &mut Detector, frame: &Frame) -> Vec<Detection> {
    detector.detect(&[frame]).expect("sound frame").remove(0)
}

fn assert_same(left: &[Detection], right: &[Detection], tolerance: f32) {
    assert_eq!(left.len(), right.len());
    for (a, b) in left.iter().zip(right) {
        let corners = [(a.bbox.x1, b.bbox.x1), (a.bbox.y1, b.bbox.y1), (a.bbox.x2, b.bbox.x2), (a.bbox.y2, b.bbox.y2), (a.score, b.score)];
        let points = a.landmarks.iter().zip(&b.landmarks).flat_map(|(p, q)| [(p.x, q.x), (p.y, q.y)]);
        for (x, y) in corners.into_iter().chain(points) {
            assert!((x - y).abs() <= tolerance, "{a:?} and {b:?}");
        }
    }
}

#[test]
fn faces_of_a_real_clip_are_found() {
    let mut detector = detector(|_| {});
    assert_eq!(detector.input_size_for(176, 144).expect("any size"), InputSize { width: 192, height: 160 });
    for frame in carphone(20, 4) {
        let found = detect(&mut detector, &frame);
        assert_eq!(found.len(), 1, "one person in the car: {found:?}");
        assert!(found[0].score > 0.5);
        assert_eq!(&*found[0].label.name, "face");
        let (bbox, points) = (found[0].bbox, &found[0].landmarks);
        assert_eq!(points.len(), 5);
        assert!(points[0].x < points[1].x, "left eye left of the right: {points:?}");
        assert!(points.iter().all(|p| p.x > bbox.x1 && p.x < bbox.x2 && p.y > bbox.y1 && p.y < bbox.y2), "{points:?} in {bbox:?}");
    }
    let stats = detector.stats();
    assert_eq!((stats.frames, stats.detections, stats.sessions, stats.non_finite), (4, 4, 1, 0));
}

/// Frames as recorders write them: half the columns, each pixel twice as wide. Narrow faces would be missed.
#[test]
fn faces_of_narrow_pixels_are_found_and_mapped_back() {
    let mut detector = detector(|_| {});
    for frame in carphone(20, 4) {
        let expected = detect(&mut detector, &frame);
        let mut squeezed = squeezed(&frame);
        squeezed.sample_aspect_ratio = Rational::new(2, 1);
        let found = detect(&mut detector, &squeezed);
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(&expected) {
            let across = BBox { x1: found.bbox.x1 * 2.0, x2: found.bbox.x2 * 2.0, ..found.bbox };
            assert!(across.iou(&expected.bbox) > 0.8, "{found:?} {expected:?}");
        }
    }
    assert_eq!(detector.stats().sessions, 1, "both have the input size of their square pixels");
}

/// Half the columns, each the mean of two.
fn squeezed(frame: &Frame) -> Frame {
    let surface = frame.surface.host().expect("host frame");
    let (width, height) = (frame.width / 2, frame.height);
    let half = |y: usize| {
        let row = surface.row(0, y);
        (0..width as usize * 3).map(move |at| {
            let left = at / 3 * 6 + at % 3;
            ((u16::from(row[left]) + u16::from(row[left + 3])) / 2) as u8
        })
    };
    let rgb: Vec<u8> = (0..height as usize).flat_map(half).collect();
    rgb_frame(width, height, &rgb)
}

/// The card requests 8-bit arithmetic: faces equal those of a program that reads RGB from FFmpeg.
#[test]
fn decoded_frames_and_ffmpegs_rgb_give_the_same_faces() {
    let mut detector = detector(|_| {});
    for (decoded, rgb) in carphone_in(PixelFormat::Yuv420p, 10, 6).iter().zip(&carphone(10, 6)) {
        let (found, expected) = (detect(&mut detector, decoded), detect(&mut detector, rgb));
        assert!(!expected.is_empty());
        assert_same(&found, &expected, 0.0);
    }
}

/// Runs a model given as bytes on one prepared input; returns all output floats.
fn raw_outputs(bytes: &[u8], shape: &InputShape, fill: impl Fn(&mut [f32])) -> Vec<(String, Vec<f32>)> {
    let runtime = Runtime::load(None, &search()).expect("installed library");
    let mut session = ModelSession::new(runtime, bytes, "centerface", shape.clone(), 1, &SessionOptions::default()).expect("loads");
    session.write_input(0, &fill);
    session
        .run(1, |tensors| Ok(tensors.iter().map(|tensor| (tensor.name.to_owned(), tensor.floats().expect("floats").to_vec())).collect()))
        .expect("runs")
}

#[test]
fn the_prepared_model_answers_like_the_plain_one() {
    let file = OnnxFile::read(&installed("models/centerface.onnx")).expect("installed model");
    let shape = InputShape { name: file.inputs()[0].name.clone(), dims: vec![Some(1), Some(3), Some(160), Some(192)] };
    let open = InputShape { name: shape.name.clone(), dims: vec![None, None, None, None] };
    let frame = carphone(1, 1).remove(0);
    let surface = frame.surface.host().expect("on host");
    let fill = |input: &mut [f32]| {
        for (index, element) in input.iter_mut().enumerate() {
            let (channel, row, column) = (index / (160 * 192), index / 192 % 160, index % 192);
            *element = f32::from(surface.row(0, row.min(143))[column.min(175) * 3 + channel]);
        }
    };
    let plain = raw_outputs(&file.resized(&open).expect("sound model"), &shape, fill);
    let names = ["537", "538", "539", "540"];
    let mut prepared = raw_outputs(&file.prepared(std::slice::from_ref(&shape), &names).expect("sound model"), &shape, fill);
    assert_eq!(plain.len(), 4);
    for (name, values) in plain {
        let index = prepared.iter().position(|(other, _)| *other == name).expect("the same outputs");
        let (_, others) = prepared.swap_remove(index);
        assert_eq!(values.len(), others.len());
        let worst = values.iter().zip(&others).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "output {name} differs by {worst}");
        let spread = values.iter().copied().fold(f32::NEG_INFINITY, f32::max) - values.iter().copied().fold(f32::INFINITY, f32::min);
        assert!(spread > 0.1, "output {name} says something");
    }
}

#[test]
fn preparing_leaves_out_what_slows_the_model_down() {
    let file = OnnxFile::read(&installed("models/centerface.onnx")).expect("installed model");
    assert_eq!(file.inputs().len(), 1, "initialisers are not inputs");
    let shape = InputShape { name: "input.1".into(), dims: vec![Some(1), Some(3), Some(736), Some(1280)] };
    let prepared = file.prepared(std::slice::from_ref(&shape), &["537", "538"]).expect("sound model");
    let again = OnnxFile::parse(prepared, "prepared".as_ref()).expect("still a model");
    assert_eq!(again.inputs()[0].to_string(), "'input.1' float32[1,3,736,1280]");
    assert_eq!(again.outputs().iter().map(|output| output.name.as_str()).collect::<Vec<_>>(), ["537", "538"]);
    assert_eq!(again.outputs()[0].to_string(), "'537' float32[?,?,?,?]");
    assert_eq!((again.opset(), file.opset()), (9, 9));
}

#[test]
fn frames_of_several_sizes_go_through_one_detector() {
    let small = carphone(30, 2);
    let flat = rgb_frame(320, 200, &vec![90; 320 * 200 * 3]);
    let mut detector = detector(|_| {});
    let found = detector.detect(&[&small[0], &flat, &small[1], &small[0]]).expect("sound frames");
    assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 1, 1]);
    assert_same(&found[0], &found[3], 0.0);
    assert_eq!(detector.stats().sessions, 2);
}

#[test]
fn a_batch_finds_what_single_frames_do() {
    let frames = carphone(25, 3);
    let mut one = detector(|_| {});
    let mut batched = detector(|options| options.batch = 2);
    let all: Vec<&Frame> = frames.iter().collect();
    let found = batched.detect(&all).expect("sound frames");
    for (frame, found) in frames.iter().zip(&found) {
        assert_same(found, &detect(&mut one, frame), 1e-3);
    }
    assert_eq!(batched.stats().frames, 3);
}

#[test]
fn detectors_go_to_other_threads() {
    fn is_send<T: Send>() {}
    is_send::<Detector>();
    is_send::<ModelSession>();
}

#[test]
fn forks_work_at_the_same_time_and_share_their_counts() {
    let frames = carphone(25, 2);
    let mut first = detector(|_| {});
    let expected = detect(&mut first, &frames[0]);
    let mut second = first.fork();
    std::thread::scope(|scope| {
        let other = scope.spawn(|| detect(&mut second, &frames[0]));
        assert_same(&detect(&mut first, &frames[0]), &expected, 0.0);
        assert_same(&other.join().expect("no panic"), &expected, 0.0);
    });
    let stats = first.stats();
    assert_eq!((stats.frames, stats.sessions), (3, 2));
}

#[test]
fn thresholds_and_sizes_are_the_users() {
    let frame = carphone(1, 1).remove(0);
    let mut strict = detector(|options| options.confidence_threshold = Some(0.999));
    assert!(detect(&mut strict, &frame).is_empty());
    let mut all = detector(|options| {
        options.confidence_threshold = Some(0.01);
        options.iou_threshold = Some(1.0);
        options.max_detections = Some(3);
    });
    let found = detect(&mut all, &frame);
    assert_eq!(found.len(), 3);
    assert!(found[0].score >= found[1].score && found[1].score >= found[2].score, "best first");
    assert!(all.stats().over_max_detections > 0, "what is left out is counted");
    let mut larger = detector(|options| options.size = SizeRequest::Exact(InputSize { width: 350, height: 288 }));
    assert_eq!(larger.input_size_for(176, 144).expect("any size"), InputSize { width: 352, height: 288 });
    let (found, usual) = (detect(&mut larger, &frame), detect(&mut detector(|_| {}), &frame));
    assert!(found[0].bbox.iou(&usual[0].bbox) > 0.8, "boxes are in frame pixels whatever the input: {found:?} {usual:?}");
}

#[test]
fn options_out_of_range_say_what_they_take() {
    let load = |change: fn(&mut DetectorOptions)| {
        let mut options = options("centerface");
        change(&mut options);
        Detector::load(&options).err().expect("refused").to_string()
    };
    assert_eq!(load(|options| options.confidence_threshold = Some(1.5)), "confidence_threshold=1.5: give 0 to 1");
    assert_eq!(load(|options| options.iou_threshold = Some(f32::NAN)), "iou_threshold=NaN: give 0 to 1");
    assert_eq!(load(|options| options.max_detections = Some(0)), "max_detections=0: give 1 or more");
    assert!(load(|options| options.batch = 0).starts_with("batch=0: give 1"));
    assert!(load(|options| options.device = framerail_core::Device::Cuda(0)).contains("cuda:0"));
}

#[test]
fn the_plain_model_says_which_batch_it_insists_on() {
    let error =
        Detector::load(&DetectorOptions { prepare: Some(false), ..options("centerface") }).err().expect("it declares a batch of 10");
    assert!(matches!(error, InferError::Option { option: "batch", .. }), "{error}");
    assert!(error.to_string().contains("batches of 10"), "{error}");
}

#[test]
fn doctor_can_tell_which_library_runs() {
    let runtime = Runtime::load(None, &search()).expect("installed library");
    let info = runtime.info();
    assert!(info.path.starts_with(home()), "{}", info.path.display());
    assert!(info.version.starts_with("1."), "{}", info.version);
    assert!(info.providers.contains(&"cpu".to_owned()));
    let other = Runtime::load(Some("/nowhere/libonnxruntime.so".as_ref()), &search()).err().expect("one library a process");
    assert!(other.to_string().contains("is loaded already"), "{other}");
}
