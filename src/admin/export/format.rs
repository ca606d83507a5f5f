//! How rows become the bytes of a format.

use std::fmt;
use std::str::FromStr;

use arrow_array::RecordBatch;
use arrow_csv::{Writer as CsvWriter, WriterBuilder as CsvBuilder};
use arrow_ipc::writer::FileWriter;
use arrow_json::LineDelimitedWriter;
use arrow_json::writer::{LineDelimited, Writer as JsonWriter, WriterBuilder as JsonBuilder};
use arrow_schema::{ArrowError, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};

use super::target::Sink;
use crate::error::{Coded, ErrorCode};

/// As what rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Apache Parquet, compressed with Snappy.
    Parquet,
    /// An Arrow IPC file, uncompressed. Dictionaries are written as their values.
    Arrow,
    /// Comma-separated values with a line of names.
    Csv,
    /// A JSON object per line, with nulls.
    Jsonl,
}

impl Format {
    /// Every format.
    pub const ALL: [Format; 4] = [Format::Parquet, Format::Arrow, Format::Csv, Format::Jsonl];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Format::Parquet => "parquet",
            Format::Arrow => "arrow",
            Format::Csv => "csv",
            Format::Jsonl => "jsonl",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A format that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{given:?} is no format; allowed are parquet, arrow, csv and jsonl")]
pub struct UnknownFormat {
    /// What was given.
    pub given: String,
}

impl Coded for UnknownFormat {
    fn code(&self) -> ErrorCode {
        ErrorCode::Configuration
    }
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Format, UnknownFormat> {
        let found = Format::ALL.into_iter().find(|format| format.as_str() == text);
        found.ok_or_else(|| UnknownFormat { given: text.to_owned() })
    }
}

/// What writes one file.
pub(super) enum Writer {
    Parquet(Box<ArrowWriter<Sink>>),
    Arrow(Box<FileWriter<Sink>>),
    Csv(Box<CsvWriter<Sink>>),
    Jsonl(Box<JsonWriter<Sink, LineDelimited>>),
}

fn of_parquet(error: ParquetError) -> ArrowError {
    match error {
        ParquetError::External(source) => ArrowError::ExternalError(source),
        error => ArrowError::ParquetError(error.to_string()),
    }
}

impl Writer {
    pub(super) fn new(format: Format, sink: Sink, schema: &SchemaRef) -> Result<Writer, ArrowError> {
        Ok(match format {
            Format::Parquet => {
                let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                let writer =
                    ArrowWriter::try_new(sink, schema.clone(), Some(properties)).map_err(of_parquet)?;
                Writer::Parquet(Box::new(writer))
            }
            Format::Arrow => Writer::Arrow(Box::new(FileWriter::try_new(sink, schema)?)),
            Format::Csv => Writer::Csv(Box::new(CsvBuilder::new().with_header(true).build(sink))),
            Format::Jsonl => {
                let writer: LineDelimitedWriter<Sink> =
                    JsonBuilder::new().with_explicit_nulls(true).build(sink);
                Writer::Jsonl(Box::new(writer))
            }
        })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        match self {
            Writer::Parquet(writer) => writer.write(batch).map_err(of_parquet),
            Writer::Arrow(writer) => writer.write(batch),
            Writer::Csv(writer) => writer.write(batch),
            Writer::Jsonl(writer) => writer.write(batch),
        }
    }

    /// What is in memory of rows that were written.
    pub(super) fn buffered_bytes(&self) -> usize {
        match self {
            Writer::Parquet(writer) => writer.memory_size(),
            _ => 0,
        }
    }

    /// Writes what is in memory.
    pub(super) fn flush(&mut self) -> Result<(), ArrowError> {
        match self {
            Writer::Parquet(writer) => writer.flush().map_err(of_parquet),
            _ => Ok(()),
        }
    }

    /// Ends the file and gives back where it went.
    pub(super) fn finish(self) -> Result<Sink, ArrowError> {
        match self {
            Writer::Parquet(writer) => writer.into_inner().map_err(of_parquet),
            Writer::Arrow(mut writer) => {
                writer.finish()?;
                writer.into_inner()
            }
            Writer::Csv(writer) => Ok(writer.into_inner()),
            Writer::Jsonl(mut writer) => {
                writer.finish()?;
                Ok(writer.into_inner())
            }
        }
    }
}
