//! One request and its response on a stream of HTTP/2.

use std::{
    future::poll_fn,
    io,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream, server::SendResponse};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::time::{Instant, timeout};

use super::{
    head,
    windows::{Reading, Unread, Windows},
};
use crate::{
    clock::http_date,
    http1::BodyError,
    message::{BodyLength, Fields, Name, RequestHead, ResponseHead},
    server::{AbortState, Exchange, Handler, Pass, Peer, Refusal, Seat, Stream, exchange::respond},
    timer::Timer,
};

/// Whether the response to a request has begun.
pub(super) struct Responded(pub(super) bool);

/// Has a stream's request handled.
pub(super) async fn serve_stream<H: Handler>(
    request: Request<RecvStream>,
    response: SendResponse<Bytes>,
    peer: Peer,
    body_idle_timeout: Duration,
    windows: Arc<Windows>,
    handler: H,
    seat: Seat,
) -> Responded {
    let (parts, body) = request.into_parts();
    let head = RequestHead::of_parts(&parts);
    let length = head.fields.first(Name::ContentLength);
    let length = length.and_then(crate::message::grammar::decimal);
    let length = match length {
        _ if body.is_end_stream() => BodyLength::EMPTY,
        Some(length) => BodyLength::Known(length),
        None => BodyLength::Unknown,
    };
    let unread = windows.wait(length);
    let checked = if unread.is_some() {
        head::check(&parts, &head)
    } else {
        Err(Refusal::NoRoomForBody)
    };
    let mut exchange = Http2Exchange {
        length,
        unread,
        read: 0,
        reading: None,
        windows,
        is_body_over: body.is_end_stream(),
        body,
        data: Bytes::new(),
        response,
        sending: None,
        left: BodyLength::EMPTY,
        is_head: head.method == Method::HEAD,
        progress: Progress::Waiting,
        timer: Timer::default(),
        body_idle_timeout,
        seat,
    };
    match checked {
        Ok(()) => handler.handle(head, peer, &mut exchange).await,
        Err(refusal) => {
            let response = handler.refuse(refusal, &peer);
            drop(respond(&mut exchange, response, false).await);
        }
    }
    exchange.end().await
}

/// An exchange, for as long as its stream is open.
struct Http2Exchange {
    length: BodyLength,
    /// There until the body is first looked at.
    unread: Option<Unread>,
    /// How much of the body was read.
    read: usize,
    /// There while a large body is read.
    reading: Option<Reading>,
    windows: Arc<Windows>,
    is_body_over: bool,
    body: RecvStream,
    /// What has come of the body and is yet to be used.
    data: Bytes,
    response: SendResponse<Bytes>,
    /// There while a body of the response is being sent.
    sending: Option<SendStream<Bytes>>,
    left: BodyLength,
    is_head: bool,
    progress: Progress,
    timer: Timer,
    body_idle_timeout: Duration,
    seat: Seat,
}

/// How far the response is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Waiting,
    Begun,
    Finished,
}

impl Http2Exchange {
    /// Ends the stream once its handler is done with it. The little that may be left of the request's
    /// body is read: often that is its end alone, which the response has overtaken; dropped before
    /// it, the stream is reset (RFC 9113 §8.1), which some clients take for a failure, and after many
    /// of which the codec gives up the connection.
    async fn end(mut self) -> Responded {
        let responded = Responded(self.progress != Progress::Waiting);
        if self.progress == Progress::Finished && !self.is_body_over {
            let read = async {
                let mut read = 0;
                while read <= REST {
                    match poll_fn(|cx| self.poll_body(cx).map_ok(<[u8]>::len)).await {
                        Ok(0) | Err(_) => return,
                        Ok(count) => {
                            self.consume_body(count);
                            read += count;
                        }
                    }
                }
            };
            drop(timeout(REST_TIME, read).await);
        }
        responded
    }

    fn failed(error: h2::Error) -> io::Error {
        error
            .into_io()
            .unwrap_or_else(|| io::ErrorKind::ConnectionAborted.into())
    }
}

/// How much of a request's body is read behind its response, and for how long.
const REST: usize = 64 * 1024;
const REST_TIME: Duration = Duration::from_secs(1);

impl Drop for Http2Exchange {
    fn drop(&mut self) {
        if self.progress == Progress::Finished {
            return;
        }
        match &mut self.sending {
            Some(sending) => sending.send_reset(Reason::INTERNAL_ERROR),
            None => self.response.send_reset(Reason::INTERNAL_ERROR),
        }
    }
}

impl Exchange for Http2Exchange {
    type Io = Stream;

    fn admitted(&mut self, pass: Pass) {
        self.seat.member().set_pass(pass);
    }

    fn abort_state(&self) -> Option<AbortState> {
        Some(self.seat.abort_state())
    }

