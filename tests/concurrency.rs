//! The threads of a log in thousands of orders: group commit, rotation, reclaim and close, each against the others.
//!
//! Locks, conditions and threads of the log are shuttle's here, and each operation of the simulated disk is a place
//! where another thread may go first. A deadlock is found as well as a wrong result, and a failure prints the
//! schedule that replays it. `SCHEDULES=n` makes it longer.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
};

use arrow_array::{Int64Array, RecordBatch};
use arrow_zerobus_sdk_wrapper::{
    canary::Canary,
    io::sim::{Planned, World},
    types::Lsn,
    wal::{
        AppendError, DamageReason, Destination, Durability, LogDirectory, Next, PreparedFrame, Recovery, Wal,
        WalOptions,
    },
};
use shuttle::{rand::Rng, thread};

const SCHEDULES: usize = 8_000;
const OPTIONS: WalOptions =
    WalOptions { segment_bytes: 24 * 1024, durability: Durability::Sync, spare_segments: 1 };

/// Runs a scenario under random schedules and under those that prefer some threads for long.
fn explore(scenario: impl Fn() + Copy + Send + Sync + 'static) {
    let schedules = std::env::var("SCHEDULES").ok().and_then(|text| text.parse().ok()).unwrap_or(SCHEDULES);
    shuttle::check_random(scenario, schedules / 2);
    shuttle::check_pct(scenario, schedules / 2, 3);
}

fn open(world: &World) -> (Wal, Recovery) {
    let destination = Destination {
        table: "a.b.c".parse().unwrap(),
        endpoint: "http://127.0.0.1:9".to_owned(),
        unity_catalog_url: None,
    };
    let directory = LogDirectory::open(&world.env(), Path::new("/log"), &destination).unwrap();
    Wal::open(&world.env(), directory, OPTIONS, Lsn::ZERO).unwrap()
}

fn frame(number: i64) -> PreparedFrame {
    let ids: arrow_array::ArrayRef = Arc::new(Int64Array::from(vec![number; 3]));
    PreparedFrame::new(&RecordBatch::try_from_iter([("id", ids)]).unwrap()).unwrap()
}

fn number(frame: &arrow_zerobus_sdk_wrapper::wal::Frame) -> i64 {
    let batch = frame.decode().unwrap();
    let ids = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
    assert!(batch.num_rows() == 3 && ids.iter().all(|id| id == ids.iter().next().unwrap()));
    ids.value(0)
}

/// What lies in the log, by LSN.
fn contents(wal: &Wal) -> BTreeMap<u64, i64> {
    let mut reader = wal.reader(wal.first().unwrap_or(Lsn::FIRST));
    let mut contents = BTreeMap::new();
    while let Some(next) = reader.next().unwrap() {
        let Next::Frame(frame) = next else { panic!("{next:?}") };
        contents.insert(frame.lsn.get(), number(&frame));
    }
    contents
}

/// What appends have promised, by LSN.
type Promised = Arc<Mutex<BTreeMap<u64, i64>>>;

/// A thread that appends numbers of its own, some leading, some not, until the log takes no more.
fn appends(wal: &Wal, first: i64, count: i64, promised: &Promised) -> thread::JoinHandle<()> {
    let (wal, promised) = (wal.clone(), Arc::clone(promised));
    thread::spawn(move || {
        for number in first..first + count {
            let appended = match shuttle::rand::thread_rng().gen_bool(0.5) {
                true => wal.append_blocking(frame(number)),
                false => wal.append(frame(number)).wait(),
            };
            match appended {
                Ok(appended) => {
                    assert!(
                        wal.durable() >= appended.lsn,
                        "{} was promised before it may be read",
                        appended.lsn
                    );
                    let again = promised.lock().unwrap().insert(appended.lsn.get(), number);
                    assert_eq!(again, None, "LSN {} was given twice", appended.lsn);
                }
                Err(AppendError::Closed | AppendError::Poisoned { .. } | AppendError::Storage { .. }) => {
                    return;
                }
                Err(error) => panic!("{error}"),
            }
        }
    })
}

fn cut_at_any_operation(canary: Option<Canary>) {
    let seed = shuttle::rand::thread_rng().r#gen();
    let world = canary.map_or_else(|| World::new(seed), |canary| World::with_canary(seed, canary));
    let (wal, _) = open(&world);
    let at = world.disk().operations() + shuttle::rand::thread_rng().gen_range(1..20);
    world.disk().faults(|faults| faults.at(at..=at, Planned::Cut));
    let promised = Promised::default();
    let threads: Vec<_> = (0..3).map(|n| appends(&wal, 10 * n, 3, &promised)).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    world.crash();
    world.disk().heal();
    drop(wal);
    let (wal, recovery) = open(&world);
    let damage = recovery.damage.iter().find(|damage| damage.reason != DamageReason::Unsynced);
    assert_eq!(damage, None, "what was promised is damaged");
    let mut reader = wal.reader(Lsn::FIRST);
    let mut found = BTreeMap::new();
    while let Some(next) = reader.next().unwrap() {
        if let Next::Frame(frame) = next {
            found.insert(frame.lsn.get(), number(&frame));
        }
    }
    for (lsn, number) in promised.lock().unwrap().iter() {
        assert_eq!(found.get(lsn), Some(number), "LSN {lsn} was promised");
    }
}

