//! Goal: a producer that is killed with SIGKILL at random moments loses no row that `send_batch` returned for.
//!
//! Method: a victim process announces each batch on a pipe before it sends it and after `send_batch` has
//! returned. This process keeps the announcements; it is the oracle and knows nothing of the log. It kills the
//! victim after a random time, from during its start to well under load, and starts it again with other
//! settings on the same log. At the end the log is drained and the Delta table read back: every
//! acknowledged row is there, every row has the content that follows from its id, no row is there that was
//! never announced. Rows that were announced and not acknowledged may be there or not.
//!
//! A second test lets the victims drop what waits longest: then a row that is not in the table is counted as dropped. A third
//! one kills victims with several streams while one stream is not acknowledged, and counts what lands twice.
//!
//! `CHAOS_SEED=n` repeats a run's choices, `CHAOS_KILLS=n` makes it longer.

#![cfg(feature = "emulator")]
#![expect(clippy::disallowed_methods, reason = "an oracle shares nothing with the log, its clock neither")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod oracle;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use arrow_zerobus_sdk_wrapper::ZerobusWrapper;
use arrow_zerobus_sdk_wrapper::admin;
use arrow_zerobus_sdk_wrapper::emulator::faults::{Fault, Rule};
use arrow_zerobus_sdk_wrapper::emulator::{Emulator, EmulatorOptions};
use chaos_tests::{COLUMNS, Orders, TABLE, WINDOW_OF_SEVERAL, configuration};
use oracle::{Oracle, number, start_victim};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const KILLS: u64 = 25;

/// Starts a victim, kills it after a while and hears what it said.
fn kill_one(orders: &Orders, after: Duration, oracle: &mut Oracle) {
    let (mut victim, listener) = start_victim(orders);
    std::thread::sleep(after);
    assert_eq!(victim.try_wait().unwrap(), None, "the victim ended by itself, with an error of its own");
    victim.kill().unwrap();
    victim.wait().unwrap();
    for announcement in listener.join().unwrap() {
        oracle.hear(announcement);
    }
}

/// How often each row landed; all of them as they were sent.
fn landed(emulator: Emulator) -> BTreeMap<i64, u64> {
    let table_path = emulator.table_path(&TABLE.parse().unwrap());
    emulator.stop().unwrap();
    oracle::landed(&table_path)
}

#[test]
fn no_acknowledged_row_is_lost_when_the_producer_is_killed() {
    let seed = number("CHAOS_SEED", std::process::id().into());
    let kills = number("CHAOS_KILLS", KILLS);
    println!("CHAOS_SEED={seed} CHAOS_KILLS={kills}");
    let mut random = StdRng::seed_from_u64(seed);
    let directory = tempfile::tempdir().unwrap();
    let wal_dir = directory.path().join("wal");
    let mut options = EmulatorOptions::new(directory.path().join("data"));
    options.commit_interval = Duration::from_millis(50);
    options.tables.push((TABLE.to_owned(), COLUMNS.to_owned()));
    let emulator = Emulator::start(options).unwrap();

    let mut oracle = Oracle::default();
    for _ in 0..kills {
        let orders = Orders {
            endpoint: emulator.endpoint().to_owned(),
            unity_catalog_url: emulator.unity_catalog_url().to_owned(),
            wal_dir: wal_dir.clone(),
            first_id: oracle.next_id(),
            senders: random.random_range(1..=8),
            batch_rows: random.random_range(1..=200),
            segment_bytes: (64 * 1024) << random.random_range(0..6),
            request_max_bytes: 4096 << random.random_range(0..8),
            stream_max_age_secs: random.random_range(1..=600),
            streams: random.random_range(1..=4),
            drop_at_bytes: None,
            exactly_once: None,
        };
        // One in five is killed while it starts.
        let longest = if random.random_ratio(1, 5) { 20 } else { 700 };
        kill_one(&orders, Duration::from_millis(random.random_range(0..longest)), &mut oracle);
    }

    let configuration = configuration(emulator.endpoint(), emulator.unity_catalog_url(), &wal_dir);
    let wrapper = ZerobusWrapper::open(configuration).unwrap();
    let runtime = wrapper.runtime();
    let deadline = Instant::now() + Duration::from_secs(120);
    runtime.block_on(wrapper.flush(Some(deadline - Instant::now()))).unwrap();
    let status = wrapper.status();
    assert_eq!((status.rows.waiting, status.damage.len()), (0, 0), "{status:#?}");
    runtime.block_on(wrapper.shutdown()).unwrap();
    let landed = landed(emulator);
    let lost: Vec<_> = oracle.acknowledged.iter().filter(|id| !landed.contains_key(id)).collect();
    let invented: Vec<_> = landed.keys().filter(|id| !oracle.intended.contains(id)).collect();
    let doubled = landed.values().filter(|times| **times > 1).count();
    println!(
        "{kills} kills ({} after the log was open): {} rows announced, {} acknowledged, {} landed, {} lost, \
         {} invented, {doubled} more than once",
        oracle.opened,
        oracle.intended.len(),
        oracle.acknowledged.len(),
        landed.len(),
        lost.len(),
        invented.len(),
    );
    assert!(!oracle.acknowledged.is_empty(), "nothing was acknowledged, so nothing was shown");
    assert_eq!(lost, Vec::<&i64>::new(), "acknowledged rows are lost; keep {}", directory.keep().display());
    assert_eq!(invented, Vec::<&i64>::new());
    assert_eq!(status.rows.stored, landed.len() as u64, "[I6] after {kills} crashes");
}

