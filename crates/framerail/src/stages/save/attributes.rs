//! Records of attributes: results of further models for a detection or a frame.

use framerail_core::{Attribute, AttributeValue, DepthMap, FlowMap, InstanceMask, ScoredLabel};
use serde::Serialize;

use super::record::{DetectionRecord, rounded};

/// The result of one model.
#[derive(Serialize)]
pub(in crate::stages) struct AttributeRecord<'a> {
    model: &'a str,
    #[serde(flatten)]
    value: ValueRecord<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "lowercase")]
enum ValueRecord<'a> {
    Classes(Vec<ClassRecord<'a>>),
    Landmarks(Vec<[f64; 2]>),
    Mask(MaskRecord),
    Embedding(Vec<f64>),
    Parts(Vec<DetectionRecord<'a>>),
    Depth(DepthRecord),
    Flow(FlowRecord),
}

/// A summary of a depth map.
#[derive(Serialize)]
struct DepthRecord {
    /// Rows and columns.
    size: [u32; 2],
    unit: &'static str,
    min: f64,
    median: f64,
    max: f64,
}

/// A summary of a flow, in frame pixels.
#[derive(Serialize)]
struct FlowRecord {
    /// Rows and columns.
    size: [u32; 2],
    /// Across and down.
    mean: [f64; 2],
    mean_speed: f64,
    max_speed: f64,
}

#[derive(Serialize)]
struct ClassRecord<'a> {
    label: &'a str,
    label_id: u32,
    score: f64,
}

/// A mask as COCO's uncompressed run lengths, over a box of the frame.
#[derive(Serialize)]
struct MaskRecord {
    #[serde(rename = "box")]
    bbox: [f64; 4],
    /// Rows and columns of the grid that fills the box.
    size: [u32; 2],
    /// Lengths of runs of cells outside, inside, outside and so on, column by column.
    counts: Vec<u32>,
}

/// Minimum coverage of a cell that counts as inside.
const INSIDE: u8 = 128;

impl<'a> AttributeRecord<'a> {
    /// The records of a list of attributes.
    pub(super) fn list(attributes: &'a [Attribute]) -> Vec<Self> {
        attributes.iter().filter_map(Self::new).collect()
    }

    fn new(attribute: &'a Attribute) -> Option<Self> {
        let value = match &attribute.value {
            AttributeValue::Classes(classes) => ValueRecord::Classes(classes.iter().map(ClassRecord::from).collect()),
            AttributeValue::Landmarks(points) => {
                ValueRecord::Landmarks(points.iter().map(|point| [rounded(point.x.into(), 4), rounded(point.y.into(), 4)]).collect())
            }
            AttributeValue::Mask(mask) => ValueRecord::Mask(MaskRecord::from(mask.as_ref())),
            AttributeValue::Embedding(vector) => ValueRecord::Embedding(vector.iter().map(|value| rounded((*value).into(), 6)).collect()),
            AttributeValue::Parts(parts) => ValueRecord::Parts(parts.iter().filter_map(|part| DetectionRecord::new(part, None)).collect()),
            AttributeValue::Depth(depth) => ValueRecord::Depth(DepthRecord::from(depth.as_ref())),
            AttributeValue::Flow(flow) => ValueRecord::Flow(FlowRecord::from(flow.as_ref())),
            _ => return None,
        };
        Some(Self { model: &attribute.model, value })
    }
}

impl<'a> From<&'a ScoredLabel> for ClassRecord<'a> {
    fn from(class: &'a ScoredLabel) -> Self {
        Self { label: &class.label.name, label_id: class.label.id, score: rounded(class.score.into(), 6) }
    }
}

impl From<&InstanceMask> for MaskRecord {
    fn from(mask: &InstanceMask) -> Self {
        let (bbox, rows, columns) = (mask.bbox(), mask.rows(), mask.columns());
        let cell = |row: u32, column: u32| mask.coverage().get(row as usize * columns as usize + column as usize);
        let cells = (0..columns).flat_map(|column| (0..rows).map(move |row| (row, column)));
        let (mut counts, mut is_inside, mut run) = (Vec::new(), false, 0);
        for (row, column) in cells {
            if cell(row, column).is_some_and(|coverage| *coverage >= INSIDE) != is_inside {
                counts.push(std::mem::take(&mut run));
                is_inside = !is_inside;
            }
            run += 1;
        }
        counts.push(run);
        let bbox = [bbox.x1, bbox.y1, bbox.x2, bbox.y2].map(|edge| rounded(edge.into(), 4));
        Self { bbox, size: [rows, columns], counts }
    }
}

