//! URLs and paths of media, displayed without their secrets.

use std::{borrow::Cow, fmt, ops::Range, path::Path, sync::Arc};

use serde::{Serialize, Serializer};

use crate::printable::printable;

/// Replacement for a secret.
const HIDDEN: &str = "***";

/// Query parameters whose short values are shown: protocol settings, never credentials.
const OPEN_PARAMETERS: [&str; 34] = [
    "buffer_size",
    "ch",
    "channel",
    "codec",
    "connect_timeout",
    "end",
    "fifo_size",
    "format",
    "fps",
    "height",
    "latency",
    "listen",
    "live",
    "mode",
    "overrun_nonfatal",
    "peerlatency",
    "pkt_size",
    "profile",
    "protocol",
    "quality",
    "rcvlatency",
    "resolution",
    "reuse",
    "start",
    "stream",
    "subtype",
    "tcp",
    "timeout",
    "transport",
    "transtype",
    "ttl",
    "udp",
    "unicast",
    "width",
];
/// Schemes of object storage.
pub const OBJECT_SCHEMES: [&str; 9] = ["s3", "s3a", "gs", "gcs", "az", "azure", "abfs", "abfss", "hf"];
/// Maximum length of a shown parameter value.
const MAX_OPEN_VALUE: usize = 16;
/// A path segment with this many consecutive letters and digits counts as a token.
const TOKEN_RUN: usize = 16;
/// Path segments that are followed by a secret.
const SECRET_FOLDERS: [&str; 12] =
    ["apikey", "api_key", "auth", "hook", "hooks", "key", "pass", "password", "secret", "sig", "signature", "token"];

/// A path, a URL, a pattern or `-`, as the user wrote it.
///
/// `Display`, `Debug` and serialisation hide passwords, tokens and stream keys, and escape control characters. Use
/// [`SourceUrl::reveal`] for the original text, and only to open the source.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceUrl(Arc<str>);

impl SourceUrl {
    /// Wraps a source as the user wrote it.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(text.as_ref().into())
    }

    /// The original text with all secrets: for opening, never for messages.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The part before `://` in lower case; `None` for paths.
    pub fn scheme(&self) -> Option<String> {
        scheme(&self.0).map(str::to_ascii_lowercase)
    }

    /// Whether it is a URL rather than a path.
    pub fn is_url(&self) -> bool {
        scheme(&self.0).is_some()
    }

    /// Host and port of a URL, parsed as in FFmpeg; port 80 by default.
    pub fn host_and_port(&self) -> Option<(String, u16)> {
        let (_, rest) = self.0.split_once("://").filter(|_| self.is_url())?;
        let authority = rest.split(['/', '?', '#']).next()?;
        let place = authority.rsplit('@').next()?;
        let (host, port) = match place.strip_prefix('[') {
            Some(inner) => inner.split_once(']')?,
            None => place.find(':').map_or((place, ""), |colon| place.split_at(colon)),
        };
        let port = port.trim_start_matches(':').parse().unwrap_or(80);
        (!host.is_empty()).then(|| (host.to_owned(), port))
    }

    /// Whether the scheme is http or https.
    pub fn is_web(&self) -> bool {
        self.scheme().is_some_and(|scheme| scheme == "http" || scheme == "https")
    }

    /// Whether it lies in object storage: S3, Google Cloud Storage, Azure, or a repository of Hugging Face.
    pub fn is_object(&self) -> bool {
        scheme(&self.0).is_some_and(is_object_scheme)
    }

    /// The secret parts, also percent-decoded, longest first; for removing them from messages of other libraries.
    pub fn secrets(&self) -> Vec<String> {
        let mut secrets = Vec::new();
        for range in hidden(&self.0) {
            let Some(part) = self.0.get(range) else { continue };
            let halves = part.split_once(':').map(|(user, password)| [user, password]);
            for text in [part].into_iter().chain(halves.into_iter().flatten()) {
                secrets.extend([text.to_owned(), percent_decoded(text)]);
            }
        }
        // Shorter strings would remove ordinary words from messages.
        secrets.retain(|secret| secret.len() >= 4);
        secrets.sort_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        secrets.dedup();
        secrets
    }

    /// A name from the last part of the path, without extension, query and secrets; `stream` if nothing is left.
    pub fn stem(&self) -> String {
        if &*self.0 == "-" {
            return "stdin".into();
        }
        let shown = self.to_string();
        let stem = match shown.split_once("://").filter(|_| self.is_url()) {
            Some((_, rest)) => {
                // In a key of object storage both are letters like others.
                let path = if self.is_object() { rest } else { rest.split(['?', '#']).next().unwrap_or_default() };
                let (host, path) = path.split_once('/').unwrap_or((path, ""));
                // If the last part is hidden, use the part before it.
                let part = path.rsplit('/').find(|part| !part.is_empty() && !part.contains(HIDDEN));
                part.map_or_else(|| host.rsplit('@').next().unwrap_or(host).to_owned(), file_stem)
            }
            None => file_stem(self.0.split(['?', '*']).next().unwrap_or_default().trim_end_matches('/')),
        };
        if stem.is_empty() { "stream".into() } else { stem }
    }
}

