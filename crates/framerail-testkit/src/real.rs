//! Real clips, installed by the setup script.

use std::{env, path::PathBuf};

/// The path of a clip in `.framerail/clips`, such as `carphone_pristine.mp4`.
///
/// Looks in `$FRAMERAIL_HOME`, then for a `.framerail` above the crate under test.
///
/// # Panics
/// When the clip does not exist.
pub fn real_clip(name: &str) -> PathBuf {
    let path = home().join("clips").join(name);
    assert!(path.is_file(), "the real clip {} is missing; run `make setup`", path.display());
    path
}

fn home() -> PathBuf {
    if let Some(home) = env::var_os("FRAMERAIL_HOME") {
        return home.into();
    }
    let start = env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let home = start.ancestors().map(|folder| folder.join(".framerail")).find(|home| home.is_dir());
    home.unwrap_or_else(|| panic!("there is no .framerail folder above {}; run `make setup`", start.display()))
}
