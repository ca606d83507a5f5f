//! Many tasks share one wrapper; each keeps its own order, and those that send at the same time share a sync.
//!
//! ```text
//! cargo run --example many_producers        # with the environment of examples/quickstart.rs
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_zerobus_sdk_wrapper::error::{Coded, ErrorCode};
use arrow_zerobus_sdk_wrapper::{OnFull, WrapperConfiguration, ZerobusWrapper};
use tokio::task::JoinSet;

const PRODUCERS: i64 = 64;
const BATCHES: i64 = 50;
const ROWS: i64 = 10;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut configuration = WrapperConfiguration::from_env()?;
    configuration.on_full = OnFull::Reject;
    let wrapper = ZerobusWrapper::open(configuration)?;

    let mut producers = JoinSet::new();
    for producer in 0..PRODUCERS {
        // A clone is a handle of the same log.
        producers.spawn(produce(wrapper.clone(), producer));
    }
    while let Some(produced) = producers.join_next().await {
        produced?.map_err(|error| error.to_string())?;
    }

    wrapper.flush(Some(Duration::from_secs(60))).await?;
    let status = wrapper.status();
    println!("{} rows stored, {} delivered", status.rows.stored, status.rows.delivered);
    wrapper.shutdown().await?;
    Ok(())
}

async fn produce(wrapper: ZerobusWrapper, producer: i64) -> Result<(), Box<dyn Error + Send + Sync>> {
    for batch in 0..BATCHES {
        let first = (producer * BATCHES + batch) * ROWS;
        let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(first..first + ROWS));
        let mut unsent = Some(RecordBatch::try_from_iter([("id", ids)])?);
        while let Some(batch) = unsent.take() {
            let Err(error) = wrapper.send_batch(batch).await else { break };
            if error.code() != ErrorCode::BufferFull {
                return Err(error.into());
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            // What was not stored comes back with the error.
            unsent = error.into_batch();
        }
    }
    Ok(())
}
