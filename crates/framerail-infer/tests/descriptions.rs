//! Models other than detectors, through ONNX Runtime: classes, landmarks, masks, embeddings; and masks of boxes.

mod common;

use std::sync::Arc;

use common::{constant_model, placed, rgb_frame};
use framerail_core::{AttributeValue, BBox, Detection, InstanceMask, Point};
use framerail_infer::{Description, Detector, DetectorOptions, InferError, Prediction, Predictor, Task, View};

const HEAD: &str = "name = \"t\"\nfile = \"m.onnx\"\nlicence = \"MIT\"\n";
const INPUT: &str = "[input]\nwidth = 32\nheight = 32\n";

/// Results of a model that always returns `outputs`, for a grey 64x32 frame and its right half.
fn describe(outputs: &[(&str, &[i64], &[f32])], card: &str) -> [Option<Description>; 2] {
    let (_folder, options) = placed(&constant_model(&[1, 3, 32, 32], outputs), card);
    let mut predictor = Predictor::load(&options).expect("sound model and card");
    let frame = rgb_frame(64, 32, &[128; 64 * 32 * 3]);
    let views = [View::whole(&frame), View::part(&frame, BBox::from_xyxy(32.0, 0.0, 90.0, 40.0))];
    let found = predictor.predict(&views).expect("runs");
    let found = found.into_iter().map(|prediction| match prediction {
        Prediction::Description(description) => description,
        other => panic!("{other:?}"),
    });
    found.collect::<Vec<_>>().try_into().expect("two views")
}

fn refused(outputs: &[(&str, &[i64], &[f32])], card: &str) -> String {
    let (_folder, options) = placed(&constant_model(&[1, 3, 32, 32], outputs), card);
    Predictor::load(&options).err().expect("refused").to_string()
}

#[test]
fn classes_come_by_falling_score() {
    let card = |more: &str| format!("{HEAD}labels = [\"cat\", \"dog\", \"bird\"]\n{INPUT}[output.classes]\noutput = \"out\"\n{more}");
    let logits: [(&str, &[i64], &[f32]); 1] = [("out", &[1, 3], &[1.0, 3.0, 2.0])];
    let [found, _] = describe(&logits, &card("activation = \"softmax\"\ntop_k = 2\n"));
    let Some(Description { value: AttributeValue::Classes(classes), score }) = found else { panic!("{found:?}") };
    let names: Vec<(&str, u32)> = classes.iter().map(|class| (&*class.label.name, class.label.id)).collect();
    assert_eq!(names, [("dog", 1), ("bird", 2)]);
    let sum: f32 = [1.0_f32, 3.0, 2.0].map(f32::exp).iter().sum();
    assert!((score - 3.0_f32.exp() / sum).abs() < 1e-6 && classes[0].score == score, "{classes:?}");
    let [found, _] = describe(&logits, &card("activation = \"softmax\"\n[thresholds]\nconfidence = 0.9\n"));
    assert_eq!(found, None, "nothing is as likely");
    let [found, _] = describe(&logits, &card("activation = \"sigmoid\"\ntop_k = 3\n[thresholds]\nconfidence = 0.8\n"));
    let Some(Description { value: AttributeValue::Classes(several), .. }) = found else { panic!("{found:?}") };
    let several: Vec<&str> = several.iter().map(|class| &*class.label.name).collect();
    assert_eq!(several, ["dog", "bird"], "classes that do not exclude each other");
    let spatial: [(&str, &[i64], &[f32]); 1] = [("out", &[1, 3, 1, 1], &[0.1, 0.2, 0.9])];
    let [found, _] = describe(&spatial, &card(""));
    assert_eq!(found.map(|found| found.score), Some(0.9), "no threshold unless the card says one");
}

#[test]
fn landmarks_are_in_frame_pixels_of_the_part() {
    let card = |more: &str| format!("{HEAD}landmarks = [\"left\", \"right\"]\n{INPUT}[output.landmarks]\noutput = \"out\"\n{more}");
    let pixels: [(&str, &[i64], &[f32]); 1] = [("out", &[1, 4], &[0.0, 16.0, 32.0, 8.0])];
    let points = |found: Option<Description>| match found {
        Some(Description { value: AttributeValue::Landmarks(points), score: 1.0 }) => points,
        other => panic!("{other:?}"),
    };
    let [whole, part] = describe(&pixels, &card("")).map(points);
    assert_eq!(whole, [Point { x: 0.0, y: 16.0 }, Point { x: 64.0, y: 8.0 }]);
    assert_eq!(part, [Point { x: 32.0, y: 16.0 }, Point { x: 64.0, y: 8.0 }]);
    let depth: [(&str, &[i64], &[f32]); 1] = [("out", &[1, 2, 3], &[0.5, 0.0, 9.0, 0.25, 1.0, 9.0])];
    let [whole, _] = describe(&depth, &card("values = 3\naxes = \"yx\"\nnormalized = true\n")).map(points);
    assert_eq!(whole, [Point { x: 0.0, y: 16.0 }, Point { x: 64.0, y: 8.0 }]);
}

