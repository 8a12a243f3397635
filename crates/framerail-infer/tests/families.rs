//! Output families through ONNX Runtime, with generated models that return constant outputs.

mod common;

use std::fs;

use common::{FLOAT, INT32, INT64, cast, constant_model, float_tensor, graph, int, ints, node, options, placed, rgb_frame, value_info};
use framerail_core::{AttributeValue, BBox, Detection};
use framerail_infer::{Detector, DetectorOptions};
use tempfile::TempDir;

const HEAD: &str = "name = \"t\"\nfile = \"m.onnx\"\nlicence = \"MIT\"\n";

/// The detections of a grey frame of this size.
fn detect(model: &[u8], card: &str, frame: (u32, u32)) -> Vec<Detection> {
    let folder = TempDir::new().expect("temporary folder");
    let path = folder.path().join("card.toml");
    fs::write(folder.path().join("m.onnx"), model).expect("writable");
    fs::write(&path, card).expect("writable");
    let mut detector = Detector::load(&options(path.display().to_string())).expect("sound model and card");
    let frame = rgb_frame(frame.0, frame.1, &vec![128; (frame.0 * frame.1 * 3) as usize]);
    detector.detect(&[&frame]).expect("runs").remove(0)
}

fn assert_box(found: &Detection, expected: [f32; 4]) {
    let BBox { x1, y1, x2, y2 } = found.bbox;
    for (value, expected) in [x1, y1, x2, y2].into_iter().zip(expected) {
        assert!((value - expected).abs() < 0.01, "{:?} for {expected:?}", found.bbox);
    }
}

#[test]
fn anchor_free_boxes_leave_the_letterbox_and_overlaps_are_suppressed() {
    let card = format!(
        "{HEAD}labels = [\"cat\", \"dog\"]\n[input]\nwidth = 64\nheight = 64\nfit = \"letterbox\"\n[output.anchor_free]\noutput = \"out\"\norder = \"values-first\"\n[thresholds]\nconfidence = 0.5\niou = 0.5\n"
    );
    // Three boxes, values first: two overlap, and one is of another class in the same place.
    let columns = [[32.0, 32.0, 16.0, 8.0, 0.9, 0.1], [33.0, 32.0, 16.0, 8.0, 0.8, 0.1], [32.0, 32.0, 16.0, 8.0, 0.1, 0.7]];
    let data: Vec<f32> = (0..6).flat_map(|value| columns.iter().map(move |column| column[value])).collect();
    let model = constant_model(&[1, 3, 64, 64], &[("out", &[1, 6, 3], &data)]);
    // 128x64 into 64x64: half the size, 16 rows of padding above.
    let found = detect(&model, &card, (128, 64));
    assert_eq!(found.iter().map(|d| (&*d.label.name, d.score)).collect::<Vec<_>>(), [("cat", 0.9), ("dog", 0.7)]);
    assert_box(&found[0], [48.0, 24.0, 80.0, 40.0]);
}

#[test]
fn rotated_boxes_leave_the_letterbox_and_suppress_by_their_own_overlap() {
    let card = format!(
        "{HEAD}labels = [\"plane\", \"ship\"]\n[input]\nwidth = 64\nheight = 64\nfit = \"letterbox\"\n[output.anchor_free]\noutput = \"out\"\norder = \"values-first\"\nangle = true\n[thresholds]\nconfidence = 0.5\niou = 0.5\n"
    );
    // Two that overlap, one across the first of them, whose upright box overlaps the first one's, and one below the threshold.
    let (along, across) = (std::f32::consts::FRAC_PI_4, 3.0 * std::f32::consts::FRAC_PI_4);
    let columns = [
        [32.0, 32.0, 20.0, 4.0, 0.9, 0.1, along],
        [32.5, 32.5, 20.0, 4.0, 0.8, 0.1, along],
        [32.0, 32.0, 20.0, 4.0, 0.7, 0.1, across],
        [10.0, 32.0, 20.0, 4.0, 0.4, 0.1, along],
    ];
    let data: Vec<f32> = (0..7).flat_map(|value| columns.iter().map(move |column| column[value])).collect();
    let model = constant_model(&[1, 3, 64, 64], &[("out", &[1, 7, 4], &data)]);
    // 128x64 into 64x64: half the size, 16 rows of padding above.
    let found = detect(&model, &card, (128, 64));
    assert_eq!(found.iter().map(|d| d.score).collect::<Vec<_>>(), [0.9, 0.7]);
    let rotated = found[0].oriented.expect("an angle");
    let numbers = [rotated.center.x, rotated.center.y, rotated.width, rotated.height, rotated.angle];
    for (number, wanted) in numbers.into_iter().zip([64.0, 32.0, 40.0, 8.0, along]) {
        assert!((number - wanted).abs() < 1e-3, "{rotated:?}");
    }
    let half = (40.0 + 8.0) / 8f32.sqrt();
    assert_box(&found[0], [64.0 - half, 32.0 - half, 64.0 + half, 32.0 + half]);
    let crossing = found[1].oriented.expect("an angle");
    assert!((crossing.width - 8.0).abs() < 1e-3 && (crossing.height - 40.0).abs() < 1e-3, "{crossing:?}: from 0 up to a quarter turn");
}

