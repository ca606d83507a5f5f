//! Stores a batch, and waits until it is in the table.
//!
//! ```text
//! export ZEROBUS_ENDPOINT=… ZEROBUS_TABLE_NAME=main.default.events UNITY_CATALOG_URL=…
//! export ZEROBUS_CLIENT_ID=… ZEROBUS_CLIENT_SECRET=… ARROW_ZEROBUS_WAL_DIR=/var/lib/my-program/wal
//! cargo run --example quickstart
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_zerobus_sdk_wrapper::{WrapperConfiguration, ZerobusWrapper};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let wrapper = ZerobusWrapper::open(WrapperConfiguration::from_env()?)?;
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let names: ArrayRef = Arc::new(StringArray::from(vec![Some("a"), Some("b"), None]));
    let batch = RecordBatch::try_from_iter([("id", ids), ("name", names)])?;

    let result = wrapper.send_batch(batch).await?;
    println!("stored on this machine as frame {:?}, {} bytes", result.lsn, result.batch_size_bytes);

    // There is no need to wait: the rows are delivered in any case, if need be by the next run.
    wrapper.flush(Some(Duration::from_secs(60))).await?;
    println!("delivered: {} rows", wrapper.status().rows.delivered);
    wrapper.shutdown().await?;
    Ok(())
}
