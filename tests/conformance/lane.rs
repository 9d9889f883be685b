//! A proxy and the upstream behind it: the sidecar, or another one.

use std::{net::SocketAddr, sync::mpsc, thread::JoinHandle};

use auth_sidecar::{
    app::App,
    config::{Config, Sources},
};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::{case::Peer, upstream::Recorder};

/// The credential that every proxy here sets.
pub const TOKEN: &str = "the-token-of-the-proxy";

/// Plays one case at a time.
#[derive(Debug)]
pub struct Lane {
    pub proxy: SocketAddr,
    pub upstream: Recorder,
    _sidecar: Option<Sidecar>,
}

impl Lane {
    /// The real `App`, on a thread of its own.
    pub fn with_sidecar() -> Self {
        let upstream = Recorder::start(0);
        let sidecar = Sidecar::start(upstream.address());
        Self {
            proxy: sidecar.address,
            upstream,
            _sidecar: Some(sidecar),
        }
    }

    /// Another proxy that listens at the first of the ports and forwards to the second.
    pub fn in_front((proxy, upstream): (u16, u16)) -> Self {
        Self {
            proxy: SocketAddr::from(([127, 0, 0, 1], proxy)),
            upstream: Recorder::start(upstream),
            _sidecar: None,
        }
    }
}

/// Which peer is asked, and its ports.
pub fn from_environment() -> (Peer, Vec<(u16, u16)>) {
    #[expect(
        clippy::disallowed_methods,
        reason = "the script that has started the peer says where it is"
    )]
    let get = |name: &str| std::env::var(name).unwrap_or_default();
    let name = get("PEER");
    let peer = Peer::ALL
        .into_iter()
        .find(|(_, known)| *known == name)
        .map(|(peer, _)| peer);
    let ports = get("LANES")
        .split(',')
        .filter_map(|lane| {
            let (proxy, upstream) = lane.split_once(':')?;
            Some((proxy.parse().ok()?, upstream.parse().ok()?))
        })
        .collect();
    (peer.unwrap(), ports)
}

#[derive(Debug)]
struct Sidecar {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _files: TempDir,
}

impl Sidecar {
    fn start(upstream: SocketAddr) -> Self {
        let files = tempfile::tempdir().unwrap();
        let file = files.path().join("auth-sidecar.toml");
        // One worker, so that the next client is given the upstream connection of the last one.
        let text = format!(
            "listen.address = \"127.0.0.1:0\"\nlisten.workers = 1\nadmin.address = \"off\"\n\
             upstream.url = \"http://{upstream}\"\n\
             auth.type = \"static-token\"\nauth.token = \"{TOKEN}\"\n"
        );
        std::fs::write(&file, text).unwrap();
        let config = Config::load(&Sources::of_file(file)).unwrap().config;
        let (bound, binding) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let app = App::bind(config).unwrap();
                bound.send(app.proxy_addresses()).unwrap();
                tokio::select! {
                    ended = app.run(std::future::pending()) => ended.unwrap(),
                    // What is still open has been played; there is nothing to drain.
                    _ = stopped => {}
                }
            });
        });
        Self {
            address: *binding.recv().unwrap().first().unwrap(),
            stop: Some(stop),
            thread: Some(thread),
            _files: files,
        }
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        drop(self.stop.take());
        let panicked = self
            .thread
            .take()
            .is_some_and(|thread| thread.join().is_err());
        if !std::thread::panicking() {
            assert!(!panicked, "the sidecar panicked");
        }
    }
}
