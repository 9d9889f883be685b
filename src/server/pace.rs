//! Warnings that whoever connects can cause: a line a second at most, so that nobody can flood the
//! log with them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// One kind of warning, shared by all that give it.
#[derive(Clone, Debug, Default)]
pub(super) struct Pace(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    last: Option<Instant>,
    /// Since the last line.
    unsaid: u64,
}

const LEAST: Duration = Duration::from_secs(1);

impl Pace {
    /// Whether this one is due: if so, how many there were since the last one that was.
    pub(super) fn due(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if state.last.is_some_and(|last| now < last + LEAST) {
            state.unsaid += 1;
            return None;
        }
        state.last = Some(now);
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_becomes_a_line_a_second_that_gives_its_size() {
        let pace = Pace::default();
        assert_eq!(pace.due(), Some(0));
        for _ in 0..1000 {
            assert_eq!(pace.clone().due(), None);
        }
        tokio::time::advance(LEAST).await;
        assert_eq!(pace.due(), Some(1000));
        assert_eq!(pace.due(), None);
        tokio::time::advance(2 * LEAST).await;
        assert_eq!(pace.due(), Some(1));
    }
}
