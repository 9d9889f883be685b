//! Grants of OAuth 2.0 besides client credentials, GitHub's apps, and what clients prove themselves by.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::support::{
    FakeIssuer, FakeService, Said, Settings, Sidecar,
    csp::{Call, ClientKey, parts},
    eventually, eventually_async, get,
    issuer::{field, names},
    pki::Leaf,
};

const SOON: Duration = Duration::from_secs(10);
const TOKEN: &str = "canary-access-token-of-a-grant";

fn granted() -> Said {
    Said::json(
        200,
        &json!({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 600}),
    )
}

async fn status(sidecar: &Sidecar) -> u16 {
    get(&format!("{}/x", sidecar.url())).await.status.as_u16()
}

async fn said(sidecar: &Sidecar, text: &str) {
    let says = async || sidecar.admin_get("/status").await.1.contains(text);
    eventually_async(says, SOON).await;
}

fn settings(issuer: &FakeIssuer, service: &FakeService, kind: &str) -> Settings {
    Settings::to(&service.url())
        .set("auth.type", kind)
        .set("auth.token_url", format!("{}/token", issuer.url()))
        .set("auth.hold_timeout", "5s")
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap().as_secs()
}

#[tokio::test]
async fn a_token_of_somebody_else_is_exchanged_and_read_anew_at_each_exchange() {
    const TYPE: &str = "urn:ietf:params:oauth:token-type:";
    let issuer = FakeIssuer::start(|call: &Call| {
        assert_eq!(
            names(call),
            [
                "grant_type",
                "subject_token",
                "subject_token_type",
                "requested_token_type",
                "actor_token",
                "actor_token_type",
                "scope",
                "audience",
                "resource",
                "resource",
                "client_id",
            ]
        );
        let of = |name| field(call, name).unwrap();
        assert_eq!(
            of("grant_type"),
            "urn:ietf:params:oauth:grant-type:token-exchange"
        );
        assert_eq!(of("subject_token_type"), format!("{TYPE}jwt"));
        assert_eq!(of("actor_token_type"), format!("{TYPE}id_token"));
        assert_eq!(of("actor_token"), "actor");
        assert_eq!(
            (of("scope"), of("audience")),
            ("a b".to_owned(), "api".to_owned())
        );
        Said::json(
            200,
            &json!({
                "access_token": TOKEN,
                "issued_token_type": of("requested_token_type"),
                "token_type": "Bearer",
                "expires_in": 600,
            }),
        )
    });
    let service = FakeService::accepting([TOKEN]);
    let settings = settings(&issuer, &service, "oauth2-token-exchange")
        .set("auth.client_auth", "none")
        .set("auth.client_id", "gateway")
        .file("auth.subject_token_file", "subject-1\n")
        .file("auth.actor_token_file", "actor")
        .set("auth.actor_token_type", "id_token")
        .set("auth.requested_token_type", "access_token")
        .set("auth.scopes", json!(["a", "b"]))
        .set("auth.audience", "api")
        .set(
            "auth.resource",
            json!(["https://one.example", "https://two.example/x"]),
        );
    let sidecar = Sidecar::start(&settings);
    assert_eq!(status(&sidecar).await, 200);
    sidecar.rewrite("auth.subject_token_file", "subject-2");
    let renewed = || {
        let calls = issuer.calls();
        field(calls.last().unwrap(), "subject_token").as_deref() == Some("subject-2")
    };
    eventually(renewed, SOON).await;
}

#[tokio::test]
async fn a_token_of_another_type_than_was_asked_for_is_not_used() {
    for issued in ["refresh_token", "saml2", "id_token"] {
        let issuer = FakeIssuer::start(move |_| {
            let kind = format!("urn:ietf:params:oauth:token-type:{issued}");
            Said::json(
                200,
                &json!({"access_token": TOKEN, "issued_token_type": kind}),
            )
        });
        let service = FakeService::accepting([TOKEN]);
        let settings = settings(&issuer, &service, "oauth2-token-exchange")
            .set("auth.client_auth", "none")
            .set("auth.client_id", "gateway")
            .set("auth.subject_token", "subject")
            .set("auth.hold_timeout", "0s");
        let sidecar = Sidecar::start(&settings);
        said(&sidecar, "issued_token_type is not").await;
        assert_eq!(service.request_count(), 0);
    }
}

