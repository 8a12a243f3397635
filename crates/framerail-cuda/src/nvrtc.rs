//! NVRTC, NVIDIA's run-time compiler, loaded at run time.

use std::{
    ffi::{CString, c_char, c_int},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use crate::error::CudaError;

type Program = *mut std::ffi::c_void;

/// The `nvrtc.h` functions used here.
struct Functions {
    version: unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int,
    create: unsafe extern "C" fn(*mut Program, *const c_char, *const c_char, c_int, *const *const c_char, *const *const c_char) -> c_int,
    compile: unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int,
    log_size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    log: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    cubin_size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    cubin: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    ptx_size: unsafe extern "C" fn(Program, *mut usize) -> c_int,
    ptx: unsafe extern "C" fn(Program, *mut c_char) -> c_int,
    count_architectures: unsafe extern "C" fn(*mut c_int) -> c_int,
    architectures: unsafe extern "C" fn(*mut c_int) -> c_int,
    destroy: unsafe extern "C" fn(*mut Program) -> c_int,
    _library: libloading::Library,
}

static LOADED: OnceLock<Result<Functions, String>> = OnceLock::new();

/// Library names to try, after `FRAMERAIL_NVRTC`: the loader's search path, the CUDA toolkit, Python packages.
fn candidates() -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = std::env::var_os("FRAMERAIL_NVRTC").map(PathBuf::from).into_iter().collect();
    let versions = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"];
    names.extend(versions.iter().map(PathBuf::from));
    let mut folders = vec![PathBuf::from("/usr/local/cuda/lib64"), PathBuf::from("/opt/cuda/lib64")];
    for environment in
        std::env::var_os("VIRTUAL_ENV").map(PathBuf::from).into_iter().chain(std::env::var_os("CONDA_PREFIX").map(PathBuf::from))
    {
        let Ok(pythons) = std::fs::read_dir(environment.join("lib")) else { continue };
        for python in pythons.flatten() {
            let packages = python.path().join("site-packages/nvidia");
            folders.extend(["cu13/lib", "cuda_nvrtc/lib"].map(|folder| packages.join(folder)));
        }
    }
    names.extend(folders.iter().flat_map(|folder| versions.map(|name| folder.join(name))));
    names
}

/// NVRTC opens a second library by its bare name; if it is in the same folder, it is found only if already loaded.
fn preload_builtins(library: &Path) {
    let folder = library.parent().filter(|folder| !folder.as_os_str().is_empty());
    let Some(entries) = folder.and_then(|folder| std::fs::read_dir(folder).ok()) else { return };
    for file in entries.flatten().map(|entry| entry.path()) {
        let is_builtins = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libnvrtc-builtins.so."));
        // SAFETY: a data library of NVRTC without initialisers. It stays loaded.
        if is_builtins && let Ok(loaded) = unsafe { libloading::Library::new(&file) } {
            std::mem::forget(loaded);
        }
    }
}

fn load() -> Result<Functions, String> {
    let mut reason = String::new();
    for name in candidates() {
        preload_builtins(&name);
        // SAFETY: NVRTC's library has no unsound initialisers.
        match unsafe { libloading::Library::new(&name) } {
            // SAFETY: the symbols have these signatures in every version (nvrtc.h).
            Ok(library) => return unsafe { symbols(library) }.map_err(|error| format!("{}: {error}", name.display())),
            Err(error) if reason.is_empty() => reason = error.to_string(),
            Err(_) => {}
        }
    }
    Err(format!("libnvrtc.so is not found ({reason}); install the CUDA toolkit or `pip install nvidia-cuda-nvrtc`, or set FRAMERAIL_NVRTC"))
}

