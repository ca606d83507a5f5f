//! One Delta table on disk: create it, open it, append rows to it.
//!
//! Files go through [`DurableStore`], so what [`DeltaTable::append`] has returned for survives a power cut.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::RecordBatch;
use delta_kernel::committer::FileSystemCommitter;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::expressions::ColumnName;
use delta_kernel::schema::SchemaRef;
use delta_kernel::snapshot::{Snapshot, SnapshotRef};
use delta_kernel::transaction::create_table::create_table;
use delta_kernel::transaction::{CommitResult, UpdateTableOperation};
use delta_kernel::{KernelError, Version};
use delta_kernel_default_engine::executor::tokio::TokioMultiThreadExecutor;
use delta_kernel_default_engine::{DefaultEngine, DefaultEngineBuilder};
use tokio::runtime::Handle;
use url::Url;

use super::sql::Change;
use super::store::{DurableStore, create_directories};
use crate::platform::files::sync_directory;

const ENGINE_INFO: &str = concat!("arrow-zerobus-sdk-wrapper-emulator/", env!("CARGO_PKG_VERSION"));
const LOG_DIRECTORY: &str = "_delta_log";
/// A reader replays at most this many commits behind the last checkpoint.
const COMMITS_PER_CHECKPOINT: Version = 100;
/// How often an append starts again because somebody else committed first.
const CONFLICTS_MAX: usize = 20;

/// Why a Delta table could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DeltaError {
    /// The file system refused.
    #[error("cannot write below {}", directory.display())]
    Io {
        /// The directory of the table.
        directory: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// The Delta log cannot be read, or not be written by us.
    #[error("Delta table {}", directory.display())]
    Kernel {
        /// The directory of the table.
        directory: PathBuf,
        /// What the Delta library said.
        source: Box<KernelError>,
    },
    /// Other writers were faster, every time.
    #[error("gave up writing to {} because of conflicting commits", directory.display())]
    Conflicts {
        /// The directory of the table.
        directory: PathBuf,
    },
}

/// What reads and writes the files of all tables.
#[derive(Clone)]
pub(super) struct DeltaEngine {
    kernel: Arc<DefaultEngine<TokioMultiThreadExecutor>>,
    runtime: Handle,
}

impl DeltaEngine {
    /// `runtime` must be a multi-threaded one; it does the file work.
    pub(super) fn new(runtime: Handle) -> DeltaEngine {
        let executor = Arc::new(TokioMultiThreadExecutor::new(runtime.clone()));
        let kernel =
            DefaultEngineBuilder::new(Arc::new(DurableStore::new())).with_task_executor(executor).build();
        DeltaEngine { kernel: Arc::new(kernel), runtime }
    }
}

/// A table and its newest known version. Its calls block and must not run on a worker of the runtime.
pub(super) struct DeltaTable {
    engine: DeltaEngine,
    directory: PathBuf,
    snapshot: SnapshotRef,
}

impl DeltaTable {
    /// Whether there is a Delta table in the directory. One whose first commit never happened is none.
    pub(super) fn exists(directory: &Path) -> bool {
        let is_commit = |name: &str| !name.starts_with('.') && name.ends_with(".json");
        std::fs::read_dir(directory.join(LOG_DIRECTORY)).is_ok_and(|mut log| {
            log.any(|entry| entry.is_ok_and(|e| is_commit(&e.file_name().to_string_lossy())))
        })
    }

    /// Makes an empty table.
    pub(super) fn create(
        engine: &DeltaEngine,
        directory: &Path,
        schema: SchemaRef,
    ) -> Result<DeltaTable, DeltaError> {
        let io = |source| DeltaError::Io { directory: directory.to_owned(), source };
        create_directories(directory).map_err(io)?;
        let kernel = kernel_error(directory);
        create_table(table_url(directory)?, schema, ENGINE_INFO, true)
            .build(engine.kernel.as_ref(), Box::new(FileSystemCommitter::new()))
            .and_then(|transaction| transaction.commit(engine.kernel.as_ref()))
            // A conflict means that somebody else has just made it; opening it shows what is there.
            .map(drop)
            .map_err(kernel)?;
        DeltaTable::open(engine, directory)
    }

    /// Reads the newest version of the table.
    pub(super) fn open(engine: &DeltaEngine, directory: &Path) -> Result<DeltaTable, DeltaError> {
        let snapshot = Snapshot::builder_for(table_url(directory)?)
            .build(engine.kernel.as_ref())
            .map_err(kernel_error(directory))?;
        Ok(DeltaTable { engine: engine.clone(), directory: directory.to_owned(), snapshot })
    }

