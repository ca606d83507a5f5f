//! What becomes of the values of each type on the way over Arrow Flight, and what both ways have in common.

use std::sync::Arc;

use arrow_array::cast::AsArray as _;
use arrow_array::types::*;
use arrow_array::*;
use arrow_buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::extension::EXTENSION_TYPE_NAME_KEY;
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};

use super::*;
use crate::convert::{DeltaType, Plan, Records, TableColumn, TimestampNs};

fn batch(array: impl Array + 'static) -> RecordBatch {
    let array: ArrayRef = Arc::new(array);
    RecordBatch::try_from_iter_with_nullable([("a", array, true)]).unwrap()
}

fn table(delta_type: DeltaType, nullable: bool) -> TableSchema {
    TableSchema { columns: vec![TableColumn { name: "a".to_owned(), number: 1, delta_type, nullable }] }
}

/// The column as it is sent, and why rows are not.
fn sent(batch: &RecordBatch, table: &TableSchema) -> (ArrayRef, Vec<RowErrorReason>) {
    let plan = ArrowPlan::new(batch.schema_ref(), Some(table), Policies::default()).unwrap();
    let mut runs = Vec::new();
    let refused = plan.convert(batch, 0..batch.num_rows(), &mut runs).refused;
    let column = match runs.is_empty() {
        true => new_empty_array(plan.schema().field(0).data_type()),
        false => {
            let columns: Vec<&dyn Array> = runs.iter().map(|run| run.column(0).as_ref()).collect();
            arrow_select::concat::concat(&columns).unwrap()
        }
    };
    (column, refused.into_iter().map(|error| error.reason).collect())
}

fn sent_to(array: impl Array + 'static, delta_type: DeltaType) -> (ArrayRef, Vec<RowErrorReason>) {
    sent(&batch(array), &table(delta_type, true))
}

fn texts(array: &ArrayRef) -> Vec<Option<&str>> {
    array.as_string::<i64>().iter().collect()
}

#[test]
fn scalars_become_the_types_of_the_service_exactly() {
    let (column, refused) =
        sent_to(UInt64Array::from(vec![u64::MAX, 0]), DeltaType::Decimal { precision: 20, scale: 0 });
    assert!(refused.is_empty());
    assert_eq!(texts(&column), [Some("18446744073709551615"), Some("0")]);

    let decimals = Decimal128Array::from(vec![Some(-5), None, Some(12_340)]);
    let decimals = decimals.with_precision_and_scale(8, 2).unwrap();
    let (column, _) = sent_to(decimals, DeltaType::Decimal { precision: 10, scale: 3 });
    assert_eq!(texts(&column), [Some("-0.050"), None, Some("123.400")]);

    let (column, _) = sent_to(Time64NanosecondArray::from(vec![1, 3_600_000_000_000]), DeltaType::String);
    assert_eq!(texts(&column), [Some("00:00:00.000000001"), Some("01:00:00.000000000")]);

    let micros = TimestampNanosecondArray::from(vec![Some(-1), Some(1_999), None]).with_timezone("+02:00");
    let (column, _) = sent_to(micros, DeltaType::Timestamp);
    assert_eq!(*column.data_type(), DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())));
    assert_eq!(
        column.as_primitive::<TimestampMicrosecondType>().iter().collect::<Vec<_>>(),
        [Some(-1), Some(1), None]
    );

    let days = Date64Array::from(vec![-86_400_000, 0, 86_400_000 * 3]);
    let (column, _) = sent_to(days, DeltaType::Date);
    assert_eq!(column.as_primitive::<Date32Type>().values().as_ref(), [-1, 0, 3]);

    let keys = Int8Array::from(vec![Some(1), None, Some(0)]);
    let dictionary = DictionaryArray::new(keys, Arc::new(StringArray::from(vec!["x", "y"])));
    assert_eq!(texts(&sent_to(dictionary, DeltaType::String).0), [Some("y"), None, Some("x")]);

    let runs =
        RunArray::<Int32Type>::try_new(&Int32Array::from(vec![2, 3]), &Int64Array::from(vec![Some(7), None]));
    let (column, _) = sent_to(runs.unwrap(), DeltaType::Integer);
    assert_eq!(column.as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), [Some(7), Some(7), None]);
}

