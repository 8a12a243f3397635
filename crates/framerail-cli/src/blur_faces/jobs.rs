//! Assigns an output to each input: never two inputs to one output, never an input as output.

use std::{
    collections::{BTreeSet, HashSet},
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use framerail::{
    core::{
        RunFiles,
        run_files::{file_address, local_path, resolved},
    },
    inputs, literal_path,
    media::{commit::fitting, source_files},
    presets::Review,
};

use super::args::{BlurFacesCommand, RecordArgs};
use crate::{
    exit::{Failure, OUTPUT, USAGE, code_of},
    outputs,
};

/// Part of the names of unfinished files.
const UNFINISHED: &str = ".unfinished";

/// One input and its outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// A file, an address, a pattern of an image sequence, or `-`.
    pub input: String,
    /// The file to write.
    pub output: PathBuf,
    /// The same as a target of `write`, where `{name}` has a meaning.
    pub template: String,
    /// Distinguishes its records from those of other inputs; empty for a single input.
    pub tag: String,
}

impl Job {
    /// Whether the input is a single image.
    pub fn is_image(&self) -> bool {
        inputs::is_image(Path::new(&self.input)) && Path::new(&self.input).is_file()
    }

    /// The review page, and the detections beside it.
    pub fn review(&self, named: &Path) -> Review {
        let page = self.record(named, "review.html");
        let detections = page.with_file_name(fitting(OsStr::new(&stem(&page)), ".detections", Some(OsStr::new("jsonl"))));
        Review { page, detections }
    }

    /// The record file of this input: in a folder named after the output, else as given, with the input's name in it if there are
    /// several inputs.
    pub fn record(&self, named: &Path, extension: &str) -> PathBuf {
        if is_folder(named) {
            let stem = if self.tag.is_empty() { stem(&self.output) } else { self.tag.clone() };
            return named.join(fitting(OsStr::new(&stem), "", Some(OsStr::new(extension))));
        }
        if self.tag.is_empty() {
            return named.to_owned();
        }
        let stem = format!("{}-{}", stem(named), self.tag);
        named.with_file_name(fitting(OsStr::new(&stem), "", named.extension()))
    }
}

/// Folders of pages that get an index, each once.
pub fn index_folders(records: &RecordArgs) -> BTreeSet<&Path> {
    [&records.report, &records.review].into_iter().flatten().map(PathBuf::as_path).filter(|named| is_folder(named)).collect()
}

/// Whether a name is a folder: an existing one, or one that ends in a slash.
pub fn is_folder(named: &Path) -> bool {
    named.is_dir() || named.as_os_str().as_encoded_bytes().ends_with(b"/")
}

/// A job for every input, and notices about them.
#[derive(Clone, Debug, Default)]
pub struct Jobs {
    /// In the order of the inputs.
    pub jobs: Vec<Job>,
    /// One line each.
    pub notes: Vec<String>,
    /// Every file that any of the jobs reads or writes.
    pub files: RunFiles,
}

/// Finds the inputs and gives each a separate output.
///
/// # Errors
/// `INPUT` for a folder or pattern without a file, `USAGE` for one file as the output of several inputs, `OUTPUT` for an
/// output that is an input or another output.
pub fn plan(command: &BlurFacesCommand) -> Result<Jobs, Failure> {
    let mut planned = Jobs::default();
    let found = find_inputs(&command.inputs, &mut planned.notes)?;
    let folder = output_folder(command, &found)?;
    let found = without_own_outputs(found, folder.as_deref(), &command.suffix, &mut planned.notes);
    let mut taken = HashSet::new();
    for Found { source: input, .. } in &found {
        let (wanted, is_derived) = match (&command.output, &folder) {
            (_, Some(folder)) => (folder.join(output_name(input, &command.suffix)?), true),
            (Some(file), None) => (file.clone(), false),
            (None, None) => (beside(input, &command.suffix)?, true),
        };
        let output = free_name(&wanted, &taken);
        if output != wanted {
            planned.notes.push(format!("{input} is written to {}: another input has the same name", output.display()));
        }
        taken.insert(output.clone());
        let tag = if found.len() > 1 { stem(&output) } else { String::new() };
        let template = file_address(&if is_derived { literal_path(&output) } else { output.clone() });
        planned.jobs.push(Job { input: input.clone(), output, template, tag });
    }
    make_unique(&mut planned.jobs);
    claim(command, &planned)?;
    if command.skip_existing {
        let before = planned.jobs.len();
        planned.jobs.retain(|job| fs::symlink_metadata(&job.output).is_err());
        let skipped = before - planned.jobs.len();
        if skipped > 0 {
            planned.notes.push(format!("{skipped} of {before} inputs already have an output and are skipped"));
        }
    }
    Ok(planned)
}

