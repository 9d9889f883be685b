//! When to renew and how long to back off: pure functions of a lifetime, a failure count and a random number.

use std::{ops::Range, time::Duration};

/// The bounds of everything that the refresher waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct RefreshPolicy {
    /// The lifetime of a token whose service names none (RFC 6749 §5.1 allows that).
    pub default_lifetime: Duration,
    /// The longest lifetime that is believed; a longer one is renewed as if it were this.
    pub max_lifetime: Duration,
    /// The least time between the starts of two token calls, whatever happens.
    pub floor: Duration,
    /// The least ceiling of a back-off. It grows with the outage, or doubles with each rejection.
    pub backoff_base: Duration,
    /// The ceiling of all back-offs after a fault of the network or the service.
    pub backoff_ceiling: Duration,
    /// The same after a rejected credential: only a person can mend that.
    pub rejected_ceiling: Duration,
    /// The longest `Retry-After` that is honoured; a longer one is taken for a mistake.
    pub retry_after_ceiling: Duration,
    /// The same where the service limits the rate: such limits are reset at a time that it knows, up to an
    /// hour later.
    pub limit_ceiling: Duration,
}

impl Default for RefreshPolicy {
    fn default() -> Self {
        Self {
            default_lifetime: Duration::from_secs(5 * 60),
            max_lifetime: Duration::from_secs(24 * 60 * 60),
            floor: Duration::from_millis(700),
            backoff_base: Duration::from_secs(1),
            backoff_ceiling: Duration::from_secs(60),
            rejected_ceiling: Duration::from_secs(5 * 60),
            retry_after_ceiling: Duration::from_secs(10 * 60),
            limit_ceiling: Duration::from_secs(61 * 60),
        }
    }
}

/// How a token was come by, which decides how its renewal is spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Occasion {
    /// A renewal in its turn: its time is spread already.
    Routine,
    /// The first token, or the first after failures: a whole fleet may have got one in the same
    /// second, so the next renewal is drawn from most of the lifetime.
    Synchronised,
}

/// What a failed attempt was, which decides how long to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The network or the service; no attempt has succeeded for so long.
    Outage(Duration),
    /// The service has more to do than it can; so many attempts in a row have failed, from 1.
    Limit(u32),
    /// The credential was rejected; so many attempts in a row have failed, from 1.
    Rejection(u32),
}

impl RefreshPolicy {
    /// How long before its end a token is renewed at the latest: 30 s, or a tenth of the lifetime
    /// where that is more, but never more than half of it, since a minute is a legal lifetime.
    /// (The vendor's own clients use 30 s below ten minutes and 180 s above: the same at the
    /// usual 1799 s.)
    #[must_use]
    pub fn lead(lifetime: Duration) -> Duration {
        Duration::from_secs(30).max(lifetime / 10).min(lifetime / 2)
    }

    /// When to renew a token of that lifetime, counted from the start of the call that brought it.
    /// `random` is in 0..1 and moves the time earlier only.
    #[must_use]
    pub fn renew_after(&self, lifetime: Duration, occasion: Occasion, random: f64) -> Duration {
        let lifetime = lifetime.min(self.max_lifetime);
        let latest = lifetime.saturating_sub(Self::lead(lifetime));
        let earliest = match occasion {
            Occasion::Routine => latest.mul_f64(0.85),
            Occasion::Synchronised => latest.mul_f64(0.15).max(latest.min(MIN_SPREAD)),
        };
        between(earliest..latest, random).max(self.floor)
    }

    /// How long to wait after a failure, `random` in 0..1.
    ///
    /// Full jitter between the floor and a ceiling. After a fault of the network or the service that
    /// is half of the time that the outage has lasted: who was away for a short time is found back
    /// in a short time. After a rejected credential, and where the service has too much to do, it
    /// doubles with each failure. What the service
    /// asked for by `Retry-After` is waited for in full, then spread over as long again: a backlog
    /// that takes so long to work off comes back no faster than it can be worked off.
    #[must_use]
    pub fn back_off(&self, fault: Fault, retry_after: Option<Duration>, random: f64) -> Duration {
        let step = match fault {
            Fault::Outage(lasted) => (lasted / 2).clamp(self.backoff_base, self.backoff_ceiling),
            Fault::Limit(failures) => self.doubled(failures).min(self.backoff_ceiling),
            Fault::Rejection(failures) => self.doubled(failures).min(self.rejected_ceiling),
        };
        let longest = match fault {
            Fault::Limit(_) => self.limit_ceiling,
            Fault::Outage(_) | Fault::Rejection(_) => self.retry_after_ceiling,
        };
        let own = between(self.floor..step, random);
        match retry_after {
            Some(asked) if !asked.is_zero() => {
                let asked = asked.clamp(self.floor, longest);
                let latest = asked + asked.min(self.backoff_ceiling);
                own.max(between(asked..latest, random))
            }
            _ => own,
        }
    }
}