#[test]
fn whoever_leads_a_group_what_an_append_promised_survives_a_cut_at_any_operation() {
    explore(|| cut_at_any_operation(None));
}

#[test]
#[should_panic(expected = "was promised")]
fn an_acknowledgement_before_the_sync_is_found() {
    explore(|| cut_at_any_operation(Some(Canary::AcknowledgeBeforeSync)));
}

#[test]
fn a_reader_follows_through_rotation_and_sees_each_frame_once() {
    explore(|| {
        let world = World::new(7);
        let (wal, _) = open(&world);
        let promised = Promised::default();
        let writers = [appends(&wal, 0, 5, &promised), appends(&wal, 100, 4, &promised)];
        let reader = thread::spawn({
            let wal = wal.clone();
            move || {
                let (mut reader, mut durable, mut seen) =
                    (wal.reader(Lsn::FIRST), wal.subscribe(), BTreeMap::new());
                while seen.len() < 9 {
                    let target = *durable.borrow_and_update();
                    while let Some(next) = reader.next().unwrap() {
                        let Next::Frame(frame) = next else { panic!("{next:?}") };
                        assert_eq!(frame.lsn.get(), seen.len() as u64 + 1);
                        seen.insert(frame.lsn.get(), number(&frame));
                    }
                    assert!(seen.len() as u64 >= target.get(), "what is durable can be read");
                    if seen.len() < 9 {
                        shuttle::future::block_on(durable.changed()).unwrap();
                    }
                }
                seen
            }
        });
        writers.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(reader.join().unwrap(), *promised.lock().unwrap());
    });
}

#[test]
fn reclaim_and_recycling_never_take_or_change_a_frame_that_a_reader_may_still_read() {
    explore(|| {
        let world = World::new(9);
        let (wal, _) = open(&world);
        let promised = Promised::default();
        let writer = appends(&wal, 0, 10, &promised);
        let settler = thread::spawn({
            let wal = wal.clone();
            move || {
                for _ in 0..4 {
                    let settled = wal.durable().previous().previous();
                    wal.reclaim(settled, u64::MAX).unwrap();
                    thread::yield_now();
                }
                wal.durable().previous().previous()
            }
        });
        let mut reader = wal.reader(Lsn::FIRST);
        let mut seen = BTreeMap::new();
        let mut read = |seen: &mut BTreeMap<u64, i64>| {
            while let Some(next) = reader.next().unwrap() {
                match next {
                    Next::Frame(frame) => assert!(seen.insert(frame.lsn.get(), number(&frame)).is_none()),
                    Next::Damaged(damage) => {
                        assert_eq!(damage.reason, DamageReason::Missing, "{damage:?}");
                        assert!(*damage.lsns.unwrap().end() <= wal.durable().previous().previous());
                    }
                }
            }
        };
        read(&mut seen);
        writer.join().unwrap();
        settler.join().unwrap();
        read(&mut seen);
        let promised = promised.lock().unwrap();
        assert!(seen.iter().all(|(lsn, number)| promised.get(lsn) == Some(number)), "{seen:?} {promised:?}");
        assert!(seen.contains_key(&9) && seen.contains_key(&10), "what is unsettled is there");
    });
}

#[test]
fn a_close_lets_every_append_end_and_keeps_what_was_promised() {
    explore(|| {
        let world = World::new(11);
        let (wal, _) = open(&world);
        let promised = Promised::default();
        let writers = [appends(&wal, 0, 3, &promised), appends(&wal, 100, 3, &promised)];
        let roller = thread::spawn({
            let wal = wal.clone();
            move || wal.reclaim(wal.durable(), 1).map_or(Lsn::ZERO, |_| wal.durable())
        });
        wal.close();
        assert!(matches!(wal.append_blocking(frame(1)), Err(AppendError::Closed)));
        writers.into_iter().for_each(|thread| thread.join().unwrap());
        roller.join().unwrap();
        drop(wal);
        let (wal, recovery) = open(&world);
        assert_eq!((recovery.damage, recovery.torn_bytes), (vec![], 0));
        let promised = promised.lock().unwrap();
        assert_eq!(recovery.last.get(), promised.len() as u64);
        assert!(contents(&wal).iter().all(|(lsn, number)| promised.get(lsn) == Some(number)));
    });
}
