//! Goal: with `delivery = "exactly_once"` every row is in the table once, however often the producer and the service are
//! killed, and at whatever moment.
//!
//! Method: victims on one log, one after the other. Most die by SIGKILL at a named moment between creating a stream,
//! recording requests, sending them, hearing of their commit and settling them, or while rows are being isolated and a
//! stream is replaced; the others are killed from outside at a random time. The service is a process too and is killed and
//! started again under the victims, it drops acknowledgements, ends streams and resets connections. Some rows are bad: at
//! first only the service knows, so they are isolated; later the columns are known. The oracle is what the victims said on a
//! pipe and what an independent reader finds in the Delta table.
//!
//! `CHAOS_SEED=n` repeats a run's choices, `CHAOS_KILLS=n` makes it longer.

#![expect(clippy::disallowed_methods, reason = "an oracle shares nothing with the log, its clock neither")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod oracle;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use arrow_zerobus_sdk_wrapper::deaths::Death;
use arrow_zerobus_sdk_wrapper::{DeliveryGuarantee, Status, Validate, ZerobusWrapper};
use chaos_tests::{Orders, ServiceOrders, TABLE, configuration};
use oracle::{Oracle, landed, number, start_victim};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;

const KILLS: u64 = 208;
/// A victim that has not come to its moment by then is killed all the same.
const PATIENCE: Duration = Duration::from_millis(900);
const SIGKILL: i32 = 9;

/// The service, and how to have it back after it was killed.
struct Service {
    process: Child,
    orders: ServiceOrders,
    kills: u64,
}

impl Service {
    fn start(data_dir: PathBuf) -> Service {
        let orders = ServiceOrders {
            data_dir,
            port: free_port(),
            http_port: free_port(),
            commit_interval_ms: 20,
            sql: Vec::new(),
            rules: Vec::new(),
        };
        Service { process: started(&orders), orders, kills: 0 }
    }

