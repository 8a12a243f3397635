//! A run that is watched over HTTP: what Python says of it.

use framerail_serve::WatchOptions;
use pyo3::prelude::*;

/// What `Pipeline.run` was given; see `framerail.Pipeline.run`.
#[derive(Default, FromPyObject)]
#[pyo3(from_item_all)]
pub struct WatchArguments {
    /// False where nobody may watch, whatever the pipeline's file says.
    is_wanted: bool,
    address: Option<String>,
    token: Option<String>,
    hosts: Vec<String>,
    view: Option<String>,
    sources: Vec<String>,
}

impl WatchArguments {
    /// `None` where nobody may watch.
    pub fn into_options(self) -> Option<WatchOptions> {
        let Self { is_wanted, address, token, hosts, view, sources } = self;
        is_wanted.then_some(WatchOptions { address, token, hosts, view, sources })
    }
}
