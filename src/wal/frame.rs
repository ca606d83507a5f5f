//! What a frame carries: one Arrow batch as Arrow IPC messages.
//!
//! The body of a schema frame is the IPC schema message; the body of a batch frame is the batch's
//! dictionaries and its record batch message. The one followed by the other is a valid IPC stream,
//! so any Arrow implementation can read a log. The record batch message may name the trace of the batch (`context.rs`).

use std::panic;

use arrow_array::RecordBatch;
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_schema::{ArrowError, SchemaRef};
use bytes::Bytes;

use super::{
    FrameError,
    aligned::AlignedBuf,
    compact::compact,
    context::{context_of, with_context},
    encode::{EncodedSchema, SchemaFingerprint, encode},
    format::{BODY_MAX, FRAME_HEADER, FrameHeader, block_end},
    messages::decode_messages,
    pool::{self, Lent},
};
use crate::{io::BLOCK, telemetry::TraceContext, types::Lsn};

/// Frames from this length on stand in blocks of their own and are written from where they were encoded; shorter ones
/// are copied into the buffer of their group, where they share blocks.
pub(crate) const LARGE_BYTES_MIN: usize = 32 * 1024;
/// Bodies of Rust's own from this length on are copied into memory that is used again and again, which costs less than a
/// copy into new memory for each frame: by the caller up to the other length, if it is lent some; else they stay in the
/// batch's own memory until their group is written.
const SHARED_BYTES_MIN: usize = 512 * 1024;
const LENT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What becomes of the memory of a large batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// The frame shares it, which never changes in Rust.
    Shared,
    /// The frame has a copy.
    Copied,
}

/// A batch that is ready to be appended: encoded and checksummed on the caller's thread.
#[derive(Debug)]
pub struct PreparedFrame {
    pub(super) schema: EncodedSchema,
    pub(super) rows: u32,
    pub(super) body_length: u32,
    /// None of a shared body: it is read from memory once, when it is copied.
    body_checksum: Option<u32>,
    /// Space for the header and a copy of the body, aligned if the frame is large; empty if the body is shared.
    bytes: Lent,
    /// The body, where it is shared with the batch.
    pub(super) shared: Vec<Buffer>,
}

impl PreparedFrame {
    /// Encodes a batch. Only the rows of a slice are stored, not those of its parent. A large body may share the
    /// batch's buffers, which never change in Rust.
    ///
    /// # Errors
    ///
    /// [`FrameError::Encode`] if Arrow IPC cannot carry a type, [`FrameError::TooLarge`] from 4 GiB on.
    pub fn new(batch: &RecordBatch) -> Result<PreparedFrame, FrameError> {
        PreparedFrame::traced(batch, Sharing::Shared, None)
    }

    /// As [`PreparedFrame::new`], with a copy of everything: for batches whose memory is another language's, that
    /// may change it, or want it back on a thread of its own.
    ///
    /// # Errors
    ///
    /// As [`PreparedFrame::new`].
    pub fn copied(batch: &RecordBatch) -> Result<PreparedFrame, FrameError> {
        PreparedFrame::traced(batch, Sharing::Copied, None)
    }

    /// As the one or the other, and of this trace.
    pub(crate) fn traced(
        batch: &RecordBatch,
        sharing: Sharing,
        context: Option<&TraceContext>,
    ) -> Result<PreparedFrame, FrameError> {
        let shared_bytes_min = match sharing {
            Sharing::Shared => SHARED_BYTES_MIN,
            Sharing::Copied => usize::MAX,
        };
        PreparedFrame::encode(batch, shared_bytes_min, context)
    }

    fn encode(
        batch: &RecordBatch,
        shared_bytes_min: usize,
        context: Option<&TraceContext>,
    ) -> Result<PreparedFrame, FrameError> {
        let failed = |source| FrameError::Encode { source };
        let batch = compact(batch).map_err(failed)?;
        let (schema, body) = encode(&batch).map_err(failed)?;
        let body = match context {
            Some(context) => with_context(body, context).map_err(failed)?,
            None => body,
        };
        let bytes: u64 = body.iter().map(|buffer| buffer.len() as u64).sum();
        let too_large = FrameError::TooLarge { bytes, limit: BODY_MAX };
        let body_length = u32::try_from(bytes).ok().filter(|_| bytes <= BODY_MAX).ok_or(too_large)?;
        let rows = u32::try_from(batch.num_rows()).map_err(|_| FrameError::TooLarge {
            bytes: batch.num_rows() as u64,
            limit: u64::from(u32::MAX),
        })?;
        let mut bytes = match body_length as usize {
            length if length < shared_bytes_min => memory_for(length),
            length if length <= LENT_BYTES_MAX => pool::lend(block_end_of(length)),
            _ => pool::nothing().into(),
        };
        let (shared, body_checksum) = match bytes.capacity() {
            0 => (body, None),
            _ => {
                let checksum = join(&body, &mut bytes);
                (Vec::new(), Some(checksum))
            }
        };
        Ok(PreparedFrame { schema, rows, body_length, body_checksum, bytes, shared })
    }