/// Registers everything that is read and written, to detect conflicts.
fn claim(command: &BlurFacesCommand, planned: &Jobs) -> Result<(), Failure> {
    let files = &planned.files;
    let refused = |error| Failure::new(OUTPUT, error);
    planned.jobs.iter().flat_map(|job| source_files(&job.input)).try_for_each(|file| files.read(&file)).map_err(refused)?;
    let records = &command.records;
    for job in &planned.jobs {
        let record = |named: &Option<PathBuf>, extension| named.as_deref().map(|named| job.record(named, extension));
        let written = [
            Some(job.output.clone()),
            record(&records.report, "html"),
            record(&records.contact_sheet, "png"),
            record(&records.save, "jsonl"),
            records.review.as_deref().map(|named| job.review(named).page),
            records.review.as_deref().map(|named| job.review(named).detections),
            record(&command.run.graph, "svg"),
        ];
        written.iter().flatten().try_for_each(|file| files.write(file)).map_err(refused)?;
    }
    for folder in index_folders(records) {
        files.write(&folder.join(super::reports::INDEX)).map_err(refused)?;
    }
    match &command.run.stats {
        Some(path) if !command.print_pipeline => outputs::claim(path, command.overwrite, files),
        _ => Ok(()),
    }
}

/// An input.
struct Found {
    source: String,
    /// Found in a folder or by a pattern rather than named.
    is_listed: bool,
}

/// Expands folders and patterns; duplicates are processed once.
fn find_inputs(arguments: &[String], notes: &mut Vec<String>) -> Result<Vec<Found>, Failure> {
    let mut found: Vec<Found> = Vec::new();
    let mut known = HashSet::new();
    for argument in arguments {
        for source in expand(argument, notes)? {
            let place = local_path(&source).map_or_else(|| PathBuf::from(&source), |path| resolved(&path));
            let is_listed = source != *argument;
            if known.insert(place) {
                found.push(Found { source, is_listed });
            } else {
                notes.push(format!("{source} is given twice and processed once"));
            }
        }
    }
    Ok(found)
}

/// Leaves out outputs of an earlier run: files of a folder or pattern that are the outputs of others.
fn without_own_outputs(found: Vec<Found>, folder: Option<&Path>, suffix: &str, notes: &mut Vec<String>) -> Vec<Found> {
    let output = |found: &Found| match folder {
        Some(folder) => output_name(&found.source, suffix).ok().map(|name| folder.join(name)),
        None => beside(&found.source, suffix).ok(),
    };
    let outputs: HashSet<PathBuf> = found.iter().filter_map(output).map(|path| resolved(&path)).collect();
    let is_own = |found: &Found| {
        let Some(path) = local_path(&found.source).filter(|_| found.is_listed) else { return false };
        outputs.contains(&resolved(&whole_name(&path)))
    };
    let before = found.len();
    let (own, found): (Vec<_>, Vec<_>) = found.into_iter().partition(is_own);
    if !own.is_empty() {
        let names: Vec<&str> = own.iter().take(3).map(|own| own.source.as_str()).collect();
        let more = own.len().saturating_sub(names.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        notes.push(format!("{} of {before} files are outputs of an earlier run and are skipped: {}{more}", own.len(), names.join(", ")));
    }
    found
}

/// `x.mp4` for `x.unfinished.mp4` and `x.unfinished-2.mp4`.
fn whole_name(path: &Path) -> PathBuf {
    let stem = stem(path);
    let Some((whole, number)) = stem.rsplit_once(UNFINISHED) else { return path.to_owned() };
    if !number.is_empty() && !number.strip_prefix('-').is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())) {
        return path.to_owned();
    }
    path.with_file_name(fitting(OsStr::new(whole), "", path.extension()))
}

