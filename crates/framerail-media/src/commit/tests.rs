use std::{
    ffi::OsStr,
    os::unix::{ffi::OsStrExt, fs::symlink},
};

use super::*;

fn rules(overwrite: bool) -> OutputRules {
    OutputRules { overwrite, ..OutputRules::default() }
}

fn file_names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn written(path: &Path, bytes: &[u8], rules: &OutputRules) -> OutputFile {
    let mut file = OutputFile::create(path, rules).expect("creatable");
    file.write_all(bytes).expect("written");
    file
}

#[test]
fn a_file_appears_only_when_complete() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("out.mp4");
    let mut output = written(&path, b"half", &rules(false));
    output.flush().expect("written");
    assert!(!path.exists());
    let listed = || unfinished().into_iter().filter(|(_, named)| *named == path).map(|(partial, _)| partial).collect::<Vec<_>>();
    assert!(
        matches!(listed().as_slice(), [partial] if fs::read(partial).is_ok_and(|bytes| bytes == b"half")),
        "named if the process ends now"
    );
    drop(output);
    assert!(listed().is_empty());
    assert!(file_names(folder.path()).is_empty());
    let committed = written(&path, b"whole", &rules(false)).complete(Ending::Whole).expect("renamed");
    assert_eq!(committed, Committed { path: path.clone(), bytes: 5, elsewhere: None });
    assert_eq!((fs::read(&path).expect("there"), file_names(folder.path())), (b"whole".to_vec(), vec!["out.mp4".into()]));
    assert!(matches!(OutputFile::create(&path, &rules(false)), Err(MediaError::Exists { .. })));
    assert!(matches!(OutputFile::create(&path.join("under.mp4"), &rules(false)), Err(MediaError::Io { .. })));
    assert!(matches!(OutputFile::create(folder.path(), &rules(true)), Err(MediaError::Io { .. })));
}

#[test]
fn an_input_is_not_replaced_by_any_of_its_names() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let at = |name: &str| folder.path().join(name);
    fs::write(at("in.mp4"), b"in").expect("written");
    fs::hard_link(at("in.mp4"), at("hard.mp4")).expect("linked");
    symlink("in.mp4", at("soft.mp4")).expect("linked");
    let rules = rules(true);
    rules.files.read(&at("in.mp4")).expect("first");
    for name in ["in.mp4", "hard.mp4", "soft.mp4"] {
        assert!(matches!(OutputFile::create(&at(name), &rules), Err(MediaError::SameFile { .. })), "{name}");
    }
    // Added to the run while the output was written.
    let output = written(&at("out.mp4"), b"out", &rules);
    fs::write(at("out.mp4"), b"another's").expect("written");
    rules.files.read(&at("out.mp4")).expect("not claimed");
    let committed = output.complete(Ending::Whole).expect("kept");
    assert_eq!(fs::read(at("out.mp4")).expect("there"), b"another's");
    assert_eq!(committed.path, at("out-2.mp4").canonicalize().expect("there"));
}

#[test]
fn a_file_that_appeared_meanwhile_costs_nothing() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("out.mp4");
    let output = written(&path, b"new", &rules(false));
    fs::write(&path, b"another's").expect("written");
    fs::write(folder.path().join("out-2.mp4"), b"taken too").expect("written");
    let committed = output.complete(Ending::Whole).expect("kept");
    assert_eq!(fs::read(&path).expect("there"), b"another's");
    assert_eq!(fs::read(&committed.path).expect("there"), b"new");
    assert!(committed.path.ends_with("out-3.mp4"));
    let Some(Elsewhere::Taken(line)) = committed.elsewhere else { panic!("not said") };
    assert!(line.contains("was created meanwhile") && line.contains("out-3.mp4"), "{line}");
    // A folder in its place.
    let output = written(&folder.path().join("b.mp4"), b"new", &rules(true));
    fs::create_dir(folder.path().join("b.mp4")).expect("made");
    assert_eq!(fs::read(output.complete(Ending::Whole).expect("kept").path).expect("there"), b"new");
}

#[test]
fn a_stopped_run_leaves_the_older_file() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("out.mp4");
    written(&path, b"new", &rules(true)).complete(Ending::Stopped).expect("there was none");
    assert_eq!(fs::read(&path).expect("there"), b"new");
    let committed = written(&path, b"less", &rules(true)).complete(Ending::Stopped).expect("kept");
    assert_eq!(fs::read(&path).expect("there"), b"new");
    assert_eq!(fs::read(folder.path().join("out.unfinished.mp4")).expect("there"), b"less");
    assert!(matches!(committed.elsewhere, Some(Elsewhere::Stopped(_))));
}

#[test]
fn data_and_folders_are_synced_in_this_order() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for overwrite in [false, true] {
        durable::STEPS.take();
        written(&folder.path().join("a/out.mp4"), b"x", &rules(overwrite)).complete(Ending::Whole).expect("renamed");
        let made: &[&str] = if overwrite { &[] } else { &["sync folder"] };
        assert_eq!(durable::STEPS.take(), [made, &["sync file", "rename", "sync folder"]].concat());
    }
}

