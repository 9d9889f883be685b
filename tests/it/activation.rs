//! Sockets that whoever starts the sidecar has opened already, as systemd's socket units do.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{TcpListener, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd},
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
    },
    path::Path,
    process::Command,
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::Signal,
};
use serde_json::{Value, json};

use super::support::{
    Answer, DEADLINE, FakeCsp, FakeService, Process, Settings, eventually, eventually_async, get,
};

/// Starts the program with sockets as file descriptors from 3 on, as systemd does: the variable
/// with the process's number can only be set by the process itself.
const PASS: &str = r#"
    count=$1; shift
    for ((i = 0; i < count; i++)); do exec {fd}<&"$1"; kept+=("$fd"); shift; done
    for ((i = 0; i < count; i++)); do eval "exec $((3 + i))<&${kept[i]} ${kept[i]}<&-"; done
    export LISTEN_FDS=$count LISTEN_PID=${OF_PROCESS:-$$}
    exec "$@"
"#;

/// A command that passes these, and ends in executing the program.
fn passing(sockets: &[&dyn AsFd]) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", PASS, "bash", &sockets.len().to_string()]);
    for socket in sockets {
        let socket = socket.as_fd();
        fcntl_setfd(socket, FdFlags::empty()).unwrap();
        command.arg(socket.as_raw_fd().to_string());
    }
    command.arg(env!("CARGO_BIN_EXE_auth-sidecar"));
    command
}

/// One request, answered to the end of the connection.
fn ask(path: &Path) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let request = "GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A file descriptor's flags, where we may look at them.
fn flags(process: &Process, descriptor: u32) -> Option<u32> {
    let path = format!("/proc/{}/fdinfo/{descriptor}", process.pid());
    let text = fs::read_to_string(path).ok()?;
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    u32::from_str_radix(flags?.trim(), 8).ok()
}

#[tokio::test]
async fn sockets_that_were_passed_are_served_and_outlive_a_reload() {
    const CLOSE_ON_EXEC: u32 = 0o2_000_000;
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("passed.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let tcp: Vec<_> = (0..3)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let url = |number: usize| format!("http://{}/echo", tcp[number].local_addr().unwrap());
    let settings = |addresses: &[&str]| {
        let addresses: Vec<Value> = addresses.iter().map(|address| json!(address)).collect();
        Settings::new(&csp, &service)
            .set("listen.address", addresses)
            .set("admin.address", "systemd:admin")
    };
    let first = settings(&["systemd:proxy", "systemd:unix", "127.0.0.1:0"]);
    // Two sockets of one unit have the same name.
    let names = [("LISTEN_FDNAMES", "proxy:proxy:unix:admin")];
    let process = Process::start_through(&first, &names, |_| {
        passing(&[&tcp[0], &tcp[1], &unix, &tcp[2]])
    })
    .await;
    let ready = async || process.admin_get("/readyz").await.0 == 200;
    eventually_async(ready, DEADLINE).await;
    assert_eq!(
        process.admin_url(),
        format!("http://{}", tcp[2].local_addr().unwrap())
    );
    let serves_all = async || {
        assert_eq!(get(&url(0)).await.status, 200);
        assert_eq!(get(&url(1)).await.status, 200);
        assert!(ask(&path).starts_with("HTTP/1.1 200 "));
    };
    serves_all().await;
    for descriptor in 3..7 {
        let flags = flags(&process, descriptor);
        assert!(
            flags.is_none_or(|flags| flags & CLOSE_ON_EXEC != 0),
            "{descriptor}: {flags:?}"
        );
    }
    let reload = async |settings: &Settings, times: usize| {
        process.reconfigure(settings);
        process.signal(Signal::HUP);
        let done = || process.stderr().matches("configuration is in use").count() == times;
        eventually(done, DEADLINE).await;
    };
    // Named no more, and then again.
    reload(&settings(&["systemd:proxy"]), 1).await;
    assert_eq!(get(&url(1)).await.status, 200);
    reload(&settings(&["systemd:unix", "systemd:proxy"]), 2).await;
    serves_all().await;
    process.signal(Signal::TERM);
    eventually(|| process.stderr().contains("stopped"), DEADLINE).await;
    assert!(path.exists(), "the file of who passed the socket is gone");
}

#[tokio::test]
async fn the_service_manager_is_told_of_the_start_and_of_the_end() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let name = format!("auth-sidecar-test-{}", std::process::id());
    let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
    for (manager, address) in [
        (
            UnixDatagram::bind(&path).unwrap(),
            path.to_str().unwrap().to_owned(),
        ),
        (
            UnixDatagram::bind_addr(&abstract_address).unwrap(),
            format!("@{name}"),
        ),
    ] {
        manager.set_read_timeout(Some(DEADLINE)).unwrap();
        let next = || {
            let mut message = [0; 256];
            let length = manager.recv(&mut message).unwrap();
            String::from_utf8_lossy(&message[..length]).into_owned()
        };
        let variables = [("NOTIFY_SOCKET", address.as_str())];
        let settings = Settings::new(&csp, &service);
        let mut process = Process::start_with(&settings, &[], &variables).await;
        assert_eq!(next(), "READY=1");
        let status = next();
        assert!(
            status.starts_with("STATUS=a token is usable until 20") && status.ends_with('Z'),
            "{status}"
        );
        // What comes at the next renewal, if that is now.
        process.signal(Signal::TERM);
        let last = std::iter::repeat_with(next).find(|said| !said.starts_with("STATUS="));
        assert_eq!(last.as_deref(), Some("STOPPING=1"));
        assert_eq!(process.wait().await.code(), Some(0));
    }
}

