//! Faces covered in a video or picture.

use std::path::{Path, PathBuf};

use framerail_pipeline::{Chain, Description, DeviceChoice, StageDescription};

/// Part of a face's size that a second model sees around it: hair, ears and chin reach beyond a detector's box.
const CONTOUR_MARGIN: f32 = 0.25;

/// The model where none is named, and the score from which its finds count by its card.
const DEFAULT_MODEL: &str = "centerface";
const DEFAULT_MODEL_CONFIDENCE: f32 = 0.2;

/// Detectors of faces whose contours [`FACE_CONTOUR_MODEL`] gives.
const FACE_MODELS: [&str; 2] = [DEFAULT_MODEL, "face-full-range"];
const FACE_CONTOUR_MODEL: &str = "face-mesh";

/// The second size of a thorough search, as a multiple of the first.
const LARGER: f32 = 1.5;

/// The part of that score down to which a face that is followed may fall.
const CONTINUING_SHARE: f32 = 0.6;

/// What is put in a face's place.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Cover {
    /// A Gaussian blur; its strength is the standard deviation as a part of the face's larger side.
    #[default]
    Gaussian,
    /// The mean over a square; its strength is the square's side as a part of the face's larger side.
    Box,
    /// Squares of their mean colour, with sides of this many pixels.
    Mosaic {
        /// Side of the squares in pixels.
        cell_pixels: u32,
    },
    /// One colour, such as `black` or `#203040`.
    Solid {
        /// The colour.
        color: String,
    },
    /// A picture stretched over the face.
    Image {
        /// The picture's file.
        path: PathBuf,
    },
    /// Nothing: faces are found, not covered.
    Nothing,
}

/// How far a face stays covered before and after it is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum HoldFor {
    /// As long as the stage `hold` does by default.
    #[default]
    Usual,
    /// So many seconds.
    Secs(f64),
    /// So many frames.
    Frames(u32),
    /// Not at all: the stage is left out, as a single picture wants it.
    Nothing,
}

/// Outline of what covers a face.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CoverShape {
    /// An ellipse turned by the line between the eyes.
    #[default]
    Ellipse,
    /// The box.
    Rectangle,
    /// What a model says belongs to the face, see [`BlurFaces::contour_model`]; an ellipse where it says nothing.
    Contour,
}

