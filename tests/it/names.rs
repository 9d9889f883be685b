//! Names of the sidecar besides localhost: browsers say less of their pages there.

use crate::support::{Client, FakeService, Settings, Sidecar, pki::Authority, request};

const TOKEN: &str = "a-token";
const NAME: &str = "sidecar.example";

fn named(service: &FakeService, names: &[&str]) -> Settings {
    Settings::static_token(TOKEN, service).set("listen.allow_hosts", names)
}

/// What the configuration is refused for, or nothing.
fn refusal(settings: &Settings) -> String {
    let files = tempfile::tempdir().unwrap();
    let loaded = settings.load(files.path());
    loaded.map_or_else(|error| format!("{error:#}"), |_| String::new())
}

#[test]
fn a_name_on_a_plain_port_takes_clients_that_prove_something() {
    let service = FakeService::accepting([TOKEN]);
    let leaf = Authority::new().leaf();
    let with_tls = |settings: Settings, addresses: &[&str]| {
        settings
            .set("listen.address", addresses)
            .file("listen.tls_cert_file", &leaf.cert_pem)
            .file("listen.tls_key_file", &leaf.key_pem)
    };
    // Also an address is a name that browsers send no Sec-Fetch-Site to.
    for names in [
        &[NAME][..],
        &["localhost", NAME],
        &["10.1.2.3"],
        &["[fd00::1]"],
    ] {
        let said = refusal(&named(&service, names));
        for part in [
            "listen.allow_hosts",
            "Sec-Fetch-Site",
            "listen.client_tokens_file",
            "listen.require_field",
            "tls:",
        ] {
            assert!(said.contains(part), "{names:?}: {part}: {said}");
        }
    }
    let own = named(&service, &[NAME]);
    let mixed = with_tls(own.clone(), &["tls:127.0.0.1:0", "127.0.0.1:0"]);
    assert!(refusal(&mixed).contains("listen.allow_hosts"));
    for settings in [
        named(&service, &["localhost", "127.0.0.1", "127.8.9.10", "[::1]"]),
        own.clone().set("listen.require_field", "X-Sidecar: yes"),
        own.clone()
            .file("listen.client_tokens_file", "# nobody yet\n"),
        with_tls(own.clone(), &["tls:127.0.0.1:0"]),
        own.set("listen.address", "unix:/run/nowhere/proxy.sock"),
    ] {
        assert_eq!(refusal(&settings), "");
    }
}

#[tokio::test]
async fn the_upstreams_own_name_is_served_only_where_it_is_asked_for() {
    const UPSTREAM: &str = "service.invalid";
    let service = FakeService::accepting([TOKEN]);
    let settings =
        Settings::static_token(TOKEN, &service).set("upstream.url", format!("https://{UPSTREAM}"));
    let fields = [("host", UPSTREAM), ("x-sidecar", "yes")];
    let absolute = format!("http://{UPSTREAM}/x");
    for (settings, status) in [
        (settings.clone(), 421),
        (
            settings
                .set("listen.allow_hosts", [UPSTREAM].as_slice())
                .set("listen.require_field", "X-Sidecar"),
            502,
        ),
    ] {
        let sidecar = Sidecar::start(&settings);
        let reply = request("GET", &sidecar.url(), &fields, "").await;
        assert_eq!(reply.status, status);
        // As a client sends it for which the sidecar is an HTTP proxy.
        let mut client = Client::connect(&sidecar.url()).await;
        let reply = client.request("GET", &absolute, &fields, "").await;
        assert_eq!(reply.status, status);
    }
}

#[tokio::test]
async fn the_admin_listener_of_this_machine_has_no_other_name() {
    let service = FakeService::accepting([TOKEN]);
    let settings = named(&service, &[NAME]).set("listen.require_field", "X-Sidecar");
    let sidecar = Sidecar::start(&settings);
    for path in ["/status", "/metrics", "/livez"] {
        let url = format!("{}{path}", sidecar.admin_url());
        let reply = request("GET", &url, &[("host", NAME)], "").await;
        assert_eq!(reply.status, 421, "{path}");
    }
}
