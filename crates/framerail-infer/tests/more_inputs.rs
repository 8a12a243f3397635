//! Models with inputs other than the image: sizes, factors and constants for each image of a batch and each part of a frame.

mod common;

use common::{
    DETR_CARD, FLOAT, INT32, INT64, RTDETR_CARD, card_of, cast, constant_model, float_tensor, graph, int, integer_tensor, ints, node,
    placed, rgb_frame, rtdetr, value_info,
};
use framerail_core::{BBox, Detection, Frame};
use framerail_infer::{Detector, DetectorOptions, Precision, Prediction, Predictor, View};

const HEAD: &str = "name = \"t\"\nfile = \"m.onnx\"\nlicence = \"MIT\"\n";

fn frame(width: u32, height: u32) -> Frame {
    rgb_frame(width, height, &vec![90; (width * height * 3) as usize])
}

fn assert_box(found: &Detection, expected: [f32; 4]) {
    let BBox { x1, y1, x2, y2 } = found.bbox;
    let off = [x1, y1, x2, y2].into_iter().zip(expected).map(|(value, expected)| (value - expected).abs()).fold(0.0, f32::max);
    assert!(off < 0.02, "{:?} for {expected:?}", found.bbox);
}

fn detections(stated: Vec<Prediction>) -> Vec<Vec<Detection>> {
    let found = stated.into_iter().map(|prediction| match prediction {
        Prediction::Detections(found) => found,
        other => panic!("{other:?}"),
    });
    found.collect()
}

#[test]
fn boxes_in_frame_pixels_stay_there_in_batches_and_parts() {
    let card = card_of(RTDETR_CARD, "labels = [\"person\", \"bicycle\"]");
    let (wide, tall) = (frame(200, 100), frame(60, 90));
    let views = [
        View::whole(&wide),
        View::whole(&tall),
        View::part(&wide, BBox::from_xyxy(100.0, 20.0, 180.0, 60.0)),
        // Half pixels: the model gets 41x31.
        View::part(&tall, BBox::from_xyxy(10.0, 10.0, 50.6, 40.8)),
        View::whole(&tall),
    ];
    let expected = [
        [50.0, 50.0, 100.0, 75.0],
        [15.0, 45.0, 30.0, 67.5],
        [120.0, 40.0, 140.0, 50.0],
        [10.0 + 0.25 * 40.6, 10.0 + 0.5 * 30.8, 10.0 + 0.5 * 40.6, 10.0 + 0.75 * 30.8],
        [15.0, 45.0, 30.0, 67.5],
    ];
    // By an open batch, and by files that were exported with a batch of one.
    for (declared, batch) in [(-1, 1), (-1, 3), (1, 1), (1, 3)] {
        // The model scales its whole input, a letterbox's padding too.
        for fit in ["stretch", "letterbox"] {
            let mut card = card.replace("fit = \"stretch\"", &format!("fit = \"{fit}\""));
            if fit == "letterbox" {
                card = card.replace("space = \"frame\"", "space = \"scaled\"");
            }
            let (_folder, options) = placed(&rtdetr(declared), &card);
            let mut predictor = Predictor::load(&DetectorOptions { batch, ..options }).expect("sound model and card");
            let found = detections(predictor.predict(&views).expect("runs"));
            assert_eq!(found.iter().map(Vec::len).collect::<Vec<_>>(), [2; 5]);
            for (found, expected) in found.iter().zip(expected) {
                assert_eq!((&*found[0].label.name, found[0].score, &*found[1].label.name), ("bicycle", 0.9, "person"));
                if fit == "stretch" {
                    assert_box(&found[0], expected);
                }
            }
            // 200x100 in 640x640: 160 rows of padding above and below. The box is at 0.5 to 0.75 of the whole input.
            let in_letterbox = [50.0, 50.0, 100.0, 100.0];
            assert_box(&found[0][0], if fit == "stretch" { expected[0] } else { in_letterbox });
        }
    }
}

