//! Kernels compiled as host C++ and run on the CPU.

use std::{
    collections::HashMap,
    ffi::c_void,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, LazyLock, Mutex},
};

use framerail_core::{AugmentParams, AugmentSpec, DType, FramePool, HidePlan, Histogram, HostSurface, Rotation, Stroke, ToneCurves};
use framerail_cuda::{
    CudaError, KernelSource, Launch,
    kernels::{
        BoxDecoder, Conversion, FrameBoxes, HISTOGRAM_BYTES, RawAugmentJob, RawConvertJob, RawDrawJob, RawHistogramJob, RawImage,
        RawObscureJob, RawOutputs, RawScratch, Runner, TableBytes, TensorSpec, augment_raw, augment_scratch_bytes, convert_raw,
        count_histograms_raw, decode_boxes_raw, draw_commands, draw_raw, obscure_rasters, obscure_raw, obscure_scratch_bytes, read_boxes,
        read_histograms, repack_raw, repacked_format, turn_raw,
    },
};

use crate::kernels_cases::KernelRunner;

type Run = unsafe extern "C" fn(*const c_void, *const c_void, *const u32, *const u32, *const u64, u64) -> u64;

static LIBRARIES: LazyLock<Mutex<HashMap<&'static str, Arc<libloading::Library>>>> = LazyLock::new(Mutex::default);

/// A GPU emulated on the host; knows which memory may be read.
#[derive(Default)]
pub struct Emulator {
    readable: Mutex<Vec<u64>>,
}

fn compiled(source: &'static KernelSource) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("emulation-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the emulation");
    for (name, body) in source.headers.iter().chain(&[("card.h", include_str!("card.h"))]) {
        std::fs::write(folder.join(name), body).expect("writable");
    }
    let (code, library) = (folder.join(format!("{}.cu", source.name)), folder.join(format!("{}.so", source.name)));
    std::fs::write(&code, source.code).expect("writable");
    let options = ["-x", "c++", "-std=c++17", "-O1", "-ffp-contract=off", "-fwrapv", "-fno-strict-aliasing", "-fPIC", "-shared", "-Wall"];
    let quiet = ["-Wno-unknown-pragmas", "-Wno-unused-function"];
    let mut command = Command::new(std::env::var_os("CXX").unwrap_or("g++".into()));
    command.args(options).args(quiet).args(["-Werror", "-include", "card.h"]).arg("-o").args([&library, &code]).current_dir(&folder);
    let output = command.output().expect("g++ is installed by scripts/setup.sh");
    assert!(output.status.success(), "{}: {}", source.name, String::from_utf8_lossy(&output.stderr));
    library
}

impl Emulator {
    /// Allows kernels to read a range.
    pub fn allow(&self, start: u64, bytes: usize) {
        self.readable.lock().expect("no panic").extend([start, start + bytes as u64]);
    }

    /// The addresses of a frame, whose planes may be read up to their last sample.
    pub fn image(&self, surface: &HostSurface) -> RawImage {
        let mut image =
            RawImage { format: surface.format(), width: surface.width(), height: surface.height(), planes: [0; 4], pitches_bytes: [0; 4] };
        for plane in 0..surface.format().planes() {
            image.planes[plane] = surface.plane(plane).as_ptr() as u64;
            image.pitches_bytes[plane] = surface.layout(plane).pitch_bytes;
            self.allow(image.planes[plane], surface.layout(plane).min_bytes());
        }
        image
    }
}

impl Emulator {
    /// The addresses of a frame that is written.
    pub fn writable(&self, surface: &mut HostSurface) -> RawImage {
        let mut image = self.image(surface);
        let planes = surface.format().planes();
        let mut writable = surface.planes_mut().expect("its only holder");
        for plane in 0..planes {
            image.planes[plane] = writable.plane(plane).as_mut_ptr() as u64;
        }
        image
    }
}

