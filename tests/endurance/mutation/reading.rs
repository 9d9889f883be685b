//! What bytes mean: requests read by RFC 9112 and nothing else, with no code of the sidecar or of
//! its codec.

use std::fmt;

/// Who has written what is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// Anybody: what the RFC allows and asks a server to understand.
    Client,
    /// The sidecar: only the plainest way to say it.
    Sidecar,
}

/// One request, as far as it is there.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Message {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub body: Vec<u8>,
    /// How many bytes it took.
    pub length: usize,
}

impl Message {
    pub fn values<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let name = name.as_bytes().to_vec();
        let named = self.fields.iter();
        named
            .filter(move |(found, _)| found.eq_ignore_ascii_case(&name))
            .map(|(_, value)| value.as_slice())
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            method,
            target,
            body,
            ..
        } = self;
        let parts = [method, target, body].map(|part| part.escape_ascii());
        write!(f, "{} {} {:?}", parts[0], parts[1], parts[2].to_string())
    }
}

/// What was found where a request should begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Whole(Message),
    /// A part of a request; with its head, if that is there, and what there is of its body.
    Part(Option<Message>),
    /// No request, or one that can be read in two ways; with its head, if only the body is wrong.
    Flaw(&'static str, Option<Message>),
}

type Flaw = &'static str;

/// Reads the first request of these bytes.
pub fn read(bytes: &[u8], writer: Writer) -> Found {
    let mut rest = bytes;
    let mut message = match head(&mut rest, writer) {
        Ok(Some(message)) => message,
        Ok(None) => return Found::Part(None),
        Err(flaw) => return Found::Flaw(flaw, None),
    };
    let framing = match framing(&message, writer) {
        Ok(framing) => framing,
        Err(flaw) => return Found::Flaw(flaw, None),
    };
    // The version has done its work.
    message.fields.retain(|(name, _)| !name.is_empty());
    let ends = match framing {
        Framing::Length(length) => {
            let here = usize::try_from(length).map_or(rest.len(), |length| length.min(rest.len()));
            message.body = rest[..here].to_vec();
            rest = &rest[here..];
            Ok(here as u64 == length)
        }
        Framing::Chunked => chunks(&mut rest, &mut message.body, writer),
    };
    message.length = bytes.len() - rest.len();
    match ends {
        Ok(true) => Found::Whole(message),
        Ok(false) => Found::Part(Some(message)),
        Err(flaw) => Found::Flaw(flaw, Some(message)),
    }
}

enum Framing {
    Length(u64),
    Chunked,
}

/// `None` when it is not whole. A field without a name holds the version.
fn head(rest: &mut &[u8], writer: Writer) -> Result<Option<Message>, Flaw> {
    let start = loop {
        let Some(line) = line(rest)? else {
            return Ok(None);
        };
        if !line.is_empty() {
            break line;
        }
        if writer == Writer::Sidecar {
            return Err("an empty line between requests");
        }
    };
    let parts: Vec<_> = start.split(|byte| *byte == b' ').collect();
    let [method, target, version] = parts[..] else {
        return Err("request line");
    };
    if !is_token(method) {
        return Err("method");
    }
    let is_plain = |byte: &u8| byte.is_ascii_graphic() || *byte >= 0x80;
    if target.is_empty() || !target.iter().all(is_plain) {
        return Err("target");
    }
    if version != b"HTTP/1.1" && (version != b"HTTP/1.0" || writer == Writer::Sidecar) {
        return Err("version");
    }
    let mut fields = vec![(Vec::new(), version.to_vec())];
    loop {
        let Some(line) = line(rest)? else {
            return Ok(None);
        };
        if line.is_empty() {
            return Ok(Some(Message {
                method: method.to_vec(),
                target: target.to_vec(),
                fields,
                ..Message::default()
            }));
        }
        fields.push(field(line)?);
    }
}

