//! The presets for VMware Cloud Services: data for the generic token endpoint, and nothing else.
//!
//! The same API runs under other host names (Tanzu Platform, Omnissa, on-premises appliances), so
//! the base URL is a parameter.

use url::Url;

use super::endpoint::{BasicEncoding, ClientAuth, FormValue, Location, NamedSecret, TokenRequest};
use crate::secret::RotatingSecret;

/// The path of the token endpoint of apps.
pub(crate) const AUTHORIZE: &str = "/csp/gateway/am/api/auth/authorize";
const AUTHORIZE_API_TOKEN: &str = "/csp/gateway/am/api/auth/api-tokens/authorize";
const API_TOKEN_DETAILS: &str = "/csp/gateway/am/api/auth/api-tokens/details";

/// A server-to-server app: the client credentials grant, limited to an organisation if one is named.
///
/// The Basic credentials are the plain `id:secret`, as all clients of this API send them, and not
/// form-urlencoded first as RFC 6749 §2.3.1 says.
#[must_use]
pub fn oauth_app(
    base_url: &Url,
    path: Option<&str>,
    client_id: &str,
    client_secret: RotatingSecret,
    org_id: Option<&str>,
) -> TokenRequest {
    let mut form = vec![field("grant_type", "client_credentials")];
    form.extend(org_id.map(|org_id| field("orgId", org_id)));
    let client_auth = ClientAuth::Basic {
        client_id: client_id.to_owned(),
        client_secret,
        encoding: BasicEncoding::Plain,
    };
    let endpoint = Location::Url(join(base_url, path.unwrap_or(AUTHORIZE)));
    TokenRequest::new(endpoint, client_auth, form)
}

/// A user's API token, exchanged for an access token. The call is anonymous: the form is all.
/// The field is `api_token`, on older servers `refresh_token`.
#[must_use]
pub fn api_token(
    base_url: &Url,
    path: Option<&str>,
    name: &str,
    api_token: RotatingSecret,
) -> TokenRequest {
    let api_token = FormValue::Secret(NamedSecret {
        key: "auth.api_token",
        secret: api_token,
    });
    let form = vec![
        field("grant_type", "api_token"),
        (name.to_owned(), api_token),
    ];
    let endpoint = Location::Url(join(base_url, path.unwrap_or(AUTHORIZE_API_TOKEN)));
    TokenRequest {
        details_url: Some(join(base_url, API_TOKEN_DETAILS)),
        ..TokenRequest::new(endpoint, ClientAuth::None, form)
    }
}

fn field(name: &str, value: &str) -> (String, FormValue) {
    (name.to_owned(), FormValue::Plain(value.to_owned()))
}

/// Appends a path to a base URL, which may end in a slash or not.
pub(crate) fn join(base_url: &Url, path: &str) -> Url {
    let mut url = base_url.clone();
    let joined = format!("{}{path}", url.path().trim_end_matches('/'));
    url.set_path(&joined);
    url
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;
    use crate::secret::SecretSource;

    fn secret() -> RotatingSecret {
        SecretSource::Value(SecretString::from("canary")).into()
    }

    fn form(request: &TokenRequest) -> Vec<(&str, &str)> {
        request
            .form
            .iter()
            .map(|(name, value)| match value {
                FormValue::Plain(value) => (name.as_str(), value.as_str()),
                _ => (name.as_str(), "(secret)"),
            })
            .collect()
    }

    #[test]
    fn an_app_asks_with_basic_credentials_and_its_organisation() {
        let base = Url::parse("https://console.example").unwrap();
        let request = oauth_app(&base, None, "id", secret(), Some("long-id"));
        assert_eq!(
            request.url().as_str(),
            "https://console.example/csp/gateway/am/api/auth/authorize"
        );
        assert_eq!(
            form(&request),
            [("grant_type", "client_credentials"), ("orgId", "long-id")]
        );
        assert!(matches!(
            request.client_auth,
            ClientAuth::Basic {
                encoding: BasicEncoding::Plain,
                ..
            }
        ));
        assert_eq!(form(&oauth_app(&base, None, "id", secret(), None)).len(), 1);
    }

    #[test]
    fn an_api_token_is_exchanged_anonymously() {
        let base = Url::parse("https://console.example/").unwrap();
        let request = api_token(&base, None, "api_token", secret());
        assert_eq!(
            request.url().path(),
            "/csp/gateway/am/api/auth/api-tokens/authorize"
        );
        assert_eq!(
            form(&request),
            [("grant_type", "api_token"), ("api_token", "(secret)")]
        );
        assert!(matches!(request.client_auth, ClientAuth::None));
    }

    #[test]
    fn an_older_server_has_another_field_and_another_path() {
        let base = Url::parse("https://vra.example").unwrap();
        let request = api_token(&base, Some("/auth/token"), "refresh_token", secret());
        assert_eq!(request.url().path(), "/auth/token");
        assert_eq!(form(&request)[1], ("refresh_token", "(secret)"));
    }

    #[test]
    fn a_base_url_keeps_its_path_and_never_gets_two_slashes() {
        for base in ["https://h", "https://h/", "https://h/gw", "https://h/gw//"] {
            let path = api_token(&Url::parse(base).unwrap(), None, "api_token", secret());
            assert!(!path.url().path().contains("//"), "{}", path.url());
            assert_eq!(
                path.url().path().starts_with("/gw/csp"),
                base.contains("gw")
            );
        }
    }
}
