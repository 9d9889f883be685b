//! Reads a message part by part, as RFC 9112 has a sender write it.

use crate::{
    Fields, Read, Request, Response, Sender, decimal,
    fields::{is_field_value, is_token},
    trim,
};

/// As many as a head may have fields: a message with more trailers is refused by the sidecar.
pub(crate) const MAX_TRAILERS: usize = 100;

/// Why a part of a message cannot be read.
pub(crate) enum Flaw {
    Cut,
    Bad(&'static str),
}

/// How far a body goes.
#[derive(PartialEq, Eq)]
pub(crate) enum Framing {
    Length(usize),
    Chunked,
    ToTheEnd,
}

/// What is left of the bytes, and how it may be written.
pub(crate) struct Reader<'a> {
    pub(crate) rest: &'a [u8],
    pub(crate) sender: Sender,
    pub(crate) is_over: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn request_head(&mut self, request: &mut Request) -> Result<Framing, Flaw> {
        let mut line = self.line()?;
        while line.is_empty() && self.sender == Sender::Any {
            line = self.line()?;
        }
        let parts: Vec<_> = line.split(|byte| *byte == b' ').collect();
        let [method, target, version] = parts.as_slice() else {
            return Err(Flaw::Bad("request line"));
        };
        if !is_token(method) {
            return Err(Flaw::Bad("method"));
        }
        // A fragment is never sent (RFC 9110 §4.2.5).
        let is_plain = |byte: &u8| matches!(byte, b'!'..=b'~' | 0x80..) && *byte != b'#';
        if target.is_empty() || !target.iter().all(is_plain) {
            return Err(Flaw::Bad("target"));
        }
        request.is_http_10 = match *version {
            b"HTTP/1.1" => false,
            b"HTTP/1.0" if self.sender == Sender::Any => true,
            _ => return Err(Flaw::Bad("version")),
        };
        request.method = method.to_vec();
        request.target = target.to_vec();
        request.fields = self.fields()?;
        match self.framing(&request.fields, request.is_http_10)? {
            Framing::ToTheEnd => Ok(Framing::Length(0)),
            framing => Ok(framing),
        }
    }

    pub(crate) fn response_head(
        &mut self,
        response: &mut Response,
        method: &[u8],
    ) -> Result<Framing, Flaw> {
        let line = self.line()?;
        let (version, behind) = line.split_at_checked(9).ok_or(Flaw::Bad("status line"))?;
        response.is_http_10 = match version {
            b"HTTP/1.1 " => false,
            b"HTTP/1.0 " => true,
            _ => return Err(Flaw::Bad("version")),
        };
        // status-code SP [ reason-phrase ] (RFC 9112 §4).
        let [a, b, c, b' ', reason @ ..] = behind else {
            return Err(Flaw::Bad("status line"));
        };
        let status = decimal(&[*a, *b, *c]).and_then(|status| status.try_into().ok());
        response.status = status
            .filter(|status| *status >= 100)
            .ok_or(Flaw::Bad("status"))?;
        if !is_field_value(reason) {
            return Err(Flaw::Bad("reason"));
        }
        response.fields = self.fields()?;
        let framing = self.framing(&response.fields, response.is_http_10)?;
        let is_without_content = response.status < 200 || response.status == 204;
        if is_without_content && framing != Framing::ToTheEnd {
            return Err(Flaw::Bad("a length of what has no content"));
        }
        if is_without_content || method == b"HEAD" || response.status == 304 {
            return Ok(Framing::Length(0));
        }
        Ok(framing)
    }

