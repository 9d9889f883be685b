//! The real server and proxy between a client and a strict recorder, all on one thread.
//!
//! Nothing waits for time: whoever expects nothing more lets the others run until all are still.

use std::{
    cell::RefCell,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use auth_sidecar::{
    admission::Rules,
    config::{Config, Sources},
    proxy::{
        Budget, Ledger, Proxy, Switch,
        upstream::{Connector, Upstream},
    },
    secret::SecretSource,
    server::{self, Connections, Http, Listener, Shutdown},
    telemetry::Metrics,
    token::{self, NoEvents, TokenHandle, fixed::FixedToken, schedule::RefreshPolicy},
};
use http_oracle::{Read, Request, Sender};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    task::yield_now,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::meant::TOKEN;

/// No part of a run takes so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// An hour: no deadline of the sidecar's is what a run waits for.
const LONG: Duration = Duration::from_secs(60 * 60);

/// Everything that outlives a run.
pub struct Lane {
    sidecar: SocketAddr,
    /// The authority that `Host` must name behind the sidecar.
    pub upstream: String,
    parts: Parts,
    connections: Connections,
    switch: Switch,
    recorder: Recorder,
}

/// Runs one input on this thread's lane.
pub fn run<F: Future<Output = ()>>(input: impl FnOnce(&'static Lane) -> F) {
    thread_local! {
        static LANE: RefCell<Option<(Runtime, &'static Lane)>> = const { RefCell::new(None) };
    }
    LANE.with_borrow_mut(|lane| {
        let (runtime, lane) = lane.get_or_insert_with(|| {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let lane = runtime.block_on(Lane::start());
            (runtime, Box::leak(Box::new(lane)))
        });
        runtime.block_on(async {
            input(lane).await;
            lane.end().await;
        });
    });
}

impl Lane {
    async fn start() -> Self {
        let recorder = Recorder::start().await;
        let upstream = recorder.address.to_string();
        let sources = [
            ("WAVEFRONT_URL", format!("http://{upstream}")),
            ("WAVEFRONT_TOKEN", TOKEN.into()),
        ];
        let mut config = Config::load(&Sources::of_environment(sources))
            .unwrap()
            .config;
        config.upstream.idle_timeout = LONG;
        config.proxy.response_timeout = LONG;
        let server = &mut config.listen.server;
        server.header_read_timeout = LONG;
        server.keep_alive_timeout = LONG;
        server.body_idle_timeout = LONG;
        let source = FixedToken::new(SecretSource::Value(TOKEN.into()));
        let (refresher, tokens) =
            token::channel(source, RefreshPolicy::default(), NoEvents, || 0.5);
        tokio::spawn(refresher.run(CancellationToken::new()));
        let metrics = Arc::new(Metrics::default());
        let parts = Parts {
            connector: Arc::new(Connector::new(&config.upstream).unwrap()),
            ledger: Ledger::new(Arc::clone(&metrics), config.proxy.max_in_flight),
            config,
            metrics,
            tokens,
        };
        let switch = Switch::new(parts.proxy());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let sidecar = listener.local_addr().unwrap();
        let connections = Connections::default();
        tokio::spawn(server::serve(
            Listener::Tcp(listener),
            Arc::new(ArcSwap::from_pointee(parts.config.listen.server.clone())),
            connections.clone(),
            Http(switch.clone()),
            Shutdown::default(),
        ));
        parts
            .tokens
            .current(Instant::now() + PATIENCE)
            .await
            .unwrap();
        Self {
            sidecar,
            upstream,
            parts,
            connections,
            switch,
            recorder,
        }
    }

    /// A new client's connection.
    pub async fn client(&self) -> Client {
        let stream = TcpStream::connect(self.sidecar).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            stream,
            received: Vec::new(),
            is_over: false,
        }
    }

    /// What the upstream says to its next request, byte by byte, instead of its usual answer.
    pub fn answer(&self, answer: Answer) {
        lock(&self.recorder.play).answer = Some(answer);
    }

    /// What the upstream got so far.
    pub fn received(&self) -> Vec<Received> {
        lock(&self.recorder.play).received.clone()
    }

    /// Lets everybody run until nobody has anything to do. The sockets are local, so what was
    /// written is there to be read.
    pub async fn settle(&self) {
        let mut still = 0;
        let mut last = 0;
        while still < 12 {
            yield_now().await;
            let steps = lock(&self.recorder.play).steps;
            still = if steps == last { still + 1 } else { 0 };
            last = steps;
        }
    }

    /// Ends a run: whatever was begun is over, and nothing is left of it.
    async fn end(&self) {
        self.eventually("a client's connection outlives it", || {
            self.connections.count() == 0
        })
        .await;
        self.eventually("a request outlives its client", || {
            self.parts.ledger.in_flight() == 0
        })
        .await;
        // The kept connections go with the proxy that kept them.
        self.switch.set(self.parts.proxy());
        let open = || lock(&self.recorder.play).open == 0;
        self.eventually("a connection to the upstream outlives its pool", open)
            .await;
        *lock(&self.recorder.play) = Play::default();
    }

    async fn eventually(&self, otherwise: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "{otherwise}");
            yield_now().await;
        }
    }
}

/// What each proxy is made of.
struct Parts {
    config: Config,
    connector: Arc<Connector>,
    metrics: Arc<Metrics>,
    ledger: Ledger,
    tokens: TokenHandle,
}

