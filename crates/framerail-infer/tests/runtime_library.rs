//! ONNX Runtime missing, not a library, another library, too old: one clear line each. In a separate process, because a loaded library
//! stays loaded.

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use framerail_infer::{InferError, Runtime, SearchPath};
use tempfile::TempDir;

fn message(path: Option<&Path>, search: &SearchPath) -> String {
    let text = Runtime::load(path, search).err().expect("must be refused").to_string();
    assert!(!text.contains('\n'), "one line: {text}");
    text
}

/// A library made from a few lines of C.
fn library(folder: &TempDir, name: &str, source: &str) -> PathBuf {
    let (code, library) = (folder.path().join("source.c"), folder.path().join(name));
    fs::write(&code, source).expect("writable");
    let status = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&code)
        .status()
        .expect("a C compiler, as Rust needs for linking");
    assert!(status.success());
    library
}

const TOO_OLD: &str = r#"
typedef struct { const void *(*get_api)(unsigned); const char *(*version)(void); } Base;
static const void *get_api(unsigned version) { (void)version; return 0; }
static const char *version(void) { return "1.10.0"; }
static const Base base = { get_api, version };
const Base *OrtGetApiBase(void) { return &base; }
"#;

#[test]
fn every_unusable_library_is_one_clear_line_and_a_good_one_loads_after() {
    let folder = TempDir::new().expect("temporary folder");
    let nowhere = SearchPath { working_directory: folder.path().into(), ..SearchPath::default() };

    let missing = Runtime::load(None, &nowhere).err().expect("nothing to be found");
    assert!(matches!(missing, InferError::Missing { .. }));
    assert!(missing.to_string().contains("make setup"), "{missing}");

    let text = message(Some(&folder.path().join("none.so")), &nowhere);
    assert!(text.contains("none.so") && text.contains("the path as given"), "{text}");
    let by_variable = SearchPath { runtime_library: Some("/none/lib.so".into()), ..nowhere.clone() };
    assert!(message(None, &by_variable).contains("ORT_DYLIB_PATH"));

    let no_library = folder.path().join("text.so");
    fs::write(&no_library, "this is text\n").expect("writable");
    let text = message(Some(&no_library), &nowhere);
    assert!(text.contains("text.so: is not a library that can be loaded here"), "{text}");

    let text = message(Some(&library(&folder, "other.so", "int answer(void) { return 42; }\n")), &nowhere);
    assert!(text.contains("is a library, but not ONNX Runtime"), "{text}");

    let text = message(Some(&library(&folder, "old.so", TOO_OLD)), &nowhere);
    assert!(text.contains("is version 1.10.0, which is too old; 1."), "{text}");

    // The same by search: a Python environment that holds the old one.
    let capi = folder.path().join("env/lib/python3.11/site-packages/onnxruntime/capi");
    fs::create_dir_all(&capi).expect("writable");
    fs::copy(folder.path().join("old.so"), capi.join("libonnxruntime.so.1.10.0")).expect("writable");
    let environment = SearchPath { python_environments: vec![folder.path().join("env")], ..nowhere.clone() };
    assert!(message(None, &environment).contains("too old"));

    Runtime::load(None, &common::search()).expect("the installed one");
}
