//! Asks the admin listener of a running sidecar, as `wait`, `status` and `doctor` do.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::{Request, StatusCode, header::HOST};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use crate::{server::Address, text};

/// A question is answered from memory: who takes longer does not answer at all.
const PATIENCE: Duration = Duration::from_secs(5);

/// More than any answer of the admin listener has.
const MAX_BODY_BYTES: usize = 1 << 20;

/// What was answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
}

impl Reply {
    /// The first line of the body, for a terminal.
    pub(crate) fn line(&self) -> String {
        const LONGEST: usize = 400;
        let line = self.body.lines().next().unwrap_or_default();
        text::for_terminal(line, LONGEST)
    }
}

/// Asks for a path.
///
/// # Errors
/// When nothing answers there, or something that is no admin listener.
pub(crate) async fn get(admin: &Address, path: &str) -> anyhow::Result<Reply> {
    let asked = timeout(PATIENCE, async {
        match admin {
            Address::Passed(_) => bail!("only the running sidecar knows this address"),
            Address::Unix(socket) => {
                let stream = UnixStream::connect(socket).await.map_err(no_connection)?;
                ask(stream, "localhost", path).await
            }
            Address::Tcp(address) | Address::Tls(address) => {
                let stream = TcpStream::connect(address).await.map_err(no_connection)?;
                ask(stream, &address.to_string(), path).await
            }
            Address::Localhost { .. } => {
                let sockets: Vec<_> = admin.sockets().collect();
                let stream = TcpStream::connect(&*sockets).await.map_err(no_connection)?;
                ask(stream, "localhost", path).await
            }
        }
    });
    asked.await.context("it does not answer")?
}

/// The plain word for it; the number of the error helps nobody.
fn no_connection(error: std::io::Error) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound => {
            anyhow!("nothing listens there")
        }
        _ => anyhow!(error).context("cannot connect"),
    }
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    host: &str,
    path: &str,
) -> anyhow::Result<Reply> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header(HOST, host)
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_BODY_BYTES);
        let body = body.collect().await.map_err(|error| anyhow!(error))?;
        let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        anyhow::Ok(Reply { status, body })
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        reply = &mut exchange => reply,
        ended = connection => {
            ended?;
            // It may have answered before it closed.
            timeout(Duration::ZERO, exchange).await.context("it closed the connection")?
        }
    }
}
