//! Checks that every kernel compiles for common GPUs. Needs NVRTC, but no GPU.

use std::{path::PathBuf, process::Command};

use framerail_cuda::{kernels, nvrtc::nvrtc_version};

/// Compute capabilities: A100, L4, H100.
const ARCHITECTURES: [(u32, u32); 3] = [(8, 0), (8, 9), (9, 0)];

/// The compiler installed by scripts/setup.sh.
fn installed() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let home = std::env::var_os("FRAMERAIL_HOME").map_or(root.join(".framerail"), PathBuf::from);
    let pythons = std::fs::read_dir(home.join("venv/lib")).ok()?;
    let library = |python: PathBuf| python.join("site-packages/nvidia/cu13/lib/libnvrtc.so.13");
    pythons.flatten().map(|python| library(python.path())).find(|path| path.exists())
}

#[test]
fn every_kernel_compiles_for_every_architecture() {
    if let Err(reason) = nvrtc_version() {
        let library = installed().filter(|_| std::env::var_os("FRAMERAIL_NVRTC").is_none());
        framerail_testkit::require("nvrtc", library.is_some(), &format!("{reason}; make setup installs it"));
        let Some(library) = library else { return };
        // The library is located once per process, so run another process with its path.
        let program = std::env::current_exe().expect("a running program");
        let test = "every_kernel_compiles_for_every_architecture";
        let mut command = Command::new(program);
        // NVRTC finds its second library by name only.
        let folder = library.parent().expect("a file in a folder");
        command.args(["--exact", test, "--nocapture"]).env("FRAMERAIL_NVRTC", &library).env("LD_LIBRARY_PATH", folder);
        assert!(command.status().expect("starts").success(), "see above");
        return;
    }
    std::thread::scope(|scope| {
        for architecture in ARCHITECTURES {
            scope.spawn(move || {
                for source in kernels::SOURCES {
                    let code = source.compile(architecture).unwrap_or_else(|error| panic!("for {architecture:?}: {error}"));
                    assert!(code.starts_with(b"\x7fELF"), "{} for {architecture:?}", source.name);
                }
            });
        }
    });
    eprintln!("{} sources compiled for {ARCHITECTURES:?}", kernels::SOURCES.len());
}
