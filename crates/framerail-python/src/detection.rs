//! A detection as Python sees it.

use framerail::core::{BBox, Detection as CoreDetection, DetectionOrigin, Label, Point};
use pyo3::{exceptions::PyValueError, prelude::*};

/// One box in a frame.
///
/// Parameters
/// ----------
/// bbox_xyxy : tuple of float
///     Left, top, right and bottom edge in frame pixels; may reach beyond the frame.
/// score : float
///     Confidence, 0 to 1.
/// label : str
///     Name of the class.
/// label_id : int
///     Number of the class in the model's output.
/// landmarks : list of (float, float)
///     Points in frame pixels, in the order of the model's card.
/// track_id : int or None
///     Identity across frames.
/// origin : str
///     "detected" by the model, "interpolated" or "held" between sightings.
#[pyclass(module = "framerail", get_all, set_all, from_py_object)]
#[derive(Clone, Debug)]
pub struct Detection {
    bbox_xyxy: (f32, f32, f32, f32),
    score: f32,
    label: String,
    label_id: u32,
    landmarks: Vec<(f32, f32)>,
    track_id: Option<u64>,
    origin: String,
}

#[pymethods]
impl Detection {
    #[new]
    #[pyo3(signature = (bbox_xyxy, score=1.0, label=String::from("object"), *, label_id=0, landmarks=Vec::new(), track_id=None, origin=String::from("detected")))]
    fn new(
        bbox_xyxy: (f32, f32, f32, f32),
        score: f32,
        label: String,
        label_id: u32,
        landmarks: Vec<(f32, f32)>,
        track_id: Option<u64>,
        origin: String,
    ) -> PyResult<Self> {
        let detection = Self { bbox_xyxy, score, label, label_id, landmarks, track_id, origin };
        detection.to_core().map(|_| detection)
    }

    fn __repr__(&self) -> String {
        let (x1, y1, x2, y2) = self.bbox_xyxy;
        let track = self.track_id.map_or(String::new(), |id| format!(", track_id={id}"));
        format!("Detection(({x1:.1}, {y1:.1}, {x2:.1}, {y2:.1}), score={:.3}, label='{}'{track})", self.score, self.label)
    }
}

impl From<&CoreDetection> for Detection {
    fn from(found: &CoreDetection) -> Self {
        let BBox { x1, y1, x2, y2 } = found.bbox;
        let origin = match found.origin {
            DetectionOrigin::Detected => "detected",
            DetectionOrigin::Interpolated => "interpolated",
            DetectionOrigin::Held => "held",
        };
        Self {
            bbox_xyxy: (x1, y1, x2, y2),
            score: found.score,
            label: found.label.name.to_string(),
            label_id: found.label.id,
            landmarks: found.landmarks.iter().map(|point| (point.x, point.y)).collect(),
            track_id: found.track_id,
            origin: origin.to_owned(),
        }
    }
}

impl Detection {
    /// For the pipeline.
    ///
    /// # Errors
    /// `ValueError` for numbers that are none, and for an unknown origin.
    pub fn to_core(&self) -> PyResult<CoreDetection> {
        let (x1, y1, x2, y2) = self.bbox_xyxy;
        let bbox = BBox::from_xyxy(x1, y1, x2, y2);
        if !bbox.is_finite() || !self.score.is_finite() {
            return Err(PyValueError::new_err(format!("a detection's box and score must be finite, not {self:?}")));
        }
        let origin = match self.origin.as_str() {
            "detected" => DetectionOrigin::Detected,
            "interpolated" => DetectionOrigin::Interpolated,
            "held" => DetectionOrigin::Held,
            other => return Err(PyValueError::new_err(format!("option 'origin': {other:?}; use detected, interpolated or held"))),
        };
        let label = Label { id: self.label_id, name: self.label.as_str().into() };
        let landmarks = self.landmarks.iter().map(|(x, y)| Point { x: *x, y: *y }).collect();
        Ok(CoreDetection { bbox, score: self.score, label, landmarks, track_id: self.track_id, origin, attributes: Vec::new() })
    }
}
