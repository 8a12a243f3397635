//! Monitoring of a run over HTTP, with options from Python.

use framerail_serve::WatchOptions;
use pyo3::prelude::*;

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