    /// Reads what the fields say of the body; to the end, where they say nothing (RFC 9112 §6.3).
    fn framing(&self, fields: &Fields, is_http_10: bool) -> Result<Framing, Flaw> {
        let is_chunked = |coding: &[u8]| match self.sender {
            Sender::Any => coding.eq_ignore_ascii_case(b"chunked"),
            Sender::Proxy => coding == b"chunked",
        };
        let codings = fields.all("transfer-encoding");
        let lengths = fields.all("content-length");
        match (codings.as_slice(), lengths.as_slice()) {
            ([], []) => Ok(Framing::ToTheEnd),
            ([], [length]) => decimal(length)
                .map(Framing::Length)
                .ok_or(Flaw::Bad("length")),
            ([], _) => Err(Flaw::Bad("several lengths")),
            (_, [_, ..]) => Err(Flaw::Bad("two framings")),
            (_, []) if is_http_10 => Err(Flaw::Bad("chunked in HTTP/1.0")),
            ([coding], []) if is_chunked(coding) => Ok(Framing::Chunked),
            (_, []) => Err(Flaw::Bad("transfer coding")),
        }
    }

    fn fields(&mut self) -> Result<Fields, Flaw> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(Fields(fields));
            }
            let mut parts = line.splitn(2, |byte| *byte == b':');
            let (Some(name), Some(value)) = (parts.next(), parts.next()) else {
                return Err(Flaw::Bad("field line"));
            };
            let value = trim(value);
            if !is_token(name) {
                return Err(Flaw::Bad("field name"));
            }
            if !is_field_value(value) {
                return Err(Flaw::Bad("field value"));
            }
            fields.push((name.to_vec(), value.to_vec()));
        }
    }

    pub(crate) fn body(
        &mut self,
        framing: &Framing,
        content: &mut Vec<u8>,
        trailers: &mut Fields,
    ) -> Result<(), Flaw> {
        match framing {
            Framing::Length(length) => self.take(*length, content),
            Framing::ToTheEnd => {
                self.take(self.rest.len(), content)?;
                self.is_over.then_some(()).ok_or(Flaw::Cut)
            }
            Framing::Chunked => {
                while let size @ 1.. = self.chunk_size()? {
                    self.take(size, content)?;
                    match self.rest {
                        [b'\r', b'\n', behind @ ..] => self.rest = behind,
                        [] | [b'\r'] => return Err(Flaw::Cut),
                        _ => return Err(Flaw::Bad("the end of a chunk")),
                    }
                }
                *trailers = self.fields()?;
                if trailers.0.len() > MAX_TRAILERS {
                    return Err(Flaw::Bad("too many trailers"));
                }
                Ok(())
            }
        }
    }

    fn chunk_size(&mut self) -> Result<usize, Flaw> {
        let line = self.line()?;
        let semicolon = line.iter().position(|byte| *byte == b';');
        let (size, extension) = line.split_at(semicolon.unwrap_or(line.len()));
        if !extension.is_empty() && (self.sender == Sender::Proxy || !is_field_value(extension)) {
            return Err(Flaw::Bad("chunk extension"));
        }
        // More digits than anybody needs: whether they overflow differs from parser to parser.
        let is_hex = (1..=15).contains(&size.len()) && size.iter().all(u8::is_ascii_hexdigit);
        let number = usize::from_str_radix(&String::from_utf8_lossy(size), 16);
        number
            .ok()
            .filter(|_| is_hex)
            .ok_or(Flaw::Bad("chunk size"))
    }

    fn take(&mut self, length: usize, content: &mut Vec<u8>) -> Result<(), Flaw> {
        let (here, behind) = self.rest.split_at(length.min(self.rest.len()));
        content.extend_from_slice(here);
        self.rest = behind;
        if here.len() == length {
            Ok(())
        } else {
            Err(Flaw::Cut)
        }
    }

    /// Reads the next line without its CRLF. A CR or LF elsewhere is bad (RFC 9112 §2.2).
    fn line(&mut self) -> Result<&'a [u8], Flaw> {
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let (line, behind) = self.rest.split_at(end.ok_or(Flaw::Cut)? + 1);
        self.rest = behind;
        match line.strip_suffix(b"\r\n") {
            Some(line) if !line.contains(&b'\r') => Ok(line),
            _ => Err(Flaw::Bad("line end")),
        }
    }
}

impl Flaw {
    pub(crate) fn of<T>(self, head: Option<T>) -> Read<T> {
        match self {
            Self::Cut => Read::Cut(head),
            Self::Bad(why) => Read::Bad(head, why),
        }
    }
}
