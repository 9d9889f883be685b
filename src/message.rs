//! HTTP messages as this program sees them: heads whose fields keep their order and spelling, in
//! whatever version of HTTP they came, and what a body's length is known to be.
//!
//! `http1` makes them of bytes, `server::http2` and the HTTP/2 leg to the upstream of header maps;
//! `proxy` checks and changes them.

mod fields;
pub mod grammar;
mod head;
mod name;
mod pool;
mod request_id;
pub mod trace_parent;

pub(crate) use self::{fields::Line, head::Span, pool::Lines};
pub use self::{
    fields::{Field, Fields},
    head::{ConnectionOptions, RequestHead, ResponseHead},
    name::Name,
    pool::Text,
    request_id::RequestId,
    trace_parent::TraceParent,
};

/// What is known of a body's length before it has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// Bytes; none is a length as well.
    Known(u64),
    /// The body's framing shows where it ends.
    Unknown,
}

impl BodyLength {
    /// The length of no body.
    pub const EMPTY: Self = Self::Known(0);

    /// Whether there is no body.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::EMPTY
    }
}

/// The most fields that a request may have.
pub const MAX_FIELDS: usize = 100;
/// The longest target of a request, in bytes.
pub const MAX_TARGET: usize = 16 * 1024;

/// What is wrong with a message, and where: for its sender and for the log. Holds no more of the
/// message than one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flaw {
    part: &'static str,
    /// The line of the head, from 1, where it is not the first.
    line: Option<u32>,
    /// The position in that part, from 0, and the byte that has no place there.
    at: Option<(usize, u8)>,
}

impl Flaw {
    /// A part that is wrong as a whole.
    #[must_use]
    pub const fn of(part: &'static str) -> Self {
        Self {
            part,
            line: None,
            at: None,
        }
    }

    /// A byte that has no place in its part.
    #[must_use]
    pub const fn at(part: &'static str, position: usize, byte: u8) -> Self {
        Self {
            part,
            line: None,
            at: Some((position, byte)),
        }
    }

    /// The same flaw, in that line of a head.
    #[must_use]
    pub(crate) const fn in_line(self, line: u32) -> Self {
        Self {
            line: Some(line),
            ..self
        }
    }
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.part)?;
        if let Some(line) = self.line {
            write!(f, " in line {line}")?;
        }
        match self.at {
            Some((position, byte)) if byte.is_ascii_graphic() => {
                write!(f, ": byte {position}, '{}'", char::from(byte))
            }
            Some((position, byte)) => write!(f, ": byte {position}, 0x{byte:02x}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flaw_says_what_and_where() {
        assert_eq!(
            Flaw::at("target", 31, b'#').to_string(),
            "target: byte 31, '#'"
        );
        let control = Flaw::at("field value", 0, 1).in_line(3);
        assert_eq!(control.to_string(), "field value in line 3: byte 0, 0x01");
        assert_eq!(Flaw::of("two framings").to_string(), "two framings");
    }
}
