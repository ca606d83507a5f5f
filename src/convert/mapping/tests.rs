//! What goes into which column of a table, value by value, and what is refused with which advice.

use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::*;
use arrow_buffer::i256;
use arrow_schema::extension::EXTENSION_TYPE_NAME_KEY;
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use half::f16;

use crate::convert::testing::read_back;
use crate::convert::{
    ConversionError, DeltaType, Plan, Policies, Records, RowErrorReason, TableColumn, TableSchema,
    TimestampNs,
};

const DECIMAL_5_2: DeltaType = DeltaType::Decimal { precision: 5, scale: 2 };

fn column(name: &str, number: u32, delta_type: DeltaType) -> TableColumn {
    TableColumn { name: name.to_owned(), number, delta_type, nullable: true }
}

fn not_null(column: TableColumn) -> TableColumn {
    TableColumn { nullable: false, ..column }
}

/// A column with its field, which may have an extension.
struct Given {
    field: Field,
    array: ArrayRef,
}

fn given(array: impl Array + 'static) -> Given {
    Given { field: Field::new("a", array.data_type().clone(), true), array: Arc::new(array) }
}

impl Given {
    fn extension(self, name: &str) -> Given {
        let metadata = [(EXTENSION_TYPE_NAME_KEY.to_owned(), name.to_owned())].into();
        Given { field: self.field.with_metadata(metadata), ..self }
    }

    fn plan(&self, table: Option<&TableSchema>, policies: Policies) -> Result<Plan, ConversionError> {
        Plan::new(&Schema::new(vec![self.field.clone()]), table, policies)
    }

    /// The values as the reader finds them, and why the others were refused.
    fn through(&self, plan: &Plan) -> (Vec<String>, Vec<RowErrorReason>) {
        let schema = Arc::new(Schema::new(vec![self.field.clone()]));
        let batch = RecordBatch::try_new(schema, vec![self.array.clone()]).unwrap();
        let mut records = Records::new();
        let refused = plan.encode(&batch, 0..batch.num_rows(), &mut records).refused;
        let values = read_back(plan, &records).into_iter().map(|text| text.replace("a=", "")).collect();
        (values, refused.into_iter().map(|error| error.reason).collect())
    }

    fn sent_to(&self, delta_type: DeltaType) -> (Vec<String>, Vec<RowErrorReason>) {
        let table = TableSchema { columns: vec![column("a", 1, delta_type)] };
        self.through(&self.plan(Some(&table), Policies::default()).unwrap())
    }

    /// All values, none of which may be refused.
    fn all_into(&self, delta_type: DeltaType) -> Vec<String> {
        let (values, refused) = self.sent_to(delta_type);
        assert_eq!(refused, []);
        values
    }

    /// The first value, the other ones refused.
    fn first_into(&self, delta_type: DeltaType, reason: RowErrorReason) -> String {
        let (values, refused) = self.sent_to(delta_type);
        assert_eq!((values.len(), refused), (1, vec![reason; self.array.len() - 1]));
        values.into_iter().next().unwrap()
    }

    fn refused(&self, delta_type: DeltaType) -> String {
        let table = TableSchema { columns: vec![column("a", 1, delta_type.clone())] };
        let error = self.plan(Some(&table), Policies::default()).unwrap_err();
        let ConversionError::UnsupportedType { column, arrow_type, delta_type: of_table, what_to_do } = error
        else {
            panic!("{error}");
        };
        assert_eq!((column.as_str(), &arrow_type), ("a", self.field.data_type()));
        assert_eq!(of_table, Some(delta_type));
        what_to_do
    }

    /// What it is sent as when no table is known.
    fn default(&self) -> (DeltaType, Vec<String>) {
        let schema = Schema::new(vec![self.field.clone()]);
        let delta_type = TableSchema::from_arrow(&schema).unwrap().columns.remove(0).delta_type;
        let (values, refused) = self.through(&self.plan(None, Policies::default()).unwrap());
        assert_eq!(refused, []);
        (delta_type, values)
    }
}

