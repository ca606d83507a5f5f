//! Batches as Arrow IPC messages, and the schema message that goes before them.
//!
//! What only depends on the schema is done once for it: for batches of a few rows it would be most of the work.

use std::{cell::RefCell, fmt};

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::{
    MetadataVersion,
    writer::{IpcWriteOptions, StreamEncoder},
};
use arrow_schema::{ArrowError, DataType, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use super::format::{self, ALIGNMENT};
use super::messages::{PREFIX, metadata_bytes};

/// How many schemas each thread remembers.
const SCHEMAS_KEPT: usize = 4;

thread_local! {
    /// The schemas of the last batches, the newest at the end.
    static KEPT: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

/// Number that stands for an Arrow schema: the same in every process and on every machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SchemaFingerprint(pub u64);

impl SchemaFingerprint {
    /// FNV-1a over the schema message.
    fn of(message: &[u8]) -> SchemaFingerprint {
        SchemaFingerprint(message.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
        }))
    }
}

impl fmt::Display for SchemaFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// A schema as it stands in a log.
#[derive(Clone, Debug)]
pub(super) struct EncodedSchema {
    pub(super) message: Buffer,
    pub(super) checksum: u32,
    pub(super) fingerprint: SchemaFingerprint,
}

impl EncodedSchema {
    pub(super) fn new(message: Buffer) -> EncodedSchema {
        EncodedSchema {
            checksum: format::checksum(&message),
            fingerprint: SchemaFingerprint::of(&message),
            message,
        }
    }
}

/// What is remembered of a schema.
struct Kept {
    schema: SchemaRef,
    encoded: EncodedSchema,
    /// Has written the schema already.
    encoder: StreamEncoder,
}

/// The batch's schema, and the messages of its dictionaries and of the batch itself.
pub(super) fn encode(batch: &RecordBatch) -> Result<(EncodedSchema, Vec<Buffer>), ArrowError> {
    // Taken away while it is used: an encoder that fails does not come back.
    if let Some(mut kept) = take_kept(batch.schema_ref()) {
        let body = kept.encoder.encode(batch)?;
        let encoded = kept.encoded.clone();
        keep(kept);
        return Ok((encoded, body));
    }
    let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)?;
    let mut encoder = StreamEncoder::try_new_with_options(batch.schema_ref(), options)?;
    let buffers = encoder.encode(batch)?;
    let message = schema_message(&buffers)?;
    let body = without_first(buffers, message.len());
    let encoded = EncodedSchema::new(Buffer::from(message));
    if !has_dictionaries(batch.schema_ref()) {
        keep(Kept { schema: batch.schema(), encoded: encoded.clone(), encoder });
    }
    Ok((encoded, body))
}

fn take_kept(schema: &SchemaRef) -> Option<Kept> {
    KEPT.with_borrow_mut(|all| {
        let place = all.iter().rposition(|kept| kept.schema == *schema)?;
        Some(all.remove(place))
    })
}

fn keep(kept: Kept) {
    KEPT.with_borrow_mut(|all| {
        if all.len() == SCHEMAS_KEPT {
            all.remove(0);
        }
        all.push(kept);
    });
}

/// Whether the messages of a batch depend on those before it: an encoder writes a dictionary once, and each frame has its own.
fn has_dictionaries(schema: &Schema) -> bool {
    schema.flattened_fields().iter().any(|field| matches!(field.data_type(), DataType::Dictionary(_, _)))
}

/// The schema message: it comes first and says how long it is.
fn schema_message(buffers: &[Buffer]) -> Result<Vec<u8>, ArrowError> {
    let odd = || ArrowError::IpcError("the encoder wrote messages of an odd length".to_owned());
    let mut bytes = buffers.iter().flat_map(|buffer| buffer.iter().copied());
    let mut message: Vec<u8> = bytes.by_ref().take(PREFIX).collect();
    let metadata = metadata_bytes(&message).ok_or_else(odd)?;
    message.extend(bytes.take(metadata));
    let total: usize = buffers.iter().map(Buffer::len).sum();
    let aligned = message.len().is_multiple_of(ALIGNMENT) && total.is_multiple_of(ALIGNMENT);
    if message.len() != PREFIX + metadata || !aligned { Err(odd()) } else { Ok(message) }
}

