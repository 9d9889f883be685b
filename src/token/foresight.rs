//! When the credentials themselves end: an API token, the certificates that we trust. Known in
//! time, it is a warning; found out by an outage, it is one.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use http::{
    HeaderMap, HeaderValue,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE},
};
use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{sleep, timeout};
use url::Url;
use x509_cert::{Certificate, der::Decode};

use super::{
    FetchError, Reason,
    endpoint::{EndpointSettings, Secrets, TokenClient, response},
};
use crate::{
    clock,
    outbound::UnusableRoute,
    secret::{Fingerprint, RotatingSecret, Which, changed, wiped},
    text,
    tls::pem,
};

/// How often is looked, besides when a file changes.
const INTERVAL: Duration = Duration::from_secs(6 * 60 * 60);
/// The least time between two looks, whatever changes.
const FLOOR: Duration = Duration::from_secs(5);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Days before the end at which the log warns; at 0 it has ended.
const WARNINGS: [u32; 4] = [30, 7, 1, 0];

/// The credentials' ends, as far as they are known. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Ends(Arc<Mutex<Vec<End>>>);

/// The end of one credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Which one: the label of the metric.
    pub kind: &'static str,
    /// The key of the configuration that names it.
    pub key: &'static str,
    /// The file that holds it, if one does.
    pub file: Option<PathBuf>,
    /// When.
    pub at: SystemTime,
}

impl Ends {
    /// All that are known.
    #[must_use]
    pub fn known(&self) -> Vec<End> {
        self.lock().clone()
    }

