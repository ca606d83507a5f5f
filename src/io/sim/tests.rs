//! What the simulated disk promises to the tests that stand on it.

use std::{
    collections::BTreeSet,
    io::{ErrorKind, IoSlice},
    path::Path,
    sync::Arc,
};

use super::*;
use crate::io::{Access, BLOCK, LockAttempt, Storage, StorageFile};

const DIR: &str = "/log";
const FILE: &str = "/log/file";

fn disk(seed: u64) -> (Arc<Disk>, Arc<dyn Storage>) {
    let disk = Disk::new(seed);
    let storage = disk.storage();
    storage.create_dir_all(Path::new(DIR)).unwrap();
    (disk, storage)
}

fn new_file(storage: &Arc<dyn Storage>) -> Arc<dyn StorageFile> {
    let file = storage.open(Path::new(FILE), Access::New).unwrap();
    storage.sync_dir(Path::new(DIR)).unwrap();
    file
}

fn write(file: &Arc<dyn StorageFile>, bytes: &[u8], offset: u64) {
    file.write_at(&mut [IoSlice::new(bytes)], offset).unwrap();
}

fn read(file: &Arc<dyn StorageFile>) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    let length = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(length);
    bytes
}

fn read_after_crash(disk: &Arc<Disk>) -> Vec<u8> {
    disk.crash();
    read(&disk.storage().open(Path::new(FILE), Access::Read).unwrap())
}

#[test]
fn what_is_synced_survives_every_cut_and_what_is_not_survives_in_every_way() {
    let mut whole = BTreeSet::new();
    let mut sectors = BTreeSet::new();
    for seed in 0..2000 {
        let (disk, storage) = disk(seed);
        let file = new_file(&storage);
        write(&file, &[1; 3000], 0);
        file.sync_data().unwrap();
        write(&file, &[2; 5000], 1024);
        write(&file, &[3; 5000], 2048);
        let bytes = read_after_crash(&disk);
        assert!([3000, 6024, 7048].contains(&bytes.len()), "{}", bytes.len());
        assert!(bytes[..1024].iter().all(|byte| *byte == 1), "seed {seed}");
        for sector in bytes[1024..].chunks(512) {
            let first = sector[0];
            assert!(first <= 3);
            sectors.insert(first);
        }
        let values: BTreeSet<u8> = bytes.iter().copied().collect();
        whole.insert(values);
    }
    assert_eq!(sectors, BTreeSet::from([0, 1, 2, 3]));
    assert!(whole.contains(&BTreeSet::from([1])), "all lost");
    assert!(
        whole.contains(&BTreeSet::from([1, 3])) || whole.contains(&BTreeSet::from([1, 2, 3])),
        "all kept"
    );
}

#[test]
fn a_durable_write_makes_its_own_range_durable_and_nothing_else() {
    let mut others = BTreeSet::new();
    for seed in 0..200 {
        let (disk, storage) = disk(seed);
        let file = new_file(&storage);
        write(&file, &[1; BLOCK], 0);
        file.write_durable_at(&mut [IoSlice::new(&[2; BLOCK])], 2 * BLOCK as u64).unwrap();
        let bytes = read_after_crash(&disk);
        assert_eq!(bytes.len(), 3 * BLOCK);
        assert!(bytes[2 * BLOCK..].iter().all(|byte| *byte == 2));
        others.insert(bytes[0]);
    }
    assert_eq!(others, BTreeSet::from([0, 1]));
}