#[test]
fn a_symbolic_link_is_followed_and_mode_and_owner_are_kept() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("real")).expect("made");
    fs::write(at("real/out.mp4"), b"old").expect("written");
    fs::set_permissions(at("real/out.mp4"), fs::Permissions::from_mode(0o640)).expect("set");
    // As root the owner can be tried as well.
    let owner = std::os::unix::fs::chown(at("real/out.mp4"), Some(1234), Some(1235)).is_ok();
    symlink("real/out.mp4", at("link.mp4")).expect("linked");
    written(&at("link.mp4"), b"new", &rules(true)).complete(Ending::Whole).expect("renamed");
    assert!(fs::symlink_metadata(at("link.mp4")).expect("there").is_symlink());
    let found = fs::metadata(at("real/out.mp4")).expect("there");
    assert_eq!((fs::read(at("real/out.mp4")).expect("there"), found.mode() & 0o777), (b"new".to_vec(), 0o640));
    assert!(!owner || (found.uid(), found.gid()) == (1234, 1235));
    symlink("real/later.mp4", at("dangling.mp4")).expect("linked");
    written(&at("dangling.mp4"), b"new", &rules(false)).complete(Ending::Whole).expect("renamed");
    assert_eq!(file_names(&at("real")), ["later.mp4", "out.mp4"]);
}

#[test]
fn names_up_to_255_bytes_of_any_kind_are_written() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let long = format!("{}.mp4", "n".repeat(251));
    for name in [OsStr::new(&long), OsStr::new(&"ü".repeat(127)), OsStr::from_bytes(b"not \xff utf-8.mp4")] {
        let path = folder.path().join(name);
        written(&path, b"x", &rules(false)).complete(Ending::Whole).expect("renamed");
        let other = written(&path, b"y", &rules(true)).complete(Ending::Stopped).expect("kept");
        assert!(path.exists() && other.path.exists(), "{name:?}");
    }
}

#[test]
fn names_that_no_file_can_have_are_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().expect("temporary folder");
    symlink("loop.mp4", folder.path().join("loop.mp4")).expect("linked");
    for (name, words) in [(format!("{}.mp4", "n".repeat(252)), "name too long"), ("loop.mp4".into(), "symbolic links")] {
        let path = folder.path().join(name);
        let error = check(&path, &rules(true)).expect_err("refused").to_string();
        assert!(error.to_lowercase().contains(words), "{error}");
        assert!(OutputFile::create(&path, &rules(true)).is_err());
    }
    assert_eq!(file_names(folder.path()), ["loop.mp4"]);
}

#[test]
fn folders_are_made_and_go_again_when_nothing_comes() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("a/b/c.mp4");
    drop(written(&path, b"x", &rules(false)));
    assert!(file_names(folder.path()).is_empty());
    written(&path, b"x", &rules(false)).complete(Ending::Whole).expect("renamed");
    assert!(path.exists());
    fs::write(folder.path().join("file"), b"x").expect("written");
    let error = check(&folder.path().join("file/x/y.mp4"), &rules(false)).expect_err("not a folder");
    assert!(error.to_string().contains("file is not a folder"), "{error}");
}

#[test]
fn what_a_killed_writer_left_is_recognised_by_the_next() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("boxes.jsonl");
    let lines = OutputRules { leftover: Leftover::KeepLines, ..rules(false) };
    // Two live ones, according to their locks, and one of a process that is gone.
    let living = written(&path, b"mine", &lines);
    let name = living.working_path().file_name().expect("a name").to_string_lossy().into_owned();
    let gone = folder.path().join(name.replace(&format!("-{}-", std::process::id()), "-999999999-"));
    fs::write(&gone, b"{}\n").expect("written");
    let other = folder.path().join(".boxes.partial-0123456789abcdef-999999999-0.csv");
    fs::write(&other, b"another name's").expect("written");
    let next = written(&path, b"next", &lines);
    assert!(next.notes().iter().any(|note| note.contains("boxes.unfinished.jsonl")), "{:?}", next.notes());
    assert!(!gone.exists() && other.exists() && living.working_path().exists());
    assert_eq!(fs::read(folder.path().join("boxes.unfinished.jsonl")).expect("kept"), b"{}\n");
    // Unusable files are removed.
    fs::write(&gone, b"half a picture").expect("written");
    let next = OutputFile::create(&path, &rules(false)).expect("creatable");
    assert!(next.notes().is_empty() && !gone.exists());
}

#[test]
fn a_full_disk_is_one_clear_line() {
    let mut full = OutputFile::create(Path::new("/dev/full"), &rules(false)).expect("a device");
    full.write_all(b"x").expect("buffered");
    let error = full.complete(Ending::Whole).expect_err("full");
    assert!(matches!(error, MediaError::DiskFull { .. }), "{error}");
    written(Path::new("/dev/null"), b"x", &rules(false)).complete(Ending::Whole).expect("a device");
    assert!(!fs::metadata("/dev/null").expect("there").is_file());
}
