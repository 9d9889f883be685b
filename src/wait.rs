//! `auth-sidecar wait`: waits until a running sidecar is ready, for start-up order and for probes
//! in containers without a shell.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, StatusCode, header::HOST};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::{sleep, timeout},
};

use crate::server::Address;

const PAUSE: Duration = Duration::from_millis(100);

/// Asks the admin listener until it says that a token is usable.
///
/// # Errors
/// When that does not happen within `patience`: says what the last answer was.
pub async fn until_ready(admin: &Address, patience: Duration) -> anyhow::Result<()> {
    let mut last = None;
    let ready = timeout(patience, async {
        loop {
            match status(admin).await {
                Ok(StatusCode::OK) => return,
                Ok(status) => last = Some(format!("it answered {}", status.as_u16())),
                Err(error) => last = Some(format!("{error:#}")),
            }
            sleep(PAUSE).await;
        }
    })
    .await;
    if ready.is_err() {
        let seconds = patience.as_secs_f64();
        let last = last.unwrap_or_else(|| "it did not answer".to_owned());
        bail!("the sidecar at {admin} is not ready after {seconds} s: {last}");
    }
    Ok(())
}

/// What its `/readyz` answers.
pub(crate) async fn status(admin: &Address) -> anyhow::Result<StatusCode> {
    let what = "cannot connect";
    match admin {
        Address::Passed(_) => bail!("only the running sidecar knows this address"),
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await.context(what)?;
            ask(stream, "localhost".to_owned()).await
        }
        Address::Tcp(address) | Address::Tls(address) => {
            let stream = TcpStream::connect(address).await.context(what)?;
            ask(stream, address.to_string()).await
        }
        Address::Localhost { .. } => {
            let sockets: Vec<_> = admin.sockets().collect();
            let stream = TcpStream::connect(&*sockets).await.context(what)?;
            ask(stream, "localhost".to_owned()).await
        }
    }
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    host: String,
) -> anyhow::Result<StatusCode> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/readyz")
        .header(HOST, host)
        .body(Empty::<Bytes>::new())?;
    let exchange = async {
        tokio::select! {
            answer = sender.send_request(request) => Ok(answer?.status()),
            ended = connection => {
                ended?;
                bail!("it closed the connection")
            }
        }
    };
    timeout(Duration::from_secs(5), exchange)
        .await
        .context("it does not answer")?
}
