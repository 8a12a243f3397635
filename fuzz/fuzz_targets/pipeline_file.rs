//! Any TOML text is read as a pipeline or refused, and a pipeline that was read is written as TOML that reads back equal.
#![no_main]

use framerail_pipeline::{Description, Origin};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| match Description::from_toml(Origin::text(text)) {
    Ok(pipeline) => {
        let written = pipeline.to_toml();
        match Description::from_toml(Origin::text(written.as_str())) {
            Ok(again) => assert_eq!(again.to_toml(), written),
            Err(error) => panic!("{text:?} was written as {written:?}, which does not read back: {error}"),
        }
    }
    Err(error) => drop(error.to_string()),
});
