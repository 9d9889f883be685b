use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Signal, getgid, getuid};
use tempfile::TempDir;

use super::support::{
    Client, DEADLINE, FakeCsp, FakeService, Process, Settings, Sidecar, eventually, get, logs,
};

/// A directory with a socket's path in it.
fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = directory.path().join("proxy.sock");
    (directory, path)
}

fn at(path: &Path) -> String {
    format!("unix:{}", path.display())
}

/// One request, answered to the end of the connection.
fn ask(path: &Path, target: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// A sidecar on a unix socket, with these settings besides.
fn settings(csp: &FakeCsp, service: &FakeService, path: &Path) -> Settings {
    Settings::new(csp, service).set("listen.address", at(path))
}

#[tokio::test]
async fn a_request_on_a_unix_socket_is_served_like_any_other() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (_directory, path) = place();
    let sidecar = Sidecar::start(&settings(&csp, &service, &path));
    sidecar.ready().await;
    assert_eq!(mode(&path), 0o600);
    assert!(ask(&path, "/echo").starts_with("HTTP/1.1 200 "));
    let answer = Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "10"])
        .args(["--write-out", "%{http_code}", "--output", "/dev/null"])
        .arg("--unix-socket")
        .arg(&path)
        .arg("http://localhost/echo")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&answer.stdout), "200", "{answer:?}");
    // No name can be rebound to a file, so every name is as good as any, and none as well; what the
    // protocol forbids is forbidden here too, and so is what a browser says of a foreign page.
    for (fields, status) in [
        ("Host: h.example\r\n", 200),
        ("Host:\r\n", 200),
        ("Host: %2Frun%2Fauth-sidecar.sock\r\n", 200),
        ("", 400),
        ("Host: h\r\nHost: h\r\n", 400),
        ("Host: a b\r\n", 400),
        ("Host: user@h\r\n", 400),
        ("Host: h.example\r\nOrigin: http://evil.example\r\n", 403),
    ] {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let request = format!("GET /echo HTTP/1.1\r\n{fields}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let expected = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&expected), "{fields}: {answer}");
    }
    sidecar.stop().await.unwrap();
    assert!(!path.exists(), "the socket file is left behind");
}

#[tokio::test]
async fn the_file_has_the_mode_and_the_group_that_are_asked_for() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (_directory, path) = place();
    let settings = settings(&csp, &service, &path)
        .set("listen.unix_mode", "0660")
        .set("listen.unix_owner", getuid().as_raw().to_string())
        .set("listen.unix_group", getgid().as_raw().to_string());
    let _sidecar = Sidecar::start(&settings);
    assert_eq!(mode(&path), 0o660);
    assert_eq!(fs::metadata(&path).unwrap().gid(), getgid().as_raw());
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_an_error() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (_directory, path) = place();
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let settings = settings(&csp, &service, &path);
    let first = Sidecar::start(&settings);
    let error = Sidecar::try_start(&settings).unwrap_err();
    assert!(
        format!("{error:#}").contains("another program listens there"),
        "{error:#}"
    );
    // The one that could not start has not harmed the one that runs.
    first.ready().await;
    assert!(ask(&path, "/echo").starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (directory, path) = place();
    fs::write(&path, "precious").unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for path in [&path, &link] {
        let error = Sidecar::try_start(&settings(&csp, &service, path)).unwrap_err();
        assert!(format!("{error:#}").contains("left alone"), "{error:#}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    let nowhere = directory.path().join("missing/proxy.sock");
    let error = Sidecar::try_start(&settings(&csp, &service, &nowhere)).unwrap_err();
    assert!(
        format!("{error:#}").contains("cannot open the directory"),
        "{error:#}"
    );
}

#[tokio::test]
async fn a_file_that_has_become_somebody_elses_is_not_removed() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (_directory, path) = place();
    let sidecar = Sidecar::start(&settings(&csp, &service, &path));
    fs::remove_file(&path).unwrap();
    let _other = UnixListener::bind(&path).unwrap();
    sidecar.stop().await.unwrap();
    assert!(path.exists(), "the socket of another program is gone");
}

#[tokio::test]
async fn only_the_users_and_groups_that_are_named_may_connect() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (_directory, path) = place();
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    let settings = |key: &str, id: u32| {
        settings(&csp, &service, &path)
            .set("listen.unix_mode", "0666")
            .set(key, [id.to_string()].as_slice())
    };
    for (key, id) in [("listen.allow_users", uid), ("listen.allow_groups", gid)] {
        let sidecar = Sidecar::start(&settings(key, id));
        sidecar.ready().await;
        assert!(ask(&path, "/echo").starts_with("HTTP/1.1 200 "), "{key}");
        sidecar.stop().await.unwrap();
        let sidecar = Sidecar::start(&settings(key, id + 1));
        sidecar.ready().await;
        let answer = ask(&path, "/echo");
        assert!(answer.starts_with("HTTP/1.1 403 "), "{key}: {answer}");
        assert!(answer.contains("details=\"peer\""), "{answer}");
        let line = format!("uid={uid} gid={gid} pid={}", std::process::id());
        assert!(logs::captured().contains(&line), "{line}");
        let (_, metrics) = sidecar.admin_get("/metrics").await;
        assert!(
            metrics.contains("auth_sidecar_rejected_total{reason=\"peer\"} 1"),
            "{metrics}"
        );
        for _ in 0..30 {
            ask(&path, "/echo");
        }
        sidecar.stop().await.unwrap();
    }
    // Whoever is refused cannot flood the log.
    let captured = logs::captured();
    let ours = format!("pid={}", std::process::id());
    let told = |level: &str| {
        let lines = captured.lines();
        lines
            .filter(|line| line.contains(level) && line.contains(&ours))
            .count()
    };
    assert!(told("DEBUG") > 40, "{}", told("DEBUG"));
    assert!((2..20).contains(&told("WARN")), "{}", told("WARN"));
}

