//! What HTTP means by itself, where a proxy is tempted to know better.

/// Who ends its sending half is still there to read.
mod half_close;
/// Requests that expect something, and what comes before an answer.
mod interim;
/// Answers that stop in the middle.
mod stalls;
/// Request targets, byte for byte.
mod targets;
/// Answers that come before the body is sent.
mod uploads;

use std::future::Future;

use crate::support::{Connection, RawServer, Settings, Sidecar};

const TOKEN: &str = "a-static-token";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const NO: &str =
    "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";

/// An upstream that does this with each connection.
fn upstream<F>(serve: impl Fn(Connection) -> F + Send + 'static) -> RawServer
where
    F: Future<Output = ()> + Send + 'static,
{
    RawServer::start(move |_, stream| serve(Connection::from(stream)))
}

fn before(server: &RawServer) -> Settings {
    Settings::to(&format!("http://{}", server.address()))
        .set("auth.type", "static-token")
        .set("auth.token", TOKEN)
}

fn in_front_of(server: &RawServer) -> Sidecar {
    Sidecar::start(&before(server))
}
