//! SQLite: one statement for each entry, with the write-ahead log and `synchronous=FULL`.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
};

use rusqlite::{Connection, params};

use super::Keys;
use crate::{
    Result,
    entries::Pool,
    method::{Append, Kind, Method},
};

/// A SQLite database with one table.
pub struct Sqlite {
    /// One for all producers: SQLite has one writer at a time, and waiting here costs less than its busy handler.
    connection: Mutex<Connection>,
    keys: Keys,
    pool: Pool,
}

impl Sqlite {
    /// Opens or makes one.
    ///
    /// # Errors
    ///
    /// When SQLite cannot.
    pub fn open(dir: &Path, pool: &Pool) -> Result<Sqlite> {
        let connection = Connection::open(dir.join("entries.sqlite"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.execute("CREATE TABLE IF NOT EXISTS entries (key INTEGER PRIMARY KEY, entry BLOB)", [])?;
        Ok(Sqlite { connection: Mutex::new(connection), keys: Keys::new(pool), pool: pool.clone() })
    }
}

impl Method for Sqlite {
    fn name(&self) -> &str {
        "SQLite WAL, FULL"
    }

    fn kind(&self) -> Kind {
        Kind::Store
    }

    fn producer(&self, number: usize) -> Result<Append<'_>> {
        let mut entries = self.pool.entries(number).into_iter().cycle();
        Ok(Box::new(move || {
            let entry = entries.next().unwrap_or_default();
            let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
            let mut insert =
                connection.prepare_cached("INSERT OR REPLACE INTO entries (key, entry) VALUES (?1, ?2)")?;
            insert.execute(params![self.keys.next().cast_signed(), &entry[..]])?;
            Ok(())
        }))
    }
}
