//! Kernels: compiled for the present GPU, cached on disk and loaded once.

use std::{
    collections::HashMap,
    ffi::{CString, c_void},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use cudarc::driver::sys;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::{CudaDevice, CudaStream, error::CudaError, nvrtc};

/// CUDA source embedded in the program.
pub struct KernelSource {
    /// Name, for messages and the cache.
    pub name: &'static str,
    /// CUDA C++ code.
    pub code: &'static str,
    /// Included headers by name.
    pub headers: &'static [(&'static str, &'static str)],
}

/// A loaded kernel.
#[derive(Clone, Copy, Debug)]
pub struct Kernel(sys::CUfunction);

// SAFETY: any thread may launch functions of a module that is never unloaded.
unsafe impl Send for Kernel {}
// SAFETY: as above.
unsafe impl Sync for Kernel {}

/// The modules that a device has loaded.
#[derive(Default)]
pub(crate) struct LoadedModules {
    modules: Mutex<HashMap<&'static str, Module>>,
}

struct Module {
    module: sys::CUmodule,
    kernels: HashMap<String, Kernel>,
}

// SAFETY: behind a lock; any thread may use the driver's modules.
unsafe impl Send for Module {}

/// Cache folder for compiled kernels: `FRAMERAIL_CACHE`, else `XDG_CACHE_HOME/framerail`, else `~/.cache/framerail`.
pub fn kernel_cache_folder() -> Option<PathBuf> {
    let base = std::env::var_os("FRAMERAIL_CACHE").map(PathBuf::from);
    let xdg = || std::env::var_os("XDG_CACHE_HOME").map(|folder| PathBuf::from(folder).join("framerail"));
    let home = || std::env::var_os("HOME").map(|folder| PathBuf::from(folder).join(".cache/framerail"));
    base.or_else(xdg).or_else(home).filter(|folder| folder.is_absolute()).map(|folder| folder.join("kernels"))
}

impl KernelSource {
    /// Compiles for an architecture; needs no GPU.
    ///
    /// # Errors
    /// `Compile`.
    pub fn compile(&self, architecture: (u32, u32)) -> Result<Vec<u8>, CudaError> {
        nvrtc::compile(self.name, self.code, self.headers, architecture)
    }

    /// Cache file of the compiled code.
    fn cache_file(&self, architecture: (u32, u32)) -> Option<PathBuf> {
        let mut hash = Sha256::new();
        for part in [env!("CARGO_PKG_VERSION"), self.name, self.code].into_iter().chain(self.headers.iter().map(|(_, body)| *body)) {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        let digest: String = hash.finalize().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        kernel_cache_folder().map(|folder| folder.join(format!("{}-sm{}{}-{digest}.kernels", self.name, architecture.0, architecture.1)))
    }

    /// The compiled code, from the cache if available.
    fn code(&self, architecture: (u32, u32)) -> Result<Vec<u8>, CudaError> {
        let file = self.cache_file(architecture);
        if let Some(kept) = file.as_ref().and_then(|file| std::fs::read(file).ok()).and_then(unsealed) {
            return Ok(kept);
        }
        let code = self.compile(architecture)?;
        if let Some(file) = file
            && let Err(error) = keep(&file, &sealed(&code))
        {
            log::debug!("compiled kernels are not cached: {}: {error}", file.display());
        }
        Ok(code)
    }
}

/// Appends the hash of the code.
fn sealed(code: &[u8]) -> Vec<u8> {
    [code, Sha256::digest(code).as_slice()].concat()
}

/// Returns the code of a cache file if its hash matches.
fn unsealed(mut kept: Vec<u8>) -> Option<Vec<u8>> {
    let code = kept.len().checked_sub(Sha256::output_size())?;
    let is_whole = Sha256::digest(&kept[..code]).as_slice() == &kept[code..];
    kept.truncate(code);
    (is_whole && code > 0).then_some(kept)
}

/// Writes to a temporary file and renames it, so that another process never reads a partial file.
fn keep(file: &std::path::Path, code: &[u8]) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(file);
    std::fs::create_dir_all(folder)?;
    let partial = file.with_extension(format!("{}.part", std::process::id()));
    std::fs::write(&partial, code)?;
    std::fs::rename(&partial, file)
}

impl CudaDevice {
    /// Returns a kernel by name, compiling and loading it on first use.
    ///
    /// # Errors
    /// `Compile` when there is no compiler or the kernel does not exist, `Driver`.
    pub fn kernel(self: &Arc<Self>, source: &'static KernelSource, name: &str) -> Result<Kernel, CudaError> {
        let mut modules = self.modules.modules.lock();
        if !modules.contains_key(source.name) {
            let began = Instant::now();
            let code = source.code(self.info().compute_capability)?;
            let entered = self.enter()?;
            let mut module = std::ptr::null_mut();
            // SAFETY: an out value, and a complete ELF image or NUL-terminated PTX, which the driver copies.
            let loaded = unsafe { sys::cuModuleLoadData(&mut module, code.as_ptr().cast()) };
            entered.check(loaded, &format!("loading the kernels of {}", source.name))?;
            log::debug!("loading the kernels of {} took {:.1} ms", source.name, began.elapsed().as_secs_f64() * 1000.0);
            modules.insert(source.name, Module { module, kernels: HashMap::new() });
        }
        let missing = || CudaError::Compile { kernel: source.name.to_owned(), reason: format!("it has no kernel `{name}`") };
        let module = modules.get_mut(source.name).ok_or_else(missing)?;
        if let Some(kernel) = module.kernels.get(name) {
            return Ok(*kernel);
        }
        let entered = self.enter()?;
        let symbol = CString::new(name).map_err(|_| missing())?;
        let mut function = std::ptr::null_mut();
        // SAFETY: an out value, a loaded module and a name.
        let code = unsafe { sys::cuModuleGetFunction(&mut function, module.module, symbol.as_ptr()) };
        entered.check(code, &format!("finding the kernel {name}"))?;
        module.kernels.insert(name.to_owned(), Kernel(function));
        Ok(Kernel(function))
    }
}

/// Launch dimensions of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Launch {
    /// Grid size: blocks in x, y, z.
    pub grid: (u32, u32, u32),
    /// Block size: threads in x, y, z.
    pub block: (u32, u32, u32),
    /// Dynamic shared memory per block, in bytes.
    pub shared_bytes: u32,
}

