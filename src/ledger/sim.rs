//! A ledger's store on a simulated disk: two slots with a checksum each, written in turn, so that a cut leaves the one or
//! the other. Like sled it flushes without making durable.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::record::{self, LedgerRecord};
use super::{LedgerError, LedgerPlace, LedgerStore, Ranges};
use crate::io::{Access, Storage, StorageFile};
use crate::reserve::{LEDGER_RESERVE, Reserve};
use crate::types::Epoch;

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

const FILE_NAME: &str = "ledger.sim";
const RESERVE_BYTES: u64 = 16 * 1024;
const SLOT_BYTES: usize = 4096;
const MAGIC: [u8; 8] = *b"SIMLEDGE";

/// A place for a ledger in a writer directory of a simulated disk.
#[derive(Debug)]
pub struct SimPlace {
    storage: Arc<dyn Storage>,
    directory: PathBuf,
    path: PathBuf,
    reserve: Reserve,
}

impl SimPlace {
    /// The place in a writer directory.
    pub fn of(storage: &Arc<dyn Storage>, writer_directory: &Path) -> SimPlace {
        SimPlace {
            storage: Arc::clone(storage),
            directory: writer_directory.to_owned(),
            path: SimPlace::file(writer_directory),
            reserve: Reserve::of(storage, writer_directory.join(LEDGER_RESERVE), RESERVE_BYTES),
        }
    }

    /// The file that the store is.
    pub fn file(writer_directory: &Path) -> PathBuf {
        writer_directory.join(FILE_NAME)
    }

    /// The file that its mark is.
    pub fn mark(writer_directory: &Path) -> PathBuf {
        writer_directory.join(super::MARK_FILE)
    }

    /// The bytes of a store that holds one record, for a test that puts another ledger in the place of ours.
    pub fn forge(epoch: Epoch, record: &LedgerRecord) -> Vec<u8> {
        let records = BTreeMap::from([(record::key(epoch).to_vec(), record.encode(&Ranges::default()))]);
        let mut bytes = vec![0; SLOT_BYTES];
        bytes.extend(encode(1, &records));
        bytes
    }

    fn io(&self, action: &'static str) -> impl FnOnce(io::Error) -> LedgerError {
        LedgerError::io(action, &self.path)
    }

    fn file_or_new(&self) -> io::Result<Arc<dyn StorageFile>> {
        match self.storage.open(&self.path, Access::Write) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let file = self.storage.open(&self.path, Access::New)?;
                file.sync_all()?;
                self.storage.sync_dir(&self.directory)?;
                Ok(file)
            }
            result => result,
        }
    }
}

impl LedgerPlace for SimPlace {
    fn path(&self) -> &Path {
        &self.path
    }

    fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    fn directory(&self) -> &Path {
        &self.directory
    }

    fn is_there(&self) -> bool {
        self.storage.open(&self.path, Access::Read).is_ok()
    }

    fn open(&self) -> Result<Box<dyn LedgerStore>, LedgerError> {
        let file = self.file_or_new().map_err(self.io("open"))?;
        // What a failed sync left in the page cache is not what the disk has.
        file.sync_data().and_then(|()| file.drop_page_cache(0..u64::MAX)).map_err(self.io("sync"))?;
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        file.read_at(&mut bytes, 0).map_err(self.io("read"))?;
        let newest = bytes.chunks(SLOT_BYTES).filter_map(decode).max_by_key(|(sequence, _)| *sequence);
        let (sequence, records) = match newest {
            Some(found) => found,
            None if bytes.iter().all(|byte| *byte == 0) => (0, BTreeMap::new()),
            None => {
                let reason = "no slot is whole".to_owned();
                return Err(LedgerError::Damaged { path: self.path.clone(), reason });
            }
        };
        Ok(Box::new(SimStore { path: self.path.clone(), file, sequence, records, is_dirty: false }))
    }

    fn move_aside(&self) -> Result<PathBuf, LedgerError> {
        let target = self.path.with_extension("set-aside");
        let moved = match self.storage.rename(&self.path, &target) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            result => result,
        };
        moved.map(|()| target).map_err(self.io("move aside"))
    }

    fn hold_reserve(&mut self) {
        self.reserve.hold();
    }

    fn give_up_reserve(&mut self) -> bool {
        self.reserve.give_up(RESERVE_BYTES)
    }

    fn missing_reserve_bytes(&self) -> u64 {
        self.reserve.missing_bytes()
    }
}

#[derive(Debug)]
struct SimStore {
    path: PathBuf,
    file: Arc<dyn StorageFile>,
    sequence: u64,
    records: Records,
    /// Something was inserted since the last flush.
    is_dirty: bool,
}

