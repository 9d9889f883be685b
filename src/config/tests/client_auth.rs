//! The keys that say how a client proves who it is.

use rcgen::{KeyPair, PKCS_ED25519};

use super::*;
use crate::{
    secret::Which,
    token::endpoint::{Algorithm, Assertion, Audience},
};

const BASE: [(&str, &str); 4] = [
    ("WAVEFRONT_URL", "https://h.example"),
    ("AUTH_SIDECAR_AUTH__TYPE", "oauth2-client-credentials"),
    (
        "AUTH_SIDECAR_AUTH__TOKEN_URL",
        "https://login.example/token",
    ),
    ("AUTH_SIDECAR_AUTH__CLIENT_ID", "app"),
];

fn load(more: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let prefixed: Vec<_> = more
        .iter()
        .map(|(key, value)| (format!("AUTH_SIDECAR_AUTH__{}", key.to_uppercase()), *value))
        .collect();
    let more: Vec<_> = prefixed.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    load_with(&BASE, &more)
}

fn signing(key: &str, more: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    let mut all = vec![("client_auth", "private_key_jwt"), ("private_key", key)];
    all.extend(more);
    load(&all)
}

fn assertion(loaded: &Loaded) -> &Assertion {
    match &request(loaded).client_auth {
        ClientAuth::PrivateKeyJwt { assertion, .. } => assertion,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_key_signs_for_the_token_url_if_nothing_else_is_said() {
    let key = KeyPair::generate().unwrap().serialize_pem();
    let loaded = signing(&key, &[]).unwrap();
    let made = assertion(&loaded);
    assert_eq!(made.audience, Audience::TokenEndpoint);
    assert_eq!((&made.signer.key_id, made.signer.algorithm), (&None, None));
    assert_eq!(row(&loaded, "auth.private_key").0, "(set)");
    assert!(!format!("{loaded:?}").contains(key.lines().nth(1).unwrap()));

    let more = [
        ("key_id", "a"),
        ("key_next_id", "b"),
        ("private_key_next_file", "/nonexistent/next"),
        ("assertion_audience", "https://login.example"),
        ("assertion_algorithm", "ES256"),
    ];
    let loaded = signing(&key, &more).unwrap();
    let made = assertion(&loaded);
    assert_eq!(
        made.audience,
        Audience::Named("https://login.example".to_owned())
    );
    assert_eq!(made.signer.next_key_id.as_deref(), Some("b"));
    assert_eq!(made.signer.algorithm, Some(Algorithm::Es256));
    assert!(made.sign(Which::Current, "", 0).is_ok() && made.sign(Which::Next, "", 0).is_err());
}

#[test]
fn a_key_that_cannot_sign_is_a_mistake_at_the_start() {
    let key = KeyPair::generate_for(&PKCS_ED25519)
        .unwrap()
        .serialize_pem();
    let short = key.replace("PRIVATE", "PUBLIC");
    for (key, more, expected) in [
        (CANARY, None, "must be a private key as PEM: RSA, ECDSA"),
        (&short, None, "must be a private key as PEM: RSA, ECDSA"),
        (
            &key,
            Some(("assertion_algorithm", "RS256")),
            "auth.assertion_algorithm (environment variable \
             AUTH_SIDECAR_AUTH__ASSERTION_ALGORITHM): the private key cannot sign with RS256",
        ),
        (
            &key,
            Some(("assertion_algorithm", "none")),
            "must be one of RS256, PS256, ES256, ES384, EdDSA",
        ),
        (
            &key,
            Some(("key_next_id", "b")),
            "also needs auth.private_key_next_file",
        ),
    ] {
        let lines = mistakes(signing(key, more.as_slice()));
        assert!(lines.len() == 1 && lines[0].contains(expected), "{lines:?}");
    }
    let more = [("key_id", "a"), ("private_key_next_file", "/next")];
    let lines = mistakes(signing(&key, &more));
    assert_eq!(lines, ["auth.key_next_id: missing; set auth.key_next_id"]);
    let lines = mistakes(load(&[("client_auth", "private_key_jwt")]));
    assert!(lines[0].contains("missing; set auth.private_key or auth.private_key_file"));
}

#[test]
fn a_credential_of_another_method_is_a_mistake() {
    let key = KeyPair::generate().unwrap().serialize_pem();
    for (method, other, owners) in [
        (
            "client_secret_basic",
            ("private_key", key.as_str()),
            "private_key_jwt",
        ),
        ("client_secret_post", ("key_id", "a"), "private_key_jwt"),
        (
            "private_key_jwt",
            ("client_secret", CANARY),
            "client_secret_basic or client_secret_post",
        ),
        (
            "tls_client_auth",
            ("client_secret_file", "/s"),
            "client_secret_basic or client_secret_post",
        ),
    ] {
        let lines = mistakes(load(&[("client_auth", method), other])).join("\n");
        let text = format!("belongs to auth.client_auth {owners}, but that is {method}");
        assert!(lines.contains(&text), "{lines}");
    }
}

#[test]
fn a_certificate_that_says_who_asks_must_be_there_and_needs_tls() {
    let method = ("client_auth", "tls_client_auth");
    let lines = mistakes(load(&[method]));
    assert_eq!(
        lines,
        ["auth.client_cert_file: missing; set auth.client_cert_file"]
    );
    let lines = mistakes(load(&[method, ("token_url", "http://127.0.0.1/t")])).join("\n");
    assert!(
        lines.contains("needs an https:// auth.token_url"),
        "{lines}"
    );
    let (cert, key) = legs::pair();
    let (_directory, paths) = legs::identity("AUTH", &cert, &key);
    let (cert, key) = (&paths[0].1, &paths[1].1);
    let loaded = load(&[method, ("client_cert_file", cert), ("client_key_file", key)]);
    assert!(matches!(
        request(&loaded.unwrap()).client_auth,
        ClientAuth::TlsClientAuth { .. }
    ));
}
