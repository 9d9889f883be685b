//! A client's connection, whatever kind of socket it came in by.

use std::{io, net::IpAddr, sync::Arc, time::Duration};

use rustls::pki_types::CertificateDer;
use socket2::SockRef;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::delegate::delegate_io;

/// A client's connection.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// A unix socket.
    Unix(UnixStream),
    /// TLS over TCP, its handshake done. Behind a pointer, because its state is large.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Where a client's connection comes from, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// From where.
    pub node: Node,
    /// Whether it is encrypted.
    pub is_tls: bool,
    /// The subject of the client's certificate, where one was asked for.
    pub certificate: Option<Arc<str>>,
    /// The number of the user of a process of this machine, as the kernel has it.
    pub user: Option<u32>,
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A machine, maybe this one.
    Ip(IpAddr),
    /// This machine, through a file.
    Unix,
}

impl Peer {
    pub(super) fn at(address: IpAddr, is_tls: bool) -> Self {
        Self {
            node: Node::Ip(address),
            is_tls,
            certificate: None,
            user: None,
        }
    }

    /// The address, unless it comes through a file.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self.node {
            Node::Ip(address) => Some(address),
            Node::Unix => None,
        }
    }

    pub(super) fn unix(stream: &UnixStream) -> Self {
        Self {
            node: Node::Unix,
            is_tls: false,
            certificate: None,
            user: stream.peer_cred().ok().map(|peer| peer.uid()),
        }
    }
}

impl Stream {
    /// Waits until the client has sent something or has gone.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.readable().await,
            Self::Unix(stream) => stream.readable().await,
            Self::Tls(stream) => stream.get_ref().0.readable().await,
        }
    }

    /// The certificates that the client has shown, where it was asked for some.
    pub(super) fn certificates(&self) -> Option<&[CertificateDer<'static>]> {
        match self {
            Self::Tls(stream) => stream.get_ref().1.peer_certificates(),
            Self::Tcp(_) | Self::Unix(_) => None,
        }
    }

    /// Whether the other side has responded with a reset to what was written.
    pub(super) fn is_broken(&self) -> bool {
        let error = match self {
            Self::Tcp(stream) => stream.take_error(),
            Self::Unix(stream) => stream.take_error(),
            Self::Tls(stream) => stream.get_ref().0.take_error(),
        };
        !matches!(error, Ok(None))
    }

    /// Has the connection end with a reset, as one does that breaks off.
    pub(super) fn reset_when_closed(&self) {
        let stream = match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
            // A unix socket has no reset.
            Self::Unix(_) => return,
        };
        if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a connection ends without the reset that it should end with");
        }
    }
}

delegate_io!(Stream: Tcp, Unix, Tls);
