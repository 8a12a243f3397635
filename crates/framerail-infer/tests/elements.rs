//! Models whose images or outputs have element types other than float32.

mod common;

use common::{
    FLOAT, FLOAT16, HALF_YOLO_CARD, INT8, INT32, INT64, UINT8, byte_card, byte_model, half_model, half_yolo, mean_color_card,
    mean_color_model, placed, rgb_frame, rgb_scores, typed_model,
};
use framerail_core::{AttributeValue, BBox, DType, Detection, Frame};
use framerail_infer::{Detector, DetectorOptions, Precision, Prediction, Predictor, View};

const HEAD: &str = "name = \"t\"\nfile = \"m.onnx\"\nlicence = \"MIT\"\n";

/// A frame with colour gradients in both directions.
fn image(width: u32, height: u32) -> Frame {
    let rgb: Vec<u8> = (0..height).flat_map(|y| (0..width).flat_map(move |x| [(x * 7) as u8, (y * 5) as u8, (x + y * 3) as u8])).collect();
    rgb_frame(width, height, &rgb)
}

/// The scores of red, green and blue for each of the views.
fn scores(model: &[u8], card: &str, views: &[View<'_>], precision: Precision) -> (DType, Vec<[f32; 3]>) {
    let card = card.replace("output = \"mean\"", "output = \"mean\"\ntop_k = 3");
    let (_folder, options) = placed(model, &card);
    let mut predictor = Predictor::load(&DetectorOptions { batch: 2, precision, ..options }).expect("sound model and card");
    let dtype = predictor.input_spec(64, 48).expect("any size").dtype;
    let stated = predictor.predict(views).expect("runs");
    (dtype, rgb_scores(&stated))
}

#[test]
fn uint8_and_float16_inputs_give_the_results_of_float32() {
    let (first, second) = (image(64, 48), image(31, 50));
    let views = [View::whole(&first), View::part(&second, BBox::from_xyxy(3.0, 4.5, 20.0, 31.0)), View::whole(&second)];
    let (dtype, expected) = scores(&mean_color_model(16), &mean_color_card(16), &views, Precision::Auto);
    assert_eq!((dtype, expected.len()), (DType::F32, 3));
    for (model, card, dtype, tolerance) in [
        // Each element is half a step off at most.
        (byte_model(16), byte_card(16), DType::U8, 3e-3),
        (half_model(16), mean_color_card(16), DType::F16, 2e-3),
    ] {
        for precision in [Precision::Auto, Precision::Fp16] {
            let (found_dtype, found) = scores(&model, &card, &views, precision);
            assert_eq!((found_dtype, found.len()), (dtype, 3));
            for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                assert!((found - expected).abs() < tolerance, "{dtype:?} {precision}: {found} for {expected}");
            }
        }
    }
}

fn refused(model: &[u8], card: &str) -> String {
    let (_folder, options) = placed(model, card);
    let reported = Predictor::load(&options).err().expect("refused").to_string();
    assert_eq!(reported.lines().count(), 1, "{reported}");
    reported
}

#[test]
fn bytes_are_not_scaled_down() {
    let reported = refused(&byte_model(8), &byte_card(8).replace("layout", "scale = 0.00392156862745098\nlayout"));
    assert!(
        reported.contains("input 'image' takes uint8")
            && reported.contains("turn 0 to 255 into 0 to 1,")
            && reported.contains("leave scale"),
        "{reported}"
    );
    let reported = refused(&byte_model(8), &byte_card(8).replace("layout", "mean = [0.0, 127.5, 0.0]\nlayout"));
    assert!(reported.contains("into -127.5 to 127.5"), "{reported}");
    // Every normalisation with one step per value is accepted: by 1/255 and back, or inverted.
    for kept in [
        "scale = 0.00392156862745098\nstd = [0.00392156862745098, 0.00392156862745098, 0.00392156862745098]\n",
        "scale = -1.0\nmean = [-255.0, -255.0, -255.0]\n",
    ] {
        let (_folder, options) = placed(&byte_model(8), &byte_card(8).replace("layout", &format!("{kept}layout")));
        Predictor::load(&options).expect("keeps every value");
    }
    let reported = refused(&typed_model((INT8, &[1, 3, 8, 8]), &[("mean", FLOAT, &[1, 3], &[0.0; 3])]), &mean_color_card(8));
    assert!(reported.contains("input 'image' has type int8") && reported.contains("float32, float16 or uint8"), "{reported}");
}

