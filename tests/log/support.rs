//! What the tests of the log share: batches, directories, and a storage that counts and fails.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{Error, IoSlice, Result},
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use arrow_array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use arrow_zerobus_sdk_wrapper::{
    io::{Access, Env, LockAttempt, Storage, StorageFile},
    types::Lsn,
    wal::{
        Damage, Destination, Durability, LogDirectory, LogReader, Next, PreparedFrame, Recovery, Wal,
        WalOptions,
    },
};

pub(crate) use crate::blobs::blob;

pub(crate) const SEGMENT_BYTES: u64 = 128 * 1024;

pub(crate) fn destination() -> Destination {
    Destination {
        table: "main.default.events".parse().unwrap(),
        endpoint: "https://1.zerobus.eu-west-1.cloud.databricks.com".to_owned(),
        unity_catalog_url: Some("https://dbc-1.cloud.databricks.com".to_owned()),
    }
}

pub(crate) fn options(durability: Durability) -> WalOptions {
    WalOptions { segment_bytes: SEGMENT_BYTES, durability, spare_segments: 0 }
}

pub(crate) fn open_with(env: &Env, dir: &Path, options: WalOptions, floor: u64) -> (Wal, Recovery) {
    let directory = LogDirectory::open(env, dir, &destination()).unwrap();
    Wal::open(env, directory, options, Lsn::new(floor)).unwrap()
}

pub(crate) fn open(dir: &Path) -> (Wal, Recovery) {
    open_with(&Env::os(), dir, options(Durability::Sync), 0)
}

/// A batch whose contents follow from its number.
pub(crate) fn batch(number: i64, rows: i64) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
    ]));
    let ids: Int64Array = (0..rows).map(|row| number * 1000 + row).collect();
    let names: StringArray =
        (0..rows).map(|row| (row % 3 > 0).then(|| format!("name {number} {row}"))).collect();
    RecordBatch::try_new(schema, vec![Arc::new(ids), Arc::new(names)]).unwrap()
}

pub(crate) fn frame(number: i64, rows: i64) -> PreparedFrame {
    PreparedFrame::new(&batch(number, rows)).unwrap()
}

/// Appends the batches of these numbers, one after the other.
pub(crate) fn append(wal: &Wal, numbers: RangeInclusive<i64>) {
    for number in numbers {
        let appended = wal.append(frame(number, 10)).wait().unwrap();
        assert_eq!(appended.lsn, Lsn::new(number as u64));
    }
}

/// Everything up to the durable position.
pub(crate) fn read_all(reader: &mut LogReader) -> (BTreeMap<u64, RecordBatch>, Vec<Damage>) {
    let (mut batches, mut damage) = (BTreeMap::new(), Vec::new());
    while let Some(next) = reader.next().unwrap() {
        match next {
            Next::Frame(frame) => {
                let again = batches.insert(frame.lsn.get(), frame.decode().unwrap());
                assert!(again.is_none(), "frame {} came twice", frame.lsn);
            }
            Next::Damaged(stretch) => damage.push(stretch),
        }
    }
    (batches, damage)
}

/// Frames that come back as they were appended, in a log that holds nothing else from `from` on.
pub(crate) fn assert_holds(wal: &Wal, numbers: RangeInclusive<i64>) {
    let from = Lsn::new(*numbers.start() as u64);
    let (batches, damage) = read_all(&mut wal.reader(from));
    assert!(damage.is_empty(), "{} stretches, the first: {}", damage.len(), damage[0]);
    let expected: BTreeMap<u64, RecordBatch> = numbers.map(|n| (n as u64, batch(n, 10))).collect();
    assert_eq!(batches, expected);
}

/// The files of a directory that are deleted and that somebody has open: the disk does not have their space back.
pub(crate) fn open_and_deleted(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir("/proc/self/fd").unwrap();
    let files = files.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
    files.filter(|file| file.starts_with(dir) && file.to_string_lossy().ends_with("(deleted)")).collect()
}

/// A directory in memory where there is one, for tests of thousands of logs.
pub(crate) fn memory_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// A copy of a directory as a crash would leave it: no lock, no seal.
pub(crate) fn copy(dir: &Path) -> tempfile::TempDir {
    let copy = memory_dir();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    copy
}

