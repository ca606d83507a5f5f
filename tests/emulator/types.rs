//! Every type of column: what is sent as protobuf or JSON is in the table with its values.

use arrow_array::Array as _;
use arrow_array::cast::AsArray as _;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    TimestampMicrosecondType,
};
use arrow_cast::pretty::pretty_format_batches;
use databricks_zerobus_ingest_sdk::{JsonString, ProtoMessage};

use crate::site::{by_id, serve};

#[derive(Clone, PartialEq, prost::Message)]
struct Everything {
    #[prost(int64, optional, tag = "1")]
    id: Option<i64>,
    #[prost(bool, optional, tag = "2")]
    flag: Option<bool>,
    #[prost(int32, optional, tag = "3")]
    byte: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    short: Option<i32>,
    #[prost(int32, optional, tag = "5")]
    int: Option<i32>,
    #[prost(float, optional, tag = "6")]
    float: Option<f32>,
    #[prost(double, optional, tag = "7")]
    double: Option<f64>,
    #[prost(string, optional, tag = "8")]
    text: Option<String>,
    #[prost(bytes, optional, tag = "9")]
    binary: Option<Vec<u8>>,
    #[prost(int32, optional, tag = "10")]
    day: Option<i32>,
    #[prost(int64, optional, tag = "11")]
    instant: Option<i64>,
    #[prost(int64, optional, tag = "12")]
    local: Option<i64>,
    #[prost(string, optional, tag = "13")]
    price: Option<String>,
}

const FLAT: &str = "id BIGINT NOT NULL, flag BOOLEAN, byte TINYINT, short SMALLINT, int INT, float FLOAT, \
                    double DOUBLE, text STRING, binary BINARY, day DATE, instant TIMESTAMP, \
                    local TIMESTAMP_NTZ, price DECIMAL(20,4)";

#[tokio::test(flavor = "multi_thread")]
async fn protobuf_records_of_every_flat_type_land_with_their_values() {
    let table = "main.default.flat";
    let service = serve(|options| options.tables.push((table.to_owned(), FLAT.to_owned())));
    let full = Everything {
        id: Some(-7),
        flag: Some(false),
        byte: Some(-128),
        short: Some(-32768),
        int: Some(i32::MIN),
        float: Some(-0.0),
        double: Some(f64::NAN),
        text: Some("żółw".to_owned()),
        binary: Some(vec![0, 255]),
        day: Some(-1),
        instant: Some(1_700_000_000_123_456),
        local: Some(i64::from(i32::MIN)),
        price: Some("-1234567890123456.7890".to_owned()),
    };
    let empty = Everything { id: Some(0), ..Default::default() };
    let sdk = service.sdk();
    let builder = sdk.stream_builder().table(table).oauth("me", "secret");
    let mut stream = builder.compiled_proto(service.descriptor(table)).build().await.unwrap();
    let offset = stream.ingest_records_offset([ProtoMessage(full), ProtoMessage(empty)]).await.unwrap();
    stream.wait_for_offset(offset.unwrap()).await.unwrap();
    stream.close().await.unwrap();

    let rows = service.read(table);
    let (row, null) = (by_id(&rows)[&-7], by_id(&rows)[&0]);
    let column = |name: &str| rows.column_by_name(name).unwrap();
    assert!(!column("flag").as_boolean().value(row));
    assert_eq!(column("byte").as_primitive::<Int8Type>().value(row), -128);
    assert_eq!(column("short").as_primitive::<Int16Type>().value(row), -32768);
    assert_eq!(column("int").as_primitive::<Int32Type>().value(row), i32::MIN);
    assert_eq!(column("float").as_primitive::<Float32Type>().value(row).to_bits(), (-0.0f32).to_bits());
    assert!(column("double").as_primitive::<Float64Type>().value(row).is_nan());
    assert_eq!(column("text").as_string::<i32>().value(row), "żółw");
    assert_eq!(column("binary").as_binary::<i32>().value(row), [0, 255]);
    assert_eq!(column("day").as_primitive::<Date32Type>().value(row), -1);
    let micros = |name| column(name).as_primitive::<TimestampMicrosecondType>().value(row);
    assert_eq!(micros("instant"), 1_700_000_000_123_456);
    assert_eq!(micros("local"), i64::from(i32::MIN));
    let price = column("price").as_primitive::<Decimal128Type>().value(row);
    assert_eq!(price, -12_345_678_901_234_567_890);
    for column in &rows.columns()[1..] {
        assert!(column.is_null(null) && !column.is_null(row));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn json_records_land_with_the_same_values() {
    let table = "main.default.flat";
    let service = serve(|options| options.tables.push((table.to_owned(), FLAT.to_owned())));
    let sdk = service.sdk();
    let mut stream = sdk.stream_builder().table(table).oauth("me", "secret").json().build().await.unwrap();
    let records = [
        r#"{"id": 1, "flag": true, "byte": -1, "short": 2, "int": 3, "float": 0.5, "double": 1e300, "text": "t",
            "binary": "AP8=", "day": 19000, "instant": 1700000000123456, "local": 5, "price": 12.5}"#,
        r#"{"id": 2, "flag": null, "double": "-Infinity", "day": "2022-01-08",
            "instant": "2023-11-14T23:13:20.123456+01:00", "local": "1970-01-01 00:00:00.000005",
            "price": "1234567890123456.7890"}"#,
    ];
    let offset = stream.ingest_records_offset(records.map(|r| JsonString(r.to_owned()))).await.unwrap();
    stream.wait_for_offset(offset.unwrap()).await.unwrap();
    stream.close().await.unwrap();

    let rows = service.read(table);
    let expected = "\
+----+------+------+-------+-----+-------+--------+------+--------+------------+-----------------------------+----------------------------+-----------------------+
| id | flag | byte | short | int | float | double | text | binary | day        | instant                     | local                      | price                 |
+----+------+------+-------+-----+-------+--------+------+--------+------------+-----------------------------+----------------------------+-----------------------+
| 1  | true | -1   | 2     | 3   | 0.5   | 1e300  | t    | 00ff   | 2022-01-08 | 2023-11-14T22:13:20.123456Z | 1970-01-01T00:00:00.000005 | 12.5000               |
| 2  |      |      |       |     |       | -inf   |      |        | 2022-01-08 | 2023-11-14T22:13:20.123456Z | 1970-01-01T00:00:00.000005 | 1234567890123456.7890 |
+----+------+------+-------+-----+-------+--------+------+--------+------------+-----------------------------+----------------------------+-----------------------+";
    assert_eq!(pretty_format_batches(&[rows]).unwrap().to_string(), expected);
}