#[test]
fn anchors_with_landmarks_decode_to_frame_pixels() {
    let card = format!(
        "{HEAD}labels = [\"face\"]\nlandmarks = [\"nose\"]\n[input]\nmultiple_of = 32\n[output.anchors]\nboxes = \"loc\"\nscores = \"conf\"\nlandmarks = \"landm\"\nactivation = \"softmax\"\nbackground = 0\nlevels = [{{ step = 32.0, sizes = [16.0] }}]\n"
    );
    // A frame of 60x30 becomes 64x32: two cells with one anchor each.
    let boxes = [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0];
    let scores = [9.0, 0.0, 0.0, 9.0];
    let landmarks = [0.0, 0.0, 5.0, -5.0];
    let outputs: [(&str, &[i64], &[f32]); 3] =
        [("loc", &[1, 2, 4], &boxes), ("conf", &[1, 2, 2], &scores), ("landm", &[1, 2, 2], &landmarks)];
    let found = detect(&constant_model(&[1, 3, 96, 96], &outputs), &card, (60, 30));
    assert_eq!(found.len(), 1);
    let (sx, sy) = (60.0 / 64.0, 30.0 / 32.0);
    // Anchor (48, 16) of side 16, moved by 0.1 of its side.
    assert_box(&found[0], [(49.6 - 8.0) * sx, 8.0 * sy, (49.6 + 8.0) * sx, 24.0 * sy]);
    let nose = found[0].landmarks[0];
    assert!((nose.x - 56.0 * sx).abs() < 1e-3 && (nose.y - 8.0 * sy).abs() < 1e-3, "{nose:?}");
}

#[test]
fn finished_boxes_are_not_suppressed_again() {
    let card = format!(
        "{HEAD}classes = 3\n[input]\nwidth = 32\nheight = 32\n[output.boxes]\nboxes = \"out\"\nsuppressed = true\nnormalized = true\n"
    );
    let rows = [0.25, 0.25, 0.5, 0.5, 0.9, 2.0, 0.25, 0.25, 0.5, 0.5, 0.95, 2.0, 0.0, 0.0, 1.0, 1.0, 0.1, 0.0];
    let found = detect(&constant_model(&[1, 3, 32, 32], &[("out", &[1, 3, 6], &rows)]), &card, (64, 64));
    assert_eq!(found.iter().map(|d| (d.label.id, &*d.label.name, d.score)).collect::<Vec<_>>(), [(2, "2", 0.95), (2, "2", 0.9)]);
    assert_box(&found[0], [16.0, 16.0, 32.0, 32.0]);
}

