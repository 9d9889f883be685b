//! The demo's token service: the CSP token endpoints, as strict about a request as the real ones.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{Method, StatusCode};
use serde_json::json;
use url::form_urlencoded;

pub use super::issued::IssuedToken;
use super::{
    csp_error::CspError,
    http::{FullResponse, Request, Service, json as json_response},
    issued::IssuedTokens,
    random,
};
use crate::message::{Fields, Name, RequestHead};

const PREFIX: &[u8] = b"/csp/gateway/am/api/auth/";
const PERMISSIONS: &[&str] = &["aoa:directDataIngestion", "aoa/*", "csp:org_member"];
/// Permissions of an app without the role to send data.
const PERMISSIONS_TO_READ: &[&str] = &["aoa:metricsRead", "csp:org_member"];

/// An embedded token service with one registered app and one user's API token.
pub struct TokenService {
    lifetime: Duration,
    client_id: String,
    client_secret: String,
    org_id: String,
    api_token: String,
    permissions: &'static [&'static str],
    issued: Mutex<IssuedTokens>,
}

impl TokenService {
    /// A service with fresh credentials whose tokens live for `lifetime` (whole seconds are announced).
    #[must_use]
    pub fn new(lifetime: Duration) -> Self {
        Self {
            lifetime,
            client_id: format!("demo-app-{}", random::alphanumeric(12)),
            // The prefix makes a leak easy to search for.
            client_secret: format!("demo-secret-{}", random::alphanumeric(32)),
            org_id: random::uuid(),
            api_token: format!("demo-secret-{}", random::alphanumeric(53)),
            permissions: PERMISSIONS,
            issued: Mutex::default(),
        }
    }

    /// The same with an app that lacks the role to send data.
    #[must_use]
    pub fn of_reader(lifetime: Duration) -> Self {
        Self {
            permissions: PERMISSIONS_TO_READ,
            ..Self::new(lifetime)
        }
    }

    /// The id of the registered server-to-server app.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The secret of the registered app.
    #[must_use]
    pub fn client_secret(&self) -> &str {
        &self.client_secret
    }

    /// The long id of the only organisation.
    #[must_use]
    pub fn org_id(&self) -> &str {
        &self.org_id
    }

    /// The API token of the only user.
    #[must_use]
    pub fn api_token(&self) -> &str {
        &self.api_token
    }

    /// What is known about a token that this service issued and that has not expired.
    #[must_use]
    pub fn find(&self, token: &str) -> Option<IssuedToken> {
        let issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        issued.find(token)
    }

