//! The form of a token request: how it is read, and its fields.

use std::{future::poll_fn, task::Poll};

use secrecy::zeroize::Zeroizing;
use url::form_urlencoded;

use super::response::TokenError;
use crate::{
    message::{BodyLength, Fields},
    server::{Exchange, ask_for_body},
};

/// No token request is longer.
const MAX_BYTES: usize = 16 * 1024;

/// More fields than any token request has; each is compared with those before it.
const MAX_FIELDS: usize = 32;

/// Whether a Content-Type is that of a form.
pub(super) fn is_form(value: &[u8]) -> bool {
    let kind = value.split(|byte| *byte == b';').next().unwrap_or_default();
    kind.trim_ascii()
        .eq_ignore_ascii_case(b"application/x-www-form-urlencoded")
}

/// Reads the body of a token request, which holds a secret and so is wiped.
pub(super) async fn read(
    exchange: &mut impl Exchange,
    fields: &Fields,
) -> Result<Zeroizing<Vec<u8>>, TokenError> {
    const CUT: TokenError = TokenError::Request("the body broke off");
    const TOO_LONG: TokenError = TokenError::Request("the body is too long");
    if matches!(exchange.body_length(), BodyLength::Known(length) if length > MAX_BYTES as u64) {
        return Err(TOO_LONG);
    }
    ask_for_body(exchange, fields).await.map_err(|_| CUT)?;
    // Room for all of it at once: what outgrows its room leaves a copy behind that nobody wipes.
    let mut body = Zeroizing::new(Vec::with_capacity(MAX_BYTES));
    poll_fn(|cx| {
        loop {
            let count = match exchange.poll_body(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok([])) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(data)) if body.len() + data.len() > MAX_BYTES => {
                    return Poll::Ready(Err(TOO_LONG));
                }
                Poll::Ready(Ok(data)) => {
                    body.extend_from_slice(data);
                    data.len()
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(CUT)),
            };
            exchange.consume_body(count);
        }
    })
    .await?;
    Ok(body)
}

/// The fields of a form.
pub(super) struct Form(Vec<(String, Zeroizing<String>)>);

impl Form {
    /// RFC 6749 §3.2: no field may come twice.
    pub(super) fn parse(body: &[u8]) -> Result<Self, TokenError> {
        let mut fields: Vec<(String, Zeroizing<String>)> = Vec::new();
        for (name, value) in form_urlencoded::parse(body) {
            if fields.len() == MAX_FIELDS {
                return Err(TokenError::Request("there are too many fields"));
            }
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(TokenError::Request("a field comes twice"));
            }
            fields.push((name.into_owned(), Zeroizing::new(value.into_owned())));
        }
        Ok(Self(fields))
    }

    /// The value of a field; none where it is empty.
    pub(super) fn get(&self, name: &str) -> Option<&Zeroizing<String>> {
        let mut fields = self.0.iter();
        let (_, value) = fields.find(|(known, _)| known == name)?;
        (!value.is_empty()).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_known_by_its_type() {
        assert!(is_form(
            b"Application/X-WWW-Form-Urlencoded ; charset=utf-8"
        ));
        assert!(!is_form(b"application/json") && !is_form(b""));
    }

    #[test]
    fn a_field_that_comes_twice_is_no_form_and_an_empty_one_is_none() {
        assert!(Form::parse(b"a=1&b=2&a=3").is_err());
        let many: Vec<String> = (0..33).map(|n| format!("f{n}=1")).collect();
        assert!(Form::parse(many.join("&").as_bytes()).is_err());
        assert!(Form::parse(many[..32].join("&").as_bytes()).is_ok());
        let form = Form::parse(b"a=&b=2").unwrap_or_else(|error| panic!("{error:?}"));
        assert!(form.get("a").is_none());
        assert_eq!(form.get("b").map(|value| value.as_str()), Some("2"));
    }
}
