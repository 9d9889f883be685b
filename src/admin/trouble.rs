//! What is wrong now, for whoever is woken up by it: what happens, who is to blame, since when, how
//! often, and what to do.
//!
//! Derived from what is known, and stored nowhere. `/status`, the page, `auth-sidecar status`, `doctor`
//! and the metric that alerts read show this list, so that they cannot say different things.

use serde::{Deserialize, Serialize};

use super::{
    View,
    status::{Clock, Credential, LastReload, Moment, Upstream},
    words,
};
use crate::{
    descriptors,
    health::{LastError, Refused},
    proxy::responses::{self, Fault},
    remedy,
    subject::SubjectHealth,
    telemetry::log::LosingLog,
    text::sentence,
    token::{FetchError, Reason, RefreshTokenFault, Snapshot},
};

/// One thing that is wrong.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Trouble {
    /// One of [`KINDS`].
    pub(crate) kind: String,
    /// What happens.
    pub(crate) text: String,
    /// Who is to blame.
    pub(crate) culprit: String,
    pub(crate) since: Moment,
    /// How often since then; 0 where that is not counted.
    #[serde(default)]
    pub(crate) count: u64,
    /// What to do about it.
    pub(crate) remedy: String,
}

/// All kinds: labels of `auth_sidecar_trouble_since_timestamp_seconds`.
pub(crate) const KINDS: [&str; 12] = [
    "token_service",
    "credential",
    "refresh_token",
    "upstream",
    "unauthorized",
    "forbidden",
    "ended",
    "configuration",
    "descriptors",
    "overload",
    "log",
    CLIENTS,
];

/// The kind that is no fault of the sidecar or of what it needs.
const CLIENTS: &str = "clients";

impl Trouble {
    /// Whether somebody has to look after the sidecar, and not after a client of it.
    pub(super) fn degrades(&self) -> bool {
        self.kind != CLIENTS
    }
}

/// What is known of other parts, as `/status` has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) clock: Clock,
    pub(super) snapshot: &'a Snapshot,
    pub(super) upstream: &'a Upstream,
    pub(super) credentials: &'a [Credential],
    pub(super) reload: Option<&'a LastReload>,
}

/// Everything that is wrong: what stops requests now, then what will, then what concerns few.
pub(super) fn all(view: &View, known: Known<'_>) -> Vec<Trouble> {
    let clock = known.clock;
    let url = known.upstream.url.as_str();
    let refusals = view.health.refusals();
    let mut all: Vec<_> = of_token(view, known).into_iter().collect();
    all.extend(of_refresh_token(view, known));
    all.extend(of_upstream(known.upstream));
    all.extend(unauthorized(url, &view.health.acceptance(), clock));
    all.extend(forbidden(url, view.health.permission(), clock));
    let ended = known.credentials.iter().filter_map(ended);
    all.extend(ended);
    all.extend(known.reload.and_then(|last| rejected(view, last)));
    let (limits, clients): (Vec<_>, Vec<_>) = refusals
        .into_iter()
        .filter_map(|refused| of_refusals(refused, clock))
        .partition(Trouble::degrades);
    all.extend(limits);
    let losing = view.access_log.losing();
    all.extend(
        losing
            .into_iter()
            .filter_map(|log| losing_lines(log, clock)),
    );
    all.extend(clients);
    all
}

fn of_token(view: &View, known: Known<'_>) -> Option<Trouble> {
    let Known {
        clock, snapshot, ..
    } = known;
    let failure = snapshot.failure.as_ref()?;
    let since = snapshot.failing_since.unwrap_or(clock.now);
    let next = snapshot
        .next_attempt
        .saturating_duration_since(clock.now)
        .as_secs_f64();
    let what = match (snapshot.usable(clock.now), &snapshot.token) {
        (Some(_), _) => "the token still works, but renewing it fails",
        (None, None) => "no token yet",
        (None, Some(_)) => "the token has ended and there is no other",
    };
    let next = words::duration(next);
    Some(Trouble {
        kind: if failure.reason.needs_operator() {
            "credential".to_owned()
        } else {
            "token_service".to_owned()
        },
        text: format!("{what}: {failure}; tried again in {next}"),
        culprit: culprit_of_token(failure, view.token_service.as_deref()),
        since: clock.moment(since),
        count: snapshot.consecutive_failures.into(),
        remedy: sentence(&remedy::of_token(failure)),
    })
}

/// A refresh token that was sent and cannot be used: the next call may be rejected.
fn of_refresh_token(view: &View, known: Known<'_>) -> Option<Trouble> {
    let RefreshTokenFault { why, since } = known.snapshot.refresh_token_fault?;
    let service = view.token_service.as_deref().unwrap_or_default();
    Some(Trouble {
        kind: "refresh_token".to_owned(),
        text: format!(
            "the token service has sent a refresh token that cannot be used ({why}); the one in \
             auth.refresh_token_file stays"
        ),
        culprit: format!("the token service {service}"),
        since: known.clock.moment(since),
        count: 0,
        remedy: sentence(remedy::REFRESH_TOKEN),
    })
}

fn culprit_of_token(failure: &FetchError, service: Option<&str>) -> String {
    match (failure.reason, service) {
        (Reason::SecretUnreadable, _) | (_, None) => {
            "the credential in [auth], which cannot be read".to_owned()
        }
        (reason, Some(service)) if reason.needs_operator() => {
            format!("the credential in [auth], which the token service {service} does not accept")
        }
        (Reason::Network | Reason::Timeout, Some(service)) => {
            format!("the token service {service}, or the way to it")
        }
        (_, Some(service)) => format!("the token service {service}"),
    }
}

