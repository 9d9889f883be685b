//! The keys that both ways out have: certificates, versions and proxies.

use super::*;
use crate::tls::{Identity, TlsVersion};

const LEGS: [&str; 2] = ["UPSTREAM", "AUTH"];

pub(super) fn pair() -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["client".to_owned()]).unwrap();
    (
        parameters.self_signed(&key).unwrap().pem(),
        key.serialize_pem(),
    )
}

/// Files of that content, and variables that name them as the certificate and the key of a leg.
pub(super) fn identity(
    leg: &str,
    cert: &str,
    key: &str,
) -> (tempfile::TempDir, Vec<(String, String)>) {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let variables = [("CLIENT_CERT_FILE", cert), ("CLIENT_KEY_FILE", key)];
    let variables = variables.map(|(name, content)| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let path = path.to_str().unwrap().to_owned();
        (format!("AUTH_SIDECAR_{leg}__{name}"), path)
    });
    (directory, variables.into())
}

fn load_all(more: &[(String, String)]) -> Result<Loaded, ConfigError> {
    let more: Vec<_> = more.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    load_with(&APP, &more)
}

#[test]
fn each_leg_has_its_client_certificate_and_its_version() {
    let (cert, key) = pair();
    for leg in LEGS {
        let (directory, mut variables) = identity(leg, &cert, &key);
        variables.push((
            format!("AUTH_SIDECAR_{leg}__MIN_TLS_VERSION"),
            "1.3".to_owned(),
        ));
        let config = load_all(&variables).unwrap().config;
        assert!(config.warnings.is_empty(), "{:?}", config.warnings);
        let tls = [config.upstream.tls, config.auth.endpoint.tls];
        let tls = &tls[usize::from(leg == "AUTH")];
        assert_eq!(tls.min_version, TlsVersion::Tls13);
        let expected = Identity {
            cert_file: directory.path().join("CLIENT_CERT_FILE"),
            key_file: directory.path().join("CLIENT_KEY_FILE"),
        };
        assert_eq!(tls.identity, Some(expected));
    }
    let tls = environment(&APP).unwrap().config.upstream.tls;
    assert_eq!((tls.identity, tls.min_version), (None, TlsVersion::Tls12));
}

#[test]
fn a_client_certificate_and_its_key_are_looked_at() {
    let ((cert, key), (_, other_key)) = (pair(), pair());
    for leg in LEGS {
        let section = leg.to_lowercase();
        for (cert, key, name, why) in [
            (
                CANARY,
                key.as_str(),
                "client_cert_file",
                "must hold certificates",
            ),
            (&cert, CANARY, "client_key_file", "must hold a private key"),
            (&cert, "", "client_key_file", "must hold a private key"),
            (
                &cert,
                &other_key,
                "client_key_file",
                "does not belong to the certificate",
            ),
        ] {
            let (_directory, variables) = identity(leg, cert, key);
            let lines = mistakes(load_all(&variables));
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(
                lines[0].starts_with(&format!("{section}.{name} (")),
                "{lines:?}"
            );
            assert!(lines[0].contains(why), "{lines:?}");
        }
        let (_directory, variables) = identity(leg, &cert, &key);
        for (alone, also) in [(0, "client_key_file"), (1, "client_cert_file")] {
            let lines = mistakes(load_all(&variables[alone..=alone]));
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].ends_with(&format!("also needs {section}.{also}")));
        }
        let (directory, variables) = identity(leg, &cert, &key);
        std::fs::remove_file(directory.path().join("CLIENT_KEY_FILE")).unwrap();
        let lines = mistakes(load_all(&variables));
        assert!(lines[0].contains("cannot read"), "{lines:?}");
    }
    let version = [("AUTH_SIDECAR_UPSTREAM__MIN_TLS_VERSION", "1.1")];
    let lines = mistakes(load_with(&APP, &version));
    assert!(lines[0].ends_with(r#"must be "1.2" or "1.3", in quotes"#));
}

#[test]
fn a_key_that_everybody_can_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;

    let (cert, key) = pair();
    let (directory, variables) = identity("UPSTREAM", &cert, &key);
    let path = directory.path().join("CLIENT_KEY_FILE");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let warnings = load_all(&variables).unwrap().config.warnings;
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("upstream.client_key_file: every user"));
}

#[test]
fn a_proxy_does_not_take_what_is_local_out_of_this_machine() {
    let upstream = [
        ("WAVEFRONT_URL", "http://localhost:8080"),
        ("AUTH_SIDECAR_UPSTREAM__PROXY_URL", "http://proxy.example"),
    ];
    let auth = [
        ("CSP_API_URL", "http://127.0.0.1:8080"),
        ("AUTH_SIDECAR_AUTH__PROXY_URL", "http://proxy.example"),
    ];
    for (section, more) in [("upstream", upstream), ("auth", auth)] {
        let base: Vec<_> = APP.iter().chain(&more).copied().collect();
        let load = |name: &str, value: &str| {
            let name = format!("AUTH_SIDECAR_{}__{name}", section.to_uppercase());
            let all = base.iter().copied().chain([(name.as_str(), value)]);
            let all: std::collections::BTreeMap<_, _> = all.collect();
            Config::load(&Sources::of_environment(all))
        };
        let lines = mistakes(load("NO_PROXY", "h.example"));
        assert_eq!(lines.len(), 1, "{lines:?}");
        let start = format!("{section}.proxy_url (environment");
        assert!(lines[0].starts_with(&start), "{lines:?}");
        assert!(load("NO_PROXY", "localhost,127.0.0.1").is_ok());
        assert!(load("PROXY_URL", "http://127.0.0.1:3128").is_ok());
        assert!(load("ALLOW_INSECURE_HTTP", "true").is_ok());
    }
}