/// The log as the next owner finds it after a crash now.
pub(crate) fn open_copy(dir: &Path) -> (tempfile::TempDir, Wal, Recovery) {
    let copy = copy(dir);
    let (wal, recovery) = open(copy.path());
    (copy, wal, recovery)
}

pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
        .collect();
    paths.sort();
    paths
}

pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within 10 s");
        std::thread::yield_now();
    }
}

/// A call of the storage that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Call {
    Create,
    Write,
    Sync,
    Allocate,
    Read,
    SyncDir,
    Remove,
}

/// What a disk says that cannot.
pub(crate) const EIO: i32 = 5;

/// A storage that counts, and fails when it is told to.
#[derive(Debug)]
pub(crate) struct Faulty {
    real: Env,
    state: Arc<State>,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) bytes_read: AtomicU64,
    /// Those of them that passed the page cache by.
    pub(crate) bytes_read_direct: AtomicU64,
    /// Those that were read by the thread that reads ahead.
    pub(crate) bytes_read_ahead: AtomicU64,
    counts: Mutex<BTreeMap<Call, u64>>,
    faults: Mutex<Vec<Fault>>,
    /// Syncs wait while this is held.
    pub(crate) gate: Mutex<()>,
    /// Syncs do not reach the disk; tests of thousands of damaged files do without.
    pub(crate) without_syncs: AtomicBool,
    journal: Mutex<Vec<(Call, PathBuf)>>,
    /// Which calls of the journal failed.
    failures: Mutex<Vec<(usize, PathBuf)>>,
    /// Which directory is copied before each call, and its copies.
    copied: Mutex<Option<(PathBuf, Vec<tempfile::TempDir>)>>,
}

#[derive(Debug)]
struct Fault {
    call: Call,
    errno: i32,
    /// So many calls succeed before.
    after: u64,
    times: u64,
}

impl State {
    /// Makes the next `times` calls of this kind fail.
    pub(crate) fn fail(&self, call: Call, errno: i32, times: u64) {
        self.fail_after(0, call, errno, times);
    }

    /// The same, once `after` calls have succeeded.
    pub(crate) fn fail_after(&self, after: u64, call: Call, errno: i32, times: u64) {
        self.faults.lock().unwrap().push(Fault { call, errno, after, times });
    }

    pub(crate) fn heal(&self) {
        self.faults.lock().unwrap().clear();
    }

    pub(crate) fn count(&self, call: Call) -> u64 {
        self.counts.lock().unwrap().get(&call).copied().unwrap_or(0)
    }

    /// The calls so far, with the file that each was for.
    pub(crate) fn journal(&self) -> Vec<(Call, PathBuf)> {
        self.journal.lock().unwrap().clone()
    }

    /// The failed calls, by their place in the journal.
    pub(crate) fn failures(&self) -> Vec<(usize, PathBuf)> {
        self.failures.lock().unwrap().clone()
    }

    /// Keeps what a killed process would leave of this directory, from now on before each call.
    pub(crate) fn copy_before_each_call(&self, dir: &Path) {
        *self.copied.lock().unwrap() = Some((dir.to_owned(), Vec::new()));
    }

    /// The copies.
    pub(crate) fn take_copies(&self) -> Vec<tempfile::TempDir> {
        self.copied.lock().unwrap().take().map(|(_, copies)| copies).unwrap_or_default()
    }

    fn call(&self, call: Call, path: &Path) -> Result<()> {
        if let Some((dir, copies)) = &mut *self.copied.lock().unwrap() {
            copies.push(copy(dir));
        }
        *self.counts.lock().unwrap().entry(call).or_default() += 1;
        let mut journal = self.journal.lock().unwrap();
        journal.push((call, path.to_owned()));
        for fault in self.faults.lock().unwrap().iter_mut() {
            if fault.call != call || fault.times == 0 {
                continue;
            }
            if let Some(after) = fault.after.checked_sub(1) {
                fault.after = after;
            } else {
                fault.times -= 1;
                self.failures.lock().unwrap().push((journal.len() - 1, path.to_owned()));
                return Err(Error::from_raw_os_error(fault.errno));
            }
        }
        Ok(())
    }
}

