//! The ten faults, each played for real: the demo's own services, a gate in front of each, and the
//! binary between them.

use std::{
    any::Any,
    fmt::Debug,
    future::Future,
    net::SocketAddr,
    pin::Pin,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use auth_sidecar::{
    client_token::Hash,
    demo::{self, instance::Instance, token_service::TokenService},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use crate::support::{
    Connection, DEADLINE, Process, RawServer, Settings, eventually_async, get, pki::Leaf, request,
    server::Tls,
};

/// A fault, and by which words each voice names who is to blame and what to do.
pub struct Fault {
    /// The fault's section in the runbook.
    pub heading: &'static str,
    pub play: fn() -> Play,
    /// Words of the log's lines, of which the first is shown.
    pub log: &'static [&'static str],
    pub alerts: &'static [&'static str],
    culprit: &'static [&'static str],
    remedy: &'static [&'static str],
}

type Play = Pin<Box<dyn Future<Output = Scene> + Send>>;

/// What is left on the stage while the voices are heard.
pub struct Scene {
    pub sidecar: Process,
    /// Addresses and paths, and what the page calls them.
    pub names: Vec<(String, &'static str)>,
    kept: Vec<Box<dyn Any + Send>>,
}

impl Fault {
    /// What a voice does not name.
    pub fn misses(&self, voice: &str, said: &str) -> Vec<String> {
        let lower = said.to_lowercase();
        let has = |words: &[&str]| {
            words
                .iter()
                .any(|word| lower.contains(&word.to_lowercase()))
        };
        let beginning: &[&str] = match voice {
            "log" => &["failing_for_seconds"],
            _ => &["since <time>", "since: <time>", "since        <time>"],
        };
        let wanted = [
            ("who is to blame", self.culprit),
            ("since when", beginning),
            ("what to do", self.remedy),
        ];
        let missing = wanted.into_iter().filter(|(_, words)| !has(words));
        missing
            .map(|(what, words)| {
                format!(
                    "{}: the {voice} does not say {what} {words:?}:\n{said}\n",
                    self.heading
                )
            })
            .collect()
    }
}

pub const FAULTS: [Fault; 10] = [
    Fault {
        heading: "The token service is down",
        play: || Box::pin(token_service_down()),
        log: &["got no token", "no usable token"],
        alerts: &["AuthSidecarNoToken", "AuthSidecarTokenServiceDown"],
        culprit: &[
            "token service 127.0.0.1:9001",
            "token_service=\"127.0.0.1:9001\"",
            "token service of",
        ],
        remedy: &[
            "check the network to the token service",
            "nothing responds there",
            "can be reached",
        ],
    },
    Fault {
        heading: "The secret is revoked",
        play: || Box::pin(secret_revoked()),
        log: &["got no token", "no usable token"],
        alerts: &["AuthSidecarNoToken", "AuthSidecarCredentialRejected"],
        culprit: &["credential", "invalid_client"],
        remedy: &["check auth.client_id", "replace the credential"],
    },
    Fault {
        heading: "The upstream is down",
        play: || Box::pin(upstream_down()),
        log: &["the upstream fails", "request request_id"],
        alerts: &["AuthSidecarUpstreamDown"],
        culprit: &[
            "upstream http://127.0.0.1:9002",
            "upstream=\"127.0.0.1:9002\"",
            "its upstream",
        ],
        remedy: &[
            "check that the service runs",
            "check host and port",
            "the log has a line with the remedy",
        ],
    },
    Fault {
        heading: "The upstream answers 401 to everything",
        play: || Box::pin(unauthorized()),
        log: &[
            "the upstream refuses a fresh token",
            "cause=\"unauthorized\"",
        ],
        alerts: &["AuthSidecarTokenRefused"],
        culprit: &[
            "upstream http://127.0.0.1:9002",
            "upstream=\"127.0.0.1:9002\"",
            "the upstream of",
        ],
        remedy: &[
            "check that the credential belongs to this upstream",
            "shows what the token claims",
        ],
    },
    Fault {
        heading: "The credential lacks a role",
        play: || Box::pin(forbidden()),
        log: &["the upstream forbids"],
        alerts: &["AuthSidecarForbidden"],
        culprit: &[
            "the credential lacks a permission",
            "which lacks a permission",
        ],
        remedy: &["the role for"],
    },
    Fault {
        heading: "A certificate has ended",
        play: || Box::pin(certificate_ended()),
        log: &["the upstream cannot be used", "a credential has ended"],
        alerts: &["AuthSidecarCredentialEnded", "AuthSidecarUpstreamDown"],
        culprit: &[
            "certificate of the upstream",
            "upstream=\"127.0.0.1:9002\"",
            "its upstream",
        ],
        remedy: &["its owner has to renew it", "Replace it"],
    },
    Fault {
        heading: "The disk is full",
        play: || Box::pin(disk_full()),
        log: &["the access log loses lines"],
        alerts: &["AuthSidecarLogLosesLines"],
        culprit: &[
            "the disk of /var/log/auth-sidecar",
            "file=/var/log/auth-sidecar",
            "the disk is full",
        ],
        remedy: &["make room"],
    },
    Fault {
        heading: "The configuration is broken",
        play: || Box::pin(configuration_broken()),
        log: &["the new configuration is wrong"],
        alerts: &["AuthSidecarConfigNotLoaded"],
        culprit: &[
            "configuration file /etc/auth-sidecar",
            "file /etc/auth-sidecar",
            "the new one is wrong",
        ],
        remedy: &["mend the configuration file", "has every mistake"],
    },
    Fault {
        heading: "No file descriptors are left",
        play: || Box::pin(no_descriptors()),
        log: &["reason=\"no_descriptors\""],
        alerts: &["AuthSidecarNoDescriptors"],
        culprit: &["open files", "LimitNOFILE"],
        remedy: &["raise"],
    },
    Fault {
        heading: "A client has no token",
        play: || Box::pin(client_without_token()),
        log: &["requests are refused", "error.type=client_token"],
        alerts: &["AuthSidecarClientsRefused"],
        culprit: &[
            "the client (last: 127.0.0.1)",
            "client=\"127.0.0.1\"",
            "the client is to blame",
        ],
        remedy: &[
            "send a token of `auth-sidecar local-token`",
            "name the client",
        ],
    },
];

/// Short enough to see a token end, and long enough to see it used.
const SHORT: Duration = Duration::from_secs(3);
const LONG: Duration = Duration::from_secs(600);

/// A demo's services, each behind a gate that can be closed.
struct Demo {
    tokens: Gate,
    instance: RawServer,
    settings: Settings,
}

impl Demo {
    async fn start(tokens: TokenService) -> Self {
        let tokens = Arc::new(tokens);
        let instance = Arc::new(Instance::new(Arc::clone(&tokens)));
        let gates = (
            Gate::to(serve(Arc::clone(&tokens)).await),
            gate(watch::channel(serve_instance(instance).await).1),
        );
        let settings = Settings::to(&format!("http://{}", gates.1.address()))
            .set("auth.type", "csp-oauth-app")
            .set(
                "auth.base_url",
                format!("http://{}", gates.0.server.address()),
            )
            .set("auth.client_id", tokens.client_id())
            .set("auth.client_secret", tokens.client_secret());
        Self {
            tokens: gates.0,
            instance: gates.1,
            settings,
        }
    }

