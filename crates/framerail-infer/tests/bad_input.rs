//! Models and cards that are missing, damaged or do not fit: one clear line each, never a panic.

mod common;

use std::{fs, path::Path};

use common::{
    FLOAT, INT64, Message, cast, constant_model, float_tensor, graph, installed, int, integer_tensor, ints, model, node, options,
    value_info,
};
use framerail_core::Device;
use framerail_infer::{
    CardFile, Detector, DetectorOptions, InferError, ModelCard, Precision, Prediction, Predictor, SearchPath, View, onnx::OnnxFile,
};
use tempfile::TempDir;

const BOXES: (&str, &[i64], &[f32]) = ("boxes", &[1, 1, 6], &[1.0, 1.0, 5.0, 5.0, 0.9, 0.0]);

fn card_text(file: &str) -> String {
    format!(
        "name = \"test\"\nfile = \"{file}\"\nlicence = \"MIT\"\nsource = \"this test\"\nlabels = [\"thing\"]\n\n[input]\nwidth = \
         32\nheight = 32\n\n[output.boxes]\nboxes = \"boxes\"\nsuppressed = true\n"
    )
}

/// Loads a detector whose card lies in a folder beside a model of these bytes.
fn load(bytes: &[u8]) -> Result<Detector, InferError> {
    let folder = TempDir::new().expect("temporary folder");
    fs::write(folder.path().join("m.onnx"), bytes).expect("writable");
    load_with(&folder, &card_text("m.onnx"))
}

fn load_with(folder: &TempDir, card: &str) -> Result<Detector, InferError> {
    let path = folder.path().join("card.toml");
    fs::write(&path, card).expect("writable");
    Detector::load(&options(path.display().to_string()))
}

/// The message of an error, which must be one line.
fn message<T>(result: Result<T, InferError>) -> String {
    let text = result.err().expect("must be refused").to_string();
    assert!(!text.contains('\n') && text.len() < 700, "one clear line: {text}");
    text
}

fn assert_contains(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "'{part}' is not in: {text}");
    }
}

#[test]
fn a_valid_model_and_card_load() {
    load(&constant_model(&[1, 3, 32, 32], &[BOXES])).expect("sound");
}

/// `precision=int8` finds the quantised model beside the float32 one, made from just that file, and nothing runs it as anything else.
#[test]
fn a_quantised_model_belongs_to_its_float_model() {
    let folder = TempDir::new().expect("temporary folder");
    let file = |name: &str| folder.path().join(name);
    fs::write(file("m.onnx"), constant_model(&[1, 3, 32, 32], &[BOXES])).expect("writable");
    let other = ("boxes", BOXES.1, &[2.0, 2.0, 6.0, 6.0, 0.9, 0.0][..]);
    fs::write(file("m-int8.onnx"), constant_model(&[1, 3, 32, 32], &[other])).expect("writable");
    let load = |card: &str, change: &dyn Fn(&mut DetectorOptions)| {
        let mut options = options(file(card).display().to_string());
        change(&mut options);
        Detector::load(&options)
    };
    let int8 = |options: &mut DetectorOptions| options.precision = Precision::Int8;
    let float = load_with(&folder, &card_text("m.onnx")).expect("sound");
    assert_contains(&message(load("card.toml", &int8)), &["card-int8.toml", "`framerail quantize"]);

    let card = |from: &str| format!("precision = \"int8\"\nquantized_from = \"{from}\"\n{}", card_text("m-int8.onnx"));
    fs::write(file("card-int8.toml"), card(&"0".repeat(64))).expect("writable");
    assert_contains(&message(load("card.toml", &int8)), &["card-int8.toml", "was made from another file than", "m.onnx"]);
    let made = {
        let predictor = Predictor::load(&options(file("card.toml").display().to_string())).expect("sound");
        predictor
            .quantised_card(Path::new("m-int8.onnx"), &fs::read(file("m-int8.onnx")).expect("readable"), None, "made here")
            .expect("a card")
    };
    fs::write(file("card-int8.toml"), made).expect("writable");
    let found = load("card.toml", &int8).expect("the quantised model");
    assert_eq!((found.card().file.to_str(), found.card().is_quantised()), (Some("m-int8.onnx"), true));
    assert!(!float.card().is_quantised() && found.card().thresholds == float.card().thresholds);

    let fp32 = |options: &mut DetectorOptions| options.precision = Precision::Fp32;
    assert_contains(&message(load("card-int8.toml", &fp32)), &["precision=fp32", "is quantised to int8"]);
    for precision in [Precision::Auto, Precision::Int8] {
        let on_gpu = |options: &mut DetectorOptions| (options.precision, options.device) = (precision, Device::Cuda(0));
        assert_contains(&message(load("card-int8.toml", &on_gpu)), &["precision=int8", "device=cpu"]);
    }
}