#[test]
fn integers_go_wherever_they_fit() {
    let small = given(Int8Array::from(vec![-1]));
    for delta_type in [DeltaType::Byte, DeltaType::Short, DeltaType::Integer, DeltaType::Long] {
        assert_eq!(small.all_into(delta_type), ["-1"]);
    }
    assert_eq!(small.all_into(DECIMAL_5_2), ["-1.00"]);
    assert_eq!(small.all_into(DeltaType::Float), ["F32(-1.0)"]);
    assert_eq!(small.all_into(DeltaType::Double), ["F64(-1.0)"]);
    use RowErrorReason::{Inexact, OutOfRange};
    assert_eq!(given(UInt8Array::from(vec![127, 128])).first_into(DeltaType::Byte, OutOfRange), "127");
    assert_eq!(given(Int16Array::from(vec![-128, -129])).first_into(DeltaType::Byte, OutOfRange), "-128");
    assert_eq!(
        given(Int64Array::from(vec![1 << 15, 1 << 31])).first_into(DeltaType::Integer, OutOfRange),
        "32768"
    );
    assert_eq!(given(Int64Array::from(vec![999, 1000])).first_into(DECIMAL_5_2, OutOfRange), "999.00");
    assert_eq!(
        given(UInt32Array::from(vec![1 << 24, (1 << 24) + 1])).first_into(DeltaType::Float, Inexact),
        "F32(16777216.0)"
    );
    let unsigned = given(UInt64Array::from(vec![i64::MAX as u64, u64::MAX]));
    assert_eq!(unsigned.first_into(DeltaType::Long, OutOfRange), i64::MAX.to_string());
    let decimal = DeltaType::Decimal { precision: 20, scale: 0 };
    assert_eq!(unsigned.default(), (decimal, vec![i64::MAX.to_string(), u64::MAX.to_string()]));
    assert!(small.refused(DeltaType::Date).contains("say what its numbers count: cast the column to Date32"));
    assert!(small.refused(DeltaType::Timestamp).contains("Timestamp with a zone"));
    assert!(small.refused(DeltaType::String).contains("cast the column to Utf8"));
    assert!(
        given(BooleanArray::from(vec![true])).refused(DeltaType::String).contains("cast the column to Utf8")
    );
}

#[test]
fn floats_are_widened_and_narrowed_only_exactly() {
    let half = given(Float16Array::from(vec![f16::from_f32(-0.0)]));
    assert_eq!(half.default(), (DeltaType::Float, vec!["F32(-0.0)".to_owned()]));
    assert_eq!(half.all_into(DeltaType::Double), ["F64(-0.0)"]);
    assert_eq!(
        given(Float32Array::from(vec![0.1])).all_into(DeltaType::Double),
        ["F64(0.10000000149011612)"]
    );
    let double = given(Float64Array::from(vec![0.5, 0.1]));
    assert_eq!(double.first_into(DeltaType::Float, RowErrorReason::Inexact), "F32(0.5)");
    assert!(double.refused(DECIMAL_5_2).contains("a decimal of the same precision and scale"));
}

#[test]
fn decimals_are_rescaled_only_exactly() {
    let of = |values: Vec<i128>, precision, scale| {
        given(Decimal128Array::from(values).with_precision_and_scale(precision, scale).unwrap())
    };
    assert_eq!(
        of(vec![-5], 10, 3).default(),
        (DeltaType::Decimal { precision: 10, scale: 3 }, vec!["-0.005".to_owned()])
    );
    let thousands = of(vec![12], 3, -3);
    assert_eq!(
        thousands.default(),
        (DeltaType::Decimal { precision: 6, scale: 0 }, vec!["12000".to_owned()])
    );
    use RowErrorReason::{Inexact, OutOfRange};
    assert_eq!(of(vec![1230, 1231], 10, 3).first_into(DECIMAL_5_2, Inexact), "1.23");
    assert_eq!(of(vec![9999, 10_000], 10, 1).first_into(DECIMAL_5_2, OutOfRange), "999.90");
    assert_eq!(of(vec![7, 1 << 31], 20, 0).first_into(DeltaType::Integer, OutOfRange), "7");
    assert_eq!(of(vec![7], 20, 0).all_into(DeltaType::Long), ["7"]);
    assert_eq!(of(vec![-7], 20, 1).all_into(DeltaType::String), ["-0.7"]);
    // Arrow does not look at the digits of what it is given.
    let (_, refused) = of(vec![100_000], 5, 2).sent_to(DECIMAL_5_2);
    assert_eq!(refused, [OutOfRange]);
    let small = Decimal32Array::from(vec![150]).with_precision_and_scale(9, 2).unwrap();
    assert_eq!(given(small).default().1, ["1.50"]);
    let large = Decimal256Array::from(vec![i256::from_i128(150)]).with_precision_and_scale(76, 2).unwrap();
    assert_eq!(given(large.clone()).all_into(DECIMAL_5_2), ["1.50"]);
    assert_eq!(given(large.clone()).all_into(DeltaType::String), ["1.50"]);
    let error = given(large).plan(None, Policies::default()).unwrap_err().to_string();
    assert!(error.contains("at most 38 digits"), "{error}");
    assert!(of(vec![1], 5, 2).refused(DeltaType::Double).contains("Float64"));
}

