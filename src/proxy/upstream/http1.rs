//! A connection to the upstream with HTTP/1.1, which carries one exchange at a time, and which
//! whoever uses it drives.
//!
//! ```text
//!            begin                    final head                body is over
//!   kept ──────────► in use: sending ───────────► in use: reading ─────────────► kept
//!     │ anything arrives      │ ended, malformed        │ cut, or not to be used again
//!     ▼                       ▼                         ▼
//!   closed ◄──────────────────┴─────────────────────────┘
//! ```
//!
//! A response may come before its request is sent: then a write that fails hides nothing, since
//! what is there is read all the same.

use std::{
    error::Error,
    io,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::{Method, StatusCode, Version};

use super::{Failure, Outbound};
use crate::{
    http1::{
        BodyError, Decoder, Encoder, Framing, Input, Limits, Output, Reader, Rewound, StatusLine,
    },
    message::{
        BodyLength, Fields, Name, ResponseHead,
        grammar::{decimal, elements},
    },
    outbound::Stream,
    proxy::error::ProxyError,
    tls::refuses_client,
};

/// A connection. Dropped, it is closed, whatever was going on.
#[derive(Debug)]
pub(in crate::proxy) struct Connection {
    io: Stream,
    input: Input,
    output: Output,
    reader: Reader<StatusLine>,
    /// How the request is framed; not at all once it is given over.
    encoder: Encoder,
    decoder: Decoder,
    /// The certificates of the way with which it was made.
    generation: usize,
    /// Whether it has carried an exchange before.
    is_kept: bool,
    is_head: bool,
    /// Whether it ends behind the response.
    is_last: bool,
    /// How long the upstream keeps it without use, where its responses say so.
    idle_limit: Option<Duration>,
    /// Why nothing more can be written.
    write_error: Option<io::Error>,
    /// How many interim responses have come.
    interims: usize,
}

/// The bounds of a response's head.
const LIMITS: Limits = Limits {
    bytes: 256 * 1024,
    fields: 1000,
};

/// How many interim responses there may be to one request.
const MAX_INTERIMS: usize = 100;

impl Connection {
    pub(super) fn new(io: Stream, generation: usize) -> Self {
        Self {
            io,
            input: Input::default(),
            output: Output::default(),
            reader: Reader::default(),
            encoder: Encoder::None,
            decoder: Decoder::empty(),
            generation,
            is_kept: false,
            is_head: false,
            is_last: false,
            idle_limit: None,
            write_error: None,
            interims: 0,
        }
    }

    pub(super) fn generation(&self) -> usize {
        self.generation
    }

    /// Whether nothing has happened on a connection that is kept: whatever arrives there is its end,
    /// or no response to anything.
    pub(super) fn is_quiet(&mut self) -> bool {
        self.io.is_quiet()
    }

    /// Whether nothing has happened on one that stays kept: who used it last is not to be woken by
    /// what comes next.
    pub(super) fn rests_quietly(&mut self) -> bool {
        self.io.is_quiet_for_nobody()
    }

    /// Begins an exchange: the head is to be written with the first bytes of the body.
    pub(super) fn begin(&mut self, request: &Outbound<'_>) {
        let head = request.head;
        self.is_head = head.method == Method::HEAD;
        self.output.forget_written();
        self.input.begin_message();
        self.interims = 0;
        let has_length = head.fields.has(Name::ContentLength);
        self.encoder = match request.body {
            BodyLength::Known(length) => Encoder::Length(length),
            BodyLength::Unknown => Encoder::Chunked,
        };
        let out = self.output.pending();
        for part in [head.method.as_str().as_bytes(), b" ", head.target()] {
            out.extend_from_slice(part);
        }
        out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        out.extend_from_slice(request.host);
        out.extend_from_slice(b"\r\n");
        head.fields.write(out, |kind| match kind {
            Name::ContentLength => request.body != BodyLength::Unknown,
            // It would be a connection field here.
            Name::Te => false,
            _ => true,
        });
        let has_content = matches!(head.method, Method::POST | Method::PUT | Method::PATCH);
        match request.body {
            BodyLength::Unknown => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            // RFC 9110 §8.6.
            BodyLength::Known(length) if !has_length && (length > 0 || has_content) => {
                out.extend_from_slice(format!("Content-Length: {length}\r\n").as_bytes());
            }
            BodyLength::Known(_) => {}
        }
        out.extend_from_slice(b"Authorization: ");
        out.extend_from_slice(request.bearer.as_header_value().as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
    }

    /// Takes a part of the request's body: how much of it. `None` when the upstream takes nothing
    /// more.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Option<usize>> {
        if self.write_error.is_some() {
            return Poll::Ready(None);
        }
        let Self {
            output,
            io,
            encoder,
            ..
        } = self;
        match ready!(output.poll_write(io, cx, encoder, data)) {
            Ok(count) => Poll::Ready(Some(count)),
            Err(error) => {
                self.write_error = Some(error);
                Poll::Ready(None)
            }
        }
    }

    /// Says that the request's body is given over.
    pub(super) fn finish(&mut self) {
        if let Err(error) = self.output.finish(&mut self.encoder, None) {
            self.write_error = Some(error);
        }
    }

    /// Sends what was taken. Ready also when the upstream takes nothing more: then with `None`.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        if self.write_error.is_some() {
            return Poll::Ready(None);
        }
        match ready!(self.output.poll_flush(&mut self.io, cx)) {
            Ok(()) => Poll::Ready(Some(())),
            Err(error) => {
                self.write_error = Some(error);
                Poll::Ready(None)
            }
        }
    }

    /// The head of the next response, which may be an interim one.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, Failure>> {
        loop {
            if !self.input.is_empty() {
                match self.reader.read(self.input.bytes(), LIMITS) {
                    Ok(None) => {}
                    Ok(Some((head, framing, length))) => {
                        self.input.consume(length);
                        return Poll::Ready(self.received(&head, framing).map(|()| head));
                    }
                    Err(error) => return Poll::Ready(Err(bad(error.to_string()).into())),
                }
            }
            match ready!(self.input.poll_fill(&mut self.io, cx)) {
                Ok(1..) => {}
                Ok(0) => return Poll::Ready(Err(self.ended(None))),
                Err(error) => return Poll::Ready(Err(self.ended(Some(error)))),
            }
        }
    }

    fn received(&mut self, head: &ResponseHead, framing: Framing) -> Result<(), Failure> {
        let status = head.status;
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            self.interims += 1;
            return if self.interims > MAX_INTERIMS {
                Err(bad("too many interim responses".to_owned()).into())
            } else {
                Ok(())
            };
        }
        let is_bodiless = self.is_head
            || status.is_informational()
            || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        self.decoder = if is_bodiless {
            Decoder::empty()
        } else {
            Decoder::of_response(framing)
        };
        self.is_last = head.connection.close
            || head.version == Version::HTTP_10
            || self.decoder.ends_with_connection();
        self.idle_limit = head
            .fields
            .all(Name::KeepAlive)
            .filter_map(keep_alive_limit)
            .min();
        Ok(())
    }

    /// Why a connection ended without a whole head.
    fn ended(&mut self, error: Option<io::Error>) -> Failure {
        let has_begun = self.reader.has_begun();
        let begun = self.input.bytes().iter().zip(b"HTTP/1.");
        let is_no_head =
            self.reader.start().is_none() && begun.clone().any(|(is, must)| is != must);
        let error = error.or_else(|| self.write_error.take());
        // With TLS 1.3 it is said only after the handshake, when we read.
        let refused = error
            .as_ref()
            .and_then(|error| refuses_client(error as &(dyn Error + 'static)));
        let reported = match (refused, error) {
            (Some(why), _) => ProxyError::ClientCertificate(why),
            (None, _) if is_no_head => bad("it is not HTTP/1".to_owned()),
            (None, None) if has_begun => ProxyError::Terminated("within its head".to_owned()),
            (None, Some(error)) => ProxyError::Terminated(error.kind().to_string()),
            (None, None) => ProxyError::Terminated("before a response".to_owned()),
        };
        Failure {
            on_kept_connection: self.is_kept && refused.is_none() && !is_no_head,
            is_unsent: self.is_kept && !self.output.has_written() && !has_begun,
            is_unprocessed: false,
            error: reported,
        }
    }

    /// What is known of the length of what is left of the response's body.
    pub(super) fn body_length(&self) -> BodyLength {
        self.decoder.length()
    }

    /// The next bytes of the response's body; none at its end.
    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], BodyError>> {
        let Self {
            io, input, decoder, ..
        } = self;
        let content = ready!(decoder.poll_content(input, io, cx))?;
        Poll::Ready(Ok(input.bytes().get(..content).unwrap_or_default()))
    }

    /// Has used so much of what [`Connection::poll_body`] gave.
    pub(super) fn consume(&mut self, count: usize) {
        self.input.consume(count);
        self.decoder.consumed(count);
    }

    /// The trailers behind a body that is over.
    pub(super) fn take_trailers(&mut self) -> Option<Fields> {
        self.decoder.take_trailers()
    }

    /// Ready when the upstream has said something behind its response, or has gone.
    pub(super) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.input.is_empty() {
            return Poll::Ready(());
        }
        self.input.poll_fill(&mut self.io, cx).map(drop)
    }

    /// Whether the response says that the connection ends behind it.
    pub(super) fn is_last(&self) -> bool {
        self.is_last
    }

    /// How long it may wait for its next exchange, where the upstream says so.
    pub(super) fn idle_limit(&self) -> Option<Duration> {
        self.idle_limit
    }

    /// The connection for its next exchange, if there can be one.
    pub(super) fn kept(mut self: Box<Self>) -> Option<Box<Self>> {
        let is_over = self.decoder.is_done()
            && self.encoder == Encoder::None
            && self.output.is_flushed()
            && self.input.is_empty()
            && self.write_error.is_none();
        self.is_kept = true;
        (is_over && !self.is_last).then_some(self)
    }

    /// The connection once it is no longer HTTP, with what has come already.
    pub(super) fn into_tunnel(self) -> Rewound<Stream> {
        Rewound {
            input: self.input,
            io: self.io,
        }
    }
}

