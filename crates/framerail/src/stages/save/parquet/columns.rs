//! The columns of a Parquet file as Arrow arrays.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, RecordBatch,
    builder::{
        BooleanBuilder, FixedSizeListBuilder, Float32Builder, Float64Builder, Int64Builder, ListBuilder, StringBuilder,
        TimestampMicrosecondBuilder, UInt32Builder, UInt64Builder,
    },
};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};

use framerail_pipeline::StageError;

use crate::stages::save::{
    lines::internal,
    record::{DetectionRecord, FrameRecord},
};

/// Rows of the group being filled.
pub(super) struct Columns {
    rows: usize,
    stream: StringBuilder,
    stream_id: UInt32Builder,
    frame: UInt64Builder,
    pts: Int64Builder,
    time_base: StringBuilder,
    seconds: Float64Builder,
    wall_time: TimestampMicrosecondBuilder,
    analysed: BooleanBuilder,
    label: StringBuilder,
    label_id: UInt32Builder,
    score: Float32Builder,
    bbox: [Float32Builder; 4],
    landmarks: ListBuilder<FixedSizeListBuilder<Float32Builder>>,
    track_id: UInt64Builder,
    origin: StringBuilder,
    zones: ListBuilder<StringBuilder>,
    attributes: StringBuilder,
    oriented: ListBuilder<Float32Builder>,
}

/// An element of a list, which is never null.
fn item(data_type: DataType) -> FieldRef {
    Arc::new(Field::new("item", data_type, false))
}

fn point() -> DataType {
    DataType::FixedSizeList(item(DataType::Float32), 2)
}

/// Centre x, centre y, width, height, radians clockwise. Not of a fixed size: pyarrow fails to read nulls of such lists.
fn oriented() -> DataType {
    DataType::List(item(DataType::Float32))
}

fn wall_time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Names and types of the columns.
pub(super) fn schema() -> SchemaRef {
    let column = |name, data_type| Field::new(name, data_type, false);
    let nullable = |name, data_type| Field::new(name, data_type, true);
    Arc::new(Schema::new(vec![
        column("stream", DataType::Utf8),
        column("stream_id", DataType::UInt32),
        column("frame", DataType::UInt64),
        column("pts", DataType::Int64),
        column("time_base", DataType::Utf8),
        column("seconds", DataType::Float64),
        nullable("wall_time", wall_time()),
        column("analysed", DataType::Boolean),
        column("label", DataType::Utf8),
        column("label_id", DataType::UInt32),
        column("score", DataType::Float32),
        column("x1", DataType::Float32),
        column("y1", DataType::Float32),
        column("x2", DataType::Float32),
        column("y2", DataType::Float32),
        column("landmarks", DataType::List(item(point()))),
        nullable("track_id", DataType::UInt64),
        column("origin", DataType::Utf8),
        nullable("zones", DataType::List(item(DataType::Utf8))),
        nullable("attributes", DataType::Utf8),
        nullable("oriented", oriented()),
    ]))
}

impl Columns {
    pub(super) fn new() -> Self {
        let points = FixedSizeListBuilder::new(Float32Builder::new(), 2).with_field(item(DataType::Float32));
        Self {
            rows: 0,
            stream: StringBuilder::new(),
            stream_id: UInt32Builder::new(),
            frame: UInt64Builder::new(),
            pts: Int64Builder::new(),
            time_base: StringBuilder::new(),
            seconds: Float64Builder::new(),
            wall_time: TimestampMicrosecondBuilder::new().with_data_type(wall_time()),
            analysed: BooleanBuilder::new(),
            label: StringBuilder::new(),
            label_id: UInt32Builder::new(),
            score: Float32Builder::new(),
            bbox: std::array::from_fn(|_| Float32Builder::new()),
            landmarks: ListBuilder::new(points).with_field(item(point())),
            track_id: UInt64Builder::new(),
            origin: StringBuilder::new(),
            zones: ListBuilder::new(StringBuilder::new()).with_field(item(DataType::Utf8)),
            attributes: StringBuilder::new(),
            oriented: ListBuilder::new(Float32Builder::new()).with_field(item(DataType::Float32)),
        }
    }

    /// Number of rows so far.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Adds a row.
    pub(super) fn push(&mut self, record: &FrameRecord<'_>, found: &DetectionRecord<'_>) -> Result<(), StageError> {
        // Values differ from model to model, so they are stored as JSON.
        let attributes = (!found.attributes.is_empty()).then(|| serde_json::to_string(&found.attributes));
        self.attributes.append_option(attributes.transpose().map_err(internal)?);
        self.rows += 1;
        self.stream.append_value(record.stream);
        self.stream_id.append_value(record.stream_id);
        self.frame.append_value(record.frame);
        self.pts.append_value(record.pts);
        self.time_base.append_value(&record.time_base);
        self.seconds.append_value(record.seconds);
        self.wall_time.append_option(record.wall_time.map(|time| time.0));
        self.analysed.append_value(record.analysed);
        self.label.append_value(found.label);
        self.label_id.append_value(found.label_id);
        self.score.append_value(found.score as f32);
        for (column, edge) in self.bbox.iter_mut().zip(found.bbox) {
            column.append_value(edge as f32);
        }
        for point in &found.landmarks {
            let points = self.landmarks.values();
            point.iter().for_each(|value| points.values().append_value(*value as f32));
            points.append(true);
        }
        self.landmarks.append(true);
        self.track_id.append_option(found.track_id);
        self.origin.append_value(found.origin());
        for name in found.zones.iter().flatten() {
            self.zones.values().append_value(name);
        }
        self.zones.append(found.zones.is_some());
        found.oriented.iter().flatten().for_each(|value| self.oriented.values().append_value(*value as f32));
        self.oriented.append(found.oriented.is_some());
        Ok(())
    }

    /// Returns the rows and empties the group.
    pub(super) fn take(&mut self) -> Result<RecordBatch, ArrowError> {
        self.rows = 0;
        let [x1, y1, x2, y2] = &mut self.bbox;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.stream.finish()),
            Arc::new(self.stream_id.finish()),
            Arc::new(self.frame.finish()),
            Arc::new(self.pts.finish()),
            Arc::new(self.time_base.finish()),
            Arc::new(self.seconds.finish()),
            Arc::new(self.wall_time.finish()),
            Arc::new(self.analysed.finish()),
            Arc::new(self.label.finish()),
            Arc::new(self.label_id.finish()),
            Arc::new(self.score.finish()),
            Arc::new(x1.finish()),
            Arc::new(y1.finish()),
            Arc::new(x2.finish()),
            Arc::new(y2.finish()),
            Arc::new(self.landmarks.finish()),
            Arc::new(self.track_id.finish()),
            Arc::new(self.origin.finish()),
            Arc::new(self.zones.finish()),
            Arc::new(self.attributes.finish()),
            Arc::new(self.oriented.finish()),
        ];
        RecordBatch::try_new(schema(), columns)
    }
}
