//! What no request may look like when it leaves a proxy.

use anyhow::ensure;
use http::{HeaderMap, Method, Version, header, request::Parts};

/// # Errors
/// Names the first thing that must not have been forwarded.
pub fn check(head: &Parts, port: u16) -> anyhow::Result<()> {
    let is_http2 = head.version == Version::HTTP_2;
    ensure!(is_http2 || head.version == Version::HTTP_11, "not HTTP/1.1");
    let authority = head.uri.authority();
    ensure!(
        is_http2 || authority.is_none(),
        "the target is not in origin form"
    );
    for method in [Method::CONNECT, Method::TRACE] {
        ensure!(head.method != method, "{method} was forwarded");
    }
    let all = |name: &str| -> Vec<String> {
        let values = head.headers.get_all(name).iter();
        values
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect()
    };
    let mut host = all("host");
    host.extend(authority.map(ToString::to_string));
    let hosts = [format!("127.0.0.1:{port}"), format!("localhost:{port}")];
    // Or a name that only a proxy on the way resolves.
    let is_ours = |host: &String| {
        // What only a proxy leads to, and what something at an address of IPv6 leads to.
        let led = ["instance.test", "[::1]:"];
        hosts.contains(host) || led.iter().any(|start| host.starts_with(start))
    };
    ensure!(
        host.len() == 1 && host.iter().all(is_ours),
        "Host is {host:?}"
    );
    ensure!(
        bearer(&head.headers).is_some_and(|token| !token.is_empty()),
        "not exactly one bearer token: {:?}",
        all("authorization")
    );
    for name in [
        "x-auth-token",
        "csp-auth-token",
        "proxy-authorization",
        "proxy-authenticate",
        "proxy-connection",
        "keep-alive",
        "upgrade",
    ] {
        ensure!(all(name).is_empty(), "{name} was forwarded");
    }
    // A server that hands fields on as variables takes them for those with a hyphen.
    for name in [
        "x-auth-token",
        "csp-auth-token",
        "authorization",
        "proxy-authorization",
        "http-authorization",
        "content-length",
        "transfer-encoding",
    ] {
        let is_disguise = |found: &str| found.contains('_') && found.replace('_', "-") == name;
        ensure!(
            !head.headers.keys().any(|found| is_disguise(found.as_str())),
            "{name} was forwarded in disguise"
        );
    }
    let te = all("te");
    ensure!(
        te.is_empty() || (is_http2 && te == ["trailers"]),
        "TE is {te:?}"
    );
    for value in all("connection") {
        for option in value.split(',') {
            let option = option.trim().to_ascii_lowercase();
            ensure!(
                ["", "close", "keep-alive"].contains(&option.as_str()),
                "Connection: {value}"
            );
        }
    }
    let (coding, length) = (all("transfer-encoding"), all("content-length"));
    ensure!(
        coding.is_empty() || coding == ["chunked"],
        "Transfer-Encoding is {coding:?}"
    );
    ensure!(
        !is_http2 || (coding.is_empty() && all("connection").is_empty()),
        "fields of HTTP/1 in HTTP/2"
    );
    ensure!(
        coding.len() + length.len() <= 1,
        "framed twice: {coding:?}, {length:?}"
    );
    Ok(())
}

/// The token of the only `Authorization`, when it is a bearer token.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let token = values.next()?.to_str().ok()?.strip_prefix("Bearer ")?;
    values.next().is_none().then_some(token)
}
