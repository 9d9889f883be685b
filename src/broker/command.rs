//! `auth-sidecar token`: fetches a token from the broker of a running sidecar, for a script.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, bail};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use clap::Args;
use http::{
    Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST},
};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use crate::{
    config::{Flags, Sources, broker_address, plain_address},
    outbound,
    secret::{SecretSource, wiped_field},
    server::Address,
    text::for_terminal,
    token::Bearer,
};

/// What `--help` says.
pub const HELP: &str = "\
Asks the broker of a running sidecar for a token, and prints it on standard output, for scripts:

  curl -H \"Authorization: Bearer $(auth-sidecar token)\" https://example.wavefront.com/api/v2/source

The sidecar needs [broker] in its configuration. The broker is found by --broker, by broker.address
of the file that --config names, or by AUTH_SIDECAR_BROKER__ADDRESS; of several addresses the first
unix socket is asked. Where the broker has a list of clients, --client-token-file names a file with
the local token of this one (`auth-sidecar local-token NAME`).

The token is not printed to a terminal, where it would stay in view and in the scroll-back, unless
--terminal is given. It lasts for as long as the broker gives it, and nothing renews it: ask again
for each use.";

/// The flags of `token`.
#[derive(Clone, Debug, Args)]
pub struct TokenFlags {
    /// The configuration file of the sidecar.
    #[arg(
        long,
        value_name = "FILE",
        help = "The configuration file of the sidecar [environment: AUTH_SIDECAR_CONFIG]"
    )]
    config: Option<PathBuf>,
    /// The broker to ask: IP:port, or unix: and a path
    #[arg(long, value_name = "ADDRESS", value_parser = plain_address)]
    broker: Option<Address>,
    /// A file with the local token of this client
    #[arg(long, value_name = "FILE")]
    client_token_file: Option<PathBuf>,
    /// How long to wait at most
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Prints it to a terminal, too
    #[arg(long)]
    terminal: bool,
}

impl TokenFlags {
    /// Fetches a token, and prints it alone on a line.
    ///
    /// # Errors
    /// When `output` is a terminal and that was not asked for, no broker is named, or it gives none.
    pub async fn run(
        self,
        environment: Vec<(std::ffi::OsString, std::ffi::OsString)>,
        output: &mut (impl Write + IsTerminal),
    ) -> anyhow::Result<()> {
        if output.is_terminal() && !self.terminal {
            bail!(
                "a token is not printed to a terminal, where it would stay in view; use it in \
                 \"$(auth-sidecar token)\", or add --terminal"
            );
        }
        let flags = Flags {
            config: self.config,
            ..Flags::default()
        };
        let address = match self.broker {
            Some(address) => address,
            None => broker_address(&Sources::new(flags, environment))?,
        };
        let secret = self.client_token_file.map(SecretSource::File);
        let secret = secret.map(|file| file.read()).transpose()?;
        let what = || format!("the broker at {address}");
        let token = timeout(self.timeout, fetch(&address, secret.as_ref()))
            .await
            .map_err(|_| anyhow::anyhow!("it does not respond in time"))
            .and_then(|token| token)
            .with_context(what)?;
        show(&token, output)
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "printing it is what the command is for"
)]
fn show(token: &SecretString, output: &mut impl Write) -> anyhow::Result<()> {
    writeln!(output, "{}", token.expose_secret())?;
    Ok(output.flush()?)
}

async fn fetch(address: &Address, secret: Option<&SecretString>) -> anyhow::Result<SecretString> {
    let what = "cannot connect";
    match address {
        Address::Unix(path) => {
            let stream = UnixStream::connect(path).await.context(what)?;
            ask(stream, "localhost".to_owned(), secret).await
        }
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await.context(what)?;
            ask(stream, address.to_string(), secret).await
        }
        Address::Localhost { port, tls: false } => {
            let stream = TcpStream::connect(("localhost", *port))
                .await
                .context(what)?;
            ask(stream, format!("localhost:{port}"), secret).await
        }
        Address::Localhost { .. } | Address::Tls(_) | Address::Passed(_) => {
            bail!("must be IP:port, or unix: and a path")
        }
    }
}

/// The most bytes of a response: a token of the greatest length, escaped.
const MAX_BYTES: usize = 256 * 1024;

/// The most characters of a reason.
const LONGEST: usize = 300;

/// A token, or why there is none: in the words of RFC 6749, or of a problem document (RFC 9457).
#[derive(serde::Deserialize)]
struct Granted {
    access_token: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
    title: Option<String>,
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    host: String,
    secret: Option<&SecretString>,
) -> anyhow::Result<SecretString> {
    let mut request = Request::post("/oauth2/token")
        .header(HOST, host)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded");
    if let Some(secret) = secret {
        request = request.header(AUTHORIZATION, basic(secret)?);
    }
    let body = Full::new(Bytes::from_static(b"grant_type=client_credentials"));
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let response = sender.send_request(request.body(body)?).await?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BYTES).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("its response breaks off: {error}"))?;
        anyhow::Ok((head.status, body.to_bytes()))
    };
    let (status, body) = outbound::over(connection, exchange).await?;
    let granted: Option<Granted> = serde_json::from_slice(&body).ok();
    let Some(granted) = granted else {
        bail!("it responds {status}, and not as a broker does");
    };
    match granted.access_token {
        Some(token) if status == StatusCode::OK => {
            let token = token.into();
            if Bearer::new(&token).is_none() {
                bail!("what it gives is no token");
            }
            Ok(token)
        }
        _ => {
            let Granted {
                error_description,
                error,
                title,
                ..
            } = granted;
            match error_description.or(error).or(title) {
                Some(reason) => bail!("it responds {status}: {}", for_terminal(&reason, LONGEST)),
                None => bail!("it responds {status}"),
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is where the local token becomes a field that is sent; it is marked sensitive"
)]
fn basic(secret: &SecretString) -> anyhow::Result<http::HeaderValue> {
    let pair = Zeroizing::new(format!("auth-sidecar:{}", secret.expose_secret()));
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
    let field = Zeroizing::new(["Basic ", &encoded].concat());
    Ok(wiped_field(field)?)
}
