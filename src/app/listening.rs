//! A bound address: its sockets, what ends the serving of them, and its file where it has one.

use std::{io, net::SocketAddr};

use anyhow::Context;
use tokio::net::{TcpListener, UnixListener};

use super::{
    sockets,
    unix_socket::{self, SocketFile},
};
use crate::{
    config::{Config, UnixAccess},
    server::{Address, Listener, PassedAddress, Shutdown, Socket, TlsInUse},
};

/// A bound address, and what ends the serving of it.
#[derive(Debug)]
pub(super) struct Listening {
    /// The address as configured, by which a new configuration knows it again.
    pub(super) configured: Address,
    pub(super) address: Address,
    pub(super) shutdown: Shutdown,
    /// One, but for `localhost`.
    sockets: Vec<Socket>,
    /// Removed with this.
    file: Option<SocketFile>,
}

/// A socket on its way to the thread that will accept from it.
#[derive(Debug)]
pub(super) struct Door {
    socket: Socket,
    /// The TLS that clients connect with, if they do.
    tls: Option<TlsInUse>,
}

impl Listening {
    /// Binds an address of that key, or takes the socket that was passed for it.
    pub(super) fn bind(configured: &Address, config: &Config, key: &str) -> anyhow::Result<Self> {
        let bound = match configured {
            Address::Tcp(address) => {
                tcp(*address).map(|(socket, at)| (vec![socket], Address::Tcp(at), None))
            }
            Address::Tls(address) => {
                tcp(*address).map(|(socket, at)| (vec![socket], Address::Tls(at), None))
            }
            Address::Localhost { port, tls } => {
                sockets::listen_on_localhost(*port).map(|(bound, port)| {
                    let bound = bound.into_iter().map(Socket::Tcp).collect();
                    (bound, Address::Localhost { port, tls: *tls }, None)
                })
            }
            Address::Unix(path) => unix_socket::listen(path, &config.listen.unix)
                .map(|(socket, file)| (vec![Socket::Unix(socket)], configured.clone(), Some(file))),
            // Its file, where it has one, belongs to whoever made it.
            Address::Passed(address) => {
                passed(address, config).map(|socket| (vec![socket], configured.clone(), None))
            }
        };
        let (sockets, address, file) =
            bound.with_context(|| format!("cannot listen on {configured} ({key})"))?;
        Ok(Self {
            configured: configured.clone(),
            address,
            shutdown: Shutdown::default(),
            sockets,
            file,
        })
    }

    /// Gives its file, where it has one, to those who may have it now.
    pub(super) fn set_access(&self, access: &UnixAccess) -> anyhow::Result<()> {
        let file = self.file.as_ref();
        file.map_or(Ok(()), |file| file.set_access(access))
            .with_context(|| format!("cannot change who may use {}", self.address))
    }

    /// The sockets once more, for one that accepts from them.
    pub(super) fn doors(&self, tls: &TlsInUse) -> io::Result<Vec<Door>> {
        let door = |socket: &Socket| {
            let socket = socket.try_clone()?;
            let tls = self.address.is_tls().then(|| tls.clone());
            Ok(Door { socket, tls })
        };
        self.sockets.iter().map(door).collect()
    }
}

fn tcp(address: SocketAddr) -> io::Result<(Socket, SocketAddr)> {
    let (socket, address) = sockets::listen(address)?;
    Ok((Socket::Tcp(socket), address))
}

fn passed(address: &PassedAddress, config: &Config) -> io::Result<Socket> {
    let none = || io::Error::other("no socket was passed to this process");
    let inherited = config.inherited.as_ref().ok_or_else(none)?;
    inherited.open(address.found.ok_or_else(none)?.number)
}

impl Door {
    /// For the runtime of the calling thread.
    pub(super) fn open(self) -> io::Result<Listener> {
        Ok(match (self.socket, self.tls) {
            (Socket::Tcp(socket), None) => Listener::Tcp(TcpListener::from_std(socket)?),
            (Socket::Tcp(socket), Some(tls)) => Listener::Tls(TcpListener::from_std(socket)?, tls),
            (Socket::Unix(socket), _) => Listener::Unix(UnixListener::from_std(socket)?),
        })
    }
}