#[test]
fn extensions_mean_the_same_as_for_protobuf() {
    let field = |data_type, name: &str| {
        let metadata = [(EXTENSION_TYPE_NAME_KEY.to_owned(), name.to_owned())].into();
        Schema::new(vec![Field::new("a", data_type, true).with_metadata(metadata)])
    };
    let uuid = FixedSizeBinaryArray::try_from_iter([[0x11u8; 16]].into_iter()).unwrap();
    let uuids =
        RecordBatch::try_new(field(DataType::FixedSizeBinary(16), "arrow.uuid").into(), vec![Arc::new(uuid)]);
    let (column, _) = sent(&uuids.unwrap(), &table(DeltaType::String, true));
    assert_eq!(texts(&column), [Some("11111111-1111-1111-1111-111111111111")]);

    let bits = Int8Array::from(vec![0, 1, 2]);
    let bits =
        RecordBatch::try_new(field(DataType::Int8, "arrow.bool8").into(), vec![Arc::new(bits)]).unwrap();
    let (column, _) = sent(&bits, &table(DeltaType::Boolean, true));
    assert_eq!(column.as_boolean().iter().collect::<Vec<_>>(), [Some(false), Some(true), Some(true)]);

    let parts = Fields::from(vec![
        Field::new("metadata", DataType::Binary, false),
        Field::new("value", DataType::Binary, true),
    ]);
    let binary = |values: Vec<Option<&[u8]>>| -> ArrayRef { Arc::new(BinaryArray::from(values)) };
    let bytes = vec![binary(vec![Some(b"\x01"), Some(b"\x01")]), binary(vec![Some(b"\x0c"), None])];
    let variants = StructArray::new(parts.clone(), bytes, None);
    let schema = field(DataType::Struct(parts), "arrow.parquet.variant");
    let variants = RecordBatch::try_new(schema.into(), vec![Arc::new(variants)]).unwrap();
    let (column, refused) = sent(&variants, &table(DeltaType::Variant, true));
    assert_eq!(refused, [RowErrorReason::InvalidVariant], "a variant needs both parts");
    assert_eq!(column.as_struct().column_by_name("value").unwrap().as_binary::<i64>().value(0), b"\x0c");

    let json = ArrowPlan::new(
        batch(StringArray::from(vec!["{}"])).schema_ref(),
        Some(&table(DeltaType::Variant, true)),
        Policies::default(),
    );
    assert!(json.unwrap_err().to_string().contains("transport=\"protobuf\""));
}

#[test]
fn a_row_is_refused_for_the_reason_that_protobuf_has() {
    let numbers = Int64Array::from(vec![Some(1), Some(i64::MAX), None, Some(i64::MIN)]);
    let long = UInt64Array::from(vec![Some(0), Some(u64::MAX), None, Some(1 << 63)]);
    let floats = Float64Array::from(vec![Some(0.1), Some(0.5), None, Some(f64::MAX)]);
    let texts = StringArray::from(vec![Some(""), None, Some("x"), Some("y".repeat(300).as_str())]);
    let bytes = BinaryArray::from(vec![None, Some(&b"z"[..]), None, Some(&[0xff; 300])]);
    // How many values cannot be held, besides the nulls.
    for (array, delta_type, bad) in [
        (Arc::new(numbers.clone()) as ArrayRef, DeltaType::Integer, 2),
        (Arc::new(numbers), DeltaType::Long, 0),
        (Arc::new(long), DeltaType::Long, 2),
        (Arc::new(UInt32Array::from(vec![Some(0), Some(u32::MAX), None])), DeltaType::Long, 0),
        (Arc::new(floats.clone()), DeltaType::Float, 2),
        (Arc::new(floats), DeltaType::Double, 0),
        (Arc::new(BooleanArray::from(vec![Some(true), None])), DeltaType::Boolean, 0),
        (Arc::new(texts), DeltaType::String, 0),
        (Arc::new(bytes), DeltaType::Binary, 0),
    ] {
        let (rows, nulls) = (array.len(), array.null_count());
        let batch = RecordBatch::try_from_iter_with_nullable([("a", array, true)]).unwrap();
        for nullable in [true, false] {
            let table = table(delta_type.clone(), nullable);
            let plan = Plan::new(batch.schema_ref(), Some(&table), Policies::default()).unwrap();
            let records = plan.encode(&batch, 0..rows, &mut Records::new());
            let plan = ArrowPlan::new(batch.schema_ref(), Some(&table), Policies::default()).unwrap();
            let mut runs = Vec::new();
            let arrow = plan.convert(&batch, 0..rows, &mut runs);
            assert_eq!(arrow, records);
            assert_eq!(plan.check(&batch, 0..rows), arrow);
            assert_eq!(arrow.refused.len(), bad + if nullable { 0 } else { nulls }, "{delta_type:?}");
            assert_eq!(runs.iter().map(RecordBatch::num_rows).sum::<usize>(), rows - arrow.refused.len());
        }
    }
    let nanos = batch(TimestampNanosecondArray::from(vec![1_000, 1_001]));
    let policies = Policies { timestamp_ns: TimestampNs::Error, ..Policies::default() };
    let plan =
        ArrowPlan::new(nanos.schema_ref(), Some(&table(DeltaType::TimestampNtz, true)), policies).unwrap();
    let refused = plan.check(&nanos, 0..2).refused;
    assert_eq!((refused.len(), refused[0].row, refused[0].reason), (1, 1, RowErrorReason::Nanoseconds));
}

