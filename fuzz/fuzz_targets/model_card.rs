//! Any text is read as a model card or refused with a message.
#![no_main]

use std::path::Path;

use framerail_infer::ModelCard;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| match ModelCard::parse(text, Path::new("fuzz.toml")) {
    Ok(card) => drop((card.class_count(), card.label_list())),
    Err(error) => drop(error.to_string()),
});
