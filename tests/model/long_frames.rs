//! Frames that are written in pieces while they are copied: a cut or an error at each operation of that leaves them whole,
//! or not promised.

use std::{collections::BTreeMap, path::Path};

use arrow_array::RecordBatch;
use arrow_zerobus_sdk_wrapper::{
    io::sim::{EIO, ENOSPC, Planned, World},
    types::Lsn,
    wal::{Durability, LogDirectory, Next, PreparedFrame, Wal, WalOptions},
};

use crate::{
    blobs::blob,
    site::{DIR, destination},
};

const OPTIONS: WalOptions =
    WalOptions { segment_bytes: 16 << 20, durability: Durability::Sync, spare_segments: 1 };
/// The second and the third are long: the others share the group's buffer, or have memory of their own.
const SIZES: [usize; 5] = [10, 5_000_000, 6_500_001, 40_000, 700_000];

fn open(world: &World) -> Wal {
    let directory = LogDirectory::open(&world.env(), Path::new(DIR), &destination()).unwrap();
    let (wal, recovery) = Wal::open(&world.env(), directory, OPTIONS, Lsn::ZERO).unwrap();
    assert_eq!(recovery.damage, []);
    wal
}

/// Appends everything at once, and returns what was promised.
fn append(wal: &Wal, batches: &[RecordBatch]) -> BTreeMap<u64, RecordBatch> {
    let appends: Vec<_> =
        batches.iter().map(|batch| wal.append(PreparedFrame::new(batch).unwrap())).collect();
    let stored = appends.into_iter().zip(batches);
    stored.filter_map(|(append, batch)| Some((append.wait().ok()?.lsn.get(), batch.clone()))).collect()
}

#[test]
fn a_long_frame_is_whole_or_was_not_promised_after_any_fault_while_it_is_written() {
    let batches: Vec<RecordBatch> =
        SIZES.into_iter().enumerate().map(|(number, bytes)| blob(number, bytes)).collect();
    let world = World::new(0);
    let wal = open(&world);
    let first = world.disk().operations() + 1;
    assert_eq!(append(&wal, &batches).len(), batches.len());
    let last = world.disk().operations();
    assert!(last - first > 10, "pieces are written one by one");

    let (mut cut, mut refused) = (0, 0);
    for at in first..=last {
        let plans = [Planned::Cut, Planned::Error(EIO), Planned::Error(ENOSPC)];
        for (planned, for_ever) in
            plans.into_iter().zip([false; 3]).chain(plans.into_iter().skip(1).zip([true; 2]))
        {
            let world = World::new(at);
            let wal = open(&world);
            world.disk().faults(|faults| {
                faults.at(at..=if for_ever { u64::MAX } else { at }, planned);
            });
            let promised = append(&wal, &batches);
            refused += batches.len() - promised.len();
            match planned {
                Planned::Cut => {
                    cut += 1;
                    world.crash();
                }
                Planned::Kill | Planned::Error(_) => world.kill(),
            }
            world.disk().heal();
            let wal = open(&world);
            let mut reader = wal.reader(Lsn::FIRST);
            let mut found = BTreeMap::new();
            while let Some(next) = reader.next().unwrap() {
                let Next::Frame(frame) = next else { panic!("{planned:?} at {at}: {next:?}") };
                found.insert(frame.lsn.get(), frame.decode().unwrap());
            }
            assert!(found.values().all(|batch| batches.contains(batch)), "{planned:?} at {at}");
            for (lsn, batch) in promised {
                assert_eq!(found.get(&lsn), Some(&batch), "{planned:?} at {at}, frame {lsn}");
            }
            assert_eq!(world.disk().violations(), Vec::<String>::new());
        }
    }
    assert!(cut > 10 && refused > 10, "{cut} cuts, {refused} batches refused");
}