#[test]
fn of_a_producer_that_drops_and_is_killed_every_row_is_in_the_table_or_counted_as_dropped() {
    let seed = number("CHAOS_SEED", std::process::id().into());
    let kills = number("CHAOS_KILLS", KILLS / 2);
    println!("CHAOS_SEED={seed} CHAOS_KILLS={kills}");
    let mut random = StdRng::seed_from_u64(seed);
    let directory = tempfile::tempdir().unwrap();
    let wal_dir = directory.path().join("wal");
    let mut options = EmulatorOptions::new(directory.path().join("data"));
    // Slower than the victims, so that they drop while they deliver.
    options.commit_interval = Duration::from_millis(150);
    options.tables.push((TABLE.to_owned(), COLUMNS.to_owned()));
    let emulator = Emulator::start(options).unwrap();

    let mut oracle = Oracle::default();
    for _ in 0..kills {
        let orders = Orders {
            endpoint: emulator.endpoint().to_owned(),
            unity_catalog_url: emulator.unity_catalog_url().to_owned(),
            wal_dir: wal_dir.clone(),
            first_id: oracle.next_id(),
            senders: random.random_range(1..=8),
            batch_rows: random.random_range(50..=500),
            segment_bytes: (64 * 1024) << random.random_range(0..3),
            request_max_bytes: 4096 << random.random_range(2..6),
            stream_max_age_secs: random.random_range(1..=600),
            streams: random.random_range(1..=4),
            drop_at_bytes: Some(1 << 20),
            exactly_once: None,
        };
        kill_one(&orders, Duration::from_millis(random.random_range(0..1_000)), &mut oracle);
    }

    let configuration = configuration(emulator.endpoint(), emulator.unity_catalog_url(), &wal_dir);
    let wrapper = ZerobusWrapper::open(configuration).unwrap();
    let runtime = wrapper.runtime();
    runtime.block_on(wrapper.flush(Some(Duration::from_secs(120)))).unwrap();
    let status = wrapper.status();
    runtime.block_on(wrapper.shutdown()).unwrap();
    let landed = landed(emulator);
    let missing = oracle.acknowledged.iter().filter(|id| !landed.contains_key(id)).count() as u64;
    println!(
        "{kills} kills: {} rows announced, {} acknowledged, {} landed; {} were delivered and {} dropped of {} stored",
        oracle.intended.len(),
        oracle.acknowledged.len(),
        landed.len(),
        status.rows.delivered,
        status.rows.dropped,
        status.rows.stored,
    );
    assert_eq!((status.rows.waiting, status.damage.len()), (0, 0), "{status:#?}");
    assert!(status.rows.dropped > 0 && status.rows.delivered > 0, "nothing was shown: {status:#?}");
    assert!(landed.keys().all(|id| oracle.intended.contains(id)), "a row was invented");
    assert!(
        missing <= status.rows.dropped,
        "{missing} rows are missing, {} are dropped",
        status.rows.dropped
    );
    // [I6] However often it crashed, each stored row was counted, once.
    let stored = oracle.acknowledged.len() as u64..=oracle.intended.len() as u64;
    assert!(stored.contains(&status.rows.stored), "{} rows are counted, not {stored:?}", status.rows.stored);
    assert_eq!(status.rows.stored, status.rows.delivered + status.rows.dropped, "{status:#?}");
}