    async fn run(&self) -> Process {
        ready(Process::start(&self.settings).await).await
    }

    fn scene(self, sidecar: Process) -> Scene {
        let names = vec![
            (self.tokens.server.address().to_string(), "127.0.0.1:9001"),
            (self.instance.address().to_string(), "127.0.0.1:9002"),
        ];
        Scene {
            sidecar,
            names,
            kept: vec![Box::new(self.tokens.server), Box::new(self.instance)],
        }
    }
}

async fn serve(tokens: Arc<TokenService>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(demo::serve_tokens(listener, tokens));
    address
}

async fn serve_instance(instance: Arc<Instance>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(demo::serve_instance(listener, instance));
    address
}

/// What leads to a service, and can lead to another one instead.
struct Gate {
    server: RawServer,
    service: watch::Sender<SocketAddr>,
}

impl Gate {
    fn to(service: SocketAddr) -> Self {
        let (service, now) = watch::channel(service);
        Self {
            server: gate(now),
            service,
        }
    }

    /// Leads to another service; the connections to the one before end.
    fn lead_to(&self, service: SocketAddr) {
        self.service.send_replace(service);
    }
}

/// What leads to a service, until it is stopped with all its connections.
fn gate(service: watch::Receiver<SocketAddr>) -> RawServer {
    RawServer::start(move |_, stream| {
        let mut service = service.clone();
        async move {
            let now = *service.borrow_and_update();
            tokio::select! {
                () = through(stream, now) => {}
                Ok(()) = service.changed() => {}
            }
        }
    })
}

async fn through(mut client: impl AsyncRead + AsyncWrite + Unpin, service: SocketAddr) {
    let Ok(mut service) = TcpStream::connect(service).await else {
        return;
    };
    // Whichever side ends first.
    drop(copy_bidirectional(&mut client, &mut service).await);
}

async fn ready(sidecar: Process) -> Process {
    let ready = async || sidecar.admin_get("/readyz").await.0 == 200;
    eventually_async(ready, DEADLINE).await;
    sidecar
}

/// Waits until the sidecar tells of such a trouble.
async fn trouble(sidecar: &Process, kind: &str) {
    let kind = format!("\"kind\": \"{kind}\"");
    let told = async || sidecar.admin_get("/status").await.1.contains(&kind);
    eventually_async(told, DEADLINE).await;
}

/// Waits until it has no usable token.
async fn lost(sidecar: &Process) {
    let lost = async || sidecar.stderr().contains("no usable token");
    eventually_async(lost, DEADLINE).await;
}

async fn ask(sidecar: &Process) -> u16 {
    let url = format!("{}/api/v2/cloudintegration", sidecar.url());
    get(&url).await.status.as_u16()
}

async fn token_service_down() -> Scene {
    let mut demo = Demo::start(TokenService::new(SHORT)).await;
    demo.settings = demo.settings.set("auth.hold_timeout", "0s");
    let sidecar = demo.run().await;
    demo.tokens.server.stop();
    lost(&sidecar).await;
    assert_eq!(ask(&sidecar).await, 503);
    demo.scene(sidecar)
}

async fn secret_revoked() -> Scene {
    let mut demo = Demo::start(TokenService::new(SHORT)).await;
    demo.settings = demo.settings.set("auth.hold_timeout", "0s");
    let sidecar = demo.run().await;
    // One that knows no such client, at the same address.
    let stranger = serve(Arc::new(TokenService::new(SHORT))).await;
    demo.tokens.lead_to(stranger);
    lost(&sidecar).await;
    assert_eq!(ask(&sidecar).await, 503);
    demo.scene(sidecar)
}

async fn upstream_down() -> Scene {
    let mut demo = Demo::start(TokenService::new(LONG)).await;
    let sidecar = demo.run().await;
    assert_eq!(ask(&sidecar).await, 200);
    demo.instance.stop();
    assert_eq!(ask(&sidecar).await, 502);
    demo.scene(sidecar)
}

async fn unauthorized() -> Scene {
    let mut demo = Demo::start(TokenService::new(LONG)).await;
    let stranger = Arc::new(TokenService::new(LONG));
    // An instance that knows tokens of another token service.
    let instance = serve_instance(Arc::new(Instance::new(stranger))).await;
    demo.instance = gate(watch::channel(instance).1);
    let url = format!("http://{}", demo.instance.address());
    demo.settings = demo.settings.set("upstream.url", url);
    let sidecar = demo.run().await;
    let refused = async || {
        assert_eq!(ask(&sidecar).await, 401);
        sidecar
            .stderr()
            .contains("the upstream refuses a fresh token")
    };
    eventually_async(refused, DEADLINE).await;
    demo.scene(sidecar)
}

async fn forbidden() -> Scene {
    let demo = Demo::start(TokenService::of_reader(LONG)).await;
    let sidecar = demo.run().await;
    let report = format!("{}/report?f=wavefront", sidecar.url());
    let reply = request("POST", &report, &[], "demo.requests 42 source=demo").await;
    assert_eq!(reply.status, 403);
    assert_eq!(ask(&sidecar).await, 200);
    demo.scene(sidecar)
}

/// The instance shows a certificate of its own, which the sidecar trusts and which has ended.
async fn certificate_ended() -> Scene {
    let mut demo = Demo::start(TokenService::new(LONG)).await;
    let leaf = Leaf::self_signed(&["localhost", "127.0.0.1"], 2020);
    let acceptor = Tls::showing(&leaf, &leaf, &leaf.cert_pem).acceptor;
    let plain = demo.instance;
    let service = plain.address();
    demo.instance = RawServer::start(move |_, stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                through(stream, service).await;
            }
        }
    });
    let url = format!("https://{}", demo.instance.address());
    demo.settings = demo
        .settings
        .set("upstream.url", url)
        .file("upstream.ca_file", &leaf.cert_pem);
    let sidecar = demo.run().await;
    assert_eq!(ask(&sidecar).await, 502);
    trouble(&sidecar, "ended").await;
    let mut scene = demo.scene(sidecar);
    scene.kept.push(Box::new(plain));
    scene
}

