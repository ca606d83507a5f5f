//! Batches for the benchmark of the conversion, and the same done by a library that knows protobuf but not Arrow.

use std::{collections::HashMap, ops::Range, sync::Arc};

use arrow_array::{
    Array, ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, ListArray,
    MapArray, RecordBatch, StringArray, StructArray, TimestampMicrosecondArray, cast::AsArray, types,
};
use arrow_buffer::OffsetBuffer;
use arrow_schema::{DataType, Field, Fields, TimeUnit};
use prost_reflect::prost::Message as _;
use prost_reflect::prost_types::{DescriptorProto, FileDescriptorProto};
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, MapKey, MessageDescriptor, Value};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::Result;

/// Text of ASCII letters.
fn text(rng: &mut StdRng, length: usize) -> String {
    (0..length).map(|_| char::from(rng.random_range(b'a'..=b'z'))).collect()
}

/// Readings of a device, five columns without nulls; the records have this many bytes on average.
///
/// # Errors
///
/// When Arrow refuses the columns.
pub fn readings(rows: usize, record_bytes: usize) -> Result<RecordBatch> {
    /// What all but the payload takes: the keys, an id of five bytes, an instant of eight, a device and a float.
    const OTHERS_BYTES: usize = 6 + 9 + 18 + 9;
    let payload_header = if record_bytes > 200 { 3 } else { 2 };
    let payload = record_bytes - OTHERS_BYTES - payload_header;
    // Of many lengths, as real ones are; both bounds are as far from the mean.
    let lengths = payload - payload / 3..=payload + payload / 3;
    let mut rng = StdRng::seed_from_u64(record_bytes as u64);
    let devices: Vec<String> = (0..50).map(|_| text(&mut rng, 16)).collect();
    let payloads: Vec<String> = (0..rows)
        .map(|_| {
            let length = rng.random_range(lengths.clone());
            text(&mut rng, length)
        })
        .collect();
    let first_id = 1 << 30;
    let instants = (0..rows).map(|row| 1_760_000_000_000_000 + row as i64 * 1_000_003);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from_iter_values((0..rows).map(|row| first_id + row as i64)))),
        ("ts", Arc::new(TimestampMicrosecondArray::from_iter_values(instants).with_timezone("UTC"))),
        ("device", Arc::new(StringArray::from_iter_values((0..rows).map(|row| &devices[row * 7 % 50])))),
        ("value", Arc::new(Float64Array::from_iter_values((0..rows).map(|_| rng.random::<f64>())))),
        ("payload", Arc::new(StringArray::from(payloads))),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// Fifty columns of numbers and flags; a tenth of the cells is null.
///
/// # Errors
///
/// When Arrow refuses the columns.
pub fn wide(rows: usize) -> Result<RecordBatch> {
    let mut rng = StdRng::seed_from_u64(50);
    let mut cells = |value: &mut dyn FnMut(&mut StdRng) -> i64| -> Vec<Option<i64>> {
        (0..rows).map(|_| if rng.random_bool(0.1) { None } else { Some(value(&mut rng)) }).collect()
    };
    let mut columns = Vec::with_capacity(50);
    for number in 0..50 {
        let array: ArrayRef = match number % 4 {
            0 => Arc::new(
                cells(&mut |rng| rng.random_range(0..1_000_000))
                    .into_iter()
                    .map(|cell| cell.map(|cell| cell as i32))
                    .collect::<Int32Array>(),
            ),
            1 => Arc::new(Int64Array::from(cells(&mut |rng| rng.random_range(0..1 << 40)))),
            2 => Arc::new(
                cells(&mut |rng| rng.random_range(0..1_000_000))
                    .into_iter()
                    .map(|cell| cell.map(|cell| cell as f64 / 1e3))
                    .collect::<Float64Array>(),
            ),
            _ => Arc::new(
                cells(&mut |rng| rng.random_range(0..2))
                    .into_iter()
                    .map(|cell| cell.map(|cell| cell == 1))
                    .collect::<BooleanArray>(),
            ),
        };
        columns.push((format!("column_{number}"), array));
    }
    Ok(RecordBatch::try_from_iter_with_nullable(
        columns.into_iter().map(|(name, array)| (name, array, true)),
    )?)
}

