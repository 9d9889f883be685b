//! Certificates on both ways out: whom we trust, and who we are.

use std::time::Duration;

use crate::support::{
    FakeCsp, FakeService, Process, Settings, Sidecar, Validator, eventually, eventually_async, get,
    pki::{Authority, Leaf},
    server::Tls,
};

const SOON: Duration = Duration::from_secs(10);
const TOKEN: &str = "a-static-token";

/// An instance whose clients need a certificate of `clients`.
fn instance(server: &Authority, clients: &Authority) -> FakeService {
    let tls = Tls::with(server, &server.leaf(), Some(clients));
    FakeService::start_behind(tls, Validator::of([TOKEN]))
}

fn before(service: &FakeService) -> Settings {
    Settings::static_token(TOKEN, service).file("upstream.ca_file", service.ca_pem())
}

/// With a client certificate on that leg.
fn known_as(settings: Settings, section: &str, leaf: &Leaf) -> Settings {
    settings
        .file(&format!("{section}.client_cert_file"), &leaf.cert_pem)
        .file(&format!("{section}.client_key_file"), &leaf.key_pem)
}

async fn status_and_details(sidecar: &Sidecar) -> (u16, String) {
    let reply = get(&format!("{}/x", sidecar.url())).await;
    let details = reply.header("proxy-status").unwrap_or_default().to_owned();
    (reply.status.as_u16(), details)
}

#[tokio::test]
async fn an_upstream_that_wants_a_client_certificate_gets_it() {
    let (server, clients) = (Authority::new(), Authority::new());
    let service = instance(&server, &clients);
    for version in ["1.2", "1.3"] {
        let settings = known_as(before(&service), "upstream", &clients.leaf());
        let sidecar = Sidecar::start(&settings.set("upstream.min_tls_version", version));
        assert_eq!(status_and_details(&sidecar).await.0, 200);
        sidecar.ready().await;
        let told = async || {
            let (_, metrics) = sidecar.admin_get("/metrics").await;
            metrics.contains("credential_expiry_timestamp_seconds{kind=\"upstream_client_cert\"}")
        };
        eventually_async(told, SOON).await;
    }
}

#[tokio::test]
async fn an_upstream_that_refuses_our_certificate_is_named_with_the_reason() {
    let (server, clients) = (Authority::new(), Authority::new());
    let service = instance(&server, &clients);
    let expired = clients.leaf_for(&["client"], 2002);
    let foreign = Authority::new().leaf();
    for (leaf, why) in [
        (None, "it wants a client certificate"),
        (Some(expired), "our client certificate has expired"),
        (Some(foreign), "it does not trust the authority"),
    ] {
        let settings = match &leaf {
            Some(leaf) => known_as(before(&service), "upstream", leaf),
            None => before(&service),
        };
        let sidecar = Process::start(&settings).await;
        let reply = get(&format!("{}/x", sidecar.url())).await;
        assert_eq!(reply.status, 502);
        let proxy_status = reply.header("proxy-status").unwrap();
        assert_eq!(
            proxy_status, "auth-sidecar; error=tls_alert_received; details=\"client_certificate\"",
            "{why}"
        );
        let said = || {
            let output = sidecar.output();
            output.contains("the upstream refuses us") && output.contains(why)
        };
        eventually(said, SOON).await;
    }
    assert_eq!(service.request_count(), 0);
}

#[tokio::test]
async fn an_upstream_whose_certificate_is_wrong_is_named_with_the_reason() {
    let authority = Authority::new();
    let untrusted = Authority::new();
    for (tls, why) in [
        (
            Tls::with(&authority, &authority.leaf_for(&["localhost"], 2002), None),
            "expired",
        ),
        (
            Tls::with(&authority, &authority.leaf_for(&["other.test"], 2099), None),
            "not valid for",
        ),
        (
            Tls::with(&untrusted, &untrusted.leaf(), None),
            "nobody whom we trust has issued it",
        ),
    ] {
        let service = FakeService::start_behind(tls, Validator::of([TOKEN]));
        let settings =
            Settings::static_token(TOKEN, &service).file("upstream.ca_file", &authority.ca_pem);
        let sidecar = Process::start(&settings).await;
        let reply = get(&format!("{}/x", sidecar.url())).await;
        assert_eq!(reply.status, 502);
        let proxy_status = reply.header("proxy-status").unwrap();
        assert!(proxy_status.contains("error=tls_certificate_error"));
        let said = || {
            let output = sidecar.output();
            let line = "the upstream's certificate is not trusted";
            output.lines().any(|l| l.contains(line) && l.contains(why))
        };
        eventually(said, SOON).await;
    }
}

