//! Any text is parsed or refused, and what was parsed is printed as text that parses to the same pipeline.
#![no_main]

use framerail_pipeline::Description;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| match Description::parse(text) {
    Ok(pipeline) => {
        let printed = pipeline.to_string();
        match Description::parse(&printed) {
            Ok(again) => assert_eq!(again.to_string(), printed, "printed text parses to the same pipeline"),
            Err(error) => panic!("{text:?} was printed as {printed:?}, which does not parse: {error}"),
        }
    }
    Err(error) => drop(error.to_string()),
});
