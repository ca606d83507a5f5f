//! Conversion, from outside: what goes in as Arrow comes out of an independent protobuf reader, value by value.
//!
//! The oracle reads the records with `prost-reflect` from the descriptor that the plan gives to the service.
//! What it must find is generated beside the arrays, never read back from them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::ops::Range;
use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::*;
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use arrow_zerobus_sdk_wrapper::convert::{
    ConversionError, Cut, Encoded, Plan, Policies, Records, RowError, RowErrorReason,
};
use arrow_zerobus_sdk_wrapper::error::{Coded, ErrorCode};
use databricks_zerobus_ingest_sdk::schema::{UcColumn, descriptor_from_uc_columns};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, Value};
use prost_types::FileDescriptorProto;

/// What the reader must find.
#[derive(Clone, Debug)]
enum Cell {
    Null,
    Is(Value),
    Overflows,
}

/// An array and what it holds.
#[derive(Clone, Debug)]
struct Column {
    array: ArrayRef,
    cells: Vec<Cell>,
}

/// Values with nulls or, for the path without a null mask, without.
fn optional<T: Clone + std::fmt::Debug + 'static>(
    rows: usize,
    values: impl Strategy<Value = T> + Clone + 'static,
) -> BoxedStrategy<Vec<Option<T>>> {
    prop_oneof![
        3 => vec(proptest::option::of(values.clone()), rows),
        1 => vec(values.prop_map(Some), rows),
    ]
    .boxed()
}

fn column<T: Clone + std::fmt::Debug + 'static, A: Array + 'static>(
    rows: usize,
    values: impl Strategy<Value = T> + Clone + 'static,
    array: impl Fn(Vec<Option<T>>) -> A + 'static,
    cell: impl Fn(T) -> Cell + 'static,
) -> BoxedStrategy<Column> {
    optional(rows, values)
        .prop_map(move |values| {
            let cells = values.iter().cloned().map(|value| value.map_or(Cell::Null, &cell)).collect();
            Column { array: Arc::new(array(values)), cells }
        })
        .boxed()
}

fn primitive<T: ArrowPrimitiveType>(
    rows: usize,
    values: impl Strategy<Value = T::Native> + Clone + 'static,
    cell: impl Fn(T::Native) -> Cell + 'static,
) -> BoxedStrategy<Column> {
    column(rows, values, |values| values.into_iter().collect::<PrimitiveArray<T>>(), cell)
}

fn timestamp<T: ArrowTimestampType>(
    rows: usize,
    zone: Option<&'static str>,
    microseconds: fn(i128) -> i128,
) -> BoxedStrategy<Column> {
    let ordinary = -4_000_000_000_i64..4_000_000_000;
    let values = prop_oneof![8 => ordinary, 1 => any::<i64>(), 1 => Just(i64::MIN), 1 => Just(i64::MAX)];
    column(
        rows,
        values,
        move |values| values.into_iter().collect::<PrimitiveArray<T>>().with_timezone_opt(zone),
        move |value| match i64::try_from(microseconds(value.into())) {
            Ok(value) => Cell::Is(Value::I64(value)),
            Err(_) => Cell::Overflows,
        },
    )
}