#[tokio::test]
async fn a_token_service_whose_certificate_is_wrong_or_that_refuses_ours_is_named_with_the_reason()
{
    let (authority, clients, untrusted) = (Authority::new(), Authority::new(), Authority::new());
    for (tls, ours, reason, why) in [
        (
            Tls::with(&authority, &authority.leaf_for(&["localhost"], 2002), None),
            None,
            "network",
            "expired",
        ),
        (
            Tls::with(&authority, &authority.leaf_for(&["other.test"], 2099), None),
            None,
            "network",
            "not valid for",
        ),
        (
            Tls::with(&untrusted, &untrusted.leaf(), None),
            None,
            "network",
            "nobody whom we trust has issued it",
        ),
        (
            Tls::with(&authority, &authority.leaf(), Some(&clients)),
            None,
            "invalid_client",
            "it wants a client certificate",
        ),
        (
            Tls::with(&authority, &authority.leaf(), Some(&clients)),
            Some(clients.leaf_for(&["client"], 2002)),
            "invalid_client",
            "our client certificate has expired",
        ),
    ] {
        let csp = FakeCsp::start_behind(tls);
        let service = FakeService::start(csp.validator());
        let mut settings = Settings::new(&csp, &service).file("auth.ca_file", &authority.ca_pem);
        if let Some(leaf) = ours {
            settings = known_as(settings, "auth", &leaf);
        }
        let sidecar = Process::start(&settings).await;
        let said = || {
            let output = sidecar.output();
            output.lines().any(|line| {
                line.contains("got no token") && line.contains(reason) && line.contains(why)
            })
        };
        eventually(said, SOON).await;
        assert_eq!(csp.call_count(), 0);
    }
}

#[tokio::test]
async fn a_token_service_that_wants_a_client_certificate_gets_it() {
    let (server, clients) = (Authority::new(), Authority::new());
    let csp = FakeCsp::start_behind(Tls::with(&server, &server.leaf(), Some(&clients)));
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).file("auth.ca_file", csp.ca_pem());
    let sidecar = Sidecar::start(&known_as(settings, "auth", &clients.leaf()));
    assert_eq!(status_and_details(&sidecar).await.0, 200);
    let told = async || {
        let (_, metrics) = sidecar.admin_get("/metrics").await;
        metrics.contains("timestamp_seconds{kind=\"token_service_client_cert\"}")
    };
    eventually_async(told, SOON).await;
}

#[tokio::test]
async fn an_older_tls_than_allowed_is_not_spoken() {
    let service = FakeService::start_behind(Tls::only_1_2(), Validator::of([TOKEN]));
    let sidecar = Sidecar::start(&before(&service));
    assert_eq!(status_and_details(&sidecar).await.0, 200);
    let sidecar = Sidecar::start(&before(&service).set("upstream.min_tls_version", "1.3"));
    let (status, details) = status_and_details(&sidecar).await;
    assert_eq!(status, 502);
    assert!(details.contains("tls_protocol_error"), "{details}");

    let csp = FakeCsp::start_behind(Tls::only_1_2());
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).file("auth.ca_file", csp.ca_pem());
    let sidecar = Sidecar::start(&settings);
    assert_eq!(status_and_details(&sidecar).await.0, 200);
    let settings = settings
        .set("auth.min_tls_version", "1.3")
        .set("auth.hold_timeout", "0s");
    let sidecar = Sidecar::start(&settings);
    let failed = async || {
        sidecar
            .admin_get("/readyz")
            .await
            .1
            .contains("cannot connect")
    };
    eventually_async(failed, SOON).await;
}

