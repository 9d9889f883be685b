//! The one behind the proxy: a strict recorder that answers what the case says, byte by byte.

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch, task::JoinSet, time::timeout};

use crate::{
    case::{Answer, Part},
    wire::{Flaw, Head, Wire, latin1},
};

/// Targets of the runner's own requests, which no case counts.
pub const OWN_TARGETS: &str = "/run-";

/// How long the upstream pauses where a case says so.
pub const PAUSE: Duration = Duration::from_millis(40);

/// A listener, and what the current case has brought to it.
#[derive(Debug)]
pub struct Recorder {
    address: SocketAddr,
    play: Arc<Mutex<Play>>,
    /// Ends the connections of a case.
    ending: watch::Sender<u64>,
    /// Connections that are open, and answers that are being sent.
    busy: watch::Sender<(usize, usize)>,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Play {
    answers: VecDeque<Answer>,
    requests: Vec<Received>,
}

/// One request, as far as it came.
#[derive(Clone, Debug, Default)]
pub struct Received {
    pub head: Head,
    pub body: String,
    pub is_whole: bool,
    /// What was wrong with it as a message.
    pub flaw: Option<String>,
    /// What came through the tunnel behind it.
    pub tunnelled: String,
}

impl Received {
    pub fn target(&self) -> &str {
        self.head.start.split(' ').nth(1).unwrap_or_default()
    }

    pub fn is_own(&self) -> bool {
        self.target().starts_with(OWN_TARGETS)
    }
}

impl Recorder {
    pub fn start(port: u16) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let address = listener.local_addr().unwrap();
        let play = Arc::<Mutex<Play>>::default();
        let ending = watch::Sender::new(0);
        let busy = watch::Sender::new((0, 0));
        let accepting = tokio::spawn(accept(
            listener,
            Arc::clone(&play),
            ending.clone(),
            busy.clone(),
        ));
        Self {
            address,
            play,
            ending,
            busy,
            accepting,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A new case begins.
    pub fn begin(&self, answers: &[Answer]) {
        *lock(&self.play) = Play {
            answers: answers.to_vec().into(),
            requests: Vec::new(),
        };
    }

    /// Waits until nothing that was begun to be said is unsaid.
    pub async fn has_said_all(&self) {
        let mut busy = self.busy.subscribe();
        let said = busy.wait_for(|(_, speaking)| *speaking == 0);
        drop(timeout(Duration::from_secs(2), said).await);
    }

    /// Ends all connections, so that none is kept for the next case, and says what they brought.
    pub async fn end(&self) -> Vec<Received> {
        self.ending.send_modify(|case| *case += 1);
        let mut busy = self.busy.subscribe();
        let closed = busy.wait_for(|(open, _)| *open == 0);
        drop(timeout(Duration::from_secs(5), closed).await);
        std::mem::take(&mut lock(&self.play).requests)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    play: Arc<Mutex<Play>>,
    ending: watch::Sender<u64>,
    busy: watch::Sender<(usize, usize)>,
) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (play, busy) = (Arc::clone(&play), busy.clone());
        let mut ending = ending.subscribe();
        busy.send_modify(|(open, _)| *open += 1);
        connections.spawn(async move {
            let mut wire = Some(Wire::new(stream));
            tokio::select! {
                () = serve(&mut wire, &play, &busy) => {}
                _ = ending.changed() => {}
            }
            // The other side shows by its own end that it has seen ours.
            if let Some(mut wire) = wire {
                wire.finish().await;
                drop(timeout(Duration::from_millis(500), wire.rest()).await);
            }
            busy.send_modify(|(open, _)| *open -= 1);
        });
    }
}

/// Serves a connection; takes the wire when there is nothing left to end.
async fn serve(wire: &mut Option<Wire>, play: &Mutex<Play>, busy: &watch::Sender<(usize, usize)>) {
    loop {
        let Some(peer) = wire else { return };
        let head = match peer.request_head().await {
            Ok(request) => Head::from(&request),
            Err(Flaw::Ended) => return,
            // A connection may be idle for as long as the case takes.
            Err(Flaw::Silent) => continue,
            Err(flaw) => {
                lock(play).requests.push(Received {
                    flaw: Some(format!("{flaw:?}")),
                    ..Received::default()
                });
                return;
            }
        };
        let (number, answer) = record(play, head);
        let _speaking = Speaking::begin(busy);
        let mut body = Unread(true);
        for part in &answer.parts {
            if !act(part, wire, play, number, &mut body).await {
                return;
            }
        }
        if !act(&Part::Body, wire, play, number, &mut body).await {
            return;
        }
    }
}

/// Whether a request's body is yet to be read.
struct Unread(bool);

impl Unread {
    /// Whether it came whole, which is noted.
    async fn read(&mut self, peer: &mut Wire, play: &Mutex<Play>, number: usize) -> bool {
        if !std::mem::take(&mut self.0) {
            return true;
        }
        let (request, flaw) = peer.request().await;
        if let Some(received) = lock(play).requests.get_mut(number) {
            received.body = request.map_or_else(String::new, |request| latin1(&request.body));
            match flaw {
                None => received.is_whole = true,
                Some(Flaw::Bad(what)) => received.flaw = Some(what.to_owned()),
                Some(_) => {}
            }
        }
        flaw.is_none()
    }
}

/// Notes a request, and says what it earns.
fn record(play: &Mutex<Play>, head: Head) -> (usize, Answer) {
    let received = Received {
        head,
        ..Received::default()
    };
    let target = received.target().to_owned();
    let is_own = received.is_own();
    let mut play = lock(play);
    play.requests.push(received);
    let scripted = if is_own {
        None
    } else {
        play.answers.pop_front()
    };
    let answer = scripted.unwrap_or_else(|| {
        let text = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}",
            target.chars().count()
        );
        let bytes = text.chars().map(|c| c as u8).collect();
        Answer {
            parts: vec![Part::Body, Part::Say(bytes)],
        }
    });
    (play.requests.len() - 1, answer)
}

/// Whether the connection goes on.
async fn act(
    part: &Part,
    wire: &mut Option<Wire>,
    play: &Mutex<Play>,
    number: usize,
    body: &mut Unread,
) -> bool {
    let Some(peer) = wire else { return false };
    match part {
        Part::Say(bytes) => peer.write(bytes).await,
        Part::Body => return body.read(peer, play, number).await,
        Part::Pause => tokio::time::sleep(PAUSE).await,
        Part::Close => return false,
        Part::Reset => {
            if let Some(peer) = wire.take() {
                peer.reset();
            }
            return false;
        }
        Part::Echo => {
            while let Some(bytes) = peer.some().await {
                if let Some(received) = lock(play).requests.get_mut(number) {
                    received.tunnelled.push_str(&latin1(&bytes));
                }
                peer.write(&bytes).await;
            }
            return false;
        }
    }
    true
}

/// Counts an answer that is being sent.
struct Speaking<'a>(&'a watch::Sender<(usize, usize)>);

impl<'a> Speaking<'a> {
    fn begin(busy: &'a watch::Sender<(usize, usize)>) -> Self {
        busy.send_modify(|(_, speaking)| *speaking += 1);
        Self(busy)
    }
}

impl Drop for Speaking<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|(_, speaking)| *speaking -= 1);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
