//! A socket that clients connect to.

use std::io;

use tokio::net::{TcpListener, TcpStream};

use super::Stream;

/// A socket that is listened on.
#[derive(Debug)]
pub enum Listener {
    /// Plain TCP.
    Tcp(TcpListener),
}

impl Listener {
    /// The next client.
    pub(super) async fn accept(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                set_nodelay(&stream);
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

/// Small answers must not wait for the client's acknowledgement of the last one.
fn set_nodelay(stream: &TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
}
