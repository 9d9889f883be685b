//! The body of an answer on its way to the client, and what happens when it is over.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{fields, ledger::Entry, upload::Upload, upstream::Answer};
use crate::server::ClientState;

/// The body of an answer: the upstream's, streamed, or our own.
#[derive(Debug)]
pub struct ResponseBody {
    inner: Inner,
    client: Arc<ClientState>,
    /// The rest of the request, which must not outlive the answer by much.
    upload: Option<Upload>,
    /// Settles the request's account when the body is dropped.
    _entry: Option<Entry>,
}

#[derive(Debug)]
enum Inner {
    Upstream(Answer),
    Own(Option<Bytes>),
}

impl ResponseBody {
    /// The upstream's.
    pub(super) fn upstream(
        answer: Answer,
        upload: Upload,
        client: Arc<ClientState>,
        entry: Entry,
    ) -> Self {
        Self {
            inner: Inner::Upstream(answer),
            client,
            upload: Some(upload),
            _entry: Some(entry),
        }
    }

    /// Our own.
    pub(super) fn own(bytes: Bytes, client: Arc<ClientState>, entry: Option<Entry>) -> Self {
        Self {
            inner: Inner::Own((!bytes.is_empty()).then_some(bytes)),
            client,
            upload: None,
            _entry: entry,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.inner {
            Inner::Own(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Inner::Upstream(answer) => {
                let mut polled = Pin::new(answer).poll_frame(cx);
                if let Poll::Ready(Some(Ok(frame))) = &mut polled
                    && let Some(trailers) = frame.trailers_mut()
                {
                    fields::trailers(trailers);
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Own(bytes) => bytes.is_none(),
            Inner::Upstream(answer) => answer.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Own(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Inner::Upstream(answer) => answer.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        self.client.part_over();
        if let Inner::Upstream(answer) = &self.inner
            && let Some(upload) = self.upload.take().filter(|upload| !upload.is_read())
        {
            if !answer.is_over() {
                upload.cancel();
            } else if self.client.is_stream() {
                upload.cancel_when_silent();
            }
        }
    }
}
