//! The content of a token's file, in the format that its readers expect.

use std::time::SystemTime;

use secrecy::zeroize::Zeroizing;
use serde::Serialize;
use tokio::time::Instant;

use crate::token::AccessToken;

/// The format of a token's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    /// The token, and not even a line end.
    Raw,
    /// A line `Authorization: Bearer …`.
    Header,
    /// `access_token`, `token_type` and `expires_at`, in seconds since 1970.
    Json,
}

#[derive(Serialize)]
struct Json<'a> {
    access_token: &'a str,
    token_type: &'a str,
    /// `null` for a token that does not end.
    expires_at: Option<u64>,
}

/// Writes a token in a format. It is a secret, so the text is wiped.
#[expect(
    clippy::disallowed_methods,
    reason = "this is where a token leaves the process, for a file of that owner and mode"
)]
pub(super) fn content(token: &AccessToken, format: FileFormat, now: Instant) -> Zeroizing<Vec<u8>> {
    let text = token.bearer.expose_token();
    // Room for all of it at once: what outgrows its room leaves a copy that nobody wipes.
    let mut content = Zeroizing::new(Vec::with_capacity(2 * text.len() + 128));
    match format {
        FileFormat::Raw => content.extend_from_slice(text.as_bytes()),
        FileFormat::Header => {
            for part in ["Authorization: Bearer ", text, "\n"] {
                content.extend_from_slice(part.as_bytes());
            }
        }
        FileFormat::Json => {
            let ends = token.expires_at.map(|end| {
                let at = SystemTime::now() + end.saturating_duration_since(now);
                let since = at.duration_since(SystemTime::UNIX_EPOCH);
                since.map_or(0, |since| since.as_secs())
            });
            let json = Json {
                access_token: text,
                token_type: "Bearer",
                expires_at: ends,
            };
            // A structure of texts and a number can always be written.
            drop(serde_json::to_writer(&mut *content, &json));
            content.push(b'\n');
        }
    }
    content
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use secrecy::SecretString;

    use super::*;
    use crate::token::Bearer;

    #[test]
    fn each_format_is_what_its_readers_expect() {
        let now = Instant::now();
        let token = AccessToken {
            bearer: Bearer::new(&SecretString::from("a\"b")).unwrap(),
            generation: 1,
            requested_at: now,
            expires_at: Some(now + Duration::from_secs(60)),
        };
        let text = |format| {
            let content = content(&token, format, now);
            String::from_utf8(content.to_vec()).unwrap()
        };
        assert_eq!(text(FileFormat::Raw), "a\"b");
        assert_eq!(text(FileFormat::Header), "Authorization: Bearer a\"b\n");
        let json: serde_json::Value = serde_json::from_str(&text(FileFormat::Json)).unwrap();
        assert_eq!(json["access_token"], "a\"b");
        assert_eq!(json["token_type"], "Bearer");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let left = json["expires_at"].as_u64().unwrap() - now.unwrap().as_secs();
        assert!((58..=60).contains(&left), "{left}");
    }
}
