//! Raw TCP: a peer that can say anything, at either end of a connection.

use std::{io, net::SocketAddr, time::Duration};

use http_oracle::{Read, Sender, latin1, shown};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{DEADLINE, within_deadline};

/// Sends `bytes` and reads until the other side closes or resets.
pub async fn send_raw(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut connection = Connection::to(address).await;
    connection.write(bytes).await;
    connection.read_to_end().await
}

/// One end of a TCP connection, with deadlines on every operation.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

impl From<TcpStream> for Connection {
    fn from(stream: TcpStream) -> Self {
        Self {
            stream,
            unread: Vec::new(),
        }
    }
}

impl Connection {
    pub async fn to(address: SocketAddr) -> Self {
        let stream = within_deadline(TcpStream::connect(address)).await.unwrap();
        let stream = stream.unwrap();
        stream.set_nodelay(true).unwrap();
        stream.into()
    }

    /// Writes; that the other side has gone shows when reading.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let written = within_deadline(self.stream.write_all(bytes.as_ref())).await;
        drop(written.unwrap());
    }

    /// Writes, and throws away what has arrived meanwhile; false once the other side has gone.
    pub async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let mut arrived = [0; 4096];
        loop {
            match self.stream.try_read(&mut arrived) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        let written = within_deadline(self.stream.write_all(bytes.as_ref())).await;
        written.unwrap().is_ok()
    }

    /// Ends the writing half; the reading half stays.
    pub async fn finish(&mut self) {
        drop(self.stream.shutdown().await);
    }

    /// Ends the connection with a TCP reset.
    pub fn reset(self) {
        SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    /// A start line with its fields, up to and with the empty line; `None` when the peer closes
    /// first. Each byte is the character of its number. What follows stays unread.
    pub async fn read_head(&mut self) -> Option<String> {
        self.read(true).await?;
        Some(self.take_head())
    }

    /// The same, whatever its bytes are.
    pub async fn read_head_bytes(&mut self) -> Option<Vec<u8>> {
        let head = self.read_head().await?;
        Some(head.chars().map(|byte| byte as u8).collect())
    }

    /// One whole message: its head, and its body without the framing. `None` when the peer closes
    /// instead.
    pub async fn read_message(&mut self) -> Option<(String, Vec<u8>)> {
        let (body, length) = self.read(false).await?;
        let behind = self.unread.split_off(length);
        let head = self.take_head();
        self.unread = behind;
        Some((head, body))
    }

    /// Reads a message, or no more than its head: its body as far as it came, and its length.
    ///
    /// # Panics
    /// When what comes is malformed, or breaks off behind its head.
    async fn read(&mut self, head_only: bool) -> Option<(Vec<u8>, usize)> {
        loop {
            let is_begun = match read(&self.unread) {
                Read::Cut(Some(body)) | Read::Bad(Some(body), _) if head_only => {
                    return Some((body, 0));
                }
                Read::Whole(body, length) => return Some((body, length)),
                Read::Cut(begun) => begun.is_some(),
                Read::Bad(_, flaw) => panic!("{flaw}: {}", shown(&self.unread)),
            };
            if !self.fill().await {
                assert!(!is_begun, "closed after {}", shown(&self.unread));
                return None;
            }
        }
    }

    fn take_head(&mut self) -> String {
        let end = self.unread.windows(4).position(|four| four == b"\r\n\r\n");
        latin1(&self.unread.drain(..end.unwrap() + 4).collect::<Vec<_>>())
    }

    /// # Panics
    /// When the peer closes before that many bytes.
    pub async fn read_exact(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            assert!(self.fill().await, "closed after {}", shown(&self.unread));
        }
        self.unread.drain(..length).collect()
    }

    /// Everything until the peer closes or resets.
    pub async fn read_to_end(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.unread)
    }

    /// Whether the peer closes or resets within this time without sending anything more.
    pub async fn closes_within(&mut self, time: Duration) -> bool {
        let mut byte = [0];
        let read = tokio::time::timeout(time, self.stream.peek(&mut byte)).await;
        self.unread.is_empty() && matches!(read, Ok(Ok(0) | Err(_)))
    }

    /// Waits until there is something to read; false when the peer has closed or reset instead.
    pub async fn readable(&self) -> bool {
        let mut byte = [0];
        !self.unread.is_empty() || matches!(self.stream.peek(&mut byte).await, Ok(1))
    }

    /// Whether there was anything more.
    async fn fill(&mut self) -> bool {
        let read = within_deadline(self.stream.read_buf(&mut self.unread)).await;
        match read
            .unwrap_or_else(|_| panic!("nothing in {DEADLINE:?} after {}", shown(&self.unread)))
        {
            Ok(length) => length > 0,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
                false
            }
        }
    }
}

/// A request, or a response to one that is not a HEAD; of all that, its body.
fn read(bytes: &[u8]) -> Read<Vec<u8>> {
    if bytes.starts_with(b"HTTP/") {
        let read = http_oracle::response(bytes, b"GET", false, Sender::Proxy);
        read.map(|response| response.body)
    } else {
        http_oracle::request(bytes, Sender::Proxy).map(|request| request.body)
    }
}

/// The value of a field in a raw head.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}
