//! A pair of sockets by which a thread that knows nothing of Python wakes one that waits in Python.

use std::io::Result;

#[cfg(unix)]
pub(crate) type Socket = std::os::unix::net::UnixStream;
#[cfg(windows)]
pub(crate) type Socket = std::net::TcpStream;

/// The end to write to and the end to wait at. Neither blocks.
pub(crate) fn pair() -> Result<(Socket, Socket)> {
    #[cfg(unix)]
    let (writer, reader) = Socket::pair()?;
    #[cfg(windows)]
    let (writer, reader) = over_tcp()?;
    writer.set_nonblocking(true)?;
    reader.set_nonblocking(true)?;
    Ok((writer, reader))
}

/// As Python knows it.
#[cfg(unix)]
pub(crate) fn descriptor(socket: &Socket) -> i64 {
    std::os::fd::AsRawFd::as_raw_fd(socket).into()
}

/// As Python knows it.
#[cfg(windows)]
pub(crate) fn descriptor(socket: &Socket) -> i64 {
    // Handles are small numbers; one that were not would be refused by Python.
    i64::try_from(std::os::windows::io::AsRawSocket::as_raw_socket(socket)).unwrap_or(-1)
}

/// A connected pair on the loopback: Windows has no other sockets that a program can wait at with `select`.
#[cfg(any(windows, test))]
fn over_tcp() -> Result<(std::net::TcpStream, std::net::TcpStream)> {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let writer = TcpStream::connect(listener.local_addr()?)?;
    writer.set_nodelay(true)?;
    loop {
        let (reader, from) = listener.accept()?;
        // Any process of this machine may have connected before us.
        if from == writer.local_addr()? {
            return Ok((writer, reader));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    #[test]
    fn what_is_written_at_one_end_of_a_tcp_pair_comes_out_of_the_other() {
        let (mut writer, mut reader) = super::over_tcp().unwrap();
        writer.write_all(b"x").unwrap();
        let mut read = [0];
        reader.read_exact(&mut read).unwrap();
        assert_eq!(&read, b"x");
    }
}
