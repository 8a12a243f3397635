//! OpenTelemetry: metrics and traces of a run, by OTLP over HTTP with protobuf.
//!
//! Metrics are those of the monitoring server. A trace follows one frame through the stages. Both use a [`Sender`] that drops data while
//! the collector is unreachable: monitoring must not block a run.

mod message;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use framerail_core::CancelToken;
use framerail_pipeline::{ErrorKind, OtlpDescription, PlannedGraph, RunSwitch, StageError, TraceSink};
use framerail_serve::{Health, metrics};
use ureq::http::{HeaderName, HeaderValue};

use self::message::{Export, Resource, metrics_request, spans_of, traces_request};
use crate::{
    posting::{HttpPoster, target},
    sender::{Batch, Counters, FIRST_PAUSE, Failure, GOODBYE, Limits, Protocol, Sender, Surroundings, WhenFull},
};

/// Supported environment variables of the OpenTelemetry specification.
const ENDPOINT_VARIABLE: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const HEADERS_VARIABLE: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const SERVICE_VARIABLE: &str = "OTEL_SERVICE_NAME";
/// Default port and path of OTLP over HTTP.
const DEFAULT_ENDPOINT: &str = "http://localhost:4318";
const TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of waiting traces and sets of metrics.
const BUFFER: usize = 2048;
const BUFFER_BYTES: usize = 16_000_000;
const REQUEST_BYTES: usize = 2_000_000;
/// Time that traces wait to be sent together.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// Maximum time for sending the rest at the end of a run.
const LINGER: Duration = Duration::from_secs(3);

/// Options of an export.
#[derive(Clone, Debug)]
pub struct OtlpOptions {
    /// Base URL of the collector; `None` for that of `OTEL_EXPORTER_OTLP_ENDPOINT`, else `http://localhost:4318`.
    pub endpoint: Option<String>,
    /// Every Nth frame of the sources is traced; 0 for none.
    pub trace_every: u64,
    /// Time between two exports of metrics.
    pub interval: Duration,
}

impl Default for OtlpOptions {
    fn default() -> Self {
        Self { endpoint: None, trace_every: 100, interval: Duration::from_secs(10) }
    }
}

impl OtlpOptions {
    /// What a user has set, completed by `[otlp]` of a pipeline file; `None` where neither names a collector.
    /// The URL `env` stands for the environment's; `interval` in seconds.
    pub fn of(url: Option<&str>, trace_every: Option<u64>, interval: Option<u64>, file: Option<&OtlpDescription>) -> Option<Self> {
        let url = url.or_else(|| file.map(|file| file.url.text.as_str()))?;
        let default = Self::default();
        let seconds = interval.or_else(|| file.and_then(|file| file.interval)).map(Duration::from_secs);
        Some(Self {
            endpoint: (url != "env").then(|| url.to_owned()),
            trace_every: trace_every.or_else(|| file.and_then(|file| file.trace)).unwrap_or(default.trace_every),
            interval: seconds.unwrap_or(default.interval),
        })
    }
}

/// A collector.
struct Collector {
    http: HttpPoster,
    target: String,
    traces: String,
    metrics: String,
    resource: Resource,
}

impl Protocol for Collector {
    type Message = Export;
    type Connection = ();

    fn target(&self) -> String {
        format!("the OpenTelemetry collector at {}", self.target)
    }

    fn batch(&self) -> Batch {
        Batch { messages: 512, bytes: REQUEST_BYTES, wait: BATCH_WAIT }
    }

    fn connect(&self, _: &CancelToken) -> Result<(), Failure> {
        Ok(())
    }

    fn send(&self, (): &mut (), messages: &mut Vec<Export>) -> Result<(), Failure> {
        let post = |url: &str, body: &[u8]| self.http.post(url, "application/x-protobuf", &[], body);
        let spans: Vec<_> = messages.iter().filter_map(Export::spans).flatten().cloned().collect();
        if !spans.is_empty() {
            post(&self.traces, &traces_request(&self.resource, spans))?;
            messages.retain(|message| message.spans().is_none());
        }
        while let Some(Export::Metrics(request)) = messages.first() {
            post(&self.metrics, request)?;
            messages.remove(0);
        }
        Ok(())
    }
}

/// An export that is set up, before its run starts.
pub struct Otlp {
    sender: Arc<Sender<Collector>>,
    collector: Arc<Collector>,
    interval: Duration,
    dropped: Arc<AtomicU64>,
}

/// An export of a running pipeline.
pub struct Exporting {
    otlp: Otlp,
    run: RunSwitch,
    start: SystemTime,
    end: CancelToken,
    thread: Option<JoinHandle<()>>,
}

fn usage(message: impl ToString) -> StageError {
    StageError::new(ErrorKind::Usage, message.to_string())
}

/// An environment variable that is set and not empty.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

/// `name=value,name=value`, as in `OTEL_EXPORTER_OTLP_HEADERS`; values may be percent-encoded.
fn headers(text: &str) -> Result<Vec<(HeaderName, HeaderValue)>, StageError> {
    let pairs = text.split(',').map(str::trim).filter(|pair| !pair.is_empty());
    let parsed = pairs.map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let mut value: HeaderValue = framerail_core::percent_decoded(value.trim()).parse().ok()?;
        // It may contain a key.
        value.set_sensitive(true);
        Some((name.trim().parse().ok()?, value))
    });
    // The text may contain keys, so it is not shown.
    parsed.collect::<Option<_>>().ok_or_else(|| usage(format!("{HEADERS_VARIABLE} is not a list such as `name=value,name=value`")))
}

