//! One end of a connection, whose messages are read by the oracle. Bytes become text one to one
//! (Latin-1), so that they can be compared and shown.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

pub use http_oracle::latin1;
use http_oracle::{Read, Request, Response, Sender};
use rustls::{ClientConfig, pki_types::ServerName};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The longest silence before a read is given up.
pub const PATIENCE: Duration = Duration::from_secs(4);

/// Where to connect to, and how.
#[derive(Clone, Debug)]
pub enum Entrance {
    Tcp(SocketAddr),
    Unix(PathBuf),
    /// At `localhost`.
    Tls(SocketAddr, Arc<ClientConfig>),
}

/// A connection by one of them.
#[derive(Debug)]
enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// One end of a connection.
#[derive(Debug)]
pub struct Wire {
    stream: Socket,
    unread: Vec<u8>,
    has_ended: bool,
}

/// Why a message could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The connection ended before its first byte.
    Ended,
    /// The connection ended in the middle of it.
    Cut,
    /// Nothing came for a long time.
    Silent,
    /// A byte that no proxy may send.
    Bad(&'static str),
}

/// A start line and fields, as they were spelled.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub start: String,
    pub fields: Fields,
}

/// Names and values, as they were spelled.
pub type Fields = Vec<(String, String)>;

impl Head {
    fn new(start: String, fields: &http_oracle::Fields) -> Self {
        Self {
            start,
            fields: text_of(fields),
        }
    }

    /// The values of a field, in their order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
            .collect()
    }

    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }
}

/// The same as text.
pub fn text_of(fields: &http_oracle::Fields) -> Fields {
    let fields = fields.0.iter();
    fields
        .map(|(name, value)| (latin1(name), latin1(value)))
        .collect()
}

impl From<&Request> for Head {
    fn from(request: &Request) -> Self {
        let (method, target) = (latin1(&request.method), latin1(&request.target));
        Self::new(format!("{method} {target} HTTP/1.1"), &request.fields)
    }
}

impl From<&Response> for Head {
    fn from(response: &Response) -> Self {
        let minor = u8::from(!response.is_http_10);
        let start = format!("HTTP/1.{minor} {}", response.status);
        Self::new(start, &response.fields)
    }
}

impl Socket {
    async fn read(&mut self, bytes: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read_buf(bytes).await,
            Self::Unix(stream) => stream.read_buf(bytes).await,
            Self::Tls(stream) => stream.read_buf(bytes).await,
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.write_all(bytes).await,
            Self::Unix(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await
            }
        }
    }

    async fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.shutdown().await,
            Self::Unix(stream) => stream.shutdown().await,
            Self::Tls(stream) => stream.shutdown().await,
        }
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Unix(_) => None,
            Self::Tls(stream) => Some(stream.get_ref().0),
        }
    }
}

impl Wire {
    fn of(stream: Socket) -> Self {
        if let Some(stream) = stream.tcp() {
            stream.set_nodelay(true).unwrap();
        }
        Self {
            stream,
            unread: Vec::new(),
            has_ended: false,
        }
    }

    pub fn new(stream: TcpStream) -> Self {
        Self::of(Socket::Tcp(stream))
    }

    pub async fn to(entrance: &Entrance) -> Self {
        Self::of(match entrance {
            Entrance::Tcp(address) => Socket::Tcp(TcpStream::connect(address).await.unwrap()),
            Entrance::Unix(path) => Socket::Unix(UnixStream::connect(path).await.unwrap()),
            Entrance::Tls(address, config) => {
                let stream = TcpStream::connect(address).await.unwrap();
                let name = ServerName::try_from("localhost").unwrap();
                let connector = TlsConnector::from(Arc::clone(config));
                Socket::Tls(Box::new(connector.connect(name, stream).await.unwrap()))
            }
        })
    }

    /// The other side may have closed already; then what it says is read, and this is not an error.
    pub async fn write(&mut self, bytes: &[u8]) {
        drop(timeout(PATIENCE, self.stream.write(bytes)).await);
    }

    /// Sends nothing more.
    pub async fn finish(&mut self) {
        drop(self.stream.finish().await);
    }

    /// Ends with a reset, where the socket knows such.
    pub fn reset(self) {
        if let Some(stream) = self.stream.tcp() {
            SockRef::from(stream)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
    }

    /// Some bytes, whatever they are; `None` at the end.
    pub async fn some(&mut self) -> Option<Vec<u8>> {
        if self.unread.is_empty() {
            self.fill().await.ok()?;
        }
        Some(std::mem::take(&mut self.unread)).filter(|bytes| !bytes.is_empty())
    }

    /// Reads so many bytes, or those that come before the end.
    pub async fn exact(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length && !self.has_ended && self.fill().await.is_ok() {}
        self.unread.drain(..length.min(self.unread.len())).collect()
    }

    /// Everything until the end; `None` when the end does not come.
    pub async fn rest(&mut self) -> Option<Vec<u8>> {
        while !self.has_ended {
            self.fill().await.ok()?;
        }
        Some(std::mem::take(&mut self.unread))
    }

    /// The head of a request, which is left to be read with its body.
    pub async fn request_head(&mut self) -> Result<Request, Flaw> {
        let read = |bytes: &[u8], _| match http_oracle::request(bytes, Sender::Proxy) {
            Read::Cut(Some(head)) | Read::Bad(Some(head), _) => Read::Whole(head, 0),
            Read::Whole(request, _) => Read::Whole(request, 0),
            other => other,
        };
        let (head, flaw) = self.message(read).await;
        head.ok_or(flaw.unwrap_or(Flaw::Ended))
    }

    /// A request, as far as it comes.
    pub async fn request(&mut self) -> (Option<Request>, Option<Flaw>) {
        self.message(|bytes, _| http_oracle::request(bytes, Sender::Proxy))
            .await
    }

    /// A response to a request of that method, as far as it comes; or an interim one.
    pub async fn response(&mut self, method: &[u8]) -> (Option<Response>, Option<Flaw>) {
        self.message(|bytes, is_over| http_oracle::response(bytes, method, is_over, Sender::Proxy))
            .await
    }

    async fn message<T>(
        &mut self,
        read: impl Fn(&[u8], bool) -> Read<T>,
    ) -> (Option<T>, Option<Flaw>) {
        loop {
            let begun = match read(&self.unread, self.has_ended) {
                Read::Whole(message, length) => {
                    self.unread.drain(..length);
                    return (Some(message), None);
                }
                Read::Bad(begun, why) => return (begun, Some(Flaw::Bad(why))),
                Read::Cut(begun) => begun,
            };
            let flaw = if !self.has_ended {
                match self.fill().await {
                    Ok(()) => continue,
                    Err(flaw) => flaw,
                }
            } else if self.unread.is_empty() {
                Flaw::Ended
            } else {
                Flaw::Cut
            };
            return (begun, Some(flaw));
        }
    }

    /// Waits for more, or the end; either may be what was waited for.
    async fn fill(&mut self) -> Result<(), Flaw> {
        let read = timeout(PATIENCE, self.stream.read(&mut self.unread)).await;
        // A reset is an end, too.
        self.has_ended |= read.map_err(|_| Flaw::Silent)?.unwrap_or(0) == 0;
        Ok(())
    }
}