#[tokio::test]
async fn changed_files_of_the_upstream_leg_are_used_and_broken_ones_are_not() {
    let (server, clients) = (Authority::new(), Authority::new());
    let service = instance(&server, &clients);
    let foreign = Authority::new().leaf();
    let mut settings = known_as(before(&service), "upstream", &foreign);
    // A connection for each request, so that each of them shows which files are in use.
    settings = settings.set("upstream.max_idle_connections", 0);
    let sidecar = Process::start(&settings).await;
    let works = async || get(&format!("{}/x", sidecar.url())).await.status == 200;
    assert!(!works().await);

    let good = clients.leaf();
    sidecar.rewrite("upstream.client_cert_file", &good.cert_pem);
    sidecar.rewrite("upstream.client_key_file", &good.key_pem);
    eventually_async(works, SOON).await;
    eventually(
        || sidecar.output().contains("changed certificates are in use"),
        SOON,
    )
    .await;

    // Broken ones are reported, and change nothing.
    let reported = |text: &str| {
        let line = "changed certificates cannot be used; the old ones stay";
        let output = sidecar.output();
        let mut lines = output.lines();
        lines.any(|l| l.contains(line) && l.contains("leg=\"upstream\"") && l.contains(text))
    };
    sidecar.rewrite("upstream.client_key_file", "c4n4ry");
    eventually(|| reported("must hold a private key"), SOON).await;
    assert!(works().await);
    sidecar.rewrite("upstream.client_key_file", &foreign.key_pem);
    eventually(|| reported("does not belong to the certificate"), SOON).await;
    assert!(works().await);
    sidecar.rewrite("upstream.ca_file", "-----BEGIN c4n4ry");
    eventually(|| reported("must hold certificates"), SOON).await;
    assert!(works().await);

    // Another authority, and the instance is no longer trusted.
    sidecar.rewrite("upstream.client_key_file", &good.key_pem);
    sidecar.rewrite("upstream.ca_file", &clients.ca_pem);
    eventually_async(async || !works().await, SOON).await;
    sidecar.rewrite("upstream.ca_file", service.ca_pem());
    eventually_async(works, SOON).await;
    let (_, metrics) = sidecar.admin_get("/metrics").await;
    assert!(metrics.contains("auth_sidecar_secret_reload_total{result=\"failure\"}"));
    assert!(!sidecar.output().contains("c4n4ry"), "{}", sidecar.output());
}

#[tokio::test]
async fn a_kept_connection_made_with_the_old_certificate_takes_no_more_requests() {
    let (server, clients) = (Authority::new(), Authority::new());
    for version in ["1.1", "2"] {
        let service = instance(&server, &clients);
        let settings = known_as(before(&service), "upstream", &clients.leaf())
            .set("listen.workers", 1)
            .set("upstream.http_version", version);
        let sidecar = Process::start(&settings).await;
        let works = async || get(&format!("{}/x", sidecar.url())).await.status == 200;
        for _ in 0..3 {
            assert!(works().await);
        }
        assert_eq!(service.connections(), 1, "{version}");
        let next = clients.leaf();
        sidecar.rewrite("upstream.client_cert_file", &next.cert_pem);
        sidecar.rewrite("upstream.client_key_file", &next.key_pem);
        let in_use = || sidecar.output().contains("changed certificates are in use");
        eventually(in_use, SOON).await;
        // The line comes a moment before the change.
        eventually_async(async || works().await && service.connections() == 2, SOON).await;
        assert!(works().await && works().await);
        assert_eq!(service.connections(), 2, "{version}");
    }
}

#[tokio::test]
async fn changed_files_of_the_token_leg_are_tried_at_once() {
    let (server, clients) = (Authority::new(), Authority::new());
    let csp = FakeCsp::start_behind(Tls::with(&server, &server.leaf(), Some(&clients)));
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service)
        .file("auth.ca_file", &clients.ca_pem)
        .set("auth.hold_timeout", "0s");
    let settings = known_as(settings, "auth", &Authority::new().leaf());
    let sidecar = Process::start(&settings).await;
    let says = async |text: &str| sidecar.admin_get("/readyz").await.1.contains(text);
    eventually_async(
        async || says("nobody whom we trust has issued it").await,
        SOON,
    )
    .await;
    sidecar.rewrite("auth.ca_file", &server.ca_pem);
    eventually_async(async || says("does not trust the authority").await, SOON).await;
    let good = clients.leaf();
    sidecar.rewrite("auth.client_cert_file", &good.cert_pem);
    sidecar.rewrite("auth.client_key_file", &good.key_pem);
    let works = async || get(&format!("{}/x", sidecar.url())).await.status == 200;
    eventually_async(works, SOON).await;
    let calls = csp.call_count();
    sidecar.rewrite("auth.client_key_file", "broken");
    let reported = || {
        let line = "changed certificates cannot be used; the old ones stay";
        let output = sidecar.output();
        let mut lines = output.lines();
        lines.any(|l| l.contains(line) && l.contains("leg=\"token service\""))
    };
    eventually(reported, SOON).await;
    assert!(works().await);
    assert_eq!(
        csp.call_count(),
        calls,
        "a broken file is no reason to call"
    );
}

