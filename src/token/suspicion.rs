//! How far a 401 is believed to be the token's fault.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Renewals that were caused by a 401 and did not help.
#[derive(Debug, Default)]
pub(super) struct Suspicion(Mutex<Option<Unhelpful>>);

#[derive(Debug, Clone, Copy)]
struct Unhelpful {
    /// How many in a row.
    renewals: u32,
    /// The last token that they brought: many requests say the same of it at once.
    generation: u64,
    last: Instant,
}

/// After this time without such a renewal, the next one is believed again.
const FORGIVEN: Duration = Duration::from_secs(5 * 60);

impl Suspicion {
    /// The age below which a refused token is believed to be good: 0, 1 s, 2 s, … 32 s.
    pub(super) fn cooldown(&self, now: Instant) -> Duration {
        match *self.lock() {
            Some(Unhelpful { renewals, last, .. }) if now < last + FORGIVEN => {
                Duration::from_secs(1 << (renewals - 1).min(5))
            }
            _ => Duration::ZERO,
        }
    }

    /// A renewal brought this token, and it was refused too.
    pub(super) fn raise(&self, generation: u64, last: Instant) {
        let mut suspicion = self.lock();
        let renewals = match *suspicion {
            Some(known) if known.generation == generation => return,
            Some(known) => known.renewals.saturating_add(1),
            None => 1,
        };
        *suspicion = Some(Unhelpful {
            renewals,
            generation,
            last,
        });
    }

    /// One helped.
    pub(super) fn clear(&self) {
        *self.lock() = None;
    }

    /// Taken only around a 401.
    fn lock(&self) -> MutexGuard<'_, Option<Unhelpful>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
