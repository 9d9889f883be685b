//! Where each request begins and ends on a connection (RFC 9112 §2–7), read over before the codec
//! sees a byte.
//!
//! The codec is lenient where a gateway must not be: it drops a `Content-Length` beside a transfer
//! coding, cuts a fragment off a target, takes a bare LF for a line end, and answers what it
//! refuses without saying who it is. Here everything that could be read in two ways is refused, so
//! what goes on has one reading only. It never decides what a message means: only that the codec
//! will read the same.

mod begun;

use http::Uri;

use self::begun::Begun;
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

/// What is known of the head so far.
#[derive(Debug, Default)]
struct Head {
    bytes: usize,
    fields: usize,
    /// Known with the request line.
    asked: Option<Asked>,
    is_http_10: bool,
    length: Option<u64>,
    is_chunked: bool,
}

/// Which method, as far as the framing of its answer depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Head,
    Other,
}

/// Why a connection cannot go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// In a head. So many of the bytes belong to the messages before it.
    Head { before: usize, refusal: Refusal },
    /// In the framing of a body, whose request is being handled. So many of the bytes are good.
    Body { before: usize },
}

/// The most fields that a request may have.
pub const MAX_FIELDS: usize = 100;
/// The longest target of a request, in bytes.
pub const MAX_TARGET: usize = 16 * 1024;
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
        self.head.asked == Some(Asked::Head)
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
            self.head.bytes = 0;
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

/// A line: where it was read, or put together of two reads.
enum Line<'a> {
    Whole(&'a [u8]),
    Joined(Vec<u8>),
}

impl Line<'_> {
    fn as_slice(&self) -> &[u8] {
        match self {
            Self::Whole(line) => line,
            Self::Joined(line) => line,
        }
    }

    fn without_end(self) -> Option<Self> {
        Some(match self {
            Self::Whole(line) => Self::Whole(line.strip_suffix(b"\r\n")?),
            Self::Joined(mut line) => {
                let length = line.strip_suffix(b"\r\n")?.len();
                line.truncate(length);
                Self::Joined(line)
            }
        })
    }
}

impl Head {
    /// `method SP target SP version` (RFC 9112 §3), without the white space that others forgive.
    fn request_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
        let mut parts = line.split(|byte| *byte == b' ');
        let (Some(method), Some(target), Some(version), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::Malformed("request line"));
        };
        if !is_token(method) {
            return Err(Refusal::Malformed("method"));
        }
        self.asked = Some(if method == b"HEAD" {
            Asked::Head
        } else {
            Asked::Other
        });
        check_target(target)?;
        self.is_http_10 = match version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" => true,
            [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
                if major.is_ascii_digit() && minor.is_ascii_digit() && *major != b'1' =>
            {
                return Err(Refusal::Version);
            }
            _ => return Err(Refusal::Malformed("version")),
        };
        Ok(())
    }

    /// A field, and what it says of the message.
    fn field(&mut self, line: &[u8]) -> Result<(), Refusal> {
        self.fields += 1;
        if self.fields > MAX_FIELDS {
            return Err(Refusal::HeadTooLarge);
        }
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.is_some() {
                return Err(Refusal::Malformed("several Content-Length fields"));
            }
            self.length = Some(decimal(value).ok_or(Refusal::Malformed("Content-Length"))?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Refusal::TransferCoding);
            }
            self.is_chunked = true;
        } else if name.eq_ignore_ascii_case(b"connection") && !value.is_ascii() {
            // The codec would not see a `close` beside it.
            return Err(Refusal::Malformed("Connection"));
        }
        Ok(())
    }
}

/// A field line (RFC 9112 §5): no white space before the colon, no folding, no controls.
fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
    let colon = memchr::memchr(b':', line).ok_or(Refusal::Malformed("field line"))?;
    let (name, value) = line.split_at(colon);
    let value = value.strip_prefix(b":").unwrap_or_default();
    if !is_token(name) {
        return Err(Refusal::Malformed("field name"));
    }
    if has_control(value) {
        return Err(Refusal::Malformed("field value"));
    }
    Ok((name, value.trim_ascii()))
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

/// What the codec would refuse, or could read otherwise.
fn check_target(target: &[u8]) -> Result<(), Refusal> {
    if target.len() > MAX_TARGET {
        return Err(Refusal::TargetTooLong);
    }
    if !target.iter().copied().all(is_in_target) || Uri::try_from(target).is_err() {
        return Err(Refusal::Malformed("target"));
    }
    Ok(())
}

/// No fragment: it is the client's own. Bytes that are not ASCII have no place here either, but
/// curl sends them as they are typed, and services read them.
fn is_in_target(byte: u8) -> bool {
    (byte.is_ascii_graphic() && byte != b'#') || byte >= 0x80
}

/// RFC 9110 §5.6.2.
fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_tchar)
}

/// A control other than a tab. RFC 9110 §5.5 lets some pass; no client needs them.
#[expect(
    clippy::needless_bitwise_bool,
    reason = "without a branch a byte, many bytes are looked at at a time"
)]
fn has_control(value: &[u8]) -> bool {
    value.iter().fold(false, |found, byte| {
        found | ((*byte < 0x20) & (*byte != b'\t')) | (*byte == 0x7f)
    })
}

/// 1*DIGIT below 2^63, so that no sum of it overflows: what a `Content-Length` may be.
#[must_use]
pub fn decimal(digits: &[u8]) -> Option<u64> {
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number: i64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    is_plain.then_some(number.unsigned_abs())
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