#[derive(Clone, PartialEq, prost::Message)]
struct Nested {
    #[prost(int64, optional, tag = "1")]
    id: Option<i64>,
    #[prost(string, repeated, tag = "2")]
    tags: Vec<String>,
    // prost packs numbers, other encoders do not; both are on the wire in the test.
    #[prost(int32, repeated, tag = "3")]
    packed: Vec<i32>,
    #[prost(int32, repeated, packed = "false", tag = "4")]
    loose: Vec<i32>,
    #[prost(map = "string, int64", tag = "5")]
    counts: std::collections::HashMap<String, i64>,
    #[prost(message, optional, tag = "6")]
    inner: Option<Inner>,
    #[prost(message, repeated, tag = "7")]
    many: Vec<Inner>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Inner {
    #[prost(int32, optional, tag = "1")]
    a: Option<i32>,
    #[prost(string, optional, tag = "2")]
    b: Option<String>,
}

#[tokio::test(flavor = "multi_thread")]
async fn arrays_maps_and_structs_land_from_protobuf_and_json() {
    let table = "main.default.nested";
    let columns = "id BIGINT NOT NULL, tags ARRAY<STRING>, packed ARRAY<INT>, loose ARRAY<INT>, \
                   counts MAP<STRING, BIGINT>, inner STRUCT<a: INT NOT NULL, b: STRING>, \
                   many ARRAY<STRUCT<a: INT, b: STRING>>";
    let service = serve(|options| options.tables.push((table.to_owned(), columns.to_owned())));
    let sdk = service.sdk();
    let inner = |a, b: &str| Inner { a: Some(a), b: Some(b.to_owned()) };
    let record = Nested {
        id: Some(1),
        tags: vec!["x".to_owned(), String::new()],
        packed: vec![1, -1],
        loose: vec![3, 4],
        counts: [("k".to_owned(), 0)].into(),
        inner: Some(inner(0, "b")),
        many: vec![inner(1, "one"), Inner { a: None, b: None }],
    };
    let builder = sdk.stream_builder().table(table).oauth("me", "secret");
    let mut stream = builder.compiled_proto(service.descriptor(table)).build().await.unwrap();
    let none = Nested { id: Some(2), ..Default::default() };
    stream.ingest_records_offset([ProtoMessage(record), ProtoMessage(none)]).await.unwrap();
    stream.close().await.unwrap();
    let mut stream = sdk.stream_builder().table(table).oauth("me", "secret").json().build().await.unwrap();
    let record = r#"{"id": 3, "tags": ["y", null], "packed": [], "counts": {"z": 9}, "inner": {"a": 5},
                     "many": [{"b": "c"}, null]}"#;
    stream.ingest_record_offset(JsonString(record.to_owned())).await.unwrap();
    stream.close().await.unwrap();

    let rows = service.read(table);
    let order = by_id(&rows);
    let line = |id: i64| {
        let row = rows.slice(order[&id], 1);
        pretty_format_batches(&[row]).unwrap().to_string().lines().nth(3).unwrap().replace(' ', "")
    };
    assert_eq!(line(1), "|1|[x,]|[1,-1]|[3,4]|{k:0}|{a:0,b:b}|[{a:1,b:one},{a:,b:}]|");
    assert_eq!(line(2), "|2|[]|[]|[]|{}||[]|");
    assert_eq!(line(3), "|3|[y,]|[]||{z:9}|{a:5,b:}|[{a:,b:c},]|");
    assert_eq!(rows.column_by_name("tags").unwrap().as_list::<i32>().value(order[&3]).null_count(), 1);
}
