//! What becomes of rows: refused ones beside good ones, ranges, batches of another schema, and requests.

use std::sync::Arc;

use arrow_array::*;
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use arrow_zerobus_sdk_wrapper::convert::{
    Cut, DeltaType, Encoded, Plan, Policies, Records, RowError, RowErrorReason, TableColumn, TableSchema,
};
use arrow_zerobus_sdk_wrapper::error::{Coded, ErrorCode};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{batch, encode_all};

/// The one record of a batch of one row and one column.
fn bytes_of(array: impl Array + 'static) -> Vec<u8> {
    let records = encode_all(&[("a", Arc::new(array), true)]);
    assert_eq!(records.len(), 1);
    records.record(0).to_vec()
}

#[test]
fn zero_false_and_empty_are_written_and_null_is_not() {
    assert_eq!(bytes_of(BooleanArray::from(vec![false])), [8, 0]);
    assert_eq!(bytes_of(Int64Array::from(vec![0])), [8, 0]);
    assert_eq!(bytes_of(Float64Array::from(vec![0.0])), [9, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(bytes_of(StringArray::from(vec![""])), [0x0a, 0]);
    assert_eq!(bytes_of(BinaryArray::from(vec![&[][..]])), [0x0a, 0]);
    assert!(bytes_of(Int64Array::from(vec![None])).is_empty());
}

#[test]
fn a_column_beyond_the_fifteenth_has_a_key_of_two_bytes() {
    let names: Vec<String> = (1..=16).map(|number| format!("c{number}")).collect();
    let columns: Vec<(&str, ArrayRef, bool)> = names
        .iter()
        .map(|name| {
            let value = (name == "c16").then_some(5);
            (name.as_str(), Arc::new(Int32Array::from(vec![value])) as ArrayRef, true)
        })
        .collect();
    assert_eq!(encode_all(&columns).record(0), [0x80, 1, 5]);
}

/// Each supported type that is no dictionary, with the name of its Delta type in Unity Catalog.

#[test]
fn rows_with_bad_values_are_listed_and_the_others_are_appended() {
    let ids = Int64Array::from(vec![Some(1), None, Some(3), None, Some(5)]);
    let times = TimestampSecondArray::from(vec![Some(i64::MAX), None, Some(0), Some(i64::MIN), None]);
    let whole = batch(&[("id", Arc::new(ids), true), ("at", Arc::new(times), true)]);
    let schema = Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("at", DataType::Timestamp(TimeUnit::Second, None), true),
    ]);
    let mut records = Records::new();
    let errors =
        Plan::new(&schema, None, Policies::default()).unwrap().encode(&whole, 0..5, &mut records).refused;
    let error = |row, column: &str, value: &str, reason| RowError {
        row,
        column: column.to_owned(),
        value: value.to_owned(),
        reason,
    };
    assert_eq!(
        errors,
        [
            error(0, "at", "9223372036854775807 s", RowErrorReason::TimestampOverflow),
            error(1, "id", "null", RowErrorReason::NullInRequired),
            error(3, "id", "null", RowErrorReason::NullInRequired),
        ]
    );
    assert_eq!(records.len(), 2);
    assert_eq!(records.record(0), [8, 3, 16, 0]);
    assert_eq!(records.record(1), [8, 5]);
    assert_eq!(
        errors[0].to_string(),
        "row 0, column \"at\", value 9223372036854775807 s: timestamp out of the range of microseconds"
    );
    assert_eq!(errors[0].code(), ErrorCode::Conversion);
}

#[test]
fn the_fault_that_a_row_is_refused_for_does_not_depend_on_other_rows() {
    let entry = |keys: Vec<i64>| {
        let fields =
            vec![Field::new("keys", DataType::Int64, false), Field::new("values", DataType::Int64, true)];
        let values = Int64Array::from(vec![0; keys.len()]);
        StructArray::new(fields.into(), vec![Arc::new(Int64Array::from(keys)), Arc::new(values)], None)
    };
    // A key that is too large, and a key that stands twice in a row that has another fault behind it.
    let entries = entry(vec![300, 1, 1]);
    let field = Arc::new(Field::new("entries", entries.data_type().clone(), false));
    let map = MapArray::new(field, OffsetBuffer::from_lengths([1, 2]), entries, None, false);
    let ids = Int64Array::from(vec![1, 300]);
    let whole = batch(&[("map", Arc::new(map), true), ("id", Arc::new(ids), true)]);
    let column = |name: &str, number, delta_type| TableColumn {
        name: name.to_owned(),
        number,
        delta_type,
        nullable: true,
    };
    let map = DeltaType::Map { key: Box::new(DeltaType::Byte), value: Box::new(DeltaType::Long) };
    let table = TableSchema { columns: vec![column("map", 1, map), column("id", 2, DeltaType::Byte)] };
    let plan = Plan::new(whole.schema_ref(), Some(&table), Policies::default()).unwrap();
    let refused = |rows| {
        let refused = plan.encode(&whole, rows, &mut Records::new()).refused;
        refused.into_iter().map(|error| (error.row, error.column, error.reason)).collect::<Vec<_>>()
    };
    let twice = (1, "map.key".to_owned(), RowErrorReason::DuplicateMapKey);
    assert_eq!(refused(1..2), std::slice::from_ref(&twice));
    assert_eq!(refused(0..2), [(0, "map.key".to_owned(), RowErrorReason::OutOfRange), twice]);
}

