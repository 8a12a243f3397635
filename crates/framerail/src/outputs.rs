//! Output names: placeholders, and checks against all other files of the run.

use std::{
    io::{self, Write},
    path::{Component, Path, PathBuf},
    sync::Once,
};

use framerail_core::{Frame, StreamId, StreamInfo};
use framerail_media::{
    Committed, Elsewhere, Ending, Leftover, MediaError, OutputRules,
    commit::{self, fitting},
    object::{self, restored},
};
use framerail_pipeline::{ErrorKind, StageContext, StageError};

use crate::convert::output_error;

pub(crate) use framerail_media::commit::is_standard_output;

/// Maximum length of a file or folder name in bytes.
const MAX_NAME_BYTES: usize = 255;

/// A part of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    Name,
    Stream,
    /// The frame's number, padded to at least this many digits.
    Index(usize),
}

/// Parses a template. `{{` is a brace; braces around anything else stay unchanged.
fn parts(text: &str) -> Vec<Part<'_>> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let brace = rest.find('{').unwrap_or(rest.len());
        let (before, from) = rest.split_at(brace);
        if !before.is_empty() {
            parts.push(Part::Text(before));
        }
        let (part, length) = placeholder(from);
        parts.extend(part);
        rest = from.get(length..).unwrap_or_default();
    }
    parts
}

/// The placeholder at the start of a text, and its length in bytes.
fn placeholder(text: &str) -> (Option<Part<'_>>, usize) {
    if text.is_empty() {
        return (None, 0);
    }
    if text.starts_with("{{") {
        return (Some(Part::Text("{")), 2);
    }
    let inside = text.get(1..).and_then(|rest| rest.split_once('}')).map_or("", |(inside, _)| inside);
    let part = match inside {
        "name" => Some(Part::Name),
        "stream" => Some(Part::Stream),
        "index" => Some(Part::Index(1)),
        other => other.strip_prefix("index:0").and_then(|digits| digits.parse().ok()).filter(|width| *width <= 20).map(Part::Index),
    };
    match part {
        Some(part) => (Some(part), inside.len() + 2),
        None => (text.get(..1).map(Part::Text), 1),
    }
}

/// Escapes a name from an input, so that nothing in it is a placeholder.
pub fn literal_name(name: &str) -> String {
    name.replace('{', "{{")
}

/// Escapes a path that is used as a template, so that nothing in it is a placeholder. Parts that are not Unicode have none.
pub fn literal_path(path: &Path) -> PathBuf {
    let part = |component: Component<'_>| match component.as_os_str().to_str() {
        Some(text) => literal_name(text).into(),
        None => component.as_os_str().to_owned(),
    };
    path.components().map(part).collect()
}

/// The path of a stream's output: `{name}` and `{stream}` become the stream's name and number.
pub(crate) fn output_path(template: &Path, info: &StreamInfo) -> PathBuf {
    expand(template, info, None)
}

/// The URL of a stream's output: as [`output_path`], with the name percent-encoded.
pub(crate) fn output_url(template: &str, info: &StreamInfo) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    let name: String = info.name.bytes().map(encode).collect();
    expand_text(template, &name, info.id, None)
}

/// The path of one of many outputs of a stream: as [`output_path`], and `{index}`, or `{index:06}` for six digits, becomes a number.
pub(crate) fn indexed_path(template: &Path, info: &StreamInfo, index: u64) -> PathBuf {
    expand(template, info, Some(index))
}

