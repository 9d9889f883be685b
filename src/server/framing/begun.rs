//! A line of a head whose end is not there yet, followed byte by byte.
//!
//! The codec would look at such a line too, and answer what cannot become one with a response of
//! its own, which does not say who it is. So it is refused here first, and at once: what sends us
//! TLS or another protocol need not be waited for.

use super::{
    Refusal,
    head::{is_in_target, is_tchar},
};

/// Where in the line we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Begun {
    #[default]
    Nothing,
    Method,
    /// Behind the space before the target.
    Space,
    Target,
    /// So many bytes of the version.
    Version(usize),
    Name,
    Value,
    /// Behind the CR.
    End,
}

/// All but the minor version, which is a digit.
const VERSION: &[u8] = b"HTTP/1.";

impl Begun {
    /// Takes more of the line, without its LF.
    pub(super) fn follow(&mut self, bytes: &[u8], is_request_line: bool) -> Result<(), Refusal> {
        bytes.iter().try_for_each(|byte| {
            *self = self.next(*byte, is_request_line)?;
            Ok(())
        })
    }

    fn next(self, byte: u8, is_request_line: bool) -> Result<Self, Refusal> {
        let bad = |what| Err(Refusal::Malformed(what));
        Ok(match (self, byte) {
            (Self::Nothing | Self::Value, b'\r') => Self::End,
            (Self::Nothing | Self::Method, _) if is_request_line && is_tchar(byte) => Self::Method,
            (Self::Nothing | Self::Name, _) if !is_request_line && is_tchar(byte) => Self::Name,
            (Self::Method, b' ') => Self::Space,
            (Self::Target, b' ') => Self::Version(0),
            (Self::Space | Self::Target, _) if is_in_target(byte) => Self::Target,
            (Self::Version(at), _) if VERSION.get(at) == Some(&byte) => Self::Version(at + 1),
            (Self::Version(7), b'0' | b'1') => Self::Version(8),
            (Self::Version(8), b'\r') => Self::End,
            (Self::Version(5), b'0'..=b'9') => return Err(Refusal::Version),
            (Self::Name, b':') | (Self::Value, b'\t' | b' '..=b'~' | 0x80..) => Self::Value,
            (Self::Nothing | Self::Method, _) if is_request_line => return bad("method"),
            (Self::Space | Self::Target, _) => return bad("target"),
            (Self::Version(_), _) => return bad("version"),
            (Self::Value, _) => return bad("field value"),
            (Self::End, _) => return bad("a line without CRLF"),
            _ => return bad("field name"),
        })
    }
}
