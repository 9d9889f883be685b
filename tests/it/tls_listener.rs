use std::{
    fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    process::{Command, Output},
    sync::Arc,
};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose};
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::support::{
    Connection, DEADLINE, FakeCsp, FakeService, Process, Settings, Sidecar, eventually,
    eventually_async, logs,
    pki::{Authority, Leaf},
    send_raw,
};

fn client_certificate(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
}

fn settings(csp: &FakeCsp, service: &FakeService, leaf: &Leaf) -> Settings {
    Settings::new(csp, service)
        .set("listen.address", "tls:127.0.0.1:0")
        .file("listen.tls_cert_file", &leaf.cert_pem)
        .file("listen.tls_key_file", &leaf.key_pem)
}

/// One request over TLS, answered to the end of the connection; or why there was none.
fn ask(
    address: SocketAddr,
    name: &str,
    authority: &Authority,
    own: Option<&Leaf>,
) -> Result<String, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots());
    let config = match own.map(Leaf::der) {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
    };
    converse(address, name, config)
}

fn converse(address: SocketAddr, name: &str, config: ClientConfig) -> Result<String, String> {
    let name = name.to_owned().try_into().unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut stream = StreamOwned::new(connection, socket);
    let mut answer = String::new();
    stream
        .write_all(b"GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .and_then(|()| stream.read_to_string(&mut answer))
        .map_err(|error| error.to_string())?;
    Ok(answer)
}

/// What curl says that trusts this authority alone.
fn curl(sidecar: &Sidecar, authority: &Authority, flags: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ca.pem");
    fs::write(&file, &authority.ca_pem).unwrap();
    let port = sidecar.proxy_address().port();
    Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "10"])
        .args(["--output", "/dev/null", "--cacert"])
        .arg(&file)
        .args(flags)
        .arg(format!("https://localhost:{port}/echo"))
        .output()
        .unwrap()
}

/// Whether the certificate that is shown is of this authority.
fn shown(address: SocketAddr, authority: &Authority) -> bool {
    ask(address, "localhost", authority, None)
        .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
}

#[tokio::test]
async fn a_request_over_tls_is_served_like_any_other() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let authority = Authority::new();
    let pair = authority.leaf();
    let sidecar = Sidecar::start(&settings(&csp, &service, &pair));
    sidecar.ready().await;
    for name in ["localhost", "127.0.0.1"] {
        let answer = ask(sidecar.proxy_address(), name, &authority, None).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let (_, metrics) = sidecar.admin_get("/metrics").await;
    assert!(
        metrics.contains("auth_sidecar_credential_expiry_timestamp_seconds{kind=\"listener\"}"),
        "{metrics}"
    );
    // The client decides whether it believes us.
    let elsewhere = ask(sidecar.proxy_address(), "h.example", &authority, None);
    assert!(elsewhere.unwrap_err().contains("not valid for name"));
    let stranger = Authority::new();
    let unknown = ask(sidecar.proxy_address(), "localhost", &stranger, None);
    assert!(unknown.unwrap_err().contains("UnknownIssuer"));
}

#[tokio::test]
async fn the_version_of_http_is_agreed_on_in_the_handshake() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let authority = Authority::new();
    let pair = authority.leaf();
    let sidecar = Sidecar::start(&settings(&csp, &service, &pair));
    sidecar.ready().await;
    for (wanted, spoken) in [("--http2", "2 200"), ("--http1.1", "1.1 200")] {
        let said = curl(
            &sidecar,
            &authority,
            &[wanted, "--write-out", "%{http_version} %{http_code}"],
        );
        assert_eq!(String::from_utf8_lossy(&said.stdout), spoken, "{said:?}");
    }
    assert_eq!(service.requests().len(), 2);
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_told_so() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let pair = Authority::new().leaf();
    let sidecar = Sidecar::start(&settings(&csp, &service, &pair));
    let answer = send_raw(
        sidecar.proxy_address(),
        "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    )
    .await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.contains("use https://"), "{answer}");
    assert!(
        answer.to_lowercase().contains("proxy-status: auth-sidecar"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_handshake_is_dropped_and_takes_a_place_until_then() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let authority = Authority::new();
    let pair = authority.leaf();
    let settings = settings(&csp, &service, &pair).set("listen.header_read_timeout", "2s");
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    // The beginning of a ClientHello, then nothing; and nothing at all.
    for begun in [&[0x16, 3, 1, 2, 0, 1][..], &[]] {
        let mut stalled = Connection::to(sidecar.proxy_address()).await;
        stalled.write(begun).await;
        let is_counted = async || {
            let (_, metrics) = sidecar.admin_get("/metrics").await;
            metrics.contains("auth_sidecar_connections 1")
        };
        eventually_async(is_counted, DEADLINE).await;
        assert_eq!(stalled.read_to_end().await, b"");
    }
    // Neither has harmed anybody.
    assert!(shown(sidecar.proxy_address(), &authority));
    let (_, metrics) = sidecar.admin_get("/metrics").await;
    assert!(!metrics.contains("auth_sidecar_connections 2"), "{metrics}");
}

#[tokio::test]
async fn a_changed_certificate_is_shown_to_new_connections_and_a_broken_one_is_not() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (old, new, third) = (Authority::new(), Authority::new(), Authority::new());
    let sidecar = Sidecar::start(&settings(&csp, &service, &old.leaf()));
    sidecar.ready().await;
    let address = sidecar.proxy_address();
    assert!(shown(address, &old));
    // The certificate is there before its key: not a pair, so the old pair stays.
    let leaf = new.leaf();
    sidecar.rewrite("listen.tls_cert_file", &leaf.cert_pem);
    let said = || logs::captured().contains("does not belong to the certificate in");
    eventually(said, DEADLINE).await;
    assert!(shown(address, &old));
    sidecar.rewrite("listen.tls_key_file", &leaf.key_pem);
    eventually(|| shown(address, &new), DEADLINE).await;
    sidecar.rewrite("listen.tls_cert_file", "-----BEGIN NOTHING-----");
    let said = || logs::captured().contains("must hold certificates as PEM");
    eventually(said, DEADLINE).await;
    assert!(shown(address, &new));
    let leaf = third.leaf();
    sidecar.rewrite("listen.tls_key_file", &leaf.key_pem);
    sidecar.rewrite("listen.tls_cert_file", &leaf.cert_pem);
    eventually(|| shown(address, &third), DEADLINE).await;
}

