//! Frames of small batches whose columns are plain buffers, without the arrays of Arrow in between.
//!
//! For a batch of a row most of the work is to make arrays of what another language has exported, and messages of those. The
//! metadata of all batches of a schema differ in a few numbers only, which stand in the same places; so they are copied from those of
//! one batch, and the numbers are put in. The frame has the same bytes as [`PreparedFrame::copied`] gives it.

use arrow_array::{RecordBatch, RecordBatchOptions, new_null_array};
use arrow_ipc::{Message, RecordBatch as Header, root_as_message};
use arrow_schema::{DataType, Field, Schema, SchemaRef};

use super::encode::{EncodedSchema, encode};
use super::format::{self, ALIGNMENT, FRAME_HEADER};
use super::frame::PreparedFrame;
use super::messages::PREFIX;

/// Where a column's first number stands in the list of nodes, or a buffer's in that of buffers: two numbers each.
const PAIR: usize = 2 * size_of::<i64>();
/// A column has so many buffers at most: which values are there, where texts end, and the values.
pub(crate) const BUFFERS_MAX: usize = 3;
/// With more columns there is more to do for a batch than this would save.
pub(crate) const COLUMNS_MAX: usize = 32;

/// A column as its exporter has it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FlatColumn<'a> {
    pub(crate) null_count: usize,
    /// As the format of Arrow wants them; the first is empty if no value is null.
    pub(crate) buffers: [&'a [u8]; BUFFERS_MAX],
    /// How many of them the type has.
    pub(crate) count: usize,
}

/// How many buffers a column of this type has; none if it is not plain.
pub(crate) fn flat_buffers(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::Utf8 | DataType::Binary => Some(3),
        other if other.is_primitive() => Some(2),
        _ => None,
    }
}

/// A schema of plain columns, and what all of its batches have in common.
#[derive(Debug)]
pub(crate) struct FlatSchema {
    encoded: EncodedSchema,
    /// The metadata of a batch, with what stands before them.
    metadata: Vec<u8>,
    rows_at: usize,
    body_bytes_at: usize,
    nodes_at: usize,
    buffers_at: usize,
}

