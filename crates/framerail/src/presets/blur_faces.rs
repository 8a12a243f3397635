//! Covers faces in a video or image.

use std::path::{Path, PathBuf};

use framerail_core::run_files::file_address;
use framerail_infer::Precision;
use framerail_pipeline::{Chain, Description, DeviceChoice, StageDescription};

use crate::stages::identify::people::person_name;

/// Margin around a face for the second model, relative to the face's size: hair, ears and chin reach beyond a detector's box.
const CONTOUR_MARGIN: f32 = 0.25;

/// The default model, and its confidence threshold.
const DEFAULT_MODEL: &str = "centerface";
const DEFAULT_MODEL_CONFIDENCE: f32 = 0.2;

/// Face detectors for which [`FACE_CONTOUR_MODEL`] provides contours.
const FACE_MODELS: [&str; 2] = [DEFAULT_MODEL, "face-full-range"];
const FACE_CONTOUR_MODEL: &str = "face-mesh";

/// The second size of a thorough search, as a multiple of the first.
const LARGER: f32 = 1.5;

/// The share of that threshold down to which the score of a followed face may fall.
const CONTINUING_SHARE: f32 = 0.6;

/// What replaces a face.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Cover {
    /// A Gaussian blur; its strength is the standard deviation relative to the face's larger side.
    #[default]
    Gaussian,
    /// A box filter; its strength is the side of the square relative to the face's larger side.
    Box,
    /// A mosaic of mean colours.
    Mosaic {
        /// Side of the squares in pixels.
        cell_pixels: u32,
    },
    /// One colour, such as `black` or `#203040`.
    Solid {
        /// The colour.
        color: String,
    },
    /// An image stretched over the face.
    Image {
        /// The image file.
        path: PathBuf,
    },
    /// Nothing: faces are detected, not covered.
    Nothing,
}

/// How far a face stays covered before and after a detection.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum HoldFor {
    /// The default of the stage `hold`.
    #[default]
    Usual,
    /// This many seconds.
    Secs(f64),
    /// This many frames.
    Frames(u32),
    /// Not at all: the stage is left out, as for a single image.
    Nothing,
}

/// Outline of the cover.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CoverShape {
    /// An ellipse rotated by the line between the eyes.
    #[default]
    Ellipse,
    /// The box.
    Rectangle,
    /// The outline that a model returns, see [`BlurFaces::contour_model`]; an ellipse as fallback.
    Contour,
}

/// Files of a review by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// The page.
    pub page: PathBuf,
    /// The detections, as JSON lines.
    pub detections: PathBuf,
}

/// Persons whose faces stay visible.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptFaces {
    /// Images with one face each, or folders of images of one person.
    pub images: Vec<PathBuf>,
    /// Name or model card of the embedding model that recognises them.
    pub model: String,
    /// Minimum cosine similarity; the default of the stage `identify` if `None`.
    pub similarity: Option<f32>,
}

/// A pipeline that covers faces: `read ! infer ! hold ! blur ! write`.
///
/// ```
/// let preset = framerail::presets::BlurFaces::new("in.mp4", "out.mp4");
/// assert!(preset.description().to_string().starts_with("read in.mp4 ! infer centerface"));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct BlurFaces {
    /// A file, an address, or `-` for standard input.
    pub input: String,
    /// The file to write.
    pub output: String,
    /// Options of `read`, such as `("start", "10")`.
    pub read_options: Vec<(String, String)>,
    /// Where to decode and run the model; by default that of the whole pipeline.
    pub device: Option<DeviceChoice>,
    /// Name or model card of the detector.
    pub model: String,
    /// The arithmetic of the detector, such as `int8`; default: the model card's.
    pub precision: Option<Precision>,
    /// Execution provider of the detector, such as `openvino`; the stage's default when `None`.
    pub provider: Option<String>,
    /// Minimum score of a face, 0 to 1; the model card's if `None`.
    pub confidence_threshold: Option<f32>,
    /// Width and height of the detection; the frame's if `None`.
    pub detection_size: Option<(u32, u32)>,
    /// Run the detector on every Nth frame, from 1; boxes are linked in between.
    pub detect_every: u32,
    /// Size of overlapping tiles on which the detector also runs, for small faces.
    pub tiles: Option<(u32, u32)>,
    /// Whether the detector runs three times: at the size above, at 1.5 times that size, and on the mirrored frame.
    pub thorough: bool,
    /// How far a face stays covered before and after a detection.
    pub hold: HoldFor,
    /// How long a face that turned away is followed by its appearance; the stage's default if `None`.
    pub follow_secs: Option<f64>,
    /// What replaces a face.
    pub cover: Cover,
    /// Strength of a blur; the stage's default if `None`.
    pub strength: Option<f32>,
    /// Outline of the cover.
    pub shape: CoverShape,
    /// Name or model card of a second model that runs on each face, with a margin, and returns its mask or landmarks. If `None`,
    /// `face-mesh` for the known face detectors; other models are expected to return masks or landmarks themselves.
    pub contour_model: Option<String>,
    /// Size of the cover: 1 is the face's box, 1.3 adds 0.3 of its size on each side. If `None`, 1.3, or for contours the stage's
    /// default.
    pub mask_scale: Option<f32>,
    /// Width of the soft edge relative to the face's larger side; the stage's default if `None`.
    pub feather: Option<f32>,
    /// Additional areas to hide, in the form of the stage `blur`: `10%,0,20%,30%`, or a zones file.
    pub also_areas: Vec<String>,
    /// Areas that stay visible, in the same form.
    pub except_areas: Vec<String>,
    /// Persons whose faces stay visible.
    pub kept_faces: Option<KeptFaces>,
    /// Whether scores are drawn beside the faces.
    pub draw_scores: bool,
    /// HTML report on detections and filled-in boxes.
    pub report: Option<PathBuf>,
    /// Detections as JSON lines, including filled-in ones.
    pub save: Option<PathBuf>,
    /// Page for checking and correcting by hand, and the detections for a second run.
    pub review: Option<Review>,
    /// Corrections from such a page: no detector runs, the recorded detections are used.
    pub corrections: Option<PathBuf>,
    /// Whether existing outputs and records are replaced.
    pub overwrite: bool,
    /// Options of `write`, such as `("crf", "20")`.
    pub write_options: Vec<(String, String)>,
}