#[test]
fn after_a_failed_sync_the_next_one_says_ok_and_the_cache_shows_what_the_platter_has_not() {
    let mut lost = 0;
    for seed in 0..200 {
        let (disk, storage) = disk(seed);
        let file = new_file(&storage);
        write(&file, &[1; BLOCK], 0);
        file.sync_data().unwrap();
        write(&file, &[2; BLOCK], 0);
        let next = disk.operations() + 1;
        disk.faults(|faults| faults.at(next..=next, Planned::Error(EIO)));
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(EIO));
        file.sync_data().unwrap();
        assert_eq!(disk.violations().len(), 1, "the second sync is against the rule");
        assert_eq!(read(&file), [2; BLOCK], "the page cache shows it");
        file.drop_page_cache(0..u64::MAX).unwrap();
        let platter = read(&file);
        lost += usize::from(platter[0] == 1);
        assert_eq!(platter, read_after_crash(&disk));
    }
    assert!(lost > 20, "{lost}");
}

#[test]
fn a_failed_sync_that_arrives_leaves_nothing_to_lose() {
    for seed in 0..50 {
        let (disk, storage) = disk(seed);
        let file = new_file(&storage);
        write(&file, &[1; 2 * BLOCK], 0);
        let next = disk.operations() + 1;
        disk.let_failed_syncs_arrive();
        disk.faults(|faults| faults.at(next..=next, Planned::Error(EIO)));
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(EIO));
        assert_eq!(read_after_crash(&disk), [1; 2 * BLOCK]);
    }
}

#[test]
fn a_lying_sync_does_nothing() {
    let kept = (0..100).filter(|seed| {
        let (disk, storage) = disk(*seed);
        let file = new_file(&storage);
        disk.faults(|faults| faults.lying_syncs = true);
        write(&file, &[1; 512], 0);
        file.sync_all().unwrap();
        read_after_crash(&disk) == [1; 512]
    });
    assert!((10..90).contains(&kept.count()));
}

#[test]
fn the_sync_of_a_file_says_nothing_about_its_name() {
    let mut outcomes = BTreeSet::new();
    for seed in 0..50 {
        let (disk, storage) = disk(seed);
        let file = storage.open(Path::new(FILE), Access::New).unwrap();
        write(&file, b"named", 0);
        file.sync_all().unwrap();
        disk.crash();
        let opened = disk.storage().open(Path::new(FILE), Access::Read);
        outcomes.insert(opened.map(|file| read(&file)).ok());
    }
    assert_eq!(outcomes, BTreeSet::from([None, Some(b"named".to_vec())]));
}

#[test]
fn an_unsynced_removal_comes_back_with_its_bytes() {
    let back = (0..50).filter(|seed| {
        let (disk, storage) = disk(*seed);
        let file = new_file(&storage);
        write(&file, b"old", 0);
        file.sync_all().unwrap();
        drop(file);
        storage.remove(Path::new(FILE)).unwrap();
        assert!(storage.list(Path::new(DIR)).unwrap().is_empty());
        disk.crash();
        match disk.storage().open(Path::new(FILE), Access::Read) {
            Ok(file) => read(&file) == b"old",
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::NotFound);
                false
            }
        }
    });
    assert!((5..45).contains(&back.count()));
}

#[repr(align(4096))]
struct Aligned([u8; 2 * BLOCK]);

