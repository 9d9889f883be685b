//! The ways out: HTTP proxies on them, and addresses of every kind. What both legs have in common is
//! tried on both.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional},
    net::TcpStream,
    time::Instant,
};

use crate::support::{
    FakeCsp, FakeService, Process, RawServer, Settings, Sidecar, Validator, eventually,
    eventually_async, get,
    pki::Authority,
    refused_address, request,
    server::{Failures, Tls},
};

const SOON: Duration = Duration::from_secs(10);
const TOKEN: &str = "a-static-token";
/// A name that only the proxy can resolve.
const NAME: &str = "instance.test";
const TUNNEL: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

/// A proxy that says this to CONNECT, and then leads to that address whatever it was asked for.
pub struct Proxy {
    server: RawServer,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub fn to(target: SocketAddr) -> Self {
        Self::saying(TUNNEL, target, None)
    }

    pub fn saying(answer: impl Into<String>, target: SocketAddr, tls: Option<Tls>) -> Self {
        let answer = answer.into();
        let leads = answer == TUNNEL;
        Self::start("127.0.0.1:0".parse().unwrap(), answer, leads, target, tls)
    }

    /// One that leads there, and says so in this way.
    fn agreeing(answer: &str, target: SocketAddr) -> Self {
        let at = "127.0.0.1:0".parse().unwrap();
        Self::start(at, answer.to_owned(), true, target, None)
    }

    fn start(
        at: SocketAddr,
        answer: String,
        leads: bool,
        target: SocketAddr,
        tls: Option<Tls>,
    ) -> Self {
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&heads);
        let server = RawServer::start_at(at, Failures::default(), move |_, stream| {
            let (kept, answer, tls) = (Arc::clone(&kept), answer.clone(), tls.clone());
            async move {
                match tls {
                    None => tunnel(stream, &answer, leads, target, &kept).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.acceptor.accept(stream).await {
                            tunnel(stream, &answer, leads, target, &kept).await;
                        }
                    }
                }
            }
        });
        Self { server, heads }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn tunnel(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    answer: &str,
    leads: bool,
    target: SocketAddr,
    heads: &Mutex<Vec<String>>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match client.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return,
        }
    }
    heads.lock().unwrap().push(String::from_utf8(head).unwrap());
    if client.write_all(answer.as_bytes()).await.is_ok() && leads {
        let mut target = TcpStream::connect(target).await.unwrap();
        drop(copy_bidirectional(&mut client, &mut target).await);
    } else {
        // Kept open, so that only a deadline ends what is incomplete.
        drop(client.read_u8().await);
    }
}

/// An instance with the name that only the proxy resolves.
pub fn instance() -> FakeService {
    let authority = Authority::new();
    let tls = Tls::with(&authority, &authority.leaf_for(&[NAME], 2099), None);
    FakeService::start_behind(tls, Validator::of([TOKEN]))
}

pub fn through(proxy_url: &str, service: &FakeService) -> Settings {
    Settings::static_token(TOKEN, service)
        .set("upstream.url", format!("https://{NAME}"))
        .set("upstream.proxy_url", proxy_url)
        .file("upstream.ca_file", service.ca_pem())
}

