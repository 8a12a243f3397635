//! Copies between host and device that the planner puts in by itself.
//!
//! A stage that answers [`PlanError::NeedsDevice`](crate::PlanError::NeedsDevice) gets a stage before it that moves the
//! frames: `download` to the host, `upload` to a device, as the registry has them. It is a stage like any other, with a
//! thread of its own, so that copies run beside the work on both sides, and is named in pictures and statistics.

use framerail_core::Device;

use crate::{
    Options,
    registry::{RegisteredStage, Registry},
    spec::StageSpec,
};

/// Name of the stage that copies frames to the host. It takes frames on any device.
pub const DOWNLOAD: &str = "download";

/// Name of the stage that copies frames from the host, or from other devices, to the device that its option `device` names.
pub const UPLOAD: &str = "upload";

/// The stages that copy, as far as a registry has them.
#[derive(Clone, Default)]
pub(crate) struct CopyStages {
    download: Option<RegisteredStage>,
    upload: Option<RegisteredStage>,
}

impl CopyStages {
    pub(crate) fn of(registry: &Registry) -> Self {
        Self { download: registry.get(DOWNLOAD).cloned(), upload: registry.get(UPLOAD).cloned() }
    }

    /// The stage that brings frames to a device.
    pub(crate) fn step(&self, to: Device) -> Option<(&RegisteredStage, Options)> {
        let (stage, text) =
            if to == Device::Cpu { (self.download.as_ref()?, String::new()) } else { (self.upload.as_ref()?, format!("device={to}")) };
        let options = stage.spec.read_options(&text).ok()?;
        Some((stage, options))
    }
}

/// What a user would write to fix it.
pub(crate) fn hint(to: Device) -> String {
    match to {
        Device::Cpu => format!("put `{DOWNLOAD}` before it"),
        to => format!("put `{UPLOAD} device={to}` before it"),
    }
}

/// The frames that an inserted stage's queue holds: its own default.
pub(crate) fn queue_of(spec: &StageSpec, options: &Options) -> usize {
    if spec.all_options().iter().any(|option| option.name == "queue") { options.count("queue") } else { 1 }
}
