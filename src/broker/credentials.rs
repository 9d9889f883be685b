//! The credentials in a token request.

use base64::{Engine, prelude::BASE64_STANDARD};
use secrecy::zeroize::Zeroizing;
use url::form_urlencoded;

use super::{form::Form, response::TokenError};
use crate::{
    admission::{Admitted, Clients},
    message::{Fields, Name},
};

/// What a request proves itself by: the local token in the place of a secret. The id that it gives
/// counts for nothing: the token names the client, so that a program can keep the id that it has.
pub(super) struct Credentials {
    way: Way,
    /// The local token, in each way in which it may be meant.
    candidates: Vec<Zeroizing<Vec<u8>>>,
}

/// The way in which credentials came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Basic,
    Post,
    ApiToken,
    None,
}

impl Credentials {
    /// Takes `client_secret_basic` or `client_secret_post` (RFC 6749 §2.3.1), never both.
    pub(super) fn of_client(fields: &Fields, form: &Form) -> Result<Self, TokenError> {
        let mut authorizations = fields.all(Name::Authorization);
        let basic = authorizations.next();
        if authorizations.next().is_some() {
            return Err(TokenError::Request("a second Authorization"));
        }
        let post = form.get("client_secret");
        let (way, candidates) = match (basic, post) {
            (Some(_), Some(_)) => {
                return Err(TokenError::Request("credentials in two places"));
            }
            // Of another scheme, or malformed: it authenticates nobody.
            (Some(value), None) => (Way::Basic, basic_secret(value).unwrap_or_default()),
            (None, Some(secret)) => (Way::Post, vec![bytes(secret.as_bytes())]),
            (None, None) => (Way::None, Vec::new()),
        };
        match form.get("grant_type").map(|grant| grant.as_str()) {
            Some("client_credentials") => Ok(Self { way, candidates }),
            Some(_) => Err(TokenError::GrantType),
            None => Err(TokenError::Request("grant_type is missing")),
        }
    }

    /// Takes a user's API token, under its present name or the one that it had; whatever grant is named.
    pub(super) fn of_api_token(form: &Form) -> Result<Self, TokenError> {
        let token = form.get("api_token").or_else(|| form.get("refresh_token"));
        let token = token.ok_or(TokenError::Request("api_token is missing"))?;
        Ok(Self {
            way: Way::ApiToken,
            candidates: vec![bytes(token.as_bytes())],
        })
    }

    /// The client that they are of.
    pub(super) fn client(&self, clients: &Clients) -> Option<Admitted> {
        let mut candidates = self.candidates.iter();
        candidates.find_map(|token| clients.identify(token))
    }

    /// The error where they are nobody's.
    pub(super) fn rejection(&self) -> TokenError {
        match self.way {
            Way::ApiToken => TokenError::Grant,
            Way::Basic | Way::Post | Way::None => TokenError::Client,
        }
    }
}

fn bytes(text: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(text.to_vec())
}

/// The secret in `Basic`, as it is and decoded: RFC 6749 §2.3.1 wants both parts encoded as in a
/// form, and most clients do not do that.
fn basic_secret(value: &[u8]) -> Option<Vec<Zeroizing<Vec<u8>>>> {
    let (scheme, encoded) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let decoded = Zeroizing::new(BASE64_STANDARD.decode(encoded.trim_ascii()).ok()?);
    let colon = memchr::memchr(b':', &decoded)?;
    let secret = bytes(decoded.get(colon + 1..)?);
    let (as_form, _) = form_urlencoded::parse(&secret).next()?;
    let meant = bytes(as_form.as_bytes());
    Some(if meant == secret {
        vec![secret]
    } else {
        vec![secret, meant]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(text: &str) -> Form {
        Form::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error:?}"))
    }

    fn fields(values: &[&str]) -> Fields {
        let mut fields = Fields::default();
        for value in values {
            fields.push(b"Authorization", value.as_bytes());
        }
        fields
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(pair))
    }

    /// The secrets that a request may mean, or the code of what is wrong with it.
    fn secrets(authorizations: &[&str], text: &str) -> Result<Vec<String>, &'static str> {
        let credentials = Credentials::of_client(&fields(authorizations), &form(text));
        let credentials = credentials.map_err(TokenError::code)?;
        let candidates = credentials.candidates.iter();
        Ok(candidates
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .collect())
    }

    const GRANT: &str = "grant_type=client_credentials";

    #[test]
    fn a_secret_is_taken_from_either_place_and_in_either_encoding() {
        assert_eq!(secrets(&[&basic("id:s3cret")], GRANT).unwrap(), ["s3cret"]);
        assert_eq!(secrets(&[&basic("i:a:b")], GRANT).unwrap(), ["a:b"]);
        let encoded = secrets(&[&basic("id:a%2Bb+c")], GRANT).unwrap();
        assert_eq!(encoded, ["a%2Bb+c", "a+b c"]);
        let post = format!("{GRANT}&client_id=x&client_secret=a%2Bb");
        assert_eq!(secrets(&[], &post).unwrap(), ["a+b"]);
        assert!(secrets(&[], GRANT).unwrap().is_empty());
        for other in ["Bearer s3cret", "Basic", "Basic !", &basic("no colon")] {
            assert!(secrets(&[other], GRANT).unwrap().is_empty(), "{other}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_no_request() {
        let both = format!("{GRANT}&client_secret=x");
        assert_eq!(secrets(&[&basic("a:b")], &both), Err("invalid_request"));
        let twice = [basic("a:b"), basic("a:c")];
        let twice = [twice[0].as_str(), twice[1].as_str()];
        assert_eq!(secrets(&twice, GRANT), Err("invalid_request"));
        assert_eq!(secrets(&[], "scope=x"), Err("invalid_request"));
        assert_eq!(
            secrets(&[], "grant_type=password"),
            Err("unsupported_grant_type")
        );
    }

    #[test]
    fn an_api_token_is_taken_under_both_names() {
        for text in ["api_token=t", "grant_type=api_token&refresh_token=t"] {
            let credentials = Credentials::of_api_token(&form(text));
            let Ok(credentials) = credentials else {
                panic!("{text}")
            };
            assert_eq!(credentials.candidates, [bytes(b"t")]);
        }
        assert!(Credentials::of_api_token(&form("api_token=")).is_err());
    }
}
