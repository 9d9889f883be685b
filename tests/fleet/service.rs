//! The token service: it writes every call down, and has a capacity, a rate limiter and bad days.

use std::time::Duration;

use auth_sidecar::token::{Bearer, FetchError, Lifetime, Reason, TokenResponse};
use secrecy::SecretString;
use tokio::time::Instant;

/// How long a sidecar waits for an answer (the default of `auth.request_timeout`).
pub const PATIENCE: Duration = Duration::from_secs(10);
/// How long a call takes when nobody is in its way.
const LATENCY: Duration = Duration::from_millis(50);
/// How long a refused connection or a status without a token takes.
const REFUSAL: Duration = Duration::from_millis(5);

/// What it does with calls that it has no capacity for.
#[derive(Debug, Clone, Copy)]
pub enum Overload {
    /// Answers 429 with that `Retry-After`.
    Refuse(Duration),
    /// Lets them wait in line, and skips those whose caller has hung up.
    Queue,
    /// Lets them wait in line, and works even for those who have hung up.
    QueueBlindly,
}

/// How it feels.
#[derive(Debug, Clone, Copy)]
pub enum State {
    /// It grants what its capacity allows.
    Serving,
    /// Connections are refused.
    Away,
    /// 429 with that `Retry-After` for everyone.
    Limiting(Duration),
}

/// What a call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A token.
    Granted,
    /// Status 429.
    Limited,
    /// No connection.
    Away,
    /// Nothing within [`PATIENCE`].
    TimedOut,
}

/// One line of the service's book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// Who called.
    pub sidecar: usize,
    /// When, counted from the start of the fleet.
    pub at: Duration,
    /// When the answer was there.
    pub done: Duration,
    /// What the answer was.
    pub outcome: Outcome,
}

/// One token service.
#[derive(Debug)]
pub struct Service {
    /// Every call, in the order in which they came.
    pub calls: Vec<Call>,
    /// Changed by the scenario.
    pub state: State,
    /// How long its tokens live.
    pub lifetime: Duration,
    started: Instant,
    capacity: u32,
    overload: Overload,
    /// The second that is being counted, and the tokens granted in it.
    second: (u64, u32),
    /// When the line is worked off.
    free_at: Duration,
}

impl Service {
    pub fn new(lifetime: Duration, capacity: u32, overload: Overload) -> Self {
        Self {
            calls: Vec::new(),
            state: State::Serving,
            started: Instant::now(),
            lifetime,
            capacity,
            overload,
            second: (0, 0),
            free_at: Duration::ZERO,
        }
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes a call: the answer, and how long it takes.
    pub fn call(&mut self, sidecar: usize) -> (Duration, Result<TokenResponse, FetchError>) {
        let at = self.now();
        let (takes, outcome, retry_after) = match self.state {
            State::Serving => self.serve(at),
            State::Away => (REFUSAL, Outcome::Away, None),
            State::Limiting(asked) => (REFUSAL, Outcome::Limited, Some(asked)),
        };
        let done = at + takes;
        self.calls.push(Call {
            sidecar,
            at,
            done,
            outcome,
        });
        let failed = |reason| FetchError {
            retry_after,
            ..FetchError::new(reason, "")
        };
        let answer = match outcome {
            Outcome::Granted => Ok(TokenResponse::new(
                Bearer::new(&SecretString::from(format!("t{}", self.calls.len()))).unwrap(),
                Lifetime::Limited(self.lifetime),
            )),
            Outcome::Limited => Err(failed(Reason::RateLimited)),
            Outcome::Away => Err(failed(Reason::Network)),
            Outcome::TimedOut => Err(failed(Reason::Timeout)),
        };
        (takes, answer)
    }

    fn serve(&mut self, at: Duration) -> (Duration, Outcome, Option<Duration>) {
        match self.overload {
            Overload::Refuse(asked) => {
                if self.second.0 != at.as_secs() {
                    self.second = (at.as_secs(), 0);
                }
                if self.second.1 == self.capacity {
                    return (REFUSAL, Outcome::Limited, Some(asked));
                }
                self.second.1 += 1;
                (LATENCY, Outcome::Granted, None)
            }
            Overload::Queue | Overload::QueueBlindly => {
                let begins = self.free_at.max(at);
                let ends = begins + Duration::from_secs(1) / self.capacity;
                let takes = begins.saturating_sub(at) + LATENCY;
                let in_time = takes < PATIENCE;
                if in_time || matches!(self.overload, Overload::QueueBlindly) {
                    self.free_at = ends;
                }
                if in_time {
                    (takes, Outcome::Granted, None)
                } else {
                    (PATIENCE, Outcome::TimedOut, None)
                }
            }
        }
    }
}
