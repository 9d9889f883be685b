//! The demo's service instance: takes only live tokens of the demo's token service, and responds like the real API.

use std::{
    str::FromStr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::form_urlencoded;

use super::{
    cloud_integrations::CloudIntegrations,
    envelope::{Refused, ok},
    http::{FullResponse, Request, Service, json as json_response},
    received::Received,
    token_service::{IssuedToken, TokenService},
};
use crate::message::{Fields, Name, RequestHead};

const MAX_SLOW: Duration = Duration::from_secs(30);
const FORMATS: [&str; 5] = ["wavefront", "histogram", "trace", "spanLogs", "event"];

/// What clients of the sidecar may still send, and what it has to remove.
const OTHER_CREDENTIALS: [(Name, &str); 2] = [
    (Name::XAuthToken, "x-auth-token"),
    (Name::CspAuthToken, "csp-auth-token"),
];

/// An embedded service instance.
#[derive(Debug)]
pub struct Instance {
    tokens: Arc<TokenService>,
    integrations: Mutex<CloudIntegrations>,
    received: Mutex<Received>,
}

impl Instance {
    /// An empty instance that accepts the tokens of `tokens`.
    #[must_use]
    pub fn new(tokens: Arc<TokenService>) -> Self {
        Self {
            tokens,
            integrations: Mutex::default(),
            received: Mutex::default(),
        }
    }

    /// An external id as `POST /api/v2/cloudintegration/awsExternalId` would give.
    #[must_use]
    pub fn issue_external_id(&self) -> String {
        self.integrations().issue_external_id()
    }

    fn authenticate(&self, fields: &Fields) -> Result<IssuedToken, Refused> {
        for (kind, name) in OTHER_CREDENTIALS {
            if fields.has(kind) {
                return Err(Refused::bad_request(format!("{name} reached the instance")));
            }
        }
        let mut values = fields.all(Name::Authorization);
        let token = values
            .next()
            .and_then(|value| str::from_utf8(value).ok())
            .and_then(|value| value.strip_prefix("Bearer "))
            .and_then(|token| self.tokens.find(token));
        if values.next().is_some() {
            return Err(Refused::bad_request(
                "several Authorization fields reached the instance",
            ));
        }
        token.ok_or_else(|| {
            Refused::new(
                StatusCode::UNAUTHORIZED,
                "the access token is missing, unknown or expired",
            )
        })
    }

    async fn route(&self, token: IssuedToken, request: &Request) -> Result<FullResponse, Refused> {
        let target = request.target();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let query = Query(query);
        let path: Vec<&str> = path.split('/').skip(1).collect();
        match (&request.head.method, path.as_slice()) {
            (&Method::POST, ["report"] | ["api", "v2", "event"]) if !token.may_send => {
                Err(Refused::new(
                    StatusCode::FORBIDDEN,
                    "the permission Direct Data Ingestion is missing",
                ))
            }
            (&Method::POST, ["report"]) => self.report(&query, request),
            (&Method::POST, ["api", "v2", "event"]) => Ok(self.event(request)),
            (method, ["api", "v2", "cloudintegration", rest @ ..]) => self
                .cloud_integration(method, rest, &query, &request.body)
                .map(ok),
            (&Method::GET, ["api", "v2", "chart", "api"]) => chart(&query),
            (&Method::GET, ["demo", "received"]) => {
                let after = query.number("after")?.unwrap_or(0);
                Ok(json_response(StatusCode::OK, &self.received().after(after)))
            }
            (&Method::GET, ["demo", "slow"]) => {
                let asked = Duration::from_millis(query.number("ms")?.unwrap_or(1000));
                let pause = asked.min(MAX_SLOW);
                tokio::time::sleep(pause).await;
                let body = json!({ "token": token.number, "sleptMs": pause.as_millis() });
                Ok(json_response(StatusCode::OK, &body))
            }
            (&Method::GET, ["demo", "whoami"]) => Ok(json_response(StatusCode::OK, &whoami(token))),
            _ => Err(no_such_resource()),
        }
    }

    fn cloud_integration(
        &self,
        method: &Method,
        path: &[&str],
        query: &Query<'_>,
        body: &[u8],
    ) -> Result<Value, Refused> {
        let mut integrations = self.integrations();
        match (method, path) {
            (&Method::POST, ["awsExternalId"]) => Ok(json!(integrations.issue_external_id())),
            (&Method::GET, ["awsExternalId", id]) => integrations.confirm_external_id(id),
            (&Method::DELETE, ["awsExternalId", id]) => integrations.delete_external_id(id),
            (&Method::GET, []) => {
                let offset = query.number("offset")?.unwrap_or(0);
                Ok(integrations.list(offset, query.number("limit")?))
            }
            (&Method::POST, []) => integrations.create(body),
            (&Method::GET, [id]) => integrations.get(id),
            (&Method::PUT, [id]) => integrations.update(id, body),
            (&Method::DELETE, [id]) => integrations.delete(id, query.flag("skipTrash")?),
            (&Method::POST, [id, "enable"]) => integrations.set_disabled(id, false),
            (&Method::POST, [id, "disable"]) => integrations.set_disabled(id, true),
            (&Method::POST, [id, "undelete"]) => integrations.undelete(id),
            _ => Err(no_such_resource()),
        }
    }

    fn report(&self, query: &Query<'_>, request: &Request) -> Result<FullResponse, Refused> {
        let format = query.get("f").unwrap_or_else(|| "wavefront".to_owned());
        if !FORMATS.contains(&format.as_str()) {
            return Err(Refused::bad_request("f names no known format"));
        }
        self.received().record(request);
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::ACCEPTED;
        Ok(response)
    }

    /// Returns the first event as created. Bodies that are no JSON are taken too: some clients label theirs wrongly.
    fn event(&self, request: &Request) -> FullResponse {
        self.received().record(request);
        let mut events = serde_json::Deserializer::from_slice(&request.body).into_iter::<Value>();
        let Some(Ok(Value::Object(mut event))) = events.next() else {
            return ok(Value::Null);
        };
        event.insert("id".to_owned(), json!(super::random::uuid()));
        event.insert("creatorType".to_owned(), json!(["USER"]));
        event.insert("isUserEvent".to_owned(), json!(true));
        ok(event.into())
    }

    fn integrations(&self) -> MutexGuard<'_, CloudIntegrations> {
        self.integrations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn received(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service for Instance {
    type Checked = Result<IssuedToken, Refused>;

    fn check_head(&self, head: &RequestHead) -> Self::Checked {
        self.authenticate(&head.fields)
    }

    async fn call(&self, checked: Self::Checked, request: Request) -> FullResponse {
        let routed = async { self.route(checked?, &request).await };
        routed.await.unwrap_or_else(Refused::into_response)
    }

    fn refusal(&self, status: StatusCode, message: &'static str) -> FullResponse {
        Refused::new(status, message).into_response()
    }
}

struct Query<'a>(&'a str);

impl Query<'_> {
    fn get(&self, name: &str) -> Option<String> {
        form_urlencoded::parse(self.0.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }

    /// False when it is not given. In any case of letters: the Python client says `True`.
    fn flag(&self, name: &str) -> Result<bool, Refused> {
        match self
            .get(name)
            .map(|value| value.to_ascii_lowercase())
            .as_deref()
        {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Refused::bad_request(format!(
                "{name} has to be true or false"
            ))),
        }
    }

    fn number<T: FromStr>(&self, name: &str) -> Result<Option<T>, Refused> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        value
            .parse()
            .map(Some)
            .map_err(|_| Refused::bad_request(format!("{name} has to be a number")))
    }
}

