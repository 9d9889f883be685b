//! Whoever may no longer have a token gets none by what is open already.

use std::{path::Path, time::Duration};

use auth_sidecar::client_token::Hash;
use rustix::process::getuid;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    time::timeout,
};

use super::{FORM, GRANT, NGINX, TELEGRAF, TOKEN, basic, has_line, place, settings};
use crate::support::{
    Answer, Connection, FakeCsp, FakeService, Process, Settings, Sidecar, TOKEN_CANARY,
    eventually_async,
};

const SOON: Duration = Duration::from_secs(3);
/// How long a reload may take that gets a token first.
const RELOAD: Duration = Duration::from_secs(10);

async fn asks(stream: &mut UnixStream) -> String {
    let head = "GET /auth HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut said = [0; 4096];
    let count = timeout(SOON, stream.read(&mut said))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8_lossy(&said[..count]).into_owned()
}

fn at(path: &Path) -> String {
    format!("unix:{}", path.display())
}

#[tokio::test]
async fn a_user_that_is_taken_out_loses_its_open_connection() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let (_directory, path) = place();
    let own = getuid().as_raw();
    let base = Settings::new(&csp, &service).set("broker.address", at(&path));
    let users = |id: u32| {
        base.clone()
            .set("broker.allow_users", [id.to_string()].as_slice())
    };
    let process = Process::start(&users(own)).await;
    let mut open = UnixStream::connect(&path).await.unwrap();
    assert!(asks(&mut open).await.starts_with("HTTP/1.1 200 "));
    process.reconfigure(&users(own + 1));
    let mut rest = [0; 1];
    let ended = timeout(RELOAD, open.read(&mut rest)).await;
    assert!(
        matches!(ended, Ok(Ok(0) | Err(_))),
        "the connection stays: {ended:?}"
    );
}

#[tokio::test]
async fn a_client_that_is_taken_out_while_it_waits_gets_no_token_and_others_do() {
    let csp = FakeCsp::start();
    csp.always(Answer::Hang);
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::start(&settings(&csp, &service));
    let address = sidecar.broker_url();
    let address = address.trim_start_matches("http://").parse().unwrap();
    let waiting = async |token: &str| {
        let mut connection = Connection::to(address).await;
        let request = format!(
            "POST {TOKEN} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {}\r\nAuthorization: {}\r\n\
             Content-Length: {}\r\n\r\n{GRANT}",
            FORM.1,
            basic("any", token),
            GRANT.len()
        );
        connection.write(&request).await;
        connection
    };
    let (mut nginx, mut telegraf) = (waiting(NGINX).await, waiting(TELEGRAF).await);
    let are_held = async || has_line(&sidecar, "auth_sidecar_held_requests 2.0").await;
    eventually_async(are_held, SOON).await;
    let only = format!("telegraf:{}\n", Hash::of(TELEGRAF.as_bytes()));
    sidecar.rewrite("broker.client_tokens_file", &only);
    let said = timeout(SOON, nginx.read_to_end()).await;
    let said = said.unwrap_or_else(|_| panic!("the request of the client that is out still waits"));
    assert!(!String::from_utf8_lossy(&said).contains(TOKEN_CANARY));
    csp.restore();
    let (head, body) = telegraf.read_message().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 "), "{head}");
    let body = String::from_utf8_lossy(&body).into_owned();
    assert_eq!(
        head.starts_with("HTTP/1.1 200 "),
        body.contains(TOKEN_CANARY),
        "{head}{body}"
    );
}
