//! The upstream behind the mutations: reads as strictly as it can, and writes down what it got.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use http_oracle::{Read, Request, Sender, shown};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::timeout,
};

use crate::it::support::RawServer;

/// The one credential.
pub const TOKEN: &str = "the-token-of-the-sidecar";

/// One request, as it came from the sidecar.
#[derive(Clone, Debug)]
pub struct Record {
    pub request: Request,
    pub is_whole: bool,
}

/// All that has come.
#[derive(Clone, Debug)]
pub struct Book {
    records: Arc<Mutex<Vec<Record>>>,
    flaws: Arc<Mutex<Vec<String>>>,
    /// Connections in the middle of a request or of a tunnel.
    busy: Arc<watch::Sender<usize>>,
}

#[derive(Debug)]
pub struct Recorder {
    server: RawServer,
    book: Book,
}

impl Recorder {
    pub fn start() -> Self {
        let book = Book {
            records: Arc::default(),
            flaws: Arc::default(),
            busy: Arc::new(watch::Sender::new(0)),
        };
        let serving = book.clone();
        let server = RawServer::start(move |_, stream| serving.clone().serve(stream));
        Self { server, book }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What has come since the last time, once nothing is under way.
    pub async fn take(&self) -> (Vec<Record>, Vec<String>) {
        let mut busy = self.book.busy.subscribe();
        let quiet = busy.wait_for(|busy| *busy == 0);
        let is_quiet = timeout(Duration::from_secs(5), quiet).await.is_ok();
        let mut flaws = std::mem::take(&mut *self.book.flaws.lock().unwrap());
        if !is_quiet {
            flaws.push("a request that nobody waits for is left open".to_owned());
        }
        (
            std::mem::take(&mut *self.book.records.lock().unwrap()),
            flaws,
        )
    }
}

impl Book {
    async fn serve(self, mut stream: TcpStream) {
        let own = stream.local_addr().unwrap().to_string();
        let mut unread = Vec::new();
        let mut busy = None;
        loop {
            match http_oracle::request(&unread, Sender::Proxy) {
                Read::Whole(request, length) => {
                    busy.get_or_insert_with(|| Busy::new(&self));
                    unread.drain(..length);
                    self.check(&request, &own);
                    let answer = answer(&request);
                    let switches = request.fields.has("upgrade");
                    self.enter(request, true);
                    if stream.write_all(&answer).await.is_err() {
                        return;
                    }
                    if switches {
                        self.tunnel(stream, unread).await;
                        return;
                    }
                    busy = None;
                    continue;
                }
                Read::Bad(_, flaw) => {
                    let text = shown(&unread);
                    self.flaws.lock().unwrap().push(format!("{flaw}: {text}"));
                    return;
                }
                Read::Cut(_) if unread.is_empty() => {}
                Read::Cut(_) => {
                    busy.get_or_insert_with(|| Busy::new(&self));
                }
            }
            if !matches!(stream.read_buf(&mut unread).await, Ok(1..)) {
                break;
            }
        }
        if let Read::Cut(Some(request)) = http_oracle::request(&unread, Sender::Proxy) {
            self.check(&request, &own);
            self.enter(request, false);
        }
    }

    fn enter(&self, request: Request, is_whole: bool) {
        let mut records = self.records.lock().unwrap();
        records.push(Record { request, is_whole });
    }

    /// Gives back what comes.
    async fn tunnel(&self, mut stream: TcpStream, unread: Vec<u8>) {
        if !unread.is_empty() {
            let flaw = format!("bytes before the switch: {unread:?}");
            self.flaws.lock().unwrap().push(flaw);
        }
        let (mut from, mut to) = stream.split();
        drop(tokio::io::copy(&mut from, &mut to).await);
    }

    /// What no request may bring here, whatever the client did.
    fn check(&self, request: &Request, own: &str) {
        let fields = &request.fields;
        let flaw = |what: &str| {
            let text = format!("{what}: {fields:?}");
            self.flaws.lock().unwrap().push(text);
        };
        let only = |name, value: &[u8]| fields.all(name) == [value];
        if !request.trailers.0.is_empty() {
            flaw("trailers");
        }
        if !only("authorization", format!("Bearer {TOKEN}").as_bytes()) {
            flaw("not exactly one credential");
        }
        if !only("host", own.as_bytes()) {
            flaw("not exactly one Host");
        }
        let switches = fields.has("upgrade");
        if switches && !(only("upgrade", b"websocket") && only("connection", b"Upgrade")) {
            flaw("an upgrade");
        }
        let never = [
            "keep-alive",
            "proxy-connection",
            "proxy-authorization",
            "te",
            "trailer",
            "http2-settings",
            "x-auth-token",
        ];
        let connection = (!switches).then_some("connection");
        for name in never.into_iter().chain(connection) {
            if fields.has(name) {
                flaw(name);
            }
        }
    }
}

/// Counts as under way until dropped.
struct Busy(Arc<watch::Sender<usize>>);

impl Busy {
    fn new(book: &Book) -> Self {
        book.busy.send_modify(|busy| *busy += 1);
        Self(Arc::clone(&book.busy))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.send_modify(|busy| *busy -= 1);
    }
}

/// Names what was asked for, so that no answer can be taken for another.
fn answer(request: &Request) -> Vec<u8> {
    if request.fields.has("upgrade") {
        return b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            .to_vec();
    }
    let body = receipt(request);
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Upstream: yes\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let is_head = request.method == b"HEAD";
    [head.as_bytes(), if is_head { &[] } else { &body[..] }].concat()
}

/// The body of the answer to a request.
pub fn receipt(request: &Request) -> Vec<u8> {
    let length = request.body.len().to_string();
    [&request.method[..], &request.target[..], length.as_bytes()].join(&b' ')
}
