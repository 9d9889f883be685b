//! A small HTTP/1.1 client that sends what a test says and hides nothing, with a deadline on every step.

use std::{
    io,
    pin::Pin,
    sync::LazyLock,
    task::{Context, Poll},
};

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::BodyExt as _;
use hyper::{
    body::{Frame, Incoming, SizeHint},
    client::conn::http1::{SendRequest, handshake},
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    runtime::{Builder, Runtime},
    sync::mpsc,
};

use super::within_deadline;

/// A body that is there at once, or arrives frame by frame from a channel.
#[derive(Debug)]
pub enum Body {
    Whole(Option<Bytes>),
    Frames(mpsc::Receiver<io::Result<Frame<Bytes>>>),
}

/// Where the frames of a [`Body`] come from; dropping it ends the body.
pub type Frames = mpsc::Sender<io::Result<Frame<Bytes>>>;

impl Body {
    pub fn empty() -> Self {
        Self::Whole(None)
    }

    /// A body of unknown length, which HTTP/1.1 sends chunked.
    pub fn channel() -> (Frames, Self) {
        let (frames, receiver) = mpsc::channel(1);
        (frames, Self::Frames(receiver))
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(whole: T) -> Self {
        Self::Whole(Some(whole.into()).filter(|bytes| !bytes.is_empty()))
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Frames(frames) => frames.poll_recv(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len).try_into().unwrap())
            }
            Self::Frames(_) => SizeHint::default(),
        }
    }
}

/// A whole answer, as a client received it.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    /// Reads an answer to its end.
    pub(super) async fn read(response: Response<Incoming>) -> anyhow::Result<Self> {
        let (head, body) = response.into_parts();
        Ok(Self {
            status: head.status,
            headers: head.headers,
            body: within_deadline(body.collect()).await??.to_bytes(),
        })
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON: {error}: {:?}", self.body))
    }

    /// The only value of this field.
    ///
    /// # Panics
    /// When the field is repeated, so that a test cannot overlook it.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next()?;
        assert!(values.next().is_none(), "{name} is repeated: {self:?}");
        Some(first.to_str().unwrap())
    }
}

/// `GET url` on a connection of its own.
pub async fn get(url: &str) -> Reply {
    request("GET", url, &[], "").await
}

/// One request on a connection of its own.
///
/// # Panics
/// When no whole answer comes within [`DEADLINE`].
pub async fn request(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> Reply {
    try_request(method, url, headers, body)
        .await
        .unwrap_or_else(|error| panic!("{method} {url}: {error:#}"))
}

/// [`request`], when the exchange itself may fail.
pub async fn try_request(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> anyhow::Result<Reply> {
    let mut client = Client::try_connect(url).await?;
    let target = url.parse::<Uri>()?;
    let target = target.path_and_query().map_or("/", |path| path.as_str());
    client.try_request(method, target, headers, body).await
}

/// A request with these header fields and this body.
pub(super) fn request_for(
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: impl Into<Body>,
) -> http::Result<Request<Body>> {
    let mut request = Request::builder().method(method).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(body.into())
}

/// Where connections live: not on the test's own runtime, which cannot close them while the test
/// blocks, for instance in dropping the sidecar that waits for them.
pub static CONNECTIONS: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
});

/// A connection that is kept for several requests.
#[derive(Debug)]
pub struct Client {
    sender: SendRequest<Body>,
    authority: String,
}

impl Client {
    /// Connects to the authority of `url`, whose path does not matter.
    pub async fn connect(url: &str) -> Self {
        Self::try_connect(url).await.unwrap()
    }

    pub async fn try_connect(url: &str) -> anyhow::Result<Self> {
        let authority = url.parse::<Uri>()?;
        let authority = authority.authority().context("no authority")?.to_string();
        let address = authority.clone();
        let connecting = CONNECTIONS.spawn(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await?;
            // Its failure is also the failure of the exchange, which reports it.
            tokio::spawn(connection);
            anyhow::Ok(sender)
        });
        let sender = within_deadline(connecting).await???;
        Ok(Self { sender, authority })
    }

    /// One exchange; `target` is sent as it is.
    ///
    /// # Panics
    /// When no whole answer comes within [`DEADLINE`].
    pub async fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Reply {
        self.try_request(method, target, headers, body)
            .await
            .unwrap_or_else(|error| panic!("{method} {target}: {error:#}"))
    }

    pub async fn try_request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> anyhow::Result<Reply> {
        let request = request_for(method, target, headers, body)?;
        Reply::read(self.send(request).await?).await
    }

    /// Sends a request, whose body may still be coming, and waits for the head of the answer.
    /// `Host` is added unless it is there.
    pub async fn send(&mut self, request: Request<Body>) -> anyhow::Result<Response<Incoming>> {
        within_deadline(self.send_for_long(request)).await?
    }

    /// [`Client::send`], which may take as long as the body does.
    pub async fn send_for_long(
        &mut self,
        mut request: Request<Body>,
    ) -> anyhow::Result<Response<Incoming>> {
        if !request.headers().contains_key(header::HOST) {
            let host = self.authority.parse()?;
            request.headers_mut().insert(header::HOST, host);
        }
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }
}

/// The next data of a streamed answer; `None` at its end.
pub async fn next_data(body: &mut Incoming) -> Option<Bytes> {
    let frame = within_deadline(body.frame()).await.unwrap()?;
    Some(frame.unwrap().into_data().unwrap_or_default())
}
