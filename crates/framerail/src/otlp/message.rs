//! Traces and statistics as OTLP messages.

use std::{
    hash::{BuildHasher, RandomState},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use framerail_pipeline::FrameTrace;
use framerail_serve::{Metric, MetricKind, Sample};
use opentelemetry_proto::tonic::{
    collector::{metrics::v1::ExportMetricsServiceRequest, trace::v1::ExportTraceServiceRequest},
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    metrics::v1::{
        AggregationTemporality, Gauge, Metric as OtlpMetric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data,
        number_data_point,
    },
    resource::v1::Resource as OtlpResource,
    trace::v1::{ResourceSpans, ScopeSpans, Span, span::SpanKind},
};
use prost::Message as _;

use crate::sender::Message;

/// What the sender sends.
pub(super) enum Export {
    /// One trace.
    Spans(Vec<Span>),
    /// A request with all metrics.
    Metrics(Vec<u8>),
}

impl Export {
    pub(super) fn spans(&self) -> Option<&[Span]> {
        match self {
            Export::Spans(spans) => Some(spans),
            Export::Metrics(_) => None,
        }
    }
}

impl Message for Export {
    fn bytes(&self) -> usize {
        match self {
            Export::Spans(spans) => spans.iter().map(Span::encoded_len).sum(),
            Export::Metrics(request) => request.len(),
        }
    }
}

/// The sending process.
pub(super) struct Resource(OtlpResource);

impl Resource {
    pub(super) fn new(service: &str) -> Self {
        let attributes = vec![
            text("service.name", service),
            text("service.version", env!("CARGO_PKG_VERSION")),
            number("process.pid", i64::from(std::process::id())),
        ];
        Self(OtlpResource { attributes, ..OtlpResource::default() })
    }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }) }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope { name: "framerail".into(), version: env!("CARGO_PKG_VERSION").into(), ..InstrumentationScope::default() })
}

fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// Random bytes that are not all zero: the keys of a new hasher are random.
fn random_id() -> u64 {
    RandomState::new().hash_one(0_u8).max(1)
}

/// A trace: a span for the frame, and a child span for each stage.
pub(super) fn spans_of(trace: &FrameTrace) -> Vec<Span> {
    let trace_id = [random_id().to_be_bytes(), random_id().to_be_bytes()].concat();
    let at = |time: Instant| nanos(trace.start_wall + time.saturating_duration_since(trace.start));
    let span = |name: &str, parent: &[u8], from: Instant, to: Instant, attributes: Vec<KeyValue>| Span {
        trace_id: trace_id.clone(),
        span_id: random_id().to_be_bytes().to_vec(),
        parent_span_id: parent.to_vec(),
        name: name.into(),
        kind: SpanKind::Internal as i32,
        start_time_unix_nano: at(from),
        end_time_unix_nano: at(to),
        attributes,
        ..Span::default()
    };
    let frame = i64::try_from(trace.frame).unwrap_or(i64::MAX);
    let attributes = vec![number("framerail.stream", i64::from(trace.stream.0)), number("framerail.frame", frame)];
    let root = span("frame", &[], trace.start, trace.end, attributes);
    let parent = root.span_id.clone();
    let visit = |visit: &framerail_pipeline::StageVisit| {
        // When the previous stage released the frame.
        let before = trace.visits.iter().filter(|other| other.left <= visit.entered).map(|other| other.left).max();
        let waited = before.map_or(0.0, |before| (visit.entered - before).as_secs_f64());
        let attributes = vec![attribute("framerail.queue_seconds", Value::DoubleValue(waited))];
        span(&visit.stage, &parent, visit.entered, visit.left, attributes)
    };
    let below: Vec<Span> = trace.visits.iter().map(visit).collect();
    std::iter::once(root).chain(below).collect()
}

pub(super) fn traces_request(resource: &Resource, spans: Vec<Span>) -> Vec<u8> {
    let scope_spans = vec![ScopeSpans { scope: scope(), spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource.0.clone()), scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

pub(super) fn metrics_request(resource: &Resource, metrics: &[Metric], start: SystemTime, now: SystemTime) -> Vec<u8> {
    let metrics = metrics.iter().map(|metric| metric_of(metric, nanos(start), nanos(now))).collect();
    let scope_metrics = vec![ScopeMetrics { scope: scope(), metrics, ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { resource: Some(resource.0.clone()), scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

fn metric_of(metric: &Metric, start: u64, now: u64) -> OtlpMetric {
    let point = |Sample { labels, value }: &Sample| NumberDataPoint {
        attributes: labels.iter().map(|(label, value)| text(label, value)).collect(),
        start_time_unix_nano: start,
        time_unix_nano: now,
        value: Some(number_data_point::Value::AsDouble(*value)),
        ..NumberDataPoint::default()
    };
    let data_points = metric.samples.iter().map(point).collect();
    let data = match metric.kind {
        MetricKind::Counter => {
            let aggregation_temporality = AggregationTemporality::Cumulative as i32;
            Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true })
        }
        MetricKind::Gauge => Data::Gauge(Gauge { data_points }),
    };
    // Prometheus adds the suffix again.
    let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
    OtlpMetric { name: name.into(), description: metric.help.into(), data: Some(data), ..OtlpMetric::default() }
}