impl Kernel {
    /// Queues the kernel on a stream.
    ///
    /// # Safety
    /// `arguments` point to one value for each kernel parameter, of its type; device memory they refer to is live and large enough
    /// until the stream has run the kernel, and ordered with its other uses.
    ///
    /// # Errors
    /// `Driver`.
    pub(crate) unsafe fn launch(&self, stream: &CudaStream, launch: Launch, arguments: &mut [*mut c_void]) -> Result<(), CudaError> {
        let Launch { grid, block, shared_bytes } = launch;
        if grid.0 == 0 || grid.1 == 0 || grid.2 == 0 {
            return Ok(());
        }
        let entered = stream.device().enter()?;
        // SAFETY: guaranteed by the caller; the driver copies the arguments before it returns.
        let code = unsafe {
            sys::cuLaunchKernel(
                self.0,
                grid.0,
                grid.1,
                grid.2,
                block.0,
                block.1,
                block.2,
                shared_bytes,
                stream.handle(),
                arguments.as_mut_ptr(),
                std::ptr::null_mut(),
            )
        };
        entered.check(code, "launching a kernel")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_code_is_used_only_as_it_was_written() {
        let kept = sealed(b"\x7fELF and more");
        assert_eq!(unsealed(kept.clone()).as_deref(), Some(&b"\x7fELF and more"[..]));
        for place in 0..kept.len() {
            let mut changed = kept.clone();
            changed[place] ^= 1;
            assert_eq!(unsealed(changed), None, "byte {place}");
            assert_eq!(unsealed(kept[..place].to_vec()), None, "cut off after {place} bytes");
        }
    }
}
