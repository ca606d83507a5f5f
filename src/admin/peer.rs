//! Who is at the other end of the owner's socket, by what the kernel says.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

/// Whether this user may ask an owner that this process is.
pub(super) fn may_ask(user: u32) -> bool {
    user == 0 || user == rustix::process::geteuid().as_raw()
}

/// The user of the process that has bound the socket which this is connected to.
#[cfg(target_os = "linux")]
pub(super) fn user_of(stream: &UnixStream) -> io::Result<u32> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is open as long as `stream` is borrowed; `peer` and `length` are ours, and `length` says
    // how long `peer` is, so the kernel writes no further.
    #[expect(unsafe_code, reason = "the standard library does not ask for it yet")]
    let outcome = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    if outcome == 0 { Ok(peer.uid) } else { Err(io::Error::last_os_error()) }
}

/// The user of the process that has bound the socket which this is connected to.
#[cfg(not(target_os = "linux"))]
pub(super) fn user_of(stream: &UnixStream) -> io::Result<u32> {
    let (mut user, mut group) = (u32::MAX, u32::MAX);
    // SAFETY: the descriptor is open as long as `stream` is borrowed, and both numbers are ours.
    #[expect(unsafe_code, reason = "the standard library does not ask for it yet")]
    let outcome = unsafe { libc::getpeereid(stream.as_raw_fd(), &raw mut user, &raw mut group) };
    if outcome == 0 { Ok(user) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_who_is_there() {
        let (one, other) = UnixStream::pair().unwrap();
        assert_eq!(user_of(&one).unwrap(), rustix::process::geteuid().as_raw());
        assert!(may_ask(user_of(&other).unwrap()) && !may_ask(u32::MAX - 1));
    }
}