/// The buffers without so many bytes at the beginning.
fn without_first(buffers: Vec<Buffer>, mut bytes: usize) -> Vec<Buffer> {
    let mut rest = Vec::with_capacity(buffers.len());
    for buffer in buffers {
        let skipped = bytes.min(buffer.len());
        bytes -= skipped;
        if skipped < buffer.len() {
            rest.push(buffer.slice(skipped));
        }
    }
    rest
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, sync::Arc, thread};

    use arrow_array::{
        Array, ArrayRef, DictionaryArray, Int32Array, Int64Array, ListArray, StringArray, types::Int32Type,
    };
    use arrow_buffer::OffsetBuffer;
    use arrow_schema::Field;

    use super::*;

    fn batch(field: Field, column: ArrayRef) -> RecordBatch {
        RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]).unwrap()
    }

    fn numbers(name: &str) -> RecordBatch {
        batch(Field::new(name, DataType::Int64, true), Arc::new(Int64Array::from(vec![Some(1), None])))
    }

    fn words(values: [&str; 3]) -> DictionaryArray<Int32Type> {
        values.into_iter().map(Some).collect()
    }

    fn listed(words: DictionaryArray<Int32Type>) -> RecordBatch {
        let item = Arc::new(Field::new("item", words.data_type().clone(), true));
        let list = ListArray::new(item, OffsetBuffer::from_lengths([1, 2]), Arc::new(words), None);
        batch(Field::new("lists", list.data_type().clone(), true), Arc::new(list))
    }

    /// Batches that differ from the one before in one thing.
    fn batches() -> Vec<RecordBatch> {
        let noted = |notes: &[(&str, &str)]| {
            let notes: HashMap<_, _> =
                notes.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            let field = Field::new("a", DataType::Int64, true).with_metadata(notes.clone());
            let batch = batch(field, Arc::new(Int64Array::from(vec![5])));
            let schema = batch.schema().as_ref().clone().with_metadata(notes);
            batch.with_schema(Arc::new(schema)).unwrap()
        };
        let dictionary = |values| {
            let words = words(values);
            batch(Field::new("a", words.data_type().clone(), true), Arc::new(words))
        };
        vec![
            numbers("a"),
            numbers("a").slice(1, 1),
            numbers("b"),
            batch(Field::new("b", DataType::Int64, false), Arc::new(Int64Array::from(vec![1, 2]))),
            batch(Field::new("b", DataType::Int32, false), Arc::new(Int32Array::from(vec![1, 2]))),
            batch(Field::new("b", DataType::Utf8, false), Arc::new(StringArray::from(vec!["x", "y"]))),
            noted(&[]),
            noted(&[("one", "1"), ("two", "2")]),
            noted(&[("one", "1"), ("two", "3")]),
            dictionary(["x", "y", "x"]),
            dictionary(["x", "y", "x"]),
            dictionary(["x", "y", "z"]),
            listed(words(["x", "y", "x"])),
            listed(words(["x", "y", "x"])),
        ]
    }

    fn encoded(batch: &RecordBatch) -> (SchemaFingerprint, Vec<u8>, Vec<u8>) {
        let (schema, body) = encode(batch).unwrap();
        assert_eq!(schema.fingerprint, SchemaFingerprint::of(&schema.message));
        assert_eq!(schema.checksum, format::checksum(&schema.message));
        (schema.fingerprint, schema.message.to_vec(), body.iter().flat_map(|it| it.iter().copied()).collect())
    }

    #[test]
    fn what_a_frame_holds_does_not_depend_on_the_batches_before_it() {
        let batches = batches();
        let alone =
            |batch: &RecordBatch| thread::scope(|scope| scope.spawn(|| encoded(batch)).join().unwrap());
        let alone: Vec<_> = batches.iter().map(alone).collect();
        // Each behind each, with the schema kept or not: seven of them have no dictionary.
        for step in 1..batches.len() {
            for index in (0..batches.len() * 3).map(|turn| turn * step % batches.len()) {
                assert_eq!(encoded(&batches[index]), alone[index], "batch {index} in steps of {step}");
            }
        }
    }
}
