//! `framerail doctor`.

mod gpu;

use std::{fmt, fs, path::Path, thread};

use clap::Args;
use framerail::{
    core::Device,
    infer::{CardFile, InferError, Runtime, SearchPath},
    media::version,
};
use serde::Serialize;

use crate::{
    exit::{CommandResult, Failure, INTERNAL},
    outputs,
};

/// Decoders for common footage.
const DECODERS: [&str; 8] = ["h264", "hevc", "vp9", "libdav1d", "mpeg4", "mjpeg", "prores", "ffv1"];

/// Encoders for common outputs.
const ENCODERS: [&str; 6] = ["libx264", "libx265", "libvpx-vp9", "libsvtav1", "mjpeg", "png"];

/// Without one of these, MP4 cannot be written as H.264.
const H264_ENCODERS: [&str; 2] = ["libx264", "libopenh264"];

/// Check the installation: FFmpeg, ONNX Runtime, models, CPU, memory, GPUs
#[derive(Args, Debug)]
#[command(after_help = "Exits with 0 if framerail is usable, with 1 if something required is missing.")]
pub struct DoctorCommand {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warn,
    Fail,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        })
    }
}

/// One finding.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    /// The finding, and what to do about a problem.
    words: String,
    /// The same as data, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<serde_json::Value>,
}

impl Finding {
    fn new(what: &'static str, verdict: Verdict, words: impl Into<String>) -> Self {
        Self { what, verdict, words: words.into(), details: None }
    }
}

impl DoctorCommand {
    /// Prints one line per finding.
    pub fn execute(&self) -> CommandResult {
        let search = SearchPath::from_env();
        let mut findings = vec![ffmpeg(), decoders(), encoders(), runtime(&search)];
        findings.extend(openvino(&search));
        findings.extend(models(&search));
        findings.extend([cores(), memory()]);
        findings.extend(gpu::findings());
        let text = if self.json {
            outputs::to_json(&findings)? + "\n"
        } else {
            findings.iter().map(|finding| format!("{:<5} {:<13} {}\n", finding.verdict.to_string(), finding.what, finding.words)).collect()
        };
        outputs::print(&text)?;
        let failed: Vec<&str> = findings.iter().filter(|finding| finding.verdict == Verdict::Fail).map(|finding| finding.what).collect();
        if failed.is_empty() { Ok(()) } else { Err(Failure::new(INTERNAL, format_args!("not ready: {}", failed.join(", ")))) }
    }
}

fn ffmpeg() -> Finding {
    let libraries: Vec<String> = version::library_versions().iter().map(|(name, version)| format!("{name} {version}")).collect();
    let words = format!("{} ({}; {})", version::ffmpeg_version(), version::ffmpeg_license(), libraries.join(", "));
    Finding::new("FFmpeg", Verdict::Ok, words)
}

fn decoders() -> Finding {
    let present = version::video_decoders();
    let missing = missing(&DECODERS, &present);
    if missing.is_empty() {
        return Finding::new("decoders", Verdict::Ok, format!("{} for video, {} among them", present.len(), DECODERS.join(", ")));
    }
    let words = format!("{} missing; such files cannot be read with this FFmpeg", missing.join(", "));
    Finding::new("decoders", Verdict::Warn, words)
}

fn encoders() -> Finding {
    let present = version::video_encoders();
    let missing = missing(&ENCODERS, &present);
    if !H264_ENCODERS.iter().any(|name| present.iter().any(|have| have == name)) {
        let words = format!(
            "{} missing; install an FFmpeg with {} (Debian: apt install libavcodec-extra)",
            missing.join(", "),
            H264_ENCODERS.join(" or ")
        );
        return Finding::new("encoders", Verdict::Fail, words);
    }
    if missing.is_empty() {
        return Finding::new("encoders", Verdict::Ok, format!("{} for video, {} among them", present.len(), ENCODERS.join(", ")));
    }
    Finding::new("encoders", Verdict::Warn, format!("{} missing; choose others with codec=", missing.join(", ")))
}

fn missing<'a>(wanted: &[&'a str], present: &[String]) -> Vec<&'a str> {
    wanted.iter().copied().filter(|name| !present.iter().any(|have| have == name)).collect()
}

