//! How a user, or whoever manages services, says that a program is to end; and the one signal that must not end it.

use std::io::Result;

/// The wish that this process ends: SIGINT and SIGTERM; on Windows Ctrl-C, Ctrl-Break and a console that is closed.
#[derive(Debug)]
pub(crate) struct EndRequests {
    #[cfg(unix)]
    kinds: [tokio::signal::unix::Signal; 2],
    #[cfg(windows)]
    kinds:
        (tokio::signal::windows::CtrlC, tokio::signal::windows::CtrlBreak, tokio::signal::windows::CtrlClose),
}

impl EndRequests {
    /// From now on they do not end the process. To be called in a runtime.
    ///
    /// # Errors
    ///
    /// The system has no room for a handler.
    #[cfg(unix)]
    pub(crate) fn catch() -> Result<EndRequests> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(EndRequests { kinds: [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?] })
    }

    /// From now on they do not end the process. To be called in a runtime.
    ///
    /// # Errors
    ///
    /// The system has no room for a handler.
    #[cfg(windows)]
    pub(crate) fn catch() -> Result<EndRequests> {
        use tokio::signal::windows::{ctrl_break, ctrl_c, ctrl_close};
        Ok(EndRequests { kinds: (ctrl_c()?, ctrl_break()?, ctrl_close()?) })
    }

    /// Returns at the next wish.
    pub(crate) async fn next(&mut self) {
        #[cfg(unix)]
        {
            let [interrupt, terminate] = &mut self.kinds;
            tokio::select! {
                Some(()) = interrupt.recv() => {}
                Some(()) = terminate.recv() => {}
                else => std::future::pending().await,
            }
        }
        #[cfg(windows)]
        {
            let (interrupt, interrupt_harder, close) = &mut self.kinds;
            tokio::select! {
                Some(()) = interrupt.recv() => {}
                Some(()) = interrupt_harder.recv() => {}
                Some(()) = close.recv() => {}
                else => std::future::pending().await,
            }
        }
    }
}

/// Returns at the next wish; never where none can be heard.
pub(crate) async fn next(requests: Option<&mut EndRequests>) {
    match requests {
        Some(requests) => requests.next().await,
        None => std::future::pending().await,
    }
}

/// A limit on file sizes shall be an error of the write, not the end of the process.
#[cfg(unix)]
pub(crate) fn survive_file_limits() {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    if let Ok(runtime) = runtime {
        // Once there is a handler there always is.
        let _ = runtime.block_on(async { signal(SignalKind::from_raw(libc::SIGXFSZ)) });
    }
}

/// There is no such limit.
#[cfg(windows)]
pub(crate) fn survive_file_limits() {}
