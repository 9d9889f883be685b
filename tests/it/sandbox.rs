//! What the process gives up: to be read, to write, to execute.

use std::{
    fs,
    io::{self, ErrorKind},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    os::fd::AsFd,
    os::unix::{
        fs::{PermissionsExt, chown, chroot, symlink},
        net::UnixListener,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use auth_sidecar::{
    broker::{FileFormat, FileSettings, TokenFile},
    sandbox::{Sandbox, Writable},
};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, setrlimit};

use crate::support::{CLIENT_SECRET, FakeCsp, FakeService, Process, Settings, get};

const NOBODY: u32 = 65534;
const ANOTHER_USER: u32 = 65533;

/// It is there where the kernel has filters for system calls.
const SECCOMP: &str = "/proc/sys/kernel/seccomp/actions_avail";

/// Says why a test shows nothing here.
#[expect(clippy::print_stdout, reason = "who runs the tests should see it")]
fn skip(why: &str) {
    println!("skipped: {why}");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Settings whose secret is not in the file.
fn without_secret(csp: &FakeCsp, service: &FakeService) -> Settings {
    Settings::new(csp, service).unset("auth.client_secret")
}

const SECRET: [(&str, &str); 1] = [("CSP_APP_SECRET", CLIENT_SECRET)];

/// A copy of the program where any user can execute it, whatever the rights on the way to ours. The
/// configuration beside it becomes that of [`NOBODY`].
fn program_for_anybody(directory: &Path) -> PathBuf {
    let program = directory.join("auth-sidecar");
    let ours = env!("CARGO_BIN_EXE_auth-sidecar");
    if fs::hard_link(ours, &program).is_err() {
        fs::copy(ours, &program).unwrap();
    }
    fs::set_permissions(directory, fs::Permissions::from_mode(0o755)).unwrap();
    chown(directory.join("auth-sidecar.toml"), Some(NOBODY), None).unwrap();
    program
}

fn as_nobody(directory: &Path) -> Command {
    let mut command = Command::new(program_for_anybody(directory));
    command.uid(NOBODY).gid(NOBODY);
    command
}

/// What a user sees of a file of `/proc` of another process.
fn seen_by(user: u32, process: &Process, file: &str) -> Result<Vec<u8>, String> {
    let output = Command::new("cat")
        .arg(format!("/proc/{}/{file}", process.pid()))
        .uid(user)
        .gid(user)
        .output()
        .unwrap();
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[tokio::test]
async fn every_thread_is_restricted() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    // By name: the lookup is done on a thread that only starts when it is needed.
    let named = service.url().replace("127.0.0.1", "localhost");
    let settings = Settings::new(&csp, &service).set("upstream.url", named);
    let process = Process::start(&settings).await;
    assert_eq!(get(&process.url()).await.status, 200);
    let log = process.stderr();
    assert!(log.contains("sandbox: not dumpable, no core dumps, no new privileges"));
    let has_seccomp = Path::new(SECCOMP).exists();
    assert!(!has_seccomp || log.contains(", seccomp\n"), "{log}");
    let mut threads = 0;
    for thread in fs::read_dir(format!("/proc/{}/task", process.pid())).unwrap() {
        let Ok(status) = fs::read_to_string(thread.unwrap().path().join("status")) else {
            // A thread for lookups ends when there is nothing more to do.
            continue;
        };
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        assert!(!has_seccomp || status.contains("Seccomp:\t2"), "{status}");
        threads += 1;
    }
    assert!(threads >= 4, "main, two workers and a lookup: {threads}");
}

#[tokio::test]
async fn nobody_reads_the_memory_and_the_environment() {
    if !is_root() {
        return skip("only root can become another user");
    }
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = without_secret(&csp, &service);
    let process = Process::start_through(&settings, &SECRET, as_nobody).await;
    assert_eq!(get(&process.url()).await.status, 200);
    for user in [NOBODY, ANOTHER_USER] {
        for file in ["environ", "mem", "maps", "auxv", "syscall"] {
            let refused = seen_by(user, &process, file).unwrap_err();
            assert!(refused.contains("Permission denied"), "{file}: {refused}");
        }
        // What tools measure stays visible.
        for file in ["status", "stat", "cmdline"] {
            assert!(!seen_by(user, &process, file).unwrap().is_empty());
        }
    }

    // Without the sandbox, the same user does.
    let open = settings.set("process.sandbox", false);
    let process = Process::start_through(&open, &SECRET, as_nobody).await;
    let environment = seen_by(NOBODY, &process, "environ").unwrap();
    assert!(String::from_utf8_lossy(&environment).contains(CLIENT_SECRET));
    assert!(seen_by(ANOTHER_USER, &process, "environ").is_err());
    assert!(process.stderr().contains("process.sandbox: debuggers"));
    assert!(!process.stderr().contains("sandbox: not dumpable"));
}

#[tokio::test]
async fn a_crash_leaves_no_core() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    // What the program inherits: as much as there is.
    let limit = getrlimit(Resource::Core);
    let most = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    setrlimit(Resource::Core, most).unwrap();
    let mut process = Process::start(&Settings::new(&csp, &service)).await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.pid())).unwrap();
    let core = limits.lines().find(|line| line.contains("core file"));
    let values: Vec<&str> = core.unwrap().split_whitespace().skip(4).take(2).collect();
    assert_eq!(values, ["0", "0"]);
    process.signal(Signal::ABORT);
    let status = process.wait().await;
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    assert!(!status.core_dumped());
}

