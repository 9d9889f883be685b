//! The key file of a service account: JSON that names the account and holds its private key, as Google
//! makes it, or as Zitadel does.

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::text::unmarked;

/// What the file says.
#[derive(Debug)]
pub struct ServiceAccount {
    /// The account that the key belongs to.
    pub name: String,
    /// Whether the account is the subject of its assertions.
    pub is_subject: bool,
    /// The name under which the service knows the key.
    pub key_id: Option<String>,
    /// The key, as PEM.
    pub private_key: SecretString,
    /// The token endpoint.
    pub token_uri: Option<String>,
}

/// The fields of both; whatever else there is does not matter.
#[derive(Deserialize)]
struct File {
    client_email: Option<String>,
    private_key: Option<String>,
    private_key_id: Option<String>,
    token_uri: Option<String>,
    #[serde(rename = "userId")]
    user_id: Option<String>,
    key: Option<String>,
    #[serde(rename = "keyId")]
    key_id: Option<String>,
}

impl ServiceAccount {
    /// Reads the text of a key file.
    ///
    /// # Errors
    /// What is missing, never what is there.
    #[expect(
        clippy::disallowed_methods,
        reason = "the text is taken apart; the private key goes on as a secret"
    )]
    pub fn parse(text: &SecretString) -> Result<Self, &'static str> {
        let file: File = serde_json::from_str(unmarked(text.expose_secret()))
            .map_err(|_| "it is not the JSON that a service makes for an account")?;
        match file {
            File {
                client_email: Some(name),
                private_key: Some(private_key),
                private_key_id: key_id,
                token_uri,
                ..
            } => Ok(Self {
                name,
                is_subject: false,
                key_id,
                private_key: SecretString::from(private_key),
                token_uri,
            }),
            File {
                user_id: Some(name),
                key: Some(private_key),
                key_id,
                ..
            } => Ok(Self {
                name,
                is_subject: true,
                key_id,
                private_key: SecretString::from(private_key),
                token_uri: None,
            }),
            _ => Err("it has neither client_email and private_key nor userId and key"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_two_makers_are_read_and_others_are_not() {
        let parse = |text: &str| ServiceAccount::parse(&SecretString::from(text));
        let google = parse(
            r#"{"type":"service_account","project_id":"p","private_key_id":"k1","private_key":"PEM",
                "client_email":"a@p.iam.example","client_id":"1","token_uri":"https://o.example/token"}"#,
        )
        .unwrap();
        assert_eq!(google.name, "a@p.iam.example");
        assert_eq!(google.key_id.as_deref(), Some("k1"));
        assert_eq!(google.token_uri.as_deref(), Some("https://o.example/token"));
        assert!(!google.is_subject);
        let zitadel =
            parse(r#"{"type":"serviceaccount","keyId":"7","key":"PEM","userId":"42"}"#).unwrap();
        assert_eq!((zitadel.name.as_str(), zitadel.is_subject), ("42", true));
        for (text, why) in [
            ("-----BEGIN PRIVATE KEY-----", "not the JSON"),
            (r#"{"private_key":"c4n4ry"}"#, "neither client_email"),
            (
                r#"{"client_email":7,"private_key":"c4n4ry"}"#,
                "not the JSON",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why) && !error.contains("c4n4ry"), "{error}");
        }
    }
}
