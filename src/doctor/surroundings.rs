//! What is around the two calls: the configuration, the listeners, names and clocks.

use std::{
    io::ErrorKind,
    net::TcpListener,
    os::unix::net::UnixStream,
    time::{Duration, SystemTime},
};

use http::StatusCode;

use super::{access::whole_seconds, finding::Finding};
use crate::{
    admin_client, app, clock,
    config::{Config, Loaded},
    server::Address,
};

/// The warnings of the configuration, or that there are none.
pub(super) fn configuration(loaded: &Loaded) -> Vec<Finding> {
    const SUBJECT: &str = "configuration";
    if loaded.config.warnings.is_empty() {
        let from = match &loaded.file {
            Some(path) => format!("{} is right", path.display()),
            None => "right; there is no file".to_owned(),
        };
        return vec![Finding::ok(SUBJECT, from)];
    }
    let warnings = loaded.config.warnings.iter();
    warnings
        .map(|warning| Finding::warning(SUBJECT, warning.as_str()))
        .collect()
}

/// Whether the addresses can be listened on, or a sidecar listens there already.
pub(super) async fn listeners(config: &Config) -> Vec<Finding> {
    const SUBJECT: &str = "listeners";
    let keyed = config
        .listen
        .addresses
        .iter()
        .map(|at| ("listen.address", at));
    let admin = config.admin.address.as_ref();
    let keyed = keyed.chain(admin.map(|at| ("admin.address", at)));
    let running = match admin {
        Some(admin) if admin.socket().is_none_or(|socket| socket.port() != 0) => {
            admin_client::get(admin, "/readyz").await.ok()
        }
        _ => None,
    };
    let mut findings = Vec::new();
    match running.as_ref().map(|reply| (reply.status, reply.line())) {
        Some((StatusCode::OK, _)) => {
            findings.push(Finding::ok(SUBJECT, "a sidecar is running, and is ready"));
        }
        Some((StatusCode::SERVICE_UNAVAILABLE, why)) => findings.push(Finding::warning(
            SUBJECT,
            format!(
                "a sidecar is running, and is not ready: {why}; `auth-sidecar status` says more"
            ),
        )),
        _ => {}
    }
    let is_running = !findings.is_empty();
    for (key, address) in keyed {
        match try_to_listen(address) {
            Ok(()) | Err(ErrorKind::AddrInUse) if is_running => {}
            Err(why) => findings.push(Finding::failed(SUBJECT, cannot_listen(key, address, why))),
            Ok(()) => findings.push(Finding::ok(SUBJECT, format!("{address} is free ({key})"))),
        }
    }
    findings
}

fn try_to_listen(address: &Address) -> Result<(), ErrorKind> {
    match address {
        Address::Tcp(socket) | Address::Tls(socket) => {
            let bound = TcpListener::bind(socket).map(drop);
            bound.map_err(|error| error.kind())
        }
        Address::Localhost { .. } => address.sockets().try_for_each(|socket| {
            match TcpListener::bind(socket).map_err(|error| error.kind()) {
                // A machine without IPv6 has one loopback address.
                Err(ErrorKind::AddrNotAvailable) if socket.is_ipv6() => Ok(()),
                bound => bound.map(drop),
            }
        }),
        // Whoever passes it has bound it already.
        Address::Passed(_) => Ok(()),
        // To bind it would leave a file behind; what is in its place shows as well.
        Address::Unix(path) if UnixStream::connect(path).is_ok() => Err(ErrorKind::AddrInUse),
        Address::Unix(path) => match path.parent() {
            Some(directory) if directory.is_dir() => Ok(()),
            _ => Err(ErrorKind::NotFound),
        },
    }
}

fn cannot_listen(key: &str, address: &Address, why: ErrorKind) -> String {
    let advice = match why {
        ErrorKind::AddrInUse => format!(
            "another program listens there, or a sidecar that admin.address does not lead to: \
             stop it or choose another {key}"
        ),
        ErrorKind::NotFound => format!("its directory is missing: make it, or see {key}"),
        ErrorKind::PermissionDenied => {
            format!("ports below 1024 need a privilege: choose another {key}")
        }
        ErrorKind::AddrNotAvailable => format!("this machine has no such address: see {key}"),
        other => format!("{other}: see {key}"),
    };
    format!("cannot listen on {address}: {advice}")
}

/// When the credentials themselves end, as far as that can be known.
pub(super) async fn ends(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    // Where they cannot even be set up, the calls have shown why.
    for mut credential in app::credentials(config).unwrap_or_default() {
        // Many token services do not name an end, which is no finding.
        if let Ok(at) = credential.end().await {
            findings.push(end(&credential.name(), at));
        }
    }
    findings
}

fn end(what: &str, at: Option<SystemTime>) -> Finding {
    const SUBJECT: &str = "credentials";
    const DAY: u64 = 24 * 60 * 60;
    const SOON: Duration = Duration::from_secs(30 * DAY);
    let Some(at) = at else {
        return Finding::ok(SUBJECT, format!("{what} does not end by itself"));
    };
    let date = humantime::format_rfc3339_seconds(clock::nameable(at));
    match at.duration_since(SystemTime::now()) {
        Err(ended) => {
            let ago = days(ended.duration().as_secs() / DAY);
            let text = format!("{what} ended {ago} ago, at {date}: put in a new one");
            Finding::failed(SUBJECT, text)
        }
        Ok(left) if left < SOON => {
            let left = days(left.as_secs() / DAY);
            let text = format!("{what} ends at {date}, in {left}: renew it before");
            Finding::warning(SUBJECT, text)
        }
        Ok(_) => Finding::ok(SUBJECT, format!("{what} ends at {date}")),
    }
}

fn days(count: u64) -> String {
    match count {
        0 => "less than a day".to_owned(),
        1 => "1 day".to_owned(),
        many => format!("{many} days"),
    }
}

/// Whether the clocks agree: who was compared with, and by how many seconds ours is ahead.
pub(super) fn clock(differences: Vec<(&'static str, f64)>) -> Option<Finding> {
    const SUBJECT: &str = "clock";
    /// Seconds: a date has whole ones, and a response takes its time.
    const TOLERATED: f64 = 30.0;
    let magnitude = |(_, ahead): &(&str, f64)| ahead.abs();
    let worst = differences
        .into_iter()
        .max_by(|a, b| magnitude(a).total_cmp(&magnitude(b)))?;
    let (who, ahead) = worst;
    let distance = whole_seconds(Duration::try_from_secs_f64(ahead.abs()).unwrap_or_default());
    if ahead.abs() < TOLERATED {
        return Some(Finding::ok(
            SUBJECT,
            format!("agrees with that of the {who}"),
        ));
    }
    let side = if ahead > 0.0 { "ahead of" } else { "behind" };
    Some(Finding::warning(
        SUBJECT,
        format!(
            "this machine's is {distance} {side} that of the {who}. The sidecar counts durations \
             and works all the same; certificates do not: set it right"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    #[test]
    fn the_worst_difference_of_clocks_is_shown() {
        assert_eq!(clock(Vec::new()), None);
        let fine = clock(vec![("a", 1.2), ("b", -3.0)]).unwrap();
        assert_eq!(fine.verdict, Verdict::Ok);
        let wrong = clock(vec![("a", 1.2), ("b", -3661.4)]).unwrap();
        assert_eq!(wrong.verdict, Verdict::Warning);
        assert!(
            wrong.text.contains("is 1h 1m 1s behind that of the b"),
            "{}",
            wrong.text
        );
    }
}
