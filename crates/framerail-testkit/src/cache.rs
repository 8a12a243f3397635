//! Where generated files are kept, and how many processes make them side by side without seeing halves.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

/// Raised whenever the same description gives other files.
const VERSION: u32 = 2;

/// `target/testkit`, in the build folder of the running test; the system's temporary folder without one.
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
    // Test programs lie below the build folder, which Cargo marks.
    let program = env::current_exe().ok()?;
    let marked = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    marked.map(Path::to_path_buf)
}

/// 16 hexadecimal digits for a description of what is to be made.
pub(crate) fn key(description: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{VERSION}\n{}\n{description}", crate::tool::ffmpeg_version()));
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The same for a file's content.
pub(crate) fn bytes_key(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The file or folder `name`, made by `make` if it is not there yet. `make` gets a fresh folder and returns
/// what it made in it, which then appears under its name in one step.
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
