//! Attributes of detections and frames, for Python.

use std::sync::Arc;

use framerail::core::{Attribute as CoreAttribute, AttributeValue, BBox, InstanceMask as CoreMask, Label, Point, ScoredLabel};
use pyo3::{
    exceptions::{PyTypeError, PyValueError},
    prelude::*,
    types::{PyBytes, PyDict, PyList},
};

use crate::{
    dense_map::DenseMap,
    detection::{self, Detection},
};

/// Four edges: left, top, right, bottom.
pub type Edges = (f32, f32, f32, f32);

pub fn edges(bbox: &BBox) -> Edges {
    (bbox.x1, bbox.y1, bbox.x2, bbox.y2)
}

/// The edges from any four numbers: a tuple, a list, an array.
///
/// # Errors
/// `TypeError` or `ValueError` for anything else.
pub fn edges_of(given: &Bound<'_, PyAny>) -> PyResult<Edges> {
    let numbers = given.try_iter()?.map(|number| number?.extract()).collect::<PyResult<Vec<f32>>>()?;
    match numbers[..] {
        [x1, y1, x2, y2] => Ok((x1, y1, x2, y2)),
        _ => Err(PyValueError::new_err(format!("bbox_xyxy: {} numbers; give left, top, right and bottom", numbers.len()))),
    }
}

/// Box, cells, rows, columns.
type MaskParts<'py> = (Edges, Bound<'py, PyBytes>, u32, u32);

/// A function of `framerail.arrays`, which handles NumPy.
pub fn arrays<'py>(py: Python<'py>, function: &str, arguments: impl pyo3::call::PyCallArgs<'py>) -> PyResult<Bound<'py, PyAny>> {
    py.import("framerail.arrays")?.getattr(function)?.call1(arguments)
}

/// Which pixels belong to a detection: a grid of coverage over a box of the frame, usually coarser than pixels.
///
/// Parameters
/// ----------
/// bbox_xyxy : tuple of float
///     The box that the grid fills, in frame pixels.
/// coverage : array
///     Rows by columns: booleans, bytes from 0 (outside) to 255 (inside), or floats from 0 to 1.
#[pyclass(module = "framerail", frozen)]
pub struct InstanceMask {
    mask: Arc<CoreMask>,
}

impl InstanceMask {
    pub fn core(&self) -> Arc<CoreMask> {
        Arc::clone(&self.mask)
    }
}

#[pymethods]
impl InstanceMask {
    #[new]
    fn new(py: Python<'_>, #[pyo3(from_py_with = edges_of)] bbox_xyxy: Edges, coverage: &Bound<'_, PyAny>) -> PyResult<Self> {
        let (bytes, rows, columns): (Bound<'_, PyBytes>, u32, u32) = arrays(py, "coverage_bytes", (coverage,))?.extract()?;
        let (x1, y1, x2, y2) = bbox_xyxy;
        let mask = CoreMask::new(BBox::from_xyxy(x1, y1, x2, y2), columns, rows, bytes.as_bytes().to_vec());
        Ok(Self { mask: Arc::new(mask.map_err(|error| PyValueError::new_err(error.to_string()))?) })
    }

    /// The box that the grid fills, in frame pixels.
    #[getter]
    fn bbox_xyxy(&self) -> Edges {
        edges(self.mask.bbox())
    }

    /// The cells, rows by columns: a read-only array of bytes, 0 outside, 255 inside.
    #[getter]
    fn coverage<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        arrays(py, "coverage_array", (PyBytes::new(py, self.mask.coverage()), self.mask.rows(), self.mask.columns()))
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<InstanceMask>().is_ok_and(|other| other.get().mask == self.mask)
    }

    /// For pickle and copies.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, MaskParts<'py>)> {
        let remake = py.import("framerail.arrays")?.getattr("remade_mask")?;
        Ok((remake, (self.bbox_xyxy(), PyBytes::new(py, self.mask.coverage()), self.mask.rows(), self.mask.columns())))
    }

    fn __repr__(&self) -> String {
        let BBox { x1, y1, x2, y2 } = self.mask.bbox();
        format!("InstanceMask(({x1:.1}, {y1:.1}, {x2:.1}, {y2:.1}), {} x {} cells)", self.mask.rows(), self.mask.columns())
    }
}

