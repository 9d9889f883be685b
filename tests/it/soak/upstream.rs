//! The upstream of the soak, which goes away and comes back at the same address.

use std::{net::SocketAddr, path::Path, process::Command};

use socket2::{Domain, Socket, Type};

use crate::support::{FakeCsp, FakeService, Process, Settings, Validator};

/// The name of the service, for a sidecar that can be told what it means.
const NAME: &str = "instance.test";
/// Its addresses. The resolver puts the first one first, whatever the order of the file: it is the
/// nearer one.
const FIRST: [u8; 4] = [127, 0, 0, 1];
const SECOND: [u8; 4] = [127, 0, 0, 2];
/// Gives a process a file of hosts of its own.
const WITH_HOSTS: &str = r#"mount --bind "$0" /etc/hosts && exec "$@""#;

/// See the module.
#[derive(Debug)]
pub struct Upstream {
    service: FakeService,
    validator: Validator,
    /// Of those that were stopped.
    unauthorized: usize,
    /// Bound, so that the port is given to nobody else while the service is away; not listening.
    _reserved: Socket,
    /// The port at the first address, where nobody ever is; bound as the other one.
    first: Option<Socket>,
    /// A listener there that takes nobody, and those that fill its queue.
    swallowing: Vec<Socket>,
}

impl Upstream {
    pub fn start_for(csp: &FakeCsp) -> Self {
        let reserved = bound((SECOND, 0).into());
        let address = reserved.local_addr().unwrap().as_socket().unwrap();
        let first = SocketAddr::from((FIRST, address.port()));
        Self {
            first: has_own_hosts().then(|| bound(first)),
            swallowing: Vec::new(),
            service: FakeService::start_at(address, csp.validator()),
            validator: csp.validator(),
            unauthorized: 0,
            _reserved: reserved,
        }
    }

    /// What the sidecar is told.
    pub fn url(&self) -> String {
        match self.first {
            Some(_) => format!("http://{NAME}:{}", self.service.address().port()),
            None => self.service.url(),
        }
    }

    /// The sidecar, which finds two addresses of the service where that can be had.
    pub async fn start_in_front(&self, settings: &Settings) -> Process {
        if self.first.is_none() {
            return Process::start(settings).await;
        }
        let path = [("PATH", "/usr/bin:/bin")];
        Process::start_through(settings, &path, |files| {
            let mut command = with_hosts(files);
            command.arg(env!("CARGO_BIN_EXE_auth-sidecar"));
            command
        })
        .await
    }

    /// Whether [`Upstream::swallow`] can be asked for.
    pub fn has_two_addresses(&self) -> bool {
        self.first.is_some()
    }

    /// Has the first address swallow what it is sent, or refuse it as before.
    pub fn swallow(&mut self, swallow: bool) {
        self.swallowing.clear();
        let Some(first) = self.first.as_ref().filter(|_| swallow) else {
            return;
        };
        let address = first.local_addr().unwrap();
        let listener = bound(address.as_socket().unwrap());
        listener.listen(0).unwrap();
        self.swallowing.push(listener);
        // One more than the queue has room for: the system drops who comes then.
        for _ in 0..2 {
            let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            drop(client.connect(&address));
            self.swallowing.push(client);
        }
    }

    pub fn service(&self) -> &FakeService {
        &self.service
    }

    /// How many 401s it answered.
    pub fn unauthorized(&self) -> usize {
        self.unauthorized + self.service.unauthorized_count()
    }

    /// Closes the listener and every connection.
    pub fn stop(&mut self) {
        self.service.stop();
    }

    /// After [`Upstream::stop`]. What the old one recorded is forgotten, and fails the test where
    /// it must.
    pub fn start(&mut self) {
        self.unauthorized += self.service.unauthorized_count();
        let address = self.service.address();
        self.service = FakeService::start_at(address, self.validator.clone());
    }
}

/// A socket that is bound, as a listener's own may be beside it, and does not listen.
fn bound(address: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

/// A command that gives what follows a file of hosts in which the service has two addresses.
fn with_hosts(files: &Path) -> Command {
    let hosts = files.join("hosts");
    let lines = [FIRST, SECOND].map(|[a, b, c, d]| format!("{a}.{b}.{c}.{d} {NAME}\n"));
    std::fs::write(&hosts, lines.concat()).unwrap();
    let mut command = Command::new("/usr/bin/unshare");
    command
        .args(["-rm", "/bin/sh", "-c", WITH_HOSTS])
        .arg(hosts);
    command
}

/// Whether a process can be given a file of hosts of its own.
fn has_own_hosts() -> bool {
    let files = tempfile::tempdir().unwrap();
    let tried = with_hosts(files.path()).arg("/bin/true").output();
    tried.is_ok_and(|tried| tried.status.success())
}
