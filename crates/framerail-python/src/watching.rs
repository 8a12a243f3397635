//! Monitoring of a run, as requested from Python: the HTTP server, and the export to OpenTelemetry.

use framerail::{otlp::OtlpOptions, pipeline::OtlpDescription};
use framerail_serve::WatchOptions;
use pyo3::{exceptions::PyValueError, prelude::*};

/// Arguments of `framerail.Pipeline.run`.
#[derive(Default, FromPyObject)]
#[pyo3(from_item_all)]
pub struct WatchArguments {
    /// False disables monitoring, also if the pipeline file requests it.
    is_wanted: bool,
    address: Option<String>,
    token: Option<String>,
    hosts: Vec<String>,
    view: Option<String>,
    sources: Vec<String>,
}

impl WatchArguments {
    /// `None` without monitoring.
    pub fn into_options(self) -> Option<WatchOptions> {
        let Self { is_wanted, address, token, hosts, view, sources } = self;
        is_wanted.then_some(WatchOptions { address, token, hosts, view, sources })
    }
}

/// How a run is monitored; see `framerail.Pipeline.run`.
pub type MonitoringArguments = (WatchArguments, OtlpArguments);

/// The arguments `otlp`, `otlp_trace` and `otlp_interval` of `framerail.Pipeline.run`.
#[derive(Default, FromPyObject)]
#[pyo3(from_item_all)]
pub struct OtlpArguments {
    /// False: nothing is exported, whatever the pipeline's file says.
    is_wanted: bool,
    url: Option<String>,
    trace: Option<u64>,
    interval: Option<u64>,
}

impl OtlpArguments {
    /// `None` where nothing is exported.
    ///
    /// # Errors
    /// `ValueError` for an interval without a collector.
    pub fn into_options(self, file: Option<&OtlpDescription>) -> PyResult<Option<OtlpOptions>> {
        let options = self.is_wanted.then(|| OtlpOptions::of(self.url.as_deref(), self.trace, self.interval, file)).flatten();
        if options.is_none() && self.trace.or(self.interval).is_some() {
            let message = "options 'otlp_trace' and 'otlp_interval' need a collector: otlp=\"http://host:4318\", or [otlp] in the file";
            return Err(PyValueError::new_err(message));
        }
        Ok(options)
    }
}
