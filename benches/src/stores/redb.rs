//! redb: one transaction for each entry, with immediate durability.

use std::path::Path;

use redb::{Database, Durability, TableDefinition};

use super::Keys;
use crate::{
    Result,
    entries::Pool,
    method::{Append, Kind, Method},
};

const TABLE: TableDefinition<'static, u64, &'static [u8]> = TableDefinition::new("entries");

/// A redb database with one table.
pub struct Redb {
    database: Database,
    keys: Keys,
    pool: Pool,
}

impl Redb {
    /// Opens or makes one.
    ///
    /// # Errors
    ///
    /// When redb cannot.
    pub fn open(dir: &Path, pool: &Pool) -> Result<Redb> {
        let database = Database::create(dir.join("entries.redb"))?;
        Ok(Redb { database, keys: Keys::new(pool), pool: pool.clone() })
    }
}

impl Method for Redb {
    fn name(&self) -> &str {
        "redb 4, immediate"
    }

    fn kind(&self) -> Kind {
        Kind::Store
    }

    fn producer(&self, number: usize) -> Result<Append<'_>> {
        let mut entries = self.pool.entries(number).into_iter().cycle();
        Ok(Box::new(move || {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            let entry = entries.next().unwrap_or_default();
            transaction.open_table(TABLE)?.insert(self.keys.next(), &entry[..])?;
            Ok(transaction.commit()?)
        }))
    }
}
