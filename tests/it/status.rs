//! `auth-sidecar status`: what a running sidecar says of itself, and its exit codes.

use std::{process::Command, time::Duration};

use serde_json::Value;

use crate::support::{
    Answer, DEADLINE, FakeCsp, FakeService, Process, RawServer, Settings, Sidecar,
    eventually_async, get, refused_address,
};
use crate::wait::not_found;

const TOKEN: &str = "canary-static-token-1f2e3d4c";

async fn ask(sidecar: &Sidecar, arguments: &[&str]) -> (i32, String) {
    let address = sidecar.admin_url().replace("http://", "");
    let arguments: Vec<&str> = ["status"].iter().chain(arguments).copied().collect();
    let mut process = Process::spawn(&arguments, &[("AUTH_SIDECAR_ADMIN__ADDRESS", &address)]);
    let code = process.wait().await.code().unwrap();
    assert!(!process.output().contains(TOKEN));
    (code, process.output())
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    let line = text.lines().find(|line| line.starts_with(name));
    line.unwrap_or_else(|| panic!("no {name}: {text}"))
}

#[tokio::test]
async fn a_ready_sidecar_is_told_in_words_and_as_json() {
    let service = FakeService::accepting([TOKEN]);
    let sidecar = Sidecar::start(&Settings::static_token(TOKEN, &service));
    sidecar.ready().await;
    get(&format!("{}/x", sidecar.url())).await;
    let (code, text) = ask(&sidecar, &[]).await;
    assert_eq!(code, 0, "{text}");
    assert!(
        line(&text, "state").ends_with("ready: requests are served"),
        "{text}"
    );
    assert!(line(&text, "token ").contains("number 1"), "{text}");
    assert!(line(&text, "upstream").contains(&service.url()), "{text}");
    assert!(
        line(&text, "upstream").contains("last response 0s ago"),
        "{text}"
    );
    assert!(line(&text, "listener").contains("127.0.0.1:"), "{text}");
    assert!(
        line(&text, "reload").contains("none since the start"),
        "{text}"
    );
    assert!(!text.contains("remedy"), "{text}");
    let (code, json) = ask(&sidecar, &["--output", "json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((code, &json["state"]), (0, &Value::from("ready")));
    assert_eq!(json["upstream"]["url"], format!("{}/", service.url()));
}

#[tokio::test]
async fn each_state_has_an_exit_code_a_reason_and_a_remedy() {
    let csp = FakeCsp::start();
    csp.always(Answer::CspError(400));
    csp.lifetime(1);
    csp.really_lives(Duration::from_secs(1));
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::start(&Settings::new(&csp, &service));
    let told = async |code, words: &str| {
        let (found, text) = ask(&sidecar, &[]).await;
        found == code && line(&text, "state").contains(words)
    };
    eventually_async(
        async || told(1, "starting: no token yet: invalid_client").await,
        DEADLINE,
    )
    .await;
    let (_, text) = ask(&sidecar, &[]).await;
    assert!(line(&text, "remedy").contains("is the present"), "{text}");
    csp.restore();
    eventually_async(async || told(0, "ready").await, DEADLINE).await;
    csp.always(Answer::Html503);
    eventually_async(async || told(1, "unavailable").await, DEADLINE).await;
}

#[tokio::test]
async fn an_upstream_that_is_away_is_a_degraded_state_with_its_reason() {
    let (address, _socket) = refused_address();
    let service = FakeService::accepting([TOKEN]);
    let settings = Settings::static_token(TOKEN, &service);
    let sidecar = Sidecar::start(&settings.set("upstream.url", format!("http://{address}")));
    sidecar.ready().await;
    get(&format!("{}/x", sidecar.url())).await;
    let (code, text) = ask(&sidecar, &[]).await;
    assert_eq!(code, 3, "{text}");
    assert!(line(&text, "state").contains("degraded"), "{text}");
    assert!(
        line(&text, "upstream").contains("(connect: ")
            && line(&text, "upstream").contains("failing for"),
        "{text}"
    );
    assert!(text.contains("\nremedy"), "{text}");
    // It is no cause to send clients elsewhere.
    assert_eq!(sidecar.admin_get("/readyz").await.0, 200);
}

#[tokio::test]
async fn a_rejected_configuration_is_told_until_a_good_one_comes() {
    let service = FakeService::accepting([TOKEN]);
    let settings = Settings::static_token(TOKEN, &service);
    let process = Process::start(&settings).await;
    let reload = async || {
        let (_, json) = process.admin_get("/status").await;
        let json: Value = serde_json::from_str(&json).unwrap();
        (json["last_reload"].clone(), json["state"].clone())
    };
    assert_eq!(reload().await, (Value::Null, "ready".into()));
    process.reconfigure(&settings.clone().set("listen.max_in_flight", 0));
    let is_told = async || reload().await.0["accepted"] == false;
    eventually_async(is_told, DEADLINE).await;
    let (last, state) = reload().await;
    assert_eq!(state, "degraded");
    assert!(
        last["problem"]
            .as_str()
            .unwrap()
            .starts_with("listen.max_in_flight"),
        "{last}"
    );
    process.reconfigure(&settings.set("listen.max_in_flight", 7));
    eventually_async(async || reload().await.0["accepted"] == true, DEADLINE).await;
    assert_eq!(reload().await.1, "ready");
}

#[tokio::test]
async fn a_log_that_cannot_be_written_is_told_by_the_status_since_it_cannot_tell_itself() {
    let service = FakeService::accepting([TOKEN]);
    let admin = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}/admin.sock", admin.path().display());
    let settings = Settings::static_token(TOKEN, &service).set("admin.address", socket.clone());
    let files = tempfile::tempdir().unwrap();
    let config = settings.write(files.path());
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" 2> /dev/full"]);
    command.args([env!("CARGO_BIN_EXE_auth-sidecar"), "run", "--config"]);
    command.arg(config);
    let _sidecar = Process::spawn_command(files, command, &[]);
    let told = async || {
        let mut asked = Process::spawn(&["status", "--admin", &socket], &[]);
        let code = asked.wait().await.code().unwrap();
        let text = asked.output();
        code == 3
            && line(&text, "state").contains("the log on standard error loses lines (write)")
            && line(&text, "to blame").contains("its disk")
            && line(&text, "remedy").contains("Make room")
    };
    eventually_async(told, DEADLINE).await;
}

