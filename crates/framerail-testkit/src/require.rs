//! Tools that some tests need besides FFmpeg: a missing one fails the test, unless the developer allows it.

use std::env;

/// Names of tools that may be missing, separated by commas: `rtsp`, `mqtt`, `chromium`, `nvrtc`, `ffmpeg-SCHEME`, `ffmpeg-encoders`.
pub const ALLOW_MISSING: &str = "FRAMERAIL_ALLOW_MISSING";

/// Whether the tool was `found`; a test returns early on `false`, which is reported on standard error.
///
/// # Panics
/// When it was not found and [`ALLOW_MISSING`] does not name it, so that no test passes without having run.
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
