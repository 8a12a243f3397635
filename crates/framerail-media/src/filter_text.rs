//! Parses FFmpeg filter graph descriptions, so that the filters are known before any of them is created.

use crate::MediaError;

/// A filter with the labels of its inputs and outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FilterText {
    pub(crate) name: String,
    pub(crate) arguments: String,
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
}

/// Chains of filters, each linked in order.
pub(crate) type FilterChains = Vec<Vec<FilterText>>;

/// Video filters of FFmpeg 5 to 8 that open no files, devices or network connections, whatever their arguments. A filter is listed
/// only after its source was reviewed.
const CLOSED: &str = "\
    alphaextract alphamerge amplify atadenoise avgblur backgroundkey bbox bilateral bitplanenoise blackdetect blackframe blend blockdetect \
    blurdetect boxblur bwdif cas chromahold chromakey chromanr chromashift ciescope codecview colorbalance colorchannelmixer colorcontrast \
    colorcorrect colordetect colorhold colorize colorkey colorlevels colormatrix colorspace colortemperature convolution convolve copy \
    crop \
    cropdetect cue datascope dblur dctdnoiz deband deblock decimate deconvolve dedot deflate deflicker dejudder delogo despill detelecine \
    dilation displace doubleweave drawbox drawgraph drawgrid edgedetect elbg entropy epx eq erosion estdif exposure extractplanes fade \
    feedback fftdnoiz fftfilt field fieldmatch fieldorder fillborders floodfill format fps framepack framerate framestep freezedetect \
    freezeframes fspp gblur geq gradfun grayworld greyedge guided haldclut hflip histeq histogram hqdn3d hqx hstack hsvhold hsvkey hue \
    huesaturation hysteresis identity idet il inflate interlace kerndeint kirsch lagfun latency lenscorrection limitdiff limiter loop \
    lumakey lut lut2 lutrgb lutyuv maskedclamp maskedmax maskedmerge maskedmin maskedthreshold maskfun mcdeint median mergeplanes \
    mestimate \
    midequalizer minterpolate mix monochrome morpho mpdecimate msad multiply negate nlmeans noformat noise normalize null oscilloscope \
    overlay owdenoise pad palettegen paletteuse perms perspective phase photosensitivity pixelize pixscope pp pp7 premultiply prewitt \
    pseudocolor pullup qp random readeia608 readvitc realtime remap removegrain repeatfields reverse rgbashift roberts rotate sab scale \
    scale2ref scdet scharr scroll segment select separatefields setdar setfield setparams setpts setrange setsar settb shear showinfo \
    showpalette shuffleframes shufflepixels shuffleplanes sidedata signalstats siti smartblur sobel split spp stereo3d super2xsai swaprect \
    swapuv tblend telecine thistogram threshold thumbnail tile tiltandshift tinterlace tlut2 tmedian tmidequalizer tmix tonemap tpad \
    transpose trim unpremultiply unsharp untile v360 vaguedenoiser varblur vectorscope vflip vfrdet vibrance vif vignette vstack w3fdif \
    waveform weave xbr xcorrelate xfade xmedian xstack yadif yaepblur zoompan zscale";

/// Filters that open nothing unless one of these options is set. Their arguments must all be named.
const OPENING_OPTIONS: [(&str, &[&str]); 7] = [
    ("curves", &["psfile", "plot"]),
    ("deshake", &["filename"]),
    ("drawtext", &["fontfile", "textfile"]),
    ("libplacebo", &["custom_shader_path", "custom_shader_bin", "lut"]),
    ("metadata", &["file"]),
    ("selectivecolor", &["psfile"]),
    ("vmafmotion", &["stats_file"]),
];

/// Filters that move pixels within the frame, so that boxes no longer match.
const MOVING: &str = "\
    crop displace framepack hflip hstack lenscorrection pad perspective remap rotate scroll shear stereo3d swaprect tile transpose \
    untile v360 \
    vflip vstack xstack zoompan shufflepixels";

fn is_listed(list: &str, name: &str) -> bool {
    list.split_ascii_whitespace().any(|known| known == name)
}

fn wrong(text: &str, reason: impl std::fmt::Display) -> MediaError {
    MediaError::BadOption { name: "filters".into(), reason: format!("`{text}`: {reason}"), nearest: None }
}

