//! `auth-sidecar status`: what a running sidecar says of itself, in words.

use std::fmt;

use anyhow::{Context, bail};
use http::StatusCode;

use crate::{
    admin::{State, Status, Trouble, words},
    admin_client,
    server::Address,
    text::for_terminal,
};

/// The response.
#[derive(Debug)]
pub struct Asked {
    status: Status,
    json: String,
}

/// Asks a running sidecar.
///
/// # Errors
/// When nothing responds there, or something else.
pub async fn ask(admin: &Address) -> anyhow::Result<Asked> {
    let reply = admin_client::get(admin, "/status").await;
    let reply = reply.with_context(|| format!("no sidecar responds at {admin} (admin.address)"))?;
    if reply.status != StatusCode::OK {
        let (status, line) = (reply.status.as_u16(), reply.line());
        bail!("{admin} (admin.address) responds with status {status}: {line}");
    }
    let status = serde_json::from_str(&reply.body)
        .with_context(|| format!("{admin} (admin.address) responds as no sidecar does"))?;
    Ok(Asked {
        status,
        json: reply.body,
    })
}

impl Asked {
    /// What it says is wrong.
    pub(crate) fn troubles(&self) -> &[Trouble] {
        &self.status.troubles
    }

    /// The exit code for the state.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.status.state {
            State::Ready => 0,
            State::Starting | State::Unavailable | State::Stopping => 1,
            State::Degraded => 3,
        }
    }

    /// The response as it came.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LONGEST: usize = 1_000;
        for (name, text) in rows(&self.status) {
            writeln!(f, "{name:<12} {}", for_terminal(&text, LONGEST))?;
        }
        Ok(())
    }
}

fn rows(status: &Status) -> Vec<(&'static str, String)> {
    let mut rows = vec![(
        "state",
        format!("{}: {}", status.state.as_str(), status.summary),
    )];
    for trouble in &status.troubles {
        if trouble.text != status.summary {
            rows.push(("also", trouble.text.clone()));
        }
        rows.push(("to blame", trouble.culprit.clone()));
        rows.push(("since", words::since(trouble)));
        rows.push(("remedy", words::full_stop(&trouble.remedy)));
    }
    rows.push(("token", words::token(status.token.as_ref())));
    let refresh = &status.refresh;
    rows.push(("token calls", words::calls(refresh)));
    for attempt in refresh.last_attempts.iter().take(3) {
        let what = match (&attempt.reason, &attempt.detail, attempt.generation) {
            (Some(reason), Some(detail), _) => format!("{reason}: {detail}"),
            (_, _, Some(generation)) => format!("token {generation}"),
            _ => attempt.result.to_string(),
        };
        rows.push(("", format!("{} {what}", attempt.at)));
    }
    rows.push(("upstream", words::upstream(&status.upstream)));
    rows.extend(status.listeners.iter().map(|at| ("listener", at.clone())));
    rows.push(("reload", words::reload(status.last_reload.as_ref())));
    let ends = status.credentials.iter().map(words::end);
    rows.extend(ends.map(|end| ("credential", end)));
    let requests = &status.requests;
    let counts = format!(
        "{} responses of the service, {} of the sidecar, {} in flight on {} connections",
        requests.answered_by_upstream,
        requests.answered_by_sidecar,
        requests.in_flight,
        status.connections,
    );
    rows.push(("requests", counts));
    let up = words::duration(status.uptime_seconds);
    let version = format!("{} ({}), up for {up}", status.version, status.commit);
    rows.push(("version", version));
    rows
}
