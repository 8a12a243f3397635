//! Selects the GPU of a stage, or the reason for the CPU.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc};

use framerail_core::{Device, Frame, HostSurface, Surface};
use framerail_cuda::{CudaDevice, CudaError, CudaStream, CudaSurface, PinnedPool, Traffic, device_count, driver_version, nvrtc};
use framerail_pipeline::{CopyKind, DeviceChoice, ErrorKind, StageContext, StageError};
use parking_lot::Mutex;

use crate::{sources::Sources, stages::infer::SharedModels};

/// State shared by the stages of one pipeline: devices, models, and how sources are opened.
#[derive(Debug, Default)]
pub(crate) struct Devices {
    choice: DeviceChoice,
    /// Reasons for using the CPU that were reported: each is reported once.
    notices: Mutex<BTreeSet<String>>,
    /// Models that several stages may share.
    pub(crate) models: SharedModels,
    /// How sources are opened.
    pub(crate) sources: Sources,
}

/// The result of a device choice.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settled {
    /// The GPU; `None` for the CPU.
    pub(crate) gpu: Option<Arc<CudaDevice>>,
    /// Further GPUs that share the work.
    pub(crate) others: Vec<Arc<CudaDevice>>,
    /// Why the CPU is used, if that is worth a notice.
    pub(crate) notice: Option<String>,
}

impl Settled {
    fn on(gpu: Arc<CudaDevice>) -> Self {
        Self { gpu: Some(gpu), ..Self::default() }
    }
}

impl Devices {
    pub(crate) fn new(choice: DeviceChoice, sources: Sources) -> Arc<Self> {
        Arc::new(Self { choice, notices: Mutex::default(), models: SharedModels::default(), sources })
    }

    /// The device of a stage: its own option, else the pipeline's.
    pub(crate) fn choice(&self, own: Option<DeviceChoice>) -> DeviceChoice {
        own.unwrap_or(self.choice)
    }

    /// Finds the GPU for some work; `can` returns the reason if a GPU cannot do it. `preferred` is the device that holds the frames.
    ///
    /// # Errors
    /// `Resource` if a GPU was requested by name and cannot be used.
    pub(crate) fn settle(
        &self,
        choice: DeviceChoice,
        preferred: Device,
        work: &str,
        can: impl Fn(&Arc<CudaDevice>) -> Result<(), String>,
    ) -> Result<Settled, StageError> {
        if let DeviceChoice::OnSeveral(gpus) = choice {
            let open = |ordinal: u32| {
                let gpu = CudaDevice::open(ordinal).map_err(|error| error.to_string()).and_then(|gpu| can(&gpu).map(|()| gpu));
                gpu.map_err(|reason| unusable(Device::Cuda(ordinal), &reason))
            };
            let count = device_count().map_err(|error| unusable(Device::Cuda(0), &error.to_string()))?;
            let mut found = gpus.ordinals(count).into_iter().map(open).collect::<Result<Vec<_>, _>>()?.into_iter();
            return Ok(Settled { gpu: found.next(), others: found.collect(), notice: None });
        }
        let ordinal = match (choice, preferred) {
            (DeviceChoice::On(Device::Cpu), _) => return Ok(Settled::default()),
            (DeviceChoice::On(Device::Cuda(ordinal)), _) | (DeviceChoice::Auto, Device::Cuda(ordinal)) => ordinal,
            (DeviceChoice::Auto, Device::Cpu) | (DeviceChoice::OnSeveral(_), _) => 0,
        };
        let gpu = CudaDevice::open(ordinal).map_err(|error| error.to_string()).and_then(|gpu| {
            can(&gpu)?;
            // Without a compiler only cached kernels can be used, which suffices if the user requested the GPU.
            if choice == DeviceChoice::Auto { nvrtc::nvrtc_version().map(|_| gpu) } else { Ok(gpu) }
        });
        match (gpu, choice) {
            (Ok(gpu), _) => Ok(Settled::on(gpu)),
            (Err(reason), DeviceChoice::On(device)) => Err(unusable(device, &reason)),
            (Err(reason), _) => Ok(Settled { notice: self.fall_back(work, reason), ..Settled::default() }),
        }
    }

    /// The message for a fallback to the CPU; none on a machine without a GPU.
    pub(crate) fn fall_back(&self, work: &str, reason: String) -> Option<String> {
        if !is_gpu_present() {
            log::debug!("{work} on the CPU: {reason}");
            return None;
        }
        let is_new = self.notices.lock().insert(reason.clone());
        is_new.then(|| format!("{work} on the CPU: {reason}; device=cpu avoids this notice"))
    }
}