#[tokio::test]
async fn an_upstream_behind_a_proxy_is_reached_by_a_tunnel_with_the_proxys_credentials() {
    let service = instance();
    let proxy = Proxy::to(service.address());
    let url = proxy.url().replace("http://", "http://user:p%40ss@");
    let settings = through(&url, &service).set("listen.workers", 1);
    let sidecar = Sidecar::start(&settings);
    for _ in 0..3 {
        let url = format!("{}/x", sidecar.url());
        assert_eq!(request("POST", &url, &[], "body").await.status, 200);
    }
    let heads = proxy.heads();
    assert_eq!(heads.len(), 1, "the tunnel is kept");
    let head = heads[0].to_ascii_lowercase();
    assert!(
        head.starts_with("connect instance.test:443 http/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains("\r\nhost: instance.test:443\r\n"), "{head}");
    assert!(
        head.contains("\r\nproxy-authorization: basic dxnlcjpwqhnz\r\n"),
        "{head}"
    );
    assert!(!heads[0].contains(TOKEN), "{head}");
    let received = &service.requests()[0];
    assert_eq!(received.header("host"), Some(NAME));
    assert_eq!(received.header("proxy-authorization"), None);
}

#[tokio::test]
async fn the_password_of_a_proxy_may_be_in_a_file_and_change() {
    let csp = FakeCsp::start_behind(Tls::new());
    let service = FakeService::start(csp.validator());
    let proxies = [Proxy::to(csp.address()), Proxy::to(service.address())];
    let as_user = |proxy: &Proxy| proxy.url().replace("http://", "http://user@");
    let settings = Settings::new(&csp, &service)
        // A connection for each request, so that each of them shows the password.
        .set("upstream.max_idle_connections", 0)
        .file("auth.ca_file", csp.ca_pem())
        .set("auth.proxy_url", as_user(&proxies[0]))
        .file("auth.proxy_password_file", "p@ss\n")
        .set("upstream.proxy_url", as_user(&proxies[1]))
        .file("upstream.proxy_password_file", "p@ss\n");
    let sidecar = Sidecar::start(&settings);
    let last = |proxy: &Proxy| proxy.heads().last().cloned().unwrap_or_default();
    let is_sent = async |basic: &str| {
        let line = format!("\r\nproxy-authorization: basic {basic}\r\n").to_lowercase();
        // The token leg has no reason to ask again but this one.
        let refresh = format!("{}/refresh", sidecar.admin_url());
        request("POST", &refresh, &[], "").await;
        get(&format!("{}/x", sidecar.url())).await;
        let sent = |proxy| last(proxy).to_lowercase().contains(&line);
        proxies.iter().all(sent)
    };
    eventually_async(async || is_sent("dXNlcjpwQHNz").await, SOON).await;
    for section in ["auth", "upstream"] {
        sidecar.rewrite(&format!("{section}.proxy_password_file"), "another");
    }
    eventually_async(async || is_sent("dXNlcjphbm90aGVy").await, SOON).await;
}

#[tokio::test]
async fn plain_http_goes_through_a_tunnel_too() {
    let service = FakeService::accepting([TOKEN]);
    let proxy = Proxy::to(service.address());
    let settings = Settings::static_token(TOKEN, &service)
        .set("upstream.url", format!("http://{NAME}:8080"))
        .set("upstream.allow_insecure_http", true)
        .set("upstream.proxy_url", proxy.url());
    let sidecar = Sidecar::start(&settings);
    let reply = get(&format!("{}/x", sidecar.url())).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert!(proxy.heads()[0].starts_with("CONNECT instance.test:8080 HTTP/1.1\r\n"));
    assert_eq!(service.requests()[0].target, "/x");
}

#[tokio::test]
async fn a_proxy_may_speak_tls_itself_and_learns_nothing_of_who_we_are() {
    let service = instance();
    let authority = Authority::new();
    let tls = Tls::with(&authority, &authority.leaf(), Some(&authority));
    let optional = Tls::with(&authority, &authority.leaf(), None);
    let trusted = format!("{}{}", service.ca_pem(), authority.ca_pem);
    let ours = authority.leaf();
    for (tls, status) in [(optional, 200), (tls, 502)] {
        let proxy = Proxy::saying(TUNNEL, service.address(), Some(tls));
        let url = proxy.url().replace("http://127.0.0.1", "https://localhost");
        let settings = through(&url, &service)
            .file("upstream.ca_file", &trusted)
            .file("upstream.client_cert_file", &ours.cert_pem)
            .file("upstream.client_key_file", &ours.key_pem);
        let sidecar = Sidecar::start(&settings);
        assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, status);
    }
}

#[tokio::test]
async fn an_exception_goes_around_the_proxy() {
    let service = FakeService::accepting([TOKEN]);
    let proxy = Proxy::to(service.address());
    let settings = Settings::static_token(TOKEN, &service).set("upstream.proxy_url", proxy.url());
    let sidecar = Sidecar::start(&settings);
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    assert_eq!(proxy.server.connections(), 1);
    let around = settings.set("upstream.no_proxy", "example.com,127.0.0.0/8");
    let sidecar = Sidecar::start(&around);
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    assert_eq!(proxy.server.connections(), 1);
}

#[tokio::test]
async fn a_proxy_that_does_not_lead_there_is_named_with_the_reason() {
    let service = instance();
    let long = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    for (answer, why) in [
        (
            "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
            "it does not accept our credentials (407 to CONNECT)",
        ),
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nno!!",
            "403",
        ),
        ("HTTP/1.1 302 Found\r\nLocation: http://h/\r\n\r\n", "302"),
        (
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "its response to CONNECT is no good",
        ),
        (&long, "its response to CONNECT is no good"),
        (
            "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "it sent more than a response",
        ),
    ] {
        let proxy = Proxy::saying(answer, service.address(), None);
        let url = proxy.url().replace("http://", "http://user:c4n4ry@");
        let sidecar = Process::start(&through(&url, &service)).await;
        let reply = get(&format!("{}/x", sidecar.url())).await;
        assert_eq!(reply.status, 502, "{why}");
        assert_eq!(
            reply.header("proxy-status"),
            Some("auth-sidecar; error=connection_refused; details=\"outbound_proxy\"")
        );
        let said = || {
            let output = sidecar.output();
            let line = "the proxy on the way to the upstream fails";
            output.lines().any(|l| l.contains(line) && l.contains(why))
        };
        eventually(said, SOON).await;
        assert!(!sidecar.output().contains("c4n4ry"));
    }
    assert_eq!(service.request_count(), 0);
}

