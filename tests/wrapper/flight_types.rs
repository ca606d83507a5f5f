//! What the values of each type become over Arrow Flight, those that protobuf cannot carry too.

use std::sync::Arc;

use arrow_array::builder::{Int32Builder, ListBuilder, MapBuilder, StringBuilder, UInt64Builder};
use arrow_array::types::Int32Type;
use arrow_array::{
    Array, ArrayRef, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Int32Array, Int64Array,
    LargeListArray, ListArray, RecordBatch, StringArray, StringViewArray, StructArray,
    Time64MicrosecondArray, TimestampNanosecondArray,
};
use arrow_buffer::{NullBuffer, OffsetBuffer};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, Field};
use arrow_zerobus_sdk_wrapper::Validate;

use crate::flight::{end, flush, open};
use crate::site::{Site, TABLE, wait_until};
use crate::support::read_table;

/// Lists of lists with nulls at every level.
fn nested() -> ArrayRef {
    let mut lists = ListBuilder::new(ListBuilder::new(Int32Builder::new()));
    for outer in [
        Some(vec![Some(vec![Some(1), None]), None, Some(vec![])]),
        None,
        Some(vec![]),
        Some(vec![Some(vec![Some(7)])]),
    ] {
        for inner in outer.iter().flatten() {
            for value in inner.iter().flatten() {
                lists.values().values().append_option(*value);
            }
            lists.values().append(inner.is_some());
        }
        lists.append(outer.is_some());
    }
    Arc::new(lists.finish())
}

fn map() -> ArrayRef {
    let mut maps = MapBuilder::new(None, StringBuilder::new(), UInt64Builder::new());
    maps.keys().append_value("a");
    maps.values().append_value(u64::MAX);
    maps.keys().append_value("b");
    maps.values().append_null();
    maps.append(true).unwrap();
    maps.append(false).unwrap();
    maps.append(true).unwrap();
    maps.append(true).unwrap();
    Arc::new(maps.finish())
}

fn columns() -> Vec<(&'static str, &'static str, ArrayRef)> {
    let elements = ListArray::from_iter_primitive::<Int32Type, _, _>([
        Some(vec![Some(1), None]),
        Some(vec![]),
        None,
        Some(vec![None]),
    ]);
    let large: LargeListArray = LargeListArray::from_iter_primitive::<Int32Type, _, _>([
        None,
        Some(vec![Some(3)]),
        None,
        Some(vec![]),
    ]);
    let pair = StructArray::new(
        vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)].into(),
        vec![
            Arc::new(Int32Array::from(vec![Some(1), Some(2), None, None])),
            Arc::new(StringArray::from(vec![None, Some("hidden"), Some("z"), None])),
        ],
        Some(NullBuffer::from(vec![true, false, true, true])),
    );
    // The field that the table has and the struct does not is null.
    let pairs = ListArray::new(
        Arc::new(Field::new("item", pair.data_type().clone(), true)),
        OffsetBuffer::from_lengths([2, 0, 1, 1]),
        Arc::new(pair.clone()),
        Some(NullBuffer::from(vec![true, false, true, true])),
    );
    let dictionary: DictionaryArray<Int32Type> =
        [Some("x"), None, Some("y"), Some("x")].into_iter().collect();
    let nanos = TimestampNanosecondArray::from(vec![Some(-1), Some(1_999), None, Some(0)]);
    let times = Time64MicrosecondArray::from(vec![Some(1), None, Some(3_600_000_000), Some(0)]);
    let decimals = Decimal128Array::from(vec![Some(-5), None, Some(12_345), Some(100)]);
    vec![
        ("small", "TINYINT", Arc::new(Int64Array::from(vec![Some(-128), None, Some(127), Some(0)]))),
        ("long", "BIGINT", Arc::new(Int32Array::from(vec![Some(i32::MIN), None, Some(1), Some(0)]))),
        (
            "double",
            "DOUBLE",
            Arc::new(Float32Array::from(vec![Some(1.5), None, Some(f32::INFINITY), Some(0.0)])),
        ),
        (
            "text",
            "STRING",
            Arc::new(StringViewArray::from(vec![Some("grüße"), None, Some(""), Some("longer than twelve")])),
        ),
        ("kind", "STRING", Arc::new(dictionary)),
        ("day", "DATE", Arc::new(Date32Array::from(vec![Some(-1), None, Some(20_000), Some(0)]))),
        ("at", "TIMESTAMP_NTZ", Arc::new(nanos)),
        ("time", "STRING", Arc::new(times)),
        ("price", "DECIMAL(10,3)", Arc::new(decimals.with_precision_and_scale(8, 2).unwrap())),
        ("elements", "ARRAY<INT>", Arc::new(elements)),
        ("large", "ARRAY<BIGINT>", Arc::new(large)),
        ("nested", "ARRAY<ARRAY<INT>>", nested()),
        ("pair", "STRUCT<a: BIGINT, missing: DATE, b: STRING>", Arc::new(pair)),
        ("pairs", "ARRAY<STRUCT<a: INT, b: STRING>>", Arc::new(pairs)),
        ("map", "MAP<STRING, DECIMAL(20,0)>", map()),
    ]
}