    /// Memory for the header and the body of a frame that is not a large one; none if it would be.
    #[cfg(any(feature = "python", test))]
    pub(super) fn small_memory(body_bytes: usize) -> Option<AlignedBuf> {
        (!is_large(body_bytes)).then(|| AlignedBuf::with_capacity(FRAME_HEADER + body_bytes, 1))
    }

    /// A frame that is not a large one: space for its header, and its body with this checksum.
    #[cfg(any(feature = "python", test))]
    pub(super) fn small(schema: EncodedSchema, rows: u32, bytes: AlignedBuf, checksum: u32) -> PreparedFrame {
        let body_length = (bytes.len() - FRAME_HEADER) as u32;
        let (body_checksum, bytes, shared) = (Some(checksum), bytes.into(), Vec::new());
        PreparedFrame { schema, rows, body_length, body_checksum, bytes, shared }
    }

    /// The rows of the batch.
    pub fn rows(&self) -> u32 {
        self.rows
    }

    /// The bytes that the batch's frame has in the log.
    pub fn frame_bytes(&self) -> u64 {
        FRAME_HEADER as u64 + u64::from(self.body_length)
    }

    /// The bytes that the schema's frame has in the log.
    pub(super) fn schema_frame_bytes(&self) -> u64 {
        (FRAME_HEADER + self.schema.message.len()) as u64
    }

    /// Whether the frame stands in blocks of its own.
    pub(super) fn is_large(&self) -> bool {
        is_large(self.body_length as usize)
    }

    /// Whether the frame is written from its own memory, which is aligned as direct writes want it.
    pub(super) fn is_apart(&self) -> bool {
        self.is_large() && self.shared.is_empty()
    }

    /// Whether the body is so long that it is written while it is copied.
    pub(super) fn is_long(&self) -> bool {
        !self.shared.is_empty() && self.body_length as usize > LENT_BYTES_MAX
    }

    /// Puts header and body together, with this header but for the checksum of the body: where they are to be
    /// written from, or behind the others of the group. Returns the header.
    pub(super) fn complete(&mut self, header: FrameHeader, group: &mut AlignedBuf) -> FrameHeader {
        match self.body_checksum {
            Some(body_checksum) => {
                let header = FrameHeader { body_checksum, ..header };
                self.bytes.as_mut_slice()[..FRAME_HEADER].copy_from_slice(&header.encode());
                if !self.is_apart() {
                    group.extend(self.bytes.as_slice());
                }
                header
            }
            None => {
                let start = group.len();
                group.extend_zeros(FRAME_HEADER);
                let header = FrameHeader { body_checksum: group.extend_summed(&self.shared), ..header };
                group.as_mut_slice()[start..start + FRAME_HEADER].copy_from_slice(&header.encode());
                group.extend_zeros((block_end(header.end()) - header.end()) as usize);
                header
            }
        }
    }

    /// A frame apart: whole blocks, with zeros behind the body.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.as_slice()
    }
}

fn is_large(body_length: usize) -> bool {
    FRAME_HEADER + body_length >= LARGE_BYTES_MIN
}

#[cfg(feature = "sim")]
impl PreparedFrame {
    /// A frame of any bytes, padded as the format wants them: what a reader meets where only checksums vouch for
    /// what stands in a log.
    pub fn of_bytes(schema: &[u8], rows: u32, body: &[u8]) -> PreparedFrame {
        let padded = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            bytes.resize(bytes.len().next_multiple_of(super::format::ALIGNMENT), 0);
            Buffer::from(bytes)
        };
        let (schema, body) = (padded(schema), padded(body));
        let body_length = body.len();
        let mut bytes = memory_for(body_length);
        let body_checksum = join(&[body], &mut bytes);
        PreparedFrame {
            schema: EncodedSchema::new(schema),
            rows,
            body_length: body_length as u32,
            body_checksum: Some(body_checksum),
            bytes,
            shared: Vec::new(),
        }
    }
}

