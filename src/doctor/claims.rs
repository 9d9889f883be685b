//! What a token says about itself, if it is a JWT (RFC 7519). Nothing is verified: that is the
//! service's affair. Of the token nothing but these claims is shown.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use serde_json::Value;

use super::{
    access::{now, whole_seconds},
    finding::Finding,
};
use crate::{config::Resolved, text::for_terminal, token::Bearer};

const SUBJECT: &str = "claims";

/// The claims that are worth showing; those of VMware Cloud Services among them.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    iss: Option<Value>,
    sub: Option<Value>,
    aud: Option<Value>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    azp: Option<Value>,
    client_id: Option<Value>,
    username: Option<Value>,
    context_name: Option<Value>,
    perms: Option<Value>,
    scope: Option<Value>,
}

impl Claims {
    /// When it ends, in seconds since 1970.
    pub(super) fn expires_at(&self) -> Option<f64> {
        self.exp
    }
}

/// The claims of a token, or `None` for an opaque one.
pub(super) fn read(bearer: &Bearer) -> Option<Claims> {
    let field = bearer.as_header_value().to_str().ok()?;
    let mut parts = field.strip_prefix("Bearer ")?.split('.');
    let (_, claims, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let claims = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?);
    serde_json::from_slice(&claims).ok()
}

pub(super) fn describe(claims: Option<&Claims>, resolved: &[Resolved]) -> Vec<Finding> {
    let Some(claims) = claims else {
        let opaque = "the token is opaque (no JWT): what it may do only the service knows";
        return vec![Finding::ok(SUBJECT, opaque)];
    };
    let mut findings = vec![who(claims)];
    findings.extend(organisation(claims, resolved));
    findings.extend(permissions(claims));
    findings
}

fn who(claims: &Claims) -> Finding {
    let named = [
        ("issuer", &claims.iss),
        ("for", &claims.aud),
        ("app", &claims.azp),
        ("app", &claims.client_id),
        ("user", &claims.username),
        ("subject", &claims.sub),
        ("organisation", &claims.context_name),
    ];
    let named = named.into_iter().filter_map(|(name, value)| {
        let shown = list(value.as_ref()?);
        (!shown.is_empty()).then(|| format!("{name} {}", some_of(&shown)))
    });
    let now = now().unwrap_or_default();
    let issued = claims
        .iat
        .map(|iat| format!("issued {}", relative(iat - now)));
    let ends = claims
        .exp
        .map(|exp| format!("ends {}", relative(exp - now)));
    let text: Vec<String> = named.chain(issued).chain(ends).collect();
    let text = text.join(", ");
    match (claims.nbf, claims.exp) {
        (Some(nbf), _) if nbf > now + TOLERANCE => Finding::warning(
            SUBJECT,
            format!("{text}; it is not valid before {}", relative(nbf - now)),
        ),
        (_, Some(exp)) if exp <= now => Finding::warning(
            SUBJECT,
            format!("{text}; by this machine's clock it is over already"),
        ),
        _ => Finding::ok(SUBJECT, text),
    }
}

/// Seconds that clocks may differ by without a word.
const TOLERANCE: f64 = 5.0;

/// An organisation other than the configured one: the token is for a neighbour.
fn organisation(claims: &Claims, resolved: &[Resolved]) -> Option<Finding> {
    let configured = resolved.iter().find(|row| row.key == "auth.org_id")?;
    let said = claims.context_name.as_ref()?.as_str()?;
    (configured.source != "default" && configured.value != said).then(|| {
        let said = shown(said);
        Finding::warning(
            SUBJECT,
            format!("the organisation is {said}, and not the configured auth.org_id"),
        )
    })
}

/// What the token permits, and whether it lets data in.
fn permissions(claims: &Claims) -> Option<Finding> {
    const SUBJECT: &str = "permissions";
    let mut named: Vec<String> = [&claims.perms, &claims.scope]
        .into_iter()
        .flatten()
        .flat_map(list)
        .collect();
    named.sort();
    named.dedup();
    let of_product = |name: &&String| name.contains("aoa");
    let text = some_of(&named);
    if named
        .iter()
        .any(|name| name.ends_with("aoa/*") || name.contains(INGESTION))
    {
        Some(Finding::ok(SUBJECT, format!("{text}; it may send data")))
    } else if named.iter().any(|name| of_product(&name)) {
        let advice = format!(
            "{text}; none is {INGESTION}, so sending data will get a 403. Give the app or \
             the user that permission, unless it is only to read"
        );
        Some(Finding::warning(SUBJECT, advice))
    } else {
        (!named.is_empty()).then(|| Finding::ok(SUBJECT, text))
    }
}