/// How long a connection may be idle of which the upstream says `Keep-Alive: timeout=N`
/// (RFC 2068 §19.7.1.1): a second less than it keeps it, but at least half as long, since a request may be
/// on its way for a while.
fn keep_alive_limit(keep_alive: &[u8]) -> Option<Duration> {
    let timeout = elements(keep_alive).find_map(|parameter| {
        let (name, value) =
            parameter.split_at_checked(parameter.iter().position(|b| *b == b'=')?)?;
        let value = value.strip_prefix(b"=")?.trim_ascii();
        let value = value.strip_prefix(b"\"").unwrap_or(value);
        let value = value.strip_suffix(b"\"").unwrap_or(value);
        let is_it = name.trim_ascii().eq_ignore_ascii_case(b"timeout");
        is_it.then(|| decimal(value)).flatten()
    })?;
    let timeout = Duration::from_secs(timeout);
    Some(
        timeout
            .saturating_sub(Duration::from_secs(1))
            .max(timeout / 2),
    )
}

fn bad(why: String) -> ProxyError {
    ProxyError::BadResponse(why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keep_alive_timeout_of_the_upstream_is_read_with_a_margin() {
        for (value, millis) in [
            ("timeout=5", Some(4000)),
            ("timeout=5, max=100", Some(4000)),
            ("max=100,Timeout=60", Some(59_000)),
            ("timeout = \"5\"", Some(4000)),
            ("timeout=2", Some(1000)),
            ("timeout=1", Some(500)),
            ("timeout=0", Some(0)),
            ("timeout=", None),
            ("timeout=-1", None),
            ("timeout=5s", None),
            ("max=100", None),
            ("xtimeout=5", None),
            ("", None),
        ] {
            let read = keep_alive_limit(value.as_bytes());
            assert_eq!(read, millis.map(Duration::from_millis), "{value}");
        }
    }
}