#[test]
fn a_range_of_rows_is_appended_to_what_is_there() {
    let whole = batch(&[("a", Arc::new(Int32Array::from(vec![1, 2, 3, 4])), false)]);
    let plan = Plan::new(whole.schema_ref(), None, Policies::default()).unwrap();
    let mut records = Records::new();
    assert_eq!(plan.encode(&whole, 3..4, &mut records).refused, []);
    assert_eq!(plan.encode(&whole, 1..3, &mut records).refused, []);
    assert_eq!(plan.encode(&whole, 2..2, &mut records).refused, []);
    let values: Vec<u8> = (0..records.len()).map(|i| records.record(i)[1]).collect();
    assert_eq!((values, records.bytes()), (vec![4, 2, 3], 6));
    records.clear();
    assert!(records.is_empty() && records.bytes() == 0);
}

#[test]
fn an_empty_batch_and_a_row_of_nulls_are_no_special_case() {
    assert!(encode_all(&[("a", Arc::new(Int32Array::from(Vec::<i32>::new())), false)]).is_empty());
    let nulls = StringArray::from(vec![None::<&str>; 300]);
    let records = encode_all(&[("a", Arc::new(nulls), true)]);
    assert_eq!((records.len(), records.bytes()), (300, 0));
}

#[test]
fn a_batch_of_another_schema_is_refused_row_by_row() {
    let planned = batch(&[("a", Arc::new(Int32Array::from(vec![1])), false)]);
    let plan = Plan::new(planned.schema_ref(), None, Policies::default()).unwrap();
    let int32: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    let int64: ArrayRef = Arc::new(Int64Array::from(vec![1, 2]));
    let others = [
        batch(&[("a", int64.clone(), false)]),
        batch(&[("b", int32.clone(), false)]),
        batch(&[("a", int32.clone(), false), ("b", int32.clone(), false)]),
        RecordBatch::try_new_with_options(
            Arc::new(Schema::empty()),
            vec![],
            &RecordBatchOptions::new().with_row_count(Some(2)),
        )
        .unwrap(),
    ];
    for other in others {
        let mut records = Records::new();
        let errors = plan.encode(&other, 0..2, &mut records).refused;
        assert_eq!(errors.iter().map(|error| error.row).collect::<Vec<_>>(), [0, 1]);
        assert!(errors.iter().all(|error| error.reason == RowErrorReason::OtherSchema), "{errors:?}");
        assert!(records.is_empty());
    }
    // What says nothing about the values may differ.
    let nullable = batch(&[("a", int32, true)]);
    assert_eq!(plan.encode(&nullable, 0..2, &mut Records::new()), Encoded::default());
}

/// All records, one cut after the other.
fn cuts(records: &Records, bytes_max: usize, rows_max: usize) -> Vec<Cut> {
    let mut first = 0;
    std::iter::from_fn(|| {
        let cut = records.cut(first, bytes_max, rows_max)?;
        first = match &cut {
            Cut::Request { records, .. } => records.end,
            Cut::TooLarge { record, .. } => record + 1,
        };
        Some(cut)
    })
    .collect()
}

proptest! {
    #[test]
    fn cuts_hold_every_record_once_in_order_and_as_many_as_fit(
        lengths in vec(prop_oneof![8 => 0_usize..40, 1 => 120_usize..140, 1 => 300_usize..310], 0..60),
        bytes_max in 0_usize..400,
        rows_max in 0_usize..8,
    ) {
        let values: BinaryArray = lengths.iter().map(|length| Some(vec![7; *length])).collect();
        let records = encode_all(&[("b", Arc::new(values), true)]);
        // The framing as protobuf itself writes it.
        let framed: Vec<usize> = (0..records.len())
            .map(|i| prost::encoding::bytes::encoded_len(1, &records.record(i).to_vec()))
            .collect();
        let mut next = 0;
        for cut in cuts(&records, bytes_max, rows_max) {
            match cut {
                Cut::TooLarge { record, framed_bytes } => {
                    prop_assert_eq!((record, framed_bytes), (next, framed[next]));
                    prop_assert!(framed_bytes > bytes_max);
                    next += 1;
                }
                Cut::Request { records: range, framed_bytes } => {
                    prop_assert_eq!(range.start, next);
                    prop_assert_eq!(framed_bytes, framed[range.clone()].iter().sum::<usize>());
                    prop_assert!(framed_bytes <= bytes_max && !range.is_empty());
                    prop_assert!(range.len() <= rows_max.max(1));
                    let fits_more = framed.get(range.end).is_some_and(|more| framed_bytes + more <= bytes_max);
                    prop_assert!(!fits_more || range.len() == rows_max.max(1), "the run is not the longest");
                    next = range.end;
                }
            }
        }
        prop_assert_eq!(next, records.len());
    }
}
