//! What CSP checks of a token request, and what a correct client never gets wrong.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{HeaderMap, Method, header};
use url::form_urlencoded;

use super::{super::CLIENT_ID, Answer, Call, State};

const AUTHORIZE: &str = "/csp/gateway/am/api/auth/authorize";
const GENERAL_GRANT: &str = "/csp/gateway/am/api/auth/token";
const API_TOKEN_EXCHANGE: &str = "/csp/gateway/am/api/auth/api-tokens/authorize";
pub const API_TOKEN_DETAILS: &str = "/csp/gateway/am/api/auth/api-tokens/details";
/// Not of CSP: a token endpoint that goes by RFC 6749 to the letter.
pub const OAUTH2: &str = "/oauth2/token";

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

impl State {
    /// How CSP refuses these credentials; `None` when it takes them.
    ///
    /// # Errors
    /// The request is one that a correct client never sends.
    pub fn refusal(&mut self, call: &Call) -> anyhow::Result<Option<Answer>> {
        ensure!(call.method == Method::POST, "not a POST");
        let mut types = call.headers.get_all(header::CONTENT_TYPE).iter();
        let content_type = types.next().context("no Content-Type")?.to_str()?;
        ensure!(types.next().is_none(), "Content-Type twice");
        ensure!(
            content_type.split(';').next() == Some("application/x-www-form-urlencoded"),
            "Content-Type {content_type}"
        );
        let mut form = BTreeMap::new();
        for (name, value) in call.form() {
            ensure!(!value.is_empty(), "the form field {name} is empty");
            ensure!(
                form.insert(name.clone(), value).is_none(),
                "the form field {name} is repeated"
            );
        }
        let basic = basic(&call.headers)?;

        let granted = match endpoint(&call.target).as_str() {
            AUTHORIZE | GENERAL_GRANT => {
                expect_grant_type(&mut form)?;
                let org_id = form.remove("orgId");
                ensure!(org_id == self.org_id, "orgId {org_id:?}");
                let (id, secret) = basic.context("no Basic credentials")?;
                id == CLIENT_ID && secret == self.client_secret
            }
            API_TOKEN_EXCHANGE => {
                ensure!(basic.is_none(), "Authorization on an anonymous request");
                form.remove("grant_type");
                let value = form.remove("api_token");
                let value = value.or_else(|| form.remove("refresh_token"));
                if value.context("no api_token")? != self.api_token {
                    return Ok(Some(Answer::CspError(400)));
                }
                true
            }
            OAUTH2 => {
                expect_grant_type(&mut form)?;
                let id = form.remove("client_id");
                let posted = form.remove("client_secret");
                let assertion = form.remove("client_assertion");
                let kind = form.remove("client_assertion_type");
                ensure!(kind.as_deref() == assertion.as_ref().map(|_| JWT_BEARER));
                // RFC 6749 section 2.3: no more than one method in a request.
                let methods = [basic.is_some(), posted.is_some(), assertion.is_some()];
                let methods = methods.into_iter().filter(|used| *used).count();
                let expected = usize::from(!self.takes_certificates);
                ensure!(methods == expected, "{methods} credentials");
                ensure!(basic.is_some() != id.is_some(), "an id not exactly once");
                // Scope and the parameters of extensions are free.
                form.clear();
                match (basic, posted, assertion) {
                    // What is spelled otherwise is no credential here.
                    (Some((id, secret)), ..) => {
                        form_decoded(&id).is_ok_and(|id| id == CLIENT_ID)
                            && form_decoded(&secret)
                                .is_ok_and(|secret| secret == self.client_secret)
                    }
                    (_, Some(secret), _) => {
                        id.as_deref() == Some(CLIENT_ID) && secret == self.client_secret
                    }
                    (.., Some(assertion)) => {
                        ensure!(id.as_deref() == Some(CLIENT_ID), "id {id:?}");
                        self.judge.accepts(&assertion)?
                    }
                    _ => id.as_deref() == Some(CLIENT_ID),
                }
            }
            _ => bail!("no such endpoint"),
        };
        ensure!(form.is_empty(), "unexpected form fields {:?}", form.keys());
        Ok((!granted).then_some(Answer::CspError(401)))
    }
}

fn expect_grant_type(form: &mut BTreeMap<String, String>) -> anyhow::Result<()> {
    let grant_type = form.remove("grant_type").context("no grant_type")?;
    ensure!(
        grant_type == "client_credentials",
        "grant_type {grant_type}"
    );
    Ok(())
}

/// The id and the secret of `Authorization: Basic`, which must be the only one.
fn basic(headers: &HeaderMap) -> anyhow::Result<Option<(String, String)>> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    ensure!(values.next().is_none(), "Authorization twice");
    let encoded = value.to_str()?.strip_prefix("Basic ");
    let pair = STANDARD.decode(encoded.context("Authorization is not Basic")?)?;
    let pair = String::from_utf8(pair)?;
    let (id, secret) = pair.split_once(':').context("no colon in Basic")?;
    Ok(Some((id.to_owned(), secret.to_owned())))
}

/// RFC 6749 section 2.3.1: id and secret are form-encoded before they are joined.
fn form_decoded(encoded: &str) -> anyhow::Result<String> {
    let pair = format!("x={encoded}");
    let mut parsed = form_urlencoded::parse(pair.as_bytes());
    let (_, value) = parsed.next().context("empty")?;
    ensure!(parsed.next().is_none(), "Basic is not form-encoded");
    Ok(value.into_owned())
}

/// CSP takes several slashes as one; a query stays, and so matches no endpoint.
pub fn endpoint(target: &str) -> String {
    let mut path = target.to_owned();
    while path.contains("//") {
        path = path.replace("//", "/");
    }
    path
}
