//! The real binary in a process of its own, with an empty environment.

use std::{
    io::Read,
    net::SocketAddr,
    os::fd::AsFd,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError},
};

use rustix::{
    pipe::fcntl_setpipe_size,
    process::{Pid, Signal, kill_process},
};
use tempfile::TempDir;

use super::{
    super::{DEADLINE, eventually, get, lock},
    Settings,
    settings::replace,
};

/// A running `auth-sidecar`; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdout: Arc<Mutex<Vec<u8>>>,
    stderr: Arc<Mutex<Vec<u8>>>,
    reader: Arc<Reader>,
    files: TempDir,
}

/// Whoever reads what a process writes, and sometimes does not.
#[derive(Debug, Default)]
struct Reader {
    stalls: Mutex<bool>,
    changed: Condvar,
}

impl Process {
    /// `auth-sidecar run --config …`, once it listens.
    pub async fn start(settings: &Settings) -> Self {
        Self::start_with(settings, &[], &[]).await
    }

    /// The same where the admin listener has no port.
    pub async fn start_without_admin(settings: &Settings) -> Self {
        let files = tempfile::tempdir().unwrap();
        let config = settings.write(files.path());
        let run = ["run", "--config", config.to_str().unwrap()];
        let mut process = Self::spawn_in(files, &run, &[]);
        process.listening(false).await;
        process
    }