/// A column of one of the types that are not dictionaries.
fn plain(rows: usize) -> BoxedStrategy<Column> {
    let int32 = |value: i32| Cell::Is(Value::I32(value));
    let int64 = |value: i64| Cell::Is(Value::I64(value));
    let float = prop_oneof![any::<u32>().prop_map(f32::from_bits), Just(0.0), Just(-0.0), Just(f32::NAN)];
    let double = prop_oneof![any::<u64>().prop_map(f64::from_bits), Just(0.0), Just(-0.0), Just(f64::NAN)];
    let text = vec(any::<char>(), 0..20).prop_map(String::from_iter);
    let bytes = prop_oneof![9 => vec(any::<u8>(), 0..20), 1 => vec(any::<u8>(), 120..140)];
    let string = |text: String| Cell::Is(Value::String(text));
    let binary = |bytes: Vec<u8>| Cell::Is(Value::Bytes(bytes.into()));
    let integers = prop_oneof![
        primitive::<Int8Type>(rows, any::<i8>(), move |value| int32(value.into())),
        primitive::<Int16Type>(rows, any::<i16>(), move |value| int32(value.into())),
        primitive::<Int32Type>(rows, prop_oneof![any::<i32>(), -2..3], int32),
        primitive::<Int64Type>(rows, prop_oneof![any::<i64>(), -2_i64..3], int64),
        primitive::<UInt8Type>(rows, any::<u8>(), move |value| int32(value.into())),
        primitive::<UInt16Type>(rows, any::<u16>(), move |value| int32(value.into())),
        primitive::<UInt32Type>(rows, any::<u32>(), move |value| int64(value.into())),
        primitive::<Date32Type>(rows, any::<i32>(), int32),
    ];
    let others = prop_oneof![
        column(rows, any::<bool>(), BooleanArray::from, |value| Cell::Is(Value::Bool(value))),
        primitive::<Float32Type>(rows, float, |value| Cell::Is(Value::F32(value))),
        primitive::<Float64Type>(rows, double, |value| Cell::Is(Value::F64(value))),
        column(rows, text.clone(), StringArray::from, string),
        column(rows, text.clone(), LargeStringArray::from, string),
        column(rows, text, |values| values.into_iter().collect::<StringViewArray>(), string),
        column(rows, bytes.clone(), |values| values.into_iter().collect::<BinaryArray>(), binary),
        column(rows, bytes, |values| values.into_iter().collect::<LargeBinaryArray>(), binary),
    ];
    let timestamps = prop_oneof![
        timestamp::<TimestampSecondType>(rows, None, |value| value * 1_000_000),
        timestamp::<TimestampMillisecondType>(rows, Some("Europe/Berlin"), |value| value * 1_000),
        timestamp::<TimestampMicrosecondType>(rows, Some("+01:30"), |value| value),
        timestamp::<TimestampNanosecondType>(rows, Some("UTC"), |value| {
            (value - value.rem_euclid(1_000)) / 1_000
        }),
    ];
    prop_oneof![integers, others, timestamps].boxed()
}

/// A column of dictionary keys into a plain column.
fn dictionary(rows: usize) -> BoxedStrategy<Column> {
    (1_usize..9)
        .prop_flat_map(move |values| (plain(values), optional(rows, 0..values), 0..8))
        .prop_map(|(values, keys, key_type)| {
            let cells =
                keys.iter().map(|key| key.map_or(Cell::Null, |key| values.cells[key].clone())).collect();
            let array = match key_type {
                0 => keyed::<Int8Type>(&keys, values.array),
                1 => keyed::<Int16Type>(&keys, values.array),
                2 => keyed::<Int32Type>(&keys, values.array),
                3 => keyed::<Int64Type>(&keys, values.array),
                4 => keyed::<UInt8Type>(&keys, values.array),
                5 => keyed::<UInt16Type>(&keys, values.array),
                6 => keyed::<UInt32Type>(&keys, values.array),
                _ => keyed::<UInt64Type>(&keys, values.array),
            };
            Column { array, cells }
        })
        .boxed()
}

fn keyed<K: ArrowDictionaryKeyType>(keys: &[Option<usize>], values: ArrayRef) -> ArrayRef {
    use arrow_buffer::ArrowNativeType;
    let keys = keys.iter().map(|key| key.and_then(K::Native::from_usize)).collect::<PrimitiveArray<K>>();
    Arc::new(DictionaryArray::new(keys, values))
}

/// A batch, whether each of its columns is nullable, and the part of it to send.
#[derive(Clone, Debug)]
struct Input {
    columns: Vec<Column>,
    is_nullable: Vec<bool>,
    slice: Range<usize>,
    cut: usize,
}

fn input() -> impl Strategy<Value = Input> {
    // Beyond one chunk of rows now and then; beyond one byte of key with 16 columns.
    let rows = prop_oneof![6 => 0_usize..40, 1 => 250_usize..600];
    let columns = prop_oneof![6 => 1_usize..6, 1 => Just(18_usize)];
    (rows, columns)
        .prop_flat_map(|(rows, columns)| {
            let column = prop_oneof![3 => plain(rows), 1 => dictionary(rows)];
            let is_nullable = proptest::bool::weighted(0.8);
            (vec((column, is_nullable), columns), 0..=rows, 0..=rows, 0..=rows)
        })
        .prop_map(|(columns, a, b, cut)| {
            let (columns, is_nullable) = columns.into_iter().unzip();
            let slice = a.min(b)..a.max(b);
            let cut = cut.min(slice.len());
            Input { columns, is_nullable, slice, cut }
        })
}