#[test]
fn text_is_checked_where_it_must_be_a_number_or_json() {
    use RowErrorReason::{InvalidDecimal, InvalidJson};
    let texts = given(StringViewArray::from(vec!["12.5", "[1"]));
    assert_eq!(texts.all_into(DeltaType::String), ["12.5", "[1"]);
    assert_eq!(texts.first_into(DeltaType::Variant, InvalidJson), "12.5");
    assert_eq!(texts.first_into(DECIMAL_5_2, InvalidDecimal), "12.5");
    assert!(
        texts
            .refused(DeltaType::Timestamp)
            .contains("parse its texts: cast the column to Timestamp with a zone")
    );
    assert!(texts.refused(DeltaType::Date).contains("parse its texts: cast the column to Date32"));
    assert!(texts.refused(DeltaType::Binary).contains("Binary"));
    let bytes = given(BinaryViewArray::from(vec![&b"ab"[..]]));
    assert_eq!(bytes.all_into(DeltaType::Binary).len(), 1);
    assert!(bytes.refused(DeltaType::String).contains("Utf8"));
    assert!(bytes.refused(DeltaType::Variant).contains("Utf8 with JSON in it"));
}

#[test]
fn dates_and_instants_keep_what_they_mean() {
    use RowErrorReason::{TimeOfDay, TimestampOverflow};
    let day = 86_400_000;
    assert_eq!(given(Date32Array::from(vec![-1])).all_into(DeltaType::TimestampNtz), ["-86400000000"]);
    let far = given(Date32Array::from(vec![1, i32::MAX]));
    assert_eq!(far.first_into(DeltaType::TimestampNtz, TimestampOverflow), "86400000000");
    let millis = given(Date64Array::from(vec![-day, 1 - day]));
    assert_eq!(millis.first_into(DeltaType::Date, TimeOfDay), "-1");
    assert_eq!(millis.all_into(DeltaType::TimestampNtz), ["-86400000000", "-86399999000"]);
    assert_eq!(given(Date64Array::from(vec![day])).default(), (DeltaType::Date, vec!["1".to_owned()]));
    let local = given(TimestampSecondArray::from(vec![1]));
    assert_eq!(local.default(), (DeltaType::TimestampNtz, vec!["1000000".to_owned()]));
    assert!(local.refused(DeltaType::Timestamp).contains("with that zone"));
    assert!(given(Date32Array::from(vec![1])).refused(DeltaType::Timestamp).contains("with that zone"));
    let instant = given(TimestampMillisecondArray::from(vec![1]).with_timezone("Asia/Tokyo"));
    assert_eq!(instant.default(), (DeltaType::Timestamp, vec!["1000".to_owned()]));
    assert!(instant.refused(DeltaType::TimestampNtz).contains("without a zone"));
    assert!(instant.refused(DeltaType::Long).contains("Int64"));
}

#[test]
fn nanoseconds_are_floored_and_counted_or_refused() {
    let array =
        TimestampNanosecondArray::from(vec![Some(-1), None, Some(1_000), Some(1_999), Some(i64::MAX)]);
    let nanos = given(array);
    let batch = RecordBatch::try_from_iter([("a", nanos.array.clone())]).unwrap();
    let plan = nanos.plan(None, Policies::default()).unwrap();
    let encoded = plan.encode(&batch, 0..5, &mut Records::new());
    assert_eq!((encoded.floored_timestamps, encoded.refused.len()), (3, 0));
    assert_eq!(nanos.through(&plan).0, ["-1", "", "1", "1", "9223372036854775"]);
    let strict = Policies { timestamp_ns: TimestampNs::Error, ..Policies::default() };
    let plan = nanos.plan(None, strict).unwrap();
    assert_eq!(
        nanos.through(&plan),
        (vec![String::new(), "1".to_owned()], vec![RowErrorReason::Nanoseconds; 3])
    );
    // What is in a refused row is not counted.
    let twice = batch.project(&[0, 0]).unwrap();
    let fields = ["a", "b"].map(|name| nanos.field.clone().with_name(name).with_nullable(name == "a"));
    let schema = Arc::new(Schema::new(fields.to_vec()));
    let plan = Plan::new(&schema, None, Policies::default()).unwrap();
    let fields: Fields =
        schema.fields().iter().map(|field| field.as_ref().clone().with_nullable(true)).collect();
    let twice = RecordBatch::try_new(Arc::new(Schema::new(fields)), twice.columns().to_vec()).unwrap();
    let encoded = plan.encode(&twice, 0..5, &mut Records::new());
    assert_eq!((encoded.floored_timestamps, encoded.refused.len()), (6, 1));
}

