//! The descriptor of a table is the one that the service's own client makes of the same columns, byte for byte, and
//! there is none where the client makes none.
//!
//! Tables are made up with all types inside of one another, and with names that become the same message name.

use arrow_schema::{DataType, Field, Schema};
use arrow_zerobus_sdk_wrapper::convert::{DeltaType, Plan, Policies, TableColumn, TableSchema};
use databricks_zerobus_ingest_sdk::schema::{UcColumn, descriptor_from_uc_columns};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};

const NAMES: [&str; 16] = [
    "a",
    "A",
    "a_b",
    "aB",
    "a__b",
    "_a",
    "_",
    "__",
    "_1",
    "a1",
    "a_1",
    "a_element",
    "aValue",
    "a_entry",
    "message",
    "AEntry",
];

fn scalar() -> impl Strategy<Value = DeltaType> {
    select(vec![
        DeltaType::Boolean,
        DeltaType::Byte,
        DeltaType::Short,
        DeltaType::Integer,
        DeltaType::Long,
        DeltaType::Float,
        DeltaType::Double,
        DeltaType::String,
        DeltaType::Binary,
        DeltaType::Date,
        DeltaType::Timestamp,
        DeltaType::TimestampNtz,
        DeltaType::Decimal { precision: 10, scale: 2 },
        DeltaType::Variant,
    ])
}

fn columns(
    types: impl Strategy<Value = DeltaType> + Clone,
    count: usize,
) -> impl Strategy<Value = Vec<TableColumn>> {
    (1..=count)
        .prop_flat_map(move |count| {
            let names = subsequence(NAMES.to_vec(), count).prop_shuffle();
            let types = proptest::collection::vec((types.clone(), any::<bool>(), 0_u32..3), count);
            (names, types)
        })
        .prop_map(|(names, types)| {
            let mut number = 0;
            let column = |(name, (delta_type, nullable, gap)): (&str, (DeltaType, bool, u32))| {
                number += 1 + gap;
                TableColumn { name: name.to_owned(), number, delta_type, nullable }
            };
            names.into_iter().zip(types).map(column).collect()
        })
}

fn delta_type() -> impl Strategy<Value = DeltaType> + Clone {
    scalar().boxed().prop_recursive(5, 30, 4, |inner| {
        prop_oneof![
            columns(inner.clone(), 4).prop_map(|mut fields| {
                // The fields of a struct have no gaps.
                (1..).zip(&mut fields).for_each(|(number, field)| field.number = number);
                DeltaType::Struct(fields)
            }),
            inner.clone().prop_map(|element| DeltaType::Array { element: Box::new(element) }),
            (scalar(), inner)
                .prop_map(|(key, value)| DeltaType::Map { key: Box::new(key), value: Box::new(value) }),
        ]
    })
}

/// The type as Unity Catalog says it: the name of the column's type, and what stands in its JSON.
fn in_catalog(delta_type: &DeltaType) -> (&'static str, Value) {
    match delta_type {
        DeltaType::Boolean => ("BOOLEAN", json!("boolean")),
        DeltaType::Byte => ("BYTE", json!("byte")),
        DeltaType::Short => ("SHORT", json!("short")),
        DeltaType::Integer => ("INT", json!("integer")),
        DeltaType::Long => ("LONG", json!("long")),
        DeltaType::Float => ("FLOAT", json!("float")),
        DeltaType::Double => ("DOUBLE", json!("double")),
        DeltaType::String => ("STRING", json!("string")),
        DeltaType::Binary => ("BINARY", json!("binary")),
        DeltaType::Date => ("DATE", json!("date")),
        DeltaType::Timestamp => ("TIMESTAMP", json!("timestamp")),
        DeltaType::TimestampNtz => ("TIMESTAMP_NTZ", json!("timestamp_ntz")),
        DeltaType::Variant => ("VARIANT", json!("variant")),
        DeltaType::Decimal { precision, scale } => {
            ("DECIMAL", json!(format!("decimal({precision},{scale})")))
        }
        DeltaType::Struct(fields) => {
            let field = |field: &TableColumn| {
                json!({
                    "name": field.name,
                    "type": in_catalog(&field.delta_type).1,
                    "nullable": field.nullable,
                    "metadata": {},
                })
            };
            ("STRUCT", json!({"type": "struct", "fields": fields.iter().map(field).collect::<Vec<_>>()}))
        }
        DeltaType::Array { element } => {
            ("ARRAY", json!({"type": "array", "elementType": in_catalog(element).1, "containsNull": true}))
        }
        DeltaType::Map { key, value } => {
            let (key, value) = (in_catalog(key).1, in_catalog(value).1);
            ("MAP", json!({"type": "map", "keyType": key, "valueType": value, "valueContainsNull": true}))
        }
    }
}

fn catalog_column(column: &TableColumn) -> UcColumn {
    let (type_name, type_json) = in_catalog(&column.delta_type);
    UcColumn {
        name: column.name.clone(),
        type_name: type_name.to_owned(),
        type_text: String::new(),
        type_json: type_json.to_string(),
        nullable: column.nullable,
        position: column.number as i32 - 1,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn it_is_the_one_of_the_official_client(mut columns in columns(delta_type(), 6)) {
        // Something that a batch can have, so that there is a plan.
        let number = columns.last().unwrap().number + 1;
        columns.push(TableColumn { name: "sent".to_owned(), number, delta_type: DeltaType::Long, nullable: true });
        columns.iter_mut().for_each(|column| column.nullable |= column.name != "sent");
        let schema = Schema::new(vec![Field::new("sent", DataType::Int64, true)]);
        let catalog: Vec<UcColumn> = columns.iter().map(catalog_column).collect();
        let theirs = descriptor_from_uc_columns(&catalog, "Record");
        let ours = Plan::new(&schema, Some(&TableSchema { columns }), Policies::default());
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours.descriptor(), &theirs),
            (Err(_), Err(_)) => {}
            (ours, theirs) => prop_assert!(false, "ours {ours:?}, theirs {theirs:?}"),
        }
    }
}

#[test]
fn required_columns_and_gaps_are_as_in_the_official_client() {
    let columns = vec![
        TableColumn { name: "id".to_owned(), number: 2, delta_type: DeltaType::Long, nullable: false },
        TableColumn { name: "name".to_owned(), number: 9, delta_type: DeltaType::String, nullable: true },
    ];
    let schema = Schema::new(vec![Field::new("id", DataType::Int64, false)]);
    let catalog: Vec<UcColumn> = columns.iter().map(catalog_column).collect();
    let theirs = descriptor_from_uc_columns(&catalog, "Record").unwrap();
    let ours = Plan::new(&schema, Some(&TableSchema { columns }), Policies::default()).unwrap();
    assert_eq!(ours.descriptor(), &theirs);
}
