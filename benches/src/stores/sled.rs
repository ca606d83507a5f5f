//! sled: one insert and `flush` for each entry, and the sync of its file that sled 0.34 leaves out.

use std::{fs::File, path::Path};

use super::Keys;
use crate::{
    MIB, Result,
    entries::Pool,
    method::{Append, Kind, Method},
};

/// A sled database.
pub struct Sled {
    database: sled::Db,
    file: File,
    keys: Keys,
    pool: Pool,
}

impl Sled {
    /// Opens or makes one.
    ///
    /// # Errors
    ///
    /// When sled cannot.
    pub fn open(dir: &Path, pool: &Pool) -> Result<Sled> {
        let config = sled::Config::new().path(dir).flush_every_ms(None).cache_capacity(64 * MIB as u64);
        let database = config.open()?;
        let file = File::open(dir.join("db"))?;
        Ok(Sled { database, file, keys: Keys::new(pool), pool: pool.clone() })
    }
}

impl Method for Sled {
    fn name(&self) -> &str {
        "sled 0.34, synced"
    }

    fn kind(&self) -> Kind {
        Kind::Store
    }

    fn producer(&self, number: usize) -> Result<Append<'_>> {
        let mut entries = self.pool.entries(number).into_iter().cycle();
        Ok(Box::new(move || {
            let entry = entries.next().unwrap_or_default();
            self.database.insert(self.keys.next().to_be_bytes(), &entry[..])?;
            self.database.flush()?;
            Ok(self.file.sync_all()?)
        }))
    }
}