impl Runner for Emulator {
    unsafe fn run(
        &self,
        source: &'static KernelSource,
        kernel: &'static str,
        launch: Launch,
        parameters: *const c_void,
    ) -> Result<(), CudaError> {
        // The library keeps block positions in globals: run one kernel at a time.
        let mut libraries = LIBRARIES.lock().expect("no panic");
        // SAFETY: our own code, without initialisers.
        let load = || Arc::new(unsafe { libloading::Library::new(compiled(source)) }.expect("just compiled"));
        let library = Arc::clone(libraries.entry(source.name).or_insert_with(load));
        let (grid, block) = (launch.grid, launch.block);
        let readable = self.readable.lock().expect("no panic");
        // SAFETY: the function has this signature in `card.h`; kernels take a reference to their parameters, which the caller guarantees.
        let violations = unsafe {
            let run: libloading::Symbol<'_, Run> = library.get(b"framerail_run\0").expect("in card.h");
            let function: libloading::Symbol<'_, *const c_void> = library.get(kernel.as_bytes()).expect("a kernel of this name");
            let (grid, block) = ([grid.0, grid.1, grid.2], [block.0, block.1, block.2]);
            run(*function, parameters, grid.as_ptr(), block.as_ptr(), readable.as_ptr(), readable.len() as u64 / 2)
        };
        assert_eq!(violations, 0, "{kernel} read outside of its pictures");
        Ok(())
    }
}

/// Bytes around an output that no kernel may write.
const GUARD: usize = 64;

/// Memory between guard bytes.
pub struct Guarded {
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl Guarded {
    pub fn new(bytes: usize) -> Self {
        let memory = vec![0x5a_u8; bytes + 2 * GUARD + 16];
        let start = GUARD + (16 - (memory.as_ptr() as usize + GUARD) % 16) % 16;
        Self { memory, start, bytes }
    }

    pub fn zero(&mut self) {
        self.memory[self.start..self.start + self.bytes].fill(0);
    }

    pub fn fill(&mut self, bytes: &[u8]) {
        self.memory[self.start..][..self.bytes].copy_from_slice(bytes);
    }

    pub fn address(&mut self) -> u64 {
        self.memory.as_mut_ptr() as u64 + self.start as u64
    }

    /// The bytes; panics if a guard byte changed.
    pub fn take(self) -> Vec<u8> {
        let (start, end) = (self.start, self.start + self.bytes);
        assert!(self.memory[..start].iter().chain(&self.memory[end..]).all(|byte| *byte == 0x5a), "written beyond the output");
        self.memory[start..end].to_vec()
    }
}

impl KernelRunner for Emulator {
    fn convert_with(&self, images: &[HostSurface], conversions: &[Conversion], tone: Option<&ToneCurves>, tensor: &TensorSpec) -> Vec<u8> {
        let bytes = tensor.image_bytes();
        let mut out = Guarded::new(bytes * images.len());
        // 64-bit elements, so that tables are aligned.
        let mut kept: Vec<Vec<u64>> = Vec::new();
        let jobs = images.iter().zip(conversions).zip(0_u64..).map(|((image, conversion), index)| {
            let tables = TableBytes::new(conversion, (image.width(), image.height()), tone).map(|tables| {
                let mut bytes = tables.bytes.clone();
                bytes.resize(bytes.len().next_multiple_of(8), 0);
                kept.push(bytes.as_chunks::<8>().0.iter().map(|bytes| u64::from_ne_bytes(*bytes)).collect());
                let address = kept.last().map_or(0, |words| words.as_ptr() as u64);
                self.allow(address, bytes.len());
                tables.at(address)
            });
            RawConvertJob {
                image: self.image(image),
                conversion: *conversion,
                tables: tables.unwrap_or_default(),
                out: out.address() + index * bytes as u64,
            }
        });
        let jobs: Vec<RawConvertJob> = jobs.collect();
        // SAFETY: live host memory, for the host emulation.
        unsafe { convert_raw(self, tensor, &jobs) }.expect("fitting sizes");
        out.take()
    }

    fn obscure(&self, images: &mut [HostSurface], regions: &[Vec<HidePlan>]) {
        let jobs = images.iter_mut().zip(regions).map(|(image, regions)| RawObscureJob { image: self.writable(image), regions });
        let jobs: Vec<RawObscureJob<'_>> = jobs.collect();
        let mut scratch = Guarded::new(obscure_scratch_bytes(&jobs).expect("fitting regions"));
        let rasters = obscure_rasters(&jobs);
        self.allow(rasters.as_ptr() as u64, rasters.len());
        // SAFETY: live host memory, for the host emulation.
        unsafe { obscure_raw(self, &jobs, scratch.address(), rasters.as_ptr() as u64) }.expect("fitting regions");
        scratch.take();
    }

