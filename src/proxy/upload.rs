//! A request's body on its way: streamed as it comes, and kept meanwhile, as long as it is small
//! enough, so that the request can be sent again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::time::Instant;

use super::upstream::Lease;
use crate::{
    http1::BodyError,
    message::{BodyLength, Text},
    server::Exchange,
};

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

/// The body of one request: how much of it the upstream has got, and a copy of that for as long as
/// it may have to be sent again.
#[derive(Debug)]
pub(super) struct Upload<'a> {
    budget: &'a Budget,
    /// What has come from the client; `None` once that was too much or is no longer needed.
    kept: Option<Text>,
    reserved: usize,
    /// How much of the kept part the upstream of this attempt has got.
    sent: usize,
    /// How much has come from the client.
    received: u64,
    /// Whether anything has come from the client.
    has_begun: bool,
    state: State,
    /// Who is waited for.
    pub(super) waits_for: Side,
    /// When a byte of it last moved.
    pub(super) moved: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sending,
    /// All of it was taken, and not all of it was sent.
    Flushing,
    Over,
}

/// One side of the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Upstream,
}

/// Why a body does not get to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum UploadError {
    /// The client broke off, or its framing is malformed.
    Client(BodyError),
    /// The upstream takes nothing more of it.
    NotTaken,
}

impl<'a> Upload<'a> {
    pub(super) fn new(length: BodyLength, budget: &'a Budget, now: Instant) -> Self {
        // One that is announced to be too large is not even begun to be kept.
        let fits = match length {
            BodyLength::Known(length) => length <= budget.per_request as u64,
            BodyLength::Unknown => true,
        };
        Self {
            budget,
            kept: fits.then(Text::default),
            reserved: 0,
            sent: 0,
            received: 0,
            has_begun: false,
            state: State::Sending,
            waits_for: Side::Client,
            moved: now,
        }
    }

    /// Begins an attempt to send it, from its beginning. To be asked only while it is held.
    pub(super) fn begin(&mut self, now: Instant) {
        self.sent = 0;
        self.state = State::Sending;
        self.moved = now;
    }

    /// What is known of its length, given that of what is left at the client.
    pub(super) fn length(&self, left: BodyLength) -> BodyLength {
        match left {
            BodyLength::Known(left) => {
                let kept = self.kept.as_ref().map_or(0, |kept| kept.len());
                BodyLength::Known(left + kept as u64)
            }
            BodyLength::Unknown => BodyLength::Unknown,
        }
    }

    /// Whether it can be sent from its beginning.
    pub(super) fn is_held(&self) -> bool {
        !self.has_begun || self.kept.is_some()
    }

    /// Whether the upstream has got it whole.
    pub(super) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Whether anything of it has come.
    pub(super) fn has_begun(&self) -> bool {
        self.has_begun
    }

    /// How much has come from the client.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Says that it will not be sent again; what was kept is freed.
    pub(super) fn forget(&mut self) {
        // What the upstream has not got yet is still needed.
        if self
            .kept
            .as_ref()
            .is_some_and(|kept| self.sent == kept.len())
        {
            self.kept = None;
            self.budget.release(std::mem::take(&mut self.reserved));
        }
    }

    /// Moves what can be moved now; ready when all of it was sent.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut impl Exchange,
        upstream: &mut Lease,
    ) -> Poll<Result<(), UploadError>> {
        while self.state == State::Sending {
            let rest = self.kept.as_ref().and_then(|kept| kept.get(self.sent..));
            if let Some(rest @ [_, ..]) = rest {
                self.waits_for = Side::Upstream;
                let count = ready!(upstream.poll_write(cx, rest)).ok_or(UploadError::NotTaken)?;
                self.sent += count;
                self.moved = Instant::now();
                continue;
            }
            self.waits_for = Side::Client;
            let Poll::Ready(data) = client.poll_body(cx).map_err(UploadError::Client)? else {
                // What there is goes out meanwhile.
                if let Poll::Ready(None) = upstream.poll_flush(cx) {
                    return Poll::Ready(Err(UploadError::NotTaken));
                }
                return Poll::Pending;
            };
            if data.is_empty() {
                upstream.finish();
                self.state = State::Flushing;
                break;
            }
            self.waits_for = Side::Upstream;
            let count = ready!(upstream.poll_write(cx, data)).ok_or(UploadError::NotTaken)?;
            self.has_begun = true;
            self.moved = Instant::now();
            keep(
                self.budget,
                &mut self.kept,
                &mut self.reserved,
                data.get(..count).unwrap_or_default(),
            );
            self.sent += count;
            self.received += count as u64;
            client.consume_body(count);
        }
        if self.state == State::Flushing {
            self.waits_for = Side::Upstream;
            ready!(upstream.poll_flush(cx)).ok_or(UploadError::NotTaken)?;
            self.state = State::Over;
        }
        Poll::Ready(Ok(()))
    }
}

fn keep(budget: &Budget, kept: &mut Option<Text>, reserved: &mut usize, data: &[u8]) {
    let Some(text) = kept else { return };
    let fits = text.len() + data.len() <= budget.per_request;
    if fits && budget.reserve(data.len()) {
        text.extend_from_slice(data);
        *reserved += data.len();
    } else {
        *kept = None;
        budget.release(std::mem::take(reserved));
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        self.budget.release(self.reserved);
    }
}
