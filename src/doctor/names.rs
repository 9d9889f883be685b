//! The names that this machine has to look up on the way that the configuration describes: that of a
//! proxy, or else that of the service itself. Where a proxy is on the way, the other name is its
//! affair, and this machine need not know it.

use std::time::Duration;

use tokio::{net::lookup_host, time::timeout};
use url::Url;

use super::finding::Finding;
use crate::{
    config::{Config, Credentials},
    outbound::OutboundProxy,
};

const SUBJECT: &str = "names";
const TIMEOUT: Duration = Duration::from_secs(10);

/// On the way to the token service; `works` is whether that way was gone to its end.
pub(super) async fn of_token_service(config: &Config, works: bool) -> Vec<Finding> {
    let Credentials::Endpoint(request) = &config.auth.credentials else {
        return Vec::new();
    };
    let proxy = config.auth.endpoint.proxy.as_ref();
    let (what, url) = looked_up("auth", ("the token service", request.url()), proxy);
    look_up(&what, url, works).await.into_iter().collect()
}

/// The same on the way to the upstream.
pub(super) async fn of_upstream(config: &Config, works: bool) -> Vec<Finding> {
    let settings = &config.upstream;
    let target = ("upstream.url", &settings.url);
    let (what, url) = looked_up("upstream", target, settings.proxy.as_ref());
    look_up(&what, url, works).await.into_iter().collect()
}

/// Whose name this machine looks up.
fn looked_up<'a>(
    section: &str,
    (what, target): (&str, &'a Url),
    proxy: Option<&'a OutboundProxy>,
) -> (String, &'a Url) {
    match proxy.filter(|proxy| proxy.is_for(target)) {
        Some(proxy) => (format!("{section}.proxy_url"), &proxy.url),
        None => (what.to_owned(), target),
    }
}

/// `None` for an address, which needs no lookup, and where the way works all the same.
async fn look_up(what: &str, url: &Url, works: bool) -> Option<Finding> {
    let name = url.domain()?;
    let port = url.port_or_known_default().unwrap_or_default();
    let found = match timeout(TIMEOUT, lookup_host((name, port))).await {
        Ok(Ok(mut addresses)) => addresses.next().ok_or("it has no address".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the resolver does not respond".to_owned()),
    };
    match found {
        Ok(address) => Some(Finding::ok(
            SUBJECT,
            format!("{name} is {} ({what})", address.ip()),
        )),
        Err(_) if works => None,
        Err(why) => Some(Finding::failed(
            SUBJECT,
            format!(
                "cannot look up {name} ({what}): {why}. Check its spelling, and the resolver of \
                 this machine (/etc/resolv.conf, the network policy)"
            ),
        )),
    }
}
