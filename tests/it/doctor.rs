//! The doctor: what it finds, in words, and what it never says.

use std::{fs::Permissions, os::unix::fs::PermissionsExt};

use serde_json::json;

use crate::outbound::{Proxy, instance, through};
use crate::support::{
    API_TOKEN, Answer, CLIENT_SECRET, FakeCsp, FakeIssuer, FakeService, MESSAGE_CANARY, ORG_ID,
    Process, Said, Settings, Sidecar, TOKEN_CANARY, Validator, jwt, refused_address,
};

const STATIC_TOKEN: &str = "canary-static-token-1f2e3d4c";

/// What the doctor said of some settings.
struct Report {
    code: i32,
    text: String,
    errors: String,
}

impl Report {
    async fn of(settings: &Settings) -> Self {
        Self::with(settings, &[]).await
    }

    async fn with(settings: &Settings, arguments: &[&str]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let config = settings.write(files.path());
        let run = ["doctor", "--config", config.to_str().unwrap()];
        let arguments: Vec<&str> = run.iter().chain(arguments).copied().collect();
        let mut process = Process::spawn(&arguments, &[]);
        let code = process.wait().await.code().unwrap();
        let (text, errors) = (process.stdout(), process.stderr());
        for secret in [
            CLIENT_SECRET,
            API_TOKEN,
            STATIC_TOKEN,
            TOKEN_CANARY,
            MESSAGE_CANARY,
        ] {
            assert!(!text.contains(secret), "{text}");
            assert!(!errors.contains(secret), "{errors}");
        }
        Self { code, text, errors }
    }

    /// The lines about a subject.
    fn lines(&self, subject: &str) -> Vec<&str> {
        let about = |line: &&str| line.get(9..).is_some_and(|rest| rest.starts_with(subject));
        self.text.lines().filter(about).collect()
    }

    /// Asserts that the one line about a subject begins with the verdict and holds the words.
    #[track_caller]
    fn assert(&self, verdict: &str, subject: &str, words: &[&str]) {
        let lines = self.lines(subject);
        let [line] = lines.as_slice() else {
            panic!("not one line about {subject}: {}{}", self.text, self.errors);
        };
        assert!(line.starts_with(verdict), "{line}");
        for word in words {
            assert!(line.contains(word), "{word}: {line}");
        }
    }
}

fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.unwrap().as_secs()
}

/// A token like those of CSP, whose `sub` nobody needs to see.
fn grant(more: &serde_json::Value) -> Answer {
    let mut claims = json!({
        "iss": "https://issuer.example",
        "azp": "the-app",
        "context_name": ORG_ID,
        "perms": ["external/1/aoa:directDataIngestion", "csp:org_member"],
        "iat": now(),
        "exp": now() + 1799,
    });
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    Answer::grant(jwt(&claims), 1799)
}

#[tokio::test]
async fn what_works_is_shown_step_by_step() {
    let csp = FakeCsp::start();
    csp.expect_org(ORG_ID);
    csp.script([grant(&json!({}))]);
    let service = FakeService::start(csp.validator());
    let report = Report::of(&Settings::new(&csp, &service).set("auth.org_id", ORG_ID)).await;
    assert_eq!(report.code, 0, "{}{}", report.text, report.errors);
    report.assert("ok", "configuration", &["auth-sidecar.toml is right"]);
    report.assert("ok", "token", &["got one in", "29m 59s"]);
    report.assert(
        "ok",
        "claims",
        &[
            "issuer https://issuer.example",
            "app the-app",
            ORG_ID,
            "ends in 29m",
        ],
    );
    report.assert(
        "ok",
        "permissions",
        &["directDataIngestion", "may send data"],
    );
    report.assert("ok", "service", &["/api/v2/source?limit=1 with 200"]);
    report.assert("ok", "clock", &["agrees"]);
    assert!(report.text.ends_with("The sidecar can do its work.\n"));
    let asked = service.requests();
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].target, "/api/v2/source?limit=1");
}

