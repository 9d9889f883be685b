//! The log on its way out: whoever logs leaves a line and goes on, and one thread writes.
//!
//! Whoever reads the log must not decide whether requests are served: a reader that has gone, a
//! full disk, a pipe that nobody empties cost lines and nothing else. `tracing-appender` has such a
//! writer too; it is not used because it does not count the lines whose write failed, and prints
//! to standard output at the end, which panics where that is closed.

mod loss;
mod queue;
mod sink;

use std::{
    any::Any,
    fmt,
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    panic::PanicHookInfo,
    sync::{
        LazyLock, Once,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::SystemTime,
};

use serde::Serialize;

pub use self::loss::LosingLog;
pub(super) use self::{queue::Queue, sink::Sink};
use super::LogFormat;
use crate::clock;

/// Standard error is one for the process, and so is what waits for it.
static QUEUE: LazyLock<Queue> = LazyLock::new(|| Queue::to(None));
static IS_JSON: AtomicBool = AtomicBool::new(false);
static WRITER: Once = Once::new();

/// Sets the form of every line that does not come through the log: failures of the start, panics
/// and dropped lines. Nothing is written yet.
pub fn open(format: LogFormat) {
    IS_JSON.store(format == LogFormat::Json, Ordering::Relaxed);
    std::panic::set_hook(Box::new(panicked));
}

/// Starts the thread that writes. It has the restrictions of the thread that calls this.
pub fn start() {
    WRITER.call_once(|| {
        // A handle of its own, so that a write that hangs holds no lock.
        let stderr = io::stderr().as_fd().try_clone_to_owned();
        let write = move || match stderr {
            Ok(stderr) => QUEUE.write_to(&mut Sink::new(File::from(stderr)), dropped),
            Err(_) => QUEUE.write_to(&mut Sink::new(io::stderr()), dropped),
        };
        // Without the thread lines are dropped, which is counted.
        drop(thread::Builder::new().name("log".to_owned()).spawn(write));
    });
}

/// Waits until what was logged is written, but not for long.
pub fn finish() {
    start();
    QUEUE.drain();
}

/// Logs a failure that ends the program, at any level of the log.
pub fn fail(text: &str) {
    if IS_JSON.load(Ordering::Relaxed) {
        QUEUE.push(&line("ERROR", text.trim_end(), None));
    } else {
        QUEUE.push(format!("{}\n", text.trim_end()).as_bytes());
    }
}

/// Takes a line that is whole.
pub(super) fn push(line: &[u8]) {
    QUEUE.push(line);
}

/// How many lines were dropped so far.
pub(super) fn dropped_lines() -> u64 {
    QUEUE.dropped()
}

/// The log, while it loses lines.
pub(super) fn losing() -> Option<LosingLog> {
    QUEUE.losing()
}

/// What the log is written to. It never blocks, and never fails.
#[derive(Clone, Copy, Debug)]
pub struct LogWriter;

impl Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        QUEUE.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// In one piece, so that it is there whole or not at all.
    fn write_fmt(&mut self, text: fmt::Arguments<'_>) -> io::Result<()> {
        QUEUE.push(text.to_string().as_bytes());
        Ok(())
    }
}

/// Says where it happened, and why where that is fixed text.
fn panicked(panic: &PanicHookInfo<'_>) {
    let why = fixed_text(panic.payload()).map_or(String::new(), |why| format!(": {why}"));
    let place = panic.location().map(ToString::to_string);
    let place = place.unwrap_or_else(|| "an unknown place".to_owned());
    QUEUE.push(&line("ERROR", &format!("panicked at {place}{why}"), None));
}

/// The message of a panic, unless it was put together: then it may quote anything.
fn fixed_text(payload: &(dyn Any + Send)) -> Option<&'static str> {
    payload.downcast_ref::<&'static str>().copied()
}

/// The line that stands where others should.
pub(super) fn dropped(count: u64) -> Vec<u8> {
    let text = "lines of the log were dropped: whoever reads it was away or too slow";
    line("WARN", text, Some(count))
}

/// A line as the log would write it.
fn line(level: &str, message: &str, dropped: Option<u64>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a> {
        timestamp: String,
        level: &'a str,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        dropped: Option<u64>,
        target: &'static str,
    }
    let now = clock::nameable(SystemTime::now());
    let timestamp = humantime::format_rfc3339_micros(now).to_string();
    let mut bytes = if IS_JSON.load(Ordering::Relaxed) {
        let line = Line {
            timestamp,
            level,
            message,
            dropped,
            target: "auth_sidecar",
        };
        // Text and numbers can always be written.
        serde_json::to_vec(&line).unwrap_or_default()
    } else {
        let count = dropped.map_or(String::new(), |count| format!(" dropped={count}"));
        format!("{timestamp} {level:>5} {message}{count}").into_bytes()
    };
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_shows_its_message_only_where_it_can_quote_nothing() {
        assert_eq!(fixed_text(&"unreachable"), Some("unreachable"));
        assert_eq!(fixed_text(&"of canary".to_owned()), None);
    }

    #[test]
    fn a_line_of_our_own_looks_like_those_of_the_log() {
        let text = String::from_utf8(line("WARN", "lost", Some(3))).unwrap();
        let (time, rest) = text.split_once(' ').unwrap();
        assert!(humantime::parse_rfc3339(time).is_ok(), "{text}");
        assert_eq!(rest, " WARN lost dropped=3\n");
    }
}