#[test]
fn a_direct_write_that_is_not_aligned_is_refused_as_by_the_kernel() {
    let (disk, storage) = disk(1);
    let file = new_file(&storage);
    file.set_direct(true).unwrap();
    let memory = Box::new(Aligned([7; 2 * BLOCK]));
    let refused = |bytes: &[u8], offset| {
        let error = file.write_durable_at(&mut [IoSlice::new(bytes)], offset).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(22));
    };
    refused(&memory.0[..512], 0);
    refused(&memory.0[512..512 + BLOCK], 0);
    refused(&memory.0[..BLOCK], 512);
    file.write_durable_at(&mut [IoSlice::new(&memory.0[BLOCK..]), IoSlice::new(&memory.0[..BLOCK])], 0)
        .unwrap();
    file.set_direct(false).unwrap();
    assert_eq!(read(&file), memory.0);
    disk.faults(|faults| faults.refuses_direct = true);
    assert_eq!(file.set_direct(true).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn a_full_disk_takes_what_fits_and_has_room_again_after_a_removal() {
    let (disk, storage) = disk(1);
    disk.faults(|faults| faults.capacity_bytes = Some(4 * BLOCK as u64));
    let file = new_file(&storage);
    file.allocate(0, 3 * BLOCK as u64).unwrap();
    assert_eq!(storage.free_bytes(Path::new(DIR)).unwrap(), BLOCK as u64);
    let error = file.write_at(&mut [IoSlice::new(&[1; 3 * BLOCK])], 2 * BLOCK as u64).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
    assert_eq!(file.length().unwrap(), 4 * BLOCK as u64, "a part was written");
    let other = storage.open(Path::new("/log/other"), Access::New).unwrap();
    assert_eq!(other.allocate(0, 1).unwrap_err().kind(), ErrorKind::StorageFull);
    storage.remove(Path::new(FILE)).unwrap();
    assert_eq!(storage.free_bytes(Path::new(DIR)).unwrap(), 0, "it is still open");
    drop(file);
    other.allocate(0, 4 * BLOCK as u64).unwrap();
    disk.faults(|faults| faults.inodes_max = Some(1));
    assert_eq!(storage.open(Path::new(FILE), Access::New).unwrap_err().kind(), ErrorKind::StorageFull);
}

#[test]
fn old_handles_are_dead_after_a_crash_and_locks_are_free() {
    let (disk, storage) = disk(1);
    let lock = Path::new("/log/LOCK");
    let held = storage.lock(lock, b"me").unwrap();
    assert!(matches!(storage.lock(lock, b"you").unwrap(), LockAttempt::Busy { note } if note == b"me"));
    storage.sync_dir(Path::new(DIR)).unwrap();
    let file = new_file(&storage);
    disk.crash();
    assert!(file.write_at(&mut [IoSlice::new(b"late")], 0).is_err());
    assert!(file.sync_data().is_err() && file.read_at(&mut [0; 4], 0).is_err());
    assert!(storage.list(Path::new(DIR)).is_err());
    let storage = disk.storage();
    let again = storage.lock(lock, b"again").unwrap();
    drop(held);
    assert_eq!(storage.lock_note(lock).unwrap().as_deref(), Some(&b"again"[..]));
    drop(again);
    assert_eq!(storage.lock_note(lock).unwrap(), None);
}

#[test]
fn a_killed_process_leaves_its_writes_in_the_page_cache() {
    let (disk, storage) = disk(1);
    let file = new_file(&storage);
    write(&file, b"cached", 0);
    disk.kill();
    assert!(file.sync_data().is_err());
    let file = disk.storage().open(Path::new(FILE), Access::Write).unwrap();
    assert_eq!(read(&file), b"cached");
    file.sync_data().unwrap();
    assert_eq!(read_after_crash(&disk), b"cached");
}

#[test]
fn a_planned_kill_ends_every_process_at_that_operation_and_leaves_the_page_cache() {
    let mut lengths = BTreeSet::new();
    for seed in 0..50 {
        let (disk, storage) = disk(seed);
        let file = new_file(&storage);
        write(&file, b"one", 0);
        let next = disk.operations() + 1;
        disk.faults(|faults| faults.at(next..=next, Planned::Kill));
        assert!(file.write_at(&mut [IoSlice::new(b"two")], 3).is_err());
        assert!(disk.is_off() && disk.is_killed());
        assert!(file.sync_data().is_err(), "it is dead");
        disk.kill();
        assert!(!disk.is_off() && !disk.is_killed());
        let bytes = read(&disk.storage().open(Path::new(FILE), Access::Read).unwrap());
        assert!(b"onetwo".starts_with(&bytes), "{bytes:?}");
        lengths.insert(bytes.len());
        assert_eq!((disk.counts().kills, disk.counts().cuts), (1, 0));
    }
    assert_eq!(lengths, BTreeSet::from([3, 6]), "before the operation, and behind it");
}

#[test]
fn a_planned_cut_takes_the_power_at_that_operation_and_no_other() {
    for operation in 1..=6 {
        let (disk, storage) = disk(operation);
        let first = disk.operations();
        disk.faults(|faults| faults.at(first + operation..=first + operation, Planned::Cut));
        let mut done = 0;
        let mut work = || -> std::io::Result<()> {
            let file = storage.open(Path::new(FILE), Access::New)?;
            done += 1;
            for offset in [0, 512] {
                file.write_at(&mut [IoSlice::new(&[1; 512])], offset)?;
                done += 1;
                file.sync_data()?;
                done += 1;
            }
            storage.sync_dir(Path::new(DIR))?;
            done += 1;
            Ok(())
        };
        assert!(work().is_err());
        assert_eq!(done, operation - 1);
        assert!(disk.is_off());
        assert!(storage.sync_dir(Path::new(DIR)).is_err(), "it is dark");
        disk.crash();
        assert!(!disk.is_off());
        disk.storage().sync_dir(Path::new(DIR)).unwrap();
    }
}

#[test]
fn the_gate_holds_operations_until_it_is_opened_or_the_machine_goes_down() {
    let (disk, storage) = disk(1);
    let file = new_file(&storage);
    for goes_down in [false, true] {
        disk.pause();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| file.write_at(&mut [IoSlice::new(b"late")], 0));
            disk.wait_for_arrival();
            assert!(disk.has_arrived());
            if goes_down {
                disk.crash()
            } else {
                disk.resume()
            }
            assert_eq!(writer.join().unwrap().is_err(), goes_down);
        });
    }
}

