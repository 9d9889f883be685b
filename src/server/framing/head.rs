//! The lines of a head: what each may be, and what it says of the framing.

use http::Uri;

use crate::server::Refusal;

/// The most fields that a request may have.
pub const MAX_FIELDS: usize = 100;
/// The longest target of a request, in bytes.
pub const MAX_TARGET: usize = 16 * 1024;

/// What is known of the head so far.
#[derive(Debug, Default)]
pub(super) struct Head {
    pub(super) bytes: usize,
    pub(super) fields: usize,
    /// Known with the request line.
    pub(super) asked: Option<Asked>,
    pub(super) is_http_10: bool,
    pub(super) length: Option<u64>,
    pub(super) is_chunked: bool,
}

/// Which method, as far as the framing of its answer depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Head,
    Other,
}

impl Head {
    /// `method SP target SP version` (RFC 9112 §3), without the white space that others forgive.
    pub(super) fn request_line(&mut self, line: &[u8]) -> Result<(), Refusal> {
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
    pub(super) fn field(&mut self, line: &[u8]) -> Result<(), Refusal> {
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
pub(super) fn field(line: &[u8]) -> Result<(&[u8], &[u8]), Refusal> {
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

/// What the codec would refuse, or could read otherwise.
pub(super) fn check_target(target: &[u8]) -> Result<(), Refusal> {
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
pub(super) fn is_in_target(byte: u8) -> bool {
    (byte.is_ascii_graphic() && byte != b'#') || byte >= 0x80
}

/// RFC 9110 §5.6.2.
pub(super) fn is_tchar(byte: u8) -> bool {
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
