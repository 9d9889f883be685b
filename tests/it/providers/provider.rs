//! A provider's token endpoint: under the provider's own name, it answers as it is told.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Response};
use http_body_util::BodyExt as _;

use super::{documented::Documented, page::Files};
use crate::support::{
    Body, RawServer,
    pki::Authority,
    server::{Tls, serve_http},
};

/// One token request, as received.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The fake.
pub struct FakeProvider {
    server: RawServer,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl FakeProvider {
    /// With a certificate for the host of the request. Where that is how clients are known, only who shows
    /// the client's certificate gets in.
    pub fn start(
        authority: &Authority,
        documented: &Documented,
        files: &Files,
        (status, answer): (u16, &'static str),
    ) -> Self {
        let leaf = authority.leaf_for(&[documented.host], 2099);
        let clients = documented.shows_certificate().then_some(&files.clients);
        let tls = Tls::with(authority, &leaf, clients);
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let kept = Arc::clone(&calls);
        let server = RawServer::start(move |_, stream| {
            let (kept, tls) = (Arc::clone(&kept), tls.clone());
            serve_http(stream, Some(tls), move |request| {
                let kept = Arc::clone(&kept);
                async move {
                    let (head, body) = request.into_parts();
                    let body = body.collect().await.unwrap().to_bytes();
                    kept.lock().unwrap().push(Call {
                        method: head.method,
                        path: head.uri.path_and_query().unwrap().to_string(),
                        headers: head.headers,
                        body,
                    });
                    let response = Response::builder()
                        .status(status)
                        .header("content-type", "application/json");
                    let body = Body::Whole(Some(Bytes::from_static(answer.as_bytes())));
                    Ok(response.body(body).unwrap())
                }
            })
        });
        Self { server, calls }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }
}
