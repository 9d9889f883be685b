//! `auth-sidecar doctor`: tries what the sidecar would do, step by step, and says in words what is
//! wrong and what to do about it.
//!
//! It is made of the sidecar's own parts: the same configuration, the same token request, the same
//! connection to the service. What works here works there.

mod access;
mod advice;
mod claims;
mod finding;
mod names;
mod report;
mod running;
mod service;
mod surroundings;

use std::io;

pub use self::{
    finding::{Finding, Verdict},
    report::{Document, Lines, Report},
};
use crate::config::{Loaded, Sources, admin_address};

/// Reports what the sidecar says of itself that may still run with the configuration before one that
/// cannot be used.
///
/// # Errors
/// When the report cannot be written.
pub async fn ask_running(sources: &Sources, mut report: impl Report) -> io::Result<()> {
    let admin = admin_address(sources).ok();
    report.found(running::troubles(admin.as_ref()).await)
}

/// Examines everything, and reports each finding as soon as it is known. Says whether nothing has
/// failed.
///
/// `path` is what is asked of the service; by default something harmless.
///
/// # Errors
/// When the report cannot be written.
pub async fn examine(
    loaded: &Loaded,
    path: Option<&str>,
    mut report: impl Report,
) -> io::Result<bool> {
    let config = &loaded.config;
    let mut failed = 0;
    let mut all = |findings: Vec<Finding>| {
        let is_failed = |finding: &&Finding| finding.verdict == Verdict::Failed;
        failed += findings.iter().filter(is_failed).count();
        report.found(findings)
    };
    all(surroundings::configuration(loaded))?;
    all(surroundings::listeners(config).await)?;
    all(running::troubles(config.admin.address.as_ref()).await)?;
    // First the way that the configuration describes, whatever it is; only where that fails, names.
    let access = access::get(config).await;
    let is_granted = access.bearer.is_some();
    all(access.findings)?;
    all(names::of_token_service(config, is_granted).await)?;
    if let Some(bearer) = access.bearer {
        let claims = claims::read(&bearer);
        all(claims::describe(claims.as_ref(), &loaded.resolved))?;
        all(surroundings::ends(config).await)?;
        let path = path.unwrap_or_else(|| service::harmless_path(loaded));
        let visit = service::visit(config, &bearer, path).await;
        let is_reached = visit.is_reached;
        all(visit.findings)?;
        all(names::of_upstream(config, is_reached).await)?;
        let by_token = access
            .ends_at
            .zip(claims.and_then(|claims| claims.expires_at()))
            .map(|(expected, said)| ("token service", expected - said));
        let differences = access.clock.into_iter().chain(by_token).chain(visit.clock);
        all(surroundings::clock(differences.collect())
            .into_iter()
            .collect())?;
    } else {
        all(surroundings::ends(config).await)?;
        let differences = access.clock.into_iter().collect();
        all(surroundings::clock(differences).into_iter().collect())?;
        let untried = "not tried: there is no token to call it with";
        all(vec![Finding::warning("service", untried)])?;
    }
    report.end(failed)?;
    Ok(failed == 0)
}
