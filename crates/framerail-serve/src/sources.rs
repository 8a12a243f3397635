//! Which sources clients may add to a run over HTTP.

use std::net::{IpAddr, ToSocketAddrs};

use framerail_core::{SourceUrl, is_private_address};

use crate::ServeError;

/// URL schemes allowed by default.
pub const DEFAULT_SOURCES: [&str; 7] = ["http", "https", "rtmp", "rtmps", "rtsp", "rtsps", "srt"];
/// Stands for paths on the machine that runs the pipeline.
const FILE: &str = "file";
/// All schemes that can be allowed.
const KNOWN: [&str; 13] = ["file", "ftp", "ftps", "http", "https", "rtmp", "rtmps", "rtmpt", "rtp", "rtsp", "rtsps", "srt", "udp"];
/// Maximum number of unfinished streams in a run; no more are added.
pub(crate) const MAX_STREAMS: usize = 256;

/// Allowed URL schemes of sources, and `file` for paths.
#[derive(Clone, Debug)]
pub(crate) struct AllowedSources(Vec<String>);

impl AllowedSources {
    /// # Errors
    /// `Sources` for a scheme that cannot be allowed.
    pub(crate) fn new(schemes: Option<&[String]>) -> Result<Self, ServeError> {
        let Some(schemes) = schemes else { return Ok(Self(DEFAULT_SOURCES.map(str::to_owned).into())) };
        let schemes: Vec<String> = schemes.iter().map(|scheme| scheme.trim().trim_end_matches("://").to_ascii_lowercase()).collect();
        match schemes.iter().find(|scheme| !KNOWN.contains(&scheme.as_str())) {
            Some(scheme) => Err(ServeError::Sources { scheme: scheme.clone(), known: KNOWN.join(", ") }),
            None => Ok(Self(schemes)),
        }
    }

    /// Checks a source that a client at `peer` wants to add. Resolves the host name, which may take a while.
    ///
    /// # Errors
    /// The reason for rejection, in one line.
    pub(crate) fn check(&self, source: &SourceUrl, peer: IpAddr) -> Result<(), String> {
        // FFmpeg treats anything but a URL as a path, or as a protocol without slashes.
        let scheme = source.scheme().unwrap_or_else(|| FILE.to_owned());
        let is_file = scheme == FILE;
        if !self.0.contains(&scheme) {
            let what = if is_file { "paths".to_owned() } else { format!("addresses of {scheme}") };
            return Err(format!("{what} cannot be added: allowed are {}; see --serve-sources", self.0.join(", ")));
        }
        if is_file {
            return Ok(());
        }
        let query = source.reveal().split_once('?').map_or("", |(_, query)| query).to_ascii_lowercase();
        if query.contains("listen") {
            return Err("listening addresses cannot be added over HTTP".into());
        }
        let Some((host, port)) = source.host_and_port() else { return Err(format!("{source} has no host")) };
        if is_private_address(peer) {
            return Ok(());
        }
        // An unknown name fails later, when the stream is opened.
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>).unwrap_or_default();
        if found.iter().any(|address| is_private_address(address.ip())) {
            return Err(format!("{source} is a private address; only clients with a private address can add it"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_addresses_are_held_to_the_list() {
        let allowed = AllowedSources::new(None).expect("the default");
        let (own, public): (IpAddr, IpAddr) = ("127.0.0.1".parse().expect("an address"), "8.8.8.8".parse().expect("an address"));
        let check = |source: &str, peer| allowed.check(&SourceUrl::new(source), peer);
        for source in ["rtsp://127.0.0.1/cam", "https://127.0.0.1:8443/a.m3u8", "SRT://10.0.0.1:9000?mode=caller"] {
            assert_eq!(check(source, own), Ok(()), "{source}");
            assert!(check(source, public).is_err_and(|words| words.contains("private")), "{source}");
        }
        for source in [
            "tcp://h:1",
            "unix://run/x",
            "gopher://h",
            "concat:http://h|x",
            "file:///etc/passwd",
            "/etc/passwd",
            "a.mp4",
            "data:x",
            "subfile,,start,0,end,9,,:/etc/passwd",
            "ftp://h/x",
            "pipe:0",
            "srt://0.0.0.0:9?mode=listener",
            "http://h:1?listen=1",
            "rtsp://",
            "crypto+https://h/x",
        ] {
            assert!(check(source, own).is_err(), "{source}");
        }
        assert_eq!(check("http://8.8.4.4/x.mp4", public), Ok(()));
        let files = AllowedSources::new(Some(&["file".into(), " RTSP:// ".into()])).expect("known");
        assert_eq!(files.check(&SourceUrl::new("/clips/a.mp4"), public), Ok(()));
        assert!(files.check(&SourceUrl::new("http://8.8.8.8/"), own).is_err());
        assert!(matches!(AllowedSources::new(Some(&["tcp".into()])), Err(ServeError::Sources { .. })));
    }
}
