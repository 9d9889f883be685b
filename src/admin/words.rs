//! Times and ends in words, for the page and `auth-sidecar status`.

use std::time::Duration;

use super::{
    status::{Credential, LastReload, Moment, Refresh, Token, Upstream},
    trouble::Trouble,
};

const DAY: f64 = 24.0 * 60.0 * 60.0;

/// A number of seconds, without what is too small to matter.
pub(crate) fn duration(seconds: f64) -> String {
    let seconds = seconds.abs();
    let whole = Duration::try_from_secs_f64(seconds.trunc()).unwrap_or(Duration::MAX);
    let of = |unit: u64| Duration::from_secs(whole.as_secs() / unit * unit);
    let rounded = match whole.as_secs() {
        0..600 => whole,
        600..86_400 => of(60),
        86_400..864_000 => of(60 * 60),
        many => {
            return format!("{} days", many / (24 * 60 * 60));
        }
    };
    humantime::format_duration(rounded).to_string()
}

/// When a credential ends, or when it did, and where it is.
pub(crate) fn end(credential: &Credential) -> String {
    let Credential {
        kind,
        key,
        file,
        expires_at,
        expires_in_seconds: left,
    } = credential;
    let kind = kind.replace('_', " ");
    let place = match file {
        Some(file) => format!("{key}: {}", file.display()),
        None => key.to_string(),
    };
    let days = (left.abs() / DAY).floor();
    let days = match days {
        ..1.0 => "less than a day".to_owned(),
        1.0..2.0 => "1 day".to_owned(),
        _ => format!("{days} days"),
    };
    if *left <= 0.0 {
        format!("{kind} ({place}) ended {days} ago, at {expires_at}")
    } else {
        format!("{kind} ({place}) ends in {days}, at {expires_at}")
    }
}

/// Since when something is wrong, and how often it was so.
pub(crate) fn since(trouble: &Trouble) -> String {
    let Moment { at, seconds_ago } = &trouble.since;
    let (at, ago) = (to_the_second(at), duration(*seconds_ago));
    match trouble.count {
        0 => format!("{at}, {ago} ago"),
        1 => format!("{at}, {ago} ago; once"),
        many => format!("{at}, {ago} ago; {many} times"),
    }
}

/// A date of ours without its fraction of a second.
pub(crate) fn to_the_second(date: &str) -> String {
    match date.split_once('.') {
        Some((second, _)) => format!("{second}Z"),
        None => date.to_owned(),
    }
}

/// How many token calls there were, and when the next one comes.
pub(crate) fn calls(refresh: &Refresh) -> String {
    let next = duration(refresh.next_attempt_in_seconds);
    let failures = match refresh.consecutive_failures {
        0 => String::new(),
        1 => ", the last one failed".to_owned(),
        many => format!(", the last {many} failed"),
    };
    format!(
        "{} so far{failures}; the next one in {next}",
        refresh.attempts
    )
}

/// A text that ends as a sentence does.
pub(crate) fn full_stop(text: &str) -> String {
    let text = text.trim_end_matches('.');
    format!("{text}.")
}

/// The token, as far as anybody may know it.
pub(crate) fn token(token: Option<&Token>) -> String {
    let Some(token) = token else {
        return "none yet".to_owned();
    };
    let end = match token.expires_in_seconds {
        None => "does not end by itself".to_owned(),
        Some(left) if left > 0.0 => format!("ends in {}", duration(left)),
        Some(over) => format!("ended {} ago", duration(over)),
    };
    let age = duration(token.age_seconds);
    format!("number {}, {age} old, {end}", token.generation)
}

/// How the service behind us is, as far as requests have shown.
pub(crate) fn upstream(upstream: &Upstream) -> String {
    let success = upstream.last_success.as_ref().map_or_else(
        || "no response yet".to_owned(),
        |moment| format!("last response {} ago", duration(moment.seconds_ago)),
    );
    let error = upstream.last_error.as_ref().map(|error| {
        let ago = duration(error.moment.seconds_ago);
        format!("last error {ago} ago ({}: {})", error.reason, error.detail)
    });
    let failing = upstream.failing_since.as_ref().map(|since| {
        let since = duration(since.seconds_ago);
        format!("failing for {since} ({} times)", upstream.failures)
    });
    let parts: Vec<String> = [Some(success), error, failing]
        .into_iter()
        .flatten()
        .collect();
    format!("{}: {}", upstream.url, parts.join(", "))
}

/// The last change of the configuration.
pub(crate) fn reload(reload: Option<&LastReload>) -> String {
    let Some(reload) = reload else {
        return "none since the start".to_owned();
    };
    let ago = duration(reload.moment.seconds_ago);
    match &reload.problem {
        Some(problem) => format!("rejected {ago} ago, the old one stays: {problem}"),
        None => format!("in use for {ago}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_lose_what_is_too_small_to_matter() {
        for (seconds, words) in [
            (0.4, "0s"),
            (59.9, "59s"),
            (-61.0, "1m 1s"),
            (3_725.0, "1h 2m"),
            (90_061.0, "1day 1h"),
            (63_072_000.0, "730 days"),
        ] {
            assert_eq!(duration(seconds), words);
        }
    }

    #[test]
    fn an_end_that_has_passed_is_shown_in_days_with_key_and_file() {
        let mut credential = Credential {
            kind: "upstream_client_cert".into(),
            key: "upstream.client_cert_file".into(),
            file: Some("/run/c.pem".into()),
            expires_at: "2024-01-01T00:00:00Z".to_owned(),
            expires_in_seconds: -730.5 * DAY,
        };
        assert_eq!(
            end(&credential),
            "upstream client cert (upstream.client_cert_file: /run/c.pem) ended 730 days ago, at \
             2024-01-01T00:00:00Z"
        );
        credential.expires_in_seconds = 1.5 * DAY;
        assert!(end(&credential).contains(" ends in 1 day, at "));
    }
}