impl BlurFaces {
    /// Everything by default.
    pub fn new(input: impl Into<String>, output: impl Into<String>) -> Self {
        Self {
            input: input.into(),
            output: output.into(),
            read_options: Vec::new(),
            device: None,
            model: DEFAULT_MODEL.into(),
            precision: None,
            provider: None,
            confidence_threshold: None,
            detection_size: None,
            detect_every: 1,
            tiles: None,
            thorough: false,
            hold: HoldFor::Usual,
            follow_secs: None,
            cover: Cover::default(),
            strength: None,
            shape: CoverShape::default(),
            contour_model: None,
            mask_scale: None,
            feather: None,
            also_areas: Vec::new(),
            except_areas: Vec::new(),
            kept_faces: None,
            draw_scores: false,
            report: None,
            save: None,
            review: None,
            corrections: None,
            overwrite: false,
            write_options: Vec::new(),
        }
    }

    /// The pipeline.
    pub fn description(&self) -> Description {
        let read = with_options(StageDescription::new("read").argument(&self.input), &self.read_options);
        let mut stages = vec![self.on_device(read)];
        stages.extend(self.find());
        stages.extend(self.recognise());
        if let Some(review) = &self.review {
            stages.push(StageDescription::new("tee").branch(vec![self.record("save", &review.detections)]));
            stages.push(self.record("review", &review.page).option("detections", file_address(&review.detections)));
        }
        stages.extend(self.report.as_deref().map(|path| self.record("report", path)));
        stages.extend(self.save.as_deref().map(|path| StageDescription::new("tee").branch(vec![self.record("save", path)])));
        if let Some(model) = self.contours() {
            stages.push(StageDescription::new("crop").option("margin", CONTOUR_MARGIN).option("square", "yes"));
            stages.push(self.on_device(StageDescription::new("infer").argument(model)));
        }
        stages.push(self.blur());
        if self.draw_scores {
            stages.push(StageDescription::new("draw").option("boxes", false).option("labels", false).option("landmarks", false));
        }
        stages.push(with_options(self.overwriting(StageDescription::new("write").argument(&self.output)), &self.write_options));
        // Without spans: messages about a generated pipeline show no text.
        Description { chain: Chain { stages, span: None }, ..Description::default() }
    }

    /// The stages that find faces.
    fn find(&self) -> Vec<StageDescription> {
        if let Some(corrections) = &self.corrections {
            return vec![StageDescription::new("load").option("corrections", file_address(corrections))];
        }
        let mut stages = Vec::new();
        if let Some((width, height)) = self.tiles {
            stages.push(StageDescription::new("tiles").argument(format!("{width}x{height}")));
        }
        stages.push(self.on_device(self.infer(1.0)));
        if self.thorough {
            let flip = || StageDescription::new("flip").argument("horizontal");
            stages.push(self.on_device(self.infer(LARGER)));
            stages.extend([flip(), self.on_device(self.infer(1.0)), flip(), StageDescription::new("merge")]);
        }
        let mut hold = StageDescription::new("hold");
        if let Some(start) = self.start_score() {
            hold = hold.option("start", start);
        }
        if let Some(secs) = self.follow_secs {
            hold = hold.option("follow", format!("{secs}s"));
        }
        stages.extend(match self.hold {
            HoldFor::Usual => Some(hold),
            HoldFor::Secs(secs) => Some(hold.option("time", format!("{secs}s"))),
            HoldFor::Frames(frames) => Some(hold.option("frames", frames)),
            HoldFor::Nothing => None,
        });
        stages
    }