/// Files for checking by hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// The page.
    pub page: PathBuf,
    /// The detections, as JSON lines.
    pub detections: PathBuf,
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
    /// Where to decode and to run the model; that of the whole pipeline by default.
    pub device: Option<DeviceChoice>,
    /// Name or card of the model.
    pub model: String,
    /// Score above which a face counts, 0 to 1; the model card's when `None`.
    pub confidence_threshold: Option<f32>,
    /// Width and height at which faces are looked for; the frame's when `None`.
    pub detection_size: Option<(u32, u32)>,
    /// Faces are looked for on every Nth frame; boxes are linked between. From 1.
    pub detect_every: u32,
    /// Size of overlapping tiles in which faces are looked for as well, for small ones.
    pub tiles: Option<(u32, u32)>,
    /// Whether faces are looked for three times: at the size above, at 1.5 times that size, and in the mirrored frame.
    pub thorough: bool,
    /// How far a face stays covered before and after it is seen.
    pub hold: HoldFor,
    /// What is put in a face's place.
    pub cover: Cover,
    /// Strength of a blur; the stage's default when `None`.
    pub strength: Option<f32>,
    /// Outline of what covers a face.
    pub shape: CoverShape,
    /// Name or card of a second model that looks at each face, with a margin, and gives its mask or landmarks. When `None`, `face-mesh`
    /// for the detectors of faces that are known by name; other models are taken to give masks or landmarks themselves.
    pub contour_model: Option<String>,
    /// Size of the cover: 1 is the face's box, 1.3 adds 0.3 of its size on each side. When `None`, 1.3, or for contours the stage's
    /// default.
    pub mask_scale: Option<f32>,
    /// Width of the soft edge as a part of the face's larger side; the stage's default when `None`.
    pub feather: Option<f32>,
    /// Areas that are hidden as well, as the stage `blur` takes them: `10%,0,20%,30%`, or a file of zones.
    pub also_areas: Vec<String>,
    /// Areas that stay visible, in the same form.
    pub except_areas: Vec<String>,
    /// Whether scores are drawn beside the faces.
    pub draw_scores: bool,
    /// An HTML report on what was found and filled in.
    pub report: Option<PathBuf>,
    /// Detections as JSON lines, those filled in included.
    pub save: Option<PathBuf>,
    /// A page for checking and correcting by hand, and the detections that a second run takes.
    pub review: Option<Review>,
    /// Corrections of such a page: no model looks for faces, those that were found before are taken.
    pub corrections: Option<PathBuf>,
    /// Whether outputs and records that exist are replaced.
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
            confidence_threshold: None,
            detection_size: None,
            detect_every: 1,
            tiles: None,
            thorough: false,
            hold: HoldFor::Usual,
            cover: Cover::default(),
            strength: None,
            shape: CoverShape::default(),
            contour_model: None,
            mask_scale: None,
            feather: None,
            also_areas: Vec::new(),
            except_areas: Vec::new(),
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
        if let Some(review) = &self.review {
            stages.push(StageDescription::new("tee").branch(vec![self.record("save", &review.detections)]));
            stages.push(self.record("review", &review.page).option("detections", review.detections.to_string_lossy()));
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
        // Without places in a text: messages about a pipeline that nobody wrote show no text.
        Description { chain: Chain { stages, span: None }, ..Description::default() }
    }

    /// The stages that find faces.
    fn find(&self) -> Vec<StageDescription> {
        if let Some(corrections) = &self.corrections {
            return vec![StageDescription::new("load").option("corrections", corrections.to_string_lossy())];
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
        let hold = self.start_score().map_or(StageDescription::new("hold"), |start| StageDescription::new("hold").option("start", start));
        stages.extend(match self.hold {
            HoldFor::Usual => Some(hold),
            HoldFor::Secs(secs) => Some(hold.option("time", format!("{secs}s"))),
            HoldFor::Frames(frames) => Some(hold.option("frames", frames)),
            HoldFor::Nothing => None,
        });
        stages
    }

    /// The model that looks at each face for its contour.
    fn contours(&self) -> Option<&str> {
        let usual = FACE_MODELS.contains(&self.model.as_str()).then_some(FACE_CONTOUR_MODEL);
        self.contour_model.as_deref().or(usual).filter(|_| self.shape == CoverShape::Contour)
    }

    fn record(&self, stage: &str, path: &Path) -> StageDescription {
        self.overwriting(StageDescription::new(stage).argument(path.to_string_lossy()))
    }

    fn overwriting(&self, stage: StageDescription) -> StageDescription {
        if self.overwrite { stage.option("overwrite", true) } else { stage }
    }

    fn on_device(&self, stage: StageDescription) -> StageDescription {
        self.device.map_or(stage.clone(), |device| stage.option("device", device))
    }

    /// The score from which a face counts, where `hold` follows those with lower ones. `None` where that is not known here, or there is
    /// no `hold`.
    fn start_score(&self) -> Option<f32> {
        let usual = (self.model == DEFAULT_MODEL).then_some(DEFAULT_MODEL_CONFIDENCE);
        self.confidence_threshold.or(usual).filter(|_| self.hold != HoldFor::Nothing)
    }

    fn infer(&self, scale: f32) -> StageDescription {
        let mut stage = StageDescription::new("infer").argument(&self.model);
        // Lower scores serve `hold` alone.
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
            Cover::Image { path } => blur("image").option("image", path.to_string_lossy()),
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
        let text = preset.description().to_string();
        assert_eq!(
            text,
            "read in.png start=2 device=auto ! infer centerface size=320x192 every=3 device=auto ! tee ( save boxes.jsonl ) ! \
             blur kind=mosaic cell=20 shape=rectangle mask_scale=1.3 also=0,0,20%,5%;yard.toml except=40%,0,20%,60% ! write out.png"
        );
    }
}
