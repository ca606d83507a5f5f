//! The descriptor of the persistent stream, in the ledger: it may be large and changes rarely.
//!
//! There are two places, which take turns: the one that the durable record names is never written.

use std::sync::Arc;

use super::streams::DescriptorMark;
use super::{LedgerError, LedgerStore};

/// The largest one that is kept; a table of 2,000 columns with long names has a fifth of it.
pub(crate) const BYTES_MAX: usize = 1024 * 1024;

/// sled puts what is longer than 128 KiB into a file of its own, which nobody syncs.
const PART_BYTES: usize = 64 * 1024;

/// The descriptor that is stored, or is to be.
#[derive(Debug, Default)]
pub(super) struct StoredDescriptor {
    bytes: Option<Arc<[u8]>>,
    place: u8,
    is_due: bool,
}

impl StoredDescriptor {
    /// What lies where the mark says.
    pub(super) fn read(store: &dyn LedgerStore, mark: DescriptorMark) -> Result<StoredDescriptor, String> {
        let length = mark.bytes as usize;
        if mark.place > 1 || length > BYTES_MAX {
            return Err("a descriptor where none can be".to_owned());
        }
        let mut bytes = Vec::with_capacity(length);
        for part in 0..length.div_ceil(PART_BYTES) {
            let found = store.get_large(&key(mark.place, part)).map_err(|error| error.to_string())?;
            bytes.extend(found.unwrap_or_default());
        }
        if DescriptorMark::of(mark.place, &bytes) != mark {
            return Err("another descriptor than the one of the stream".to_owned());
        }
        Ok(StoredDescriptor { bytes: Some(bytes.into()), place: mark.place, is_due: false })
    }

    pub(super) fn bytes(&self) -> Arc<[u8]> {
        self.bytes.clone().unwrap_or_else(|| Arc::from([]))
    }

    /// Where it lies.
    pub(super) fn place(&self) -> u8 {
        self.place
    }

    pub(super) fn remember(&mut self, descriptor: &Arc<[u8]>) {
        if self.bytes.as_ref().is_some_and(|bytes| Arc::ptr_eq(bytes, descriptor) || bytes == descriptor) {
            return;
        }
        if !self.is_due {
            self.place ^= 1;
        }
        self.bytes = Some(Arc::clone(descriptor));
        self.is_due = true;
    }

    /// It is in no store any more.
    pub(super) fn forget_place(&mut self) {
        self.is_due = self.bytes.is_some();
    }

    /// Inserts it, if it is not there already.
    pub(super) fn write(&self, store: &mut dyn LedgerStore) -> Result<(), LedgerError> {
        let bytes = self.bytes.as_deref().filter(|_| self.is_due).unwrap_or_default();
        for (part, bytes) in bytes.chunks(PART_BYTES).enumerate() {
            store.insert_large(&key(self.place, part), bytes)?;
        }
        Ok(())
    }

    /// What was inserted is durable.
    pub(super) fn written(&mut self) {
        self.is_due = false;
    }
}

fn key(place: u8, part: usize) -> [u8; 13] {
    let mut key = *b"descriptor\0..";
    (key[11], key[12]) = (place, part as u8);
    key
}
