//! Where outputs go: names with placeholders, and files that appear only once they are complete.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Component, Path, PathBuf},
};

use framerail_core::{StreamId, StreamInfo};
use framerail_media::MediaError;
use framerail_pipeline::{ErrorKind, StageError};
use tempfile::{Builder, NamedTempFile};

/// The path of a stream's output: `{name}` and `{stream}` in the template become the stream's name and number.
pub(crate) fn output_path(template: &Path, info: &StreamInfo) -> PathBuf {
    expand(template, info, None)
}

/// The address of a stream's output: as [`output_path`], the name written as addresses have it.
pub(crate) fn output_url(template: &str, info: &StreamInfo) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let encode = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    let name: String = info.name.bytes().map(encode).collect();
    template.replace("{stream}", &info.id.to_string()).replace("{name}", &name)
}

/// The path of one of many outputs of a stream: as [`output_path`], and `{index}`, or `{index:06}` for six digits, becomes a number.
pub(crate) fn indexed_path(template: &Path, info: &StreamInfo, index: u64) -> PathBuf {
    expand(template, info, Some(index))
}

/// Whether streams get files of their own.
pub(crate) fn has_stream_placeholder(template: &Path) -> bool {
    template.to_string_lossy().contains("{name}") || template.to_string_lossy().contains("{stream}")
}

/// Whether each of a stream's many files gets a name of its own.
pub(crate) fn has_index_placeholder(template: &Path) -> bool {
    template.components().any(|part| part.as_os_str().to_str().is_some_and(|text| split_index(text).is_some()))
}

fn expand(template: &Path, info: &StreamInfo, index: Option<u64>) -> PathBuf {
    let part = |component: Component<'_>| match component.as_os_str().to_str() {
        Some(text) if text.contains('{') => OsString::from(expand_part(text, info, index)),
        // Not a word of Unicode, so without placeholders of ours.
        _ => component.as_os_str().to_owned(),
    };
    template.components().map(part).collect()
}

/// Placeholders in one folder's or file's name. What replaces them cannot lead to another folder.
fn expand_part(text: &str, info: &StreamInfo, index: Option<u64>) -> String {
    // The index first: a stream may be called `{index}`.
    let with_index = match (index, split_index(text)) {
        (Some(index), Some((before, width, after))) => format!("{before}{index:0width$}{after}"),
        _ => text.to_owned(),
    };
    let name = info.name.replace(['/', '\\', '\0'], "_");
    let expanded = with_index.replace("{stream}", &info.id.to_string()).replace("{name}", &name);
    if matches!(expanded.as_str(), "." | ".." | "") { "_".to_owned() } else { expanded }
}

/// What stands before and after `{index}` or `{index:0N}`, and the number of digits.
fn split_index(text: &str) -> Option<(&str, usize, &str)> {
    let (before, rest) = text.split_once("{index")?;
    let (inside, after) = rest.split_once('}')?;
    let width = match inside.strip_prefix(":0") {
        Some(digits) => digits.parse().ok().filter(|width| *width <= 20)?,
        None if inside.is_empty() => 1,
        None => return None,
    };
    Some((before, width, after))
}

/// Sees to it that a template without placeholders is used by one stream only.
#[derive(Clone, Debug, Default)]
pub(crate) struct OneStreamGuard {
    taken_by: Option<(StreamId, String)>,
}

impl OneStreamGuard {
    /// Refuses several streams before the start, where their number is known by then.
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
    let message = format!("{who} would be written to {}; give each its own with {{name}}, such as {better}", template.display());
    StageError::new(ErrorKind::Usage, message)
}