impl fmt::Display for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&printable(&without(&self.0, &hidden(&self.0))))
    }
}

impl fmt::Debug for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string(), f)
    }
}

impl Default for SourceUrl {
    fn default() -> Self {
        Self::new("")
    }
}

impl<T: AsRef<str> + ?Sized> From<&T> for SourceUrl {
    fn from(text: &T) -> Self {
        Self::new(text)
    }
}

impl From<String> for SourceUrl {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<Cow<'_, str>> for SourceUrl {
    fn from(text: Cow<'_, str>) -> Self {
        Self::new(text)
    }
}

impl PartialEq<str> for SourceUrl {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for SourceUrl {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

impl PartialEq<String> for SourceUrl {
    fn eq(&self, other: &String) -> bool {
        &*self.0 == other.as_str()
    }
}

impl Serialize for SourceUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Hides the secrets of every URL in a text: for messages of libraries, and pipelines as written.
pub fn redacted(text: &str) -> Cow<'_, str> {
    let ranges = hidden_in_text(text);
    if ranges.is_empty() { Cow::Borrowed(text) } else { Cow::Owned(without(text, &ranges)) }
}

/// Like [`redacted`], with one star per hidden byte, so that positions in the text stay valid.
pub fn masked(text: &str) -> Cow<'_, str> {
    let ranges = hidden_in_text(text);
    if ranges.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut shown = text.to_owned();
    for range in ranges {
        shown.replace_range(range.clone(), &"*".repeat(range.len()));
    }
    Cow::Owned(shown)
}

/// Removes these strings from a text.
pub fn without_secrets(text: &str, secrets: &[String]) -> String {
    secrets
        .iter()
        .fold(text.to_owned(), |text, secret| if text.contains(secret.as_str()) { text.replace(secret.as_str(), HIDDEN) } else { text })
}

fn without(text: &str, ranges: &[Range<usize>]) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut from = 0;
    for range in ranges {
        shown.push_str(text.get(from..range.start).unwrap_or_default());
        shown.push_str(HIDDEN);
        from = range.end;
    }
    shown.push_str(text.get(from..).unwrap_or_default());
    shown
}

fn file_stem(path: &str) -> String {
    Path::new(path).file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

fn scheme(text: &str) -> Option<&str> {
    let (scheme, _) = text.split_once("://")?;
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.:,_".contains(&byte));
    is_scheme.then_some(scheme)
}

/// Whether a scheme is one of object storage.
pub fn is_object_scheme(scheme: &str) -> bool {
    OBJECT_SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme))
}

/// Secret ranges of a text that is one source.
fn hidden(text: &str) -> Vec<Range<usize>> {
    if scheme(text).is_none() {
        return Vec::new();
    }
    // `concat:URL|URL` and similar protocols list several.
    let is_list = text.matches("://").count() > 1 && text.contains('|');
    if is_list { hidden_in_text(text) } else { hidden_in_url(text, 0) }
}

