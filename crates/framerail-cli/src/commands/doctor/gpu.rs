//! `doctor`'s findings about GPUs: driver, GPUs, decoders, encoders, compiler.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use framerail::{
    cuda::{
        CudaDevice, device_count, device_info, driver_version, kernel_cache_folder,
        nvdec::{self, DecodeCapability},
        nvrtc,
    },
    devices::is_gpu_present,
};

use super::{Finding, Verdict};

/// All findings about GPUs; one line if there is none.
pub fn findings() -> Vec<Finding> {
    let version = match driver_version() {
        Ok(version) => version,
        Err(error) if is_gpu_present() => {
            let words = format!("an NVIDIA GPU is present but cannot be used: {error}; everything runs on the CPU");
            return vec![Finding::new("GPU", Verdict::Warn, words)];
        }
        Err(error) => return vec![Finding::new("GPU", Verdict::Ok, format!("none, everything runs on the CPU ({error})"))],
    };
    let mut findings = vec![driver(version)];
    match device_count() {
        Ok(0) => findings.push(Finding::new("GPU", Verdict::Warn, "the driver lists no GPU: everything runs on the CPU")),
        Ok(count) => (0..count).for_each(|ordinal| findings.extend(gpu(ordinal))),
        Err(error) => findings.push(Finding::new("GPU", Verdict::Warn, error.to_string())),
    }
    findings.extend([encoder(), compiler(), kernel_cache()]);
    findings
}

fn driver((major, minor): (u32, u32)) -> Finding {
    let text = fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    let module = kernel_module(&text).map_or(String::new(), |version| format!("{version}, "));
    Finding::new("CUDA driver", Verdict::Ok, format!("{module}supports CUDA {major}.{minor}"))
}

/// The version in the driver's text: the first word of digits and dots after `Module`.
fn kernel_module(text: &str) -> Option<&str> {
    let is_version = |word: &&str| word.contains('.') && word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    text.lines().next()?.split_once("Module")?.1.split_whitespace().find(is_version)
}

/// A GPU and its decoder.
fn gpu(ordinal: u32) -> Vec<Finding> {
    let info = match device_info(ordinal) {
        Ok(info) => info,
        Err(error) => return vec![Finding::new("GPU", Verdict::Warn, format!("cuda:{ordinal}: {error}"))],
    };
    let (major, minor) = info.compute_capability;
    let gigabytes = |bytes: u64| bytes as f64 / 1e9;
    let total = gigabytes(info.memory_bytes);
    let named = format!("cuda:{ordinal}: {}, compute capability {major}.{minor}, {} multiprocessors", info.name, info.multiprocessors);
    let details = serde_json::to_value(&info).ok();
    let device = match CudaDevice::open(ordinal) {
        Ok(device) => device,
        Err(error) => return vec![Finding::new("GPU", Verdict::Warn, format!("{named}, {total:.1} GB; cannot be opened: {error}"))],
    };
    let memory = match device.memory() {
        Ok((free, _)) => format!("{:.1} of {total:.1} GB free", gigabytes(free)),
        Err(error) => format!("{total:.1} GB ({error})"),
    };
    let mut findings = vec![Finding { details, ..Finding::new("GPU", Verdict::Ok, format!("{named}, {memory}")) }];
    findings.extend(decoder(&device));
    findings
}

/// A line per codec.
fn decoder(device: &Arc<CudaDevice>) -> Vec<Finding> {
    let found = match nvdec::check_library().and_then(|()| nvdec::capabilities(device)) {
        Ok(found) if found.is_empty() => {
            return vec![Finding::new("NVDEC", Verdict::Warn, "this GPU does not decode video: decoding runs on the CPU")];
        }
        Ok(found) => found,
        Err(error) => return vec![Finding::new("NVDEC", Verdict::Warn, format!("{error}; decoding runs on the CPU"))],
    };
    let mut codecs: BTreeMap<&str, Vec<&DecodeCapability>> = BTreeMap::new();
    for capability in &found {
        codecs.entry(capability.codec.ffmpeg_name()).or_default().push(capability);
    }
    let line = |(codec, found): (&str, Vec<&DecodeCapability>)| Finding {
        details: serde_json::to_value(&found).ok(),
        ..Finding::new("NVDEC", Verdict::Ok, codec_words(codec, &found))
    };
    let missing: Vec<&str> =
        nvdec::NvdecCodec::ALL.iter().map(|codec| codec.ffmpeg_name()).filter(|name| !codecs.contains_key(name)).collect();
    let mut lines: Vec<Finding> = codecs.into_iter().map(line).collect();
    if !missing.is_empty() {
        let words = format!("not supported by this GPU and decoded on the CPU: {}", missing.join(", "));
        lines.push(Finding::new("NVDEC", Verdict::Ok, words));
    }
    lines
}

/// `h264: 7 engines, 48x16 to 4096x4096; 4:2:0 8 bit`.
fn codec_words(codec: &str, found: &[&DecodeCapability]) -> String {
    let mut kinds: Vec<String> = Vec::new();
    for chroma in nvdec::Chroma::ALL {
        let bits: Vec<String> = found.iter().filter(|one| one.chroma == chroma).map(|one| one.bits.to_string()).collect();
        kinds.extend((!bits.is_empty()).then(|| format!("{chroma} {} bit", bits.join("/"))));
    }
    let engines = found.iter().map(|one| one.engines).max().unwrap_or(0);
    let least = found.iter().map(|one| one.min_size).min().unwrap_or_default();
    let most = found.iter().map(|one| one.max_size).max().unwrap_or_default();
    let plural = if engines == 1 { "" } else { "s" };
    format!("{codec}: {engines} engine{plural}, {}x{} to {}x{}; {}", least.0, least.1, most.0, most.1, kinds.join(", "))
}

fn encoder() -> Finding {
    let words = if has_library("libnvidia-encode.so.1") {
        "the driver's encoder library is present; compute GPUs such as H100 and A100 have no encoder, and frames are encoded on the CPU"
    } else {
        "libnvidia-encode.so.1 is not on this machine: frames are encoded on the CPU"
    };
    Finding::new("NVENC", Verdict::Ok, words)
}

fn has_library(name: &str) -> bool {
    let folders = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"];
    folders.iter().any(|folder| Path::new(folder).join(name).exists())
}

fn compiler() -> Finding {
    match nvrtc::nvrtc_version() {
        Ok((major, minor)) => Finding::new("NVRTC", Verdict::Ok, format!("{major}.{minor}: kernels are compiled for the GPU")),
        Err(reason) => Finding::new("NVRTC", Verdict::Warn, format!("{reason}; only kernels in the cache can be used")),
    }
}

fn kernel_cache() -> Finding {
    match kernel_cache_folder() {
        Some(folder) => Finding::new("kernel cache", Verdict::Ok, folder.display().to_string()),
        None => {
            Finding::new("kernel cache", Verdict::Warn, "no cache folder: kernels are compiled in every run; set HOME or XDG_CACHE_HOME")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drivers_version_is_found_in_its_words() {
        let text = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC version: 12.2.0\n";
        assert_eq!(kernel_module(text), Some("580.65.06"));
        assert_eq!(kernel_module("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.183.01  Sun May 12"), Some("535.183.01"));
        assert_eq!(kernel_module(""), None);
    }
}
