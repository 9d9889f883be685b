//! The secrets around the credential: passwords of proxies, private keys, local tokens.

use auth_sidecar::client_token::Hash;

use super::{
    CLIENT_CANARY, MISPLACED, PROXY_PASSWORD, SOON, assert_clean, assert_clean_admin, provoke,
};
use crate::{
    outbound::Proxy,
    support::{
        Answer, FakeCsp, FakeService, Process, Settings, eventually, eventually_async,
        pki::Authority, request, server::Tls,
    },
};

/// Asserts that no line of these private keys shows, nor any other mark.
fn assert_clean_of_keys(place: &str, text: &str, keys: &[&str]) {
    assert_clean(place, text);
    for key in keys {
        let lines: Vec<&str> = key.lines().filter(|line| !line.starts_with('-')).collect();
        assert!(!lines.is_empty());
        for line in lines {
            // The first of a key tells its kind; the last can be a few characters.
            assert!(
                line.len() < 20 || !text.contains(line),
                "a private key shows in {place}"
            );
        }
    }
}

fn with_password(proxy: &Proxy) -> String {
    let credentials = format!("http://proxy-user:{PROXY_PASSWORD}@");
    proxy.url().replace("http://", &credentials)
}

/// Certificates and a proxy with a password on both legs, and a list of clients.
struct Surroundings {
    csp: FakeCsp,
    service: FakeService,
    proxies: [Proxy; 2],
    settings: Settings,
    keys: [String; 2],
}

impl Surroundings {
    fn new() -> Self {
        let (server, clients) = (Authority::new(), Authority::new());
        let tls = || Tls::with(&server, &server.leaf(), Some(&clients));
        let csp = FakeCsp::start_behind(tls());
        let service = FakeService::start_behind(tls(), csp.validator());
        let leaves = [clients.leaf(), clients.leaf()];
        let proxies = [Proxy::to(csp.address()), Proxy::to(service.address())];
        let list = format!("the-client:{}\n", Hash::of(CLIENT_CANARY.as_bytes()));
        let mut settings = Settings::new(&csp, &service)
            .file("listen.client_tokens_file", &list)
            .set("auth.hold_timeout", "200ms");
        for (section, leaf, proxy) in [
            ("auth", &leaves[0], &proxies[0]),
            ("upstream", &leaves[1], &proxies[1]),
        ] {
            settings = settings
                .file(&format!("{section}.ca_file"), &server.ca_pem)
                .file(&format!("{section}.client_cert_file"), &leaf.cert_pem)
                .file(&format!("{section}.client_key_file"), &leaf.key_pem)
                .set(&format!("{section}.proxy_url"), with_password(proxy));
        }
        // One of them in a file.
        let as_user = proxies[1].url().replace("http://", "http://proxy-user@");
        settings = settings.set("upstream.proxy_url", as_user).file(
            "upstream.proxy_password_file",
            &PROXY_PASSWORD.replace("%40", "@"),
        );
        Self {
            csp,
            service,
            proxies,
            settings,
            keys: leaves.map(|leaf| leaf.key_pem),
        }
    }

    fn assert_clean(&self, place: &str, text: &str) {
        assert_clean_of_keys(place, text, &self.keys.each_ref().map(String::as_str));
    }

    async fn command(&self, name: &str) -> (i32, String) {
        let files = tempfile::tempdir().unwrap();
        let config = self.settings.write(files.path());
        let mut process = Process::spawn(&[name, "--config", config.to_str().unwrap()], &[]);
        let code = process.wait().await.code().unwrap();
        self.assert_clean(name, &process.output());
        (code, process.output())
    }
}

#[tokio::test]
async fn passwords_of_proxies_private_keys_and_local_tokens_show_nowhere() {
    let around = Surroundings::new();
    for format in ["json", "text"] {
        around.csp.restore();
        let arguments = ["--log-level", "trace", "--log-format", format];
        let mut process = Process::start_with(&around.settings, &arguments, &[]).await;
        let ready = async || process.admin_get("/readyz").await.0 == 200;
        eventually_async(ready, SOON).await;
        let token = [("x-auth-token", CLIENT_CANARY)];
        let url = format!("{}/x", process.url());
        assert_eq!(request("GET", &url, &token, "").await.status, 200);
        provoke(format, &process.url()).await;
        // Files that are something else from one moment to the next, while they are in use.
        for (file, said) in [
            (
                "listen.client_tokens_file",
                "the changed list of clients cannot be used",
            ),
            ("upstream.client_key_file", "must hold a private key as PEM"),
            ("upstream.client_cert_file", "must hold certificates as PEM"),
            ("auth.client_key_file", "auth.client_key_file"),
        ] {
            for text in wrong_contents() {
                process.rewrite(file, &text);
            }
            let reported = || process.output().contains(said);
            eventually(reported, SOON).await;
            provoke(file, &process.url()).await;
        }
        around.csp.always(Answer::CspError(400));
        around.csp.revoke_all();
        provoke(format, &process.url()).await;
        assert_clean_admin(format, &process.admin_url()).await;
        process.signal(rustix::process::Signal::TERM);
        assert_eq!(process.wait().await.code(), Some(0));
        let output = process.output();
        assert!(output.contains("DEBUG"), "{output}");
        around.assert_clean(&format!("the output of the program, as {format}"), &output);
    }
    for proxy in &around.proxies {
        let heads = proxy.heads();
        assert!(!heads.is_empty() && heads.iter().all(|head| !head.contains(CLIENT_CANARY)));
    }
    assert!(around.service.request_count() > 0);
}

