//! Clients with HTTP/2 by prior knowledge: a well-behaved one, and bytes for the others.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http2::{Builder, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use tokio::{net::TcpStream, task::JoinHandle};
use tokio_rustls::TlsConnector;

use super::{
    Body, Reply,
    client::{CONNECTIONS, request_for},
    within_deadline,
};

/// One connection, for many requests at a time.
#[derive(Clone, Debug)]
pub struct Http2 {
    sender: SendRequest<Body>,
    authority: String,
}

impl Http2 {
    pub async fn to(address: SocketAddr) -> Self {
        Self::with_window(address, 1 << 20).await
    }

    /// A client that takes so much of an answer before it is read.
    pub async fn with_window(address: SocketAddr, window: u32) -> Self {
        Self::open(address, window).await.0
    }

    /// A client that agrees on HTTP/2 in the handshake of TLS.
    pub async fn secured(address: SocketAddr, roots: RootCertStore) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let tls = TlsConnector::from(Arc::new(config));
        let connecting = CONNECTIONS.spawn(async move {
            let stream = TcpStream::connect(address).await.unwrap();
            let name = "localhost".try_into().unwrap();
            let stream = tls.connect(name, stream).await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
            let builder = Builder::new(TokioExecutor::new());
            let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
            tokio::spawn(connection);
            sender
        });
        let sender = within_deadline(connecting).await.unwrap().unwrap();
        let authority = address.to_string();
        Self { sender, authority }
    }

    /// The connection, and what ends with it.
    pub async fn open(address: SocketAddr, window: u32) -> (Self, JoinHandle<hyper::Result<()>>) {
        let connecting = CONNECTIONS.spawn(async move {
            let stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let (sender, connection) = Builder::new(TokioExecutor::new())
                .initial_stream_window_size(window)
                .handshake(TokioIo::new(stream))
                .await
                .unwrap();
            (sender, tokio::spawn(connection))
        });
        let (sender, connection) = within_deadline(connecting).await.unwrap().unwrap();
        let authority = address.to_string();
        (Self { sender, authority }, connection)
    }

    /// Sends a request, whose body may still be coming, and waits for the head of the answer.
    pub async fn send(&self, mut request: Request<Body>) -> anyhow::Result<Response<Incoming>> {
        if request.uri().authority().is_none() {
            let target = request.uri().path_and_query().unwrap();
            let uri = format!("http://{}{target}", self.authority);
            *request.uri_mut() = uri.parse()?;
        }
        let sent = self.sender.clone().send_request(request);
        Ok(within_deadline(sent).await??)
    }

    /// One exchange. `target` is a path, or a whole URI.
    pub async fn try_request(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> anyhow::Result<Reply> {
        let request = request_for(method, target, headers, body)?;
        Reply::read(self.send(request).await?).await
    }

    /// [`Http2::try_request`], which must work.
    pub async fn request(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Reply {
        self.try_request(method, target, headers, body)
            .await
            .unwrap_or_else(|error| panic!("{method} {target}: {error:#}"))
    }

    pub async fn get(&self, target: &str) -> Reply {
        self.request("GET", target, &[], Bytes::new()).await
    }
}

/// What every connection begins with: the preface and empty settings.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";

/// A frame (RFC 9113 §4.1).
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A field that no table knows (RFC 7541 §6.2.2), of less than 127 bytes each.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    let mut field = vec![0, u8::try_from(name.len()).unwrap()];
    field.extend(name.as_bytes());
    field.push(u8::try_from(value.len()).unwrap());
    field.extend(value.as_bytes());
    field
}

/// The fields of `GET /x`.
pub fn get_x() -> Vec<u8> {
    [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/x"),
        (":authority", "localhost"),
    ]
    .iter()
    .flat_map(|(name, value)| field(name, value))
    .collect()
}