/// A key file as Google makes it.
fn google(key: &ClientKey, issuer: &str) -> String {
    json!({
        "type": "service_account",
        "private_key_id": "k1",
        "private_key": key.pem,
        "client_email": "robot@project.iam.example",
        "token_uri": format!("{issuer}/token"),
    })
    .to_string()
}

#[tokio::test]
async fn a_service_account_signs_for_its_scopes_as_its_key_file_says() {
    let key = ClientKey::rsa();
    let signer = key.clone();
    let issuer = FakeIssuer::start(move |call| {
        assert_eq!(names(call), ["grant_type", "assertion"]);
        assert_eq!(call.target, "/token");
        assert!(call.headers.get("authorization").is_none());
        let grant = field(call, "grant_type").unwrap();
        assert_eq!(grant, "urn:ietf:params:oauth:grant-type:jwt-bearer");
        let assertion = field(call, "assertion").unwrap();
        assert!(signer.has_signed(&assertion));
        let (header, claims) = parts(&assertion);
        assert_eq!(header, json!({"alg": "RS256", "typ": "JWT", "kid": "k1"}));
        assert_eq!(claims["iss"], "robot@project.iam.example");
        assert_eq!(
            claims["scope"],
            "https://scope.example/a https://scope.example/b"
        );
        assert!(claims["aud"].as_str().unwrap().ends_with("/token"));
        assert!(claims.get("sub").is_none());
        let (made, ends) = (
            claims["iat"].as_u64().unwrap(),
            claims["exp"].as_u64().unwrap(),
        );
        assert!((now() - 5..=now()).contains(&made) && ends - made <= 3600);
        granted()
    });
    let service = FakeService::accepting([TOKEN]);
    let settings = Settings::to(&service.url())
        .set("auth.provider", "google")
        .file("auth.service_account_file", &google(&key, &issuer.url()))
        .set(
            "auth.scopes",
            json!(["https://scope.example/a", "https://scope.example/b"]),
        );
    assert_eq!(status(&Sidecar::start(&settings)).await, 200);
}

#[tokio::test]
async fn a_connected_app_signs_for_a_user() {
    let key = ClientKey::rsa();
    let signer = key.clone();
    let issuer = FakeIssuer::start(move |call| {
        assert_eq!(names(call), ["grant_type", "assertion"]);
        let assertion = field(call, "assertion").unwrap();
        assert!(signer.has_signed(&assertion));
        let (_, claims) = parts(&assertion);
        assert_eq!(claims["iss"], "consumer-key");
        assert_eq!(claims["sub"], "user@example.com");
        assert_eq!(claims["aud"], "https://login.salesforce.com");
        // Salesforce names no lifetime.
        Said::json(200, &json!({"access_token": TOKEN, "token_type": "Bearer"}))
    });
    let service = FakeService::accepting([TOKEN]);
    let settings = Settings::to(&service.url())
        .set("auth.provider", "salesforce")
        .set("auth.token_url", format!("{}/token", issuer.url()))
        .set("auth.client_id", "consumer-key")
        .set("auth.assertion_subject", "user@example.com")
        .file("auth.private_key_file", &key.pem);
    assert_eq!(status(&Sidecar::start(&settings)).await, 200);
}

