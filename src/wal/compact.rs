//! What of a batch a frame leaves out: values that no row refers to.

use std::sync::Arc;

use arrow_array::{Array, ArrayRef, RecordBatch, cast::AsArray};
use arrow_buffer::Buffer;
use arrow_schema::{ArrowError, DataType};
use arrow_select::dictionary::garbage_collect_any_dictionary;

/// The batch without what IPC would write although no row refers to it: the rest of a dictionary,
/// and the rest of the buffers behind views.
pub(crate) fn compact(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let compacted = batch.columns().iter().map(compact_column).collect::<Result<Vec<_>, _>>()?;
    if compacted.iter().all(Option::is_none) {
        return Ok(batch.clone());
    }
    let columns = batch.columns().iter().zip(compacted);
    let columns =
        columns.map(|(column, compacted)| compacted.unwrap_or_else(|| Arc::clone(column))).collect();
    let options = arrow_array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(batch.schema(), columns, &options)
}

/// The column without them; none if there is nothing to leave out.
fn compact_column(column: &ArrayRef) -> Result<Option<ArrayRef>, ArrowError> {
    let wasteful =
        |buffers: &[Buffer], used: usize| buffers.iter().map(Buffer::len).sum::<usize>() > 2 * used;
    match column.data_type() {
        DataType::Utf8View => {
            let views = column.as_string_view();
            if wasteful(views.data_buffers(), views.total_buffer_bytes_used()) {
                return Ok(Some(Arc::new(views.gc())));
            }
        }
        DataType::BinaryView => {
            let views = column.as_binary_view();
            if wasteful(views.data_buffers(), views.total_buffer_bytes_used()) {
                return Ok(Some(Arc::new(views.gc())));
            }
        }
        DataType::Dictionary(_, _) => {
            let dictionary = column.as_any_dictionary();
            if dictionary.values().len() > column.len() {
                return garbage_collect_any_dictionary(dictionary).map(Some);
            }
        }
        _ => {}
    }
    Ok(None)
}
