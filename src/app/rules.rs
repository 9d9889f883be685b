//! The names under which clients may know the listeners, and what they have to prove.

use std::net::{IpAddr, SocketAddr};

use super::Live;
use crate::{
    admin::Guard,
    admission::Rules,
    config::Config,
    server::{Address, TlsSettings},
};

/// Those of the data listener.
pub(super) fn data(live: &Live) -> Rules {
    let Live {
        config, addresses, ..
    } = live;
    let sockets: Vec<SocketAddr> = addresses.iter().flat_map(Address::sockets).collect();
    let own = sockets.iter().map(|address| match address.ip() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    });
    Rules {
        // Not the upstream's own name: over plain HTTP browsers send nothing of whose page makes the request.
        hosts: own
            .chain(config.proxy.allow_hosts.iter().cloned())
            .collect(),
        // What listens on every address is known by any.
        any_address: sockets.iter().any(|address| address.ip().is_unspecified()),
        origins: config.proxy.allow_origins.clone(),
        required: config.proxy.required_field.clone(),
        clients: live.clients.clone(),
        allowed: config.proxy.allowed.clone(),
    }
}

/// The same for the broker, which listens where no other machine is, and whose clients show what they
/// have to prove in ways of their own.
pub(super) fn broker(config: &Config) -> Rules {
    Rules {
        hosts: config.broker.allow_hosts.clone(),
        ..Rules::default()
    }
}

/// The same for the admin listener. A probe from elsewhere knows it by its address. On a loopback
/// port it has no name but localhost: it serves plain HTTP, and its readers prove nothing.
pub(super) fn admin(config: &Config, address: Option<&Address>) -> Rules {
    let is_port = address.is_some_and(|address| address.socket().is_some());
    let is_remote = address.is_some_and(is_remote);
    Rules {
        hosts: if is_port && !is_remote {
            Vec::new()
        } else {
            config.proxy.allow_hosts.clone()
        },
        any_address: is_remote,
        ..Rules::default()
    }
}

/// Who may have the admin listener act, and see more than metrics and health.
pub(super) fn guard(live: &Live, address: Option<&Address>) -> Guard {
    let config = &live.config;
    let proves = |tls: &TlsSettings| tls.client_ca_file.is_some();
    let is_certified = config.listen.tls.as_ref().is_some_and(proves);
    let is_open =
        |address: &Address| address.socket().is_some() && !(address.is_tls() && is_certified);
    Guard {
        proofs: Rules {
            required: config.proxy.required_field.clone(),
            clients: live.clients.clone(),
            ..Rules::default()
        },
        takes_file: live.clients.is_none() && !live.addresses.iter().any(is_open),
        is_remote: address.is_some_and(is_remote),
    }
}

fn is_remote(address: &Address) -> bool {
    let mut sockets = address.sockets();
    sockets.any(|address| !address.ip().to_canonical().is_loopback())
}
