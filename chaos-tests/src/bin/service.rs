//! An emulator that runs until somebody kills it.

use std::error::Error;
use std::io::{self, Write as _};
use std::time::Duration;

use arrow_zerobus_sdk_wrapper::emulator::{Emulator, EmulatorOptions};
use chaos_tests::{COLUMNS, ServiceOrders, TABLE};

fn main() -> Result<(), Box<dyn Error>> {
    let orders = std::env::args().nth(1).ok_or("orders are missing")?;
    let orders: ServiceOrders = serde_json::from_str(&orders)?;
    let mut options = EmulatorOptions::new(orders.data_dir);
    (options.port, options.http_port) = (orders.port, orders.http_port);
    options.commit_interval = Duration::from_millis(orders.commit_interval_ms);
    options.tables.push((TABLE.to_owned(), COLUMNS.to_owned()));
    let emulator = Emulator::start(options)?;
    for statement in &orders.sql {
        emulator.sql(statement)?;
    }
    let rules = orders.rules.into_iter().map(serde_json::from_value).collect::<Result<Vec<_>, _>>()?;
    emulator.faults().add(rules)?;
    io::stdout().lock().write_all(b"ready\n")?;
    loop {
        std::thread::park();
    }
}
