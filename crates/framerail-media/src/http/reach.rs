//! Restricts which hosts requests may reach.

use std::{io, sync::OnceLock};

use framerail_core::is_private_address;
use ureq::{
    Error,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::NextTimeout,
    },
};

/// Resolves host names. The first host is the user's choice; if it is public, later ones must not be private, whatever
/// redirects, playlists and DNS say: requests go to the addresses that were checked.
#[derive(Debug)]
pub(super) struct Reach {
    inner: DefaultResolver,
    allow_private: bool,
    first_is_private: OnceLock<bool>,
}

impl Reach {
    pub(super) fn new(allow_private: bool) -> Self {
        Self { inner: DefaultResolver::default(), allow_private, first_is_private: OnceLock::new() }
    }
}

impl Resolver for Reach {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.inner.resolve(uri, config, timeout).map_err(|error| match error {
            // Retrying does not help for a name that does not exist.
            Error::Io(error) => Error::Other(Box::new(io::Error::new(io::ErrorKind::HostUnreachable, words(&error)))),
            other => other,
        })?;
        let first_is_private = || found.iter().all(|address| is_private_address(address.ip()));
        if self.allow_private || *self.first_is_private.get_or_init(first_is_private) {
            return Ok(found);
        }
        let mut public = self.empty();
        found.iter().filter(|address| !is_private_address(address.ip())).for_each(|address| public.push(*address));
        if public.is_empty() {
            let host = uri.host().unwrap_or_default();
            let message = format!("a public server refers to {host}, a private address; allow=network permits that");
            return Err(Error::Other(Box::new(io::Error::new(io::ErrorKind::AddrNotAvailable, message))));
        }
        Ok(public)
    }
}

/// Shortens `failed to lookup address information: Name or service not known` to `name or service not known`.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    let reason = text.rsplit(": ").next().unwrap_or(&text).to_lowercase();
    format!("its host name cannot be resolved ({reason})")
}

#[cfg(test)]
mod tests {
    use ureq::{Timeout, unversioned::transport::time};

    use super::*;

    fn resolve(reach: &Reach, url: &str) -> Result<usize, Error> {
        let timeout = NextTimeout { after: time::Duration::NotHappening, reason: Timeout::Global, ..NextTimeout::default() };
        reach.resolve(&url.parse().expect("a URL"), &Config::default(), timeout).map(|found| found.len())
    }

    #[test]
    fn a_public_server_leads_to_no_private_address() {
        let public = Reach::new(false);
        assert_eq!(resolve(&public, "http://8.8.8.8/a.m3u8").expect("the user's own choice"), 1);
        for private in [
            "http://127.0.0.1/x",
            "http://10.0.0.1/x",
            "http://[::1]/x",
            "https://169.254.169.254/x",
            "http://[::ffff:127.0.0.1]/x",
            "http://localhost/x",
        ] {
            let refused = resolve(&public, private).expect_err(private).to_string();
            assert!(refused.contains("private address"), "{private}: {refused}");
        }
        assert!(resolve(&public, "http://1.1.1.1/x").is_ok());
        let own = Reach::new(false);
        assert!(["http://127.0.0.1/a.m3u8", "http://8.8.8.8/x", "http://10.0.0.1/x"].iter().all(|url| resolve(&own, url).is_ok()));
        let allowed = Reach::new(true);
        assert!(["http://8.8.8.8/a.m3u8", "http://127.0.0.1/x"].iter().all(|url| resolve(&allowed, url).is_ok()));
    }
}
