//! Lists of images as a video: folders, numbered patterns, globs, single images.

use std::{
    ffi::CString,
    fs,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use crate::{InputOptions, MediaError, still::Moving};

/// File name extensions that are read as still images, in lower case.
pub const IMAGE_ENDINGS: &[&str] = &[
    "avif", "bmp", "dpx", "exr", "hdr", "jp2", "jpeg", "jpg", "jxl", "pam", "pbm", "pcx", "pgm", "png", "pnm", "ppm", "qoi", "sgi", "tga",
    "tif", "tiff", "webp",
];

/// Images in order.
pub(crate) struct ImageList {
    pub(crate) paths: Vec<PathBuf>,
    /// Numbers missing between the first and the last of a numbered pattern.
    pub(crate) missing: u64,
    pub(crate) next: usize,
}

impl ImageList {
    /// As [`ImageList::of`], unless options state another kind of source.
    pub(crate) fn of_options(options: &InputOptions) -> Result<Option<Self>, MediaError> {
        if options.format.is_none() && options.custom.is_none() { Self::of(options.source.reveal()) } else { Ok(None) }
    }

    /// The images of a source; `None` if it is not a list of images.
    ///
    /// # Errors
    /// `NoVideo` for a folder or pattern without images.
    pub(crate) fn of(source: &str) -> Result<Option<Self>, MediaError> {
        let path = Path::new(source);
        if path.is_dir() {
            return Self::of_folder(source, path).map(Some);
        }
        if path.exists() {
            let is_still = is_image(path) && Moving::of_file(path).is_none();
            return Ok(is_still.then(|| Self::new(vec![path.to_owned()], 0)));
        }
        if source.contains("://") {
            return Ok(None);
        }
        if let Some(pattern) = NumberPattern::parse(source) {
            return pattern.list(source).map(Some);
        }
        if source.contains(['*', '?', '[']) {
            return Self::of_glob(source).map(Some);
        }
        Ok(None)
    }

    fn new(paths: Vec<PathBuf>, missing: u64) -> Self {
        Self { paths, missing, next: 0 }
    }

    fn of_folder(source: &str, folder: &Path) -> Result<Self, MediaError> {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder)
            .map_err(|error| MediaError::io(folder, &error))?
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| is_image(path) && path.is_file())
            .collect();
        sort_naturally(&mut paths);
        Self::not_empty(source, "a folder without images", paths, 0)
    }

    fn of_glob(source: &str) -> Result<Self, MediaError> {
        let mut paths: Vec<PathBuf> = expand_glob(source).into_iter().filter(|path| path.is_file()).collect();
        sort_naturally(&mut paths);
        Self::not_empty(source, "a pattern that no file matches", paths, 0)
    }

    fn not_empty(source: &str, found: &str, paths: Vec<PathBuf>, missing: u64) -> Result<Self, MediaError> {
        if paths.is_empty() {
            return Err(MediaError::NoVideo { source_name: source.to_owned(), found: found.to_owned() });
        }
        Ok(Self::new(paths, missing))
    }
}

/// Whether a file name has the extension of a still image.
pub(crate) fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
    IMAGE_ENDINGS.contains(&extension.as_str())
}

/// Sorts in natural order: `img2` before `img10`.
fn sort_naturally(paths: &mut [PathBuf]) {
    paths.sort_by_cached_key(|path| natural_key(&path.to_string_lossy()));
}

/// Splits text into digits (compared by value, as length and digits) and other characters.
fn natural_key(text: &str) -> Vec<(bool, usize, String)> {
    let mut parts: Vec<(bool, usize, String)> = Vec::new();
    for character in text.chars() {
        let is_digit = character.is_ascii_digit();
        match parts.last_mut() {
            Some((kind, _, part)) if *kind == is_digit => part.push(character),
            _ => parts.push((is_digit, 0, character.to_string())),
        }
    }
    for (is_digit, length, part) in &mut parts {
        if *is_digit {
            let digits = part.trim_start_matches('0');
            *length = digits.len();
            *part = digits.to_owned();
        }
    }
    parts.push((false, 0, text.to_owned()));
    parts
}

