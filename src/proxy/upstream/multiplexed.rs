//! Connections to the upstream with HTTP/2, each of which carries many requests at a time.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::client::conn::http2::SendRequest;
use tokio::{sync::watch, time::Instant};

use super::{
    connect::{Connected, Connector},
    http1,
    http2::RequestBody,
    pool::Pool,
};
use crate::proxy::error::ProxyError;

/// The connections of one worker: one as long as it has room for every request, and more when
/// it does not.
#[derive(Debug)]
pub(super) struct Multiplexed {
    /// Takes a connection on which the upstream has chosen HTTP/1.1.
    pool: Arc<Pool>,
    connections: Mutex<Vec<Connection>>,
    /// The attempt that is under way. Who comes meanwhile waits for it, or a cold start would make
    /// a connection for each request.
    attempt: Mutex<Option<Attempt>>,
    /// Whether the upstream prefers HTTP/1.1.
    is_declined: AtomicBool,
}

type Attempt = watch::Receiver<Option<Result<(), ProxyError>>>;

/// More are made only for an upstream that lets hardly any request be open at a time.
const MAX_CONNECTIONS: usize = 64;

/// A connection, and what is known of it.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    sender: SendRequest<RequestBody>,
    load: Arc<Load>,
}

#[derive(Debug)]
struct Load {
    streams: AtomicUsize,
    /// How many the upstream lets be open at a time, as its settings say by now.
    limit: watch::Receiver<usize>,
    /// With which certificates of the way it was made.
    generation: usize,
    /// Whether it has brought a response.
    has_responded: AtomicBool,
    idle_since: Mutex<Instant>,
}

/// A place for one request on a connection; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    connection: Connection,
}

impl Multiplexed {
    pub(super) fn new(pool: Arc<Pool>) -> Self {
        Self {
            pool,
            connections: Mutex::default(),
            attempt: Mutex::default(),
            is_declined: AtomicBool::new(false),
        }
    }

    /// A place on a connection that is open. One of another generation is not used again; requests
    /// on it go on.
    pub(super) fn take(&self, generation: usize) -> Option<Place> {
        let mut connections = lock(&self.connections);
        connections.retain(|connection| {
            connection.load.generation == generation && !connection.sender.is_closed()
        });
        connections.iter().find_map(Connection::place)
    }

    /// Whether there is no use in asking for it.
    pub(super) fn is_declined(&self) -> bool {
        self.is_declined.load(Ordering::Relaxed)
    }

    /// Makes a connection, or waits for the one that is being made.
    ///
    /// # Cancel safety
    /// Dropping it leaves the attempt to the others who wait for it.
    pub(super) async fn connect(
        self: &Arc<Self>,
        connector: &Arc<Connector>,
    ) -> Result<(), ProxyError> {
        let mut attempt = self.attempt(connector);
        let ended = attempt.wait_for(Option::is_some).await;
        match ended.as_deref() {
            Ok(Some(result)) => result.clone(),
            // The attempt panicked.
            _ => Err(ProxyError::Connect("the attempt ended".to_owned())),
        }
    }

    fn attempt(self: &Arc<Self>, connector: &Arc<Connector>) -> Attempt {
        let mut attempt = lock(&self.attempt);
        if let Some(under_way) = attempt
            .as_ref()
            .filter(|attempt| attempt.borrow().is_none() && attempt.has_changed().is_ok())
        {
            return under_way.clone();
        }
        let (done, waiting) = watch::channel(None);
        let (this, connector) = (Arc::clone(self), Arc::clone(connector));
        tokio::spawn(async move {
            let result = this.try_connect(&connector).await;
            done.send_replace(Some(result));
        });
        attempt.insert(waiting).clone()
    }

    async fn try_connect(&self, connector: &Connector) -> Result<(), ProxyError> {
        if lock(&self.connections).len() >= MAX_CONNECTIONS {
            return Err(ProxyError::Connect(
                "it has no room for requests".to_owned(),
            ));
        }
        let generation = connector.generation();
        match connector.connect_multiplexed().await? {
            Connected::Http2 { sender, limit } => {
                self.is_declined.store(false, Ordering::Relaxed);
                let load = Load {
                    streams: AtomicUsize::new(0),
                    limit,
                    generation,
                    has_responded: AtomicBool::new(false),
                    idle_since: Mutex::new(Instant::now()),
                };
                let load = Arc::new(load);
                lock(&self.connections).push(Connection { sender, load });
            }
            Connected::Http1(stream) => {
                self.is_declined.store(true, Ordering::Relaxed);
                let connection = http1::Connection::new(stream, generation);
                self.pool.put(Box::new(connection));
            }
        }
        Ok(())
    }

    /// Closes what was idle for too long, or is closed already.
    pub(super) fn close_idle(&self, idle_timeout: Duration) {
        // It may have learnt it by now.
        self.is_declined.store(false, Ordering::Relaxed);
        let now = Instant::now();
        lock(&self.connections).retain(|connection| {
            let load = &connection.load;
            let is_used = load.streams.load(Ordering::Relaxed) > 0;
            !connection.sender.is_closed()
                && (is_used || now < *lock(&load.idle_since) + idle_timeout)
        });
    }

    /// Uses none of the present connections again. Requests on them go on.
    pub(super) fn clear(&self) {
        lock(&self.connections).clear();
    }
}

impl Connection {
    fn place(&self) -> Option<Place> {
        let limit = *self.load.limit.borrow();
        // One thread only takes, so nothing comes between the look and the taking.
        if !self.sender.is_ready() || self.load.streams.load(Ordering::Relaxed) >= limit {
            return None;
        }
        self.load.streams.fetch_add(1, Ordering::Relaxed);
        Some(Place {
            connection: self.clone(),
        })
    }
}

impl Place {
    /// By which a request is sent.
    pub(super) fn sender(&mut self) -> &mut SendRequest<RequestBody> {
        &mut self.connection.sender
    }

    /// Whether the connection has worked before.
    pub(super) fn is_proven(&self) -> bool {
        self.connection.load.has_responded.load(Ordering::Relaxed)
    }

    /// Says that the connection works.
    pub(super) fn responded(&self) {
        let has_responded = &self.connection.load.has_responded;
        has_responded.store(true, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let load = &self.connection.load;
        *lock(&load.idle_since) = Instant::now();
        load.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
