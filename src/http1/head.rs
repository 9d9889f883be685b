//! Bytes to a head, strictly, once (RFC 9112 §3 to §6): a line is read when its end has come, and
//! not again when more bytes follow.
//!
//! A second `Content-Length`, one beside a transfer coding, any other line that could be read in two
//! ways: they are refused in [`FieldLines::field`] and [`FieldLines::framing`].

use http::{Method, StatusCode, Version};

use super::partial::PartialLine;
use crate::message::{
    ConnectionOptions, Fields, Flaw, Line, MAX_TARGET, Name, RequestHead, ResponseHead, Span, Text,
    grammar::{self, decimal, first_but, is_target_byte, is_value},
};

/// The bounds of a head.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes, all lines and their ends together.
    pub bytes: usize,
    /// Fields.
    pub fields: usize,
}

/// Why bytes are no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// The bytes are malformed, or can be read in two ways.
    #[error("{0}")]
    Malformed(Flaw),
    /// The message is of another major version.
    #[error("another version of HTTP")]
    Version,
    /// The transfer coding is not one plain `chunked`.
    #[error("transfer coding")]
    TransferCoding,
    /// The fields are too many or too large.
    #[error("its fields are too many or too large")]
    TooLarge,
    /// The target is too long.
    #[error("its first line is too long")]
    TargetTooLong,
}

impl HeadError {
    const fn of(part: &'static str) -> Self {
        Self::Malformed(Flaw::of(part))
    }
}

/// How a head says that its body is framed (RFC 9112 §6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// The head says nothing of a body.
    None,
    /// By its length in bytes.
    Length(u64),
    /// In chunks.
    Chunked,
}

/// The first line of a head.
pub trait StartLine: Sized {
    /// What becomes of the lines.
    type Head;

    /// Whether what can never become a line is refused before its end has come.
    const IS_CHECKED_EARLY: bool;

    /// Reads it, given where in the text it begins.
    ///
    /// # Errors
    /// When it is none.
    fn read(line: &[u8], at: u32) -> Result<Self, HeadError>;

    /// Puts the parts together.
    ///
    /// # Errors
    /// When they do not fit.
    fn head(self, text: Text, lines: FieldLines) -> Result<(Self::Head, Framing), HeadError>;
}

/// Reads the heads of one side of a connection.
#[derive(Debug)]
pub struct Reader<S> {
    /// The first byte whose line has not been read.
    at: usize,
    /// The first byte behind `at` that has not been looked at for a line end.
    seen: usize,
    partial: PartialLine,
    start: Option<S>,
    lines: FieldLines,
}

impl<S> Default for Reader<S> {
    fn default() -> Self {
        Self {
            at: 0,
            seen: 0,
            partial: PartialLine::default(),
            start: None,
            lines: FieldLines::default(),
        }
    }
}

impl<S: StartLine> Reader<S> {
    /// Whether a head has begun and not ended.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.at > 0 || self.seen > 0
    }

    /// The first line of the head that has begun.
    #[must_use]
    pub fn start(&self) -> Option<&S> {
        self.start.as_ref()
    }

    /// Reads a head from the beginning of `bytes`, which are those of the last time and maybe more.
    /// `None` until its end is there; then the head, its framing and its length in bytes.
    ///
    /// # Errors
    /// As soon as it is known that these bytes are no head, or too many.
    pub fn read(
        &mut self,
        bytes: &[u8],
        limits: Limits,
    ) -> Result<Option<(S::Head, Framing, usize)>, HeadError> {
        loop {
            let rest = bytes.get(self.at..).unwrap_or_default();
            let unseen = rest.get(self.seen..).unwrap_or_default();
            let Some(end) = memchr::memchr(b'\n', unseen) else {
                self.bound(bytes.len(), limits)?;
                if S::IS_CHECKED_EARLY {
                    let is_first = self.start.is_none();
                    self.partial.follow(unseen, self.seen, is_first)?;
                }
                self.seen = rest.len();
                return Ok(None);
            };
            let end = self.seen + end + 1;
            self.bound(self.at + end, limits)?;
            let line = rest.get(..end).and_then(|line| line.strip_suffix(b"\r\n"));
            let line = line.ok_or_else(|| self.flaw("a line without CRLF"))?;
            let at = u32::try_from(self.at).map_err(|_| HeadError::TooLarge)?;
            self.at += end;
            self.seen = 0;
            self.partial = PartialLine::default();
            if self.start.is_none() {
                // A client may send an empty line behind a body (RFC 9112 §2.2).
                if !line.is_empty() {
                    self.start = Some(S::read(line, at)?);
                }
            } else if !line.is_empty() {
                self.lines.field(line, at, limits)?;
            } else if let Some(start) = self.start.take() {
                let length = std::mem::take(&mut self.at);
                let mut text = Text::new();
                text.extend_from_slice(bytes.get(..length).unwrap_or_default());
                let (head, framing) = start.head(text, std::mem::take(&mut self.lines))?;
                return Ok(Some((head, framing, length)));
            }
        }
    }

    fn bound(&self, length: usize, limits: Limits) -> Result<(), HeadError> {
        if length <= limits.bytes {
            Ok(())
        } else if self.start.is_none() {
            Err(HeadError::TargetTooLong)
        } else {
            Err(HeadError::TooLarge)
        }
    }

    fn flaw(&self, part: &'static str) -> HeadError {
        let flaw = Flaw::of(part);
        HeadError::Malformed(match self.start {
            Some(_) => flaw.in_line(self.lines.number + 1),
            None => flaw,
        })
    }
}

