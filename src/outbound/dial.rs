//! TCP to a name: to whichever of its addresses accepts first (Happy Eyeballs, RFC 8305).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use rustix::io::Errno;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    task::JoinSet,
    time::sleep,
};

use super::{RouteError, lookup::Lookups};
use crate::descriptors;

/// How long an address has the race for itself (RFC 8305 §5 recommends this).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Makes the connections of one leg.
#[derive(Debug)]
pub(super) struct Dialer {
    /// Shared name lookups; `None` for a leg that may use the file descriptors that are kept.
    lookups: Option<Lookups>,
}

impl Dialer {
    /// For requests, of which there may be many at a time.
    pub(super) fn of_requests() -> Self {
        Self {
            lookups: Some(Lookups::of_the_system()),
        }
    }

    /// For whoever makes one connection at a time, and has file descriptors kept for it.
    pub(super) fn of_the_few() -> Self {
        Self { lookups: None }
    }

    /// Connects to a name or an address. The caller bounds the time for all of it.
    ///
    /// # Cancel safety
    /// Dropping it closes all attempts.
    pub(super) async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, RouteError> {
        let addresses = interleaved(self.look_up(host, port).await?);
        if addresses.is_empty() {
            return Err(RouteError::Dns("the name has no address".to_owned()));
        }
        let refused = |error: io::Error| {
            if descriptors::are_exhausted(&error) {
                RouteError::NoDescriptors
            } else {
                RouteError::Connect(error.kind().to_string())
            }
        };
        let stream = race(addresses, self.lookups.is_none()).await;
        let stream = stream.map_err(refused)?;
        tune(&stream).map_err(refused)?;
        Ok(stream)
    }

    async fn look_up(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, RouteError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return Ok(vec![(address, port).into()]);
        }
        let found = match &self.lookups {
            None => lookup_host((host, port))
                .await
                .map(Iterator::collect)
                .map_err(|error| error.to_string()),
            Some(lookups) => lookups.find(host, port).await,
        };
        found.map_err(RouteError::Dns)
    }
}

/// The same addresses with both families in turn, beginning with that of the first, which the
/// resolver prefers (RFC 8305 §4): a family that leads nowhere costs one delay and not one for each of
/// its addresses.
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let prefers_ipv6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let count = addresses.len();
    let (preferred, others): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == prefers_ipv6);
    let (mut preferred, mut others) = (preferred.into_iter(), others.into_iter());
    let mut ordered = Vec::with_capacity(count);
    while ordered.len() < count {
        ordered.extend(preferred.next());
        ordered.extend(others.next());
    }
    ordered
}

/// Tries one address after the other, each a delay behind the one before or at once when all before
/// have failed. The first that accepts wins, and the others are dropped.
async fn race(addresses: Vec<SocketAddr>, may_take_kept: bool) -> io::Result<TcpStream> {
    if let [only] = addresses.as_slice() {
        return attempt(*only, may_take_kept).await;
    }
    let mut waiting = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    loop {
        if let Some(address) = waiting.next() {
            attempts.spawn(attempt(address, may_take_kept));
        }
        let is_last = waiting.len() == 0;
        // Until it is another's turn.
        let delay = sleep(ATTEMPT_DELAY);
        tokio::pin!(delay);
        loop {
            tokio::select! {
                ended = attempts.join_next() => match ended {
                    Some(Ok(Ok(stream))) => return Ok(stream),
                    // That there was no descriptor says more than where the others led.
                    Some(Ok(Err(_))) if descriptors::are_exhausted(&last) => {}
                    Some(Ok(Err(error))) => last = error,
                    Some(Err(panicked)) => last = panicked.into(),
                    None if is_last => return Err(last),
                    None => break,
                },
                () = &mut delay, if !is_last => break,
            }
        }
    }
}

/// Connects to an address, unless that takes a file descriptor that is kept for others.
async fn attempt(address: SocketAddr, may_take_kept: bool) -> io::Result<TcpStream> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // It counts from here on, however long the other side takes.
    if !may_take_kept && !descriptors::are_left_behind(&socket) {
        return Err(Errno::MFILE.into());
    }
    socket.connect(address).await
}

