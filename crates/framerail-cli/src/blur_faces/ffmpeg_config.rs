//! `--ffmpeg-config`: the JSON that deface passes to its writer (imageio-ffmpeg), converted to options of `write`.

use serde_json::{Map, Value};

use crate::exit::{Failure, USAGE};

/// Keys of imageio-ffmpeg that framerail does not need: sizes, rates and messages are right without them.
const NEEDLESS: [&str; 5] = ["macro_block_size", "ffmpeg_log_level", "ffmpeg_timeout", "fps", "audio_path"];

/// Options of `write` from deface's JSON.
///
/// # Errors
/// `USAGE` for what is not a JSON object, and for a key or value that framerail has no counterpart for.
pub fn write_options(json: &str) -> Result<Vec<(String, String)>, Failure> {
    let config: Map<String, Value> = serde_json::from_str(json)
        .map_err(|error| wrong(format_args!("is not a JSON object ({error}); write it like '{{\"codec\": \"libx264\"}}'")))?;
    let codec = config.get("codec").and_then(Value::as_str).unwrap_or("libx264");
    let mut options = Vec::new();
    let mut further = Vec::new();
    for (key, value) in &config {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        match key.as_str() {
            // imageio-ffmpeg treats null as the default.
            _ if value.is_null() => {}
            "codec" | "crf" | "preset" | "bitrate" => options.push((key.clone(), text)),
            "pixelformat" => options.push(("pixel_format".into(), text)),
            "quality" => quality(codec, value, &mut options, &mut further)?,
            "output_params" => parameters(value, &mut options, &mut further)?,
            needless if NEEDLESS.contains(&needless) => log::warn!("--ffmpeg-config: {needless} is not needed and was ignored"),
            other => {
                let known = "codec, crf, preset, quality, bitrate, pixelformat and output_params";
                return Err(wrong(format_args!("does not support '{other}'; it supports {known}")));
            }
        }
    }
    if !further.is_empty() {
        options.push(("options".into(), key_values(&further)));
    }
    Ok(options)
}

fn wrong(words: std::fmt::Arguments<'_>) -> Failure {
    Failure::new(USAGE, format_args!("--ffmpeg-config {words}"))
}

/// imageio-ffmpeg's quality of 0 to 10, mapped as it does: to `crf` for x264, to a fixed quantiser for others.
fn quality(codec: &str, value: &Value, options: &mut Vec<(String, String)>, further: &mut Vec<(String, String)>) -> Result<(), Failure> {
    let Some(quality) = value.as_f64().filter(|quality| (0.0..=10.0).contains(quality)) else {
        return Err(wrong(format_args!("quality takes a number from 0 to 10")));
    };
    let loss = 1.0 - quality / 10.0;
    if codec.contains("264") {
        options.push(("crf".into(), ((loss * 51.0) as u32).to_string()));
    } else {
        further.push(("flags".into(), "+qscale".into()));
        further.push(("global_quality".into(), (118 * ((loss * 30.0) as u32 + 1)).to_string()));
    }
    Ok(())
}

/// Command line parameters of FFmpeg, in pairs: `["-crf", "18", "-preset", "fast"]`.
fn parameters(value: &Value, options: &mut Vec<(String, String)>, further: &mut Vec<(String, String)>) -> Result<(), Failure> {
    let words: Option<Vec<&str>> = value.as_array().and_then(|list| list.iter().map(Value::as_str).collect());
    let pairs = words.filter(|words| words.len() % 2 == 0).unwrap_or_default();
    let no_pairs = || wrong(format_args!("output_params takes pairs such as [\"-crf\", \"18\"]"));
    if pairs.is_empty() && value.as_array().is_none_or(|list| !list.is_empty()) {
        return Err(no_pairs());
    }
    for pair in pairs.chunks_exact(2) {
        let [key, value] = pair else { continue };
        let key = key.strip_prefix('-').ok_or_else(no_pairs)?;
        let key = key.strip_suffix(":v").unwrap_or(key);
        let value = (*value).to_owned();
        match key {
            "crf" | "preset" => options.push((key.to_owned(), value)),
            "pix_fmt" => options.push(("pixel_format".into(), value)),
            "c" | "vcodec" => options.push(("codec".into(), value)),
            "g" => options.push(("gop".into(), value)),
            _ => further.push((key.to_owned(), value)),
        }
    }
    Ok(())
}

/// Joins pairs to the value of a pipeline option.
fn key_values(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(key, value)| format!("{key}={}", value.replace(',', "\\,"))).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(json: &str) -> Vec<(String, String)> {
        let mut options = write_options(json).expect("understood");
        options.sort();
        options
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn what_deface_users_write_is_understood() {
        assert_eq!(options(r#"{"codec": "libx264"}"#), [pair("codec", "libx264")]);
        assert_eq!(options(r#"{"codec": "libx265", "crf": 20}"#), [pair("codec", "libx265"), pair("crf", "20")]);
        assert_eq!(options(r#"{"quality": 5, "bitrate": null}"#), [pair("crf", "25")]);
        let mixed = r#"{"output_params": ["-crf", "18", "-preset:v", "fast", "-tune", "film", "-x264-params", "a=1,b=2"]}"#;
        assert_eq!(options(mixed), [pair("crf", "18"), pair("options", "tune=film,x264-params=a=1\\,b=2"), pair("preset", "fast")]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for json in ["[]", "nonsense", r#"{"codek": "x"}"#, r#"{"quality": 11}"#, r#"{"output_params": ["-crf"]}"#] {
            assert!(write_options(json).is_err(), "{json}");
        }
    }
}
