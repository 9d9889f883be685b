//! Asks the admin listener of a running sidecar, as `wait`, `status` and `doctor` do.

use std::{error::Error, io, time::Duration};

use anyhow::{anyhow, bail};
use http::StatusCode;
use reqwest::{Client, redirect};

use crate::{server::Address, text};

/// A response is made from memory: whoever takes longer does not respond at all.
const TIMEOUT: Duration = Duration::from_secs(5);

/// More than any response of the admin listener has.
const MAX_BODY_BYTES: usize = 1 << 20;

/// The most characters of what is shown of a response.
const LONGEST: usize = 400;

#[derive(serde::Deserialize)]
struct Problem {
    title: String,
    detail: String,
}

/// The response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) body: String,
}

impl Reply {
    /// The first line of the body, for a terminal.
    pub(crate) fn line(&self) -> String {
        let line = self.body.lines().next().unwrap_or_default();
        text::for_terminal(line, LONGEST)
    }

    /// What is wrong and what to do, for a terminal, where the body is a problem document (RFC 9457).
    pub(crate) fn problem(&self) -> Option<String> {
        let problem: Problem = serde_json::from_str(&self.body).ok()?;
        let problem = format!("{}. {}", problem.title, problem.detail);
        Some(text::for_terminal(&problem, LONGEST))
    }
}

/// Asks for a path.
///
/// # Errors
/// When nothing responds there, or something that is no admin listener.
pub(crate) async fn get(admin: &Address, path: &str) -> anyhow::Result<Reply> {
    let client = Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .timeout(TIMEOUT);
    let (client, authority) = match admin {
        Address::Passed(_) => bail!("only the running sidecar knows this address"),
        Address::Unix(socket) => (client.unix_socket(socket.as_path()), "localhost".to_owned()),
        Address::Tcp(address) | Address::Tls(address) => (client, address.to_string()),
        Address::Localhost { port, .. } => {
            let sockets: Vec<_> = admin.sockets().collect();
            let client = client.resolve_to_addrs("localhost", &sockets);
            (client, format!("localhost:{port}"))
        }
    };
    let asked = client.build()?.get(format!("http://{authority}{path}"));
    read(asked).await.map_err(|error| in_words(&error))
}

async fn read(asked: reqwest::RequestBuilder) -> reqwest::Result<Reply> {
    let mut response = asked.send().await?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await? {
        let room = MAX_BODY_BYTES.saturating_sub(body.len());
        body.extend_from_slice(part.get(..room).unwrap_or(&part));
        if room <= part.len() {
            break;
        }
    }
    Ok(Reply {
        status,
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

/// The plain words for it; the number of an error and the address again help nobody.
fn in_words(error: &reqwest::Error) -> anyhow::Error {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    let mut last = String::new();
    while let Some(inner) = cause {
        let kind = inner.downcast_ref::<io::Error>().map(io::Error::kind);
        if let Some(io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) = kind {
            return anyhow!("nothing listens there");
        }
        last = inner.to_string();
        cause = inner.source();
    }
    if error.is_timeout() {
        anyhow!("it does not respond")
    } else if error.is_connect() {
        anyhow!("cannot connect: {last}")
    } else {
        anyhow!("{last}")
    }
}