/// The access log is on a disk of 16 KiB, or, where nobody may make one, in a file that may not grow
/// beyond that.
async fn disk_full() -> Scene {
    let demo = Demo::start(TokenService::new(LONG)).await;
    let logs = tempfile::tempdir().unwrap();
    let directory = logs.path().to_str().unwrap().to_owned();
    let settings = demo
        .settings
        .clone()
        .set("log.access", "all")
        .set("log.access_file", format!("{directory}/access.log"));
    let sidecar = Process::start_through(&settings, &[], |_| {
        let mount = "mount -t tmpfs -o size=16k tmpfs \"$0\"";
        let (program, flags) = if may_mount(&directory, mount) {
            ("unshare", vec!["-rm", "sh", "-c"])
        } else {
            ("sh", vec!["-c"])
        };
        let bound = match program {
            "sh" => "trap '' XFSZ; ulimit -f 16",
            _ => mount,
        };
        let mut command = Command::new(program);
        command.args(flags).arg(format!("{bound} && exec \"$@\""));
        command.args([&directory, env!("CARGO_BIN_EXE_auth-sidecar")]);
        command
    })
    .await;
    let sidecar = ready(sidecar).await;
    let full = async || {
        assert_eq!(ask(&sidecar).await, 200);
        sidecar.stderr().contains("the access log loses lines")
    };
    eventually_async(full, DEADLINE).await;
    trouble(&sidecar, "log").await;
    let mut scene = demo.scene(sidecar);
    scene.names.push((directory, "/var/log/auth-sidecar"));
    scene.kept.push(Box::new(logs));
    scene
}