#[test]
fn a_model_for_one_image_has_no_batch() {
    // torchvision's detectors: no batch axis. Here with the means of the image's channels as scores.
    let card = format!(
        "{HEAD}labels = [\"red\", \"green\", \"blue\"]\n[input]\nwidth = 8\nheight = 4\nscale = 0.00392156862745098\n\
         [output.boxes]\nboxes = \"boxes\"\nscores = \"scores\"\nlabels = \"labels\"\ncount = \"count\"\nsuppressed = true\n"
    );
    let nodes = [
        node("ReduceMean", &["image"], "scores", &[ints("axes", &[1, 2]), int("keepdims", 0)]),
        node("Identity", &["places"], "boxes", &[]),
        cast("numbers", "labels", INT64),
        cast("all", "count", INT32),
    ];
    let weights = [
        float_tensor("places", &[3, 4], &[0.0, 0.0, 2.0, 2.0, 2.0, 0.0, 4.0, 2.0, 4.0, 0.0, 6.0, 2.0]),
        float_tensor("numbers", &[3], &[0.0, 1.0, 2.0]),
        float_tensor("all", &[1, 1], &[3.0]),
    ];
    let outputs = [("boxes", FLOAT, &[-1, 4][..]), ("scores", FLOAT, &[-1]), ("labels", INT64, &[-1]), ("count", INT32, &[1, 1])];
    let outputs = outputs.map(|(name, elem_type, dims)| value_info(name, elem_type, dims));
    let model = graph(&nodes, &weights, &[value_info("image", FLOAT, &[3, -1, -1])], &outputs);
    let (_folder, options) = placed(&model, &card);
    let frame = rgb_frame(16, 4, &[255, 0, 128].repeat(64));
    let other = rgb_frame(16, 4, &[0, 255, 0].repeat(64));
    let found = Detector::load(&options).expect("sound model and card").detect(&[&frame, &other]).expect("runs");
    let names = |found: &[Detection]| found.iter().map(|found| found.label.name.to_string()).collect::<Vec<_>>();
    assert_eq!((names(&found[0]), names(&found[1])), (vec!["red".into(), "blue".into()], vec!["green".into()]));
    assert_box(&found[0][1], [8.0, 0.0, 12.0, 2.0]);
    let reported = Detector::load(&DetectorOptions { batch: 2, ..options }).err().expect("refused").to_string();
    assert!(reported.starts_with("batch=2: this model takes one image"), "{reported}");
}

#[test]
fn numbers_that_are_none_are_counted() {
    let folder = TempDir::new().expect("temporary folder");
    let path = folder.path().join("card.toml");
    let card = format!("{HEAD}classes = 1\n[input]\nwidth = 32\nheight = 32\n[output.boxes]\nboxes = \"out\"\n");
    let rows = [f32::NAN, 1.0, 5.0, 5.0, 0.9, 0.0, 1.0, 1.0, 5.0, 5.0, f32::NAN, 0.0, 1.0, 1.0, 5.0, 5.0, 0.9, 0.0];
    fs::write(folder.path().join("m.onnx"), constant_model(&[1, 3, 32, 32], &[("out", &[1, 3, 6], &rows)])).expect("writable");
    fs::write(&path, card).expect("writable");
    let mut detector = Detector::load(&options(path.display().to_string())).expect("sound model and card");
    let frame = rgb_frame(32, 32, &[0; 32 * 32 * 3]);
    assert_eq!(detector.detect(&[&frame]).expect("runs")[0].len(), 1);
    assert_eq!((detector.stats().non_finite, detector.stats().detections), (2, 1));
}

