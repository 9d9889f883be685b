//! One exchange on a connection to the upstream with HTTP/2, where hyper has the codec.
//!
//! hyper shows no interim responses of a connection with HTTP/2, so none of them are passed on.

mod body;

use std::{
    error::Error,
    fmt,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{
    HeaderMap, Request, Response, Uri, Version,
    header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
    uri::{Authority, Parts, PathAndQuery, Scheme},
};
use http_body::Body as _;
use hyper::{body::Incoming, client::conn::TrySendError};

pub(super) use self::body::RequestBody;
use self::body::Sender;
use super::{Failure, Outbound, multiplexed::Place};
use crate::{
    http1::BodyError,
    message::{BodyLength, Fields, Flaw, ResponseHead},
    proxy::error::ProxyError,
    server::Refusal,
    tls::refuses_client,
};

type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

/// A place on a connection, and what is under way there.
pub(in crate::proxy) struct Exchange {
    place: Place,
    origin: (Scheme, Authority),
    sender: Option<Sender>,
    response: Option<Pin<Box<dyn Future<Output = Sent> + Send>>>,
    incoming: Option<Incoming>,
    /// What has come of the response's body and is yet to be used.
    data: Bytes,
    trailers: Option<HeaderMap>,
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").finish_non_exhaustive()
    }
}

impl Exchange {
    pub(super) fn new(place: Place, origin: (Scheme, Authority)) -> Self {
        Self {
            place,
            origin,
            sender: None,
            response: None,
            incoming: None,
            data: Bytes::new(),
            trailers: None,
        }
    }

    pub(super) fn begin(&mut self, request: &Outbound<'_>) -> Result<(), Failure> {
        let (sender, body) = body::channel(request.body);
        let head = request.head;
        let mut parts = Parts::default();
        parts.scheme = Some(self.origin.0.clone());
        parts.authority = Some(self.origin.1.clone());
        let no_room = ProxyError::Refused(Refusal::Malformed(Flaw::of(
            "target: HTTP/2 of this upstream has no room for one of its bytes",
        )));
        let target = PathAndQuery::try_from(head.target());
        // What the type would bend does not go on either.
        let target = target
            .ok()
            .filter(|path| path.as_str().as_bytes() == head.target());
        parts.path_and_query = Some(target.ok_or(no_room)?);
        let mut sent = Request::new(body);
        *sent.method_mut() = head.method.clone();
        // All three are there and valid, and so is the whole.
        *sent.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
        *sent.version_mut() = Version::HTTP_2;
        let headers = sent.headers_mut();
        *headers = head.fields.to_map();
        // `:authority` says it, and each stream has a length of its own.
        headers.remove(HOST);
        headers.remove(TRANSFER_ENCODING);
        if request.body == BodyLength::Unknown {
            headers.remove(CONTENT_LENGTH);
        }
        let credential = request.bearer.as_header_value().clone();
        headers.insert(http::header::AUTHORIZATION, credential);
        self.sender = Some(sender);
        self.response = Some(Box::pin(self.place.sender().try_send_request(sent)));
        self.incoming = None;
        Ok(())
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Option<usize>> {
        match &mut self.sender {
            Some(sender) => sender.poll_send(cx, data),
            None => Poll::Ready(None),
        }
    }

    pub(super) fn finish(&mut self) {
        if let Some(sender) = &mut self.sender {
            sender.finish();
        }
    }

    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, Failure>> {
        let Some(response) = &mut self.response else {
            let why = "it was not asked".to_owned();
            return Poll::Ready(Err(ProxyError::Terminated(why).into()));
        };
        let sent = ready!(response.as_mut().poll(cx));
        self.response = None;
        match sent {
            Ok(response) => {
                self.place.responded();
                let (parts, incoming) = response.into_parts();
                self.incoming = Some(incoming);
                let fields = Fields::of_map(&parts.headers);
                let mut head = ResponseHead::of(parts.status, fields);
                head.version = Version::HTTP_2;
                Poll::Ready(Ok(head))
            }
            Err(mut error) => {
                let is_unsent = error.take_message().is_some();
                let is_proven = self.place.is_proven();
                let failure = failed(&error.into_error(), is_unsent, is_proven);
                Poll::Ready(Err(failure))
            }
        }
    }

    pub(super) fn body_length(&self) -> BodyLength {
        match &self.incoming {
            Some(incoming) if incoming.is_end_stream() => BodyLength::EMPTY,
            Some(incoming) => incoming
                .size_hint()
                .exact()
                .map_or(BodyLength::Unknown, BodyLength::Known),
            None => BodyLength::EMPTY,
        }
    }

    pub(super) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<&[u8], BodyError>> {
        while self.data.is_empty() {
            let Some(incoming) = &mut self.incoming else {
                break;
            };
            match ready!(Pin::new(incoming).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.data = data,
                    Err(frame) => self.trailers = frame.into_trailers().ok(),
                },
                Some(Err(error)) => {
                    let kind = io_kind(&error).unwrap_or(io::ErrorKind::ConnectionAborted);
                    return Poll::Ready(Err(BodyError::Io(kind)));
                }
                None => self.incoming = None,
            }
        }
        Poll::Ready(Ok(&self.data))
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.data.advance(count.min(self.data.len()));
    }

    pub(super) fn take_trailers(&mut self) -> Option<Fields> {
        self.trailers.take().as_ref().map(Fields::of_map)
    }
}

fn failed(error: &hyper::Error, is_unsent: bool, is_proven: bool) -> Failure {
    let of_stream = h2_error(error);
    let is_unprocessed = of_stream.is_some_and(is_unprocessed);
    let is_reset = of_stream.is_some_and(h2::Error::is_reset);
    // With TLS 1.3 it is said only after the handshake, when we read.
    let reported = if let Some(why) = refuses_client(error) {
        ProxyError::ClientCertificate(why)
    } else if error.is_parse() {
        ProxyError::BadResponse(error.to_string())
    } else {
        let kind = io_kind(error).map_or_else(String::new, |kind| format!(" ({kind})"));
        ProxyError::Terminated(format!("{error}{kind}"))
    };
    let is_terminated = matches!(reported, ProxyError::Terminated(_));
    Failure {
        on_kept_connection: is_proven && !is_unprocessed && !is_reset && is_terminated,
        is_unsent,
        is_unprocessed,
        error: reported,
    }
}

/// Whether the upstream has refused a stream, or ended the connection before it (RFC 9113 §8.7).
fn is_unprocessed(error: &h2::Error) -> bool {
    let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
    let gone = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
    error.is_remote() && (refused || gone)
}

fn h2_error(error: &hyper::Error) -> Option<&h2::Error> {
    error.source().and_then(<dyn Error>::downcast_ref)
}

/// What the operating system said, if it was the connection that failed.
fn io_kind(error: &hyper::Error) -> Option<io::ErrorKind> {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        source = inner.source();
    }
    None
}
