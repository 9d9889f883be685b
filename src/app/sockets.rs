//! Sockets to listen on, and the number of files that they may become.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
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