/// What can be where a list, a key or a certificate was expected.
pub(super) fn wrong_contents() -> Vec<String> {
    let in_pem =
        |kind: &str, text: &str| format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n");
    let encoded = base64::Engine::encode(&super::STANDARD, MISPLACED);
    vec![
        MISPLACED.to_owned(),
        format!("{MISPLACED}\n{MISPLACED}\n"),
        format!("name:{MISPLACED}\n"),
        format!("{MISPLACED}:{}\n", Hash::of(b"x")),
        in_pem("PRIVATE KEY", MISPLACED),
        in_pem("PRIVATE KEY", &encoded),
        in_pem("EC PRIVATE KEY", &encoded),
        in_pem("CERTIFICATE", &encoded),
        in_pem(MISPLACED, &encoded),
        format!("-----BEGIN {MISPLACED}"),
        format!("{MISPLACED}\u{0}{MISPLACED}"),
    ]
}

#[tokio::test]
async fn commands_that_use_them_show_none_either() {
    let mut around = Surroundings::new();
    let files = tempfile::tempdir().unwrap();
    let loaded = around.settings.load(files.path()).unwrap();
    around.assert_clean("the configuration, as Debug", &format!("{loaded:?}"));
    let (code, output) = around.command("check").await;
    assert_eq!(code, 0, "{output}");
    let (code, output) = around.command("doctor").await;
    assert_eq!(code, 0, "{output}");
    // With everything in the way of them.
    around.csp.always(Answer::CspError(401));
    let (code, output) = around.command("doctor").await;
    assert_eq!(code, 1, "{output}");
    let refuses = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
    for leg in ["auth", "upstream"] {
        let proxy = Proxy::saying(refuses, around.service.address(), None);
        let key = format!("{leg}.proxy_url");
        let mut settings = around.settings.clone().set(&key, with_password(&proxy));
        if leg == "upstream" {
            let as_user = proxy.url().replace("http://", "http://proxy-user@");
            settings = settings.set(&key, as_user);
        }
        let before = std::mem::replace(&mut around.settings, settings);
        around.csp.restore();
        let (code, output) = around.command("doctor").await;
        assert_eq!(code, 1, "{output}");
        assert!(output.contains("407"), "{output}");
        let advice = format!("{leg}.proxy_password_file with its password");
        assert!(output.contains(&advice), "{output}");
        around.settings = before;
    }
    // `wait` knows an address alone, and gets no more than a status from it.
    let sidecar = Process::start(&around.settings).await;
    let admin = sidecar.admin_url().replace("http://", "");
    let mut wait = Process::spawn(&["wait", "--admin", &admin, "--timeout", "10s"], &[]);
    assert_eq!(wait.wait().await.code(), Some(0), "{}", wait.output());
    around.assert_clean("wait", &wait.output());
    around.assert_clean("the log", &sidecar.output());
}

#[tokio::test]
async fn a_local_token_shows_once_on_standard_output_and_nowhere_else() {
    let files = tempfile::tempdir().unwrap();
    let path = files.path().join("clients");
    let path = path.to_str().unwrap();
    let mut made = Process::spawn(&["local-token", "a-client", "--file", path], &[]);
    assert_eq!(made.wait().await.code(), Some(0), "{}", made.output());
    let output = made.stdout();
    let token = output.trim_end();
    assert!(token.starts_with("sidecar_"), "{}", made.output());
    assert!(!token.contains(char::is_whitespace));
    assert!(!made.stderr().contains(token));
    assert!(!std::fs::read_to_string(path).unwrap().contains(token));
    for text in wrong_contents() {
        std::fs::write(path, text).unwrap();
        let mut refused = Process::spawn(&["local-token", "other", "--file", path], &[]);
        assert_ne!(refused.wait().await.code(), Some(0), "{}", refused.output());
        assert_eq!(refused.stdout(), "");
        assert_clean("local-token", &refused.output());
    }
}

#[tokio::test]
async fn the_demo_at_trace_shows_no_credential() {
    let free = "127.0.0.1:0";
    let mut demo = Process::spawn(
        &[
            "demo",
            "--listen",
            free,
            "--admin",
            free,
            "--log-level",
            "trace",
        ],
        &[],
    );
    let told = || demo.stdout().contains("Ctrl-C stops the demo");
    eventually(told, SOON).await;
    let output = demo.stdout();
    let line = output.lines().find(|line| line.contains("the sidecar:"));
    let url = line
        .and_then(|line| line.split_whitespace().next())
        .unwrap();
    for path in ["api/v2/cloudintegration", "demo/whoami", "demo/received"] {
        let reply = request("GET", &format!("{url}/{path}"), &[], "").await;
        assert_eq!(reply.status, 200);
    }
    demo.signal(rustix::process::Signal::INT);
    assert_eq!(demo.wait().await.code(), Some(0));
    // Its tokens are JSON Web Tokens, and its secrets have a beginning made to be found.
    for mark in ["eyJ", "demo-secret-", "Bearer ", "Basic "] {
        assert!(!demo.output().contains(mark), "{mark} in the demo's output");
    }
}