#[tokio::test]
async fn who_is_no_sidecar_is_named_with_the_key() {
    let (nobody, _socket) = refused_address();
    let other = RawServer::start(|_, stream| not_found(stream));
    for (address, words) in [
        (nobody.to_string(), "nothing listens there"),
        (other.address().to_string(), "with status 404"),
    ] {
        let mut process = Process::spawn(&["status", "--admin", &address], &[]);
        assert_eq!(process.wait().await.code(), Some(1));
        let said = process.stderr();
        assert!(said.contains(words) && said.contains(&address), "{said}");
    }
}

#[tokio::test]
async fn the_page_shows_the_same_with_lines_and_runs_nothing() {
    let service = FakeService::accepting([TOKEN]);
    let process = Process::start(&Settings::static_token(TOKEN, &service)).await;
    get(&format!("{}/x", process.url())).await;
    let reply = get(&format!("{}/", process.admin_url())).await;
    let policy = reply.header("content-security-policy").unwrap();
    assert!(
        policy.contains("default-src 'none'") && !policy.contains("script"),
        "{policy}"
    );
    let page = reply.text();
    for word in [
        "auth-sidecar is ready",
        "<svg",
        "<polyline",
        "http-equiv=refresh",
        "width=device-width",
        "prefers-color-scheme:dark",
        &service.url(),
    ] {
        assert!(page.contains(word), "{word}: {page}");
    }
    for word in ["<script", "src=", "url(", "@import", TOKEN] {
        assert!(!page.contains(word), "{word}: {page}");
    }
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_told_with_its_key_and_file() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let secret = tempfile::tempdir().unwrap();
    let file = secret.path().join("secret");
    std::fs::write(&file, crate::support::CLIENT_SECRET).unwrap();
    let file_text = file.to_str().unwrap();
    let settings = Settings::new(&csp, &service)
        .unset("auth.client_secret")
        .set("auth.client_secret_file", file_text);
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    std::fs::remove_file(&file).unwrap();
    let detail = format!("secret_unreadable: auth.client_secret_file: cannot read {file_text}");
    let told = async || {
        let (code, text) = ask(&sidecar, &[]).await;
        code == 3
            && line(&text, "state").contains(&detail)
            && line(&text, "remedy").contains("that file")
    };
    eventually_async(told, DEADLINE).await;
    let (_, metrics) = sidecar.admin_get("/metrics").await;
    let counted = |reason: &str, number: &str| {
        let series = format!(r#"token_refresh_total{{result="failure",reason="{reason}"}}"#);
        metrics.contains(&format!("{series} {number}\n"))
    };
    assert!(!counted("secret_unreadable", "0"), "{metrics}");
    assert!(counted("invalid_client", "0"), "{metrics}");
}
