//! `--serve`: monitoring of a run over HTTP.

use clap::Args;
use framerail::pipeline::{PlannedGraph, RunSwitch, ServeDescription};

use crate::exit::Failure;

/// Options of the monitoring server.
#[derive(Args, Clone, Debug, Default)]
pub struct WatchArgs {
    /// Serve a monitoring page with live images, rates and settings, and statistics for programs, during the run; port 0 = any free port
    #[arg(long = "serve", value_name = "ADDRESS:PORT", help_heading = "Monitoring")]
    address: Option<String>,
    /// Ignore `[serve]` in the pipeline file
    #[arg(long = "no-serve", conflicts_with_all = ["address", "token", "hosts", "view", "sources"], help_heading = "Monitoring")]
    is_off: bool,
    /// Access token; required for addresses other than loopback [env: FRAMERAIL_SERVE_TOKEN]
    #[arg(long = "serve-token", value_name = "TOKEN", help_heading = "Monitoring")]
    token: Option<String>,
    /// Additional host name of the server, such as a proxy's; can be repeated
    #[arg(long = "serve-host", value_name = "NAME", help_heading = "Monitoring")]
    hosts: Vec<String>,
    /// Stage whose output is shown [default: the last one before a sink]
    #[arg(long = "serve-view", value_name = "STAGE", help_heading = "Monitoring")]
    view: Option<String>,
    /// URL schemes that clients may add, and `file` for paths [default: http,https,rtmp,rtmps,rtsp,rtsps,srt]
    #[arg(long = "serve-sources", value_name = "SCHEMES", value_delimiter = ',', help_heading = "Monitoring")]
    sources: Vec<String>,
}

#[cfg(feature = "serve")]
pub use with_server::Watch;

#[cfg(feature = "serve")]
mod with_server {
    use framerail_serve::{ServeError, WatchOptions, Watched};

    use super::{Failure, PlannedGraph, RunSwitch, ServeDescription, WatchArgs};
    use crate::{exit::code_of, terminal};

    /// A run that is about to be served.
    pub struct Watch(framerail_serve::Watch);

    fn failed(error: ServeError) -> Failure {
        Failure::new(code_of(error.kind()), format_args!("serve: {error}"))
    }

    impl Watch {
        /// Binds the address; `None` if the run is not monitored.
        ///
        /// # Errors
        /// `USAGE` for a wrong address, token or stage; `RESOURCE` for an address that is in use.
        pub fn prepare(args: &WatchArgs, file: Option<&ServeDescription>, planned: &mut PlannedGraph) -> Result<Option<Self>, Failure> {
            if args.is_off {
                return Ok(None);
            }
            let WatchArgs { address, token, hosts, view, sources, .. } = args.clone();
            let watch = framerail_serve::Watch::prepare(WatchOptions { address, token, hosts, view, sources }, file, planned);
            Ok(watch.map_err(failed)?.map(Self))
        }

        /// Serves a started run, and prints the address.
        ///
        /// # Errors
        /// `RESOURCE` when there are no threads left.
        pub fn serve(self, run: RunSwitch) -> Result<Watched, Failure> {
            let watched = self.0.serve(run).map_err(failed)?;
            // Printed even with --quiet: with port 0 the address would be unknown.
            terminal::line(&format!("monitoring page: http://{}/", watched.address()));
            Ok(watched)
        }
    }
}

#[cfg(not(feature = "serve"))]
pub use without_server::Watch;

#[cfg(not(feature = "serve"))]
mod without_server {
    use super::{Failure, PlannedGraph, RunSwitch, ServeDescription, WatchArgs};
    use crate::exit::USAGE;

    /// Never constructed.
    pub enum Watch {}
    /// Never constructed.
    pub enum Watched {}

    impl Watch {
        /// # Errors
        /// `USAGE` when someone wants to watch.
        pub fn prepare(args: &WatchArgs, file: Option<&ServeDescription>, _: &mut PlannedGraph) -> Result<Option<Self>, Failure> {
            let WatchArgs { address, is_off, token, hosts, view, sources } = args;
            let is_asked = address.is_some()
                || token.is_some()
                || view.is_some()
                || !hosts.is_empty()
                || !sources.is_empty()
                || (file.is_some() && !is_off);
            if is_asked {
                return Err(Failure::new(
                    USAGE,
                    "this build has no monitoring server; build with `--features serve`, or ignore `[serve]` with --no-serve",
                ));
            }
            Ok(None)
        }

        pub fn serve(self, _: RunSwitch) -> Result<Watched, Failure> {
            match self {}
        }
    }

    impl Watched {
        pub fn close(self) {
            match self {}
        }
    }
}