/// Where a quantised model's score is close to the threshold, the float32 model decides; elsewhere it does not run.
#[test]
fn doubtful_scores_are_decided_in_float32() {
    let folder = TempDir::new().expect("temporary folder");
    let file = |name: &str| folder.path().join(name);
    let with_score = |score: f32| constant_model(&[1, 3, 32, 32], &[("boxes", BOXES.1, &[1.0, 1.0, 5.0, 5.0, score, 0.0][..])]);
    let frame = common::rgb_frame(32, 32, &[0; 32 * 32 * 3]);
    fs::write(file("m.onnx"), with_score(0.9)).expect("writable");
    load_with(&folder, &card_text("m.onnx")).expect("sound");
    let float = Predictor::load(&options(file("card.toml").display().to_string())).expect("sound");
    let card_of =
        |bytes: &[u8]| float.quantised_card(Path::new("m-int8.onnx"), bytes, Some((0.04, Path::new("m.onnx"))), "").expect("a card");
    let int8 = || Predictor::load(&options(file("card-int8.toml").display().to_string()));
    // The threshold is 0.25.
    for (score, expected, rechecked) in [(0.22, Some(0.9), 1), (0.28, Some(0.9), 1), (0.5, Some(0.5), 0), (0.1, None, 0)] {
        fs::write(file("m-int8.onnx"), with_score(score)).expect("writable");
        fs::write(file("card-int8.toml"), card_of(&with_score(score))).expect("writable");
        let predictor = int8().expect("sound");
        for mut predictor in [predictor.fork(), predictor.share(), predictor] {
            let before = predictor.stats();
            let found = predictor.predict(&[View::whole(&frame), View::whole(&frame)]).expect("runs");
            let scores = |prediction: &Prediction| match prediction {
                Prediction::Detections(found) => found.iter().map(|found| found.score).collect::<Vec<_>>(),
                _ => Vec::new(),
            };
            let wanted: Vec<f32> = expected.into_iter().collect();
            assert_eq!(found.iter().map(scores).collect::<Vec<_>>(), [wanted.clone(), wanted], "score {score}");
            let after = predictor.stats();
            let counted = (after.rechecked - before.rechecked, after.detections - before.detections);
            assert_eq!(counted, (2 * rechecked, 2 * u64::from(expected.is_some())), "score {score}");
        }
    }
    fs::write(file("m.onnx"), with_score(0.8)).expect("writable");
    assert_contains(&message(int8()), &["m.onnx", "sha256"]);
    let alone = format!("precision = \"int8\"\nrecheck_margin = 0.1\n{}", card_text("m-int8.onnx"));
    fs::write(file("card-int8.toml"), alone).expect("writable");
    assert_contains(&message(int8()), &["card-int8.toml line 2", "recheck_margin", "float_file"]);
}

