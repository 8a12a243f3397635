//! `--serve`: a run watched over HTTP while it goes on.

use clap::Args;
use framerail::pipeline::{PlannedGraph, RunSwitch, ServeDescription};

use crate::exit::Failure;

/// Options of watching a run.
#[derive(Args, Clone, Debug, Default)]
pub struct WatchArgs {
    /// Serve a page with live pictures, rates and settings, and statistics for programs, while it runs; port 0 takes a free one
    #[arg(long = "serve", value_name = "ADDRESS:PORT", help_heading = "Watch")]
    address: Option<String>,
    /// Do not serve, though the pipeline's file says so
    #[arg(long = "no-serve", conflicts_with_all = ["address", "token", "hosts", "view", "sources"], help_heading = "Watch")]
    is_off: bool,
    /// What clients must know; needed for any address but loopback [env: FRAMERAIL_SERVE_TOKEN]
    #[arg(long = "serve-token", value_name = "TOKEN", help_heading = "Watch")]
    token: Option<String>,
    /// A further name that the server may be asked by, such as a proxy's; may be given several times
    #[arg(long = "serve-host", value_name = "NAME", help_heading = "Watch")]
    hosts: Vec<String>,
    /// Show frames as this stage gives them [default: the last one before the end]
    #[arg(long = "serve-view", value_name = "STAGE", help_heading = "Watch")]
    view: Option<String>,
    /// Schemes of addresses that clients may add, and `file` for paths [default: http,https,rtmp,rtmps,rtsp,rtsps,srt]
    #[arg(long = "serve-sources", value_name = "SCHEMES", value_delimiter = ',', help_heading = "Watch")]
    sources: Vec<String>,
}

#[cfg(feature = "serve")]
pub use with_server::Watch;

#[cfg(feature = "serve")]
mod with_server {
    use framerail_serve::{ServeError, WatchOptions, Watched};

    use super::{Failure, PlannedGraph, RunSwitch, ServeDescription, WatchArgs};
    use crate::{exit::code_of, terminal};

    /// A run that is about to be watched.
    pub struct Watch(framerail_serve::Watch);

    fn failed(error: ServeError) -> Failure {
        Failure::new(code_of(error.kind()), format_args!("serve: {error}"))
    }

    impl Watch {
        /// Takes the address; nothing where nobody wants to watch.
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

        /// Serves a run that has begun, and says where.
        ///
        /// # Errors
        /// `RESOURCE` when there are no threads left.
        pub fn serve(self, run: RunSwitch) -> Result<Watched, Failure> {
            let watched = self.0.serve(run).map_err(failed)?;
            // Said even when all else is quiet: with port 0 nobody could know.
            terminal::line(&format!("watch it at http://{}/", watched.address()));
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

    /// Never there.
    pub enum Watch {}
    /// Never there.
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
                    "this build cannot serve; build with `--features serve`, or leave `[serve]` out by --no-serve",
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