/// Parses a filter graph: filters separated by commas, chains by semicolons, labels in brackets.
///
/// # Errors
/// `BadOption` for a text that is not a filter graph.
pub(crate) fn parse(text: &str) -> Result<FilterChains, MediaError> {
    let mut chains = vec![Vec::new()];
    for (filter, ends_chain) in split_filters(text).map_err(|reason| wrong(text, reason))? {
        let parsed = parse_filter(&filter).map_err(|reason| wrong(text, reason))?;
        if let Some(chain) = chains.last_mut() {
            chain.push(parsed);
        }
        if ends_chain {
            chains.push(Vec::new());
        }
    }
    chains.retain(|chain| !chain.is_empty());
    if chains.is_empty() {
        return Err(wrong(text, "the filter graph is empty; write for example `hue=s=0`"));
    }
    Ok(chains)
}

/// Checks that no filter opens files or the network.
///
/// # Errors
/// `Refused`, with the filter.
pub(crate) fn check_closed(chains: &FilterChains) -> Result<(), MediaError> {
    let refused = |name: &str, reason: String| {
        let reason = format!("{reason}; open=yes allows filters that open files, devices and the network");
        Err(MediaError::Refused { source_name: format!("the filter {name}"), reason })
    };
    for FilterText { name, arguments, .. } in chains.iter().flatten() {
        if is_listed(CLOSED, name) {
            continue;
        }
        let Some((_, opening)) = OPENING_OPTIONS.iter().find(|(known, _)| known == name) else {
            return refused(name, "it opens files or the network, or might do so".into());
        };
        for argument in split_unquoted(arguments, ':') {
            let Some((key, _)) = argument.split_once('=') else {
                return refused(name, format!("its arguments must be named, as in key=value, and `{argument}` is not"));
            };
            // With a slash before the name, FFmpeg reads the value from a file.
            let key = key.trim().trim_start_matches('/');
            if opening.contains(&key) || argument.trim_start().starts_with('/') {
                return refused(name, format!("its option {key} opens a file"));
            }
        }
    }
    // `/option=file` reads an option's value from a file, in any filter.
    let from_file = |filter: &&FilterText| split_unquoted(&filter.arguments, ':').iter().any(|part| part.trim_start().starts_with('/'));
    match chains.iter().flatten().find(from_file) {
        Some(filter) => refused(&filter.name, "an option with a slash before it is read from a file".into()),
        None => Ok(()),
    }
}

/// The first filter that moves pixels.
pub(crate) fn moving(chains: &FilterChains) -> Option<&str> {
    chains.iter().flatten().map(|filter| filter.name.as_str()).find(|name| is_listed(MOVING, name))
}

/// Filters in order, and whether each is the last of its chain.
fn split_filters(text: &str) -> Result<Vec<(String, bool)>, String> {
    let mut filters = Vec::new();
    let mut from = 0;
    for (at, character) in unquoted(text)? {
        if matches!(character, ',' | ';') {
            filters.push((text.get(from..at).unwrap_or_default().trim().to_owned(), character == ';'));
            from = at + 1;
        }
    }
    filters.push((text.get(from..).unwrap_or_default().trim().to_owned(), true));
    // A trailing semicolon is allowed.
    if filters.len() > 1 && filters.last().is_some_and(|(filter, _)| filter.is_empty()) {
        filters.pop();
    }
    match filters.iter().any(|(filter, _)| filter.is_empty()) {
        true => Err("there is an empty filter between commas".into()),
        false => Ok(filters),
    }
}

/// Characters that are neither quoted nor escaped, with their positions. Characters inside a label's brackets are
/// excluded.
fn unquoted(text: &str) -> Result<Vec<(usize, char)>, String> {
    let (mut found, mut is_quoted, mut is_escaped, mut is_label) = (Vec::new(), false, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\'' => is_quoted = !is_quoted,
            _ if is_quoted => {}
            '\\' => is_escaped = true,
            '[' => is_label = true,
            ']' => is_label = false,
            _ if !is_label => found.push((at, character)),
            _ => {}
        }
    }
    match (is_quoted, is_label) {
        (true, _) => Err("a quotation mark is not closed".into()),
        (_, true) => Err("a bracket is not closed".into()),
        _ => Ok(found),
    }
}