#[tokio::test]
async fn with_an_authority_of_clients_only_its_certificates_get_in() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (ours, clients, strangers) = (Authority::new(), Authority::new(), Authority::new());
    let pair = ours.leaf();
    let settings =
        settings(&csp, &service, &pair).file("listen.tls_client_ca_file", &clients.ca_pem);
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    let address = sidecar.proxy_address();
    let ask = |own: Option<&Leaf>| ask(address, "localhost", &ours, own);
    let good = clients.leaf_with(client_certificate);
    assert!(ask(Some(&good)).unwrap().starts_with("HTTP/1.1 200 "));
    let expired = clients.leaf_with(|params| {
        client_certificate(params);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let unknown = strangers.leaf_with(client_certificate);
    for (own, alert, reason) in [
        (None, "CertificateRequired", "peer sent no certificates"),
        (Some(&expired), "CertificateExpired", "certificate expired"),
        (Some(&unknown), "UnknownCA", "UnknownIssuer"),
    ] {
        let error = ask(own).unwrap_err();
        assert!(error.contains(alert), "{alert}: {error}");
        let is_said =
            |line: &str| line.contains("refused a client's certificate") && line.contains(reason);
        // The client may know before the log does.
        eventually(|| logs::captured().lines().any(is_said), DEADLINE).await;
    }
    assert_eq!(service.requests().len(), 1);
}

#[tokio::test]
async fn an_old_version_of_tls_is_refused_when_the_least_is_newer() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let authority = Authority::new();
    let pair = authority.leaf();
    let settings = settings(&csp, &service, &pair);
    for (least, is_served) in [("1.2", true), ("1.3", false)] {
        let sidecar = Sidecar::start(&settings.clone().set("listen.tls_min_version", least));
        sidecar.ready().await;
        let output = curl(&sidecar, &authority, &["--tls-max", "1.2"]);
        assert_eq!(output.status.success(), is_served, "{least}: {output:?}");
    }
}

#[tokio::test]
async fn its_files_are_read_however_their_text_was_put_together() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let authority = Authority::new();
    let (pair, mark) = (authority.leaf(), '\u{feff}');
    let (cert, key) = (pair.cert_pem.as_str(), pair.key_pem.as_str());
    // The certificate, then its authority, as a chain has them.
    let (tight, ca) = (cert.trim_end(), authority.ca_pem.as_str());
    for (certs, key) in [
        (format!("{mark}{cert}{ca}"), format!("{mark}{key}")),
        (cert.replace('\n', "\r\n"), key.replace('\n', "\r\n")),
        (cert.replace('\n', "\r"), key.replace('\n', "\r")),
        (format!("{tight}{ca}"), key.trim_end().to_owned()),
        (
            format!("{mark}{tight}{mark}{ca}"),
            format!("# the key\n{key}"),
        ),
        (
            format!("subject=CN = localhost\n{cert}\nissuer=x\n{ca}")
                .trim_end()
                .to_owned(),
            format!("Bag Attributes\n{key}"),
        ),
        (cert.replace('\n', "\n    "), key.replace('\n', "\n    ")),
        // Both in one file, in either order.
        (format!("{tight}{key}"), format!("{tight}{key}")),
        (format!("{key}{cert}"), format!("{key}{cert}")),
    ] {
        let leaf = Leaf {
            cert_pem: certs.clone(),
            key_pem: key,
        };
        let clients = format!("{mark}{}{ca}", tight.replace('\n', "\r\n"));
        let settings = settings(&csp, &service, &leaf);
        let sidecar = Sidecar::start(&settings);
        assert!(shown(sidecar.proxy_address(), &authority), "{certs:?}");
        let sidecar = Sidecar::start(&settings.file("listen.tls_client_ca_file", &clients));
        let client = authority.leaf_with(client_certificate);
        let answer = ask(
            sidecar.proxy_address(),
            "localhost",
            &authority,
            Some(&client),
        );
        assert!(answer.unwrap().starts_with("HTTP/1.1 "), "{certs:?}");
    }
}