pub(crate) fn faulty() -> (Env, Arc<State>) {
    let real = Env::os();
    let state = Arc::new(State::default());
    let storage = Arc::new(Faulty { real: real.clone(), state: Arc::clone(&state) });
    (Env { storage, ..real }, state)
}

/// The real storage without its syncs.
pub(crate) fn quick() -> Env {
    let (env, state) = faulty();
    state.without_syncs.store(true, SeqCst);
    env
}

impl Storage for Faulty {
    fn create_dir_all(&self, dir: &Path) -> Result<()> {
        self.real.storage.create_dir_all(dir)
    }

    fn list(&self, dir: &Path) -> Result<Vec<OsString>> {
        self.real.storage.list(dir)
    }

    fn open(&self, path: &Path, access: Access) -> Result<Arc<dyn StorageFile>> {
        if access == Access::New {
            self.state.call(Call::Create, path)?;
        }
        let file = self.real.storage.open(path, access)?;
        let (path, state) = (path.to_owned(), Arc::clone(&self.state));
        Ok(Arc::new(FaultyFile { file, path, state, is_direct: AtomicBool::new(false) }))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.real.storage.rename(from, to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.state.call(Call::Remove, path)?;
        self.real.storage.remove(path)
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.state.call(Call::SyncDir, dir)?;
        if self.state.without_syncs.load(SeqCst) {
            return Ok(());
        }
        self.real.storage.sync_dir(dir)
    }

    fn lock(&self, path: &Path, note: &[u8]) -> Result<LockAttempt> {
        self.real.storage.lock(path, note)
    }

    fn lock_note(&self, path: &Path) -> Result<Option<Vec<u8>>> {
        self.real.storage.lock_note(path)
    }

    fn free_bytes(&self, dir: &Path) -> Result<u64> {
        self.real.storage.free_bytes(dir)
    }

    fn works_side_by_side(&self) -> bool {
        self.real.storage.works_side_by_side()
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: Arc<dyn StorageFile>,
    path: PathBuf,
    state: Arc<State>,
    is_direct: AtomicBool,
}

impl StorageFile for FaultyFile {
    fn write_at(&self, slices: &mut [IoSlice<'_>], offset: u64) -> Result<()> {
        if let Err(error) = self.state.call(Call::Write, &self.path) {
            // As a full or failing disk does: a part of it arrives.
            let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.file.set_direct(false)?;
            self.file.write_at(&mut [IoSlice::new(&bytes[..bytes.len() / 2])], offset)?;
            return Err(error);
        }
        self.file.write_at(slices, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.state.call(Call::Read, &self.path)?;
        let count = self.file.read_at(buffer, offset)?;
        self.state.bytes_read.fetch_add(count as u64, SeqCst);
        if self.is_direct.load(SeqCst) {
            self.state.bytes_read_direct.fetch_add(count as u64, SeqCst);
        }
        if std::thread::current().name() == Some("wal-reader") {
            self.state.bytes_read_ahead.fetch_add(count as u64, SeqCst);
        }
        Ok(count)
    }

    fn set_direct(&self, direct: bool) -> Result<()> {
        self.file.set_direct(direct)?;
        self.is_direct.store(direct, SeqCst);
        Ok(())
    }

    fn sync_data(&self) -> Result<()> {
        drop(self.state.gate.lock().unwrap());
        self.state.call(Call::Sync, &self.path)?;
        if self.state.without_syncs.load(SeqCst) {
            return Ok(());
        }
        self.file.sync_data()
    }

    fn sync_all(&self) -> Result<()> {
        self.state.call(Call::Sync, &self.path)?;
        if self.state.without_syncs.load(SeqCst) {
            return Ok(());
        }
        self.file.sync_all()
    }

    fn allocate(&self, offset: u64, length: u64) -> Result<()> {
        self.state.call(Call::Allocate, &self.path)?;
        self.file.allocate(offset, length)
    }

    fn set_len(&self, length: u64) -> Result<()> {
        self.file.set_len(length)
    }

    fn length(&self) -> Result<u64> {
        self.file.length()
    }

    fn drop_page_cache(&self, range: Range<u64>) -> Result<()> {
        self.file.drop_page_cache(range)
    }
}

pub(crate) fn of(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .unwrap()
}
