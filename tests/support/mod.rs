//! What several test programs need: Delta tables read back with another object store than the
//! emulator writes with.

use std::path::Path;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use delta_kernel::engine::arrow_data::EngineDataArrowExt as _;
use delta_kernel::object_store::local::LocalFileSystem;
use delta_kernel::snapshot::Snapshot;
use delta_kernel_default_engine::DefaultEngine;

/// All rows of the table in this directory; a batch without columns if it has no rows.
pub(crate) fn read_table(path: &Path) -> RecordBatch {
    let engine = Arc::new(DefaultEngine::builder(Arc::new(LocalFileSystem::new())).build());
    let url = url::Url::from_directory_path(path).unwrap();
    let scan = Snapshot::builder_for(url).build(engine.as_ref()).unwrap().scan_builder().build().unwrap();
    let batches: Vec<RecordBatch> =
        scan.execute(engine).unwrap().map(|data| data.unwrap().try_into_record_batch().unwrap()).collect();
    match batches.first() {
        Some(first) => concat_batches(&first.schema(), &batches).unwrap(),
        None => RecordBatch::new_empty(Arc::new(arrow_schema::Schema::empty())),
    }
}
