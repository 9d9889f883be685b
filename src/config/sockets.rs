//! Finds the sockets that `systemd:` addresses name among those that were passed to us.

use super::problem::Expected;
use crate::server::{Address, FoundSocket, Inherited, PassedAddress};

/// The addresses, with each name replaced by the sockets that have it. Where nothing is known of
/// them, as for `check`, the names stay.
pub(super) fn found(
    addresses: &[Address],
    inherited: Option<&Inherited>,
) -> Result<Vec<Address>, Expected> {
    let mut all = Vec::new();
    for address in addresses {
        match (address, inherited) {
            (Address::Passed(named), Some(inherited)) => all.extend(of(named, inherited)?),
            _ => all.push(address.clone()),
        }
    }
    Ok(all)
}

/// The same for a place where there can be only one.
pub(super) fn only(address: &Address, inherited: Option<&Inherited>) -> Result<Address, Expected> {
    match found(std::slice::from_ref(address), inherited)?.as_slice() {
        [only] => Ok(only.clone()),
        _ => Err("must name one socket; several were passed with this name".to_owned()),
    }
}

fn of(named: &PassedAddress, inherited: &Inherited) -> Result<Vec<Address>, Expected> {
    let address = |(number, passed): (usize, &crate::server::Passed)| {
        let address = passed.address();
        if named.tls && address.is_none() {
            return Err("with tls: must name a TCP socket; a unix socket was passed".to_owned());
        }
        Ok(Address::Passed(PassedAddress {
            found: Some(FoundSocket { number, address }),
            ..named.clone()
        }))
    };
    let found: Vec<_> = inherited.named(&named.name).map(address).collect();
    if found.is_empty() {
        return Err(format!(
            "must name a socket that was passed to this process; {}",
            names(inherited)
        ));
    }
    found.into_iter().collect()
}

fn names(inherited: &Inherited) -> String {
    let mut names: Vec<String> = inherited
        .iter()
        .map(|passed| format!("systemd:{}", passed.name.escape_default()))
        .collect();
    names.dedup();
    if names.is_empty() {
        "none was (LISTEN_PID and LISTEN_FDS say so): start it by its systemd unit, with a socket \
         unit that is its own or in Sockets="
            .to_owned()
    } else {
        format!("there are {}", names.join(", "))
    }
}

/// A warning for each socket that was passed and leads nowhere: whoever connects to it waits for ever.
pub(super) fn unused(
    inherited: &Inherited,
    listen: &[Address],
    admin: Option<&Address>,
) -> Vec<String> {
    let is_used = |number: usize| {
        listen.iter().chain(admin).any(|address| match address {
            Address::Passed(passed) => passed.found.is_some_and(|found| found.number == number),
            _ => false,
        })
    };
    let passed = inherited.iter().enumerate();
    let unused = passed.filter(|(number, _)| !is_used(*number));
    unused
        .map(|(_, passed)| {
            let name = passed.name.escape_default();
            format!(
                "listen.address: a socket was passed that no address names, so its clients wait for \
                 ever: systemd:{name}"
            )
        })
        .collect()
}