/// A chart of the query, which is empty: bodies of reports are opaque here, so nothing is known of
/// any series.
fn chart(query: &Query<'_>) -> Result<FullResponse, Refused> {
    let Some(asked) = query.get("q") else {
        return Err(Refused::bad_request("q is required"));
    };
    let body = json!({
        "query": asked,
        "name": query.get("n").unwrap_or_else(|| asked.clone()),
        "granularity": 60,
        "timeseries": [],
        "warnings": "the demo keeps no series: reports are counted and not read",
    });
    Ok(json_response(StatusCode::OK, &body))
}

fn whoami(token: IssuedToken) -> Value {
    let left = token.expires_at.saturating_duration_since(Instant::now());
    let tenths = (left.as_secs_f64() * 10.0).round();
    json!({ "token": token.number, "secondsLeft": tenths / 10.0 })
}

fn no_such_resource() -> Refused {
    Refused::not_found("the demo has no such resource")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFETIME: Duration = Duration::from_secs(3);

    async fn call(
        instance: &Instance,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> (u16, Value) {
        let mut head = RequestHead::to(method.parse().unwrap(), target.as_bytes());
        for (name, value) in fields {
            head.fields.push(name.as_bytes(), value.as_bytes());
        }
        let body = Bytes::from(body.to_owned());
        let checked = instance.check_head(&head);
        let response = instance.call(checked, Request { head, body }).await;
        let status = response.status().as_u16();
        (
            status,
            serde_json::from_slice(response.body()).unwrap_or_default(),
        )
    }

    /// An instance, and the `Authorization` that it accepts.
    fn instance() -> (Instance, String) {
        let tokens = Arc::new(TokenService::new(LIFETIME));
        let token = tokens.issue("test", LIFETIME).unwrap();
        (Instance::new(tokens), format!("Bearer {token}"))
    }

    #[tokio::test(start_paused = true)]
    async fn accepts_one_live_token_and_nothing_else() {
        let (instance, bearer) = instance();
        let good = ("authorization", bearer.as_str());
        let cases: &[(&[(&str, &str)], u16)] = &[
            (&[good], 200),
            (&[], 401),
            (&[("authorization", "Bearer unknown")], 401),
            (
                &[("authorization", &bearer.replace("Bearer", "Basic"))],
                401,
            ),
            (&[good, good], 400),
            (&[good, ("x-auth-token", "legacy")], 400),
            (&[good, ("csp-auth-token", "legacy")], 400),
        ];
        for (fields, expected) in cases {
            let (status, body) = call(&instance, "GET", "/demo/whoami", fields, "").await;
            assert_eq!(status, *expected, "{fields:?} {body}");
        }
        tokio::time::advance(LIFETIME).await;
        let (status, body) = call(&instance, "GET", "/demo/whoami", &[good], "").await;
        assert_eq!((status, &body["status"]["code"]), (401, &json!(401)));
    }

    #[tokio::test]
    async fn routes_by_method_and_path() {
        let (instance, bearer) = instance();
        let fields = [("authorization", bearer.as_str())];
        let external_id = instance.issue_external_id();
        let known = format!("/api/v2/cloudintegration/awsExternalId/{external_id}");
        for (method, target, expected) in [
            ("POST", "/api/v2/cloudintegration/awsExternalId", 200),
            ("GET", &known, 200),
            ("DELETE", &known, 200),
            ("GET", &known, 404),
            ("GET", "/api/v2/cloudintegration?offset=0&limit=10", 200),
            ("GET", "/api/v2/cloudintegration?limit=many", 400),
            ("POST", "/api/v2/cloudintegration", 400),
            ("GET", "/api/v2/cloudintegration/none", 404),
            (
                "DELETE",
                "/api/v2/cloudintegration/none?skipTrash=true",
                404,
            ),
            (
                "DELETE",
                "/api/v2/cloudintegration/none?skipTrash=maybe",
                400,
            ),
            ("POST", "/api/v2/cloudintegration/none/enable", 404),
            ("POST", "/report", 202),
            ("POST", "/report?f=spanLogs", 202),
            ("POST", "/report?f=unknown", 400),
            ("POST", "/api/v2/event", 200),
            ("GET", "/demo/received?after=2", 200),
            ("GET", "/api/v2/chart/api?q=ts(\"cpu.usage\")&g=m", 200),
            ("GET", "/api/v2/chart/api", 400),
            ("GET", "/report", 404),
            ("GET", "/", 404),
        ] {
            let (status, body) = call(&instance, method, target, &fields, "").await;
            assert_eq!(status, expected, "{method} {target}: {body}");
        }
        let (_, received) = call(&instance, "GET", "/demo/received", &fields, "").await;
        assert_eq!(received["count"], 3);
    }

    #[tokio::test]
    async fn takes_data_from_those_alone_who_may_send_it() {
        let tokens = Arc::new(TokenService::of_reader(LIFETIME));
        let bearer = format!("Bearer {}", tokens.issue("test", LIFETIME).unwrap());
        let instance = Instance::new(tokens);
        let fields = [("authorization", bearer.as_str())];
        for (method, target, expected) in [
            ("POST", "/report", 403),
            ("POST", "/api/v2/event", 403),
            ("GET", "/api/v2/cloudintegration", 200),
        ] {
            let (status, body) = call(&instance, method, target, &fields, "").await;
            assert_eq!(status, expected, "{method} {target}: {body}");
        }
    }

    #[tokio::test]
    async fn shows_the_number_of_the_token_but_never_the_token() {
        let (instance, bearer) = instance();
        let fields = [("authorization", bearer.as_str())];
        let (_, body) = call(&instance, "GET", "/demo/whoami", &fields, "").await;
        assert_eq!(body["token"], 1);
        assert!(!body.to_string().contains(&bearer[7..]));
    }
}
