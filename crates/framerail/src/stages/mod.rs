//! The built-in stages, one per file.

use std::sync::Arc;

use framerail_pipeline::{DeviceChoice, Registry, RegistryError};

use self::python::PythonStages;
use crate::{devices::Devices, sources::Sources};

mod areas;
mod blur;
mod clip_files;
mod clips;
mod crop;
mod download;
mod draw;
mod face_square;
mod filter;
mod frames;
mod hold;
pub(crate) mod identify;
pub(crate) mod infer;
mod kafka;
mod link;
mod load;
mod maps;
mod merge;
mod mjpeg;
mod mosaic;
mod motion;
mod mqtt;
mod null;
mod publish;
pub mod python;
mod read;
mod record;
mod redis;
mod regions;
pub mod report;
mod review;
mod sample;
mod save;
mod settings;
mod tee;
mod text;
mod tiles;
mod track;
mod transform;
mod trigger;
mod upload;
mod webhook;
pub(crate) mod write;
mod zones;

/// Registry of all built-in stages; register your own in addition. Work runs on the first usable GPU, else on the CPU, unless a stage
/// sets `device=`.
pub fn registry() -> Registry {
    registry_for(DeviceChoice::Auto)
}

/// The same with another device for stages without `device=`.
pub fn registry_for(device: DeviceChoice) -> Registry {
    registry_with_python(device, PythonStages::default())
}

/// The same with Python for the stages `torch` and `python`.
pub fn registry_with_python(device: DeviceChoice, stages: PythonStages) -> Registry {
    let mut registry = Registry::new();
    let devices = Devices::new(device, Sources::new(stages.sources.clone(), stages.frames.clone()));
    // The specifications are constants of this crate, checked by its tests.
    if let Err(error) = register_all(&mut registry, &devices).and_then(|()| python::register(&mut registry, stages)) {
        unreachable!("a built-in stage is wrongly specified: {error}");
    }
    registry
}

fn register_all(registry: &mut Registry, devices: &Arc<Devices>) -> Result<(), RegistryError> {
    read::register(registry, devices)?;
    sample::register(registry)?;
    motion::register(registry)?;
    infer::register(registry, devices)?;
    crop::register(registry)?;
    regions::register(registry)?;
    tiles::register(registry)?;
    merge::register(registry)?;
    identify::register(registry)?;
    hold::register(registry)?;
    load::register(registry)?;
    track::register(registry)?;
    zones::register(registry)?;
    blur::register(registry)?;
    transform::register(registry)?;
    filter::register(registry)?;
    draw::register(registry)?;
    maps::register(registry)?;
    text::register(registry)?;
    mosaic::register(registry)?;
    report::register(registry)?;
    review::register(registry)?;
    download::register(registry)?;
    upload::register(registry)?;
    write::register(registry)?;
    record::register(registry)?;
    clips::register(registry)?;
    save::register(registry)?;
    mqtt::register(registry)?;
    kafka::register(registry)?;
    redis::register(registry)?;
    webhook::register(registry)?;
    frames::register(registry)?;
    mjpeg::register(registry)?;
    null::register(registry)?;
    tee::register(registry)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::registry;

    #[test]
    fn names_of_other_programs_lead_to_one_stage_each() {
        let registry = registry();
        let mut known: BTreeMap<&str, &str> = BTreeMap::new();
        for spec in registry.specs() {
            for other in &spec.other_names {
                assert!(registry.get(other).is_none(), "`{other}` is a stage itself");
                assert_eq!(known.insert(other, &spec.name), None, "{other}");
                assert_eq!(registry.suggest(other), Some(spec.name.as_str()), "{other}");
            }
        }
        for (wrong, meant) in [("Resize", Some("scale")), ("scal", Some("scale")), ("blurr", Some("blur")), ("transmogrify", None)] {
            assert_eq!(registry.suggest(wrong), meant, "{wrong}");
        }
    }
}
