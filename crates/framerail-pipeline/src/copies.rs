//! Copies between host and device that the planner inserts automatically.
//!
//! If linking a stage returns [`PlanError::NeedsDevice`](crate::PlanError::NeedsDevice), the planner inserts a stage before it that moves
//! the frames: `download` to the host or `upload` to a device, from the registry. It is an ordinary stage with a separate thread, so that
//! copies overlap with the work on both sides, and it appears in graphs and statistics.

use framerail_core::Device;

use crate::{
    Options,
    registry::{RegisteredStage, Registry},
    spec::StageSpec,
};

/// Name of the stage that copies frames to the host. It accepts frames on any device.
pub const DOWNLOAD: &str = "download";

/// Name of the stage that copies frames from the host or from other devices to the device in its option `device`.
pub const UPLOAD: &str = "upload";

/// The copy stages, if registered.
#[derive(Clone, Default)]
pub(crate) struct CopyStages {
    download: Option<RegisteredStage>,
    upload: Option<RegisteredStage>,
}

impl CopyStages {
    pub(crate) fn of(registry: &Registry) -> Self {
        Self { download: registry.get(DOWNLOAD).cloned(), upload: registry.get(UPLOAD).cloned() }
    }

    /// The stage that copies frames to a device.
    pub(crate) fn step(&self, to: Device) -> Option<(&RegisteredStage, Options)> {
        let (stage, text) =
            if to == Device::Cpu { (self.download.as_ref()?, String::new()) } else { (self.upload.as_ref()?, format!("device={to}")) };
        let options = stage.spec.read_options(&text).ok()?;
        Some((stage, options))
    }
}

/// Suggestion for the user.
pub(crate) fn hint(to: Device) -> String {
    match to {
        Device::Cpu => format!("put `{DOWNLOAD}` before it"),
        to => format!("put `{UPLOAD} device={to}` before it"),
    }
}

/// Queue length of an inserted stage: its default.
pub(crate) fn queue_of(spec: &StageSpec, options: &Options) -> usize {
    if spec.all_options().iter().any(|option| option.name == "queue") { options.count("queue") } else { 1 }
}
