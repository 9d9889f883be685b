//! Where the token service is, the way to it, and how long a call may take.

use std::{ops::RangeInclusive, time::Duration};

use figment::value::Value;
use url::Url;

use super::{
    legs, net,
    reader::{Found, Reader},
    values,
};
use crate::token::{csp, endpoint::EndpointSettings};

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
pub(super) fn base_url(reader: &mut Reader) -> Option<Url> {
    const KEY: &str = "auth.base_url";
    const PRESET: &str = "auth.preset";
    let insecure = insecure(reader);
    let preset = reader.required(PRESET, &[], values::one_of(&PRESETS));
    let found = match (reader.find(KEY), reader.find(PRESET)) {
        (Some(given), _) => given,
        (None, preset_found) => Found {
            value: Value::from(preset?),
            source: format!("{PRESET} ({})", preset_found?.source),
        },
    };
    let url = reader.parsed(KEY, found, net::base_url(insecure));
    warn_if_plain(reader, KEY, url.as_ref());
    if let Some(url) = &url {
        judge_path(reader, url);
    }
    url
}

/// A path in the base is that of a gateway in front of the service, or a slip.
fn judge_path(reader: &mut Reader, url: &Url) {
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

/// A token endpoint by its whole URL.
pub(super) fn token_url(reader: &mut Reader) -> Option<Url> {
    const KEY: &str = "auth.token_url";
    let insecure = insecure(reader);
    let url = reader.required(KEY, &[], net::token_url(insecure));
    warn_if_plain(reader, KEY, url.as_ref());
    url
}

fn insecure(reader: &mut Reader) -> bool {
    reader.value("auth.allow_insecure_http", values::boolean)
}

fn warn_if_plain(reader: &mut Reader, key: &str, url: Option<&Url>) {
    if url.is_some_and(|url| url.scheme() == "http" && !net::is_local(url)) {
        let warning = format!("{key}: the credential travels unencrypted");
        reader.warnings.push(warning);
    }
}