    /// The columns of the table.
    pub(super) fn schema(&self) -> SchemaRef {
        self.snapshot.schema()
    }

    /// Appends the rows as one file and one commit and returns the version that holds them. The same commit says that
    /// each of these applications has come so far.
    ///
    /// # Durability
    ///
    /// The data file, the log file and their names are on the disk when it returns. After an error the
    /// rows may be in the table or not.
    pub(super) fn append(
        &mut self,
        rows: &RecordBatch,
        applications: &BTreeMap<&str, i64>,
    ) -> Result<Version, DeltaError> {
        for _ in 0..CONFLICTS_MAX {
            match self.try_append(rows, applications) {
                Ok(Some(version)) => return Ok(version),
                // Somebody else took the version: look at what they did and append behind it.
                Ok(None) => *self = DeltaTable::open(&self.engine, &self.directory)?,
                Err(source) => return Err(kernel_error(&self.directory)(source)),
            }
        }
        Err(DeltaError::Conflicts { directory: self.directory.clone() })
    }

    /// How far an application has come, by the last commit that says so.
    ///
    /// # Durability
    ///
    /// That commit is on the disk when it returns, also if whoever wrote it was killed before it was.
    pub(super) fn application_version(&self, id: &str) -> Result<Option<i64>, DeltaError> {
        sync_directory(&self.directory.join(LOG_DIRECTORY))
            .map_err(|source| DeltaError::Io { directory: self.directory.clone(), source })?;
        let version = self.snapshot.get_app_id_version(id, self.engine.kernel.as_ref());
        version.map_err(kernel_error(&self.directory))
    }

    /// Changes the columns. Rows that are there have null in new ones.
    pub(super) fn alter(&mut self, change: &Change) -> Result<(), DeltaError> {
        let kernel = self.engine.kernel.as_ref();
        let alteration =
            Arc::clone(&self.snapshot).update_table(UpdateTableOperation::AlterTable, ENGINE_INFO, false);
        let alteration = match change {
            Change::AddColumns(columns) => {
                columns.iter().fold(alteration, |it, column| it.add_column(column.clone()))
            }
            Change::DropNotNull(column) => alteration.set_nullable(ColumnName::new([column])),
        };
        let committed = alteration
            .build(kernel, Box::new(FileSystemCommitter::new()))
            .and_then(|transaction| transaction.commit(kernel));
        match committed.map_err(kernel_error(&self.directory))? {
            CommitResult::Committed(_) => Ok(()),
            CommitResult::Conflicted(_) => Err(DeltaError::Conflicts { directory: self.directory.clone() }),
            CommitResult::Retryable(failed) => Err(kernel_error(&self.directory)(failed.error)),
        }
    }

    /// Why rows cannot be appended, such as partitions, which nothing here writes.
    pub(super) fn refusal(&self) -> Option<String> {
        let kernel = self.engine.kernel.as_ref();
        let write = Arc::clone(&self.snapshot)
            .update_table(UpdateTableOperation::StreamingUpdate, ENGINE_INFO, true)
            .build(kernel, Box::new(FileSystemCommitter::new()))
            .and_then(|transaction| transaction.write_state()?.write_context_builder().build());
        write.err().map(|error| error.to_string())
    }

    fn try_append(
        &mut self,
        rows: &RecordBatch,
        applications: &BTreeMap<&str, i64>,
    ) -> Result<Option<Version>, KernelError> {
        let kernel = self.engine.kernel.as_ref();
        let append = Arc::clone(&self.snapshot)
            .update_table(UpdateTableOperation::StreamingUpdate, ENGINE_INFO, true)
            .with_blind_append();
        let mut transaction = applications
            .iter()
            .fold(append, |append, (id, version)| append.with_transaction_id(*id, *version))
            .build(kernel, Box::new(FileSystemCommitter::new()))?;
        let context = transaction.write_state()?.write_context_builder().build()?;
        let data = ArrowEngineData::new(rows.clone());
        let file = self.engine.runtime.block_on(kernel.write_parquet(&data, &context))?;
        transaction.add_files(file);
        match transaction.commit(kernel)? {
            CommitResult::Committed(committed) => {
                self.snapshot = match committed.post_commit_snapshot() {
                    Some(snapshot) => Arc::clone(snapshot),
                    None => Snapshot::builder_from(Arc::clone(&self.snapshot)).build(kernel)?,
                };
                Ok(Some(committed.commit_version()))
            }
            CommitResult::Conflicted(_) => Ok(None),
            CommitResult::Retryable(failed) => Err(failed.error),
        }
    }