    fn set(&self, credential: &Credential, at: Option<SystemTime>) {
        let mut ends = self.lock();
        ends.retain(|end| end.kind != credential.kind);
        ends.extend(at.map(|at| End {
            kind: credential.kind,
            key: credential.key,
            file: credential.files().into_iter().next(),
            at,
        }));
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<End>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A credential whose end can be found out.
#[derive(Debug)]
pub struct Credential {
    kind: &'static str,
    /// The key of the configuration that names it.
    key: &'static str,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// A file of certificates: the first that ends counts.
    Certificates(PathBuf),
    /// An API token, whose end its service knows.
    ApiToken {
        client: Box<TokenClient>,
        secret: RotatingSecret,
    },
}

impl Credential {
    /// The certificates in a PEM file.
    #[must_use]
    pub fn certificates(kind: &'static str, key: &'static str, path: PathBuf) -> Self {
        Self {
            kind,
            key,
            place: Place::Certificates(path),
        }
    }

    /// An API token, asked for at `url` (`api-tokens/details`).
    ///
    /// # Errors
    /// When the client of the token service cannot be set up.
    pub fn api_token(
        url: &Url,
        secret: RotatingSecret,
        settings: &EndpointSettings,
    ) -> Result<Self, UnusableRoute> {
        let client = Box::new(TokenClient::new(url, settings)?);
        Ok(Self {
            kind: "api_token",
            key: "auth.api_token",
            place: Place::ApiToken { client, secret },
        })
    }

    /// Keeps `ends` up to date; for ever. `checked` is called after each look, with whether the
    /// end was found: such services are often unavailable, which is no cause for a line in the log.
    pub async fn watch(mut self, ends: Ends, checked: impl Fn(&'static str, bool) + Send) {
        let files = self.files();
        let mut warned = None;
        loop {
            let seen = Fingerprint::of(&files);
            let found = self.end().await;
            checked(self.kind, found.is_ok());
            match found {
                Ok(at) => {
                    ends.set(&self, at);
                    if let Some(at) = at {
                        warned = self.warn(at, warned);
                    }
                }
                Err(error) => tracing::debug!(kind = self.kind, %error, "the end is unknown"),
            }
            sleep(FLOOR).await;
            // Not before a change or the time: both outcomes are fine.
            drop(timeout(INTERVAL, changed(&files, &seen)).await);
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        match &self.place {
            Place::Certificates(path) => vec![path.clone()],
            Place::ApiToken { secret, .. } => secret.files().cloned().collect(),
        }
    }

    /// Warns once for each of [`WARNINGS`], and once it has ended; `warned` is the end and the
    /// threshold of the last.
    fn warn(&self, at: SystemTime, warned: Option<(SystemTime, u32)>) -> Option<(SystemTime, u32)> {
        let now = SystemTime::now();
        let left = at.duration_since(now);
        let reached = |days: &u32| left.as_ref().map_or(true, |left| *left <= DAY * *days);
        let threshold = WARNINGS.into_iter().filter(reached).min()?;
        let is_news = warned.is_none_or(|(end, last)| end != at || threshold < last);
        if is_news {
            let (kind, key) = (self.kind, self.key);
            let files = self.files();
            let file = files.first().map(|file| file.display().to_string());
            let ends_at = humantime::format_rfc3339_seconds(clock::nameable(at)).to_string();
            let days = |time: Duration| time.as_secs() / DAY.as_secs();
            match left {
                Ok(left) if !left.is_zero() => tracing::warn!(
                    kind,
                    key,
                    file,
                    ends_at,
                    days_left = days(left),
                    "a credential ends soon; renew it"
                ),
                _ => tracing::error!(
                    kind,
                    key,
                    file,
                    ended_at = ends_at,
                    days_since = days(now.duration_since(at).unwrap_or_default()),
                    "a credential has ended; replace it"
                ),
            }
        }
        Some((at, threshold))
    }

    /// Which one, and where an operator finds it.
    pub(crate) fn name(&self) -> String {
        let kind = self.kind().replace('_', " ");
        match self.files().first() {
            Some(file) => format!("{kind} ({}: {})", self.key, file.display()),
            None => format!("{kind} ({})", self.key),
        }
    }

    /// Which one: the label of the metric.
    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }

    /// When it ends; `None` where it does not.
    pub(crate) async fn end(&mut self) -> Result<Option<SystemTime>, FetchError> {
        match &mut self.place {
            Place::Certificates(path) => first_end(path),
            Place::ApiToken { client, secret } => {
                client.renew();
                ask(client, secret).await
            }
        }
    }
}

fn unreadable(detail: String) -> FetchError {
    FetchError::new(Reason::BadResponse, detail)
}

fn first_end(path: &Path) -> Result<Option<SystemTime>, FetchError> {
    let bundle = pem::bundle(path).map_err(|error| unreadable(error.to_string()))?;
    let ends = bundle.certificates.iter().filter_map(|(_, certificate)| {
        let certificate = Certificate::from_der(certificate).ok()?;
        let end = certificate.tbs_certificate.validity.not_after;
        Some(SystemTime::UNIX_EPOCH + end.to_unix_duration())
    });
    ends.min()
        .map(Some)
        .ok_or_else(|| unreadable("no certificate".to_owned()))
}

/// With room for all of it, also where each byte is escaped: what outgrows its room leaves a copy
/// behind that nobody wipes.
fn details_request(token: &str) -> Result<Zeroizing<Vec<u8>>, FetchError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Details<'a> {
        token_value: &'a str,
    }
    let mut body = Zeroizing::new(Vec::with_capacity(6 * token.len() + 32));
    serde_json::to_writer(&mut *body, &Details { token_value: token })
        .map_err(|_| unreadable("the API token cannot be written as JSON".to_owned()))?;
    Ok(body)
}

/// Asks the service. The token goes into the body, as the service wants it.
#[expect(
    clippy::disallowed_methods,
    reason = "the token is what the service is asked about"
)]
async fn ask(
    client: &TokenClient,
    secret: &RotatingSecret,
) -> Result<Option<SystemTime>, FetchError> {
    let token: SecretString = secret
        .read(Which::Current)
        .map_err(|error| FetchError::new(Reason::SecretUnreadable, error.to_string()))?;
    let body = details_request(token.expose_secret())?;
    let secrets = Secrets::from_iter([token]);
    let mut fields = HeaderMap::new();
    for (name, value) in [
        (CONTENT_TYPE, "application/json"),
        (ACCEPT, "application/json"),
        (ACCEPT_ENCODING, "identity"),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    let response = client.post(fields, wiped(body)).await?;
    if !response.status.is_success() {
        let retry_after = response::retry_after(&response.fields);
        let mut error = response::refused(response.status, retry_after, &response.body);
        secrets.conceal(&mut error, response.status, &response.body);
        return Err(error);
    }
    expires_at(&response.body)
}

/// `expiresAt` in seconds or milliseconds since 1970, by magnitude: servers differ. Zero, `null`
/// and what is beyond the year 9999 mean that it does not end.
fn expires_at(body: &[u8]) -> Result<Option<SystemTime>, FetchError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Details {
        expires_at: Option<Value>,
    }
    /// No date in seconds is as far away as this, and none in milliseconds as near.
    const MILLISECONDS: f64 = 1e11;

    let no_date = || unreadable("the response has no readable expiresAt".to_owned());
    let details: Details =
        serde_json::from_slice(text::unmarked_bytes(body)).map_err(|_| no_date())?;
    let number = match details.expires_at {
        None | Some(Value::Null) => return Ok(None),
        Some(value) => response::number(&value).ok_or_else(no_date)?,
    };
    if number <= 0.0 {
        return Ok(None);
    }
    let seconds = if number >= MILLISECONDS {
        number / 1000.0
    } else {
        number
    };
    let since = Duration::try_from_secs_f64(seconds).map_err(|_| no_date())?;
    let at = SystemTime::UNIX_EPOCH.checked_add(since);
    let at = at.ok_or_else(no_date)?;
    // What no calendar has is how some programs write "never".
    Ok((clock::nameable(at) == at).then_some(at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_api_token_is_read_in_seconds_and_in_milliseconds() {
        let read = |body: &str| expires_at(body.as_bytes());
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        for expires_at in ["1800000000", "1800000000000", "\"1800000000\""] {
            let body = format!(r#"{{"expiresAt": {expires_at}}}"#);
            assert_eq!(read(&body).unwrap(), Some(at), "{body}");
        }
        for body in [
            r#"{"expiresAt": null}"#,
            r#"{"expiresAt": 0}"#,
            r#"{"expiresAt": -1}"#,
            "{}",
            "\u{feff}{}",
            // The "never" of a Java program, and what comes after the last date that has a name.
            r#"{"expiresAt": 9223372036854775807}"#,
            r#"{"expiresAt": 253402300800000}"#,
            r#"{"expiresAt": 1e15}"#,
        ] {
            assert_eq!(read(body).unwrap(), None, "{body}");
        }
        for body in [
            r#"{"expiresAt": "soon"}"#,
            r#"{"expiresAt": 1e300}"#,
            "<html>",
        ] {
            assert!(read(body).is_err(), "{body}");
        }
    }

    #[test]
    fn a_warning_comes_once_for_each_threshold_and_anew_for_another_end() {
        let now = SystemTime::now();
        let days = |days: f64| now + DAY.mul_f64(days);
        let credential = Credential::certificates("x", "upstream.ca_file", "x".into());
        let warn = |at, warned| credential.warn(at, warned);
        assert_eq!(warn(days(40.0), None), None);
        assert_eq!(warn(days(20.0), None), Some((days(20.0), 30)));
        assert_eq!(warn(days(5.0), None), Some((days(5.0), 7)));
        assert_eq!(warn(days(0.5), None), Some((days(0.5), 1)));
        assert_eq!(warn(now - DAY, None), Some((now - DAY, 0)));
    }

    #[test]
    fn the_first_certificate_that_ends_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let pem = [2040, 2030, 2050].map(|year| {
            let mut parameters = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap();
            parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
            let key = rcgen::KeyPair::generate().unwrap();
            parameters.self_signed(&key).unwrap().pem()
        });
        std::fs::write(&path, pem.concat()).unwrap();
        let end = first_end(&path).unwrap().unwrap();
        let year_2030 = SystemTime::UNIX_EPOCH + Duration::from_secs(1_893_456_000);
        assert_eq!(end, year_2030);
        std::fs::write(&path, "nothing").unwrap();
        assert!(first_end(&path).is_err());
    }
}