    /// Kills it and starts it again.
    fn restart(&mut self) {
        self.kill();
        self.process = started(&self.orders);
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        self.kills += 1;
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn started(orders: &ServiceOrders) -> Child {
    let mut process = Command::new(env!("CARGO_BIN_EXE_service"))
        .arg(serde_json::to_string(orders).unwrap())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = String::new();
    BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n", "the service did not start");
    process
}

/// A port that nothing listens on and that no outgoing connection is given.
fn free_port() -> u16 {
    let first = 20_000 + (std::process::id().wrapping_mul(97) % 11_000) as u16;
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    static TAKEN: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    let taken = TAKEN.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    (first..).filter(is_free).nth(taken.into()).unwrap()
}

/// What goes wrong at the service all the time.
fn rules(seed: u64) -> Vec<serde_json::Value> {
    vec![
        json!({"fault": "drop_ack", "reset": true, "probability": 0.02, "seed": seed}),
        json!({"fault": "drop_ack", "reset": false, "probability": 0.02, "seed": seed + 1}),
        json!({"fault": "fail_stream", "code": "UNAVAILABLE", "probability": 0.01, "seed": seed + 2}),
        json!({"fault": "delay_acks", "delay_ms": 5, "probability": 0.1, "seed": seed + 3}),
        json!({"fault": "reset_connection", "after_bytes": 30_000, "probability": 0.1, "seed": seed + 4}),
        json!({"fault": "fail_open", "code": "UNAVAILABLE", "probability": 0.03, "seed": seed + 5}),
    ]
}

/// How a victim is to end.
struct End {
    /// Killed from outside after so long, at the latest.
    latest: Duration,
    /// The service is killed under it after so long.
    service_dies: Option<Duration>,
}

/// Runs a victim to its end and hears what it said; whether it died at its moment.
fn run_one(orders: &Orders, end: &End, service: &mut Service, oracle: &mut Oracle) -> bool {
    let (mut victim, listener) = start_victim(orders);
    let started = Instant::now();
    let mut service_dies = end.service_dies;
    let (status, is_own) = loop {
        if let Some(status) = victim.try_wait().unwrap() {
            break (status, true);
        }
        if service_dies.is_some_and(|after| started.elapsed() > after) {
            service_dies = None;
            service.restart();
        }
        if started.elapsed() > end.latest {
            victim.kill().unwrap();
            break (victim.wait().unwrap(), false);
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    assert_eq!(status.signal(), Some(SIGKILL), "the victim ended with an error of its own: {status}");
    for announcement in listener.join().unwrap() {
        oracle.hear(announcement);
    }
    is_own
}

/// Delivers what is left, as the last owner.
fn drain(service: &Service, wal_dir: &Path) -> Status {
    let (grpc, http) = (service.orders.port, service.orders.http_port);
    let mut configuration =
        configuration(&format!("http://127.0.0.1:{grpc}"), &format!("http://127.0.0.1:{http}"), wal_dir);
    configuration.delivery = DeliveryGuarantee::ExactlyOnce;
    configuration.validate = Validate::Off;
    configuration.retry_max_attempts = u32::MAX;
    let wrapper = ZerobusWrapper::open(configuration).unwrap();
    let runtime = wrapper.runtime();
    let deadline = Instant::now() + Duration::from_secs(60);
    // That rows were refused is told once, and intended.
    while let Err(error) = runtime.block_on(wrapper.flush(Some(Duration::from_secs(10)))) {
        let status = wrapper.status();
        assert!(Instant::now() < deadline, "it does not come to an end: {error:?}: {status:#?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    let status = wrapper.status();
    runtime.block_on(wrapper.shutdown()).unwrap();
    status
}

#[test]
fn every_row_lands_exactly_once_however_often_producer_and_service_are_killed() {
    let seed = number("CHAOS_SEED", std::process::id().into());
    let kills = number("CHAOS_KILLS", KILLS);
    println!("CHAOS_SEED={seed} CHAOS_KILLS={kills}");
    let mut random = StdRng::seed_from_u64(seed);
    let directory = tempfile::tempdir().unwrap();
    let wal_dir = directory.path().join("wal");
    let mut service = Service::start(directory.path().join("data"));
    service.orders.rules = rules(seed);
    // Without the columns only the service knows which rows are bad.
    service.orders.sql = vec![format!("REVOKE SELECT ON TABLE {TABLE} FROM victim")];
    service.restart();

    let (mut oracle, mut bad_ids) = (Oracle::default(), BTreeSet::new());
    let mut died_at = [0_u64; Death::ALL.len()];
    let mut random_kills = 0;
    let started = Instant::now();
    for kill in 0..kills {
        if kill == kills * 2 / 3 {
            service.orders.sql = vec![format!("GRANT SELECT ON TABLE {TABLE} TO victim")];
            service.restart();
        }
        // One in nine is killed from outside; the others come to each moment in turn.
        let death = (kill % 9) as usize;
        let death = (death < Death::ALL.len()).then(|| Death::ALL[death]);
        let is_about_bad_rows = matches!(death, Some(Death::Created | Death::Quarantined | Death::Void));
        let (first_id, batch_rows) = (oracle.next_id(), random.random_range(1..=40));
        let has_bad_rows = is_about_bad_rows || random.random_ratio(1, 8);
        let bad: Vec<i64> =
            has_bad_rows.then(|| first_id + random.random_range(0..batch_rows)).into_iter().collect();
        let endpoint = format!("http://127.0.0.1:{}", service.orders.port);
        let unity_catalog_url = format!("http://127.0.0.1:{}", service.orders.http_port);
        let mut orders = Orders {
            first_id,
            producers: random.random_range(1..=4),
            rows: (batch_rows, batch_rows),
            bad_ids: bad.clone(),
            is_patient: true,
            die_at: death.map(|death| (format!("{death:?}"), random.random_range(1..=3))),
            ..Orders::new(&endpoint, &unity_catalog_url, &wal_dir)
        };
        orders.set("segment_bytes", (64 * 1024) << random.random_range(0..3));
        orders.set("request_max_bytes", 1024 << random.random_range(0..5));
        orders.set("stream_max_age_secs", if random.random_ratio(1, 3) { 1 } else { 600 });
        orders.set("delivery", "exactly_once");
        orders.set("max_inflight_requests", random.random_range(1..=32));
        orders.set("validate", "off");
        let end = End {
            latest: match death {
                Some(_) => PATIENCE,
                None => Duration::from_millis(random.random_range(0..400)),
            },
            service_dies: random
                .random_ratio(1, 12)
                .then(|| Duration::from_millis(random.random_range(30..200))),
        };
        let has_come = run_one(&orders, &end, &mut service, &mut oracle);
        // What a victim has not come to is a row of the next one, and a good one.
        bad_ids.extend(bad.into_iter().filter(|id| oracle.intended.contains(id)));
        match (has_come, death) {
            (true, Some(death)) => died_at[death as usize] += 1,
            _ => random_kills += 1,
        }
    }
    let killed_for = started.elapsed();
    service.orders.rules = Vec::new();
    service.restart();
    let status = drain(&service, &wal_dir);
    service.kill();
    let landed = landed(&directory.path().join("data").join(TABLE.replace('.', "/")));

    let stored = |id: &i64| oracle.acknowledged.contains(id);
    let is_missing = |id: &&i64| !landed.contains_key(id) && !bad_ids.contains(id);
    let lost = oracle.acknowledged.iter().filter(is_missing).count();
    let doubled = landed.values().filter(|times| **times > 1).count();
    let invented = landed.keys().filter(|id| !oracle.intended.contains(id)).count();
    let refused_and_landed = bad_ids.iter().filter(|id| landed.contains_key(id)).count();
    let moments: Vec<String> =
        Death::ALL.iter().zip(died_at).map(|(death, times)| format!("{death:?} {times}")).collect();
    println!(
        "{kills} victims killed in {:.0} s, {random_kills} at a random time, {}; the service {} times; {} rows \
         acknowledged, {} landed, {lost} lost, {doubled} doubled, {invented} invented; {} of {} bad rows in quarantine, \
         {refused_and_landed} of them landed",
        killed_for.as_secs_f64(),
        moments.join(", "),
        service.kills,
        oracle.acknowledged.len(),
        landed.len(),
        status.rows.quarantined,
        bad_ids.len(),
    );
    let kept = || format!("keep {}; {status:#?}", directory.path().display());
    assert_eq!((lost, doubled, invented, refused_and_landed), (0, 0, 0, 0), "{}", kept());
    assert_eq!((status.rows.waiting, status.rows.dropped, status.doubtful_rows), (0, 0, 0), "{}", kept());
    assert_eq!(status.rows.delivered, landed.len() as u64, "[I6] {}", kept());
    let certainly_bad = bad_ids.iter().filter(|id| stored(id)).count() as u64;
    assert!((certainly_bad..=bad_ids.len() as u64).contains(&status.rows.quarantined), "{}", kept());
    assert!(status.damage.is_empty(), "{}", kept());
    if kills >= KILLS {
        assert!(died_at.iter().all(|times| *times > 0), "a moment was never met: {moments:?}");
    }
}
