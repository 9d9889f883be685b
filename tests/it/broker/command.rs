//! `auth-sidecar token`: what scripts get, and terminals do not.

use std::process::Command;

use crate::support::{Connection, FakeCsp, FakeService, Process, RawServer, Settings, Sidecar};

use super::{NGINX, place, settings};

async fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let arguments: Vec<&str> = ["token"].iter().chain(arguments).copied().collect();
    let mut process = Process::spawn(&arguments, environment);
    let code = process.wait().await.code();
    (code, process.stdout(), process.stderr())
}

#[tokio::test]
async fn a_script_gets_a_token_from_the_port_with_its_local_token() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::start(&settings(&csp, &service));
    let address = sidecar.broker_url();
    let address = address.trim_start_matches("http://");
    let files = tempfile::tempdir().unwrap();
    let secret = files.path().join("token");
    std::fs::write(&secret, format!("{NGINX}\n")).unwrap();
    let secret = secret.to_str().unwrap();
    let with_secret = ["--broker", address, "--client-token-file", secret];
    let (code, out, notes) = run(&with_secret, &[]).await;
    assert_eq!(code, Some(0), "{notes}");
    assert_eq!(
        (out, notes),
        (format!("{}\n", FakeCsp::token(1)), String::new())
    );
    // Without, it says what is missing, and nothing on standard output.
    let (code, out, notes) = run(&["--broker", address], &[]).await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        notes.contains("401") && notes.contains("local token of a client"),
        "{notes}"
    );
    // The proxy is no broker.
    let proxy = sidecar.proxy_address().to_string();
    let (code, _, notes) = run(&["--broker", &proxy], &[]).await;
    assert_eq!(code, Some(1));
    assert!(notes.contains(&proxy), "{notes}");
}

#[tokio::test]
async fn the_broker_is_found_as_the_sidecar_finds_it() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let (directory, path) = place();
    let own = rustix::process::getuid().as_raw().to_string();
    let at = format!("unix:{}", path.display());
    let settings = Settings::new(&csp, &service)
        .set("broker.address", at.as_str())
        .set("broker.allow_users", [own.as_str()].as_slice());
    let _sidecar = Sidecar::start(&settings);
    let config = settings.write(directory.path());
    let config = config.to_str().unwrap();
    let token = format!("{}\n", FakeCsp::token(1));
    for (arguments, environment) in [
        (&["--config", config][..], &[][..]),
        (&[], &[("AUTH_SIDECAR_CONFIG", config)]),
        (&[], &[("AUTH_SIDECAR_BROKER__ADDRESS", at.as_str())]),
        (&["--broker", &at], &[]),
    ] {
        let (code, out, notes) = run(arguments, environment).await;
        assert_eq!((code, &out), (Some(0), &token), "{arguments:?}: {notes}");
    }
    let (code, out, notes) = run(&[], &[]).await;
    assert_eq!((code, out.as_str()), (Some(2), ""), "{notes}");
    assert!(
        notes.contains("broker.address: missing; name the broker by --broker"),
        "{notes}"
    );
}

#[tokio::test]
async fn a_terminal_gets_no_token_unless_it_asks() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let (_directory, path) = place();
    let own = rustix::process::getuid().as_raw().to_string();
    let at = format!("unix:{}", path.display());
    let settings = Settings::new(&csp, &service)
        .set("broker.address", at.as_str())
        .set("broker.allow_users", [own.as_str()].as_slice());
    let _sidecar = Sidecar::start(&settings);
    // `script` runs a command on a terminal of its own.
    let on_a_terminal = |more: &str| {
        let command = format!(
            "{} token --broker {at}{more}",
            env!("CARGO_BIN_EXE_auth-sidecar")
        );
        let output = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .output();
        let output = output.unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said)
    };
    if Command::new("script").arg("--version").output().is_err() {
        println!("skipped: there is no `script` to make a terminal");
        return;
    }
    let (code, said) = on_a_terminal("");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("not printed to a terminal"), "{said}");
    assert!(!said.contains(&FakeCsp::token(1)), "{said}");
    let (code, said) = on_a_terminal(" --terminal");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&FakeCsp::token(1)), "{said}");
}

/// What the command makes of a broker that sends this and closes its connection.
async fn given(response: &'static str) -> (Option<i32>, String, String) {
    let broker = RawServer::start(move |_, stream| async move {
        let mut connection = Connection::from(stream);
        connection.read_message().await.unwrap();
        connection.write(response).await;
    });
    run(&["--broker", &broker.address().to_string()], &[]).await
}

#[tokio::test]
async fn a_response_that_ends_its_connection_is_a_response() {
    for framing in [
        "Connection: close\r\nContent-Length: 28\r\n",
        "Content-Length: 28\r\n",
        "",
    ] {
        let granted = format!("HTTP/1.1 200 OK\r\n{framing}\r\n{{\"access_token\":\"the-token\"}}");
        let (code, out, notes) = given(granted.leak()).await;
        assert_eq!(
            (code, out.as_str()),
            (Some(0), "the-token\n"),
            "{framing}: {notes}"
        );
    }
    let refused = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n\r\n\
                   {\"title\":\"Too many\\u001b[1m connections\"}";
    let (code, out, notes) = given(refused).await;
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert!(
        notes.contains("503") && notes.contains("Too many"),
        "{notes}"
    );
    assert!(!notes.contains('\u{1b}'), "{notes:?}");
    let (_, _, notes) = given("HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\n{}").await;
    assert!(
        notes.trim_end().ends_with("500 Internal Server Error"),
        "{notes}"
    );
    let (code, _, notes) = given("").await;
    assert_eq!(code, Some(1));
    assert!(notes.contains("closed"), "{notes}");
}

#[tokio::test]
async fn what_is_no_token_is_not_printed() {
    for token in ["", "a\\nb", "\\u001b[31mred", "two words"] {
        let granted =
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{{\"access_token\":\"{token}\"}}");
        let (code, out, notes) = given(granted.leak()).await;
        assert_eq!((code, out.as_str()), (Some(1), ""), "{token}");
        assert!(notes.contains("no token"), "{notes}");
    }
}