/// Finds out connections whose other end has vanished without a word: responses may take minutes
/// and streams hours, so no deadline of ours would.
fn tune(stream: &TcpStream) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(30))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(Duration::from_secs(60)))
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv6Addr, TcpListener};

    use socket2::{Domain, Socket, Type};
    use tokio::time::{Instant, timeout};

    use super::*;

    /// A socket that swallows what asks for a connection: its queue is full, and nobody accepts.
    struct BlackHole {
        address: SocketAddr,
        _listener: Socket,
        _queued: Vec<Socket>,
    }

    impl BlackHole {
        fn new() -> Self {
            let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            listener.bind(&any().into()).unwrap();
            listener.listen(0).unwrap();
            let address = listener.local_addr().unwrap().as_socket().unwrap();
            let mut queued = Vec::new();
            // Until one gets no response.
            while queued.len() < 16 {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
                let connected = socket.connect_timeout(&address.into(), Duration::from_millis(200));
                queued.push(socket);
                if connected.is_err() {
                    return Self {
                        address,
                        _listener: listener,
                        _queued: queued,
                    };
                }
            }
            panic!("the queue takes everything");
        }
    }

    fn any() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    fn listening() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind(any()).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Bound, but not listening.
    fn refusing() -> (Socket, SocketAddr) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&any().into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        (socket, address)
    }

    #[tokio::test]
    async fn an_address_that_swallows_everything_costs_a_quarter_of_a_second() {
        let hole = BlackHole::new();
        let (_listener, address) = listening();
        let started = Instant::now();
        let stream = race(vec![hole.address, address], true).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        let took = started.elapsed();
        assert!(
            took >= ATTEMPT_DELAY && took < 5 * ATTEMPT_DELAY,
            "{took:?}"
        );
        // And as the last of several, one delay each.
        let started = Instant::now();
        let holes = vec![hole.address, hole.address, hole.address, address];
        let stream = race(holes, true).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        let took = started.elapsed();
        assert!(
            took >= 3 * ATTEMPT_DELAY && took < 8 * ATTEMPT_DELAY,
            "{took:?}"
        );
    }

    #[tokio::test]
    async fn an_address_that_refuses_costs_nothing_and_the_last_reason_is_returned() {
        let (_socket, refused) = refusing();
        let (_listener, address) = listening();
        let started = Instant::now();
        let stream = race(vec![refused, refused, address], true).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        assert!(started.elapsed() < ATTEMPT_DELAY);
        let error = race(vec![refused, refused], true).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        // Behind one that says nothing, too: the other keeps its chance until the caller's time is over.
        let hole = BlackHole::new();
        let ended = timeout(2 * ATTEMPT_DELAY, race(vec![hole.address, refused], true)).await;
        assert!(ended.is_err());
    }

    #[tokio::test]
    async fn an_address_that_is_late_wins_over_one_that_never_responds() {
        let (_listener, address) = listening();
        let hole = BlackHole::new();
        let started = Instant::now();
        let stream = race(vec![address, hole.address], true).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        assert!(
            started.elapsed() < ATTEMPT_DELAY,
            "nobody waits for the others"
        );
    }

    #[test]
    fn the_families_take_turns_and_the_resolvers_choice_begins() {
        let v4 = |last: u8| SocketAddr::from(([127, 0, 0, last], 1));
        let v6 = |last: u16| SocketAddr::from((Ipv6Addr::from([0, 0, 0, 0, 0, 0, 0, last]), 1));
        for (given, ordered) in [
            (vec![], vec![]),
            (vec![v4(1), v4(2)], vec![v4(1), v4(2)]),
            (
                vec![v6(1), v6(2), v6(3), v4(1), v4(2)],
                vec![v6(1), v4(1), v6(2), v4(2), v6(3)],
            ),
            (vec![v4(1), v4(2), v6(1)], vec![v4(1), v6(1), v4(2)]),
        ] {
            assert_eq!(interleaved(given), ordered);
        }
    }
}