impl From<&DepthMap> for DepthRecord {
    fn from(depth: &DepthMap) -> Self {
        let mut values = depth.map.cells().to_vec();
        values.sort_unstable_by(f32::total_cmp);
        let at = |place: usize| rounded(values.get(place).copied().unwrap_or(0.0).into(), 6);
        Self {
            size: [depth.map.rows(), depth.map.columns()],
            unit: depth.unit.name(),
            min: at(0),
            median: at(values.len() / 2),
            max: at(values.len().saturating_sub(1)),
        }
    }
}

impl From<&FlowMap> for FlowRecord {
    fn from(flow: &FlowMap) -> Self {
        let cells = flow.map.cells();
        let mean =
            |value: fn(&[f32; 2]) -> f32| rounded(cells.iter().map(|cell| f64::from(value(cell))).sum::<f64>() / cells.len() as f64, 4);
        let speed = |[x, y]: &[f32; 2]| x.hypot(*y);
        Self {
            size: [flow.map.rows(), flow.map.columns()],
            mean: [mean(|[x, _]| *x), mean(|[_, y]| *y)],
            mean_speed: mean(|[x, y]| x.hypot(*y)),
            max_speed: rounded(cells.iter().map(speed).fold(0.0, f32::max).into(), 4),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use framerail_core::{BBox, DenseMap, DepthUnit, Detection, Label, Point};
    use serde_json::json;

    use super::*;

    fn dense<T: Copy>(cells: Vec<T>) -> DenseMap<T> {
        DenseMap::new(BBox::from_xyxy(0.0, 0.0, 3.0, 1.0), 3, 1, cells).expect("a map")
    }

    #[test]
    fn every_value_has_its_key() {
        let label = Label { id: 3, name: "red".into() };
        let mask = InstanceMask::new(BBox::from_xyxy(1.0, 2.0, 5.0, 8.0), 2, 3, vec![255, 0, 128, 127, 200, 255]).expect("a mask");
        let attributes = [
            AttributeValue::Classes(vec![ScoredLabel { label: label.clone(), score: 0.75 }]),
            AttributeValue::Landmarks(vec![Point { x: 1.5, y: 2.123_456 }]),
            AttributeValue::Mask(Arc::new(mask)),
            AttributeValue::Embedding([0.5, -0.25].into()),
            AttributeValue::Parts(vec![Detection::new(BBox::from_xyxy(1.0, 2.0, 3.0, 4.0), 0.5, label)]),
            AttributeValue::Depth(Arc::new(DepthMap { map: dense(vec![3.5, 1.0, 2.0]), unit: DepthUnit::Metres })),
            AttributeValue::Flow(Arc::new(FlowMap { map: dense(vec![[3.0, 4.0], [0.0, -1.0], [0.0, 0.0]]) })),
        ]
        .map(|value| Attribute { model: "m".into(), value });
        let found = serde_json::to_value(AttributeRecord::list(&attributes)).expect("JSON");
        let part = json!({"label": "red", "label_id": 3, "score": 0.5, "box": [1.0, 2.0, 3.0, 4.0], "landmarks": [], "track_id": null, "origin": "detected"});
        let expected = json!([
            {"model": "m", "classes": [{"label": "red", "label_id": 3, "score": 0.75}]},
            {"model": "m", "landmarks": [[1.5, 2.1235]]},
            {"model": "m", "mask": {"box": [1.0, 2.0, 5.0, 8.0], "size": [3, 2], "counts": [0, 3, 2, 1]}},
            {"model": "m", "embedding": [0.5, -0.25]},
            {"model": "m", "parts": [part]},
            {"model": "m", "depth": {"size": [1, 3], "unit": "metres", "min": 1.0, "median": 2.0, "max": 3.5}},
            {"model": "m", "flow": {"size": [1, 3], "mean": [1.0, 1.0], "mean_speed": 2.0, "max_speed": 5.0}},
        ]);
        assert_eq!(found, expected);
    }
}