#[test]
fn times_durations_and_intervals_go_into_text_and_counts() {
    let time = given(Time64NanosecondArray::from(vec![1, 86_400_000_000_000]));
    assert_eq!(time.first_into(DeltaType::String, RowErrorReason::OutOfRange), "00:00:00.000000001");
    assert_eq!(time.all_into(DeltaType::Long), ["1", "86400000000000"]);
    assert_eq!(time.first_into(DeltaType::Integer, RowErrorReason::OutOfRange), "1");
    assert!(time.refused(DeltaType::Short).contains("Int16"));
    assert_eq!(given(Time32SecondArray::from(vec![3661])).all_into(DeltaType::String), ["01:01:01"]);
    let duration = given(DurationMillisecondArray::from(vec![-1500]));
    assert_eq!(duration.all_into(DeltaType::String), ["-PT1.500S"]);
    assert_eq!(duration.all_into(DeltaType::Long), ["-1500"]);
    assert!(duration.refused(DeltaType::Integer).contains("Int32"));
    let months = given(IntervalYearMonthArray::from(vec![14]));
    assert_eq!(months.all_into(DeltaType::Integer), ["14"]);
    assert_eq!(months.all_into(DeltaType::String), ["P14M"]);
    let days = given(IntervalDayTimeArray::from(vec![IntervalDayTime::new(1, 2)]));
    assert_eq!(days.all_into(DeltaType::String), ["P1DT0.002S"]);
    let all = given(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, -2, 3)]));
    assert_eq!(all.all_into(DeltaType::String), ["P1M-2DT0.000000003S"]);
    assert!(all.refused(DeltaType::Long).contains("Int64"));
}

#[test]
fn extension_types_mean_what_they_say() {
    let bytes: Vec<u8> = (0..16).collect();
    let uuid = || given(FixedSizeBinaryArray::try_from_iter([bytes.clone()].into_iter()).unwrap());
    let text = "00010203-0405-0607-0809-0a0b0c0d0e0f";
    assert_eq!(uuid().extension("arrow.uuid").default(), (DeltaType::String, vec![text.to_owned()]));
    assert_eq!(uuid().default().0, DeltaType::Binary);
    assert_eq!(
        uuid().extension("arrow.uuid").all_into(DeltaType::Binary),
        uuid().all_into(DeltaType::Binary)
    );
    assert!(uuid().refused(DeltaType::String).contains("Utf8"));
    let flags = given(Int8Array::from(vec![0, 1, -3])).extension("arrow.bool8");
    assert_eq!(
        flags.default(),
        (DeltaType::Boolean, ["false", "true", "true"].map(|flag| format!("Bool({flag})")).to_vec())
    );
    let json = given(StringArray::from(vec!["{}"])).extension("arrow.json");
    assert_eq!(json.default(), (DeltaType::String, vec!["{}".to_owned()]));
    assert_eq!(json.all_into(DeltaType::Variant), ["{}"]);
    let keyed = DictionaryArray::<Int8Type>::new(vec![0].into(), uuid().array);
    assert_eq!(given(keyed).extension("arrow.uuid").default().1, [text]);
    let other = given(Int32Array::from(vec![1])).extension("arrow.opaque");
    assert_eq!(other.default(), (DeltaType::Integer, vec!["1".to_owned()]));
    let binary: ArrayRef = Arc::new(BinaryArray::from(vec![&b""[..]]));
    let fields = ["metadata", "value"]
        .map(|name| (Arc::new(Field::new(name, DataType::Binary, false)), binary.clone()));
    let variant = |fields: &[(Arc<Field>, ArrayRef)]| {
        given(StructArray::from(fields.to_vec())).extension("arrow.parquet.variant")
    };
    assert!(variant(&fields).plan(None, Policies::default()).is_ok());
    assert!(variant(&fields).refused(DeltaType::String).contains("VARIANT"));
    assert!(variant(&fields[..1]).refused(DeltaType::Variant).contains("\"value\""));
    let typed: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    let shredded =
        [&fields[..], &[(Arc::new(Field::new("typed_value", DataType::Int32, true)), typed)]].concat();
    assert!(variant(&shredded).refused(DeltaType::Variant).contains("unshred it first"));
    let error = variant(&shredded).plan(None, Policies::default()).unwrap_err();
    assert!(error.to_string().contains("unshred it first"), "{error}");
}