#[test]
fn half_precision_keeps_further_inputs() {
    let card = card_of(RTDETR_CARD, "labels = [\"person\", \"bicycle\"]");
    let (_folder, options) = placed(&rtdetr(-1), &card);
    let mut detector = Detector::load(&DetectorOptions { precision: Precision::Fp16, ..options }).expect("sound model and card");
    let found = detector.detect(&[&frame(200, 100)]).expect("runs").remove(0);
    assert_box(&found[0], [50.0, 50.0, 100.0, 75.0]);
}

/// PaddleDetection's signature: `im_shape`, `image` and `scale_factor` in; rows of class, score and box for all images, and their number
/// per image, out. The box has fixed model pixels and is returned in frame pixels.
fn paddle() -> Vec<u8> {
    let nodes = [
        // y, x -> x, y, x, y
        node("Gather", &["scale_factor", "order"], "factors", &[int("axis", 1)]),
        node("Div", &["box", "factors"], "places", &[]),
        node("Mul", &["im_shape", "nothing"], "zeros", &[]),
        node("Add", &["zeros", "class_and_score"], "heads", &[]),
        node("Concat", &["heads", "places"], "rows", &[int("axis", 1)]),
        node("ReduceSum", &["zeros", "axis"], "count0", &[int("keepdims", 0)]),
        node("Add", &["count0", "one"], "count1", &[]),
        cast("count1", "number", INT32),
        node("ReduceMean", &["image"], "unused", &[ints("axes", &[1, 2, 3]), int("keepdims", 0)]),
    ];
    let weights = [
        integer_tensor("order", &[1, 0, 1, 0]),
        integer_tensor("axis", &[1]),
        float_tensor("box", &[1, 4], &[16.0, 8.0, 32.0, 24.0]),
        float_tensor("nothing", &[], &[0.0]),
        float_tensor("class_and_score", &[1, 2], &[1.0, 0.9]),
        float_tensor("one", &[], &[1.0]),
    ];
    let inputs = [
        value_info("im_shape", FLOAT, &[-1, 2]),
        value_info("image", FLOAT, &[-1, 3, 64, 64]),
        value_info("scale_factor", FLOAT, &[-1, 2]),
    ];
    graph(&nodes, &weights, &inputs, &[value_info("rows", FLOAT, &[-1, 6]), value_info("number", INT32, &[-1])])
}

#[test]
fn paddle_detection_gets_scale_factors() {
    let card = |fit: &str, space: &str| {
        format!(
            "{HEAD}labels = [\"cat\", \"dog\"]\n[input]\nname = \"image\"\nwidth = 64\nheight = 64\nfit = \"{fit}\"\n\
             [input.more.im_shape]\nvalue = [\"input_height\", \"input_width\"]\n\
             [input.more.scale_factor]\nvalue = [\"scale_y\", \"scale_x\"]\n\
             [output.boxes]\nboxes = \"rows\"\ncount = \"number\"\nrow = [\"class\", \"score\", \"box\"]\nspace = \"{space}\"\nsuppressed = true\n"
        )
    };
    let (wide, small) = (frame(128, 64), frame(32, 32));
    let views = [View::whole(&wide), View::whole(&small), View::part(&wide, BBox::from_xyxy(64.0, 0.0, 128.0, 64.0))];
    let boxes = |fit: &str, space: &str| {
        let (_folder, options) = placed(&paddle(), &card(fit, space));
        let mut predictor = Predictor::load(&DetectorOptions { batch: 2, ..options }).expect("sound model and card");
        detections(predictor.predict(&views).expect("runs"))
    };
    let stretched = boxes("stretch", "frame");
    assert_eq!(boxes("stretch", "scaled"), stretched, "the same without padding");
    for (found, expected) in stretched.iter().zip([[32.0, 8.0, 64.0, 24.0], [8.0, 4.0, 16.0, 12.0], [80.0, 8.0, 96.0, 24.0]]) {
        assert_eq!((found.len(), &*found[0].label.name), (1, "dog"));
        assert_box(&found[0], expected);
    }
    // 128x64 in the middle of 64x64: half the size, and 16 rows above that the model knows nothing of.
    assert_box(&boxes("letterbox", "scaled")[0][0], [32.0, -16.0, 64.0, 16.0]);
    // A model that subtracted these rows itself would return correct boxes.
    assert_box(&boxes("letterbox", "frame")[0][0], [32.0, 16.0, 64.0, 48.0]);
}

