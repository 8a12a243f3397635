//! Tracks the files of a run, so that it never overwrites an input and no two outputs share a file.

use std::{
    collections::{HashSet, VecDeque, hash_map::RandomState},
    ffi::OsString,
    fmt, fs,
    hash::BuildHasher,
    os::unix::{ffi::OsStringExt, fs::MetadataExt},
    path::{Component, Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

/// Outputs remembered: a run that lasts for weeks writes many, and only recent ones are likely to conflict with new ones.
const MAX_OUTPUTS: usize = 1 << 20;
/// Symbolic links followed in a row.
const MAX_LINKS: usize = 40;

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileConflict {
    /// An output would replace an input.
    #[error("{0}: output and input are the same file; choose another name")]
    IsInput(String),
    /// Two outputs have the same name.
    #[error("{0}: two outputs of this run have this name; give each a different name")]
    IsOutput(String),
}

/// Every file that a run reads or writes. Cloning shares the list.
///
/// Two paths are the same file if they have the same device and inode (so hard links count), or if they resolve to
/// the same path with symbolic links followed.
#[derive(Clone, Default)]
pub struct RunFiles(Arc<Mutex<Known>>);

#[derive(Default)]
struct Known {
    inputs: Places,
    outputs: Places,
    /// Outputs in the order in which they were added.
    latest_outputs: VecDeque<(u64, Option<(u64, u64)>)>,
}

impl Known {
    /// Adds an output and forgets the oldest beyond the limit. Returns whether it is new.
    fn add_output(&mut self, place: &Place, limit: usize) -> bool {
        let is_new = self.outputs.insert(place);
        if is_new {
            self.latest_outputs.push_back((self.outputs.hash(&place.name), place.identity));
        }
        if self.latest_outputs.len() > limit
            && let Some((name, identity)) = self.latest_outputs.pop_front()
        {
            self.outputs.names.remove(&name);
            identity.map(|identity| self.outputs.identities.remove(&identity));
        }
        is_new
    }
}

/// Files by name and by identity. Names are stored as hashes, because a run that lasts for weeks writes many.
#[derive(Default)]
struct Places {
    hasher: RandomState,
    names: HashSet<u64>,
    identities: HashSet<(u64, u64)>,
}

impl Places {
    fn hash(&self, name: &Path) -> u64 {
        self.hasher.hash_one(name)
    }

    fn contains(&self, place: &Place) -> bool {
        self.names.contains(&self.hash(&place.name)) || place.identity.is_some_and(|identity| self.identities.contains(&identity))
    }

    fn insert(&mut self, place: &Place) -> bool {
        let is_known = self.contains(place);
        self.names.insert(self.hash(&place.name));
        self.identities.extend(place.identity);
        !is_known
    }
}

struct Place {
    name: PathBuf,
    /// Device and inode of a regular file.
    identity: Option<(u64, u64)>,
    /// A device, pipe or socket: never replaced, and safe to share.
    is_special: bool,
}

impl Place {
    fn of(path: &Path) -> Self {
        let found = fs::metadata(path).ok();
        let identity = found.as_ref().filter(|found| found.is_file()).map(|found| (found.dev(), found.ino()));
        let is_special = found.is_some_and(|found| !found.is_file() && !found.is_dir());
        Self { name: resolved(path), identity, is_special }
    }
}

impl RunFiles {
    /// Registers an input.
    ///
    /// # Errors
    /// `IsInput` when the run already writes this file.
    pub fn read(&self, path: &Path) -> Result<(), FileConflict> {
        let place = Place::of(path);
        let mut known = self.0.lock();
        if known.outputs.contains(&place) && !place.is_special {
            return Err(FileConflict::IsInput(path.display().to_string()));
        }
        known.inputs.insert(&place);
        Ok(())
    }

    /// Registers an output; no other output of the run may have the same file.
    ///
    /// # Errors
    /// `IsInput`, `IsOutput`.
    pub fn write(&self, path: &Path) -> Result<(), FileConflict> {
        let place = Place::of(path);
        let mut known = self.0.lock();
        if place.is_special {
            return Ok(());
        }
        if known.inputs.contains(&place) {
            return Err(FileConflict::IsInput(path.display().to_string()));
        }
        if !known.add_output(&place, MAX_OUTPUTS) {
            return Err(FileConflict::IsOutput(path.display().to_string()));
        }
        Ok(())
    }

    /// Whether the run reads this file.
    pub fn is_input(&self, path: &Path) -> bool {
        let place = Place::of(path);
        !place.is_special && self.0.lock().inputs.contains(&place)
    }

    /// Whether the run writes this file.
    pub fn is_output(&self, path: &Path) -> bool {
        self.0.lock().outputs.contains(&Place::of(path))
    }

    /// A copy with the inputs only: for one of several runs that must not overwrite each other's inputs.
    pub fn inputs_alone(&self) -> Self {
        let known = self.0.lock();
        let Places { hasher, names, identities } = &known.inputs;
        let inputs = Places { hasher: hasher.clone(), names: names.clone(), identities: identities.clone() };
        Self(Arc::new(Mutex::new(Known { inputs, ..Known::default() })))
    }
}

impl fmt::Debug for RunFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.0.lock();
        write!(f, "RunFiles({} inputs, {} outputs)", known.inputs.names.len(), known.outputs.names.len())
    }
}

/// Whether two paths are the same regular file, or resolve to the same path if no file exists yet.
pub fn is_same(one: &Path, other: &Path) -> bool {
    let (one, other) = (Place::of(one), Place::of(other));
    !one.is_special && (one.name == other.name || (one.identity.is_some() && one.identity == other.identity))
}

