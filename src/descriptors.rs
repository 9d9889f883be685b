//! How many file descriptors the request path may take: the last ones are kept for operators, token
//! calls and files, so that a sidecar that has run out of them can still say so.
//!
//! The kernel gives the lowest number that is free, so the number of a new socket shows how many are
//! taken without counting them. A socket is looked at as soon as there is one: it may take its time to be
//! connected, and counts meanwhile.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    sync::OnceLock,
};

use rustix::{
    io::Errno,
    process::{Resource, getrlimit},
};

/// How many are kept, ...
const KEPT: u64 = 16;
/// ... and of a limit that is lower than makes sense this part.
const PART: u64 = 4;

/// Whether enough are left behind this new socket.
pub(crate) fn are_left_behind(socket: &impl AsFd) -> bool {
    static FIRST: OnceLock<u64> = OnceLock::new();
    let number = u64::try_from(socket.as_fd().as_raw_fd()).unwrap_or_default();
    // The limit can be raised while the process runs, so it is asked for again before anybody is
    // refused.
    number < *FIRST.get_or_init(most) || number < most()
}

/// The number from which on they are kept.
fn most() -> u64 {
    let limit = limit();
    limit - KEPT.min(limit / PART)
}

/// How many there may be.
pub(crate) fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Whether something failed because there are none left: of the process, or of the whole machine.
pub(crate) fn are_exhausted(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_a_low_number_leaves_enough() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(are_left_behind(&file));
        assert!(most() < limit() && limit() - most() <= KEPT);
    }

    #[test]
    fn a_process_without_any_is_distinguished_from_other_failures() {
        for (errno, is_exhausted) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::CONNREFUSED, false),
        ] {
            assert_eq!(are_exhausted(&errno.into()), is_exhausted, "{errno}");
        }
    }
}
