//! Replays what waits in a log until it is done, or until somebody kills it; then says what became of it.

use std::error::Error;
use std::time::Duration;

use arrow_zerobus_sdk_wrapper::admin::replay::ReplayOptions;
use arrow_zerobus_sdk_wrapper::admin::{Progress, RowState, Selection, replay};
#[cfg(feature = "sim")]
use arrow_zerobus_sdk_wrapper::deaths;
use arrow_zerobus_sdk_wrapper::wal::Destination;
use arrow_zerobus_sdk_wrapper::{DeliveryGuarantee, WrapperConfiguration};
use chaos_tests::{ReplayOrders, configuration};

fn main() -> Result<(), Box<dyn Error>> {
    let orders = std::env::args().nth(1).ok_or("orders are missing")?;
    let orders: ReplayOrders = serde_json::from_str(&orders)?;
    #[cfg(feature = "sim")]
    if let Some((death, nth)) = orders.die_at {
        deaths::plan(deaths::Death::REPLAY[death], nth);
    }
    let configure = |_: &Destination| {
        let endpoint = configuration(&orders.endpoint, &orders.unity_catalog_url, &orders.root);
        let delivery = match orders.exactly_once {
            true => DeliveryGuarantee::ExactlyOnce,
            false => DeliveryGuarantee::AtLeastOnce,
        };
        WrapperConfiguration { delivery, ..endpoint }
    };
    let options = ReplayOptions {
        root: orders.root.clone(),
        selection: Selection::of([RowState::Waiting]),
        to_table: None,
        wal_dir: Some(orders.wal_dir.clone()),
        configure: &configure,
        rows_per_sec: None,
        execute: false,
        again: orders.again,
        timeout: Some(Duration::from_secs(120)),
    };
    println!("{}", serde_json::to_string(&replay(&options, &Progress::new())?)?);
    Ok(())
}
