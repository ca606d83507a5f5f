//! Protobuf records of a stream: does its descriptor fit the table, and each record into the columns.
//!
//! A record is read in two steps. The first notes where each field stands, so that a later occurrence
//! wins as protobuf has it; the second appends to the columns in the order of the table. Fields that
//! the descriptor does not have are skipped, as protobuf wants it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use arrow_schema::{DataType, Field as ArrowField, Fields};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto};

use super::columns::{Column, Problem, RecordError, Rows, parse_decimal};
use super::wire::{Malformed, Raw, fixed32, fixed64, next_field, varint};

/// Field numbers below this are looked up in a table, the few others in a map.
const DENSE_NUMBERS: u32 = 4096;
const NOT_A_COLUMN: u16 = u16::MAX;

/// Reads the records of one stream.
pub(super) struct ProtobufReader {
    message: Message,
}

impl ProtobufReader {
    /// Checks the descriptor against the columns of the table.
    ///
    /// # Errors
    ///
    /// One sentence for each column that does not fit.
    pub(super) fn new(descriptor: &DescriptorProto, columns: &Fields) -> Result<ProtobufReader, Vec<String>> {
        let mut problems = Vec::new();
        let message = Message::new(&[descriptor], columns, "", &mut problems);
        if problems.is_empty() { Ok(ProtobufReader { message }) } else { Err(problems) }
    }

    /// Appends one record as one row.
    pub(super) fn read(&mut self, record: &[u8], rows: &mut Rows) -> Result<(), RecordError> {
        rows.append(|columns| self.message.read(record, columns))
    }
}

/// How a message becomes a row, or a value of a STRUCT column.
struct Message {
    /// One per column, in the order of the table.
    fields: Vec<Field>,
    dense: Vec<u16>,
    sparse: HashMap<u32, u16>,
    /// What the record at hand has for each field; kept to reuse its memory.
    found: Vec<Found>,
}

struct Field {
    name: String,
    is_required: bool,
    kind: Kind,
}

#[derive(Default)]
struct Found {
    last: Option<Raw>,
    all: Vec<Raw>,
}

enum Kind {
    /// The descriptor leaves the column out.
    Absent,
    Single(Value),
    List(Value),
    Map {
        value: Value,
    },
}

enum Value {
    Scalar,
    Message(Box<Message>),
}

/// The type of field that a column of this type takes.
fn scalar_type(data_type: &DataType) -> Option<Type> {
    Some(match data_type {
        DataType::Boolean => Type::Bool,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Date32 => Type::Int32,
        DataType::Int64 | DataType::Timestamp(..) => Type::Int64,
        DataType::Float32 => Type::Float,
        DataType::Float64 => Type::Double,
        DataType::Utf8 | DataType::Decimal128(..) => Type::String,
        DataType::Binary => Type::Bytes,
        _ => return None,
    })
}

/// The message that a type name means: the innermost one that the enclosing messages define.
pub(super) fn resolve<'a>(scope: &[&'a DescriptorProto], type_name: &str) -> Option<&'a DescriptorProto> {
    let name = type_name.rsplit('.').next().unwrap_or(type_name);
    scope.iter().rev().find_map(|message| message.nested_type.iter().find(|nested| nested.name() == name))
}

/// Whether a message is the entry of a map field.
pub(super) fn is_map_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(prost_types::MessageOptions::map_entry)
}

impl Message {
    fn new(scope: &[&DescriptorProto], columns: &Fields, path: &str, problems: &mut Vec<String>) -> Message {
        let described = scope.last().map_or(&[][..], |message| message.field.as_slice());
        let mut message = Message {
            fields: Vec::with_capacity(columns.len()),
            dense: Vec::new(),
            sparse: HashMap::new(),
            found: Vec::new(),
        };
        for field in described {
            if !columns.iter().any(|column| column.name() == field.name()) {
                problems.push(format!("column {:?} is not in the table", inside(path, field.name())));
            }
        }
        for (index, column) in columns.iter().enumerate() {
            let at = inside(path, column.name());
            let field = described.iter().find(|field| field.name() == column.name());
            let kind = match field {
                Some(field) => {
                    message.know(field.number(), index);
                    kind(scope, field, column, &at, problems)
                }
                None if column.is_nullable() => Kind::Absent,
                None => {
                    problems.push(format!("column {at:?} is NOT NULL and missing in the descriptor"));
                    Kind::Absent
                }
            };
            let is_required =
                !column.is_nullable() || field.is_some_and(|field| field.label() == Label::Required);
            message.fields.push(Field { name: column.name().clone(), is_required, kind });
            message.found.push(Found::default());
        }
        message
    }

