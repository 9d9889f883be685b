//! Where the token service is, the way to it, and how long a call may take.

use std::{ops::RangeInclusive, time::Duration};

use figment::value::Value;
use url::Url;

use super::{
    super::{
        legs, net,
        reader::{Found, Reader},
        values,
    },
    kind::Keys,
    provider::{Endpoint, Provider},
};
use crate::token::{
    csp,
    endpoint::{EndpointSettings, Issuer, Location},
};

/// `auth.preset`: where the API of VMware Cloud Services runs. Each can be given as `auth.base_url`
/// too; the names only save looking it up.
const PRESETS: [(&str, &str); 5] = [
    ("vmware-cloud", "https://console.cloud.vmware.com"),
    (
        "vmware-cloud-staging",
        "https://console-stg.cloud.vmware.com",
    ),
    ("tanzu-platform", "https://console.tanzu.broadcom.com"),
    (
        "tanzu-platform-staging",
        "https://console-stg.tanzu.broadcom.com",
    ),
    ("omnissa", "https://connect.omnissa.com"),
];

/// The keys of a service whose base the preset names.
pub(super) const PRESET_KEYS: Keys = &["auth.preset", "auth.base_url", "auth.token_path"];

/// Less than this is no call over a network; more, and a token ends while a dead call is waited for.
const CALL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// The bounds of a call and the way to the service.
pub(super) fn settings(reader: &mut Reader) -> EndpointSettings {
    EndpointSettings {
        request_timeout: reader.value("auth.request_timeout", values::duration(CALL)),
        connect_timeout: reader.value("auth.connect_timeout", values::duration(values::STEP)),
        tls: legs::tls(reader, "auth"),
        proxy: legs::proxy(reader, "auth"),
    }
}

/// The base of the service's paths: as given, or else the preset's.
pub(super) fn base_url(reader: &mut Reader, provider: Option<&Provider>) -> Option<Url> {
    const KEY: &str = "auth.base_url";
    const PRESET: &str = "auth.preset";
    let insecure = insecure(reader);
    let preset = reader.required(PRESET, &[], values::one_of(&PRESETS));
    let of_provider = provider.and_then(|provider| match provider.endpoint {
        Endpoint::Preset(name) => PRESETS.iter().find(|(preset, _)| *preset == name),
        _ => None,
    });
    let preset_found = reader.find(PRESET);
    let is_default = preset_found
        .as_ref()
        .is_some_and(|found| reader.is_default(PRESET, found));
    let found = match (reader.find(KEY), preset_found) {
        (Some(given), _) => given,
        (None, _) if is_default && of_provider.is_some() => Found {
            value: Value::from(of_provider?.1),
            source: format!("auth.provider ({})", reader.find("auth.provider")?.source),
        },
        (None, preset_found) => Found {
            value: Value::from(preset?),
            source: format!("{PRESET} ({})", preset_found?.source),
        },
    };
    let url = reader.parsed(KEY, found, net::base_url(insecure));
    warn_if_plain(reader, KEY, url.as_ref());
    if let Some(url) = &url {
        check_path(reader, url);
    }
    url
}

/// Checks the path: one in the base is that of a gateway in front of the service, or a slip.
fn check_path(reader: &mut Reader, url: &Url) {
    const KEY: &str = "auth.base_url";
    let path = url.path().trim_end_matches('/');
    if path.is_empty() {
        return;
    }
    let asked = csp::join(url, csp::AUTHORIZE);
    if path.ends_with("/csp/gateway/am/api") || path.ends_with("/auth/authorize") {
        let text = format!(
            "must end before /csp/gateway: the path of the token service is appended to it, which \
             makes {asked}"
        );
        reader.wrong(KEY, text);
    } else {
        reader.warnings.push(format!(
            "{KEY}: it has a path, and that of the token service is appended, unless \
             auth.token_path says otherwise: {asked}"
        ));
    }
}

/// A token endpoint: by its whole URL, by the issuer that names it, or as the provider has it.
pub(super) fn location(reader: &mut Reader, provider: Option<&Provider>) -> Option<Location> {
    const KEY: &str = "auth.token_url";
    const ISSUER: &str = "auth.issuer";
    let insecure = insecure(reader);
    let issuer = reader.find(ISSUER);
    if reader.find(KEY).is_some() {
        let url = reader.required(KEY, &[], net::token_url(insecure));
        if issuer.is_some() {
            reader.wrong(ISSUER, format!("set twice: also {KEY}; keep one"));
        }
        warn_if_plain(reader, KEY, url.as_ref());
        return Some(Location::Url(url?));
    }
    if let Some(found) = issuer {
        let source = format!("{ISSUER} ({})", found.source);
        let name = values::text(&found.value).unwrap_or_default();
        let url = reader.parsed(ISSUER, found, net::base_url(insecure));
        warn_if_plain(reader, ISSUER, url.as_ref());
        let issuer = Issuer::new(name, url?, insecure);
        let [first, second] = issuer.places();
        let shown = format!("(as {first} or {second} says)");
        reader.resolved(KEY, shown, &source);
        return Some(Location::Issuer(issuer));
    }
    if let Some(provider) = provider
        && let Some(url) = provider.token_url(reader, insecure)
    {
        warn_if_plain(reader, KEY, Some(&url));
        let source = reader.find("auth.provider").map(|found| found.source);
        let source = format!("auth.provider ({})", source.unwrap_or_default());
        reader.resolved(KEY, url.to_string(), &source);
        return Some(Location::Url(url));
    }
    if provider.is_none_or(|provider| matches!(provider.endpoint, Endpoint::None)) {
        reader.missing(KEY, &[ISSUER, "auth.provider"]);
    }
    None
}

/// Whether plain HTTP to another machine is accepted.
pub(super) fn insecure(reader: &mut Reader) -> bool {
    reader.value("auth.allow_insecure_http", values::boolean)
}

/// Warns of a credential that everybody on the way can read.
pub(super) fn warn_if_plain(reader: &mut Reader, key: &str, url: Option<&Url>) {
    if url.is_some_and(|url| url.scheme() == "http" && !net::is_local(url)) {
        let warning = format!("{key}: the credential travels unencrypted");
        reader.warnings.push(warning);
    }
}
