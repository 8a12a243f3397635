//! Sets up monitoring of a run that is about to start.

use std::{env, net::SocketAddr};

use framerail_pipeline::{PlannedGraph, RunSwitch, ServeDescription, Value};

use crate::{BoundServer, Content, ImageOptions, ImageThread, LiveImages, ServeError, ServeOptions, Server, View};

/// Environment variable for the token, used if the caller gives none: other users can see command-line arguments.
pub const TOKEN_VARIABLE: &str = "FRAMERAIL_SERVE_TOKEN";

/// The caller's options for monitoring a run, from the command line or Python. Missing ones are taken from the
/// pipeline file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// Address and port, such as `127.0.0.1:8080`; 0 = any free port.
    pub address: Option<String>,
    /// Token that clients must send; required for any address but loopback.
    pub token: Option<String>,
    /// Accepted host names, besides IP addresses, `localhost` and this machine's name.
    pub hosts: Vec<String>,
    /// The stage whose frames are shown; default: the last one before a sink.
    pub view: Option<String>,
    /// URL schemes of sources that clients may add to the run, and `file` for paths; [`crate::DEFAULT_SOURCES`] when empty.
    pub sources: Vec<String>,
}

impl WatchOptions {
    /// Fills missing options from the file; for the token, [`TOKEN_VARIABLE`] takes precedence over the file. `None` when monitoring is
    /// not requested.
    fn completed(self, file: Option<&ServeDescription>) -> Result<Option<Self>, ServeError> {
        let text = |value: &Value| value.text.clone();
        let Some(address) = self.address.clone().or_else(|| file.map(|file| text(&file.address))) else {
            return if self == Self::default() { Ok(None) } else { Err(ServeError::NoAddress) };
        };
        let token = self.token.or_else(|| env::var(TOKEN_VARIABLE).ok()).or_else(|| file?.token.as_ref().map(text));
        let of_file = || file.map(|file| file.hosts.iter().map(text).collect()).unwrap_or_default();
        let hosts = if self.hosts.is_empty() { of_file() } else { self.hosts };
        let view = self.view.or_else(|| file?.view.as_ref().map(text));
        let allowed = || file.map(|file| file.sources.iter().map(text).collect()).unwrap_or_default();
        let sources = if self.sources.is_empty() { allowed() } else { self.sources };
        Ok(Some(Self { address: Some(address), token, hosts, view, sources }))
    }
}

/// A bound server and images, before the run starts.
pub struct Watch {
    server: BoundServer,
    images: LiveImages,
    thread: ImageThread,
    view: String,
}

impl Watch {
    /// Binds the address and attaches to the stage whose frames are shown. Returns `None` when neither the caller nor the pipeline file
    /// requests monitoring. The caller's options take precedence over the file.
    ///
    /// # Errors
    /// Errors for invalid addresses, tokens or stages; `NoAddress` when only other options are given; `InUse`, `Bind`, `Start`.
    pub fn prepare(options: WatchOptions, file: Option<&ServeDescription>, planned: &mut PlannedGraph) -> Result<Option<Self>, ServeError> {
        let Some(WatchOptions { address, token, hosts, view, sources }) = options.completed(file)? else { return Ok(None) };
        let server = BoundServer::bind(&ServeOptions {
            address: address.unwrap_or_default(),
            token,
            hosts,
            sources: (!sources.is_empty()).then_some(sources),
        })?;
        let view = View::find(planned, view.as_deref())?;
        // Do not draw again what a stage has drawn.
        let (images, thread) = LiveImages::start(ImageOptions { overlay: !view.is_drawn, ..ImageOptions::default() })?;
        view.attach(planned, &images);
        Ok(Some(Self { server, images, thread, view: view.stage }))
    }

    /// The bound address, with the assigned port.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Serves a run that has started.
    ///
    /// # Errors
    /// `Start` when no thread can be created.
    pub fn serve(self, run: RunSwitch) -> Result<Watched, ServeError> {
        let content = Content::Run { run, view: Some(self.view), title: "framerail".to_owned() };
        let server = self.server.serve(content, &self.images)?;
        Ok(Watched { server, _images: self.thread })
    }
}

/// A monitored run. Dropping it closes the server.
pub struct Watched {
    server: Server,
    /// Dropped after the server, which uses it.
    _images: ImageThread,
}

impl Watched {
    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Sends clients the final state of the run and closes; takes up to two seconds.
    pub fn close(self) {
        self.server.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        Value::from(text)
    }

    #[test]
    fn what_the_caller_says_goes_before_the_file() {
        let file = ServeDescription {
            address: value("127.0.0.1:1"),
            token: Some(value("of-the-file")),
            hosts: vec![value("proxy")],
            view: Some(value("read")),
            sources: vec![value("rtsp")],
        };
        let from_file = WatchOptions::default().completed(Some(&file)).expect("valid").expect("watched");
        let texts = |one: &WatchOptions| [one.address.clone(), one.token.clone(), one.view.clone()].map(Option::unwrap_or_default);
        assert_eq!(texts(&from_file), ["127.0.0.1:1", "of-the-file", "read"]);
        assert_eq!((from_file.hosts, from_file.sources), (vec!["proxy".to_owned()], vec!["rtsp".to_owned()]));
        let given = WatchOptions {
            address: Some("127.0.0.1:0".into()),
            token: Some("of-the-caller".into()),
            hosts: vec!["watch".into()],
            view: Some("blur".into()),
            sources: vec!["file".into()],
        };
        assert_eq!(given.clone().completed(Some(&file)).expect("valid"), Some(given));
        let address = WatchOptions { address: Some("127.0.0.1:0".into()), ..WatchOptions::default() };
        let mixed = address.completed(Some(&file)).expect("valid").expect("watched");
        assert_eq!(texts(&mixed), ["127.0.0.1:0", "of-the-file", "read"]);
    }

    #[test]
    fn who_does_not_want_to_watch_says_nothing() {
        assert_eq!(WatchOptions::default().completed(None).expect("valid"), None);
        let view = WatchOptions { view: Some("read".into()), ..WatchOptions::default() };
        assert!(matches!(view.completed(None), Err(ServeError::NoAddress)));
    }
}