/// Orders: a list of structs, a map and a dictionary.
///
/// # Errors
///
/// When Arrow refuses the columns.
pub fn nested(rows: usize) -> Result<RecordBatch> {
    let mut rng = StdRng::seed_from_u64(3);
    let lengths: Vec<usize> = (0..rows).map(|_| rng.random_range(1..=5)).collect();
    let offsets = OffsetBuffer::from_lengths(lengths);
    let elements = offsets.last().map_or(0, |last| *last as usize);
    let items: Vec<String> = (0..elements).map(|_| text(&mut rng, 12)).collect();
    let counts: Vec<i64> = (0..elements).map(|_| rng.random_range(1..100)).collect();
    let prices: Vec<f64> = (0..elements).map(|_| rng.random()).collect();
    let line = StructArray::from(vec![
        (Arc::new(Field::new("item", DataType::Utf8, false)), Arc::new(StringArray::from(items)) as ArrayRef),
        (
            Arc::new(Field::new("count", DataType::Int64, false)),
            Arc::new(Int64Array::from(counts)) as ArrayRef,
        ),
        (
            Arc::new(Field::new("price", DataType::Float64, false)),
            Arc::new(Float64Array::from(prices)) as ArrayRef,
        ),
    ]);
    let element = Arc::new(Field::new("element", line.data_type().clone(), false));
    let lines = ListArray::try_new(element, offsets, Arc::new(line), None)?;

    let names: Vec<String> = (0..20).map(|_| text(&mut rng, 8)).collect();
    let lengths: Vec<usize> = (0..rows).map(|_| rng.random_range(1..=5)).collect();
    let keys: Vec<&str> = lengths
        .iter()
        .enumerate()
        .flat_map(|(row, length)| names.iter().cycle().skip(row % 20).take(*length))
        .map(String::as_str)
        .collect();
    let values: Vec<i64> = keys.iter().map(|_| rng.random_range(0..1 << 20)).collect();
    let fields = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Int64, false),
    ]);
    let pairs: Vec<ArrayRef> = vec![Arc::new(StringArray::from(keys)), Arc::new(Int64Array::from(values))];
    let entries = StructArray::try_new(fields, pairs, None)?;
    let entry = Arc::new(Field::new("entries", entries.data_type().clone(), false));
    let attributes = MapArray::try_new(entry, OffsetBuffer::from_lengths(lengths), entries, None, false)?;

    let states = ["ordered", "paid", "packed", "shipped", "delivered", "returned"];
    let states: DictionaryArray<types::Int32Type> = (0..rows).map(|row| states[row * 5 % 6]).collect();
    let columns: Vec<(&str, ArrayRef)> =
        vec![("lines", Arc::new(lines)), ("attributes", Arc::new(attributes)), ("state", Arc::new(states))];
    Ok(RecordBatch::try_from_iter(columns)?)
}

/// Encodes rows through `prost-reflect`, as a program would that has a descriptor and no converter: a message is
/// made of each row, field by field, and encoded.
pub struct Reflected<'a> {
    message: MessageDescriptor,
    fields: Vec<(FieldDescriptor, Cells<'a>)>,
}

/// The value of each row of a column; none where it is null.
type Cells<'a> = Box<dyn Fn(usize) -> Option<Value> + 'a>;

