//! One request and its response on a client's connection with HTTP/1.1.
//!
//! Interim responses are written by [`Http1Exchange::inform`], final heads and their framing by
//! [`Http1Exchange::respond`].

use std::{
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Method, StatusCode, Version};
use tokio::time::Instant;

use super::Connection;
use crate::{
    clock::http_date,
    http1::{BodyError, Decoder, Encoder, Framing},
    message::{BodyLength, Fields, Name, RequestHead, ResponseHead},
    server::{AbortState, Exchange, Pass, Seat, Shutdown, Stream},
};

/// An exchange, for as long as it has the connection.
#[derive(Debug)]
pub(super) struct Http1Exchange<'a> {
    connection: &'a mut Connection,
    shutdown: &'a Shutdown,
    /// `None` for a request that is not handled.
    seat: Option<&'a Seat>,
    decoder: Decoder,
    encoder: Encoder,
    version: Version,
    is_head: bool,
    takes_trailers: bool,
    ends: Ends,
    progress: Progress,
    /// Since when the client has nothing more to send.
    half_closed: Option<HalfClosed>,
}

/// What becomes of a connection behind an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behind {
    /// The connection can carry another exchange.
    Another,
    /// The client wants the connection to end, and has nothing more to send.
    End,
    /// The connection ends, and its client may still be sending.
    Goodbye,
    /// A response without framing broke off, so only a reset says that it is not whole.
    Reset,
}

/// Whether the connection ends behind the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Not,
    /// The client wants it so.
    AsAsked,
    /// The connection cannot go on.
    Here,
}

/// How far the response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting,
    Begun,
    Finished,
    /// The connection is something else now.
    Switched,
}

/// A client that has closed its sending half, or both: which of the two it is shows only when something
/// is sent to it.
#[derive(Debug)]
struct HalfClosed {
    look: Instant,
    was_asked: bool,
}

/// How long a client may be silent behind the end of its half until it is asked whether it is there.
const SILENCE: Duration = Duration::from_millis(1200);
/// How often it is looked for the reset that a client which is not there responds with.
const LOOK: Duration = Duration::from_millis(250);

/// How much is read of what follows a request that is being handled, so that its client's end is
/// noticed behind it; less where many do so ([`crate::backlog`]).
const AHEAD: usize = 64 * 1024;

impl<'a> Http1Exchange<'a> {
    /// One whose request cannot be read, so that its response is the last one.
    pub(super) fn refused(
        connection: &'a mut Connection,
        is_head: bool,
        shutdown: &'a Shutdown,
    ) -> Self {
        Self {
            connection,
            shutdown,
            seat: None,
            decoder: Decoder::empty(),
            encoder: Encoder::None,
            version: Version::HTTP_11,
            is_head,
            takes_trailers: false,
            ends: Ends::Here,
            progress: Progress::Waiting,
            half_closed: None,
        }
    }

    /// One whose request is to be handled.
    pub(super) fn new(
        connection: &'a mut Connection,
        head: &RequestHead,
        framing: Framing,
        shutdown: &'a Shutdown,
        seat: &'a Seat,
    ) -> Self {
        Self {
            connection,
            shutdown,
            seat: Some(seat),
            decoder: Decoder::of_request(framing),
            encoder: Encoder::None,
            version: head.version,
            is_head: head.method == Method::HEAD,
            takes_trailers: head.takes_trailers(),
            ends: if head.keeps_alive() {
                Ends::Not
            } else {
                Ends::AsAsked
            },
            progress: Progress::Waiting,
            half_closed: None,
        }
    }

    /// Ends the exchange once its handler is done with it.
    pub(super) fn end(self) -> Behind {
        let is_whole = self.progress == Progress::Finished
            && self.decoder.is_done()
            && self.connection.output.is_flushed();
        if !is_whole {
            if self.encoder == Encoder::UntilClose {
                Behind::Reset
            } else {
                Behind::Goodbye
            }
        } else if self.ends == Ends::Not {
            Behind::Another
        } else if self.ends == Ends::AsAsked && self.connection.input.is_empty() {
            Behind::End
        } else {
            Behind::Goodbye
        }
    }

    /// Writes a status line and fields.
    fn write_head(&mut self, head: &ResponseHead, keeps: impl Fn(Name) -> bool) {
        let version: &[u8] = match self.version {
            Version::HTTP_10 => b"HTTP/1.0 ",
            _ => b"HTTP/1.1 ",
        };
        let out = self.connection.output.pending();
        out.extend_from_slice(version);
        out.extend_from_slice(head.status.as_str().as_bytes());
        out.push(b' ');
        out.extend_from_slice(head.reason());
        out.extend_from_slice(b"\r\n");
        head.fields.write(out, keeps);
    }