/// # Safety
/// The library must be NVRTC.
unsafe fn symbols(library: libloading::Library) -> Result<Functions, libloading::Error> {
    // SAFETY: guaranteed by the caller; the functions are kept together with the library.
    unsafe {
        Ok(Functions {
            version: *library.get(b"nvrtcVersion\0")?,
            create: *library.get(b"nvrtcCreateProgram\0")?,
            compile: *library.get(b"nvrtcCompileProgram\0")?,
            log_size: *library.get(b"nvrtcGetProgramLogSize\0")?,
            log: *library.get(b"nvrtcGetProgramLog\0")?,
            cubin_size: *library.get(b"nvrtcGetCUBINSize\0")?,
            cubin: *library.get(b"nvrtcGetCUBIN\0")?,
            ptx_size: *library.get(b"nvrtcGetPTXSize\0")?,
            ptx: *library.get(b"nvrtcGetPTX\0")?,
            count_architectures: *library.get(b"nvrtcGetNumSupportedArchs\0")?,
            architectures: *library.get(b"nvrtcGetSupportedArchs\0")?,
            destroy: *library.get(b"nvrtcDestroyProgram\0")?,
            _library: library,
        })
    }
}

fn functions() -> Result<&'static Functions, String> {
    LOADED.get_or_init(load).as_ref().map_err(Clone::clone)
}

/// The compiler's version, such as `(13, 0)`.
///
/// # Errors
/// Why the compiler is not available.
pub fn nvrtc_version() -> Result<(u32, u32), String> {
    let functions = functions()?;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: out values.
    match unsafe { (functions.version)(&mut major, &mut minor) } {
        0 => Ok((u32::try_from(major).unwrap_or(0), u32::try_from(minor).unwrap_or(0))),
        code => Err(format!("cannot query NVRTC's version: error {code}")),
    }
}

/// Output of a compilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Target {
    /// Machine code for an architecture: 90 is 9.0.
    Machine(u32),
    /// PTX, which the driver of a newer GPU compiles to machine code.
    Ptx(u32),
}

impl Target {
    /// Machine code if the compiler supports the GPU's architecture, else PTX for the nearest older one.
    fn of(architecture: (u32, u32), known: &[u32]) -> Self {
        let wanted = architecture.0 * 10 + architecture.1;
        match known.iter().copied().filter(|known| *known < wanted).max() {
            Some(nearest) if !known.contains(&wanted) => Target::Ptx(nearest),
            _ => Target::Machine(wanted),
        }
    }

    fn option(self) -> String {
        match self {
            Target::Machine(number) => format!("--gpu-architecture=sm_{number}"),
            Target::Ptx(number) => format!("--gpu-architecture=compute_{number}"),
        }
    }
}

/// Architectures that the compiler supports; empty if it does not report them.
fn known_architectures(functions: &Functions) -> Vec<u32> {
    let mut count = 0;
    // SAFETY: an out value, then space for the reported number.
    unsafe {
        if (functions.count_architectures)(&mut count) != 0 {
            return Vec::new();
        }
        let mut known: Vec<c_int> = vec![0; usize::try_from(count).unwrap_or(0)];
        if known.is_empty() || (functions.architectures)(known.as_mut_ptr()) != 0 {
            return Vec::new();
        }
        known.into_iter().filter_map(|number| u32::try_from(number).ok()).collect()
    }
}

/// Compiles CUDA C++ for one architecture, such as `(9, 0)`: to machine code, or to PTX if it is newer than the compiler. Needs no GPU.
///
/// # Errors
/// `Compile` with the compiler's messages.
pub fn compile(name: &str, code: &str, headers: &[(&str, &str)], architecture: (u32, u32)) -> Result<Vec<u8>, CudaError> {
    let functions = functions().map_err(|reason| CudaError::Compile { kernel: name.to_owned(), reason })?;
    let target = Target::of(architecture, &known_architectures(functions));
    if let Target::Ptx(number) = target {
        let (major, minor) = architecture;
        log::info!("NVRTC does not support compute capability {major}.{minor}: kernels are compiled for {number}, then by the driver");
    }
    compile_to(functions, name, code, headers, target)
}

