//! What the sidecar refuses: by reason since when, how often, and whom it refused last.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::time::Instant;

use super::FORGOTTEN;
use crate::{
    clock::seconds,
    subject::{Change, LastError, Subject, SubjectHealth},
};

/// What was refused, by reason: there are as many as there are responses of our own.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<BTreeMap<&'static str, Arc<Subject>>>);

/// One refusal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Refusal<'a> {
    /// The label of the response.
    pub(crate) reason: &'static str,
    /// Who was refused, by what is known best.
    pub(crate) client: &'a str,
    /// The status that the client got.
    pub(crate) status: u16,
    /// What to do.
    pub(crate) remedy: &'static str,
    /// Whether a bound of ours was reached, and the client is not to blame.
    pub(crate) is_limit: bool,
}

/// What is refused for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The label of the response.
    pub reason: &'static str,
    /// Since when and how often; the detail of the last error is who was refused.
    pub health: SubjectHealth,
}

impl Refusals {
    /// Notes a refusal, and logs the first of a kind.
    pub(super) fn note(&self, now: Instant, refusal: &Refusal<'_>) {
        let Refusal {
            reason,
            client,
            status,
            remedy,
            is_limit,
        } = *refusal;
        let subject = {
            let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let subject = all
                .entry(reason)
                .or_insert_with(|| Arc::new(Subject::forgetting(FORGOTTEN)));
            Arc::clone(subject)
        };
        let error = LastError {
            at: now,
            reason,
            detail: client.to_owned(),
        };
        let Some(Change::Failing { episode, before }) = subject.failed(error) else {
            return;
        };
        let refusals = episode.failures + before;
        let failing_for_seconds = seconds(now - episode.since);
        // Two calls, since a level is part of the place in the code.
        if is_limit {
            tracing::warn!(
                reason,
                client,
                status,
                refusals,
                failing_for_seconds,
                remedy,
                "requests are refused: a bound of the sidecar is reached"
            );
        } else {
            tracing::info!(
                reason,
                client,
                status,
                refusals,
                failing_for_seconds,
                remedy,
                "requests are refused: it is for their client to mend"
            );
        }
    }

    /// What was refused in the last minutes, the longest first.
    pub(super) fn recent(&self) -> Vec<Refused> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let refused = all.iter().map(|(reason, subject)| Refused {
            reason,
            health: subject.health(),
        });
        let mut recent: Vec<_> = refused.filter(|one| one.health.is_failing()).collect();
        recent.sort_by_key(|one| one.health.since);
        recent
    }
}