#[tokio::test]
async fn a_github_app_buys_a_token_of_its_installation() {
    let key = ClientKey::rsa();
    let signer = key.clone();
    let issuer = FakeIssuer::start(move |call| {
        assert_eq!(call.method, "POST");
        assert_eq!(call.target, "/api/v3/app/installations/67890/access_tokens");
        let of = |name: &str| call.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(of("accept"), Some("application/vnd.github+json"));
        assert_eq!(of("x-github-api-version"), Some("2022-11-28"));
        assert!(of("user-agent").unwrap().starts_with("auth-sidecar/"));
        assert!(call.body.is_empty() && of("content-type").is_none());
        let jwt = of("authorization")
            .unwrap()
            .strip_prefix("Bearer ")
            .unwrap();
        assert!(signer.has_signed(jwt));
        let (header, claims) = parts(jwt);
        assert_eq!(header, json!({"alg": "RS256", "typ": "JWT"}));
        assert_eq!(claims["iss"], "12345");
        let (made, ends) = (
            claims["iat"].as_u64().unwrap(),
            claims["exp"].as_u64().unwrap(),
        );
        assert!(made <= now() - 50 && ends - made <= 600);
        Said::json(
            201,
            &json!({"token": TOKEN, "expires_at": "2099-07-11T22:14:10Z", "permissions": {}}),
        )
        .with("date", "Sat, 11 Jul 2099 21:14:10 GMT")
    });
    let service = FakeService::accepting([TOKEN]);
    let settings = Settings::to(&service.url())
        .set("auth.provider", "github")
        .set("auth.base_url", format!("{}/api/v3", issuer.url()))
        .set("auth.app_id", "12345")
        .set("auth.installation_id", 67890)
        .file("auth.private_key_file", &key.pem);
    let sidecar = Sidecar::start(&settings);
    assert_eq!(status(&sidecar).await, 200);
    let told = sidecar.admin_get("/status").await.1;
    assert!(!told.contains(TOKEN), "{told}");
}

#[tokio::test]
async fn an_assertion_of_somebody_else_is_read_at_each_use() {
    let issuer = FakeIssuer::start(|call| {
        assert_eq!(
            names(call),
            [
                "grant_type",
                "client_id",
                "client_assertion_type",
                "client_assertion"
            ]
        );
        match field(call, "client_assertion").unwrap().as_str() {
            "projected-2" => granted(),
            _ => Said::error(401, "invalid_client"),
        }
    });
    let service = FakeService::accepting([TOKEN]);
    let settings = settings(&issuer, &service, "oauth2-client-credentials")
        .set("auth.client_id", "workload")
        .file("auth.client_assertion_file", "projected-1");
    let sidecar = Sidecar::start(&settings.set("auth.hold_timeout", "0s"));
    said(&sidecar, "invalid_client").await;
    sidecar.rewrite("auth.client_assertion_file", "projected-2\n");
    eventually_async(async || status(&sidecar).await == 200, SOON).await;
}

#[tokio::test]
async fn a_key_is_known_by_the_thumbprint_of_its_certificate() {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    let leaf = Leaf::self_signed(&["client"], 2040);
    let (chain, _) = leaf.der();
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &chain[0]);
    let thumbprint = URL_SAFE_NO_PAD.encode(digest);
    let issuer = FakeIssuer::start(move |call| {
        let (header, claims) = parts(&field(call, "client_assertion").unwrap());
        assert_eq!(header["x5t#S256"], thumbprint.as_str());
        assert!(header.get("kid").is_none());
        assert_eq!(
            claims["aud"].as_str().unwrap().rsplit('/').next(),
            Some("token")
        );
        granted()
    });
    let service = FakeService::accepting([TOKEN]);
    let settings = settings(&issuer, &service, "oauth2-client-credentials")
        .set("auth.client_auth", "private_key_jwt")
        .set("auth.client_id", "app")
        .file("auth.private_key_file", &leaf.key_pem)
        .file("auth.assertion_cert_file", &leaf.cert_pem);
    assert_eq!(status(&Sidecar::start(&settings)).await, 200);

    let other = Leaf::self_signed(&["client"], 2040);
    let wrong = settings.file("auth.assertion_cert_file", &other.cert_pem);
    let error = Sidecar::try_start(&wrong).unwrap_err().to_string();
    assert!(
        error.contains("does not belong to the certificate"),
        "{error}"
    );
}

