//! Browsers: a page of another site can make its visitor's browser send us requests, and the
//! browser says so.

use http::Uri;

use super::{Denied, Rules};
use crate::message::{Fields, Name};

impl Rules {
    fn allows_origin(&self, origin: &[u8]) -> bool {
        let allowed = |allowed: &String| origin.eq_ignore_ascii_case(allowed.as_bytes());
        self.origins.iter().any(allowed)
    }
}

/// Checks what a browser says of the page that asks; `host` is what the request names, which is
/// known to be ours by now, `is_tls` how it came.
pub(super) fn check_browser(
    fields: &Fields,
    host: Option<&[u8]>,
    is_tls: bool,
    rules: &Rules,
) -> Result<(), Denied> {
    let mut granted = false;
    for origin in fields.all(Name::Origin) {
        if !rules.allows_origin(origin) && !is_own(origin, host, is_tls) {
            return Err(Denied::CrossSite);
        }
        granted = true;
    }
    let mut sites = fields.all(Name::SecFetchSite);
    let site_is_foreign = sites.any(|site| !matches!(site, b"same-origin" | b"none"));
    if site_is_foreign && !granted {
        return Err(Denied::CrossSite);
    }
    Ok(())
}

/// Whether a page got from here sent it: its origin is the host that the request names, by the
/// scheme that is served here. Another program may serve pages at the same place by the other one.
fn is_own(origin: &[u8], host: Option<&[u8]>, is_tls: bool) -> bool {
    let (Ok(origin), Some(host)) = (Uri::try_from(origin), host) else {
        return false;
    };
    let scheme = if is_tls { "https" } else { "http" };
    origin.scheme_str() == Some(scheme)
        && origin
            .authority()
            .is_some_and(|own| own.as_str().as_bytes().eq_ignore_ascii_case(host))
}