impl Input {
    fn batch(&self) -> RecordBatch {
        let fields = self.columns.iter().enumerate().map(|(i, column)| {
            // NOT NULL columns that do hold nulls are what a careless producer sends.
            Field::new(format!("c{i}"), column.array.data_type().clone(), true)
        });
        let arrays = self.columns.iter().map(|column| column.array.clone()).collect();
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Fields>())), arrays).unwrap();
        batch.slice(self.slice.start, self.slice.len())
    }

    fn schema(&self) -> Schema {
        let fields = self.columns.iter().zip(&self.is_nullable).enumerate();
        let fields = fields.map(|(i, (column, is_nullable))| {
            Field::new(format!("c{i}"), column.array.data_type().clone(), *is_nullable)
        });
        Schema::new(fields.collect::<Fields>())
    }

    /// The first column of a row that cannot be sent.
    fn fault(&self, row: usize) -> Option<(String, RowErrorReason)> {
        self.columns.iter().zip(&self.is_nullable).enumerate().find_map(|(i, (column, is_nullable))| {
            let reason = match column.cells[row] {
                Cell::Null if !is_nullable => RowErrorReason::NullInRequired,
                Cell::Overflows => RowErrorReason::TimestampOverflow,
                _ => return None,
            };
            Some((format!("c{i}"), reason))
        })
    }
}

fn reader(plan: &Plan) -> MessageDescriptor {
    let file = FileDescriptorProto {
        name: Some("record.proto".to_owned()),
        message_type: vec![plan.descriptor().clone()],
        ..Default::default()
    };
    let mut pool = DescriptorPool::new();
    pool.add_file_descriptor_proto(file).unwrap();
    pool.get_message_by_name(plan.descriptor().name()).unwrap()
}

/// Equality of bits, for NaN and -0.0.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::F32(a), Value::F32(b)) => a.to_bits() == b.to_bits(),
        (Value::F64(a), Value::F64(b)) => a.to_bits() == b.to_bits(),
        _ => a == b,
    }
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
    fn what_is_encoded_is_decoded_value_by_value(input in input()) {
        let batch = input.batch();
        let plan = Plan::new(&input.schema(), None, Policies::default()).unwrap();
        let reader = reader(&plan);
        let mut records = Records::new();
        let mut errors = plan.encode(&batch, 0..input.cut, &mut records).refused;
        errors.extend(plan.encode(&batch, input.cut..batch.num_rows(), &mut records).refused);

        let mut errors = errors.into_iter();
        let mut next_record = 0;
        for (row, source_row) in input.slice.clone().enumerate() {
            if let Some((column, reason)) = input.fault(source_row) {
                let error = errors.next().unwrap();
                prop_assert_eq!((error.row, error.column, error.reason), (row, column, reason));
                continue;
            }
            let record = records.record(next_record);
            next_record += 1;
            let message = DynamicMessage::decode(reader.clone(), record).unwrap();
            for (i, column) in input.columns.iter().enumerate() {
                let field = reader.get_field(i as u32 + 1).unwrap();
                let found = message.has_field(&field).then(|| message.get_field(&field).into_owned());
                match (&column.cells[source_row], &found) {
                    (Cell::Null, None) => {}
                    (Cell::Is(value), Some(found)) if is_same(value, found) => {}
                    (wanted, found) => prop_assert!(false, "row {row}, c{i}: {wanted:?} became {found:?}"),
                }
            }
            prop_assert_eq!(message.unknown_fields().count(), 0);
            prop_assert_eq!(message.encode_to_vec(), record, "the canonical form");
        }
        prop_assert_eq!(errors.next(), None);
        prop_assert_eq!(records.len(), next_record);
    }

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

fn batch(columns: &[(&str, ArrayRef, bool)]) -> RecordBatch {
    let fields =
        columns.iter().map(|(name, array, nullable)| Field::new(*name, array.data_type().clone(), *nullable));
    let schema = Schema::new(fields.collect::<Fields>());
    RecordBatch::try_new(Arc::new(schema), columns.iter().map(|column| column.1.clone()).collect()).unwrap()
}

fn encode_all(columns: &[(&str, ArrayRef, bool)]) -> Records {
    let batch = batch(columns);
    let mut records = Records::new();
    let errors = Plan::new(batch.schema_ref(), None, Policies::default())
        .unwrap()
        .encode(&batch, 0..batch.num_rows(), &mut records)
        .refused;
    assert_eq!(errors, []);
    records
}

/// The one record of a batch of one row and one column.
fn bytes_of(array: impl Array + 'static) -> Vec<u8> {
    let records = encode_all(&[("a", Arc::new(array), true)]);
    assert_eq!(records.len(), 1);
    records.record(0).to_vec()
}

