//! Where each request begins and ends on a connection (RFC 9112 §2–7), read over before the codec
//! sees a byte.
//!
//! The codec is lenient where a gateway must not be: it drops a `Content-Length` beside a transfer
//! coding, cuts a fragment off a target, takes a bare LF for a line end, and answers what it
//! refuses without saying who it is. Here everything that could be read in two ways is refused, so
//! what goes on has one reading only. It never decides what a message means: only that the codec
//! will read the same.

mod begun;
mod head;
mod line;

pub use self::head::{MAX_FIELDS, MAX_TARGET, decimal};
use self::{
    begun::Begun,
    head::{Asked, Head, check_target, field},
    line::Line,
};
use super::Refusal;

/// Follows the requests of one connection, byte by byte of their framing.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    /// The part of a line whose end is still to come.
    partial: Vec<u8>,
    /// What that part can be the beginning of, in a head.
    begun: Begun,
    head: Head,
    /// How many good ones were read to their end.
    heads: u32,
    max_head: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A line of a head.
    Head,
    /// So many bytes of a body.
    Body(u64),
    /// A chunk's size line.
    ChunkSize,
    /// So many bytes of a chunk, and the line end behind it.
    ChunkData(u64),
    ChunkEnd,
    /// A line of the trailers.
    Trailers,
}

/// Why a connection cannot go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// In a head. So many of the bytes belong to the messages before it.
    Head { before: usize, refusal: Refusal },
    /// In the framing of a body, whose request is being handled. So many of the bytes are good.
    Body { before: usize },
}

/// A chunk's size with its extensions, which nobody uses; or a line of trailers.
const MAX_CHUNK_LINE: usize = 4 * 1024;
const MAX_TRAILERS: usize = 16 * 1024;

impl Framing {
    pub(super) fn new(max_head: usize) -> Self {
        Self {
            state: State::Head,
            partial: Vec::new(),
            begun: Begun::default(),
            head: Head::default(),
            heads: 0,
            max_head,
        }
    }

    /// Whether a head has begun and not ended.
    pub(super) fn has_partial_head(&self) -> bool {
        self.state == State::Head && self.head.bytes > 0
    }

    /// Whether nothing of a message has arrived whose end has not.
    pub(super) fn is_between_messages(&self) -> bool {
        self.state == State::Head && self.head.bytes == 0
    }

    /// How many good heads have ended. The number begins again at 0 after its largest.
    pub(super) fn heads(&self) -> u32 {
        self.heads
    }

    /// Whether the head that has begun is one of HEAD, whose answer has no body.
    pub(super) fn is_for_head(&self) -> bool {
        match self.head.asked {
            Some(asked) => asked == Asked::Head,
            // It may have been refused before its line had its end.
            None => self.partial.starts_with(b"HEAD "),
        }
    }

    /// Takes what has arrived.
    pub(super) fn scan(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let mut rest = bytes;
        // How much of `bytes` is known to be good messages.
        let mut before = 0;
        while !rest.is_empty() {
            match self.state {
                State::Body(left) => self.state = skip(&mut rest, left, State::Head, State::Body),
                State::ChunkData(left) => {
                    self.state = skip(&mut rest, left, State::ChunkEnd, State::ChunkData);
                }
                State::Head => {
                    if self.head.bytes == 0 {
                        before = bytes.len() - rest.len();
                    }
                    self.head_line(&mut rest)
                        .map_err(|refusal| Violation::Head { before, refusal })?;
                }
                State::ChunkSize | State::ChunkEnd | State::Trailers => {
                    let before = bytes.len() - rest.len();
                    self.body_line(&mut rest)
                        .ok_or(Violation::Body { before })?;
                }
            }
        }
        Ok(())
    }

