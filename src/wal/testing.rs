//! Logs for tests of what uses them.

use std::path::Path;

use super::{Destination, Durability, LogDirectory, Wal, WalOptions};
use crate::{
    io::Env,
    types::{Epoch, Lsn},
};

/// The log of this directory, in segments of this length, and its epoch.
pub(crate) fn open(directory: &Path, segment_bytes: u64) -> (Wal, Epoch) {
    let destination = Destination {
        table: "main.default.events".parse().unwrap(),
        endpoint: "https://1.zerobus.eu-west-1.cloud.databricks.com".to_owned(),
        unity_catalog_url: None,
    };
    let locked = LogDirectory::open(&Env::os(), directory, &destination).unwrap();
    let epoch = locked.epoch();
    let options = WalOptions { segment_bytes, durability: Durability::Sync, spare_segments: 0 };
    (Wal::open(&Env::os(), locked, options, Lsn::ZERO).unwrap().0, epoch)
}
