//! `auth-sidecar doctor`: tries what the sidecar would do, step by step, and says in words what is
//! wrong and what to do about it.
//!
//! It is made of the sidecar's own parts: the same configuration, the same token request, the same
//! connection to the service. What works here works there.

mod access;
mod claims;
mod finding;
mod service;
mod surroundings;

use std::io::{self, Write};

pub use self::finding::{Finding, Verdict};
use crate::config::Loaded;

/// Examines everything, and writes a line for each finding as soon as it is known. Says whether
/// nothing has failed.
///
/// `path` is what is asked of the service; by default something harmless.
///
/// # Errors
/// When `out` cannot be written.
pub async fn examine(
    loaded: &Loaded,
    path: Option<&str>,
    out: &mut impl Write,
) -> io::Result<bool> {
    let mut report = Report { out, failed: 0 };
    let config = &loaded.config;
    report.all(surroundings::configuration(loaded))?;
    report.all(surroundings::listeners(config).await)?;
    report.all(surroundings::names(config).await)?;
    let access = access::get(config).await;
    report.all(access.findings)?;
    if let Some(bearer) = access.bearer {
        let claims = claims::read(&bearer);
        report.all(claims::describe(claims.as_ref(), &loaded.resolved))?;
        report.all(surroundings::ends(config).await)?;
        let path = path.unwrap_or_else(|| service::harmless_path(loaded));
        let visit = service::visit(config, &bearer, path).await;
        report.all(visit.findings)?;
        let by_token = access
            .ends_at
            .zip(claims.and_then(|claims| claims.expires_at()))
            .map(|(expected, said)| ("token service", expected - said));
        let differences = by_token.into_iter().chain(visit.clock);
        report.all(surroundings::clock(differences.collect()))?;
    } else {
        let untried = "not tried: there is no token to call it with";
        report.all([Finding::warning("service", untried)])?;
    }
    report.end()
}

/// What was found so far.
struct Report<'a, W> {
    out: &'a mut W,
    failed: usize,
}

impl<W: Write> Report<'_, W> {
    fn all(&mut self, findings: impl IntoIterator<Item = Finding>) -> io::Result<()> {
        for finding in findings {
            self.failed += usize::from(finding.verdict == Verdict::Failed);
            writeln!(self.out, "{finding}")?;
        }
        // Some steps take seconds: what is known is shown meanwhile.
        self.out.flush()
    }

    fn end(self) -> io::Result<bool> {
        match self.failed {
            0 => writeln!(self.out, "\nThe sidecar can do its work.")?,
            1 => writeln!(self.out, "\nOne thing has failed; see above.")?,
            many => writeln!(
                self.out,
                "\n{many} things have failed; begin with the first."
            )?,
        }
        Ok(self.failed == 0)
    }
}