/// Secret ranges of all URLs in a text.
fn hidden_in_text(text: &str) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    let mut from = 0;
    while let Some(found) = text.get(from..).and_then(|rest| rest.find("://")) {
        let mark = from + found;
        let before = text.get(..mark).unwrap_or_default();
        let letters = before.bytes().rev().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
        let start = mark - letters;
        let rest = text.get(mark..).unwrap_or_default();
        let ends = |letter: char| letter.is_whitespace() || letter.is_control() || "\"'`<>|".contains(letter);
        let length = rest.find(ends).unwrap_or(rest.len());
        let end = mark + rest.get(..length).unwrap_or_default().trim_end_matches([',', ';', ':', ')', '.']).len();
        if letters > 0
            && let Some(url) = text.get(start..end)
        {
            ranges.extend(hidden_in_url(url, start));
        }
        from = end.max(mark + 3);
    }
    ranges
}

/// Secret ranges of a URL that starts at `at` in the text; in order and without duplicates.
fn hidden_in_url(url: &str, at: usize) -> Vec<Range<usize>> {
    let Some((scheme, rest)) = url.split_once("://") else { return Vec::new() };
    let start = scheme.len() + 3;
    let mut ranges = Vec::new();
    if is_object_scheme(scheme) {
        // Keys are names, even if they look random; `container@account` names a place.
        let user = rest.split('/').next().and_then(|place| place.rsplit_once('@')).map_or("", |(user, _)| user);
        if user.contains(':') {
            ranges.push(start + at..start + user.len() + at);
        }
        return ranges;
    }
    let (user, mut path) = user_info(scheme, rest);
    if user > 0 {
        ranges.push(start..start + user);
        let after = rest.get(user..).unwrap_or_default();
        path = user + after.find(['/', '?', '#']).unwrap_or(after.len());
    }
    let rest = rest.get(path..).unwrap_or_default();
    let start = start + path;
    let path_end = rest.find(['?', '#']).unwrap_or(rest.len());
    let query_end = rest.find('#').filter(|place| *place >= path_end).unwrap_or(rest.len());
    hide_path(&mut ranges, scheme, rest.get(..path_end).unwrap_or_default(), start);
    if rest.as_bytes().get(path_end) == Some(&b'?') {
        hide_query(&mut ranges, rest.get(path_end + 1..query_end).unwrap_or_default(), start + path_end + 1);
    }
    if query_end + 1 < rest.len() {
        ranges.push(start + query_end + 1..start + rest.len());
    }
    ranges.into_iter().filter(|range| !range.is_empty()).map(|range| range.start + at..range.end + at).collect()
}

/// Length of the user name and password before the `@`, and where the path begins. Passwords with `/`, `?` or `#` are
/// invalid in a URL, but are accepted because people write them.
fn user_info(scheme: &str, rest: &str) -> (usize, usize) {
    let authority = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let name = rest.get(..authority).unwrap_or_default();
    if let Some(at) = name.rfind('@') {
        return (at, authority);
    }
    let after_bracket = name.rfind(']').map_or(0, |bracket| bracket + 1);
    let Some(colon) = name.get(after_bracket..).and_then(|rest| rest.find(':')).map(|colon| colon + after_bracket) else {
        return (0, authority);
    };
    let is_port = name.get(colon + 1..).is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    let is_web = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let searched = if is_port { rest.find(['?', '#']).unwrap_or(rest.len()) } else { rest.len() };
    let at = rest.get(..searched).and_then(|rest| rest.rfind('@')).filter(|_| !(is_port && is_web));
    match at {
        Some(at) => (at, authority),
        // Cut off within a password.
        None if !is_port => (authority, authority),
        None => (0, authority),
    }
}