fn expand(argument: &str, notes: &mut Vec<String>) -> Result<Vec<String>, Failure> {
    if argument == "cam" || argument.starts_with("<video") || argument.starts_with("/dev/video") {
        return Err(Failure::new(USAGE, format_args!("{argument}: cameras are not supported; give a file")));
    }
    let path = Path::new(argument);
    if path.is_dir() {
        return expand_folder(argument, path, notes);
    }
    let expanded = inputs::expand_sources(&[argument]).map_err(|error| Failure::new(code_of(error.kind), error))?;
    let sources: Vec<String> = expanded.into_iter().map(|source| source.source.reveal().to_owned()).collect();
    // An image pattern is one video for `read`; here its files are single images.
    let is_pattern = sources == [argument] && argument.contains(['*', '?', '[']) && !argument.contains("://") && !path.exists();
    if is_pattern { Ok(matches(argument)) } else { Ok(sources) }
}

fn matches(pattern: &str) -> Vec<String> {
    inputs::matching(pattern).unwrap_or_default().iter().map(|path| file_address(path)).collect()
}

/// Every video and image, in the order of `read`.
fn expand_folder(argument: &str, folder: &Path, notes: &mut Vec<String>) -> Result<Vec<String>, Failure> {
    let error = |error: std::io::Error| Failure::new(crate::exit::INPUT, format_args!("{argument}: {error}"));
    let files: Vec<PathBuf> = fs::read_dir(folder).map_err(error)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let mut images: Vec<String> =
        files.iter().filter(|file| file.is_file() && inputs::is_image(file)).map(|file| file_address(file)).collect();
    images.sort();
    let expanded = inputs::expand_sources(&[argument]).map_err(|error| Failure::new(code_of(error.kind), error))?;
    // A folder of images only is one sequence for `read`.
    let videos = expanded.into_iter().map(|source| source.source.reveal().to_owned()).filter(|source| source != argument);
    let mut found: Vec<String> = videos.collect();
    let known: HashSet<String> = found.iter().cloned().collect();
    found.extend(images.into_iter().filter(|image| !known.contains(image)));
    let taken: HashSet<PathBuf> = found.iter().filter_map(|source| local_path(source)).map(|path| resolved(&path)).collect();
    let is_hidden = |file: &Path| file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let mut others: Vec<String> = files
        .iter()
        .filter(|file| file.is_file() && !is_hidden(file) && !taken.contains(&resolved(file)))
        .map(|file| file.file_name().unwrap_or_default().to_string_lossy().into_owned())
        .collect();
    if !others.is_empty() {
        others.sort();
        let (count, shown) = (others.len(), others.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", "));
        let more = if count > 3 { format!(" and {} more", count - 3) } else { String::new() };
        let (files, are) = if count == 1 { ("file is", "was") } else { ("files are", "were") };
        notes.push(format!("{argument}: {count} {files} neither video nor image and {are} skipped: {shown}{more}"));
    }
    if files.iter().any(|file| file.is_dir()) {
        notes.push(format!("{argument}: subfolders are not searched; name them to include them"));
    }
    Ok(found)
}

/// The output folder, if `-o` names one.
fn output_folder(command: &BlurFacesCommand, found: &[Found]) -> Result<Option<PathBuf>, Failure> {
    let Some(output) = &command.output else { return Ok(None) };
    let is_folder = is_folder(output);
    let of_folder = command.inputs.iter().any(|input| Path::new(input).is_dir());
    if !is_folder && found.len() == 1 && !of_folder {
        return Ok(None);
    }
    if !is_folder && (output.extension().is_some() || output.exists()) {
        let what = if of_folder { "a folder".to_owned() } else { format!("{} inputs", found.len()) };
        let words = format_args!("-o {}: {what} cannot be written to one file; name a folder, such as -o blurred/", output.display());
        return Err(Failure::new(USAGE, words));
    }
    Ok(Some(output.clone()))
}

