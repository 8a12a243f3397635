//! Statistics in Prometheus format.
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

/// Formats the metrics of a run.
pub fn metrics_text(stats: &RunStats, health: &Health) -> String {
    let mut text = MetricsText::default();
    run(&mut text, stats, health);
    stages(&mut text, stats);
    edges(&mut text, &stats.edges);
    streams(&mut text, stats);
    text.0
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// Name, kind and help of a metric family, and a function for its value.
type Measure<T> = (&'static str, Kind, &'static str, fn(&T) -> f64);

type Labels<'a> = &'a [(&'a str, &'a str)];

#[derive(Default)]
struct MetricsText(String);

impl MetricsText {
    fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: Labels<'_>, value: f64) {
        let labels: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
        let _ = writeln!(self.0, "{name}{labels} {value}");
    }

    fn single(&mut self, name: &str, kind: Kind, help: &str, value: f64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn each<T>(&mut self, (name, kind, help): (&str, Kind, &str), items: &[T], sample: impl Fn(&mut Self, &str, &T)) {
        self.family(name, kind, help);
        items.iter().for_each(|item| sample(self, name, item));
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n")
}

fn run(text: &mut MetricsText, stats: &RunStats, health: &Health) {
    text.family("framerail_build_info", Kind::Gauge, "Version of framerail.");
    text.sample("framerail_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1.0);
    text.single(
        "framerail_healthy",
        Kind::Gauge,
        "1 while the run is active and no stage is stalled.",
        f64::from(u8::from(health.is_well())),
    );
    text.single("framerail_run_seconds", Kind::Gauge, "Run time so far, or in total.", stats.wall_secs);
    text.single("framerail_frames_done_total", Kind::Counter, "Frames that reached the end of the pipeline.", stats.frames_done() as f64);
    text.single("process_cpu_seconds_total", Kind::Counter, "CPU time of the process since the run started.", stats.cpu_secs);
    text.single("process_resident_memory_bytes", Kind::Gauge, "Resident memory of the process.", stats.memory_bytes as f64);
    text.single(
        "framerail_process_resident_memory_peak_bytes",
        Kind::Gauge,
        "Highest resident memory of the process so far.",
        stats.memory_peak_bytes as f64,
    );
}

fn stages(text: &mut MetricsText, stats: &RunStats) {
    let stages = &stats.stages;
    let frames = ("framerail_stage_frames_total", Kind::Counter, "Input frames of a stage; output frames of a source.");
    text.each(frames, stages, |text, name, stage| {
        let is_source = stage.items_in == 0 && !stats.edges.iter().any(|edge| edge.to == stage.name);
        let frames = if is_source { stage.frames_out } else { stage.frames_in };
        text.sample(name, &[("stage", &stage.name)], frames as f64);
    });
    let plain: [Measure<StageStats>; 4] = [
        ("framerail_stage_output_frames_total", Kind::Counter, "Output frames of a stage.", |stage| stage.frames_out as f64),
        ("framerail_stage_workers", Kind::Gauge, "Threads of a stage.", |stage| stage.workers as f64),
        ("framerail_stage_device_waits_total", Kind::Counter, "Waits of a stage for a device.", |stage| stage.syncs as f64),
        ("framerail_stage_notices_total", Kind::Counter, "Notices of a stage to the user.", |stage| stage.notices.len() as f64),
    ];
    for (name, kind, help, value) in plain {
        text.each((name, kind, help), stages, |text, name, stage| text.sample(name, &[("stage", &stage.name)], value(stage)));
    }
    let time = ("framerail_stage_time_seconds_total", Kind::Counter, "Time of a stage's threads by state.");
    text.each(time, stages, |text, name, stage| {
        for (state, secs) in [("busy", stage.busy_secs), ("wait_input", stage.wait_input_secs), ("wait_output", stage.wait_output_secs)] {
            text.sample(name, &[("stage", &stage.name), ("state", state)], secs);
        }
    });
    let limiting = ("framerail_stage_limiting", Kind::Gauge, "1 for the stage that limits the run.");
    text.each(limiting, stages, |text, name, stage| {
        let is_limiting = !stats.is_paced() && stats.limiting_stage.as_deref() == Some(stage.name.as_str());
        text.sample(name, &[("stage", &stage.name)], f64::from(u8::from(is_limiting)));
    });
    stage_details(text, stages);
}

fn stage_details(text: &mut MetricsText, stages: &[StageStats]) {
    text.each(("framerail_stage_copies_total", Kind::Counter, "Copies of pixels."), stages, |text, name, stage| {
        for copies in &stage.copies {
            text.sample(name, &[("stage", &stage.name), ("kind", copies.kind.as_str())], copies.count as f64);
        }
    });
    text.each(("framerail_stage_copied_bytes_total", Kind::Counter, "Bytes of these copies."), stages, |text, name, stage| {
        for copies in &stage.copies {
            text.sample(name, &[("stage", &stage.name), ("kind", copies.kind.as_str())], copies.bytes as f64);
        }
    });
    let memory = ("framerail_stage_device_memory_peak_bytes", Kind::Gauge, "Peak device memory of a stage.");
    text.each(memory, stages, |text, name, stage| {
        for memory in &stage.memory {
            text.sample(name, &[("stage", &stage.name), ("device", &memory.device)], memory.peak_bytes as f64);
        }
    });
    let counters = ("framerail_stage_counter", Kind::Gauge, "A stage's counters; see the statistics.");
    text.each(counters, stages, |text, name, stage| {
        for (counter, count) in &stage.counters {
            text.sample(name, &[("stage", &stage.name), ("counter", counter)], *count as f64);
        }
    });
    let settings = ("framerail_stage_setting", Kind::Gauge, "Settings that can be changed during the run.");
    text.each(settings, stages, |text, name, stage| {
        for (setting, value) in &stage.settings {
            text.sample(name, &[("stage", &stage.name), ("setting", setting)], *value);
        }
    });
}

fn edges(text: &mut MetricsText, edges: &[EdgeStats]) {
    let plain: [Measure<EdgeStats>; 4] = [
        ("framerail_edge_frames_total", Kind::Counter, "Frames that passed.", |edge| edge.frames as f64),
        ("framerail_edge_dropped_frames_total", Kind::Counter, "Frames dropped by a callback.", |edge| edge.dropped as f64),
        ("framerail_edge_queue_frames", Kind::Gauge, "Frames waiting between two stages.", |edge| edge.depth as f64),
        ("framerail_edge_queue_capacity_frames", Kind::Gauge, "Capacity of that queue in frames.", |edge| edge.capacity as f64),
    ];
    for (name, kind, help, value) in plain {
        text.each((name, kind, help), edges, |text, name, edge| {
            text.sample(name, &[("from", &edge.from), ("to", &edge.to)], value(edge));
        });
    }
}

fn streams(text: &mut MetricsText, stats: &RunStats) {
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
        text.each((name, kind, help), streams, |text, name, stream| {
            text.sample(name, &[("stream", &stream.id.to_string()), ("name", &stream.name)], value(stream));
        });
    }
    let drops = ("framerail_stream_dropped_frames_total", Kind::Counter, "Dropped frames, by place.");
    text.each(drops, streams, |text, name, stream| {
        for (place, frames) in &stream.drops {
            text.sample(name, &[("stream", &stream.id.to_string()), ("name", &stream.name), ("place", place)], *frames as f64);
        }
    });
    text.family("framerail_streams", Kind::Gauge, "Listed streams by state.");
    for state in STREAM_STATES {
        let count = streams.iter().filter(|stream| stream.state == state).count();
        text.sample("framerail_streams", &[("state", state.as_str())], count as f64);
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
        text.single(name, Kind::Counter, help, count as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = MetricsText::default();
        text.sample("a", &[("b", "c\\d\"e\nf")], 1.5);
        assert_eq!(text.0, "a{b=\"c\\\\d\\\"e\\nf\"} 1.5\n");
    }
}
