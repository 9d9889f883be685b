//! Sockets to listen on, and the number of files that they may become.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdListener},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Binds an address; says which port it became.
pub(super) fn listen(address: SocketAddr) -> io::Result<(StdListener, SocketAddr)> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    // A restart must not wait for the connections of the last run to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = StdListener::from(socket);
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Binds a port of both loopback addresses, or none: where one is taken by somebody else, they would
/// get what some clients send. A machine without IPv6 has one. Says which port it became.
pub(super) fn listen_on_localhost(port: u16) -> io::Result<(Vec<StdListener>, u16)> {
    /// How often a port of the system's choice may turn out to be taken for the second address.
    const TRIES: usize = 16;

    let named = |address: SocketAddr| {
        move |error: io::Error| io::Error::new(error.kind(), format!("{address}: {error}"))
    };
    let mut tries = 0..TRIES;
    loop {
        let first = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let (first, bound) = listen(first).map_err(named(first))?;
        let second = SocketAddr::from((Ipv6Addr::LOCALHOST, bound.port()));
        match listen(second) {
            Ok((second, _)) => return Ok((vec![first, second], bound.port())),
            Err(error) if is_without_ipv6(&error) => {
                tracing::info!("this machine has no IPv6: localhost is 127.0.0.1 alone");
                return Ok((vec![first], bound.port()));
            }
            Err(error) if port == 0 && error.kind() == io::ErrorKind::AddrInUse => {
                tries.next().ok_or(error)?;
            }
            Err(error) => return Err(named(second)(error)),
        }
    }
}

fn is_without_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;

    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT))
}

/// Clients that connect at once, as after a restart, must not be turned away by the system.
pub(super) const BACKLOG: i32 = 4096;

/// A proxied connection takes two files; the usual soft limit of 1024 is for programs that use
/// `select`.
pub(super) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "cannot raise the limit of open files");
    }
}
