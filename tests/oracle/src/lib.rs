//! Reads HTTP/1.1 messages strictly: the oracle of the test suites and of the fuzz targets.
//!
//! The reader is written from RFC 9110 and RFC 9112 and shares nothing with the sidecar or its codec: where
//! the two read differently, one of them is wrong. Strict means that what a sender must not write
//! is bad, even where a recipient may forgive it. Only bytes beyond ASCII in a target or a field
//! value are kept as they are: they cannot be misread, and what becomes of them is for the suites
//! to judge.
//!
//! A response to CONNECT is not known here.

mod fields;
mod reader;

use std::fmt;

pub use self::fields::{Field, Fields, decimal, trim};
use self::reader::{Framing, Reader};

/// A request, as far as it came.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The method, as it was spelled.
    pub method: Vec<u8>,
    /// The request target, in whatever form.
    pub target: Vec<u8>,
    /// Whether it is HTTP/1.0; any other is HTTP/1.1.
    pub is_http_10: bool,
    /// The fields of the header section.
    pub fields: Fields,
    /// The content, without its chunks.
    pub body: Vec<u8>,
    /// The fields behind the last chunk.
    pub trailers: Fields,
}

/// A response, as far as it came.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// Whether it is HTTP/1.0; any other is HTTP/1.1.
    pub is_http_10: bool,
    /// The status code, from 100 to 999.
    pub status: u16,
    /// The fields of the header section.
    pub fields: Fields,
    /// The content, without its chunks.
    pub body: Vec<u8>,
    /// The fields behind the last chunk.
    pub trailers: Fields,
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

impl<T> Read<T> {
    /// The same of a part of the message.
    pub fn map<P>(self, part: impl FnOnce(T) -> P) -> Read<P> {
        match self {
            Self::Whole(message, length) => Read::Whole(part(message), length),
            Self::Cut(head) => Read::Cut(head.map(part)),
            Self::Bad(head, why) => Read::Bad(head.map(part), why),
        }
    }
}

/// Who has sent a message, and thus how it may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Anybody: all that RFC 9112 asks a recipient to understand. Empty lines before a request,
    /// requests of HTTP/1.0, chunk extensions, and `chunked` in any case.
    Any,
    /// A proxy, which writes only the plainest form.
    Proxy,
}

/// Reads a request; the empty lines that may stand before it belong to it (RFC 9112 §2.2).
#[must_use]
pub fn request(bytes: &[u8], sender: Sender) -> Read<Request> {
    let mut reader = Reader {
        rest: bytes,
        sender,
        is_over: false,
    };
    let mut request = Request::default();
    let framing = match reader.request_head(&mut request) {
        Ok(framing) => framing,
        Err(flaw) => return flaw.of(None),
    };
    match reader.body(&framing, &mut request.body, &mut request.trailers) {
        Ok(()) => Read::Whole(request, bytes.len() - reader.rest.len()),
        Err(flaw) => flaw.of(Some(request)),
    }
}

/// Reads all whole requests, each with its length, and what stands behind the last of them.
#[must_use]
pub fn requests(mut bytes: &[u8], sender: Sender) -> (Vec<(Request, usize)>, Read<Request>) {
    let mut whole = Vec::new();
    loop {
        match request(bytes, sender) {
            Read::Whole(request, length) => {
                bytes = bytes.get(length..).unwrap_or_default();
                whole.push((request, length));
            }
            behind => return (whole, behind),
        }
    }
}

/// Reads a response to a request of that method; `is_over`: no more bytes will come.
///
/// An interim response is a message of its own.
#[must_use]
pub fn response(bytes: &[u8], method: &[u8], is_over: bool, sender: Sender) -> Read<Response> {
    let mut reader = Reader {
        rest: bytes,
        sender,
        is_over,
    };
    let mut response = Response::default();
    let framing = match reader.response_head(&mut response, method) {
        Ok(framing) => framing,
        Err(flaw) => return flaw.of(None),
    };
    response.is_to_the_end = framing == Framing::ToTheEnd;
    match reader.body(&framing, &mut response.body, &mut response.trailers) {
        Ok(()) => Read::Whole(response, bytes.len() - reader.rest.len()),
        Err(flaw) => flaw.of(Some(response)),
    }
}

/// Each byte as the character of its number, so that bytes can be compared with text.
#[must_use]
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Bytes for people to read.
#[must_use]
pub fn shown(bytes: &[u8]) -> String {
    const MOST: usize = 3000;
    let text = bytes.escape_ascii().to_string();
    match text.get(..MOST) {
        Some(start) if text.len() > MOST => format!("{start} … ({} bytes)", bytes.len()),
        _ => text,
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, target) = (shown(&self.method), shown(&self.target));
        let minor = u8::from(!self.is_http_10);
        write!(f, "{method} {target} HTTP/1.{minor} {:?}", self.fields)?;
        write!(f, " body {:?}", shown(&self.body))
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.status, self.fields)?;
        write!(f, " body {:?}", shown(&self.body))
    }
}

#[cfg(test)]
mod tests;