/// The permission to send data, as a claim names it.
const INGESTION: &str = "directDataIngestion";

/// A claim that is one text, several separated by spaces, or a list.
fn list(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => text.split_whitespace().map(shown).collect(),
        Value::Array(items) => items.iter().filter_map(Value::as_str).map(shown).collect(),
        Value::Number(number) => vec![number.to_string()],
        _ => Vec::new(),
    }
}

/// The first few.
fn some_of(named: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text: Vec<String> = named.iter().take(SHOWN).cloned().collect();
    if named.len() > SHOWN {
        text.push(format!("and {} more", named.len() - SHOWN));
    }
    text.join(" ")
}

fn shown(text: &str) -> String {
    const LONGEST: usize = 100;
    for_terminal(text, LONGEST)
}

fn relative(seconds: f64) -> String {
    let distance = Duration::try_from_secs_f64(seconds.abs().round()).unwrap_or(Duration::MAX);
    let distance = whole_seconds(distance);
    if seconds > 0.0 {
        format!("in {distance}")
    } else {
        format!("{distance} ago")
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;
    use serde_json::json;

    use super::{super::Verdict, *};

    fn claims(claims: &Value) -> Claims {
        let payload = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
        let token = SecretString::from(format!("e30.{payload}.c2ln"));
        read(&Bearer::new(&token).unwrap()).unwrap()
    }

    fn verdicts(json: &Value) -> Vec<(Verdict, String)> {
        let findings = describe(Some(&claims(json)), &[]);
        findings
            .into_iter()
            .map(|one| (one.verdict, one.text))
            .collect()
    }

    #[test]
    fn a_token_that_is_no_jwt_is_opaque() {
        for token in ["0a1b2c", "a.b", "a.b.c", "a.e30.c.d", "..", "e30.bm8.x"] {
            let bearer = Bearer::new(&SecretString::from(token)).unwrap();
            assert!(read(&bearer).is_none(), "{token}");
        }
    }

    #[test]
    fn claims_of_odd_types_are_left_out_and_others_made_printable() {
        let found = verdicts(&json!({
            "iss": "https://issuer\u{1b}[2J",
            "sub": {"a": 1},
            "aud": ["one", "two"],
            "username": "x".repeat(5000),
            "exp": 4e9,
        }));
        let (verdict, text) = &found[0];
        assert_eq!((*verdict, found.len()), (Verdict::Ok, 1));
        assert!(
            text.contains("for one two") && text.contains("ends in"),
            "{text}"
        );
        assert!(!text.contains("subject") && !text.contains('\u{1b}') && text.len() < 400);
    }

    #[test]
    fn a_token_that_is_not_valid_by_our_clock_is_a_warning() {
        let now = now().unwrap();
        for (claims, word) in [
            (json!({"exp": now - 60.0}), "over already"),
            (
                json!({"nbf": now + 600.0, "exp": now + 900.0}),
                "not valid before",
            ),
        ] {
            let (verdict, text) = &verdicts(&claims)[0];
            assert_eq!(*verdict, Verdict::Warning);
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn who_may_not_send_data_is_warned() {
        for (claims, verdict, word) in [
            (
                json!({"perms": ["external/x/aoa:directDataIngestion"]}),
                Verdict::Ok,
                "may send",
            ),
            (json!({"scope": "openid aoa/*"}), Verdict::Ok, "may send"),
            (
                json!({"perms": ["external/x/aoa:viewer"]}),
                Verdict::Warning,
                "403",
            ),
            (json!({"scope": "read write"}), Verdict::Ok, "read write"),
        ] {
            let found = verdicts(&claims);
            assert_eq!(found[1].0, verdict, "{claims}");
            assert!(found[1].1.contains(word), "{}", found[1].1);
        }
        let many: Vec<String> = (0..50).map(|n| format!("p{n:02}")).collect();
        let found = verdicts(&json!({ "perms": many }));
        assert!(found[1].1.ends_with("p07 and 42 more"), "{}", found[1].1);
    }

    #[test]
    fn another_organisation_than_the_configured_is_a_warning() {
        let row = |source: &str| Resolved {
            key: "auth.org_id".to_owned(),
            value: "ours".to_owned(),
            source: source.to_owned(),
        };
        let claims = claims(&json!({"context_name": "theirs"}));
        let found = describe(Some(&claims), &[row("environment variable CSP_ORG_ID")]);
        assert_eq!(found[1].verdict, Verdict::Warning);
        assert_eq!(describe(Some(&claims), &[row("default")]).len(), 1);
    }
}
