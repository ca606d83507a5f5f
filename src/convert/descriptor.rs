//! Which protobuf message describes the rows of a table, and which tables have none.
//!
//! The rules are those of the service's own client, message by message: proto2, required if NOT NULL, the JSON name
//! is the name, a message of its own for each struct and each map's entry inside of the message that uses it.

use std::collections::HashSet;

use prost::encoding::WireType;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, MessageOptions};

use super::encode::{KEY_NAME, VALUE_NAME};
use super::error::ConversionError;
use super::{DeltaType, TableColumn, TableSchema};

/// Types inside of one another, at most.
pub(super) const DEPTH_MAX: usize = 100;

/// The numbers of the fields of a map's entry.
pub(super) const KEY_NUMBER: u32 = 1;
pub(super) const VALUE_NUMBER: u32 = 2;

/// Name of the message; the service knows the table by the stream, not by it.
const MESSAGE_NAME: &str = "Record";

/// The message of the rows of a table.
pub(crate) fn of_table(table: &TableSchema) -> Result<DescriptorProto, ConversionError> {
    message(MESSAGE_NAME, &table.columns, &Place { column: "", depth: 0 }, |name| name.to_owned())
}

/// Where a type stands, for errors.
struct Place<'p> {
    column: &'p str,
    /// How many types are around it.
    depth: usize,
}

impl Place<'_> {
    fn column(&self, name: &str) -> String {
        if self.column.is_empty() { name.to_owned() } else { format!("{}.{name}", self.column) }
    }

    /// The place of a type inside of the one here.
    fn inside(&self) -> Result<Place<'_>, ConversionError> {
        let depth = self.depth + 1;
        if depth > DEPTH_MAX {
            let column = self.column.split('.').next().unwrap_or_default().to_owned();
            return Err(ConversionError::TooDeep { column, depth_max: DEPTH_MAX });
        }
        Ok(Place { column: self.column, depth })
    }
}

/// A message of these fields. `path` makes the name of a field's own messages of the field's name.
fn message(
    name: &str,
    columns: &[TableColumn],
    place: &Place<'_>,
    path: impl Fn(&str) -> String,
) -> Result<DescriptorProto, ConversionError> {
    let mut scope = Scope::default();
    let mut fields = Vec::with_capacity(columns.len());
    for (position, column) in columns.iter().enumerate() {
        let place = Place { column: &place.column(&column.name), depth: place.depth };
        if let Some(reason) = name_fault(&column.name) {
            let column = place.column.to_owned();
            return Err(ConversionError::InvalidColumnName { column, position, reason });
        }
        let label = match (&column.delta_type, column.nullable) {
            (DeltaType::Array { .. } | DeltaType::Map { .. }, _) => Label::Repeated,
            (_, true) => Label::Optional,
            (_, false) => Label::Required,
        };
        let field_type = scope.field_type(&column.delta_type, &path(&column.name), &place)?;
        let is_optional = label == Label::Optional;
        fields.push(field(&column.name, column.number, label, field_type, is_optional));
    }
    let name = Some(name.to_owned());
    Ok(DescriptorProto { name, field: fields, nested_type: scope.messages, ..Default::default() })
}

fn field(
    name: &str,
    number: u32,
    label: Label,
    field_type: FieldType,
    proto3_optional: bool,
) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number.cast_signed()),
        label: Some(label.into()),
        r#type: Some(field_type.kind.into()),
        type_name: field_type.message,
        json_name: Some(name.to_owned()),
        proto3_optional: Some(proto3_optional),
        ..Default::default()
    }
}

pub(super) fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("it is empty")
    } else if name.starts_with(|first: char| first.is_ascii_digit()) {
        Some("it starts with a digit")
    } else if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        Some("only ASCII letters, digits and underscores are allowed")
    } else {
        None
    }
}

/// The type of a field, with the name of its message if it is one.
struct FieldType {
    kind: Type,
    message: Option<String>,
}

/// The messages that a message defines for its fields.
#[derive(Default)]
struct Scope {
    messages: Vec<DescriptorProto>,
    names: HashSet<String>,
}

impl Scope {
    /// The name itself, or with the first number behind it that makes it a new one.
    fn unique(&mut self, name: String) -> String {
        let mut free = name.clone();
        let mut number = 1;
        while !self.names.insert(free.clone()) {
            number += 1;
            free = format!("{name}{number}");
        }
        free
    }

    fn field_type(
        &mut self,
        delta_type: &DeltaType,
        path: &str,
        place: &Place<'_>,
    ) -> Result<FieldType, ConversionError> {
        let refuse = |reason| {
            let (column, delta_type) = (place.column.to_owned(), delta_type.clone());
            Err(ConversionError::UnsupportedColumn { column, delta_type, reason })
        };
        match delta_type {
            DeltaType::Struct(fields) => {
                let name = self.unique(message_name(path));
                self.define_struct(name, fields, place)
            }
            DeltaType::Array { element } => match **element {
                DeltaType::Array { .. } | DeltaType::Map { .. } => refuse(WRAP_IN_ARRAY),
                _ => self.field_type(element, &format!("{}_element", message_name(path)), &place.inside()?),
            },
            DeltaType::Map { key, value } => {
                let inside = place.inside()?;
                let base = message_name(path);
                let value = match &**value {
                    _ if !is_map_key(key) => return refuse(MAP_KEY),
                    DeltaType::Array { .. } | DeltaType::Map { .. } => return refuse(WRAP_IN_MAP),
                    DeltaType::Struct(fields) => {
                        let name = self.unique(format!("{base}Value"));
                        self.define_struct(name, fields, &inside)?
                    }
                    scalar => FieldType { kind: scalar_type(scalar), message: None },
                };
                let entry = self.unique(format!("{base}Entry"));
                self.messages.push(map_entry(&entry, scalar_type(key), value));
                Ok(FieldType { kind: Type::Message, message: Some(entry) })
            }
            scalar => Ok(FieldType { kind: scalar_type(scalar), message: None }),
        }
    }