    fn know(&mut self, number: i32, index: usize) {
        let (Ok(number), Ok(index)) = (u32::try_from(number), u16::try_from(index)) else {
            return;
        };
        if number < DENSE_NUMBERS {
            let needed = number as usize + 1;
            if self.dense.len() < needed {
                self.dense.resize(needed, NOT_A_COLUMN);
            }
            self.dense[number as usize] = index;
        } else {
            self.sparse.insert(number, index);
        }
    }

    fn index(&self, number: u32) -> Option<usize> {
        let index = match self.dense.get(number as usize) {
            Some(index) => *index,
            None => self.sparse.get(&number).copied().unwrap_or(NOT_A_COLUMN),
        };
        (index != NOT_A_COLUMN).then_some(usize::from(index))
    }

    fn read(&mut self, record: &[u8], columns: &mut [Column]) -> Result<(), RecordError> {
        self.locate(record).map_err(|Malformed| RecordError::new("", Problem::Malformed))?;
        for ((field, found), column) in self.fields.iter_mut().zip(&self.found).zip(columns) {
            field.append(found, record, column).map_err(|error| error.within(&field.name))?;
        }
        Ok(())
    }

    fn locate(&mut self, record: &[u8]) -> Result<(), Malformed> {
        for found in &mut self.found {
            found.last = None;
            found.all.clear();
        }
        let mut at = 0;
        while let Some((number, raw)) = next_field(record, &mut at)? {
            if let Some(index) = self.index(number) {
                let found = &mut self.found[index];
                match self.fields[index].kind {
                    Kind::List(_) | Kind::Map { .. } => found.all.push(raw),
                    _ => found.last = Some(raw),
                }
            }
        }
        Ok(())
    }
}

