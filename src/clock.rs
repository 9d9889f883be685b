//! The wall clock: its date, which of its moments have a name, and what the monotonic clock does not
//! show: that the machine slept, or that the wall clock was set.
//!
//! Schedules run on the monotonic clock, which stands still while a machine sleeps. A token does
//! not. Linux reports both kinds of jump by a timer on the wall clock that is cancelled when that
//! clock is set, as it is on waking up too; how long the sleep was is the lead that the boot-time
//! clock has won over the monotonic one.

use std::{
    cell::RefCell,
    io,
    os::fd::OwnedFd,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::{
    io::{Errno, read},
    time::{
        ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec,
        clock_gettime, timerfd_create, timerfd_settime,
    },
};
use tokio::io::{Interest, unix::AsyncFd};

thread_local! {
    /// The second, and its date.
    static DATE: RefCell<(u64, String)> = const { RefCell::new((0, String::new())) };
}

/// Hands over the date of now as header fields have it (RFC 9110 §5.6.7), which is written once a
/// second.
pub(crate) fn http_date(take: impl FnOnce(&[u8])) {
    let now = nameable(SystemTime::now());
    let second = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_secs());
    DATE.with_borrow_mut(|(known, date)| {
        if *known != second || date.is_empty() {
            *known = second;
            *date = httpdate::fmt_http_date(now);
        }
        take(date.as_bytes());
    });
}

/// The last second that RFC 3339 has a name for, the end of the year 9999.
const LAST_NAMED: Duration = Duration::from_secs(253_402_300_799);

/// The nearest moment that can be written as a date. To write another one is a panic, and moments
/// come from services, files and clocks that are wrong.
#[must_use]
pub fn nameable(at: SystemTime) -> SystemTime {
    at.clamp(SystemTime::UNIX_EPOCH, SystemTime::UNIX_EPOCH + LAST_NAMED)
}

/// Whole seconds for `Retry-After`, rounded up: whoever comes back then finds the attempt made. Never
/// 0, which some clients take for an invitation to a hot loop.
#[must_use]
pub fn whole_seconds(duration: Duration) -> u64 {
    let up = u64::from(duration.subsec_nanos() > 0);
    (duration.as_secs() + up).max(1)
}

/// A time as the log and the metrics have it: in seconds, to a thousandth, since what is below is
/// noise to a reader.
#[must_use]
pub fn seconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e3).round() / 1e3
}

/// What became of the clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jump {
    /// The machine slept for so long.
    Slept(Duration),
    /// The wall clock was set: by a person, by a time service, or by a host that had suspended
    /// its guest, whose clocks all stood still then.
    Set,
}

/// Calls `notify` at each jump; for ever.
///
/// # Errors
/// When the system has no such timer. Then a token that died in a sleep is found out by its 401.
pub async fn watch(mut notify: impl FnMut(Jump)) -> io::Result<()> {
    let timer = observe(timer()?)?;
    let mut lead = lead();
    loop {
        arm(timer.get_ref())?;
        let jumped = timer
            .async_io(Interest::READABLE, |timer| {
                match read(timer, &mut [0_u8; 8]) {
                    Err(Errno::CANCELED) => Ok(true),
                    Ok(_) => Ok(false),
                    Err(error) => Err(error.into()),
                }
            })
            .await?;
        if jumped {
            let now = self::lead();
            notify(jump(lead, now));
            lead = now;
        }
    }
}

#[expect(
    deprecated,
    reason = "it asks for a type that keeps its file open, which an owned one does; what follows it is unsafe code"
)]
fn observe(timer: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(timer, Interest::READABLE)
}

/// A sleep, where the boot-time clock has won over the monotonic one.
fn jump(before: Duration, now: Duration) -> Jump {
    let slept = now.saturating_sub(before);
    // The two are read one after the other.
    if slept > Duration::from_millis(100) {
        Jump::Slept(slept)
    } else {
        Jump::Set
    }
}

/// By how much the boot-time clock is ahead of the monotonic one: the time slept since the start.
fn lead() -> Duration {
    let monotonic = clock_gettime(ClockId::Monotonic);
    let boot_time = clock_gettime(ClockId::Boottime);
    duration(boot_time).saturating_sub(duration(monotonic))
}

fn duration(time: Timespec) -> Duration {
    Duration::try_from(time).unwrap_or_default()
}

fn timer() -> io::Result<OwnedFd> {
    let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
    Ok(timerfd_create(TimerfdClockId::Realtime, flags)?)
}

/// Arms it for a day that no clock is at. What counts is that setting the clock cancels it.
fn arm(timer: &OwnedFd) -> io::Result<()> {
    let never = Itimerspec {
        it_interval: Timespec::default(),
        it_value: Timespec {
            tv_sec: i64::from(u32::MAX) * 2,
            tv_nsec: 0,
        },
    };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(timer, flags, &never)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_is_what_the_boot_time_clock_has_won() {
        let seconds = Duration::from_secs;
        assert_eq!(jump(seconds(5), seconds(3605)), Jump::Slept(seconds(3600)));
        assert_eq!(jump(seconds(5), seconds(5)), Jump::Set);
        assert_eq!(jump(seconds(5), seconds(4)), Jump::Set);
    }

    #[test]
    fn every_moment_becomes_one_that_has_a_name() {
        let (first, last) = ("1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z");
        let epoch = SystemTime::UNIX_EPOCH;
        for (at, name) in [
            (epoch - Duration::from_secs(1), first),
            (epoch, first),
            (epoch + LAST_NAMED, last),
            (epoch + Duration::from_secs(u64::MAX / 4), last),
        ] {
            let written = humantime::format_rfc3339_seconds(nameable(at)).to_string();
            assert_eq!(written, name);
        }
    }

    #[tokio::test]
    async fn the_timer_is_there_and_silent_while_nothing_jumps() {
        let silent = tokio::time::timeout(Duration::from_millis(200), watch(|_| {})).await;
        assert!(silent.is_err(), "{silent:?}");
    }
}