#[tokio::test]
async fn the_service_manager_is_told_why_there_is_no_token() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    csp.script([Answer::CspError(500)]);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let next = || {
        let mut message = [0; 256];
        let length = manager.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let settings = Settings::new(&csp, &service);
    let _process = Process::start_with(&settings, &[], &variables).await;
    assert_eq!(next(), "READY=1");
    let failed = next();
    let expected = "STATUS=no usable token; no new one (bad_status), next attempt 20";
    assert!(failed.starts_with(expected), "{failed}");
    // The next attempt is good.
    let recovered = next();
    assert!(
        recovered.starts_with("STATUS=a token is usable until"),
        "{recovered}"
    );
}

/// How a run ends that cannot begin, and what it says.
async fn fails(settings: &Settings, names: &str, of_process: &str, socket: &dyn AsFd) -> String {
    let directory = tempfile::tempdir().unwrap();
    let mut command = passing(&[socket]);
    let config = settings.write(directory.path());
    command.args(["run", "--config", config.to_str().unwrap()]);
    let environment = [("LISTEN_FDNAMES", names), ("OF_PROCESS", of_process)];
    let mut process = Process::spawn_command(directory, command, &environment);
    let status = process.wait().await;
    assert_eq!(status.code(), Some(2), "{}", process.output());
    process.stderr()
}

#[tokio::test]
async fn a_name_that_was_not_passed_is_a_mistake_that_tells_those_that_were() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let settings = Settings::new(&csp, &service).set("listen.address", "systemd:prxoy");
    let said = fails(&settings, "proxy", "", &socket).await;
    assert!(said.contains("listen.address (file"), "{said}");
    assert!(said.contains("there are systemd:proxy"), "{said}");
    let admin = Settings::new(&csp, &service).set("admin.address", "systemd:admin");
    let said = fails(&admin, "", "", &socket).await;
    assert!(said.contains("admin.address (file"), "{said}");
    assert!(said.contains("there are systemd:unknown"), "{said}");
    // What is meant for the parent is none of ours.
    let said = fails(&settings, "prxoy", "1", &socket).await;
    assert!(said.contains("none was"), "{said}");
}

#[tokio::test]
async fn a_passed_socket_that_the_network_reaches_needs_what_one_of_ours_would() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let settings = Settings::new(&csp, &service).set("listen.address", "systemd:proxy");
    let said = fails(&settings, "proxy", "", &open).await;
    assert!(said.contains("must be a loopback address"), "{said}");
    let allowed = settings.set("listen.allow_remote", true);
    let said = fails(&allowed, "proxy", "", &open).await;
    assert!(said.contains("clients must prove who they are"), "{said}");
    let admin = Settings::new(&csp, &service).set("admin.address", "systemd:admin");
    let said = fails(&admin, "admin", "", &open).await;
    assert!(said.contains("admin.allow_remote"), "{said}");
}

#[tokio::test]
async fn what_is_no_listener_is_refused() {
    let (csp, service) = (FakeCsp::start(), FakeService::accepting_all());
    let settings = Settings::new(&csp, &service).set("listen.address", "systemd:proxy");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let datagrams = UnixDatagram::unbound().unwrap();
    let file = fs::File::open("/dev/null").unwrap();
    let others: [&dyn AsFd; 4] = [&connected, &udp, &datagrams, &file];
    for socket in others {
        let said = fails(&settings, "proxy", "", socket).await;
        assert!(said.contains(r#"the socket "proxy""#), "{said}");
        assert!(said.contains("ListenStream="), "{said}");
    }
}