impl Otlp {
    /// Sets up the export, and traces frames of the graph.
    ///
    /// # Errors
    /// `Usage` for a wrong URL or wrong headers in the environment; `Resource` without a thread.
    pub fn prepare(options: &OtlpOptions, planned: &mut PlannedGraph) -> Result<Self, StageError> {
        let endpoint = options.endpoint.clone().or_else(|| variable(ENDPOINT_VARIABLE)).unwrap_or_else(|| DEFAULT_ENDPOINT.into());
        let base = endpoint.trim_end_matches('/');
        let target = target(base).map_err(|why| usage(format!("otlp: {why}; write it as http://host:4318")))?;
        let headers = variable(HEADERS_VARIABLE).map_or(Ok(Vec::new()), |text| headers(&text))?;
        let collector = Arc::new(Collector {
            http: HttpPoster::new(&rustls_native_certs::load_native_certs().certs, headers, TIMEOUT),
            target,
            traces: format!("{base}/v1/traces"),
            metrics: format!("{base}/v1/metrics"),
            resource: Resource::new(&variable(SERVICE_VARIABLE).unwrap_or_else(|| "framerail".into())),
        });
        let limits = Limits {
            entries: BUFFER,
            bytes: BUFFER_BYTES,
            when_full: WhenFull::Drop,
            patience: LINGER,
            fails_at_end: false,
            retries: None,
            first_pause: FIRST_PAUSE,
            gives_up_on_stop: false,
            noun: "traces and metrics",
        };
        let dropped = Arc::new(AtomicU64::new(0));
        let count = || {
            let dropped = Arc::clone(&dropped);
            Box::new(move |count| {
                dropped.fetch_add(count, Ordering::Relaxed);
            }) as Box<dyn Fn(u64) + Send + Sync>
        };
        let nothing = || Box::new(|_| {}) as Box<dyn Fn(u64) + Send + Sync>;
        let counters = Counters { sent: nothing(), dropped: count(), rejected: count(), retried: nothing(), reconnected: nothing() };
        let run = Surroundings {
            stop: CancelToken::default(),
            abort: CancelToken::default(),
            notice: Box::new(|text| log::warn!("otlp: {text}")),
        };
        let sender = Arc::new(Sender::start(Arc::clone(&collector), limits, counters, run, "otlp")?);
        if options.trace_every > 0 {
            let sender = Arc::downgrade(&sender);
            let sink: TraceSink = Arc::new(move |trace| {
                if let Some(sender) = sender.upgrade() {
                    // Fails only with the sender, which reports it.
                    let _ = sender.push(Export::Spans(spans_of(&trace)));
                }
            });
            planned.trace_frames(options.trace_every, &sink);
        }
        Ok(Self { sender, collector, interval: options.interval, dropped })
    }

    /// Exports the metrics of a run from now on.
    ///
    /// # Errors
    /// `Resource` without a thread.
    pub fn export(self, run: RunSwitch) -> Result<Exporting, StageError> {
        let (end, start) = (CancelToken::default(), SystemTime::now());
        let (sender, collector, interval) = (Arc::clone(&self.sender), Arc::clone(&self.collector), self.interval);
        let (token, own) = (end.clone(), run.clone());
        let spawned = thread::Builder::new().name("otlp-metrics".into()).spawn(move || {
            loop {
                token.wait_for(interval);
                if token.is_cancelled() {
                    return;
                }
                push_metrics(&sender, &collector, &own, start);
            }
        });
        let thread = spawned.map_err(|error| StageError::new(ErrorKind::Resource, format!("cannot start a thread for otlp: {error}")))?;
        Ok(Exporting { otlp: self, run, start, end, thread: Some(thread) })
    }
}

fn push_metrics(sender: &Sender<Collector>, collector: &Collector, run: &RunSwitch, start: SystemTime) {
    let request = metrics_request(&collector.resource, &metrics(&run.stats(), &Health::of(run)), start, SystemTime::now());
    // Fails only with the sender, which reports it.
    let _ = sender.push(Export::Metrics(request));
}

impl Exporting {
    /// Sends the last metrics and waiting traces, within a few seconds; returns the number dropped during the run.
    pub fn finish(mut self) -> u64 {
        self.end.cancel();
        if let Some(thread) = self.thread.take() {
            // It only builds messages.
            let _ = thread.join();
        }
        push_metrics(&self.otlp.sender, &self.otlp.collector, &self.run, self.start);
        // Other holders are probes of a graph that has ended.
        if let Some(sender) = Arc::get_mut(&mut self.otlp.sender) {
            let _ = sender.finish(Some(LINGER), GOODBYE);
        }
        self.otlp.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_environment_are_read_and_never_shown() {
        let read = headers("api-key=a%20b, x = y").expect("two");
        assert_eq!(
            read.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect::<Vec<_>>(),
            [("api-key", "a b"), ("x", "y")]
        );
        let error = headers("secret").expect_err("no value");
        assert!(error.message.contains(HEADERS_VARIABLE) && !error.message.contains("secret"), "{error}");
    }
}
