//! What of a frame somebody besides the log may keep: the batch as Arrow IPC messages.

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;

use super::encode::EncodedSchema;
use super::format::FRAME_HEADER;
use super::frame::{decode_stream, end_of_stream, guarded};
use super::{FrameError, PreparedFrame, SchemaFingerprint};

/// The batch of a frame, which owns what it holds or shares what never changes. Unlike the frame it can wait.
#[derive(Clone, Debug)]
pub(crate) struct FrameCopy {
    schema: EncodedSchema,
    body: Vec<Buffer>,
}

impl PreparedFrame {
    /// The batch of this frame. Its body is copied unless the frame shares it.
    pub(crate) fn copy(&self) -> FrameCopy {
        let body = match self.shared.is_empty() {
            true => {
                let end = FRAME_HEADER + self.body_length as usize;
                vec![Buffer::from(&self.bytes()[FRAME_HEADER..end])]
            }
            false => self.shared.clone(),
        };
        FrameCopy { schema: self.schema.clone(), body }
    }
}

impl FrameCopy {
    /// What stands for the schema.
    pub(crate) fn fingerprint(&self) -> SchemaFingerprint {
        self.schema.fingerprint
    }

    /// The schema as an IPC message, with which a stream begins.
    pub(crate) fn schema_message(&self) -> &[u8] {
        &self.schema.message
    }

    /// The batch as IPC messages, in pieces: dictionaries and rows, for a stream of this schema.
    pub(crate) fn body(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.body.iter().map(Buffer::as_slice)
    }

    /// What ends a stream.
    pub(crate) fn end_of_stream() -> Buffer {
        end_of_stream()
    }

    /// The batch.
    ///
    /// # Errors
    ///
    /// [`FrameError::Decode`] if Arrow cannot read what it has written.
    pub(crate) fn decode(&self) -> Result<RecordBatch, FrameError> {
        let EncodedSchema { message, fingerprint, .. } = self.schema.clone();
        let parts = [message].into_iter().chain(self.body.iter().cloned()).chain([end_of_stream()]);
        let (_, batches) = guarded(fingerprint, || decode_stream(parts))?;
        <[RecordBatch; 1]>::try_from(batches).map(|[batch]| batch).map_err(|batches| FrameError::Decode {
            fingerprint,
            reason: format!("it holds {} batches", batches.len()),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{DictionaryArray, Int64Array, types::Int32Type};

    use super::*;

    #[test]
    fn a_copy_is_the_batch_whether_its_memory_is_shared_or_not() {
        let words: DictionaryArray<Int32Type> = (0..500_000).map(|row| Some(["a", "b"][row % 2])).collect();
        let numbers = Int64Array::from_iter_values(0..500_000);
        let batch = RecordBatch::try_from_iter([
            ("words", Arc::new(words) as Arc<dyn arrow_array::Array>),
            ("numbers", Arc::new(numbers)),
        ]);
        let batch = batch.unwrap();
        for (batch, is_shared) in [(batch.clone(), true), (batch.slice(5, 10), false)] {
            for frame in [PreparedFrame::new(&batch).unwrap(), PreparedFrame::copied(&batch).unwrap()] {
                assert!(is_shared || frame.shared.is_empty());
                assert_eq!(frame.copy().decode().unwrap(), batch);
            }
        }
    }
}