impl FlatSchema {
    /// None if a column is not plain, there are too many, or Arrow IPC cannot carry the schema.
    pub(crate) fn new(schema: &SchemaRef) -> Option<FlatSchema> {
        let fields = schema.fields();
        if fields.len() > COLUMNS_MAX {
            return None;
        }
        let buffers: usize = fields.iter().map(|field| flat_buffers(field.data_type())).sum::<Option<_>>()?;
        let (encoded, _) = encode(&RecordBatch::new_empty(schema.clone())).ok()?;
        // A row, as what is zero does not stand in the metadata. Of nulls, whatever the schema says of them.
        let nullable = |field: &Field| field.clone().with_nullable(true);
        let of_nulls = Schema::new(fields.iter().map(|field| nullable(field)).collect::<Vec<_>>());
        let columns = fields.iter().map(|field| new_null_array(field.data_type(), 1)).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let batch = RecordBatch::try_new_with_options(of_nulls.into(), columns, &options).ok()?;
        let body: Vec<u8> = encode(&batch).ok()?.1.iter().flat_map(|part| part.as_slice()).copied().collect();
        let message = root_as_message(body.get(PREFIX..)?).ok()?;
        let header = message.header_as_record_batch()?;
        let place = |bytes: &[u8]| bytes.as_ptr().addr() - body.as_ptr().addr();
        let (nodes, places) = (header.nodes()?, header.buffers()?);
        if nodes.len() != fields.len() || places.len() != buffers || header.variadicBufferCounts().is_some() {
            return None;
        }
        let field_at = |table: &flatbuffers::Table<'_>, field| match table.vtable().get(field) {
            0 => None,
            offset => Some(PREFIX + table.loc() + usize::from(offset)),
        };
        Some(FlatSchema {
            rows_at: field_at(&header._tab, Header::VT_LENGTH)?,
            body_bytes_at: field_at(&message._tab, Message::VT_BODYLENGTH)?,
            nodes_at: place(nodes.bytes()),
            buffers_at: place(places.bytes()),
            metadata: body[..body.len() - usize::try_from(message.bodyLength()).ok()?].to_vec(),
            encoded,
        })
    }

    /// The frame of a batch of so many rows with these columns, one for each field, whose buffers are of the lengths and hold what
    /// their types promise.
    ///
    /// None if there is no row, or the frame would be a large one.
    pub(crate) fn frame(&self, rows: u32, columns: &[FlatColumn<'_>]) -> Option<PreparedFrame> {
        let buffers = || columns.iter().flat_map(|column| &column.buffers[..column.count]);
        let body_bytes: usize = buffers().map(|buffer| buffer.len().next_multiple_of(ALIGNMENT)).sum();
        let mut bytes = PreparedFrame::small_memory(self.metadata.len() + body_bytes).filter(|_| rows > 0)?;
        bytes.extend_zeros(FRAME_HEADER);
        bytes.extend(&self.metadata);
        self.write_numbers(&mut bytes.as_mut_slice()[FRAME_HEADER..], rows, body_bytes, columns);
        for buffer in buffers() {
            bytes.extend(buffer);
            bytes.extend_zeros(buffer.len().next_multiple_of(ALIGNMENT) - buffer.len());
        }
        let checksum = format::checksum(&bytes.as_slice()[FRAME_HEADER..]);
        Some(PreparedFrame::small(self.encoded.clone(), rows, bytes, checksum))
    }

    fn write_numbers(&self, metadata: &mut [u8], rows: u32, body_bytes: usize, columns: &[FlatColumn<'_>]) {
        let mut write = |at: usize, number: usize| {
            metadata[at..at + size_of::<i64>()].copy_from_slice(&(number as i64).to_le_bytes());
        };
        write(self.rows_at, rows as usize);
        write(self.body_bytes_at, body_bytes);
        let (mut buffer_at, mut offset) = (self.buffers_at, 0);
        for (index, column) in columns.iter().enumerate() {
            let node_at = self.nodes_at + index * PAIR;
            write(node_at, rows as usize);
            write(node_at + size_of::<i64>(), column.null_count);
            for buffer in &column.buffers[..column.count] {
                write(buffer_at, offset);
                write(buffer_at + size_of::<i64>(), buffer.len());
                offset += buffer.len().next_multiple_of(ALIGNMENT);
                buffer_at += PAIR;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Array as _, ArrayRef, BinaryArray, BooleanArray, Int64Array, StringArray, make_array};
    use arrow_buffer::{MutableBuffer, NullBuffer};
    use arrow_schema::{IntervalUnit, TimeUnit};

    use super::*;
    use crate::types::{Epoch, Lsn, SegmentId};
    use crate::wal::format::{FrameHeader, FrameKind};

    /// A number of every kind.
    fn numbers() -> Vec<DataType> {
        use DataType::*;
        vec![
            Int8,
            UInt16,
            Int32,
            UInt64,
            Float16,
            Float64,
            Date32,
            Time64(TimeUnit::Nanosecond),
            Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Duration(TimeUnit::Millisecond),
            Interval(IntervalUnit::MonthDayNano),
            Decimal128(38, 10),
            Decimal256(76, 0),
        ]
    }

    fn nulls(rows: usize, is_null: impl Fn(usize) -> bool) -> Option<NullBuffer> {
        Some(NullBuffer::from_iter((0..rows).map(|row| !is_null(row)))).filter(|nulls| nulls.null_count() > 0)
    }

    /// A column of numbers, and two of texts.
    fn batch(rows: usize, is_null: impl Fn(usize) -> bool + Copy) -> RecordBatch {
        let mut columns: Vec<(String, ArrayRef, bool)> = Vec::new();
        for data_type in numbers() {
            let bytes = rows * data_type.primitive_width().unwrap();
            let values = MutableBuffer::from_iter((0..bytes).map(|byte| byte as u8));
            let data = new_null_array(&data_type, rows).to_data().into_builder();
            let data = data.buffers(vec![values.into()]).nulls(nulls(rows, is_null));
            let column = make_array(data.build().unwrap());
            columns.push((data_type.to_string(), column, true));
        }
        let texts = (0..rows).map(|row| "ä".repeat(row % 5));
        let texts: StringArray =
            texts.enumerate().map(|(row, text)| (!is_null(row)).then_some(text)).collect();
        columns.push(("text".to_owned(), Arc::new(texts), true));
        let bytes = BinaryArray::from_iter_values((0..rows).map(|row| vec![row as u8; row % 3]));
        columns.push(("bytes".to_owned(), Arc::new(bytes), false));
        RecordBatch::try_from_iter_with_nullable(columns).unwrap()
    }

    fn flat(column: &ArrayRef) -> FlatColumn<'_> {
        // The buffers of an array live as long as it does, but `to_data` gives copies of the handles.
        let data = Box::leak(Box::new(column.to_data()));
        let mut flat = FlatColumn {
            null_count: data.null_count(),
            count: 1 + data.buffers().len(),
            buffers: [data.nulls().map_or(&[], NullBuffer::validity); BUFFERS_MAX],
        };
        for (buffer, target) in data.buffers().iter().zip(&mut flat.buffers[1..]) {
            *target = buffer.as_slice();
        }
        flat
    }

    /// A frame as it stands in a group.
    fn written(mut frame: PreparedFrame) -> (FrameHeader, Vec<u8>) {
        let header = FrameHeader {
            kind: FrameKind::Batch,
            body_length: frame.body_length,
            rows: frame.rows,
            lsn: Lsn::new(7),
            epoch: Epoch::new(3),
            segment: SegmentId::new(1),
            offset: 4096,
            fingerprint: frame.schema.fingerprint.0,
            appended_unix_micros: 1,
            durable: 0,
            body_checksum: 0,
        };
        let mut group = crate::wal::aligned::AlignedBuf::with_capacity(0, 1);
        let header = frame.complete(header, &mut group);
        (header, group.as_slice().to_vec())
    }

    #[test]
    fn a_frame_has_the_bytes_that_the_encoder_of_arrow_gives_it() {
        let whole = batch(100, |_| false);
        let flat_schema = FlatSchema::new(whole.schema_ref()).unwrap();
        let mut compared = 0;
        for rows in [1, 2, 7, 8, 9, 63, 64, 65, 100] {
            for every in [1, 2, 3, 1000] {
                let batch = batch(rows, |row| row % every == every - 1);
                assert_eq!(batch.schema(), whole.schema());
                let columns: Vec<FlatColumn<'_>> = batch.columns().iter().map(flat).collect();
                let frame = flat_schema.frame(rows as u32, &columns).unwrap();
                assert_eq!(frame.schema.message, PreparedFrame::copied(&batch).unwrap().schema.message);
                assert_eq!(written(frame), written(PreparedFrame::copied(&batch).unwrap()), "{rows} {every}");
                compared += 1;
            }
        }
        assert_eq!(compared, 36);
    }

    #[test]
    fn what_is_not_plain_or_empty_or_large_is_left_to_the_encoder() {
        let not_plain: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
        let not_plain = RecordBatch::try_from_iter([("flag", not_plain)]).unwrap();
        assert!(FlatSchema::new(not_plain.schema_ref()).is_none());
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..5000));
        let numbers = RecordBatch::try_from_iter([("a", numbers)]).unwrap();
        let schema = FlatSchema::new(numbers.schema_ref()).unwrap();
        assert!(schema.frame(5000, &[flat(numbers.column(0))]).is_none(), "it would be a large frame");
        let nothing = numbers.slice(0, 0);
        assert!(schema.frame(0, &[flat(nothing.column(0))]).is_none());
        assert!(schema.frame(3, &[flat(&make_array(numbers.slice(0, 3).column(0).to_data()))]).is_some());
    }
}
