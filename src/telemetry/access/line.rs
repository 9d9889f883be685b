//! Puts a line of the access log together, in the form that the log has, byte by byte.
//!
//! Printable ASCII alone stays as it is, so the quotation mark and the backslash are all that
//! either form has to escape. It is done here and not by a library because it costs a fraction of that,
//! and every request may have a line.

use std::{
    cell::RefCell,
    fmt::Display,
    io::Write as _,
    time::{Duration, SystemTime},
};

use super::super::LogFormat;
use crate::clock;

/// The longest text of a field, in bytes; more of it is cut.
const LONGEST: usize = 2048;
/// Room that is kept for the next line. Few lines need more.
const KEPT: usize = 4096;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A line that is being written.
pub(super) struct Line<'a> {
    format: LogFormat,
    bytes: &'a mut Vec<u8>,
}

/// Writes a line with these fields behind its message, and hands it over.
pub(super) fn with<T>(
    format: LogFormat,
    now: SystemTime,
    level: &str,
    message: &str,
    fields: impl FnOnce(&mut Line<'_>),
    take: impl FnOnce(&[u8]) -> T,
) -> T {
    BUFFER.with_borrow_mut(|bytes| {
        bytes.clear();
        let mut line = Line { format, bytes };
        line.begin(now, level, message);
        fields(&mut line);
        line.end();
        let taken = take(bytes);
        bytes.shrink_to(KEPT);
        taken
    })
}

impl Line<'_> {
    fn begin(&mut self, now: SystemTime, level: &str, message: &str) {
        let time = humantime::format_rfc3339_micros(clock::nameable(now));
        match self.format {
            LogFormat::Json => {
                self.put(format_args!("{{\"timestamp\":\"{time}\""));
                self.text("level", level);
                self.text("message", message);
            }
            LogFormat::Text => self.put(format_args!("{time} {level:>5} {message}")),
        }
    }

    fn end(&mut self) {
        if self.format == LogFormat::Json {
            self.text("target", "auth_sidecar::access");
            self.bytes.push(b'}');
        }
        self.bytes.push(b'\n');
    }

    /// A field with a text, as [`put_shown`] has it.
    pub(super) fn text(&mut self, name: &str, value: impl AsRef<[u8]>) {
        let value = value.as_ref();
        self.name(name);
        // In a line of text, marks stand where it could be taken for something else.
        let could_be_other = |byte: &u8| b" \"=\\".contains(byte);
        let is_marked = self.format == LogFormat::Json
            || value.is_empty()
            || value.iter().take(LONGEST).any(could_be_other);
        let mark: &[u8] = if is_marked { b"\"" } else { b"" };
        self.bytes.extend_from_slice(mark);
        put_shown(self.bytes, value, b"\"\\");
        self.bytes.extend_from_slice(mark);
    }

    /// A field with a text that is one word of harmless letters, whatever it is.
    pub(super) fn word(&mut self, name: &str, value: impl Display) {
        self.name(name);
        match self.format {
            LogFormat::Json => self.put(format_args!("\"{value}\"")),
            LogFormat::Text => self.put(format_args!("{value}")),
        }
    }

    /// A field with a number, or `true`.
    pub(super) fn value(&mut self, name: &str, value: impl Display) {
        self.name(name);
        self.put(format_args!("{value}"));
    }

    /// A field with a time in seconds.
    pub(super) fn seconds(&mut self, name: &str, value: Duration) {
        let value = clock::seconds(value);
        self.name(name);
        match self.format {
            // With a point, also where nothing is behind it.
            LogFormat::Json => self.put(format_args!("{value:?}")),
            LogFormat::Text => self.put(format_args!("{value}")),
        }
    }

    fn name(&mut self, name: &str) {
        match self.format {
            LogFormat::Json => {
                self.bytes.extend_from_slice(b",\"");
                self.bytes.extend_from_slice(name.as_bytes());
                self.bytes.extend_from_slice(b"\":");
            }
            LogFormat::Text => {
                self.bytes.push(b' ');
                self.bytes.extend_from_slice(name.as_bytes());
                self.bytes.push(b'=');
            }
        }
    }

    fn put(&mut self, what: std::fmt::Arguments<'_>) {
        // Writing to memory cannot fail.
        self.bytes.write_fmt(what).unwrap_or_default();
    }
}

/// Text as lines and spans have it: what cannot be printed is written as `%XX` of a byte, what is in
/// `escaped` stands behind a backslash, and what is too long is cut.
fn put_shown(line: &mut Vec<u8>, text: &[u8], escaped: &[u8]) {
    for byte in text.iter().take(LONGEST) {
        match byte {
            byte if escaped.contains(byte) => line.extend_from_slice(&[b'\\', *byte]),
            b' '..=b'~' => line.push(*byte),
            // Writing to memory cannot fail.
            other => write!(line, "%{other:02X}").unwrap_or_default(),
        }
    }
    if text.len() > LONGEST {
        line.extend_from_slice("…".as_bytes());
    }
}

/// Text of others for a span: printable, and not too long.
pub(in crate::telemetry) fn shown(text: &[u8]) -> String {
    let mut shown = Vec::with_capacity(text.len().min(LONGEST));
    put_shown(&mut shown, text, b"");
    // All of it is ASCII.
    String::from_utf8(shown).unwrap_or_default()
}
