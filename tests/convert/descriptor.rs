//! The descriptor is, byte for byte, the one that the official client makes of the same table, and tables that the
//! client refuses are refused.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, TimeUnit};
use arrow_zerobus_sdk_wrapper::convert::{
    ConversionError, DeltaType, Plan, Policies, TableColumn, TableSchema,
};
use databricks_zerobus_ingest_sdk::schema::{UcColumn, descriptor_from_uc_columns};
use proptest::prelude::*;
use prost::Message;
use prost_types::DescriptorProto;
use serde_json::{Value as Json, json};

use crate::choices::{Choices, choices};
use crate::types;

/// Names whose messages would be called the same, were they not counted.
const NAMES: [&str; 14] = [
    "a",
    "b",
    "a_b",
    "aB",
    "_a_b",
    "a__b_",
    "a_element",
    "aEntry",
    "a_value",
    "aValue",
    "_",
    "__",
    "M",
    "b_1",
];

/// Any columns; a few of them are of types or names that no table of the service has.
fn columns(choices: &mut Choices, depth: usize, is_odd: bool) -> Vec<TableColumn> {
    let count = 1 + choices.below(5) as u32;
    let mut columns: Vec<TableColumn> = Vec::new();
    for number in 1..=count {
        let mut name = (*choices.pick(&NAMES)).to_owned();
        if is_odd && choices.one_in(12) {
            name = (*choices.pick(&["", "1a", "a-b", "a b", "ä", "a.b"])).to_owned();
        } else if columns.iter().any(|earlier| earlier.name.eq_ignore_ascii_case(&name)) {
            name = format!("c{number}");
        }
        let delta_type = delta_type(choices, depth, is_odd);
        columns.push(TableColumn { name, number, delta_type, nullable: !choices.one_in(3) });
    }
    columns
}

fn delta_type(choices: &mut Choices, depth: usize, is_odd: bool) -> DeltaType {
    let scalar = choices.pick(&types::delta_scalars()).clone();
    if depth == 0 {
        return scalar;
    }
    let part = |choices: &mut Choices| loop {
        let inner = delta_type(choices, depth - 1, is_odd);
        let is_repeated = matches!(inner, DeltaType::Array { .. } | DeltaType::Map { .. });
        if !is_repeated || is_odd {
            return Box::new(inner);
        }
    };
    match choices.below(8) {
        4 | 5 => DeltaType::Struct(columns(choices, depth - 1, is_odd)),
        6 => DeltaType::Array { element: part(choices) },
        7 => {
            let key = if is_odd { *part(choices) } else { scalar };
            let is_key = types::is_key(&key) || is_odd;
            let key = Box::new(if is_key { key } else { DeltaType::String });
            DeltaType::Map { key, value: part(choices) }
        }
        _ => scalar,
    }
}

/// The type as Unity Catalog writes it.
fn type_json(delta_type: &DeltaType) -> Json {
    let name = match delta_type {
        DeltaType::Boolean => "boolean",
        DeltaType::Byte => "byte",
        DeltaType::Short => "short",
        DeltaType::Integer => "integer",
        DeltaType::Long => "long",
        DeltaType::Float => "float",
        DeltaType::Double => "double",
        DeltaType::String => "string",
        DeltaType::Binary => "binary",
        DeltaType::Date => "date",
        DeltaType::Timestamp => "timestamp",
        DeltaType::TimestampNtz => "timestamp_ntz",
        DeltaType::Variant => "variant",
        DeltaType::Decimal { precision, scale } => return json!(format!("decimal({precision},{scale})")),
        DeltaType::Struct(fields) => {
            let fields: Vec<Json> = fields
                .iter()
                .map(|field| {
                    let (name, nullable) = (&field.name, field.nullable);
                    json!({"name": name, "type": type_json(&field.delta_type), "nullable": nullable, "metadata": {}})
                })
                .collect();
            return json!({"type": "struct", "fields": fields});
        }
        DeltaType::Array { element } => {
            return json!({"type": "array", "elementType": type_json(element), "containsNull": true});
        }
        DeltaType::Map { key, value } => {
            let (key, value) = (type_json(key), type_json(value));
            return json!({"type": "map", "keyType": key, "valueType": value, "valueContainsNull": true});
        }
    };
    json!(name)
}

fn uc_column(column: &TableColumn) -> UcColumn {
    let type_name = match &column.delta_type {
        DeltaType::Struct(_) => "STRUCT".to_owned(),
        DeltaType::Array { .. } => "ARRAY".to_owned(),
        DeltaType::Map { .. } => "MAP".to_owned(),
        DeltaType::Decimal { .. } => "DECIMAL".to_owned(),
        scalar => type_json(scalar).as_str().unwrap().to_ascii_uppercase(),
    };
    UcColumn {
        name: column.name.clone(),
        type_name,
        type_text: String::new(),
        type_json: type_json(&column.delta_type).to_string(),
        nullable: column.nullable,
        position: column.number as i32 - 1,
    }
}

