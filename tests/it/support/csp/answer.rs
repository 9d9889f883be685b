//! What the token service can answer, well or badly.

use std::{io::Write as _, net::TcpStream as StdStream, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, header};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::time::Instant;

use super::{
    super::{
        Body, MESSAGE_CANARY, lock,
        server::{Closed, Entered},
    },
    Call, Service, State, check,
};

/// What the service does with one token request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Checks the credentials and grants the next token, as without a script.
    Default,
    /// Checks the credentials and grants this token; `None` leaves `expires_in` out.
    Grant {
        token: String,
        expires_in: Option<Value>,
    },
    /// An error in the shape that CSP gives it: 400, 401, 404, 409, 429, 500 and others.
    CspError(u16),
    /// Any status, with the body and fields given.
    Status(u16, String, Vec<(&'static str, String)>),
    /// 200 with any JSON.
    Json(Value),
    /// A page of the load balancer, as seen with valid credentials.
    Html503,
    /// A firewall's page, which knows nothing of any credential.
    Html403,
    /// A sign-in or captive-portal page.
    Html200,
    Empty200,
    /// Less body than `Content-Length` says, then the end.
    Truncated,
    /// 200, then one byte of the body every 200 ms, for ever.
    Drip,
    /// 200, then a body as fast as it is read, for ever.
    Endless,
    /// No answer, and the connection stays.
    Hang,
    /// A TCP reset.
    Reset,
    /// The connection ends in the ordinary way, without an answer.
    Close,
    /// 307, which asks for the same request, credentials included, at another place.
    Redirect(String),
    /// 200 with a grant that has a field nested 100 000 levels deep.
    DeepJson,
    /// These bytes on the wire, then the end.
    Raw(Vec<u8>),
    /// Another answer, later.
    Delay(Duration, Box<Answer>),
}

impl Answer {
    pub fn grant(token: impl Into<String>, expires_in: impl Into<Value>) -> Self {
        Self::Grant {
            token: token.into(),
            expires_in: Some(expires_in.into()),
        }
    }

    /// A 429 with a `Retry-After` field, in seconds or as a date.
    pub fn rate_limited(retry_after: &str) -> Self {
        let fields = vec![("retry-after", retry_after.to_owned())];
        Self::Status(429, csp_error(429).to_string(), fields)
    }

    pub fn after(self, delay: Duration) -> Self {
        Self::Delay(delay, Box::new(self))
    }
}

impl Service {
    pub async fn answer(
        self,
        socket: Arc<StdStream>,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, Closed> {
        let entered = self.in_flight.enter();
        let (head, body) = request.into_parts();
        let Ok(body) = body.collect().await else {
            return Err(Closed);
        };
        let call = Call {
            at: Instant::now(),
            method: head.method,
            target: head.uri.to_string(),
            headers: head.headers,
            body: body.to_bytes(),
        };

        let (refusal, mut answer) = {
            let mut state = lock(&self.state);
            if check::endpoint(&call.target) == check::API_TOKEN_DETAILS {
                return Ok(state.answer_details(&call));
            }
            let refusal = state.refusal(&call).unwrap_or_else(|error| {
                self.failures
                    .record(format!("{error:#}, at FakeCsp: {call:?}"));
                Some(Answer::CspError(400))
            });
            state.calls.push(call);
            (refusal, state.next_answer())
        };
        while let Answer::Delay(delay, then) = answer {
            tokio::time::sleep(delay).await;
            answer = *then;
        }
        if matches!(answer, Answer::Default | Answer::Grant { .. }) {
            answer = refusal.unwrap_or(answer);
        }
        let grant = |token, expires_in| lock(&self.state).grant(token, expires_in);
        Ok(match answer {
            Answer::Default => {
                let (token, expires_in) = lock(&self.state).next_grant();
                json_response(200, &grant(token, expires_in))
            }
            Answer::Grant { token, expires_in } => json_response(200, &grant(token, expires_in)),
            Answer::CspError(status) => json_response(status, &csp_error(status)),
            Answer::Status(status, body, fields) => {
                let mut response = response(status, "application/json", body);
                for (name, value) in fields {
                    response
                        .headers_mut()
                        .append(name, value.try_into().unwrap());
                }
                response
            }
            Answer::Json(value) => json_response(200, &value),
            Answer::Html503 => response(503, "text/html", HTML_503),
            Answer::Html403 => response(403, "text/html", HTML_403),
            Answer::Html200 => response(200, "text/html;charset=UTF-8", HTML_200),
            Answer::Empty200 => response(200, "application/json", Body::empty()),
            Answer::Drip => {
                let step = Some(Duration::from_millis(200));
                response(200, "application/json", endless(entered, "a", step))
            }
            Answer::Endless => {
                let piece = "a".repeat(16 << 10);
                response(200, "application/json", endless(entered, piece, None))
            }
            Answer::Redirect(place) => {
                let mut response = response(307, "text/html", Body::empty());
                response
                    .headers_mut()
                    .insert(header::LOCATION, place.try_into().unwrap());
                response
            }
            Answer::DeepJson => {
                let (token, expires_in) = lock(&self.state).next_grant();
                let deep = format!("{{\"deep\":{}{},", "[".repeat(100_000), "]".repeat(100_000));
                let body = grant(token, expires_in).to_string().replacen('{', &deep, 1);
                response(200, "application/json", body)
            }
            Answer::Hang => std::future::pending().await,
            Answer::Close => return Err(Closed),
            Answer::Reset => {
                SockRef::from(&*socket)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
                return Err(Closed);
            }
            Answer::Truncated => {
                drop((&*socket).write_all(TRUNCATED));
                return Err(Closed);
            }
            Answer::Raw(bytes) => {
                drop((&*socket).write_all(&bytes));
                return Err(Closed);
            }
            Answer::Delay(..) => unreachable!("delays are over"),
        })
    }
}

impl State {
    fn answer_details(&self, call: &Call) -> Response<Body> {
        let asked = serde_json::from_slice::<Value>(&call.body).unwrap_or_default();
        let known = asked.get("tokenValue") == Some(&json!(self.api_token));
        match &self.details {
            Some(details) if known && call.method == Method::POST => json_response(200, details),
            _ => json_response(404, &csp_error(404)),
        }
    }
}

/// The documented fields, with the types that vary between errors in practice.
fn csp_error(status: u16) -> Value {
    let module = match status {
        404 => json!("540"),
        _ => json!(340),
    };
    json!({
        "metadata": null,
        "traceId": "7f0a3c5d9b1e2f48",
        "cspErrorCode": "auth.invalid",
        "errorCode": format!("{status}.340"),
        "message": format!("invalid_grant: Invalid refresh token: {MESSAGE_CANARY}****"),
        "statusCode": status,
        "moduleCode": module,
        "requestId": "9d7c3e55-1c1f-4d0c-93a6-2f8f6b1f7a10",
    })
}

fn response(status: u16, content_type: &str, body: impl Into<Body>) -> Response<Body> {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type)
        .body(body.into())
        .unwrap()
}

fn json_response(status: u16, value: &Value) -> Response<Body> {
    response(status, "application/json", value.to_string())
}

/// The beginning of a grant, and a token that never ends.
fn endless(entered: Entered, piece: impl Into<Bytes>, step: Option<Duration>) -> Body {
    let (frames, body) = Body::channel();
    let piece = piece.into();
    tokio::spawn(async move {
        let mut next = Bytes::from_static(b"{\"access_token\":\"");
        while frames.send(Ok(Frame::data(next))).await.is_ok() {
            next = piece.clone();
            if let Some(step) = step {
                tokio::time::sleep(step).await;
            }
        }
        drop(entered);
    });
    body
}

const HTML_503: &str = "<html>\r\n<head><title>503 Service Temporarily Unavailable</title></head>\r\n\
    <body>\r\n<center><h1>503 Service Temporarily Unavailable</h1></center>\r\n</body>\r\n</html>\r\n";
const HTML_403: &str = "<!doctype html><html><head><title>403 Forbidden</title></head><body>\r\n\
    <h1>Access denied</h1><p>The request was blocked. Event 18.5ab2c017.</p></body></html>\r\n";
const HTML_200: &str =
    "<!doctype html><html><body><form action=\"/login\">Sign in</form></body></html>";
const TRUNCATED: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n\
    {\"token_type\":\"bearer\",\"expires_in\":1799,\"access_token\":\"canary-access-token-trunc";