    fn grant(&self, request: &Request) -> Result<FullResponse, CspError> {
        let endpoint = match request.head.path().strip_prefix(PREFIX) {
            Some(b"authorize") => Endpoint::Authorize,
            Some(b"token") => Endpoint::Token,
            Some(b"api-tokens/authorize") => Endpoint::ApiToken,
            _ => return Err(CspError::new(StatusCode::NOT_FOUND, "no such resource")),
        };
        if request.head.method != Method::POST {
            return Err(CspError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "only POST is allowed",
            ));
        }
        let form = Form::parse(request)?;
        let mut lifetime = self.lifetime;
        let username = match endpoint {
            Endpoint::ApiToken => {
                self.check_api_token(&request.head.fields, &form)?;
                "demo-user@example.com"
            }
            Endpoint::Authorize | Endpoint::Token => {
                self.check_app(&request.head.fields)?;
                if form.get("grant_type") != Some("client_credentials") {
                    return Err(CspError::bad_request(
                        "grant_type has to be client_credentials",
                    ));
                }
                let org_id = form.get("orgId").or_else(|| form.get("org_id"));
                if org_id.is_some_and(|id| id != self.org_id) {
                    return Err(CspError::bad_request(
                        "orgId is not the long id of an organisation of this app",
                    ));
                }
                if let (Endpoint::Token, Some(seconds)) =
                    (endpoint, form.get("accessTokenValiditySeconds"))
                {
                    lifetime = lifetime.min(positive_seconds(seconds)?);
                }
                &self.client_id
            }
        };
        let access_token = self
            .issue(username, lifetime)
            .ok_or_else(CspError::too_many_requests)?;
        let body = json!({
            "access_token": access_token,
            "token_type": "bearer",
            "expires_in": lifetime.as_secs(),
            "scope": self.permissions.join(" "),
            "refresh_token": null,
            "id_token": null,
            // Later versions of the service add fields; clients have to live with that.
            "demo_extension": { "tolerated": true },
        });
        Ok(json_response(StatusCode::OK, &body))
    }

    /// RFC 6749 §2.3.1 wants id and secret form-encoded before they are joined; CSP and its clients join them as they are.
    fn check_app(&self, fields: &Fields) -> Result<(), CspError> {
        let expected = STANDARD.encode(format!("{}:{}", self.client_id, self.client_secret));
        let mut values = fields.all(Name::Authorization);
        let offered = values
            .next()
            .and_then(|value| str::from_utf8(value).ok())
            .and_then(|value| value.split_once(' '));
        match (offered, values.next()) {
            (Some((scheme, value)), None)
                if scheme.eq_ignore_ascii_case("basic") && value == expected =>
            {
                Ok(())
            }
            _ => Err(CspError::new(
                StatusCode::UNAUTHORIZED,
                "invalid_client: the id or the secret of the app is wrong",
            )),
        }
    }

    fn check_api_token(&self, fields: &Fields, form: &Form) -> Result<(), CspError> {
        if fields.has(Name::Authorization) {
            return Err(CspError::bad_request(
                "this endpoint is anonymous; leave Authorization out",
            ));
        }
        let ((Some(offered), None) | (None, Some(offered))) =
            (form.get("api_token"), form.get("refresh_token"))
        else {
            return Err(CspError::bad_request("api_token is required, once"));
        };
        if offered == self.api_token {
            return Ok(());
        }
        Err(CspError::new(StatusCode::NOT_FOUND, "the API token is unknown").of_module("540"))
    }

    /// A new token, or `None` when too many are alive.
    pub(super) fn issue(&self, username: &str, lifetime: Duration) -> Option<String> {
        let issued_at = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        let claims = json!({
            "iss": "https://token-service.demo.invalid",
            "sub": format!("demo:{username}"),
            "azp": self.client_id,
            "context": random::uuid(),
            "context_name": self.org_id,
            "username": username,
            "perms": self.permissions,
            "jti": random::uuid(),
            "iat": issued_at.as_secs(),
            "exp": (issued_at + lifetime).as_secs(),
        });
        let mut issued = self.issued.lock().unwrap_or_else(PoisonError::into_inner);
        let may_send = self.permissions == PERMISSIONS;
        issued.issue(&claims, lifetime, may_send)
    }
}

impl fmt::Debug for TokenService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenService")
            .field("client_id", &self.client_id)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

impl Service for TokenService {
    type Checked = ();

    fn check_head(&self, _head: &RequestHead) {}

    async fn call(&self, (): (), request: Request) -> FullResponse {
        self.grant(&request).unwrap_or_else(CspError::into_response)
    }

    fn refusal(&self, status: StatusCode, message: &'static str) -> FullResponse {
        CspError::new(status, message).into_response()
    }
}

#[derive(Clone, Copy)]
enum Endpoint {
    Authorize,
    Token,
    ApiToken,
}

struct Form(HashMap<String, String>);

