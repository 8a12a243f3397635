//! Statistics as metrics, and these in Prometheus format.
//!
//! Source: the text format 0.0.4 and the naming rules of prometheus.io/docs: base units, `_total` for counters.

use std::fmt::Write;

use framerail_pipeline::{
    RunStats, StreamStats,
    stats::{EdgeStats, StageStats},
};

use crate::health::{Health, STREAM_STATES};

/// Content type of the text.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises during a run.
    Counter,
    /// Rises and falls.
    Gauge,
}

use MetricKind as Kind;

/// A metric with its values.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Name, by the rules of Prometheus.
    pub name: &'static str,
    /// Kind.
    pub kind: MetricKind,
    /// What it is, in one sentence.
    pub help: &'static str,
    /// Values.
    pub samples: Vec<Sample>,
}

/// A value of a metric.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Names and values of its labels.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

/// The metrics of a run.
pub fn metrics(stats: &RunStats, health: &Health) -> Vec<Metric> {
    let mut metrics = Metrics::default();
    run(&mut metrics, stats, health);
    stages(&mut metrics, stats);
    edges(&mut metrics, &stats.edges);
    streams(&mut metrics, stats);
    metrics.0
}

/// Formats the metrics of a run.
pub fn metrics_text(stats: &RunStats, health: &Health) -> String {
    metrics(stats, health).iter().map(Metric::text).collect()
}

impl Metric {
    fn text(&self) -> String {
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let mut text = format!("# HELP {0} {1}\n# TYPE {0} {kind}\n", self.name, self.help);
        for Sample { labels, value } in &self.samples {
            let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            let _ = writeln!(text, "{}{labels} {value}", self.name);
        }
        text
    }
}

/// Name, kind and help of a metric, and a function for its value.
type Measure<T> = (&'static str, Kind, &'static str, fn(&T) -> f64);

#[derive(Default)]
struct Metrics(Vec<Metric>);

impl Metrics {
    fn family(&mut self, name: &'static str, kind: Kind, help: &'static str) {
        self.0.push(Metric { name, kind, help, samples: Vec::new() });
    }