impl Parts {
    /// One that keeps no connection yet.
    fn proxy(&self) -> Proxy {
        let config = &self.config;
        let settings = &config.proxy;
        let connector = Arc::clone(&self.connector);
        Proxy::new(
            settings.clone(),
            Rules::default(),
            self.tokens.clone(),
            Upstream::new(&config.upstream, connector, Arc::clone(&self.metrics)),
            self.ledger.clone(),
            Budget::new(settings.replay_body_limit, settings.replay_buffer_total),
        )
    }
}

/// One end of a connection to the sidecar.
pub struct Client {
    stream: TcpStream,
    /// All that came.
    pub received: Vec<u8>,
    /// Whether the other side has ended.
    pub is_over: bool,
}

impl Client {
    /// Sends bytes. The other side may have ended already; then its reason is read.
    pub async fn send(&mut self, bytes: &[u8]) {
        drop(timeout(PATIENCE, self.stream.write_all(bytes)).await);
    }

    /// Receives something, or the end.
    ///
    /// # Panics
    /// When neither comes.
    pub async fn receive(&mut self) {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.received));
        // A reset is an end, too.
        let read = read.await.expect("nothing comes, and no end");
        self.is_over = read.unwrap_or(0) == 0;
    }

    /// Receives what is there, and waits for nothing.
    pub fn receive_rest(&mut self) {
        let mut rest = [0; 64 * 1024];
        loop {
            match self.stream.try_read(&mut rest) {
                Ok(0) => self.is_over = true,
                Ok(length) => {
                    self.received.extend_from_slice(&rest[..length]);
                    continue;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => self.is_over = true,
            }
            return;
        }
    }
}

/// What the upstream says to one request.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// One write each.
    pub parts: Vec<Vec<u8>>,
    /// Whether it ends its connection behind them.
    pub closes: bool,
}

/// What came to the upstream as one request.
#[derive(Clone, Debug)]
pub struct Received {
    pub request: Read<Request>,
    /// The number of the connection that it came by.
    pub connection: usize,
}

/// The one behind the sidecar. It reads strictly, and answers each whole request with its number.
struct Recorder {
    address: SocketAddr,
    play: Arc<Mutex<Play>>,
}

#[derive(Default)]
struct Play {
    received: Vec<Received>,
    answer: Option<Answer>,
    connections: usize,
    open: usize,
    /// Grows with all that happens.
    steps: usize,
}

impl Recorder {
    async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let play = Arc::new(Mutex::new(Play::default()));
        let accepting = Arc::clone(&play);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let play = Arc::clone(&accepting);
                let connection = {
                    let mut play = lock(&play);
                    play.open += 1;
                    play.connections += 1;
                    play.connections
                };
                tokio::spawn(async move {
                    record(stream, connection, &play).await;
                    lock(&play).open -= 1;
                });
            }
        });
        Self { address, play }
    }
}

/// Reads requests from a connection until it ends or brings something malformed.
async fn record(mut stream: TcpStream, connection: usize, play: &Mutex<Play>) {
    stream.set_nodelay(true).unwrap();
    let mut unread = Vec::new();
    loop {
        let read = http_oracle::request(&unread, Sender::Proxy);
        match &read {
            Read::Whole(request, length) => {
                let (method, length) = (request.method.clone(), *length);
                unread.drain(..length);
                let answer = note(play, read, connection, &method);
                for part in answer.parts {
                    if stream.write_all(&part).await.is_err() {
                        return;
                    }
                    yield_now().await;
                    yield_now().await;
                }
                if answer.closes {
                    drop(stream.shutdown().await);
                    while stream
                        .read_buf(&mut unread)
                        .await
                        .is_ok_and(|read| read > 0)
                    {}
                    return;
                }
            }
            Read::Cut(_) => {
                let read_now = stream.read_buf(&mut unread).await.unwrap_or(0);
                lock(play).steps += 1;
                if read_now == 0 {
                    if !unread.is_empty() {
                        note(play, read, connection, b"");
                    }
                    return;
                }
            }
            Read::Bad(..) => {
                note(play, read, connection, b"");
                return;
            }
        }
    }
}

/// Notes a request and says what it earns.
fn note(play: &Mutex<Play>, request: Read<Request>, connection: usize, method: &[u8]) -> Answer {
    let mut play = lock(play);
    play.steps += 1;
    play.received.push(Received {
        request,
        connection,
    });
    let number = play.received.len() - 1;
    play.answer.take().unwrap_or_else(|| Answer {
        parts: vec![usual_answer(number, method)],
        closes: false,
    })
}

/// The body of the answer to the request of that number.
pub fn usual_body(number: usize) -> Vec<u8> {
    format!("this is the answer to request {number}").into_bytes()
}

fn usual_answer(number: usize, method: &[u8]) -> Vec<u8> {
    let body = usual_body(number);
    let head = format!(
        "HTTP/1.1 200 OK\r\nX-Number: {number}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let body = if method == b"HEAD" {
        &[]
    } else {
        body.as_slice()
    };
    [head.as_bytes(), body].concat()
}

fn lock(play: &Mutex<Play>) -> MutexGuard<'_, Play> {
    play.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the places of cuts off the beginning of an input: their number in the two lowest bits of
/// the first byte, then a byte each. Gives them with both ends, in order, and the rest.
pub fn cuts(data: &[u8]) -> Option<(Vec<usize>, &[u8])> {
    let (count, rest) = data.split_first()?;
    let (places, bytes) = rest.split_at_checked(usize::from(count & 3))?;
    let place = |place: &u8| usize::from(*place) * bytes.len() / 256;
    let mut cuts: Vec<_> = places.iter().map(place).chain([0, bytes.len()]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    Some((cuts, bytes))
}
