//! The options of `framerail blur-faces`: those of deface 1.5.0 under their names, and framerail's own.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use framerail::presets::{Cover, CoverShape};

use crate::runner::RunArgs;

pub const EXAMPLES: &str = "\
Examples:
  framerail blur-faces in.mp4                   writes in_anonymized.mp4
  framerail blur-faces in.mp4 -o out.mp4 --crf 20 --preset fast
  framerail blur-faces clips/ -o blurred/       all videos and pictures in it
  framerail blur-faces clips/ --skip-existing   again, for those that are new
  framerail blur-faces in.mp4 --detect-every 3  faster: boxes are linked
  framerail blur-faces in.mp4 --replacewith mosaic --report faces.html
  framerail blur-faces in.mp4 --contour-model segmentation.toml
  framerail blur-faces photo.jpg --contact-sheet look.png
  framerail blur-faces in.mp4 --device cuda     decoded, analysed and covered on a card

Sound, subtitles, tags, colours, frame count and times are those of the input.
Inputs are processed independently: one that fails does not stop the others.
Ctrl-C completes the file with what is there; a second one drops it.
`framerail --help` lists the exit codes.";

/// Cover the faces in videos and pictures
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub struct BlurFacesCommand {
    /// Files, folders (every video and picture in them, not in their subfolders), patterns, addresses
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<String>,
    /// A file; for several inputs a folder, which is made where it is missing [default: beside the input]
    #[arg(short, long, value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// What is put before the extension where the output's name follows from the input's
    #[arg(long, value_name = "TEXT", default_value = "_anonymized")]
    pub suffix: String,
    /// Replace outputs and records that exist
    #[arg(long)]
    pub overwrite: bool,
    /// Leave out inputs whose output exists
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

    /// Print the pipeline of each input, as `framerail run` takes it, and stop there
    #[arg(long, help_heading = "Run")]
    pub print_pipeline: bool,
}

/// How faces are found.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Finding faces")]
pub struct DetectionArgs {
    /// Score from which a face counts, 0 to 1 [default: the model's; 0.2 for centerface]
    #[arg(short, long, visible_aliases = ["threshold", "confidence"], value_name = "T", value_parser = unit)]
    pub thresh: Option<f32>,
    /// Size at which faces are looked for; smaller is faster [default: the frame's]
    #[arg(short, long, value_name = "WxH", value_parser = size)]
    pub scale: Option<(u32, u32)>,
    /// Look for faces on every Nth frame; boxes are linked in between
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub detect_every: u32,
    /// Frames for which a lost face stays covered, forwards and backwards
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(0..=1000))]
    pub hold: u32,
    /// Name of a model, or the path of its card
    #[arg(long, value_name = "MODEL", default_value = "centerface")]
    pub model: String,
}

/// What covers a face.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Covering faces")]
pub struct CoverArgs {
    /// What is put in the place of a face
    #[arg(long, value_enum, value_name = "KIND", default_value_t = ReplaceWith::Blur)]
    pub replacewith: ReplaceWith,
    /// Outline [default: ellipse for blur, gaussian and box, else rectangle]
    #[arg(long, value_enum)]
    pub shape: Option<Shape>,
    /// The same as --shape rectangle
    #[arg(long, conflicts_with = "shape")]
    pub boxes: bool,
    /// Model that looks at each face and gives its mask or landmarks: its name or card, for --shape contour
    #[arg(long, value_name = "MODEL")]
    pub contour_model: Option<String>,
    /// Size of the cover: 1 is the face's box, 1.3 adds 0.3 of its size on each side [default: 1.3; 1.1 for contours]
    #[arg(long, value_name = "M")]
    pub mask_scale: Option<f32>,
    /// Strength of the blur relative to the face: its deviation (gaussian) or the side of its square (box)
    #[arg(long, value_name = "S")]
    pub strength: Option<f32>,
    /// Width of the soft edge relative to the face, 0 to 1
    #[arg(long, value_name = "F", value_parser = unit)]
    pub feather: Option<f32>,
    /// Side of a mosaic's squares in pixels
    #[arg(long, value_name = "PIXELS", default_value_t = 20, value_parser = clap::value_parser!(u32).range(2..=4096))]
    pub mosaicsize: u32,
    /// The picture for --replacewith img
    #[arg(long, value_name = "FILE", default_value = "replace_img.png")]
    pub replaceimg: PathBuf,
    /// The colour for --replacewith solid
    #[arg(long, value_name = "COLOR", default_value = "black")]
    pub color: String,
    /// Draw scores beside the faces
    #[arg(long)]
    pub draw_scores: bool,
}

