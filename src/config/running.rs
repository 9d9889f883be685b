//! Where a running sidecar with a configuration can be asked. Of the configuration nothing else needs
//! to be right: who waits for a sidecar may not have its secrets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{ConfigError, Problem, Sources, layers::Layers, listen, reader::Reader};
use crate::server::Address;

/// The address of the admin listener, as somebody on this machine reaches it.
///
/// # Errors
/// When it is wrong, off, or known to the running sidecar alone.
pub fn admin_address(sources: &Sources) -> Result<Address, ConfigError> {
    const KEY: &str = "admin.address";
    let mut reader = Reader::new(Layers::collect(sources), None);
    let admin = listen::admin(&mut reader, &[]);
    let why_not = match admin.address {
        _ if reader.has_problem(KEY) => None,
        None => Some("is off, so a running sidecar cannot be asked"),
        Some(Address::Passed(_)) => Some(
            "is a socket that systemd passes, which only the running sidecar knows; name its \
             address with --admin",
        ),
        Some(Address::Tcp(address) | Address::Tls(address)) if address.port() == 0 => Some(
            "has port 0, so only the running sidecar knows its port; name the address with --admin",
        ),
        Some(_) => None,
    };
    if let Some(why_not) = why_not {
        reader.wrong(KEY, why_not);
    }
    let concerns = |problem: &Problem| {
        problem.key == "config" || problem.key == "admin" || problem.key.starts_with("admin.")
    };
    let problems: Vec<_> = reader.problems.into_iter().filter(concerns).collect();
    match admin.address {
        Some(address) if problems.is_empty() => Ok(reached(address)),
        _ => Err(ConfigError::new(problems)),
    }
}

/// Who listens on every address is reached on this machine by its own.
fn reached(address: Address) -> Address {
    match address {
        Address::Tcp(socket) if socket.ip().is_unspecified() => {
            let own = match socket.ip() {
                IpAddr::V4(_) => IpAddr::from(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::from(Ipv6Addr::LOCALHOST),
            };
            Address::Tcp(SocketAddr::new(own, socket.port()))
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(variables: &[(&str, &str)]) -> Result<String, String> {
        let found = admin_address(&Sources::of_environment(variables.iter().copied()));
        let found = found.map(|address| address.to_string());
        found.map_err(|error| error.to_string())
    }

    #[test]
    fn the_running_sidecar_is_found_by_its_own_keys_and_nothing_else() {
        const ADDRESS: &str = "AUTH_SIDECAR_ADMIN__ADDRESS";
        const REMOTE: (&str, &str) = ("AUTH_SIDECAR_ADMIN__ALLOW_REMOTE", "true");
        assert_eq!(address(&[]).unwrap(), "127.0.0.1:9798");
        // The secret is somewhere else, and the upstream is nobody's business here.
        let elsewhere = [
            (ADDRESS, "127.0.0.1:1"),
            ("CSP_APP_SECRET_FILE", "/nonexistent"),
        ];
        assert_eq!(address(&elsewhere).unwrap(), "127.0.0.1:1");
        for (given, reached) in [
            ("0.0.0.0:5", "127.0.0.1:5"),
            ("[::]:5", "[::1]:5"),
            ("unix:/run/x.sock", "unix:/run/x.sock"),
        ] {
            assert_eq!(address(&[(ADDRESS, given), REMOTE]).unwrap(), reached);
        }
        for (given, word) in [
            ("off", "is off"),
            ("127.0.0.1:0", "--admin"),
            ("systemd:admin", "--admin"),
            ("nonsense", "IP:port"),
        ] {
            let error = address(&[(ADDRESS, given)]).unwrap_err();
            assert!(
                error.starts_with("admin.address (environment variable "),
                "{error}"
            );
            assert!(error.contains(word), "{error}");
        }
        let error = address(&[("AUTH_SIDECAR_CONFIG", "/nonexistent.toml")]).unwrap_err();
        assert!(error.contains("/nonexistent.toml"), "{error}");
    }
}
