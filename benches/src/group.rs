//! The simplest possible group commit: whoever comes while nobody writes is the leader and writes everything that
//! waits with one call.

use std::{
    io,
    sync::{Condvar, Mutex, PoisonError},
};

use bytes::Bytes;

/// What the leader does with the entries of a group.
pub(crate) trait GroupWriter: Send {
    /// Makes them durable.
    fn write(&mut self, entries: &[Bytes]) -> io::Result<()>;
}

pub(crate) struct Group<W> {
    state: Mutex<State>,
    moved: Condvar,
    /// Only the leader locks it.
    writer: Mutex<W>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Bytes>,
    /// How many entries have come, and how many of them are durable.
    arrived: u64,
    durable: u64,
    has_leader: bool,
    failure: Option<io::ErrorKind>,
    groups: u64,
}

impl<W: GroupWriter> Group<W> {
    pub(crate) fn new(writer: W) -> Group<W> {
        Group { state: Mutex::default(), moved: Condvar::new(), writer: Mutex::new(writer) }
    }

    /// How many groups there were.
    pub(crate) fn groups(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).groups
    }

    pub(crate) fn writer(&mut self) -> &mut W {
        self.writer.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns when the entry is durable.
    pub(crate) fn append(&self, entry: Bytes) -> io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.waiting.push(entry);
        state.arrived += 1;
        let ticket = state.arrived;
        while state.durable < ticket {
            if let Some(kind) = state.failure {
                return Err(kind.into());
            }
            if state.has_leader {
                state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.has_leader = true;
            let group = std::mem::take(&mut state.waiting);
            let last = state.arrived;
            drop(state);
            let written = self.writer.lock().unwrap_or_else(PoisonError::into_inner).write(&group);
            state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.has_leader = false;
            state.groups += 1;
            match written {
                Ok(()) => state.durable = last,
                Err(error) => state.failure = Some(error.kind()),
            }
            self.moved.notify_all();
        }
        Ok(())
    }
}