    /// Writes a checkpoint when enough commits stand behind the last one. It only makes reading quicker.
    pub(super) fn checkpoint(&mut self, version: Version) -> Result<(), DeltaError> {
        if version.is_multiple_of(COMMITS_PER_CHECKPOINT) {
            let written = self.snapshot.checkpoint(self.engine.kernel.as_ref(), None);
            self.snapshot = written.map_err(kernel_error(&self.directory))?.1;
        }
        Ok(())
    }
}

fn kernel_error(directory: &Path) -> impl Fn(KernelError) -> DeltaError + '_ {
    move |source| DeltaError::Kernel { directory: directory.to_owned(), source: Box::new(source) }
}

fn table_url(directory: &Path) -> Result<Url, DeltaError> {
    Url::from_directory_path(directory).map_err(|()| DeltaError::Io {
        directory: directory.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidInput, "not an absolute path"),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array};
    use delta_kernel::engine::arrow_data::EngineDataArrowExt as _;

    use super::super::ddl::parse_columns;
    use super::*;

    pub(in crate::emulator) fn rows(table: &DeltaTable, id: i64) -> RecordBatch {
        use delta_kernel::engine::arrow_conversion::TryIntoArrow as _;
        let schema: arrow_schema::Schema = table.schema().as_ref().try_into_arrow().unwrap();
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![id]));
        RecordBatch::try_new(Arc::new(schema), vec![ids]).unwrap()
    }

    pub(in crate::emulator) fn count(table: &DeltaTable) -> usize {
        let scan = Arc::clone(&table.snapshot).scan_builder().build().unwrap();
        let data = scan.execute(Arc::clone(&table.engine.kernel) as _).unwrap();
        data.map(|data| data.unwrap().try_into_record_batch().unwrap().num_rows()).sum()
    }

    pub(in crate::emulator) fn table() -> (tokio::runtime::Runtime, tempfile::TempDir, DeltaTable) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let schema = Arc::new(parse_columns("id BIGINT NOT NULL").unwrap());
        let engine = DeltaEngine::new(runtime.handle().clone());
        let table = DeltaTable::create(&engine, &dir.path().join("t"), schema).unwrap();
        (runtime, dir, table)
    }

    pub(in crate::emulator) fn reopen(table: &DeltaTable) -> DeltaTable {
        DeltaTable::open(&table.engine, &table.directory).unwrap()
    }

    pub(in crate::emulator) fn log(table: &DeltaTable) -> PathBuf {
        table.directory.join(LOG_DIRECTORY)
    }

    #[test]
    fn two_writers_of_one_table_append_behind_each_other() {
        let (_runtime, _dir, mut first) = table();
        let mut second = reopen(&first);
        for id in 0..3 {
            let batch = rows(&first, id);
            assert_eq!(first.append(&batch, &BTreeMap::new()).unwrap(), 2 * u64::try_from(id).unwrap() + 1);
            assert_eq!(second.append(&batch, &BTreeMap::new()).unwrap(), 2 * u64::try_from(id).unwrap() + 2);
        }
        assert_eq!(count(&reopen(&first)), 6);
    }

    #[test]
    fn how_far_applications_have_come_is_in_the_commits_and_in_the_checkpoint() {
        let (_runtime, _dir, mut table) = table();
        let batch = rows(&table, 1);
        for step in 0..2 * i64::try_from(COMMITS_PER_CHECKPOINT).unwrap() {
            let (early, often) = (("early", step), ("often", 10 * step));
            let applications = if step < 5 { vec![early, often] } else { vec![often] };
            let version = table.append(&batch, &applications.into_iter().collect()).unwrap();
            table.checkpoint(version).unwrap();
            if [0, 4, 98, 99, 100, 199].contains(&step) {
                let reopened = reopen(&table);
                assert_eq!(reopened.application_version("early").unwrap(), Some(step.min(4)));
                assert_eq!(reopened.application_version("often").unwrap(), Some(10 * step));
                assert_eq!(reopened.application_version("never").unwrap(), None);
            }
        }
    }

    #[test]
    fn a_long_log_gets_a_checkpoint_and_the_table_stays_whole() {
        let (_runtime, _dir, mut table) = table();
        let commits = COMMITS_PER_CHECKPOINT + 3;
        for id in 0..commits {
            let version = table.append(&rows(&table, i64::try_from(id).unwrap()), &BTreeMap::new()).unwrap();
            table.checkpoint(version).unwrap();
        }
        let log = log(&table);
        assert!(log.join(format!("{COMMITS_PER_CHECKPOINT:020}.checkpoint.parquet")).is_file());
        let reopened = reopen(&table);
        assert_eq!((count(&reopened) as u64, count(&table) as u64), (commits, commits));
    }
}
