//! A run that is about to start, and is to be watched.

use std::{env, net::SocketAddr};

use framerail_pipeline::{PlannedGraph, RunSwitch, ServeDescription, Value};

use crate::{BoundServer, Content, PictureOptions, PictureThread, Pictures, ServeError, ServeOptions, Server, View};

/// Variable whose value is the token where the caller gives none: arguments can be seen by other users.
pub const TOKEN_VARIABLE: &str = "FRAMERAIL_SERVE_TOKEN";

/// What the caller says of watching a run: on the command line, or from Python. What is not said here may stand in the
/// pipeline's file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WatchOptions {
    /// Address and port, such as `127.0.0.1:8080`; port 0 takes one that is free.
    pub address: Option<String>,
    /// What clients must know; needed for any address but loopback.
    pub token: Option<String>,
    /// Names by which the server may be asked, beside addresses in figures, `localhost` and this machine's name.
    pub hosts: Vec<String>,
    /// The stage whose frames are shown; the last one before the end by default.
    pub view: Option<String>,
    /// Schemes of addresses that may be added to the run, and `file` for paths; [`crate::DEFAULT_SOURCES`] when empty.
    pub sources: Vec<String>,
}

impl WatchOptions {
    /// Takes from the file what was not said, and the token from [`TOKEN_VARIABLE`] before that; `None` when nobody wants to
    /// watch.
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

/// An address that is taken, and pictures that are not asked for yet.
pub struct Watch {
    server: BoundServer,
    pictures: Pictures,
    thread: PictureThread,
    view: String,
}

impl Watch {
    /// Takes the address, and looks where pictures come from; nothing where neither the caller nor the pipeline's file wants
    /// the run to be watched. What the caller says goes before what stands in the file.
    ///
    /// # Errors
    /// What is wrong with address, token or stage; `NoAddress` where only they are given; `InUse`, `Bind`, `Start`.
    pub fn prepare(options: WatchOptions, file: Option<&ServeDescription>, planned: &mut PlannedGraph) -> Result<Option<Self>, ServeError> {
        let Some(WatchOptions { address, token, hosts, view, sources }) = options.completed(file)? else { return Ok(None) };
        let server = BoundServer::bind(&ServeOptions {
            address: address.unwrap_or_default(),
            token,
            hosts,
            sources: (!sources.is_empty()).then_some(sources),
        })?;
        let view = View::find(planned, view.as_deref())?;
        // What a stage has drawn is not drawn again.
        let (pictures, thread) = Pictures::start(PictureOptions { overlay: !view.is_drawn, ..PictureOptions::default() })?;
        view.attach(planned, &pictures);
        Ok(Some(Self { server, pictures, thread, view: view.stage }))
    }

    /// The real address, with the port.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Serves a run that has begun.
    ///
    /// # Errors
    /// `Start` when there are no threads left.
    pub fn serve(self, run: RunSwitch) -> Result<Watched, ServeError> {
        let content = Content::Run { run, view: Some(self.view), title: "framerail".to_owned() };
        let server = self.server.serve(content, &self.pictures)?;
        Ok(Watched { server, _pictures: self.thread })
    }
}

/// A run that is watched. Dropping it closes it.
pub struct Watched {
    server: Server,
    /// Goes after the server, which asks it.
    _pictures: PictureThread,
}

impl Watched {
    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Tells those who watch how the run ended, and closes; takes two seconds at most.
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
        let said = WatchOptions {
            address: Some("127.0.0.1:0".into()),
            token: Some("of-the-caller".into()),
            hosts: vec!["watch".into()],
            view: Some("blur".into()),
            sources: vec!["file".into()],
        };
        assert_eq!(said.clone().completed(Some(&file)).expect("valid"), Some(said));
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
