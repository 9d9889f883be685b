//! A client's connection with HTTP/1.1: one task, which reads a request, has it handled and rests.
//!
//! ```text
//!             first byte            head is whole               both bodies are over
//!   resting ─────────────► reading ───────────────► exchanging ─────────────────────► resting
//!      │ idle for too long,    │ malformed, too slow     │ the last one, or broken off
//!      │ stop, end             ▼                         ▼
//!      └──────────────────► closing: a refusal, the end of our side, and what still comes
//! ```
//!
//! A resting connection has no buffer: [`Input`] gave its room back with the last byte that was
//! used, [`Output`] with the last one that was written.

mod exchange;

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, timeout},
};
use tokio_util::sync::WaitForCancellationFuture;

use self::exchange::{Behind, Http1Exchange};
use super::{
    Handler, Peer, Refusal, Seat, ServerSettings, Shutdown, Stream, exchange::respond, http2,
};
use crate::{
    http1::{Framing, HeadError, Input, Limits, Output, Reader, RequestLine, Rewound},
    message::{MAX_FIELDS, RequestHead},
    timer::Timer,
};

/// A client's connection.
#[derive(Debug)]
struct Connection {
    stream: Stream,
    settings: Arc<ServerSettings>,
    input: Input,
    output: Output,
    reader: Reader<RequestLine>,
    timer: Timer,
    /// Whether it may still be one with HTTP/2.
    is_new: bool,
}

/// What comes next on a connection.
enum Next {
    Request(RequestHead, Framing),
    Http2,
    Refused(Refusal),
    /// Nothing more is said.
    End,
}

/// RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Serves a connection to its end.
pub(super) async fn serve<H: Handler>(
    stream: Stream,
    peer: Peer,
    settings: &Arc<ServerSettings>,
    handler: H,
    shutdown: &Shutdown,
    seat: &Seat,
) {
    let mut connection = Connection::new(stream, settings);
    let mut stopping = pin!(shutdown.begun());
    loop {
        match connection.next(stopping.as_mut()).await {
            Next::Request(head, framing) => {
                let mut exchange =
                    Http1Exchange::new(&mut connection, &head, framing, shutdown, seat);
                // On the heap, so that a resting connection has no room for it.
                Box::pin(handler.handle(head, peer.clone(), &mut exchange)).await;
                match exchange.end() {
                    Behind::Another => {}
                    Behind::End if !peer.is_tls => return,
                    Behind::End => break,
                    Behind::Reset => return connection.stream.reset_when_closed(),
                    Behind::Goodbye => {
                        // What there is of a response that broke off.
                        let flush = poll_fn(|cx| {
                            let Connection { output, stream, .. } = &mut connection;
                            output.poll_flush(stream, cx)
                        });
                        drop(Box::pin(timeout(GOODBYE, flush)).await);
                        break;
                    }
                }
            }
            Next::Http2 => {
                let Connection { stream, input, .. } = connection;
                let rest = Rewound { input, io: stream };
                return Box::pin(http2::serve(rest, peer, settings, handler, shutdown, seat)).await;
            }
            Next::Refused(refusal) => {
                let is_head = connection.is_for_head();
                let response = handler.refuse(refusal, &peer);
                Box::pin(connection.send_last(response, is_head)).await;
                break;
            }
            Next::End => break,
        }
    }
    Box::pin(close(connection.stream)).await;
}

impl Connection {
    fn new(stream: Stream, settings: &Arc<ServerSettings>) -> Self {
        Self {
            stream,
            settings: Arc::clone(settings),
            input: Input::default(),
            output: Output::default(),
            reader: Reader::default(),
            timer: Timer::default(),
            is_new: true,
        }
    }

    /// Sends the last response.
    async fn send_last(&mut self, response: Response<Bytes>, is_head: bool) {
        let nobody = Shutdown::default();
        let mut exchange = Http1Exchange::refused(self, is_head, &nobody);
        drop(timeout(GOODBYE, respond(&mut exchange, response, true)).await);
    }

    /// Reads the head of the next request.
    async fn next(&mut self, mut stopping: Pin<&mut WaitForCancellationFuture<'_>>) -> Next {
        let mut deadline = Instant::now() + self.settings.keep_alive_timeout;
        let mut is_reading = false;
        self.input.begin_message();
        poll_fn(|cx| {
            loop {
                if let Some(next) = self.read() {
                    return Poll::Ready(next);
                }
                if !is_reading && !self.input.is_empty() {
                    is_reading = true;
                    deadline = Instant::now() + self.settings.header_read_timeout;
                }
                match self.input.poll_fill(&mut self.stream, cx) {
                    Poll::Ready(Ok(1..)) => {}
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Next::End),
                    Poll::Pending => break,
                }
            }
            if !is_reading && stopping.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Next::End);
            }
            self.timer.poll(cx, deadline).map(|()| {
                if is_reading {
                    Next::Refused(Refusal::TooSlow)
                } else {
                    Next::End
                }
            })
        })
        .await
    }

    /// Reads what is there; `None` until it is a whole head.
    fn read(&mut self) -> Option<Next> {
        let bytes = self.input.bytes();
        if bytes.is_empty() {
            return None;
        }
        if self.is_new {
            if bytes.starts_with(PREFACE) {
                return Some(Next::Http2);
            }
            if PREFACE.starts_with(bytes) {
                return None;
            }
            self.is_new = false;
        }
        let limits = Limits {
            bytes: self.settings.max_header_size,
            fields: MAX_FIELDS,
        };
        match self.reader.read(bytes, limits) {
            Ok(None) => None,
            Ok(Some((head, framing, length))) => {
                self.input.consume(length);
                Some(Next::Request(head, framing))
            }
            Err(error) => Some(Next::Refused(error.into())),
        }
    }

    /// Whether the head that is refused is one of HEAD, whose response has no body.
    fn is_for_head(&self) -> bool {
        let begun = self.reader.start();
        begun.map_or_else(
            || self.input.bytes().starts_with(b"HEAD "),
            |line| line.method == http::Method::HEAD,
        )
    }
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Malformed(flaw) => Self::Malformed(flaw),
            HeadError::Version => Self::Version,
            HeadError::TransferCoding => Self::TransferCoding,
            HeadError::TooLarge => Self::HeadTooLarge,
            HeadError::TargetTooLong => Self::TargetTooLong,
        }
    }
}

/// Sends a client the reason why it is not served, and closes. A response before the request would
/// surprise it, so its first byte is waited for.
pub(super) async fn refuse(
    stream: Stream,
    settings: &Arc<ServerSettings>,
    response: Response<Bytes>,
) {
    drop(timeout(GOODBYE, stream.readable()).await);
    let mut connection = Connection::new(stream, settings);
    Box::pin(connection.send_last(response, false)).await;
    Box::pin(close(connection.stream)).await;
}

/// Ends a connection so that the client can read the last response: what it still sends is taken
/// for a while, or the system would respond with a reset that also discards our response (RFC 9112
/// §9.6).
async fn close(mut stream: Stream) {
    let linger = async {
        timeout(GOODBYE, stream.shutdown()).await??;
        let mut rest = Box::new([0; 16 * 1024]);
        while timeout(GOODBYE, stream.read(&mut *rest)).await?? > 0 {}
        io::Result::Ok(())
    };
    drop(timeout(LONG_GOODBYE, linger).await);
}

/// The longest silence in a goodbye, ...
const GOODBYE: Duration = Duration::from_secs(1);
/// ... and the longest goodbye, to a client that still sends.
const LONG_GOODBYE: Duration = Duration::from_secs(10);
