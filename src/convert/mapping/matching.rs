//! Which column of a batch goes into which column of the table: by name, as Delta compares them.
//!
//! A name that is the same goes before one that is the same only when case is ignored. The fields of structs are
//! matched in the same way.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields};

use super::types::{Extension, ValueType, conversion, is_variant};
use super::{Rules, Wire, advice};
use crate::convert::descriptor::{KEY_NUMBER, VALUE_NUMBER, wire_type};
use crate::convert::encode::wire::Key;
use crate::convert::encode::{Conversion, ELEMENT_NAME, Header, KEY_NAME, OnNull, VALUE_NAME, VariantAsIs};
use crate::convert::error::{ConversionError, RowErrorReason};
use crate::convert::policy::NullList;
use crate::convert::{DeltaType, TableColumn};

/// How a field of the table is filled.
#[derive(Clone, Debug)]
pub(in crate::convert) struct Node {
    pub(in crate::convert) header: Header,
    pub(in crate::convert) kind: Kind,
}

/// What the values of a field are.
#[derive(Clone, Debug)]
pub(in crate::convert) enum Kind {
    /// Nulls, all of them.
    Null,
    Scalar(Arc<dyn Conversion>),
    /// Each field with the position of its column in the struct.
    Struct(Vec<(usize, Node)>),
    List(Box<Node>),
    Map {
        entry: Box<Node>,
        key: Box<Node>,
    },
}

/// The fields of the table that have a column in the batch, in the order of their numbers, each with the
/// position of that column.
pub(in crate::convert) fn columns(
    fields: &Fields,
    table: &[TableColumn],
    rules: Rules,
) -> Result<Vec<(usize, Node)>, ConversionError> {
    match_columns(fields, table, "", rules)
}

/// The path of a column inside of another one.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Checks that Delta can tell the names apart.
pub(super) fn check_distinct(fields: &Fields, path: &str) -> Result<(), ConversionError> {
    let mut seen = HashMap::with_capacity(fields.len());
    for (second, field) in fields.iter().enumerate() {
        if let Some(first) = seen.insert(field.name().to_ascii_lowercase(), second) {
            let column = join(path, field.name());
            return Err(ConversionError::DuplicateColumnName { column, first, second });
        }
    }
    Ok(())
}

fn match_columns(
    fields: &Fields,
    table: &[TableColumn],
    path: &str,
    rules: Rules,
) -> Result<Vec<(usize, Node)>, ConversionError> {
    let mut sources = sources(fields, table, path)?;
    let mut matched = Vec::with_capacity(fields.len());
    for (position, column) in table.iter().enumerate() {
        let path = join(path, &column.name);
        match sources.remove(&position) {
            Some(source) => matched.push((source, node(&fields[source], column, &path, rules)?)),
            None if column.nullable => {}
            None => {
                let delta_type = column.delta_type.clone();
                return Err(ConversionError::MissingColumn { column: path, delta_type });
            }
        }
    }
    Ok(matched)
}

/// The position of the field for each column of the table that has one.
fn sources(
    fields: &Fields,
    table: &[TableColumn],
    path: &str,
) -> Result<HashMap<usize, usize>, ConversionError> {
    let lower = |name: &str| name.to_ascii_lowercase();
    let exact: HashMap<&str, usize> =
        table.iter().enumerate().map(|(position, column)| (column.name.as_str(), position)).collect();
    let any_case: HashMap<String, usize> =
        table.iter().enumerate().map(|(position, column)| (lower(&column.name), position)).collect();
    let mut sources = HashMap::with_capacity(fields.len());
    for (second, field) in fields.iter().enumerate() {
        let column = exact.get(field.name().as_str()).or_else(|| any_case.get(&lower(field.name())));
        let Some(column) = column else {
            let (column, arrow_type) = (join(path, field.name()), field.data_type().clone());
            return Err(ConversionError::UnknownColumn { column, arrow_type });
        };
        if let Some(first) = sources.insert(*column, second) {
            let column = join(path, field.name());
            return Err(ConversionError::DuplicateColumnName { column, first, second });
        }
    }
    Ok(sources)
}

fn node(field: &Field, column: &TableColumn, path: &str, rules: Rules) -> Result<Node, ConversionError> {
    let is_list = matches!(column.delta_type, DeltaType::Array { .. } | DeltaType::Map { .. });
    let on_null = match rules.policies.null_list {
        _ if !column.nullable => OnNull::Refuse(RowErrorReason::NullInRequired),
        _ if rules.wire == Wire::Arrow => OnNull::Omit,
        NullList::Empty if is_list => OnNull::Empty,
        NullList::Error if is_list => OnNull::Refuse(RowErrorReason::NullList),
        _ => OnNull::Omit,
    };
    let key = Key::new(column.number, wire_type(&column.delta_type));
    let header = Header { name: column.name.clone(), key, on_null };
    let kind = kind(field, &column.delta_type, &header, path, rules)?;
    Ok(Node { header, kind })
}