/// A model's output for a detection: exactly one of the following.
///
/// Parameters
/// ----------
/// model : str
///     Name of the model.
/// classes : list of (label, score) or (label, score, label_id), optional
///     Classes by descending score.
/// landmarks : list of (float, float), optional
///     Points in frame pixels.
/// mask : InstanceMask, optional
///     Which pixels belong to the detection.
/// embedding : array of float, optional
///     A vector for re-identification.
/// parts : list of Detection, optional
///     Detections inside it, such as the faces of a person.
/// depth : DenseMap, optional
///     Depth of each cell of the frame.
/// flow : DenseMap, optional
///     Motion of each cell of the frame.
///
/// Attributes
/// ----------
/// kind : str
///     "classes", "landmarks", "mask", "embedding", "parts", "depth" or "flow"; the attribute of that name holds the value, the
///     others are None.
#[pyclass(module = "framerail", frozen)]
pub struct Attribute {
    #[pyo3(get)]
    model: String,
    #[pyo3(get)]
    kind: &'static str,
    value: Py<PyAny>,
}

#[pymethods]
impl Attribute {
    #[new]
    #[pyo3(signature = (model, *, classes=None, landmarks=None, mask=None, embedding=None, parts=None, depth=None, flow=None))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments in Python")]
    fn new(
        py: Python<'_>,
        model: String,
        classes: Option<Py<PyAny>>,
        landmarks: Option<Py<PyAny>>,
        mask: Option<Py<PyAny>>,
        embedding: Option<Py<PyAny>>,
        parts: Option<Py<PyAny>>,
        depth: Option<Py<PyAny>>,
        flow: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let described = [("classes", classes), ("landmarks", landmarks), ("mask", mask), ("embedding", embedding), ("parts", parts)];
        let values = described.into_iter().chain([("depth", depth), ("flow", flow)]);
        let mut given = values.filter_map(|(kind, value)| value.map(|value| (kind, value)));
        let (Some((kind, value)), None) = (given.next(), given.next()) else {
            let kinds = "classes, landmarks, mask, embedding, parts, depth and flow";
            return Err(PyValueError::new_err(format!("an attribute is one of {kinds}; give exactly one")));
        };
        let attribute = Self { model, kind, value };
        attribute.to_core(py).map(|_| attribute)
    }

    /// Labels with score and number of the class; None for another kind.
    #[getter]
    fn classes(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.of_kind(py, "classes")
    }

    /// Points in frame pixels; None for another kind.
    #[getter]
    fn landmarks(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.of_kind(py, "landmarks")
    }

    /// Which pixels belong to the detection; None for another kind.
    #[getter]
    fn mask(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.of_kind(py, "mask")
    }

    /// A vector; None for another kind.
    #[getter]
    fn embedding(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.of_kind(py, "embedding")
    }

    /// Detections inside this detection; None for another kind.
    #[getter]
    fn parts(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.of_kind(py, "parts")
    }

    /// Depth of each cell of the frame; None for another kind.
    #[getter]
    fn depth(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.of_kind(py, "depth")
    }

    /// Motion of each cell of the frame; None for another kind.
    #[getter]
    fn flow(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.of_kind(py, "flow")
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        let py = other.py();
        match other.cast::<Attribute>() {
            Ok(other) => Ok(self.to_core(py)? == other.get().to_core(py)?),
            Err(_) => Ok(false),
        }
    }

    /// For pickle and copies.
    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((String,), Bound<'py, PyDict>)> {
        let named = PyDict::new(py);
        // Without NumPy an embedding is a memory view, which cannot be pickled.
        let value = self.value.bind(py);
        let is_view = value.is_instance_of::<pyo3::types::PyMemoryView>();
        named.set_item(self.kind, if is_view { value.call_method0("tolist")? } else { value.clone() })?;
        Ok(((self.model.clone(),), named))
    }

