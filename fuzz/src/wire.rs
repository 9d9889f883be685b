//! Strict reading of HTTP/1.1 messages from bytes, written from RFC 9112 and sharing nothing with
//! the sidecar: where the two read differently, one of them is wrong.
//!
//! Strict means: what a sender must not write is bad, even where a recipient may forgive it.

/// A field line: the name as it was spelled, the value without the white space around it.
pub type Field = (Vec<u8>, Vec<u8>);

/// The fields of a message, in their order.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<Field>);

/// A request, as far as it came.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Request {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    /// Whether it is HTTP/1.0; any other is HTTP/1.1.
    pub is_http_10: bool,
    pub fields: Fields,
    pub body: Vec<u8>,
}

/// A response, as far as it came.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Response {
    pub is_http_10: bool,
    pub status: u16,
    pub fields: Fields,
    pub body: Vec<u8>,
    /// Whether only the end of the connection ends it.
    pub is_to_the_end: bool,
}

/// What stands at the beginning of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read<T> {
    /// A message of so many bytes.
    Whole(T, usize),
    /// The beginning of one, with its head if that is whole.
    Cut(Option<T>),
    /// No message; its head, if it is the body that is bad.
    Bad(Option<T>, &'static str),
}

/// Why a part of a message cannot be read.
enum Flaw {
    Cut,
    Bad(&'static str),
}

/// How far a body goes.
enum Framing {
    Length(usize),
    Chunked,
    ToTheEnd,
}

/// Reads a request. Empty lines before it belong to it (RFC 9112 §2.2).
pub fn request(bytes: &[u8]) -> Read<Request> {
    let mut rest = bytes;
    while let Some(behind) = rest.strip_prefix(b"\r\n") {
        rest = behind;
    }
    let mut request = Request::default();
    let framing = match request_head(&mut rest, &mut request) {
        Ok(framing) => framing,
        Err(Flaw::Cut) => return Read::Cut(None),
        Err(Flaw::Bad(why)) => return Read::Bad(None, why),
    };
    let read = body(&mut rest, &framing, &mut request.body, false);
    finished(request, read, bytes.len() - rest.len())
}

/// Reads a response to a request of that method; `is_over`: no more bytes will come.
pub fn response(bytes: &[u8], method: &[u8], is_over: bool) -> Read<Response> {
    let mut rest = bytes;
    let mut response = Response::default();
    let framing = match response_head(&mut rest, &mut response, method) {
        Ok(framing) => framing,
        Err(Flaw::Cut) => return Read::Cut(None),
        Err(Flaw::Bad(why)) => return Read::Bad(None, why),
    };
    response.is_to_the_end = matches!(framing, Framing::ToTheEnd);
    let read = body(&mut rest, &framing, &mut response.body, is_over);
    finished(response, read, bytes.len() - rest.len())
}

fn finished<T>(message: T, read: Result<(), Flaw>, length: usize) -> Read<T> {
    match read {
        Ok(()) => Read::Whole(message, length),
        Err(Flaw::Cut) => Read::Cut(Some(message)),
        Err(Flaw::Bad(why)) => Read::Bad(Some(message), why),
    }
}

fn request_head(rest: &mut &[u8], request: &mut Request) -> Result<Framing, Flaw> {
    let line = line(rest)?;
    let parts: Vec<_> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = parts.as_slice() else {
        return Err(Flaw::Bad("request line"));
    };
    if !is_token(method) {
        return Err(Flaw::Bad("method"));
    }
    // A fragment is never sent (RFC 9110 §4.2.5). Bytes beyond ASCII are against RFC 3986, but
    // cannot be misread: what becomes of them is for others to say.
    let is_plain = |byte: &u8| matches!(byte, b'!'..=b'~' | 0x80..) && *byte != b'#';
    if target.is_empty() || !target.iter().all(is_plain) {
        return Err(Flaw::Bad("target"));
    }
    request.is_http_10 = match *version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return Err(Flaw::Bad("version")),
    };
    request.method = method.to_vec();
    request.target = target.to_vec();
    request.fields = fields(rest)?;
    let (coding, length) = framing_fields(&request.fields)?;
    match (coding, length) {
        (true, Some(_)) => Err(Flaw::Bad("two framings")),
        (true, None) if request.is_http_10 => Err(Flaw::Bad("chunked in HTTP/1.0")),
        (true, None) => Ok(Framing::Chunked),
        (false, length) => Ok(Framing::Length(length.unwrap_or(0))),
    }
}

