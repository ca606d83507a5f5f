//! The tables of the emulator: found on disk at start, made from DDL or from a descriptor.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use arrow_schema::{ArrowError, Schema, SchemaRef as ArrowSchemaRef};
use delta_kernel::engine::arrow_conversion::TryIntoArrow as _;
use delta_kernel::schema::{SchemaRef, StructType};

use super::Sink;
use super::ddl::columns_text;
use super::delta::{DeltaEngine, DeltaError, DeltaTable};
use super::persistent::Streams;
use super::sql::{Change, Privilege};
use super::writer::Writer;
use crate::types::TableName;

/// Why a table cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The Delta library or the disk refused.
    #[error(transparent)]
    Delta(#[from] DeltaError),
    /// The table is there with other columns.
    #[error(
        "table {table} exists with columns ({existing}) and not ({wanted}); use those or another data directory"
    )]
    Different {
        /// The table.
        table: TableName,
        /// The columns on disk.
        existing: String,
        /// The columns that were asked for.
        wanted: String,
    },
    /// The columns have no Arrow type.
    #[error("table {table}: columns that cannot be written")]
    Columns {
        /// The table.
        table: TableName,
        /// What Arrow said.
        source: ArrowError,
    },
    /// A directory cannot be read, or not be removed.
    #[error("cannot read or remove {}", path.display())]
    Read {
        /// The directory.
        path: PathBuf,
        /// What the file system said.
        source: io::Error,
    },
    /// No thread for the writer of the table.
    #[error("cannot start the writer of table {table}")]
    Thread {
        /// The table.
        table: TableName,
        /// What the system said.
        source: io::Error,
    },
}

/// A table that streams can write to.
pub(super) struct Table {
    name: TableName,
    directory: PathBuf,
    schema: SchemaRef,
    columns: ArrowSchemaRef,
    refusal: Option<String>,
    is_writable: AtomicBool,
    streams: Arc<Streams>,
    writer: Writer,
}

impl Table {
    pub(super) fn name(&self) -> &TableName {
        &self.name
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The columns as Delta has them.
    pub(super) fn schema(&self) -> &StructType {
        &self.schema
    }

    /// The columns as Arrow has them.
    pub(super) fn columns(&self) -> &ArrowSchemaRef {
        &self.columns
    }

    /// Why no rows can be appended to it, if that is so.
    pub(super) fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    /// Whether the client may write to it. Asked for every request, so it is a field and not a question to the catalog.
    pub(super) fn is_writable(&self) -> bool {
        self.is_writable.load(Ordering::Relaxed)
    }

    pub(super) fn streams(&self) -> &Streams {
        &self.streams
    }

    pub(super) fn writer(&self) -> &Writer {
        &self.writer
    }
}

/// All tables below one data directory. Calls that may touch the disk block.
pub(super) struct Catalog {
    data_dir: PathBuf,
    engine: DeltaEngine,
    commit_interval: Duration,
    sink: Sink,
    tables: RwLock<HashMap<TableName, Arc<Table>>>,
    /// Held while a table is made or changed, so that two do not do it at once.
    making: Mutex<()>,
    /// What the client may not do.
    revoked: RwLock<HashSet<(TableName, Privilege)>>,
}

impl Catalog {
    /// Finds the tables that are there.
    pub(super) fn open(
        data_dir: &Path,
        engine: DeltaEngine,
        commit_interval: Duration,
        sink: Sink,
    ) -> Result<Catalog, TableError> {
        let catalog = Catalog {
            data_dir: data_dir.to_owned(),
            engine,
            commit_interval,
            sink,
            tables: RwLock::default(),
            making: Mutex::default(),
            revoked: RwLock::default(),
        };
        for directory in subdirectories(data_dir, 3)? {
            let parts = directory.strip_prefix(data_dir).unwrap_or(&directory);
            let name: Vec<_> = parts.iter().map(|part| part.to_string_lossy()).collect();
            if let Ok(name) = name.join(".").parse()
                && DeltaTable::exists(&directory)
            {
                catalog.add(name, directory)?;
            }
        }
        Ok(catalog)
    }

    /// The table of this name.
    pub(super) fn find(&self, name: &TableName) -> Option<Arc<Table>> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }

