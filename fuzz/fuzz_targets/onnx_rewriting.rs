//! Any bytes are read as an ONNX file or refused. A model that is rewritten for inference can be read again.
#![no_main]

use std::path::Path;

use framerail_infer::onnx::{HalfEnds, InputShape, OnnxFile, to_half};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let read = |bytes: Vec<u8>| OnnxFile::parse(bytes, Path::new("fuzz.onnx"));
    let Ok(model) = read(bytes.to_vec()) else { return };
    let shapes: Vec<InputShape> = model
        .inputs()
        .iter()
        .map(|input| InputShape { name: input.name.clone(), dims: vec![Some(1), Some(3), Some(64), None] })
        .collect();
    let outputs: Vec<&str> = model.outputs().iter().map(|output| output.name.as_str()).collect();
    if let Ok(prepared) = model.prepared(&shapes, &outputs) {
        let again = read(prepared);
        assert!(again.is_ok(), "a prepared model can be read again: {:?}", again.err());
    }
    if let Ok(half) = to_half(model.bytes(), model.opset(), HalfEnds::default()) {
        let again = read(half.bytes);
        assert!(again.is_ok(), "a float16 model can be read again: {:?}", again.err());
    }
});