impl RefreshPolicy {
    fn doubled(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        self.backoff_base * 2_u32.pow(doublings)
    }
}

/// A token that just came is not renewed within this time only to spread a fleet.
const MIN_SPREAD: Duration = Duration::from_secs(1);

fn between(range: Range<Duration>, random: f64) -> Duration {
    range.start
        + range
            .end
            .saturating_sub(range.start)
            .mul_f64(random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANDOM: [f64; 4] = [0.0, 0.3, 0.7, 1.0];

    fn seconds(value: f64) -> Duration {
        Duration::from_secs_f64(value)
    }

    #[test]
    fn the_lead_scales_with_the_lifetime() {
        for (lifetime, lead) in [
            (18_000.0, 1_800.0),
            (1_800.0, 180.0),
            (600.0, 60.0),
            (299.0, 30.0),
            (60.0, 30.0),
            (20.0, 10.0),
            (3.0, 1.5),
            (1.0, 0.5),
        ] {
            assert_eq!(RefreshPolicy::lead(seconds(lifetime)), seconds(lead));
        }
    }

    #[test]
    fn a_renewal_always_leaves_the_lead_and_never_breaks_the_floor() {
        let policy = RefreshPolicy::default();
        for lifetime in [
            0.0, 0.001, 1.0, 2.0, 3.0, 20.0, 60.0, 1799.0, 18_000.0, 1e12,
        ] {
            for occasion in [Occasion::Routine, Occasion::Synchronised] {
                for random in RANDOM {
                    let lifetime = seconds(lifetime);
                    let after = policy.renew_after(lifetime, occasion, random);
                    let believed = lifetime.min(policy.max_lifetime);
                    let latest = believed.saturating_sub(RefreshPolicy::lead(believed));
                    assert!(after >= policy.floor, "{lifetime:?} {after:?}");
                    assert!(after <= latest.max(policy.floor), "{lifetime:?} {after:?}");
                }
            }
        }
    }

    #[test]
    fn a_synchronised_fleet_spreads_over_most_of_the_lifetime() {
        let policy = RefreshPolicy::default();
        let first = |random| policy.renew_after(seconds(1800.0), Occasion::Synchronised, random);
        assert_eq!(first(0.0), seconds(243.0));
        assert_eq!(first(1.0), seconds(1620.0));
    }

    #[test]
    fn backing_off_grows_with_the_outage_with_full_jitter() {
        let policy = RefreshPolicy::default();
        let after = |lasted, random| policy.back_off(Fault::Outage(seconds(lasted)), None, random);
        for (lasted, latest) in [
            (0.0, 1.0),
            (1.0, 1.0),
            (2.0, 1.0),
            (9.0, 4.5),
            (60.0, 30.0),
            (120.0, 60.0),
            (1e12, 60.0),
        ] {
            assert_eq!(after(lasted, 1.0), seconds(latest), "{lasted}");
            assert_eq!(after(lasted, 0.0), policy.floor);
        }
    }

    #[test]
    fn backing_off_from_a_refusal_doubles_up_to_its_ceiling() {
        let policy = RefreshPolicy::default();
        let limited = policy.back_off(Fault::Limit(u32::MAX), None, 1.0);
        assert_eq!(limited, policy.backoff_ceiling);
        let ceiling = |failures| policy.back_off(Fault::Rejection(failures), None, 1.0);
        assert_eq!(
            [1, 2, 3, 4, 9, 100, u32::MAX].map(ceiling),
            [1.0, 2.0, 4.0, 8.0, 256.0, 300.0, 300.0].map(seconds)
        );
    }

    #[test]
    fn what_the_service_asks_for_is_waited_for_within_reason() {
        let policy = RefreshPolicy::default();
        let after = |asked: f64, random| {
            let fault = Fault::Outage(Duration::ZERO);
            policy.back_off(fault, Some(seconds(asked)), random)
        };
        assert_eq!(after(7.0, 0.0), seconds(7.0));
        assert_eq!(after(8.0, 1.0), seconds(16.0));
        assert_eq!(after(0.0, 0.0), policy.floor);
        let longest = policy.retry_after_ceiling;
        assert_eq!(after(1e12, 0.0), longest);
        assert_eq!(after(1e12, 1.0), longest + policy.backoff_ceiling);
        // A limit that is reset in an hour is no mistake.
        let hour = Some(seconds(3600.0));
        assert_eq!(policy.back_off(Fault::Limit(1), hour, 0.0), seconds(3600.0));
    }
}
