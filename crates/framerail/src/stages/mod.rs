//! The built-in stages, one a file.

use framerail_pipeline::{Registry, RegistryError};

mod blur;
mod draw;
mod frames;
mod hold;
mod infer;
mod link;
mod null;
mod read;
pub mod report;
mod sample;
mod save;
mod tee;
mod write;

/// Every built-in stage. Register your own on top.
pub fn registry() -> Registry {
    let mut registry = Registry::new();
    // The specifications are constants of this crate, checked by its tests.
    if let Err(error) = register_all(&mut registry) {
        unreachable!("a built-in stage is wrongly specified: {error}");
    }
    registry
}

fn register_all(registry: &mut Registry) -> Result<(), RegistryError> {
    read::register(registry)?;
    sample::register(registry)?;
    infer::register(registry)?;
    hold::register(registry)?;
    blur::register(registry)?;
    draw::register(registry)?;
    report::register(registry)?;
    write::register(registry)?;
    save::register(registry)?;
    frames::register(registry)?;
    null::register(registry)?;
    tee::register(registry)
}