impl LedgerStore for SimStore {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        Ok(self.records.get(key).cloned())
    }

    fn get_large(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LedgerError> {
        self.get(key)
    }

    fn insert(&mut self, records: &[(&[u8], &[u8])]) -> Result<(), LedgerError> {
        self.records.extend(records.iter().map(|(key, value)| (key.to_vec(), value.to_vec())));
        self.sequence += 1;
        self.is_dirty = true;
        Ok(())
    }

    fn insert_large(&mut self, key: &[u8], value: &[u8]) -> Result<(), LedgerError> {
        self.insert(&[(key, value)])
    }

    fn flush(&mut self) -> Result<(), LedgerError> {
        // The slot that is durable is never written again: a cut could take it.
        if !std::mem::take(&mut self.is_dirty) {
            return Ok(());
        }
        let slot = encode(self.sequence, &self.records);
        let offset = self.sequence % 2 * SLOT_BYTES as u64;
        let written = self.file.write_at(&mut [IoSlice::new(&slot)], offset);
        written.map_err(LedgerError::io("write", &self.path))
    }

    fn sync(&mut self) -> Result<(), LedgerError> {
        self.file.sync_data().map_err(LedgerError::io("sync", &self.path))
    }
}

fn encode(sequence: u64, records: &Records) -> Vec<u8> {
    let mut slot = MAGIC.to_vec();
    slot.extend(sequence.to_le_bytes());
    for bytes in records.iter().flat_map(|(key, value)| [key, value]) {
        slot.extend((bytes.len() as u16).to_le_bytes());
        slot.extend(bytes);
    }
    slot.resize(SLOT_BYTES - 4, 0);
    slot.extend(crc32fast::hash(&slot).to_le_bytes());
    slot
}

