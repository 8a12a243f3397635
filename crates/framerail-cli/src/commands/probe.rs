//! `framerail probe`.

use clap::Args;
use framerail::{
    media::{
        Allowance, InputOptions, MediaError, ProbeReport, SideStreams, probe,
        probe::{ScanReport, StreamReport},
    },
    reader::{ReadingReport, reading_report},
};
use serde_json::Value;

use crate::{
    exit::{CommandResult, Failure, INPUT, RESOURCE},
    interrupt, outputs,
    source_argument::source_argument,
};

/// Show the container, streams, colour and rotation of files
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  framerail probe in.mp4\n  framerail probe --count --json clips/*.mp4")]
pub struct ProbeCommand {
    /// Video, audio or image files, or URLs
    #[arg(required = true, value_name = "FILE", value_parser = source_argument())]
    files: Vec<String>,
    /// Print JSON: an object for one file, a list for several
    #[arg(long)]
    json: bool,
    /// Count packets and keyframes by reading the whole video stream
    #[arg(long)]
    count: bool,
    /// What playlists may open, as in `read allow=`
    #[arg(long, value_name = "WHAT", default_value = "nothing", value_parser = Allowance::WORDS)]
    allow: String,
    /// Accept servers' certificates without verification
    #[arg(long)]
    insecure: bool,
    /// Show how each file is read on this machine's CPU and what would make it faster; reads the whole video stream
    #[arg(long)]
    reading: bool,
}

/// The report on a file.
#[derive(serde::Serialize)]
struct Probed {
    #[serde(flatten)]
    report: ProbeReport,
    #[serde(skip_serializing_if = "Option::is_none")]
    reading: Option<ReadingReport>,
}

impl ProbeCommand {
    /// Prints a report for each file; unreadable files are reported at the end.
    pub fn execute(&self) -> CommandResult {
        let mut reports = Vec::new();
        let mut failures = Vec::new();
        for file in &self.files {
            let (allow, cancel) = (Allowance::of(&self.allow).unwrap_or_default(), interrupt::tokens().stop);
            let options = InputOptions { allow, cancel, insecure: self.insecure, ..InputOptions::new(file.as_str()) };
            match self.probe(&options) {
                Ok(probed) => reports.push(probed),
                Err(MediaError::Cancelled { .. }) => return Err(Failure::interrupted("interrupted")),
                Err(error @ MediaError::Exhausted { .. }) => failures.push(Failure::new(RESOURCE, error)),
                Err(error) => failures.push(Failure::new(INPUT, error)),
            }
        }
        self.print(&reports)?;
        let Some(last) = failures.pop() else { return Ok(()) };
        for failure in &failures {
            failure.report();
        }
        Err(last)
    }

    fn probe(&self, options: &InputOptions) -> Result<Probed, MediaError> {
        let report = probe(options, self.count)?;
        let alone = InputOptions { side_streams: SideStreams::None, ..options.clone() };
        let reading = if self.reading { Some(reading_report(&alone)?) } else { None };
        Ok(Probed { report, reading })
    }

    fn print(&self, reports: &[Probed]) -> CommandResult {
        if !self.json {
            return outputs::print(&reports.iter().map(table).collect::<Vec<_>>().join("\n"));
        }
        match reports {
            [report] if self.files.len() == 1 => outputs::print(&(outputs::to_json(report)? + "\n")),
            [] if self.files.len() == 1 => Ok(()),
            several => outputs::print(&(outputs::to_json(&several)? + "\n")),
        }
    }
}

fn table(Probed { report, reading }: &Probed) -> String {
    let mut text = format!("{}\n", report.source);
    let mut line = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            text += &format!("  {name:<12} {value}\n");
        }
    };
    line("container", Some(report.container.clone()));
    line("length", report.duration_secs.map(|seconds| format!("{seconds:.3} s")));
    line("starts at", report.start_secs.filter(|start| *start != 0.0).map(|start| format!("{start:.3} s")));
    line("bit rate", report.bit_rate.map(bit_rate));
    line("size", report.size_bytes.map(|bytes| format!("{:.1} MB", bytes as f64 / 1e6)));
    for stream in &report.streams {
        line(&format!("{} {}", stream.kind, stream.index), Some(describe(stream)));
    }
    if !report.chapters.is_empty() {
        line("chapters", Some(report.chapters.len().to_string()));
    }
    line("counted", report.scan.as_ref().map(counted));
    if let Some(reading) = reading {
        line("reading", Some(describe_reading(reading)));
        reading.advice.iter().for_each(|advice| line("hint", Some(advice.clone())));
    }
    for (name, value) in &report.metadata {
        line("tag", Some(format!("{name} = {value}")));
    }
    text
}

fn describe(stream: &StreamReport) -> String {
    let mut parts = vec![match &stream.profile {
        Some(profile) => format!("{} ({profile})", stream.codec),
        None => stream.codec.clone(),
    }];
    if let Some(video) = &stream.video {
        parts.push(format!("{}x{} {}", video.width, video.height, video.pixel_format));
        let rate = video.average_frame_rate.map(|rate| format!("{} frames/s", (rate.as_f64() * 1000.0).round() / 1000.0));
        parts.extend(rate);
        parts.extend(video.is_mirrored.then(|| "mirrored".to_owned()));
        parts.extend((video.rotation_degrees != 0).then(|| format!("rotated by {} degrees", video.rotation_degrees)));
        parts.extend(video.sample_aspect_ratio.map(|ratio| format!("pixels {}:{}", ratio.num, ratio.den)));
        parts.extend(
            (!matches!(video.field_order.as_str(), "progressive" | "unknown")).then(|| format!("interlaced {}", video.field_order)),
        );
        parts.extend(color(&serde_json::to_value(video.color).unwrap_or_default()));
        parts.extend(video.is_attached_picture.then(|| "cover picture".to_owned()));
    }
    if let Some(audio) = &stream.audio {
        parts.push(format!("{} Hz, {} channels", audio.sample_rate, audio.channels));
    }
    parts.extend(stream.frames_by_header.map(|frames| format!("{frames} frames according to the header")));
    parts.extend(stream.bit_rate.map(bit_rate));
    parts.extend((!stream.is_decodable).then(|| "NOT decodable by this FFmpeg".to_owned()));
    parts.join(", ")
}

/// The colour tags that are set, as their serialised names: `bt709 limited`.
fn color(tags: &Value) -> Option<String> {
    let words: Vec<&str> = tags.as_object()?.values().filter_map(Value::as_str).filter(|word| !is_unset(word)).collect();
    (!words.is_empty()).then(|| words.join(" ").to_lowercase())
}

fn is_unset(word: &str) -> bool {
    let word = word.to_lowercase();
    word.is_empty() || word.starts_with("unspecified") || word.starts_with("unknown")
}

fn bit_rate(bits_per_sec: u64) -> String {
    format!("{:.0} kbit/s", bits_per_sec as f64 / 1e3)
}

fn describe_reading(reading: &ReadingReport) -> String {
    let starts =
        format!("{} packets, decoding can start at {} of them, at most {} apart", reading.packets, reading.starts, reading.longest);
    match &reading.reason {
        Some(reason) => format!("by one decoder: {reason}; {starts}"),
        None => format!(
            "{} pieces, {} in parallel with {} thread(s) each, up to {} MiB for waiting frames; {starts}",
            reading.pieces,
            reading.decoders,
            reading.threads,
            reading.memory_bytes >> 20
        ),
    }
}

fn counted(scan: &ScanReport) -> String {
    let rate = if scan.is_variable_rate { "variable" } else { "constant" };
    let gop = if scan.gop_shortest == scan.gop_longest {
        format!("{} apart", scan.gop_longest)
    } else {
        format!("{} to {} apart", scan.gop_shortest, scan.gop_longest)
    };
    let damage = if scan.damage.is_any() { ", DAMAGED" } else { "" };
    format!("{} packets, {} keyframes {gop}, {rate} frame rate{damage}", scan.packets, scan.keyframes)
}