/// The error for a GPU that the user requested.
pub(crate) fn unusable(device: Device, reason: &str) -> StageError {
    StageError::new(ErrorKind::Resource, format!("device={device} cannot be used: {reason}; see `framerail doctor`, or use device=cpu"))
}

/// Whether this machine has an NVIDIA GPU, with or without a driver.
pub fn is_gpu_present() -> bool {
    let is_node = ["/dev/nvidia0", "/dev/dxg"].iter().any(|node| Path::new(node).exists());
    let has_driver_gpu = || driver_version().is_ok() && device_count().is_ok_and(|count| count > 0);
    is_node || is_on_the_bus(Path::new("/sys/bus/pci/devices")) || has_driver_gpu()
}

/// Looks for a display controller (class 03) of NVIDIA (vendor 10de) among the devices that the kernel lists.
fn is_on_the_bus(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return false };
    entries.flatten().any(|entry| {
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
        read("vendor").trim() == "0x10de" && read("class").starts_with("0x03")
    })
}

/// Adds this thread's copies and waits to the statistics of its stage.
pub fn account(context: &StageContext, traffic: Traffic) {
    let copies = [
        (CopyKind::Upload, traffic.uploads, traffic.upload_bytes),
        (CopyKind::Download, traffic.downloads, traffic.download_bytes),
        (CopyKind::Device, traffic.device_copies, traffic.device_bytes),
        (CopyKind::Peer, traffic.peer_copies, traffic.peer_bytes),
    ];
    for (kind, count, bytes) in copies.into_iter().filter(|(_, count, _)| *count > 0) {
        context.count_copies(kind, count, bytes);
    }
    if traffic.syncs > 0 {
        context.count_syncs(traffic.syncs);
    }
}

/// A frame's surface in host memory, copied from its GPU if necessary. For a few frames, such as those of a contact sheet; the stage
/// `download` is for all.
///
/// # Errors
/// If the frame has no pixels any more, or the GPU fails.
pub fn host_image(frame: &Frame) -> Result<HostSurface, CudaError> {
    if let Surface::Host(surface) = &frame.surface {
        return Ok(surface.clone());
    }
    let surface = CudaSurface::of(&frame.surface)
        .ok_or_else(|| CudaError::BadArgument { what: "the frame is a tensor on a GPU, not a surface".into() })?;
    let device = surface.cuda_device();
    surface.download(&PinnedPool::new(device, 0), &CudaStream::new(device)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gpus_are_found_on_the_bus() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let add = |name: &str, vendor: &str, class: &str| {
            let device = folder.path().join(name);
            fs::create_dir(&device).expect("temporary folder");
            fs::write(device.join("vendor"), vendor).expect("temporary file");
            fs::write(device.join("class"), class).expect("temporary file");
        };
        add("00", "0x8086\n", "0x030000\n");
        add("01", "0x10de\n", "0x040300\n");
        assert!(!is_on_the_bus(folder.path()), "a sound card is none");
        add("02", "0x10de\n", "0x030200\n");
        assert!(is_on_the_bus(folder.path()));
        assert!(!is_on_the_bus(&folder.path().join("none")));
    }

    #[test]
    fn the_cpu_needs_no_gpu_and_a_named_gpu_is_an_error_without_one() {
        let devices = Devices::new(DeviceChoice::Auto, Sources::default());
        let settle = |choice| devices.settle(choice, Device::Cpu, "decoding", |_| Err("no engine".into()));
        assert!(settle(DeviceChoice::On(Device::Cpu)).is_ok_and(|settled| settled.gpu.is_none() && settled.notice.is_none()));
        assert!(settle(DeviceChoice::Auto).is_ok_and(|settled| settled.gpu.is_none()));
        let error = settle(DeviceChoice::On(Device::Cuda(63))).expect_err("no machine has so many");
        assert_eq!(error.kind, ErrorKind::Resource);
        assert!(error.message.starts_with("device=cuda:63 cannot be used: ") && error.message.contains("framerail doctor"), "{error}");
        assert_eq!(devices.choice(None), DeviceChoice::Auto);
        assert_eq!(devices.choice(Some(DeviceChoice::On(Device::Cpu))), DeviceChoice::On(Device::Cpu));
    }
}