#[tokio::test]
async fn a_proxy_that_is_away_or_silent_is_a_bad_gateway_in_time() {
    let service = instance();
    let (address, _socket) = refused_address();
    let sidecar = Sidecar::start(&through(&format!("http://{address}"), &service));
    let reply = get(&format!("{}/x", sidecar.url())).await;
    assert_eq!(reply.status, 502);
    assert!(
        reply
            .header("proxy-status")
            .unwrap()
            .contains("outbound_proxy")
    );

    let silent = Proxy::saying("HTTP/1.1 200 OK\r\n", service.address(), None);
    let settings = through(&silent.url(), &service).set("upstream.connect_timeout", "300ms");
    let sidecar = Sidecar::start(&settings);
    let started = Instant::now();
    let reply = get(&format!("{}/x", sidecar.url())).await;
    assert_eq!(reply.status, 504);
    assert!(started.elapsed() < Duration::from_secs(5));
    eventually(|| silent.server.open_connections() == 0, SOON).await;
}

/// Both services behind TLS, as `localhost`, and a proxy in front of each.
struct Legs {
    csp: FakeCsp,
    service: FakeService,
    proxies: [Proxy; 2],
}

impl Legs {
    fn start(answer: &str) -> Self {
        let csp = FakeCsp::start_tls();
        let service = FakeService::start_tls(csp.validator());
        let proxies = [csp.address(), service.address()].map(|at| Proxy::agreeing(answer, at));
        Self {
            csp,
            service,
            proxies,
        }
    }

    fn settings(&self) -> Settings {
        Settings::new(&self.csp, &self.service)
            .file("auth.ca_file", self.csp.ca_pem())
            .file("upstream.ca_file", self.service.ca_pem())
            .set("auth.proxy_url", self.proxies[0].url())
            .set("upstream.proxy_url", self.proxies[1].url())
    }
}

#[tokio::test]
async fn both_legs_decide_alike_whether_a_proxy_is_on_the_way() {
    let legs = Legs::start(TUNNEL);
    let ports = [legs.csp.address().port(), legs.service.address().port()];
    for (exception, is_around) in [
        ("example.com", false),
        ("localhost", true),
        ("LocalHost", true),
        (".localhost", true),
        ("*.localhost", false),
        ("localhost.", true),
        ("localhost:PORT", true),
        ("localhost:1", false),
        ("127.0.0.0/8", false),
        ("[::1], 10.0.0.0/8, *", true),
    ] {
        let seen = || [0, 1].map(|leg| legs.proxies[leg].heads().len());
        let before = seen();
        let exceptions = ports.map(|port| exception.replace("PORT", &port.to_string()));
        let settings = legs.settings();
        let settings = settings.set("auth.no_proxy", exceptions[0].as_str());
        let sidecar = Sidecar::start(&settings.set("upstream.no_proxy", exceptions[1].as_str()));
        let reply = get(&format!("{}/x", sidecar.url())).await;
        assert_eq!(reply.status, 200, "{exception}: {reply:?}");
        let after = seen();
        for leg in [0, 1] {
            let is_used = after[leg] > before[leg];
            assert_eq!(is_used, !is_around, "{exception} on leg {leg}");
        }
    }
}

#[tokio::test]
async fn every_2xx_to_connect_is_a_tunnel_on_both_legs_and_the_proxy_learns_who_asks() {
    for answer in [
        TUNNEL,
        "HTTP/1.0 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 202 Accepted\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nVia: 1.1 proxy\r\n\r\n",
        "HTTP/1.1 299 \r\n\r\n",
    ] {
        let legs = Legs::start(answer);
        let sidecar = Sidecar::start(&legs.settings());
        let reply = get(&format!("{}/x", sidecar.url())).await;
        assert_eq!(reply.status, 200, "{answer}: {reply:?}");
        let ports = [legs.csp.address().port(), legs.service.address().port()];
        for (proxy, port) in legs.proxies.iter().zip(ports) {
            let head = proxy.heads()[0].to_ascii_lowercase();
            let start = format!("connect localhost:{port} http/1.1\r\n");
            assert!(head.starts_with(&start), "{head}");
            let agent = concat!(
                "\r\nuser-agent: auth-sidecar/",
                env!("CARGO_PKG_VERSION"),
                "\r\n"
            );
            assert!(head.contains(agent), "{head}");
        }
    }
}