    fn head_line(&mut self, rest: &mut &[u8]) -> Result<(), Refusal> {
        let all = *rest;
        let line = self.line(rest);
        self.head.bytes += all.len() - rest.len();
        if self.head.bytes > self.max_head {
            return Err(if self.head.asked.is_some() {
                Refusal::HeadTooLarge
            } else {
                Refusal::TargetTooLong
            });
        }
        let Some(line) = line.map_err(Refusal::Malformed)? else {
            let is_request_line = self.head.asked.is_none();
            self.begun.follow(all, is_request_line)?;
            let has_target = matches!(self.begun, Begun::Version(_) | Begun::End);
            return match self.partial.split(|byte| *byte == b' ').nth(1) {
                Some(target) if is_request_line && has_target => check_target(target),
                _ => Ok(()),
            };
        };
        self.begun = Begun::default();
        if self.head.asked.is_none() {
            // A client may send an empty line behind a body (RFC 9112 §2.2).
            return if line.as_slice().is_empty() {
                Ok(())
            } else {
                self.head.request_line(line.as_slice())
            };
        }
        if !line.as_slice().is_empty() {
            return self.head.field(line.as_slice());
        }
        let head = std::mem::take(&mut self.head);
        self.state = match (head.is_chunked, head.length) {
            (true, Some(_)) => return Err(Refusal::Malformed("two framings")),
            (true, None) if head.is_http_10 => {
                return Err(Refusal::Malformed("Transfer-Encoding in HTTP/1.0"));
            }
            (true, None) => State::ChunkSize,
            (false, None | Some(0)) => State::Head,
            (false, Some(length)) => State::Body(length),
        };
        self.heads = self.heads.wrapping_add(1);
        Ok(())
    }

    /// `None` for a line that the codec would refuse, or that another parser could read otherwise.
    fn body_line(&mut self, rest: &mut &[u8]) -> Option<()> {
        let before = rest.len();
        let line = self.line(rest).ok()?;
        self.head.bytes += before - rest.len();
        let limit = if self.state == State::Trailers {
            MAX_TRAILERS
        } else {
            MAX_CHUNK_LINE
        };
        if self.head.bytes > limit {
            return None;
        }
        let Some(line) = line else { return Some(()) };
        let line = line.as_slice();
        if self.state != State::Trailers || line.is_empty() {
            self.head = Head::default();
        } else {
            self.head.fields += 1;
            if self.head.fields > MAX_FIELDS {
                return None;
            }
        }
        self.state = match self.state {
            State::ChunkSize => match chunk_size(line)? {
                0 => State::Trailers,
                size => State::ChunkData(size),
            },
            State::ChunkEnd if line.is_empty() => State::ChunkSize,
            State::Trailers if line.is_empty() => State::Head,
            // They end here, so all that counts is where they end.
            State::Trailers => field(line).ok().map(|_| State::Trailers)?,
            _ => return None,
        };
        Some(())
    }

    /// The next line without its end, which must be CRLF; `None` when it is not there yet.
    fn line<'a>(&mut self, rest: &mut &'a [u8]) -> Result<Option<Line<'a>>, &'static str> {
        let Some(end) = memchr::memchr(b'\n', rest) else {
            self.partial.extend_from_slice(rest);
            *rest = &[];
            return Ok(None);
        };
        let (line, behind) = rest.split_at(end + 1);
        *rest = behind;
        let line = if self.partial.is_empty() {
            Line::Whole(line)
        } else {
            let mut joined = std::mem::take(&mut self.partial);
            joined.extend_from_slice(line);
            Line::Joined(joined)
        };
        line.without_end().map(Some).ok_or("a line without CRLF")
    }
}

/// Passes over what is left of a body, as far as it is there.
fn skip(rest: &mut &[u8], left: u64, then: State, more: fn(u64) -> State) -> State {
    let here = usize::try_from(left).map_or(rest.len(), |left| left.min(rest.len()));
    *rest = rest.get(here..).unwrap_or_default();
    match left - here as u64 {
        0 => then,
        left => more(left),
    }
}

/// `1*HEXDIG [ ";" … ]` (RFC 9112 §7.1). Extensions are passed over; the codec drops them.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let (size, extension) = match memchr::memchr(b';', line) {
        Some(at) => line.split_at(at),
        None => (line, &[][..]),
    };
    let is_plain = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    if size.is_empty() || size.len() > 15 || !size.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let size = u64::from_str_radix(std::str::from_utf8(size).ok()?, 16).ok()?;
    extension.iter().all(is_plain).then_some(size)
}

#[cfg(test)]
mod tests;
