//! The background threads that all wrappers of a process share.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use tokio::runtime::{Builder, Handle, Runtime};

use super::{ForkedProcess, OpenError};

/// One is enough for the network of many wrappers, two let one wrapper's processor work not stop another's.
const WORKER_THREADS: usize = 2;

/// Keeps the threads alive; the last one to go stops them.
#[derive(Debug)]
pub(super) struct SharedRuntime {
    // An Option because a runtime is stopped by value; it is only taken in `drop`.
    runtime: Option<Runtime>,
    handle: Handle,
    pid: u32,
}

impl SharedRuntime {
    /// The runtime of this process, started if no wrapper has one.
    ///
    /// # Errors
    ///
    /// [`OpenError::Forked`] in a child of a process that has opened a wrapper before: the child has neither
    /// the threads of a runtime nor those that sled starts once per process.
    pub(super) fn get() -> Result<Arc<SharedRuntime>, OpenError> {
        static SHARED: Mutex<Weak<SharedRuntime>> = Mutex::new(Weak::new());
        static FIRST_PID: OnceLock<u32> = OnceLock::new();
        let pid = std::process::id();
        let owner = *FIRST_PID.get_or_init(|| pid);
        if owner != pid {
            return Err(ForkedProcess { owner, current: pid }.into());
        }
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return Ok(running);
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKER_THREADS)
            .thread_name("zerobus")
            .enable_all()
            .build()
            .map_err(OpenError::Runtime)?;
        let started =
            Arc::new(SharedRuntime { handle: runtime.handle().clone(), runtime: Some(runtime), pid });
        *shared = Arc::downgrade(&started);
        Ok(started)
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for SharedRuntime {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        if self.pid == std::process::id() {
            // Does not wait, so that a wrapper may be dropped in asynchronous code.
            runtime.shutdown_background();
        } else {
            // The threads are the parent's; there is nothing here to stop.
            std::mem::forget(runtime);
        }
    }
}
