//! One that works or fails, and which of its changes are worth a line.
//!
//! ```text
//!            failed: a line                    failed: counted, a line a minute
//!   works ─────────────────► fails ◄──────────┐
//!     ▲                        │  └───────────┘
//!     └────────────────────────┘
//!       succeeded: a line, if its beginning had one
//! ```
//!
//! One that changes to and fro all the time gets a pair of lines every [`QUIET`], whose first has the
//! number of failures that were passed over. Where success cannot be distinguished from the absence of
//! failures, a failure is forgotten after a while ([`Subject::forgetting`]), without a line.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// What works or fails.
#[derive(Debug)]
pub(crate) struct Subject {
    epoch: Instant,
    /// Milliseconds since `epoch` and one more; 0 is never.
    last_success: AtomicU64,
    /// Whether there is an episode, so that a success of one that works takes no lock.
    is_failing: AtomicBool,
    /// After how long without a failure it is taken to work; `None`: not before it succeeds.
    forgets_after: Option<Duration>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    last_error: Option<LastError>,
    episode: Option<Episode>,
    /// When a failure was last logged.
    reported_at: Option<Instant>,
    /// Failures of episodes that were not logged.
    passed_over: u64,
}

/// The failures between two successes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Episode {
    pub(crate) since: Instant,
    pub(crate) failures: u64,
    is_reported: bool,
}

/// A change that is worth a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The subject fails, or still does.
    Failing {
        episode: Episode,
        /// Failures of earlier episodes that were not logged.
        before: u64,
    },
    /// The subject works again.
    Recovered(Episode),
}

/// The last failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// When.
    pub at: Instant,
    /// Our word for it, as in the metrics.
    pub reason: &'static str,
    /// What happened; no secret.
    pub detail: String,
}

/// What is known of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubjectHealth {
    /// When it last worked; `None` when it never did.
    pub last_success: Option<Instant>,
    /// Why it last failed, if it ever did.
    pub last_error: Option<LastError>,
    /// Since when it fails; `None` while it works, and while nothing is known.
    pub since: Option<Instant>,
    /// How often since then.
    pub failures: u64,
}

impl SubjectHealth {
    /// Whether it fails.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.since.is_some()
    }
}

/// The least time between two lines about a beginning.
const QUIET: Duration = Duration::from_secs(10);
/// How often a failure that goes on is logged again.
const REMINDER: Duration = Duration::from_secs(60);

impl Default for Subject {
    fn default() -> Self {
        Self {
            epoch: Instant::now(),
            last_success: AtomicU64::new(0),
            is_failing: AtomicBool::new(false),
            forgets_after: None,
            state: Mutex::default(),
        }
    }
}

impl Subject {
    /// One that is taken to work again after a time without a failure.
    pub(crate) fn forgetting(after: Duration) -> Self {
        Self {
            forgets_after: Some(after),
            ..Self::default()
        }
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.is_failing.load(Ordering::Relaxed)
    }