/// Whether this process may make a disk that only a child of it sees.
fn may_mount(directory: &str, mount: &str) -> bool {
    let status = Command::new("unshare")
        .args(["-rm", "sh", "-c", mount, directory])
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}

async fn configuration_broken() -> Scene {
    let demo = Demo::start(TokenService::new(LONG)).await;
    let sidecar = demo.run().await;
    let broken = demo.settings.clone().set("listen.max_in_flight", 0);
    sidecar.reconfigure(&broken);
    trouble(&sidecar, "configuration").await;
    assert_eq!(ask(&sidecar).await, 200);
    demo.scene(sidecar)
}

async fn no_descriptors() -> Scene {
    let demo = Demo::start(TokenService::new(LONG)).await;
    let sidecar = Process::start_through(&demo.settings, &[], |_| {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n 96 && exec \"$0\" \"$@\""]);
        command.arg(env!("CARGO_BIN_EXE_auth-sidecar"));
        command
    })
    .await;
    let sidecar = ready(sidecar).await;
    let mut idle = Vec::new();
    for _ in 0..96 {
        idle.push(Connection::to(sidecar.proxy_address()).await);
    }
    trouble(&sidecar, "descriptors").await;
    let mut scene = demo.scene(sidecar);
    scene.kept.push(Box::new(idle));
    scene
}

async fn client_without_token() -> Scene {
    let mut demo = Demo::start(TokenService::new(LONG)).await;
    let list = format!("grafana:{}\n", Hash::of(b"a-local-token"));
    demo.settings = demo.settings.file("listen.client_tokens_file", &list);
    let sidecar = demo.run().await;
    assert_eq!(ask(&sidecar).await, 403);
    demo.scene(sidecar)
}

impl Debug for Scene {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scene").finish_non_exhaustive()
    }
}
