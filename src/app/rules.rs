//! The names under which clients may know the listeners.

use std::net::SocketAddr;

use super::Live;
use crate::{config::Config, proxy::Rules};

/// Those of the data listener.
pub(super) fn data(live: &Live) -> Rules {
    let Live {
        config, addresses, ..
    } = live;
    let upstream = config.upstream.url.host_str().map(ToOwned::to_owned);
    let own = addresses.iter().map(|address| address.ip().to_string());
    Rules {
        hosts: upstream
            .into_iter()
            .chain(own)
            .chain(config.proxy.allow_hosts.iter().cloned())
            .collect(),
        any_address: false,
        origins: config.proxy.allow_origins.clone(),
        required: config.proxy.required_field.clone(),
        clients: live.clients.clone(),
        allowed: config.proxy.allowed.clone(),
    }
}

/// The same for the admin listener. A probe from elsewhere knows it by its address.
pub(super) fn admin(config: &Config, address: Option<SocketAddr>) -> Rules {
    Rules {
        hosts: config.proxy.allow_hosts.clone(),
        any_address: address.is_some_and(|address| !address.ip().is_loopback()),
        ..Rules::default()
    }
}
