//! Where is listened: the written form of each kind of address.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// `IP:port`: plain TCP.
    Tcp(SocketAddr),
    /// `tls:IP:port`: TLS over TCP.
    Tls(SocketAddr),
    /// `localhost:port`, or `tls:localhost:port`: both loopback addresses. With one of them free,
    /// another user of the machine could take it, and collect what clients send there.
    Localhost {
        /// The port of both.
        port: u16,
        /// Whether clients connect with TLS.
        tls: bool,
    },
    /// `unix:/path`: a unix socket.
    Unix(PathBuf),
    /// `systemd:NAME`, or `tls:systemd:NAME`: a socket that was passed to us.
    Passed(PassedAddress),
}

/// A socket that was passed to us, by its name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PassedAddress {
    /// Its name; several may have the same.
    pub name: String,
    /// Whether clients connect with TLS.
    pub tls: bool,
    /// Which one it is; `None` where nothing was passed because this is no run.
    pub found: Option<FoundSocket>,
}

/// Which of the sockets that were passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FoundSocket {
    /// Its number among all.
    pub number: usize,
    /// Its address and port; `None` for a unix socket.
    pub address: Option<SocketAddr>,
}

impl Address {
    /// The IP address and the port, of those that have such; of `localhost`, the older one.
    #[must_use]
    pub fn socket(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) | Self::Tls(address) => Some(*address),
            Self::Localhost { port, .. } => Some((Ipv4Addr::LOCALHOST, *port).into()),
            Self::Unix(_) => None,
            Self::Passed(passed) => passed.found?.address,
        }
    }

    /// All IP addresses and ports that it stands for.
    pub fn sockets(&self) -> impl Iterator<Item = SocketAddr> + use<> {
        let second = match self {
            Self::Localhost { port, .. } => Some((Ipv6Addr::LOCALHOST, *port).into()),
            _ => None,
        };
        self.socket().into_iter().chain(second)
    }

    /// Whether clients connect with TLS.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        match self {
            Self::Tls(_) => true,
            Self::Passed(passed) => passed.tls,
            Self::Localhost { tls, .. } => *tls,
            Self::Tcp(_) | Self::Unix(_) => false,
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Tls(address) => write!(f, "tls:{address}"),
            Self::Localhost { port, tls: false } => write!(f, "localhost:{port}"),
            Self::Localhost { port, tls: true } => write!(f, "tls:localhost:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Passed(passed) => {
                let tls = if passed.tls { "tls:" } else { "" };
                write!(f, "{tls}systemd:{}", passed.name)?;
                match self.socket() {
                    Some(address) => write!(f, " ({address})"),
                    None => Ok(()),
                }
            }
        }
    }
}
