//! The names of one directory: as everybody sees them, and as the journal on the disk has them.
//!
//! A cut keeps the first few of the changes since the last sync of the directory, in their order, as a file system
//! with a journal does. So an unsynced creation may vanish and an unsynced removal may come back, but not the later
//! of two changes without the earlier. The sync of a file says nothing about its name.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

use super::rng::SplitMix;

/// Number of a file, whatever it is called.
pub(super) type InodeNumber = u64;

type Names = BTreeMap<OsString, InodeNumber>;

#[derive(Debug, Default)]
pub(super) struct Directory {
    names: Names,
    durable: Names,
    journal: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Link(OsString, InodeNumber),
    Unlink(OsString),
    Rename(OsString, OsString),
}

fn apply(names: &mut Names, change: &Change) {
    match change {
        Change::Link(name, inode) => {
            names.insert(name.clone(), *inode);
        }
        Change::Unlink(name) => {
            names.remove(name);
        }
        Change::Rename(from, to) => {
            if let Some(inode) = names.remove(from) {
                names.insert(to.clone(), inode);
            }
        }
    }
}

impl Directory {
    pub(super) fn get(&self, name: &OsStr) -> Option<InodeNumber> {
        self.names.get(name).copied()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &OsString> {
        self.names.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn link(&mut self, name: &OsStr, inode: InodeNumber) {
        self.change(Change::Link(name.to_owned(), inode));
    }

    pub(super) fn unlink(&mut self, name: &OsStr) {
        self.change(Change::Unlink(name.to_owned()));
    }

    pub(super) fn rename(&mut self, from: &OsStr, to: &OsStr) {
        self.change(Change::Rename(from.to_owned(), to.to_owned()));
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.names, &change);
        self.journal.push(change);
    }

    /// Makes the first so many changes durable.
    pub(super) fn sync(&mut self, changes: usize) {
        let changes = changes.min(self.journal.len());
        for change in self.journal.drain(..changes) {
            apply(&mut self.durable, &change);
        }
    }

    pub(super) fn sync_some(&mut self, rng: &mut SplitMix) {
        let changes = rng.below(self.journal.len() as u64 + 1);
        self.sync(changes as usize);
    }

    pub(super) fn sync_all(&mut self) {
        self.sync(usize::MAX);
    }

    /// The power goes.
    pub(super) fn cut(&mut self, rng: &mut SplitMix) {
        if self.journal.is_empty() {
            return;
        }
        self.sync_some(rng);
        self.journal.clear();
        self.names = self.durable.clone();
    }

    /// Every file that has, had or may have again a name here.
    pub(super) fn inodes(&self) -> impl Iterator<Item = InodeNumber> + '_ {
        let created = self.journal.iter().filter_map(|change| match change {
            Change::Link(_, inode) => Some(*inode),
            _ => None,
        });
        self.names.values().chain(self.durable.values()).copied().chain(created)
    }

    /// Whether the file has a name now.
    pub(super) fn has(&self, inode: InodeNumber) -> bool {
        self.names.values().any(|named| *named == inode)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_cut_keeps_a_prefix_of_the_unsynced_changes_and_all_of_the_synced_ones() {
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let mut directory = Directory::default();
            directory.link(OsStr::new("a"), 1);
            directory.sync_all();
            directory.link(OsStr::new("b"), 2);
            directory.rename(OsStr::new("a"), OsStr::new("c"));
            directory.unlink(OsStr::new("b"));
            directory.cut(&mut SplitMix::new(seed));
            seen.insert(directory.names.clone().into_iter().collect::<Vec<_>>());
        }
        let names = |names: &[(&str, u64)]| -> Vec<(OsString, u64)> {
            names.iter().map(|(name, inode)| (OsString::from(name), *inode)).collect()
        };
        let prefixes = [
            names(&[("a", 1)]),
            names(&[("a", 1), ("b", 2)]),
            names(&[("b", 2), ("c", 1)]),
            names(&[("c", 1)]),
        ];
        assert_eq!(seen, BTreeSet::from(prefixes));
    }
}
