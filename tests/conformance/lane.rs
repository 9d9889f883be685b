//! A proxy and the upstream behind it: the sidecar, or another one.

use std::{
    net::SocketAddr,
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use auth_sidecar::{
    app::App,
    config::{Config, Sources},
};
use rcgen::generate_simple_self_signed;
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs::default_provider};
use tempfile::TempDir;
use tokio::sync::oneshot;

use crate::{case::Peer, upstream::Recorder, wire::Entrance};

/// The credential that every proxy here sets.
pub const TOKEN: &str = "the-token-of-the-proxy";

/// Plays one case at a time.
#[derive(Debug)]
pub struct Lane {
    pub proxy: Entrance,
    pub upstream: Recorder,
    _sidecar: Option<Sidecar>,
}

impl Lane {
    /// The real `App`, on a thread of its own, listening on TCP.
    pub fn with_sidecar() -> Self {
        let files = tempfile::tempdir().unwrap();
        Self::of(files, "listen.address = '127.0.0.1:0'", Entrance::Tcp)
    }

    /// The same on a unix socket.
    pub fn on_a_unix_socket() -> Self {
        let files = tempfile::tempdir().unwrap();
        let socket = files.path().join("proxy.sock");
        let listen = format!("listen.address = 'unix:{}'", socket.display());
        Self::of(files, &listen, |_| Entrance::Unix(socket))
    }

    /// The same with TLS.
    pub fn with_tls() -> Self {
        let files = tempfile::tempdir().unwrap();
        let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let trusting = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let write = |name: &str, text: String| {
            let path = files.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let listen = format!(
            "listen.address = 'tls:127.0.0.1:0'\n\
             listen.tls_cert_file = '{}'\nlisten.tls_key_file = '{}'",
            write("cert.pem", made.cert.pem()),
            write("key.pem", made.signing_key.serialize_pem()),
        );
        let trusting = Arc::new(trusting);
        Self::of(files, &listen, |port| Entrance::Tls(port, trusting))
    }

    fn of(files: TempDir, listen: &str, entrance: impl FnOnce(SocketAddr) -> Entrance) -> Self {
        let upstream = Recorder::start(0);
        let sidecar = Sidecar::start(upstream.address(), listen, files);
        // Where there is no port, nobody asks for it.
        let nowhere = SocketAddr::from(([0; 4], 0));
        Self {
            proxy: entrance(sidecar.port.unwrap_or(nowhere)),
            upstream,
            _sidecar: Some(sidecar),
        }
    }

    /// Another proxy that listens at the first of the ports and forwards to the second.
    pub fn in_front((proxy, upstream): (u16, u16)) -> Self {
        Self {
            proxy: Entrance::Tcp(SocketAddr::from(([127, 0, 0, 1], proxy))),
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
    port: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _files: TempDir,
}

impl Sidecar {
    fn start(upstream: SocketAddr, listen: &str, files: TempDir) -> Self {
        let file = files.path().join("auth-sidecar.toml");
        // One worker, so that the next client is given the upstream connection of the last one.
        let text = format!(
            "{listen}\nlisten.workers = 1\nadmin.address = \"off\"\n\
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
            port: binding.recv().unwrap().first().copied(),
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