impl Form {
    fn parse(request: &Request) -> Result<Self, CspError> {
        let media_type = request
            .head
            .fields
            .named(b"content-type")
            .next()
            .and_then(|value| str::from_utf8(value).ok())
            .and_then(|value| value.split(';').next())
            .unwrap_or_default();
        if !media_type
            .trim()
            .eq_ignore_ascii_case("application/x-www-form-urlencoded")
        {
            return Err(CspError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "the body has to be application/x-www-form-urlencoded",
            ));
        }
        let mut fields = HashMap::new();
        for (name, value) in form_urlencoded::parse(&request.body) {
            // RFC 6749 §3.2: a parameter must not be included more than once.
            if fields
                .insert(name.into_owned(), value.into_owned())
                .is_some()
            {
                return Err(CspError::bad_request("a form field is repeated"));
            }
        }
        Ok(Self(fields))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

fn positive_seconds(text: &str) -> Result<Duration, CspError> {
    match text.parse() {
        Ok(seconds @ 1..) => Ok(Duration::from_secs(seconds)),
        _ => Err(CspError::bad_request(
            "accessTokenValiditySeconds has to be a positive number",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const AUTHORIZE: &str = "/csp/gateway/am/api/auth/authorize";
    const TOKEN: &str = "/csp/gateway/am/api/auth/token";
    const API_TOKEN: &str = "/csp/gateway/am/api/auth/api-tokens/authorize";
    const GRANT: &str = "grant_type=client_credentials";

    fn service() -> TokenService {
        TokenService::new(Duration::from_secs(1799))
    }

    fn basic(service: &TokenService) -> String {
        let pair = format!("{}:{}", service.client_id, service.client_secret);
        format!("Basic {}", STANDARD.encode(pair))
    }

    const FORM: &str = "application/x-www-form-urlencoded";

    fn request(method: Method, path: &str, media_type: &str, body: &str) -> Request {
        let mut head = RequestHead::to(method, path.as_bytes());
        head.fields.push(b"content-type", media_type.as_bytes());
        Request {
            head,
            body: body.to_owned().into(),
        }
    }

    async fn post(
        service: &TokenService,
        path: &str,
        authorization: &[&str],
        form: &str,
    ) -> (u16, Value) {
        let mut request = request(Method::POST, path, FORM, form);
        for value in authorization {
            let fields = &mut request.head.fields;
            fields.push(b"authorization", value.as_bytes());
        }
        let response = service.call((), request).await;
        let status = response.status().as_u16();
        (status, serde_json::from_slice(response.body()).unwrap())
    }

    #[tokio::test]
    async fn an_app_gets_a_token_that_looks_like_the_real_ones() {
        let service = service();
        let form = format!("{GRANT}&orgId={}", service.org_id);
        let (status, body) = post(&service, AUTHORIZE, &[&basic(&service)], &form).await;
        assert_eq!(status, 200);
        assert_eq!(body["expires_in"], 1799);
        assert_eq!(body["token_type"], "bearer");
        assert_eq!(body["refresh_token"], Value::Null);

        let token = body["access_token"].as_str().unwrap();
        assert_eq!(token.split('.').count(), 3);
        assert!((800..1200).contains(&token.len()), "{}", token.len());
        assert_eq!(service.find(token).unwrap().number, 1);
    }

    #[tokio::test]
    async fn the_general_endpoint_can_only_shorten_the_lifetime() {
        let service = service();
        for (asked, granted) in [("60", 60), ("86400", 1799)] {
            let form = format!("{GRANT}&accessTokenValiditySeconds={asked}");
            let (status, body) = post(&service, TOKEN, &[&basic(&service)], &form).await;
            assert_eq!((status, &body["expires_in"]), (200, &json!(granted)));
        }
        let form = format!("{GRANT}&accessTokenValiditySeconds=-1");
        let (status, _) = post(&service, TOKEN, &[&basic(&service)], &form).await;
        assert_eq!(status, 400);
    }

    #[tokio::test]
    async fn an_api_token_is_taken_under_its_new_and_its_old_name() {
        let service = service();
        for field in ["api_token", "refresh_token"] {
            let form = format!("grant_type=api_token&{field}={}", service.api_token);
            let (status, body) = post(&service, API_TOKEN, &[], &form).await;
            assert_eq!(status, 200, "{body}");
        }
        let (status, body) = post(&service, API_TOKEN, &[], "api_token=unknown").await;
        assert_eq!((status, &body["moduleCode"]), (404, &json!("540")));
    }

    #[tokio::test]
    async fn refuses_what_csp_would_refuse() {
        let service = service();
        let good = basic(&service);
        let twice = format!("{GRANT}&{GRANT}");
        let no_org = format!("{GRANT}&orgId=other");
        let api_token = format!("api_token={}", service.api_token);
        let cases: &[(&str, &[&str], &str, u16)] = &[
            (AUTHORIZE, &[], GRANT, 401),
            (AUTHORIZE, &["Basic bm9ib2R5Om5vdGhpbmc="], GRANT, 401),
            (AUTHORIZE, &[&good, &good], GRANT, 401),
            (AUTHORIZE, &[&good.replace("Basic", "Bearer")], GRANT, 401),
            (AUTHORIZE, &[&good], "", 400),
            (AUTHORIZE, &[&good], "grant_type=refresh_token", 400),
            (AUTHORIZE, &[&good], &twice, 400),
            (AUTHORIZE, &[&good], &no_org, 400),
            (API_TOKEN, &[&good], &api_token, 400),
            (API_TOKEN, &[], "", 400),
            ("//csp/gateway/am/api/auth/authorize", &[&good], GRANT, 404),
        ];
        for (path, authorization, form, expected) in cases {
            let (status, body) = post(&service, path, authorization, form).await;
            assert_eq!(status, *expected, "{path} {form}");
            assert_eq!(body["statusCode"], status);
            assert_eq!(body["metadata"], Value::Null);
            assert!(body["requestId"].is_string());
        }
    }

    #[tokio::test]
    async fn wants_a_post_of_a_form() {
        let service = service();
        for (method, media_type, expected) in [
            (Method::GET, FORM, 405),
            (Method::POST, "application/json", 415),
        ] {
            let request = request(method, AUTHORIZE, media_type, GRANT);
            assert_eq!(service.call((), request).await.status(), expected);
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let service = service();
        let shown = format!("{service:?}");
        assert!(!shown.contains("demo-secret-"), "{shown}");
    }
}
