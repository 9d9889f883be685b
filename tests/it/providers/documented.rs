//! The token requests as the providers' documentation has them; the pages link to it.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde_json::{Value, json};
use url::form_urlencoded;

use super::{
    page::{ACCOUNTS, API_TOKEN, Files, PROJECTED, SECRET},
    provider::Call,
};

/// One request. Blocks are matched with those of their page in order.
pub struct Documented {
    pub page: &'static str,
    pub host: &'static str,
    path: &'static str,
    proof: Proof,
    /// The fields of the form besides those of the proof.
    form: &'static [(&'static str, &'static str)],
    /// What the provider answers.
    pub granted: &'static str,
}

/// How the request shows who asks.
enum Proof {
    /// HTTP Basic.
    Basic(&'static str),
    /// The same, each half as it is, and not form-urlencoded first.
    PlainBasic(&'static str),
    /// `client_id` and `client_secret` in the form.
    Post(&'static str),
    /// `client_id`, `client_assertion_type` and a `client_assertion` that the sidecar signs.
    Signed(Statement),
    /// The same with what is in a file.
    Projected(&'static str),
    /// `client_id` and the certificate of the connection.
    Certificate(&'static str),
    /// An `assertion` that the sidecar signs, which is the grant.
    Grant(Statement),
    /// A bearer token that the sidecar signs.
    Bearer(Statement),
    /// Nothing but what is in the form.
    Form,
}

/// What is signed.
struct Statement {
    algorithm: &'static str,
    key_id: Option<&'static str>,
    names_certificate: bool,
    issuer: &'static str,
    subject: Option<&'static str>,
    audience: Option<&'static str>,
    scope: Option<&'static str>,
    /// The longest time between `iat` and `exp`, in seconds.
    longest: u64,
}

const TOKEN: &str = r#"{"access_token":"granted","token_type":"Bearer","expires_in":3599}"#;
const BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const CREDENTIALS: (&str, &str) = ("grant_type", "client_credentials");

/// By default as most of them are.
const REQUEST: Documented = Documented {
    page: "",
    host: "",
    path: "",
    proof: Proof::Form,
    form: &[CREDENTIALS],
    granted: TOKEN,
};

const STATEMENT: Statement = Statement {
    algorithm: "RS256",
    key_id: None,
    names_certificate: false,
    issuer: "",
    subject: None,
    audience: None,
    scope: None,
    longest: 3600,
};

const ENTRA: Documented = Documented {
    page: "entra",
    host: "login.microsoftonline.com",
    path: "/contoso.onmicrosoft.com/oauth2/v2.0/token",
    form: &[CREDENTIALS, ("scope", "api://backend/.default")],
    ..REQUEST
};
const ENTRA_ID: &str = "535fb089-9ff3-47b6-9bfb-4f1264799865";

const KEYCLOAK: Documented = Documented {
    page: "keycloak",
    host: "keycloak.example.com",
    path: "/realms/example/protocol/openid-connect/token",
    ..REQUEST
};

const ZITADEL_SCOPE: (&str, &str) = (
    "scope",
    "openid urn:zitadel:iam:org:project:id:100507859606888466:aud",
);

pub const DOCUMENTED: &[Documented] = &[
    Documented {
        proof: Proof::Post(ENTRA_ID),
        ..ENTRA
    },
    Documented {
        proof: Proof::Signed(Statement {
            algorithm: "PS256",
            names_certificate: true,
            issuer: ENTRA_ID,
            subject: Some(ENTRA_ID),
            audience: Some(
                "https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token",
            ),
            longest: 600,
            ..STATEMENT
        }),
        ..ENTRA
    },
    Documented {
        proof: Proof::Projected(ENTRA_ID),
        ..ENTRA
    },
    Documented {
        page: "okta",
        host: "example.okta.com",
        path: "/oauth2/aus1234/v1/token",
        proof: Proof::Basic("0oa1234"),
        form: &[CREDENTIALS, ("scope", "backend.read")],
        ..REQUEST
    },
    Documented {
        page: "okta",
        host: "example.okta.com",
        path: "/oauth2/v1/token",
        proof: Proof::Signed(Statement {
            key_id: Some("my_key_id"),
            issuer: "0oa1234",
            subject: Some("0oa1234"),
            audience: Some("https://example.okta.com/oauth2/v1/token"),
            ..STATEMENT
        }),
        form: &[CREDENTIALS, ("scope", "okta.users.read")],
        ..REQUEST
    },
    Documented {
        page: "auth0",
        host: "example.eu.auth0.com",
        path: "/oauth/token",
        proof: Proof::Post("AbCdEf123456"),
        form: &[CREDENTIALS, ("audience", "https://api.example.com")],
        ..REQUEST
    },
    Documented {
        proof: Proof::Basic("backend"),
        ..KEYCLOAK
    },
    Documented {
        proof: Proof::Signed(Statement {
            issuer: "backend",
            subject: Some("backend"),
            audience: Some(
                "https://keycloak.example.com/realms/example/protocol/openid-connect/token",
            ),
            // Its "Max expiration".
            longest: 60,
            ..STATEMENT
        }),
        ..KEYCLOAK
    },
    Documented {
        proof: Proof::Certificate("backend"),
        ..KEYCLOAK
    },
    Documented {
        page: "cognito",
        host: "example.auth.eu-central-1.amazoncognito.com",
        path: "/oauth2/token",
        proof: Proof::Basic("1example23456789"),
        form: &[CREDENTIALS, ("scope", "backend/read")],
        ..REQUEST
    },
    Documented {
        page: "google",
        host: "oauth2.googleapis.com",
        path: "/token",
        proof: Proof::Grant(Statement {
            key_id: Some("key-1"),
            issuer: ACCOUNTS[0],
            audience: Some("https://oauth2.googleapis.com/token"),
            scope: Some("https://www.googleapis.com/auth/cloud-platform"),
            ..STATEMENT
        }),
        form: &[("grant_type", BEARER)],
        ..REQUEST
    },
    Documented {
        page: "salesforce",
        host: "example.my.salesforce.com",
        path: "/services/oauth2/token",
        proof: Proof::Grant(Statement {
            issuer: "3MVG9example",
            subject: Some("integration@example.com"),
            audience: Some("https://login.salesforce.com"),
            ..STATEMENT
        }),
        form: &[("grant_type", BEARER)],
        granted: r#"{"access_token":"00Dgranted","token_type":"Bearer","instance_url":"https://example.my.salesforce.com"}"#,
    },
    Documented {
        page: "salesforce",
        host: "example.my.salesforce.com",
        path: "/services/oauth2/token",
        proof: Proof::Post("3MVG9example"),
        granted: r#"{"access_token":"00Dgranted","token_type":"Bearer","instance_url":"https://example.my.salesforce.com"}"#,
        ..REQUEST
    },
    Documented {
        page: "xsuaa",
        host: "example.authentication.eu10.hana.ondemand.com",
        path: "/oauth/token",
        proof: Proof::Basic("sb-example!t1234"),
        ..REQUEST
    },
    Documented {
        page: "xsuaa",
        host: "example.authentication.cert.eu10.hana.ondemand.com",
        path: "/oauth/token",
        proof: Proof::Certificate("sb-example!t1234"),
        ..REQUEST
    },
    Documented {
        page: "ping",
        host: "auth.pingone.com",
        path: "/5caa81af-ec05-41ff-a709-c7378007a99c/as/token",
        proof: Proof::Basic("8b9c1d2e-0000-4000-8000-000000000000"),
        ..REQUEST
    },
    Documented {
        page: "zitadel",
        host: "example.zitadel.cloud",
        path: "/oauth/v2/token",
        proof: Proof::Basic("backend"),
        form: &[CREDENTIALS, ZITADEL_SCOPE],
        ..REQUEST
    },
    Documented {
        page: "zitadel",
        host: "example.zitadel.cloud",
        path: "/oauth/v2/token",
        proof: Proof::Grant(Statement {
            key_id: Some("key-1"),
            issuer: ACCOUNTS[1],
            subject: Some(ACCOUNTS[1]),
            audience: Some("https://example.zitadel.cloud"),
            ..STATEMENT
        }),
        form: &[("grant_type", BEARER), ZITADEL_SCOPE],
        ..REQUEST
    },
    Documented {
        page: "hydra",
        host: "hydra.example.com",
        path: "/oauth2/token",
        proof: Proof::Basic("d7a9f1b0-0000-4000-8000-000000000000"),
        form: &[CREDENTIALS, ("scope", "metrics")],
        ..REQUEST
    },
    Documented {
        page: "github",
        host: "api.github.com",
        path: "/app/installations/67890/access_tokens",
        proof: Proof::Bearer(Statement {
            issuer: "12345",
            longest: 660,
            ..STATEMENT
        }),
        form: &[],
        granted: r#"{"token":"ghs_granted","expires_at":"2099-07-11T22:14:10Z"}"#,
    },
    Documented {
        page: "csp",
        host: "console.cloud.vmware.com",
        path: "/csp/gateway/am/api/auth/authorize",
        proof: Proof::PlainBasic("app-id"),
        form: &[
            CREDENTIALS,
            ("orgId", "b2d6a0e2-0000-4000-8000-000000000000"),
        ],
        ..REQUEST
    },
    Documented {
        page: "csp",
        host: "console.cloud.vmware.com",
        path: "/csp/gateway/am/api/auth/api-tokens/authorize",
        form: &[("grant_type", "api_token"), ("api_token", API_TOKEN)],
        ..REQUEST
    },
    Documented {
        page: "tanzu",
        host: "console.tanzu.broadcom.com",
        path: "/csp/gateway/am/api/auth/api-tokens/authorize",
        form: &[("grant_type", "api_token"), ("api_token", API_TOKEN)],
        ..REQUEST
    },
    Documented {
        page: "omnissa",
        host: "connect.omnissa.com",
        path: "/csp/gateway/am/api/auth/api-tokens/authorize",
        form: &[("grant_type", "api_token"), ("api_token", API_TOKEN)],
        ..REQUEST
    },
];

/// What a provider says to a mistake: of which page and block, with which status and body.
pub const REFUSED: &[(&str, usize, u16, &str)] = &[
    (
        "entra",
        0,
        401,
        r#"{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '535fb089-9ff3-47b6-9bfb-4f1264799865'.","error_codes":[7000215]}"#,
    ),
    (
        "okta",
        0,
        400,
        r#"{"error":"access_denied","error_description":"Policy evaluation failed for this request, please check the policy configurations."}"#,
    ),
    (
        "auth0",
        0,
        403,
        r#"{"error":"access_denied","error_description":"Client is not authorized to access \"https://api.example.com\". You need to create a \"client-grant\" associated to this API."}"#,
    ),
    (
        "keycloak",
        0,
        401,
        r#"{"error":"unauthorized_client","error_description":"Client not enabled to retrieve service account"}"#,
    ),
    ("cognito", 0, 400, r#"{"error":"invalid_client"}"#),
    (
        "google",
        0,
        400,
        r#"{"error":"invalid_grant","error_description":"Invalid JWT Signature."}"#,
    ),
    (
        "salesforce",
        0,
        400,
        r#"{"error":"invalid_grant","error_description":"user hasn't approved this consumer"}"#,
    ),
    ("xsuaa", 0, 401, r#"{"error":"invalid_client"}"#),
    ("ping", 0, 401, r#"{"error":"invalid_client"}"#),
    ("zitadel", 0, 400, r#"{"error":"invalid_client"}"#),
    (
        "hydra",
        0,
        401,
        r#"{"error":"invalid_client","error_description":"Client authentication failed (e.g., unknown client, no client authentication included, or unsupported authentication method)."}"#,
    ),
    (
        "github",
        0,
        401,
        r#"{"message":"A JSON web token could not be decoded"}"#,
    ),
    (
        "csp",
        1,
        400,
        r#"{"statusCode":400,"moduleCode":340,"message":"invalid_grant: Invalid refresh token"}"#,
    ),
    (
        "tanzu",
        0,
        404,
        r#"{"statusCode":404,"moduleCode":"540","message":"not found"}"#,
    ),
    (
        "omnissa",
        0,
        404,
        r#"{"statusCode":404,"moduleCode":"540","message":"not found"}"#,
    ),
];

impl Documented {
    pub fn shows_certificate(&self) -> bool {
        matches!(self.proof, Proof::Certificate(_))
    }

    /// Fails where the request is another one.
    pub fn compare(&self, call: &Call, files: &Files) {
        let page = self.page;
        assert_eq!(call.method, "POST", "{page}");
        assert_eq!(call.path, self.path, "{page}");
        let field = |name: &str| call.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(field("host"), Some(self.host), "{page}");

        let sent = form_urlencoded::parse(&call.body).into_owned();
        let mut sent: Vec<(String, String)> = sent.collect();
        let mut take = |name: &str| {
            let at = sent.iter().position(|(one, _)| one == name);
            at.map(|at| sent.remove(at).1)
        };
        let mut authorization = None;
        match &self.proof {
            Proof::Form => {}
            Proof::Basic(id) => authorization = Some(basic(&encoded(id), &encoded(SECRET))),
            Proof::PlainBasic(id) => authorization = Some(basic(id, SECRET)),
            Proof::Post(id) => {
                assert_eq!(take("client_id").as_deref(), Some(*id), "{page}");
                assert_eq!(take("client_secret").as_deref(), Some(SECRET), "{page}");
            }
            Proof::Certificate(id) => {
                assert_eq!(take("client_id").as_deref(), Some(*id), "{page}");
            }
            Proof::Projected(id) => {
                assert_eq!(take("client_id").as_deref(), Some(*id), "{page}");
                assert_eq!(
                    take("client_assertion_type").as_deref(),
                    Some(ASSERTION),
                    "{page}"
                );
                assert_eq!(
                    take("client_assertion").as_deref(),
                    Some(PROJECTED),
                    "{page}"
                );
            }
            Proof::Signed(statement) => {
                assert_eq!(
                    take("client_id").as_deref(),
                    Some(statement.issuer),
                    "{page}"
                );
                assert_eq!(
                    take("client_assertion_type").as_deref(),
                    Some(ASSERTION),
                    "{page}"
                );
                statement.compare(&take("client_assertion").unwrap(), page, files);
            }
            Proof::Grant(statement) => {
                statement.compare(&take("assertion").unwrap(), page, files);
            }
            Proof::Bearer(statement) => {
                let bearer = field("authorization").unwrap().strip_prefix("Bearer ");
                statement.compare(bearer.unwrap(), page, files);
                authorization = field("authorization").map(ToOwned::to_owned);
            }
        }
        assert_eq!(field("authorization"), authorization.as_deref(), "{page}");
        let left: BTreeMap<_, _> = sent.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expected: BTreeMap<_, _> = self.form.iter().copied().collect();
        assert_eq!(left, expected, "{page}");
        assert_eq!(sent.len(), expected.len(), "{page}: a field is sent twice");
        let media_type = (!self.form.is_empty()).then_some("application/x-www-form-urlencoded");
        assert_eq!(field("content-type"), media_type, "{page}");
    }
}

const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

impl Statement {
    /// What it says, and for how long; signatures are judged in `client_auth`.
    fn compare(&self, jwt: &str, page: &str, files: &Files) {
        let mut parts = jwt.split('.');
        let mut part = || -> Value {
            let text = URL_SAFE_NO_PAD.decode(parts.next().unwrap()).unwrap();
            serde_json::from_slice(&text).unwrap()
        };
        let (header, claims) = (part(), part());
        assert_eq!(header["alg"], self.algorithm, "{page}");
        assert_eq!(header.get("kid"), text(self.key_id).as_ref(), "{page}");
        let thumbprint = self.names_certificate.then(|| {
            let der = CertificateDer::from_pem_slice(files.certificate().as_bytes()).unwrap();
            json!(URL_SAFE_NO_PAD.encode(digest(&SHA256, &der)))
        });
        assert_eq!(header.get("x5t#S256"), thumbprint.as_ref(), "{page}");
        for (claim, expected) in [
            ("iss", Some(self.issuer)),
            ("sub", self.subject),
            ("aud", self.audience),
            ("scope", self.scope),
        ] {
            assert_eq!(
                claims.get(claim),
                text(expected).as_ref(),
                "{page}: {claim}"
            );
        }
        let seconds = |claim: &str| claims[claim].as_u64().unwrap();
        let lifetime = seconds("exp") - seconds("iat");
        assert!((1..=self.longest).contains(&lifetime), "{page}: {lifetime}");
    }
}

fn text(value: Option<&str>) -> Option<Value> {
    value.map(|value| json!(value))
}

fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn basic(id: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")))
}