const MINUS_ONE: [u8; 11] = [8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1];

#[test]
fn every_type_has_its_bytes_on_the_wire() {
    assert_eq!(bytes_of(BooleanArray::from(vec![true])), [8, 1]);
    assert_eq!(bytes_of(Int8Array::from(vec![-1])), MINUS_ONE);
    assert_eq!(bytes_of(Int16Array::from(vec![-1])), MINUS_ONE);
    assert_eq!(bytes_of(Int32Array::from(vec![300])), [8, 0xac, 2]);
    assert_eq!(bytes_of(Int32Array::from(vec![-1])), MINUS_ONE);
    assert_eq!(bytes_of(Int64Array::from(vec![-1])), MINUS_ONE);
    let int64_min = [8, 128, 128, 128, 128, 128, 128, 128, 128, 128, 1];
    assert_eq!(bytes_of(Int64Array::from(vec![i64::MIN])), int64_min);
    assert_eq!(bytes_of(UInt8Array::from(vec![255])), [8, 0xff, 1]);
    assert_eq!(bytes_of(UInt16Array::from(vec![65_535])), [8, 0xff, 0xff, 3]);
    assert_eq!(bytes_of(UInt32Array::from(vec![u32::MAX])), [8, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert_eq!(bytes_of(Float32Array::from(vec![1.0])), [0x0d, 0, 0, 0x80, 0x3f]);
    assert_eq!(bytes_of(Float32Array::from(vec![-0.0])), [0x0d, 0, 0, 0, 0x80]);
    assert_eq!(bytes_of(Float64Array::from(vec![1.0])), [9, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f]);
    assert_eq!(bytes_of(StringArray::from(vec!["h\u{e9}"])), [0x0a, 3, b'h', 0xc3, 0xa9]);
    assert_eq!(bytes_of(LargeStringArray::from(vec!["hi"])), [0x0a, 2, b'h', b'i']);
    assert_eq!(bytes_of(StringViewArray::from(vec!["hi"])), [0x0a, 2, b'h', b'i']);
    assert_eq!(bytes_of(BinaryArray::from(vec![&[0, 255][..]])), [0x0a, 2, 0, 255]);
    assert_eq!(bytes_of(LargeBinaryArray::from(vec![&[0, 255][..]])), [0x0a, 2, 0, 255]);
    assert_eq!(bytes_of(Date32Array::from(vec![-1])), MINUS_ONE);
    assert_eq!(bytes_of(DictionaryArray::<Int8Type>::from_iter(["hi"])), [0x0a, 2, b'h', b'i']);
}

#[test]
fn timestamps_of_every_unit_are_microseconds_and_nanoseconds_are_floored() {
    let million = [8, 0xc0, 0x84, 0x3d];
    assert_eq!(bytes_of(TimestampSecondArray::from(vec![1])), million);
    assert_eq!(bytes_of(TimestampMillisecondArray::from(vec![1_000]).with_timezone("Asia/Tokyo")), million);
    assert_eq!(bytes_of(TimestampMicrosecondArray::from(vec![1_000_000])), million);
    assert_eq!(bytes_of(TimestampNanosecondArray::from(vec![1_000_000_999]).with_timezone("UTC")), million);
    assert_eq!(bytes_of(TimestampNanosecondArray::from(vec![-1])), MINUS_ONE);
    assert_eq!(bytes_of(TimestampNanosecondArray::from(vec![-1_000])), MINUS_ONE);
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
fn supported() -> Vec<(DataType, &'static str)> {
    let mut types = vec![
        (DataType::Boolean, "BOOLEAN"),
        (DataType::Int8, "BYTE"),
        (DataType::Int16, "SHORT"),
        (DataType::Int32, "INT"),
        (DataType::Int64, "LONG"),
        (DataType::UInt8, "SHORT"),
        (DataType::UInt16, "INT"),
        (DataType::UInt32, "LONG"),
        (DataType::Float32, "FLOAT"),
        (DataType::Float64, "DOUBLE"),
        (DataType::Utf8, "STRING"),
        (DataType::LargeUtf8, "STRING"),
        (DataType::Utf8View, "STRING"),
        (DataType::Binary, "BINARY"),
        (DataType::LargeBinary, "BINARY"),
        (DataType::Date32, "DATE"),
    ];
    for unit in [TimeUnit::Second, TimeUnit::Millisecond, TimeUnit::Microsecond, TimeUnit::Nanosecond] {
        types.push((DataType::Timestamp(unit, Some("UTC".into())), "TIMESTAMP"));
        types.push((DataType::Timestamp(unit, None), "TIMESTAMP_NTZ"));
    }
    types
}

#[test]
fn the_descriptor_is_the_one_that_the_official_client_makes_of_the_same_columns() {
    let mut fields = Vec::new();
    let mut columns = Vec::new();
    for (arrow_type, delta_type) in supported() {
        let keyed = DataType::Dictionary(Box::new(DataType::UInt16), Box::new(arrow_type.clone()));
        for (arrow_type, nullable) in [(arrow_type.clone(), true), (arrow_type, false), (keyed, true)] {
            let name = format!("Column_{}", fields.len());
            columns.push(UcColumn {
                name: name.clone(),
                type_name: delta_type.to_owned(),
                type_text: String::new(),
                type_json: String::new(),
                nullable,
                position: columns.len() as i32,
            });
            fields.push(Field::new(name, arrow_type, nullable));
        }
    }
    let plan = Plan::new(&Schema::new(fields), None, Policies::default()).unwrap();
    let theirs = descriptor_from_uc_columns(&columns, plan.descriptor().name()).unwrap();
    assert_eq!(*plan.descriptor(), theirs);
}

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

fn refusal(fields: Vec<Field>) -> ConversionError {
    Plan::new(&Schema::new(fields), None, Policies::default()).unwrap_err()
}

#[test]
fn an_unsupported_type_is_refused_with_its_column_its_name_and_what_to_do() {
    let item = |data_type: DataType| Arc::new(Field::new("item", data_type, true));
    let boxed = |data_type: DataType| Box::new(data_type);
    let int32_list = || DataType::List(item(DataType::Int32));
    let types = [
        (DataType::Decimal256(39, 2), "Decimal256(39, 2)", "cast the column to Utf8"),
        (DataType::Time64(TimeUnit::Nanosecond), "Time64", "Int64"),
        (DataType::Duration(TimeUnit::Second), "Duration", "Int64"),
        (DataType::Null, "Null", "leave it out"),
        (DataType::LargeList(item(int32_list())), "LargeList", "wrap the inner list or map in a struct"),
        (DataType::Dictionary(boxed(DataType::Int8), boxed(DataType::Null)), "Null", "leave it out"),
    ];
    for (arrow_type, type_text, advice) in types {
        let good = Field::new("good", DataType::Utf8, true);
        let error = refusal(vec![good, Field::new("odd_one", arrow_type.clone(), true)]);
        let text = error.to_string();
        for part in ["column \"odd_one\"", type_text, "which cannot be converted; ", advice] {
            assert!(text.contains(part), "{text:?} does not say {part:?}");
        }
        assert!(
            matches!(error, ConversionError::UnsupportedType { arrow_type: named, .. } if named == arrow_type)
        );
    }
    let inner = DataType::Struct(vec![Field::new("b", DataType::Time32(TimeUnit::Second), true)].into());
    let text = refusal(vec![Field::new("a", DataType::ListView(item(inner)), true)]).to_string();
    assert!(text.contains("column \"a.element.b\""), "{text}");
}

#[test]
fn a_schema_that_no_table_can_have_is_refused() {
    let field = |name: &str| Field::new(name, DataType::Int32, true);
    assert_eq!(refusal(vec![]), ConversionError::NoColumns);
    let many: Vec<Field> = (0..2_001).map(|i| field(&format!("c{i}"))).collect();
    assert!(Plan::new(&Schema::new(many[..2_000].to_vec()), None, Policies::default()).is_ok());
    let too_many = ConversionError::TooManyColumns { columns: 2_001, columns_max: 2_000 };
    assert_eq!(refusal(many), too_many);
    assert_eq!(too_many.code(), ErrorCode::Conversion);
    assert_eq!(
        refusal(vec![field("id"), field("b"), field("ID")]),
        ConversionError::DuplicateColumnName { column: "ID".to_owned(), first: 0, second: 2 }
    );
    for name in ["", "1st", "a b", "a-b", "gr\u{f6}\u{df}e", "a.b"] {
        let error = refusal(vec![field("a"), field(name)]);
        let is_named = matches!(
            &error,
            ConversionError::InvalidColumnName { column, position: 1, .. } if column == name
        );
        assert!(is_named, "{error}");
    }
    let schema = Schema::new(vec![field("_1"), field("Ab_9")]);
    assert!(Plan::new(&schema, None, Policies::default()).is_ok());
}