#[test]
fn a_column_of_nulls_goes_into_every_column_that_may_be_null() {
    let nulls = given(NullArray::new(2));
    assert_eq!(nulls.all_into(DeltaType::Long), ["", ""]);
    assert_eq!(nulls.all_into(DeltaType::Array { element: Box::new(DeltaType::Long) }), ["", ""]);
    let table = TableSchema { columns: vec![not_null(column("a", 1, DeltaType::Long))] };
    let error = nulls.plan(Some(&table), Policies::default()).unwrap_err();
    assert!(matches!(error, ConversionError::UnsupportedType { .. }), "{error}");
    assert!(nulls.plan(None, Policies::default()).unwrap_err().to_string().contains("leave it out"));
    // What pyarrow makes of a column of empty lists.
    let values: ArrayRef = Arc::new(NullArray::new(1));
    let offsets = arrow_buffer::OffsetBuffer::from_lengths([0, 1]);
    let lists = ListArray::new(Arc::new(Field::new("item", DataType::Null, true)), offsets, values, None);
    let (values, refused) = given(lists).sent_to(DeltaType::Array { element: Box::new(DeltaType::String) });
    assert_eq!((values, refused), (vec![String::new()], vec![RowErrorReason::NullElement]));
}

fn batch(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter(columns.iter().map(|(name, array)| (*name, array.clone()))).unwrap()
}

fn plan(batch: &RecordBatch, columns: Vec<TableColumn>) -> Result<Plan, ConversionError> {
    Plan::new(batch.schema_ref(), Some(&TableSchema { columns }), Policies::default())
}

fn ints(values: &[i32]) -> ArrayRef {
    Arc::new(Int32Array::from(values.to_vec()))
}

#[test]
fn columns_find_their_names_in_any_order_and_case() {
    let batch = batch(&[("C", ints(&[3])), ("a", ints(&[1]))]);
    let columns = vec![
        column("a", 1, DeltaType::Integer),
        column("b", 3, DeltaType::Variant),
        not_null(column("c", 7, DeltaType::Long)),
    ];
    let plan = plan(&batch, columns).unwrap();
    let numbers: Vec<_> =
        plan.descriptor().field.iter().map(|field| (field.name(), field.number())).collect();
    assert_eq!(numbers, [("a", 1), ("b", 3), ("c", 7)]);
    let mut records = Records::new();
    assert_eq!(plan.encode(&batch, 0..1, &mut records).refused, []);
    assert_eq!(read_back(&plan, &records), ["a=1 c=3"]);
    assert_eq!(records.record(0), [8, 1, 56, 3]);
}

#[test]
fn a_name_that_is_the_same_goes_before_one_in_another_case() {
    let columns = vec![column("x", 1, DeltaType::Integer), column("X", 2, DeltaType::Integer)];
    let batch = batch(&[("X", ints(&[2])), ("x", ints(&[1]))]);
    let plan = plan(&batch, columns).unwrap();
    let mut records = Records::new();
    plan.encode(&batch, 0..1, &mut records);
    assert_eq!(read_back(&plan, &records), ["x=1 X=2"]);
}

#[test]
fn columns_that_do_not_match_are_refused_by_name() {
    let ints = ints(&[1]);
    let batch = batch(&[("a", ints.clone()), ("b", ints.clone())]);
    let unknown = ConversionError::UnknownColumn { column: "b".to_owned(), arrow_type: DataType::Int32 };
    assert_eq!(plan(&batch, vec![column("a", 1, DeltaType::Integer)]).unwrap_err(), unknown);
    let columns = || vec![column("a", 1, DeltaType::Integer), column("b", 2, DeltaType::Integer)];
    let required = not_null(column("c", 3, DeltaType::Date));
    let missing = ConversionError::MissingColumn { column: "c".to_owned(), delta_type: DeltaType::Date };
    assert_eq!(plan(&batch, [columns(), vec![required]].concat()).unwrap_err(), missing);
    let twice = self::batch(&[("a", ints.clone()), ("b", ints.clone()), ("A", ints)]);
    let duplicate = ConversionError::DuplicateColumnName { column: "A".to_owned(), first: 0, second: 2 };
    assert_eq!(plan(&twice, columns()).unwrap_err(), duplicate);
}

