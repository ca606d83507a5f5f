//! Variants: how the generator makes them up with their JSON, and what becomes of bytes that are none.
//!
//! The bytes are made by the arrow project's own builder. The JSON that must come out is put together beside it, value
//! by value, and never read back from the bytes.

use std::sync::Arc;

use arrow_array::types::Int8Type;
use arrow_array::*;
use arrow_schema::{DataType, Field, Fields, Schema};
use arrow_zerobus_sdk_wrapper::convert::{Plan, Policies, Records, RowErrorReason};
use parquet_variant::{
    EMPTY_VARIANT_METADATA, ObjectFieldBuilder, Variant, VariantBuilder, VariantBuilderExt, VariantDecimal4,
    VariantDecimal8, VariantDecimal16,
};
use proptest::prelude::*;

use crate::choices::{Choices, choices};
use crate::types;

/// A variant, and what must become of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) metadata: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) json: Result<String, RowErrorReason>,
}

/// A value on its way into a variant.
enum Tree {
    /// The bytes of a value without parts, and its text.
    Leaf(Vec<u8>, Result<String, RowErrorReason>),
    List(Vec<Tree>),
    /// Sorted by name.
    Object(Vec<(&'static str, Tree)>),
}

const NAMES: [&str; 7] = ["", " \"'\\", "a", "b_2", "long name", "é", "😀"];

impl Sample {
    /// The value null of a variant, which is not no variant.
    pub(crate) fn null() -> Sample {
        Sample { metadata: vec![1, 0, 0], value: vec![0], json: Ok("null".to_owned()) }
    }

    pub(crate) fn any(choices: &mut Choices) -> Sample {
        let tree = Tree::any(choices, 3);
        let mut builder = VariantBuilder::new();
        // The dictionary of names need not be in their order, nor be used.
        let first = choices.below(NAMES.len());
        NAMES[first..].iter().for_each(|name| builder.add_field_name(name));
        tree.build(&mut builder);
        let (metadata, value) = builder.finish();
        let sample = Sample { metadata, value, json: tree.json() };
        if choices.one_in(40) { sample.broken(choices) } else { sample }
    }

    fn broken(self, choices: &mut Choices) -> Sample {
        let (metadata, value) = match choices.below(4) {
            0 => (self.metadata, vec![]),
            1 => (vec![], self.value),
            // No type has this number, no version of the format that one.
            2 => (self.metadata, vec![63 << 2]),
            _ => (vec![2, 0, 0], self.value),
        };
        Sample { metadata, value, json: Err(RowErrorReason::InvalidVariant) }
    }
}

impl Tree {
    fn any(choices: &mut Choices, depth: usize) -> Tree {
        match choices.below(6) {
            4 if depth > 0 => {
                Tree::List((0..choices.below(4)).map(|_| Tree::any(choices, depth - 1)).collect())
            }
            5 if depth > 0 => {
                let names: Vec<&str> = NAMES.into_iter().filter(|_| choices.one_in(3)).collect();
                Tree::Object(names.into_iter().map(|name| (name, Tree::any(choices, depth - 1))).collect())
            }
            _ => leaf(choices),
        }
    }

    fn build(&self, builder: &mut impl VariantBuilderExt) {
        match self {
            Tree::Leaf(bytes, _) => {
                builder.append_value(Variant::try_new_with_metadata(EMPTY_VARIANT_METADATA, bytes).unwrap());
            }
            Tree::List(elements) => {
                let mut list = builder.new_list();
                elements.iter().for_each(|element| element.build(&mut list));
                list.finish();
            }
            Tree::Object(fields) => {
                let mut object = builder.new_object();
                for (name, value) in fields {
                    value.build(&mut ObjectFieldBuilder::new(name, &mut object));
                }
                object.finish();
            }
        }
    }

    fn json(&self) -> Result<String, RowErrorReason> {
        Ok(match self {
            Tree::Leaf(_, text) => text.clone()?,
            Tree::List(elements) => {
                let elements: Result<Vec<String>, _> = elements.iter().map(Tree::json).collect();
                format!("[{}]", elements?.join(","))
            }
            Tree::Object(fields) => {
                let field = |(name, value): &(&str, Tree)| {
                    Ok(format!("{}:{}", serde_json::to_string(name).unwrap(), value.json()?))
                };
                let fields: Result<Vec<String>, _> = fields.iter().map(field).collect();
                format!("{{{}}}", fields?.join(","))
            }
        })
    }
}

fn leaf(choices: &mut Choices) -> Tree {
    let bits = choices.bits();
    let number = bits as i64;
    match choices.below(13) {
        0 => good(Variant::Null, "null"),
        1 => good(Variant::BooleanTrue, "true"),
        2 => good(Variant::BooleanFalse, "false"),
        3 => good(Variant::Int8(number as i8), number as i8),
        4 => good(Variant::Int16(number as i16), number as i16),
        5 => good(Variant::Int32(number as i32), number as i32),
        6 => good(Variant::Int64(number), number),
        7 => float(f64::from_bits(bits), Variant::Double(f64::from_bits(bits))),
        8 => {
            let single = f32::from_bits(bits as u32);
            float(single.into(), Variant::Float(single))
        }
        9 => decimal(choices),
        10 => {
            let chars = ['a', '"', '\n', 'é', '😀'];
            let text: String = (0..choices.below(80)).map(|_| *choices.pick(&chars)).collect();
            good(Variant::from(text.as_str()), serde_json::to_string(&text).unwrap())
        }
        11 => {
            let special = [0.0, 0.1, -0.0, 1e300, 5e-324, 3.0, f64::NAN, f64::INFINITY];
            let special = *choices.pick(&special);
            float(special, Variant::Double(special))
        }
        _ => {
            // The number one, in as many bytes.
            let one = |type_id: u8, len: usize| [vec![type_id << 2, 1], vec![0; len - 1]].concat();
            let (bytes, variant_type) = match choices.below(8) {
                0 => (one(11, 4), "date"),
                1 => (one(12, 8), "timestamp"),
                2 => (one(13, 8), "timestamp_ntz"),
                3 => ([one(15, 4), vec![7]].concat(), "binary"),
                4 => (one(17, 8), "time"),
                5 => (one(18, 8), "timestamp in nanoseconds"),
                6 => (one(19, 8), "timestamp_ntz in nanoseconds"),
                _ => (one(20, 16), "uuid"),
            };
            Tree::Leaf(bytes, Err(RowErrorReason::NotInJson { variant_type }))
        }
    }
}

fn good(variant: Variant<'_, '_>, text: impl ToString) -> Tree {
    Tree::Leaf(VariantBuilder::new().with_value(variant).finish().1, Ok(text.to_string()))
}

fn float(number: f64, variant: Variant<'_, '_>) -> Tree {
    if number.is_finite() {
        let text = format!("{number:e}");
        assert_eq!(text.parse::<f64>().unwrap().to_bits(), number.to_bits());
        return good(variant, text);
    }
    let is_single = matches!(variant, Variant::Float(_));
    let variant_type = if is_single { "float that is not finite" } else { "double that is not finite" };
    let (_, bytes) = VariantBuilder::new().with_value(variant).finish();
    Tree::Leaf(bytes, Err(RowErrorReason::NotInJson { variant_type }))
}

/// A decimal by its digits, of any of the three widths.
fn decimal(choices: &mut Choices) -> Tree {
    let precision = *choices.pick(&[9, 18, 38]);
    let len = 1 + choices.below(precision);
    let digits: String = (0..len).map(|_| *choices.pick(&['1', '9', '0'])).collect();
    let unscaled: i128 = digits.parse().unwrap();
    let sign = if unscaled != 0 && choices.one_in(2) { -1 } else { 1 };
    let scale = choices.below(precision + 1);
    let padded = format!("{unscaled:0>width$}", width = scale + 1);
    let (whole, fraction) = padded.split_at(padded.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    let text = format!("{}{whole}{point}{fraction}", if sign < 0 { "-" } else { "" });
    let (unscaled, scale) = (sign * unscaled, scale as u8);
    let variant = match precision {
        9 => Variant::Decimal4(VariantDecimal4::try_new(unscaled as i32, scale).unwrap()),
        18 => Variant::Decimal8(VariantDecimal8::try_new(unscaled as i64, scale).unwrap()),
        _ => Variant::Decimal16(VariantDecimal16::try_new(unscaled, scale).unwrap()),
    };
    good(variant, text)
}

/// The type of a column of variants.
pub(crate) fn data_type(metadata: DataType, value: DataType) -> DataType {
    DataType::Struct(Fields::from(vec![
        Field::new("metadata", metadata, false),
        Field::new("value", value, false),
    ]))
}

/// The records of a column of variants, and why the others are refused, each with the row, the value and the reason.
fn encode(array: impl Array + 'static) -> (Records, Vec<(usize, String, RowErrorReason)>) {
    let field = types::field("v", array.data_type().clone(), true, Some(types::VARIANT));
    let schema = Arc::new(Schema::new(vec![field]));
    let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(array)]).unwrap();
    let plan = Plan::new(&schema, None, Policies::default()).unwrap();
    let mut records = Records::new();
    let refused = plan.encode(&batch, 0..batch.num_rows(), &mut records).refused;
    (records, refused.into_iter().map(|error| (error.row, error.value, error.reason)).collect())
}

/// A column of one variant.
fn column(metadata: &[u8], value: &[u8]) -> StructArray {
    let bytes = |bytes: &[u8]| -> ArrayRef { Arc::new(BinaryArray::from(vec![bytes])) };
    let DataType::Struct(fields) = data_type(DataType::Binary, DataType::Binary) else { unreachable!() };
    StructArray::new(fields, vec![bytes(metadata), bytes(value)], None)
}

/// The text in the only field of a record.
fn text(record: &[u8]) -> &str {
    let (mut rest, mut len, mut shift) = (&record[1..], 0, 0);
    while let Some((byte, behind)) = rest.split_first() {
        len |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        rest = behind;
        if *byte < 0x80 {
            break;
        }
    }
    assert_eq!((record[0], rest.len()), (0x0a, len));
    std::str::from_utf8(rest).unwrap()
}

/// A list in a list in a list, with nothing in the innermost one.
fn nested(depth: usize) -> Vec<u8> {
    (1..depth).fold(vec![0b11, 0, 0], |inner, _| {
        // One element, and offsets of four bytes.
        let end = u32::try_from(inner.len()).unwrap().to_le_bytes();
        [&[0b1111, 1, 0, 0, 0, 0][..], &end, &inner].concat()
    })
}

#[test]
fn an_error_says_which_value_of_the_variant_is_not_in_json() {
    let mut builder = VariantBuilder::new();
    let mut object = builder.new_object();
    let mut lines = object.new_list("lines");
    lines.append_value(1_i8);
    lines.new_object().with_field("odd name", f64::NAN).finish();
    lines.finish();
    object.finish();
    let (metadata, value) = builder.finish();
    let reason = RowErrorReason::NotInJson { variant_type: "double that is not finite" };
    assert_eq!(encode(column(&metadata, &value)).1, [(0, "$.lines[1][\"odd name\"]".to_owned(), reason)]);
    assert_eq!(reason.to_string(), "a VARIANT is read from JSON, which has no double that is not finite");
    let refused = encode(column(&[1, 0, 0], &[0b11, 2, 0])).1;
    let bytes = "metadata x'010000', value x'030200'".to_owned();
    assert_eq!(refused, [(0, bytes, RowErrorReason::InvalidVariant)]);
}

#[test]
fn a_variant_is_no_key_of_a_map() {
    let key = data_type(DataType::Binary, DataType::Binary);
    let entry = vec![
        types::field("key", key, false, Some(types::VARIANT)),
        Field::new("value", DataType::Int32, true),
    ];
    let entries = Arc::new(Field::new("entries", DataType::Struct(entry.into()), false));
    let schema = Schema::new(vec![Field::new("m", DataType::Map(entries, false), true)]);
    let error = Plan::new(&schema, None, Policies::default()).unwrap_err();
    assert!(error.to_string().contains("cast the keys"), "{error}");
}

#[test]
fn variants_are_as_deep_as_they_may_be_and_share_no_bytes() {
    let (records, refused) = encode(column(&[1, 0, 0], &nested(129)));
    assert_eq!((text(records.record(0)).len(), refused.len()), (2 * 129, 0));
    for depth in [130, 100_000] {
        assert_eq!(encode(column(&[1, 0, 0], &nested(depth))).1[0].2, RowErrorReason::VariantTooDeep);
    }
    // Each object has two fields that are the same object: 2¹⁰⁰ values in a few bytes.
    let metadata = [1, 2, 0, 1, 2, b'a', b'b'];
    let shared = (0..100).fold(vec![0], |inner: Vec<u8>, _| {
        let end = u16::try_from(inner.len()).unwrap().to_le_bytes();
        [&[0b110, 2, 0, 1, 0, 0, 0, 0][..], &end, &inner].concat()
    });
    assert_eq!(encode(column(&metadata, &shared)).1[0].2, RowErrorReason::InvalidVariant);
}

#[test]
fn a_name_stands_once_in_an_object_whatever_the_order_of_the_names() {
    let metadata = [1, 2, 0, 1, 2, b'b', b'a'];
    // The ids, the offsets and the values of an object of two fields.
    let object = |ids: [u8; 2]| [&[0b10, 2][..], &ids, &[0, 1, 2, 1 << 2, 2 << 2]].concat();
    let sent = |value: &[u8]| text(encode(column(&metadata, value)).0.record(0)).to_owned();
    assert_eq!(sent(&object([1, 0])), r#"{"a":true,"b":false}"#);
    assert_eq!(sent(&object([0, 1])), r#"{"b":true,"a":false}"#);
    assert_eq!(encode(column(&metadata, &object([1, 1]))).1[0].2, RowErrorReason::InvalidVariant);
}

#[test]
fn a_null_is_no_variant_and_bytes_that_are_null_are_none() {
    let metadata = DictionaryArray::<Int8Type>::new(
        vec![0, 0, 0, 0].into(),
        Arc::new(BinaryArray::from(vec![&[1, 0, 0][..]])),
    );
    let value = BinaryViewArray::from(vec![Some(&[1 << 2][..]), None, None, Some(&[0])]);
    let fields = vec![
        Field::new("value", DataType::BinaryView, true),
        Field::new("metadata", metadata.data_type().clone(), false),
    ];
    let nulls = vec![true, false, true, true].into();
    let (records, refused) =
        encode(StructArray::new(fields.into(), vec![Arc::new(value), Arc::new(metadata)], Some(nulls)));
    assert_eq!(text(records.record(0)), "true");
    assert!(records.record(1).is_empty());
    assert_eq!(text(records.record(2)), "null");
    let bytes = "metadata x'010000', value null".to_owned();
    assert_eq!(refused, [(2, bytes, RowErrorReason::InvalidVariant)]);
}

proptest! {
    #![proptest_config(crate::config(20_000))]

    #[test]
    fn whatever_the_bytes_are_they_become_json_or_are_refused(mut choices in choices()) {
        let Sample { mut metadata, mut value, .. } = Sample::any(&mut choices);
        for bytes in [&mut metadata, &mut value] {
            for _ in 0..choices.below(4) {
                let at = choices.below(bytes.len() + 1);
                match bytes.get_mut(at) {
                    Some(byte) => *byte = choices.bits() as u8,
                    None => bytes.truncate(at / 2),
                }
            }
        }
        let (records, refused) = encode(column(&metadata, &value));
        prop_assert_eq!(records.len() + refused.len(), 1);
        if records.len() == 1 {
            let json = text(records.record(0));
            prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(json).is_ok(), "{}", json);
        }
    }
}
