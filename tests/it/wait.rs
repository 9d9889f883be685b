//! Waiting for a sidecar: where it is found, and why it is not ready.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{
    Answer, DEADLINE, FakeCsp, FakeService, Process, RawServer, Settings, Sidecar, eventually,
    refused_address,
};

/// Another program, which knows no such path.
pub async fn not_found(mut stream: TcpStream) {
    let mut head = [0; 1024];
    let read = stream.read(&mut head).await;
    let response = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    // Whoever asks may have gone.
    drop((read, stream.write_all(response).await));
}

fn admin(sidecar: &Sidecar) -> String {
    sidecar.admin_url().replace("http://", "")
}

#[tokio::test]
async fn it_is_found_by_the_configuration_and_the_environment_of_the_sidecar() {
    let service = FakeService::accepting(["a-token"]);
    let sidecar = Sidecar::start(&Settings::static_token("a-token", &service));
    let address = admin(&sidecar);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sidecar.toml");
    // Its secret and its upstream are in another container.
    let text = format!("[admin]\naddress = '{address}'\n[auth]\ntoken_file = '/nonexistent'\n");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    for (arguments, environment) in [
        (
            &["wait", "--timeout", "10s"][..],
            &[("AUTH_SIDECAR_ADMIN__ADDRESS", address.as_str())][..],
        ),
        (&["wait", "--timeout", "10s", "--config", file], &[]),
        (&["--config", file, "wait", "--timeout=10s"], &[]),
        (
            &["wait", "--timeout", "10s"],
            &[("AUTH_SIDECAR_CONFIG", file)],
        ),
        (
            &["wait", "--timeout", "10s", "--admin", &address],
            &[("AUTH_SIDECAR_ADMIN__ADDRESS", "off")],
        ),
    ] {
        let mut wait = Process::spawn(arguments, environment);
        assert_eq!(
            wait.wait().await.code(),
            Some(0),
            "{arguments:?}: {}",
            wait.output()
        );
        assert_eq!(wait.output(), "");
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_a_wrong_configuration_that_names_the_key() {
    for (environment, words) in [
        (
            ("AUTH_SIDECAR_ADMIN__ADDRESS", "off"),
            "admin.address (environment variable AUTH_SIDECAR_ADMIN__ADDRESS): is off",
        ),
        (
            ("AUTH_SIDECAR_ADMIN__ADDRESS", "nonsense"),
            "must be IP:port",
        ),
        (
            ("AUTH_SIDECAR_CONFIG", "/nonexistent/x.toml"),
            "/nonexistent/x.toml",
        ),
    ] {
        let mut wait = Process::spawn(&["wait", "--timeout", "10s"], &[environment]);
        assert_eq!(wait.wait().await.code(), Some(2), "{}", wait.output());
        assert!(wait.stderr().contains(words), "{}", wait.stderr());
    }
}

#[tokio::test]
async fn the_reason_is_shown_while_it_waits_and_when_it_gives_up() {
    let csp = FakeCsp::start();
    csp.always(Answer::Html503);
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::start(&Settings::new(&csp, &service));
    let address = admin(&sidecar);
    let environment = [("AUTH_SIDECAR_ADMIN__ADDRESS", address.as_str())];

    let mut waits = Process::spawn(&["wait", "--timeout", "20s"], &environment);
    let told = || {
        waits
            .stderr()
            .contains("no usable token: bad_status: status 503")
    };
    eventually(told, DEADLINE).await;
    let mut gives_up = Process::spawn(&["wait", "--timeout", "1500ms"], &environment);
    assert_eq!(gives_up.wait().await.code(), Some(1));
    let said = gives_up.stderr();
    let last = said.lines().last().unwrap();
    assert!(
        last.contains(&address)
            && last.contains("after 1s 500ms: no usable token: bad_status: status 503"),
        "{said}"
    );
    // Once a second would be too often.
    assert_eq!(said.lines().count(), 2, "{said}");
    csp.restore();
    assert_eq!(waits.wait().await.code(), Some(0), "{}", waits.output());
}

#[tokio::test]
async fn nobody_and_somebody_else_are_told_apart() {
    let (nobody, _socket) = refused_address();
    let server = RawServer::start(|_, stream| not_found(stream));
    let other = server.address().to_string();
    for (address, words) in [
        (nobody.to_string(), "nothing listens there"),
        (other, "no admin listener"),
    ] {
        let mut wait = Process::spawn(&["wait", "--timeout", "300ms", "--admin", &address], &[]);
        assert_eq!(wait.wait().await.code(), Some(1));
        let said = wait.stderr();
        assert!(said.contains(words) && said.contains(&address), "{said}");
    }
}

#[tokio::test]
async fn a_name_that_the_admin_listener_does_not_serve_is_named_with_the_remedy() {
    let service = FakeService::accepting(["a-token"]);
    let sidecar = Sidecar::start(&Settings::static_token("a-token", &service));
    // It leads to the listener, which does not know it as its own.
    let address = admin(&sidecar).replace("127.0.0.1", "0.0.0.0");
    let arguments = ["wait", "--timeout", "300ms", "--admin", &address];
    let mut wait = Process::spawn(&arguments, &[]);
    assert_eq!(wait.wait().await.code(), Some(1));
    let notes = wait.output();
    assert!(
        notes.contains("status 421: ") && notes.contains("Use localhost or 127.0.0.1"),
        "{notes}"
    );
}
