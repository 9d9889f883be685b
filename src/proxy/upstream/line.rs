//! A connection to the upstream with HTTP/1.1, which carries one exchange at a time.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1::SendRequest},
};

use tokio::task::coop::has_budget_remaining;

use crate::proxy::upload::RequestBody;

/// A connection. Dropped, it is closed, whatever was going on; but one that a task drives ends with
/// its exchange.
#[derive(Debug)]
pub(super) struct Line {
    sender: SendRequest<RequestBody>,
    driver: Driver,
    generation: usize,
}

/// Who moves the bytes of a connection.
///
/// The task that waits for them, most of the time: a task of the connection's own would have to be
/// woken for each request, and would have to wake the other one for each answer.
enum Driver {
    /// Whoever uses it.
    User(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// A task: both directions have to move, though nobody may be there to wait for them.
    Task,
    /// It has ended.
    Nobody,
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::User(_) => "User",
            Self::Task => "Task",
            Self::Nobody => "Nobody",
        })
    }
}

impl Line {
    pub(super) fn new(
        sender: SendRequest<RequestBody>,
        connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
    ) -> Self {
        let connection = async {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the upstream ended");
            }
        };
        Self {
            sender,
            driver: Driver::User(Box::pin(connection)),
            generation: 0,
        }
    }

    /// Notes with which certificates of the way it was made.
    pub(super) fn of_generation(self, generation: usize) -> Self {
        Self { generation, ..self }
    }

    pub(super) fn generation(&self) -> usize {
        self.generation
    }

    /// Moves what can be moved now; `cx` is woken when there is more.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        if let Driver::User(connection) = &mut self.driver
            && connection.as_mut().poll(cx).is_ready()
        {
            self.driver = Driver::Nobody;
        }
    }

    /// Has a task drive it from now on.
    pub(super) fn detach(&mut self) {
        if let Driver::User(connection) = std::mem::replace(&mut self.driver, Driver::Task) {
            // It ends with its exchange once its sender is dropped.
            tokio::spawn(connection);
        }
    }

    /// Polls something that only the connection makes ready. What is woken is whoever waits for the
    /// connection, once, and not for each hand that a byte goes through.
    pub(super) fn poll<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if !matches!(self.driver, Driver::User(_)) {
            return poll(cx);
        }
        let nobody = &mut Context::from_waker(Waker::noop());
        if let Poll::Ready(ready) = poll(nobody) {
            return Poll::Ready(ready);
        }
        self.drive(cx);
        let polled = poll(nobody);
        if polled.is_pending() && !has_budget_remaining() {
            // It may be ready, and nobody would say so again.
            cx.waker().wake_by_ref();
        }
        polled
    }

    /// Whether it takes a request now. One that the upstream has closed shows here at the latest.
    pub(super) fn is_ready(&mut self) -> bool {
        // Who used it last is not to be woken by what comes next.
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.sender.is_ready()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Waits until it takes a request; false if it never will.
    pub(super) async fn ready(&mut self) -> bool {
        poll_fn(|cx| {
            self.drive(cx);
            self.sender.poll_ready(cx)
        })
        .await
        .is_ok()
    }

    /// Sends a request on it and gets the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, TrySendError<Request<RequestBody>>> {
        let mut answer = pin!(self.sender.try_send_request(request));
        poll_fn(|cx| self.poll(cx, |cx| answer.as_mut().poll(cx))).await
    }
}