/// New memory for a header and a body of this length.
fn memory_for(body_bytes: usize) -> Lent {
    match is_large(body_bytes) {
        true => AlignedBuf::of_blocks(block_end_of(body_bytes)).into(),
        false => AlignedBuf::with_capacity(FRAME_HEADER + body_bytes, 1).into(),
    }
}

/// The whole blocks that a large frame takes.
fn block_end_of(body_bytes: usize) -> usize {
    (FRAME_HEADER + body_bytes).next_multiple_of(BLOCK)
}

/// Leaves space for a header, copies the body behind it, and returns its checksum.
fn join(body: &[Buffer], bytes: &mut AlignedBuf) -> u32 {
    bytes.extend_zeros(FRAME_HEADER);
    let checksum = bytes.extend_summed(body);
    let body_bytes = bytes.len() - FRAME_HEADER;
    if is_large(body_bytes) {
        bytes.fill_block();
    }
    checksum
}

/// The schema in a schema frame's body, whose checksum the caller has compared.
pub(super) fn decode_schema(fingerprint: SchemaFingerprint, body: Bytes) -> Result<SchemaRef, FrameError> {
    let (schema, _) = guarded(fingerprint, || decode_stream([Buffer::from(body), end_of_stream()]))?;
    Ok(schema)
}

/// What ends an IPC stream. Without it the decoder keeps the last message to itself if that has no
/// body.
pub(super) fn end_of_stream() -> Buffer {
    Buffer::from([0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0])
}

/// The schema and the batches of a whole IPC stream.
pub(super) fn decode_stream(
    parts: impl IntoIterator<Item = Buffer>,
) -> Result<(SchemaRef, Vec<RecordBatch>), ArrowError> {
    let mut decoder = StreamDecoder::new();
    let mut batches = Vec::new();
    for mut part in parts {
        while !part.is_empty() {
            batches.extend(decoder.decode(&mut part)?);
        }
    }
    decoder.finish()?;
    let schema = decoder.schema().ok_or_else(|| ArrowError::IpcError("no schema".to_owned()))?;
    Ok((schema, batches))
}

/// Runs Arrow's decoder over bytes that only a checksum vouches for.
///
/// Arrow panics on some messages that are well-formed but make no sense; whatever stands in the
/// directory, the reader of a log gets an error \[I14\].
pub(super) fn guarded<T>(
    fingerprint: SchemaFingerprint,
    decode: impl FnOnce() -> Result<T, ArrowError>,
) -> Result<T, FrameError> {
    let reason = match panic::catch_unwind(panic::AssertUnwindSafe(decode)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "arrow cannot make sense of it".to_owned(),
    };
    Err(FrameError::Decode { fingerprint, reason })
}

/// A batch as it stands in the log; both of its checksums were compared when it was read.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Frame {
    /// Its number.
    pub lsn: Lsn,
    /// The rows of the batch.
    pub rows: u32,
    /// When it was appended.
    pub appended_unix_micros: i64,
    /// The schema of the batch.
    pub schema: SchemaRef,
    /// What stands for the schema in the log.
    pub fingerprint: SchemaFingerprint,
    body: Bytes,
}

impl Frame {
    pub(super) fn new(header: &FrameHeader, schema: SchemaRef, body: Bytes) -> Frame {
        Frame {
            lsn: header.lsn,
            rows: header.rows,
            appended_unix_micros: header.appended_unix_micros,
            schema,
            fingerprint: SchemaFingerprint(header.fingerprint),
            body,
        }
    }

    /// The bytes that the frame has in the log.
    pub fn frame_bytes(&self) -> u64 {
        (FRAME_HEADER + self.body.len()) as u64
    }

    /// The trace that the batch belongs to, if its sender was in one. Bytes that are none are no error.
    pub fn context(&self) -> Option<TraceContext> {
        context_of(&self.body)
    }

    /// The batch. Its buffers are those of the frame wherever their alignment allows.
    ///
    /// # Errors
    ///
    /// [`FrameError::Decode`] if the body is no batch of the schema.
    pub fn decode(&self) -> Result<RecordBatch, FrameError> {
        let messages = Buffer::from(self.body.clone());
        let batches = guarded(self.fingerprint, || decode_messages(&self.schema, messages))?;
        match <[RecordBatch; 1]>::try_from(batches) {
            Ok([batch]) if batch.num_rows() == self.rows as usize => Ok(batch),
            _ => Err(FrameError::Decode {
                fingerprint: self.fingerprint,
                reason: "it holds something else than one batch of the rows that its header names".to_owned(),
            }),
        }
    }
}
