//! The envelope around every response of the demo's service instance, and its failures.

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::http::{FullResponse, json as json_response};

/// Why the instance did not do something.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    message: String,
}

impl Refused {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, message }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn into_response(self) -> FullResponse {
        let mut response = wrap(self.status, "ERROR", &self.message, None);
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static("Bearer realm=\"demo service instance\""),
            );
        }
        response
    }
}

/// The envelope of a success.
pub(super) fn ok(response: Value) -> FullResponse {
    wrap(StatusCode::OK, "OK", "", Some(response))
}

fn wrap(status: StatusCode, result: &str, message: &str, response: Option<Value>) -> FullResponse {
    let mut envelope = json!({
        "status": { "result": result, "message": message, "code": status.as_u16() },
    });
    if let (Some(envelope), Some(response)) = (envelope.as_object_mut(), response) {
        envelope.insert("response".to_owned(), response);
    }
    json_response(status, &envelope)
}
