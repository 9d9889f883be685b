//! Where is listened: the written form of each kind of address.

use std::{fmt, net::SocketAddr, path::PathBuf};

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// `IP:port`: plain TCP.
    Tcp(SocketAddr),
    /// `tls:IP:port`: TLS over TCP.
    Tls(SocketAddr),
    /// `unix:/path`: a unix socket.
    Unix(PathBuf),
}

impl Address {
    /// The IP address and the port, of those that have such.
    #[must_use]
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) | Self::Tls(address) => Some(*address),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Tls(address) => write!(f, "tls:{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