    /// The stages that name the persons whose faces stay visible.
    fn recognise(&self) -> Vec<StageDescription> {
        let Some(kept) = &self.kept_faces else { return Vec::new() };
        let crop = StageDescription::new("crop").option("around", "landmarks");
        let embed = self.on_device(StageDescription::new("infer").argument(&kept.model));
        let mut identify = kept.images.iter().fold(StageDescription::new("identify"), |stage, path| stage.argument(file_address(path)));
        identify = identify.option("model", &kept.model);
        if self.model != DEFAULT_MODEL && self.corrections.is_none() {
            identify = identify.option("detector", &self.model);
        }
        if let Some(similarity) = kept.similarity {
            identify = identify.option("similarity", similarity);
        }
        vec![crop, embed, identify]
    }

    /// The model that runs on each face for its contour.
    fn contours(&self) -> Option<&str> {
        let usual = FACE_MODELS.contains(&self.model.as_str()).then_some(FACE_CONTOUR_MODEL);
        self.contour_model.as_deref().or(usual).filter(|_| self.shape == CoverShape::Contour)
    }

    fn record(&self, stage: &str, path: &Path) -> StageDescription {
        self.overwriting(StageDescription::new(stage).argument(file_address(path)))
    }

    fn overwriting(&self, stage: StageDescription) -> StageDescription {
        if self.overwrite { stage.option("overwrite", true) } else { stage }
    }

    fn on_device(&self, stage: StageDescription) -> StageDescription {
        self.device.map_or(stage.clone(), |device| stage.option("device", device))
    }

    /// The score from which a face counts, for `hold` to continue lower ones. `None` if it is unknown here, or without `hold`.
    fn start_score(&self) -> Option<f32> {
        let usual = (self.model == DEFAULT_MODEL).then_some(DEFAULT_MODEL_CONFIDENCE);
        self.confidence_threshold.or(usual).filter(|_| self.hold != HoldFor::Nothing)
    }

    fn infer(&self, scale: f32) -> StageDescription {
        let mut stage = StageDescription::new("infer").argument(&self.model);
        if let Some(precision) = self.precision {
            stage = stage.option("precision", precision);
        }
        if let Some(provider) = &self.provider {
            stage = stage.option("provider", provider);
        }
        // Only `hold` uses lower scores.
        let lowered = self.start_score().map(|start| (start * CONTINUING_SHARE * 1000.0).round() / 1000.0);
        if let Some(confidence) = lowered.or(self.confidence_threshold) {
            stage = stage.option("confidence", confidence);
        }
        match self.detection_size {
            Some((width, height)) => {
                let [width, height] = [width, height].map(|side| (side as f32 * scale).round() as u32);
                stage = stage.option("size", format!("{width}x{height}"));
            }
            None if scale != 1.0 => stage = stage.option("size", format!("{}%", (scale * 100.0).round())),
            None => {}
        }
        if self.detect_every > 1 { stage.option("every", self.detect_every) } else { stage }
    }

    fn blur(&self) -> StageDescription {
        let blur = |kind: &str| StageDescription::new("blur").option("kind", kind);
        let mut stage = match &self.cover {
            Cover::Gaussian => blur("gaussian"),
            Cover::Box => blur("box"),
            Cover::Mosaic { cell_pixels } => blur("mosaic").option("cell", cell_pixels),
            Cover::Solid { color } => blur("solid").option("color", color),
            Cover::Image { path } => blur("image").option("image", file_address(path)),
            Cover::Nothing => return blur("none"),
        };
        if let Some(strength) = self.strength {
            stage = stage.option("strength", strength);
        }
        let (shape, mask_scale) = match self.shape {
            CoverShape::Ellipse => ("ellipse", Some(1.3)),
            CoverShape::Rectangle => ("rectangle", Some(1.3)),
            CoverShape::Contour => ("contour", None),
        };
        stage = stage.option("shape", shape);
        if let Some(mask_scale) = self.mask_scale.or(mask_scale) {
            stage = stage.option("mask_scale", mask_scale);
        }
        if let Some(feather) = self.feather {
            stage = stage.option("feather", feather);
        }
        for (option, areas) in [("also", &self.also_areas), ("except", &self.except_areas)] {
            if !areas.is_empty() {
                stage = stage.option(option, areas.join(";"));
            }
        }
        if let Some(kept) = &self.kept_faces {
            let mut names: Vec<String> = kept.images.iter().map(|path| person_name(path)).collect();
            names.dedup();
            stage = stage.option("except_class", names.join(","));
        }
        stage
    }
}