#[tokio::test]
async fn a_refused_credential_is_explained() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let wrong_secret = Settings::new(&csp, &service).set("auth.client_secret", "wrong");
    let unknown_client = Settings::new(&csp, &service).set("auth.client_id", "nobody");
    let wrong_api_token = Settings::api_token(&csp, &service).set("auth.api_token", "wrong");
    for (settings, word) in [
        (wrong_secret, "auth.client_id"),
        (unknown_client, "auth.client_id"),
        (wrong_api_token, "API token"),
    ] {
        let report = Report::of(&settings).await;
        assert_eq!(report.code, 1);
        report.assert(
            "failed",
            "token",
            &["127.0.0.1: status 40", word, "auth.preset"],
        );
        report.assert("warning", "service", &["not tried"]);
        assert!(report.text.ends_with("One thing has failed; see above.\n"));
    }
    assert_eq!(service.requests().len(), 0);
}

#[tokio::test]
async fn what_answers_in_place_of_a_token_service_is_explained() {
    let mut csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).set("auth.request_timeout", "500ms");
    for (answer, words) in [
        (Answer::Html200, ["no JSON", "sign-in page"]),
        (Answer::Html503, ["status 503", "try again later"]),
        (
            Answer::rate_limited("30"),
            ["status 429", "asks to wait 30s"],
        ),
        (
            Answer::Status(403, String::new(), Vec::new()),
            ["firewall", "client_secret_post"],
        ),
        (
            Answer::Status(401, String::new(), Vec::new()),
            ["rejects a client without a word", "auth.client_id"],
        ),
        (Answer::Hang, ["no response in time", "firewall"]),
        (Answer::Reset, ["exchange failed", "nothing responds there"]),
    ] {
        csp.script([answer]);
        let report = Report::of(&settings).await;
        assert_eq!(report.code, 1);
        let line = report.lines("token")[0].to_lowercase();
        for word in words {
            assert!(line.contains(&word.to_lowercase()), "{word}: {line}");
        }
    }
    csp.stop();
    let report = Report::of(&settings).await;
    report.assert(
        "failed",
        "token",
        &["cannot connect", "Nothing responds there"],
    );
}

#[tokio::test]
async fn a_name_without_an_address_is_explained() {
    let settings = Settings::to("https://nowhere.invalid")
        .set("auth.type", "static-token")
        .set("auth.token", STATIC_TOKEN);
    let report = Report::of(&settings).await;
    assert_eq!(report.code, 1);
    report.assert(
        "failed",
        "names",
        &["nowhere.invalid (upstream.url)", "spelling"],
    );
    report.assert("failed", "service", &["cannot resolve", "upstream.url"]);
    report.assert("ok", "claims", &["opaque"]);
}

#[tokio::test]
async fn what_the_service_answers_is_explained() {
    let service = FakeService::accepting([STATIC_TOKEN]);
    let settings = Settings::static_token(STATIC_TOKEN, &service);
    for (path, code, verdict, word) in [
        ("/x", 0, "ok", "accepts the token"),
        ("/always401", 1, "failed", "organisation"),
        ("/status/403", 0, "warning", "the role for it"),
        ("/status/404", 0, "warning", "--path"),
        ("/status/503", 1, "failed", "not checked"),
    ] {
        let report = Report::with(&settings, &["--path", path]).await;
        assert_eq!(report.code, code, "{}", report.text);
        report.assert(verdict, "service", &[word, path]);
    }
    service.accept(Validator::of(["another"]));
    let report = Report::of(&settings).await;
    report.assert("failed", "service", &["with 401", "upstream.url"]);
}

#[tokio::test]
async fn a_service_that_is_not_there_is_explained() {
    let (address, _socket) = refused_address();
    let settings = Settings::to(&format!("http://{address}"))
        .set("auth.type", "static-token")
        .set("auth.token", STATIC_TOKEN);
    let report = Report::of(&settings).await;
    assert_eq!(report.code, 1);
    report.assert("failed", "service", &["cannot connect", "firewall"]);
}

