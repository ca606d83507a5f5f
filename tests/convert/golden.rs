//! Golden bytes: each type with the record that it makes, in `tests/fixtures/convert-golden`.
//!
//! A line is `Arrow type → Delta type | value | record in hexadecimal`, and the column is the only one of its table. The
//! file is read by people: what changes there changes what the service gets. `UPDATE_GOLDEN=1` writes it anew.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

use arrow_array::types::*;
use arrow_array::*;
use arrow_cast::display::array_value_to_string;
use arrow_schema::{DataType, Field, Schema};
use arrow_zerobus_sdk_wrapper::convert::{DeltaType, Plan, Policies, Records, TableColumn, TableSchema};

use parquet_variant::{VariantBuilder, VariantDecimal4};

use crate::types::{self, Extension};

/// One column.
struct Golden {
    array: ArrayRef,
    extension: Extension,
    /// None is the default.
    target: Option<DeltaType>,
}

fn golden(array: impl Array + 'static) -> Golden {
    Golden { array: Arc::new(array), extension: None, target: None }
}

impl Golden {
    fn into(self, target: DeltaType) -> Golden {
        Golden { target: Some(target), ..self }
    }

    fn extension(self, name: &'static str) -> Golden {
        Golden { extension: Some(name), ..self }
    }

    fn lines(&self, text: &mut String) {
        let field = types::field("a", self.array.data_type().clone(), true, self.extension);
        let schema = Arc::new(Schema::new(vec![field]));
        let table = match &self.target {
            Some(target) => {
                let (name, delta_type) = ("a".to_owned(), target.clone());
                TableSchema { columns: vec![TableColumn { name, number: 1, delta_type, nullable: true }] }
            }
            None => TableSchema::from_arrow(&schema).unwrap(),
        };
        let plan = Plan::new(&schema, Some(&table), Policies::default()).unwrap();
        let batch = RecordBatch::try_new(schema, vec![self.array.clone()]).unwrap();
        let mut records = Records::new();
        let encoded = plan.encode(&batch, 0..batch.num_rows(), &mut records);
        assert_eq!(encoded.refused, []);
        let extension = self.extension.map_or_else(String::new, |name| format!(" ({name})"));
        for row in 0..records.len() {
            let value = if self.array.is_null(row) {
                "null".to_owned()
            } else {
                array_value_to_string(&self.array, row).unwrap()
            };
            let bytes: Vec<String> = records.record(row).iter().map(|byte| format!("{byte:02x}")).collect();
            let (arrow_type, delta_type) = (self.array.data_type(), &table.columns[0].delta_type);
            let bytes = bytes.join(" ");
            writeln!(text, "{arrow_type}{extension} → {delta_type} | {value} | {bytes}").unwrap();
        }
        text.push('\n');
    }
}

fn numbers() -> Vec<Golden> {
    use DeltaType as D;
    vec![
        golden(BooleanArray::from(vec![Some(true), Some(false), None])),
        golden(Int8Array::from(vec![0, 127, -1, -128])),
        golden(Int16Array::from(vec![128, -32_768])),
        golden(Int32Array::from(vec![300, -1, i32::MIN, i32::MAX])),
        golden(Int64Array::from(vec![0, -1, i64::MIN, i64::MAX])),
        golden(UInt8Array::from(vec![255])),
        golden(UInt16Array::from(vec![65_535])),
        golden(UInt32Array::from(vec![u32::MAX])),
        golden(UInt64Array::from(vec![0, u64::MAX])),
        golden(UInt64Array::from(vec![i64::MAX as u64])).into(D::Long),
        golden(Int64Array::from(vec![-5])).into(D::Byte),
        golden(Int32Array::from(vec![-5])).into(D::Double),
        golden(Int32Array::from(vec![1 << 24])).into(D::Float),
        golden(Int32Array::from(vec![-5, 12_345])).into(D::Decimal { precision: 10, scale: 2 }),
        golden(Float16Array::from_iter_values([1.0, -2.5, 65_504.0].map(half::f16::from_f32))),
        golden(Float32Array::from(vec![1.0, -0.0, f32::NAN, f32::INFINITY])),
        golden(Float32Array::from(vec![0.1])).into(D::Double),
        golden(Float64Array::from(vec![1.0, 0.1, -0.0, f64::NAN, f64::NEG_INFINITY])),
        golden(Float64Array::from(vec![0.5])).into(D::Float),
        golden(Int8Array::from(vec![0, 1, -3])).extension(types::BOOL8),
    ]
}

