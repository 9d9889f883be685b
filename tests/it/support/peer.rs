//! Raw TCP: a peer that can say anything, at either end of a connection.

use std::{io, net::SocketAddr, time::Duration};

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

    /// A start line with its fields, up to and with the empty line; `None` when the peer closes first.
    pub async fn read_head(&mut self) -> Option<String> {
        let head = self.read_head_bytes().await?;
        Some(String::from_utf8(head).unwrap())
    }

    /// The same, whatever its bytes are.
    pub async fn read_head_bytes(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                return Some(self.unread.drain(..at + 4).collect());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    /// # Panics
    /// When the peer closes before that many bytes.
    pub async fn read_exact(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            assert!(self.fill().await, "closed after {:?}", self.text());
        }
        self.unread.drain(..length).collect()
    }

    /// One whole answer (or request) with `Content-Length`, with chunks, or without a body:
    /// its head, and its body without the framing. `None` when the peer closes instead.
    pub async fn read_message(&mut self) -> Option<(String, Vec<u8>)> {
        let head = self.read_head().await?;
        let mut body = Vec::new();
        if field(&head, "transfer-encoding").is_some() {
            loop {
                let size = self.read_line().await;
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                body.append(&mut self.read_exact(size).await);
                assert_eq!(self.read_line().await, "\r\n", "no end of a chunk");
                if size == 0 {
                    break;
                }
            }
        } else if let Some(length) = field(&head, "content-length") {
            body = self.read_exact(length.parse().unwrap()).await;
        }
        Some((head, body))
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

    async fn read_line(&mut self) -> String {
        loop {
            if let Some(at) = find(&self.unread, b"\r\n") {
                return String::from_utf8(self.unread.drain(..at + 2).collect()).unwrap();
            }
            assert!(self.fill().await, "closed after {:?}", self.text());
        }
    }

    /// Whether there was anything more.
    async fn fill(&mut self) -> bool {
        let read = within_deadline(self.stream.read_buf(&mut self.unread)).await;
        match read.unwrap_or_else(|_| panic!("nothing in {DEADLINE:?} after {:?}", self.text())) {
            Ok(length) => length > 0,
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{error}");
                false
            }
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.unread).into_owned()
    }
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes
        .windows(pattern.len())
        .position(|window| window == pattern)
}

/// The value of a field in a raw head.
pub fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .skip(1)
        .filter_map(|line| line.split_once(':'))
        .find(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}