/// Inputs for quantisation: the values that a session would get, in an array with the image's shape.
#[test]
fn inputs_are_arrays_of_the_models_shape() {
    let (_folder, options) = common::placed(&common::mean_color_model(8), &common::mean_color_card(8));
    let predictor = Predictor::load(&options).expect("sound");
    let frame = common::rgb_frame(8, 8, &[255, 0, 51].repeat(64));
    let arrays = predictor.input_arrays(&View::whole(&frame)).expect("an image");
    let [image] = &arrays[..] else { unreachable!("one input") };
    let header = String::from_utf8_lossy(&image.npy[10..128]);
    assert!(image.name == "image" && header.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (1,3,8,8,), }"), "{header}");
    let values: Vec<f32> = image.npy[128..].as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let planes: Vec<f32> = values.chunks(64).map(|plane| plane.iter().sum::<f32>() / 64.0).collect();
    let near = |(found, expected): (&f32, f32)| (found - expected).abs() < 1e-3;
    assert!(planes.len() == 3 && planes.iter().zip([1.0, 0.0, 0.2]).all(near), "{planes:?}");
}

#[test]
fn cards_with_the_strips_of_older_versions_load() {
    let folder = TempDir::new().expect("temporary folder");
    fs::write(folder.path().join("m.onnx"), constant_model(&[1, 3, 32, 32], &[BOXES])).expect("writable");
    for strips in ["\"auto\"", "8"] {
        load_with(&folder, &card_text("m.onnx").replace("height = 32\n", &format!("height = 32\nstrips = {strips}\n"))).expect("loads");
    }
}

#[test]
fn a_missing_card_names_the_nearest_and_the_places() {
    let search = SearchPath { working_directory: "/nowhere".into(), home: Some("/home/x/.framerail".into()), ..SearchPath::default() };
    let text = message(CardFile::find("centreface", &search));
    assert_contains(
        &text,
        &["card 'centreface' not found", "/nowhere/models/centreface.toml", "/home/x/models/centreface.toml", "did you mean 'centerface'"],
    );
    assert_contains(&message(CardFile::find("no/such.toml", &search)), &["no/such.toml", "give the path of a model card"]);
    assert_contains(&message(CardFile::find("model.onnx", &search)), &["model card", "model.toml", "write a model card"]);
}

#[test]
fn a_model_file_is_found_by_the_card_beside_it() {
    let folder = TempDir::new().expect("temporary folder");
    fs::write(folder.path().join("ssdlite.onnx"), constant_model(&[1, 3, 32, 32], &[BOXES])).expect("writable");
    // The card names the file under which it was exported once.
    fs::write(folder.path().join("ssdlite.toml"), card_text("export.onnx")).expect("writable");
    let given = folder.path().join("ssdlite.onnx").display().to_string();
    assert_eq!(Detector::load(&options(given)).expect("its card lies beside it").card().name, "test");
}

#[test]
fn a_size_other_than_the_files_own_is_refused() {
    for dims in [&[1_i64, 3, 40, 32], &[1, 3, 32, 40]] {
        assert_contains(&message(load(&constant_model(dims, &[BOXES]))), &["the model card states 32x32", "boxes would be wrong"]);
    }
    load(&constant_model(&[1, 3, -1, -1], &[BOXES])).expect("open sides take any size");
}

/// Boxes with corners in another order than in the card have no area: they are dropped and counted.
#[test]
fn boxes_without_area_are_left_out_and_counted() {
    let turned: (&str, &[i64], &[f32]) =
        ("boxes", &[1, 3, 6], &[5.0, 5.0, 1.0, 1.0, 0.9, 0.0, 1.0, 1.0, 5.0, 5.0, 7.5, 0.0, 2.0, 2.0, 2.0, 9.0, 0.8, 0.0]);
    let mut detector = load(&constant_model(&[1, 3, 32, 32], &[turned])).expect("sound");
    let frame = common::rgb_frame(32, 32, &[0; 32 * 32 * 3]);
    assert_eq!(detector.detect(&[&frame]).expect("a frame").remove(0).len(), 1);
    let stats = detector.stats();
    assert_eq!((stats.without_area, stats.scores_above_one, stats.detections), (2, 1, 1));
}

#[test]
fn a_missing_model_names_the_places_and_the_cure() {
    let folder = TempDir::new().expect("temporary folder");
    let text = message(load_with(&folder, &card_text("absent.onnx")));
    let beside = folder.path().join("absent.onnx");
    assert_contains(
        &text,
        &["model file absent.onnx not found", &beside.display().to_string(), ".framerail/models/absent.onnx", "this test"],
    );
    let mut built_in = options("centerface");
    built_in.search = SearchPath { working_directory: folder.path().into(), ..SearchPath::default() };
    assert_contains(&message(Detector::load(&built_in)), &["centerface.onnx not found", "make setup"]);
}