fn decimals() -> Vec<Golden> {
    use DeltaType as D;
    let decimal32 = |values: Vec<i32>, scale| {
        golden(Decimal32Array::from(values).with_precision_and_scale(5, scale).unwrap())
    };
    let decimal128 = |values: Vec<i128>, scale| {
        golden(Decimal128Array::from(values).with_precision_and_scale(38, scale).unwrap())
    };
    let huge = Decimal256Array::from_iter_values([arrow_buffer::i256::from_i128(i128::MIN)]);
    vec![
        decimal32(vec![0, 1, -1, 99_999], 2),
        decimal32(vec![0, -7], -3),
        golden(Decimal64Array::from(vec![-5]).with_precision_and_scale(18, 18).unwrap()),
        decimal128(vec![10_i128.pow(38) - 1, 1 - 10_i128.pow(38)], 0),
        decimal128(vec![-1], 38),
        decimal128(vec![1_500], 3).into(D::Decimal { precision: 4, scale: 1 }),
        decimal128(vec![-42], 0).into(D::Long),
        golden(huge.with_precision_and_scale(76, 10).unwrap()).into(D::String),
        golden(StringArray::from(vec!["-1.5", "007"])).into(D::Decimal { precision: 4, scale: 1 }),
    ]
}

fn texts() -> Vec<Golden> {
    use DeltaType as D;
    let uuid: Vec<u8> = (0x10..0x20).collect();
    let uuid = || golden(FixedSizeBinaryArray::try_from_iter([uuid.clone()].into_iter()).unwrap());
    vec![
        golden(StringArray::from(vec!["", "h\u{e9}"])),
        golden(LargeStringArray::from(vec!["hi"])),
        golden(StringViewArray::from(vec!["hi", "longer than a view"])),
        golden(BinaryArray::from(vec![&[][..], &[0, 255]])),
        golden(LargeBinaryArray::from(vec![&[0, 255][..]])),
        golden(BinaryViewArray::from(vec![&[0, 255][..]])),
        golden(FixedSizeBinaryArray::try_from_iter([[1_u8, 2, 3]].into_iter()).unwrap()),
        uuid().extension(types::UUID),
        uuid().extension(types::UUID).into(D::Binary),
        golden(BinaryArray::from(vec![&[1, 2][..]])).extension(types::UNKNOWN),
        golden(StringArray::from(vec!["{\"a\": 1}"])).extension(types::JSON),
        golden(StringArray::from(vec!["{\"a\": 1}"])).extension(types::JSON).into(D::Variant),
    ]
}

fn variants() -> Vec<Golden> {
    let mut object = VariantBuilder::new();
    object.new_object().with_field("a", 1_i8).with_field("b", "h\u{e9}\n").finish();
    let mut list = VariantBuilder::new();
    let decimal = VariantDecimal4::try_new(-1_250, 2).unwrap();
    list.new_list().with_value(()).with_value(true).with_value(decimal).with_value(0.5).finish();
    let null = (Vec::new(), Vec::new());
    let variants = [object.finish(), list.finish(), null];
    let (metadata, value): (Vec<_>, Vec<_>) = variants.into_iter().unzip();
    let bytes = |parts: Vec<Vec<u8>>| -> ArrayRef { Arc::new(BinaryArray::from_iter_values(parts)) };
    let fields = ["metadata", "value"].map(|name| Field::new(name, DataType::Binary, false)).to_vec();
    let nulls = vec![true, true, false].into();
    let array = StructArray::new(fields.into(), vec![bytes(metadata), bytes(value)], Some(nulls));
    vec![golden(array).extension(types::VARIANT)]
}