#[test]
fn lists_of_every_layout_keep_nulls_and_lose_what_nobody_sees() {
    let values: ArrayRef =
        Arc::new(Int64Array::from(vec![Some(i64::MAX), Some(1), None, Some(3), Some(i64::MAX)]));
    let item = || Arc::new(Field::new("element", DataType::Int64, true));
    // The first list is null and has an element, which is too large for the column.
    let nulls = || Some(NullBuffer::from(vec![false, true, true]));
    let ends = |ends: [i32; 4]| OffsetBuffer::new(ScalarBuffer::from(ends.to_vec()));
    let list = ListArray::new(item(), ends([0, 1, 3, 3]), values.clone(), nulls());
    let view = ListViewArray::new(
        item(),
        ScalarBuffer::from(vec![4, 1, 0]),
        ScalarBuffer::from(vec![1, 2, 0]),
        values.clone(),
        nulls(),
    );
    for array in [Arc::new(list) as ArrayRef, Arc::new(view)] {
        let batch = RecordBatch::try_from_iter_with_nullable([("a", array, true)]).unwrap();
        let element = Box::new(DeltaType::Integer);
        let (column, refused) = sent(&batch, &table(DeltaType::Array { element }, true));
        assert!(refused.is_empty(), "{refused:?}");
        let lists = column.as_list::<i32>();
        assert!(lists.is_null(0) && lists.is_valid(2) && lists.value_length(2) == 0);
        assert_eq!(lists.value(1).as_primitive::<Int32Type>().iter().collect::<Vec<_>>(), [Some(1), None]);
        assert_eq!(lists.values().len(), 2);
    }
    let fixed =
        FixedSizeListArray::new(item(), 2, values.slice(0, 4), Some(NullBuffer::from(vec![false, true])));
    let element = Box::new(DeltaType::Integer);
    let (column, refused) = sent_to(fixed.slice(0, 2), DeltaType::Array { element });
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(
        column.as_list::<i32>().value(1).as_primitive::<Int32Type>().iter().collect::<Vec<_>>(),
        [None, Some(3)]
    );
}

#[test]
fn the_fields_are_those_of_the_table_and_what_a_batch_does_not_have_is_null() {
    let column = |name: &str, number, delta_type, nullable| TableColumn {
        name: name.to_owned(),
        number,
        delta_type,
        nullable,
    };
    let inner = vec![
        column("x", 1, DeltaType::Integer, true),
        column("missing", 2, DeltaType::Date, true),
        column("y", 3, DeltaType::String, true),
    ];
    let columns = vec![
        column("first", 1, DeltaType::Long, false),
        column("other", 2, DeltaType::String, true),
        column("s", 3, DeltaType::Struct(inner), true),
    ];
    let y: ArrayRef = Arc::new(StringArray::from(vec!["y"]));
    let x: ArrayRef = Arc::new(Int64Array::from(vec![5]));
    let pair = StructArray::try_from(vec![("Y", y), ("x", x)]).unwrap();
    let sent = RecordBatch::try_from_iter([
        ("s", Arc::new(pair) as ArrayRef),
        ("FIRST", Arc::new(Int32Array::from(vec![1]))),
    ])
    .unwrap();
    let plan =
        ArrowPlan::new(sent.schema_ref(), Some(&TableSchema { columns }), Policies::default()).unwrap();
    let mut runs = Vec::new();
    assert!(plan.convert(&sent, 0..1, &mut runs).refused.is_empty());
    let names: Vec<&str> = plan.schema().fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(names, ["first", "other", "s"]);
    assert!(runs[0].column(1).is_null(0));
    assert!(!plan.schema().field(0).is_nullable() && plan.schema().field(1).is_nullable());
    let pair = runs[0].column(2).as_struct();
    assert_eq!(pair.column_names(), ["x", "missing", "y"]);
    assert_eq!(pair.column(0).as_primitive::<Int32Type>().value(0), 5);
    assert!(pair.column(1).is_null(0));
    assert_eq!(pair.column(2).as_string::<i64>().value(0), "y");
}

#[test]
fn rows_are_cut_by_the_bytes_that_they_take() {
    let texts = LargeStringArray::from_iter_values((0..100).map(|row| "x".repeat(row)));
    let batch = batch(texts);
    let mut first = 0;
    while let Some((rows, bytes)) = rows_within(&batch, first, 300, 10) {
        assert_eq!(rows.start, first);
        assert_eq!(bytes, rows.clone().map(|row| row + 8).sum::<usize>());
        assert!(bytes <= 300 && rows.len() <= 10);
        let is_full = rows.end == 100 || rows.len() == 10 || bytes + rows.end + 8 > 300;
        assert!(is_full, "{rows:?} could have one more");
        first = rows.end;
    }
    assert_eq!(first, 100);
    assert_eq!(rows_within(&batch, 99, 10, 10), Some((99..100, 107)), "one row at least");
}