    /// Adds a value to the last family.
    fn sample(&mut self, labels: &[(&'static str, &str)], value: f64) {
        let labels = labels.iter().map(|(label, text)| (*label, (*text).to_owned())).collect();
        if let Some(family) = self.0.last_mut() {
            family.samples.push(Sample { labels, value });
        }
    }

    fn single(&mut self, name: &'static str, kind: Kind, help: &'static str, value: f64) {
        self.family(name, kind, help);
        self.sample(&[], value);
    }

    fn each<T>(&mut self, (name, kind, help): (&'static str, Kind, &'static str), items: &[T], sample: impl Fn(&mut Self, &T)) {
        self.family(name, kind, help);
        items.iter().for_each(|item| sample(self, item));
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

fn run(metrics: &mut Metrics, stats: &RunStats, health: &Health) {
    metrics.family("framerail_build_info", Kind::Gauge, "Version of framerail.");
    metrics.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    metrics.single(
        "framerail_healthy",
        Kind::Gauge,
        "1 while the run is active and no stage is stalled.",
        f64::from(u8::from(health.is_well())),
    );
    metrics.single("framerail_run_seconds", Kind::Gauge, "Run time so far, or in total.", stats.wall_secs);
    metrics.single(
        "framerail_frames_done_total",
        Kind::Counter,
        "Frames that reached the end of the pipeline.",
        stats.frames_done() as f64,
    );
    metrics.single("process_cpu_seconds_total", Kind::Counter, "CPU time of the process since the run started.", stats.cpu_secs);
    metrics.single("process_resident_memory_bytes", Kind::Gauge, "Resident memory of the process.", stats.memory_bytes as f64);
    metrics.single(
        "framerail_process_resident_memory_peak_bytes",
        Kind::Gauge,
        "Highest resident memory of the process so far.",
        stats.memory_peak_bytes as f64,
    );
}

fn stages(metrics: &mut Metrics, stats: &RunStats) {
    let stages = &stats.stages;
    let frames = ("framerail_stage_frames_total", Kind::Counter, "Input frames of a stage; output frames of a source.");
    metrics.each(frames, stages, |metrics, stage| {
        let is_source = stage.items_in == 0 && !stats.edges.iter().any(|edge| edge.to == stage.name);
        let frames = if is_source { stage.frames_out } else { stage.frames_in };
        metrics.sample(&[("stage", &stage.name)], frames as f64);
    });
    let plain: [Measure<StageStats>; 4] = [
        ("framerail_stage_output_frames_total", Kind::Counter, "Output frames of a stage.", |stage| stage.frames_out as f64),
        ("framerail_stage_workers", Kind::Gauge, "Threads of a stage.", |stage| stage.workers as f64),
        ("framerail_stage_device_waits_total", Kind::Counter, "Waits of a stage for a device.", |stage| stage.syncs as f64),
        ("framerail_stage_notices_total", Kind::Counter, "Notices of a stage to the user.", |stage| stage.notices.len() as f64),
    ];
    for (name, kind, help, value) in plain {
        metrics.each((name, kind, help), stages, |metrics, stage| metrics.sample(&[("stage", &stage.name)], value(stage)));
    }
    let time = ("framerail_stage_time_seconds_total", Kind::Counter, "Time of a stage's threads by state.");
    metrics.each(time, stages, |metrics, stage| {
        for (state, secs) in [("busy", stage.busy_secs), ("wait_input", stage.wait_input_secs), ("wait_output", stage.wait_output_secs)] {
            metrics.sample(&[("stage", &stage.name), ("state", state)], secs);
        }
    });
    let limiting = ("framerail_stage_limiting", Kind::Gauge, "1 for the stage that limits the run.");
    metrics.each(limiting, stages, |metrics, stage| {
        let is_limiting = !stats.is_paced() && stats.limiting_stage.as_deref() == Some(stage.name.as_str());
        metrics.sample(&[("stage", &stage.name)], f64::from(u8::from(is_limiting)));
    });
    stage_details(metrics, stages);
}

fn stage_details(metrics: &mut Metrics, stages: &[StageStats]) {
    metrics.each(("framerail_stage_copies_total", Kind::Counter, "Copies of pixels."), stages, |metrics, stage| {
        for copies in &stage.copies {
            metrics.sample(&[("stage", &stage.name), ("kind", copies.kind.as_str())], copies.count as f64);
        }
    });
    metrics.each(("framerail_stage_copied_bytes_total", Kind::Counter, "Bytes of these copies."), stages, |metrics, stage| {
        for copies in &stage.copies {
            metrics.sample(&[("stage", &stage.name), ("kind", copies.kind.as_str())], copies.bytes as f64);
        }
    });
    let memory = ("framerail_stage_device_memory_peak_bytes", Kind::Gauge, "Peak device memory of a stage.");
    metrics.each(memory, stages, |metrics, stage| {
        for memory in &stage.memory {
            metrics.sample(&[("stage", &stage.name), ("device", &memory.device)], memory.peak_bytes as f64);
        }
    });
    let counters = ("framerail_stage_counter", Kind::Gauge, "A stage's counters; see the statistics.");
    metrics.each(counters, stages, |metrics, stage| {
        for (counter, count) in &stage.counters {
            metrics.sample(&[("stage", &stage.name), ("counter", counter)], *count as f64);
        }
    });
    let settings = ("framerail_stage_setting", Kind::Gauge, "Settings that can be changed during the run.");
    metrics.each(settings, stages, |metrics, stage| {
        for (setting, value) in &stage.settings {
            metrics.sample(&[("stage", &stage.name), ("setting", setting)], *value);
        }
    });
}

fn edges(metrics: &mut Metrics, edges: &[EdgeStats]) {
    let plain: [Measure<EdgeStats>; 4] = [
        ("framerail_edge_frames_total", Kind::Counter, "Frames that passed.", |edge| edge.frames as f64),
        ("framerail_edge_dropped_frames_total", Kind::Counter, "Frames dropped by a callback.", |edge| edge.dropped as f64),
        ("framerail_edge_queue_frames", Kind::Gauge, "Frames waiting between two stages.", |edge| edge.depth as f64),
        ("framerail_edge_queue_capacity_frames", Kind::Gauge, "Capacity of that queue in frames.", |edge| edge.capacity as f64),
    ];
    for (name, kind, help, value) in plain {
        metrics.each((name, kind, help), edges, |metrics, edge| {
            metrics.sample(&[("from", &edge.from), ("to", &edge.to)], value(edge));
        });
    }
}

fn streams(metrics: &mut Metrics, stats: &RunStats) {
    let streams = &stats.streams;
    let plain: [Measure<StreamStats>; 6] = [
        ("framerail_stream_read_frames_total", Kind::Counter, "Frames from a source.", |stream| stream.frames_read as f64),
        ("framerail_stream_delivered_frames_total", Kind::Counter, "Frames that reached the end.", |stream| stream.frames_delivered as f64),
        ("framerail_stream_late_frames_total", Kind::Counter, "Frames delivered over their budget.", |stream| stream.frames_late as f64),
        ("framerail_stream_reconnects_total", Kind::Counter, "Reconnects of a source.", |stream| stream.reconnects as f64),
        ("framerail_stream_clock_jumps_total", Kind::Counter, "Clock jumps of a source.", |stream| stream.clock_jumps as f64),
        ("framerail_stream_latency_max_seconds", Kind::Gauge, "Maximum time from arrival to the end.", |stream| stream.latency_max_secs),
    ];
    for (name, kind, help, value) in plain {
        metrics.each((name, kind, help), streams, |metrics, stream| {
            metrics.sample(&[("stream", &stream.id.to_string()), ("name", &stream.name)], value(stream));
        });
    }
    let drops = ("framerail_stream_dropped_frames_total", Kind::Counter, "Dropped frames, by place.");
    metrics.each(drops, streams, |metrics, stream| {
        for (place, frames) in &stream.drops {
            metrics.sample(&[("stream", &stream.id.to_string()), ("name", &stream.name), ("place", place)], *frames as f64);
        }
    });
    metrics.family("framerail_streams", Kind::Gauge, "Listed streams by state.");
    for state in STREAM_STATES {
        let count = streams.iter().filter(|stream| stream.state == state).count();
        metrics.sample(&[("state", state.as_str())], count as f64);
    }
    let earlier = &stats.earlier_streams;
    let plain = [
        ("framerail_earlier_streams_total", "Earlier streams, which are only summed up.", earlier.streams),
        ("framerail_earlier_streams_read_frames_total", "Frames from their sources.", earlier.frames_read),
        ("framerail_earlier_streams_delivered_frames_total", "Frames of them that reached the end.", earlier.frames_delivered),
        ("framerail_earlier_streams_dropped_frames_total", "Dropped frames of them.", earlier.frames_dropped),
        ("framerail_earlier_streams_late_frames_total", "Frames of them delivered over their budget.", earlier.frames_late),
    ];
    for (name, help, count) in plain {
        metrics.single(name, Kind::Counter, help, count as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let metric = Metric {
            name: "a",
            kind: Kind::Gauge,
            help: "",
            samples: vec![Sample { labels: vec![("b", "c\\d\"e\nf".into())], value: 1.5 }],
        };
        assert!(metric.text().ends_with("a{b=\"c\\\\d\\\"e\\nf\"} 1.5\n"), "{}", metric.text());
    }
}