/// Whether an output goes to standard output.
pub(crate) fn is_standard_output(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Looks for what would stop a file from being written, as far as its name is known before the first stream.
///
/// # Errors
/// `Output`: the folder is missing, the name is a folder's, or the file exists and is not to be replaced.
pub(crate) fn check_output(template: &Path, overwrite: bool) -> Result<(), StageError> {
    if is_standard_output(template) {
        return Ok(());
    }
    let folder = folder_of(template);
    if !folder.to_string_lossy().contains('{') {
        check_folder(template, folder)?;
    }
    if has_stream_placeholder(template) { Ok(()) } else { check_target(template, overwrite) }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn check_folder(path: &Path, folder: &Path) -> Result<(), StageError> {
    let problem = match fs::metadata(folder) {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => format!("{} is not a folder", folder.display()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => format!("the folder {} does not exist; create it first", folder.display()),
        Err(error) => format!("the folder {} cannot be used ({})", folder.display(), words(&error)),
    };
    Err(output_error(format!("cannot write {}: {problem}", path.display())))
}

fn check_target(path: &Path, overwrite: bool) -> Result<(), StageError> {
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => Err(output_error(format!("cannot write {}: it is a folder; name a file", path.display()))),
        Ok(found) if found.is_file() && !overwrite => Err(exists(path)),
        _ => Ok(()),
    }
}

fn exists(path: &Path) -> StageError {
    output_error(format!("{} exists; choose another name, or replace it with overwrite=true", path.display()))
}

/// Refuses to replace a stream's own source.
///
/// # Errors
/// `Output` when both are the same file.
pub(crate) fn refuse_source(path: &Path, info: &StreamInfo) -> Result<(), StageError> {
    match (fs::canonicalize(path), fs::canonicalize(info.source.reveal())) {
        (Ok(output), Ok(source)) if output == source => {
            Err(output_error(format!("{} is the input itself; choose another name", path.display())))
        }
        _ => Ok(()),
    }
}

/// A failure to write, in one line.
pub(crate) fn write_error(path: &Path, error: &io::Error) -> StageError {
    if let Some(exhausted) = MediaError::of_exhausted(path, error) {
        return StageError::new(ErrorKind::Resource, exhausted);
    }
    let message = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("no room left on the disk for {}; free some and run again", path.display())
        }
        io::ErrorKind::BrokenPipe => format!("whoever reads {} has stopped reading", path.display()),
        _ => format!("cannot write {}: {}", path.display(), words(error)),
    };
    output_error(message)
}

fn output_error(message: String) -> StageError {
    StageError::new(ErrorKind::Output, message)
}

/// The system's words without the number behind them.
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Where the bytes of an output go.
enum Target {
    /// A file beside the final one.
    Partial(NamedTempFile),
    /// A device or a named pipe, which cannot be replaced.
    Direct(File),
    StandardOutput(io::Stdout),
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Target::Partial(file) => file.write(bytes),
            Target::Direct(file) => file.write(bytes),
            Target::StandardOutput(stdout) => stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Target::Partial(file) => file.flush(),
            Target::Direct(file) => file.flush(),
            Target::StandardOutput(stdout) => stdout.flush(),
        }
    }
}

/// A file in the making; dropped without [`OutputFile::complete`], nothing of it remains. `-` is standard output.
pub(crate) struct OutputFile {
    path: PathBuf,
    overwrite: bool,
    target: BufWriter<Target>,
}

impl OutputFile {
    /// Starts a file.
    ///
    /// # Errors
    /// `Output`: the folder is missing or read-only, the file exists and is not to be replaced.
    pub(crate) fn create(path: &Path, overwrite: bool) -> Result<Self, StageError> {
        let target = if is_standard_output(path) { Target::StandardOutput(io::stdout()) } else { Self::target(path, overwrite)? };
        Ok(Self { path: path.to_owned(), overwrite, target: BufWriter::with_capacity(1 << 16, target) })
    }

    fn target(path: &Path, overwrite: bool) -> Result<Target, StageError> {
        let folder = folder_of(path);
        check_folder(path, folder)?;
        check_target(path, overwrite)?;
        if fs::metadata(path).is_ok_and(|found| !found.is_file()) {
            return File::options().write(true).open(path).map(Target::Direct).map_err(|error| write_error(path, &error));
        }
        partial_file(path, folder).map(Target::Partial).map_err(|error| write_error(path, &error))
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// `Output`, with the disk being full in plain words.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), StageError> {
        self.target.write_all(bytes).map_err(|error| write_error(&self.path, &error))
    }

    /// Hands on what is buffered.
    ///
    /// # Errors
    /// As [`OutputFile::write`].
    pub(crate) fn flush(&mut self) -> Result<(), StageError> {
        self.target.flush().map_err(|error| write_error(&self.path, &error))
    }