fn decode(slot: &[u8]) -> Option<(u64, Records)> {
    let (body, checksum) = slot.split_last_chunk::<4>()?;
    let (magic, rest) = body.split_first_chunk::<8>()?;
    let (sequence, mut rest) = rest.split_first_chunk::<8>()?;
    if *magic != MAGIC || crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
        return None;
    }
    let mut next = || {
        let (length, tail) = rest.split_first_chunk::<2>()?;
        let length = usize::from(u16::from_le_bytes(*length));
        let (bytes, tail) = tail.split_at_checked(length).filter(|_| length > 0)?;
        rest = tail;
        Some(bytes.to_vec())
    };
    let mut records = BTreeMap::new();
    while let Some(key) = next() {
        records.insert(key, next()?);
    }
    Some((u64::from_le_bytes(*sequence), records))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canary::Canaries;
    use crate::io::sim::{Disk, EIO, Planned};
    use crate::ledger::{Ledger, LedgerOpened, Settled};
    use crate::types::Lsn;

    const DIR: &str = "/log";
    const EPOCH: Epoch = Epoch::new(7);

    fn record(through: u64) -> LedgerRecord {
        let settled = Settled { through: Lsn::new(through), rows_of_next: 0 };
        LedgerRecord { settled, ..LedgerRecord::default() }
    }

    fn open(disk: &Arc<Disk>) -> LedgerOpened {
        let place = SimPlace::of(&disk.storage(), Path::new(DIR));
        Ledger::open_at(Box::new(place), EPOCH, Canaries::default()).unwrap()
    }

    fn disk(seed: u64) -> Arc<Disk> {
        let disk = Disk::new(seed);
        disk.storage().create_dir_all(Path::new(DIR)).unwrap();
        disk
    }

    #[test]
    fn what_was_checkpointed_is_there_after_a_cut_and_what_failed_is_old_new_or_nothing() {
        for seed in 0..200 {
            let disk = disk(seed);
            let mut ledger = open(&disk).ledger;
            for through in 1..=3 {
                ledger.checkpoint(&record(through)).unwrap();
            }
            disk.crash();
            let LedgerOpened { mut ledger, record: found, .. } = open(&disk);
            assert_eq!(found, record(3), "seed {seed}");
            let next = disk.operations() + 1;
            disk.faults(|faults| faults.at(next..=next + 2, Planned::Error(EIO)));
            ledger.checkpoint(&record(4)).unwrap_err();
            disk.heal();
            disk.kill();
            let seen = open(&disk).record;
            disk.crash();
            let durable = open(&disk).record;
            assert!([record(3), record(4), LedgerRecord::default()].contains(&durable), "{durable:?}");
            assert_eq!(seen, durable, "seed {seed}: what a new owner sees is on the platter");
            assert_eq!(disk.violations(), Vec::<String>::new());
        }
    }

    #[test]
    fn as_long_as_no_sync_succeeds_no_further_store_is_begun() {
        let disk = disk(1);
        let mut ledger = open(&disk).ledger;
        ledger.checkpoint(&record(1)).unwrap();
        disk.faults(|faults| faults.sync_errors = 1_000);
        for through in 2..20 {
            ledger.checkpoint(&record(through)).unwrap_err();
        }
        let set_aside = || {
            let files = disk.files(Path::new(DIR));
            files.iter().filter(|file| file.to_string_lossy().contains("set-aside")).count()
        };
        assert_eq!(set_aside(), 0, "{:?}", disk.files(Path::new(DIR)));
        disk.heal();
        ledger.checkpoint(&record(20)).unwrap();
        assert_eq!(set_aside(), 1);
        drop(ledger);
        disk.crash();
        assert_eq!(open(&disk).record, record(20));
        assert_eq!(disk.violations(), Vec::<String>::new());
    }

    #[test]
    fn a_mark_that_cannot_be_read_once_is_not_given_up_with_a_damaged_or_lost_store() {
        for is_lost in [false, true] {
            let mut failed = 0;
            for operation in 1..20 {
                let disk = disk(1);
                open(&disk).ledger.checkpoint(&record(5)).unwrap();
                let file = SimPlace::file(Path::new(DIR));
                match is_lost {
                    true => disk.erase(&file).unwrap(),
                    false => disk.put(&file, b"this is no ledger").unwrap(),
                }
                let at = disk.operations() + operation;
                disk.faults(|faults| faults.at(at..=at, Planned::Error(EIO)));
                let place = Box::new(SimPlace::of(&disk.storage(), Path::new(DIR)));
                failed += usize::from(Ledger::open_at(place, EPOCH, Canaries::default()).is_err());
                disk.heal();
                disk.crash();
                assert_eq!(open(&disk).record, record(5), "lost: {is_lost}, operation {operation}");
            }
            assert!(failed > 3, "{failed} openings failed");
        }
    }

    #[test]
    fn a_mark_that_cannot_be_read_once_says_what_was_durable_at_the_next_opening() {
        let mut unread = 0;
        for operation in 1..20 {
            let disk = disk(1);
            let mut ledger = open(&disk).ledger;
            ledger.remember_log(Lsn::new(9));
            ledger.checkpoint(&record(5)).unwrap();
            drop(ledger);
            let at = disk.operations() + operation;
            disk.faults(|faults| faults.at(at..=at, Planned::Error(EIO)));
            let place = Box::new(SimPlace::of(&disk.storage(), Path::new(DIR)));
            let opened = Ledger::open_at(place, EPOCH, Canaries::default());
            unread += usize::from(opened.is_ok_and(|opened| opened.mark_damage.is_some()));
            disk.heal();
            disk.crash();
            let LedgerOpened { record: found, log_durable, mark_damage, .. } = open(&disk);
            assert_eq!(
                (found, log_durable, mark_damage),
                (record(5), Lsn::new(9), None),
                "operation {operation}"
            );
        }
        assert!(unread > 0, "no opening came without the mark");
    }

    #[test]
    fn a_forged_ledger_is_believed_if_it_goes_further_and_garbage_is_set_aside() {
        let disk = disk(1);
        open(&disk).ledger.checkpoint(&record(5)).unwrap();
        let file = SimPlace::file(Path::new(DIR));
        disk.put(&file, &SimPlace::forge(EPOCH, &record(9))).unwrap();
        assert_eq!(open(&disk).record, record(9));
        for forged in [&SimPlace::forge(EPOCH, &record(4))[..], b"this is no ledger"] {
            disk.put(&file, forged).unwrap();
            let opened = open(&disk);
            assert!(opened.damage.is_some());
            assert_eq!(opened.record, record(5), "its mark has it");
        }
    }

    #[test]
    fn no_crash_leaves_a_store_behind_its_mark_and_a_cut_anywhere_leaves_one_of_two_checkpoints() {
        let mut cuts = 0;
        for seed in 0..20 {
            for at in 1.. {
                let disk = disk(seed);
                let mut ledger = open(&disk).ledger;
                (1..=3).for_each(|through| ledger.checkpoint(&record(through)).unwrap());
                let next = disk.operations() + at;
                disk.faults(|faults| faults.at(next..=next, Planned::Cut));
                let written = ledger.checkpoint(&record(4));
                let is_over = disk.operations() < next;
                disk.crash();
                disk.heal();
                let opened = open(&disk);
                assert!(opened.damage.is_none(), "seed {seed}, cut {at}: {:?}", opened.damage);
                let expected = [record(3), record(4)];
                assert!(
                    expected.contains(&opened.record) && (written.is_err() || opened.record == record(4))
                );
                if is_over {
                    break;
                }
                cuts += 1;
            }
        }
        assert!(cuts >= 60, "{cuts} cuts");
    }
}