fn has(template: &Path, wanted: impl Fn(&Part<'_>) -> bool) -> bool {
    template.components().any(|part| part.as_os_str().to_str().is_some_and(|text| parts(text).iter().any(&wanted)))
}

/// Whether each stream gets a separate file.
pub(crate) fn has_stream_placeholder(template: &Path) -> bool {
    has(template, |part| matches!(part, Part::Name | Part::Stream))
}

/// The template for one of many files, with a number: `-{index:04}` before the extension if there is none.
pub(crate) fn numbered_path(path: &Path) -> PathBuf {
    if has_index_placeholder(path) {
        return path.to_owned();
    }
    let (stem, ending) = (stem(path).to_string_lossy(), path.extension().map(|ending| ending.to_string_lossy()));
    path.with_file_name(format!("{stem}-{{index:04}}{}", ending.map(|ending| format!(".{ending}")).unwrap_or_default()))
}

/// Whether each of a stream's files gets a separate name.
pub(crate) fn has_index_placeholder(template: &Path) -> bool {
    has(template, |part| matches!(part, Part::Index(_)))
}

fn expand(template: &Path, info: &StreamInfo, index: Option<u64>) -> PathBuf {
    // Replacements cannot lead to another folder.
    let name = info.name.replace(['/', '\\', '\0'], "_");
    let part = |component: Component<'_>| match component.as_os_str().to_str() {
        Some(text) if text.contains('{') => {
            let expanded = expand_text(text, &name, info.id, index);
            let expanded = if matches!(expanded.as_str(), "." | ".." | "") { "_".to_owned() } else { expanded };
            if expanded.len() <= MAX_NAME_BYTES {
                return expanded.into();
            }
            let path = Path::new(&expanded);
            fitting(path.file_stem().unwrap_or_default(), "", path.extension())
        }
        // Not Unicode, so it has no placeholders.
        _ => component.as_os_str().to_owned(),
    };
    restored(template.components().map(part).collect())
}

fn expand_text(text: &str, name: &str, id: StreamId, index: Option<u64>) -> String {
    let mut expanded = String::with_capacity(text.len());
    for part in parts(text) {
        match (part, index) {
            (Part::Text(text), _) => expanded.push_str(text),
            (Part::Name, _) => expanded.push_str(name),
            (Part::Stream, _) => expanded.push_str(&id.to_string()),
            (Part::Index(width), Some(index)) => expanded.push_str(&format!("{index:0width$}")),
            (Part::Index(1), None) => expanded.push_str("{index}"),
            (Part::Index(width), None) => expanded.push_str(&format!("{{index:0{width}}}")),
        }
    }
    expanded
}

/// Ensures that only one stream uses a template without placeholders.
#[derive(Clone, Debug, Default)]
pub(crate) struct OneStreamGuard {
    taken_by: Option<(StreamId, String)>,
}

impl OneStreamGuard {
    /// Refuses several streams before the start, if their number is known.
    pub(crate) fn check_count(template: &Path, streams: Option<usize>) -> Result<(), StageError> {
        match streams {
            Some(count) if count > 1 && !has_stream_placeholder(template) => {
                Err(one_for_each(template, format_args!("all {count} streams")))
            }
            _ => Ok(()),
        }
    }

    /// Refuses a second stream.
    pub(crate) fn admit(&mut self, template: &Path, info: &StreamInfo) -> Result<(), StageError> {
        match &self.taken_by {
            Some((id, name)) if *id != info.id && !has_stream_placeholder(template) => {
                Err(one_for_each(template, format_args!("both {name} and {}", info.name)))
            }
            Some(_) => Ok(()),
            None => {
                self.taken_by = Some((info.id, info.name.clone()));
                Ok(())
            }
        }
    }
}

fn one_for_each(template: &Path, who: std::fmt::Arguments<'_>) -> StageError {
    let better = match (template.file_stem(), template.extension()) {
        (Some(stem), Some(extension)) => format!("{{name}}-{}.{}", stem.to_string_lossy(), extension.to_string_lossy()),
        _ => format!("{}-{{name}}", template.display()),
    };
    let message = format!("{who} would be written to {}; use {{name}} to give each its own file, such as {better}", template.display());
    StageError::new(ErrorKind::Usage, message)
}