    /// Whether it has never worked.
    pub(crate) fn is_unknown(&self) -> bool {
        self.last_success.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn succeeded(&self, now: Instant) -> Option<Change> {
        let millis = now.saturating_duration_since(self.epoch).as_millis();
        let millis = u64::try_from(millis).unwrap_or(u64::MAX).saturating_add(1);
        self.last_success.store(millis, Ordering::Relaxed);
        if !self.is_failing() {
            return None;
        }
        let mut state = self.lock();
        self.is_failing.store(false, Ordering::Relaxed);
        let episode = state.episode.take()?;
        if episode.is_reported {
            return Some(Change::Recovered(episode));
        }
        state.passed_over += episode.failures;
        None
    }

    pub(crate) fn failed(&self, error: LastError) -> Option<Change> {
        let now = error.at;
        let mut state = self.lock();
        self.is_failing.store(true, Ordering::Relaxed);
        if self.is_forgotten(&state, now) {
            let passed = state.episode.take().filter(|episode| !episode.is_reported);
            state.passed_over += passed.map_or(0, |episode| episode.failures);
        }
        let is_other = state
            .last_error
            .as_ref()
            .is_none_or(|last| last.reason != error.reason);
        state.last_error = Some(error);
        let reported_at = state.reported_at;
        let episode = state.episode.get_or_insert(Episode {
            since: now,
            failures: 0,
            is_reported: false,
        });
        episode.failures += 1;
        let pause = match (episode.is_reported, is_other) {
            (true, false) => REMINDER,
            _ => QUIET,
        };
        if reported_at.is_some_and(|reported| now < reported + pause) {
            return None;
        }
        episode.is_reported = true;
        let episode = *episode;
        state.reported_at = Some(now);
        let before = std::mem::take(&mut state.passed_over);
        Some(Change::Failing { episode, before })
    }

    pub(crate) fn health(&self) -> SubjectHealth {
        let state = self.lock();
        let is_forgotten = self.is_forgotten(&state, Instant::now());
        let episode = state.episode.filter(|_| !is_forgotten);
        let last_success = self.last_success.load(Ordering::Relaxed).checked_sub(1);
        SubjectHealth {
            last_success: last_success.map(|millis| self.epoch + Duration::from_millis(millis)),
            last_error: state.last_error.clone(),
            since: episode.map(|episode| episode.since),
            failures: episode.map_or(0, |episode| episode.failures),
        }
    }

    fn is_forgotten(&self, state: &State, now: Instant) -> bool {
        let last = state.last_error.as_ref().map(|error| error.at);
        let times = self.forgets_after.zip(last);
        times.is_some_and(|(after, last)| last + after < now)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(at: Instant, reason: &'static str) -> LastError {
        LastError {
            at,
            reason,
            detail: String::new(),
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_hundred_failures_are_a_line_at_their_beginning_and_one_at_their_end() {
        let subject = Subject::default();
        let start = Instant::now();
        let Some(Change::Failing { episode, before }) = subject.failed(error(start, "connect"))
        else {
            panic!("no line");
        };
        assert_eq!((episode.since, episode.failures, before), (start, 1, 0));
        for _ in 1..100 {
            assert_eq!(subject.failed(error(start + SECOND, "connect")), None);
        }
        let health = subject.health();
        assert_eq!((health.since, health.failures), (Some(start), 100));
        assert_eq!((health.last_success, health.is_failing()), (None, true));
        let Some(Change::Recovered(episode)) = subject.succeeded(start + 2 * SECOND) else {
            panic!("no line");
        };
        assert_eq!((episode.since, episode.failures), (start, 100));
        assert_eq!(subject.succeeded(start + 3 * SECOND), None);
        let health = subject.health();
        assert_eq!(health.last_success, Some(start + 3 * SECOND));
        assert_eq!((health.since, health.failures), (None, 0));
        assert_eq!(health.last_error, Some(error(start + SECOND, "connect")));
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_is_logged_once_a_minute() {
        let subject = Subject::default();
        let start = Instant::now();
        let lines = (0..300).filter(|second| {
            let at = start + *second * SECOND;
            subject.failed(error(at, "connect")).is_some()
        });
        assert_eq!(lines.collect::<Vec<_>>(), [0, 60, 120, 180, 240]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_no_success_can_end_is_forgotten_after_a_while() {
        let subject = Subject::forgetting(100 * SECOND);
        let start = Instant::now();
        assert!(subject.failed(error(start, "x")).is_some());
        tokio::time::advance(99 * SECOND).await;
        assert_eq!(subject.health().since, Some(start));
        let again = Instant::now();
        assert!(subject.failed(error(again, "x")).is_some());
        assert_eq!(subject.health().failures, 2);
        tokio::time::advance(101 * SECOND).await;
        assert_eq!(subject.health().since, None);
        let later = Instant::now();
        let Some(Change::Failing { episode, .. }) = subject.failed(error(later, "x")) else {
            panic!("no line");
        };
        assert_eq!((episode.since, episode.failures), (later, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn another_reason_is_logged_without_waiting_for_the_minute() {
        let subject = Subject::default();
        let start = Instant::now();
        assert!(subject.failed(error(start, "connect")).is_some());
        assert!(subject.failed(error(start + SECOND, "dns")).is_none());
        let later = start + QUIET;
        assert!(subject.failed(error(later, "dns")).is_none());
        assert!(subject.failed(error(later, "connect")).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_changes_all_the_time_gets_a_pair_of_lines_now_and_then() {
        let subject = Subject::default();
        let start = Instant::now();
        let (mut begun, mut ended, mut reported) = (0, 0, 0);
        for step in 0..3000 {
            let at = start + step * SECOND / 100;
            if let Some(Change::Failing { episode, before }) = subject.failed(error(at, "x")) {
                begun += 1;
                reported += episode.failures + before;
            }
            ended += usize::from(subject.succeeded(at).is_some());
        }
        assert_eq!((begun, ended), (3, 3));
        // All but those since the last line.
        assert_eq!(reported, 2001);
    }
}