/// Splits at separators that are neither quoted nor escaped.
fn split_unquoted(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut from, mut is_quoted, mut is_escaped) = (0, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if is_escaped => is_escaped = false,
            '\'' => is_quoted = !is_quoted,
            '\\' if !is_quoted => is_escaped = true,
            _ if character == separator && !is_quoted => {
                parts.push(text.get(from..at).unwrap_or_default());
                from = at + separator.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(text.get(from..).unwrap_or_default());
    parts.retain(|part| !part.trim().is_empty());
    parts
}

/// Parses `[a][b]name@id=arguments[c]`.
fn parse_filter(text: &str) -> Result<FilterText, String> {
    let mut filter = FilterText::default();
    let mut rest = text;
    while let Some(inner) = rest.strip_prefix('[') {
        let (label, after) = inner.split_once(']').ok_or("a bracket is not closed")?;
        filter.inputs.push(label.trim().to_owned());
        rest = after.trim_start();
    }
    while let Some(inner) = rest.trim_end().strip_suffix(']') {
        // Brackets inside arguments are quoted or escaped.
        let (before, label) = inner.rsplit_once('[').ok_or("a bracket is not opened")?;
        if before.ends_with('\\') {
            break;
        }
        filter.outputs.insert(0, label.trim().to_owned());
        rest = before;
    }
    let rest = rest.trim();
    let (name, arguments) = rest.split_once('=').unwrap_or((rest, ""));
    let name = name.split('@').next().unwrap_or_default().trim();
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        return Err(format!("`{name}` is not the name of a filter"));
    }
    (filter.name, filter.arguments) = (name.to_owned(), unescaped(arguments));
    Ok(filter)
}

/// Removes the graph's level of quotes and backslashes, as FFmpeg's parser does before it passes arguments to a filter.
fn unescaped(text: &str) -> String {
    let mut result = String::new();
    let (mut is_quoted, mut characters) = (false, text.chars());
    while let Some(character) = characters.next() {
        match character {
            '\'' => is_quoted = !is_quoted,
            '\\' if !is_quoted => result.extend(characters.next()),
            other => result.push(other),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        parse(text).expect("a graph").into_iter().flatten().map(|filter| filter.name).collect()
    }

    #[test]
    fn a_graph_is_taken_apart() {
        let chains = parse("[in]split@s[a][b]; [a]hflip,crop=w=10:h='min(4,5)'[c];[b][c] hstack [out];").expect("a graph");
        assert_eq!(chains.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2, 1]);
        assert_eq!((&chains[0][0].inputs, &chains[0][0].outputs), (&vec!["in".to_owned()], &vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(chains[1][1].arguments, "w=10:h=min(4,5)");
        assert_eq!(names(r"drawtext=text='a, b; c\: [x]':x=4,null"), ["drawtext", "null"]);
        for (text, why) in
            [("", "empty"), ("a,,b", "empty"), ("a='x", "quotation"), ("[a hflip", "bracket"), ("b!ur=3", "not the name"), (";", "empty")]
        {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn filters_that_open_something_are_refused() {
        let check = |text: &str| check_closed(&parse(text).expect("a graph"));
        for text in [
            "hue=s=0",
            "curves=preset=vintage",
            r"drawtext=text='12\:30':fontsize=20",
            "split[a][b];[a]gblur=sigma=4[c];[b][c]overlay",
            "metadata=mode=print:key=x",
        ] {
            check(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
        for text in [
            "movie=/etc/passwd",
            "hue=s=0,subtitles=a.srt",
            "zmq",
            "sendcmd=c='0 drawtext reinit textfile=/etc/passwd'",
            "lut3d=a.cube",
            "curves=psfile=a",
            "curves=vintage",
            "drawtext=text=a:textfile=/etc/passwd",
            r"drawtext=text=a\:b:textfile=x",
            "drawtext='text=a:textfile=x'",
            "metadata=print:file=out.txt",
            "hue=/s=/etc/passwd",
            "frei0r=x",
            "frobnicate",
            "lavfi",
        ] {
            let error = check(text).expect_err(text).to_string();
            assert!(error.contains("open=yes"), "{text}: {error}");
        }
    }
}