/// An Arrow field that goes into the column as it is.
fn field(column: &TableColumn) -> Field {
    Field::new(&column.name, data_type(&column.delta_type), column.nullable)
}

fn data_type(delta_type: &DeltaType) -> DataType {
    match delta_type {
        DeltaType::Boolean => DataType::Boolean,
        DeltaType::Byte => DataType::Int8,
        DeltaType::Short => DataType::Int16,
        DeltaType::Integer => DataType::Int32,
        DeltaType::Long => DataType::Int64,
        DeltaType::Float => DataType::Float32,
        DeltaType::Double => DataType::Float64,
        DeltaType::String | DeltaType::Variant => DataType::Utf8,
        DeltaType::Binary => DataType::Binary,
        DeltaType::Date => DataType::Date32,
        DeltaType::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        DeltaType::TimestampNtz => DataType::Timestamp(TimeUnit::Microsecond, None),
        DeltaType::Decimal { precision, scale } => DataType::Decimal128(*precision, scale.cast_signed()),
        DeltaType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        DeltaType::Array { element } => {
            DataType::List(Arc::new(Field::new("item", data_type(element), true)))
        }
        DeltaType::Map { key, value } => {
            let key = Field::new("key", data_type(key), false);
            let entry = DataType::Struct(vec![key, Field::new("value", data_type(value), true)].into());
            DataType::Map(Arc::new(Field::new("entries", entry, false)), false)
        }
    }
}

fn ours(columns: &[TableColumn]) -> Result<DescriptorProto, ConversionError> {
    let schema = Schema::new(columns.iter().map(field).collect::<Vec<_>>());
    let table = TableSchema { columns: columns.to_vec() };
    Plan::new(&schema, Some(&table), Policies::default()).map(|plan| plan.descriptor().clone())
}

fn theirs(columns: &[TableColumn], name: &str) -> Option<DescriptorProto> {
    let columns: Vec<UcColumn> = columns.iter().map(uc_column).collect();
    descriptor_from_uc_columns(&columns, name).ok()
}

fn leave_gaps(columns: &mut [TableColumn], choices: &mut Choices) {
    let mut gap = 0;
    for column in columns {
        gap += *choices.pick(&[0, 0, 1, 30, 3_000]);
        column.number += gap;
    }
}

proptest! {
    #![proptest_config(crate::config(1_500))]

    #[test]
    fn it_is_the_one_that_the_official_client_makes_of_the_same_table(mut choices in choices()) {
        let mut columns = columns(&mut choices, 4, false);
        leave_gaps(&mut columns, &mut choices);
        let ours = ours(&columns).unwrap();
        let theirs = theirs(&columns, ours.name()).unwrap();
        prop_assert_eq!(&ours, &theirs);
        prop_assert_eq!(ours.encode_to_vec(), theirs.encode_to_vec());
    }

    #[test]
    fn the_tables_that_the_official_client_refuses_are_refused(mut choices in choices()) {
        let columns = columns(&mut choices, 3, true);
        match (ours(&columns), theirs(&columns, "Record")) {
            (Ok(ours), Some(theirs)) => prop_assert_eq!(ours, theirs),
            (
                Err(ConversionError::InvalidColumnName { .. } | ConversionError::UnsupportedColumn { .. }),
                None,
            ) => {}
            // Texts as keys of decimals: the table is right, the batch is not.
            (Err(ConversionError::UnsupportedType { .. }), Some(_)) => {}
            (ours, theirs) => prop_assert!(false, "{ours:?} is not what the client says: {theirs:?}"),
        }
    }
}

#[test]
fn without_a_table_it_is_the_one_of_the_table_that_the_schema_implies() {
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (arrow_type, extension) in types::scalar_types() {
        let Some(delta_type) = types::default_type(&arrow_type, extension) else { continue };
        let keyed = DataType::Dictionary(Box::new(DataType::UInt16), Box::new(arrow_type.clone()));
        for (arrow_type, nullable) in [(arrow_type.clone(), true), (arrow_type, false), (keyed, true)] {
            let (name, number) = (format!("Column_{}", fields.len()), fields.len() as u32 + 1);
            fields.push(types::field(&name, arrow_type, nullable, extension));
            columns.push(TableColumn { name, number, delta_type: delta_type.clone(), nullable });
        }
    }
    let schema = Schema::new(fields);
    assert_eq!(TableSchema::from_arrow(&schema).unwrap().columns, columns);
    let plan = Plan::new(&schema, None, Policies::default()).unwrap();
    assert_eq!(*plan.descriptor(), theirs(&columns, plan.descriptor().name()).unwrap());
}
