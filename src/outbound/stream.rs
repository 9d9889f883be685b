//! A connection to another side as bytes, whatever way it takes.

use std::{
    io,
    pin::Pin,
    task::{Context, Waker},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::delegate::delegate_io;

/// A connection to another side.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS with the other side, or with the proxy on the way to one without TLS.
    Tls(Box<TlsStream<TcpStream>>),
    /// TLS with the other side through TLS with the proxy on the way.
    TlsInTls(Box<TlsStream<Box<TlsStream<TcpStream>>>>),
}

impl Stream {
    /// The protocol that was agreed on inside TLS (RFC 7301).
    #[must_use]
    pub fn alpn_protocol(&self) -> Option<&[u8]> {
        match self {
            Self::Tcp(_) => None,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol(),
            Self::TlsInTls(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }

    /// Whether nothing has come: no bytes, no end. Leaves whom the runtime wakes as it is.
    pub(crate) fn is_quiet(&mut self) -> bool {
        match self {
            // The runtime knows without a system call.
            Self::Tcp(stream) => {
                let read = stream.try_read(&mut [0]);
                read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
            }
            _ => self.is_quiet_for_nobody(),
        }
    }

    /// Whether nothing has come, where nobody is to be woken by what comes next.
    pub(crate) fn is_quiet_for_nobody(&mut self) -> bool {
        let nobody = &mut Context::from_waker(Waker::noop());
        let read = Pin::new(self).poll_read(nobody, &mut ReadBuf::new(&mut [0]));
        read.is_pending()
    }
}

delegate_io!(Stream: Tcp, Tls, TlsInTls);
