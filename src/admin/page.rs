//! `GET /`: the state for people, one page that loads nothing else and runs nothing.

use std::fmt::Write;

use http::{HeaderName, HeaderValue, StatusCode, header::CONTENT_SECURITY_POLICY};

use super::{
    AdminResponse, View, chart,
    recent::Sample,
    status::{Status, status},
    trouble::Trouble,
    words,
};
use crate::text::sentence;

/// Nothing is loaded, nothing runs, and no other page shows this one.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'",
);
const REFERRER_POLICY: HeaderName = http::header::REFERRER_POLICY;

const STYLE: &str = include_str!("page.css");

pub(super) fn response(view: &View) -> AdminResponse {
    let page = page(&status(view), &view.recent.samples());
    let mut response = super::response(StatusCode::OK, "text/html; charset=utf-8", page);
    let fields = response.headers_mut();
    fields.insert(CONTENT_SECURITY_POLICY, POLICY);
    fields.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn page(status: &Status, samples: &[Sample]) -> String {
    let state = status.state.as_str();
    let mut page = format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content=\"width=device-width,initial-scale=1\">\
         <meta name=color-scheme content=\"light dark\">\
         <meta http-equiv=refresh content=5>\
         <title>auth-sidecar: {state}</title><style>{STYLE}</style>\
         <h1 class={state}>auth-sidecar is {state}</h1><p class=summary>{}</p>",
        escape(&words::full_stop(&sentence(&status.summary)))
    );
    // Writing to a String cannot fail.
    let mut put = |text: String| page.write_str(&text).unwrap_or_default();
    for trouble in &status.troubles {
        put(box_of(trouble, trouble.text != status.summary));
    }
    put("<dl>".to_owned());
    for (name, text) in rows(status) {
        put(format!("<dt>{name}<dd>{}", escape(&text)));
    }
    put("</dl><h2>Last minutes</h2><div class=charts>".to_owned());
    for chart in chart::charts(samples) {
        put(chart);
    }
    put("</div><h2>Last token calls</h2><div class=wide><table>\
         <tr><th>When<th>Result<th>What"
        .to_owned());
    for attempt in &status.refresh.last_attempts {
        let what = match (&attempt.reason, &attempt.detail, attempt.generation) {
            (Some(reason), Some(detail), _) => escape(&format!("{reason}: {detail}")),
            (_, _, Some(generation)) => format!("token {generation}"),
            _ => String::new(),
        };
        put(format!(
            "<tr><td>{}<td>{}<td>{what}",
            escape(&words::to_the_second(&attempt.at)),
            escape(&attempt.result),
        ));
    }
    put(
        "</table></div><p><a href=/status>status</a> · <a href=/metrics>metrics</a> · \
         <a href=/readyz>readyz</a></html>\n"
            .to_owned(),
    );
    page
}

/// What is wrong, in a box; what happens stands above where it is the summary.
fn box_of(trouble: &Trouble, has_text: bool) -> String {
    let class = if trouble.degrades() {
        "trouble"
    } else {
        "trouble minor"
    };
    let mut text = format!("<section class=\"{class}\">");
    // Writing to a String cannot fail.
    let mut put = |part: String| text.write_str(&part).unwrap_or_default();
    if has_text {
        put(format!(
            "<p>{}</p>",
            escape(&words::full_stop(&sentence(&trouble.text)))
        ));
    }
    put("<dl>".to_owned());
    for (name, value) in [
        ("To blame", sentence(&trouble.culprit)),
        ("Since", words::since(trouble)),
        ("To do", words::full_stop(&trouble.remedy)),
    ] {
        put(format!("<dt>{name}<dd>{}", escape(&value)));
    }
    put("</dl></section>".to_owned());
    text
}

fn rows(status: &Status) -> Vec<(&'static str, String)> {
    let refresh = &status.refresh;
    let requests = &status.requests;
    let mut rows = vec![
        ("Token", words::token(status.token.as_ref())),
        ("Token calls", words::calls(refresh)),
        ("Upstream", words::upstream(&status.upstream)),
        (
            "Responses",
            format!(
                "{} by the service, {} by the sidecar, {} in flight",
                requests.answered_by_upstream, requests.answered_by_sidecar, requests.in_flight
            ),
        ),
        ("Connections", status.connections.to_string()),
        ("Listeners", status.listeners.join(", ")),
        ("Last reload", words::reload(status.last_reload.as_ref())),
    ];
    let ends = status.credentials.iter().map(words::end);
    rows.extend(ends.map(|end| ("Credential", end)));
    let up = words::duration(status.uptime_seconds);
    let version = format!("{} ({}), up for {up}", status.version, status.commit);
    rows.push(("Version", version));
    rows
}

pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}