    fn define_struct(
        &mut self,
        name: String,
        fields: &[TableColumn],
        place: &Place<'_>,
    ) -> Result<FieldType, ConversionError> {
        self.messages.push(message(&name, fields, &place.inside()?, |field| format!("{name}_{field}"))?);
        Ok(FieldType { kind: Type::Message, message: Some(name) })
    }
}

const WRAP_IN_ARRAY: &str = "protobuf has no list of lists or maps; wrap the inner one in a STRUCT, or use transport=\"arrow_flight\"";
const WRAP_IN_MAP: &str =
    "protobuf has no map of lists or maps; wrap the values in a STRUCT, or use transport=\"arrow_flight\"";
pub(super) const MAP_KEY: &str =
    "the key of a map must be an integer, a boolean, a text, a date, a timestamp or a decimal";

/// Whether protobuf has such a type: a list or map stands in no other one.
pub(super) fn has_message(delta_type: &DeltaType) -> bool {
    let is_repeated = |inner: &DeltaType| matches!(inner, DeltaType::Array { .. } | DeltaType::Map { .. });
    match delta_type {
        DeltaType::Struct(fields) => fields.iter().all(|field| has_message(&field.delta_type)),
        DeltaType::Array { element: inner } | DeltaType::Map { value: inner, .. } => {
            !is_repeated(inner) && has_message(inner)
        }
        _ => true,
    }
}

/// Whether the service takes maps with such keys.
pub(super) fn is_map_key(delta_type: &DeltaType) -> bool {
    !matches!(
        delta_type,
        DeltaType::Float
            | DeltaType::Double
            | DeltaType::Binary
            | DeltaType::Struct(_)
            | DeltaType::Array { .. }
            | DeltaType::Map { .. }
    )
}

fn map_entry(name: &str, key: Type, value: FieldType) -> DescriptorProto {
    let key = FieldType { kind: key, message: None };
    DescriptorProto {
        name: Some(name.to_owned()),
        field: vec![
            field(KEY_NAME, KEY_NUMBER, Label::Optional, key, false),
            field(VALUE_NAME, VALUE_NUMBER, Label::Optional, value, true),
        ],
        options: Some(MessageOptions { map_entry: Some(true), ..Default::default() }),
        ..Default::default()
    }
}

/// The type of a field that is no message of its own; of an array, that of its elements.
fn scalar_type(delta_type: &DeltaType) -> Type {
    match delta_type {
        DeltaType::Boolean => Type::Bool,
        DeltaType::Byte | DeltaType::Short | DeltaType::Integer | DeltaType::Date => Type::Int32,
        DeltaType::Long | DeltaType::Timestamp | DeltaType::TimestampNtz => Type::Int64,
        DeltaType::Float => Type::Float,
        DeltaType::Double => Type::Double,
        DeltaType::String | DeltaType::Decimal { .. } | DeltaType::Variant => Type::String,
        DeltaType::Binary => Type::Bytes,
        DeltaType::Struct(_) | DeltaType::Map { .. } => Type::Message,
        DeltaType::Array { element } => scalar_type(element),
    }
}

/// How the values of a type stand on the wire. Lists are not packed: each element has its own key.
pub(super) fn wire_type(delta_type: &DeltaType) -> WireType {
    match scalar_type(delta_type) {
        Type::Float => WireType::ThirtyTwoBit,
        Type::Double => WireType::SixtyFourBit,
        Type::String | Type::Bytes | Type::Message => WireType::LengthDelimited,
        _ => WireType::Varint,
    }
}

/// The name of a message in Pascal case: `line_items` → `LineItems`.
fn message_name(path: &str) -> String {
    let mut name = String::with_capacity(path.len());
    for word in path.split(|char: char| !char.is_ascii_alphanumeric()) {
        let mut chars = word.chars();
        name.extend(chars.next().map(|first| first.to_ascii_uppercase()));
        name.push_str(chars.as_str());
    }
    if !name.starts_with(|first: char| first.is_ascii_alphabetic()) {
        name.insert(0, 'M');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_named_in_pascal_case() {
        let names = [
            ("foo-bar", "FooBar"),
            ("_a__bC_", "ABC"),
            ("1abc", "M1abc"),
            ("_1", "M1"),
            ("_", "M"),
            ("", "M"),
        ];
        for (path, name) in names {
            assert_eq!(message_name(path), name);
        }
    }

    /// Structs inside of one another, around an integer.
    fn nested(structs: usize) -> TableSchema {
        let column = |delta_type| TableColumn { name: "a".to_owned(), number: 1, delta_type, nullable: true };
        let mut delta_type = DeltaType::Integer;
        for _ in 0..structs {
            delta_type = DeltaType::Struct(vec![column(delta_type)]);
        }
        TableSchema { columns: vec![column(delta_type)] }
    }

    #[test]
    fn types_end_at_the_depth_of_the_service() {
        assert!(of_table(&nested(DEPTH_MAX)).is_ok());
        let too_deep = ConversionError::TooDeep { column: "a".to_owned(), depth_max: DEPTH_MAX };
        assert_eq!(of_table(&nested(DEPTH_MAX + 1)), Err(too_deep));
    }
}