fn of_upstream(upstream: &Upstream) -> Option<Trouble> {
    let since = upstream.failing_since.clone()?;
    let error = upstream.last_error.as_ref()?;
    let url = &upstream.url;
    let lasted = words::duration(since.seconds_ago);
    let fault = responses::of(&error.reason).map(|row| row.fault);
    let culprit = match (error.reason.as_ref(), fault) {
        ("client_certificate", _) => {
            "the client certificate of the sidecar (upstream.client_cert_file)".to_owned()
        }
        ("outbound_proxy", _) => {
            format!("the proxy on the way to {url} (upstream.proxy_url)")
        }
        ("certificate", _) => format!("the certificate of the upstream {url}"),
        (_, Some(Fault::Unreachable)) => format!("the upstream {url}, or the way to it"),
        _ => format!("the upstream {url}"),
    };
    Some(Trouble {
        kind: "upstream".to_owned(),
        text: format!(
            "the upstream {url} has failed for {lasted}: {}",
            error.detail
        ),
        culprit,
        since,
        count: upstream.failures,
        remedy: sentence(&remedy::of_upstream(&error.reason, &error.detail)),
    })
}

fn unauthorized(url: &str, health: &SubjectHealth, clock: Clock) -> Option<Trouble> {
    Some(Trouble {
        kind: "unauthorized".to_owned(),
        text: format!(
            "the upstream {url} responds with 401 to fresh tokens, and clients get its 401"
        ),
        culprit: format!("the upstream {url}, or a credential that does not belong to it"),
        since: clock.moment(health.since?),
        count: health.failures,
        remedy: sentence(remedy::UNAUTHORIZED),
    })
}

fn forbidden(url: &str, health: SubjectHealth, clock: Clock) -> Option<Trouble> {
    let LastError { detail, .. } = health.last_error?;
    Some(Trouble {
        kind: "forbidden".to_owned(),
        text: format!(
            "the upstream {url} responds with 403 to what a client asks for, last to {detail}"
        ),
        culprit: "the credential in [auth], which lacks a permission".to_owned(),
        since: clock.moment(health.since?),
        count: health.failures,
        remedy: sentence(remedy::FORBIDDEN),
    })
}

fn ended(credential: &Credential) -> Option<Trouble> {
    let place = match &credential.file {
        Some(file) => format!("{}: {}", credential.key, file.display()),
        None => credential.key.to_string(),
    };
    let kind = credential.kind.replace('_', " ");
    (credential.expires_in_seconds <= 0.0).then(|| Trouble {
        kind: "ended".to_owned(),
        text: words::end(credential),
        culprit: format!("{kind} ({place})"),
        since: Moment {
            at: credential.expires_at.clone(),
            seconds_ago: -credential.expires_in_seconds,
        },
        count: 0,
        remedy: remedy::ENDED.to_owned(),
    })
}

fn rejected(view: &View, reload: &LastReload) -> Option<Trouble> {
    let problem = reload.problem.as_deref()?;
    let file = view.reloads.file();
    Some(Trouble {
        kind: "configuration".to_owned(),
        text: format!(
            "requests are served with the old configuration, the new one was rejected: {problem}"
        ),
        culprit: file.map_or_else(
            || "the configuration".to_owned(),
            |file| format!("the configuration file {}", file.display()),
        ),
        since: reload
            .rejected_since
            .clone()
            .unwrap_or_else(|| reload.moment.clone()),
        count: 0,
        remedy: remedy::REJECTED.to_owned(),
    })
}

fn of_refusals(refused: Refused, clock: Clock) -> Option<Trouble> {
    let Refused { reason, health } = refused;
    let row = responses::of(reason)?;
    let LastError { detail: client, .. } = health.last_error?;
    let (kind, culprit) = match (reason, row.fault) {
        ("no_descriptors", _) => {
            let limit = descriptors::limit();
            let culprit = format!("the limit of {limit} open files (LimitNOFILE, ulimit -n)");
            ("descriptors", culprit)
        }
        (_, Fault::Limit) => {
            let culprit =
                format!("more clients or a slower upstream than the bound is for (last: {client})");
            ("overload", culprit)
        }
        _ => (CLIENTS, format!("the client (last: {client})")),
    };
    Some(Trouble {
        kind: kind.to_owned(),
        text: format!(
            "requests are refused with {} ({reason}): {}",
            row.code, row.title
        ),
        culprit,
        since: clock.moment(health.since?),
        count: health.failures,
        remedy: row.remedy.to_owned(),
    })
}

fn losing_lines(log: LosingLog, clock: Clock) -> Option<Trouble> {
    let LosingLog { file, health } = log;
    let LastError { reason, detail, .. } = health.last_error?;
    let (log, writer) = match &file {
        Some(file) => (
            format!("the access log {}", file.display()),
            format!("the disk of {}", file.display()),
        ),
        None => (
            "the log on standard error".to_owned(),
            "whoever reads standard error, or its disk".to_owned(),
        ),
    };
    Some(Trouble {
        kind: "log".to_owned(),
        text: format!("{log} loses lines ({reason}): {detail}"),
        culprit: writer,
        since: clock.moment(health.since?),
        count: health.failures,
        remedy: sentence(remedy::LINES_LOST),
    })
}
