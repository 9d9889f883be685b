//! Failures of the demo's token service, in the shape that CSP gives its own.

use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::{
    http::{FullResponse, json as json_response},
    random,
};

/// A failure in CSP's words. The codes are invented; only their shape is the real one.
pub(super) struct CspError {
    status: StatusCode,
    /// A number on some endpoints, a text on others.
    module: Value,
    message: &'static str,
}

impl CspError {
    pub(super) fn new(status: StatusCode, message: &'static str) -> Self {
        Self {
            status,
            module: json!(340),
            message,
        }
    }

    /// The module as a text, as some endpoints give it.
    pub(super) fn of_module(self, module: &str) -> Self {
        Self {
            module: json!(module),
            ..self
        }
    }

    pub(super) fn bad_request(message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn too_many_requests() -> Self {
        Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too many tokens are alive; wait for some to expire",
        )
    }

    pub(super) fn into_response(self) -> FullResponse {
        let trace = random::alphanumeric(16);
        let status = self.status.as_u16();
        let code = match &self.module {
            Value::String(module) => format!("{module}.100-{status}.000"),
            module => format!("{module}.100-{status}.000"),
        };
        let mut response = json_response(
            self.status,
            &json!({
                "metadata": null,
                "traceId": trace,
                "cspErrorCode": code,
                "moduleCode": self.module,
                "statusCode": status,
                "message": self.message,
                "requestId": trace,
            }),
        );
        let headers = response.headers_mut();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                headers.insert(
                    header::WWW_AUTHENTICATE,
                    HeaderValue::from_static("Basic realm=\"demo token service\""),
                );
            }
            StatusCode::METHOD_NOT_ALLOWED => {
                headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            StatusCode::TOO_MANY_REQUESTS => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
            }
            _ => {}
        }
        response
    }
}