fn expand_glob(pattern: &str) -> Vec<PathBuf> {
    let Ok(pattern) = CString::new(pattern) else { return Vec::new() };
    // SAFETY: glob fills the zeroed structure; its results are copied before it is freed.
    unsafe {
        let mut found: libc::glob_t = std::mem::zeroed();
        let code = libc::glob(pattern.as_ptr(), 0, None, &mut found);
        let mut paths = Vec::new();
        if code == 0 {
            for index in 0..found.gl_pathc {
                let path = std::ffi::CStr::from_ptr(*found.gl_pathv.add(index));
                paths.push(PathBuf::from(std::ffi::OsStr::from_bytes(path.to_bytes())));
            }
        }
        libc::globfree(&mut found);
        paths
    }
}

/// A file name with one `%d` or `%0Nd`.
struct NumberPattern {
    folder: PathBuf,
    prefix: String,
    suffix: String,
    /// Minimum number of digits.
    width: usize,
}

impl NumberPattern {
    fn parse(source: &str) -> Option<Self> {
        let path = Path::new(source);
        let name = path.file_name()?.to_str()?;
        let (prefix, rest) = name.split_once('%')?;
        let (width, suffix) = rest.split_once('d')?;
        let width = if width.is_empty() { 1 } else { width.parse().ok()? };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(Self { folder: folder.to_owned(), prefix: prefix.into(), suffix: suffix.into(), width })
    }

    fn list(&self, source: &str) -> Result<ImageList, MediaError> {
        let entries = fs::read_dir(&self.folder).map_err(|error| MediaError::io(&self.folder, &error))?;
        let mut numbered: Vec<(u64, PathBuf)> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter_map(|path| Some((self.number(path.file_name()?.to_str()?)?, path)))
            .collect();
        numbered.sort();
        let span = match (numbered.first(), numbered.last()) {
            (Some((first, _)), Some((last, _))) => last - first + 1,
            _ => 0,
        };
        let missing = span.saturating_sub(numbered.len() as u64);
        let paths = numbered.into_iter().map(|(_, path)| path).collect();
        ImageList::not_empty(source, "a pattern that no file matches", paths, missing)
    }

    fn number(&self, name: &str) -> Option<u64> {
        let digits = name.strip_prefix(self.prefix.as_str())?.strip_suffix(self.suffix.as_str())?;
        let fits = digits.len() == self.width || (digits.len() > self.width && !digits.starts_with('0'));
        (fits && digits.bytes().all(|byte| byte.is_ascii_digit())).then(|| digits.parse().ok())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &ImageList) -> Vec<String> {
        list.paths.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect()
    }

    #[test]
    fn folders_patterns_and_globs_come_in_number_order() {
        let folder = tempfile::tempdir().expect("temporary folder");
        for name in ["img2.png", "img10.png", "img1.png", "img004.png", "notes.txt"] {
            fs::write(folder.path().join(name), b"x").expect("written");
        }
        let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let list = ImageList::of(&at("")).expect("images").expect("a folder");
        assert_eq!(names(&list), ["img1.png", "img2.png", "img004.png", "img10.png"]);
        let list = ImageList::of(&at("img%d.png")).expect("images").expect("a pattern");
        assert_eq!((names(&list), list.missing), (vec!["img1.png".into(), "img2.png".into(), "img10.png".into()], 7));
        let list = ImageList::of(&at("img?.png")).expect("images").expect("a glob");
        assert_eq!(names(&list), ["img1.png", "img2.png"]);
        assert!(ImageList::of(&at("notes.txt")).expect("no error").is_none());
        assert!(matches!(ImageList::of(&at("*.jpg")), Err(MediaError::NoVideo { .. })));
        assert!(ImageList::of("absent.mp4").expect("no error").is_none());
    }
}
