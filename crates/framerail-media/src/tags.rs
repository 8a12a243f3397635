//! Decides which tags of an input are written to an output.

use framerail_core::StreamInfo;

use crate::WriterOptions;

/// Tags that describe the original file, not its content.
const FILE_TAGS: &[&str] = &[
    "major_brand",
    "minor_version",
    "compatible_brands",
    "encoder",
    "duration",
    "vendor_id",
    "rotate",
    "alpha_mode",
    "bps",
    "number_of_frames",
    "number_of_bytes",
];
/// Words in the names of tags that contain a recording location.
const LOCATION_WORDS: &[&str] = &["location", "gps", "latitude", "longitude", "iso6709", "xyz", "geotag"];

/// Whether a tag of the input is written.
pub(crate) fn is_kept(key: &str, value: &str, options: &WriterOptions) -> bool {
    options.keep_metadata && !is_of_file(key) && !(options.strip_location && is_location(key, value))
}

/// Names of the tags that are removed because they contain a recording location.
pub(crate) fn stripped(options: &WriterOptions, info: &StreamInfo) -> Vec<String> {
    let is_stripped = |(key, value): &&(String, String)| options.keep_metadata && options.strip_location && is_location(key, value);
    info.metadata.iter().filter(is_stripped).map(|(key, _)| key.clone()).collect()
}

fn is_of_file(key: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    // Matroska's statistics tags may have a language suffix: BPS-eng.
    let name = lower.split('-').next().unwrap_or_default();
    FILE_TAGS.contains(&name) || name.starts_with("_statistics")
}

fn is_location(key: &str, value: &str) -> bool {
    let lower = key.to_ascii_lowercase();
    LOCATION_WORDS.iter().any(|word| lower.contains(word)) || is_coordinate(value)
}

/// Whether a text is an ISO 6709 coordinate, such as `+48.8577+002.295/`.
fn is_coordinate(text: &str) -> bool {
    let is_number = |text: &str| text.contains('.') && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let Some(rest) = text.trim().strip_prefix(['+', '-']) else { return false };
    let Some((latitude, rest)) = rest.split_once(['+', '-']) else { return false };
    let longitude = rest.split(['+', '-', '/', 'C']).next().unwrap_or_default();
    is_number(latitude) && is_number(longitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_known_by_name_and_by_value() {
        for (key, value) in [
            ("location", "x"),
            ("location-eng", "+48.8577+002.295/"),
            ("com.apple.quicktime.location.ISO6709", "+48.8577+002.2950+035.000/"),
            ("comment", "-33.8568+151.2153/"),
            ("GPSLatitude", "48"),
        ] {
            assert!(is_location(key, value), "{key}={value}");
        }
        for (key, value) in [("title", "+1"), ("comment", "-3.5 dB"), ("creation_time", "2026-01-01T00:00:00Z"), ("language", "eng")] {
            assert!(!is_location(key, value), "{key}={value}");
        }
    }

    #[test]
    fn statistics_of_the_file_are_left_behind() {
        let options = WriterOptions::default();
        assert!(!is_kept("BPS-eng", "1", &options) && !is_kept("DURATION", "1", &options) && !is_kept("_STATISTICS_TAGS", "", &options));
        assert!(is_kept("title", "x", &options) && is_kept("location", "x", &options));
        assert!(!is_kept("location", "x", &WriterOptions { strip_location: true, ..options }));
    }
}