#[tokio::test]
async fn both_legs_say_alike_why_a_proxy_does_not_lead_there() {
    let wants = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
    for (answer, why) in [
        (wants, "it wants credentials"),
        (
            "HTTP/1.1 403 Forbidden\r\n\r\n",
            "it responded to CONNECT with 403",
        ),
        (
            "SSH-2.0-OpenSSH_9.2\r\n\r\n",
            "its response to CONNECT is no good",
        ),
    ] {
        let legs = Legs::start(TUNNEL);
        let bad =
            [legs.csp.address(), legs.service.address()].map(|at| Proxy::saying(answer, at, None));
        let of_auth = legs.settings().set("auth.proxy_url", bad[0].url());
        let sidecar = Process::start(&of_auth).await;
        let said = |line: &str, why: &str| {
            let output = sidecar.output();
            output.lines().any(|l| l.contains(line) && l.contains(why))
        };
        eventually(|| said("got no token", why), SOON).await;
        drop(sidecar);
        let of_upstream = legs.settings().set("upstream.proxy_url", bad[1].url());
        let sidecar = Process::start(&of_upstream).await;
        assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 502);
        let said = || sidecar.output().contains(why);
        eventually(said, SOON).await;
    }
}

/// Leads from an address of IPv6 to another.
fn at_ipv6(target: SocketAddr) -> RawServer {
    let at = "[::1]:0".parse().unwrap();
    RawServer::start_at(at, Failures::default(), move |_, mut stream| async move {
        let mut target = TcpStream::connect(target).await.unwrap();
        drop(copy_bidirectional(&mut stream, &mut target).await);
    })
}

#[tokio::test]
async fn addresses_of_ipv6_work_on_both_legs_with_tls_and_through_a_proxy() {
    let authority = Authority::new();
    let leaf = authority.leaf_for(&["::1"], 2099);
    let csp = FakeCsp::start_behind(Tls::with(&authority, &leaf, None));
    let tls = Tls::with(&authority, &leaf, None);
    let service = FakeService::start_behind(tls, csp.validator());
    let doors = [csp.address(), service.address()].map(at_ipv6);
    let urls = doors
        .each_ref()
        .map(|door| format!("https://{}", door.address()));
    let settings = Settings::new(&csp, &service)
        .set("auth.base_url", urls[0].as_str())
        .set("upstream.url", urls[1].as_str())
        .file("auth.ca_file", &authority.ca_pem)
        .file("upstream.ca_file", &authority.ca_pem);
    let sidecar = Sidecar::start(&settings);
    let reply = get(&format!("{}/x", sidecar.url())).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let host = service.requests()[0].header("host").unwrap().to_owned();
    assert_eq!(format!("https://{host}"), urls[1]);
    assert_eq!(
        csp.calls()[0].headers["host"],
        urls[0].trim_start_matches("https://")
    );

    // The proxies are at such addresses, too, and one speaks TLS.
    let proxy = |door: &RawServer, tls| {
        let at = "[::1]:0".parse().unwrap();
        Proxy::start(at, TUNNEL.to_owned(), true, door.address(), tls)
    };
    let proxies = [
        proxy(&doors[0], None),
        proxy(&doors[1], Some(Tls::with(&authority, &leaf, None))),
    ];
    let through = settings.set("auth.proxy_url", proxies[0].url()).set(
        "upstream.proxy_url",
        proxies[1].url().replace("http:", "https:"),
    );
    let sidecar = Sidecar::start(&through);
    let reply = get(&format!("{}/x", sidecar.url())).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    for (proxy, door) in proxies.iter().zip(&doors) {
        let start = format!("CONNECT {} HTTP/1.1\r\n", door.address());
        assert!(proxy.heads()[0].starts_with(&start), "{:?}", proxy.heads());
    }
    // And around them.
    let around = through
        .set("auth.no_proxy", "[::1]")
        .set("upstream.no_proxy", "::1/128");
    let sidecar = Sidecar::start(&around);
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    assert_eq!(proxies.each_ref().map(|proxy| proxy.heads().len()), [1, 1]);
}
