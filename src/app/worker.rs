//! The threads of the data plane: one a core, each with a runtime, the listeners and a pool of
//! upstream connections of its own, so that a request never changes cores and takes no shared lock.

use std::{io, num::NonZero, sync::Arc, thread};

use tokio::{
    runtime::Builder,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, timeout_at},
};

use super::{
    Live, Shared,
    listening::{Door, Listening},
    rules,
};
use crate::{
    proxy::{Budget, Proxy, Switch, upstream::Upstream},
    server::{self, Http, Shutdown, TlsInUse},
};

/// All workers, as the main thread sees them.
#[derive(Debug)]
pub(super) struct Workers {
    orders: Vec<mpsc::Sender<Order>>,
    ended: mpsc::Receiver<()>,
}

/// An order to a worker.
#[derive(Debug)]
enum Order {
    /// Serve this, until then.
    Serve(Door, Shutdown),
    /// Handle requests so from now on.
    Handle(Proxy),
}

impl Workers {
    /// Starts `count` of them, or one a core for 0. They serve nobody yet.
    pub(super) fn start(count: usize, first: &Live, shared: &Shared) -> anyhow::Result<Self> {
        let count = match count {
            0 => thread::available_parallelism().map_or(1, NonZero::get),
            count => count,
        };
        let proxies = proxies(count, first, shared);
        let (alive, ended) = mpsc::channel(count);
        let mut orders = Vec::new();
        for (number, proxy) in proxies.into_iter().enumerate() {
            let (order, ordered) = mpsc::channel(4);
            let worker = Worker {
                shared: shared.clone(),
                orders: ordered,
            };
            let alive = Alive(alive.clone());
            let runtime = Builder::new_current_thread().enable_all().build()?;
            thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(move || {
                    runtime.block_on(worker.work(proxy));
                    drop(alive);
                })?;
            orders.push(order);
        }
        Ok(Self { orders, ended })
    }

    /// Has all of them serve a socket until it is given up.
    pub(super) async fn serve(&self, listening: &Listening, tls: &TlsInUse) -> io::Result<()> {
        for worker in &self.orders {
            for door in listening.doors(tls)? {
                let order = Order::Serve(door, listening.shutdown.clone());
                // One that has ended is noticed by `ended`.
                worker.send(order).await.unwrap_or_default();
            }
        }
        Ok(())
    }

    /// Has all of them handle requests as `live` says.
    pub(super) async fn handle(&self, live: &Live, shared: &Shared) {
        let proxies = proxies(self.orders.len(), live, shared);
        for (worker, proxy) in self.orders.iter().zip(proxies) {
            worker.send(Order::Handle(proxy)).await.unwrap_or_default();
        }
    }

    /// Waits until all of them have ended, but not beyond `deadline`: of a thread that hangs nothing more
    /// is to be had, and others have something to finish.
    pub(super) async fn all_ended(&mut self, deadline: Instant) {
        let all = async { while self.ended().await.is_some() {} };
        if timeout_at(deadline, all).await.is_err() {
            tracing::error!("a worker does not end; the program stops without it");
        }
    }

    /// Waits until one of them has ended; `None` when none is left.
    pub(super) async fn ended(&mut self) -> Option<()> {
        self.ended.recv().await
    }
}

/// One proxy a worker: what they share is counted together, all else is their own.
fn proxies(count: usize, live: &Live, shared: &Shared) -> Vec<Proxy> {
    let config = &live.config;
    let budget = Budget::new(
        config.proxy.replay_body_limit,
        config.proxy.replay_buffer_total,
    );
    let access = shared.access_log.of(&config.log);
    let health = live.health.clone();
    let ledger = shared.ledger.with(
        config.proxy.max_in_flight,
        health,
        access,
        live.tracer.clone(),
    );
    let proxy = || {
        let connector = Arc::clone(&live.connector);
        Proxy::new(
            config.proxy.clone(),
            rules::data(live),
            live.tokens.clone(),
            Upstream::new(&config.upstream, connector, Arc::clone(&shared.metrics)),
            ledger.clone(),
            budget.clone(),
        )
    };
    (0..count).map(|_| proxy()).collect()
}

/// One worker, on its own thread.
struct Worker {
    shared: Shared,
    orders: mpsc::Receiver<Order>,
}

impl Worker {
    async fn work(mut self, proxy: Proxy) {
        tokio::spawn(proxy.close_idle());
        let switch = Switch::new(proxy);
        let mut serving = JoinSet::new();
        let stop = self.shared.stop.clone();
        while let Some(Some(order)) = stop.run_until_cancelled(self.orders.recv()).await {
            match order {
                Order::Serve(door, shutdown) => match door.open() {
                    Ok(listener) => {
                        serving.spawn(server::serve(
                            listener,
                            Arc::clone(&self.shared.server),
                            self.shared.connections.clone(),
                            Http(switch.clone()),
                            shutdown,
                        ));
                    }
                    Err(error) => tracing::error!(%error, "a worker cannot use a listener"),
                },
                Order::Handle(proxy) => {
                    tokio::spawn(proxy.close_idle());
                    switch.set(proxy);
                    // By the rules of this proxy, which no other thread can know to be in use.
                    self.shared.connections.review();
                }
            }
        }
        serving.join_all().await;
    }
}

/// Says that a worker has ended, also when it panicked.
struct Alive(mpsc::Sender<()>);

impl Drop for Alive {
    fn drop(&mut self) {
        // There is a place for each worker, so this is refused only when nobody listens.
        self.0.try_send(()).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_hangs_is_waited_for_until_the_deadline_and_one_that_ends_no_longer() {
        let limit = Duration::from_secs(25);
        for hangs in [false, true] {
            let (alive, ended) = mpsc::channel(2);
            let mut workers = Workers {
                orders: Vec::new(),
                ended,
            };
            let first = Alive(alive.clone());
            let second = hangs.then(|| Alive(alive.clone()));
            drop((alive, first));
            let start = Instant::now();
            workers.all_ended(start + limit).await;
            assert_eq!(start.elapsed() >= limit, hangs);
            drop(second);
        }
    }
}
