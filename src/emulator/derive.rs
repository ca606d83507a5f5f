//! A table from a descriptor: what `--auto-create` makes of the first stream.
//!
//! Protobuf cannot tell a TIMESTAMP from a BIGINT or a DATE from an INT, so each column gets the
//! physical type of its field.

use delta_kernel::schema::{ArrayType, DataType, MapType, StructField, StructType};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto};

use super::protobuf::{is_map_entry, resolve};

/// A message that contains itself has no end; the service's own descriptors end here.
const DEPTH_MAX: usize = 100;

/// The columns that take every record of the descriptor.
pub(super) fn columns(descriptor: &DescriptorProto) -> Result<StructType, String> {
    message(&[descriptor])
}

fn message(scope: &[&DescriptorProto]) -> Result<StructType, String> {
    if scope.len() > DEPTH_MAX {
        return Err(format!("more than {DEPTH_MAX} messages inside one another"));
    }
    let described = scope.last().map_or(&[][..], |message| message.field.as_slice());
    let fields = described.iter().map(|field| column(scope, field)).collect::<Result<Vec<_>, _>>()?;
    StructType::try_new(fields).map_err(|error| error.to_string())
}

fn column(scope: &[&DescriptorProto], field: &FieldDescriptorProto) -> Result<StructField, String> {
    let map_entry = resolve(scope, field.type_name()).filter(|message| is_map_entry(message));
    let data_type = match (field.label(), map_entry) {
        (Label::Repeated, Some(entry)) => {
            let scope = [scope, &[entry]].concat();
            let part = |number| match entry.field.iter().find(|part| part.number() == number) {
                Some(part) => data_type(&scope, part),
                None => Err(format!("map field {:?} has no key or no value", field.name())),
            };
            MapType::new(part(1)?, part(2)?, true).into()
        }
        (Label::Repeated, None) => ArrayType::new(data_type(scope, field)?, true).into(),
        _ => data_type(scope, field)?,
    };
    Ok(StructField::new(field.name(), data_type, field.label() != Label::Required))
}

fn data_type(scope: &[&DescriptorProto], field: &FieldDescriptorProto) -> Result<DataType, String> {
    Ok(match field.r#type() {
        Type::Bool => DataType::BOOLEAN,
        Type::Int32 => DataType::INTEGER,
        Type::Int64 => DataType::LONG,
        Type::Float => DataType::FLOAT,
        Type::Double => DataType::DOUBLE,
        Type::String => DataType::STRING,
        Type::Bytes => DataType::BINARY,
        Type::Message => {
            let nested = resolve(scope, field.type_name());
            let nested = nested.ok_or_else(|| format!("no message {:?}", field.type_name()))?;
            message(&[scope, &[nested]].concat())?.into()
        }
        other => return Err(format!("field {:?}: no column type for {}", field.name(), other.as_str_name())),
    })
}
