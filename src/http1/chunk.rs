//! The chunked transfer coding (RFC 9112 §7.1): where the next chunk begins and ends, and trailers.

use super::{body::BodyError, head::field};
use crate::message::{Fields, MAX_FIELDS, grammar::is_value_byte};

/// A chunk's size with its extensions, which nobody uses, in bytes.
const MAX_LINE: usize = 4 * 1024;
/// All trailers, in bytes.
const MAX_TRAILERS: usize = 16 * 1024;

/// Where in the coding a reader is.
#[derive(Debug)]
pub(super) struct Chunks {
    state: State,
    trailers: Option<Box<Trailers>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In front of a chunk's size.
    Size,
    /// In a chunk of which so much is left.
    Data(u64),
    /// In front of a chunk's line end.
    DataEnd,
    Trailers,
    Done,
}

#[derive(Debug, Default)]
struct Trailers {
    fields: Fields,
    count: usize,
    bytes: usize,
}

impl Default for Chunks {
    fn default() -> Self {
        Self {
            state: State::Size,
            trailers: None,
        }
    }
}

impl Chunks {
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailers that have come.
    pub(super) fn take_trailers(&mut self) -> Option<Fields> {
        self.trailers.take().map(|trailers| trailers.fields)
    }

    /// How many of the bytes are framing, and how many behind those are content. Neither: more
    /// bytes are needed, or it is done.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<(usize, usize), BodyError> {
        let mut at = 0;
        loop {
            let rest = bytes.get(at..).unwrap_or_default();
            if let State::Data(left) = self.state {
                return Ok((
                    at,
                    rest.len().min(usize::try_from(left).unwrap_or(usize::MAX)),
                ));
            }
            if self.is_done() {
                return Ok((at, 0));
            }
            let Some(end) = memchr::memchr(b'\n', rest) else {
                return if rest.len() > self.longest() || !self.may_become_line(rest) {
                    Err(BodyError::Malformed)
                } else {
                    Ok((at, 0))
                };
            };
            let line = rest.get(..end).and_then(|line| line.strip_suffix(b"\r"));
            let line = line.ok_or(BodyError::Malformed)?;
            self.line(line)?;
            at += end + 1;
        }
    }

    /// Counts content that was taken.
    pub(super) fn consumed(&mut self, count: u64) {
        if let State::Data(left) = &mut self.state {
            *left = left.saturating_sub(count);
            if *left == 0 {
                self.state = State::DataEnd;
            }
        }
    }

    fn longest(&self) -> usize {
        match self.state {
            State::Trailers => MAX_TRAILERS,
            State::DataEnd => 1,
            _ => MAX_LINE,
        }
    }

    /// Whether the beginning of a line can still become one: what cannot is not waited for.
    fn may_become_line(&self, part: &[u8]) -> bool {
        let part = part.strip_suffix(b"\r").unwrap_or(part);
        match self.state {
            State::DataEnd => part.is_empty(),
            State::Size => {
                let end = memchr::memchr(b';', part).unwrap_or(part.len());
                let (size, extensions) = part.split_at(end);
                size.iter().all(u8::is_ascii_hexdigit)
                    && extensions.iter().copied().all(is_value_byte)
            }
            _ => part.iter().copied().all(is_value_byte),
        }
    }

    fn line(&mut self, line: &[u8]) -> Result<(), BodyError> {
        self.state = match self.state {
            State::Size if line.len() <= MAX_LINE => match size(line)? {
                0 => State::Trailers,
                size => State::Data(size),
            },
            State::DataEnd if line.is_empty() => State::Size,
            State::Trailers if line.is_empty() => State::Done,
            State::Trailers => {
                let trailers = self.trailers.get_or_insert_default();
                trailers.count += 1;
                trailers.bytes += line.len() + 2;
                let field = field(line).map_err(|_| BodyError::Malformed)?;
                if trailers.count > MAX_FIELDS || trailers.bytes > MAX_TRAILERS {
                    return Err(BodyError::Malformed);
                }
                trailers.fields.push(field.name, field.value);
                State::Trailers
            }
            _ => return Err(BodyError::Malformed),
        };
        Ok(())
    }
}

/// `1*HEXDIG [ ";" … ]`. Extensions are passed over.
fn size(line: &[u8]) -> Result<u64, BodyError> {
    let end = memchr::memchr(b';', line).unwrap_or(line.len());
    let (size, extensions) = line.split_at(end);
    if size.is_empty() || size.len() > 15 || !extensions.iter().copied().all(is_value_byte) {
        return Err(BodyError::Malformed);
    }
    size.iter().try_fold(0_u64, |size, digit| {
        let digit = char::from(*digit).to_digit(16);
        let digit = digit.ok_or(BodyError::Malformed)?;
        Ok(size << 4 | u64::from(digit))
    })
}