/// `STEM SUFFIX .EXT` of an input; image formats that cannot be written become PNG.
fn output_name(input: &str, suffix: &str) -> Result<PathBuf, Failure> {
    let path = local_path(input).filter(|path| !input.contains('%') || path.exists());
    let Some(path) = path else {
        return Err(Failure::new(USAGE, format_args!("{input}: its output has no name; give one with -o FILE")));
    };
    let is_written = |ending: &OsStr| ["png", "jpg", "jpeg"].iter().any(|known| ending.eq_ignore_ascii_case(known));
    let extension = path.extension().map(|ending| if inputs::is_image(&path) && !is_written(ending) { OsStr::new("png") } else { ending });
    Ok(fitting(OsStr::new(&stem(&path)), suffix, extension).into())
}

fn beside(input: &str, suffix: &str) -> Result<PathBuf, Failure> {
    let name = output_name(input, suffix)?;
    Ok(local_path(input).unwrap_or_default().with_file_name(name))
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The name itself, or with `-2`, `-3` and so on before its extension.
fn free_name(wanted: &Path, taken: &HashSet<PathBuf>) -> PathBuf {
    let stem = stem(wanted);
    let numbered = (2u32..).map(|number| wanted.with_file_name(fitting(OsStr::new(&stem), &format!("-{number}"), wanted.extension())));
    std::iter::once(wanted.to_owned()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or_else(|| wanted.to_owned())
}

/// Record names follow from outputs, which may be in several folders.
fn make_unique(jobs: &mut [Job]) {
    let mut taken = HashSet::new();
    for job in jobs.iter_mut().filter(|job| !job.tag.is_empty()) {
        let free = free_name(Path::new(&job.tag), &taken);
        taken.insert(free.clone());
        job.tag = free.to_string_lossy().into_owned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_taken_get_a_number() {
        let taken: HashSet<PathBuf> = ["out/a_anonymized.mp4", "out/a_anonymized-2.mp4"].map(PathBuf::from).into();
        assert_eq!(free_name(Path::new("out/a_anonymized.mp4"), &taken), Path::new("out/a_anonymized-3.mp4"));
        assert_eq!(free_name(Path::new("out/b.mp4"), &taken), Path::new("out/b.mp4"));
    }

    #[test]
    fn outputs_lie_beside_their_inputs() {
        let beside = |input: &str| beside(input, "_anonymized").ok();
        assert_eq!(beside("clips/a.b.mp4").as_deref(), Some(Path::new("clips/a.b_anonymized.mp4")));
        assert_eq!(beside("noending").as_deref(), Some(Path::new("noending_anonymized")));
        assert_eq!(beside("clips/a.bmp").as_deref(), Some(Path::new("clips/a_anonymized.png")));
        assert_eq!(beside(&"n".repeat(250)).map(|path| path.as_os_str().len()), Some(255));
        assert_eq!(beside("-"), None);
        assert_eq!(beside("http://host/a.mp4"), None);
    }

    #[test]
    fn unfinished_files_belong_to_their_outputs() {
        let whole = |name| whole_name(Path::new(name));
        assert_eq!(whole("o/a_anonymized.unfinished.mp4"), Path::new("o/a_anonymized.mp4"));
        assert_eq!(whole("a.unfinished-12.mp4"), Path::new("a.mp4"));
        assert_eq!(whole("a.unfinished-x.mp4"), Path::new("a.unfinished-x.mp4"));
        assert_eq!(whole("a.mp4"), Path::new("a.mp4"));
    }

    #[test]
    fn records_of_several_inputs_differ() {
        let job = |tag: &str| Job { input: String::new(), output: "o/x.mp4".into(), template: String::new(), tag: tag.to_owned() };
        let record = |tag, named: &str| job(tag).record(Path::new(named), "html");
        assert_eq!(record("", "r/report.html"), Path::new("r/report.html"));
        assert_eq!(record("a", "r/report.html"), Path::new("r/report-a.html"));
        assert_eq!(record("a", "r/"), Path::new("r/a.html"));
        assert_eq!(record("", "r/"), Path::new("r/x.html"));
    }
}
