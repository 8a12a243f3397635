//! Properties of this build and machine, for `framerail.doctor`.

use framerail::{
    core::Device,
    cuda::{CudaDevice, KeptContext, device_count, device_info, driver_version, release_memory},
    infer::{CardFile, Runtime, SearchPath},
    media::version as media,
    pipeline::parse_time,
    presets::{BlurFaces, Cover, CoverShape, HoldFor},
};
use pyo3::{exceptions::PyValueError, prelude::*};
use serde::Deserialize;
use serde_json::json;

use crate::{errors, options::parse, pipeline};

/// The package's version.
#[pyfunction]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// FFmpeg: version, licence, libraries, decoders, encoders; as JSON.
#[pyfunction]
pub fn ffmpeg() -> String {
    json!({
        "version": media::ffmpeg_version(),
        "license": media::ffmpeg_license(),
        "libraries": media::library_versions(),
        "decoders": media::video_decoders(),
        "encoders": media::video_encoders(),
    })
    .to_string()
}

/// Driver and GPUs, as JSON.
///
/// # Errors
/// `framerail.CudaError` without a driver or GPU.
#[pyfunction]
pub fn cuda_devices(py: Python<'_>) -> PyResult<String> {
    let look = || {
        let (major, minor) = driver_version()?;
        let cards = (0..device_count()?).map(device_info).collect::<Result<Vec<_>, _>>()?;
        Ok(json!({"driver": format!("{major}.{minor}"), "devices": cards}).to_string())
    };
    py.detach(look).map_err(|error: framerail::cuda::CudaError| errors::cuda(py, &error))
}

/// Releases cached device memory, for another library that has none left.
///
/// # Errors
/// `framerail.CudaError` for a device number that does not exist.
#[pyfunction]
pub fn release_cuda_memory(py: Python<'_>, device: u32) -> PyResult<()> {
    py.detach(|| CudaDevice::open(device).map(|device| release_memory(&device))).map_err(|error| errors::cuda(py, &error))
}

/// ONNX Runtime: library, version, providers; as JSON.
///
/// # Errors
/// `ValueError` with the places that were searched.
#[pyfunction]
pub fn onnxruntime(py: Python<'_>) -> PyResult<String> {
    let _kept = KeptContext::note();
    let device = if framerail::devices::is_gpu_present() { Device::Cuda(0) } else { Device::Cpu };
    let runtime = py.detach(|| Runtime::load_for(device, None, &SearchPath::from_env()));
    let runtime = runtime.map_err(|error| PyValueError::new_err(error.to_string()))?;
    let info = runtime.info();
    Ok(json!({"library": info.path, "version": info.version, "providers": info.providers}).to_string())
}

/// Location of a model card and its model file, as JSON.
///
/// # Errors
/// `ValueError` for a name without a model card.
#[pyfunction]
pub fn models(name: &str) -> PyResult<String> {
    let search = SearchPath::from_env();
    let found = CardFile::find(name, &search).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let folder = found.path.as_deref().and_then(std::path::Path::parent);
    let file = search.model_files(&found.card.file, folder).into_iter().find(|file| file.is_file());
    Ok(json!({"name": name, "card": found.path, "file": file}).to_string())
}

/// The stages of pipelines, as JSON.
#[pyfunction]
pub fn stages() -> PyResult<String> {
    pipeline::stage_list()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BlurFacesOptions {
    input: String,
    output: String,
    device: Option<String>,
    model: String,
    #[serde(default)]
    precision: Option<String>,
    #[serde(default)]
    provider: Option<String>,
    confidence: Option<f32>,
    /// Height and width.
    detection_size: Option<(u32, u32)>,
    every: u32,
    hold: Option<Hold>,
    cover: String,
    cell: u32,
    color: String,
    image: Option<String>,
    strength: Option<f32>,
    shape: String,
    contour_model: Option<String>,
    mask_scale: Option<f32>,
    feather: Option<f32>,
    draw_scores: bool,
    report: Option<String>,
    save: Option<String>,
    overwrite: bool,
    read: Vec<(String, String)>,
    write: Vec<(String, String)>,
}

/// A number of frames, or a time such as `0.5s`; an empty text is the default.
#[derive(Deserialize)]
#[serde(untagged)]
enum Hold {
    Frames(u32),
    Secs(String),
}

/// The pipeline that covers faces, as text; options in JSON.
///
/// # Errors
/// `ValueError`.
#[pyfunction]
pub fn blur_faces_pipeline(options_json: &str) -> PyResult<String> {
    let given: BlurFacesOptions = parse(options_json)?;
    let bad = |name: &str, value: &str, allowed: &str| PyValueError::new_err(format!("option '{name}': {value:?}; use {allowed}"));
    let mut preset = BlurFaces::new(given.input, given.output);
    preset.device = given.device.map(|name| name.parse().map_err(|_| bad("device", &name, "auto, cpu, cuda or cuda:N"))).transpose()?;
    preset.model = given.model;
    let precisions = "auto, fp32, fp16, bf16 or int8";
    preset.precision = given.precision.map(|name| name.parse().map_err(|_| bad("precision", &name, precisions))).transpose()?;
    preset.provider = given.provider;
    preset.confidence_threshold = given.confidence;
    preset.detection_size = given.detection_size.map(|(height, width)| (width, height));
    preset.detect_every = given.every;
    preset.hold = match given.hold {
        None => HoldFor::Nothing,
        Some(Hold::Frames(frames)) => HoldFor::Frames(frames),
        Some(Hold::Secs(text)) if text.is_empty() => HoldFor::Usual,
        Some(Hold::Secs(text)) => {
            let time = parse_time(&text).map_err(|_| bad("hold", &text, "a number of frames, a time such as '0.5s', or None"))?;
            HoldFor::Secs(time.as_secs_f64())
        }
    };
    preset.cover = match given.cover.as_str() {
        "gaussian" => Cover::Gaussian,
        "box" => Cover::Box,
        "mosaic" => Cover::Mosaic { cell_pixels: given.cell },
        "solid" => Cover::Solid { color: given.color },
        "image" => Cover::Image { path: given.image.ok_or_else(|| bad("image", "None", "an image file with cover='image'"))?.into() },
        "none" => Cover::Nothing,
        other => return Err(bad("cover", other, "gaussian, box, mosaic, solid, image or none")),
    };
    preset.shape = match given.shape.as_str() {
        "ellipse" => CoverShape::Ellipse,
        "rectangle" => CoverShape::Rectangle,
        "contour" => CoverShape::Contour,
        other => return Err(bad("shape", other, "ellipse, rectangle or contour")),
    };
    if given.contour_model.is_some() && preset.shape != CoverShape::Contour {
        return Err(bad("shape", &given.shape, "contour, or leave contour_model out"));
    }
    preset.contour_model = given.contour_model;
    (preset.strength, preset.mask_scale, preset.feather) = (given.strength, given.mask_scale, given.feather);
    (preset.draw_scores, preset.overwrite) = (given.draw_scores, given.overwrite);
    (preset.report, preset.save) = (given.report.map(Into::into), given.save.map(Into::into));
    (preset.read_options, preset.write_options) = (given.read, given.write);
    Ok(preset.description().to_string())
}
