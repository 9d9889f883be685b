//! Whatever an issuer says of itself: a token endpoint that credentials may be sent to, or an error.
//!
//! The first byte says how the issuer is configured, the first line behind it is its address, the rest
//! the body; `$` in it is the issuer's name.
#![no_main]

use auth_sidecar::token::endpoint::{Issuer, Metadata};
use libfuzzer_sys::fuzz_target;
use url::Url;

fuzz_target!(|data: &[u8]| {
    let Some((flags, rest)) = data.split_first() else {
        return;
    };
    let (by_certificate, allows_http) = (flags & 1 != 0, flags & 2 != 0);
    let line = rest.iter().position(|byte| *byte == b'\n');
    let (name, body) = rest.split_at(line.unwrap_or(0));
    let body = String::from_utf8_lossy(body.strip_prefix(b"\n").unwrap_or(body));
    let name = String::from_utf8_lossy(name);
    let Ok(url) = Url::parse(&name) else {
        return;
    };
    // The configuration takes no others.
    if !url.has_host() || !matches!(url.scheme(), "http" | "https") {
        return;
    }
    let body = body.replace('$', &name);
    let issuer = Issuer::new(name.into_owned(), url, allows_http);
    for place in issuer.places() {
        let at = |url: &Url| (url.scheme().to_owned(), url.host_str().map(ToOwned::to_owned), url.port());
        assert_eq!(at(&place), at(issuer.url()), "{place}");
        assert!(place.path().contains("/.well-known/"), "{place}");
        match issuer.read(&place, body.as_bytes(), by_certificate) {
            Ok(metadata) => check(&metadata, &place, &issuer, allows_http),
            Err(error) => assert!(!error.is_empty()),
        }
    }
});

fn check(metadata: &Metadata, place: &Url, issuer: &Issuer, allows_http: bool) {
    let endpoint = &metadata.token_endpoint;
    assert_eq!(metadata.read_from, *place);
    assert!(endpoint.has_host(), "{endpoint}");
    assert!(endpoint.username().is_empty() && endpoint.password().is_none(), "{endpoint}");
    assert!(endpoint.fragment().is_none(), "{endpoint}");
    match endpoint.scheme() {
        "https" => {}
        "http" => {
            let url = issuer.url();
            let is_plain_anyway = url.scheme() == "http" && url.host() == endpoint.host();
            assert!(allows_http || is_plain_anyway, "{endpoint}");
        }
        other => panic!("{other}"),
    }
}
