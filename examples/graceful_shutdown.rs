//! A service that is told to stop: no new rows, what can be delivered in time is, and the rest stays for the next start.
//!
//! ```text
//! cargo run --example graceful_shutdown     # with the environment of examples/quickstart.rs; Ctrl-C or SIGTERM ends it
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{ArrayRef, Int64Array, RecordBatch};
use arrow_zerobus_sdk_wrapper::{WrapperConfiguration, ZerobusWrapper};
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut configuration = WrapperConfiguration::from_env()?;
    // Less than what the one who stops us waits before it kills: 90 s with systemd, 30 s with Kubernetes.
    configuration.shutdown_timeout = Duration::from_secs(20);
    let wrapper = ZerobusWrapper::open(configuration)?;

    let mut terminate = signal(SignalKind::terminate())?;
    let stored = tokio::select! {
        _ = tokio::signal::ctrl_c() => None,
        _ = terminate.recv() => None,
        failed = produce(&wrapper) => Some(failed),
    };
    if let Some(failed) = stored {
        failed?;
    }

    wrapper.shutdown().await?;
    let rows = wrapper.status().rows;
    println!(
        "{} rows stored, {} delivered, {} wait for the next start",
        rows.stored, rows.delivered, rows.waiting
    );
    Ok(())
}

/// Stores a row now and then, for ever.
async fn produce(wrapper: &ZerobusWrapper) -> Result<(), Box<dyn Error>> {
    for id in 0.. {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![id]));
        wrapper.send_batch(RecordBatch::try_from_iter([("id", ids)])?).await?;
        println!("row {id} is stored");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
