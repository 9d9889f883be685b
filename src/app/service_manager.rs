//! Tells whoever manages us as a service that we serve, and that we stop (`sd_notify(3)`): systemd,
//! with `Type=notify`.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// The way to the service manager, if there is one that wants to know.
///
/// The sandbox allows no new connections to abstract sockets, which this can be; so it is made before
/// that, where a library would make one for each message.
#[derive(Debug, Default)]
pub struct ServiceManager(Option<UnixDatagram>);

/// What there is to say.
#[derive(Debug, Clone, Copy)]
pub(super) enum State {
    /// We serve.
    Ready,
    /// We finish what is in flight.
    Stopping,
}

impl ServiceManager {
    /// That at the address which the variable `NOTIFY_SOCKET` holds. One that cannot be reached is
    /// reported to nobody: there is no log yet, and the manager notices the silence.
    #[must_use]
    pub fn at(address: Option<&str>) -> Self {
        Self(address.and_then(|address| connect(address).ok()))
    }

    pub(super) fn tell(&self, state: State) {
        let Some(socket) = &self.0 else { return };
        let message = match state {
            State::Ready => "READY=1",
            State::Stopping => "STOPPING=1",
        };
        if let Err(error) = socket.send(message.as_bytes()) {
            tracing::warn!(%error, "cannot tell the service manager {message}");
        }
    }
}

fn connect(address: &str) -> io::Result<UnixDatagram> {
    let address = match address.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(address)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that reads nothing must not hold us up.
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}
