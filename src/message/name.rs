//! The field names that mean something to a proxy, known from the moment at which a field is read.

/// What a field's name means here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// Nothing: the field is between the client and the service.
    Other,
    /// `Authorization`.
    Authorization,
    /// `Connection`.
    Connection,
    /// `Content-Length`.
    ContentLength,
    /// `Cookie`.
    Cookie,
    /// `csp-auth-token`, a credential of this API's clients.
    CspAuthToken,
    /// `Date`.
    Date,
    /// `Expect`.
    Expect,
    /// `Host`.
    Host,
    /// A field of a response by which a service sets the policy of browsers for its whole host, beyond
    /// the response and even the port.
    HostPolicy,
    /// `HTTP2-Settings` (RFC 7540 §3.2.1).
    Http2Settings,
    /// `Keep-Alive`.
    KeepAlive,
    /// `Max-Forwards`.
    MaxForwards,
    /// `Origin`.
    Origin,
    /// A field by which a client can ask some servers for another method or path than its request
    /// line says, with `-` or `_`.
    Override,
    /// `Proxy-Authenticate`.
    ProxyAuthenticate,
    /// `Proxy-Authorization`.
    ProxyAuthorization,
    /// `Proxy-Connection`.
    ProxyConnection,
    /// `Sec-Fetch-Site`.
    SecFetchSite,
    /// `Set-Cookie`.
    SetCookie,
    /// `TE`.
    Te,
    /// `Trailer`.
    Trailer,
    /// `Transfer-Encoding`.
    TransferEncoding,
    /// `Upgrade`.
    Upgrade,
    /// `Via`.
    Via,
    /// `X-AUTH-TOKEN`, a credential of this API's clients.
    XAuthToken,
    /// A name that is one of those that frame, route or authorise a message to a server which hands
    /// fields to programs as variables (`Transfer_Encoding`, `X-AUTH_TOKEN`, `HTTP_AUTHORIZATION`),
    /// and is not written as it is.
    Disguised,
}

impl Name {
    /// Recognises a name, in any case.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let known: &[(&[u8], Self)] = match name.len() {
            2 => &[(b"te", Self::Te)],
            3 => &[(b"via", Self::Via), (b"nel", Self::HostPolicy)],
            4 => &[(b"host", Self::Host), (b"date", Self::Date)],
            6 => &[
                (b"cookie", Self::Cookie),
                (b"origin", Self::Origin),
                (b"expect", Self::Expect),
            ],
            7 => &[
                (b"upgrade", Self::Upgrade),
                (b"trailer", Self::Trailer),
                (b"alt-svc", Self::HostPolicy),
            ],
            9 => &[
                (b"expect-ct", Self::HostPolicy),
                (b"report-to", Self::HostPolicy),
            ],
            10 => &[
                (b"connection", Self::Connection),
                (b"set-cookie", Self::SetCookie),
                (b"keep-alive", Self::KeepAlive),
            ],
            12 => &[
                (b"x-auth-token", Self::XAuthToken),
                (b"max-forwards", Self::MaxForwards),
            ],
            13 => &[
                (b"authorization", Self::Authorization),
                (b"x-http-method", Self::Override),
                (b"x-rewrite-url", Self::Override),
            ],
            14 => &[
                (b"content-length", Self::ContentLength),
                (b"sec-fetch-site", Self::SecFetchSite),
                (b"csp-auth-token", Self::CspAuthToken),
                (b"http2-settings", Self::Http2Settings),
                (b"x-original-url", Self::Override),
                (b"x-original-uri", Self::Override),
                (b"x-override-url", Self::Override),
                (b"x-override-uri", Self::Override),
            ],
            15 => &[
                (b"x-forwarded-uri", Self::Override),
                (b"x-original-path", Self::Override),
                (b"clear-site-data", Self::HostPolicy),
                (b"public-key-pins", Self::HostPolicy),
            ],
            16 => &[
                (b"proxy-connection", Self::ProxyConnection),
                (b"x-forwarded-path", Self::Override),
            ],
            17 => &[
                (b"transfer-encoding", Self::TransferEncoding),
                (b"x-method-override", Self::Override),
                (b"x-original-method", Self::Override),
            ],
            18 => &[
                (b"proxy-authenticate", Self::ProxyAuthenticate),
                (b"x-forwarded-method", Self::Override),
            ],
            19 => &[(b"proxy-authorization", Self::ProxyAuthorization)],
            21 => &[(b"x-envoy-original-path", Self::Override)],
            22 => &[(b"x-http-method-override", Self::Override)],
            25 => &[(b"strict-transport-security", Self::HostPolicy)],
            27 => &[(b"public-key-pins-report-only", Self::HostPolicy)],
            _ => &[],
        };
        for (known, kind) in known {
            match likeness(name, known) {
                Likeness::None => {}
                Likeness::Disguised => match kind {
                    Self::Override => return Self::Override,
                    // A browser, which it is for, knows the name or does not.
                    Self::HostPolicy => return Self::Other,
                    _ => return Self::Disguised,
                },
                Likeness::Same => return *kind,
            }
        }
        match name.first() {
            Some(b'h' | b'H') => Self::of_variable(name),
            _ => Self::Other,
        }
    }

    /// Recognises the name of a variable that a server would make of a field that matters.
    fn of_variable(name: &[u8]) -> Self {
        let is_variable = |start: &[u8]| {
            start.eq_ignore_ascii_case(b"http_") || start.eq_ignore_ascii_case(b"http-")
        };
        match name.split_at_checked(5) {
            Some((start, field))
                if is_variable(start)
                    && !matches!(Self::of(field), Self::Other | Self::HostPolicy) =>
            {
                Self::Disguised
            }
            _ => Self::Other,
        }
    }
}