#[test]
fn landmarks_are_there_when_the_thing_is() {
    let card = |more: &str| {
        format!(
            "{HEAD}{INPUT}[output.landmarks]\noutput = \"out\"\npoints = 1\npresence = \"there\"\npresence_activation = \"sigmoid\"\n{more}"
        )
    };
    let outputs = |logit: &'static [f32]| -> [(&'static str, &'static [i64], &'static [f32]); 2] {
        [("out", &[1, 2], &[1.0, 1.0]), ("there", &[1, 1], logit)]
    };
    assert_eq!(describe(&outputs(&[-0.1]), &card(""))[0], None);
    assert!(describe(&outputs(&[-0.1]), &card("[thresholds]\nconfidence = 0.4\n"))[0].is_some());
    let found = describe(&outputs(&[2.0]), &card(""))[0].clone().expect("there");
    assert!((found.score - 0.880_797).abs() < 1e-5);
    let (_folder, options) = placed(&constant_model(&[1, 3, 32, 32], &outputs(&[0.0])), &card(""));
    let predictor = Predictor::load(&options).expect("sound");
    assert_eq!((predictor.task(), &*predictor.labels()[0].name), (Task::Landmarks, "t"));
}

#[test]
fn landmarks_of_heatmaps_are_a_quarter_of_a_cell_towards_the_higher_neighbour() {
    let card = |more: &str| {
        format!("{HEAD}landmarks = [\"left\", \"right\"]\n{INPUT}[output.landmarks]\noutput = \"out\"\nform = \"heatmaps\"\n{more}")
    };
    let mut maps = [0.0; 128];
    // 8x8 cells of 4 pixels each.
    (maps[3 * 8 + 4], maps[3 * 8 + 5], maps[2 * 8 + 4]) = (0.5, 0.3, 0.1);
    maps[64 + 7] = 0.3;
    let outputs: [(&str, &[i64], &[f32]); 1] = [("out", &[1, 2, 8, 8], &maps)];
    let [whole, part] = describe(&outputs, &card(""));
    let found = |found: Option<Description>| match found {
        Some(Description { value: AttributeValue::Landmarks(points), score }) => (points, score),
        other => panic!("{other:?}"),
    };
    let ((points, score), (in_part, _)) = (found(whole), found(part));
    assert!((score - 0.4).abs() < 1e-6, "the mean of 0.5 and 0.3");
    // 64x32 pixels shown as 32x32.
    assert_eq!(points, [Point { x: 4.25 * 8.0, y: 2.75 * 4.0 }, Point { x: 7.0 * 8.0, y: 0.0 }]);
    assert_eq!(in_part, [Point { x: 32.0 + 4.25 * 4.0, y: 2.75 * 4.0 }, Point { x: 32.0 + 7.0 * 4.0, y: 0.0 }]);
    let (middle, _) = found(describe(&outputs, &card("cell_origin = 0.5\n"))[0].clone());
    assert_eq!(middle[1], Point { x: 60.0, y: 2.0 });
    assert_eq!(describe(&outputs, &card("[thresholds]\nconfidence = 0.45\n"))[0], None);
    let (_, likely) = found(describe(&outputs, &card("activation = \"sigmoid\"\n"))[0].clone());
    assert!((likely - 0.598_4).abs() < 1e-3, "{likely}");
    assert!(refused(&outputs, &card("normalized = true\n")).contains("output.normalized must be left out for heatmaps"));
    let flat: [(&str, &[i64], &[f32]); 1] = [("out", &[1, 128], &maps)];
    assert!(refused(&flat, &card("")).contains("should be [?,2,?,?]"));
}

