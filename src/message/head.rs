//! The heads of a request and of a response, whatever version of HTTP they came in.

use http::{Method, StatusCode, Version, request::Parts};

use super::{Fields, Flaw, Name};

/// A place in the text of a head.
pub(crate) type Span = (u32, u32);

/// The head of a request.
#[derive(Debug)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The version in which the request came.
    pub version: Version,
    /// What the request says of its connection.
    pub connection: ConnectionOptions,
    /// The fields, as received.
    pub fields: Fields,
    /// Path and query, or `*`.
    target: Span,
    authority: Option<Span>,
}

/// What `Connection` says (RFC 9112 §9).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option that may stand beside the others"
)]
pub struct ConnectionOptions {
    /// `close`.
    pub close: bool,
    /// `keep-alive`.
    pub keep_alive: bool,
    /// `upgrade`.
    pub upgrade: bool,
    /// Names of fields that are about the connection alone.
    pub nominates: bool,
}

impl ConnectionOptions {
    /// Reads a value of `Connection`.
    pub(crate) fn read(&mut self, value: &[u8]) {
        for option in super::grammar::elements(value) {
            let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
            if is(b"close") {
                self.close = true;
            } else if is(b"keep-alive") {
                self.keep_alive = true;
            } else if is(b"upgrade") {
                self.upgrade = true;
            } else if !option.is_empty() {
                self.nominates = true;
            }
        }
    }
}

impl RequestHead {
    /// A head of HTTP/1 with a target that was read from its text, in one of the forms of RFC 9112
    /// §3.2: the origin form, an absolute form of which the authority counts apart from the path, or
    /// the asterisk.
    ///
    /// # Errors
    /// A target of another form, or of one that does not belong to the method.
    pub(crate) fn new(
        method: Method,
        version: Version,
        target: Span,
        connection: ConnectionOptions,
        mut fields: Fields,
    ) -> Result<Self, Flaw> {
        let text = fields.at(target);
        let is_asterisk = text == b"*";
        let is_path = text.first() == Some(&b'/');
        // The authority form is CONNECT's; what it names is nobody's business, since none goes on.
        let is_whole =
            is_path || is_asterisk && method == Method::OPTIONS || method == Method::CONNECT;
        let (target, authority) = if is_whole {
            (target, None)
        } else if is_asterisk {
            return Err(Flaw::of("target: * belongs to OPTIONS"));
        } else {
            let after = scheme(text).ok_or(Flaw::of(
                "target: neither a path nor an address of http or https",
            ))?;
            let rest = text.get(after..).unwrap_or_default();
            let end = rest
                .iter()
                .position(|byte| matches!(byte, b'/' | b'?'))
                .unwrap_or(rest.len());
            let begin = target.0 + u32::try_from(after).unwrap_or(u32::MAX);
            let authority = (begin, begin + u32::try_from(end).unwrap_or(u32::MAX));
            let path = match rest.get(end) {
                Some(b'/') => (authority.1, target.1),
                // RFC 9112 §3.2.4: no path is the server itself.
                None if method == Method::OPTIONS => fields.keep(b"*"),
                None => fields.keep(b"/"),
                Some(_) => {
                    let whole = [b"/", rest.get(end..).unwrap_or_default()].concat();
                    fields.keep(&whole)
                }
            };
            (path, Some(authority))
        };
        Ok(Self {
            method,
            version,
            connection,
            fields,
            target,
            authority,
        })
    }

    /// A request with this target and no fields.
    #[must_use]
    pub fn to(method: Method, target: &[u8]) -> Self {
        let mut fields = Fields::default();
        let target = fields.keep(target);
        Self {
            method,
            version: Version::HTTP_11,
            connection: ConnectionOptions::default(),
            fields,
            target,
            authority: None,
        }
    }

    /// The head of a request as hyper or its codec of HTTP/2 has read it.
    #[must_use]
    pub fn of_parts(parts: &Parts) -> Self {
        let mut fields = Fields::of_map(&parts.headers);
        let target = parts
            .uri
            .path_and_query()
            .map_or("/", http::uri::PathAndQuery::as_str);
        let target = fields.keep(target.as_bytes());
        let authority = parts
            .uri
            .authority()
            .map(|authority| fields.keep(authority.as_str().as_bytes()));
        Self {
            method: parts.method.clone(),
            version: parts.version,
            connection: ConnectionOptions::default(),
            fields,
            target,
            authority,
        }
    }

