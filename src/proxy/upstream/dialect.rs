//! A request in the form of either version of HTTP (RFC 9112 §3, RFC 9113 §8.2 and §8.3).

use http::{
    HeaderValue, Request, Uri, Version,
    header::{HOST, TE, TRANSFER_ENCODING},
    uri::{Parts, PathAndQuery},
};
use http_body::Body;

use super::connect::Connector;

/// A version of HTTP that is spoken with the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Http1,
    Http2,
}

impl Dialect {
    /// Brings a request of either form into this one.
    pub(super) fn apply<B: Body>(self, request: &mut Request<B>, connector: &Connector) {
        match self {
            Self::Http1 => to_http1(request, connector),
            Self::Http2 => to_http2(request, connector),
        }
    }
}

fn to_http1<B: Body>(request: &mut Request<B>, connector: &Connector) {
    *request.version_mut() = Version::HTTP_11;
    *request.uri_mut() = Uri::from(target(request.uri()));
    let headers = request.headers_mut();
    headers.insert(HOST, connector.host().clone());
    // It would be a connection field here.
    headers.remove(TE);
    frame(request);
}

/// Says how a body without a length is framed, or the codec would drop that of a GET.
pub(in crate::proxy) fn frame<B: Body>(request: &mut Request<B>) {
    let body = request.body();
    if !body.is_end_stream() && body.size_hint().exact().is_none() {
        let chunked = HeaderValue::from_static("chunked");
        request.headers_mut().insert(TRANSFER_ENCODING, chunked);
    }
}

fn to_http2<B>(request: &mut Request<B>, connector: &Connector) {
    let (scheme, authority) = connector.origin();
    let mut parts = Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority);
    parts.path_and_query = Some(target(request.uri()));
    // All three are there and valid, and so is the whole.
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
    *request.version_mut() = Version::HTTP_2;
    let headers = request.headers_mut();
    // `:authority` says it, and each stream has a length of its own.
    headers.remove(HOST);
    headers.remove(TRANSFER_ENCODING);
}

fn target(uri: &Uri) -> PathAndQuery {
    uri.path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"))
}
