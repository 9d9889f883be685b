//! `auth-sidecar wait`: waits until a running sidecar is ready, for start-up order and for probes
//! in containers without a shell.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, StatusCode, header::HOST};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

const PAUSE: Duration = Duration::from_millis(100);

/// Asks the admin listener until it says that a token is usable.
///
/// # Errors
/// When that does not happen within `patience`: says what the last answer was.
pub async fn until_ready(admin: SocketAddr, patience: Duration) -> anyhow::Result<()> {
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
pub(crate) async fn status(admin: SocketAddr) -> anyhow::Result<StatusCode> {
    let stream = TcpStream::connect(admin).await.context("cannot connect")?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/readyz")
        .header(HOST, admin.to_string())
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
