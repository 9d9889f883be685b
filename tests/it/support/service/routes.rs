//! The paths of the service; the table is in the documentation of [`super::FakeService`].

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header, request::Parts};
use hyper::body::{Frame, Incoming};
use serde_json::json;
use url::form_urlencoded;

use super::{
    super::{
        Body,
        server::{Closed, Entered},
    },
    Service, UNAUTHORIZED,
    check::check,
    lock,
};

impl Service {
    pub async fn answer(
        self,
        connection: usize,
        port: u16,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Closed> {
        let entered = self.in_flight.enter();
        let (head, body) = request.into_parts();
        let received = self.record(connection, &head);
        if let Err(violation) = check(&head, port) {
            let failure = format!("{violation:#}, at FakeService: {head:?}");
            self.failures.record(failure);
            return Ok(response(400, "text/plain", "see the failure of the test"));
        }
        match head.uri.path() {
            path if path == "/always401" || !self.honours(&head.headers) => {
                if !lock(&self.state).refuses_early {
                    self.read(received, body, None).await?;
                }
                lock(&self.state).unauthorized += 1;
                let mut response = response(401, "application/json", UNAUTHORIZED);
                response
                    .headers_mut()
                    .insert(header::WWW_AUTHENTICATE, "Bearer".parse().unwrap());
                Ok(response)
            }
            "/early" => Ok(response(200, "application/json", r#"{"early":true}"#)),
            "/duplex" => {
                let (frames, echoed) = Body::channel();
                tokio::spawn(async move {
                    // A client that goes away shows in `complete`.
                    drop(self.read(received, body, Some(frames)).await);
                    drop(entered);
                });
                Ok(response(200, "application/octet-stream", echoed))
            }
            _ => {
                let whole = self.read(received, body, None).await?;
                Ok(route(&head, whole, entered).await)
            }
        }
    }
}

/// The paths that need nothing but a whole request.
async fn route(head: &Parts, whole: Bytes, entered: Entered) -> Response<Body> {
    let path = head.uri.path();
    let query = head.uri.query().unwrap_or_default();
    let mut segments = path.trim_start_matches('/').splitn(2, '/');
    let first = segments.next().unwrap_or_default();
    match (first, segments.next()) {
        ("echo", None) => {
            let content_type = head.headers.get(header::CONTENT_TYPE);
            let content_type = content_type.map(|value| value.to_str().unwrap());
            response(
                200,
                content_type.unwrap_or("application/octet-stream"),
                whole,
            )
        }
        ("status", Some(code)) => {
            let code = code.parse().unwrap();
            let body = match code {
                204 | 304 => Body::empty(),
                _ => json!({ "code": code }).to_string().into(),
            };
            response(code, "application/json", body)
        }
        ("slow", None) => {
            tokio::time::sleep(milliseconds(query, 1000)).await;
            response(200, "application/json", r#"{"slow":true}"#)
        }
        ("stream", None) => {
            let chunks = parameter(query, "chunks").unwrap_or(u64::MAX);
            let body = stream(entered, chunks, milliseconds(query, 50));
            response(200, "text/plain", body)
        }
        ("bytes", Some(length)) => {
            let body = pattern(length.parse().unwrap());
            response(200, "application/octet-stream", body)
        }
        ("headers", None) => {
            let pairs: Vec<_> = head
                .headers
                .iter()
                .map(|(name, value)| json!([name.as_str(), value.to_str().unwrap()]))
                .collect();
            let mut response = response(200, "application/json", json!(pairs).to_string());
            for cookie in ["a=1", "b=2"] {
                response
                    .headers_mut()
                    .append(header::SET_COOKIE, cookie.parse().unwrap());
            }
            response
        }
        ("trailers", None) => response(200, "application/grpc", trailers()),
        ("abort", None) => response(200, "text/plain", abort()),
        _ => response(200, "application/json", json!({ "path": path }).to_string()),
    }
}

fn stream(entered: Entered, chunks: u64, step: Duration) -> Body {
    let (frames, body) = Body::channel();
    tokio::spawn(async move {
        for index in 0..chunks {
            let chunk = Bytes::from(format!("chunk {index}\n"));
            if frames.send(Ok(Frame::data(chunk))).await.is_err() {
                break;
            }
            tokio::time::sleep(step).await;
        }
        drop(entered);
    });
    body
}

fn trailers() -> Body {
    let (frames, body) = Body::channel();
    tokio::spawn(async move {
        drop(frames.send(Ok(Frame::data("content".into()))).await);
        let mut fields = http::HeaderMap::new();
        for (name, value) in [
            ("grpc-status", "0"),
            ("set-cookie", "a=b"),
            ("content-length", "9"),
        ] {
            fields.insert(name, value.parse().unwrap());
        }
        drop(frames.send(Ok(Frame::trailers(fields))).await);
    });
    body
}

fn abort() -> Body {
    let (frames, body) = Body::channel();
    tokio::spawn(async move {
        let begin = Frame::data(Bytes::from_static(b"the first half"));
        drop(frames.send(Ok(begin)).await);
        // So that the first half is on the wire before the connection breaks.
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(frames.send(Err(std::io::Error::other("aborted"))).await);
    });
    body
}

fn parameter(query: &str, name: &str) -> Option<u64> {
    form_urlencoded::parse(query.as_bytes())
        .find(|(found, _)| found == name)
        .map(|(_, value)| value.parse().unwrap())
}

fn milliseconds(query: &str, default: u64) -> Duration {
    Duration::from_millis(parameter(query, "ms").unwrap_or(default))
}

/// Bytes in which a hole, a repetition or a swap shows.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..=250_u8).cycle().take(length).collect()
}

fn response(status: u16, content_type: &str, body: impl Into<Body>) -> Response<Body> {
    Response::builder()
        .status(StatusCode::from_u16(status).unwrap())
        .header(header::CONTENT_TYPE, content_type)
        .header("x-fake-service", "yes")
        .body(body.into())
        .unwrap()
}
