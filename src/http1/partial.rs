//! A line of a head whose end has not come: looked at byte by byte, once, for what can never become
//! a line. So what sends us TLS or another protocol is refused at once, and not waited for.

use super::HeadError;
use crate::message::{
    Flaw,
    grammar::{is_target_byte, is_tchar, is_value_byte},
};

/// Where in the line its last byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum PartialLine {
    #[default]
    Nothing,
    Method,
    /// Behind the space before the target.
    Space,
    Target,
    /// Behind so many bytes of the version.
    Version(usize),
    Name,
    Value,
    /// Behind the CR.
    End,
}

/// All but the minor version, which is a digit.
const VERSION: &[u8] = b"HTTP/1.";

impl PartialLine {
    /// Takes more of the line, which begins at that position in it.
    pub(super) fn follow(
        &mut self,
        bytes: &[u8],
        at: usize,
        is_first: bool,
    ) -> Result<(), HeadError> {
        for (position, byte) in bytes.iter().enumerate() {
            *self = self.next(*byte, is_first).ok_or_else(|| {
                let flaw = Flaw::at(self.part(is_first), at + position, *byte);
                match self {
                    Self::Version(5) if byte.is_ascii_digit() => HeadError::Version,
                    _ => HeadError::Malformed(flaw),
                }
            })?;
        }
        Ok(())
    }

    fn next(self, byte: u8, is_first: bool) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Nothing, b'\r') => Self::End,
            (Self::Nothing | Self::Method, _) if is_first && is_tchar(byte) => Self::Method,
            (Self::Nothing | Self::Name, _) if !is_first && is_tchar(byte) => Self::Name,
            (Self::Method, b' ') => Self::Space,
            (Self::Target, b' ') => Self::Version(0),
            (Self::Space | Self::Target, _) if is_target_byte(byte) => Self::Target,
            (Self::Version(at), _) if VERSION.get(at) == Some(&byte) => Self::Version(at + 1),
            (Self::Version(7), b'0' | b'1') => Self::Version(8),
            (Self::Version(8) | Self::Value, b'\r') => Self::End,
            (Self::Name, b':') => Self::Value,
            (Self::Value, _) if is_value_byte(byte) => Self::Value,
            _ => return None,
        })
    }

    fn part(self, is_first: bool) -> &'static str {
        match self {
            Self::Nothing | Self::Method if is_first => "request line: its method",
            Self::Space | Self::Target => "request line: its target",
            Self::Version(_) => "request line: its version",
            Self::Value => "field line: its value",
            Self::End => "a line without CRLF",
            _ => "field line: its name",
        }
    }
}
