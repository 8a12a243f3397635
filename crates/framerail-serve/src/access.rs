//! Access control: the token, and checks of the `Host` and `Origin` headers.

use std::net::{IpAddr, SocketAddr};

use hyper::{HeaderMap, Method, header};
use subtle::ConstantTimeEq;

use crate::ServeError;

/// What a server requires of requests.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    token: Option<String>,
    /// Value of the cookie that replaces the token; different for each run.
    session: String,
    cookie: String,
    /// Accepted host names, besides IP addresses and `localhost`.
    hosts: Vec<String>,
}

/// Why a request is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The `Host` header is not one of our names: a page may have pointed its domain here (DNS rebinding).
    Host,
    /// The request comes from a page of another origin.
    Origin,
    /// The token is missing or wrong.
    Token,
}

impl Access {
    /// # Errors
    /// `Token` for an invalid token, `TokenNeeded` when the address is reachable from other machines and there is no token.
    pub(crate) fn new(address: SocketAddr, token: Option<&str>, hosts: &[String]) -> Result<Self, ServeError> {
        if token.is_some_and(|token| !is_fit(token)) {
            return Err(ServeError::Token);
        }
        if token.is_none() && !address.ip().is_loopback() {
            return Err(ServeError::TokenNeeded { address });
        }
        let mut random = [0u8; 16];
        getrandom::fill(&mut random).map_err(|error| ServeError::Start { message: format!("no random numbers: {error}") })?;
        let session = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut hosts: Vec<String> = hosts.iter().map(|host| host.trim().to_ascii_lowercase()).collect();
        hosts.extend(machine_name());
        Ok(Self { token: token.map(str::to_owned), session, cookie: format!("framerail_{}", address.port()), hosts })
    }

    /// Checks the headers of a request. With `is_open`, no token is required.
    pub(crate) fn check(&self, method: &Method, headers: &HeaderMap, is_open: bool) -> Result<(), Refusal> {
        let host = text(headers, header::HOST.as_str()).unwrap_or_default();
        if !self.knows_host(host) {
            return Err(Refusal::Host);
        }
        if !is_same_origin(method, headers, host) {
            return Err(Refusal::Origin);
        }
        if is_open || self.is_known(headers) { Ok(()) } else { Err(Refusal::Token) }
    }

    /// Whether a token is required.
    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether the request carries the token or the session cookie.
    pub(crate) fn is_known(&self, headers: &HeaderMap) -> bool {
        let Some(token) = &self.token else { return true };
        let bearer = text(headers, header::AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
        bearer.is_some_and(|given| is_equal(given, token)) || self.has_cookie(headers)
    }

    fn has_cookie(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut cookies = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        cookies.any(|(name, value)| name == self.cookie && is_equal(value, &self.session))
    }

    /// Returns the session cookie if the token given in the URL is correct.
    pub(crate) fn cookie_for(&self, given: &str) -> Option<String> {
        let token = self.token.as_deref().filter(|token| is_equal(given, token));
        token.map(|_| format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie, self.session))
    }

    /// Whether a `Host` header names this server. IP addresses are always accepted, because DNS rebinding cannot use them.
    fn knows_host(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        let figures = name.trim_start_matches('[').trim_end_matches(']');
        name == "localhost" || figures.parse::<IpAddr>().is_ok() || self.hosts.contains(&name)
    }
}

fn is_fit(token: &str) -> bool {
    (8..=256).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte))
}

/// Compares in constant time.
fn is_equal(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) => name,
        _ => host,
    }
}