/// The field lines of a head, and what they say of the message.
#[derive(Debug)]
pub struct FieldLines {
    places: crate::message::Lines,
    /// The number of the last line, the first one of the head being 1.
    number: u32,
    length: Option<u64>,
    is_chunked: bool,
    connection: ConnectionOptions,
}

impl Default for FieldLines {
    fn default() -> Self {
        Self {
            places: crate::message::Lines::default(),
            number: 1,
            length: None,
            is_chunked: false,
            connection: ConnectionOptions::default(),
        }
    }
}

impl FieldLines {
    /// Reads a field line (RFC 9112 §5): no white space before the colon, no folding, no controls.
    fn field(&mut self, line: &[u8], at: u32, limits: Limits) -> Result<(), HeadError> {
        if self.places.len() >= limits.fields {
            return Err(HeadError::TooLarge);
        }
        self.number += 1;
        let field = field(line).map_err(|flaw| self.malformed(flaw))?;
        let kind = Name::of(field.name);
        let mut skip = field.skip;
        match kind {
            Name::ContentLength => {
                if self.length.is_some() {
                    return Err(self.malformed(Flaw::of("a second Content-Length")));
                }
                let length = decimal(field.value);
                let length = length.ok_or_else(|| self.malformed(Flaw::of("Content-Length")))?;
                self.length = Some(length);
                // Leading zeros are for others to misread.
                let zeros = field
                    .value
                    .iter()
                    .take_while(|digit| **digit == b'0')
                    .count();
                skip += zeros.min(field.value.len() - 1);
            }
            Name::TransferEncoding => {
                if self.is_chunked || !field.value.eq_ignore_ascii_case(b"chunked") {
                    return Err(HeadError::TransferCoding);
                }
                self.is_chunked = true;
            }
            Name::Connection => self.connection.read(field.value),
            _ => {}
        }
        // The line is shorter than 4 GiB, as its head is.
        let place = |from: usize| at.saturating_add(u32::try_from(from).unwrap_or(u32::MAX));
        let end = field.name.len() + 1 + field.skip + field.value.len();
        self.places.push(Line {
            kind,
            is_plain: skip == 1 && end == line.len(),
            name: (at, place(field.name.len())),
            value: (place(field.name.len() + 1 + skip), place(end)),
        });
        Ok(())
    }

    /// The framing of a message that began with this version (RFC 9112 §6.3).
    fn framing(&self, version: Version) -> Result<Framing, HeadError> {
        match (self.is_chunked, self.length) {
            (true, Some(_)) => Err(HeadError::of("Content-Length beside Transfer-Encoding")),
            (true, None) if version == Version::HTTP_10 => {
                Err(HeadError::of("Transfer-Encoding in HTTP/1.0"))
            }
            (true, None) => Ok(Framing::Chunked),
            (false, Some(length)) => Ok(Framing::Length(length)),
            (false, None) => Ok(Framing::None),
        }
    }

    fn malformed(&self, flaw: Flaw) -> HeadError {
        HeadError::Malformed(flaw.in_line(self.number))
    }
}

/// A field line in its parts.
pub(super) struct FieldLine<'a> {
    pub(super) name: &'a [u8],
    /// How much white space is in front of the value.
    skip: usize,
    pub(super) value: &'a [u8],
}

/// Takes a field line apart.
pub(super) fn field(line: &[u8]) -> Result<FieldLine<'_>, Flaw> {
    let (name, rest) = line.split_at(grammar::token_length(line));
    let rest = match rest {
        [b':', rest @ ..] if !name.is_empty() => rest,
        [] => return Err(Flaw::of("field line: no colon")),
        [b':', ..] => return Err(Flaw::of("field name: none")),
        [byte, ..] => return Err(Flaw::at("field name", name.len(), *byte)),
    };
    if !is_value(rest) {
        let at = first_but(rest, grammar::is_value_byte);
        return Err(at.map_or(Flaw::of("field value"), |(position, byte)| {
            Flaw::at("field value", position, byte)
        }));
    }
    // There are no other white spaces left than those of RFC 9110 §5.6.3.
    let value = rest.trim_ascii_start();
    let skip = rest.len() - value.len();
    Ok(FieldLine {
        name,
        skip,
        value: value.trim_ascii_end(),
    })
}