fn hide_path(ranges: &mut Vec<Range<usize>>, scheme: &str, path: &str, start: usize) {
    let is_rtmp = scheme.to_ascii_lowercase().contains("rtmp");
    let (mut place, mut number, mut follows_secret) = (0, 0, false);
    for segment in path.split('/') {
        let at = start + place;
        place += segment.len() + 1;
        if segment.is_empty() {
            continue;
        }
        number += 1;
        // `rtmp://host/app/key`: anyone with the key can publish.
        if is_rtmp && number > 1 {
            ranges.push(at..start + path.len());
            return;
        }
        let name_ends = segment.find(['=', ':', ';']).filter(|_| !segment.contains('@'));
        if let Some(name) = name_ends {
            ranges.push(at + name + 1..at + segment.len());
        } else if let Some(user) = segment.rfind('@').filter(|user| segment.get(..*user).is_some_and(|user| user.contains(':'))) {
            ranges.push(at..at + user);
        } else if follows_secret || is_token(segment) {
            ranges.push(at..at + segment.len() - ending(segment).len());
        }
        follows_secret = SECRET_FOLDERS.contains(&segment.to_ascii_lowercase().as_str());
    }
}

/// The extension with its dot, such as `.m3u8`.
fn ending(segment: &str) -> &str {
    let dot = segment.rfind('.').filter(|dot| *dot > 0 && segment.len() - dot <= 6);
    dot.and_then(|dot| segment.get(dot..)).unwrap_or_default()
}