#[tokio::test]
async fn a_certificate_that_nobody_trusts_is_explained_on_each_leg() {
    let csp = FakeCsp::start_tls();
    let service = FakeService::start_tls(csp.validator());
    let settings = Settings::new(&csp, &service);
    let both = settings
        .file("auth.ca_file", csp.ca_pem())
        .file("upstream.ca_file", service.ca_pem());
    let report = Report::of(&both).await;
    assert_eq!(report.code, 0, "{}", report.text);

    let wrong = both.clone().file("auth.ca_file", service.ca_pem());
    let report = Report::of(&wrong).await;
    report.assert(
        "failed",
        "token",
        &["Nobody whom this machine trusts", "set auth.ca_file"],
    );

    let wrong = both.file("upstream.ca_file", csp.ca_pem());
    let report = Report::of(&wrong).await;
    report.assert(
        "failed",
        "service",
        &["Nobody whom this machine trusts", "set upstream.ca_file"],
    );
}

#[tokio::test]
async fn a_missing_permission_and_a_wrong_clock_are_warnings() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let hour = 3600;
    csp.script([grant(&json!({
        "perms": ["external/1/aoa:viewer"],
        "iat": now() + hour,
        "nbf": now() + hour,
        "exp": now() + hour + 1799,
    }))]);
    let report = Report::of(&Settings::new(&csp, &service)).await;
    assert_eq!(report.code, 0, "{}", report.text);
    report.assert("warning", "permissions", &["403"]);
    report.assert("warning", "claims", &["not valid before in "]);
    report.assert("warning", "clock", &["behind that of the token service"]);
}

#[tokio::test]
async fn a_running_sidecar_is_recognised_and_another_program_is_not_taken_for_one() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service);
    let sidecar = Sidecar::start(&settings);
    sidecar.ready().await;
    let admin = sidecar.admin_url().replace("http://", "");
    let listen = sidecar.proxy_address().to_string();
    let same = settings
        .clone()
        .set("admin.address", admin)
        .set("listen.address", listen.clone());
    let report = Report::of(&same).await;
    assert_eq!(report.code, 0, "{}", report.text);
    report.assert("ok", "listeners", &["a sidecar is running, and is ready"]);

    let other = settings
        .set("admin.address", "off")
        .set("listen.address", listen.clone());
    let report = Report::of(&other).await;
    assert_eq!(report.code, 1);
    report.assert("failed", "listeners", &[&listen, "another program"]);
}

#[tokio::test]
async fn a_readable_secret_is_a_warning_and_a_wrong_configuration_no_diagnosis() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::new(&csp, &service).unset("auth.client_secret");
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, CLIENT_SECRET).unwrap();
    std::fs::set_permissions(&secret, Permissions::from_mode(0o644)).unwrap();
    let readable = settings
        .clone()
        .set("auth.client_secret_file", secret.to_str().unwrap());
    let report = Report::of(&readable).await;
    assert_eq!(report.code, 0, "{}", report.text);
    report.assert(
        "warning",
        "configuration",
        &["every user of this machine can read"],
    );

    let report = Report::of(&settings).await;
    assert_eq!(report.code, 2);
    assert!(report.text.is_empty() && report.errors.contains("auth.client_secret"));
}

#[tokio::test]
async fn an_api_token_that_ends_soon_is_a_warning() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::api_token(&csp, &service);
    let day = 24 * 60 * 60;
    for (details, verdict, word) in [
        (json!({"expiresAt": now() + 100 * day}), "ok", "ends at 20"),
        (
            json!({"expiresAt": now() + 3 * day + 60}),
            "warning",
            "in 3 days",
        ),
        (
            json!({"expiresAt": now() - 730 * day - 60}),
            "failed",
            "ended 730 days ago, at 20",
        ),
        (json!({"expiresAt": 0}), "ok", "does not end"),
    ] {
        csp.api_token_details(details);
        let report = Report::of(&settings).await;
        report.assert(
            verdict,
            "credentials",
            &["api token (auth.api_token) ", word],
        );
        assert_eq!(report.code, i32::from(verdict == "failed"));
    }
}

#[tokio::test]
async fn a_name_that_only_the_proxy_can_look_up_is_no_failure() {
    let service = instance();
    let proxy = Proxy::to(service.address());
    let report = Report::of(&through(&proxy.url(), &service)).await;
    assert_eq!(report.code, 0, "{}", report.text);
    report.assert("ok", "service", &["instance.test", "with 200"]);
    assert_eq!(report.lines("names"), [""; 0], "{}", report.text);
    assert_eq!(proxy.heads().len(), 1);
}

