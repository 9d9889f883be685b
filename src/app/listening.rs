//! A bound socket: what it is known by, what ends the serving of it, and its file where it has one.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdTcp},
    os::unix::net::UnixListener as StdUnix,
};

use anyhow::Context;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;

use super::{
    sockets,
    unix_socket::{self, SocketFile},
};
use crate::{
    config::UnixAccess,
    server::{Address, Listener, TlsInUse},
};

/// A bound socket, and what ends the serving of it.
#[derive(Debug)]
pub(super) struct Listening {
    /// The address as configured, by which a new configuration knows it again.
    pub(super) configured: Address,
    pub(super) address: Address,
    pub(super) stop: CancellationToken,
    socket: Bound,
    /// Removed with this.
    file: Option<SocketFile>,
}

#[derive(Debug)]
enum Bound {
    Tcp(StdTcp),
    Unix(StdUnix),
}

/// A socket on its way to the thread that will accept from it.
#[derive(Debug)]
pub(super) struct Door {
    socket: Bound,
    /// For those who speak TLS.
    tls: Option<TlsInUse>,
}

impl Listening {
    pub(super) fn bind(
        configured: &Address,
        access: &UnixAccess,
        key: &str,
    ) -> anyhow::Result<Self> {
        let bound = match configured {
            Address::Tcp(address) => tcp(*address).map(|(socket, at)| (socket, Address::Tcp(at))),
            Address::Tls(address) => tcp(*address).map(|(socket, at)| (socket, Address::Tls(at))),
            Address::Unix(path) => {
                let bound = unix_socket::listen(path, access);
                let (socket, file) =
                    bound.with_context(|| format!("cannot listen on {configured} ({key})"))?;
                return Ok(Self {
                    configured: configured.clone(),
                    address: configured.clone(),
                    stop: CancellationToken::new(),
                    socket: Bound::Unix(socket),
                    file: Some(file),
                });
            }
        };
        let (socket, address) =
            bound.with_context(|| format!("cannot listen on {configured} ({key})"))?;
        Ok(Self {
            configured: configured.clone(),
            address,
            stop: CancellationToken::new(),
            socket,
            file: None,
        })
    }

    /// Gives its file, where it has one, to those who may have it now.
    pub(super) fn set_access(&self, access: &UnixAccess) -> anyhow::Result<()> {
        let file = self.file.as_ref();
        file.map_or(Ok(()), |file| file.set_access(access))
            .with_context(|| format!("cannot change who may use {}", self.address))
    }

    /// The socket once more, for one that accepts from it.
    pub(super) fn door(&self, tls: &TlsInUse) -> io::Result<Door> {
        let socket = match &self.socket {
            Bound::Tcp(socket) => Bound::Tcp(socket.try_clone()?),
            Bound::Unix(socket) => Bound::Unix(socket.try_clone()?),
        };
        let tls = matches!(self.address, Address::Tls(_)).then(|| tls.clone());
        Ok(Door { socket, tls })
    }
}

fn tcp(address: SocketAddr) -> io::Result<(Bound, SocketAddr)> {
    let (socket, address) = sockets::listen(address)?;
    Ok((Bound::Tcp(socket), address))
}

impl Door {
    /// For the runtime of the calling thread.
    pub(super) fn open(self) -> io::Result<Listener> {
        Ok(match (self.socket, self.tls) {
            (Bound::Tcp(socket), None) => Listener::Tcp(TcpListener::from_std(socket)?),
            (Bound::Tcp(socket), Some(tls)) => Listener::Tls(TcpListener::from_std(socket)?, tls),
            (Bound::Unix(socket), _) => Listener::Unix(UnixListener::from_std(socket)?),
        })
    }
}
