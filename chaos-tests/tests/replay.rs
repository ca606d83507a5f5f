//! Replays that are killed at every moment of theirs, and at random: each is run again until it is done, and then each row
//! has landed once for each replay.
//!
//! The log has rows that wait, and nobody delivers them but the replays. `CHAOS_SEED=n CHAOS_KILLS=m` repeats a run.

#![expect(clippy::disallowed_methods, reason = "a test looks at files and the clock as anybody would")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::cast::AsArray as _;
use arrow_array::types::Int64Type;
use arrow_zerobus_sdk_wrapper::ZerobusWrapper;
use arrow_zerobus_sdk_wrapper::deaths::Death;
use arrow_zerobus_sdk_wrapper::emulator::{Emulator, EmulatorOptions};
use chaos_tests::{COLUMNS, ReplayOrders, TABLE, batch, configuration};
use delta_kernel::engine::arrow_data::EngineDataArrowExt as _;
use delta_kernel::object_store::local::LocalFileSystem;
use delta_kernel::snapshot::Snapshot;
use delta_kernel_default_engine::DefaultEngine;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const KILLS: u64 = 24;
const FRAMES: i64 = 300;
const ROWS: i64 = 5;
const PATIENCE: Duration = Duration::from_secs(120);

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// How often each row landed.
fn landed(path: &Path) -> BTreeMap<i64, u64> {
    let engine = Arc::new(DefaultEngine::builder(Arc::new(LocalFileSystem::new())).build());
    let url = url::Url::from_directory_path(path).unwrap();
    let scan = Snapshot::builder_for(url).build(engine.as_ref()).unwrap().scan_builder().build().unwrap();
    let mut landed = BTreeMap::new();
    for data in scan.execute(engine).unwrap() {
        let batch = data.unwrap().try_into_record_batch().unwrap();
        for id in batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().values() {
            *landed.entry(*id).or_default() += 1;
        }
    }
    landed
}

fn start(orders: &ReplayOrders) -> Child {
    Command::new(env!("CARGO_BIN_EXE_replayer"))
        .arg(serde_json::to_string(orders).unwrap())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for the end of a replayer, which is killed after so long if that is wished.
fn end(mut replayer: Child, kill_after: Option<Duration>) -> Output {
    let started = Instant::now();
    while replayer.try_wait().unwrap().is_none() {
        assert!(started.elapsed() < PATIENCE, "a replay does not end");
        if kill_after.is_some_and(|after| started.elapsed() > after) {
            // It may have ended by itself.
            let _ = replayer.kill();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    replayer.wait_with_output().unwrap()
}

/// How many replays are done, by their records.
fn done(wal_dir: &Path) -> u64 {
    let entries = std::fs::read_dir(wal_dir.join(TABLE)).into_iter().flatten();
    let is_done = |path: &Path| {
        let record = std::fs::read(path.join("replay.json")).unwrap_or_default();
        serde_json::from_slice::<serde_json::Value>(&record).is_ok_and(|record| !record["finished"].is_null())
    };
    entries.filter(|entry| is_done(&entry.as_ref().unwrap().path())).count() as u64
}

fn killed_replays_land_each_row(exactly_once: bool) {
    let seed = number("CHAOS_SEED", std::process::id().into());
    let kills = number("CHAOS_KILLS", KILLS);
    println!("CHAOS_SEED={seed} CHAOS_KILLS={kills}");
    let mut random = StdRng::seed_from_u64(seed);
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("wal");
    // Nobody listens there.
    let mut offline = configuration("http://127.0.0.1:9", "http://127.0.0.1:9", &root);
    offline.shutdown_timeout = Duration::ZERO;
    let wrapper = ZerobusWrapper::open(offline).unwrap();
    let runtime = wrapper.runtime();
    for frame in 0..FRAMES {
        runtime.block_on(wrapper.send_batch(batch(frame * ROWS, ROWS, &[], None).unwrap())).unwrap();
    }
    runtime.block_on(wrapper.shutdown()).unwrap();
    drop(wrapper);

    let mut options = EmulatorOptions::new(directory.path().join("data"));
    options.commit_interval = Duration::from_millis(10);
    options.tables.push((TABLE.to_owned(), COLUMNS.to_owned()));
    let emulator = Emulator::start(options).unwrap();
    let wal_dir = directory.path().join("replays");
    let mut orders = ReplayOrders {
        root,
        wal_dir: wal_dir.clone(),
        endpoint: emulator.endpoint().to_owned(),
        unity_catalog_url: emulator.unity_catalog_url().to_owned(),
        exactly_once,
        again: true,
        die_at: None,
    };
    let mut died_at = [0_u64; Death::REPLAY.len()];
    let mut random_kills = 0;
    for kill in 0..kills {
        let death = (kill % 4) as usize;
        orders.die_at = (death < died_at.len()).then(|| {
            let nth = match Death::REPLAY[death] {
                Death::ReplayNoted => random.random_range(1..=2),
                Death::ReplayAppended => random.random_range(1..=100),
                _ => 1,
            };
            (death, nth)
        });
        let kill_after = orders.die_at.is_none().then(|| Duration::from_millis(random.random_range(0..400)));
        let ended = end(start(&orders), kill_after);
        let was_killed = std::os::unix::process::ExitStatusExt::signal(&ended.status) == Some(9);
        assert!(was_killed || ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        match orders.die_at.filter(|_| was_killed) {
            Some((death, _)) => died_at[death] += 1,
            None if was_killed => random_kills += 1,
            None => {}
        }
    }
    (orders.die_at, orders.again) = (None, done(&wal_dir) == 0);
    let ended = end(start(&orders), None);
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    emulator.stop().unwrap();

    let rounds = done(&wal_dir);
    let landed = landed(&directory.path().join("data").join(TABLE.replace('.', "/")));
    let moments: Vec<String> =
        Death::REPLAY.iter().zip(died_at).map(|(death, times)| format!("{death:?} {times}")).collect();
    let more: u64 = landed.values().map(|times| times.saturating_sub(rounds)).sum();
    println!(
        "{rounds} replays of {} rows, killed {random_kills} times at random, {}; {more} rows more than once each",
        FRAMES * ROWS,
        moments.join(", ")
    );
    assert!(rounds > 0);
    assert!(died_at.iter().all(|times| *times > 0), "each moment is met: {died_at:?}");
    let ids: Vec<i64> = landed.keys().copied().collect();
    assert_eq!(ids, (0..FRAMES * ROWS).collect::<Vec<_>>());
    assert!(landed.values().all(|times| *times >= rounds), "no row is left out");
    if exactly_once {
        assert_eq!(more, 0, "no row lands more than once for a replay");
    } else {
        // Each kill leaves at most what was stored then in flight.
        let killed = random_kills + died_at.iter().sum::<u64>();
        assert!(more <= killed * (FRAMES * ROWS) as u64, "{more} after {killed} kills");
    }
}

#[test]
fn each_row_lands_exactly_once_for_each_replay_however_often_that_is_killed() {
    killed_replays_land_each_row(true);
}

#[test]
fn with_at_least_once_no_row_is_left_out_and_more_land_only_after_kills() {
    killed_replays_land_each_row(false);
}
