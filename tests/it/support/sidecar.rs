//! The sidecar under test: the real `App` on a thread of this process, or the real binary.

mod process;
mod settings;

pub use process::Process;
pub use settings::Settings;

use std::{fmt, future::Future, net::SocketAddr, sync::mpsc, thread::JoinHandle, time::Duration};

use anyhow::Context as _;
use auth_sidecar::{app::App, config::Config};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{DEADLINE, FakeCsp, FakeService, eventually_async, get, logs, within_deadline};

/// The real `App`, with its own thread and runtime.
///
/// Dropping it drains it, but not for long, and fails the test when the sidecar itself had failed.
pub struct Sidecar {
    proxies: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    brokers: Vec<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    abort: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Receiver<anyhow::Result<()>>>,
    thread: Option<JoinHandle<()>>,
    /// The configuration and what it names, for as long as it may be read.
    files: TempDir,
}

impl Sidecar {
    /// With the credentials of an OAuth app of `csp`, in front of `service`.
    pub fn between(csp: &FakeCsp, service: &FakeService) -> Self {
        Self::start(&Settings::new(csp, service))
    }

    /// # Panics
    /// When the configuration or an address is refused.
    pub fn start(settings: &Settings) -> Self {
        Self::try_start(settings).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// # Errors
    /// The configuration or an address is refused.
    pub fn try_start(settings: &Settings) -> anyhow::Result<Self> {
        logs::capture();
        let files = tempfile::tempdir()?;
        let config = settings.load(files.path())?;
        let (bound, binding) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let (abort, aborted) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("sidecar".to_owned())
            .spawn(move || {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap()
                    .block_on(async {
                        let stopped = async { drop(stopped.await) };
                        tokio::select! {
                            () = run(config, bound, stopped, end) => {}
                            _ = aborted => {}
                        }
                    });
            })?;
        let Bound {
            proxies,
            admin,
            brokers,
        } = binding.recv_timeout(DEADLINE)??;
        Ok(Self {
            proxies,
            admin,
            brokers,
            stop: Some(stop),
            abort: Some(abort),
            ended: Some(ended),
            thread: Some(thread),
            files,
        })
    }

    /// The address of its (first) listener.
    pub fn proxy_address(&self) -> SocketAddr {
        self.proxies[0]
    }

    pub fn proxy_addresses(&self) -> &[SocketAddr] {
        &self.proxies
    }

    /// Its (first) listener, without a trailing slash.
    pub fn url(&self) -> String {
        format!("http://{}", self.proxy_address())
    }

    /// The broker's (first) port for tokens, without a trailing slash.
    pub fn broker_url(&self) -> String {
        format!("http://{}", self.brokers[0])
    }

    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin.unwrap())
    }

    pub async fn admin_get(&self, path: &str) -> (u16, String) {
        let reply = get(&format!("{}{path}", self.admin_url())).await;
        (reply.status.as_u16(), reply.text().to_owned())
    }

    /// Waits until `/readyz` says yes.
    pub async fn ready(&self) {
        let ready = async || self.admin_get("/readyz").await.0 == 200;
        eventually_async(ready, DEADLINE).await;
    }

    /// Replaces a file that was given with [`Settings::file`], by its key.
    pub fn rewrite(&self, name: &str, text: &str) {
        settings::replace(self.files.path(), name, text);
    }

    /// Begins the drain, and does not wait for its end.
    pub fn begin_stop(&mut self) {
        drop(self.stop.take());
    }

    /// Drains, and says how it ended.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.begin_stop();
        self.ended().await
    }

    /// Waits until it ends.
    pub async fn ended(mut self) -> anyhow::Result<()> {
        let ended = self.ended.take().unwrap();
        within_deadline(ended).await?.context("it panicked")?
    }
}

/// Where it listens.
struct Bound {
    proxies: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    brokers: Vec<SocketAddr>,
}

async fn run(
    config: Config,
    bound: mpsc::Sender<anyhow::Result<Bound>>,
    stopped: impl Future<Output = ()>,
    end: oneshot::Sender<anyhow::Result<()>>,
) {
    match App::bind(config) {
        Ok(app) => {
            drop(bound.send(Ok(Bound {
                proxies: app.proxy_addresses(),
                admin: app.admin_address(),
                brokers: app.broker_addresses(),
            })));
            drop(end.send(app.run(stopped).await));
        }
        Err(error) => drop(bound.send(Err(error))),
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        let thread = self.thread.take().unwrap();
        self.begin_stop();
        if !ends(&thread) {
            // What is still in flight belongs to nobody.
            drop(self.abort.take());
            ends(&thread);
        }
        let panicked = thread.is_finished() && thread.join().is_err();
        let ended = self.ended.take().map(|mut ended| ended.try_recv());
        if !std::thread::panicking() {
            assert!(!panicked, "the sidecar panicked");
            if let Some(Ok(Err(error))) = ended {
                panic!("the sidecar failed: {error:#}");
            }
        }
    }
}

/// Whether a thread ends within a second.
fn ends(thread: &JoinHandle<()>) -> bool {
    for _ in 0..200 {
        if thread.is_finished() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

impl fmt::Debug for Sidecar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sidecar").field(&self.proxies).finish()
    }
}