fn times() -> Vec<Golden> {
    use DeltaType as D;
    vec![
        golden(Date32Array::from(vec![0, -1, 20_000])),
        golden(Date32Array::from(vec![-1])).into(D::TimestampNtz),
        golden(Date64Array::from(vec![-86_400_000])),
        golden(Date64Array::from(vec![1])).into(D::TimestampNtz),
        golden(TimestampSecondArray::from(vec![1])),
        golden(TimestampMillisecondArray::from(vec![1_000]).with_timezone("+09:00")),
        golden(TimestampMicrosecondArray::from(vec![1_000_000, -1])),
        golden(TimestampNanosecondArray::from(vec![1_000_000_999, -1, -1_000]).with_timezone("UTC")),
        golden(Time32SecondArray::from(vec![86_399])).into(D::String),
        golden(Time32MillisecondArray::from(vec![1])).into(D::Integer),
        golden(Time64MicrosecondArray::from(vec![3_723_000_004])).into(D::String),
        golden(Time64NanosecondArray::from(vec![1])).into(D::Long),
        golden(DurationSecondArray::from(vec![-90])).into(D::String),
        golden(DurationNanosecondArray::from(vec![1_500_000_000])).into(D::String),
        golden(DurationMicrosecondArray::from(vec![-1])).into(D::Long),
        golden(IntervalYearMonthArray::from(vec![-14])).into(D::String),
        golden(IntervalYearMonthArray::from(vec![-14])).into(D::Integer),
        golden(IntervalDayTimeArray::from(vec![IntervalDayTimeType::make_value(3, -1)])).into(D::String),
        golden(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNanoType::make_value(1, -2, 3)]))
            .into(D::String),
    ]
}

fn nested() -> Vec<Golden> {
    let list = [Some(vec![Some(1), Some(-1)]), Some(vec![]), None];
    let fields = vec![Field::new("x", DataType::Int32, true), Field::new("y", DataType::Utf8, true)];
    let children: Vec<ArrayRef> = vec![
        Arc::new(Int32Array::from(vec![Some(5), None, Some(7)])),
        Arc::new(StringArray::from(vec![Some("z"), None, Some("gone")])),
    ];
    let nulls = vec![true, true, false].into();
    let mut map = builder::MapBuilder::new(None, builder::StringBuilder::new(), builder::Int64Builder::new());
    map.keys().append_value("k");
    map.values().append_value(1);
    map.keys().append_value("");
    map.values().append_value(0);
    map.append(true).unwrap();
    map.append(true).unwrap();
    let ends = Int32Array::from(vec![2, 3]);
    vec![
        golden(ListArray::from_iter_primitive::<Int32Type, _, _>(list.clone())),
        golden(LargeListArray::from_iter_primitive::<Int32Type, _, _>(list.clone())),
        golden(ListViewArray::from(ListArray::from_iter_primitive::<Int32Type, _, _>(list))),
        golden(FixedSizeListArray::from_iter_primitive::<Float64Type, _, _>(
            [Some([Some(1.0), Some(2.0)])],
            2,
        )),
        golden(StructArray::new(fields.into(), children, Some(nulls))),
        golden(map.finish()),
        golden(DictionaryArray::<Int8Type>::from_iter([Some("hi"), None, Some("hi")])),
        golden(RunArray::<Int32Type>::try_new(&ends, &StringArray::from(vec!["hi", "ho"])).unwrap()),
        golden(NullArray::new(1)).into(DeltaType::Long),
    ]
}

#[test]
#[expect(clippy::disallowed_methods, reason = "the golden file is no part of a log")]
fn every_type_has_its_bytes_on_the_wire() {
    let mut text = String::new();
    for (title, columns) in [
        ("Numbers", numbers()),
        ("Decimals", decimals()),
        ("Texts and bytes", texts()),
        ("Variants", variants()),
        ("Times", times()),
        ("Nested and encoded", nested()),
    ] {
        writeln!(text, "# {title}\n").unwrap();
        columns.iter().for_each(|golden| golden.lines(&mut text));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/convert-golden");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    for (n, (found, wanted)) in text.lines().zip(golden.lines()).enumerate() {
        assert_eq!(found, wanted, "line {} of {}", n + 1, path.display());
    }
    assert_eq!(text.lines().count(), golden.lines().count());
}
