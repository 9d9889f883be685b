//! The body of the upstream's answer, together with the connection that it comes on.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::timeout;

use super::lease::Lease;

/// A body as it comes. At its end the connection is given back; dropped before, it is closed.
#[derive(Debug)]
pub struct Answer {
    incoming: Incoming,
    /// Until the end.
    lease: Option<Lease>,
    is_last: bool,
}

impl Answer {
    pub(super) fn new(incoming: Incoming, lease: Lease) -> Self {
        let mut answer = Self {
            incoming,
            lease: Some(lease),
            is_last: false,
        };
        answer.settle();
        answer
    }

    /// Whether it was read to its end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.lease.is_none()
    }

    /// Says that the connection is not to be used again.
    pub fn close_after(&mut self) {
        self.is_last = true;
    }

    /// Has the connection move also while nobody reads: the rest of the request is still to be sent,
    /// or it will not be HTTP any more.
    pub fn detach(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.detach();
        }
    }

    /// Reads the rest, which nobody wants, if it is short, so that the connection can be used again;
    /// or closes it.
    pub async fn finish(mut self) {
        let read = async {
            let mut read = 0;
            while read <= UNWANTED {
                match poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await {
                    Some(Ok(frame)) => read += frame.data_ref().map_or(0, Bytes::len),
                    Some(Err(_)) | None => return,
                }
            }
        };
        drop(timeout(UNWANTED_TIME, read).await);
    }

    /// Gives the connection back if the body is over.
    fn settle(&mut self) {
        if self.incoming.is_end_stream() {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        if let Some(lease) = self.lease.take()
            && !self.is_last
        {
            lease.give_back();
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Self {
            incoming, lease, ..
        } = &mut *self;
        let mut next = |cx: &mut Context<'_>| Pin::new(&mut *incoming).poll_frame(cx);
        let polled = match lease {
            Some(lease) => lease.poll(cx, next),
            None => next(cx),
        };
        if let Poll::Ready(frame) = &polled {
            match frame {
                Some(_) => self.settle(),
                None => self.give_back(),
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// How much of an unwanted answer is read, and how long it may take.
const UNWANTED: usize = 16 * 1024;
const UNWANTED_TIME: Duration = Duration::from_millis(50);
