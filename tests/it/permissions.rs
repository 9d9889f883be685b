//! Files that decide who is let in or whom is trusted, and files with secrets: who else may write
//! or read them.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use auth_sidecar::client_token::Hash;
use rustix::process::{Signal, getuid};
use tempfile::TempDir;

use crate::support::{
    FakeService, Process, Settings, eventually, eventually_async, pki::Authority, request,
};

const TOKEN: &str = "a-token";
const SOON: Duration = Duration::from_secs(10);

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A directory that every user can look into.
fn open_directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    chmod(directory.path(), 0o755);
    directory
}

fn file(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    chmod(&path, 0o600);
    path
}

fn line(name: &str, token: &str) -> String {
    format!("{name}:{}\n", Hash::of(token.as_bytes()))
}

/// A configuration with a file for each kind of key.
fn with_files(
    service: &FakeService,
    directory: &TempDir,
) -> (Settings, Vec<(&'static str, PathBuf)>) {
    let authority = Authority::new();
    let leaf = authority.leaf();
    let files = vec![
        (
            "listen.client_tokens_file",
            file(directory, "clients", "# nobody\n"),
        ),
        (
            "listen.tls_cert_file",
            file(directory, "cert", &leaf.cert_pem),
        ),
        ("listen.tls_key_file", file(directory, "key", &leaf.key_pem)),
        (
            "listen.tls_client_ca_file",
            file(directory, "ca", &authority.ca_pem),
        ),
        (
            "upstream.ca_file",
            file(directory, "upstream-ca", &authority.ca_pem),
        ),
        (
            "upstream.client_cert_file",
            file(directory, "own", &leaf.cert_pem),
        ),
        (
            "upstream.client_key_file",
            file(directory, "own-key", &leaf.key_pem),
        ),
        ("auth.token_file", file(directory, "token", TOKEN)),
    ];
    let mut settings = Settings::to(&service.url())
        .set("auth.type", "static-token")
        .set("listen.address", "tls:127.0.0.1:0")
        .set("upstream.url", "https://localhost:1");
    for (key, path) in &files {
        settings = settings.set(key, path.to_str().unwrap());
    }
    (settings, files)
}

fn warnings(settings: &Settings, directory: &TempDir) -> Vec<String> {
    let config = settings.write(directory.path());
    chmod(&config, 0o600);
    settings.load(directory.path()).unwrap().warnings
}

#[test]
fn a_file_that_others_can_write_is_a_warning_whatever_it_is_for() {
    let service = FakeService::accepting([TOKEN]);
    let directory = open_directory();
    let (settings, files) = with_files(&service, &directory);
    let said = |key: &str, words: &str| {
        let warnings = warnings(&settings, &directory);
        warnings
            .iter()
            .any(|warning| warning.starts_with(key) && warning.contains(words))
    };
    for (key, path) in &files {
        assert!(!said(key, "can write"), "{key}");
        for mode in [0o602, 0o620, 0o666] {
            // A group of the owner alone is nobody else.
            if mode & 0o002 != 0 || getuid().is_root() {
                chmod(path, mode);
                assert!(said(key, "chmod go-w"), "{key} {mode:o}");
            }
        }
        chmod(path, 0o600);
        chmod(directory.path(), 0o777);
        assert!(said(key, "can write"), "{key}: its directory");
        // Others cannot replace what is not theirs there.
        chmod(directory.path(), 0o1777);
        assert!(!said(key, "can write"), "{key}: a directory like /tmp");
        chmod(directory.path(), 0o755);
        if getuid().is_root() {
            std::os::unix::fs::chown(path, Some(65534), None).unwrap();
            assert!(said(key, "user 65534"), "{key}: of somebody else");
            std::os::unix::fs::chown(path, Some(0), None).unwrap();
        }
    }
    // Nobody gets to it.
    chmod(&files[0].1, 0o666);
    chmod(directory.path(), 0o700);
    assert!(!said(files[0].0, "can write"));
}

#[test]
fn the_configuration_itself_is_such_a_file() {
    let service = FakeService::accepting([TOKEN]);
    let directory = open_directory();
    let settings = Settings::static_token(TOKEN, &service);
    for (mode, writes, reads) in [
        (0o600, false, false),
        (0o640, false, false),
        (0o644, false, true),
        (0o602, true, false),
        (0o666, true, true),
    ] {
        // Read once more, as a run would.
        let path = settings.write(directory.path());
        chmod(&path, mode);
        let sources = auth_sidecar::config::Sources::of_file(&path);
        let warnings = auth_sidecar::config::Config::load(&sources)
            .unwrap()
            .config
            .warnings;
        let name = path.to_str().unwrap();
        let says = |words: &str| {
            let mut lines = warnings.iter();
            lines.any(|line| line.contains(name) && line.contains(words))
        };
        assert_eq!(says("can write"), writes, "{mode:o}: {warnings:?}");
        assert_eq!(says("can read"), reads, "{mode:o}: {warnings:?}");
    }
    // One without a secret may be read by everybody.
    let path = file(&directory, "token", TOKEN);
    let settings = settings
        .unset("auth.token")
        .set("auth.token_file", path.to_str().unwrap());
    chmod(&settings.write(directory.path()), 0o644);
    let warnings = settings.load(directory.path()).unwrap().warnings;
    assert!(
        !warnings.iter().any(|line| line.contains("can read")),
        "{warnings:?}"
    );
}

#[test]
fn a_key_that_others_can_read_is_a_warning() {
    let service = FakeService::accepting([TOKEN]);
    let directory = open_directory();
    let (settings, files) = with_files(&service, &directory);
    for (key, path) in &files {
        chmod(path, 0o644);
        let warnings = warnings(&settings, &directory);
        let found = warnings.iter().any(|line| {
            line.starts_with(key) && line.contains("every user of this machine can read")
        });
        let is_secret = key.contains("key_file") || *key == "auth.token_file";
        assert_eq!(found, is_secret, "{key}: {warnings:?}");
        chmod(path, 0o600);
    }
}

#[tokio::test]
async fn the_start_and_the_doctor_say_so() {
    let service = FakeService::accepting([TOKEN]);
    let directory = open_directory();
    let settings = Settings::static_token(TOKEN, &service);
    let path = settings.write(directory.path());
    chmod(&path, 0o646);
    for command in ["run", "doctor"] {
        let arguments = [command, "--config", path.to_str().unwrap()];
        let process = Process::spawn(&arguments, &[]);
        for words in ["can write", "can read"] {
            let line = |line: &str| {
                let is_warning = line.contains("WARN") || line.starts_with("warning ");
                is_warning && line.contains(words) && line.contains(path.to_str().unwrap())
            };
            eventually(|| process.output().lines().any(line), SOON).await;
        }
    }
}

/// As the volumes of Kubernetes are: writable by everybody, and mounted to be read.
#[test]
fn what_is_mounted_to_be_read_is_writable_by_nobody() {
    let service = FakeService::accepting([TOKEN]);
    let directory = open_directory();
    let path = Settings::static_token(TOKEN, &service).write(directory.path());
    chmod(directory.path(), 0o777);
    let program = env!("CARGO_BIN_EXE_auth-sidecar");
    let check = format!("{program} check --config {}", path.display());
    let said = |command: &str| {
        let mut shell = std::process::Command::new("unshare");
        shell.args(["--mount", "sh", "-c", command]);
        let output = shell.output().unwrap();
        output
            .status
            .success()
            .then(|| String::from_utf8(output.stdout).unwrap())
    };
    let mounted = directory.path().display();
    let bind = format!("mount --bind {mounted} {mounted}");
    let Some(writable) = said(&format!("{bind} && {check}")) else {
        println!("skipped: no mounts of our own");
        return;
    };
    assert!(writable.contains("can write"), "{writable}");
    let read_only = format!("{bind} && mount -o remount,ro,bind {mounted} && {check}");
    let said = said(&read_only).unwrap();
    assert!(!said.contains("can write"), "{said}");
}

fn told(process: &Process, words: &str) -> usize {
    let output = process.output();
    let lines = output.lines();
    lines
        .filter(|line| line.contains("WARN") && line.contains(words))
        .count()
}

#[tokio::test]
async fn a_configuration_that_others_can_write_is_followed_only_when_asked() {
    let service = FakeService::accepting([TOKEN]);
    let directory = open_directory();
    let settings = Settings::static_token(TOKEN, &service).set("auth.hold_timeout", "1s");
    let path = settings.write(directory.path());
    let mut process = Process::spawn(&["run", "--config", path.to_str().unwrap()], &[]);
    process.listening(true).await;
    let in_use = || {
        process
            .output()
            .matches("the new configuration is in use")
            .count()
    };
    chmod(&path, 0o666);
    let change = |time: &str| {
        let settings = settings.clone().set("auth.hold_timeout", time);
        let text =
            fs::read_to_string(settings.write(&fs::canonicalize(open_directory().keep()).unwrap()));
        fs::write(&path, text.unwrap()).unwrap();
    };
    change("2s");
    let left = || told(&process, "is not followed") > 0;
    eventually(left, SOON).await;
    change("3s");
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(in_use(), 0, "{}", process.output());
    // Said once, with the path and the remedy.
    assert_eq!(told(&process, "is not followed"), 1, "{}", process.output());
    assert_eq!(told(&process, &format!("chmod go-w {}", path.display())), 1);
    process.signal(Signal::HUP);
    eventually(|| in_use() == 1, SOON).await;
    // And by itself again once it is nobody else's.
    chmod(&path, 0o644);
    change("4s");
    eventually(|| in_use() == 2, SOON).await;
}

#[tokio::test]
async fn a_client_list_that_others_can_write_lets_nobody_new_in() {
    let service = FakeService::accepting([TOKEN]);
    let directory = open_directory();
    let list = file(&directory, "clients", &line("one", "token-of-one"));
    let settings = Settings::static_token(TOKEN, &service)
        .set("listen.client_tokens_file", list.to_str().unwrap());
    let process = Process::start(&settings).await;
    let lets_in = async |token: &str| {
        let url = format!("{}/x", process.url());
        request("GET", &url, &[("x-auth-token", token)], "")
            .await
            .status
            == 200
    };
    assert!(lets_in("token-of-one").await);
    // Replaced, in a directory that others can write to.
    chmod(directory.path(), 0o777);
    let both = line("one", "token-of-one") + &line("two", "token-of-two");
    let new = file(&directory, "new", &both);
    fs::rename(new, &list).unwrap();
    eventually(|| told(&process, "is not followed") > 0, SOON).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!lets_in("token-of-two").await);
    process.signal(Signal::HUP);
    eventually_async(async || lets_in("token-of-two").await, SOON).await;
    assert_eq!(told(&process, "is not followed"), 1, "{}", process.output());
}