#[test]
fn of_a_producer_with_several_streams_that_is_killed_only_what_was_in_flight_lands_twice() {
    const KILLS: usize = 4;
    const REQUEST_BYTES: usize = 4096;
    /// Rows of consecutive ids that a request has at least, and at most.
    const ROWS_OF_REQUEST: (usize, usize) = (40, 80);
    let seed = number("CHAOS_SEED", std::process::id().into());
    println!("CHAOS_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let directory = tempfile::tempdir().unwrap();
    let wal_dir = directory.path().join("wal");
    let mut options = EmulatorOptions::new(directory.path().join("data"));
    options.commit_interval = Duration::from_millis(20);
    options.tables.push((TABLE.to_owned(), COLUMNS.to_owned()));
    let emulator = Emulator::start(options).unwrap();

    let mut oracle = Oracle::default();
    let (mut in_flight_max, mut ahead) = (0, 0);
    let writer_directory = wal_dir.join(TABLE).join("writer-001");
    for _ in 0..KILLS {
        let streams = random.random_range(2..=4);
        let orders = Orders {
            endpoint: emulator.endpoint().to_owned(),
            unity_catalog_url: emulator.unity_catalog_url().to_owned(),
            wal_dir: wal_dir.clone(),
            first_id: oracle.next_id(),
            senders: 1,
            batch_rows: random.random_range(20..=200),
            segment_bytes: 64 * 1024,
            request_max_bytes: REQUEST_BYTES,
            stream_max_age_secs: 600,
            streams,
            drop_at_bytes: None,
            exactly_once: None,
        };
        // The stream that is opened first acknowledges nothing. The others go as far ahead as they may.
        emulator.faults().clear();
        emulator.faults().add([Rule::new(Fault::WithholdAcks {}).times(1)]).unwrap();
        let delivered = || admin::status(&writer_directory).map_or(0, |status| status.rows.delivered);
        let delivered_before = delivered();
        let window = streams * WINDOW_OF_SEVERAL;
        let far = (2 * window * ROWS_OF_REQUEST.0) as u64;
        let (mut victim, listener) = start_victim(&orders);
        let deadline = Instant::now() + Duration::from_secs(60);
        // Until they are there: then the ledger has all that was acknowledged.
        let (mut last, mut looks) = (0, 0);
        while last < delivered_before + far || looks < 5 {
            assert_eq!(victim.try_wait().unwrap(), None, "the victim ended by itself");
            assert!(Instant::now() < deadline, "no rows go ahead of the stream that is not acknowledged");
            std::thread::sleep(Duration::from_millis(20));
            let now = delivered();
            (last, looks) = (now, if now == last { looks + 1 } else { 0 });
        }
        victim.kill().unwrap();
        victim.wait().unwrap();
        listener.join().unwrap().into_iter().for_each(|announcement| oracle.hear(announcement));
        let left = admin::status(&writer_directory).unwrap();
        ahead += left.rows.delivered - delivered_before;
        in_flight_max += window * ROWS_OF_REQUEST.1;
    }

    emulator.faults().clear();
    let mut last = configuration(emulator.endpoint(), emulator.unity_catalog_url(), &wal_dir);
    last.streams = random.random_range(1..=4);
    let wrapper = ZerobusWrapper::open(last).unwrap();
    let runtime = wrapper.runtime();
    runtime.block_on(wrapper.flush(Some(Duration::from_secs(120)))).unwrap();
    let status = wrapper.status();
    runtime.block_on(wrapper.shutdown()).unwrap();
    let landed = landed(emulator);
    let doubled: u64 = landed.values().map(|times| times - 1).sum();
    println!("{KILLS} kills: {ahead} rows were delivered before them, {doubled} landed twice");
    assert!(oracle.acknowledged.iter().all(|id| landed.contains_key(id)), "an acknowledged row is lost");
    assert!(landed.keys().all(|id| oracle.intended.contains(id)), "a row was invented");
    assert_eq!((status.rows.stored, status.rows.waiting), (landed.len() as u64, 0), "[I6]");
    assert!(doubled > 0, "nothing was in flight, so nothing was shown");
    assert!(doubled <= in_flight_max as u64, "{doubled} rows landed twice, {in_flight_max} were in flight");
}
