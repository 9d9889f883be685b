//! `GET /`: the state for people, one page that loads nothing else.

use std::fmt::Write;

use http::StatusCode;

use super::{
    Answer, View,
    status::{Status, status},
};

pub(super) fn answer(view: &View) -> Answer {
    super::answer(
        StatusCode::OK,
        "text/html; charset=utf-8",
        page(&status(view)),
    )
}

fn page(status: &Status) -> String {
    let token = status.token.as_ref().map_or_else(
        || "none yet".to_owned(),
        |token| {
            let end = token.expires_in_seconds.map_or_else(
                || "does not end".to_owned(),
                |left| format!("ends in {left:.0} s"),
            );
            format!(
                "number {}, {:.0} s old, {end}",
                token.generation, token.age_seconds
            )
        },
    );
    let mut attempts = String::new();
    for attempt in &status.refresh.last_attempts {
        let what = match (&attempt.detail, attempt.generation) {
            (Some(detail), _) => escape(detail),
            (None, Some(generation)) => format!("token {generation}"),
            (None, None) => String::new(),
        };
        // Writing to a String cannot fail.
        write!(
            attempts,
            "<tr><td>{}<td>{}<td>{}<td>{what}",
            attempt.at,
            attempt.result,
            attempt.reason.unwrap_or("")
        )
        .unwrap_or_default();
    }
    format!(
        "<!doctype html><html lang=en><meta charset=utf-8><title>auth-sidecar: {state}</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}}\
         th{{text-align:left}}td,th{{padding:.1rem 1rem .1rem 0;vertical-align:top}}</style>\
         <h1>auth-sidecar is {state}</h1>\
         <table><tr><th>Token<td>{token}\
         <tr><th>Next token call<td>in {next:.0} s\
         <tr><th>Failures in a row<td>{failures}\
         <tr><th>Answers<td>{upstream} by the service, {sidecar} by the sidecar, {in_flight} in flight\
         <tr><th>Connections<td>{connections}\
         <tr><th>Version<td>{version}, up for {uptime:.0} s</table>\
         <h2>Last token calls</h2><table><tr><th>When<th>Result<th>Reason<th>What{attempts}</table>\
         <p><a href=/status>status</a> · <a href=/metrics>metrics</a> · <a href=/readyz>readyz</a></html>\n",
        state = status.state,
        next = status.refresh.next_attempt_in_seconds,
        failures = status.refresh.consecutive_failures,
        upstream = status.requests.answered_by_upstream,
        sidecar = status.requests.answered_by_sidecar,
        in_flight = status.requests.in_flight,
        connections = status.connections,
        version = status.version,
        uptime = status.uptime_seconds,
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
