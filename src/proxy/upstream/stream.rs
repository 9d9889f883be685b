//! A connection to the upstream as bytes, whatever way it takes.

use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::delegate::delegate_io;

/// A connection to the upstream.
#[derive(Debug)]
pub(in crate::proxy) enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS with the upstream, or with the proxy on the way to one that is spoken to in clear.
    Tls(Box<TlsStream<TcpStream>>),
    /// TLS with the upstream through TLS with the proxy on the way.
    TlsInTls(Box<TlsStream<Box<TlsStream<TcpStream>>>>),
}

delegate_io!(Stream: Tcp, Tls, TlsInTls);