fn mask_of(found: Option<Description>) -> Arc<InstanceMask> {
    match found {
        Some(Description { value: AttributeValue::Mask(mask), .. }) => mask,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_mask_is_made_of_the_classes_of_interest() {
    let card = format!(
        "{HEAD}labels = [\"rest\", \"hair\", \"face\"]\n{INPUT}[output.segmentation]\noutput = \"out\"\ninside = [\"hair\", \"face\"]\n"
    );
    // Four cells: rest, hair, face, half of each.
    let scores = [0.9, 0.1, 0.1, 0.0, 0.1, 0.9, 0.0, 0.5, 0.0, 0.0, 0.9, 0.5];
    let [whole, part] = describe(&[("out", &[1, 3, 2, 2], &scores)], &card);
    assert!((whole.as_ref().expect("there").score - (0.9 + 0.9 + 1.0) / 3.0).abs() < 1e-6);
    let (whole, part) = (mask_of(whole), mask_of(part));
    assert_eq!((whole.columns(), whole.rows(), whole.coverage()), (2, 2, &[26, 230, 230, 255][..]));
    assert_eq!((*whole.bbox(), *part.bbox()), (BBox::from_xyxy(0.0, 0.0, 64.0, 32.0), BBox::from_xyxy(32.0, 0.0, 64.0, 32.0)));
    // The same with channels last.
    let interleaved: Vec<f32> = (0..4).flat_map(|cell| (0..3).map(move |channel| scores[channel * 4 + cell])).collect();
    let last = card.clone() + "layout = \"THWC\"\n";
    assert_eq!(mask_of(describe(&[("out", &[1, 2, 2, 3], &interleaved)], &last)[0].clone()), whole);
    // And as numbers of classes.
    let numbers = mask_of(describe(&[("out", &[1, 2, 2], &[0.0, 1.0, 2.0, 0.0])], &card)[0].clone());
    assert_eq!(numbers.coverage(), [0, 255, 255, 0]);
    assert_eq!(describe(&[("out", &[1, 2, 2], &[0.0; 4])], &card)[0], None, "nothing is inside");
}

#[test]
fn a_letterboxed_mask_has_no_padding_and_its_threshold_is_half_covered() {
    let card = format!(
        "{HEAD}labels = [\"person\"]\n{INPUT}fit = \"letterbox\"\n[output.segmentation]\noutput = \"out\"\nactivation = \"sigmoid\"\nthreshold = 0.8\n"
    );
    let logit = |probability: f32| (probability / (1.0 - probability)).ln();
    let mut scores = [logit(0.4); 16];
    scores[5] = logit(0.8001);
    // 64x32 in 32x32: the middle two of four rows.
    let mask = mask_of(describe(&[("out", &[1, 1, 4, 4], &scores)], &card)[0].clone());
    assert_eq!((*mask.bbox(), mask.columns(), mask.rows()), (BBox::from_xyxy(0.0, 0.0, 64.0, 32.0), 4, 2));
    assert_eq!(mask.coverage(), [64, 128, 64, 64, 64, 64, 64, 64]);
}

#[test]
fn embeddings_are_brought_to_length_one() {
    let card = |more: &str| format!("{HEAD}{INPUT}[output.embedding]\noutput = \"out\"\n{more}");
    let outputs: [(&str, &[i64], &[f32]); 1] = [("out", &[1, 2, 1, 1], &[3.0, -4.0])];
    let value = |more: &str| describe(&outputs, &card(more))[1].clone().map(|found| found.value);
    assert_eq!(value(""), Some(AttributeValue::Embedding([3.0, -4.0].into())));
    assert_eq!(value("normalize = true\nlength = 2\n"), Some(AttributeValue::Embedding([0.6, -0.8].into())));
}

#[test]
fn numbers_that_are_none_are_counted_and_say_nothing() {
    let card = format!("{HEAD}{INPUT}[output.embedding]\noutput = \"out\"\nnormalize = true\n");
    let (_folder, options) = placed(&constant_model(&[1, 3, 32, 32], &[("out", &[1, 2], &[0.0, 0.0])]), &card);
    let mut predictor = Predictor::load(&options).expect("sound");
    let frame = rgb_frame(8, 8, &[0; 192]);
    assert_eq!(predictor.predict(&[View::whole(&frame)]).expect("runs"), [Prediction::Description(None)]);
    let stats = predictor.stats();
    assert_eq!((stats.non_finite, stats.descriptions, stats.frames), (1, 0, 1));
}

/// The detections of a model of one class with two prototypes of 4x4 cells over 32x32 pixels, in a frame of 64x32.
fn masked(columns: &[[f32; 7]], prototypes: &[f32]) -> Vec<Detection> {
    let card = format!(
        "{HEAD}labels = [\"cat\"]\n{INPUT}[output.anchor_free]\noutput = \"out\"\norder = \"values-first\"\n\
         masks = {{ prototypes = \"proto\", coefficients = 2 }}\n"
    );
    let data: Vec<f32> = (0..7).flat_map(|value| columns.iter().map(move |column| column[value])).collect();
    let dims = [1, 7, columns.len() as i64];
    let model = constant_model(&[1, 3, 32, 32], &[("out", &dims, &data), ("proto", &[1, 2, 4, 4], prototypes)]);
    let (_folder, options) = placed(&model, &card);
    let frame = rgb_frame(64, 32, &[128; 64 * 32 * 3]);
    Detector::load(&options).expect("sound model and card").detect(&[&frame]).expect("runs").remove(0)
}

#[test]
fn boxes_have_masks_of_prototypes() {
    let mut prototypes = [0.0; 32];
    // The first lights up the left column, the second the lower half.
    (0..4).for_each(|row| prototypes[row * 4] = 1.0);
    (8..16).for_each(|cell| prototypes[16 + cell] = 1.0);
    // Two of three overlap; the better one comes second.
    let best = [16.0, 16.0, 32.0, 32.0, 0.9, 10.0, -10.0];
    let columns = [[16.0, 16.0, 31.0, 31.0, 0.6, 0.0, 0.0], best, [20.0, 20.0, 6.0, 6.0, 0.5, -10.0, 10.0]];
    let found = masked(&columns, &prototypes);
    let masks: Vec<&InstanceMask> = found
        .iter()
        .map(|found| match &found.attributes[..] {
            [attribute] if &*attribute.model == "t" => match &attribute.value {
                AttributeValue::Mask(mask) => mask.as_ref(),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(masks.len(), 2);
    // Left, above: 10; left, below: 10 - 10; right, below: -10; elsewhere 0, which is half.
    let rows = [[255, 128, 128, 128], [255, 128, 128, 128], [128, 0, 0, 0], [128, 0, 0, 0]];
    assert_eq!((*masks[0].bbox(), masks[0].coverage()), (BBox::from_xyxy(0.0, 0.0, 64.0, 32.0), rows.as_flattened()));
    // 17 to 23 of 32 pixels: the third column and row of four, at twice the width in the frame.
    assert_eq!((*masks[1].bbox(), masks[1].coverage()), (BBox::from_xyxy(32.0, 16.0, 48.0, 24.0), &[255][..]));
}

#[test]
fn cards_say_what_they_lack() {
    let out: [(&str, &[i64], &[f32]); 1] = [("out", &[1, 4], &[0.0; 4])];
    for (card, expected) in [
        (
            "labels = [\"a\", \"b\"]\n[input]\n[output.classes]\noutput = \"out\"\n",
            "output 'out' float32[1,4] should be [?,2] or [?,2,1,1]",
        ),
        ("labels = [\"a\"]\n[input]\n[output.classes]\noutput = \"out\"\ntop_k = 0\n", "line 8: output.top_k must be 1 to 1000"),
        ("[input]\n[output.classes]\noutput = \"out\"\n", "labels must be a list of names, or replaced by 'classes' with their number"),
        (
            "[input]\n[output.landmarks]\noutput = \"out\"\n",
            "output.points must be the number of landmarks, if the card has no 'landmarks'",
        ),
        ("[input]\n[output.landmarks]\noutput = \"out\"\npoints = 3\n", "should have 6 values per image"),
        (
            "labels = [\"a\", \"b\"]\n[input]\n[output.segmentation]\noutput = \"out\"\n",
            "output.inside must be given: the classes that make the mask",
        ),
        (
            "labels = [\"a\", \"b\"]\n[input]\n[output.segmentation]\noutput = \"out\"\ninside = [\"c\"]\n",
            "line 8: output.inside must be classes of the card by their names",
        ),
        ("labels = [\"a\"]\n[input]\n[output.embedding]\noutput = \"out\"\n", "labels must be left out: an embedding has no classes"),
        ("[input]\n[output.embedding]\noutput = \"out\"\nlength = 3\n", "should have 3 values per image"),
        ("[input]\n[output.embeding]\noutput = \"out\"\n", "did you mean 'embedding'?"),
    ] {
        let reported = refused(&out, &format!("{HEAD}{card}"));
        assert!(reported.contains(expected) && reported.lines().count() == 1, "{reported}");
    }
}

#[test]
fn a_detector_is_no_other_model() {
    let card = format!("{HEAD}{INPUT}[output.embedding]\noutput = \"out\"\n");
    let (_folder, options) = placed(&constant_model(&[1, 3, 32, 32], &[("out", &[1, 2], &[0.0, 0.0])]), &card);
    let error = Detector::load(&DetectorOptions { ..options }).err().expect("refused");
    assert!(matches!(error, InferError::Option { option: "model", .. }) && error.to_string().contains("a model for embedding"), "{error}");
}