fn response_head(
    rest: &mut &[u8],
    response: &mut Response,
    method: &[u8],
) -> Result<Framing, Flaw> {
    let line = line(rest)?;
    let (version, behind) = line.split_at_checked(9).ok_or(Flaw::Bad("status line"))?;
    response.is_http_10 = match version {
        b"HTTP/1.1 " => false,
        b"HTTP/1.0 " => true,
        _ => return Err(Flaw::Bad("version")),
    };
    // status-code SP [ reason-phrase ] (RFC 9112 §4).
    let (status, reason) = match behind {
        [a, b, c, b' ', reason @ ..] if [a, b, c].iter().all(|byte| byte.is_ascii_digit()) => {
            let digits = [*a, *b, *c].map(|digit| u16::from(digit - b'0'));
            (digits[0] * 100 + digits[1] * 10 + digits[2], reason)
        }
        _ => return Err(Flaw::Bad("status line")),
    };
    if !(100..1000).contains(&status) || !is_field_value(reason) {
        return Err(Flaw::Bad("status line"));
    }
    response.status = status;
    response.fields = fields(rest)?;
    let (coding, length) = framing_fields(&response.fields)?;
    if coding && (length.is_some() || response.is_http_10) {
        return Err(Flaw::Bad("two framings"));
    }
    let is_without_content = status < 200 || status == 204;
    if is_without_content && (coding || length.is_some()) {
        return Err(Flaw::Bad("a length of what has no content"));
    }
    Ok(
        if is_without_content || method == b"HEAD" || status == 304 {
            Framing::Length(0)
        } else if coding {
            Framing::Chunked
        } else {
            length.map_or(Framing::ToTheEnd, Framing::Length)
        },
    )
}

/// What the fields say of the body: whether it is chunked, how long it is.
fn framing_fields(fields: &Fields) -> Result<(bool, Option<usize>), Flaw> {
    let coding = match fields.all("transfer-encoding").as_slice() {
        [] => false,
        [coding] if coding.eq_ignore_ascii_case(b"chunked") => true,
        _ => return Err(Flaw::Bad("transfer coding")),
    };
    let length = match fields.all("content-length").as_slice() {
        [] => None,
        [length] => Some(decimal(length).ok_or(Flaw::Bad("length"))?),
        _ => return Err(Flaw::Bad("several lengths")),
    };
    Ok((coding, length))
}

fn fields(rest: &mut &[u8]) -> Result<Fields, Flaw> {
    let mut fields = Vec::new();
    loop {
        let line = line(rest)?;
        if line.is_empty() {
            return Ok(Fields(fields));
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.ok_or(Flaw::Bad("field line"))?);
        if !is_token(name) {
            return Err(Flaw::Bad("field name"));
        }
        let value = trim(&value[1..]);
        if !is_field_value(value) {
            return Err(Flaw::Bad("field value"));
        }
        fields.push((name.to_vec(), value.to_vec()));
    }
}

