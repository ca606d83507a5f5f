//! Where the trace of a batch stands in its frame: as `traceparent` in the custom metadata of the record batch message.
//!
//! Any Arrow implementation reads such a frame as one without it; a frame without a context has the bytes that it always
//! had.

use arrow_buffer::Buffer;
use arrow_ipc::{
    BodyCompression, BodyCompressionArgs, KeyValue, KeyValueArgs, Message, MessageArgs, MessageHeader,
    RecordBatch, RecordBatchArgs, root_as_message,
};
use arrow_schema::ArrowError;
use flatbuffers::FlatBufferBuilder;

use super::format::ALIGNMENT;
use super::messages::{CONTINUATION, PREFIX, metadata_bytes};
use crate::telemetry::TraceContext;

/// The messages of a batch with this context in the last one, the record batch. Nothing but its metadata is written
/// anew.
pub(super) fn with_context(body: Vec<Buffer>, context: &TraceContext) -> Result<Vec<Buffer>, ArrowError> {
    let odd = || ArrowError::IpcError("the encoder wrote no record batch message".to_owned());
    let mut start = 0;
    loop {
        let prefix = bytes_at(&body, start, PREFIX).ok_or_else(odd)?;
        let length = metadata_bytes(&prefix).ok_or_else(odd)?;
        let metadata = bytes_at(&body, start + PREFIX, length).ok_or_else(odd)?;
        let message = root_as_message(&metadata).map_err(|error| ArrowError::IpcError(error.to_string()))?;
        if message.header_type() == MessageHeader::RecordBatch {
            let end = start + PREFIX + length;
            return Ok(replaced(
                body,
                start..end,
                Buffer::from(rewritten(&message, context).ok_or_else(odd)?),
            ));
        }
        start += PREFIX + length + usize::try_from(message.bodyLength()).map_err(|_| odd())?;
    }
}

/// The context in the body of a batch frame, if there is one. Whatever the bytes are, they have one or none.
pub(super) fn context_of(body: &[u8]) -> Option<TraceContext> {
    let mut rest = body;
    loop {
        let length = metadata_bytes(rest.get(..PREFIX)?)?;
        let metadata = rest.get(PREFIX..)?.get(..length)?;
        // Flatbuffers are read where their alignment is that of memory.
        let aligned = match metadata.as_ptr().align_offset(ALIGNMENT) {
            0 => None,
            _ => Some(Buffer::from(metadata)),
        };
        let message = root_as_message(aligned.as_deref().unwrap_or(metadata)).ok()?;
        if message.header_type() == MessageHeader::RecordBatch {
            let pairs = message.custom_metadata()?;
            let mut values = pairs.iter().filter(|pair| pair.key() == Some(TraceContext::KEY));
            return values.next()?.value().and_then(TraceContext::parse);
        }
        let passed = PREFIX + length;
        rest = rest.get(passed..)?.get(usize::try_from(message.bodyLength()).ok()?..)?;
    }
}

/// A copy of bytes that may lie in several buffers.
fn bytes_at(buffers: &[Buffer], start: usize, length: usize) -> Option<Buffer> {
    let mut bytes = Vec::with_capacity(length);
    let mut passed = 0;
    for buffer in buffers {
        let end = passed + buffer.len();
        let from = (start + bytes.len()).max(passed);
        if from < end && bytes.len() < length {
            let to = end.min(start + length);
            bytes.extend_from_slice(&buffer[from - passed..to - passed]);
        }
        passed = end;
    }
    // Copied once more, to where flatbuffers can be read.
    (bytes.len() == length).then(|| Buffer::from(bytes.as_slice()))
}

/// The buffers with other bytes in this range.
fn replaced(buffers: Vec<Buffer>, range: std::ops::Range<usize>, by: Buffer) -> Vec<Buffer> {
    let (mut before, mut after) = (Vec::with_capacity(buffers.len() + 1), Vec::new());
    let mut passed = 0;
    for buffer in buffers {
        let (start, end) = (passed, passed + buffer.len());
        if start < range.start {
            before.push(buffer.slice_with_length(0, buffer.len().min(range.start - start)));
        }
        if end > range.end {
            after.push(buffer.slice(range.end.saturating_sub(start)));
        }
        passed = end;
    }
    before.push(by);
    before.append(&mut after);
    before
}