#[tokio::test]
async fn a_name_on_a_way_without_the_proxy_is_still_looked_up() {
    let service = instance();
    let proxy = Proxy::to(service.address());
    let around = through(&proxy.url(), &service).set("upstream.no_proxy", "instance.test");
    let report = Report::of(&around).await;
    assert_eq!(report.code, 1);
    report.assert("failed", "names", &["instance.test (upstream.url)"]);
    let unknown = through("http://proxy.invalid:3128", &service);
    let report = Report::of(&unknown).await;
    report.assert("failed", "names", &["proxy.invalid (upstream.proxy_url)"]);
}

#[tokio::test]
async fn each_error_code_has_its_own_advice_and_the_services_words() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::oauth2(&csp, &service);
    for (status, code, description, words) in [
        (400, "invalid_request", "", "auth.endpoint_params"),
        (
            401,
            "invalid_client",
            "AADSTS7000215: Invalid client secret provided.",
            "shown once",
        ),
        (400, "invalid_grant", "", "copied whole"),
        (400, "unauthorized_client", "", "client credentials grant"),
        (400, "unsupported_grant_type", "", "auth.type"),
        (
            400,
            "invalid_scope",
            "AADSTS1002012: The provided value for scope is not valid.",
            "must end in /.default",
        ),
        (403, "access_denied", "", "lacks a role"),
        (400, "invalid_target", "", "audience"),
        (
            503,
            "temporarily_unavailable",
            "Come back later.",
            "were not checked",
        ),
    ] {
        let body = json!({"error": code, "error_description": description});
        csp.script([Answer::Status(status, body.to_string(), Vec::new())]);
        let report = Report::of(&settings).await;
        assert_eq!(report.code, 1);
        report.assert(
            "failed",
            "token",
            &[&format!("status {status}, error {code}"), words],
        );
        let line = report.lines("token")[0];
        let said = format!("It says: \"{description}\".");
        assert_eq!(line.contains(&said), !description.is_empty(), "{line}");
        // Another secret is the remedy of these alone.
        let blames_secret = line.contains("is the present");
        assert_eq!(
            blames_secret,
            ["invalid_client", "invalid_grant"].contains(&code),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_clock_that_differs_from_that_of_the_token_service_is_told_of() {
    let issuer = FakeIssuer::start(|_| {
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_secs(now() + 90);
        Said::error(401, "invalid_client").with("date", httpdate::fmt_http_date(at))
    });
    let service = FakeService::accepting_all();
    let settings = Settings::to(&service.url())
        .set("auth.type", "oauth2-client-credentials")
        .set("auth.token_url", issuer.url())
        .set("auth.client_id", "app")
        .set("auth.client_secret", "s");
    let report = Report::of(&settings).await;
    report.assert("warning", "clock", &["behind that of the token service"]);
}

#[tokio::test]
async fn each_provider_has_advice_of_its_own() {
    let service = FakeService::accepting_all();
    for (provider, more, status, body, words) in [
        (
            "keycloak",
            ("auth.realm", "r"),
            401,
            json!({"error": "unauthorized_client",
                "error_description": "Client not enabled to retrieve service account"}),
            "Service accounts roles",
        ),
        (
            "auth0",
            ("auth.domain", "e.example"),
            403,
            json!({"error": "access_denied",
                "error_description": "Client is not authorized to access the API."}),
            "Machine to Machine",
        ),
        (
            "entra",
            ("auth.tenant", "t"),
            400,
            json!({"error": "unauthorized_client",
                "error_description": "AADSTS700016: Application was not found in the directory."}),
            "knows no such application",
        ),
        (
            "okta",
            ("auth.domain", "e.example"),
            400,
            json!({"error": "invalid_scope", "error_description": "One or more scopes are not configured"}),
            "auth.authorization_server",
        ),
    ] {
        let issuer = FakeIssuer::start(move |_| Said::json(status, &body));
        let settings = Settings::to(&service.url())
            .set("auth.provider", provider)
            .set("auth.token_url", issuer.url())
            .set("auth.client_id", "app")
            // Longer than what stands in a message by chance.
            .set("auth.client_secret", CLIENT_SECRET)
            .set("auth.scopes", "a/.default")
            .set("auth.audience", "api");
        // A token_url needs no place, and one that is there all the same is no mistake.
        let settings = settings.set(more.0, more.1);
        let report = Report::of(&settings).await;
        report.assert("failed", "token", &[words]);
    }
}

#[tokio::test]
async fn an_organisation_that_is_not_known_is_no_trouble_that_passes() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    for status in [400, 404, 409] {
        let body = json!({
            "message": "organization not found",
            "statusCode": status,
            "moduleCode": 300,
            "requestId": "9d7c3e55",
        });
        csp.script([Answer::Status(status, body.to_string(), Vec::new())]);
        let report = Report::of(&Settings::new(&csp, &service)).await;
        report.assert(
            "failed",
            "token",
            &["auth.org_id", "long identifier", "requestId 9d7c3e55"],
        );
        assert!(!report.text.contains("try again later"), "{}", report.text);
    }
}

#[tokio::test]
async fn a_description_never_shows_a_credential() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::oauth2(&csp, &service).set("auth.client_secret", "hunter");
    for (description, shown) in [
        // As long as it is nothing that anybody could know for a secret by its form.
        ("the value hunter is wrong".to_owned(), false),
        (
            format!("the token {TOKEN_CANARY}-0a1b2c3d4e5f was refused\u{1b}[2J"),
            true,
        ),
        (
            format!("see https://h.example/?secret={CLIENT_SECRET} for more"),
            true,
        ),
    ] {
        let body = json!({"error": "invalid_client", "error_description": description});
        csp.script([Answer::Status(401, body.to_string(), Vec::new())]);
        let report = Report::of(&settings).await;
        let line = report.lines("token")[0];
        assert_eq!(line.contains("It says: "), shown, "{line}");
        assert!(
            !line.contains("hunter") && !line.contains('\u{1b}'),
            "{line}"
        );
    }
}