/// Becoming another user needs root, as in a container that builds.
#[tokio::test]
async fn the_process_of_another_user_is_refused() {
    const NOBODY: u32 = 65534;
    if !getuid().is_root() {
        println!("skipped: only root can start a process of another user");
        return;
    }
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (_directory, path) = place();
    let ask = |path: &Path| {
        let output = Command::new("curl")
            .args(["--silent", "--max-time", "10", "--unix-socket"])
            .arg(path)
            .args(["--write-out", "%{http_code}", "http://localhost/echo"])
            .uid(NOBODY)
            .gid(NOBODY)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), said)
    };
    let open = settings(&csp, &service, &path).set("listen.unix_mode", "0666");
    let sidecar = Sidecar::start(&open.clone().set("listen.allow_users", "root"));
    sidecar.ready().await;
    let (_, said) = ask(&path);
    assert!(said.ends_with("403"), "{said}");
    assert_eq!(service.requests().len(), 0);
    sidecar.stop().await.unwrap();
    let sidecar = Sidecar::start(&open.set("listen.allow_users", "root, nobody"));
    sidecar.ready().await;
    let (_, said) = ask(&path);
    assert!(said.ends_with("200"), "{said}");
    sidecar.stop().await.unwrap();
    // By default the file itself keeps others out: curl cannot even connect.
    let _sidecar = Sidecar::start(&settings(&csp, &service, &path));
    assert_eq!(ask(&path).0, Some(7));
}

#[tokio::test]
async fn several_kinds_of_address_serve_at_once_and_come_and_go_with_a_reload() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (directory, path) = place();
    let other = directory.path().join("other.sock");
    let settings = Settings::new(&csp, &service);
    let both = [at(&path), "127.0.0.1:0".to_owned()];
    let process = Process::start(&settings.clone().set("listen.address", both.as_slice())).await;
    let ready = async || process.admin_get("/readyz").await.0 == 200;
    super::support::eventually_async(ready, DEADLINE).await;
    let tcp = process.url();
    assert!(ask(&path, "/echo").starts_with("HTTP/1.1 200 "));
    assert_eq!(get(&format!("{tcp}/echo")).await.status, 200);
    let mut kept = Client::connect(&tcp).await;
    let new = [at(&other), "127.0.0.1:0".to_owned()];
    let new = settings
        .set("listen.address", new.as_slice())
        .set("listen.unix_mode", "0620");
    process.reconfigure(&new);
    process.signal(Signal::HUP);
    eventually(|| other.exists() && !path.exists(), DEADLINE).await;
    eventually(|| mode(&other) == 0o620, DEADLINE).await;
    assert!(ask(&other, "/echo").starts_with("HTTP/1.1 200 "));
    assert_eq!(kept.request("GET", "/echo", &[], "").await.status, 200);
    process.signal(Signal::TERM);
    eventually(|| !other.exists(), DEADLINE).await;
}

#[tokio::test]
async fn the_admin_listener_may_be_a_unix_socket_and_wait_asks_it() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (_directory, path) = place();
    let settings = Settings::new(&csp, &service).set("admin.address", at(&path));
    let sidecar = Sidecar::start(&settings);
    assert_eq!(mode(&path), 0o600);
    let waited = Command::new(env!("CARGO_BIN_EXE_auth-sidecar"))
        .args(["wait", "--timeout", "10s", "--admin", &at(&path)])
        .env_clear()
        .output()
        .unwrap();
    assert!(waited.status.success(), "{waited:?}");
    assert!(ask(&path, "/status").starts_with("HTTP/1.1 200 "));
    sidecar.stop().await.unwrap();
    assert!(!path.exists());
}

