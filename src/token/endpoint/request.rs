//! What a token request is made of, as a configuration describes it: whom it goes to, who asks, and for
//! what. Secrets are read when it is sent.

use std::path::PathBuf;

use url::Url;

use super::{
    assertion::Assertion,
    client::CallResponse,
    discovery::Issuer,
    response::{Expected, Granted, read_expected},
};
use crate::{
    secret::RotatingSecret,
    token::{FetchError, refresh_token::RefreshTokenFile},
};

/// What to send, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct TokenRequest {
    /// The token endpoint.
    pub endpoint: Location,
    /// How the client authenticates itself.
    pub client_auth: ClientAuth,
    /// The fields of the form, in their order.
    pub form: Vec<(String, FormValue)>,
    /// Where the end of the credential itself can be asked for.
    pub details_url: Option<Url>,
    /// What the response may hold.
    pub expected: Expected,
    /// How the service is called.
    pub protocol: &'static Protocol,
}

/// Where the token endpoint is.
#[derive(Clone, Debug, PartialEq)]
pub enum Location {
    /// At that URL.
    Url(Url),
    /// Where the issuer says.
    Issuer(Issuer),
}

/// Client authentication (RFC 6749 §2.3), by its registered name (OIDC Core §9).
#[derive(Clone, Debug, PartialEq)]
pub enum ClientAuth {
    /// None: what the form holds is the credential.
    None,
    /// `none`: the client says who it is, and proves nothing.
    Public {
        /// The client's identifier.
        client_id: String,
    },
    /// `client_secret_basic`.
    Basic {
        /// The client's identifier.
        client_id: String,
        /// The client's secret.
        client_secret: RotatingSecret,
        /// How the two are joined.
        encoding: BasicEncoding,
    },
    /// `client_secret_post`.
    Post {
        /// The client's identifier.
        client_id: String,
        /// The client's secret.
        client_secret: RotatingSecret,
    },
    /// `private_key_jwt`.
    PrivateKeyJwt {
        /// The client's identifier.
        client_id: String,
        /// What it signs.
        assertion: Assertion,
    },
    /// An assertion that somebody else has made and keeps in a file (RFC 7523 §2.2).
    ClientAssertion {
        /// The client's identifier, where the service wants it beside the assertion.
        client_id: Option<String>,
        /// The assertion.
        assertion: RotatingSecret,
    },
    /// `tls_client_auth` and `self_signed_tls_client_auth` (RFC 8705 §2): the connection's certificate
    /// says who asks.
    TlsClientAuth {
        /// The client's identifier.
        client_id: String,
    },
    /// An assertion as a bearer token.
    Bearer(Assertion),
}

impl ClientAuth {
    /// The name that metadata list it by (RFC 8414 §2), where it has one.
    #[must_use]
    pub fn registered_name(&self) -> Option<&'static str> {
        Some(match self {
            Self::Public { .. } => "none",
            Self::Basic { .. } => "client_secret_basic",
            Self::Post { .. } => "client_secret_post",
            Self::PrivateKeyJwt { .. } => "private_key_jwt",
            // Of a certificate, two names say how it is known; of the others, none says anything.
            Self::None
            | Self::ClientAssertion { .. }
            | Self::TlsClientAuth { .. }
            | Self::Bearer(_) => return None,
        })
    }
}

/// How identifier and secret become HTTP Basic credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BasicEncoding {
    /// Joined as they are, as all clients of VMware Cloud Services do.
    Plain,
    /// Each form-urlencoded first (RFC 6749 §2.3.1).
    FormUrlencoded,
}

/// The value of a form field.
#[derive(Clone, Debug, PartialEq)]
#[expect(
    clippy::large_enum_variant,
    reason = "a request has a handful, so smaller ones would save nothing"
)]
pub enum FormValue {
    /// Anybody may see it.
    Plain(String),
    /// Read when it is sent.
    Secret(NamedSecret),
    /// Signed when it is sent.
    Assertion(Assertion),
    /// Read when it is sent, and replaced when the service says so.
    RefreshToken(RefreshTokenFile),
}

/// A secret, and the key of the configuration that it belongs to.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedSecret {
    /// The key, which `_file` or `_next_file` may follow.
    pub key: &'static str,
    /// The secret.
    pub secret: RotatingSecret,
}

/// How a service is called, where that is not as RFC 6749 has it.
#[derive(Debug)]
pub struct Protocol {
    /// The name of the protocol.
    pub name: &'static str,
    /// The fields of its requests.
    pub fields: &'static [(&'static str, &'static str)],
    /// Whether a request has a form.
    pub has_form: bool,
    /// Reads its responses.
    pub(in crate::token) read: fn(&CallResponse, &Expected) -> Result<Granted, FetchError>,
}

/// RFC 6749 §5.
pub static OAUTH2: Protocol = Protocol {
    name: "OAuth 2.0",
    fields: &[
        ("content-type", "application/x-www-form-urlencoded"),
        ("accept", "application/json"),
        ("accept-encoding", "identity"),
    ],
    has_form: true,
    read: |response, expected| {
        read_expected(response.status, &response.fields, &response.body, expected)
    },
};

