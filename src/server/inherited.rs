//! Sockets that whoever started us had opened already, as systemd's socket units do: each with a
//! name, by which a configuration finds it (`sd_listen_fds(3)`).

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener as StdTcp},
    os::unix::net::UnixListener as StdUnix,
    sync::Arc,
};

use listenfd::ListenFd;
use socket2::SockRef;

/// The sockets that were passed, for as long as the process lives: one that no address names now
/// may be named by the next configuration.
#[derive(Clone, Default)]
pub struct Inherited(Arc<[Passed]>);

/// A socket that was passed.
#[derive(Debug)]
pub struct Passed {
    /// `FileDescriptorName=` of its unit; several sockets may have the same.
    pub name: String,
    socket: Socket,
}

/// A socket that can be listened on, of either kind.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(StdTcp),
    /// A unix socket.
    Unix(StdUnix),
}

/// What was passed cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the socket {name:?} that was passed cannot be used: {why}")]
pub struct InheritError {
    name: String,
    why: String,
}

impl Inherited {
    /// Takes what was passed to this process. `names` is the variable `LISTEN_FDNAMES` as it was at the
    /// start, `for_process` the variable `LISTEN_PID`: what is meant for another process is none of
    /// ours.
    ///
    /// It takes the variables that lead to the sockets out of the environment, and with them what
    /// a second call could find. It belongs before the first other thread.
    ///
    /// # Errors
    /// When one of them is no listening stream socket.
    pub fn take(names: Option<&str>, for_process: Option<&str>) -> Result<Self, InheritError> {
        let mut descriptors = ListenFd::from_env();
        // The crate takes a variable that is missing for ours.
        let is_ours = for_process.and_then(|id| id.parse().ok()) == Some(std::process::id());
        if !is_ours {
            return Ok(Self::default());
        }
        let mut names = names.unwrap_or_default().split(':');
        let passed = (0..descriptors.len()).map(|number| {
            let name = names.next().filter(|name| !name.is_empty());
            let name = name.unwrap_or(NO_NAME).to_owned();
            match Socket::take(&mut descriptors, number) {
                Ok(socket) => Ok(Passed { name, socket }),
                Err(error) => Err(InheritError {
                    name,
                    why: error.to_string(),
                }),
            }
        });
        passed.collect::<Result<Arc<_>, _>>().map(Self)
    }

    /// Those of that name, each with its number among all.
    pub fn named(&self, name: &str) -> impl Iterator<Item = (usize, &Passed)> {
        let all = self.0.iter().enumerate();
        all.filter(move |(_, passed)| passed.name == name)
    }

    /// All of them, in the order in which they were passed.
    pub fn iter(&self) -> impl Iterator<Item = &Passed> {
        self.0.iter()
    }

    /// The socket of that number once more.
    ///
    /// # Errors
    /// When there is none, or no more room for files.
    pub fn open(&self, number: usize) -> io::Result<Socket> {
        let passed = self.0.get(number).ok_or(io::ErrorKind::NotFound)?;
        passed.socket.try_clone()
    }
}

/// What systemd calls a socket without a name.
const NO_NAME: &str = "unknown";

impl Passed {
    /// Its address and port, of one that has such.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Tcp(socket) => socket.local_addr().ok(),
            Socket::Unix(_) => None,
        }
    }
}

impl Socket {
    fn take(descriptors: &mut ListenFd, number: usize) -> io::Result<Self> {
        const EXPECTED: &str =
            "it must be a TCP or unix stream socket that listens (ListenStream=)";
        let tcp = descriptors.take_tcp_listener(number).ok().flatten();
        let socket = match tcp.map(Self::Tcp) {
            Some(socket) => socket,
            None => match descriptors.take_unix_listener(number) {
                Ok(Some(socket)) => Self::Unix(socket),
                Ok(None) | Err(_) => return Err(io::Error::other(EXPECTED)),
            },
        };
        let view = match &socket {
            Self::Tcp(socket) => SockRef::from(socket),
            Self::Unix(socket) => SockRef::from(socket),
        };
        // One that is connected already (Accept=yes) is no listener.
        if !view.is_listener()? {
            return Err(io::Error::other(EXPECTED));
        }
        view.set_nonblocking(true)?;
        Ok(socket)
    }

    /// The same socket once more.
    ///
    /// # Errors
    /// When there is no more room for files.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(socket) => Self::Tcp(socket.try_clone()?),
            Self::Unix(socket) => Self::Unix(socket.try_clone()?),
        })
    }
}

impl PartialEq for Inherited {
    /// They are taken once, so what is equal is the same.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.is_empty() && other.0.is_empty()
    }
}

impl fmt::Debug for Inherited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