#[test]
fn what_is_no_model_says_so() {
    assert_contains(&message(load(b"")), &["m.onnx: is empty"]);
    assert_contains(&message(load(b"this is a text file, not a model\n")), &["is not an ONNX model"]);
    assert_contains(&message(load(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")), &["Git LFS pointer"]);
    assert_contains(&message(load(&[0; 4096])), &["is not an ONNX model"]);
    let folder = TempDir::new().expect("temporary folder");
    fs::create_dir(folder.path().join("m.onnx")).expect("writable");
    assert_contains(&message(load_with(&folder, &card_text("m.onnx"))), &["is not a file"]);
}

#[test]
fn a_model_cut_short_says_so_at_every_length() {
    let whole = constant_model(&[1, 3, 32, 32], &[BOXES]);
    for length in 1..whole.len() {
        let text = message(OnnxFile::parse(whole[..length].to_vec(), Path::new("cut.onnx")));
        assert!(text.contains("is truncated") || text.contains("not an ONNX model"), "{length} bytes: {text}");
    }
    let real = fs::read(installed("models/centerface.onnx")).expect("readable");
    for percent in [1, 50, 99] {
        assert_contains(&message(load(&real[..real.len() * percent / 100])), &["is truncated"]);
    }
}

#[test]
fn random_and_flipped_bytes_never_panic() {
    let mut state = 1_u64;
    let mut random = move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    let whole = constant_model(&[1, 3, 32, 32], &[BOXES]);
    let shape = framerail_infer::onnx::InputShape { name: "image".into(), dims: vec![Some(1), Some(3), None, Some(u64::MAX)] };
    for _ in 0..2000 {
        let noise: Vec<u8> = (0..usize::from(random())).map(|_| random()).collect();
        let mut flipped = whole.clone();
        for _ in 0..4 {
            let at = (usize::from(random()) << 8 | usize::from(random())) % flipped.len();
            flipped[at] = random();
        }
        for bytes in [noise, flipped] {
            if let Ok(file) = OnnxFile::parse(bytes, Path::new("noise.onnx")) {
                let _ = (file.prepared(std::slice::from_ref(&shape), &["boxes"]), file.resized(&shape));
            }
        }
    }
}

/// A model whose one weight of six floats lies in another file.
fn with_external(location: &str, offset: &str, length: &str) -> Vec<u8> {
    let entry = |key: &str, value: &str| Message::default().bytes(1, key).bytes(2, value);
    let tensor = Message::default().number(1, 1).number(1, 1).number(1, 6).number(2, 1).bytes(8, "w").number(14, 1);
    let tensor = tensor.bytes(13, entry("location", location)).bytes(13, entry("offset", offset)).bytes(13, entry("length", length));
    let picture = [value_info("image", FLOAT, &[1, 3, 32, 32])];
    graph(&[node("Identity", &["w"], "boxes", &[])], &[tensor], &picture, &[value_info("boxes", FLOAT, &[1, 1, 6])])
}

#[test]
fn weights_in_a_file_beside_the_model_are_read() {
    let folder = TempDir::new().expect("temporary folder");
    let row = [1.0_f32, 2.0, 9.0, 10.0, 0.9, 0.0];
    let bytes: Vec<u8> = [0.0; 16].iter().chain(&row).flat_map(|value| value.to_le_bytes()).collect();
    fs::write(folder.path().join("m.onnx.data"), &bytes).expect("writable");
    let model = with_external("m.onnx.data", "64", "24");
    fs::write(folder.path().join("m.onnx"), &model).expect("writable");
    let mut detector = load_with(&folder, &card_text("m.onnx")).expect("sound model");
    let found = detector.detect(&[&common::rgb_frame(32, 32, &[0; 32 * 32 * 3])]).expect("runs").remove(0);
    assert_eq!(found.iter().map(|found| found.bbox).collect::<Vec<_>>(), [framerail_core::BBox::from_xyxy(1.0, 2.0, 9.0, 10.0)]);
    // A hash covers the weights too.
    let card = card_text("m.onnx").replace("file =", &format!("sha256 = \"{}\"\nfile =", "0".repeat(64)));
    assert_contains(&message(load_with(&folder, &card)), &["sha256", "the model card states"]);
}

/// Hostile input: no file outside the model's folder is opened, and lengths beyond a file's end are refused.
#[test]
fn weights_in_other_files_stay_in_the_folder() {
    let folder = TempDir::new().expect("temporary folder");
    let outside = TempDir::new().expect("temporary folder");
    fs::write(outside.path().join("secret"), [0; 64]).expect("writable");
    fs::write(folder.path().join("short.data"), [0; 20]).expect("writable");
    fs::create_dir(folder.path().join("sub")).expect("writable");
    std::os::unix::fs::symlink(outside.path().join("secret"), folder.path().join("link.data")).expect("writable");
    let absolute = outside.path().join("secret").display().to_string();
    let refused = |location: &str, offset: &str, length: &str| {
        fs::write(folder.path().join("m.onnx"), with_external(location, offset, length)).expect("writable");
        message(load_with(&folder, &card_text("m.onnx")))
    };
    for location in [absolute.as_str(), "../secret", "sub/../../secret", "link.data", ""] {
        assert_contains(&refused(location, "0", "24"), &["outside of its folder"]);
    }
    assert_contains(&refused("none.data", "0", "24"), &["'none.data'", "missing"]);
    assert_contains(&refused("sub", "0", "24"), &["not a file"]);
    for (offset, length) in [("0", "24"), ("21", "0"), ("18446744073709551615", "24"), ("0", "18446744073709551615")] {
        assert_contains(&refused("short.data", offset, length), &["beyond the end"]);
    }
    assert_contains(&refused("short.data", "-1", "24"), &["not a number"]);
    // A file that its own name links to, as in the cache of a model hub: its weights may lie there.
    let hub = TempDir::new().expect("temporary folder");
    fs::write(outside.path().join("model"), with_external("w.data", "0", "24")).expect("writable");
    for (name, target) in [("m.onnx", "model"), ("w.data", "secret")] {
        std::os::unix::fs::symlink(outside.path().join(target), hub.path().join(name)).expect("writable");
    }
    load_with(&hub, &card_text("m.onnx")).expect("beside the real file");
}

#[test]
fn wrong_inputs_are_named() {
    let cases: [(&[i64], &[&str]); 5] = [
        (&[3, 32], &["does not fit its card", "'image' float32[3,32]", "2 axes", "batch, channels, rows, columns"]),
        (&[1, 1, 3, 32, 32], &["5 axes; the card describes 4", "or 3 without the batch"]),
        (&[32, 32, 3], &["has 32 channels"]),
        (&[1, 1, 32, 32], &["has 1 channels; the card describes 3"]),
        (&[1, 32, 32, 3], &["has 32 channels"]),
    ];
    for (dims, parts) in cases {
        assert_contains(&message(load(&constant_model(dims, &[BOXES]))), parts);
    }
    let node = Message::default().bytes(1, "image").bytes(2, "boxes").bytes(4, "Identity");
    let with_inputs = |inputs: &[Message]| {
        let graph = inputs.iter().fold(Message::default().bytes(1, &node), |graph, input| graph.bytes(11, input));
        model(graph.bytes(12, value_info("boxes", 1, &[1, 1, 6])))
    };
    let image = value_info("image", 1, &[1, 3, 32, 32]);
    assert_contains(
        &message(load(&with_inputs(&[value_info("image", 3, &[1, 3, 32, 32])]))),
        &["has type int8", "float32, float16 or uint8"],
    );
    assert_contains(&message(load(&with_inputs(&[image, value_info("more", 1, &[1])]))), &["has 2 inputs", "'more'"]);
    assert_contains(&message(load(&with_inputs(&[]))), &["has no input"]);
}

#[test]
fn wrong_outputs_are_named() {
    let other = constant_model(&[1, 3, 32, 32], &[("scores", &[1, 2], &[0.0; 2]), ("labels", &[1, 2], &[0.0; 2])]);
    assert_contains(&message(load(&other)), &["output 'boxes' is not in the model; it has: scores, labels"]);
    let flat = constant_model(&[1, 3, 32, 32], &[("boxes", &[24], &[0.0; 24])]);
    assert_contains(&message(load(&flat)), &["'boxes' float32[24]", "should be [?,?,?] or [?,?]"]);
}

#[test]
fn a_model_that_the_runtime_refuses_fails_with_its_words() {
    let node = Message::default().bytes(1, "image").bytes(2, "boxes").bytes(4, "NoSuchOperator");
    let graph = Message::default().bytes(1, node).bytes(2, "g").bytes(11, value_info("image", 1, &[1, 3, 32, 32]));
    let mut detector = load(&model(graph.bytes(12, value_info("boxes", 1, &[1, 1, 6])))).expect("its declarations are sound");
    assert_contains(&message(detector.warm_up(32, 32)), &["model test failed to run", "NoSuchOperator"]);
}

#[test]
fn another_file_than_the_card_names_is_refused() {
    let folder = TempDir::new().expect("temporary folder");
    fs::write(folder.path().join("m.onnx"), constant_model(&[1, 3, 32, 32], &[BOXES])).expect("writable");
    let card = format!("sha256 = \"{}\"\n{}", "0".repeat(64), card_text("m.onnx"));
    assert_contains(&message(load_with(&folder, &card)), &["m.onnx", "its sha256 is", "the model card states 0000"]);
}

#[test]
fn cards_name_line_and_key() {
    let text = card_text("m.onnx");
    let parse = |text: &str| message(ModelCard::parse(text, Path::new("c.toml")));
    let replaced = |from: &str, to: &str| parse(&text.replace(from, to));
    assert_contains(&replaced("width = 32\n", "widht = 32\n"), &["c.toml line 8", "unknown key 'widht'", "did you mean 'width'"]);
    assert_contains(&replaced("[output.boxes]", "[output.boxs]"), &["line 11", "unknown value 'boxs'", "'boxes'"]);
    assert_contains(&replaced("suppressed = true", "suppressed = \"yes\""), &["line 13", "key 'suppressed'", "invalid type"]);
    assert_contains(&replaced("licence = \"MIT\"\n", ""), &["key 'licence' is missing"]);
    assert_contains(&replaced("width = 32\n", "width = 0\n"), &["line 8", "input.width must be 1 to 32768"]);
    assert_contains(&replaced("height = 32\n", ""), &["line 8", "given together with 'height'"]);
    assert_contains(&replaced("labels = [\"thing\"]\n", ""), &["labels must be a list of names, or replaced by 'classes'"]);
    assert_contains(
        &replaced("[output.boxes]", "std = [1.0, 0.0, 1.0]\n[output.boxes]"),
        &["line 11", "input.std must be three numbers other than 0"],
    );
    assert_contains(&parse(&format!("{text}\n[thresholds]\nconfidence = 2.0\n")), &["line 16", "thresholds.confidence must be 0 to 1"]);
    assert_contains(&parse("name = \"x"), &["c.toml line 1"]);
    assert_contains(&parse(""), &["c.toml", "is missing"]);
    assert_contains(
        &replaced("[input]", "[input]\nsampling = \"bilinear_8bits\""),
        &["line 8", "unknown value 'bilinear_8bits'", "'bilinear_8bit'"],
    );
    assert_contains(&replaced("[input]", "[input]\nfit = \"letterboxed\""), &["line 8", "unknown value 'letterboxed'", "'letterbox'"]);
}

#[test]
fn a_card_that_is_no_text_says_so() {
    let folder = TempDir::new().expect("temporary folder");
    let path = folder.path().join("card.toml");
    fs::write(&path, [0xff, 0xfe, 0x00, 0x01]).expect("writable");
    assert_contains(&message(Detector::load(&options(path.display().to_string()))), &["card.toml", "cannot be read"]);
}

#[test]
fn a_size_that_the_model_does_not_take_is_refused() {
    let folder = TempDir::new().expect("temporary folder");
    fs::write(folder.path().join("m.onnx"), constant_model(&[1, 3, 32, 32], &[BOXES])).expect("writable");
    let path = folder.path().join("card.toml");
    fs::write(&path, card_text("m.onnx")).expect("writable");
    let mut options = options(path.display().to_string());
    options.size = "64x64".parse().expect("a size");
    let mut detector = Detector::load(&options).expect("the size is looked at with the first frame");
    assert_contains(&message(detector.warm_up(640, 480)), &["size=64x64", "only supports 32x32"]);
}

/// Hostile input: sizes that fit nowhere are refused before anything is allocated.
#[test]
fn absurd_sizes_are_refused() {
    let picture = [value_info("image", FLOAT, &[1, 3, 32, 32])];
    let huge = 1_i64 << 40;
    // Known before the run: as declared, and as inferred by ONNX Runtime.
    let zeros = |shape: Message| {
        graph(&[node("ConstantOfShape", &["shape"], "boxes", &[])], &[shape], &picture, &[value_info("boxes", FLOAT, &[1, huge, 6])])
    };
    let declared = zeros(integer_tensor("shape", &[1, huge, 6]));
    // Known to the model only: from the brightest value of an image, 0 and many.
    let nodes = [
        node("ReduceMax", &["image"], "most", &[ints("axes", &[1, 2, 3]), int("keepdims", 0)]),
        cast("most", "most64", INT64),
        node("Add", &["most64", "many"], "rows", &[]),
        node("Concat", &["one", "rows", "six"], "shape", &[int("axis", 0)]),
        node("ConstantOfShape", &["shape"], "boxes", &[]),
    ];
    let weights = [integer_tensor("many", &[huge]), integer_tensor("one", &[1]), integer_tensor("six", &[6])];
    let computed = graph(&nodes, &weights, &picture, &[value_info("boxes", FLOAT, &[1, -1, 6])]);
    for (what, bytes) in [("declared", declared), ("computed", computed)] {
        let refused = load(&bytes).and_then(|mut detector| detector.detect(&[&common::rgb_frame(32, 32, &[0; 32 * 32 * 3])]).map(drop));
        assert!(matches!(refused, Err(InferError::Memory { .. })), "{what}: {refused:?}");
        assert_contains(&message(refused), &["does not fit in memory"]);
    }
    let folder = TempDir::new().expect("temporary folder");
    fs::write(folder.path().join("m.onnx"), constant_model(&[1, 3, -1, -1], &[BOXES])).expect("writable");
    let card = card_text("m.onnx").replace("width = 32\nheight = 32", "width = 60000\nheight = 60000");
    let refused = load_with(&folder, &card.replace("[input]", "[input]\n"));
    assert!(refused.is_err(), "an input of 43 GB");
}

/// Hostile input: other files are not opened on a model's behalf, wherever it names them.
#[test]
fn data_in_other_files_is_refused_wherever_it_is_named() {
    let outside = float_tensor("value", &[6], &[]).number(14, 1).bytes(13, Message::default().bytes(1, "location").bytes(2, "/etc/passwd"));
    let attribute = Message::default().bytes(1, "value").bytes(5, outside.clone()).number(20, 4);
    let constant = node("Constant", &[], "boxes", std::slice::from_ref(&attribute));
    let nested = Message::default().bytes(1, "then_branch").bytes(6, Message::default().bytes(1, constant.clone())).number(20, 5);
    let picture = [value_info("image", FLOAT, &[1, 3, 32, 32])];
    let boxes = [value_info("boxes", FLOAT, &[1, 1, 6])];
    for nodes in [vec![constant], vec![node("If", &["image"], "boxes", &[nested])]] {
        assert_contains(&message(load(&graph(&nodes, &[], &picture, &boxes))), &["second file"]);
    }
    let weight = graph(&[node("Identity", &["value"], "boxes", &[])], &[outside], &picture, &boxes);
    assert_contains(&message(load(&weight)), &["/etc/passwd", "outside of its folder"]);
}
