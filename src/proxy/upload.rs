//! A request's body on its way: streamed as it comes, and kept meanwhile, as long as it is small
//! enough, so that the request can be sent again.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep, timeout},
};

use crate::server::ClientState;

/// What bodies may be kept, over all requests.
#[derive(Debug, Clone)]
pub struct Budget {
    used: Arc<AtomicUsize>,
    total: usize,
    per_request: usize,
}

impl Budget {
    /// At most `per_request` bytes of one body and `total` bytes of all.
    #[must_use]
    pub fn new(per_request: usize, total: usize) -> Self {
        Self {
            used: Arc::default(),
            total,
            per_request,
        }
    }

    fn reserve(&self, bytes: usize) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= self.total;
        if !fits {
            self.release(bytes);
        }
        fits
    }

    fn release(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// What a kept part costs besides its bytes.
const PART: usize = 64;

/// The body of one request, from which [`Upload::body`] can be taken again while it is still held
/// whole: the part that was read is kept, and the rest comes from the client.
#[derive(Debug, Clone)]
pub(super) struct Upload(Option<Arc<Mutex<Source>>>);

#[derive(Debug)]
struct Source {
    /// There until it is dropped.
    incoming: Option<Incoming>,
    client: Arc<ClientState>,
    /// The length that the client announced.
    size: SizeHint,
    /// What was read so far; `None` once it was too much or is no longer needed.
    kept: Option<Vec<Bytes>>,
    kept_bytes: usize,
    budget: Budget,
    /// Which of the bodies that were handed out may read on: the last one.
    reader: u32,
    ended: bool,
    /// The client broke off: from here on nobody reads it as if it were whole.
    broken: bool,
    /// Who waits for the next part.
    waiting: Option<Waker>,
    progress: Instant,
}

impl Upload {
    /// Takes a request's body.
    pub(super) fn new(incoming: Incoming, client: &Arc<ClientState>, budget: &Budget) -> Self {
        if incoming.is_end_stream() {
            return Self(None);
        }
        let size = incoming.size_hint();
        // One that is announced to be too large is not even begun to be kept.
        let fits = size.lower() <= budget.per_request as u64;
        Self(Some(Arc::new(Mutex::new(Source {
            incoming: Some(incoming),
            client: Arc::clone(client),
            size,
            kept: fits.then(Vec::new),
            kept_bytes: 0,
            budget: budget.clone(),
            reader: 0,
            ended: false,
            broken: false,
            waiting: None,
            progress: Instant::now(),
        }))))
    }

    /// The body from its beginning, for sending; `None` when it is no longer held whole. A body
    /// that was taken before ends with an error.
    #[must_use]
    pub(super) fn body(&self) -> Option<RequestBody> {
        let Some(shared) = &self.0 else {
            return Some(RequestBody::empty());
        };
        if !self.is_held() {
            return None;
        }
        let mut source = lock(shared);
        source.supersede();
        Some(RequestBody(Some(Reader {
            number: source.reader,
            next: 0,
            source: Arc::clone(shared),
        })))
    }

    /// Whether it can be sent from its beginning.
    #[must_use]
    pub(super) fn is_held(&self) -> bool {
        self.0.as_ref().is_none_or(|shared| {
            let source = lock(shared);
            !source.broken && (source.reader == 0 || source.kept.is_some())
        })
    }

    /// Ends the sending of it, where it goes on: the request has got its answer from elsewhere.
    pub(super) fn cancel(&self) {
        if let Some(shared) = &self.0 {
            let mut source = lock(shared);
            source.supersede();
            source.forget();
        }
    }

    /// Ends it once nothing of it has moved for a moment. The answer is over, so on a stream of
    /// HTTP/2 nobody else would ever end it; on a connection with HTTP/1 the client's patience does.
    pub(super) fn cancel_when_silent(self) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            let mut seen = None;
            while !self.is_read() && self.progress() != seen {
                seen = self.progress();
                sleep(REST_TIME).await;
            }
            self.cancel();
        });
    }

    /// Says that it will not be sent again; what was kept is freed.
    pub(super) fn forget(&self) {
        if let Some(shared) = &self.0 {
            lock(shared).forget();
        }
    }

    /// When a part of it last moved; `None` for a body that is over or empty.
    #[must_use]
    pub(super) fn progress(&self) -> Option<Instant> {
        self.0.as_ref().map(|shared| lock(shared).progress)
    }

    /// Whether the client has nothing more to send.
    #[must_use]
    pub(super) fn is_read(&self) -> bool {
        self.0.as_ref().is_none_or(|shared| {
            let source = lock(shared);
            source.ended || source.incoming.as_ref().is_none_or(Body::is_end_stream)
        })
    }
}