/// Changes the mode and the group of a running sidecar's socket, after something else has taken its
/// place.
async fn reload_after(replace: impl FnOnce(&Path)) {
    let service = FakeService::accepting(["a-token"]);
    let (_directory, path) = place();
    let settings = Settings::static_token("a-token", &service).set(
        "listen.address",
        [at(&path), "127.0.0.1:0".to_owned()].as_slice(),
    );
    let process = Process::start(&settings).await;
    fs::remove_file(&path).unwrap();
    replace(&path);
    let wider = settings
        .set("listen.unix_mode", "0666")
        .set("listen.unix_group", "4242");
    process.reconfigure(&wider);
    eventually(|| process.output().contains("is in use"), DEADLINE).await;
    // Whoever looks for it there is told so.
    let said = process.output();
    assert!(said.contains("something else is in the place"), "{said}");
}

#[tokio::test]
async fn a_reload_changes_the_socket_and_nothing_that_has_taken_its_place() {
    let (directory, _) = place();
    let victim = directory.path().join("victim");
    let replacements: [fn(&Path, &Path); 3] = [
        |victim, path| std::os::unix::fs::symlink(victim, path).unwrap(),
        |victim, path| fs::hard_link(victim, path).unwrap(),
        |victim, path| fs::rename(victim, path).unwrap(),
    ];
    for replacement in replacements {
        fs::write(&victim, "precious").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
        let file = fs::File::open(&victim).unwrap();
        reload_after(|path| replacement(&victim, path)).await;
        let found = file.metadata().unwrap();
        assert_eq!(found.mode() & 0o777, 0o600);
        assert_eq!(found.gid(), getgid().as_raw());
        drop(fs::remove_file(&victim));
    }
}

#[tokio::test]
async fn a_link_in_the_place_of_the_socket_is_not_removed_at_the_end() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (directory, path) = place();
    let sidecar = Sidecar::start(&settings(&csp, &service, &path));
    let moved = directory.path().join("moved");
    fs::rename(&path, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &path).unwrap();
    sidecar.stop().await.unwrap();
    assert!(path.symlink_metadata().is_ok() && moved.exists());
}

/// The sandbox makes the process one that nobody can look into, and another user than root owns
/// nothing below /proc then.
#[tokio::test]
async fn the_mode_can_be_changed_as_any_user_in_the_sandbox() {
    const USER: u32 = 65534;
    if !getuid().is_root() {
        println!("skipped: only root can start a process of another user");
        return;
    }
    let service = FakeService::accepting(["a-token"]);
    let (directory, path) = place();
    std::os::unix::fs::chown(directory.path(), Some(USER), None).unwrap();
    let settings = Settings::static_token("a-token", &service).set(
        "listen.address",
        [at(&path), "127.0.0.1:0".to_owned()].as_slice(),
    );
    let process = Process::start_through(&settings, &[], |files| {
        let own = |path: &Path| std::os::unix::fs::chown(path, Some(USER), None).unwrap();
        own(files);
        own(&files.join("auth-sidecar.toml"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_auth-sidecar"));
        command.uid(USER).gid(USER);
        command
    })
    .await;
    assert_eq!(mode(&path), 0o600);
    process.reconfigure(&settings.set("listen.unix_mode", "0666"));
    eventually(|| mode(&path) == 0o666, DEADLINE).await;
}

#[tokio::test]
async fn a_directory_of_sockets_that_others_may_write_to_is_a_warning() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let (directory, path) = place();
    let inner = directory.path().join("inner");
    fs::create_dir(&inner).unwrap();
    for (outer, mode, key, warns) in [
        (0o755, 0o755, "listen.address", false),
        (0o755, 0o700, "admin.address", false),
        (0o755, 0o773, "listen.address", true),
        (0o755, 0o777, "admin.address", true),
        // Others can take the name before the start.
        (0o755, 0o1777, "listen.address", true),
        (0o777, 0o755, "listen.address", true),
        (0o1777, 0o755, "listen.address", false),
    ] {
        for (path, mode) in [(directory.path(), outer), (&inner, mode)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let socket = inner.join("s");
        let settings = settings(&csp, &service, &path)
            .unset("listen.address")
            .set(key, at(&socket));
        let files = tempfile::tempdir().unwrap();
        let warnings = settings.load(files.path()).unwrap().warnings;
        let found = warnings.iter().any(|warning| {
            warning.starts_with(key) && warning.contains("chmod") && warning.contains("sidecar")
        });
        assert_eq!(found, warns, "{outer:o} {mode:o}: {warnings:?}");
    }
}