/// The message with a context, in front of the body that it had: marker, length, metadata, padding.
fn rewritten(message: &Message<'_>, context: &TraceContext) -> Option<Vec<u8>> {
    let batch = message.header_as_record_batch()?;
    let mut builder = FlatBufferBuilder::new();
    let nodes: Vec<_> = batch.nodes()?.iter().copied().collect();
    let buffers: Vec<_> = batch.buffers()?.iter().copied().collect();
    let (nodes, buffers) = (builder.create_vector(&nodes), builder.create_vector(&buffers));
    let compression = batch.compression().map(|it| {
        let arguments = BodyCompressionArgs { codec: it.codec(), method: it.method() };
        BodyCompression::create(&mut builder, &arguments)
    });
    let counts = batch.variadicBufferCounts().map(|it| it.iter().collect::<Vec<i64>>());
    let arguments = RecordBatchArgs {
        length: batch.length(),
        nodes: Some(nodes),
        buffers: Some(buffers),
        compression,
        variadicBufferCounts: counts.map(|counts| builder.create_vector(&counts)),
    };
    let header = RecordBatch::create(&mut builder, &arguments);
    let key = Some(builder.create_string(TraceContext::KEY));
    let value = Some(builder.create_string(&context.to_string()));
    let pair = KeyValue::create(&mut builder, &KeyValueArgs { key, value });
    let arguments = MessageArgs {
        version: message.version(),
        header_type: MessageHeader::RecordBatch,
        header: Some(header.as_union_value()),
        bodyLength: message.bodyLength(),
        custom_metadata: Some(builder.create_vector(&[pair])),
    };
    let root = Message::create(&mut builder, &arguments);
    builder.finish(root, None);
    let metadata = builder.finished_data();
    let length = (PREFIX + metadata.len()).next_multiple_of(ALIGNMENT) - PREFIX;
    let mut bytes = Vec::with_capacity(PREFIX + length);
    bytes.extend_from_slice(&CONTINUATION);
    bytes.extend_from_slice(&i32::try_from(length).ok()?.to_le_bytes());
    bytes.extend_from_slice(metadata);
    bytes.resize(PREFIX + length, 0);
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::types::Int32Type;
    use arrow_array::{ArrayRef, DictionaryArray, Int64Array, NullArray, RecordBatch, StringViewArray};

    use super::super::frame::{PreparedFrame, Sharing};
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn batches() -> Vec<RecordBatch> {
        let of = |columns: Vec<(&str, ArrayRef)>| {
            RecordBatch::try_from_iter_with_nullable(
                columns.into_iter().map(|(name, column)| (name, column, true)),
            )
            .unwrap()
        };
        let words: DictionaryArray<Int32Type> = (0..100).map(|row| Some(["a", "bc"][row % 2])).collect();
        let views =
            StringViewArray::from_iter((0..100).map(|row| (row % 3 > 0).then(|| "long text ".repeat(row))));
        let none = arrow_array::RecordBatchOptions::new().with_row_count(Some(3));
        let empty = Arc::new(arrow_schema::Schema::empty());
        vec![
            of(vec![("id", Arc::new(Int64Array::from(vec![Some(1), None])))]),
            of(vec![
                ("words", Arc::new(words.clone())),
                ("views", Arc::new(views)),
                ("more", Arc::new(words)),
            ]),
            of(vec![("nothing", Arc::new(NullArray::new(7)))]),
            of(vec![("large", Arc::new(Int64Array::from_iter_values(0..200_000)))]),
            RecordBatch::try_new_with_options(empty, vec![], &none).unwrap(),
        ]
    }

    fn body(frame: &PreparedFrame) -> Vec<u8> {
        frame.copy().body().flatten().copied().collect()
    }

    #[test]
    fn a_frame_with_a_context_has_the_same_batch_and_says_which_context_that_is() {
        let context = TraceContext::parse(PARENT).unwrap();
        for batch in batches() {
            for sharing in [Sharing::Shared, Sharing::Copied] {
                let plain = PreparedFrame::traced(&batch, sharing, None).unwrap();
                let traced = PreparedFrame::traced(&batch, sharing, Some(&context)).unwrap();
                assert_eq!(traced.copy().decode().unwrap(), batch);
                assert_eq!(
                    traced.schema.fingerprint, plain.schema.fingerprint,
                    "the schema does not know of it"
                );
                assert_eq!(context_of(&body(&traced)), Some(context));
                assert_eq!(context_of(&body(&plain)), None);
                let more_bytes = traced.frame_bytes() - plain.frame_bytes();
                assert!(more_bytes.is_multiple_of(8) && more_bytes < 200, "{more_bytes}");
                assert_eq!(body(&plain), body(&PreparedFrame::new(&batch).unwrap()));
            }
        }
    }

    #[test]
    fn any_bytes_have_a_context_or_none_wherever_they_lie() {
        let context = TraceContext::parse(PARENT).unwrap();
        let traced = PreparedFrame::traced(&batches()[1], Sharing::Copied, Some(&context)).unwrap();
        let good = body(&traced);
        let moved: Vec<u8> = [0; 3].into_iter().chain(good.iter().copied()).collect();
        assert_eq!(context_of(&moved[3..]), Some(context));
        for end in 0..good.len() {
            let cut = context_of(&good[..end]);
            assert!(cut.is_none() || cut == Some(context), "{end}");
        }
        for at in 0..good.len().min(4096) {
            for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[at] = value;
                context_of(&bytes);
            }
        }
        let strange = good.windows(PARENT.len()).position(|it| it == PARENT.as_bytes()).unwrap();
        let mut bytes = good;
        bytes[strange] = b'x';
        assert_eq!(context_of(&bytes), None);
        assert_eq!(traced.copy().decode().unwrap(), batches()[1]);
    }
}
