//! Prints one line of JSON per job.

use std::{path::Path, sync::Arc};

use framerail_cuda::CudaDevice;
use serde_json::{Map, Value, json};

/// Prints the result of a job.
pub(crate) fn print(job: &str, clip: &Path, device: &Arc<CudaDevice>, count: u64, seconds: f64, more: Value) -> anyhow::Result<()> {
    let (free, total) = device.memory()?;
    let line = json!({
        "peer": "framerail",
        "job": job,
        "clip": clip.file_stem().map(|stem| stem.to_string_lossy()),
        "count": count,
        "seconds": seconds,
        "frames_per_s": count as f64 / seconds,
        "per_second": count as f64 / seconds,
        "device_mb": (total - free) >> 20,
        "version": env!("CARGO_PKG_VERSION"),
    });
    let mut line: Map<String, Value> = line.as_object().cloned().unwrap_or_default();
    line.extend(more.as_object().cloned().unwrap_or_default());
    println!("{}", Value::Object(line));
    Ok(())
}
