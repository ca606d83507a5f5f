//! fjall: one insert and `persist(SyncAll)` for each entry.

use std::path::Path;

use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::Keys;
use crate::{
    Result,
    entries::Pool,
    method::{Append, Kind, Method},
};

/// A fjall database with one keyspace.
pub struct Fjall {
    database: Database,
    keyspace: Keyspace,
    keys: Keys,
    pool: Pool,
}

impl Fjall {
    /// Opens or makes one.
    ///
    /// # Errors
    ///
    /// When fjall cannot.
    pub fn open(dir: &Path, pool: &Pool) -> Result<Fjall> {
        let database = Database::builder(dir).journal_compression(CompressionType::None).open()?;
        let keyspace = database.keyspace("entries", KeyspaceCreateOptions::default)?;
        Ok(Fjall { database, keyspace, keys: Keys::new(pool), pool: pool.clone() })
    }

    /// Inserts an entry that is made durable later.
    ///
    /// # Errors
    ///
    /// When fjall cannot.
    pub fn insert(&self, key: u64, entry: &[u8]) -> Result<()> {
        Ok(self.keyspace.insert(key.to_be_bytes(), entry)?)
    }

    /// Makes everything durable that was inserted.
    ///
    /// # Errors
    ///
    /// When fjall cannot.
    pub fn persist(&self) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}

impl Method for Fjall {
    fn name(&self) -> &str {
        "fjall 3, SyncAll"
    }

    fn kind(&self) -> Kind {
        Kind::Store
    }

    fn producer(&self, number: usize) -> Result<Append<'_>> {
        let mut entries = self.pool.entries(number).into_iter().cycle();
        Ok(Box::new(move || {
            self.insert(self.keys.next(), &entries.next().unwrap_or_default())?;
            self.persist()
        }))
    }
}