#[tokio::test]
async fn a_bad_certificate_in_a_bundle_costs_itself_alone_and_is_told() {
    let csp = FakeCsp::start_tls();
    let service = FakeService::start(csp.validator());
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let bundle = format!("\u{feff}{broken}{}", csp.ca_pem());
    let settings = Settings::new(&csp, &service).file("auth.ca_file", &bundle);
    let sidecar = Process::start(&settings).await;
    assert_eq!(get(&format!("{}/x", sidecar.url())).await.status, 200);
    let said = || {
        let output = sidecar.output();
        output.contains("WARN") && output.contains("certificate 1 of ")
    };
    eventually(said, SOON).await;
    assert_eq!(sidecar.output().matches("certificate 1 of ").count(), 1);
    // And of a bundle that gets one while it runs.
    let bundle = format!("{}{broken}", csp.ca_pem());
    sidecar.rewrite("auth.ca_file", &bundle);
    eventually(|| sidecar.output().contains("certificate 2 of "), SOON).await;
}

const P256: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const P384: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"];
const P521: [&str; 4] = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"];

fn with<'a>(arguments: &[&'a str], hash: &'a str) -> Vec<&'a str> {
    [arguments, &[hash]].concat()
}

/// A sidecar between two services that show this certificate, with that file of whom to trust.
fn trusting(certificate: &Leaf, key: &Leaf, ca_pem: &str) -> (FakeCsp, FakeService, Settings) {
    let csp = FakeCsp::start_behind(Tls::showing(certificate, key, ca_pem));
    let tls = Tls::showing(certificate, key, ca_pem);
    let service = FakeService::start_behind(tls, csp.validator());
    let settings = Settings::new(&csp, &service)
        .file("auth.ca_file", ca_pem)
        .file("upstream.ca_file", ca_pem);
    (csp, service, settings)
}

#[tokio::test]
async fn certificates_of_every_usual_kind_are_trusted_on_both_legs() {
    for arguments in [
        vec!["-newkey", "rsa:2048"],
        with(&["-newkey", "rsa:2048"], "-sha512"),
        P256.to_vec(),
        with(&P256, "-sha512"),
        with(&P384, "-sha256"),
        with(&P384, "-sha512"),
        P521.to_vec(),
        with(&P521, "-sha512"),
        vec!["-newkey", "ed25519"],
    ] {
        let (leaf, ca_pem) = Leaf::of_openssl_authority(&arguments);
        let (_csp, _service, settings) = trusting(&leaf, &leaf, &ca_pem);
        let sidecar = Sidecar::start(&settings);
        let reply = get(&format!("{}/x", sidecar.url())).await;
        assert_eq!(reply.status, 200, "{arguments:?}: {reply:?}");
    }
}

#[tokio::test]
async fn a_self_signed_certificate_as_openssl_makes_it_is_trusted_where_it_is_the_ca_file() {
    for arguments in [
        vec!["-newkey", "rsa:2048"],
        P256.to_vec(),
        with(&P384, "-sha512"),
        P521.to_vec(),
        // As careful people make them.
        [
            &P256[..],
            &["-addext", "basicConstraints=critical,CA:FALSE"],
        ]
        .concat(),
        [&P256[..], &["-addext", "extendedKeyUsage=serverAuth"]].concat(),
    ] {
        let leaf = Leaf::of_openssl(&arguments);
        // Among others, too.
        let bundle = format!("{}{}", Authority::new().ca_pem, leaf.cert_pem);
        let (_csp, _service, settings) = trusting(&leaf, &leaf, &bundle);
        let sidecar = Sidecar::start(&settings);
        let reply = get(&format!("{}/x", sidecar.url())).await;
        assert_eq!(reply.status, 200, "{arguments:?}: {reply:?}");
    }
}

