//! `--serve`: a run watched over HTTP while it goes on.

use clap::Args;
use framerail::pipeline::{PlannedGraph, RunSwitch};

use crate::exit::Failure;

/// Variable whose value is the token where `--serve-token` is not given; arguments can be seen by other users.
#[cfg(feature = "serve")]
const TOKEN_VARIABLE: &str = "FRAMERAIL_SERVE_TOKEN";

/// Options of watching a run.
#[derive(Args, Clone, Debug, Default)]
pub struct WatchArgs {
    /// Serve a page with live pictures, rates and settings, and statistics for programs, while it runs; port 0 takes a free one
    #[arg(long = "serve", value_name = "ADDRESS:PORT", help_heading = "Watch")]
    address: Option<String>,
    /// What clients must know; needed for any address but loopback [env: FRAMERAIL_SERVE_TOKEN]
    #[arg(long = "serve-token", value_name = "TOKEN", requires = "address", help_heading = "Watch")]
    token: Option<String>,
    /// A further name that the server may be asked by, such as a proxy's; may be given several times
    #[arg(long = "serve-host", value_name = "NAME", requires = "address", help_heading = "Watch")]
    hosts: Vec<String>,
    /// Show frames as this stage gives them [default: the last one before the end]
    #[arg(long = "serve-view", value_name = "STAGE", requires = "address", help_heading = "Watch")]
    view: Option<String>,
}

#[cfg(feature = "serve")]
pub use with_server::Watch;

#[cfg(feature = "serve")]
mod with_server {
    use framerail_serve::{BoundServer, Content, PictureOptions, PictureThread, Pictures, ServeError, ServeOptions, Server, View};

    use super::{Failure, PlannedGraph, RunSwitch, TOKEN_VARIABLE, WatchArgs};
    use crate::{exit::code_of, terminal};

    /// An address that is taken, and pictures that are not asked for yet.
    pub struct Watch {
        server: BoundServer,
        pictures: Pictures,
        thread: PictureThread,
        view: String,
    }

    /// A run that is watched.
    pub struct Watched {
        server: Server,
        /// Goes after the server, which asks it.
        _pictures: PictureThread,
    }

    impl Watch {
        /// Takes the address, and looks where pictures come from; nothing where nobody wants to watch.
        ///
        /// # Errors
        /// `USAGE` for a wrong address, token or stage; `RESOURCE` for an address that is in use.
        pub fn prepare(args: &WatchArgs, planned: &mut PlannedGraph) -> Result<Option<Self>, Failure> {
            let Some(address) = args.address.clone() else { return Ok(None) };
            let failed = |error: ServeError| Failure::new(code_of(error.kind()), format_args!("--serve: {error}"));
            let token = args.token.clone().or_else(|| std::env::var(TOKEN_VARIABLE).ok());
            let server = BoundServer::bind(&ServeOptions { address, token, hosts: args.hosts.clone() }).map_err(failed)?;
            let view = View::find(planned, args.view.as_deref()).map_err(failed)?;
            let options = PictureOptions { overlay: !view.is_drawn, ..PictureOptions::default() };
            let (pictures, thread) = Pictures::start(options).map_err(failed)?;
            view.attach(planned, &pictures);
            Ok(Some(Self { server, pictures, thread, view: view.stage }))
        }

        /// Serves a run that has begun, and says where.
        ///
        /// # Errors
        /// `RESOURCE` when there are no threads left.
        pub fn serve(self, run: RunSwitch) -> Result<Watched, Failure> {
            let content = Content::Run { run, view: Some(self.view), title: "framerail".to_owned() };
            let server = self.server.serve(content, &self.pictures);
            let server = server.map_err(|error| Failure::new(code_of(error.kind()), format_args!("--serve: {error}")))?;
            // Said even when all else is quiet: with port 0 nobody could know.
            terminal::line(&format!("watch it at http://{}/", server.address()));
            Ok(Watched { server, _pictures: self.thread })
        }
    }

    impl Watched {
        /// Tells those who watch how it ended, and closes.
        pub fn close(self) {
            self.server.close();
        }
    }
}

#[cfg(not(feature = "serve"))]
pub use without_server::Watch;

#[cfg(not(feature = "serve"))]
mod without_server {
    use super::{Failure, PlannedGraph, RunSwitch, WatchArgs};
    use crate::exit::USAGE;

    /// Never there.
    pub enum Watch {}
    /// Never there.
    pub enum Watched {}

    impl Watch {
        /// # Errors
        /// `USAGE` when someone wants to watch.
        pub fn prepare(args: &WatchArgs, _: &mut PlannedGraph) -> Result<Option<Self>, Failure> {
            let told = |_| Err(Failure::new(USAGE, "this build has no --serve; build with `--features serve`"));
            args.address.as_ref().map_or(Ok(None), told)
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
