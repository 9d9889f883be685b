//! The presets for VMware Cloud Services: data for the generic token endpoint, and nothing else.
//!
//! The same API runs under other host names (Tanzu Platform, Omnissa, on-premises appliances), so
//! the base URL is a parameter.

use url::Url;

use super::endpoint::{BasicEncoding, ClientAuth, FormValue, TokenRequest};
use crate::secret::SecretSource;

/// A server-to-server app: the client credentials grant, limited to an organisation if one is named.
///
/// The Basic credentials are the plain `id:secret`, as all clients of this API send them, and not
/// form-urlencoded first as RFC 6749 §2.3.1 says.
#[must_use]
pub fn oauth_app(
    base_url: &Url,
    client_id: &str,
    client_secret: SecretSource,
    org_id: Option<&str>,
) -> TokenRequest {
    let mut form = vec![field("grant_type", "client_credentials")];
    form.extend(org_id.map(|org_id| field("orgId", org_id)));
    TokenRequest {
        url: join(base_url, "csp/gateway/am/api/auth/authorize"),
        client_auth: ClientAuth::Basic {
            client_id: client_id.to_owned(),
            client_secret,
            encoding: BasicEncoding::Plain,
        },
        form,
    }
}

/// A user's API token, exchanged for an access token. The call is anonymous: the form is all.
#[must_use]
pub fn api_token(base_url: &Url, api_token: SecretSource) -> TokenRequest {
    TokenRequest {
        url: join(base_url, "csp/gateway/am/api/auth/api-tokens/authorize"),
        client_auth: ClientAuth::None,
        form: vec![
            field("grant_type", "api_token"),
            ("api_token".to_owned(), FormValue::Secret(api_token)),
        ],
    }
}

fn field(name: &str, value: &str) -> (String, FormValue) {
    (name.to_owned(), FormValue::Plain(value.to_owned()))
}

/// Appends a path to a base URL, which may end in a slash or not.
fn join(base_url: &Url, path: &str) -> Url {
    let mut url = base_url.clone();
    let joined = format!("{}/{path}", url.path().trim_end_matches('/'));
    url.set_path(&joined);
    url
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    fn secret() -> SecretSource {
        SecretSource::Value(SecretString::from("canary"))
    }

    fn form(request: &TokenRequest) -> Vec<(&str, &str)> {
        request
            .form
            .iter()
            .map(|(name, value)| match value {
                FormValue::Plain(value) => (name.as_str(), value.as_str()),
                FormValue::Secret(_) => (name.as_str(), "(secret)"),
            })
            .collect()
    }

    #[test]
    fn an_app_asks_with_basic_credentials_and_its_organisation() {
        let base = Url::parse("https://console.example").unwrap();
        let request = oauth_app(&base, "id", secret(), Some("long-id"));
        assert_eq!(
            request.url.as_str(),
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
        assert_eq!(form(&oauth_app(&base, "id", secret(), None)).len(), 1);
    }

    #[test]
    fn an_api_token_is_exchanged_anonymously() {
        let base = Url::parse("https://console.example/").unwrap();
        let request = api_token(&base, secret());
        assert_eq!(
            request.url.path(),
            "/csp/gateway/am/api/auth/api-tokens/authorize"
        );
        assert_eq!(
            form(&request),
            [("grant_type", "api_token"), ("api_token", "(secret)")]
        );
        assert!(matches!(request.client_auth, ClientAuth::None));
    }

    #[test]
    fn a_base_url_keeps_its_path_and_never_gets_two_slashes() {
        for base in ["https://h", "https://h/", "https://h/gw", "https://h/gw//"] {
            let path = api_token(&Url::parse(base).unwrap(), secret());
            assert!(!path.url.path().contains("//"), "{}", path.url);
            assert_eq!(path.url.path().starts_with("/gw/csp"), base.contains("gw"));
        }
    }
}