#[tokio::test]
async fn a_certificate_of_an_authority_that_is_not_there_is_trusted_where_it_is_the_ca_file_itself()
{
    let leaf = Authority::new().leaf();
    let (_csp, _service, settings) = trusting(&leaf, &leaf, &leaf.cert_pem);
    let sidecar = Sidecar::start(&settings);
    assert_eq!(status_and_details(&sidecar).await.0, 200);
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_for_its_names_its_time_its_purpose_and_its_key_alone()
{
    let good = Leaf::self_signed(&["localhost"], 2099);
    let twin = Leaf::self_signed(&["localhost"], 2099);
    let other_name = Leaf::self_signed(&["other.test"], 2099);
    let expired = Leaf::self_signed(&["localhost"], 2002);
    let nameless = Leaf::self_signed_with(&[], |parameters| {
        let name = rcgen::DnType::CommonName;
        parameters.distinguished_name.push(name, "localhost");
    });
    let not_yet = Leaf::self_signed_with(&["localhost"], |parameters| {
        parameters.not_before = rcgen::date_time_ymd(2098, 1, 1);
    });
    let of_clients = Leaf::self_signed_with(&["localhost"], |parameters| {
        parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    let works = async |certificate: &Leaf, key: &Leaf, ca_pem: &str| {
        let (csp, service, settings) = trusting(certificate, key, ca_pem);
        let sidecar = Process::start(&settings.set("auth.hold_timeout", "0s")).await;
        let upstream = Settings::static_token(TOKEN, &service).file("upstream.ca_file", ca_pem);
        let behind = Process::start(&upstream).await;
        let status = get(&format!("{}/x", behind.url())).await.status;
        let asked = || csp.call_count() > 0 || sidecar.output().contains("got no token");
        eventually(asked, SOON).await;
        let output = || format!("{}{}", sidecar.output(), behind.output());
        if csp.call_count() > 0 {
            assert_ne!(status, 502, "{}", output());
            return Ok(());
        }
        assert_eq!((status.as_u16(), service.request_count()), (502, 0));
        // The client may know before the log does.
        eventually(|| behind.output().contains("the upstream"), SOON).await;
        Err(output())
    };
    works(&good, &good, &good.cert_pem).await.unwrap();
    for (certificate, key, ca, why) in [
        (
            &other_name,
            &other_name,
            &other_name,
            "name localhost in its subjectAltName",
        ),
        (
            &nameless,
            &nameless,
            &nameless,
            "name localhost in its subjectAltName",
        ),
        (
            &expired,
            &expired,
            &expired,
            "renew the certificate of localhost",
        ),
        (
            &not_yet,
            &not_yet,
            &not_yet,
            "see to the clock of this machine",
        ),
        (
            &of_clients,
            &of_clients,
            &of_clients,
            "it is for other purposes (extendedKeyUsage)",
        ),
        // Whoever has seen it, and not its key.
        (&good, &twin, &good, "BadSignature|bad signature"),
        // The same but for the key, and so the bytes.
        (&twin, &twin, &good, "CA:TRUE|UnknownIssuer|BadSignature"),
    ] {
        let output = works(certificate, key, &ca.cert_pem).await.unwrap_err();
        for leg in ["got no token", "the upstream"] {
            let mut lines = output.lines();
            let says =
                |line: &str| line.contains(leg) && why.split('|').any(|why| line.contains(why));
            assert!(lines.any(says), "{why}: {output}");
        }
    }
}

#[tokio::test]
async fn a_refusal_names_the_file_the_host_and_what_to_do() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let leaf = theirs.leaf();
    let (_csp, service, settings) = trusting(&leaf, &leaf, &ours.ca_pem);
    let sidecar = Process::start(&settings).await;
    let upstream = Settings::static_token(TOKEN, &service).file("upstream.ca_file", &ours.ca_pem);
    let behind = Process::start(&upstream).await;
    get(&format!("{}/x", behind.url())).await;
    for (sidecar, section) in [(&sidecar, "auth"), (&behind, "upstream")] {
        let says = |line: &str| {
            [
                "nobody whom we trust has issued it (UnknownIssuer)",
                &format!("{section}.ca_file ({section}.ca_file)"),
                "put the authority of localhost into",
            ]
            .iter()
            .all(|part| line.contains(part))
        };
        eventually(|| sidecar.output().lines().any(says), SOON).await;
    }
}