/// DETR's signature: `pixel_values` and a `pixel_mask` in, `logits` and `pred_boxes` out. The logits are valid only where the mask is 1.
fn detr() -> Vec<u8> {
    let nodes = [
        cast("pixel_mask", "mask", FLOAT),
        node("ReduceMin", &["mask"], "all", &[]),
        node("Mul", &["raw", "all"], "logits", &[]),
        node("Identity", &["places"], "pred_boxes", &[]),
    ];
    let mut logits = vec![-5.0; 2 * 92];
    // A cat that might be a dog, and nothing.
    (logits[17], logits[18], logits[92 + 91]) = (6.0, 5.9, 9.0);
    let weights =
        [float_tensor("raw", &[1, 2, 92], &logits), float_tensor("places", &[1, 2, 4], &[0.5, 0.5, 0.25, 0.5, 0.1, 0.1, 0.1, 0.1])];
    let inputs = [value_info("pixel_values", FLOAT, &[-1, 3, -1, -1]), value_info("pixel_mask", INT64, &[-1, 64, 64])];
    graph(&nodes, &weights, &inputs, &[value_info("logits", FLOAT, &[-1, 2, 92]), value_info("pred_boxes", FLOAT, &[-1, 2, 4])])
}

#[test]
fn detr_gives_one_class_a_query_and_nothing_for_no_object() {
    let (_folder, options) = placed(&detr(), &card_of(DETR_CARD, ""));
    let options = DetectorOptions { size: "256x192".parse().expect("a size"), confidence_threshold: Some(0.3), ..options };
    let found = Detector::load(&options).expect("sound model and card").detect(&[&frame(80, 40)]).expect("runs").remove(0);
    assert_eq!(found.iter().map(|found| found.label.id).collect::<Vec<_>>(), [17]);
    assert_box(&found[0], [30.0, 10.0, 50.0, 30.0]);
}

#[test]
fn rt_detr_before_its_own_decoding_scores_each_class() {
    let card = format!(
        "{HEAD}labels = [\"cat\", \"dog\"]\n[input]\nwidth = 64\nheight = 64\n[output.boxes]\nboxes = \"pred_boxes\"\nscores = \"logits\"\n\
         form = \"cxcywh\"\nnormalized = true\nactivation = \"sigmoid\"\nsuppressed = true\n"
    );
    let outputs: [(&str, &[i64], &[f32]); 2] =
        [("logits", &[1, 2, 2], &[2.0, 1.0, -3.0, 0.5]), ("pred_boxes", &[1, 2, 4], &[0.5, 0.5, 0.5, 0.25, 0.5, 0.5, 0.5, 0.25])];
    let (_folder, options) = placed(&constant_model(&[1, 3, 64, 64], &outputs), &card);
    let found = Detector::load(&options).expect("sound model and card").detect(&[&frame(128, 64)]).expect("runs").remove(0);
    assert_eq!(found.iter().map(|found| &*found.label.name).collect::<Vec<_>>(), ["cat", "dog", "dog"], "no suppression");
    assert!((found[0].score - 0.880_797).abs() < 1e-5);
    assert_box(&found[0], [32.0, 24.0, 96.0, 40.0]);
}

/// A model whose score is an input with a default (also a weight), such as a threshold.
fn given_score(is_weight: bool) -> Vec<u8> {
    let nodes = [node("Concat", &["place", "score", "class"], "boxes", &[int("axis", 2)])];
    let mut weights = vec![float_tensor("place", &[1, 1, 4], &[1.0, 2.0, 3.0, 4.0]), float_tensor("class", &[1, 1, 1], &[0.0])];
    if is_weight {
        weights.push(float_tensor("score", &[1, 1, 1], &[0.75]));
    }
    let inputs = [value_info("image", FLOAT, &[1, 3, 8, 8]), value_info("score", FLOAT, &[1, 1, 1])];
    graph(&nodes, &weights, &inputs, &[value_info("boxes", FLOAT, &[1, 1, 6])])
}

