//! A request's body on its way into hyper's codec of HTTP/2: one part at a time.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use crate::message::BodyLength;

/// How much is copied at a time.
const MOST: usize = 64 * 1024;

/// The end at which the body is given.
pub(super) struct Sender {
    parts: Option<PollSender<Part>>,
}

enum Part {
    Data(Bytes),
    End,
}

/// The end at which the codec takes it. One whose giver goes before its end breaks off.
#[derive(Debug)]
pub(in crate::proxy::upstream) struct RequestBody {
    parts: Option<mpsc::Receiver<Part>>,
    length: BodyLength,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Part")
    }
}

/// Both ends of a body.
pub(super) fn channel(length: BodyLength) -> (Sender, RequestBody) {
    let (giver, taker) = mpsc::channel(1);
    let sender = Sender {
        parts: Some(PollSender::new(giver)),
    };
    let parts = (!length.is_empty()).then_some(taker);
    (sender, RequestBody { parts, length })
}

impl Sender {
    /// Gives a part: how much of it. `None` when nothing more is taken.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<Option<usize>> {
        let Some(parts) = &mut self.parts else {
            return Poll::Ready(None);
        };
        if ready!(parts.poll_reserve(cx)).is_err() {
            self.parts = None;
            return Poll::Ready(None);
        }
        let data = data.get(..data.len().min(MOST)).unwrap_or_default();
        let sent = parts.send_item(Part::Data(Bytes::copy_from_slice(data)));
        Poll::Ready(sent.is_ok().then_some(data.len()))
    }

    /// Says that the body is whole.
    pub(super) fn finish(&mut self) {
        let Some(mut parts) = self.parts.take() else {
            return;
        };
        // There is room, or the part before it is taken soon: the end has to wait for it.
        let giver = parts.get_ref().cloned();
        parts.abort_send();
        if let Some(giver) = giver
            && giver.try_send(Part::End).is_err()
        {
            tokio::spawn(async move { giver.send(Part::End).await.unwrap_or_default() });
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let Some(parts) = &mut self.parts else {
            return Poll::Ready(None);
        };
        Poll::Ready(match ready!(parts.poll_recv(cx)) {
            Some(Part::Data(data)) => {
                if let BodyLength::Known(left) = &mut self.length {
                    *left = left.saturating_sub(data.len() as u64);
                }
                Some(Ok(Frame::data(data)))
            }
            Some(Part::End) => {
                self.parts = None;
                None
            }
            None => Some(Err(io::ErrorKind::UnexpectedEof.into())),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.parts.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            BodyLength::Known(left) => SizeHint::with_exact(left),
            BodyLength::Unknown => SizeHint::default(),
        }
    }
}