fn body(
    rest: &mut &[u8],
    framing: &Framing,
    content: &mut Vec<u8>,
    is_over: bool,
) -> Result<(), Flaw> {
    match framing {
        Framing::Length(length) => take(rest, *length, content),
        Framing::ToTheEnd => {
            content.extend_from_slice(rest);
            *rest = &[];
            if is_over { Ok(()) } else { Err(Flaw::Cut) }
        }
        Framing::Chunked => loop {
            let line = line(rest)?;
            let semicolon = line.iter().position(|byte| *byte == b';');
            let (size, extension) = line.split_at(semicolon.unwrap_or(line.len()));
            let is_hex = !size.is_empty() && size.iter().all(u8::is_ascii_hexdigit);
            // More digits than anybody needs: whether they overflow differs from parser to parser.
            if !is_hex || size.len() > 15 || !is_field_value(extension) {
                return Err(Flaw::Bad("chunk size"));
            }
            let size = usize::from_str_radix(&String::from_utf8_lossy(size), 16);
            match size.map_err(|_| Flaw::Bad("chunk size"))? {
                0 => return trailers(rest),
                size => take(rest, size, content)?,
            }
            match rest {
                [b'\r', b'\n', behind @ ..] => *rest = behind,
                [] | [b'\r'] => return Err(Flaw::Cut),
                _ => return Err(Flaw::Bad("the end of a chunk")),
            }
        },
    }
}

/// As many as a head may have fields: more are refused, and so is the message.
fn trailers(rest: &mut &[u8]) -> Result<(), Flaw> {
    match fields(rest)?.0.len() {
        0..=100 => Ok(()),
        _ => Err(Flaw::Bad("too many trailers")),
    }
}

fn take(rest: &mut &[u8], length: usize, content: &mut Vec<u8>) -> Result<(), Flaw> {
    let here = length.min(rest.len());
    content.extend_from_slice(&rest[..here]);
    *rest = &rest[here..];
    if here == length {
        Ok(())
    } else {
        Err(Flaw::Cut)
    }
}

/// The next line without its CRLF. A CR or LF elsewhere is bad (RFC 9112 §2.2).
fn line<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Flaw> {
    let end = rest.iter().position(|byte| *byte == b'\n');
    let (line, behind) = rest.split_at(end.ok_or(Flaw::Cut)? + 1);
    *rest = behind;
    match line.strip_suffix(b"\r\n") {
        Some(line) if !line.contains(&b'\r') => Ok(line),
        _ => Err(Flaw::Bad("line end")),
    }
}

/// RFC 9110 §5.6.2.
pub fn is_token(bytes: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_tchar)
}

/// RFC 9110 §5.5, without the controls that a recipient may let pass.
fn is_field_value(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..))
}

/// 1*DIGIT that a machine word holds.
pub fn decimal(digits: &[u8]) -> Option<usize> {
    let is_plain = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let number: Option<i64> = String::from_utf8_lossy(digits).parse().ok();
    number.filter(|_| is_plain)?.try_into().ok()
}

/// Without spaces and tabs around it.
pub fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

impl Fields {
    /// The values of a field, in their order.
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        let is_it = |(found, _): &&Field| found.eq_ignore_ascii_case(name.as_bytes());
        let found = self.0.iter().filter(is_it);
        found.map(|(_, value)| value.as_slice()).collect()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }

    /// The parts between commas of all values of a field, in lower case.
    pub fn list(&self, name: &str) -> Vec<Vec<u8>> {
        let all = self.all(name).into_iter();
        all.flat_map(|value| value.split(|byte| *byte == b','))
            .map(|part| trim(part).to_ascii_lowercase())
            .filter(|part| !part.is_empty())
            .collect()
    }

    /// Whether `Connection` has that option.
    pub fn connection(&self, option: &str) -> bool {
        self.list("connection")
            .iter()
            .any(|one| one == option.as_bytes())
    }
}

/// Bytes for people to read.
pub fn shown(bytes: &[u8]) -> String {
    let text = bytes.escape_ascii().to_string();
    if text.len() <= 3000 {
        return text;
    }
    format!("{} … ({} bytes)", &text[..3000], bytes.len())
}

impl std::fmt::Debug for Fields {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines = self.0.iter();
        f.debug_list()
            .entries(lines.map(|(name, value)| format!("{}: {}", shown(name), shown(value))))
            .finish()
    }
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (method, target) = (shown(&self.method), shown(&self.target));
        let minor = u8::from(!self.is_http_10);
        write!(f, "{method} {target} HTTP/1.{minor} {:?}", self.fields)?;
        write!(f, " body {:?}", shown(&self.body))
    }
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}", self.status, self.fields)?;
        write!(f, " body {:?}", shown(&self.body))
    }
}