impl Source {
    /// Takes the reading from whoever reads now, who learns it by an error.
    fn supersede(&mut self) {
        self.reader += 1;
        if let Some(waiting) = self.waiting.take() {
            waiting.wake();
        }
    }

    /// The client owes nothing more, or what it owes is not wanted.
    fn over(&mut self) {
        if !self.ended {
            self.ended = true;
            self.client.part_over();
        }
    }

    fn forget(&mut self) {
        self.kept = None;
        self.budget.release(std::mem::take(&mut self.kept_bytes));
    }

    fn keep(&mut self, data: &Bytes) {
        let Some(kept) = &mut self.kept else { return };
        // A part costs more than its bytes, and there may be many of one byte.
        let cost = data.len() + PART;
        let fits = self.kept_bytes + data.len() <= self.budget.per_request;
        if fits && self.budget.reserve(cost) {
            kept.push(data.clone());
            self.kept_bytes += cost;
        } else {
            self.forget();
        }
    }

    /// The next part from the client. Trailers end here: nothing behind us needs them, and they
    /// are a way to smuggle fields.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, UploadError>>> {
        loop {
            if self.broken {
                return Poll::Ready(Some(Err(UploadError::Broken)));
            }
            let Some(incoming) = &mut self.incoming else {
                return Poll::Ready(None);
            };
            let polled = Pin::new(incoming).poll_frame(cx);
            if polled.is_pending() {
                self.waiting = Some(cx.waker().clone());
                self.client.waits_for_upload();
                return Poll::Pending;
            }
            self.client.upload_moved();
            self.progress = Instant::now();
            match ready!(polled) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.keep(&data);
                        return Poll::Ready(Some(Ok(data)));
                    }
                }
                Some(Err(error)) => {
                    self.broken = true;
                    self.forget();
                    self.over();
                    return Poll::Ready(Some(Err(UploadError::Client(error))));
                }
                None => {
                    self.over();
                    return Poll::Ready(None);
                }
            }
        }
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if self.client.is_stream()
            && !self.ended
            && let Some(rest) = self.incoming.take()
            && !rest.is_end_stream()
        {
            finish(rest);
        }
        self.over();
        self.forget();
    }
}

/// Reads the little that may be left of a body on a stream of HTTP/2. Often that is its end alone,
/// which the answer has overtaken; dropped before it, the stream is reset (RFC 9113 §8.1), which
/// some clients take for a failure, and after many of which the codec gives up the connection.
fn finish(mut rest: Incoming) {
    let Ok(runtime) = Handle::try_current() else {
        return;
    };
    let read = async move {
        let mut read = 0;
        while read <= REST
            && let Some(Ok(frame)) = rest.frame().await
        {
            read += frame.data_ref().map_or(0, Bytes::len);
        }
    };
    runtime.spawn(timeout(REST_TIME, read));
}

const REST: usize = 64 * 1024;
const REST_TIME: Duration = Duration::from_secs(1);

fn lock(source: &Mutex<Source>) -> MutexGuard<'_, Source> {
    // A panic elsewhere leaves a body half read at worst; its length still says so.
    source.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The client broke off.
    #[error("the client broke off its body")]
    Client(#[source] hyper::Error),
    /// It had broken off before.
    #[error("the body is broken")]
    Broken,
    /// The request was sent again on another connection.
    #[error("the body is read elsewhere now")]
    Superseded,
}

/// A request's body as it is sent.
#[derive(Debug)]
pub struct RequestBody(Option<Reader>);

impl RequestBody {
    /// Nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self(None)
    }
}

#[derive(Debug)]
struct Reader {
    source: Arc<Mutex<Source>>,
    number: u32,
    /// The kept part that comes next.
    next: usize,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let Some(reader) = &mut self.get_mut().0 else {
            return Poll::Ready(None);
        };
        let mut source = lock(&reader.source);
        if source.reader != reader.number {
            return Poll::Ready(Some(Err(UploadError::Superseded)));
        }
        let kept = source.kept.as_ref().and_then(|kept| kept.get(reader.next));
        let data = match kept {
            Some(data) => Some(Ok(data.clone())),
            None if source.ended && !source.broken => None,
            None => ready!(source.poll_next(cx)),
        };
        reader.next += 1;
        Poll::Ready(data.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            None => SizeHint::with_exact(0),
            Some(reader) => lock(&reader.source).size,
        }
    }
}
