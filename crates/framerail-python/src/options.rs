//! Options as `framerail/options.py` sends them in JSON: checked there, complete, with the names used here.

use std::{
    path::PathBuf,
    process,
    sync::{Arc, OnceLock},
    time::Duration,
};

use framerail::{
    core::{BBox, CoreError, DType, Device, TensorLayout},
    cuda::{CudaDevice, CudaError, device_count},
    media::Allowance,
    pipeline::DeviceChoice,
    reader::{IndexCache, IndexPolicy, OnError, OutputOptions, ReadDevice, ReadMode, ReaderOptions, Selection, TensorOptions},
    vision::{ChannelOrder, Fit, Resize, ResizeFilter, Sampling, TensorSize, ToneMap},
};
use pyo3::{exceptions::PyValueError, prelude::*};
use serde::Deserialize;

use crate::{errors, source::Source};

/// Parses JSON.
///
/// # Errors
/// `ValueError` with the place and what is allowed there.
pub fn parse<'a, T: Deserialize<'a>>(json: &'a str) -> PyResult<T> {
    serde_json::from_str(json).map_err(|error| PyValueError::new_err(format!("bad options: {error}")))
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Auto,
    Seek,
    Stream,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Index {
    Exact,
    Approximate,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ErrorPolicy {
    Repair,
    Fail,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Channels {
    Rgb,
    Bgr,
    Gray,
    Hsv,
    Rgba,
    Yuv,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum FitName {
    Stretch,
    Letterbox,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum FilterName {
    Nearest,
    #[serde(rename = "nearest-exact")]
    NearestExact,
    Bilinear,
    Bicubic,
    Area,
    Lanczos,
}

impl FilterName {
    fn filter(&self) -> ResizeFilter {
        match self {
            FilterName::Nearest => ResizeFilter::Nearest,
            FilterName::NearestExact => ResizeFilter::NearestExact,
            FilterName::Bilinear => ResizeFilter::Bilinear,
            FilterName::Bicubic => ResizeFilter::Bicubic,
            FilterName::Area => ResizeFilter::Area,
            FilterName::Lanczos => ResizeFilter::Lanczos,
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum ToneCurve {
    Bt2390,
    Hable,
}

/// Output format of frames.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    layout: TensorLayout,
    dtype: String,
    /// Height and width.
    size: Option<(u32, u32)>,
    /// Length of the shorter side, instead of both.
    short_side: Option<u32>,
    /// Maximum length of the longer side in pixels.
    max_size: Option<u32>,
    /// Height and width of the centre crop of the resized frame.
    center_crop: Option<(u32, u32)>,
    fit: FitName,
    /// 0 to 255.
    pad: u8,
    resize: FilterName,
    antialias: bool,
    channels: Channels,
    /// x, y, width, height.
    crop: Option<(f32, f32, f32, f32)>,
    scale: f32,
    mean: [f32; 3],
    std: [f32; 3],
    swscale: bool,
    tone_map: Option<ToneCurve>,
}

impl Output {
    fn into_options(self) -> PyResult<OutputOptions> {
        let channel_order = match self.channels {
            Channels::Rgb => ChannelOrder::Rgb,
            Channels::Bgr => ChannelOrder::Bgr,
            Channels::Gray => ChannelOrder::Gray,
            Channels::Hsv => ChannelOrder::Hsv,
            Channels::Rgba => ChannelOrder::Rgba,
            Channels::Yuv => return Ok(OutputOptions::Yuv),
        };
        let mut tensor = TensorOptions { channel_order, layout: self.layout, dtype: dtype(&self.dtype)?, ..TensorOptions::default() };
        tensor.crop = self.crop.map(|(x, y, width, height)| BBox::from_xyxy(x, y, x + width, y + height));
        tensor.size = match (self.size, self.short_side, self.max_size) {
            (Some((height, width)), ..) => TensorSize::Exact(width, height),
            (None, Some(length), max) => TensorSize::ShortSide { length, max },
            (None, None, Some(longer)) => TensorSize::LongSide(longer),
            (None, None, None) => TensorSize::Own,
        };
        tensor.center_crop = self.center_crop.map(|(height, width)| (width, height));
        tensor.fit = match self.fit {
            FitName::Stretch => Fit::Stretch,
            FitName::Letterbox => Fit::Letterbox { pad: self.pad, centered: true },
        };
        tensor.sampling = Sampling::Filter(Resize { filter: self.resize.filter(), antialias: self.antialias });
        (tensor.scale, tensor.mean, tensor.std) = (self.scale, self.mean, self.std);
        tensor.tone_map = self.tone_map.map(|curve| match curve {
            ToneCurve::Bt2390 => ToneMap::Bt2390,
            ToneCurve::Hable => ToneMap::Hable,
        });
        Ok(if self.swscale { OutputOptions::Swscale(tensor) } else { OutputOptions::Tensor(tensor) })
    }
}

/// An element type by its name.
///
/// # Errors
/// `ValueError`.
pub fn dtype(name: &str) -> PyResult<DType> {
    match name {
        "uint8" => Ok(DType::U8),
        "uint16" => Ok(DType::U16),
        "float16" => Ok(DType::F16),
        "bfloat16" => Ok(DType::Bf16),
        "float32" => Ok(DType::F32),
        other => Err(PyValueError::new_err(format!("option 'dtype': {other}; use uint8, uint16, float16, bfloat16 or float32"))),
    }
}

/// NumPy's name of an element type, also used by PyTorch.
pub fn dtype_name(dtype: DType) -> &'static str {
    match dtype {
        DType::U8 => "uint8",
        DType::U16 => "uint16",
        DType::F16 => "float16",
        DType::Bf16 => "bfloat16",
        _ => "float32",
    }
}

/// Parses [`Output`].
///
/// # Errors
/// `ValueError`.
pub fn output(json: &str) -> PyResult<OutputOptions> {
    parse::<Output>(json)?.into_options()
}

/// Parses [`Output`] for a model's input.
///
/// # Errors
/// `ValueError` for outputs that only readers have.
pub fn tensor(json: &str) -> PyResult<TensorOptions> {
    match output(json)? {
        OutputOptions::Tensor(options) => Ok(options),
        _ => Err(PyValueError::new_err(
            "a model takes channels, not planes as decoded; use rgb, bgr, gray, hsv or rgba, and leave out exact",
        )),
    }
}

/// All options of a reader.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reader {
    device: String,
    /// The GPU that returns frames; by default the first of `device`.
    hand_out: Option<String>,
    /// The GPU that `auto` tries.
    current_gpu: u32,
    mode: Mode,
    output: Output,
    index: Index,
    /// `sidecar`, or a folder.
    index_cache: Option<String>,
    threads: usize,
    queue: usize,
    memory: Option<u64>,
    timeout: Option<f64>,
    stream: Option<usize>,
    on_error: ErrorPolicy,
    format: Option<String>,
    allow: String,
    insecure: bool,
}

/// Parses a reader's options.
///
/// # Errors
/// `ValueError`, and `framerail.CudaError` for a GPU that does not exist.
pub fn reader(py: Python<'_>, json: &str, source: &Source) -> PyResult<ReaderOptions> {
    let given: Reader = parse(json)?;
    let mut options = ReaderOptions::new(source.input.source.clone());
    (options.device, options.decode_on) = devices(py, &given)?;
    options.input.custom = source.input.custom.clone();
    options.input.video_stream = given.stream;
    options.input.format = given.format;
    options.input.allow = Allowance::of(&given.allow).unwrap_or_default();
    options.input.insecure = given.insecure;
    options.mode = match given.mode {
        Mode::Auto => ReadMode::Auto,
        Mode::Seek => ReadMode::Seek,
        Mode::Stream => ReadMode::Stream,
    };
    options.output = given.output.into_options()?;
    options.index = match given.index {
        Index::Exact => IndexPolicy::Exact,
        Index::Approximate => IndexPolicy::Approximate,
    };
    options.cache = match given.index_cache.as_deref() {
        None => IndexCache::None,
        Some("sidecar") => IndexCache::Sidecar,
        Some(folder) => IndexCache::Folder(PathBuf::from(folder)),
    };
    (options.threads, options.queue, options.memory_bytes) = (given.threads, given.queue, given.memory);
    options.timeout = timeout(given.timeout)?;
    options.input.read_timeout = options.timeout;
    options.on_error = match given.on_error {
        ErrorPolicy::Repair => OnError::Repair,
        ErrorPolicy::Fail => OnError::Fail,
    };
    Ok(options)
}

/// A time limit in seconds.
///
/// # Errors
/// `ValueError`.
pub fn timeout(secs: Option<f64>) -> PyResult<Option<Duration>> {
    let limit = secs.map(Duration::try_from_secs_f64).transpose();
    limit.map_err(|error| PyValueError::new_err(format!("option 'timeout': {error}")))
}

/// The device of returned frames, and the decoding GPUs if they differ.
fn devices(py: Python<'_>, given: &Reader) -> PyResult<(ReadDevice, Vec<Arc<CudaDevice>>)> {
    let bad = |error: &dyn std::fmt::Display| PyValueError::new_err(format!("option 'device': {error}"));
    let gpu = |ordinal| open(py, ordinal).map_err(|error| errors::cuda(py, &error));
    let wanted: DeviceChoice = given.device.parse().map_err(|error| bad(&error))?;
    let ordinals = match wanted {
        DeviceChoice::On(Device::Cpu) => return Ok((ReadDevice::Cpu, Vec::new())),
        DeviceChoice::On(Device::Cuda(ordinal)) => vec![ordinal],
        DeviceChoice::OnSeveral(gpus) => gpus.ordinals(device_count().map_err(|error| errors::cuda(py, &error))?),
        DeviceChoice::Auto => {
            return match open(py, given.current_gpu) {
                Ok(device) => Ok((ReadDevice::Cuda(device), Vec::new())),
                Err(error) if framerail::devices::is_gpu_present() => {
                    log::warn!("the GPU cannot be used, frames are decoded on the CPU: {error}");
                    Ok((ReadDevice::Cpu, Vec::new()))
                }
                Err(_) => Ok((ReadDevice::Cpu, Vec::new())),
            };
        }
    };
    let decode_on = ordinals.into_iter().map(gpu).collect::<PyResult<Vec<_>>>()?;
    let first = decode_on.first().cloned().ok_or_else(|| bad(&"no GPU was found"))?;
    let on = match given.hand_out.as_deref().map(str::parse).transpose().map_err(|error: CoreError| bad(&error))? {
        Some(Device::Cuda(ordinal)) => gpu(ordinal)?,
        _ => first,
    };
    Ok((ReadDevice::Cuda(on), decode_on))
}

/// Initialises a GPU, unless that was done before this process was forked: the driver does not survive a fork.
fn open(py: Python<'_>, ordinal: u32) -> Result<Arc<CudaDevice>, CudaError> {
    static FIRST_USE: OnceLock<u32> = OnceLock::new();
    if *FIRST_USE.get_or_init(process::id) != process::id() {
        let what = "CUDA cannot be used in a process that was forked after its first use; start processes with 'spawn' or 'forkserver'";
        return Err(CudaError::BadArgument { what: what.into() });
    }
    py.detach(|| CudaDevice::open(ordinal))
}

/// The frames of a stream of batches.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
enum Frames {
    Range { start: usize, stop: Option<usize>, step: usize },
    List(Vec<usize>),
    Fps { fps: f64, start: Option<f64>, end: Option<f64> },
}

/// Parses a selection.
///
/// # Errors
/// `ValueError`.
pub fn selection(json: &str) -> PyResult<Selection> {
    Ok(match parse::<Frames>(json)? {
        Frames::Range { start, stop, step } => Selection::Range { start, stop, step },
        Frames::List(numbers) => Selection::List(numbers),
        Frames::Fps { fps, start, end } => Selection::Fps { fps, start_secs: start, end_secs: end },
    })
}