#[tokio::test]
async fn it_runs_as_any_user_on_a_read_only_file_system() {
    const SCRIPT: &str = r#"
        mount --make-rprivate / && mount --bind "$1" "$1" && cd "$1" &&
        mount -o remount,bind,ro "$1" && mount -o remount,bind,ro / &&
        ! touch "$1/written" 2>/dev/null || exit 9
        shift
        exec setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
    "#;
    let mounts = Command::new("unshare").args(["-m", "true"]).status();
    if !is_root() || !mounts.is_ok_and(|status| status.success()) {
        return skip("only root can make a file system read-only");
    }
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = without_secret(&csp, &service);
    let process = Process::start_through(&settings, &SECRET, |directory| {
        let program = program_for_anybody(directory);
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", SCRIPT, "sh"]);
        command.arg(directory).arg(program);
        command
    })
    .await;
    assert_eq!(get(&process.url()).await.status, 200);
    let status = fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    assert!(status.contains("Uid:\t65534\t65534"), "{status}");
}

#[test]
fn a_restricted_process_neither_executes_nor_writes() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("sockets")).unwrap();
    fs::create_dir(directory.path().join("tokens")).unwrap();
    fs::write(directory.path().join("file"), "here").unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "sandbox::what_a_restricted_process_tries"])
        .args(["--ignored", "--nocapture"])
        .current_dir(directory.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{complained}");
    assert!(said.contains("1 passed"), "{said}");
    print!("{said}");
}

/// Runs in a process of its own: what it gives up is gone for good.
#[test]
#[ignore = "the test above runs it, in a directory made for it"]
fn what_a_restricted_process_tries() {
    let here = std::env::current_dir().unwrap();
    let (sockets, tokens) = (here.join("sockets"), here.join("tokens"));
    if !sockets.is_dir() {
        return skip("not run by the test above");
    }
    let abroad = fs::File::open("/proc/self/ns/net").unwrap();
    let sandbox = Sandbox::close().restrict(&Writable {
        sockets: vec![sockets],
        log: None,
        tokens: vec![tokens],
    });
    let in_force = sandbox.to_string();
    if in_force.ends_with("Landlock") || in_force.contains("Landlock (not enabled)") {
        skip("the kernel has no Landlock");
    } else {
        nothing_is_written();
    }
    if Path::new(SECCOMP).exists() {
        nothing_is_executed();
        assert_denied("another root", chroot("/"));
        let moved = rustix::thread::move_into_link_name_space(abroad.as_fd(), None);
        assert_denied("another namespace", moved.map_err(io::Error::from));
    } else {
        skip("the kernel has no seccomp");
    }
    everything_that_is_needed_works();
}

fn nothing_is_written() {
    let tries = || {
        assert_denied("a new file", fs::write("new", "x"));
        assert_denied(
            "an old file",
            fs::OpenOptions::new().append(true).open("file"),
        );
        assert_denied(
            "a device",
            fs::OpenOptions::new().write(true).open("/dev/null"),
        );
        assert_denied("a directory", fs::create_dir("directory"));
        assert_denied("a link", symlink("file", "link"));
        assert_denied("another name", fs::rename("file", "sockets/file"));
        assert_denied("the end of a file", fs::remove_file("file"));
        assert_denied("the end of a directory", fs::remove_dir("sockets"));
        assert_denied("a socket", UnixListener::bind("socket"));
        assert_denied("a file among sockets", fs::write("sockets/file", "x"));
        assert_denied("a socket among tokens", UnixListener::bind("tokens/socket"));
        assert_denied("a link among tokens", symlink("file", "tokens/link"));
        assert_denied("a directory among tokens", fs::create_dir("tokens/more"));
        assert_denied("another name for them", fs::rename("tokens", "other"));
    };
    tries();
    thread::spawn(tries).join().unwrap();
}

fn nothing_is_executed() {
    assert_denied(
        "a program in our place",
        Err::<(), _>(Command::new("true").exec()),
    );
    assert_denied("another process", Command::new("true").spawn());
    let other_thread = thread::spawn(|| Command::new("true").exec());
    assert_denied("a thread's", Err::<(), _>(other_thread.join().unwrap()));
}

fn everything_that_is_needed_works() {
    assert_eq!(fs::read("file").unwrap(), b"here");
    for _ in 0..2 {
        // Bound under a name of its own, then moved over the old one.
        let listener = UnixListener::bind("sockets/new").unwrap();
        fs::rename("sockets/new", "sockets/socket").unwrap();
        drop(listener);
    }
    fs::remove_file("sockets/socket").unwrap();
    let settings = FileSettings {
        path: std::env::current_dir().unwrap().join("tokens/token"),
        mode: 0o640,
        owner: None,
        group: None,
        format: FileFormat::Raw,
    };
    drop(TokenFile::new(settings, || 7).unwrap());
    fs::write("tokens/new", "x").unwrap();
    fs::rename("tokens/new", "tokens/token").unwrap();
    fs::remove_file("tokens/token").unwrap();
    assert!(
        ("localhost", 80)
            .to_socket_addrs()
            .unwrap()
            .next()
            .is_some()
    );
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    rustls_native_certs::load_native_certs();
}

#[track_caller]
fn assert_denied<T>(what: &str, result: io::Result<T>) {
    match result {
        Ok(_) => panic!("{what} was allowed"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{what}: {error}"),
    }
}
