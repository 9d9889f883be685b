//! Notifies the service manager that we serve, how the token is, and that we stop
//! (`sd_notify(3)`): systemd, with `Type=notify`.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    time::SystemTime,
};

use tokio::time::Instant;

use crate::{clock::nameable, token::Snapshot};

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

    pub(super) fn notify(&self, state: State) {
        self.send(match state {
            State::Ready => "READY=1",
            State::Stopping => "STOPPING=1",
        });
    }

    /// Sends how the token is, for `systemctl status`.
    pub(super) fn notify_status(&self, known: &Snapshot) {
        if self.0.is_some() {
            let status = status(known, Instant::now(), SystemTime::now());
            self.send(&format!("STATUS={status}"));
        }
    }

    fn send(&self, message: &str) {
        let Some(socket) = &self.0 else { return };
        if let Err(error) = socket.send(message.as_bytes()) {
            tracing::warn!(%error, "cannot notify the service manager of {message}");
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

/// One line. It has dates and no durations, since it is read long after it was written.
fn status(known: &Snapshot, now: Instant, date: SystemTime) -> String {
    let at = |moment: Instant| {
        let ahead = moment.saturating_duration_since(now);
        let at = date.checked_add(ahead).unwrap_or(date);
        humantime::format_rfc3339_seconds(nameable(at)).to_string()
    };
    let token = known.usable(now).map(|token| match token.expires_at {
        Some(end) => format!("a token is usable until {}", at(end)),
        None => "a token is usable, and has no end".to_owned(),
    });
    let failure = known.failure.as_ref().map(|failure| {
        let next = at(known.next_attempt);
        format!("no new one ({}), next attempt {next}", failure.reason)
    });
    match (token, failure) {
        (Some(token), None) => token,
        (Some(token), Some(failure)) => format!("{token}; {failure}"),
        (None, Some(failure)) => format!("no usable token; {failure}"),
        (None, None) => "no usable token".to_owned(),
    }
}
