//! The client's socket as the codec sees it: every byte judged, every wait noted.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll, ready},
};

use hyper::{
    body::Bytes,
    rt::{Read, ReadBufCursor, Write},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    ClientState, Stream,
    framing::{Framing, Violation},
};
use crate::gather;

/// The client's socket, watched: what arrives goes through [`Framing`], and it is noted when the
/// client does not take what we send.
pub(super) struct Watched {
    pub(super) stream: Stream,
    pub(super) client: Arc<ClientState>,
    pub(super) framing: Framing,
    /// Whether a body cannot be read to its end.
    pub(super) is_broken: bool,
    /// Whether the client knows that nothing more will come.
    pub(super) is_shut: bool,
    pub(super) greeting: Greeting,
}

/// The first bytes of a connection, which say whether it is one with HTTP/2.
#[derive(Debug)]
pub(super) enum Greeting {
    /// So far they are those of its preface.
    Unknown(Vec<u8>),
    /// It is one, and these are its first bytes, which its codec has yet to read.
    Http2(Bytes),
    /// It is not.
    Http1,
}

/// RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Greeting {
    fn of(first: &[u8], may_go_on: bool) -> Self {
        if first.starts_with(PREFACE) {
            Self::Http2(Bytes::copy_from_slice(first))
        } else if PREFACE.starts_with(first) && may_go_on {
            Self::Unknown(first.to_vec())
        } else {
            Self::Http1
        }
    }
}

/// What the codec is told in the middle of a body whose framing is broken.
fn broken() -> io::Error {
    io::ErrorKind::InvalidData.into()
}

thread_local! {
    /// What was read and is not yet judged: one buffer a worker, so that an idle connection has none.
    static ARRIVED: RefCell<Box<[u8]>> = RefCell::new(vec![0; 64 * 1024].into_boxed_slice());
}

impl Watched {
    fn poll_arrival(
        &mut self,
        cx: &mut Context<'_>,
        arrived: &mut [u8],
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let room = arrived.len().min(buf.remaining());
        let mut arrived = tokio::io::ReadBuf::new(arrived.get_mut(..room).unwrap_or_default());
        if let Greeting::Unknown(first) = &self.greeting {
            arrived.put_slice(first);
        }
        let known = arrived.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut arrived))?;
        self.client.received();
        let bytes = arrived.filled();
        if let Greeting::Unknown(_) = self.greeting {
            self.greeting = Greeting::of(bytes, bytes.len() > known);
            match self.greeting {
                Greeting::Unknown(_) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                // It is not for this codec; the driver of the connection sees to it.
                Greeting::Http2(_) => {
                    self.client.greet();
                    return Poll::Pending;
                }
                Greeting::Http1 => {}
            }
        }
        let scanned = self.framing.scan(bytes);
        let is_partial = self.framing.has_partial_head();
        self.client
            .has_partial_head
            .store(is_partial, Ordering::Relaxed);
        let is_between = self.framing.is_between_messages();
        self.client
            .is_between_messages
            .store(is_between, Ordering::Relaxed);
        self.client
            .heads
            .store(self.framing.heads(), Ordering::Relaxed);
        match scanned {
            Ok(()) => buf.put_slice(bytes),
            // What came before is served; then the driver of the connection answers this.
            Err(Violation::Head { before, refusal }) => {
                // Reading stops here, so it is the first and only one.
                self.client.refusal.get_or_init(|| refusal);
                if before == 0 {
                    return Poll::Pending;
                }
                buf.put_slice(bytes.get(..before).unwrap_or_default());
            }
            // The good part of the body goes on, so that its head is not lost with it.
            Err(Violation::Body { before }) => {
                self.is_broken = true;
                buf.put_slice(bytes.get(..before).unwrap_or_default());
                if before == 0 {
                    return Poll::Ready(Err(broken()));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn note<R>(&self, written: Poll<R>) -> Poll<R> {
        let unsent = written.is_pending();
        self.client.unsent.store(unsent, Ordering::Relaxed);
        if unsent {
            self.client.waits_for_body();
        } else {
            self.client.body_moved();
        }
        written
    }
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.client.is_refused() {
            return Poll::Pending;
        }
        if self.client.is_tunnel() {
            return Pin::new(&mut TokioIo::new(&mut self.stream)).poll_read(cx, buf);
        }
        if self.is_broken {
            return Poll::Ready(Err(broken()));
        }
        if let Greeting::Http2(first) = &mut self.greeting {
            let first = first.split_to(first.len().min(buf.remaining()));
            if first.is_empty() {
                return Pin::new(&mut TokioIo::new(&mut self.stream)).poll_read(cx, buf);
            }
            buf.put_slice(&first);
            return Poll::Ready(Ok(()));
        }
        ARRIVED.with_borrow_mut(|arrived| self.poll_arrival(cx, arrived, buf))
    }
}

impl Write for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        // TLS takes bytes before the client does.
        if flushed.is_pending() || self.client.unsent.load(Ordering::Relaxed) {
            return self.note(flushed);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Whether or not the client takes the end at once: it is no idle connection any more.
        self.client.is_last.store(true, Ordering::Relaxed);
        let shut = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.is_shut |= matches!(shut, Poll::Ready(Ok(())));
        shut
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = gather::poll_write(&mut self.stream, cx, bufs);
        self.note(written)
    }
}