fn inside(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn kind(
    scope: &[&DescriptorProto],
    field: &FieldDescriptorProto,
    column: &ArrowField,
    at: &str,
    problems: &mut Vec<String>,
) -> Kind {
    let is_repeated = field.label() == Label::Repeated;
    match column.data_type() {
        DataType::List(element) if is_repeated => {
            Kind::List(value(scope, field, element.data_type(), at, problems))
        }
        DataType::Map(entries, _) if is_repeated => {
            let entry = resolve(scope, field.type_name()).filter(|message| is_map_entry(message));
            let (Some(entry), DataType::Struct(pair)) = (entry, entries.data_type()) else {
                problems.push(format!("column {at:?} is a MAP and not a map field"));
                return Kind::Absent;
            };
            let [key, value_field] = [1, 2].map(|number| entry.field.iter().find(|f| f.number() == number));
            let (Some(key), Some(value_field)) = (key, value_field) else {
                problems.push(format!("column {at:?}: the map entry has no key or no value"));
                return Kind::Absent;
            };
            value(scope, key, pair[0].data_type(), &inside(at, "key"), problems);
            let scope = [scope, &[entry]].concat();
            Kind::Map {
                value: value(&scope, value_field, pair[1].data_type(), &inside(at, "value"), problems),
            }
        }
        DataType::List(_) | DataType::Map(..) => {
            problems.push(format!("column {at:?} is an ARRAY or MAP and its field is not repeated"));
            Kind::Absent
        }
        _ if is_repeated => {
            problems.push(format!("column {at:?} is no ARRAY and its field is repeated"));
            Kind::Absent
        }
        data_type => Kind::Single(value(scope, field, data_type, at, problems)),
    }
}

fn value(
    scope: &[&DescriptorProto],
    field: &FieldDescriptorProto,
    data_type: &DataType,
    at: &str,
    problems: &mut Vec<String>,
) -> Value {
    if let DataType::Struct(fields) = data_type {
        let nested = resolve(scope, field.type_name()).filter(|_| field.r#type() == Type::Message);
        let Some(nested) = nested else {
            problems.push(format!("column {at:?} is a STRUCT and its field is no message of the descriptor"));
            return Value::Scalar;
        };
        return Value::Message(Box::new(Message::new(&[scope, &[nested]].concat(), fields, at, problems)));
    }
    match scalar_type(data_type) {
        None => problems.push(format!("column {at:?}: protobuf has no field for {data_type}")),
        Some(expected) if expected != field.r#type() => problems.push(format!(
            "column {at:?}: the field must be {} and is {}",
            proto_name(expected),
            proto_name(field.r#type())
        )),
        Some(_) => {}
    }
    Value::Scalar
}

fn proto_name(field_type: Type) -> String {
    field_type.as_str_name().trim_start_matches("TYPE_").to_ascii_lowercase()
}

impl Field {
    fn append(&mut self, found: &Found, record: &[u8], column: &mut Column) -> Result<(), RecordError> {
        let plain = |problem| RecordError::new("", problem);
        match (&mut self.kind, column) {
            (Kind::Single(value), column) => match found.last {
                Some(raw) => value.append(raw, record, column),
                None if self.is_required => Err(plain(Problem::Missing)),
                None => {
                    column.append_null();
                    Ok(())
                }
            },
            (Kind::List(value), Column::List { values, ends, .. }) => {
                let mut count = 0;
                for raw in &found.all {
                    count += value.append_elements(*raw, record, values)?;
                }
                ends.close(count).map_err(plain)
            }
            (Kind::Map { value }, Column::Map { keys, values, ends, .. }) => {
                let entries = entries(&found.all, record).map_err(plain)?;
                for (key, entry_value) in &entries {
                    Value::Scalar.append_or_default(*key, record, keys).map_err(|e| e.within("key"))?;
                    value.append_or_default(*entry_value, record, values).map_err(|e| e.within("value"))?;
                }
                ends.close(entries.len()).map_err(plain)
            }
            (_, column) => {
                column.append_null();
                Ok(())
            }
        }
    }
}

type MapEntry = (Option<Raw>, Option<Raw>);

/// The entries of a map field in the order of their keys' first appearance, the last value of each.
fn entries(all: &[Raw], record: &[u8]) -> Result<Vec<MapEntry>, Problem> {
    let mut entries: Vec<MapEntry> = Vec::with_capacity(all.len());
    let mut index_of: HashMap<(u64, &[u8]), usize> = HashMap::new();
    for raw in all {
        let Raw::Bytes { start, end } = *raw else {
            return Err(Problem::WireType);
        };
        let (mut key, mut value) = (None, None);
        let mut at = start;
        // Ranges count from the start of the record, so the entry is read in place.
        let upto = record.get(..end).ok_or(Problem::Malformed)?;
        while let Some((number, raw)) = next_field(upto, &mut at).map_err(|Malformed| Problem::Malformed)? {
            match number {
                1 => key = Some(raw),
                2 => value = Some(raw),
                _ => {}
            }
        }
        let identity = match key {
            Some(Raw::Bytes { start, end }) => (0, &record[start..end]),
            Some(Raw::Varint(bits) | Raw::Fixed64(bits)) => (bits, &[][..]),
            Some(Raw::Fixed32(bits)) => (u64::from(bits), &[][..]),
            None => (0, &[][..]),
        };
        match index_of.entry(identity) {
            Entry::Occupied(earlier) => entries[*earlier.get()].1 = value,
            Entry::Vacant(vacant) => {
                vacant.insert(entries.len());
                entries.push((key, value));
            }
        }
    }
    Ok(entries)
}

impl Value {
    fn append(&mut self, raw: Raw, record: &[u8], column: &mut Column) -> Result<(), RecordError> {
        match self {
            Value::Scalar => scalar(raw, record, column).map_err(|problem| RecordError::new("", problem)),
            Value::Message(message) => match (raw, column) {
                (Raw::Bytes { start, end }, Column::Struct { columns, validity, .. }) => {
                    message.read(&record[start..end], columns)?;
                    validity.append_non_null();
                    Ok(())
                }
                _ => Err(RecordError::new("", Problem::WireType)),
            },
        }
    }

    /// A map entry without a key or a value has the default one.
    fn append_or_default(
        &mut self,
        raw: Option<Raw>,
        record: &[u8],
        column: &mut Column,
    ) -> Result<(), RecordError> {
        let default = match column {
            Column::Float(_) => Raw::Fixed32(0),
            Column::Double(_) => Raw::Fixed64(0),
            Column::Text(_) | Column::Binary(_) | Column::Decimal { .. } | Column::Struct { .. } => {
                Raw::Bytes { start: 0, end: 0 }
            }
            _ => Raw::Varint(0),
        };
        self.append(raw.unwrap_or(default), record, column)
    }

    /// One occurrence of a repeated field: one element, or many packed ones. Returns how many.
    fn append_elements(
        &mut self,
        raw: Raw,
        record: &[u8],
        column: &mut Column,
    ) -> Result<usize, RecordError> {
        let width = match column {
            Column::Float(_) => Some(4),
            Column::Double(_) => Some(8),
            Column::Text(_) | Column::Binary(_) | Column::Decimal { .. } | Column::Struct { .. } => None,
            _ => Some(1),
        };
        let (Raw::Bytes { start, end }, Some(width)) = (raw, width) else {
            self.append(raw, record, column)?;
            return Ok(1);
        };
        let malformed = |Malformed| RecordError::new("", Problem::Malformed);
        let (packed, mut at, mut count) = (&record[..end], start, 0);
        while at < end {
            let element = match width {
                4 => Raw::Fixed32(fixed32(packed, &mut at).map_err(malformed)?),
                8 => Raw::Fixed64(fixed64(packed, &mut at).map_err(malformed)?),
                _ => Raw::Varint(varint(packed, &mut at).map_err(malformed)?),
            };
            self.append(element, record, column)?;
            count += 1;
        }
        Ok(count)
    }
}

fn scalar(raw: Raw, record: &[u8], column: &mut Column) -> Result<(), Problem> {
    match (column, raw) {
        (Column::Boolean(values), Raw::Varint(bits)) => values.append_value(bits != 0),
        // Protobuf keeps the low 32 bits of an int32; the column may be narrower still.
        (Column::Byte(values), Raw::Varint(bits)) => {
            values.append_value(i8::try_from(bits as i32).map_err(|_| Problem::Range)?);
        }
        (Column::Short(values), Raw::Varint(bits)) => {
            values.append_value(i16::try_from(bits as i32).map_err(|_| Problem::Range)?);
        }
        (Column::Int(values), Raw::Varint(bits)) => values.append_value(bits as i32),
        (Column::Date(values), Raw::Varint(bits)) => values.append_value(bits as i32),
        (Column::Long(values), Raw::Varint(bits)) => values.append_value(bits as i64),
        (Column::Timestamp(values), Raw::Varint(bits)) => values.append_value(bits as i64),
        (Column::Float(values), Raw::Fixed32(bits)) => values.append_value(f32::from_bits(bits)),
        (Column::Double(values), Raw::Fixed64(bits)) => values.append_value(f64::from_bits(bits)),
        (Column::Text(values), Raw::Bytes { start, end }) => {
            values.append_value(std::str::from_utf8(&record[start..end]).map_err(|_| Problem::NotUtf8)?);
        }
        (Column::Decimal { values, precision, scale }, Raw::Bytes { start, end }) => {
            let text = std::str::from_utf8(&record[start..end]).map_err(|_| Problem::NotUtf8)?;
            values.append_value(parse_decimal(text, *precision, *scale)?);
        }
        (Column::Binary(values), Raw::Bytes { start, end }) => values.append_value(&record[start..end]),
        _ => return Err(Problem::WireType),
    }
    Ok(())
}
