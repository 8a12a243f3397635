//! Which input goes to which output: never two to one, never one onto an input.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use framerail::inputs;

use super::args::BlurFacesCommand;
use crate::exit::{Failure, OUTPUT, USAGE, code_of};

/// One input and its outputs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// A file, an address, a pattern of an image sequence, or `-`.
    pub input: String,
    /// The file to write.
    pub output: PathBuf,
    /// What tells its records from those of the other inputs; empty when there is one input only.
    pub tag: String,
}

impl Job {
    /// Whether a single picture is read.
    pub fn is_picture(&self) -> bool {
        inputs::is_image(Path::new(&self.input)) && Path::new(&self.input).is_file()
    }

    /// The file of a record for this input: as named for one input, with the input's own name in it for several.
    pub fn record(&self, named: &Path) -> PathBuf {
        if self.tag.is_empty() {
            return named.to_owned();
        }
        let stem = named.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let extension = named.extension().map(|extension| format!(".{}", extension.to_string_lossy())).unwrap_or_default();
        named.with_file_name(format!("{stem}-{}{extension}", self.tag))
    }
}

/// A job for every input, and what is worth telling about them.
#[derive(Clone, Debug, Default)]
pub struct Jobs {
    /// In the order of the inputs.
    pub jobs: Vec<Job>,
    /// One line each.
    pub notes: Vec<String>,
}

/// Finds the inputs and gives each an output of its own.
///
/// # Errors
/// `INPUT` for a folder or pattern without a file, `USAGE` for one file as the output of several inputs, `OUTPUT` for an
/// output that is an input.
pub fn plan(command: &BlurFacesCommand) -> Result<Jobs, Failure> {
    let mut planned = Jobs::default();
    let found = find_inputs(&command.inputs, &mut planned.notes)?;
    let folder = output_folder(command, &found)?;
    let mut taken = HashSet::new();
    for input in &found {
        let wanted = match (&command.output, &folder) {
            (_, Some(folder)) => folder.join(output_name(input, &command.suffix)?),
            (Some(file), None) => file.clone(),
            (None, None) => beside(input, &command.suffix)?,
        };
        let output = free_name(&wanted, &taken);
        if output != wanted {
            planned.notes.push(format!("{input} is written to {}: another input has the same name", output.display()));
        }
        taken.insert(output.clone());
        let tag = if found.len() > 1 { stem(&output) } else { String::new() };
        planned.jobs.push(Job { input: input.clone(), output, tag });
    }
    refuse_inputs(&planned.jobs)?;
    make_unique(&mut planned.jobs);
    Ok(planned)
}

/// Folders and patterns become their files; what is named twice is taken once.
fn find_inputs(arguments: &[String], notes: &mut Vec<String>) -> Result<Vec<String>, Failure> {
    let mut found: Vec<String> = Vec::new();
    let mut known = HashSet::new();
    for argument in arguments {
        for input in expand(argument, notes)? {
            let place = fs::canonicalize(&input).unwrap_or_else(|_| PathBuf::from(&input));
            if known.insert(place) { found.push(input) } else { notes.push(format!("{input} is named twice and taken once")) }
        }
    }
    Ok(found)
}

fn expand(argument: &str, notes: &mut Vec<String>) -> Result<Vec<String>, Failure> {
    if argument == "cam" || argument.starts_with("<video") || argument.starts_with("/dev/video") {
        return Err(Failure::new(USAGE, format_args!("{argument}: cameras are not read yet; give a file")));
    }
    let path = Path::new(argument);
    if path.is_dir() {
        return expand_folder(argument, path, notes);
    }
    let expanded = inputs::expand_sources(&[argument]).map_err(|error| Failure::new(code_of(error.kind), error))?;
    let sources: Vec<String> = expanded.into_iter().map(|source| source.source.reveal().to_owned()).collect();
    // A pattern of pictures comes back as itself, the frames of one video; here they are single pictures.
    let is_pattern = sources == [argument] && argument.contains(['*', '?', '[']) && !argument.contains("://") && !path.exists();
    if is_pattern { Ok(matches(argument)) } else { Ok(sources) }
}

fn matches(pattern: &str) -> Vec<String> {
    let found = glob::glob(pattern).into_iter().flatten().filter_map(Result::ok);
    found.filter(|path| path.is_file()).map(|path| path.to_string_lossy().into_owned()).collect()
}