    /// Gives the file its final name.
    ///
    /// # Errors
    /// As [`OutputFile::write`]; also when a file of that name has appeared meanwhile and is not to be replaced.
    pub(crate) fn complete(self) -> Result<PathBuf, StageError> {
        let Self { path, overwrite, target } = self;
        let target = target.into_inner().map_err(|error| write_error(&path, error.error()))?;
        match target {
            Target::Partial(file) => persist(file, &path, overwrite)?,
            mut other => other.flush().map_err(|error| write_error(&path, &error))?,
        }
        Ok(path)
    }
}

/// A hidden file beside the final one, with the permissions that any new file gets.
fn partial_file(path: &Path, folder: &Path) -> io::Result<NamedTempFile> {
    let mut prefix = OsString::from(".");
    prefix.push(path.file_name().unwrap_or_default());
    prefix.push(".partial-");
    let mut builder = Builder::new();
    builder.prefix(&prefix);
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

fn persist(file: NamedTempFile, path: &Path, overwrite: bool) -> Result<(), StageError> {
    let result = if overwrite { file.persist(path) } else { file.persist_noclobber(path) };
    match result {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Err(exists(path)),
        Err(error) => Err(write_error(path, &error.error)),
    }
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
        assert_eq!(output_path(Path::new("-"), &stream(0, "clip")), Path::new("-"));
        assert!(has_stream_placeholder(Path::new("{stream}/x.png")) && !has_stream_placeholder(Path::new("x{index}.png")));
        assert!(has_index_placeholder(Path::new("a/{index:04}.png")) && !has_index_placeholder(Path::new("a/{index:z}.png")));
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
        assert_eq!(expanded("{name}.png", "{index}"), "{index}.png");
    }

    #[test]
    fn a_file_appears_only_when_complete() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("out.jsonl");
        let count = || fs::read_dir(folder.path()).expect("folder").count();
        let mut file = OutputFile::create(&path, false).expect("creatable");
        file.write(b"half").expect("written");
        file.flush().expect("written");
        assert!(!path.exists());
        drop(file);
        assert_eq!(count(), 0);
        let mut file = OutputFile::create(&path, false).expect("creatable");
        file.write(b"whole").expect("written");
        file.complete().expect("renamed");
        assert_eq!((fs::read(&path).expect("there"), count()), (b"whole".to_vec(), 1));
        assert!(OutputFile::create(&path, false).is_err());
        OutputFile::create(&path, true).expect("replaced").complete().expect("renamed");
        assert_eq!(fs::read(&path).expect("there"), b"");
    }

    #[test]
    fn what_appears_meanwhile_is_not_replaced() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("out.jsonl");
        let file = OutputFile::create(&path, false).expect("creatable");
        fs::write(&path, b"another's").expect("written");
        let error = file.complete().expect_err("taken");
        assert!(error.message.contains("overwrite=true"), "{error}");
        assert_eq!(fs::read(&path).expect("there"), b"another's");
    }

    #[test]
    fn every_failure_is_one_clear_line() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), b"x").expect("written");
        for (path, words) in [
            (at("no/out"), "does not exist; create it"),
            (at("file/out"), "is not a folder"),
            (at(""), "is a folder"),
            (at("file"), "exists;"),
        ] {
            let error = check_output(&path, false).expect_err("cannot be written");
            assert_eq!(error.kind, ErrorKind::Output);
            assert!(error.message.contains(words) && !error.message.contains('\n'), "{error}");
        }
        let full = write_error(Path::new("x"), &io::Error::from(io::ErrorKind::StorageFull));
        assert!(full.message.contains("no room left"), "{full}");
    }

    #[test]
    fn devices_are_written_to_and_not_replaced() {
        let mut file = OutputFile::create(Path::new("/dev/null"), false).expect("a device");
        file.write(b"x").expect("written");
        file.complete().expect("kept");
        assert!(!fs::metadata("/dev/null").expect("there").is_file());
        let mut full = OutputFile::create(Path::new("/dev/full"), false).expect("a device");
        full.write(b"x").expect("buffered");
        assert!(full.complete().expect_err("full").message.contains("no room left"));
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
