//! The Arrow IPC messages that a body is made of, and the batch in them.
//!
//! A message is a marker, the length of its metadata, the metadata, and what they describe.

use std::collections::HashMap;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::{
    MessageHeader,
    convert::MessageBuffer,
    reader::{read_dictionary, read_record_batch},
};
use arrow_schema::{ArrowError, SchemaRef};

/// What stands before the metadata of a message: the continuation marker, and the length of the metadata.
pub(super) const PREFIX: usize = 8;
pub(super) const CONTINUATION: [u8; 4] = [0xff; 4];

/// How long the metadata are, by what stands before them.
pub(super) fn metadata_bytes(prefix: &[u8]) -> Option<usize> {
    let (marker, length) = prefix.split_at_checked(4)?;
    let length = i32::from_le_bytes(length.try_into().ok()?);
    // Nothing is the end of a stream.
    usize::try_from(length).ok().filter(|length| marker == CONTINUATION && *length > 0)
}

/// The batches of this schema in messages that follow each other without a gap. Their buffers are those of the messages
/// wherever the alignment allows.
///
/// A decoder of whole streams would read the schema's message again for each frame, which for a frame of a few rows is
/// most of the work.
pub(super) fn decode_messages(
    schema: &SchemaRef,
    mut messages: Buffer,
) -> Result<Vec<RecordBatch>, ArrowError> {
    let mut dictionaries = HashMap::new();
    let mut batches = Vec::with_capacity(1);
    while !messages.is_empty() {
        let metadata = messages.get(..PREFIX).and_then(metadata_bytes).ok_or_else(cut_off)?;
        let metadata = MessageBuffer::try_new(take(&mut messages, PREFIX, metadata)?)?;
        let message = metadata.as_ref();
        let length = usize::try_from(message.bodyLength()).map_err(|_| cut_off())?;
        let body = take(&mut messages, 0, length)?;
        if let Some(batch) = message.header_as_record_batch() {
            batches.push(read_record_batch(
                &body,
                batch,
                schema.clone(),
                &dictionaries,
                None,
                &message.version(),
            )?);
        } else if let Some(dictionary) = message.header_as_dictionary_batch() {
            read_dictionary(&body, dictionary, schema, &mut dictionaries, &message.version())?;
        } else if message.header_type() != MessageHeader::NONE {
            let kind = message.header_type();
            return Err(ArrowError::IpcError(format!("a message of kind {kind:?} stands among the batches")));
        }
    }
    Ok(batches)
}

/// So many bytes behind those that are skipped; the buffer begins behind them afterwards.
fn take(buffer: &mut Buffer, skipped: usize, length: usize) -> Result<Buffer, ArrowError> {
    let end = skipped.checked_add(length).filter(|end| *end <= buffer.len()).ok_or_else(cut_off)?;
    let taken = buffer.slice_with_length(skipped, length);
    buffer.advance(end);
    Ok(taken)
}

fn cut_off() -> ArrowError {
    ArrowError::IpcError("a message is cut off".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{DictionaryArray, Int64Array, types::Int32Type};
    use arrow_ipc::writer::{IpcWriteOptions, StreamEncoder};

    use super::*;

    fn batch() -> RecordBatch {
        let names: DictionaryArray<Int32Type> = [Some("a"), None, Some("b")].into_iter().collect();
        let ids = Int64Array::from(vec![Some(1), None, Some(3)]);
        RecordBatch::try_from_iter([("id", Arc::new(ids) as _), ("name", Arc::new(names) as _)]).unwrap()
    }

    /// The message of the schema, and those of the batch.
    fn messages(batch: &RecordBatch) -> (Buffer, Buffer) {
        let mut encoder =
            StreamEncoder::try_new_with_options(&batch.schema(), IpcWriteOptions::default()).unwrap();
        let all: Vec<u8> = encoder.encode(batch).unwrap().iter().flat_map(|buffer| buffer.to_vec()).collect();
        let all = Buffer::from(all);
        let schema = PREFIX + metadata_bytes(&all[..PREFIX]).unwrap();
        (all.slice_with_length(0, schema), all.slice(schema))
    }

    #[test]
    fn a_batch_with_its_dictionary_comes_out_as_it_went_in() {
        let batch = batch();
        let (_, body) = messages(&batch);
        assert_eq!(decode_messages(&batch.schema(), body).unwrap(), [batch]);
    }

    #[test]
    fn nothing_is_read_of_messages_that_are_cut_off_anywhere() {
        let batch = batch();
        let (_, body) = messages(&batch);
        assert!(decode_messages(&batch.schema(), body.slice_with_length(0, 0)).unwrap().is_empty());
        for length in 1..body.len() {
            let cut = decode_messages(&batch.schema(), body.slice_with_length(0, length));
            // The dictionary alone is whole too.
            assert!(cut.is_err() || cut.unwrap().is_empty(), "{length} bytes");
        }
    }

    #[test]
    fn a_schema_among_the_batches_is_refused() {
        let batch = batch();
        let (schema, _) = messages(&batch);
        let refused = decode_messages(&batch.schema(), schema).unwrap_err().to_string();
        assert!(refused.contains("Schema"), "{refused}");
    }

    #[test]
    fn an_end_of_the_stream_among_the_batches_is_refused() {
        let batch = batch();
        let (_, body) = messages(&batch);
        let ended: Vec<u8> = [&body[..], &CONTINUATION, &[0; 4]].concat();
        assert!(decode_messages(&batch.schema(), Buffer::from(ended)).is_err());
    }
}