impl<'a> Reflected<'a> {
    /// For the columns of the batch, in their order.
    ///
    /// # Errors
    ///
    /// When the descriptor makes no sense, or there is a type that no case of the benchmark has.
    pub fn new(descriptor: &DescriptorProto, batch: &'a RecordBatch) -> Result<Reflected<'a>> {
        let file = FileDescriptorProto {
            name: Some("record.proto".to_owned()),
            message_type: vec![descriptor.clone()],
            ..Default::default()
        };
        let mut pool = DescriptorPool::new();
        pool.add_file_descriptor_proto(file)?;
        let message = pool.get_message_by_name(descriptor.name()).ok_or("the message is not in its file")?;
        let fields = fields(&message, batch.columns())?;
        Ok(Reflected { message, fields })
    }

    /// The record of each row, in memory of its own.
    pub fn encode(&self, rows: Range<usize>) -> Vec<Vec<u8>> {
        rows.map(|row| dynamic(&self.message, &self.fields, row).encode_to_vec()).collect()
    }
}

fn fields<'a>(
    message: &MessageDescriptor,
    columns: &'a [ArrayRef],
) -> Result<Vec<(FieldDescriptor, Cells<'a>)>> {
    let mut fields: Vec<FieldDescriptor> = message.fields().collect();
    fields.sort_by_key(FieldDescriptor::number);
    fields.into_iter().zip(columns).map(|(field, array)| Ok((field.clone(), cells(&field, array)?))).collect()
}

fn dynamic(
    message: &MessageDescriptor,
    fields: &[(FieldDescriptor, Cells<'_>)],
    row: usize,
) -> DynamicMessage {
    let mut dynamic = DynamicMessage::new(message.clone());
    for (field, cells) in fields {
        if let Some(value) = cells(row) {
            dynamic.set_field(field, value);
        }
    }
    dynamic
}

fn cells<'a>(field: &FieldDescriptor, array: &'a ArrayRef) -> Result<Cells<'a>> {
    fn valid<'a>(array: &'a ArrayRef, value: impl Fn(usize) -> Value + 'a) -> Cells<'a> {
        Box::new(move |row| array.is_valid(row).then(|| value(row)))
    }
    let message = || field.kind().as_message().cloned().ok_or("the field is no message");
    Ok(match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean();
            valid(array, |row| Value::Bool(values.value(row)))
        }
        DataType::Int32 => {
            let values = array.as_primitive::<types::Int32Type>();
            valid(array, |row| Value::I32(values.value(row)))
        }
        DataType::Int64 => {
            let values = array.as_primitive::<types::Int64Type>();
            valid(array, |row| Value::I64(values.value(row)))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let values = array.as_primitive::<types::TimestampMicrosecondType>();
            valid(array, |row| Value::I64(values.value(row)))
        }
        DataType::Float64 => {
            let values = array.as_primitive::<types::Float64Type>();
            valid(array, |row| Value::F64(values.value(row)))
        }
        DataType::Utf8 => {
            let values = array.as_string::<i32>();
            valid(array, |row| Value::String(values.value(row).to_owned()))
        }
        DataType::Dictionary(..) => {
            let keys = array.as_dictionary::<types::Int32Type>();
            let values = keys.values().as_string::<i32>();
            valid(array, |row| Value::String(values.value(keys.keys().value(row) as usize).to_owned()))
        }
        DataType::List(_) => {
            let (lists, message) = (array.as_list::<i32>(), message()?);
            let fields = fields(&message, lists.values().as_struct().columns())?;
            let range = |row| lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize;
            valid(array, move |row| {
                Value::List(range(row).map(|at| Value::Message(dynamic(&message, &fields, at))).collect())
            })
        }
        DataType::Map(..) => {
            let maps = array.as_map();
            let (keys, values) =
                (maps.keys().as_string::<i32>(), maps.values().as_primitive::<types::Int64Type>());
            valid(array, move |row| {
                let entries = maps.value_offsets()[row] as usize..maps.value_offsets()[row + 1] as usize;
                let entry = |at| (MapKey::String(keys.value(at).to_owned()), Value::I64(values.value(at)));
                Value::Map(entries.map(entry).collect::<HashMap<_, _>>())
            })
        }
        other => return Err(format!("no case of the benchmark has a column of {other}").into()),
    })
}
