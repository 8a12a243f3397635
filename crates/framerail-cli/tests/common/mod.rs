//! The program under test, and a folder for it to work in.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use framerail_testkit::{Cli, real_clip};
use tempfile::TempDir;

/// Small enough that CenterFace takes milliseconds per frame.
pub const SMALL: [&str; 2] = ["--scale", "192x160"];

/// Where set-up has installed models and libraries.
pub fn home() -> PathBuf {
    let clips = real_clip("carphone_pristine.mp4");
    clips.parent().and_then(Path::parent).expect("clips lie in the home folder").to_owned()
}

/// A folder that is removed after the test; the program runs in it.
pub struct Place {
    folder: TempDir,
    /// Location of a copy of the program, so that nothing is found beside it.
    elsewhere: TempDir,
}

impl Place {
    pub fn new() -> Self {
        let folder = || TempDir::new().expect("temporary folder");
        Self { folder: folder(), elsewhere: folder() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts a copy of a file there, in a subfolder if the name has one.
    pub fn copy(&self, from: &Path, name: &str) -> PathBuf {
        let to = self.path(name);
        fs::create_dir_all(to.parent().expect("inside the folder")).expect("a folder");
        fs::copy(from, &to).expect("copied");
        to
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).expect("written");
        self.path(name)
    }

    /// Names of everything in it, hidden files too, sorted.
    pub fn names(&self) -> Vec<String> {
        names(self.folder.path())
    }

    /// The program, with the models and libraries that set-up has installed.
    pub fn framerail(&self) -> Cli {
        Cli::new(env!("CARGO_BIN_EXE_framerail")).current_dir(self.folder.path()).env("FRAMERAIL_HOME", home()).env_remove("FRAMERAIL_LOG")
    }

    /// The program where nothing is installed.
    pub fn bare_framerail(&self) -> Cli {
        let program = self.elsewhere.path().join("framerail");
        fs::copy(env!("CARGO_BIN_EXE_framerail"), &program).expect("copied");
        let mut cli = Cli::new(program).current_dir(self.folder.path()).env("HOME", self.folder.path());
        for name in
            ["FRAMERAIL_HOME", "FRAMERAIL_MODELS", "XDG_DATA_HOME", "VIRTUAL_ENV", "CONDA_PREFIX", "ORT_DYLIB_PATH", "LD_LIBRARY_PATH"]
        {
            cli = cli.env_remove(name);
        }
        cli
    }
}

pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// An image of a real face: the first frame of the clip.
pub fn carphone() -> PathBuf {
    real_clip("carphone_pristine.mp4")
}

/// Waits until a running program has reached a state.
pub fn wait_until(is_so: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "it does not come to that");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Whether Chromium is installed; `false` only if it may be missing.
pub fn has_browser() -> bool {
    let found = ["chromium", "chromium-browser", "google-chrome"]
        .iter()
        .any(|name| std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(name).is_file())));
    framerail_testkit::require("chromium", found, "install Debian's package chromium (make setup)")
}
