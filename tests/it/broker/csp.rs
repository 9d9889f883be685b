//! Clients of VMware Cloud Services: its two paths, its shape, and a lifetime that they can live with.

use super::{API_TOKEN, APP, GRANT, TELEGRAF, TOKEN, ask, basic, has_line, list, post, settings};
use crate::support::{FakeCsp, FakeService, Settings, Sidecar};

#[tokio::test]
async fn a_client_of_csp_gets_its_token_in_the_shape_that_it_knows() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let sidecar = Sidecar::start(&settings(&csp, &service));
    let url = |path: &str| format!("{}{path}", sidecar.broker_url());
    let authorization = basic("app-id", TELEGRAF);
    let app = [("authorization", authorization.as_str())];
    let org = format!("{GRANT}&orgId=5c1f0b7e");
    // One of the clients has a base URL that ends in a slash, and sends two.
    for (path, fields, body) in [
        (APP, &app[..], GRANT),
        (APP, &app, &org),
        (&*format!("/{APP}"), &app, GRANT),
        (API_TOKEN, &[], &format!("api_token={TELEGRAF}")),
        (
            API_TOKEN,
            &[],
            &format!("grant_type=api_token&refresh_token={TELEGRAF}"),
        ),
        (
            &*format!("/{API_TOKEN}"),
            &[],
            &format!("grant_type=api_token&api_token={TELEGRAF}"),
        ),
    ] {
        let reply = post(&url(path), fields, body).await;
        assert_eq!(reply.status, 200, "{path} {body} {reply:?}");
        let granted = reply.json();
        assert_eq!(granted["access_token"], FakeCsp::token(1));
        assert_eq!(granted["token_type"], "bearer");
        assert!(granted["expires_in"].as_u64().unwrap() > 1700);
        // A client of it fails at fields that it does not know.
        assert_eq!(granted.as_object().unwrap().len(), 3, "{granted}");
    }
    let line = r#"auth_sidecar_broker_tokens_total{client="telegraf",endpoint="csp"} 6"#;
    assert!(has_line(&sidecar, line).await);
    for (path, fields, body, status) in [
        (APP, &app[..], "grant_type=password", 400),
        (APP, &[], GRANT, 401),
        (API_TOKEN, &[], "api_token=guess", 400),
        (API_TOKEN, &app, "grant_type=api_token", 400),
    ] {
        let reply = post(&url(path), fields, body).await;
        assert_eq!(reply.status, status, "{path} {body}");
        let error = reply.json();
        assert_eq!(error["statusCode"], status);
        assert_eq!(error["moduleCode"], 340);
        for field in ["cspErrorCode", "message", "requestId", "traceId"] {
            assert!(!error[field].as_str().unwrap().is_empty(), "{error}");
        }
        assert_eq!(error.get("error"), None);
    }
}

#[tokio::test]
async fn the_lifetime_for_clients_of_csp_makes_none_of_them_loop_and_others_get_the_true_one() {
    for (lifetime, csp_says, oauth2_says) in [
        (3, 31..=31, 1..=2),
        (40, 31..=36, 16..=36),
        (60, 31..=55, 25..=55),
    ] {
        let csp = FakeCsp::start();
        csp.lifetime(lifetime);
        let service = FakeService::start(csp.validator());
        let sidecar = Sidecar::start(&settings(&csp, &service));
        for path in [APP, API_TOKEN] {
            let said = ask(&sidecar, path).await.json()["expires_in"].as_u64();
            assert!(csp_says.contains(&said.unwrap()), "{lifetime}: {said:?}");
        }
        let said = ask(&sidecar, TOKEN).await.json()["expires_in"].as_u64();
        assert!(oauth2_says.contains(&said.unwrap()), "{lifetime}: {said:?}");
    }
    // A token that does not end can be replaced in its file at any time.
    let service = FakeService::accepting(["fixed"]);
    let fixed = Settings::static_token("fixed", &service)
        .set("broker.address", "127.0.0.1:0")
        .file("broker.client_tokens_file", &list());
    let sidecar = Sidecar::start(&fixed);
    assert_eq!(ask(&sidecar, APP).await.json()["expires_in"], 300);
    assert_eq!(ask(&sidecar, TOKEN).await.json()["expires_in"], 300);
}