    fn boxes(&self, decoder: &BoxDecoder, tensors: [&[u8]; 4], dtype: DType, batch: u32) -> Vec<FrameBoxes> {
        let address = |tensor: &[u8]| {
            self.allow(tensor.as_ptr() as u64, tensor.len());
            if tensor.is_empty() { 0 } else { tensor.as_ptr() as u64 }
        };
        let outputs = RawOutputs { tensors: tensors.map(address), dtype, batch };
        let (counter_bytes, candidate_bytes) = BoxDecoder::scratch_bytes(batch);
        let (mut counters, mut candidates) = (Guarded::new(counter_bytes), Guarded::new(candidate_bytes));
        counters.zero();
        let mut results = Guarded::new(decoder.result_bytes(batch));
        let scratch = RawScratch { counters: counters.address(), candidates: candidates.address() };
        // SAFETY: live host memory, for the host emulation.
        unsafe { decode_boxes_raw(self, decoder, &outputs, &scratch, results.address()) }.expect("fitting outputs");
        counters.take();
        candidates.take();
        read_boxes(decoder, batch, &results.take()).expect("whole results")
    }

    fn draw(&self, images: &mut [HostSurface], strokes: &[Vec<Stroke>]) {
        let jobs = images.iter_mut().zip(strokes).map(|(image, strokes)| RawDrawJob { image: self.writable(image), strokes });
        let jobs: Vec<RawDrawJob<'_>> = jobs.collect();
        let commands = draw_commands(&jobs).expect("fitting strokes");
        // 64-bit elements, so that the commands are aligned.
        let aligned: Vec<u64> = commands.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect();
        self.allow(aligned.as_ptr() as u64, commands.len());
        // SAFETY: live host memory, for the host emulation.
        unsafe { draw_raw(self, &jobs, aligned.as_ptr() as u64) }.expect("fitting strokes");
    }

    fn histograms(&self, images: &[HostSurface]) -> Vec<Histogram> {
        let job =
            |image: &HostSurface| RawHistogramJob { image: self.image(image), plan: framerail_vision::histogram_plan(image.format()) };
        let jobs: Vec<RawHistogramJob> = images.iter().map(job).collect();
        let mut counts = Guarded::new(images.len() * HISTOGRAM_BYTES);
        counts.zero();
        // SAFETY: live host memory, for the host emulation.
        unsafe { count_histograms_raw(self, &jobs, counts.address()) }.expect("fitting plans");
        read_histograms(images.len(), &counts.take()).expect("whole counts")
    }

    fn repacked(&self, image: &HostSurface) -> HostSurface {
        let format = repacked_format(image.format()).expect("a format with a counterpart");
        let mut out = FramePool::new(1).surface(format, image.width(), image.height()).expect("size in range");
        // SAFETY: live host memory, for the host emulation.
        unsafe { repack_raw(self, &self.image(image), &self.writable(&mut out)) }.expect("fitting formats");
        out
    }

    fn turned(&self, image: &HostSurface, rotation: Rotation) -> HostSurface {
        let (width, height) = if rotation.swaps_sides() { (image.height(), image.width()) } else { (image.width(), image.height()) };
        let mut out = FramePool::new(1).surface(image.format(), width, height).expect("size in range");
        // SAFETY: live host memory, for the host emulation.
        unsafe { turn_raw(self, &self.image(image), rotation, &self.writable(&mut out)) }.expect("a format that can be turned");
        out
    }

    fn augment(&self, spec: &AugmentSpec, params: &[AugmentParams], input: &[u8]) -> Vec<u8> {
        let mut aligned = Guarded::new(input.len());
        aligned.fill(input);
        let (mut output, mut scratch) =
            (Guarded::new(spec.output.image_bytes() * params.len()), Guarded::new(augment_scratch_bytes(spec, params)));
        self.allow(aligned.address(), input.len());
        self.allow(scratch.address(), augment_scratch_bytes(spec, params));
        let job = RawAugmentJob { params, input: aligned.address(), output: output.address(), scratch: scratch.address() };
        // SAFETY: live host memory, for the host emulation.
        unsafe { augment_raw(self, spec, &job) }.expect("fitting numbers");
        scratch.take();
        output.take()
    }
}