    /// Whether a client that has ended its half has gone. A program that has closed its socket
    /// responds with a reset to whatever comes, one that waits for its response does not. So after a
    /// while one that knows interim responses gets one that says nothing (RFC 9110 §15.2.1).
    fn poll_half_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(half) = &mut self.half_closed else {
            return Poll::Pending;
        };
        while self.connection.timer.poll(cx, half.look).is_ready() {
            half.look = Instant::now() + LOOK;
            if self.connection.stream.is_broken() {
                return Poll::Ready(());
            }
            let may_ask = self.version == Version::HTTP_11 && self.progress == Progress::Waiting;
            if may_ask && !std::mem::replace(&mut half.was_asked, true) {
                let out = self.connection.output.pending();
                out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
        }
        let Connection { output, stream, .. } = &mut *self.connection;
        match output.poll_flush(stream, cx) {
            Poll::Ready(Err(_)) => Poll::Ready(()),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }
}

impl Drop for Http1Exchange<'_> {
    fn drop(&mut self) {
        // Where nothing frames the body, only a reset says that it broke off.
        if self.progress == Progress::Begun && self.encoder == Encoder::UntilClose {
            self.connection.stream.reset_when_closed();
        }
    }
}

impl Exchange for Http1Exchange<'_> {
    type Io = Stream;

    fn admitted(&mut self, pass: Pass) {
        if let Some(seat) = self.seat {
            seat.member().set_pass(pass);
        }
    }

    fn abort_state(&self) -> Option<AbortState> {
        self.seat.map(Seat::abort_state)
    }

    fn body_length(&self) -> BodyLength {
        self.decoder.length()
    }

    fn is_body_read(&self) -> bool {
        self.decoder.is_done()
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], BodyError>> {
        let Connection { input, stream, .. } = &mut *self.connection;
        let content = ready!(self.decoder.poll_content(input, stream, cx))?;
        Poll::Ready(Ok(input.bytes().get(..content).unwrap_or_default()))
    }

    fn consume_body(&mut self, count: usize) {
        self.connection.input.consume(count);
        self.decoder.consumed(count);
    }

    fn may_pause(&self) -> bool {
        false
    }

    fn body_idle_timeout(&self) -> Duration {
        self.connection.settings.body_idle_timeout
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.half_closed.is_none() {
            let Connection { input, stream, .. } = &mut *self.connection;
            if !input.can_read_ahead(AHEAD) {
                return Poll::Pending;
            }
            match ready!(input.poll_fill(stream, cx)) {
                Ok(1..) => {}
                Ok(0) => {
                    self.half_closed = Some(HalfClosed {
                        look: Instant::now() + SILENCE,
                        was_asked: false,
                    });
                }
                Err(_) => return Poll::Ready(()),
            }
        }
        self.poll_half_closed(cx)
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        self.connection.timer.poll(cx, deadline)
    }

    fn inform(&mut self, head: &ResponseHead) {
        // RFC 9110 §15.2: none to HTTP/1.0.
        if self.version == Version::HTTP_11 && self.progress == Progress::Waiting {
            let is_framing = |kind| matches!(kind, Name::ContentLength | Name::TransferEncoding);
            self.write_head(head, |kind| !is_framing(kind));
            self.connection.output.pending().extend_from_slice(b"\r\n");
        }
    }

    fn respond(&mut self, head: &ResponseHead, body: BodyLength, is_last: bool) {
        let status = head.status;
        let is_bodiless = self.is_head
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if is_last || self.shutdown.is_announced() {
            self.ends = Ends::Here;
        }
        self.encoder = match body {
            _ if is_bodiless => Encoder::None,
            BodyLength::Known(length) => Encoder::Length(length),
            BodyLength::Unknown if self.version == Version::HTTP_10 => {
                self.ends = Ends::Here;
                Encoder::UntilClose
            }
            BodyLength::Unknown => Encoder::Chunked,
        };
        // That of a 304 and of a response to HEAD is about another response (RFC 9110 §8.6).
        let has_length = match self.encoder {
            Encoder::Length(_) => head.fields.has(Name::ContentLength),
            Encoder::None => self.is_head || status == StatusCode::NOT_MODIFIED,
            _ => false,
        };
        self.write_head(head, |kind| match kind {
            Name::ContentLength => has_length,
            Name::TransferEncoding => false,
            _ => true,
        });
        let out = self.connection.output.pending();
        match self.encoder {
            Encoder::Length(length) if !has_length => {
                out.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
            }
            Encoder::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            _ => {}
        }
        if !status.is_informational() {
            if !head.fields.has(Name::Date) {
                // RFC 9110 §6.6.1 has who forwards a response without one add it.
                http_date(|date| {
                    for part in [b"Date: ", date, b"\r\n"] {
                        out.extend_from_slice(part);
                    }
                });
            }
            if self.ends != Ends::Not {
                out.extend_from_slice(b"Connection: close\r\n");
            } else if self.version == Version::HTTP_10 {
                out.extend_from_slice(b"Connection: keep-alive\r\n");
            }
        }
        out.extend_from_slice(b"\r\n");
        self.progress = Progress::Begun;
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let Connection { output, stream, .. } = &mut *self.connection;
        output.poll_write(stream, cx, &mut self.encoder, data)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Connection { output, stream, .. } = &mut *self.connection;
        output.poll_flush(stream, cx)
    }

    fn finish(&mut self, trailers: Option<&Fields>) -> io::Result<()> {
        let trailers = trailers.filter(|_| self.takes_trailers);
        self.connection.output.finish(&mut self.encoder, trailers)?;
        self.progress = Progress::Finished;
        Ok(())
    }

    fn switch(&mut self) -> Option<&mut Stream> {
        if self.is_ahead() {
            return None;
        }
        self.progress = Progress::Switched;
        Some(&mut self.connection.stream)
    }

    fn is_ahead(&self) -> bool {
        !self.connection.input.is_empty()
    }
}