/// Resolves a path: absolute, without `..`, symbolic links followed, including links to missing files.
pub fn resolved(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        if let Ok(found) = fs::canonicalize(&path) {
            return found;
        }
        match fs::read_link(&path) {
            Ok(target) => path = path.parent().unwrap_or(Path::new("")).join(target),
            Err(_) => break,
        }
    }
    match (path.parent(), path.components().next_back()) {
        (Some(folder), Some(Component::Normal(name))) => {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            if folder == path { path } else { resolved(folder).join(name) }
        }
        (Some(folder), Some(Component::ParentDir)) => {
            let mut folder = resolved(if folder.as_os_str().is_empty() { Path::new(".") } else { folder });
            folder.pop();
            folder
        }
        _ => std::path::absolute(&path).unwrap_or(path),
    }
}

/// The local file of a source: a path or a `file:` URL. `None` for other URLs and for `-`.
///
/// The part after `file://` is used unchanged; if no such file exists, `%XX` is decoded as a byte, so that non-UTF-8 names
/// can be given ([`file_address`]).
pub fn local_path(source: &str) -> Option<PathBuf> {
    let Some(path) = source.strip_prefix("file:") else {
        return (source != "-" && !source.contains("://")).then(|| PathBuf::from(source));
    };
    let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
    let plain = PathBuf::from(path);
    if !path.contains('%') || plain.exists() {
        return Some(plain);
    }
    let decoded = PathBuf::from(OsString::from_vec(decoded(path.as_bytes())));
    Some(if decoded.exists() { decoded } else { plain })
}

/// The path of an absolute `file:///` URL, with `%XX` decoded: the inverse of [`file_address`]. `None` for other texts.
pub fn path_of_address(text: &str) -> Option<PathBuf> {
    let path = text.strip_prefix("file://").filter(|path| path.starts_with('/'))?;
    Some(PathBuf::from(OsString::from_vec(decoded(path.as_bytes()))))
}

fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text);
    while let [first, after @ ..] = rest {
        let code = match after {
            [high, low, ..] if *first == b'%' => digit(*high).zip(digit(*low)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok()),
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = after.get(if code.is_some() { 2 } else { 0 }..).unwrap_or_default();
    }
    bytes
}

/// A file as text in a pipeline: its path, or a `file://` URL if the path is not UTF-8.
pub fn file_address(path: &Path) -> String {
    if let Some(text) = path.to_str() {
        return text.to_owned();
    }
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let encode = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    let text: String = path.into_os_string().into_vec().into_iter().map(encode).collect();
    format!("file://{text}")
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::{ffi::OsStrExt, fs::symlink};

    use super::*;

    #[test]
    fn an_input_is_never_an_output_by_any_of_its_names() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let at = |name: &str| folder.path().join(name);
        fs::write(at("in.mp4"), b"x").expect("written");
        fs::create_dir(at("sub")).expect("made");
        fs::hard_link(at("in.mp4"), at("hard.mp4")).expect("linked");
        symlink(at("in.mp4"), at("soft.mp4")).expect("linked");
        symlink(at("later.mp4"), at("dangling.mp4")).expect("linked");
        let files = RunFiles::default();
        files.read(&at("in.mp4")).expect("the first");
        for name in ["in.mp4", "hard.mp4", "soft.mp4", "sub/../in.mp4"] {
            assert!(matches!(files.write(&at(name)), Err(FileConflict::IsInput(_))), "{name}");
        }
        files.write(&at("later.mp4")).expect("free");
        assert!(matches!(files.write(&at("dangling.mp4")), Err(FileConflict::IsOutput(_))));
        assert!(matches!(files.write(&at("sub/../later.mp4")), Err(FileConflict::IsOutput(_))));
        assert!(matches!(files.read(&at("dangling.mp4")), Err(FileConflict::IsInput(_))));
        files.write(&at("new/folder/out.mp4")).expect("free");
        assert!(files.write(&at("new/folder/../folder/out.mp4")).is_err());
        let others = files.inputs_alone();
        others.write(&at("later.mp4")).expect("the other run's");
        assert!(others.write(&at("hard.mp4")).is_err());
        files.write(Path::new("/dev/null")).and_then(|()| files.write(Path::new("/dev/null"))).expect("a device is shared");
    }

    #[test]
    fn the_latest_outputs_are_remembered() {
        let mut known = Known::default();
        let place = |name: &str| Place { name: name.into(), identity: Some((1, name.len() as u64)), is_special: false };
        let names = ["a", "bb", "ccc", "dddd"];
        assert!(names.iter().all(|name| known.add_output(&place(name), 3)));
        assert!(!known.add_output(&place("dddd"), 3) && !known.add_output(&place("bb"), 3));
        assert!(known.add_output(&place("a"), 3), "forgotten");
        assert_eq!((known.outputs.names.len(), known.outputs.identities.len(), known.latest_outputs.len()), (3, 3, 3));
    }

    #[test]
    fn names_that_are_not_utf8_have_an_address() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join(OsStr::from_bytes(b"cl\xffip 1%.mp4"));
        fs::write(&path, b"x").expect("written");
        let address = file_address(&path);
        assert!(address.starts_with("file:///") && address.is_ascii(), "{address}");
        assert_eq!((local_path(&address), path_of_address(&address)), (Some(path.clone()), Some(path)));
        assert_eq!((path_of_address("file:a.mp4"), path_of_address("/a.mp4"), path_of_address("file://host/a.mp4")), (None, None, None));
        assert_eq!(local_path("a%20b.mp4"), Some("a%20b.mp4".into()));
        assert_eq!((local_path("-"), local_path("rtsp://host/x")), (None, None));
        assert_eq!(local_path("file:x.mp4"), Some("x.mp4".into()));
    }
}