#[test]
fn the_example_cards_are_valid() {
    for (name, text) in common::FAMILY_CARDS {
        let card = framerail_infer::ModelCard::parse(text, name.as_ref()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(card.name, name);
    }
}

#[test]
fn the_card_for_plates_reads_rows_of_image_box_class_and_score() {
    let folder = TempDir::new().expect("temporary folder");
    let (_, card) = common::FAMILY_CARDS.iter().find(|(name, _)| *name == "plates").expect("listed");
    // In a frame of 768x384 the input's upper and lower quarters are padding, and an input pixel is two of the frame.
    let rows = [0.0, 100.0, 196.0, 140.0, 206.0, 0.0, 0.9, 0.0, 10.0, 150.0, 30.0, 160.0, 0.0, 0.1];
    let model = constant_model(&[1, 3, 384, 384], &[("output", &[2, 7], &rows)]);
    fs::write(folder.path().join("plates.onnx"), model).expect("writable");
    let path = folder.path().join("plates.toml");
    fs::write(&path, card).expect("writable");
    let found = Detector::load(&options(path.display().to_string())).expect("loads").detect(&[&rgb_frame(768, 384, &[0; 768 * 384 * 3])]);
    let found = found.expect("runs");
    assert_eq!(found[0].iter().map(|plate| (&*plate.label.name, plate.score)).collect::<Vec<_>>(), [("plate", 0.9)]);
    assert_box(&found[0][0], [200.0, 200.0, 280.0, 220.0]);
}

#[test]
fn a_score_equal_to_the_threshold_counts_where_the_card_says_so() {
    let head =
        format!("{HEAD}classes = 1\n[input]\nwidth = 32\nheight = 32\n[output.boxes]\nboxes = \"out\"\n[thresholds]\nconfidence = 0.6\n");
    let model = constant_model(&[1, 3, 32, 32], &[("out", &[1, 2, 6], &[1.0, 1.0, 9.0, 9.0, 0.6, 0.0, 11.0, 1.0, 19.0, 9.0, 0.599, 0.0])]);
    assert_eq!(detect(&model, &head, (32, 32)).len(), 0);
    assert_eq!(detect(&model, &format!("{head}confidence_inclusive = true\n"), (32, 32)).len(), 1);
}

#[test]
fn anchors_of_given_shapes_as_retinanet_has_them() {
    let card = format!(
        "{HEAD}labels = [\"cat\"]\n[input]\nwidth = 32\nheight = 32\n[output.anchors]\nboxes = \"loc\"\nscores = \"conf\"\nactivation = \"sigmoid\"\n\
         variances = [1.0, 1.0, 1.0, 1.0]\ncell_origin = 0.0\nlevels = [{{ step = 16.0, shapes = [[8, 4], [4, 8]] }}]\n"
    );
    let (mut boxes, mut scores) = ([0.0; 32], [-9.0; 8]);
    // The tall anchor of the last cell, moved by half its width.
    (boxes[28], scores[7]) = (0.5, 9.0);
    let found = detect(&constant_model(&[1, 3, 32, 32], &[("loc", &[1, 8, 4], &boxes), ("conf", &[1, 8, 1], &scores)]), &card, (32, 32));
    assert_eq!(found.len(), 1);
    assert_box(&found[0], [16.0, 12.0, 20.0, 20.0]);
}

#[test]
fn masks_of_queries_are_cut_at_their_boxes() {
    let card = format!(
        "{HEAD}labels = [\"cat\", \"dog\"]\n[input]\nwidth = 64\nheight = 64\nfit = \"letterbox\"\n[output.boxes]\nboxes = \"pred_boxes\"\nscores = \"logits\"\n\
         form = \"cxcywh\"\nnormalized = true\nactivation = \"sigmoid\"\nsuppressed = true\nmasks = {{ output = \"pred_masks\", activation = \"sigmoid\" }}\n"
    );
    // 128x64 into 64x64: half the size, 16 rows of padding above and below. The second query sees the left half of the input.
    let boxes = [0.5, 0.5, 0.1, 0.1, 0.5, 0.5, 0.5, 0.25];
    let logits = [-9.0, -9.0, -9.0, 9.0];
    let mut masks = [9.0_f32; 2 * 64];
    (0..64).for_each(|cell| masks[64 + cell] = if cell % 8 < 4 { 5.0 } else { -5.0 });
    let outputs: [(&str, &[i64], &[f32]); 3] =
        [("pred_boxes", &[1, 2, 4], &boxes), ("logits", &[1, 2, 2], &logits), ("pred_masks", &[1, 2, 8, 8], &masks)];
    let found = detect(&constant_model(&[1, 3, 64, 64], &outputs), &card, (128, 64));
    assert_eq!(found.iter().map(|found| &*found.label.name).collect::<Vec<_>>(), ["dog"]);
    assert_box(&found[0], [32.0, 16.0, 96.0, 48.0]);
    let AttributeValue::Mask(mask) = &found[0].attributes[0].value else { panic!("{:?}", found[0].attributes) };
    assert_eq!((mask.columns(), mask.rows(), mask.bbox()), (4, 2, &found[0].bbox));
    let inside: Vec<bool> = mask.coverage().iter().map(|covered| *covered >= 128).collect();
    assert_eq!(inside, [true, true, false, false].repeat(2));
    let refused = card.replace("masks = { output", "masks = { outputs");
    assert!(framerail_infer::ModelCard::parse(&refused, "c.toml".as_ref()).is_err());
}
