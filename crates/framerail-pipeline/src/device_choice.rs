//! The device that the user selected.

use std::{fmt, str::FromStr};

use framerail_core::{CoreError, Device};

use crate::{ConfigError, GpuSet, OptionSpec, Options};

/// `auto`, `cpu`, `cuda`, `cuda:N`, or several devices as `cuda:0,1` and `cuda:all`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum DeviceChoice {
    /// The first GPU that supports the work, otherwise the CPU.
    #[default]
    Auto,
    /// This device, or an error.
    On(Device),
    /// All of these devices in parallel, or an error.
    OnSeveral(GpuSet),
}

impl DeviceChoice {
    /// The `device=` option for stages.
    pub fn option(help: &str) -> OptionSpec {
        OptionSpec::text("device").help(help)
    }

    /// Reads that option; `None` when it is not given, so that the pipeline's device applies.
    ///
    /// # Errors
    /// When the text is not a valid device.
    pub fn of(options: &Options) -> Result<Option<Self>, ConfigError> {
        let read = |text: &str| text.parse().map_err(|error: CoreError| ConfigError::at("device", error));
        options.optional_text("device").map(read).transpose()
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceChoice::Auto => f.write_str("auto"),
            DeviceChoice::On(device) => device.fmt(f),
            DeviceChoice::OnSeveral(gpus) => gpus.fmt(f),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = CoreError;

    fn from_str(text: &str) -> Result<Self, CoreError> {
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            _ if text == "cuda:all" || text.contains(',') => text.parse().map(DeviceChoice::OnSeveral),
            _ => text.parse().map(DeviceChoice::On),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_read_back_as_written() {
        let several = DeviceChoice::OnSeveral("cuda:1,0".parse().expect("two devices"));
        for choice in [DeviceChoice::Auto, DeviceChoice::On(Device::Cpu), DeviceChoice::On(Device::Cuda(1)), several] {
            assert_eq!(choice.to_string().parse::<DeviceChoice>().expect("own text"), choice);
        }
        assert!("gpu".parse::<DeviceChoice>().expect_err("no device").to_string().contains("'gpu'"));
    }
}
