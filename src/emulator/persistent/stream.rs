//! One persistent stream: how far it is committed, and which of its connections may go on.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::emulator::format::Encoding;
use crate::emulator::writer::{Failure, Progress};

/// A stream that outlives its connections.
pub(in crate::emulator) struct Stream {
    id: String,
    encoding: Encoding,
    state: Mutex<State>,
}

/// What changes of a stream. A commit holds it locked from the check whether the connection still has the stream until
/// the rows are on the disk, so whoever takes the stream comes before the commit or behind it.
pub(in crate::emulator) struct State {
    /// What the connection that has the stream is told by; rows that come with another one are not committed.
    holder: Option<Arc<watch::Sender<Progress>>>,
    /// The last offset in the table, −1 for none. Not known before the table was asked, or after a commit that failed.
    pub(in crate::emulator) committed: Option<i64>,
    is_retired: bool,
}

impl Stream {
    /// A stream that no connection has yet.
    pub(in crate::emulator) fn new(
        id: String,
        encoding: Encoding,
        committed: Option<i64>,
        is_retired: bool,
    ) -> Stream {
        Stream { id, encoding, state: Mutex::new(State { holder: None, committed, is_retired }) }
    }

    pub(in crate::emulator) fn id(&self) -> &str {
        &self.id
    }

    /// How its records are written, since it was created.
    pub(super) fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// What lies behind the lock is whole at every moment, whatever a thread that held it died of. Blocks while rows of
    /// the stream are committed.
    pub(in crate::emulator) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the stream to a new connection; none if it is retired. Of the connection that had it nothing is committed
    /// any more, and what it has committed before is in the progress that the new one starts from.
    ///
    /// `ask_table` says which offset the table has, if that is not known.
    pub(in crate::emulator) fn take<E>(
        &self,
        ask_table: impl FnOnce() -> Result<i64, E>,
    ) -> Result<Option<Arc<watch::Sender<Progress>>>, E> {
        let mut state = self.lock();
        if state.is_retired {
            return Ok(None);
        }
        state.fence();
        let committed = state.committed.map_or_else(ask_table, Ok)?;
        state.committed = Some(committed);
        let progress = Progress::watched(committed);
        state.holder = Some(Arc::clone(&progress));
        Ok(Some(progress))
    }

    /// Lets no connection have the stream any more.
    pub(super) fn retire(&self) {
        let mut state = self.lock();
        state.is_retired = true;
        state.fence();
    }
}

impl State {
    fn fence(&mut self) {
        if let Some(holder) = self.holder.take() {
            holder.send_modify(|progress| {
                progress.failure.get_or_insert(Failure::Fenced);
            });
        }
    }
}