impl PartialEq for Protocol {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl TokenRequest {
    /// A request of OAuth 2.0, of which nothing is said but whom it goes to and who asks.
    #[must_use]
    pub fn new(
        endpoint: Location,
        client_auth: ClientAuth,
        form: Vec<(String, FormValue)>,
    ) -> Self {
        Self {
            endpoint,
            client_auth,
            form,
            details_url: None,
            expected: Expected::default(),
            protocol: &OAUTH2,
        }
    }

    /// The URL that the configuration names: of the token endpoint, or of its issuer.
    #[must_use]
    pub fn url(&self) -> &Url {
        match &self.endpoint {
            Location::Url(url) => url,
            Location::Issuer(issuer) => issuer.url(),
        }
    }

    /// Where the end of the API token that it sends can be asked for, if it sends one.
    #[must_use]
    pub fn api_token(&self) -> Option<(Url, RotatingSecret)> {
        let url = self.details_url.clone()?;
        Some((url, self.secrets().into_iter().next()?))
    }

    /// The `grant_type`, where there is one.
    #[must_use]
    pub fn grant_type(&self) -> Option<&str> {
        let (_, value) = self.form.iter().find(|(name, _)| name == "grant_type")?;
        match value {
            FormValue::Plain(grant) => Some(grant),
            _ => None,
        }
    }

    /// The file of the refresh token that it sends, if it sends one.
    #[must_use]
    pub fn refresh_token(&self) -> Option<&RefreshTokenFile> {
        self.form.iter().find_map(|(_, value)| match value {
            FormValue::RefreshToken(file) => Some(file),
            _ => None,
        })
    }

    /// Whether something in it is signed, and so dated, when it is sent.
    pub(super) fn has_assertion(&self) -> bool {
        self.assertions().next().is_some()
    }

    /// How many calls an attempt to get a token takes at most: a second one where something may have been
    /// wrong that is known, and both for each of two overlapping secrets.
    pub(super) fn most_calls(&self) -> u32 {
        let has_next = |secret: &RotatingSecret| secret.next_file.is_some();
        let secrets = 1 + u32::from(self.secrets().iter().any(has_next));
        let is_basic = matches!(
            self.client_auth,
            ClientAuth::Basic {
                encoding: BasicEncoding::FormUrlencoded,
                ..
            }
        );
        secrets * (1 + u32::from(is_basic || self.has_assertion()))
    }

    /// Whether the connection's certificate says who asks.
    #[must_use]
    pub fn is_by_certificate(&self) -> bool {
        matches!(self.client_auth, ClientAuth::TlsClientAuth { .. })
    }

    /// The secrets that it is made of.
    pub(super) fn secrets(&self) -> Vec<RotatingSecret> {
        let in_form = self.form.iter().filter_map(|(_, value)| match value {
            FormValue::Plain(_) => None,
            FormValue::Secret(named) => Some(named.secret.clone()),
            FormValue::Assertion(assertion) => Some(assertion.signer.secret().clone()),
            FormValue::RefreshToken(file) => Some(file.secret().into()),
        });
        let of_client = match &self.client_auth {
            ClientAuth::None | ClientAuth::Public { .. } | ClientAuth::TlsClientAuth { .. } => None,
            ClientAuth::Basic { client_secret, .. } | ClientAuth::Post { client_secret, .. } => {
                Some(client_secret.clone())
            }
            ClientAuth::PrivateKeyJwt { assertion, .. } | ClientAuth::Bearer(assertion) => {
                Some(assertion.signer.secret().clone())
            }
            ClientAuth::ClientAssertion { assertion, .. } => Some(assertion.clone()),
        };
        in_form.chain(of_client).collect()
    }

    /// The file of its refresh token, if it has one.
    pub(super) fn refresh_token_file(&self) -> Vec<PathBuf> {
        let file = self.refresh_token().map(RefreshTokenFile::path);
        file.cloned().into_iter().collect()
    }

    /// The files that it is made of, but for that of a refresh token, which it replaces itself.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let secrets = self.secrets();
        let secrets = secrets.iter().flat_map(RotatingSecret::files).cloned();
        let mut files: Vec<PathBuf> = secrets.collect();
        for assertion in self.assertions() {
            files.extend(assertion.signer.files().cloned());
        }
        let own = self.refresh_token_file();
        files.retain(|file| !own.contains(file));
        files.sort_unstable();
        files.dedup();
        files
    }

    fn assertions(&self) -> impl Iterator<Item = &Assertion> {
        let in_form = self.form.iter().filter_map(|(_, value)| match value {
            FormValue::Assertion(assertion) => Some(assertion),
            _ => None,
        });
        let of_client = match &self.client_auth {
            ClientAuth::PrivateKeyJwt { assertion, .. } | ClientAuth::Bearer(assertion) => {
                Some(assertion)
            }
            _ => None,
        };
        in_form.chain(of_client)
    }
}
