//! The columns in an answer of Unity Catalog, by the rules of the service's own client (its `schema.rs`).
//!
//! A column's number is its position plus one; gaps, which dropped columns leave, stay. What a record cannot carry
//! is refused with the name of the column: a type that the service does not take, an array in an array, a map with
//! such keys or values, nesting without end. Other than that client this reads what a DECIMAL may hold.

use serde::Deserialize;

use crate::convert::{DeltaType, TableColumn, TableSchema};

/// As deep as the service's own descriptors go.
const DEPTH_MAX: usize = 100;

/// Why no record can be made for a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ColumnsError {
    /// The answer has not the form of a table.
    #[error("the answer describes no table: {reason}")]
    NoTable {
        /// What is wrong with it.
        reason: String,
    },
    /// The table has a column that the service cannot fill, or the catalog describes it in an unknown way.
    #[error("column {column:?} of the table {problem}")]
    Column {
        /// Its name, with those of the structs around it.
        column: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// The answer, as far as it is needed.
#[derive(Deserialize)]
struct Table {
    columns: Vec<Column>,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    type_name: String,
    /// `decimal(10,2)`.
    type_text: Option<String>,
    /// The type in Delta's JSON, with or without the column around it.
    type_json: Option<String>,
    type_precision: Option<u8>,
    type_scale: Option<u8>,
    #[serde(default = "yes")]
    nullable: bool,
    #[serde(default)]
    position: i32,
}

const fn yes() -> bool {
    true
}

/// The columns of the table that an answer of the catalog describes.
///
/// # Errors
///
/// [`ColumnsError`] with the first column that no record can be made for.
pub(super) fn table_schema(answer: &[u8]) -> Result<TableSchema, ColumnsError> {
    let no_table = |reason: String| ColumnsError::NoTable { reason };
    let table: Table = serde_json::from_slice(answer).map_err(|error| no_table(error.to_string()))?;
    // A position below zero is none: the client leaves such columns out.
    let mut columns: Vec<TableColumn> =
        table.columns.iter().filter(|column| column.position >= 0).map(column).collect::<Result<_, _>>()?;
    columns.sort_by_key(|column| column.number);
    if columns.is_empty() {
        return Err(no_table("it has no columns".to_owned()));
    }
    if let Some(twins) = columns.windows(2).find(|pair| pair[0].number == pair[1].number) {
        return Err(refused(&twins[1].name, format!("has the position of {:?}", twins[0].name)));
    }
    Ok(TableSchema { columns })
}

fn column(column: &Column) -> Result<TableColumn, ColumnsError> {
    let name = column.name.as_str();
    check_name(name, name)?;
    let delta_type = match column.type_name.as_str() {
        "STRUCT" | "ARRAY" | "MAP" => described(name, column)?,
        "DECIMAL" => decimal(name, column)?,
        other => top_level(other)
            .ok_or_else(|| refused(name, format!("has the type {other}, which the service does not take")))?,
    };
    let number = column.position.unsigned_abs() + 1;
    Ok(TableColumn { name: name.to_owned(), number, delta_type, nullable: column.nullable })
}

/// Types without anything in them, in the words of the catalog.
fn top_level(type_name: &str) -> Option<DeltaType> {
    Some(match type_name {
        "BOOLEAN" | "BOOL" => DeltaType::Boolean,
        "BYTE" | "TINYINT" => DeltaType::Byte,
        "SHORT" | "SMALLINT" => DeltaType::Short,
        "INT" | "INTEGER" => DeltaType::Integer,
        "LONG" | "BIGINT" => DeltaType::Long,
        "FLOAT" => DeltaType::Float,
        "DOUBLE" => DeltaType::Double,
        "STRING" => DeltaType::String,
        "BINARY" => DeltaType::Binary,
        "DATE" => DeltaType::Date,
        "TIMESTAMP" => DeltaType::Timestamp,
        "TIMESTAMP_NTZ" => DeltaType::TimestampNtz,
        "VARIANT" => DeltaType::Variant,
        _ => return None,
    })
}

/// The catalog says in up to three places how many digits a DECIMAL has; the numbers come first.
fn decimal(name: &str, column: &Column) -> Result<DeltaType, ColumnsError> {
    if let Some(precision) = column.type_precision.filter(|precision| *precision > 0) {
        let delta_type = decimal_of(precision, column.type_scale.unwrap_or(0));
        return delta_type.ok_or_else(|| refused(name, "has a precision or scale that no DECIMAL has"));
    }
    let text = column.type_text.as_deref().unwrap_or_default().to_ascii_lowercase();
    decimal_text(&text).map_or_else(|| described(name, column), Ok)
}

/// `decimal(10,2)`, or `decimal` for the ten digits that are its default.
fn decimal_text(text: &str) -> Option<DeltaType> {
    let digits = text.strip_prefix("decimal")?.trim();
    if digits.is_empty() {
        return decimal_of(10, 0);
    }
    let (precision, scale) = digits.strip_prefix('(')?.strip_suffix(')')?.split_once(',')?;
    decimal_of(precision.trim().parse().ok()?, scale.trim().parse().ok()?)
}

fn decimal_of(precision: u8, scale: u8) -> Option<DeltaType> {
    let is_possible = (1..=38).contains(&precision) && scale <= precision;
    is_possible.then_some(DeltaType::Decimal { precision, scale })
}

/// A type in Delta's JSON: a name, or an object with types in it.
#[derive(Deserialize)]
#[serde(untagged)]
enum Json {
    Nested(Nested),
    Named(String),
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Nested {
    Struct {
        fields: Vec<Field>,
    },
    Array {
        #[serde(rename = "elementType")]
        element: Box<Json>,
    },
    Map {
        #[serde(rename = "keyType")]
        key: Box<Json>,
        #[serde(rename = "valueType")]
        value: Box<Json>,
    },
}

#[derive(Deserialize)]
struct Field {
    name: String,
    r#type: Json,
    #[serde(default = "yes")]
    nullable: bool,
}

/// The type that the JSON of a column describes.
fn described(name: &str, column: &Column) -> Result<DeltaType, ColumnsError> {
    let unreadable =
        |error: serde_json::Error| refused(name, format!("is described in a way that is not known: {error}"));
    let type_json = column.type_json.as_deref().unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(type_json).map_err(unreadable)?;
    let bare = match json {
        serde_json::Value::Object(mut field) if field.contains_key("name") && field.contains_key("type") => {
            field.remove("type").unwrap_or_default()
        }
        bare => bare,
    };
    let json = serde_json::from_value(bare).map_err(unreadable)?;
    nested(name, &json, 0)
}

fn nested(path: &str, json: &Json, depth: usize) -> Result<DeltaType, ColumnsError> {
    if depth > DEPTH_MAX {
        return Err(refused(path, format!("has more than {DEPTH_MAX} types inside one another")));
    }
    match json {
        Json::Named(name) => named(name)
            .ok_or_else(|| refused(path, format!("has the type {name}, which the service does not take"))),
        Json::Nested(Nested::Struct { fields }) => {
            let mut columns = Vec::with_capacity(fields.len());
            for (number, field) in (1..).zip(fields) {
                let path = format!("{path}.{}", field.name);
                check_name(&path, &field.name)?;
                let delta_type = nested(&path, &field.r#type, depth + 1)?;
                let name = field.name.clone();
                columns.push(TableColumn { name, number, delta_type, nullable: field.nullable });
            }
            Ok(DeltaType::Struct(columns))
        }
        Json::Nested(Nested::Array { element }) => {
            Ok(DeltaType::Array { element: Box::new(nested(path, element, depth + 1)?) })
        }
        Json::Nested(Nested::Map { key, value }) => {
            let (key, value) = (nested(path, key, depth + 1)?, nested(path, value, depth + 1)?);
            if !is_key(&key) {
                return Err(refused(
                    path,
                    format!("is a map whose keys are {key}, which the service does not take"),
                ));
            }
            Ok(DeltaType::Map { key: Box::new(key), value: Box::new(value) })
        }
    }
}

/// Types without anything in them, in the words of Delta's JSON.
fn named(name: &str) -> Option<DeltaType> {
    Some(match name {
        "boolean" => DeltaType::Boolean,
        "byte" => DeltaType::Byte,
        "short" => DeltaType::Short,
        "integer" => DeltaType::Integer,
        "long" => DeltaType::Long,
        "float" => DeltaType::Float,
        "double" => DeltaType::Double,
        "string" => DeltaType::String,
        "binary" => DeltaType::Binary,
        "date" => DeltaType::Date,
        "timestamp" => DeltaType::Timestamp,
        "timestamp_ntz" => DeltaType::TimestampNtz,
        "variant" => DeltaType::Variant,
        other => return decimal_text(other),
    })
}

/// Whether a map of protobuf can have such keys.
fn is_key(delta_type: &DeltaType) -> bool {
    match delta_type {
        DeltaType::Boolean
        | DeltaType::Byte
        | DeltaType::Short
        | DeltaType::Integer
        | DeltaType::Long
        | DeltaType::String
        | DeltaType::Date
        | DeltaType::Timestamp
        | DeltaType::TimestampNtz
        | DeltaType::Decimal { .. } => true,
        DeltaType::Float
        | DeltaType::Double
        | DeltaType::Binary
        | DeltaType::Variant
        | DeltaType::Struct(_)
        | DeltaType::Array { .. }
        | DeltaType::Map { .. } => false,
    }
}

/// A field of protobuf must be able to have the name.
fn check_name(path: &str, name: &str) -> Result<(), ColumnsError> {
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) || !is_word {
        let problem = "has a name that the service does not take: \
                       it takes ASCII letters, digits and underscores, and no digit first";
        return Err(refused(path, problem));
    }
    Ok(())
}

fn refused(column: &str, problem: impl Into<String>) -> ColumnsError {
    ColumnsError::Column { column: column.to_owned(), problem: problem.into() }
}

#[cfg(test)]
mod tests {
    use databricks_zerobus_ingest_sdk::schema::{UcTableSchema, descriptor_from_uc_schema};

    use super::*;

    /// An answer in the form of the service, with these columns.
    fn answer(columns: &serde_json::Value) -> Vec<u8> {
        serde_json::to_vec(&serde_json::json!({
            "name": "events",
            "catalog_name": "main",
            "schema_name": "default",
            "table_type": "MANAGED",
            "data_source_format": "DELTA",
            "storage_location": "s3://bucket/tables/1",
            "owner": "somebody@example.com",
            "properties": {"delta.lastCommitTimestamp": "1700000000000", "delta.minReaderVersion": "3"},
            "columns": columns,
            "securable_kind": "TABLE_DELTA",
            "created_at": 1_700_000_000_000_u64,
            "full_name": "main.default.events",
        }))
        .unwrap()
    }

    fn simple(name: &str, type_name: &str, type_text: &str, position: i32) -> serde_json::Value {
        serde_json::json!({
            "name": name,
            "type_text": type_text,
            "type_name": type_name,
            "type_json": format!("{{\"name\":\"{name}\",\"type\":\"{type_text}\",\"nullable\":true,\"metadata\":{{}}}}"),
            "type_precision": 0,
            "type_scale": 0,
            "position": position,
            "comment": "what it means",
            "nullable": true,
        })
    }

    fn complex(type_name: &str, type_json: &str) -> serde_json::Value {
        serde_json::json!({"name": "c", "type_name": type_name, "type_json": type_json, "position": 0})
    }

    fn types(columns: serde_json::Value) -> Vec<DeltaType> {
        table_schema(&answer(&columns)).unwrap().columns.into_iter().map(|column| column.delta_type).collect()
    }

    fn refusal(columns: serde_json::Value) -> String {
        table_schema(&answer(&columns)).expect_err("it was accepted").to_string()
    }

    #[test]
    fn every_simple_type_is_read_under_all_of_its_names() {
        let words = [
            ("BOOLEAN", DeltaType::Boolean),
            ("BOOL", DeltaType::Boolean),
            ("BYTE", DeltaType::Byte),
            ("TINYINT", DeltaType::Byte),
            ("SHORT", DeltaType::Short),
            ("SMALLINT", DeltaType::Short),
            ("INT", DeltaType::Integer),
            ("INTEGER", DeltaType::Integer),
            ("LONG", DeltaType::Long),
            ("BIGINT", DeltaType::Long),
            ("FLOAT", DeltaType::Float),
            ("DOUBLE", DeltaType::Double),
            ("STRING", DeltaType::String),
            ("BINARY", DeltaType::Binary),
            ("DATE", DeltaType::Date),
            ("TIMESTAMP", DeltaType::Timestamp),
            ("TIMESTAMP_NTZ", DeltaType::TimestampNtz),
            ("VARIANT", DeltaType::Variant),
        ];
        let columns: Vec<_> =
            (0..).zip(&words).map(|(at, (word, _))| simple(&format!("c{at}"), word, "", at)).collect();
        let expected: Vec<_> = words.into_iter().map(|(_, delta_type)| delta_type).collect();
        assert_eq!(types(columns.into()), expected);
    }

    #[test]
    fn a_decimal_is_read_from_whichever_place_says_what_it_holds() {
        let by_numbers = serde_json::json!({
            "name": "c", "type_name": "DECIMAL", "type_text": "decimal(1,1)", "type_json": "\"decimal(2,2)\"",
            "type_precision": 38, "type_scale": 18, "position": 0,
        });
        let by_text = serde_json::json!({"name": "c", "type_name": "DECIMAL", "type_text": "DECIMAL(20, 4)"});
        let by_json = serde_json::json!({
            "name": "c", "type_name": "DECIMAL", "type_json": "{\"name\":\"c\",\"type\":\"decimal(5,0)\"}",
        });
        let in_a_struct = complex(
            "STRUCT",
            r#"{"type":"struct","fields":[{"name":"d","type":"decimal(7,3)"},{"name":"e","type":"decimal"}]}"#,
        );
        let decimal = |precision, scale| DeltaType::Decimal { precision, scale };
        for (column, expected) in
            [(by_numbers, decimal(38, 18)), (by_text, decimal(20, 4)), (by_json, decimal(5, 0))]
        {
            assert_eq!(types(serde_json::json!([column])), [expected]);
        }
        assert_eq!(
            types(serde_json::json!([in_a_struct]))[0].to_string(),
            "STRUCT<d: DECIMAL(7,3), e: DECIMAL(10,0)>"
        );
        for text in
            ["decimal(39,0)", "decimal(5,6)", "decimal(0,0)", "decimal(5)", "decimal(5,2", "decimal(x,y)"]
        {
            let column = serde_json::json!({"name": "c", "type_name": "DECIMAL", "type_text": text});
            assert!(refusal(serde_json::json!([column])).contains("\"c\""), "{text}");
        }
    }

    #[test]
    fn numbers_follow_the_positions_and_keep_their_gaps() {
        let schema = table_schema(&answer(&serde_json::json!([
            simple("third", "LONG", "bigint", 5),
            simple("first", "STRING", "string", 0),
            simple("gone", "STRING", "string", -1),
            simple("second", "INT", "int", 2),
        ])))
        .unwrap();
        let numbers: Vec<_> = schema.columns.iter().map(|it| (it.name.as_str(), it.number)).collect();
        assert_eq!(numbers, [("first", 1), ("second", 3), ("third", 6)]);
    }

    #[test]
    fn nested_types_are_read_with_their_nulls() {
        let column = serde_json::json!({
            "name": "c",
            "type_name": "STRUCT",
            "nullable": false,
            "position": 0,
            "type_json": r#"{"name":"c","nullable":false,"metadata":{},"type":{"type":"struct","fields":[
                {"name":"tags","type":{"type":"array","elementType":"string","containsNull":true},"nullable":true,"metadata":{}},
                {"name":"props","type":{"type":"map","keyType":"integer","valueType":
                    {"type":"struct","fields":[{"name":"at","type":"timestamp","nullable":false}]},"valueContainsNull":true},
                 "nullable":false,"metadata":{}}]}}"#,
        });
        let schema = table_schema(&answer(&serde_json::json!([column]))).unwrap();
        assert!(!schema.columns[0].nullable);
        assert_eq!(
            schema.columns[0].delta_type.to_string(),
            "STRUCT<tags: ARRAY<STRING>, props: MAP<INT, STRUCT<at: TIMESTAMP NOT NULL>> NOT NULL>"
        );
    }

    #[test]
    fn what_no_record_can_carry_is_refused_with_the_name_of_the_column() {
        for type_name in ["INTERVAL", "NULL", "CHAR", "GEOGRAPHY", "OBJECT", "USER_DEFINED_TYPE", "int", ""] {
            let text = refusal(serde_json::json!([simple("odd", type_name, "", 0)]));
            assert!(text.contains("\"odd\"") && text.contains(type_name), "{text}");
        }
        for (type_name, type_json, said) in [
            ("MAP", r#"{"type":"map","keyType":"double","valueType":"long"}"#, "DOUBLE"),
            ("MAP", r#"{"type":"map","keyType":"variant","valueType":"long"}"#, "VARIANT"),
            ("STRUCT", r#"{"type":"struct","fields":[{"name":"x","type":"interval"}]}"#, "\"c.x\""),
            ("STRUCT", r#"{"type":"struct","fields":[{"name":"x y","type":"long"}]}"#, "\"c.x y\""),
            ("STRUCT", "", "not known"),
            ("STRUCT", "{}", "not known"),
            ("STRUCT", "[1", "not known"),
        ] {
            let text = refusal(serde_json::json!([complex(type_name, type_json)]));
            assert!(text.contains("\"c") && text.contains(said), "{type_json}: {text}");
        }
        for name in ["", "1st", "a b", "ä", "a-b"] {
            let text = refusal(serde_json::json!([simple(name, "LONG", "", 0)]));
            assert!(text.contains(&format!("{name:?}")), "{text}");
        }
        let twins = serde_json::json!([simple("a", "LONG", "", 3), simple("b", "LONG", "", 3)]);
        assert!(refusal(twins).contains("position"));
    }

    #[test]
    fn lists_and_maps_inside_of_others_are_read_for_a_batch_can_carry_them() {
        for (type_name, type_json, ddl) in [
            (
                "ARRAY",
                r#"{"type":"array","elementType":{"type":"array","elementType":"long"}}"#,
                "ARRAY<ARRAY<BIGINT>>",
            ),
            (
                "ARRAY",
                r#"{"type":"array","elementType":{"type":"map","keyType":"string","valueType":"long"}}"#,
                "ARRAY<MAP<STRING, BIGINT>>",
            ),
            (
                "MAP",
                r#"{"type":"map","keyType":"string","valueType":{"type":"array","elementType":"long"}}"#,
                "MAP<STRING, ARRAY<BIGINT>>",
            ),
        ] {
            let read = types(serde_json::json!([complex(type_name, type_json)]));
            assert_eq!(read.iter().map(ToString::to_string).collect::<Vec<_>>(), [ddl]);
        }
    }

    #[test]
    fn nesting_without_end_is_refused_and_does_not_use_up_the_stack() {
        for depth in [60, 101, 100_000] {
            let struct_json = r#"{"type":"struct","fields":[{"name":"x","type":"#.repeat(depth)
                + "\"long\""
                + &"}]}".repeat(depth);
            let text = refusal(serde_json::json!([complex("STRUCT", &struct_json)]));
            assert!(text.contains("\"c"), "{text}");
        }
    }

    #[test]
    fn an_answer_that_is_no_table_is_an_error() {
        for bytes in [&b""[..], b"[]", b"{}", b"{\"columns\": 1}", b"{\"columns\": []}", b"\xff"] {
            let error = table_schema(bytes).unwrap_err();
            assert!(matches!(error, ColumnsError::NoTable { .. }), "{error}");
        }
    }

    #[test]
    fn the_client_of_the_service_accepts_what_we_accept() {
        let columns = serde_json::json!([
            simple("a", "BIGINT", "bigint", 0),
            simple("b", "DECIMAL", "decimal(10,2)", 3),
            serde_json::json!({
                "name": "c", "type_name": "MAP", "position": 4,
                "type_json": r#"{"type":"map","keyType":"date","valueType":"decimal(3,1)","valueContainsNull":true}"#,
            }),
        ]);
        let ours = table_schema(&answer(&columns)).unwrap();
        let theirs: UcTableSchema = serde_json::from_slice(&answer(&columns)).unwrap();
        let theirs = descriptor_from_uc_schema(&theirs).unwrap();
        let numbers = |numbers: &[u32]| numbers.iter().map(|number| *number as i32).collect::<Vec<_>>();
        let ours: Vec<u32> = ours.columns.iter().map(|column| column.number).collect();
        let theirs: Vec<i32> = theirs.field.iter().map(|field| field.number()).collect();
        assert_eq!(numbers(&ours), theirs);
    }
}