#[test]
fn fields_of_structs_are_matched_as_columns_are() {
    let fields = |names: &[&str]| {
        let fields =
            names.iter().map(|name| (Arc::new(Field::new(*name, DataType::Int32, true)), ints(&[5])));
        Arc::new(StructArray::from(fields.collect::<Vec<_>>())) as ArrayRef
    };
    let table = || {
        let fields = vec![
            not_null(column("x", 1, DeltaType::Long)),
            column("y", 2, DeltaType::String),
            column("z", 3, DeltaType::Short),
        ];
        vec![column("s", 1, DeltaType::Array { element: Box::new(DeltaType::Struct(fields)) })]
    };
    let lists = |names: &[&str]| {
        let values = fields(names);
        let item = Arc::new(Field::new("item", values.data_type().clone(), true));
        let offsets = arrow_buffer::OffsetBuffer::from_lengths([1]);
        batch(&[("s", Arc::new(ListArray::new(item, offsets, values, None)))])
    };
    let good = lists(&["z", "X"]);
    let good_plan = plan(&good, table()).unwrap();
    let mut records = Records::new();
    good_plan.encode(&good, 0..1, &mut records);
    assert_eq!(read_back(&good_plan, &records), ["s=[{x=5 z=5}]"]);
    let error = |names: &[&str]| plan(&lists(names), table()).unwrap_err().to_string();
    assert!(error(&["x", "w"]).contains("no column \"s.element.w\""), "{}", error(&["x", "w"]));
    assert!(
        error(&["z"]).contains("no column \"s.element.x\", which is BIGINT NOT NULL"),
        "{}",
        error(&["z"])
    );
    let text = error(&["x", "y"]);
    assert!(
        text.contains(
            "column \"s.element.y\" has the Arrow type Int32, which cannot be converted to the table's STRING"
        ),
        "{text}"
    );
}

#[test]
fn types_that_the_service_has_no_protobuf_for_are_refused() {
    let item = |data_type| Arc::new(Field::new("item", data_type, true));
    let list = DataType::List(item(DataType::Int32));
    let entries = |key, value| {
        let fields = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
        DataType::Map(Arc::new(Field::new("entries", DataType::Struct(fields), false)), false)
    };
    for (data_type, advice) in [
        (DataType::List(item(list.clone())), "arrow_flight"),
        (DataType::List(item(entries(DataType::Utf8, DataType::Utf8))), "arrow_flight"),
        (entries(DataType::Utf8, list), "arrow_flight"),
        (entries(DataType::Float64, DataType::Utf8), "cast the keys"),
        (DataType::Struct(Fields::empty()), "give the struct a field"),
        (DataType::Time32(TimeUnit::Second), "Utf8"),
    ] {
        let schema = Schema::new(vec![Field::new("a", data_type, true)]);
        let error = Plan::new(&schema, None, Policies::default()).unwrap_err().to_string();
        assert!(error.contains(advice), "{error}");
    }
    let mut data_type = DataType::Int32;
    for _ in 0..200 {
        data_type = DataType::Struct(vec![Field::new("b", data_type, true)].into());
    }
    let schema = Schema::new(vec![Field::new("a", data_type, true)]);
    let error = Plan::new(&schema, None, Policies::default()).unwrap_err();
    assert_eq!(error, ConversionError::TooDeep { column: "a".to_owned(), depth_max: 100 });
    let nested =
        DeltaType::Array { element: Box::new(DeltaType::Array { element: Box::new(DeltaType::Long) }) };
    let columns = || vec![column("a", 1, nested.clone()), column("b", 2, DeltaType::Long)];
    let error = plan(&batch(&[("A", ints(&[1])), ("b", ints(&[1]))]), columns());
    let text = error.unwrap_err().to_string();
    assert!(
        text.contains("column \"a\" of the type ARRAY<ARRAY<BIGINT>>")
            && text.contains("STRUCT")
            && text.contains("arrow_flight"),
        "{text}"
    );
    // A batch without it leaves it null.
    let without = plan(&batch(&[("b", ints(&[1]))]), columns()).unwrap();
    assert_eq!(without.descriptor().field.len(), 1);
}
