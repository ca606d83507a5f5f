//! A producer that announces what it does and sends until somebody kills it.

use std::error::Error;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

#[cfg(feature = "sim")]
use arrow_zerobus_sdk_wrapper::deaths;
use arrow_zerobus_sdk_wrapper::{DeliveryGuarantee, OnFull, Validate, ZerobusWrapper};
use chaos_tests::{Announcement, Orders, WINDOW_OF_SEVERAL, batch, configuration};

fn announce(announcement: Announcement) -> io::Result<()> {
    // One write per line, so that a kill leaves whole lines only.
    let mut line = serde_json::to_string(&announcement)?;
    line.push('\n');
    io::stdout().lock().write_all(line.as_bytes())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let orders = std::env::args().nth(1).ok_or("orders are missing")?;
    let orders: Orders = serde_json::from_str(&orders)?;
    let mut configuration = configuration(&orders.endpoint, &orders.unity_catalog_url, &orders.wal_dir);
    configuration.segment_bytes = orders.segment_bytes;
    configuration.request_max_bytes = orders.request_max_bytes;
    configuration.stream_max_age = Duration::from_secs(orders.stream_max_age_secs);
    configuration.streams = orders.streams;
    if orders.streams > 1 {
        configuration.max_inflight_requests = WINDOW_OF_SEVERAL;
    }
    if let Some(bytes) = orders.drop_at_bytes {
        configuration.wal_max_bytes = bytes;
        configuration.on_full = OnFull::DropOldest;
    }
    // A victim that is told more is also one that keeps little waiting, so that the rest comes to its turn.
    let is_patient = orders.exactly_once.is_some();
    let mut bad_ids = Vec::new();
    if let Some(orders) = orders.exactly_once {
        configuration.delivery = DeliveryGuarantee::ExactlyOnce;
        configuration.max_inflight_requests = orders.max_inflight_requests;
        configuration.validate = Validate::Off;
        bad_ids = orders.bad_ids;
        #[cfg(feature = "sim")]
        if let Some((death, nth)) = orders.die_at {
            deaths::plan(deaths::Death::ALL[death], nth);
        }
    }
    let bad_ids = Arc::new(bad_ids);
    let wrapper = ZerobusWrapper::open(configuration)?;
    announce(Announcement::Open)?;
    let next_id = Arc::new(AtomicI64::new(orders.first_id));
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..orders.senders {
        let (wrapper, next_id, rows) = (wrapper.clone(), Arc::clone(&next_id), orders.batch_rows);
        let bad_ids = Arc::clone(&bad_ids);
        senders.spawn(async move {
            loop {
                let first = next_id.fetch_add(rows, Ordering::Relaxed);
                announce(Announcement::Intent { first, rows }).map_err(|error| error.to_string())?;
                let batch = batch(first, rows, &bad_ids).map_err(|error| error.to_string())?;
                let stored = wrapper.send_batch(batch).await.map_err(|error| format!("{error:?}"))?;
                announce(Announcement::Acknowledged { first, rows }).map_err(|error| error.to_string())?;
                if let Some(lsn) = stored.lsn.filter(|lsn| is_patient && lsn.get() % 4 == 0) {
                    // That some of its rows are refused is told here, and intended.
                    let _ = wrapper.wait_delivered(lsn, None).await;
                }
            }
        });
    }
    // A sender ends only by an error; without one, the kill ends us all.
    let ended: Result<(), String> = senders.join_next().await.ok_or("no sender")??;
    Ok(ended?)
}