#[test]
fn the_password_of_a_proxy_may_be_in_a_file_and_in_one_place() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    std::fs::write(&file, CANARY).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let empty = directory.path().join("empty");
    std::fs::write(&empty, "\n").unwrap();
    let (file, empty) = (file.to_str().unwrap(), empty.to_str().unwrap());
    for leg in LEGS {
        let section = leg.to_lowercase();
        let load = |url: Option<&str>, file: &str| {
            let mut more = vec![(
                format!("AUTH_SIDECAR_{leg}__PROXY_PASSWORD_FILE"),
                file.to_owned(),
            )];
            more.extend(url.map(|url| (format!("AUTH_SIDECAR_{leg}__PROXY_URL"), url.to_owned())));
            load_all(&more)
        };
        let loaded = load(Some("http://user@proxy.example"), file).unwrap();
        assert!(loaded.config.warnings.is_empty());
        let proxies = [
            &loaded.config.upstream.proxy,
            &loaded.config.auth.endpoint.proxy,
        ];
        let proxy = proxies[usize::from(leg == "AUTH")].as_ref().unwrap();
        assert_eq!(proxy.password_file.as_deref(), Some(file.as_ref()));
        assert!(!format!("{loaded}{loaded:?}").contains(CANARY));
        for (url, file, why) in [
            (None, file, format!("also needs {section}.proxy_url")),
            (
                Some("http://proxy.example"),
                file,
                format!("needs the user in {section}.proxy_url"),
            ),
            (
                Some("http://user:c4n4ry@proxy.example"),
                file,
                "set twice".to_owned(),
            ),
            (
                Some("http://user@proxy.example"),
                empty,
                "is empty".to_owned(),
            ),
            (
                Some("http://user@proxy.example"),
                "/nonexistent",
                "cannot read".to_owned(),
            ),
        ] {
            let lines = mistakes(load(url, file));
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(
                lines[0].starts_with(&format!("{section}.proxy_password_file (environment")),
                "{lines:?}"
            );
            assert!(lines[0].contains(&why), "{lines:?}");
        }
    }
}

#[test]
fn the_exceptions_of_the_machine_count_for_the_proxy_of_each_leg() {
    for leg in LEGS {
        let (url, no_proxy) = (
            format!("AUTH_SIDECAR_{leg}__PROXY_URL"),
            format!("{}.no_proxy", leg.to_lowercase()),
        );
        let more = [
            (url.as_str(), "http://u:c4n4ry-s3cret@p"),
            ("NO_PROXY", "a, .b"),
        ];
        let loaded = load_with(&APP, &more).unwrap();
        let from = "environment variable NO_PROXY";
        assert_eq!(row(&loaded, &no_proxy), ("a, .b", from));
        assert!(!format!("{loaded}{loaded:?}").contains(CANARY));
    }
    let loaded = load_with(&APP, &[("NO_PROXY", "a")]).unwrap();
    assert_eq!(row(&loaded, "upstream.no_proxy"), ("(not set)", "default"));
}

#[test]
fn an_exception_that_means_nothing_is_warned_of_by_its_place_and_costs_the_others_nothing() {
    for leg in LEGS {
        let url = format!("AUTH_SIDECAR_{leg}__PROXY_URL");
        let own = format!("AUTH_SIDECAR_{leg}__NO_PROXY");
        for (name, text, numbers) in [
            (
                "NO_PROXY",
                "localhost,.h.example,*.h.example,h.example.,h:80,[::1],::1,10.0.0.0/8,*",
                &[][..],
            ),
            ("NO_PROXY", "10.0.*, h.example <local>", &[1, 3]),
            (own.as_str(), "h.example:http", &[1]),
        ] {
            let more = [(url.as_str(), "http://proxy.example"), (name, text)];
            let loaded = load_with(&APP, &more).unwrap();
            let key = format!("{}.no_proxy: entry ", leg.to_lowercase());
            let warnings = loaded.config.warnings.iter();
            let reported: Vec<_> = warnings
                .filter_map(|text| text.strip_prefix(&key))
                .collect();
            assert_eq!(reported.len(), numbers.len(), "{text}: {reported:?}");
            for (reported, number) in reported.iter().zip(numbers) {
                assert!(
                    reported.starts_with(&format!("{number} means nothing")),
                    "{reported}"
                );
            }
        }
    }
}
