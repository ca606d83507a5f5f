//! In which form the records of a stream come, and what reads them.

use std::sync::Arc;

use bytes::Bytes;
use delta_kernel::schema::StructType;
use prost::Message as _;
use prost_types::DescriptorProto;
use serde::{Deserialize, Serialize};
use tonic::Status;

use super::catalog::Table;
use super::columns::Rows;
use super::derive;
use super::protobuf::ProtobufReader;
use super::wire_format::RecordType;

/// How a record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Encoding {
    Protobuf,
    Json,
}

/// What a client says of its records.
pub(super) enum Format {
    Protobuf(Box<DescriptorProto>),
    Json,
}

impl Format {
    pub(super) fn new(record_type: RecordType, descriptor: Option<Bytes>) -> Result<Format, Status> {
        match record_type {
            RecordType::Proto => Ok(Format::Protobuf(Box::new(parse_descriptor(descriptor)?))),
            RecordType::Json => Ok(Format::Json),
            RecordType::Unspecified => Err(Status::invalid_argument("the record type is missing")),
            RecordType::Avro => Err(Status::unimplemented("this emulator does not take Avro records")),
        }
    }

    pub(super) fn encoding(&self) -> Encoding {
        match self {
            Format::Protobuf(_) => Encoding::Protobuf,
            Format::Json => Encoding::Json,
        }
    }

    /// The columns of a table that is made for such records, if they say.
    pub(super) fn columns(&self) -> Result<Option<StructType>, Status> {
        let Format::Protobuf(descriptor) = self else { return Ok(None) };
        derive::columns(descriptor)
            .map(Some)
            .map_err(|problem| Status::invalid_argument(format!("no table from this descriptor: {problem}")))
    }
}

fn parse_descriptor(bytes: Option<Bytes>) -> Result<DescriptorProto, Status> {
    let bytes = bytes.filter(|bytes| !bytes.is_empty());
    let bytes = bytes.ok_or_else(|| Status::invalid_argument("protobuf records need a descriptor"))?;
    DescriptorProto::decode(bytes).map_err(|_| Status::invalid_argument("the descriptor is not parseable"))
}

/// How the records of a stream are read.
pub(super) enum Reader {
    Protobuf(ProtobufReader),
    Json,
}

/// What records of a stream become rows with.
pub(super) struct Intake {
    pub(super) reader: Reader,
    pub(super) rows: Rows,
}

impl Intake {
    /// For records of this format, if they fit the table.
    pub(super) fn new(table: &Table, format: &Format) -> Result<Intake, Status> {
        let rows = Rows::new(Arc::clone(table.columns())).map_err(|data_type| {
            Status::unimplemented(format!(
                "table {}: cannot write a column of type {data_type}",
                table.name()
            ))
        })?;
        let reader = match format {
            Format::Protobuf(descriptor) => Reader::Protobuf(protobuf_reader(descriptor, table)?),
            Format::Json => Reader::Json,
        };
        Ok(Intake { reader, rows })
    }
}

fn protobuf_reader(descriptor: &DescriptorProto, table: &Table) -> Result<ProtobufReader, Status> {
    ProtobufReader::new(descriptor, table.columns().fields()).map_err(|problems| {
        Status::invalid_argument(format!(
            "error 8001: the descriptor does not fit table {}: {}",
            table.name(),
            problems.join("; ")
        ))
    })
}
