//! The names under which clients may know the listeners.

use std::net::SocketAddr;

use super::Live;
use crate::{config::Config, proxy::Rules, server::Address};

/// Those of the data listener.
pub(super) fn data(live: &Live) -> Rules {
    let Live {
        config, addresses, ..
    } = live;
    let upstream = config.upstream.url.host_str().map(ToOwned::to_owned);
    let sockets: Vec<SocketAddr> = addresses.iter().filter_map(Address::socket).collect();
    let own = sockets.iter().map(|address| address.ip().to_string());
    Rules {
        hosts: upstream
            .into_iter()
            .chain(own)
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

/// The same for the broker, which listens where no other machine is.
pub(super) fn broker(config: &Config) -> Rules {
    Rules {
        hosts: config.proxy.allow_hosts.clone(),
        ..Rules::default()
    }
}

/// The same for the admin listener. A probe from elsewhere knows it by its address.
pub(super) fn admin(config: &Config, address: Option<&Address>) -> Rules {
    Rules {
        hosts: config.proxy.allow_hosts.clone(),
        any_address: address
            .and_then(Address::socket)
            .is_some_and(|address| !address.ip().is_loopback()),
        ..Rules::default()
    }
}