    /// The same with more arguments and an environment.
    pub async fn start_with(
        settings: &Settings,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Self {
        let files = tempfile::tempdir().unwrap();
        let config = settings.write(files.path());
        let run = ["run", "--config", config.to_str().unwrap()];
        let arguments: Vec<&str> = run.iter().chain(arguments).copied().collect();
        let mut process = Self::spawn_in(files, &arguments, environment);
        process.listening(settings.has_admin()).await;
        process
    }

    /// The same through another command, which ends in executing the program: it is given the
    /// directory of the files, and the program's own command line follows.
    pub async fn start_through(
        settings: &Settings,
        environment: &[(&str, &str)],
        through: impl FnOnce(&Path) -> Command,
    ) -> Self {
        let files = tempfile::tempdir().unwrap();
        let config = settings.write(files.path());
        let mut command = through(files.path());
        command.args(["run", "--config", config.to_str().unwrap()]);
        let mut process = Self::spawn_command(files, command, environment);
        process.listening(settings.has_admin()).await;
        process
    }

    /// `auth-sidecar` with these arguments, of which nothing is expected yet.
    pub fn spawn(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        Self::spawn_in(tempfile::tempdir().unwrap(), arguments, environment)
    }

    fn spawn_in(files: TempDir, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_auth-sidecar"));
        command.args(arguments);
        Self::spawn_command(files, command, environment)
    }

    /// Another command that ends in executing the program, of which nothing is expected yet.
    pub fn spawn_command(
        files: TempDir,
        mut command: Command,
        environment: &[(&str, &str)],
    ) -> Self {
        let mut child = command
            // Neither the proxies nor the credentials of whoever runs the tests.
            .env_clear()
            .envs(environment.iter().copied())
            .current_dir(files.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let reader = Arc::<Reader>::default();
        Self {
            stdout: collect(child.stdout.take().unwrap(), &reader),
            stderr: collect(child.stderr.take().unwrap(), &reader),
            child,
            reader,
            files,
        }
    }

    /// Waits until it says where it listens, for the admin too where that is wanted, or fails with
    /// what it said instead.
    pub async fn listening(&mut self, admin: bool) {
        let mut ended = None;
        let listens = || {
            ended = self.child.try_wait().unwrap();
            let said = listeners(&lossy(&self.stdout), &lossy(&self.stderr));
            ended.is_some() || said.0.is_some() && (said.1.is_some() || !admin)
        };
        eventually(listens, DEADLINE).await;
        assert!(ended.is_none(), "{ended:?}: {}", self.output());
    }

    pub fn proxy_address(&self) -> SocketAddr {
        listeners(&self.stdout(), &self.stderr()).0.unwrap()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.proxy_address())
    }

    pub fn admin_url(&self) -> String {
        let (_, admin) = listeners(&self.stdout(), &self.stderr());
        format!("http://{}", admin.unwrap())
    }

    pub async fn admin_get(&self, path: &str) -> (u16, String) {
        let reply = get(&format!("{}{path}", self.admin_url())).await;
        (reply.status.as_u16(), reply.text().to_owned())
    }

    /// Replaces a file that was given with [`Settings::file`], by its key.
    pub fn rewrite(&self, name: &str, text: &str) {
        replace(self.files.path(), name, text);
    }

    /// Replaces the whole configuration, for a SIGHUP.
    pub fn reconfigure(&self, settings: &Settings) {
        settings.write(self.files.path());
    }

    /// Lets whatever it writes wait in its pipes, or no longer.
    pub fn stall_readers(&self, stall: bool) {
        *lock(&self.reader.stalls) = stall;
        self.reader.changed.notify_all();
    }

    /// The configuration file of the process.
    pub fn config(&self) -> std::path::PathBuf {
        self.files.path().join("auth-sidecar.toml")
    }

    /// Its number, under which the system tells what it uses.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it ends; all its output is there then.
    pub async fn wait(&mut self) -> ExitStatus {
        let (child, outputs) = (&mut self.child, [&self.stdout, &self.stderr]);
        let mut status = None;
        let ended = || {
            status = child.try_wait().unwrap();
            // Each reader keeps a handle of its buffer until the pipe ends.
            status.is_some() && outputs.iter().all(|output| Arc::strong_count(output) == 1)
        };
        eventually(ended, DEADLINE).await;
        status.unwrap()
    }

    pub fn stdout(&self) -> String {
        lossy(&self.stdout)
    }

    pub fn stderr(&self) -> String {
        lossy(&self.stderr)
    }

    /// Both.
    pub fn output(&self) -> String {
        self.stdout() + &self.stderr()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        self.stall_readers(false);
    }
}

impl Reader {
    /// Waits until it reads.
    fn reads(&self) {
        let stalls = lock(&self.stalls);
        let stalls = self.changed.wait_while(stalls, |stalls| *stalls);
        drop(stalls.unwrap_or_else(PoisonError::into_inner));
    }
}

fn lossy(output: &Mutex<Vec<u8>>) -> String {
    String::from_utf8_lossy(&lock(output)).into_owned()
}

fn collect(
    mut pipe: impl Read + AsFd + Send + 'static,
    reader: &Arc<Reader>,
) -> Arc<Mutex<Vec<u8>>> {
    let output = Arc::<Mutex<Vec<u8>>>::default();
    let collected = Arc::clone(&output);
    let reader = Arc::clone(reader);
    // As small as pipes are, so that a reader that stalls is soon noticed.
    fcntl_setpipe_size(&pipe, 4096).unwrap();
    std::thread::spawn(move || {
        let mut piece = [0; 4096];
        while let Ok(length @ 1..) = pipe.read(&mut piece) {
            lock(&collected).extend_from_slice(&piece[..length]);
            reader.reads();
        }
    });
    output
}

/// Where it listens, for the proxy and for the admin, in either log format.
fn listeners(stdout: &str, stderr: &str) -> (Option<SocketAddr>, Option<SocketAddr>) {
    let said = stdout.lines().chain(stderr.lines());
    let (admin, proxy): (Vec<&str>, Vec<&str>) = said
        .filter(|line| line.contains("listening"))
        .partition(|line| line.contains("admin"));
    let first = |lines: Vec<&str>| lines.into_iter().find_map(address);
    (first(proxy), first(admin))
}

fn address(line: &str) -> Option<SocketAddr> {
    let (_, after) = line.split_once("address")?;
    let after = after.trim_start_matches(['"', '=', ':']);
    let after = after.strip_prefix("tls:").unwrap_or(after);
    // What was passed has a name, and its address behind that.
    let after = match after.split_once(" (") {
        Some((name, address)) if name.contains("systemd:") => address,
        _ => after,
    };
    after.split(['"', ' ', ',', ')']).next()?.parse().ok()
}