#[tokio::test]
async fn an_assertion_goes_by_the_clock_of_the_service_whichever_way_ours_is_wrong() {
    for (ahead, code) in [(-60_i64, 400), (61, 500)] {
        let key = ClientKey::p256();
        let issuer = FakeIssuer::start(move |call| {
            let theirs = now().saturating_add_signed(ahead);
            let (_, claims) = parts(&field(call, "client_assertion").unwrap());
            let (made, ends) = (
                claims["iat"].as_u64().unwrap(),
                claims["exp"].as_u64().unwrap(),
            );
            // As strict as servers are: neither of the future, nor over, nor too long.
            let is_good = made <= theirs + 1 && ends > theirs && ends <= theirs + 61;
            let said = if is_good {
                granted()
            } else {
                // Not every server knows what is wrong with it.
                Said::error(
                    code,
                    if code == 400 {
                        "invalid_client"
                    } else {
                        "error"
                    },
                )
            };
            let at = UNIX_EPOCH + Duration::from_secs(theirs);
            said.with("date", httpdate::fmt_http_date(at))
        });
        let service = FakeService::accepting([TOKEN]);
        let settings = settings(&issuer, &service, "oauth2-client-credentials")
            .set("auth.client_auth", "private_key_jwt")
            .set("auth.client_id", "app")
            .file("auth.private_key_file", &key.pem);
        let sidecar = Sidecar::start(&settings);
        assert_eq!(status(&sidecar).await, 200, "{ahead}");
        assert_eq!(issuer.call_count(), 2, "{ahead}");
    }
}

#[tokio::test]
async fn a_response_that_is_dated_wrongly_does_not_spoil_assertions_that_are_accepted() {
    let key = ClientKey::p256();
    let issuer = FakeIssuer::start(|call| {
        let (_, claims) = parts(&field(call, "client_assertion").unwrap());
        let made = claims["iat"].as_u64().unwrap();
        let at = UNIX_EPOCH + Duration::from_secs(now() + 600);
        if made.abs_diff(now()) > 5 {
            return Said::error(401, "invalid_client");
        }
        let token = json!({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 1});
        Said::json(200, &token).with("date", httpdate::fmt_http_date(at))
    });
    let service = FakeService::accepting([TOKEN]);
    let settings = settings(&issuer, &service, "oauth2-client-credentials")
        .set("auth.client_auth", "private_key_jwt")
        .set("auth.client_id", "app")
        .file("auth.private_key_file", &key.pem);
    let sidecar = Sidecar::start(&settings);
    eventually(|| issuer.call_count() > 3, SOON).await;
    let (_, metrics) = sidecar.admin_get("/metrics").await;
    let refused = metrics
        .lines()
        .find(|line| line.contains("token_refresh_total") && line.contains("invalid_client"));
    assert!(
        refused.is_none_or(|line| line.ends_with(" 0")),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_secret_that_servers_read_in_two_ways_is_tried_in_the_other_one_and_that_is_kept() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};

    let issuer = FakeIssuer::start(|call| {
        let basic = call.headers["authorization"].to_str().unwrap();
        let pair = STANDARD
            .decode(basic.strip_prefix("Basic ").unwrap())
            .unwrap();
        match pair.as_slice() {
            b"app:a+b/c%d" => granted(),
            b"app:a%2Bb%2Fc%25d" => Said {
                status: 403,
                fields: Vec::new(),
                body: String::new(),
            },
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    });
    let service = FakeService::accepting([TOKEN]);
    let settings = settings(&issuer, &service, "oauth2-client-credentials")
        .set("auth.client_id", "app")
        .set("auth.client_secret", "a+b/c%d");
    let sidecar = Sidecar::start(&settings);
    assert_eq!(status(&sidecar).await, 200);
    assert_eq!(issuer.call_count(), 2);
    let url = format!("{}/refresh", sidecar.admin_url());
    crate::support::request("POST", &url, &[("x-auth-sidecar", "1")], "").await;
    eventually(|| issuer.call_count() == 3, SOON).await;
    assert_eq!(status(&sidecar).await, 200);
}

#[tokio::test]
async fn tokens_that_are_bound_to_a_key_are_said_not_to_be_supported() {
    let service = FakeService::accepting([TOKEN]);
    for (answer, words) in [
        (
            Said::json(200, &json!({"access_token": TOKEN, "token_type": "DPoP"})),
            "the token_type is DPoP",
        ),
        (Said::error(400, "use_dpop_nonce"), "DPoP (RFC 9449)"),
        (Said::error(400, "invalid_dpop_proof"), "DPoP (RFC 9449)"),
    ] {
        let issuer = FakeIssuer::start(move |_| answer.clone());
        let settings = settings(&issuer, &service, "oauth2-client-credentials")
            .set("auth.client_id", "app")
            .set("auth.client_secret", "s")
            .set("auth.hold_timeout", "0s");
        let sidecar = Sidecar::start(&settings);
        said(&sidecar, words).await;
    }
}