#[tokio::test]
async fn a_secret_that_is_echoed_in_another_spelling_or_cut_off_is_not_shown() {
    let csp = FakeCsp::start();
    let service = FakeService::start(csp.validator());
    let settings = Settings::oauth2(&csp, &service).set("auth.client_secret", "o sesame");
    for description in [
        "the value o%20sesame is wrong".to_owned(),
        "the value o+sesame is wrong".to_owned(),
        "the value o\\u0020sesame is wrong".to_owned(),
        format!("{}o sesame is wrong", "word ".repeat(59)),
    ] {
        let body = json!({"error": "invalid_client", "error_description": description});
        csp.script([Answer::Status(401, body.to_string(), Vec::new())]);
        let report = Report::of(&settings).await;
        let line = report.lines("token")[0];
        assert!(line.contains("invalid_client"), "{line}");
        assert!(!line.contains("sesa") && !line.contains(" o "), "{line}");
    }
}

#[tokio::test]
async fn a_certificate_that_has_ended_is_told_with_key_and_file() {
    let service = FakeService::accepting([STATIC_TOKEN]);
    let mut parameters = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap();
    parameters.not_after = rcgen::date_time_ymd(2024, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    let ended = parameters.self_signed(&key).unwrap().pem();
    let settings = Settings::static_token(STATIC_TOKEN, &service).file("upstream.ca_file", &ended);
    let report = Report::of(&settings).await;
    assert_eq!(report.code, 1, "{}", report.text);
    report.assert(
        "failed",
        "credentials",
        &[
            "upstream ca (upstream.ca_file: /",
            "/upstream.ca_file) ended ",
            " days ago, at 2024-01-01",
        ],
    );
}

#[tokio::test]
async fn programs_get_the_findings_as_json() {
    let service = FakeService::accepting([STATIC_TOKEN]);
    let settings = Settings::static_token(STATIC_TOKEN, &service);
    for (path, code) in [("/x", 0), ("/always401", 1)] {
        let report = Report::with(&settings, &["--output", "json", "--path", path]).await;
        assert_eq!(report.code, code);
        let document: serde_json::Value = serde_json::from_str(&report.text).unwrap();
        assert_eq!(document["healthy"], code == 0);
        let findings = document["findings"].as_array().unwrap();
        let service = findings
            .iter()
            .find(|one| one["subject"] == "service")
            .unwrap();
        assert_eq!(service["verdict"], if code == 0 { "ok" } else { "failed" });
        assert!(service["text"].as_str().unwrap().contains(path));
    }
}
