//! Name lookups of the request path: those who want the same name at the same time share one.

use std::{
    fmt, io,
    net::{SocketAddr, ToSocketAddrs},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::spawn_blocking, time::Instant};

/// How many lookups there are at a time: the resolver takes file descriptors that nobody else can count,
/// and those that are kept must outlast one that hangs.
const MOST: usize = 4;

/// How long others join a lookup. One that takes longer may hang, and another may get through by then.
const SHARED_FOR: Duration = Duration::from_secs(1);

/// The addresses of a name, or why there are none.
type Found = Result<Vec<SocketAddr>, String>;

/// Finds the addresses of a name, however long that takes its thread.
type Resolve = dyn Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync;

/// The lookups that run.
pub(super) struct Lookups {
    resolve: Arc<Resolve>,
    running: Mutex<Vec<Lookup>>,
}

struct Lookup {
    host: String,
    port: u16,
    began: Instant,
    found: watch::Receiver<Option<Found>>,
}

impl Lookup {
    fn is_running(&self) -> bool {
        // Without its sender it has ended, whether it has found something or not.
        self.found.has_changed().is_ok() && self.found.borrow().is_none()
    }
}

impl Lookups {
    /// Lookups by the system's resolver.
    pub(super) fn of_the_system() -> Self {
        Self::by(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }

    fn by(
        resolve: impl Fn(&str, u16) -> io::Result<Vec<SocketAddr>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            resolve: Arc::new(resolve),
            running: Mutex::default(),
        }
    }

    /// The addresses of a name. The caller bounds the time.
    ///
    /// # Cancel safety
    /// The lookup goes on for others, and for nobody if there are none.
    pub(super) async fn find(&self, host: &str, port: u16) -> Found {
        let mut found = self.join(host, port)?;
        let ended = || "the lookup ended without a result".to_owned();
        let found = found.wait_for(Option::is_some).await;
        let found = found.map_err(|_| ended())?;
        found.clone().unwrap_or_else(|| Err(ended()))
    }

    /// Joins the newest lookup of this name, or begins one where that has run for a while.
    fn join(&self, host: &str, port: u16) -> Result<watch::Receiver<Option<Found>>, String> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(Lookup::is_running);
        let is_full = running.len() >= MOST;
        let newest = running
            .iter()
            .rev()
            .find(|one| one.host == host && one.port == port);
        if let Some(one) = newest
            && (is_full || one.began.elapsed() < SHARED_FOR)
        {
            return Ok(one.found.clone());
        }
        if is_full {
            return Err("too many lookups of other names hang".to_owned());
        }
        let (sender, found) = watch::channel(None);
        let (resolve, name) = (Arc::clone(&self.resolve), host.to_owned());
        // The resolver goes on when nobody waits for it any more, and so its place is taken until it ends.
        spawn_blocking(move || {
            let found = resolve(&name, port).map_err(|error| error.to_string());
            sender.send_replace(Some(found));
        });
        running.push(Lookup {
            host: host.to_owned(),
            port,
            began: Instant::now(),
            found: found.clone(),
        });
        Ok(found)
    }
}

impl fmt::Debug for Lookups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookups").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Condvar,
        atomic::{AtomicUsize, Ordering},
    };

    use tokio::{task::JoinSet, time::timeout};

    use super::*;

    /// A resolver that hangs until it is let go on.
    #[derive(Clone, Default)]
    struct NameServer {
        asked: Arc<AtomicUsize>,
        is_back: Arc<(Mutex<bool>, Condvar)>,
    }

    impl NameServer {
        fn lookups(&self) -> Arc<Lookups> {
            let server = self.clone();
            Arc::new(Lookups::by(move |_, port| {
                server.asked.fetch_add(1, Ordering::SeqCst);
                let (is_back, changed) = &*server.is_back;
                let is_away = |is_back: &mut bool| !*is_back;
                drop(
                    changed
                        .wait_while(is_back.lock().unwrap(), is_away)
                        .unwrap(),
                );
                Ok(vec![([127, 0, 0, 1], port).into()])
            }))
        }

        fn comes_back(&self) {
            *self.is_back.0.lock().unwrap() = true;
            self.is_back.1.notify_all();
        }

        fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }
    }

    fn asking(lookups: &Arc<Lookups>, count: usize) -> JoinSet<Found> {
        let mut waiting = JoinSet::new();
        for _ in 0..count {
            let lookups = Arc::clone(lookups);
            waiting.spawn(async move { lookups.find("service.test", 443).await });
        }
        waiting
    }

    /// Lets each of so many tasks begin: there is one thread, and one of them at least has it each time.
    async fn each_has_its_turn(tasks: usize) {
        for _ in 0..tasks {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_crowd_that_wants_one_name_asks_for_it_once() {
        let server = NameServer::default();
        let lookups = server.lookups();
        let waiting = asking(&lookups, 1000);
        each_has_its_turn(1000).await;
        server.comes_back();
        let found = waiting.join_all().await;
        assert!(found.iter().all(|found| found.as_ref().unwrap().len() == 1));
        assert_eq!((found.len(), server.asked()), (1000, 1));
        // What is known is not kept: the name may lead elsewhere.
        lookups.find("service.test", 443).await.unwrap();
        assert_eq!(server.asked(), 2);
    }

    #[tokio::test]
    async fn a_name_server_that_hangs_costs_four_threads_and_serves_all_when_it_is_back() {
        let server = NameServer::default();
        let lookups = server.lookups();
        let mut waiting = JoinSet::new();
        // More than would fit, each too late to join the one before.
        for _ in 0..MOST + 2 {
            let mut one = asking(&lookups, 1);
            let given_up = timeout(Duration::from_millis(20), one.join_next()).await;
            assert!(given_up.is_err());
            one.detach_all();
            let mut running = lookups.running.lock().unwrap();
            for lookup in running.iter_mut() {
                lookup.began = lookup.began.checked_sub(SHARED_FOR).unwrap();
            }
        }
        for _ in 0..100 {
            let lookups = Arc::clone(&lookups);
            waiting.spawn(async move { lookups.find("service.test", 443).await });
        }
        each_has_its_turn(100).await;
        let other = lookups.find("other.test", 443).await;
        assert!(other.unwrap_err().contains("hang"));
        server.comes_back();
        let found = timeout(Duration::from_secs(10), waiting.join_all()).await;
        assert!(found.unwrap().iter().all(Result::is_ok));
        assert_eq!(server.asked(), MOST);
    }

    #[tokio::test]
    async fn a_name_without_an_address_is_an_error_for_each_who_asked() {
        let lookups = Lookups::by(|_, _| Err(io::Error::other("no such name")));
        let (one, other) = tokio::join!(lookups.find("x.test", 1), lookups.find("x.test", 1));
        assert_eq!(one, Err("no such name".to_owned()));
        assert_eq!(one, other);
    }

    #[tokio::test]
    async fn a_resolver_that_panics_is_an_error() {
        let lookups = Lookups::by(|_, _| panic!("broken"));
        let found = lookups.find("x.test", 1).await;
        assert!(found.unwrap_err().contains("without a result"));
    }
}
