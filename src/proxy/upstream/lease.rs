//! A connection to the upstream, or a place on one, for the time of one exchange, whatever version of
//! HTTP it has.

use std::task::{Context, Poll};

use super::{Failure, Outbound, http1, http2};
use crate::{
    http1::{BodyError, Rewound},
    message::{BodyLength, Fields, ResponseHead},
    outbound::Stream,
};

/// A connection in use. Dropped before its exchange is over, it is closed; with HTTP/2 it is the
/// stream that is reset.
#[derive(Debug)]
pub(in crate::proxy) enum Lease {
    /// A whole connection.
    Http1(Box<http1::Connection>),
    /// A place on one.
    Http2(Box<http2::Exchange>),
}

/// Does the same on whichever it is.
macro_rules! either {
    ($lease:expr, $one:ident => $do:expr) => {
        match $lease {
            Lease::Http1($one) => $do,
            Lease::Http2($one) => $do,
        }
    };
}

impl Lease {
    /// Whether interim responses of the upstream arrive here.
    pub(in crate::proxy) fn receives_interim_responses(&self) -> bool {
        matches!(self, Self::Http1(_))
    }

    /// Begins to send a request.
    ///
    /// # Errors
    /// The version of HTTP that is in use has no room for its target.
    pub(in crate::proxy) fn begin(&mut self, request: &Outbound<'_>) -> Result<(), Failure> {
        match self {
            Self::Http1(connection) => {
                connection.begin(request);
                Ok(())
            }
            Self::Http2(exchange) => exchange.begin(request),
        }
    }

    /// Takes a part of the request's body: how much of it. `None` when the upstream takes nothing
    /// more; its response may be there all the same.
    pub(in crate::proxy) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<Option<usize>> {
        either!(self, one => one.poll_write(cx, data))
    }

    /// Says that the request's body is given over.
    pub(in crate::proxy) fn finish(&mut self) {
        either!(self, one => one.finish());
    }

    /// Sends what was taken; `None` as from [`Lease::poll_write`].
    pub(in crate::proxy) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        match self {
            Self::Http1(connection) => connection.poll_flush(cx),
            // The connection's own task sends.
            Self::Http2(_) => Poll::Ready(Some(())),
        }
    }

    /// The head of the next response, which may be an interim one.
    ///
    /// # Errors
    /// There will be none.
    pub(in crate::proxy) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<ResponseHead, Failure>> {
        either!(self, one => one.poll_head(cx))
    }

    /// What is known of the length of what is left of the response's body.
    pub(in crate::proxy) fn body_length(&self) -> BodyLength {
        either!(self, one => one.body_length())
    }

    /// The next bytes of the response's body; none at its end. They stay until they are consumed.
    ///
    /// # Errors
    /// The body breaks off.
    pub(in crate::proxy) fn poll_body(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<&[u8], BodyError>> {
        either!(self, one => one.poll_body(cx))
    }

    /// Has used so much of what [`Lease::poll_body`] gave.
    pub(in crate::proxy) fn consume(&mut self, count: usize) {
        either!(self, one => one.consume(count));
    }

    /// The trailers behind a body that is over.
    pub(in crate::proxy) fn take_trailers(&mut self) -> Option<Fields> {
        either!(self, one => one.take_trailers())
    }

    /// Ready when the upstream will take nothing more of a request whose response is over.
    pub(in crate::proxy) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Http1(connection) => connection.poll_closed(cx),
            Self::Http2(_) => Poll::Pending,
        }
    }

    /// Whether the response says that the connection ends behind it.
    pub(in crate::proxy) fn is_last(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_last(),
            Self::Http2(_) => false,
        }
    }

    /// The connection once it is no longer HTTP.
    pub(in crate::proxy) fn into_tunnel(self) -> Option<Rewound<Stream>> {
        match self {
            Self::Http1(connection) => Some(connection.into_tunnel()),
            Self::Http2(_) => None,
        }
    }
}
