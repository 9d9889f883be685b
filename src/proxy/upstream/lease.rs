//! A connection to the upstream, or a place on one, for the time of one exchange.

use std::{sync::Weak, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use tokio::time::timeout;

use super::{dialect::Dialect, multiplexed::Stream, pool::Pool};
use crate::proxy::upload::RequestBody;

/// A connection in use. Dropped before its exchange is over, it is closed; with HTTP/2 it is the
/// stream that is.
#[derive(Debug)]
pub struct Lease(Channel);

#[derive(Debug)]
enum Channel {
    Http1 {
        pool: Weak<Pool>,
        sender: SendRequest<RequestBody>,
        is_last: bool,
    },
    Http2(Stream),
}

impl Lease {
    /// A whole connection. It comes back to `pool` by [`Lease::give_back`].
    pub(super) fn http1(pool: Weak<Pool>, sender: SendRequest<RequestBody>) -> Self {
        Self(Channel::Http1 {
            pool,
            sender,
            is_last: false,
        })
    }

    /// A place on a connection.
    pub(super) fn http2(stream: Stream) -> Self {
        Self(Channel::Http2(stream))
    }

    /// What is spoken on it.
    pub(super) fn dialect(&self) -> Dialect {
        match &self.0 {
            Channel::Http1 { .. } => Dialect::Http1,
            Channel::Http2(_) => Dialect::Http2,
        }
    }

    /// Says that the connection is not to be used again.
    pub fn close_after(&mut self) {
        if let Channel::Http1 { is_last, .. } = &mut self.0 {
            *is_last = true;
        }
    }

    /// Sends a request on it; an error comes with the request, if no byte of it was sent.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, (Option<Request<RequestBody>>, hyper::Error)> {
        let sent = match &mut self.0 {
            Channel::Http1 { sender, .. } => sender.try_send_request(request).await,
            Channel::Http2(stream) => stream.connection.sender.try_send_request(request).await,
        };
        sent.map_err(|mut error| (error.take_message(), error.into_error()))
    }

    /// Reads the rest of an answer that nobody wants, if it is short, so that the connection can
    /// be used again; or closes it.
    pub async fn finish(self, mut body: Incoming) {
        let read = async {
            let mut read = 0;
            while !body.is_end_stream() && read <= UNWANTED {
                match body.frame().await {
                    Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
                    Some(Err(_)) => return false,
                    None => return true,
                }
            }
            body.is_end_stream()
        };
        if timeout(UNWANTED_TIME, read).await == Ok(true) {
            self.give_back();
        }
    }

    /// Says that the answer was read to its end.
    pub fn give_back(self) {
        let Channel::Http1 {
            pool,
            mut sender,
            is_last: false,
        } = self.0
        else {
            return;
        };
        let Some(pool) = pool.upgrade() else { return };
        if sender.is_ready() {
            pool.put(sender);
        } else if !sender.is_closed() {
            // An early answer: the request is still being sent. Worth a short wait; an upstream
            // that does not take the rest will close the connection.
            tokio::spawn(async move {
                if let Ok(Ok(())) = timeout(LAST_BYTES, sender.ready()).await {
                    pool.put(sender);
                }
            });
        }
    }
}

/// How much of an unwanted answer is read, and how long it may take.
const UNWANTED: usize = 16 * 1024;
const UNWANTED_TIME: Duration = Duration::from_millis(50);

const LAST_BYTES: Duration = Duration::from_secs(1);
