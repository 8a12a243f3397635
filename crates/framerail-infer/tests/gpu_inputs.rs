//! Images of other element types, and further inputs, on a GPU: the same as on the CPU.
//!
//! Without a GPU these tests report so on standard error and pass, unless `FRAMERAIL_REQUIRE_GPU` is set.
#![cfg(feature = "cuda")]

mod common;

use common::{
    HALF_YOLO_CARD, RTDETR_CARD, byte_card, byte_model, card_of, gpu_is_present, half_model, half_yolo, home, mean_color_card, placed,
    rgb_frame, rtdetr,
};
use framerail_core::{AttributeValue, BBox, DType, Device, Frame};
use framerail_cuda::Traffic;
use framerail_infer::{DetectorOptions, Precision, Prediction, Predictor, SearchPath, View};

fn on_gpu(options: &DetectorOptions, batch: usize) -> Predictor {
    let search = SearchPath { home: Some(home()), ..SearchPath::from_env() };
    let mut options = DetectorOptions { device: Device::Cuda(0), batch, search, ..options.clone() };
    options.cuda.tf32 = false;
    Predictor::load(&options).expect("loads on the card")
}

/// A frame with colour gradients in both directions.
fn image(width: u32, height: u32) -> Frame {
    let rgb: Vec<u8> = (0..height).flat_map(|y| (0..width).flat_map(move |x| [(x * 3) as u8, (y * 2) as u8, (x + y) as u8])).collect();
    rgb_frame(width, height, &rgb)
}

fn scores(stated: &[Prediction]) -> Vec<f32> {
    let of = |prediction: &Prediction| match prediction {
        Prediction::Description(Some(stated)) => match &stated.value {
            AttributeValue::Classes(classes) => classes.iter().map(|class| class.score).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    };
    stated.iter().flat_map(of).collect()
}

#[test]
fn uint8_and_float16_inputs_on_the_gpu_equal_those_on_the_cpu() {
    if !gpu_is_present("uint8_and_float16_inputs_on_the_gpu_equal_those_on_the_cpu") {
        return;
    }
    let (first, second) = (image(64, 48), image(90, 120));
    let views = [View::whole(&first), View::part(&second, BBox::from_xyxy(3.0, 4.5, 70.0, 100.0)), View::whole(&second)];
    for (model, card, dtype) in [(byte_model(16), byte_card(16), DType::U8), (half_model(16), mean_color_card(16), DType::F16)] {
        let card = card.replace("output = \"mean\"", "output = \"mean\"\ntop_k = 3");
        let (_folder, options) = placed(&model, &card);
        let expected = scores(&Predictor::load(&options).expect("loads").predict(&views).expect("runs"));
        let mut predictor = on_gpu(&options, 2);
        assert_eq!(predictor.input_spec(64, 48).expect("any size").dtype, dtype);
        let found = scores(&predictor.predict(&views).expect("runs"));
        assert_eq!((found.len(), predictor.stats().sessions_decoded_on_host), (9, 1));
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 4e-3, "{dtype:?}: {found} for {expected}");
        }
    }
}

fn boxes(stated: Vec<Prediction>) -> Vec<[f32; 4]> {
    let of = |prediction| match prediction {
        Prediction::Detections(found) => found.into_iter().map(|found| [found.bbox.x1, found.bbox.y1, found.bbox.x2, found.bbox.y2]),
        other => panic!("{other:?}"),
    };
    stated.into_iter().flat_map(of).collect()
}

#[test]
fn exports_in_half_precision_are_decoded_on_the_gpu() {
    if !gpu_is_present("exports_in_half_precision_are_decoded_on_the_gpu") {
        return;
    }
    let (_folder, options) = placed(&half_yolo(), HALF_YOLO_CARD);
    let (wide, tall) = (image(128, 64), image(64, 128));
    let views = [View::whole(&wide), View::whole(&tall), View::part(&wide, BBox::from_xyxy(10.0, 4.0, 74.0, 36.0))];
    let expected = boxes(Predictor::load(&options).expect("loads").predict(&views).expect("runs"));
    let mut predictor = on_gpu(&options, 2);
    let found = boxes(predictor.predict(&views).expect("runs"));
    assert_eq!((found.len(), predictor.stats().sessions_decoded_on_host), (6, 0));
    for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!((found - expected).abs() < 1e-2, "{found} for {expected}");
    }
}

#[test]
fn models_on_the_gpu_get_the_size_of_each_frame() {
    if !gpu_is_present("models_on_the_gpu_get_the_size_of_each_frame") {
        return;
    }
    let (_folder, options) = placed(&rtdetr(-1), &card_of(RTDETR_CARD, "labels = [\"person\", \"bicycle\"]"));
    let (wide, tall) = (image(200, 100), image(60, 90));
    let parts = [BBox::from_xyxy(100.0, 20.0, 180.0, 60.0), BBox::from_xyxy(0.0, 0.0, 31.0, 77.0)];
    let views = [View::whole(&wide), View::whole(&tall), View::part(&wide, parts[0]), View::whole(&tall), View::part(&wide, parts[1])];
    let expected = boxes(Predictor::load(&options).expect("loads").predict(&views).expect("runs"));
    assert_eq!(expected.len(), 10);
    for precision in [Precision::Fp32, Precision::Fp16] {
        let mut predictor = on_gpu(&DetectorOptions { precision, ..options.clone() }, 2);
        // Batches of other sizes follow each other while one is in flight; the last is not full.
        for _ in 0..3 {
            let found = boxes(predictor.predict(&views).expect("runs"));
            assert_eq!(found.len(), expected.len(), "{precision}: {:?}", predictor.stats());
            for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                assert!((found - expected).abs() < 0.2, "{precision}: {found} for {expected}");
            }
        }
        // Only for images of another size are runs waited for and the inputs copied.
        let mut traffic = |frame: &Frame| {
            let _ = Traffic::take();
            predictor.predict(&[View::whole(frame)]).expect("runs");
            Traffic::take()
        };
        let [_, same, other] = [&tall, &tall, &wide].map(&mut traffic);
        assert_eq!((other.syncs, other.uploads), (same.syncs + 1, same.uploads + 1));
    }
    let mut graphs = DetectorOptions { device: Device::Cuda(0), ..options };
    graphs.cuda.graphs = true;
    assert!(Predictor::load(&graphs).err().expect("refused").to_string().contains("graphs=on"));
}
