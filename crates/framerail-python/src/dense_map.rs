//! Depth and optical flow as Python objects.

use std::sync::Arc;

use framerail::core::{AttributeValue, BBox, DenseMap as CoreMap, DepthMap, DepthUnit, FlowMap};
use pyo3::{exceptions::PyValueError, prelude::*, types::PyBytes};

use crate::attribute::{Edges, arrays, edges, edges_of};

/// A depth, or a motion, for each cell of a grid over a frame: the result of a dense model.
///
/// Parameters
/// ----------
/// bbox_xyxy : tuple of float
///     The box that the grid fills, in frame pixels.
/// values : array of float
///     Rows by columns of depths, or rows by columns by two of motions: across and down, in frame pixels from the frame before.
/// unit : str
///     What depths mean: "inverse" (larger is nearer), "relative" (larger is further away) or "metres".
#[pyclass(module = "framerail", frozen)]
pub struct DenseMap {
    value: AttributeValue,
}

/// Box, values, rows, columns, values per cell, unit.
type MapParts<'py> = (Edges, Bound<'py, PyBytes>, u32, u32, u32, &'static str);

const UNITS: [DepthUnit; 3] = [DepthUnit::Inverse, DepthUnit::Relative, DepthUnit::Metres];

impl DenseMap {
    /// Of a depth or a flow; `None` for other values.
    pub fn from_core(value: &AttributeValue) -> Option<(&'static str, Self)> {
        let kind = match value {
            AttributeValue::Depth(_) => "depth",
            AttributeValue::Flow(_) => "flow",
            _ => return None,
        };
        Some((kind, Self { value: value.clone() }))
    }

    /// The value, if it is of this kind.
    pub fn core(&self, kind: &str) -> PyResult<AttributeValue> {
        match (&self.value, kind) {
            (AttributeValue::Depth(_), "depth") | (AttributeValue::Flow(_), "flow") => Ok(self.value.clone()),
            _ => Err(PyValueError::new_err("depth has one value for each cell, and flow two")),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match &self.value {
            AttributeValue::Depth(depth) => depth.map.cells().iter().flat_map(|depth| depth.to_ne_bytes()).collect(),
            AttributeValue::Flow(flow) => flow.map.cells().iter().flatten().flat_map(|motion| motion.to_ne_bytes()).collect(),
            _ => Vec::new(),
        }
    }

    /// Rows, columns, values per cell.
    fn shape(&self) -> (u32, u32, u32) {
        match &self.value {
            AttributeValue::Depth(depth) => (depth.map.rows(), depth.map.columns(), 1),
            AttributeValue::Flow(flow) => (flow.map.rows(), flow.map.columns(), 2),
            _ => (0, 0, 0),
        }
    }
}

#[pymethods]
impl DenseMap {
    #[new]
    #[pyo3(signature = (bbox_xyxy, values, unit="inverse"))]
    fn new(py: Python<'_>, #[pyo3(from_py_with = edges_of)] bbox_xyxy: Edges, values: &Bound<'_, PyAny>, unit: &str) -> PyResult<Self> {
        let (bytes, rows, columns, channels): (Bound<'_, PyBytes>, u32, u32, u32) = arrays(py, "map_bytes", (values,))?.extract()?;
        let known = UNITS.iter().find(|known| known.name() == unit).copied();
        let unit =
            known.ok_or_else(|| PyValueError::new_err(format!("option 'unit': {unit:?} is not one of inverse, relative, metres")))?;
        let floats: Vec<f32> = bytes.as_bytes().as_chunks::<4>().0.iter().map(|bytes| f32::from_ne_bytes(*bytes)).collect();
        let wrong = |error: framerail::core::CoreError| PyValueError::new_err(error.to_string());
        let (x1, y1, x2, y2) = bbox_xyxy;
        let bbox = BBox::from_xyxy(x1, y1, x2, y2);
        let value = if channels == 2 {
            let map = CoreMap::new(bbox, columns, rows, floats.as_chunks::<2>().0.to_vec()).map_err(wrong)?;
            AttributeValue::Flow(Arc::new(FlowMap { map }))
        } else {
            AttributeValue::Depth(Arc::new(DepthMap { map: CoreMap::new(bbox, columns, rows, floats).map_err(wrong)?, unit }))
        };
        Ok(Self { value })
    }

    /// The box that the grid fills, in frame pixels.
    #[getter]
    fn bbox_xyxy(&self) -> Edges {
        match &self.value {
            AttributeValue::Depth(depth) => edges(depth.map.bbox()),
            AttributeValue::Flow(flow) => edges(flow.map.bbox()),
            _ => edges(&BBox::default()),
        }
    }

    /// Rows by columns of depths, or rows by columns by two of motions: a read-only array of float32.
    #[getter]
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (rows, columns, channels) = self.shape();
        arrays(py, "map_array", (PyBytes::new(py, &self.bytes()), rows, columns, channels))
    }

    /// What depths mean; None for motions.
    #[getter]
    fn unit(&self) -> Option<&'static str> {
        match &self.value {
            AttributeValue::Depth(depth) => Some(depth.unit.name()),
            _ => None,
        }
    }

    fn __eq__(&self, other: &Bound<'_, PyAny>) -> bool {
        other.cast::<DenseMap>().is_ok_and(|other| other.get().value == self.value)
    }

    /// For pickle and copies.
    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyAny>, MapParts<'py>)> {
        let remake = py.import("framerail.arrays")?.getattr("remade_map")?;
        let (rows, columns, channels) = self.shape();
        Ok((remake, (self.bbox_xyxy(), PyBytes::new(py, &self.bytes()), rows, columns, channels, self.unit().unwrap_or("inverse"))))
    }

    fn __repr__(&self) -> String {
        let (rows, columns, _) = self.shape();
        format!("DenseMap({}, {rows} x {columns} cells)", self.unit().unwrap_or("flow"))
    }
}
