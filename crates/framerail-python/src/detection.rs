//! Detections for Python.

use framerail::core::{Attribute as CoreAttribute, BBox, Detection as CoreDetection, DetectionOrigin, Label, OrientedBox, Point};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyDict, PyList},
};

use crate::attribute::{Attribute, Edges, edges, edges_of};

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
///     Points in frame pixels, in the order of the model card.
/// track_id : int or None
///     Identity across frames.
/// origin : str
///     "detected" by the model, "interpolated" or "held" between sightings.
/// attributes : list of Attribute
///     Results of further models, in the order in which they ran.
/// oriented : tuple of float or None
///     Centre x, centre y, width, height and clockwise rotation in radians of a rotated box; `bbox_xyxy` is the upright box around it.
#[pyclass(module = "framerail", get_all, set_all)]
pub struct Detection {
    bbox_xyxy: Edges,
    score: f32,
    label: String,
    label_id: u32,
    landmarks: Vec<(f32, f32)>,
    track_id: Option<u64>,
    origin: String,
    attributes: Py<PyAny>,
    oriented: Option<Rotated>,
}

/// Centre x, centre y, width, height, radians clockwise.
type Rotated = (f32, f32, f32, f32, f32);

#[pymethods]
impl Detection {
    #[new]
    #[pyo3(signature = (bbox_xyxy, score=1.0, label=String::from("object"), *, label_id=0, landmarks=Vec::new(), track_id=None, origin=String::from("detected"), attributes=None, oriented=None))]
    #[expect(clippy::too_many_arguments, reason = "Python gives them by name")]
    fn new(
        py: Python<'_>,
        #[pyo3(from_py_with = edges_of)] bbox_xyxy: Edges,
        score: f32,
        label: String,
        label_id: u32,
        landmarks: Vec<(f32, f32)>,
        track_id: Option<u64>,
        origin: String,
        attributes: Option<Py<PyAny>>,
        oriented: Option<Rotated>,
    ) -> PyResult<Self> {
        let attributes = attributes.unwrap_or_else(|| PyList::empty(py).into_any().unbind());
        let detection = Self { bbox_xyxy, score, label, label_id, landmarks, track_id, origin, attributes, oriented };
        detection.to_core(py).map(|_| detection)
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = other.py();
        match other.cast::<Detection>() {
            Ok(other) => Ok(self.to_core(py)? == other.try_borrow()?.to_core(py)?),
            Err(_) => Ok(false),
        }
    }

    /// For pickle and copies.
    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((Edges, f32, String), Bound<'py, PyDict>)> {
        let named = PyDict::new(py);
        named.set_item("label_id", self.label_id)?;
        named.set_item("landmarks", self.landmarks.clone())?;
        named.set_item("track_id", self.track_id)?;
        named.set_item("origin", &self.origin)?;
        named.set_item("attributes", &self.attributes)?;
        named.set_item("oriented", self.oriented)?;
        Ok(((self.bbox_xyxy, self.score, self.label.clone()), named))
    }

    fn __repr__(&self) -> String {
        let (x1, y1, x2, y2) = self.bbox_xyxy;
        let track = self.track_id.map_or(String::new(), |id| format!(", track_id={id}"));
        format!("Detection(({x1:.1}, {y1:.1}, {x2:.1}, {y2:.1}), score={:.3}, label='{}'{track})", self.score, self.label)
    }
}

impl Detection {
    pub fn from_core(py: Python<'_>, found: &CoreDetection) -> PyResult<Self> {
        let origin = match found.origin {
            DetectionOrigin::Detected => "detected",
            DetectionOrigin::Interpolated => "interpolated",
            DetectionOrigin::Held => "held",
        };
        Ok(Self {
            bbox_xyxy: edges(&found.bbox),
            score: found.score,
            label: found.label.name.to_string(),
            label_id: found.label.id,
            landmarks: found.landmarks.iter().map(|point| (point.x, point.y)).collect(),
            track_id: found.track_id,
            origin: origin.to_owned(),
            attributes: attribute_list(py, &found.attributes)?,
            oriented: found.oriented.map(|it| (it.center.x, it.center.y, it.width, it.height, it.angle)),
        })
    }

    /// Converts to the pipeline's type.
    ///
    /// # Errors
    /// `ValueError` for invalid numbers and for an unknown origin; `TypeError` for attributes of another type.
    pub fn to_core(&self, py: Python<'_>) -> PyResult<CoreDetection> {
        let (x1, y1, x2, y2) = self.bbox_xyxy;
        let bbox = BBox::from_xyxy(x1, y1, x2, y2);
        let oriented = self.oriented.map(|(x, y, width, height, angle)| OrientedBox { center: Point { x, y }, width, height, angle });
        if !bbox.is_finite() || oriented.is_some_and(|oriented| !oriented.is_finite()) || !self.score.is_finite() {
            return Err(PyValueError::new_err(format!("a detection's box and score must be finite, not {}", self.__repr__())));
        }
        let origin = match self.origin.as_str() {
            "detected" => DetectionOrigin::Detected,
            "interpolated" => DetectionOrigin::Interpolated,
            "held" => DetectionOrigin::Held,
            other => return Err(PyValueError::new_err(format!("option 'origin': {other:?}; use detected, interpolated or held"))),
        };
        let label = Label { id: self.label_id, name: self.label.as_str().into() };
        let landmarks = self.landmarks.iter().map(|(x, y)| Point { x: *x, y: *y }).collect();
        let attributes = core_attributes(self.attributes.bind(py))?;
        Ok(CoreDetection { bbox, oriented, score: self.score, label, landmarks, track_id: self.track_id, origin, attributes })
    }
}

/// Converts detections from a list or any other iterable.
///
/// # Errors
/// `TypeError` for values that are not detections, and those of [`Detection::to_core`].
pub fn core_list(detections: &Bound<'_, PyAny>, option: &str) -> PyResult<Vec<CoreDetection>> {
    let py = detections.py();
    each(detections, option, "Detection", |detection| {
        detection.cast::<Detection>().ok().map(|detection| detection.try_borrow()?.to_core(py))
    })
}

/// Attributes as a Python list.
pub fn attribute_list(py: Python<'_>, attributes: &[CoreAttribute]) -> PyResult<Py<PyAny>> {
    let attributes = attributes.iter().map(|attribute| Attribute::from_core(py, attribute)).collect::<PyResult<Vec<_>>>()?;
    Ok(PyList::new(py, attributes)?.into_any().unbind())
}

/// Converts attributes to the pipeline's type.
///
/// # Errors
/// `TypeError` for values that are not attributes.
pub fn core_attributes(attributes: &Bound<'_, PyAny>) -> PyResult<Vec<CoreAttribute>> {
    let py = attributes.py();
    each(attributes, "attributes", "Attribute", |attribute| attribute.cast::<Attribute>().ok().map(|attribute| attribute.get().to_core(py)))
}

fn each<T>(
    list: &Bound<'_, PyAny>,
    option: &str,
    class: &str,
    convert: impl Fn(&Bound<'_, PyAny>) -> Option<PyResult<T>>,
) -> PyResult<Vec<T>> {
    let wrong = |what: &Bound<'_, PyAny>| {
        let name = what.get_type().name().map(|name| name.to_string()).unwrap_or_default();
        PyTypeError::new_err(format!("'{option}' holds a {name}; give a list of framerail.{class}"))
    };
    let items = list.try_iter().map_err(|_| wrong(list))?;
    items.map(|item| item.and_then(|item| convert(&item).unwrap_or_else(|| Err(wrong(&item))))).collect()
}
