//! A connection to the upstream as bytes, whatever way it takes.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

/// A connection to the upstream. A choice of three and not a trait object: the plain kind is read and
/// written as directly as if it were the only one.
#[derive(Debug)]
pub(in crate::proxy) enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS with the upstream, or with the proxy on the way to one that is spoken to in clear.
    Tls(Box<TlsStream<TcpStream>>),
    /// TLS with the upstream through TLS with the proxy on the way.
    TlsInTls(Box<TlsStream<Box<TlsStream<TcpStream>>>>),
}

impl Stream {
    /// Whether nothing has come: no bytes, no end. Leaves whom the runtime wakes as it is.
    pub(super) fn is_quiet(&mut self) -> bool {
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
    pub(super) fn is_quiet_for_nobody(&mut self) -> bool {
        let nobody = &mut Context::from_waker(Waker::noop());
        let read = Pin::new(self).poll_read(nobody, &mut ReadBuf::new(&mut [0]));
        read.is_pending()
    }
}

/// Does the same on whichever kind it is.
macro_rules! delegate {
    ($stream:expr, $inner:ident => $do:expr) => {
        match Pin::get_mut($stream) {
            Stream::Tcp($inner) => $do,
            Stream::Tls($inner) => $do,
            Stream::TlsInTls($inner) => $do,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, inner => Pin::new(inner).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, inner => Pin::new(inner).poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, inner => Pin::new(inner).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, inner => Pin::new(inner).poll_shutdown(cx))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
            Self::TlsInTls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, inner => Pin::new(inner).poll_write_vectored(cx, bufs))
    }
}