/// Checks what could prevent a file from being written, as far as its name is known before the first stream, and registers it as an
/// output of the run.
///
/// # Errors
/// `Output`: the name is a folder's, the file is an input or another output of the run, or exists and is not to be replaced.
pub(crate) fn link_output(template: &Path, rules: &OutputRules) -> Result<(), StageError> {
    if is_standard_output(template) {
        return Ok(());
    }
    let is_fixed =
        |part: &Component<'_>| part.as_os_str().to_str().is_none_or(|text| parts(text).iter().all(|part| matches!(part, Part::Text(_))));
    let folder: PathBuf = template.components().take_while(is_fixed).collect();
    if object::address_of(template).is_some() && folder.components().count() < 2 {
        let message = format!("{}: a bucket's name cannot hold a placeholder", template.display());
        return Err(StageError::new(ErrorKind::Usage, message));
    }
    if folder == template.components().collect::<PathBuf>() {
        let path = expand_braces(template);
        commit::check(&path, rules).map_err(output_error)?;
        return rules.files.write(&path).map_err(|error| output_error(error.into()));
    }
    commit::check_folder(template, &expand_braces(&folder)).map_err(output_error)?;
    // Two outputs with the same placeholders would collide for each stream.
    rules.files.write(template).map_err(|error| output_error(error.into()))
}

/// A template without placeholders as a path.
fn expand_braces(template: &Path) -> PathBuf {
    let part = |component: Component<'_>| match component.as_os_str().to_str() {
        Some(text) => text.replace("{{", "{").into(),
        None => component.as_os_str().to_owned(),
    };
    restored(template.components().map(part).collect())
}

/// The path of a stream's output, registered as an output of the run.
///
/// # Errors
/// `Output` when it is an input or another output of the run.
pub(crate) fn claim_output(template: &Path, info: &StreamInfo, rules: &OutputRules) -> Result<PathBuf, StageError> {
    let path = output_path(template, info);
    // Names without placeholders were registered while linking.
    if has_stream_placeholder(template) {
        rules.files.write(&path).map_err(|error| output_error(error.into()))?;
    }
    Ok(path)
}

/// How a stage's files are completed: those of a stopped run do not replace existing ones. A live source always ends by being stopped,
/// so its file counts as complete; a paced file has an end.
pub(crate) fn ending(context: Option<&StageContext>, ends_by_stop: bool) -> Ending {
    let is_stopped = context.is_some_and(|context| context.stop_token().is_cancelled());
    if is_stopped && !ends_by_stop { Ending::Stopped } else { Ending::Whole }
}

/// Whether a stream ends only when it is stopped.
pub(crate) fn ends_by_stop(is_live: bool, info: &StreamInfo) -> bool {
    is_live && info.duration_secs.is_none()
}

/// Files of a stage that are complete but could not be renamed: reported at once, and an error when the stage ends.
#[derive(Debug, Default)]
pub(crate) struct Misplaced {
    first: Option<String>,
    more: u64,
}

impl Misplaced {
    /// Reports the location of a file.
    pub(crate) fn note(&mut self, wanted: &Path, lies: &Path, elsewhere: Option<&Elsewhere>, context: Option<&StageContext>) {
        let Some(elsewhere) = elsewhere else { return };
        if let Some(context) = context {
            context.notice(elsewhere.notice());
        }
        if matches!(elsewhere, Elsewhere::Taken(_)) {
            self.more += u64::from(self.first.is_some());
            let words = || format!("{} could not be renamed; it is complete and is kept as {}", wanted.display(), lies.display());
            self.first.get_or_insert_with(words);
        }
    }

    /// An error if there were any.
    ///
    /// # Errors
    /// `Output`.
    pub(crate) fn end(&self) -> Result<(), StageError> {
        match (&self.first, self.more) {
            (None, _) => Ok(()),
            (Some(first), 0) => Err(StageError::new(ErrorKind::Output, first)),
            (Some(first), more) => Err(StageError::new(ErrorKind::Output, format!("{first}; {more} more likewise"))),
        }
    }
}

/// Reports the part that was kept of an unfinished output.
pub(crate) fn note_unfinished(path: &Path, kept: Option<PathBuf>, context: Option<&StageContext>) {
    if let (Some(kept), Some(context)) = (kept, context) {
        context.notice(format_args!("{} is not finished; the data written so far is kept as {}", path.display(), kept.display()));
    }
}