    fn body_length(&self) -> BodyLength {
        self.length
    }

    fn is_body_read(&self) -> bool {
        self.data.is_empty() && (self.is_body_over || self.body.is_end_stream())
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], BodyError>> {
        self.unread = None;
        while self.data.is_empty() && !self.is_body_over {
            match ready!(self.body.poll_data(cx)) {
                Some(Ok(data)) => self.data = data,
                Some(Err(_)) => return Poll::Ready(Err(BodyError::Cut)),
                // Trailers end here.
                None => match ready!(self.body.poll_trailers(cx)) {
                    Ok(Some(trailers)) if !head::are_trimmed(&trailers) => {
                        return Poll::Ready(Err(BodyError::Malformed));
                    }
                    Ok(_) => {
                        self.is_body_over = true;
                        self.reading = None;
                    }
                    Err(_) => return Poll::Ready(Err(BodyError::Cut)),
                },
            }
        }
        Poll::Ready(Ok(&self.data))
    }

    fn consume_body(&mut self, count: usize) {
        self.data.advance(count.min(self.data.len()));
        if let BodyLength::Known(left) = &mut self.length {
            *left = left.saturating_sub(count as u64);
        }
        self.read = self.read.saturating_add(count);
        if self.reading.is_none() {
            self.reading = self.windows.read(self.read);
        }
        // What cannot be given back belongs to a stream that is over.
        let flow = self.body.flow_control();
        flow.release_capacity(count).unwrap_or_default();
    }

    fn may_pause(&self) -> bool {
        true
    }

    fn body_idle_timeout(&self) -> Duration {
        self.body_idle_timeout
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let reset = match &mut self.sending {
            Some(sending) => sending.poll_reset(cx),
            None if self.progress != Progress::Waiting => return Poll::Pending,
            None => self.response.poll_reset(cx),
        };
        reset.map(drop)
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        self.timer.poll(cx, deadline)
    }

    fn inform(&mut self, head: &ResponseHead) {
        let mut response = Response::new(());
        *response.status_mut() = head.status;
        *response.headers_mut() = head.fields.to_map();
        if let Err(error) = self.response.send_informational(response) {
            tracing::debug!(%error, "an interim response could not be sent");
        }
    }

    fn respond(&mut self, head: &ResponseHead, body: BodyLength, _is_last: bool) {
        let status = head.status;
        let is_bodiless =
            self.is_head || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let mut response = Response::new(());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        *headers = head.fields.to_map();
        headers.remove(header::TRANSFER_ENCODING);
        if status == StatusCode::NO_CONTENT || body == BodyLength::Unknown && !is_bodiless {
            headers.remove(header::CONTENT_LENGTH);
        }
        if !headers.contains_key(header::DATE) {
            http_date(|date| {
                if let Ok(date) = HeaderValue::from_bytes(date) {
                    headers.insert(header::DATE, date);
                }
            });
        }
        let is_whole = is_bodiless || body.is_empty();
        self.left = if is_whole { BodyLength::EMPTY } else { body };
        match self.response.send_response(response, is_whole) {
            Ok(sending) => self.sending = (!is_whole).then_some(sending),
            Err(error) => tracing::debug!(%error, "a response could not be sent"),
        }
        self.progress = if is_whole {
            Progress::Finished
        } else {
            Progress::Begun
        };
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let Some(sending) = &mut self.sending else {
            // There is no body, or nobody to take it.
            return Poll::Ready(if self.progress == Progress::Finished {
                Ok(data.len())
            } else {
                Err(io::ErrorKind::BrokenPipe.into())
            });
        };
        sending.reserve_capacity(data.len());
        while sending.capacity() == 0 {
            match ready!(sending.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(Self::failed(error))),
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            }
        }
        let count = data.len().min(sending.capacity());
        if let BodyLength::Known(left) = &mut self.left {
            *left = left
                .checked_sub(count as u64)
                .ok_or(io::ErrorKind::InvalidInput)?;
        }
        let data = Bytes::copy_from_slice(data.get(..count).unwrap_or_default());
        let sent = sending.send_data(data, false);
        Poll::Ready(sent.map(|()| count).map_err(Self::failed))
    }

    /// The connection's own task sends.
    fn poll_flush(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn finish(&mut self, trailers: Option<&Fields>) -> io::Result<()> {
        if let BodyLength::Known(1..) = self.left {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(mut sending) = self.sending.take() {
            let ended = match trailers {
                Some(trailers) => sending.send_trailers(trailers.to_map()),
                None => sending.send_data(Bytes::new(), true),
            };
            ended.map_err(Self::failed)?;
        }
        self.progress = Progress::Finished;
        Ok(())
    }

    fn switch(&mut self) -> Option<&mut Stream> {
        None
    }

    fn is_ahead(&self) -> bool {
        false
    }
}
