//! Strict reading of HTTP/1.1 messages from a socket: what is not exactly as RFC 9112 has a sender
//! write it is a flaw. Bytes become text one to one (Latin-1), so that they can be compared and shown.

use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

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
    ended: bool,
}

/// Why a message could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The connection ended before its first byte.
    Ended,
    /// The connection ended in the middle of it.
    Cut,
    /// Nothing came for a long time.
    Silent,
    /// A byte that no sender may send.
    Bad(String),
}

/// A start line and fields, as they were spelled.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub start: String,
    pub fields: Fields,
}

/// Names and values, as they were spelled.
pub type Fields = Vec<(String, String)>;

/// How far a body goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(usize),
    Chunked,
    ToTheEnd,
}

impl Head {
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

    /// What the fields say about the body; `None` where they say nothing.
    pub fn framing(&self) -> Result<Option<Framing>, Flaw> {
        let (coding, length) = (self.all("transfer-encoding"), self.all("content-length"));
        match (coding.as_slice(), length.as_slice()) {
            ([], []) => Ok(None),
            (["chunked"], []) => Ok(Some(Framing::Chunked)),
            ([], [length]) if length.bytes().all(|byte| byte.is_ascii_digit()) => length
                .parse()
                .map(|length| Some(Framing::Length(length)))
                .map_err(|_| Flaw::Bad(format!("Content-Length: {length}"))),
            _ => Err(Flaw::Bad(format!(
                "framed by Transfer-Encoding {coding:?} and Content-Length {length:?}"
            ))),
        }
    }
}

/// Each byte as the character of its number.
pub fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
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
            ended: false,
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
        Some(std::mem::take(&mut self.unread))
    }

    /// Everything until the end; `None` when the end does not come.
    pub async fn rest(&mut self) -> Option<Vec<u8>> {
        loop {
            match self.fill().await {
                Ok(()) => {}
                Err(Flaw::Silent) => return None,
                Err(_) => return Some(std::mem::take(&mut self.unread)),
            }
        }
    }

    /// A start line with its fields.
    pub async fn head(&mut self) -> Result<Head, Flaw> {
        let mut head = Head {
            start: self.line().await?,
            fields: Vec::new(),
        };
        if head.start.is_empty() {
            return Err(Flaw::Bad("an empty start line".to_owned()));
        }
        head.fields = self.fields().await?;
        Ok(head)
    }

    async fn fields(&mut self) -> Result<Fields, Flaw> {
        let mut fields = Vec::new();
        loop {
            let line = self.line().await.map_err(in_the_middle)?;
            if line.is_empty() {
                return Ok(fields);
            }
            let bad = || Flaw::Bad(format!("a field line {line:?}"));
            let (name, value) = line.split_once(':').ok_or_else(bad)?;
            let value = value.trim_matches([' ', '\t']);
            let is_control = |c: char| (c < ' ' && c != '\t') || c == '\u{7f}';
            if name.is_empty() || !name.chars().all(is_tchar) || value.contains(is_control) {
                return Err(bad());
            }
            fields.push((name.to_owned(), value.to_owned()));
        }
    }

    /// A body's content goes to `content` as far as it comes; its trailers come back.
    pub async fn body(&mut self, framing: Framing, content: &mut String) -> Result<Fields, Flaw> {
        match framing {
            Framing::None => Ok(Fields::new()),
            Framing::Length(length) => {
                self.take(length, content).await?;
                Ok(Fields::new())
            }
            Framing::ToTheEnd => {
                while let Some(some) = self.some().await {
                    content.push_str(&latin1(&some));
                }
                if self.ended {
                    Ok(Fields::new())
                } else {
                    Err(Flaw::Silent)
                }
            }
            Framing::Chunked => loop {
                let size = self.line().await.map_err(in_the_middle)?;
                let is_hex = size.bytes().all(|byte| byte.is_ascii_hexdigit());
                // No extensions: nobody behind a proxy has asked for any.
                let length = usize::from_str_radix(&size, 16)
                    .ok()
                    .filter(|_| is_hex)
                    .ok_or_else(|| Flaw::Bad(format!("a chunk size {size:?}")))?;
                if length == 0 {
                    return self.fields().await;
                }
                self.take(length, content).await?;
                let end = self.line().await.map_err(in_the_middle)?;
                if !end.is_empty() {
                    return Err(Flaw::Bad(format!("{end:?} behind a chunk")));
                }
            },
        }
    }

    async fn take(&mut self, mut length: usize, content: &mut String) -> Result<(), Flaw> {
        while length > 0 {
            if self.unread.is_empty() {
                self.fill().await.map_err(in_the_middle)?;
            }
            let here = length.min(self.unread.len());
            content.push_str(&latin1(&self.unread.drain(..here).collect::<Vec<_>>()));
            length -= here;
        }
        Ok(())
    }

    /// A line without its CRLF.
    async fn line(&mut self) -> Result<String, Flaw> {
        let mut seen = 0;
        loop {
            if let Some(at) = self
                .unread
                .iter()
                .skip(seen)
                .position(|byte| *byte == b'\n')
            {
                let line: Vec<u8> = self.unread.drain(..=seen + at).collect();
                let text = latin1(&line);
                let bare = text.strip_suffix("\r\n");
                return match bare {
                    Some(bare) if !bare.contains(['\r', '\0']) => Ok(bare.to_owned()),
                    _ => Err(Flaw::Bad(format!("a line {text:?}"))),
                };
            }
            seen = self.unread.len();
            let is_begun = seen > 0;
            self.fill()
                .await
                .map_err(|flaw| if is_begun { in_the_middle(flaw) } else { flaw })?;
        }
    }

    async fn fill(&mut self) -> Result<(), Flaw> {
        match timeout(PATIENCE, self.stream.read(&mut self.unread)).await {
            Err(_) => Err(Flaw::Silent),
            Ok(Ok(length)) if length > 0 => Ok(()),
            // A reset is an end, too.
            Ok(_) => {
                self.ended = true;
                Err(Flaw::Ended)
            }
        }
    }
}

fn in_the_middle(flaw: Flaw) -> Flaw {
    match flaw {
        Flaw::Ended => Flaw::Cut,
        other => other,
    }
}

fn is_tchar(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}