/// Reports once that EXIF data of still images is not written.
pub(crate) fn note_exif(frame: &Frame, context: Option<&StageContext>, once: &Once) {
    if let Some(context) = context.filter(|_| frame.still.as_ref().is_some_and(|still| still.has_exif)) {
        let words = "EXIF data of images are left out, their orientation is applied: they may name a place and hold an earlier preview";
        once.call_once(|| context.notice(words));
    }
}

/// A failure to write, as one line.
pub(crate) fn write_error(path: &Path, error: &io::Error) -> StageError {
    output_error(MediaError::of_io(path, error))
}

/// An unfinished file, with errors of stages; removed when dropped without [`OutputFile::complete`].
pub(crate) struct OutputFile(commit::OutputFile);

impl OutputFile {
    /// Creates a file; leftovers of killed runs are reported.
    ///
    /// # Errors
    /// `Output`.
    pub(crate) fn create(path: &Path, rules: &OutputRules, context: Option<&StageContext>) -> Result<Self, StageError> {
        let file = commit::OutputFile::create(path, rules).map_err(output_error)?;
        if let Some(context) = context {
            file.notes().iter().for_each(|note| context.notice(note));
        }
        Ok(Self(file))
    }

    /// Whether another program may read the file concurrently.
    pub(crate) fn has_reader(&self) -> bool {
        self.0.has_reader()
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// `Output`.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        self.0.write_all(bytes).map_err(|error| output_error(self.0.error(&error)))
    }

    /// Flushes buffered data.
    ///
    /// # Errors
    /// `Output`.
    pub(crate) fn flush(&mut self) -> Result<(), StageError> {
        self.0.flush().map_err(|error| output_error(self.0.error(&error)))
    }

    /// Renames the file to its final name.
    ///
    /// # Errors
    /// `Output`.
    pub(crate) fn complete(self, ending: Ending) -> Result<Committed, StageError> {
        self.0.complete(ending).map_err(output_error)
    }

    /// Keeps the part written so far under a free name.
    pub(crate) fn keep_unfinished(mut self) -> Option<PathBuf> {
        self.0.set_leftover(Leftover::KeepLines);
        self.0.keep_unfinished()
    }
}

/// Creates the folder of a file if it is missing.
///
/// # Errors
/// `Output`.
#[cfg(feature = "parquet")]
pub(crate) fn make_folder(folder: &Path) -> Result<(), StageError> {
    commit::make_folder(folder).map(|_| ()).map_err(output_error)
}