fn score_card(more: &str) -> String {
    format!("{HEAD}labels = [\"cat\"]\n[input]\nwidth = 8\nheight = 8\n{more}[output.boxes]\nboxes = \"boxes\"\n")
}

#[test]
fn constants_are_given_and_defaults_replaced() {
    let score = |is_weight, more: &str, prepare| {
        let (_folder, options) = placed(&given_score(is_weight), &score_card(more));
        let mut detector = Detector::load(&DetectorOptions { prepare: Some(prepare), ..options }).expect("sound model and card");
        detector.detect(&[&frame(8, 8)]).expect("runs").remove(0)[0].score
    };
    for prepare in [true, false] {
        assert_eq!(score(true, "", prepare), 0.75, "its own value");
        for is_weight in [true, false] {
            assert_eq!(score(is_weight, "[input.more.score]\nvalue = 0.5\n", prepare), 0.5);
            assert_eq!(score(is_weight, "[input.more]\nscore = { value = [0.5], shape = [1, 1, 1] }\n", prepare), 0.5);
        }
    }
}

#[test]
fn what_is_wrong_is_reported_in_one_line() {
    let refused = |model: &[u8], card: &str, batch: usize| {
        let (_folder, options) = placed(model, card);
        let reported = Predictor::load(&DetectorOptions { batch, ..options }).err().expect("refused").to_string();
        assert_eq!(reported.lines().count(), 1, "{reported}");
        reported
    };
    let rtdetr_card = card_of(RTDETR_CARD, "labels = [\"person\", \"bicycle\"]");
    let (_, outputs) = rtdetr_card.split_once("[output").expect("has outputs");
    let unfilled =
        format!("{HEAD}labels = [\"a\", \"b\"]\n[input]\nname = \"images\"\n[output{}", outputs.replace("space = \"frame\"", ""));
    let reported = refused(&rtdetr(-1), &unfilled, 1);
    assert!(
        reported.contains(
            "input 'orig_target_sizes' int64[?,2] is not filled; write [input.more.orig_target_sizes] with value = [\"frame_width\""
        ),
        "{reported}"
    );
    let nameless = unfilled.replace("name = \"images\"\n", "");
    assert!(refused(&rtdetr(-1), &nameless, 1).contains("has 2 inputs; set input.name in the model card to the image input"));
    let reported = refused(&given_score(false), &score_card("[input.more.score]\nvalue = \"frame_widht\"\n"), 1);
    assert!(reported.contains("line 9") && reported.contains("unknown value 'frame_widht'; did you mean 'frame_width'?"), "{reported}");
    for (more, expected) in [
        ("[input.more.scores]\nvalue = 0.5\n", "input 'scores' of the card's [input.more] is not in the model"),
        ("[input.more.score]\nvalue = [1, 2]\n", "it has 1 elements per image, and the model card gives 2 values"),
        ("[input.more.score]\nvalue = 0.5\nshape = [2]\n", "the card states a different shape"),
        ("[input.more.score]\nvalue = []\n", "1 to 10000 values are expected"),
        ("[input.more.score]\nvalue = 0.5\nshape = [1, \"batch\"]\n", "'batch' is the first axis only"),
        ("[input.more.score]\nvalues = 0.5\n", "unknown key 'values'; did you mean 'value'?"),
    ] {
        // Without a default, the value is required.
        let is_weight = more.contains("scores");
        let reported = refused(&given_score(is_weight), &score_card(more), 1);
        assert!(reported.contains(expected), "{reported}");
    }
    let reported = refused(&given_score(false), &score_card("[input.more.score]\nvalue = \"frame_width\"\nshape = [1, 1, 1]\n"), 2);
    assert!(reported.contains("input 'score' of this model holds the values of one image; use 1"), "{reported}");
    let space = score_card("[input.more.score]\nvalue = 0.5\n") + "space = \"frame\"\n";
    assert!(refused(&given_score(false), &space, 1).contains("output.space must be input, unless [input.more] gives"));
}
