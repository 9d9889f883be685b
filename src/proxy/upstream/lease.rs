//! A connection to the upstream, or a place on one, for the time of one exchange.

use std::{
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::{dialect::Dialect, line::Line, multiplexed::Stream, pool::Pool};
use crate::proxy::upload::RequestBody;

/// A connection in use. Dropped before its exchange is over, it is closed (one that a task drives,
/// once its request is sent or broken off); with HTTP/2 it is the stream that is.
#[derive(Debug)]
pub(super) enum Lease {
    /// A whole connection, which comes back to the pool.
    Http1 { pool: Weak<Pool>, line: Line },
    /// A place on one.
    Http2(Stream),
}

impl Lease {
    /// A connection that comes back to this pool by [`Lease::give_back`].
    pub(super) fn whole(line: Line, pool: &Arc<Pool>) -> Self {
        Self::Http1 {
            pool: Arc::downgrade(pool),
            line,
        }
    }

    /// What is spoken on it.
    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::Http1 { .. } => Dialect::Http1,
            Self::Http2(_) => Dialect::Http2,
        }
    }

    /// Whether an answer has come on the connection before.
    pub(super) fn is_proven(&self) -> bool {
        match self {
            Self::Http1 { .. } => true,
            Self::Http2(stream) => stream.is_proven(),
        }
    }

    /// Sends a request on it; an error comes with the request, if no byte of it was sent.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, (Option<Request<RequestBody>>, hyper::Error)> {
        let sent = match self {
            Self::Http1 { line, .. } => line.send(request).await,
            Self::Http2(stream) => stream.connection.sender.try_send_request(request).await,
        };
        if let (Self::Http2(stream), Ok(_)) = (&*self, &sent) {
            stream.answered();
        }
        sent.map_err(|mut error| (error.take_message(), error.into_error()))
    }

    /// Polls something that the connection makes ready.
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        match self {
            Self::Http1 { line, .. } => line.poll(cx, poll),
            Self::Http2(_) => poll(cx),
        }
    }

    /// Has the connection move on its own from now on.
    pub(super) fn detach(&mut self) {
        if let Self::Http1 { line, .. } = self {
            line.detach();
        }
    }

    /// Says that the answer was read to its end.
    pub(super) fn give_back(self) {
        let Self::Http1 { pool, mut line } = self else {
            return;
        };
        let Some(pool) = pool.upgrade() else { return };
        if line.is_ready() {
            pool.put(line);
        } else if !line.is_closed() {
            // An early answer: the request is still being sent. Worth a short wait; an upstream
            // that does not take the rest will close the connection.
            line.detach();
            tokio::spawn(async move {
                if timeout(LAST_BYTES, line.ready()).await == Ok(true) {
                    pool.put(line);
                }
            });
        }
    }
}

const LAST_BYTES: Duration = Duration::from_secs(1);