/// `method SP target SP version` (RFC 9112 §3), without the white space that others forgive.
#[derive(Debug)]
pub struct RequestLine {
    /// The method.
    pub method: Method,
    target: Span,
    version: Version,
}

impl StartLine for RequestLine {
    type Head = RequestHead;
    const IS_CHECKED_EARLY: bool = true;

    fn read(line: &[u8], at: u32) -> Result<Self, HeadError> {
        // A method is so short that to look for its end byte by byte is faster.
        let method_end = line.iter().position(|byte| *byte == b' ');
        let method_end = method_end.unwrap_or(line.len());
        let (method, rest) = line.split_at(method_end);
        if let Err(found) = grammar::token(method) {
            return Err(HeadError::Malformed(match found {
                Some((position, byte)) => Flaw::at("method", position, byte),
                None => Flaw::of("request line: no method"),
            }));
        }
        let rest = rest
            .get(1..)
            .ok_or(HeadError::of("request line: no target"))?;
        let target_end = memchr::memchr(b' ', rest);
        let target_end = target_end.ok_or(HeadError::of("request line: no version"))?;
        let (target, version) = rest.split_at(target_end);
        if target.len() > MAX_TARGET {
            return Err(HeadError::TargetTooLong);
        }
        if target.is_empty() {
            return Err(HeadError::of("target: none"));
        }
        if let Some((position, byte)) = first_but(target, is_target_byte) {
            return Err(HeadError::Malformed(Flaw::at("target", position, byte)));
        }
        let version = version_of(version.get(1..).unwrap_or_default(), "version")?;
        let begin = at + u32::try_from(method_end + 1).unwrap_or(u32::MAX);
        Ok(Self {
            method: Method::from_bytes(method).map_err(|_| HeadError::of("method"))?,
            target: (begin, begin + u32::try_from(target_end).unwrap_or(u32::MAX)),
            version,
        })
    }

    fn head(self, text: Text, lines: FieldLines) -> Result<(RequestHead, Framing), HeadError> {
        let framing = lines.framing(self.version)?;
        let fields = Fields::of_head(text, lines.places);
        let head = RequestHead::new(
            self.method,
            self.version,
            self.target,
            lines.connection,
            fields,
        );
        Ok((head.map_err(HeadError::Malformed)?, framing))
    }
}

/// `version SP status SP reason` (RFC 9112 §4).
#[derive(Debug)]
pub struct StatusLine {
    status: StatusCode,
    version: Version,
    reason: Span,
}

impl StartLine for StatusLine {
    type Head = ResponseHead;
    // Who has connected to the upstream knows its protocol; its responses have a deadline.
    const IS_CHECKED_EARLY: bool = false;

    fn read(line: &[u8], at: u32) -> Result<Self, HeadError> {
        let (version, rest) = line.split_at_checked(8).unwrap_or((line, &[]));
        let version = version_of(version, "version in the status line")?;
        let Some(([b' ', status @ ..], reason)) = rest.split_at_checked(4) else {
            return Err(HeadError::of("status line"));
        };
        // RFC 9110 §15: three digits, and the first is not 0.
        let status = StatusCode::from_bytes(status).map_err(|_| HeadError::of("status"))?;
        let reason = match reason {
            // The space in front of no reason is forgotten by many.
            [] => reason,
            [b' ', reason @ ..] if is_value(reason) => reason,
            _ => return Err(HeadError::of("reason")),
        };
        let end = at + u32::try_from(line.len()).unwrap_or(u32::MAX);
        Ok(Self {
            status,
            version,
            reason: (end - u32::try_from(reason.len()).unwrap_or(0), end),
        })
    }

    fn head(self, text: Text, lines: FieldLines) -> Result<(ResponseHead, Framing), HeadError> {
        let framing = lines.framing(self.version)?;
        let fields = Fields::of_head(text, lines.places);
        let head = ResponseHead::new(
            self.status,
            self.version,
            self.reason,
            lines.connection,
            fields,
        );
        Ok((head, framing))
    }
}

fn version_of(version: &[u8], part: &'static str) -> Result<Version, HeadError> {
    match version {
        b"HTTP/1.1" => Ok(Version::HTTP_11),
        b"HTTP/1.0" => Ok(Version::HTTP_10),
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() && *major != b'1' =>
        {
            Err(HeadError::Version)
        }
        _ => Err(HeadError::of(part)),
    }
}

#[cfg(test)]
mod tests;