fn machine_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_ascii_lowercase()).filter(|name| !name.is_empty())
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether the request comes from our page, or not from a browser. Links from other sites may open the page itself.
fn is_same_origin(method: &Method, headers: &HeaderMap, host: &str) -> bool {
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        return authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host));
    }
    match text(headers, "sec-fetch-site") {
        None | Some("same-origin" | "none") => true,
        Some(_) => *method == Method::GET && text(headers, "sec-fetch-mode") == Some("navigate"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "correct-horse-battery";

    fn access(token: Option<&str>) -> Access {
        let hosts = ["watch.example".to_owned()];
        Access::new("127.0.0.1:8080".parse().expect("an address"), token, &hosts).expect("fits")
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    fn check(access: &Access, method: &Method, pairs: &[(&'static str, &str)]) -> Result<(), Refusal> {
        access.check(method, &headers(pairs), false)
    }

    #[test]
    fn names_that_a_stranger_may_point_here_are_refused() {
        let access = access(None);
        for host in ["127.0.0.1:8080", "localhost", "LocalHost:1", "[::1]:8080", "192.168.1.7:80", "watch.example:8080", "Watch.Example"] {
            assert_eq!(check(&access, &Method::GET, &[("host", host)]), Ok(()), "{host}");
        }
        for host in ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8080", "watch.example.evil", "a:b:c", "[::1"] {
            let expected = if host == "[::1" { Ok(()) } else { Err(Refusal::Host) };
            assert_eq!(check(&access, &Method::GET, &[("host", host)]), expected, "{host}");
        }
        assert_eq!(check(&access, &Method::GET, &[]), Err(Refusal::Host));
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let access = access(None);
        let own = ("host", "127.0.0.1:8080");
        for (pairs, method, expected) in [
            (vec![own, ("origin", "http://127.0.0.1:8080")], Method::POST, Ok(())),
            (vec![own, ("origin", "https://127.0.0.1:8080")], Method::POST, Ok(())),
            (vec![own, ("origin", "http://127.0.0.1:9000")], Method::POST, Err(Refusal::Origin)),
            (vec![own, ("origin", "http://evil.example")], Method::GET, Err(Refusal::Origin)),
            (vec![own, ("origin", "null")], Method::DELETE, Err(Refusal::Origin)),
            (vec![own, ("sec-fetch-site", "same-origin")], Method::PUT, Ok(())),
            (vec![own, ("sec-fetch-site", "same-site")], Method::PUT, Err(Refusal::Origin)),
            (vec![own, ("sec-fetch-site", "cross-site")], Method::GET, Err(Refusal::Origin)),
            (vec![own, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], Method::GET, Ok(())),
            (vec![own, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")], Method::POST, Err(Refusal::Origin)),
            (vec![own], Method::POST, Ok(())),
        ] {
            assert_eq!(check(&access, &method, &pairs), expected, "{method} {pairs:?}");
        }
    }

    #[test]
    fn the_token_opens_as_a_header_and_as_a_cookie() {
        let access = access(Some(TOKEN));
        let own = ("host", "127.0.0.1:8080");
        assert_eq!(check(&access, &Method::GET, &[own]), Err(Refusal::Token));
        assert_eq!(check(&access, &Method::GET, &[own, ("authorization", &format!("Bearer {TOKEN}"))]), Ok(()));
        for wrong in ["Bearer ", "Bearer correct-horse-batterz", "Basic correct-horse-battery", TOKEN] {
            assert_eq!(check(&access, &Method::GET, &[own, ("authorization", wrong)]), Err(Refusal::Token), "{wrong}");
        }
        assert_eq!(access.cookie_for("correct-horse-batter"), None);
        let cookie = access.cookie_for(TOKEN).expect("right");
        assert!(cookie.contains("HttpOnly; SameSite=Strict") && !cookie.contains(TOKEN), "{cookie}");
        let pair = cookie.split(';').next().unwrap_or_default();
        assert_eq!(check(&access, &Method::GET, &[own, ("cookie", &format!("other=1; {pair}"))]), Ok(()));
        assert_eq!(check(&access, &Method::GET, &[own, ("cookie", "framerail_8080=0")]), Err(Refusal::Token));
        assert_eq!(access.check(&Method::GET, &headers(&[own]), true), Ok(()));
    }

    #[test]
    fn what_others_can_reach_needs_a_good_token() {
        let open: SocketAddr = "0.0.0.0:8080".parse().expect("an address");
        assert!(matches!(Access::new(open, None, &[]), Err(ServeError::TokenNeeded { .. })));
        assert!(Access::new(open, Some(TOKEN), &[]).is_ok());
        for poor in ["", "short", "with space in it", "quote\"quote"] {
            assert!(matches!(Access::new(open, Some(poor), &[]), Err(ServeError::Token)), "{poor}");
        }
    }
}
