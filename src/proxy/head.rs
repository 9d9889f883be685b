//! The heads of both messages: a request's as it goes on, and an answer's as it comes back.

use http::{
    Extensions, HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{AUTHORIZATION, CONTENT_LENGTH, FORWARDED, TE, TRANSFER_ENCODING},
    request::Parts,
    uri::PathAndQuery,
};

use super::{
    ProxyError, ProxySettings, RequestBody, fields, forwarded, tunnel,
    upstream::{Answer, Upstream, dialect},
};
use crate::{
    server::{ClientState, decimal},
    token::AccessToken,
};

/// A request's head as it goes to the upstream, all but the token.
pub(super) struct Head {
    pub(super) method: Method,
    target: PathAndQuery,
    headers: HeaderMap,
    /// The spelling of the client's field names. It goes with the first request that is sent: a
    /// copy would cost more than it is worth to the rare second one.
    extensions: Extensions,
    pub(super) is_websocket: bool,
}

impl Head {
    /// That of a request which was admitted.
    ///
    /// # Errors
    /// When it has been here before, or may go no further.
    pub(super) fn outbound(
        parts: Parts,
        client: &ClientState,
        is_websocket: bool,
        settings: &ProxySettings,
        upstream: &Upstream,
    ) -> Result<Self, ProxyError> {
        let Parts {
            method,
            uri,
            version,
            mut headers,
            extensions,
            ..
        } = parts;
        if fields::is_loop(&headers) {
            return Err(ProxyError::Loop);
        }
        if method == Method::OPTIONS {
            fields::count_down(&mut headers)?;
        }
        if version == Version::HTTP_2 {
            fields::join_cookies(&mut headers);
        }
        let takes_trailers = upstream.speaks_http2() && fields::takes_trailers(&headers);
        if let Some(required) = &settings.required_field {
            required.remove(&mut headers);
        }
        let forwarded = settings.forwarded.then(|| client.peer());
        let forwarded = forwarded.and_then(|peer| forwarded::element(peer, &uri, &headers));
        let via = settings.via.then_some(version);
        fields::outbound(&mut headers, upstream.host(), via);
        if let Some(forwarded) = forwarded {
            // What the client has sent stays in front of ours, as with Via.
            headers.append(FORWARDED, forwarded);
        }
        if takes_trailers {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        if is_websocket {
            tunnel::restore(&mut headers);
        }
        let target = uri
            .into_parts()
            .path_and_query
            .unwrap_or_else(|| PathAndQuery::from_static("/"));
        Ok(Self {
            method,
            target,
            headers,
            extensions,
            is_websocket,
        })
    }

    /// The request with that token: the only place where a credential goes onto a request.
    pub(super) fn request(
        &mut self,
        token: &AccessToken,
        body: RequestBody,
    ) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from(self.target.clone());
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = self.headers.clone();
        *request.extensions_mut() = std::mem::take(&mut self.extensions);
        dialect::frame(&mut request);
        let credential = token.bearer.as_header_value().clone();
        request.headers_mut().insert(AUTHORIZATION, credential);
        request
    }
}

/// Makes the upstream's answer one for the client.
pub(super) fn inbound(
    mut answer: Response<Answer>,
    offered_websocket: bool,
) -> Result<Response<Answer>, ProxyError> {
    let headers = answer.headers();
    // The codec has read the first of several lengths, or none of a list.
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let is_length = |length: &HeaderValue| decimal(length.as_bytes()).is_some();
    if !lengths.next().is_none_or(is_length) || lengths.next().is_some() {
        return Err(ProxyError::BadAnswer("length".to_owned()));
    }
    let switches = answer.status() == StatusCode::SWITCHING_PROTOCOLS;
    if switches && !(offered_websocket && tunnel::names_websocket(headers)) {
        return Err(ProxyError::BadAnswer("101 that was not offered".to_owned()));
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    if let Some(coding) = codings.next() {
        if headers.contains_key(CONTENT_LENGTH) {
            return Err(ProxyError::BadAnswer("two framings".to_owned()));
        }
        // The codec undoes `chunked` alone; the client would take the rest for the content.
        if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(ProxyError::BadAnswer("transfer coding".to_owned()));
        }
    }
    fields::inbound(answer.headers_mut());
    if switches {
        tunnel::restore(answer.headers_mut());
    }
    *answer.version_mut() = Version::HTTP_11;
    Ok(answer)
}