/// What of each column stands in the table.
const LANDED: [(&str, [&str; 4]); 15] = [
    ("small", ["-128", "NULL", "127", "0"]),
    ("long", ["-2147483648", "NULL", "1", "0"]),
    ("double", ["1.5", "NULL", "inf", "0.0"]),
    ("text", ["grüße", "NULL", "", "longer than twelve"]),
    ("kind", ["x", "NULL", "y", "x"]),
    ("day", ["1969-12-31", "NULL", "2024-10-04", "1970-01-01"]),
    ("at", ["1969-12-31T23:59:59.999999", "1970-01-01T00:00:00.000001", "NULL", "1970-01-01T00:00:00"]),
    ("time", ["00:00:00.000001", "NULL", "01:00:00.000000", "00:00:00.000000"]),
    ("price", ["-0.050", "NULL", "123.450", "1.000"]),
    ("elements", ["[1, NULL]", "[]", "NULL", "[NULL]"]),
    ("large", ["NULL", "[3]", "NULL", "[]"]),
    ("nested", ["[[1, NULL], NULL, []]", "NULL", "[]", "[[7]]"]),
    (
        "pair",
        [
            "{a: 1, missing: NULL, b: NULL}",
            "NULL",
            "{a: NULL, missing: NULL, b: z}",
            "{a: NULL, missing: NULL, b: NULL}",
        ],
    ),
    ("pairs", ["[{a: 1, b: NULL}, NULL]", "NULL", "[{a: NULL, b: z}]", "[{a: NULL, b: NULL}]"]),
    ("map", ["{a: 18446744073709551615, b: NULL}", "NULL", "{}", "{}"]),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_type_lands_as_it_was_null_elements_and_lists_of_lists_too() {
    let site = Site::new();
    let columns = columns();
    let ddl: Vec<String> = columns.iter().map(|(name, ddl, _)| format!("{name} {ddl}")).collect();
    let emulator = site.serve_with(|options| options.tables[0].1 = ddl.join(", "));
    let wrapper = open(&site, |_| {});
    // Another order than the one of the table, and a slice.
    let sent = columns.iter().rev().map(|(name, _, array)| (*name, Arc::clone(array), true));
    let sent = RecordBatch::try_from_iter_with_nullable(sent).unwrap();
    wait_until(&wrapper, "the table", |status| status.table_schema.columns == Some(columns.len())).await;
    wrapper.send_batch(sent.slice(0, 1)).await.unwrap();
    wrapper.send_batch(sent.slice(1, 3)).await.unwrap();
    flush(&wrapper).await;
    assert_eq!(wrapper.status().emptied_lists, 0);
    assert_eq!(wrapper.status().floored_timestamps, 2);
    end(wrapper, emulator).await;
    let landed = read_table(&site.table_path(TABLE));
    assert_eq!(landed.num_rows(), 4);
    let options = FormatOptions::new().with_null("NULL");
    let shown = |array: &ArrayRef| -> Vec<String> {
        let formatter = ArrayFormatter::try_new(array, &options).unwrap();
        (0..array.len()).map(|row| formatter.value(row).to_string()).collect()
    };
    for (name, expected) in LANDED {
        assert_eq!(shown(landed.column_by_name(name).unwrap()), expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_protobuf_cannot_carry_is_refused_with_the_way_out_and_delivered_on_it() {
    let site = Site::new();
    let emulator = site.serve_with(|options| options.tables[0].1 = "nested ARRAY<ARRAY<INT>>".to_owned());
    let sent = RecordBatch::try_from_iter_with_nullable([("nested", nested(), true)]).unwrap();
    let wrapper = site.open();
    let error = wrapper.send_batch(sent.clone()).await.unwrap_err();
    assert!(error.cause().to_string().contains("transport=\"arrow_flight\""), "{error:?}");
    wrapper.shutdown().await.unwrap();

    let wrapper = open(&site, |c| c.validate = Validate::Strict);
    wrapper.send_batch(sent).await.unwrap();
    flush(&wrapper).await;
    assert_eq!(wrapper.status().rows.delivered, 4);
    end(wrapper, emulator).await;
}
