//! Browsers: a page of another site can make its visitor's browser send us requests, and the
//! browser says so.

use http::{
    HeaderMap, HeaderName, HeaderValue, Uri,
    header::{HOST, ORIGIN},
    uri::Authority,
};

use super::Rules;
use crate::proxy::error::ProxyError;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

impl Rules {
    fn allows_origin(&self, origin: &HeaderValue) -> bool {
        let allowed = |allowed: &String| origin.as_bytes().eq_ignore_ascii_case(allowed.as_bytes());
        self.origins.iter().any(allowed)
    }
}

/// Judges what a browser says of the page that asks.
pub(super) fn check_browser(
    headers: &HeaderMap,
    target: Option<&Authority>,
    rules: &Rules,
) -> Result<(), ProxyError> {
    let mut granted = false;
    for origin in headers.get_all(ORIGIN) {
        if !rules.allows_origin(origin) && !is_own(origin, headers, target) {
            return Err(ProxyError::CrossSite);
        }
        granted = true;
    }
    let site_is_foreign = headers
        .get_all(SEC_FETCH_SITE)
        .iter()
        .any(|site| site != "same-origin" && site != "none");
    if site_is_foreign && !granted {
        return Err(ProxyError::CrossSite);
    }
    Ok(())
}

/// Whether a page got from here sent it: its origin is the host that the request names, which is
/// known to be ours by now.
fn is_own(origin: &HeaderValue, headers: &HeaderMap, target: Option<&Authority>) -> bool {
    let Some(origin) = origin
        .to_str()
        .ok()
        .and_then(|text| text.parse::<Uri>().ok())
    else {
        return false;
    };
    let host = match target {
        Some(target) => Some(target.as_str().as_bytes()),
        None => headers.get(HOST).map(HeaderValue::as_bytes),
    };
    let same = |authority: &Authority| {
        host.is_some_and(|host| host.eq_ignore_ascii_case(authority.as_str().as_bytes()))
    };
    origin.authority().is_some_and(same)
}