/// A part of a list or map.
fn part(
    field: &Field,
    (name, number): (&str, u32),
    delta_type: &DeltaType,
    on_null: OnNull,
    path: &str,
    rules: Rules,
) -> Result<Node, ConversionError> {
    let key = Key::new(number, wire_type(delta_type));
    let header = Header { name: name.to_owned(), key, on_null };
    let kind = kind(field, delta_type, &header, &join(path, name), rules)?;
    Ok(Node { header, kind })
}

fn kind(
    field: &Field,
    delta_type: &DeltaType,
    header: &Header,
    path: &str,
    rules: Rules,
) -> Result<Kind, ConversionError> {
    let value_type = ValueType::of(field);
    if let Some(Extension::Other(extension)) = value_type.extension {
        tracing::info!(column = path, extension, "an extension type is sent as what it is stored as");
    }
    let refuse = |what_to_do| ConversionError::UnsupportedType {
        column: path.to_owned(),
        arrow_type: field.data_type().clone(),
        delta_type: Some(delta_type.clone()),
        what_to_do,
    };
    match (value_type.data_type, delta_type) {
        (DataType::Null, _) if header.on_null != OnNull::Refuse(RowErrorReason::NullInRequired) => {
            Ok(Kind::Null)
        }
        (DataType::Struct(fields), DeltaType::Struct(columns)) => {
            match_columns(fields, columns, path, rules).map(Kind::Struct)
        }
        (
            DataType::List(field)
            | DataType::LargeList(field)
            | DataType::ListView(field)
            | DataType::LargeListView(field)
            | DataType::FixedSizeList(field, _),
            DeltaType::Array { element },
        ) => {
            let on_null = rules.on_null(RowErrorReason::NullElement);
            let element_header = Header { name: ELEMENT_NAME.to_owned(), key: header.key, on_null };
            let kind = kind(field, element, &element_header, &join(path, ELEMENT_NAME), rules)?;
            Ok(Kind::List(Box::new(Node { header: element_header, kind })))
        }
        (DataType::Map(entries, _), DeltaType::Map { key, value }) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                map(header.key, [&fields[0], &fields[1]], [key, value], path, rules)
            }
            _ => Err(refuse(advice::with_table(value_type, delta_type))),
        },
        (_, DeltaType::Variant) if rules.wire == Wire::Arrow => match is_variant(value_type) {
            true => Ok(Kind::Scalar(Arc::new(VariantAsIs))),
            false => Err(refuse(advice::variant_in_arrow(value_type))),
        },
        _ => match conversion(value_type, delta_type, rules.policies) {
            Some(conversion) => Ok(Kind::Scalar(conversion)),
            None => Err(refuse(advice::with_table(value_type, delta_type))),
        },
    }
}

fn map(
    key: Key,
    [key_field, value_field]: [&Field; 2],
    [key_type, value_type]: [&DeltaType; 2],
    path: &str,
    rules: Rules,
) -> Result<Kind, ConversionError> {
    let is_text =
        |data_type: &DataType| matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    if matches!(key_type, DeltaType::Decimal { .. }) && is_text(ValueType::of(key_field).data_type) {
        return Err(ConversionError::UnsupportedType {
            column: join(path, KEY_NAME),
            arrow_type: key_field.data_type().clone(),
            delta_type: Some(key_type.clone()),
            what_to_do: advice::decimal_text_keys(),
        });
    }
    let key_part = (KEY_NAME, KEY_NUMBER);
    let key_node =
        part(key_field, key_part, key_type, OnNull::Refuse(RowErrorReason::NullMapKey), path, rules)?;
    let on_null = rules.on_null(RowErrorReason::NullMapValue);
    let value_part = (VALUE_NAME, VALUE_NUMBER);
    let value_node = part(value_field, value_part, value_type, on_null, path, rules)?;
    let entry = Node {
        header: Header { name: String::new(), key, on_null: OnNull::Refuse(RowErrorReason::NullMapKey) },
        kind: Kind::Struct(vec![(0, key_node.clone()), (1, value_node)]),
    };
    Ok(Kind::Map { entry: Box::new(entry), key: Box::new(key_node) })
}