fn runtime(search: &SearchPath) -> Finding {
    let is_gpu_present = framerail::devices::is_gpu_present();
    let device = if is_gpu_present { Device::Cuda(0) } else { Device::Cpu };
    match Runtime::load_for(device, None, search) {
        Ok(runtime) => {
            let info = runtime.info();
            let words = format!("{} at {}, runs on {}", info.version, info.path.display(), info.providers.join(", "));
            if is_gpu_present && !info.providers.iter().any(|provider| provider == "cuda") {
                let words = format!("{words}; models do not run on the GPU: install onnxruntime-gpu");
                return Finding::new("ONNX Runtime", Verdict::Warn, words);
            }
            Finding::new("ONNX Runtime", Verdict::Ok, words)
        }
        Err(error) => Finding::new("ONNX Runtime", Verdict::Fail, error.to_string()),
    }
}

/// OpenVINO, which is optional: `None` where it is not installed.
fn openvino(search: &SearchPath) -> Option<Finding> {
    match Runtime::load(None, search).ok()?.load_openvino(search) {
        Ok((library, devices)) => {
            let devices: Vec<String> = devices.iter().map(ToString::to_string).collect();
            Some(Finding::new("OpenVINO", Verdict::Ok, format!("{}, runs on {}", library.display(), devices.join(", "))))
        }
        Err(InferError::Missing { .. }) => None,
        Err(error) => Some(Finding::new("OpenVINO", Verdict::Warn, error.to_string())),
    }
}

/// A finding for each built-in card and each card in the search path.
fn models(search: &SearchPath) -> Vec<Finding> {
    let mut names = vec!["centerface".to_owned()];
    for folder in card_folders(search) {
        let Ok(entries) = fs::read_dir(folder) else { continue };
        let files = entries.flatten().map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|end| end == "toml"));
        let mut found: Vec<String> = files.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
        found.sort();
        names.extend(found);
    }
    let mut findings: Vec<Finding> = Vec::new();
    for name in names {
        let finding = model(&name, search);
        if !findings.iter().any(|other| other.words == finding.words) {
            findings.push(finding);
        }
    }
    findings
}

fn card_folders(search: &SearchPath) -> Vec<std::path::PathBuf> {
    let files = search.card_files("x");
    files.iter().filter_map(|file| file.parent().map(Path::to_owned)).collect()
}

fn model(name: &str, search: &SearchPath) -> Finding {
    let found = match CardFile::find(name, search) {
        Ok(found) => found,
        Err(error) => return Finding::new("model", Verdict::Warn, error.to_string()),
    };
    let card = found.path.as_ref().map_or_else(|| "built-in card".to_owned(), |path| format!("card {}", path.display()));
    let folder = found.path.as_deref().and_then(Path::parent);
    let files = search.model_files(&found.card.file, folder);
    match files.iter().find(|file| file.is_file()) {
        Some(file) => Finding::new("model", Verdict::Ok, format!("{name}: {card}, {}", file.display())),
        None => {
            // Only the default model of `blur-faces` is required.
            let (verdict, hint) = if name == "centerface" { (Verdict::Fail, "; `make setup` installs it") } else { (Verdict::Warn, "") };
            Finding::new("model", verdict, format!("{name}: {card}, but {} is missing{hint}", found.card.file.display()))
        }
    }
}

fn cores() -> Finding {
    match thread::available_parallelism() {
        Ok(count) => Finding::new("processors", Verdict::Ok, count.to_string()),
        Err(error) => Finding::new("processors", Verdict::Warn, format!("unknown: {error}")),
    }
}

fn memory() -> Finding {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib as f64 * 1024.0 / 1e9)
    };
    match (field("MemAvailable:"), field("MemTotal:")) {
        (Some(free), Some(total)) if free < 0.5 => {
            Finding::new("memory", Verdict::Warn, format!("{free:.1} of {total:.1} GB free; a run takes a few hundred MB"))
        }
        (Some(free), Some(total)) => Finding::new("memory", Verdict::Ok, format!("{free:.1} of {total:.1} GB free")),
        _ => Finding::new("memory", Verdict::Warn, "unknown: not reported by the system"),
    }
}
