//! The commands, one per file.

pub mod card;
pub mod completions;
pub mod doctor;
pub mod inspect;
pub mod join;
pub mod probe;
pub mod quantize;
pub mod run;
