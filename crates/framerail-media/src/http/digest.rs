//! Digest authentication, which cameras use.
//!
//! Source: RFC 7616, with MD5 and `qop=auth`, and RFC 2617 without `qop`.

use std::sync::atomic::{AtomicU32, Ordering};

use ffmpeg_the_third::ffi;
use ureq::http::Uri;

/// The header that answers a server's challenge for a GET request, with the user name and password of the URL; `None` if the
/// URL has none, and for unsupported algorithms.
pub(super) fn answer(challenge: &str, url: &Uri) -> Option<String> {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let parameters = challenge.strip_prefix("Digest ").or_else(|| challenge.strip_prefix("digest "))?;
    let value = |name: &str| parameter(parameters, name);
    let (user, _) = url.authority()?.as_str().rsplit_once('@')?;
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let (user, password) = (decoded(user), decoded(password));
    let (realm, nonce) = (value("realm")?, value("nonce")?);
    if value("algorithm").is_some_and(|algorithm| !algorithm.eq_ignore_ascii_case("md5")) {
        return None;
    }
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let who = md5(&format!("{user}:{realm}:{password}"));
    let what = md5(&format!("GET:{path}"));
    let opaque = value("opaque").map(|opaque| format!(", opaque=\"{opaque}\"")).unwrap_or_default();
    let head = format!("Digest username=\"{user}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{path}\"");
    let has_qop = value("qop").is_some_and(|qop| qop.split(',').any(|word| word.trim() == "auth"));
    if !has_qop {
        let response = md5(&format!("{who}:{nonce}:{what}"));
        return Some(format!("{head}, response=\"{response}\"{opaque}"));
    }
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let own = md5(&format!("{nonce}:{number}:{}", std::process::id()));
    let response = md5(&format!("{who}:{nonce}:00000001:{own}:auth:{what}"));
    Some(format!("{head}, qop=auth, nc=00000001, cnonce=\"{own}\", response=\"{response}\"{opaque}"))
}

/// A parameter of a challenge, without quotes.
fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text;
    loop {
        let (name, after) = rest.split_once('=')?;
        let after = after.trim_start();
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        if name.trim_matches([' ', ',']).eq_ignore_ascii_case(wanted) {
            return Some(value.trim().to_owned());
        }
        rest = next;
    }
}

/// Decodes percent-encoding: `%41` becomes `A`.
fn decoded(text: &str) -> String {
    framerail_core::source_url::percent_decoded(text)
}

fn md5(text: &str) -> String {
    let mut sum = [0_u8; 16];
    // SAFETY: room for a sum, and the text's bytes with their length.
    unsafe { ffi::av_md5_sum(sum.as_mut_ptr(), text.as_ptr(), text.len()) };
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard_is_answered() {
        let url: Uri = "http://Mufasa:Circle%20Of%20Life@host/dir/index.html".parse().expect("a URL");
        let challenge =
            r#"Digest realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", opaque="5ccc069c403ebaf9f0171e9517f40e41""#;
        let answered = answer(challenge, &url).expect("an answer");
        // RFC 2617 without `qop`: MD5 of both sums and the nonce.
        assert!(
            answered.contains("username=\"Mufasa\"") && answered.contains("response=\"670fd8c2df070c60b045671b8b24ff02\""),
            "{answered}"
        );
        assert!(answered.ends_with("opaque=\"5ccc069c403ebaf9f0171e9517f40e41\""));
        let with_qop = answer(&format!("{challenge}, qop=\"auth,auth-int\""), &url).expect("an answer");
        assert!(with_qop.contains("qop=auth, nc=00000001"), "{with_qop}");
        assert_eq!(answer(challenge, &"http://host/".parse().expect("a URL")), None);
        assert_eq!(answer("Basic realm=\"x\"", &url), None);
        assert_eq!(answer("Digest realm=\"x\", nonce=\"y\", algorithm=SHA-256", &url), None);
    }
}