/// Which part of the input is taken, and how.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Part of the input")]
pub struct PartArgs {
    /// Begin here, such as 90, 1:30 or 500ms
    #[arg(long, value_name = "TIME")]
    pub start: Option<String>,
    /// End before this
    #[arg(long, value_name = "TIME")]
    pub end: Option<String>,
    /// Take this long
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
    /// FFmpeg's name of the encoder [default: the usual one for the container]
    #[arg(long, value_name = "NAME")]
    pub codec: Option<String>,
    /// Constant rate factor; lower is better [default: the encoder's]
    #[arg(long, value_name = "CRF")]
    pub crf: Option<f32>,
    /// The encoder's preset, such as veryfast
    #[arg(long, value_name = "PRESET")]
    pub preset: Option<String>,
    /// Further options of the encoder by FFmpeg's names
    #[arg(long, value_name = "K=V,...")]
    pub encoder_options: Option<String>,
    /// Leave audio and subtitles out
    #[arg(long, conflicts_with = "keep_audio")]
    pub no_audio: bool,
    /// Leave all tags and chapters out [default: only tags that say where the video was recorded]
    #[arg(long, conflicts_with = "keep_metadata")]
    pub strip_tags: bool,
    /// Encoder settings as deface takes them: codec, quality, bitrate, pixelformat, output_params
    #[arg(long, value_name = "JSON")]
    pub ffmpeg_config: Option<String>,
}

/// What is written beside the output.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Records")]
pub struct RecordArgs {
    /// Report on what was found and filled in, with the most doubtful frames; a folder (reports/) gets one for each input and an index
    #[arg(long, value_name = "FILE.html")]
    pub report: Option<PathBuf>,
    /// Picture of frames before and after; a folder gets one for each input
    #[arg(long, value_name = "FILE.png")]
    pub contact_sheet: Option<PathBuf>,
    /// Every box as JSON lines, those filled in included; a folder gets a file for each input
    #[arg(long, value_name = "FILE.jsonl")]
    pub save: Option<PathBuf>,
}

/// Options of deface that need no setting here, or are not there yet.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Taken for compatibility")]
pub struct CompatibilityArgs {
    /// Sound is kept anyway
    #[arg(short, long)]
    pub keep_audio: bool,
    /// Keep all tags, those with the location too
    #[arg(short = 'm', long)]
    pub keep_metadata: bool,
    /// Only ONNX Runtime: auto or onnxrt
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub backend: String,
    /// CPUExecutionProvider or CUDAExecutionProvider: the same as --device cpu or cuda
    #[arg(long, visible_alias = "ep", value_name = "EP")]
    pub execution_provider: Option<String>,
    /// Not there yet
    #[arg(short, long)]
    pub preview: bool,
}

/// What is put in the place of a face, as deface calls it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReplaceWith {
    /// The same as gaussian
    Blur,
    /// A Gaussian blur
    Gaussian,
    /// The mean over a square, as deface blurs
    Box,
    /// One colour
    Solid,
    /// Nothing: faces are found, not covered
    None,
    /// A picture
    Img,
    /// Squares of their mean colour
    Mosaic,
}

/// Outline of what covers a face.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// Turned by the line between the eyes
    Ellipse,
    /// The box
    Rectangle,
    /// What a model says belongs to the face; the ellipse where it says nothing
    Contour,
}

impl CoverArgs {
    /// What is put in the place of a face.
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

    /// The outline: as asked for, else as deface draws this kind.
    pub fn outline(&self) -> CoverShape {
        match (self.shape, self.boxes, self.replacewith) {
            (Some(Shape::Rectangle), ..) | (None, true, _) => CoverShape::Rectangle,
            (Some(Shape::Ellipse), ..) => CoverShape::Ellipse,
            (Some(Shape::Contour), ..) => CoverShape::Contour,
            // Who names a model for contours wants them.
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

fn size(text: &str) -> Result<(u32, u32), String> {
    let sides = text.split_once(['x', 'X']).and_then(|(width, height)| Some((width.parse().ok()?, height.parse().ok()?)));
    match sides {
        Some((width, height)) if (1..=16_384).contains(&width) && (1..=16_384).contains(&height) => Ok((width, height)),
        _ => Err("takes WIDTHxHEIGHT in pixels, such as 640x360".into()),
    }
}
