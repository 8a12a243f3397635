//! Joins row groups of many files into one, byte for byte.

use std::{
    fs::File,
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_schema::SchemaRef;
use framerail_media::{Committed, Ending};
use framerail_pipeline::StageError;
use parquet::{
    arrow::{ArrowSchemaConverter, add_encoded_arrow_schema_to_metadata},
    column::writer::ColumnCloseResult,
    errors::ParquetError,
    file::{metadata::ParquetMetaDataReader, properties::WriterProperties, writer::SerializedFileWriter},
};

use super::parquet_error;
use crate::outputs::OutputFile;

/// Writes the row groups of these files, in order, and renames the output.
pub(super) fn join(
    parts: &[PathBuf],
    mut output: OutputFile,
    schema: SchemaRef,
    properties: WriterProperties,
    path: &Path,
    ending: Ending,
) -> Result<Committed, StageError> {
    let mut failure = None;
    let result = write(parts, Output { file: &mut output, failure: &mut failure }, &schema, properties);
    match (failure, result) {
        // The output's own error is clearer.
        (Some(failure), _) => Err(failure),
        (None, Err(error)) => Err(parquet_error(path, error)),
        (None, Ok(())) => output.complete(ending),
    }
}

fn write(parts: &[PathBuf], output: Output<'_>, schema: &SchemaRef, mut properties: WriterProperties) -> Result<(), ParquetError> {
    add_encoded_arrow_schema_to_metadata(schema, &mut properties);
    let types = ArrowSchemaConverter::new().convert(schema)?;
    let mut writer = SerializedFileWriter::new(output, types.root_schema_ptr(), Arc::new(properties))?;
    parts.iter().try_for_each(|part| append(part, &mut writer))?;
    writer.close().map(|_| ())
}

fn append(part: &Path, writer: &mut SerializedFileWriter<Output<'_>>) -> Result<(), ParquetError> {
    let file = File::open(part)?;
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&file)?;
    for group in metadata.row_groups() {
        let mut joined = writer.next_row_group()?;
        for column in group.columns() {
            let chunk = ColumnCloseResult {
                bytes_written: u64::try_from(column.compressed_size()).unwrap_or(0),
                rows_written: u64::try_from(group.num_rows()).unwrap_or(0),
                metadata: column.clone(),
                bloom_filter: None,
                column_index: None,
                offset_index: None,
            };
            joined.append_column(&file, chunk)?;
        }
        joined.close()?;
    }
    Ok(())
}

/// An output that remembers the error of its last failure.
struct Output<'a> {
    file: &'a mut OutputFile,
    failure: &'a mut Option<StageError>,
}

impl Output<'_> {
    fn keep<T>(&mut self, result: Result<T, StageError>) -> io::Result<T> {
        result.map_err(|error| {
            let words = io::Error::other(error.message.clone());
            *self.failure = Some(error);
            words
        })
    }
}

impl Write for Output<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.file.write(bytes);
        self.keep(result).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.file.flush();
        self.keep(result)
    }
}