#[tokio::test]
async fn a_bad_certificate_among_the_authorities_of_clients_costs_itself_alone_and_is_told_once() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (ours, one, two) = (Authority::new(), Authority::new(), Authority::new());
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    for bad in [
        format!("{begin}\n!!!!\n{end}\n"),
        format!("{begin}\nAAAA\n{end}\n"),
        format!("{begin}\nAAAA\n"),
    ] {
        let bundle = format!("{}{bad}{}", one.ca_pem, two.ca_pem);
        let settings = settings(&csp, &service, &ours.leaf());
        let settings = settings.file("listen.tls_client_ca_file", &bundle);
        let sidecar = Process::start(&settings).await;
        let is_in = |authority: &Authority| {
            let own = authority.leaf_with(client_certificate);
            ask(sidecar.proxy_address(), "localhost", &ours, Some(&own)).is_ok()
        };
        assert!(
            is_in(&one) && is_in(&two) && !is_in(&Authority::new()),
            "{bad}"
        );
        let told = |text: &str| sidecar.output().matches(text).count();
        eventually(|| told("certificate 2 of ") > 0, DEADLINE).await;
        assert_eq!(told("certificate 2 of "), 1, "{}", sidecar.output());
        assert!(sidecar.output().contains("WARN"), "{}", sidecar.output());
        // And of one that comes later.
        sidecar.rewrite(
            "listen.tls_client_ca_file",
            &format!("{}{}{bad}", one.ca_pem, two.ca_pem),
        );
        eventually(|| told("certificate 3 of ") == 1, DEADLINE).await;
        assert!(is_in(&one) && is_in(&two), "{bad}");
    }
}

#[tokio::test]
async fn a_clients_self_signed_certificate_gets_in_where_it_is_listed_itself() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let authority = Authority::new();
    let good = Leaf::self_signed(&["client"], 2099);
    let expired = Leaf::self_signed(&["client"], 2002);
    let of_servers = Leaf::self_signed_with(&["client"], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let listed = format!(
        "{}{}{}",
        good.cert_pem, expired.cert_pem, of_servers.cert_pem
    );
    let settings = settings(&csp, &service, &authority.leaf());
    let sidecar = Sidecar::start(&settings.file("listen.tls_client_ca_file", &listed));
    sidecar.ready().await;
    let is_in = |own: &Leaf| {
        ask(sidecar.proxy_address(), "localhost", &authority, Some(own))
            .is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
    };
    assert!(is_in(&good));
    let twin = Leaf::self_signed(&["client"], 2099);
    // Shows the listed certificate, and has another key.
    let thief = Leaf {
        cert_pem: good.cert_pem.clone(),
        key_pem: twin.key_pem.clone(),
    };
    for (own, who) in [
        (&expired, "expired"),
        (&of_servers, "for servers"),
        (&twin, "not listed"),
    ] {
        assert!(!is_in(own), "{who}");
    }
    assert!(!is_stolen_accepted(
        sidecar.proxy_address(),
        &authority,
        &thief
    ));
    assert_eq!(service.requests().len(), 1);
}

/// Whether a client gets in that shows a certificate without having its key.
fn is_stolen_accepted(address: SocketAddr, authority: &Authority, thief: &Leaf) -> bool {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let (chain, key) = thief.der();
    let key = provider.key_provider.load_private_key(key).unwrap();
    let pair = rustls::sign::CertifiedKey::new(chain, key);
    let config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(authority.roots())
        .with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(pair)));
    converse(address, "localhost", config).is_ok()
}

#[tokio::test]
async fn a_certificate_with_a_key_of_p_521_can_be_shown() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"];
    let pair = Leaf::of_openssl(&curve);
    let sidecar = Sidecar::start(&settings(&csp, &service, &pair));
    sidecar.ready().await;
    let mut authority = Authority::new();
    authority.ca_pem.clone_from(&pair.cert_pem);
    let said = curl(&sidecar, &authority, &["--write-out", "%{http_code}"]);
    assert_eq!(String::from_utf8_lossy(&said.stdout), "200", "{said:?}");
}