#[test]
fn bytes_that_rot_are_seen_at_once_and_after_a_cut() {
    let (disk, storage) = disk(1);
    let file = new_file(&storage);
    write(&file, &[1; 2000], 0);
    file.sync_data().unwrap();
    disk.rot(Path::new(FILE), 1500, 2, |_, byte| byte ^ 0x80).unwrap();
    assert_eq!(read(&file)[1499..1503], [1, 0x81, 0x81, 1]);
    assert_eq!(read_after_crash(&disk)[1499..1503], [1, 0x81, 0x81, 1]);
}

#[test]
fn the_same_seed_makes_the_same_world() {
    let run = |seed| {
        let world = World::new(seed);
        let env = world.env();
        env.storage.create_dir_all(Path::new(DIR)).unwrap();
        world.disk().faults(|faults| faults.write_errors = 300);
        let file = env.storage.open(Path::new(FILE), Access::New).unwrap();
        env.storage.sync_dir(Path::new(DIR)).unwrap();
        let failed: Vec<bool> = (0..50u64)
            .map(|n| file.write_at(&mut [IoSlice::new(&env.rng.next_u64().to_le_bytes())], 700 * n).is_err())
            .collect();
        (failed, read_after_crash(world.disk()), env.clock.unix_micros())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7).0, run(8).0);
}

#[test]
fn the_trace_has_every_operation_with_its_result() {
    let (disk, storage) = disk(1);
    disk.start_trace();
    let file = new_file(&storage);
    write(&file, &[1; 600], 100);
    disk.faults(|faults| faults.sync_errors = 1000);
    file.sync_data().unwrap_err();
    let trace = disk.take_trace();
    let seen: Vec<_> =
        trace.iter().map(|operation| (operation.kind, operation.bytes, operation.errno)).collect();
    assert_eq!(
        seen,
        [
            (OperationKind::Create, 0, None),
            (OperationKind::SyncDirectory, 0, None),
            (OperationKind::Write, 600, None),
            (OperationKind::Sync, 0, Some(EIO)),
        ]
    );
    assert!(trace.windows(2).all(|pair| pair[0].number + 1 == pair[1].number));
    assert_eq!(disk.counts().sync_errors, 1);
}