/// A file's name without its extension, for derived names.
pub(crate) fn stem(path: &Path) -> &std::ffi::OsStr {
    path.file_stem().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use framerail_core::{ColorDescription, PixelFormat, Rotation, TimeBase};

    use super::*;

    fn stream(id: u32, name: &str) -> StreamInfo {
        StreamInfo {
            id: StreamId(id),
            source: "in.mp4".into(),
            name: name.into(),
            codec: String::new(),
            container: String::new(),
            width: 16,
            height: 16,
            pixel_format: PixelFormat::Gray8,
            sample_aspect_ratio: None,
            color: ColorDescription::default(),
            rotation: Rotation::None,
            time_base: TimeBase::MICROS,
            frame_rate: None,
            start_offset_micros: 0,
            duration_secs: None,
            frames_estimate: None,
            bit_rate: None,
            metadata: Vec::new(),
            hdr: framerail_core::HdrMetadata::default(),
            field_order: framerail_core::FieldOrder::default(),
            not_delivered: Vec::new(),
            side_streams: Vec::new(),
        }
    }

    fn expanded(template: &str, name: &str) -> String {
        indexed_path(Path::new(template), &stream(3, name), 42).display().to_string()
    }

    #[test]
    fn placeholders_are_replaced() {
        assert_eq!(output_path(Path::new("out/{stream}/{name}.mp4"), &stream(3, "clip")), Path::new("out/3/clip.mp4"));
        assert_eq!(expanded("{name}-{index:06}.png", "clip"), "clip-000042.png");
        assert_eq!(expanded("/tmp/{index}/{name}.png", "clip"), "/tmp/42/clip.png");
        assert_eq!(expanded("{other}{index:x}{index:099}.png", "clip"), "{other}{index:x}{index:099}.png");
        assert_eq!(output_path(Path::new("{name}-{index:04}"), &stream(0, "a")), Path::new("a-{index:04}"));
        assert_eq!(output_path(Path::new("-"), &stream(0, "clip")), Path::new("-"));
        assert_eq!(output_path(Path::new("s3://bucket/a/{name}.mp4"), &stream(0, "clip")), Path::new("s3://bucket/a/clip.mp4"));
        assert!(has_stream_placeholder(Path::new("{stream}/x.png")) && !has_stream_placeholder(Path::new("x{index}.png")));
        assert!(has_index_placeholder(Path::new("a/{index:04}.png")) && !has_index_placeholder(Path::new("a/{index:z}.png")));
    }

    #[test]
    fn names_of_inputs_hold_no_placeholders() {
        for name in ["{stream}", "{name}", "{index:06}", "{{name}", "a{", "{}", "{{{stream}}}"] {
            let template = PathBuf::from(format!("out/{}.png", literal_name(name)));
            assert!(!has_stream_placeholder(&template) && !has_index_placeholder(&template), "{name}");
            assert_eq!(indexed_path(&template, &stream(3, "clip"), 42), Path::new("out").join(format!("{name}.png")));
            // Used as a stream's name.
            assert_eq!(expanded("out/{name}.png", name), format!("out/{name}.png"));
        }
    }

    #[test]
    fn a_name_leads_to_no_other_place_of_a_server() {
        let url = |name| output_url("rtsp://host:8554/{stream}/{name}", &stream(3, name));
        assert_eq!(url("door-1"), "rtsp://host:8554/3/door-1");
        assert_eq!(url("../a b?x"), "rtsp://host:8554/3/..%2Fa%20b%3Fx");
    }

    #[test]
    fn a_name_leads_to_no_other_folder() {
        assert_eq!(expanded("out/{name}", "../../etc/passwd"), "out/.._.._etc_passwd");
        assert_eq!(expanded("out/{name}/x", ".."), "out/_/x");
        assert_eq!(expanded("{name}.png", &"n".repeat(300)).len(), 255);
    }

    #[test]
    fn every_failure_is_one_clear_line() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), b"x").expect("written");
        std::fs::write(at("in.mp4"), b"x").expect("written");
        let rules = OutputRules::default();
        rules.files.read(&at("in.mp4")).expect("first");
        link_output(&at("new/{name}.jsonl"), &rules).expect("free");
        link_output(Path::new("{name}-of-this-test.jsonl"), &rules).expect("in the current folder");
        for (path, words) in [
            (at("file/out"), "is not a folder"),
            (at("file/{name}"), "is not a folder"),
            (at(""), "is a folder"),
            (at("file"), "exists;"),
            (at("in.mp4"), "output and input are the same file"),
            (at("new/{name}.jsonl"), "two outputs of this run"),
        ] {
            let error = link_output(&path, &rules).expect_err("cannot be written");
            assert_eq!(error.kind, ErrorKind::Output);
            assert!(error.message.contains(words) && !error.message.contains('\n'), "{error}");
        }
        let full = write_error(Path::new("x"), &io::Error::from_raw_os_error(28));
        assert!(full.message.contains("no space left"), "{full}");
    }

    #[test]
    fn two_streams_never_share_a_file() {
        let mut guard = OneStreamGuard::default();
        let template = Path::new("out.mp4");
        guard.admit(template, &stream(0, "a")).expect("the first");
        guard.admit(template, &stream(0, "a")).expect("the same again");
        let error = guard.admit(template, &stream(1, "b")).expect_err("a second");
        assert!(error.message.contains("both a and b") && error.message.contains("{name}-out.mp4"), "{error}");
        guard.admit(Path::new("{name}.mp4"), &stream(1, "b")).expect("its own file");
        assert!(OneStreamGuard::check_count(template, Some(2)).is_err());
        assert!(OneStreamGuard::check_count(template, Some(1)).is_ok() && OneStreamGuard::check_count(template, None).is_ok());
    }
}
