//! Tools that some tests need besides FFmpeg: a missing one fails the test, unless the developer allows it.

use std::env;

/// Environment variable with a comma-separated list of tools that may be missing: `rtsp`, `mqtt`, `kafka`, `redis`, `chromium`,
/// `nvrtc`, `ffmpeg-SCHEME`, `ffmpeg-encoders`.
pub const ALLOW_MISSING: &str = "FRAMERAIL_ALLOW_MISSING";

/// Returns whether the tool was `found`; on `false`, which is reported on standard error, the test returns early.
///
/// # Panics
/// When it was not found and [`ALLOW_MISSING`] does not list it, so that no test passes without running.
pub fn require(name: &str, found: bool, install: &str) -> bool {
    if found {
        return true;
    }
    let allowed = env::var(ALLOW_MISSING).unwrap_or_default();
    assert!(is_allowed(&allowed, name), "{name} is missing: {install}, or allow this test not to run with {ALLOW_MISSING}={name}");
    eprintln!("NOT TESTED: {name} is missing and {ALLOW_MISSING} names it");
    false
}

fn is_allowed(allowed: &str, name: &str) -> bool {
    allowed.split(',').any(|one| one.trim() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_named_tools_may_be_missing() {
        assert!(is_allowed("rtsp, mqtt", "mqtt") && !is_allowed("rtsp, mqtt", "chromium") && !is_allowed("", "rtsp"));
        assert!(require("cargo", true, "install Rust"));
    }

    #[test]
    #[should_panic(expected = "no such tool is missing: install it, or allow")]
    fn a_missing_tool_fails_its_test() {
        require("no such tool", false, "install it");
    }
}
