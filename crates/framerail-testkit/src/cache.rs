//! Cache of generated files, safe for concurrent use by several processes.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// Increase whenever the same description generates different files.
const VERSION: u32 = 2;

/// `target/testkit` in the build folder of the running test, or the system's temporary folder.
pub(crate) fn folder() -> PathBuf {
    let folder = target_folder().unwrap_or_else(env::temp_dir).join("testkit");
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("cannot create {}: {error}", folder.display()));
    folder
}

fn target_folder() -> Option<PathBuf> {
    if let Some(folder) = env::var_os("CARGO_TARGET_DIR") {
        let folder = PathBuf::from(folder);
        if folder.is_absolute() {
            return Some(folder);
        }
    }
    // Test programs are inside the build folder, which Cargo marks.
    let program = env::current_exe().ok()?;
    let marked = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    marked.map(Path::to_path_buf)
}

/// Hashes a description of a file to 16 hexadecimal digits.
pub(crate) fn key(description: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{VERSION}\n{}\n{description}", crate::tool::ffmpeg_version()));
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Hashes the content of a file.
pub(crate) fn bytes_key(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the file or folder `name`, created by `make` if it does not exist. `make` gets an empty folder and returns
/// the path of its result, which is then renamed to its final name atomically.
pub(crate) fn once(name: &str, make: impl FnOnce(&Path) -> PathBuf) -> PathBuf {
    let folder = folder();
    let path = folder.join(name);
    if path.exists() {
        return path;
    }
    let work = tempfile::Builder::new()
        .prefix(".making-")
        .tempdir_in(&folder)
        .unwrap_or_else(|error| panic!("cannot create a folder in {}: {error}", folder.display()));
    let made = make(work.path());
    if let Err(error) = fs::rename(&made, &path) {
        // Another process was faster: a folder cannot be replaced, and need not be.
        assert!(path.exists(), "cannot move {} to {}: {error}", made.display(), path.display());
    }
    path
}
