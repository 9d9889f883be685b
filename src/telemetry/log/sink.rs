//! Where lines are written: whole ones, as far as that goes.

use std::{
    io::{self, ErrorKind, Write},
    thread,
    time::Duration,
};

/// The time between two tries where a write would have to be waited for and may not be.
const PAUSE: Duration = Duration::from_millis(20);

/// A writer of lines that may fail at any time, and work again later.
#[derive(Debug)]
pub(in crate::telemetry) struct Sink<W> {
    out: W,
    /// The last line broke off.
    is_torn: bool,
    /// Why the last write failed, for whoever asks.
    error: Option<io::Error>,
}

impl<W: Write> Sink<W> {
    pub(in crate::telemetry) fn new(out: W) -> Self {
        Self {
            out,
            is_torn: false,
            error: None,
        }
    }

    /// Writes some lines, and says how many of them are not there now.
    pub(in crate::telemetry) fn write(&mut self, lines: &[u8]) -> u64 {
        if self.is_torn && self.write_all(b"\n").is_empty() {
            self.is_torn = false;
        }
        if self.is_torn {
            return count(lines);
        }
        let rest = self.write_all(lines);
        // Where not all is written, what is must end a line, or one has broken off.
        let written = lines.len() - rest.len();
        let last = lines.get(..written).and_then(<[u8]>::last);
        self.is_torn = last.is_some_and(|last| *last != b'\n');
        count(rest)
    }

    /// Why the last write failed, unless that was asked for before.
    pub(in crate::telemetry) fn take_error(&mut self) -> Option<io::Error> {
        self.error.take()
    }

    /// What could not be written.
    fn write_all<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.out.write(rest) {
                Ok(0) => break,
                Ok(length) => rest = rest.get(length..).unwrap_or_default(),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    // Somebody else has set it so, for reasons of their own.
                    ErrorKind::WouldBlock => thread::sleep(PAUSE),
                    _ => {
                        self.error = Some(error);
                        break;
                    }
                },
            }
        }
        rest
    }
}

fn count(lines: &[u8]) -> u64 {
    let ends = memchr::memchr_iter(b'\n', lines).count();
    u64::try_from(ends).unwrap_or(u64::MAX)
}
