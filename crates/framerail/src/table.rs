//! Parquet tables of plain columns, for the index of a data set.

use std::{fs::File, path::Path, sync::Arc};

use arrow_array::{
    Array, ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, LargeStringArray, ListArray, RecordBatch, StringArray,
    builder::{Int64Builder, ListBuilder},
    cast::AsArray,
    types::{Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type, UInt32Type},
};
use arrow_schema::{DataType, Field, Schema};
use framerail_media::{Ending, MediaError, OutputRules, commit};
use parquet::{
    arrow::{ArrowWriter, arrow_reader::ParquetRecordBatchReaderBuilder},
    basic::Compression,
    file::properties::WriterProperties,
};

/// The values of a column, one per row.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Text.
    Text(Vec<Option<String>>),
    /// Whole numbers.
    Whole(Vec<Option<i64>>),
    /// Numbers.
    Real(Vec<Option<f64>>),
    /// Yes or no.
    Flags(Vec<Option<bool>>),
    /// Lists of whole numbers.
    Lists(Vec<Option<Vec<i64>>>),
    /// Bytes.
    Bytes(Vec<Option<Vec<u8>>>),
}

impl Values {
    fn array(&self) -> ArrayRef {
        match self {
            Values::Text(values) => Arc::new(StringArray::from_iter(values)),
            Values::Whole(values) => Arc::new(Int64Array::from_iter(values.iter().copied())),
            Values::Real(values) => Arc::new(Float64Array::from_iter(values.iter().copied())),
            Values::Flags(values) => Arc::new(BooleanArray::from_iter(values.iter().copied())),
            Values::Lists(values) => {
                let mut builder = ListBuilder::new(Int64Builder::new());
                for value in values {
                    builder.append_option(value.as_ref().map(|list| list.iter().copied().map(Some)));
                }
                Arc::new(builder.finish())
            }
            Values::Bytes(values) => Arc::new(BinaryArray::from_iter(values)),
        }
    }

    /// An empty column for a type; `None` for unsupported types.
    fn of_type(kind: &DataType) -> Option<Self> {
        Some(match kind {
            DataType::Utf8 | DataType::LargeUtf8 => Values::Text(Vec::new()),
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => Values::Whole(Vec::new()),
            DataType::UInt8 | DataType::UInt16 | DataType::UInt32 => Values::Whole(Vec::new()),
            DataType::Float32 | DataType::Float64 => Values::Real(Vec::new()),
            DataType::Boolean => Values::Flags(Vec::new()),
            DataType::List(item) if *item.data_type() == DataType::Int64 => Values::Lists(Vec::new()),
            DataType::Binary => Values::Bytes(Vec::new()),
            _ => return None,
        })
    }

    fn append(&mut self, array: &dyn Array) {
        macro_rules! numbers {
            ($values:expr, $to:ty, $($kind:ident),+) => {
                $(if let Some(array) = array.as_primitive_opt::<$kind>() {
                    $values.extend(array.iter().map(|value| value.map(<$to>::from)));
                    return;
                })+
            };
        }
        match self {
            Values::Text(values) => match array.as_any().downcast_ref::<LargeStringArray>() {
                Some(array) => values.extend(array.iter().map(|value| value.map(str::to_owned))),
                None => values.extend(array.as_string_opt::<i32>().into_iter().flatten().map(|value| value.map(str::to_owned))),
            },
            Values::Whole(values) => {
                numbers!(values, i64, Int64Type, Int32Type, Int16Type, Int8Type, UInt32Type, UInt16Type, UInt8Type);
            }
            Values::Real(values) => {
                numbers!(values, f64, Float64Type, Float32Type);
            }
            Values::Flags(values) => values.extend(array.as_boolean_opt().into_iter().flatten()),
            Values::Lists(values) => {
                let lists = array.as_any().downcast_ref::<ListArray>();
                let list = |list: ArrayRef| list.as_primitive_opt::<Int64Type>().map(|list| list.values().to_vec());
                values.extend(lists.into_iter().flat_map(|lists| lists.iter().map(|value| value.and_then(list))));
            }
            Values::Bytes(values) => {
                values.extend(array.as_binary_opt::<i32>().into_iter().flatten().map(|value| value.map(<[u8]>::to_vec)))
            }
        }
    }
}

/// Writes a table; an existing file is replaced once the new one is complete.
///
/// # Errors
/// As [`commit::OutputFile::create`] and [`commit::OutputFile::complete`]; `BadOption` for columns of different lengths.
pub fn write_table(path: &Path, columns: &[(String, Values)]) -> Result<(), MediaError> {
    let rules = OutputRules { overwrite: true, ..OutputRules::default() };
    let mut file = commit::OutputFile::create(path, &rules)?;
    let failed = |error: &dyn std::fmt::Display| MediaError::Io { path: path.display().to_string(), reason: error.to_string() };
    let arrays: Vec<ArrayRef> = columns.iter().map(|(_, values)| values.array()).collect();
    let fields: Vec<Field> =
        columns.iter().zip(&arrays).map(|((name, _), array)| Field::new(name, array.data_type().clone(), true)).collect();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).map_err(|error| failed(&error))?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let written = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties)).and_then(|mut writer| {
        writer.write(&batch)?;
        writer.close()
    });
    written.map_err(|error| failed(&error))?;
    file.complete(Ending::Whole)?;
    Ok(())
}

/// Reads a table. Columns of types that are not in [`Values`] are left out.
///
/// # Errors
/// `NotFound`, `Io`; `Damaged` for files that are not Parquet or use an unsupported compression.
pub fn read_table(path: &Path) -> Result<Vec<(String, Values)>, MediaError> {
    let source_name = path.display().to_string();
    let damaged = |error: &dyn std::fmt::Display| MediaError::Damaged {
        source_name: source_name.clone(),
        reason: format!("is not a Parquet table that framerail reads, uncompressed or with Snappy: {error}"),
    };
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => MediaError::NotFound { source_name: source_name.clone() },
        _ => MediaError::Io { path: source_name.clone(), reason: error.to_string() },
    })?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| damaged(&error))?;
    let schema = Arc::clone(builder.schema());
    let mut columns: Vec<Option<(String, Values)>> =
        schema.fields().iter().map(|field| Some((field.name().clone(), Values::of_type(field.data_type())?))).collect();
    for batch in builder.build().map_err(|error| damaged(&error))? {
        let batch = batch.map_err(|error| damaged(&error))?;
        for (column, array) in columns.iter_mut().zip(batch.columns()) {
            if let Some((_, values)) = column {
                values.append(array.as_ref());
            }
        }
    }
    Ok(columns.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("t.parquet");
        let columns = vec![
            ("path".to_owned(), Values::Text(vec![Some("a.mp4".into()), None])),
            ("frames".to_owned(), Values::Whole(vec![Some(-3), Some(7)])),
            ("seconds".to_owned(), Values::Real(vec![Some(0.5), None])),
            ("is_fine".to_owned(), Values::Flags(vec![Some(true), Some(false)])),
            ("keyframes".to_owned(), Values::Lists(vec![Some(vec![0, 12]), Some(vec![])])),
            ("packets".to_owned(), Values::Bytes(vec![Some(vec![0, 255]), None])),
        ];
        write_table(&path, &columns).expect("written");
        assert_eq!(read_table(&path).expect("read"), columns);
        write_table(&path, &columns[..1]).expect("replaced");
        assert_eq!(read_table(&path).expect("read").len(), 1);
        std::fs::write(&path, b"no table").expect("written");
        let words = read_table(&path).expect_err("damaged").to_string();
        assert!(words.contains("is not a Parquet table"), "{words}");
    }
}
