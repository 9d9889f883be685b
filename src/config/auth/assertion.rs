//! The key that signs assertions, and what the other side knows it by.

use super::{
    super::{reader::Reader, values},
    provider::Provider,
};
use crate::{
    secret::Which,
    tls,
    token::endpoint::{Algorithm, Assertion, AssertionError, KeySource, Signer},
};

const ALGORITHM: &str = "auth.assertion_algorithm";
const NEXT_ID: &str = "auth.key_next_id";
const CERT: &str = "auth.assertion_cert_file";
const NEXT_CERT: &str = "auth.assertion_next_cert_file";

/// Reads the key and its names. `None` only with a problem noted.
pub(super) fn signer(reader: &mut Reader, provider: Option<&Provider>) -> Option<Signer> {
    let private_key = reader.private_key("auth.private_key");
    let key_id = reader.optional("auth.key_id", values::text);
    let next_key_id = reader.optional(NEXT_ID, values::text);
    let certificate = reader.optional(CERT, values::path);
    let next_certificate = reader.optional(NEXT_CERT, values::path);
    let algorithms = Algorithm::ALL.map(|algorithm| (algorithm.name(), algorithm));
    let algorithm = reader.optional(ALGORITHM, values::one_of(&algorithms));
    let private_key = private_key?;
    let has_next = private_key.next_file.is_some();
    for (next_key, has_name, has_next_name) in [
        (NEXT_ID, key_id.is_some(), next_key_id.is_some()),
        (NEXT_CERT, certificate.is_some(), next_certificate.is_some()),
    ] {
        if has_next_name && !has_next {
            reader.wrong(next_key, "also needs auth.private_key_next_file");
        }
        // A service that picks keys by their names would not find the next one.
        if has_name && !has_next_name && has_next {
            reader.missing(next_key, &[]);
        }
    }
    if let (Some(cert_file), Some(key_file)) = (&certificate, private_key.current.file()) {
        let pair = tls::Identity {
            cert_file: cert_file.clone(),
            key_file: key_file.clone(),
        };
        // Read once now, so that a mistake is found at the start.
        if let Err(error) = pair.load() {
            reader.wrong(CERT, error.to_string());
            return None;
        }
    }
    let by_certificate = provider.filter(|_| certificate.is_some());
    Some(Signer {
        key_id,
        next_key_id,
        next_certificate,
        algorithm: algorithm.or_else(|| by_certificate?.certificate_algorithm),
        certificate,
        ..Signer::of(KeySource::Pem(private_key))
    })
}

/// Whom assertions are for, where it is said.
pub(super) fn audience(reader: &mut Reader) -> Option<String> {
    reader.optional("auth.assertion_audience", values::text)
}

/// Signs once now, so that a mistake is found at the start.
pub(super) fn try_out(reader: &mut Reader, assertion: &Assertion) -> Option<()> {
    match assertion.sign(Which::Current, "", 0) {
        Err(error @ AssertionError::Unfit(_)) => {
            reader.wrong(ALGORITHM, error.to_string());
            None
        }
        Err(error @ AssertionError::NoCertificate(_)) => {
            reader.wrong(CERT, error.to_string());
            None
        }
        _ => Some(()),
    }
}