/// Every video and every picture, in the order in which `read` would take them.
fn expand_folder(argument: &str, folder: &Path, notes: &mut Vec<String>) -> Result<Vec<String>, Failure> {
    let error = |error: std::io::Error| Failure::new(crate::exit::INPUT, format_args!("{argument}: {error}"));
    let files: Vec<PathBuf> = fs::read_dir(folder).map_err(error)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let mut pictures: Vec<String> =
        files.iter().filter(|file| file.is_file() && inputs::is_image(file)).map(|file| file.to_string_lossy().into_owned()).collect();
    pictures.sort();
    let expanded = inputs::expand_sources(&[argument]).map_err(|error| Failure::new(code_of(error.kind), error))?;
    // A folder of pictures alone comes back as itself, a sequence of frames.
    let videos = expanded.into_iter().map(|source| source.source.reveal().to_owned()).filter(|source| source != argument);
    let found: Vec<String> = videos.chain(pictures).collect();
    let others = files.iter().filter(|file| file.is_file()).count().saturating_sub(found.len());
    if others > 0 {
        notes.push(format!("{argument}: {others} files are neither video nor picture and were left out"));
    }
    if files.iter().any(|file| file.is_dir()) {
        notes.push(format!("{argument}: its subfolders are not searched; name them to have them covered too"));
    }
    Ok(found)
}

/// The folder that the outputs go to, when `-o` names one.
fn output_folder(command: &BlurFacesCommand, found: &[String]) -> Result<Option<PathBuf>, Failure> {
    let Some(output) = &command.output else { return Ok(None) };
    let is_folder = output.is_dir() || output.to_string_lossy().ends_with('/');
    let of_folder = command.inputs.iter().any(|input| Path::new(input).is_dir());
    if !is_folder && found.len() == 1 && !of_folder {
        return Ok(None);
    }
    if !is_folder && (output.extension().is_some() || output.exists()) {
        let what = if of_folder { "a folder".to_owned() } else { format!("{} inputs", found.len()) };
        let words = format_args!("-o {}: {what} cannot go to one file; name a folder, such as -o blurred/", output.display());
        return Err(Failure::new(USAGE, words));
    }
    if !output.is_dir() && !command.print_pipeline {
        let words = |error: std::io::Error| {
            let text = error.to_string();
            let words = text.split(" (os error").next().unwrap_or(&text).to_lowercase();
            Failure::new(OUTPUT, format_args!("cannot make the folder {}: {words}", output.display()))
        };
        fs::create_dir(output).map_err(words)?;
    }
    Ok(Some(output.clone()))
}

/// `STEM SUFFIX .EXT` of an input.
fn output_name(input: &str, suffix: &str) -> Result<PathBuf, Failure> {
    if input == "-" || input.contains("://") || input.contains('%') && !Path::new(input).exists() {
        return Err(Failure::new(USAGE, format_args!("{input}: its output has no name; give one with -o FILE")));
    }
    let path = Path::new(input);
    let extension = path.extension().map(|extension| format!(".{}", extension.to_string_lossy())).unwrap_or_default();
    Ok(PathBuf::from(format!("{}{suffix}{extension}", stem(path))))
}

fn beside(input: &str, suffix: &str) -> Result<PathBuf, Failure> {
    Ok(Path::new(input).with_file_name(output_name(input, suffix)?))
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The name itself, or with `-2`, `-3` and so on before its extension.
fn free_name(wanted: &Path, taken: &HashSet<PathBuf>) -> PathBuf {
    let extension = wanted.extension().map(|extension| format!(".{}", extension.to_string_lossy())).unwrap_or_default();
    let numbered = (2u32..).map(|number| wanted.with_file_name(format!("{}-{number}{extension}", stem(wanted))));
    std::iter::once(wanted.to_owned()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or_else(|| wanted.to_owned())
}

/// An output must not be any of the inputs, whatever `--overwrite` says.
fn refuse_inputs(jobs: &[Job]) -> Result<(), Failure> {
    let inputs: HashSet<PathBuf> = jobs.iter().filter_map(|job| fs::canonicalize(&job.input).ok()).collect();
    match jobs.iter().find(|job| fs::canonicalize(&job.output).is_ok_and(|output| inputs.contains(&output))) {
        Some(job) => {
            Err(Failure::new(OUTPUT, format_args!("{}: output and input are the same file; choose another name", job.output.display())))
        }
        None => Ok(()),
    }
}

/// Tags follow from outputs, which may lie in several folders.
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
        let beside = |input| beside(input, "_anonymized").ok();
        assert_eq!(beside("clips/a.b.mp4").as_deref(), Some(Path::new("clips/a.b_anonymized.mp4")));
        assert_eq!(beside("noending").as_deref(), Some(Path::new("noending_anonymized")));
        assert_eq!(beside("-"), None);
        assert_eq!(beside("http://host/a.mp4"), None);
    }

    #[test]
    fn records_of_several_inputs_differ() {
        let job = |tag: &str| Job { input: String::new(), output: PathBuf::new(), tag: tag.to_owned() };
        assert_eq!(job("").record(Path::new("r/report.html")), Path::new("r/report.html"));
        assert_eq!(job("a").record(Path::new("r/report.html")), Path::new("r/report-a.html"));
    }
}
