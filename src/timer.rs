//! One timer a connection: the deadline of whatever is waited for now.
//!
//! Most waits end long before their deadline. So the runtime's timer is not set anew for each of
//! them: it stays where it is as long as it fires no later than it must, and looks at the clock
//! then.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    task::coop::has_budget_remaining,
    time::{Instant, Sleep, sleep_until},
};

/// The deadline of a wait. To be polled by one task alone.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    /// Behind a pointer, and only once there was something to wait for.
    sleep: Option<Pin<Box<Sleep>>>,
    /// Whether the task is woken when it fires.
    is_watched: bool,
}

impl Timer {
    /// Whether a deadline has passed. If not, the task is woken then, or earlier.
    ///
    /// # Cancel safety
    /// Safe: the next poll may be for another deadline.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if self.is_watched && !sleep.is_elapsed() && sleep.deadline() <= deadline {
            return Poll::Pending;
        }
        self.is_watched = false;
        if Instant::now() >= deadline {
            return Poll::Ready(());
        }
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        // Without budget it would not be watched, and the task be woken anyway.
        let has_budget = has_budget_remaining();
        if sleep.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        self.is_watched = has_budget;
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use tokio::time::advance;

    use super::*;

    async fn wait(timer: &mut Timer, seconds: u64) -> u64 {
        let began = Instant::now();
        let deadline = began + Duration::from_secs(seconds);
        poll_fn(|cx| timer.poll(cx, deadline)).await;
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn each_deadline_is_kept_whatever_came_before() {
        let mut timer = Timer::default();
        for seconds in [5, 60, 1, 300, 300, 10, 60] {
            assert_eq!(wait(&mut timer, seconds).await, seconds);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_ended_early_does_not_shorten_the_next() {
        let mut timer = Timer::default();
        for (seconds, passed) in [(10, 9), (60, 9), (5, 1), (300, 2)] {
            let deadline = Instant::now() + Duration::from_secs(seconds);
            let polled = poll_fn(|cx| Poll::Ready(timer.poll(cx, deadline))).await;
            assert!(polled.is_pending());
            advance(Duration::from_secs(passed)).await;
        }
        assert_eq!(wait(&mut timer, 20).await, 20);
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_deadlines_the_first_wakes() {
        let mut timer = Timer::default();
        let began = Instant::now();
        let (late, soon) = (
            began + Duration::from_secs(60),
            began + Duration::from_secs(3),
        );
        poll_fn(|cx| {
            assert!(timer.poll(cx, late).is_pending());
            timer.poll(cx, soon)
        })
        .await;
        assert_eq!(began.elapsed().as_secs(), 3);
    }
}