    fn __repr__(&self) -> String {
        format!("Attribute('{}', {})", self.model, self.kind)
    }
}

impl Attribute {
    fn of_kind(&self, py: Python<'_>, kind: &str) -> Option<Py<PyAny>> {
        (self.kind == kind).then(|| self.value.clone_ref(py))
    }

    pub fn from_core(py: Python<'_>, attribute: &CoreAttribute) -> PyResult<Self> {
        let points = |points: &[Point]| points.iter().map(|point| (point.x, point.y)).collect::<Vec<_>>();
        let (kind, value) = match &attribute.value {
            AttributeValue::Classes(classes) => {
                let classes = classes.iter().map(|class| (class.label.name.to_string(), class.score, class.label.id));
                ("classes", classes.collect::<Vec<_>>().into_pyobject(py)?.into_any())
            }
            AttributeValue::Landmarks(landmarks) => ("landmarks", points(landmarks).into_pyobject(py)?.into_any()),
            AttributeValue::Mask(mask) => ("mask", InstanceMask { mask: Arc::clone(mask) }.into_pyobject(py)?.into_any()),
            AttributeValue::Embedding(values) => {
                let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
                ("embedding", arrays(py, "embedding_array", (PyBytes::new(py, &bytes),))?)
            }
            AttributeValue::Parts(parts) => {
                let parts = parts.iter().map(|part| Detection::from_core(py, part)).collect::<PyResult<Vec<_>>>()?;
                ("parts", PyList::new(py, parts)?.into_any())
            }
            other => match DenseMap::from_core(other) {
                Some((kind, map)) => (kind, map.into_pyobject(py)?.into_any()),
                None => {
                    return Err(PyTypeError::new_err(format!("a bug in framerail: Python has no class for attributes such as {other:?}")));
                }
            },
        };
        Ok(Self { model: attribute.model.to_string(), kind, value: value.unbind() })
    }

    /// Converts to the pipeline's type.
    ///
    /// # Errors
    /// `TypeError` and `ValueError` for values of another kind.
    pub fn to_core(&self, py: Python<'_>) -> PyResult<CoreAttribute> {
        let value = self.value.bind(py);
        let value = match self.kind {
            "classes" => {
                let classes = value.try_iter()?.map(|class| scored(&class?)).collect::<PyResult<Vec<_>>>()?;
                if classes.is_empty() {
                    return Err(PyValueError::new_err("option 'classes': holds none; give at least one"));
                }
                AttributeValue::Classes(classes)
            }
            "landmarks" => {
                let points: Vec<(f32, f32)> = value.extract()?;
                AttributeValue::Landmarks(points.into_iter().map(|(x, y)| Point { x, y }).collect())
            }
            "mask" => AttributeValue::Mask(value.cast::<InstanceMask>()?.get().core()),
            "embedding" => {
                let bytes = arrays(py, "embedding_bytes", (value,))?;
                let values = bytes.cast::<PyBytes>()?.as_bytes().as_chunks::<4>().0.iter().map(|bytes| f32::from_ne_bytes(*bytes));
                AttributeValue::Embedding(values.collect())
            }
            "depth" | "flow" => value.cast::<DenseMap>()?.get().core(self.kind)?,
            _ => AttributeValue::Parts(detection::core_list(value, "parts")?),
        };
        Ok(CoreAttribute { model: self.model.as_str().into(), value })
    }
}

/// Label, score, and optionally the number of the class.
fn scored(class: &Bound<'_, PyAny>) -> PyResult<ScoredLabel> {
    let (name, score, id) = match class.extract::<(String, f32, u32)>() {
        Ok(given) => given,
        Err(_) => {
            let (name, score): (String, f32) = class.extract()?;
            (name, score, 0)
        }
    };
    Ok(ScoredLabel { label: Label { id, name: name.into() }, score })
}