fn compile_to(functions: &Functions, name: &str, code: &str, headers: &[(&str, &str)], target: Target) -> Result<Vec<u8>, CudaError> {
    let failed = |reason: String| CudaError::Compile { kernel: name.to_owned(), reason };
    let text = |text: &str| CString::new(text).map_err(|_| failed("its source contains a zero byte".into()));
    let (source, title) = (text(code)?, text(name)?);
    let names: Vec<CString> = headers.iter().map(|(name, _)| text(name)).collect::<Result<_, _>>()?;
    let bodies: Vec<CString> = headers.iter().map(|(_, body)| text(body)).collect::<Result<_, _>>()?;
    let pointers = |strings: &[CString]| strings.iter().map(|string| string.as_ptr()).collect::<Vec<_>>();
    let (name_pointers, body_pointers) = (pointers(&names), pointers(&bodies));
    let mut program = std::ptr::null_mut();
    // SAFETY: an out value; strings and lists outlive the call.
    let code = unsafe {
        (functions.create)(
            &mut program,
            source.as_ptr(),
            title.as_ptr(),
            headers.len() as c_int,
            body_pointers.as_ptr(),
            name_pointers.as_ptr(),
        )
    };
    if code != 0 {
        return Err(failed(format!("NVRTC cannot create a program: error {code}")));
    }
    let options = [target.option(), "--std=c++17".into(), "--fmad=false".into()];
    let options: Vec<CString> = options.iter().map(|option| text(option)).collect::<Result<_, _>>()?;
    let option_pointers = pointers(&options);
    // SAFETY: a live program and live options.
    let code = unsafe { (functions.compile)(program, options.len() as c_int, option_pointers.as_ptr()) };
    let outcome = if code == 0 {
        let (size, write) = match target {
            Target::Machine(_) => (functions.cubin_size, functions.cubin),
            Target::Ptx(_) => (functions.ptx_size, functions.ptx),
        };
        // SAFETY: a compiled program; the two calls return a size and write that many bytes.
        unsafe { output(program, size, write) }.map_err(|code| failed(format!("NVRTC returned no machine code: error {code}")))
    } else {
        // SAFETY: as above, for the log.
        let log = unsafe { output(program, functions.log_size, functions.log) }.unwrap_or_default();
        let log = String::from_utf8_lossy(&log).trim_end_matches('\0').to_owned();
        let first = log.lines().filter(|line| line.contains("error")).take(3).collect::<Vec<_>>().join("; ");
        Err(failed(if first.is_empty() { format!("error {code}: {log}") } else { first }))
    };
    // SAFETY: destroyed once.
    unsafe { (functions.destroy)(&mut program) };
    outcome
}

type Sizer = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Writer = unsafe extern "C" fn(Program, *mut c_char) -> c_int;

/// # Safety
/// `size` and `write` match each other and this program.
unsafe fn output(program: Program, size: Sizer, write: Writer) -> Result<Vec<u8>, c_int> {
    let mut bytes = 0;
    // SAFETY: an out value.
    match unsafe { size(program, &mut bytes) } {
        0 => {}
        code => return Err(code),
    }
    let mut out = vec![0_u8; bytes];
    // SAFETY: space for the reported number of bytes.
    match unsafe { write(program, out.as_mut_ptr().cast()) } {
        0 => Ok(out),
        code => Err(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_newer_than_the_compiler_gets_ptx_of_the_nearest_architecture() {
        let known = [75, 80, 90, 100];
        assert_eq!(Target::of((9, 0), &known), Target::Machine(90));
        assert_eq!(Target::of((12, 1), &known), Target::Ptx(100));
        assert_eq!(Target::of((8, 9), &known), Target::Ptx(80));
        assert_eq!(Target::of((7, 0), &known), Target::Machine(70), "too old: the compiler says so");
        assert_eq!(Target::of((9, 0), &[]), Target::Machine(90));
        assert_eq!(Target::Ptx(100).option(), "--gpu-architecture=compute_100");
    }

    #[test]
    fn kernels_compile_to_ptx() {
        let Ok(functions) = functions() else {
            return eprintln!("kernels_compile_to_ptx did not run: NVRTC is not installed");
        };
        let code = "extern \"C\" __global__ void one(int *at) { *at = 1; }";
        let newest = known_architectures(functions).into_iter().max().expect("known ones");
        let made = compile_to(functions, "one", code, &[], Target::Ptx(newest)).expect("compiles");
        assert!(String::from_utf8_lossy(&made).contains(".visible .entry one") && made.ends_with(&[0]), "PTX ends with a zero byte");
    }
}
