//! How many requests a client may break off before there is a response (CVE-2023-44487): each one
//! may have cost a connection to the upstream.

use std::time::Duration;

use tokio::time::Instant;

/// Counts what is broken off, and counts it off again for each request that ends well, and with
/// time: a client that gives up now and then may do so for as long as it lives.
#[derive(Debug)]
pub(super) struct Resets {
    excess: usize,
    most: usize,
    /// Until when time is counted.
    counted: Instant,
}

impl Resets {
    /// For a client that may give up all of so many requests at once.
    pub(super) fn new(max_concurrent: usize) -> Self {
        Self {
            excess: 0,
            most: MANY.saturating_add(max_concurrent),
            counted: Instant::now(),
        }
    }

    /// A request ended well.
    pub(super) fn responded(&mut self) {
        self.excess = self.excess.saturating_sub(1);
    }

    /// A request was broken off before there was a response.
    pub(super) fn broken_off(&mut self) {
        let seconds = self.counted.elapsed().as_secs();
        self.counted += Duration::from_secs(seconds);
        let forgiven = usize::try_from(seconds).unwrap_or(usize::MAX);
        let forgiven = forgiven.saturating_mul(A_SECOND);
        self.excess = self.excess.saturating_sub(forgiven).saturating_add(1);
    }

    /// Whether the client does little else.
    pub(super) fn are_too_many(&self) -> bool {
        self.excess > self.most
    }
}

/// How many may be broken off beyond those that may be open at the same time.
const MANY: usize = 500;

/// How many are forgiven a second: what costs an upstream nothing worth mentioning.
const A_SECOND: usize = 10;

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const OPEN: usize = 100;

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_now_and_then_may_do_so_for_ever() {
        let mut resets = Resets::new(OPEN);
        for _ in 0..100_000 {
            advance(Duration::from_millis(150)).await;
            resets.broken_off();
            assert!(!resets.are_too_many());
        }
        // All that is open at once, a minute after the last time.
        for _ in 0..100 {
            advance(Duration::from_secs(60)).await;
            (0..OPEN + MANY).for_each(|_| resets.broken_off());
            assert!(!resets.are_too_many());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_half_of_many_requests_may_do_so_for_ever() {
        let mut resets = Resets::new(OPEN);
        for _ in 0..100_000 {
            resets.broken_off();
            resets.responded();
        }
        assert!(!resets.are_too_many());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_little_else_is_found_out() {
        for pause in [0, 1, 50] {
            let mut resets = Resets::new(OPEN);
            let mut count = 0;
            while !resets.are_too_many() {
                advance(Duration::from_millis(pause)).await;
                resets.broken_off();
                count += 1;
                assert!(count < 2000, "a pause of {pause} ms");
            }
            assert!(count > MANY);
        }
    }
}