#[test]
fn exports_in_half_precision_find_boxes() {
    let (_folder, options) = placed(&half_yolo(), HALF_YOLO_CARD);
    let mut detector = Detector::load(&DetectorOptions { batch: 2, ..options }).expect("sound model and card");
    let found = detector.detect(&[&image(128, 64), &image(64, 64), &image(64, 128)]).expect("runs");
    let reported = |found: &[Detection]| found.iter().map(|found| (found.label.id, found.score, found.bbox)).collect::<Vec<_>>();
    // 128x64 into 64x64: half the size, 16 rows of padding above.
    let wide = BBox::from_xyxy(48.0, 24.0, 80.0, 40.0);
    assert_eq!(reported(&found[0]), [(0, 0.875, wide), (1, 0.625, wide)]);
    assert_eq!(found.iter().map(|found| found[0].bbox.width()).collect::<Vec<_>>(), [32.0, 16.0, 32.0]);
}

#[test]
fn boxes_come_in_the_types_that_models_give() {
    let card = format!(
        "{HEAD}labels = [\"cat\", \"dog\"]\n[input]\nwidth = 32\nheight = 32\n[output.boxes]\nboxes = \"boxes\"\nscores = \"scores\"\n\
         labels = \"labels\"\ncount = \"count\"\nsuppressed = true\n"
    );
    let find = |floats: u64, labels: u64, count: u64| {
        let outputs: [(&str, u64, &[i64], &[f32]); 4] = [
            ("boxes", floats, &[1, 3, 4], &[1.0, 2.0, 9.0, 10.5, 4.0, 4.0, 30.0, 20.0, 0.0, 0.0, 5.0, 5.0]),
            ("scores", floats, &[1, 3], &[0.5, 0.75, 0.9]),
            ("labels", labels, &[1, 3], &[1.0, 0.0, 0.0]),
            ("count", count, &[1], &[2.0]),
        ];
        let (_folder, options) = placed(&typed_model((FLOAT16, &[1, 3, 32, 32]), &outputs), &card);
        let found = Detector::load(&options).expect("sound model and card").detect(&[&rgb_frame(64, 32, &[0; 64 * 32 * 3])]);
        found.expect("runs").remove(0).into_iter().map(|found| (found.label.id, found.score, found.bbox)).collect::<Vec<_>>()
    };
    let expected = [(0, 0.75, BBox::from_xyxy(8.0, 4.0, 60.0, 20.0)), (1, 0.5, BBox::from_xyxy(2.0, 2.0, 18.0, 10.5))];
    for (floats, labels, count) in [(FLOAT, INT64, INT32), (FLOAT16, INT32, INT64), (FLOAT16, UINT8, FLOAT16), (11, INT8, FLOAT)] {
        assert_eq!(find(floats, labels, count), expected, "{floats} {labels} {count}");
    }
}

#[test]
fn masks_of_class_numbers_in_bytes_and_outputs_that_are_not_read() {
    let card = format!(
        "{HEAD}labels = [\"rest\", \"sky\"]\n[input]\nwidth = 8\nheight = 8\n[output.segmentation]\noutput = \"out\"\ninside = [\"sky\"]\n"
    );
    let outputs: [(&str, u64, &[i64], &[f32]); 1] = [("out", UINT8, &[1, 2, 2], &[0.0, 1.0, 1.0, 0.0])];
    let (_folder, options) = placed(&typed_model((FLOAT, &[1, 3, 8, 8]), &outputs), &card);
    let frame = rgb_frame(8, 8, &[0; 192]);
    let stated = Predictor::load(&options).expect("sound").predict(&[View::whole(&frame)]).expect("runs").remove(0);
    let Prediction::Description(Some(stated)) = stated else { panic!("{stated:?}") };
    assert!(matches!(&stated.value, AttributeValue::Mask(mask) if mask.coverage() == [0, 255, 255, 0]), "{stated:?}");
    let strange: [(&str, u64, &[i64], &[f32]); 1] = [("out", 13, &[1, 2, 2], &[0.0; 4])];
    let reported = refused(&typed_model((FLOAT, &[1, 3, 8, 8]), &strange), &card);
    assert!(reported.contains("output 'out' uint64[1,2,2] has an unsupported element type"), "{reported}");
}