    /// Path and query, byte for byte; `*` where the request is about the server.
    #[must_use]
    pub fn target(&self) -> &[u8] {
        self.fields.at(self.target)
    }

    /// The path alone.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        let target = self.target();
        let end = memchr::memchr(b'?', target).unwrap_or(target.len());
        target.get(..end).unwrap_or_default()
    }

    /// The authority in the target, or in `:authority`.
    #[must_use]
    pub fn authority(&self) -> Option<&[u8]> {
        self.authority.map(|authority| self.fields.at(authority))
    }

    /// Whether the connection is meant to be used again (RFC 9112 §9.3).
    #[must_use]
    pub fn keeps_alive(&self) -> bool {
        !self.connection.close && (self.version != Version::HTTP_10 || self.connection.keep_alive)
    }

    /// Whether the client reads trailers (RFC 9110 §10.1.4).
    #[must_use]
    pub fn takes_trailers(&self) -> bool {
        self.fields
            .all(Name::Te)
            .flat_map(super::grammar::elements)
            .any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
    }
}

/// Where the authority begins in an address with a scheme that is served here.
fn scheme(text: &[u8]) -> Option<usize> {
    [&b"http://"[..], b"https://"].iter().find_map(|scheme| {
        let begin = text.get(..scheme.len())?;
        begin.eq_ignore_ascii_case(scheme).then_some(scheme.len())
    })
}

/// The head of a response.
#[derive(Debug)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The version in which the response came.
    pub version: Version,
    /// What the response says of its connection.
    pub connection: ConnectionOptions,
    /// The fields, as received.
    pub fields: Fields,
    reason: Span,
}

impl ResponseHead {
    /// A head of HTTP/1 with a reason that was read from its text.
    pub(crate) fn new(
        status: StatusCode,
        version: Version,
        reason: Span,
        connection: ConnectionOptions,
        fields: Fields,
    ) -> Self {
        Self {
            status,
            version,
            connection,
            fields,
            reason,
        }
    }

    /// A response with the usual reason.
    #[must_use]
    pub fn of(status: StatusCode, mut fields: Fields) -> Self {
        let reason = status.canonical_reason().unwrap_or_default();
        let reason = fields.keep(reason.as_bytes());
        Self {
            status,
            version: Version::HTTP_11,
            connection: ConnectionOptions::default(),
            fields,
            reason,
        }
    }

    /// The reason phrase.
    #[must_use]
    pub fn reason(&self) -> &[u8] {
        self.fields.at(self.reason)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(method: Method, target: &str) -> Result<(String, Option<String>), Flaw> {
        let mut fields = Fields::default();
        let span = fields.keep(target.as_bytes());
        let options = ConnectionOptions::default();
        let head = RequestHead::new(method, Version::HTTP_11, span, options, fields)?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((text(head.target()), head.authority().map(text)))
    }

    #[test]
    fn a_target_has_one_of_three_forms() {
        for (target, path, authority) in [
            ("/a?b", "/a?b", None),
            ("//evil/x", "//evil/x", None),
            ("http://h:1/a//b?c", "/a//b?c", Some("h:1")),
            ("HTTPS://H", "/", Some("H")),
            ("http://h?a=b/c", "/?a=b/c", Some("h")),
            ("http:///x", "/x", Some("")),
        ] {
            let (read, named) = read(Method::GET, target).unwrap();
            assert_eq!((read.as_str(), named.as_deref()), (path, authority));
        }
        assert_eq!(read(Method::OPTIONS, "*").unwrap().0, "*");
        assert_eq!(read(Method::OPTIONS, "http://h").unwrap().0, "*");
        for target in ["*", "**", "h:1", "x/y", "?a", "ftp://h/x", "http:/x"] {
            assert!(read(Method::GET, target).is_err(), "{target}");
        }
    }
}
