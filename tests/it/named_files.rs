//! Files that somebody has named and that are none: what would never end, or wait for somebody who never
//! comes, is an error that names the path.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use auth_sidecar::client_token::Hash;
use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::Signal,
};

use crate::support::{
    DEADLINE, FakeService, Process, Settings, Sidecar, ended, eventually, eventually_async,
    pki::Authority, request,
};

/// The least that works.
const GOOD: &str = "[upstream]
url = 'https://h.example'
[auth]
type = 'csp-oauth-app'
client_id = 'app'
client_secret = 'secret'
";

fn fifo(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_auth-sidecar"));
    command
        .args(arguments)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(command: &mut Command) -> Output {
    ended(command.spawn().unwrap())
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_configuration_that_never_comes_or_never_ends_is_a_mistake_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let silent = directory.path().join("silent");
    fifo(&silent);
    let large = directory.path().join("large");
    fs::write(&large, format!("{GOOD}#{}", "x".repeat(1 << 20))).unwrap();
    let asked: [&[&str]; 4] = [&["check"], &["run"], &["wait"], &["status"]];
    let cases = [
        (silent.as_path(), "did not come within"),
        (Path::new("/dev/zero"), "larger than 1 MiB"),
        (&large, "larger than 1 MiB"),
        (directory.path(), "directory"),
    ];
    let begun = asked.iter().flat_map(|command_line| {
        cases.iter().map(move |(path, why)| {
            let path = path.to_str().unwrap();
            let child = command(command_line).args(["--config", path]).spawn();
            (child.unwrap(), path, why)
        })
    });
    // All at once: each of the silent ones takes its time.
    let begun: Vec<_> = begun.collect();
    for (child, path, why) in begun {
        let failed = ended(child);
        let said = stderr(&failed);
        assert_eq!(failed.status.code(), Some(2), "{path}: {said}");
        assert!(
            said.to_lowercase().contains(&why.to_lowercase())
                && said.contains(&format!("the file {path}")),
            "{path}: {said}"
        );
    }
}

#[test]
fn a_configuration_may_come_through_a_pipe() {
    let mut child = command(&["check", "--config", "/dev/stdin"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // In pieces, and the first is no TOML by itself.
    let (first, second) = GOOD.split_at(GOOD.len() / 2);
    for part in [first, second] {
        stdin.write_all(part.as_bytes()).unwrap();
        stdin.flush().unwrap();
    }
    drop(stdin);
    let checked = ended(child);
    assert!(checked.status.success(), "{checked:?}");

    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(
        at("config"),
        GOOD.replace("[upstream]\nurl = 'https://h.example'\n", ""),
    )
    .unwrap();
    fs::write(at("url"), "https://h.example/\n").unwrap();
    let mut bash = Command::new("bash");
    let script = "WAVEFRONT_URL_FILE=<(cat url) \"$0\" check --config <(cat config)";
    // Cargo gives its tests variables that look like the program's.
    bash.args(["-c", script, env!("CARGO_BIN_EXE_auth-sidecar")])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let checked = run(&mut bash);
    assert!(checked.status.success(), "{checked:?}");
    // A pipe with a name, where somebody writes to it.
    fifo(&at("pipe"));
    let path = at("pipe");
    let child = command(&["check", "--config", path.to_str().unwrap()]).spawn();
    let writer = std::thread::spawn(move || fs::write(path, GOOD));
    let checked = ended(child.unwrap());
    writer.join().unwrap().unwrap();
    assert!(checked.status.success(), "{checked:?}");
    // And nothing at all is a configuration, where variables say the rest.
    let mut nothing = command(&["check", "--config", "/dev/null"]);
    nothing.envs([
        ("WAVEFRONT_URL", "https://h.example"),
        ("WAVEFRONT_TOKEN", "token"),
    ]);
    let checked = run(&mut nothing);
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn a_file_that_is_read_again_must_be_a_regular_one() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    fifo(Path::new(&at("fifo")));
    let leaf = Authority::new().leaf();
    fs::write(at("cert"), &leaf.cert_pem).unwrap();
    fs::write(at("key"), &leaf.key_pem).unwrap();
    fs::write(at("secret"), "secret").unwrap();
    // The key that names what is no file, and the others that it needs.
    let cases: [(&str, &[(&str, &str)]); 11] = [
        ("LISTEN__CLIENT_TOKENS_FILE", &[]),
        (
            "BROKER__CLIENT_TOKENS_FILE",
            &[("BROKER__ADDRESS", "127.0.0.1:9799")],
        ),
        ("LISTEN__TLS_CERT_FILE", &[("LISTEN__TLS_KEY_FILE", "key")]),
        ("LISTEN__TLS_KEY_FILE", &[("LISTEN__TLS_CERT_FILE", "cert")]),
        (
            "LISTEN__TLS_CLIENT_CA_FILE",
            &[
                ("LISTEN__TLS_CERT_FILE", "cert"),
                ("LISTEN__TLS_KEY_FILE", "key"),
            ],
        ),
        ("UPSTREAM__CA_FILE", &[]),
        (
            "UPSTREAM__CLIENT_CERT_FILE",
            &[("UPSTREAM__CLIENT_KEY_FILE", "key")],
        ),
        (
            "UPSTREAM__CLIENT_KEY_FILE",
            &[("UPSTREAM__CLIENT_CERT_FILE", "cert")],
        ),
        ("AUTH__CA_FILE", &[]),
        ("AUTH__CLIENT_SECRET_FILE", &[]),
        (
            "UPSTREAM__PROXY_PASSWORD_FILE",
            &[("UPSTREAM__PROXY_URL", "http://user@127.0.0.1:3128")],
        ),
    ];
    for no_file in ["fifo", "/dev/zero"] {
        for (key, others) in cases {
            let mut check = command(&["check"]);
            check.envs([
                ("AUTH_SIDECAR_UPSTREAM__URL", "https://h.example"),
                ("AUTH_SIDECAR_AUTH__TYPE", "csp-oauth-app"),
                ("AUTH_SIDECAR_AUTH__CLIENT_ID", "app"),
            ]);
            if key != "AUTH__CLIENT_SECRET_FILE" {
                check.env("AUTH_SIDECAR_AUTH__CLIENT_SECRET_FILE", at("secret"));
            }
            for (other, value) in others {
                let value = if other.ends_with("_FILE") {
                    at(value)
                } else {
                    (*value).to_owned()
                };
                check.env(format!("AUTH_SIDECAR_{other}"), value);
            }
            // What begins with / stays as it is.
            let path = at(no_file);
            check.env(format!("AUTH_SIDECAR_{key}"), &path);
            let failed = run(&mut check);
            let said = stderr(&failed);
            assert_eq!(failed.status.code(), Some(2), "{key}: {failed:?}");
            assert!(
                said.contains(&path) && said.contains("must be a regular file"),
                "{key}: {said}"
            );
            assert!(
                said.contains(&key.to_lowercase().replace("__", ".")),
                "{said}"
            );
        }
    }
}

#[tokio::test]
async fn a_list_of_clients_that_becomes_a_pipe_holds_nothing_up() {
    const TOKEN: &str = "the-real-token";
    let service = FakeService::accepting([TOKEN]);
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().join("clients");
    fs::write(&path, format!("a:{}\n", Hash::of(b"local"))).unwrap();
    let settings = Settings::static_token(TOKEN, &service)
        .set("listen.client_tokens_file", path.to_str().unwrap());
    let sidecar = Sidecar::start(&settings);
    fs::remove_file(&path).unwrap();
    fifo(&path);
    let is_reported = async || {
        let (_, metrics) = sidecar.admin_get("/metrics").await;
        let family = "auth_sidecar_client_tokens_reload_total{result=\"failure\"} ";
        let mut counts = metrics.lines().filter_map(|line| line.strip_prefix(family));
        counts.any(|count| count != "0")
    };
    let watched = eventually_async(is_reported, DEADLINE);
    let watched = tokio::time::timeout(DEADLINE, watched).await;
    // Whoever waits for the writer is let go, so that the test ends.
    drop(File::options().read(true).write(true).open(&path).unwrap());
    assert!(watched.is_ok(), "the admin listener hangs");
}

#[tokio::test]
async fn a_configuration_that_came_through_a_pipe_is_not_empty_the_second_time() {
    let service = FakeService::accepting(["the-token"]);
    let files = tempfile::tempdir().unwrap();
    let rules = files.path().join("rules.toml");
    fs::write(&rules, "[listen]\npreset = 'read-only'\n").unwrap();
    let mut shell = Command::new("bash");
    let program = env!("CARGO_BIN_EXE_auth-sidecar");
    let line = format!(
        "exec {program} run --config <(/bin/cat {})",
        rules.display()
    );
    shell.args(["-c", &line]);
    let url = service.url();
    let environment = [
        ("WAVEFRONT_URL", url.as_str()),
        ("AUTH_SIDECAR_AUTH__TYPE", "static-token"),
        ("AUTH_SIDECAR_AUTH__TOKEN", "the-token"),
        ("AUTH_SIDECAR_LISTEN__ADDRESS", "127.0.0.1:0"),
        ("AUTH_SIDECAR_ADMIN__ADDRESS", "127.0.0.1:0"),
    ];
    let mut sidecar = Process::spawn_command(files, shell, &environment);
    sidecar.listening(true).await;
    let url = format!("{}/api/v2/alert", sidecar.url());
    assert_eq!(request("POST", &url, &[], "").await.status, 403);
    sidecar.signal(Signal::HUP);
    let rejected = || sidecar.output().contains("cannot be read again");
    eventually(rejected, DEADLINE).await;
    assert_eq!(request("POST", &url, &[], "").await.status, 403);
}