/// Whether a path segment seems random rather than named: many consecutive letters and digits, or the digits of a UUID.
fn is_token(segment: &str) -> bool {
    let stem = segment.get(..segment.len() - ending(segment).len()).unwrap_or_default();
    let is_mixed = |text: &str| text.bytes().any(|byte| byte.is_ascii_digit()) && text.bytes().any(|byte| byte.is_ascii_alphabetic());
    let runs = stem.split(|letter: char| !letter.is_ascii_alphanumeric());
    let figures = stem.bytes().filter(u8::is_ascii_hexdigit).count();
    runs.into_iter().any(|run| run.len() >= TOKEN_RUN && is_mixed(run))
        || (figures >= 32 && stem.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-'))
}

fn hide_query(ranges: &mut Vec<Range<usize>>, query: &str, start: usize) {
    let mut place = 0;
    for pair in query.split(['&', ';']) {
        let at = start + place;
        place += pair.len() + 1;
        match pair.split_once('=') {
            Some((name, value)) if !is_open(name, value) => ranges.push(at + name.len() + 1..at + pair.len()),
            None if !pair.is_empty() && !OPEN_PARAMETERS.contains(&pair.to_ascii_lowercase().as_str()) => ranges.push(at..at + pair.len()),
            _ => {}
        }
    }
}

fn is_open(name: &str, value: &str) -> bool {
    let is_plain = value.len() <= MAX_OPEN_VALUE && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:_-".contains(&byte));
    value.is_empty() || (is_plain && OPEN_PARAMETERS.contains(&name.to_ascii_lowercase().as_str()))
}

/// Decodes `%41` to `A`; all else stays unchanged.
pub fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digit = |place: usize| after.get(place).and_then(|digit| char::from(*digit).to_digit(16));
        match (first, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => {
                bytes.push((high * 16 + low) as u8);
                rest = after.get(2..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_addresses_are_not_shown() {
        for (given, shown) in [
            ("rtsp://me:s3cr3t@host:8554/cam", "rtsp://***@host:8554/cam"),
            ("rtsp://me:s3/cr3t@host/cam", "rtsp://***@host/cam"),
            ("rtsp://me:s3?cr#3t@host/cam", "rtsp://***@host/cam"),
            ("rtsp://me:1234/5@host/cam", "rtsp://***@host/cam"),
            ("rtsp://me:s3cr@3t@host", "rtsp://***@host"),
            ("rtsp://token@[::1]:554/a@b", "rtsp://***@[::1]:554/a@b"),
            ("rtsp://host/cam", "rtsp://host/cam"),
            ("http://host:8080/@user/clip.mp4", "http://host:8080/@user/clip.mp4"),
            ("rtmp://host/live/s3cr3t?x=s3cr3t", "rtmp://host/live/***?x=***"),
            ("rtmps://host:443/app/inst/s3cr3t", "rtmps://host:443/app/***"),
            (
                "srt://host:9000?mode=caller&passphrase=s3cr3t&latency=200000&streamid=s3cr3t",
                "srt://host:9000?mode=caller&passphrase=***&latency=200000&streamid=***",
            ),
            ("https://b.s3.aws/x.mp4?X-Amz-Signature=s3cr3t&X-Amz-Date=2026", "https://b.s3.aws/x.mp4?X-Amz-Signature=***&X-Amz-Date=***"),
            ("https://host/x.m3u8?s3cr3t#s3cr3t", "https://host/x.m3u8?***#***"),
            ("https://hooks/services/T01/B01/abcdEFGH0123ijklMNOP", "https://hooks/services/T01/B01/***"),
            ("https://host/v/550e8400-e29b-41d4-a716-446655440000/a.m3u8", "https://host/v/***/a.m3u8"),
            ("https://host/big_buck_bunny_1080p_h264_2008.mp4", "https://host/big_buck_bunny_1080p_h264_2008.mp4"),
            ("rtsp://host/user=admin&password=s3cr3t&channel=1.sdp", "rtsp://host/user=***"),
            ("https://api/bot123:s3cr3t/x", "https://api/bot123:***/x"),
            ("https://host/token/s3cr3t/a.ts", "https://host/token/***/a.ts"),
            ("concat:http://a:s3cr3t@h/1.ts|http://b:s3cr3t@h/2.ts", "concat:http://***@h/1.ts|http://***@h/2.ts"),
            ("folder/a:b@c/clip?.mp4", "folder/a:b@c/clip?.mp4"),
            ("s3://key:s3cr3t@bucket/a/x?y=z#1.mp4", "s3://***@bucket/a/x?y=z#1.mp4"),
            ("s3://bucket/550e8400e29b41d4a716446655440000.mp4", "s3://bucket/550e8400e29b41d4a716446655440000.mp4"),
            ("abfss://container@account.dfs.core.windows.net/a.mp4", "abfss://container@account.dfs.core.windows.net/a.mp4"),
            ("a\x1b[2Jb.mp4", "a\\x1b[2Jb.mp4"),
        ] {
            let source = SourceUrl::new(given);
            assert_eq!(source.to_string(), shown);
            assert_eq!(format!("{source:?}"), format!("{shown:?}"));
            assert_eq!(redacted(&source.to_string()), shown, "shown twice");
            assert_eq!(source.reveal(), given);
            assert!(!source.stem().contains("s3"), "{}", source.stem());
        }
    }

    #[test]
    fn secrets_are_taken_out_of_messages() {
        let text =
            "tcp: Connection to rtsp://me:s3cr3t@host/cam?token=s3cr3t: refused ('http://h/x?sig=s3cr3t'), and (https://u:s3cr3t@h).";
        assert_eq!(
            redacted(text),
            "tcp: Connection to rtsp://***@host/cam?token=***: refused ('http://h/x?sig=***'), and (https://***@h)."
        );
        assert_eq!(masked("read rtsp://a:b@c ! x"), "read rtsp://***@c ! x");
        let source = SourceUrl::new("rtmp://h/app/my%20key123");
        assert_eq!(source.secrets(), ["my%20key123", "my key123"]);
        assert_eq!(without_secrets("path my key123 refused", &source.secrets()), "path *** refused");
    }

    #[test]
    fn names_come_from_what_is_shown() {
        for (given, name) in [
            ("http://host/live.m3u8?x=1", "live"),
            ("a/clip.mp4", "clip"),
            ("-", "stdin"),
            ("rtsp://u:p@host", "host"),
            ("rtsp://u:p@host/cam1/", "cam1"),
            ("srt://host:9000?passphrase=a/b", "host:9000"),
            ("rtmp://host/app/key", "app"),
            ("rtsp://192.168.1.5", "192.168.1.5"),
            ("", "stream"),
        ] {
            assert_eq!(SourceUrl::new(given).stem(), name, "{given}");
        }
    }
}