fn field(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Flaw> {
    let colon = line.iter().position(|byte| *byte == b':');
    let (name, value) = line.split_at(colon.ok_or("a field without a colon")?);
    if !is_token(name) {
        return Err("field name");
    }
    let value = value[1..].trim_ascii();
    if value.iter().any(|byte| *byte == 0 || *byte == b'\r') {
        return Err("field value");
    }
    Ok((name.to_vec(), value.to_vec()))
}

/// RFC 9112 §6.3, as strictly as it may be read.
fn framing(message: &Message, writer: Writer) -> Result<Framing, Flaw> {
    let lengths: Vec<_> = message.values("content-length").collect();
    let codings: Vec<_> = message.values("transfer-encoding").collect();
    match (&lengths[..], &codings[..]) {
        ([], []) => Ok(Framing::Length(0)),
        ([length], []) => Ok(Framing::Length(decimal(length).ok_or("Content-Length")?)),
        ([], [coding]) => {
            let is_exact = writer == Writer::Client || *coding == b"chunked";
            if !coding.eq_ignore_ascii_case(b"chunked") || !is_exact {
                return Err("Transfer-Encoding");
            }
            if message.values("").any(|version| version == b"HTTP/1.0") {
                return Err("Transfer-Encoding in HTTP/1.0");
            }
            Ok(Framing::Chunked)
        }
        _ => Err("two framings"),
    }
}

/// Whether the last chunk and its trailers are there.
fn chunks(rest: &mut &[u8], body: &mut Vec<u8>, writer: Writer) -> Result<bool, Flaw> {
    loop {
        let Some(size) = line(rest)? else {
            return Ok(false);
        };
        let end = size.iter().position(|byte| *byte == b';');
        let (size, extension) = size.split_at(end.unwrap_or(size.len()));
        if !extension.is_empty() && writer == Writer::Sidecar {
            return Err("an extension of a chunk");
        }
        let size = hexadecimal(size).ok_or("chunk size")?;
        if size == 0 {
            break;
        }
        let here = usize::try_from(size).map_or(rest.len(), |size| size.min(rest.len()));
        body.extend_from_slice(&rest[..here]);
        *rest = &rest[here..];
        if (here as u64) < size {
            return Ok(false);
        }
        match rest {
            [b'\r', b'\n', ..] => *rest = &rest[2..],
            [] | [b'\r'] => return Ok(false),
            _ => return Err("end of a chunk"),
        }
    }
    loop {
        match line(rest)? {
            None => return Ok(false),
            Some([]) => return Ok(true),
            Some(_) if writer == Writer::Sidecar => return Err("a trailer"),
            Some(trailer) => drop(field(trailer)?),
        }
    }
}

/// A line that ends with CRLF and has no other part of one.
fn line<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Flaw> {
    let Some(end) = rest.iter().position(|byte| *byte == b'\n') else {
        return Ok(None);
    };
    let line = rest[..end].strip_suffix(b"\r").ok_or("a bare LF")?;
    *rest = &rest[end + 1..];
    if line.contains(&b'\r') {
        return Err("a bare CR");
    }
    Ok(Some(line))
}

fn decimal(digits: &[u8]) -> Option<u64> {
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(digits).ok()?;
    digits.parse().ok().filter(|_| is_plain)
}

fn hexadecimal(digits: &[u8]) -> Option<u64> {
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    let digits = std::str::from_utf8(digits).ok()?;
    u64::from_str_radix(digits, 16).ok().filter(|_| is_plain)
}

fn is_token(bytes: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_tchar)
}

/// All requests of a connection that can be read in one way: the whole ones, and at the end a
/// part of one.
#[derive(Debug, Default)]
pub struct Meaning {
    pub whole: Vec<Message>,
    pub part: Option<Message>,
    /// Why it ends before the bytes do.
    pub flaw: Option<Flaw>,
    /// Whether there are bytes of an unfinished request.
    pub is_unfinished: bool,
}

impl Meaning {
    pub fn of(bytes: &[u8]) -> Self {
        let mut meaning = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            match read(rest, Writer::Client) {
                Found::Whole(message) => {
                    rest = &rest[message.length..];
                    meaning.whole.push(message);
                    continue;
                }
                Found::Part(part) => {
                    meaning.part = part;
                    meaning.is_unfinished = true;
                }
                Found::Flaw(flaw, part) => {
                    meaning.part = part;
                    meaning.flaw = Some(flaw);
                }
            }
            break;
        }
        meaning
    }
}