    /// The table of this name with these columns; made if it is missing.
    pub(super) fn create(&self, name: &TableName, schema: &StructType) -> Result<Arc<Table>, TableError> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(table) = self.find(name) {
            let (existing, wanted) = (columns_text(table.schema()), columns_text(schema));
            if existing != wanted {
                return Err(TableError::Different { table: name.clone(), existing, wanted });
            }
            return Ok(table);
        }
        let directory = self.data_dir.join(name.parts().iter().collect::<PathBuf>());
        DeltaTable::create(&self.engine, &directory, Arc::new(schema.clone()))?;
        self.add(name.clone(), directory)
    }

    /// Changes the columns of a table; false if there is no such table. Its streams end once what they have handed
    /// over is committed, for they were made for the columns that it had.
    pub(super) fn alter(&self, name: &TableName, change: &Change) -> Result<bool, TableError> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(table) = self.find(name) else { return Ok(false) };
        table.writer.stop();
        let altered = DeltaTable::open(&self.engine, &table.directory).and_then(|mut it| it.alter(change));
        // Changed or not, it needs a new writer.
        self.add(name.clone(), table.directory.clone())?;
        Ok(altered.map(|()| true)?)
    }

    /// Removes a table with its rows; false if there is no such table. Its streams end at their next request.
    pub(super) fn drop_table(&self, name: &TableName) -> Result<bool, TableError> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let found = self.tables.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        let Some(table) = found else { return Ok(false) };
        table.writer.stop();
        // Its streams go first: a table that is made anew must not find them.
        let removed = table.streams.forget().and_then(|()| fs::remove_dir_all(&table.directory));
        removed.map_err(|source| TableError::Read { path: table.directory.clone(), source })?;
        Ok(true)
    }

    /// Grants or revokes a privilege; false if there is no such table. It is forgotten at the end.
    pub(super) fn grant(&self, name: &TableName, privilege: Privilege, is_granted: bool) -> bool {
        // Nobody makes the table anew meanwhile from what was revoked before.
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut revoked = self.revoked.write().unwrap_or_else(PoisonError::into_inner);
            let pair = (name.clone(), privilege);
            if is_granted {
                revoked.remove(&pair)
            } else {
                revoked.insert(pair)
            };
        }
        let Some(table) = self.find(name) else { return false };
        if privilege == Privilege::Modify {
            table.is_writable.store(is_granted, Ordering::Relaxed);
        }
        true
    }

    /// Whether the client has a privilege.
    pub(super) fn has(&self, name: &TableName, privilege: Privilege) -> bool {
        let revoked = self.revoked.read().unwrap_or_else(PoisonError::into_inner);
        !revoked.contains(&(name.clone(), privilege))
    }

    fn add(&self, name: TableName, directory: PathBuf) -> Result<Arc<Table>, TableError> {
        let delta = DeltaTable::open(&self.engine, &directory)?;
        let schema = delta.schema();
        let columns: Schema = schema
            .as_ref()
            .try_into_arrow()
            .map_err(|source| TableError::Columns { table: name.clone(), source })?;
        let columns = Arc::new(columns);
        let refusal = delta.refusal();
        let writer = Writer::start(delta, Arc::clone(&columns), self.commit_interval)
            .map_err(|source| TableError::Thread { table: name.clone(), source })?;
        let is_writable = AtomicBool::new(self.has(&name, Privilege::Modify));
        let streams = match self.find(&name) {
            // They outlive what is done to the columns.
            Some(table) => Arc::clone(&table.streams),
            None => Arc::new(self.streams(&directory)),
        };
        let name_of_table = name.clone();
        let table =
            Table { name: name_of_table, directory, schema, columns, refusal, is_writable, streams, writer };
        let table = Arc::new(table);
        self.tables.write().unwrap_or_else(PoisonError::into_inner).insert(name, Arc::clone(&table));
        Ok(table)
    }

    fn streams(&self, directory: &Path) -> Streams {
        match self.sink {
            Sink::Delta => Streams::beside(self.engine.clone(), directory),
            Sink::Discard => Streams::in_memory(),
        }
    }

    /// Commits what all writers hold and ends them.
    pub(super) fn stop(&self) {
        for table in self.tables.read().unwrap_or_else(PoisonError::into_inner).values() {
            table.writer.stop();
        }
    }
}

fn subdirectories(path: &Path, depth: usize) -> Result<Vec<PathBuf>, TableError> {
    if depth == 0 {
        return Ok(vec![path.to_owned()]);
    }
    let read = |source| TableError::Read { path: path.to_owned(), source };
    let mut found = Vec::new();
    for entry in fs::read_dir(path).map_err(read)? {
        let entry = entry.map_err(read)?;
        if entry.file_type().map_err(read)?.is_dir() {
            found.extend(subdirectories(&entry.path(), depth - 1)?);
        }
    }
    Ok(found)
}