/// How much a name is like a known one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Likeness {
    None,
    /// The same, but for `_` in place of `-`.
    Disguised,
    /// The same, in any case.
    Same,
}

/// Compares a name with a known one of the same length, which is in small letters.
fn likeness(name: &[u8], known: &[u8]) -> Likeness {
    /// What capital letters differ by from small ones, and no other two bytes of a token of which one
    /// is a letter, a digit or `-`.
    const CASE: u8 = 0x20;
    let mut likeness = Likeness::Same;
    for (byte, known) in name.iter().zip(known) {
        if (byte ^ known) & !CASE == 0 {
            continue;
        }
        if *byte != b'_' || *known != b'-' {
            return Likeness::None;
        }
        likeness = Likeness::Disguised;
    }
    likeness
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_in_any_case() {
        assert_eq!(Name::of(b"Content-Length"), Name::ContentLength);
        assert_eq!(Name::of(b"cOnnection"), Name::Connection);
        assert_eq!(Name::of(b"X-Custom"), Name::Other);
        assert_eq!(Name::of(b"X_Custom"), Name::Other);
        assert_eq!(Name::of(b"Alt-Svc"), Name::HostPolicy);
        assert_eq!(Name::of(b"alt_svc"), Name::Other);
        assert_eq!(Name::of(b"HTTP_NEL"), Name::Other);
        assert_eq!(Name::of(b""), Name::Other);
    }

    #[test]
    fn what_frames_or_authorises_is_known_in_disguise() {
        for name in [
            "Transfer_Encoding",
            "Content_Length",
            "X_AUTH_TOKEN",
            "X-AUTH_TOKEN",
            "CSP_AUTH_TOKEN",
            "csp-auth_token",
            "Proxy_Authorization",
            "HTTP_AUTHORIZATION",
            "HTTP_X_AUTH_TOKEN",
            "hTTp_authorization",
            "Sec_Fetch-Site",
        ] {
            assert_eq!(Name::of(name.as_bytes()), Name::Disguised, "{name}");
        }
        for name in ["X-HTTP_Method-Override", "X-Original_URL", "x_rewrite_url"] {
            assert_eq!(Name::of(name.as_bytes()), Name::Override, "{name}");
        }
    }
}