fn with_options(stage: StageDescription, options: &[(String, String)]) -> StageDescription {
    options.iter().fold(stage, |stage, (key, value)| stage.option(key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plain_pipeline_reads_like_the_manual() {
        let text = BlurFaces::new("my in.mp4", "out.mp4").description().to_string();
        assert_eq!(
            text,
            "read 'my in.mp4' ! infer centerface confidence=0.12 ! hold start=0.2 ! blur kind=gaussian shape=ellipse mask_scale=1.3 ! write out.mp4"
        );
    }

    #[test]
    fn a_second_model_looks_at_the_faces_for_contours() {
        let mut preset = BlurFaces::new("in.mp4", "out.mp4");
        (preset.shape, preset.contour_model) = (CoverShape::Contour, Some("skin".into()));
        assert_eq!(
            preset.description().to_string(),
            "read in.mp4 ! infer centerface confidence=0.12 ! hold start=0.2 ! crop margin=0.25 square=yes ! infer skin ! blur kind=gaussian shape=contour ! write out.mp4"
        );
    }

    #[test]
    fn contours_of_faces_come_from_the_face_mesh() {
        let mut preset = BlurFaces::new("in.mp4", "out.mp4");
        preset.shape = CoverShape::Contour;
        assert!(preset.description().to_string().contains("! crop margin=0.25 square=yes ! infer face-mesh ! blur"));
        preset.model = "persons.toml".into();
        assert!(!preset.description().to_string().contains("crop"), "its own masks count");
    }

    #[test]
    fn a_thorough_search_looks_three_times() {
        let mut preset = BlurFaces::new("in.mp4", "out.mp4");
        preset.thorough = true;
        assert!(preset.description().to_string().starts_with(
            "read in.mp4 ! infer centerface confidence=0.12 ! infer centerface confidence=0.12 size=150% ! flip horizontal ! \
             infer centerface confidence=0.12 ! flip horizontal ! merge ! hold start=0.2 ! blur"
        ));
    }

    #[test]
    fn a_review_is_written_and_its_corrections_are_taken() {
        let mut preset = BlurFaces::new("in.mp4", "out.mp4");
        preset.review = Some(Review { page: "r.html".into(), detections: "r.jsonl".into() });
        let text = preset.description().to_string();
        assert!(text.contains("! hold start=0.2 ! tee ( save r.jsonl ) ! review r.html detections=r.jsonl ! blur"), "{text}");
        preset.review = None;
        preset.corrections = Some("c.toml".into());
        let text = preset.description().to_string();
        assert!(text.starts_with("read in.mp4 ! load corrections=c.toml ! blur"), "{text}");
    }

    #[test]
    fn known_faces_are_recognised_and_stay_visible() {
        let mut preset = BlurFaces::new("in.mp4", "out.mp4");
        let images = vec!["anna.jpg".into(), "people/ben, jun.".into()];
        preset.kept_faces = Some(KeptFaces { images, model: "sface.toml".into(), similarity: Some(0.6) });
        let text = preset.description().to_string();
        let named =
            "! crop around=landmarks ! infer sface.toml ! identify anna.jpg 'people/ben, jun.' model=sface.toml similarity=0.6 ! blur";
        assert!(text.contains(named), "{text}");
        assert!(text.contains("except_class='anna,ben  jun'"), "{text}");
    }

    #[test]
    fn options_land_at_their_stages() {
        let mut preset = BlurFaces::new("in.png", "out.png");
        preset.read_options = vec![("start".into(), "2".into())];
        (preset.hold, preset.detect_every, preset.detection_size) = (HoldFor::Nothing, 3, Some((320, 192)));
        preset.cover = Cover::Mosaic { cell_pixels: 20 };
        preset.shape = CoverShape::Rectangle;
        preset.also_areas = vec!["0,0,20%,5%".into(), "yard.toml".into()];
        preset.except_areas = vec!["40%,0,20%,60%".into()];
        preset.save = Some("boxes.jsonl".into());
        preset.device = Some(DeviceChoice::Auto);
        (preset.precision, preset.provider) = (Some(Precision::Int8), Some("openvino".into()));
        let text = preset.description().to_string();
        assert_eq!(
            text,
            "read in.png start=2 device=auto ! infer centerface precision=int8 provider=openvino size=320x192 every=3 device=auto ! tee ( save boxes.jsonl ) ! \
             blur kind=mosaic cell=20 shape=rectangle mask_scale=1.3 also=0,0,20%,5%;yard.toml except=40%,0,20%,60% ! write out.png"
        );
    }
}
