//! How the processors are shared among threads.

/// Lets this thread work in the background, so far as the system knows such a thing: when it wakes it waits for a free
/// processor, or for its turn, and takes none from a thread that runs. Its share of them stays the same.
pub(crate) fn work_in_background() {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: the parameters are numbers, of which none means anything for this policy, and outlive the call.
        #[expect(unsafe_code, reason = "the call is one of C")]
        let refused = unsafe {
            let parameters: libc::sched_param = std::mem::zeroed();
            libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) != 0
        };
        if refused {
            let error = std::io::Error::last_os_error();
            tracing::debug!(%error, "the system does not let a thread work in the background");
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_works_in_the_background_leaves_others_as_they_are() {
        // SAFETY: a number, and nothing else.
        #[expect(unsafe_code, reason = "the call is one of C")]
        let policy = || unsafe { libc::sched_getscheduler(0) };
        let before = policy();
        let other = std::thread::spawn(move || {
            work_in_background();
            policy()
        });
        assert_eq!(other.join().unwrap(), libc::SCHED_BATCH);
        assert_eq!(policy(), before);
    }
}
