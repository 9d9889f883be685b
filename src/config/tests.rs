//! The configuration as a whole, without touching the environment of the process.

mod client_auth;
mod legs;
mod providers;
mod text;
mod token_service;

use std::{collections::BTreeSet, path::Path, time::Duration};

use secrecy::ExposeSecret;

use super::*;
use crate::token::endpoint::{BasicEncoding, ClientAuth, FormValue};

const CANARY: &str = "c4n4ry-s3cret";

/// The least that works.
const APP: [(&str, &str); 3] = [
    ("WAVEFRONT_URL", "https://example.wavefront.com/api/"),
    ("CSP_APP_ID", "app"),
    ("CSP_APP_SECRET", CANARY),
];

/// A service, and nothing that proves who we are.
const URL: [(&str, &str); 1] = [("WAVEFRONT_URL", "https://h.example")];

fn environment(variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    Config::load(&Sources::of_environment(variables.iter().copied()))
}

fn with(base: &[(&'static str, &'static str)], more: &[(&str, &str)]) -> Vec<(String, String)> {
    let all = base.iter().chain(more);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn load_with(
    base: &[(&'static str, &'static str)],
    more: &[(&str, &str)],
) -> Result<Loaded, ConfigError> {
    Config::load(&Sources::of_environment(with(base, more)))
}

fn file(
    text: &str,
    variables: &[(&str, &str)],
) -> (tempfile::TempDir, Result<Loaded, ConfigError>) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.toml");
    std::fs::write(&path, text).unwrap();
    let mut sources = Sources::of_environment(variables.iter().copied());
    sources.flags.config = Some(path);
    (directory, Config::load(&sources))
}

/// The lines of the mistakes, of which none shows the canary.
fn mistakes(loaded: Result<Loaded, ConfigError>) -> Vec<String> {
    let text = loaded.unwrap_err().to_string();
    assert!(!text.contains(CANARY), "{text}");
    text.lines().map(str::to_owned).collect()
}

fn row<'a>(loaded: &'a Loaded, key: &str) -> (&'a str, &'a str) {
    let row = loaded.resolved.iter().find(|row| row.key == key).unwrap();
    (&row.value, &row.source)
}

#[expect(clippy::disallowed_methods, reason = "the test asks what was read")]
fn exposed(source: &SecretSource) -> String {
    source.read().unwrap().expose_secret().to_owned()
}

fn request(loaded: &Loaded) -> &TokenRequest {
    match &loaded.config.auth.credentials {
        Credentials::Endpoint(request) => request,
        Credentials::Static(_) => panic!("static"),
    }
}

fn secret(loaded: &Loaded) -> String {
    match &loaded.config.auth.credentials {
        Credentials::Static(source) => exposed(source),
        Credentials::Endpoint(request) => match &request.client_auth {
            ClientAuth::Basic { client_secret, .. } | ClientAuth::Post { client_secret, .. } => {
                exposed(&client_secret.current)
            }
            _ => request
                .form
                .iter()
                .find_map(|(_, value)| match value {
                    FormValue::Secret(named) => Some(exposed(&named.secret.current)),
                    _ => None,
                })
                .unwrap(),
        },
    }
}

#[test]
fn three_variables_are_a_complete_start() {
    let loaded = environment(&APP).unwrap();
    let config = &loaded.config;
    assert_eq!(
        config.upstream.url.as_str(),
        "https://example.wavefront.com/"
    );
    assert_eq!(
        config.listen.addresses,
        [plain_address("127.0.0.1:9797").unwrap()]
    );
    assert_eq!(
        config.admin.address,
        Some(plain_address("127.0.0.1:9798").unwrap())
    );
    assert_eq!(
        request(&loaded).url().host_str(),
        Some("console.cloud.vmware.com")
    );
    assert_eq!(secret(&loaded), CANARY);
    assert_eq!(config.proxy.hold_timeout, Duration::from_secs(8));
    assert_eq!(config.proxy.replay_body_limit, 1 << 20);
    assert_eq!(config.listen.server.drain_timeout, Duration::from_secs(25));
    assert!(config.warnings.is_empty());
    assert_eq!(
        row(&loaded, "auth.type"),
        ("csp-oauth-app", "environment variable CSP_APP_ID")
    );
}

#[test]
fn a_table_shows_each_value_with_its_place_and_no_secret() {
    let loaded = environment(&APP).unwrap();
    let table = loaded.to_string();
    assert!(!table.contains(CANARY) && !format!("{loaded:?}").contains(CANARY));
    assert_eq!(row(&loaded, "listen.workers"), ("0", "default"));
    assert_eq!(
        row(&loaded, "auth.client_secret"),
        ("(set)", "environment variable CSP_APP_SECRET")
    );
    assert_eq!(row(&loaded, "auth.org_id"), ("(not set)", "default"));
    let columns = |line: &str| {
        line.split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let first = columns(table.lines().next().unwrap());
    assert_eq!(first, ["listen.address", "127.0.0.1:9797", "default"]);
    assert_eq!(table.lines().count(), loaded.resolved.len());
}

#[test]
fn each_variable_of_the_ecosystem_implies_its_kind() {
    let token = load_with(&URL, &[("WAVEFRONT_TOKEN", CANARY)]).unwrap();
    assert!(matches!(
        token.config.auth.credentials,
        Credentials::Static(_)
    ));
    assert_eq!(secret(&token), CANARY);

    let api_token = [
        ("CSP_API_TOKEN", CANARY),
        ("CSP_API_URL", "https://csp.example/"),
    ];
    let api_token = load_with(&URL, &api_token).unwrap();
    assert_eq!(request(&api_token).url().host_str(), Some("csp.example"));
    assert_eq!(secret(&api_token), CANARY);

    let organisation = load_with(&APP, &[("CSP_ORG_ID", "org")]).unwrap();
    let has_org = |(name, value): &(String, FormValue)| {
        name == "orgId" && *value == FormValue::Plain("org".to_owned())
    };
    assert!(request(&organisation).form.iter().any(has_org));
}

#[test]
fn each_variable_of_the_ecosystem_may_name_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (url, secret_file) = (file("url", "https://h.example\n"), file("secret", "old\n"));
    let (id, org) = (file("id", "app\n"), file("org", "org\n"));
    let loaded = environment(&[
        ("WAVEFRONT_URL_FILE", &url),
        ("CSP_APP_ID_FILE", &id),
        ("CSP_ORG_ID_FILE", &org),
        ("CSP_APP_SECRET_FILE", &secret_file),
    ])
    .unwrap();
    assert_eq!(loaded.config.upstream.url.as_str(), "https://h.example/");
    assert_eq!(
        row(&loaded, "upstream.url").1,
        format!("environment variable WAVEFRONT_URL_FILE, file {url}")
    );
    assert_eq!(row(&loaded, "auth.client_secret_file").0, secret_file);
    assert_eq!(secret(&loaded), "old");
    file("secret", "new\n");
    assert_eq!(secret(&loaded), "new");

    let both = mistakes(load_with(&APP, &[("WAVEFRONT_URL_FILE", &url)]));
    assert!(both[0].contains("WAVEFRONT_URL_FILE") && both[0].contains("also by WAVEFRONT_URL;"));
    let both = mistakes(load_with(&APP, &[("CSP_APP_SECRET_FILE", &secret_file)]));
    assert!(both[0].contains("CSP_APP_SECRET)") && both[0].contains("CSP_APP_SECRET_FILE"));
    let gone = mistakes(environment(&[
        ("WAVEFRONT_URL_FILE", "/nonexistent"),
        ("WAVEFRONT_TOKEN", CANARY),
    ]));
    assert_eq!(gone.len(), 1, "{gone:?}");
    assert!(gone[0].contains("cannot read the file /nonexistent"));
}

#[test]
fn values_of_the_environment_are_never_parsed() {
    for text in [
        "0123", "1.50", "true", "+5", "{abc=1}", "\"abc\"", " padded ", "a,b", "[x]",
    ] {
        let loaded = load_with(&URL, &[("CSP_APP_ID", "app"), ("CSP_APP_SECRET", text)]).unwrap();
        assert_eq!(secret(&loaded), text);
        let key = "AUTH_SIDECAR_AUTH__CLIENT_SECRET";
        let loaded = load_with(&URL, &[("CSP_APP_ID", "app"), (key, text)]).unwrap();
        assert_eq!(secret(&loaded), text);
    }
    let loaded = load_with(&APP, &[("AUTH_SIDECAR_AUTH__CLIENT_ID", "0123")]).unwrap();
    let ClientAuth::Basic { client_id, .. } = &request(&loaded).client_auth else {
        panic!()
    };
    assert_eq!(client_id, "0123");
}

#[test]
fn a_flag_beats_the_environment_the_environment_the_file_and_the_file_the_default() {
    let text = "[listen]\naddress = '127.0.0.1:1'\n[log]\nlevel = 'error'\n[admin]\naddress='off'\n\
                [upstream]\nurl='https://file.example'";
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.toml");
    std::fs::write(&path, text).unwrap();
    let mut sources = Sources::of_environment(with(
        &APP,
        &[
            ("AUTH_SIDECAR_CONFIG", path.to_str().unwrap()),
            ("AUTH_SIDECAR_LISTEN__ADDRESS", "127.0.0.1:2"),
            ("AUTH_SIDECAR_LOG__LEVEL", "debug"),
            ("AUTH_SIDECAR_UPSTREAM__URL", "https://own.example"),
        ],
    ));
    sources.flags.listen = Some("127.0.0.1:3,[::1]:4".to_owned());
    let loaded = Config::load(&sources).unwrap();
    assert_eq!(
        row(&loaded, "listen.address"),
        ("127.0.0.1:3,[::1]:4", "flag --listen")
    );
    assert_eq!(loaded.config.listen.addresses.len(), 2);
    assert_eq!(
        row(&loaded, "log.level"),
        ("debug", "environment variable AUTH_SIDECAR_LOG__LEVEL")
    );
    // Our own names beat those of the ecosystem.
    assert_eq!(
        row(&loaded, "upstream.url"),
        (
            "https://own.example",
            "environment variable AUTH_SIDECAR_UPSTREAM__URL"
        )
    );
    let place = format!("file {}:6", path.display());
    assert_eq!(row(&loaded, "admin.address"), ("off", place.as_str()));
    assert_eq!(loaded.config.admin.address, None);
    assert_eq!(row(&loaded, "log.format"), ("text", "default"));
}

#[test]
fn an_empty_variable_is_unset() {
    let empty = [
        ("CSP_API_TOKEN", ""),
        ("WAVEFRONT_TOKEN_FILE", ""),
        ("AUTH_SIDECAR_LISTEN__ADDRESS", ""),
        ("AUTH_SIDECAR_NONSENSE", ""),
        ("AUTH_SIDECAR_CONFIG", ""),
    ];
    let loaded = load_with(&APP, &empty).unwrap();
    assert_eq!(row(&loaded, "listen.address").1, "default");
    assert_eq!(mistakes(load_with(&URL, &[("CSP_APP_ID", "")])).len(), 1);
}

#[test]
fn variables_of_others_are_left_alone() {
    let others = [
        ("PATH", "/bin"),
        ("AUTH_SIDECAR_PORT", "tcp://10.0.0.1:9797"),
        ("AUTH_SIDECAR_SERVICE_HOST", "10.0.0.1"),
        ("CSP_SOMETHING", "x"),
    ];
    assert!(load_with(&APP, &others).is_ok());
}

#[test]
fn two_kinds_of_credentials_are_named_with_their_places() {
    let both = mistakes(load_with(&APP, &[("WAVEFRONT_TOKEN", CANARY)]));
    assert_eq!(
        both,
        [
            "auth.type (environment variable CSP_APP_ID): several kinds of credentials: \
          csp-oauth-app (environment variable CSP_APP_ID) and \
          static-token (environment variable WAVEFRONT_TOKEN); keep one"
        ]
    );
    let text = "[upstream]\nurl='https://h.example'\n[auth]\ntype='csp-api-token'\n\
                api_token='c4n4ry-s3cret'";
    let (_directory, loaded) = file(text, &[("CSP_APP_ID_FILE", "/x")]);
    let both = mistakes(loaded);
    assert!(both.iter().any(|line| {
        line.contains("test.toml:4") && line.contains("environment variable CSP_APP_ID_FILE")
    }));
    let own = [
        ("AUTH_SIDECAR_AUTH__TYPE", "static-token"),
        ("AUTH_SIDECAR_AUTH__TOKEN", "t"),
    ];
    assert!(mistakes(load_with(&APP, &own))[0].contains("AUTH_SIDECAR_AUTH__TYPE"));
}

#[test]
fn keys_of_another_kind_are_named() {
    let foreign = [
        ("AUTH_SIDECAR_AUTH__API_TOKEN", CANARY),
        ("AUTH_SIDECAR_AUTH__TOKEN_URL", "https://h.example"),
    ];
    let lines = mistakes(load_with(&APP, &foreign));
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("auth.api_token (environment variable AUTH_SIDECAR_AUTH__API"));
    assert!(
        lines[0].contains("belongs to auth.type csp-api-token, but auth.type is csp-oauth-app")
    );
}

#[test]
fn every_problem_is_reported_at_once() {
    let text = format!(
        "[listen]\nworkers = 'many'\ndrain_timeout = 25\nadress = '{CANARY}'\n\
         [upstream]\nurl = 'https://user:{CANARY}@h.example'\n\
         [auth]\ntype = 'csp-oauth-app'\nclient_secret = 12345\n\
         [{CANARY_TABLE}]\nx = '{CANARY}'\n[admin]\n",
        CANARY_TABLE = "monitoring"
    );
    let (directory, loaded) = file(&text, &[("AUTH_SIDECAR_LOG__FORMAT", CANARY)]);
    let lines = mistakes(loaded).join("\n");
    let lines = lines.replace(&format!("{}/", directory.path().display()), "");
    assert_eq!(
        lines,
        "listen.workers (file test.toml:2): must be a whole number from 0 to 1024\n\
         listen.drain_timeout (file test.toml:3): must be a time like \"500ms\", \"10s\" or \"5m\", \
         from 0s to 1h; the unit is missing\n\
         upstream.url (file test.toml:6): must not have a user name or a password\n\
         auth.client_id: missing; set auth.client_id or CSP_APP_ID\n\
         auth.client_secret (file test.toml:9): must be text in quotes\n\
         log.format (environment variable AUTH_SIDECAR_LOG__FORMAT): must be one of text, json\n\
         listen.adress (file test.toml:4): unknown key; did you mean listen.address \
         (AUTH_SIDECAR_LISTEN__ADDRESS)?\n\
         monitoring.x (file test.toml:11): unknown key; see the commented file \
         config/auth-sidecar.toml"
    );
}

#[test]
fn nothing_set_says_what_to_set() {
    assert_eq!(
        mistakes(environment(&[])),
        [
            "upstream.url: missing; set upstream.url, WAVEFRONT_URL or --upstream",
            "auth.type: missing; set auth.type, CSP_APP_ID and CSP_APP_SECRET, CSP_API_TOKEN or \
             WAVEFRONT_TOKEN"
        ]
    );
    assert_eq!(
        mistakes(load_with(&URL, &[("CSP_APP_ID", "app")])),
        [
            "auth.client_secret: missing; set auth.client_secret, auth.client_secret_file or \
          CSP_APP_SECRET"
        ]
    );
}

#[test]
fn a_syntax_error_names_line_and_column_and_quotes_nothing() {
    for (text, place) in [
        ("[auth]\nclient_secret = c4n4ry-s3cret", "test.toml:2:17"),
        ("[auth]\nclient_secret = \"c4n4ry-s3cret", "test.toml:2:"),
        (
            "[auth]\nclient_secret = 'c4n4ry-s3cret' 'x'",
            "test.toml:2:",
        ),
        (
            "[auth]\nclient_secret = \"\\c4n4ry-s3cret\"",
            "test.toml:2:",
        ),
        ("[auth]\na = 1\na = 'c4n4ry-s3cret'", "test.toml:3:"),
        ("[auth]\nclient_secret 'c4n4ry-s3cret'", "test.toml:2:"),
        ("auth = 'c4n4ry-s3cret'\nauth.x = 1", "test.toml:2:"),
    ] {
        let (_directory, loaded) = file(text, &[]);
        let lines = mistakes(loaded);
        assert_eq!(lines.len(), 1, "nothing is called missing: {lines:?}");
        assert!(
            lines[0].starts_with("config (file ") && lines[0].contains(place),
            "{lines:?}"
        );
        assert!(lines[0].contains("is no TOML"), "{lines:?}");
    }
}

#[test]
fn odd_shapes_of_a_file_are_problems() {
    for (text, expected) in [
        (
            "listen = 'c4n4ry-s3cret'",
            "listen (file test.toml:1): must be a section",
        ),
        ("[[auth]]\ntoken = 'c4n4ry-s3cret'", "must be a section"),
        (
            "url = 'c4n4ry-s3cret'",
            "url (file test.toml:1): unknown key; did you mean upstream.url",
        ),
        ("[nonsense]", "nonsense (file test.toml:1): unknown key"),
        (
            "[auth]\n'token.x' = 'c4n4ry-s3cret'",
            "auth.token.x (file test.toml:2): unknown key",
        ),
        (
            "[auth]\n'' = 'c4n4ry-s3cret'",
            "auth. (file test.toml:2): unknown key",
        ),
        (
            "auth.type = 'static-token'\n[auth.token]\nx = 'c4n4ry-s3cret'",
            "auth.token (file test.toml",
        ),
        (
            "[listen]\nworkers = 1.5",
            "listen.workers (file test.toml:2)",
        ),
        (
            "[listen]\nworkers = 99999999999999999999",
            "listen.workers (file test.toml:2)",
        ),
        (
            "[upstream]\nvia = 1979-05-27",
            "upstream.via (file test.toml:2)",
        ),
        (
            "[listen]\naddress = [['127.0.0.1:1']]",
            "listen.address (file test.toml:2)",
        ),
        (
            "[listen]\naddress = []",
            "listen.address (file test.toml:2): must hold at least one",
        ),
    ] {
        let (directory, loaded) = file(text, &[]);
        let lines = mistakes(loaded).join("\n");
        let lines = lines.replace(&format!("{}/", directory.path().display()), "");
        assert!(lines.contains(expected), "{text}: {lines}");
    }
    let (_directory, loaded) = file("[listen]\nmax_in_flight = 1_000\n[admin]\n", &APP);
    assert_eq!(loaded.unwrap().config.proxy.max_in_flight, 1000);
}

#[test]
fn keys_that_contradict_each_other_are_problems() {
    for (variables, expected) in [
        (
            &[("AUTH_SIDECAR_UPSTREAM__REPLAY_BODY_LIMIT", "32MiB")][..],
            "replay_buffer_total",
        ),
        (
            &[("AUTH_SIDECAR_ADMIN__ADDRESS", "127.0.0.1:9797")],
            "one of listen.address",
        ),
        (
            &[("AUTH_SIDECAR_UPSTREAM__URL", "http://localhost:9797")],
            "own listen.address",
        ),
        (
            &[("AUTH_SIDECAR_LISTEN__ADDRESS", "localhost:1,127.0.0.1:1")],
            "twice",
        ),
    ] {
        let lines = mistakes(load_with(&APP, variables));
        assert!(lines.len() == 1 && lines[0].contains(expected), "{lines:?}");
    }
    assert!(load_with(&APP, &[("AUTH_SIDECAR_LISTEN__ADDRESS", "[::1]:0,[::1]:0")]).is_ok());
}

#[test]
fn what_is_allowed_but_dangerous_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, CANARY).unwrap();
    let load = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        load_with(&URL, &[("WAVEFRONT_TOKEN_FILE", path.to_str().unwrap())]).unwrap()
    };
    assert!(load(0o440).config.warnings.is_empty());
    assert!(load(0o644).config.warnings[0].contains("auth.token_file: every user"));

    let plain = [
        ("AUTH_SIDECAR_UPSTREAM__URL", "http://h.example"),
        ("AUTH_SIDECAR_UPSTREAM__ALLOW_INSECURE_HTTP", "true"),
        ("CSP_API_URL", "http://csp.example"),
        ("AUTH_SIDECAR_AUTH__ALLOW_INSECURE_HTTP", "true"),
    ];
    let loaded = load_with(&APP, &plain).unwrap();
    assert_eq!(loaded.config.warnings.len(), 2);
    assert!(
        loaded
            .to_string()
            .contains("warning: upstream.url: the token travels unencrypted")
    );
}

#[test]
fn a_secret_file_is_looked_at() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let path = path.to_str().unwrap();
    let line = |path: &str| {
        let lines = mistakes(load_with(&URL, &[("WAVEFRONT_TOKEN_FILE", path)]));
        assert!(lines.len() == 1 && lines[0].starts_with("auth.token_file (environment"));
        lines[0].clone()
    };
    assert!(line(path).contains("cannot read"));
    assert!(line(directory.path().to_str().unwrap()).contains("regular file"));
    std::fs::write(path, "\n").unwrap();
    assert!(line(path).contains("is empty"));
    std::fs::write(path, format!("Bearer {CANARY}")).unwrap();
    assert!(line(path).contains("token alone"));
}

#[test]
fn secrets_given_as_values_are_looked_at() {
    for (name, value, expected) in [
        ("WAVEFRONT_TOKEN", " ", "must not be empty"),
        ("WAVEFRONT_TOKEN", "\n", "must not be empty"),
        ("WAVEFRONT_TOKEN", "Bearer c4n4ry-s3cret", "token alone"),
        ("CSP_API_TOKEN", "c4n4ry-s3cret\nx", "one line"),
    ] {
        let lines = mistakes(load_with(&URL, &[(name, value)]));
        assert!(lines.len() == 1 && lines[0].contains(expected), "{lines:?}");
    }
    let loaded = load_with(&URL, &[("CSP_API_TOKEN", "c4n4ry-s3cret\r\n")]).unwrap();
    assert_eq!(secret(&loaded), CANARY);
}

#[test]
fn any_oauth2_service_can_be_asked() {
    let text = "[upstream]\nurl='https://h.example'\n[auth]\ntype='oauth2-client-credentials'\n\
                token_url='https://login.example/token?tenant=x'\nclient_id='a:b'\n\
                client_secret='c4n4ry-s3cret'\nscopes=['read', 'write']\n\
                endpoint_params={ audience = 'api' }\n";
    let more = [(
        "AUTH_SIDECAR_AUTH__ENDPOINT_PARAMS__RESOURCE",
        "https://r.example",
    )];
    let (_directory, loaded) = file(text, &more);
    let loaded = loaded.unwrap();
    let plain = |name: &str, value: &str| (name.to_owned(), FormValue::Plain(value.to_owned()));
    assert_eq!(
        request(&loaded).form,
        [
            plain("grant_type", "client_credentials"),
            plain("scope", "read write"),
            plain("audience", "api"),
            plain("resource", "https://r.example"),
        ]
    );
    assert!(matches!(
        request(&loaded).client_auth,
        ClientAuth::Basic {
            encoding: BasicEncoding::FormUrlencoded,
            ..
        }
    ));
    assert_eq!(
        row(&loaded, "auth.token_url").0,
        "https://login.example/token?…"
    );
    assert_eq!(
        row(&loaded, "auth.endpoint_params").0,
        "{audience=(set), resource=(set)}"
    );

    let post = format!("{text}client_auth='client_secret_post'");
    let (_directory, loaded) = file(&post, &[]);
    assert!(matches!(
        request(&loaded.unwrap()).client_auth,
        ClientAuth::Post { .. }
    ));
    let (_directory, loaded) = file(&format!("{text}client_auth='basic'"), &[]);
    let expected = "must be one of client_secret_basic, client_secret_post, private_key_jwt";
    assert!(mistakes(loaded)[0].contains(expected));
    let scope = [("AUTH_SIDECAR_AUTH__ENDPOINT_PARAMS__SCOPE", "x")];
    let (_directory, loaded) = file(text, &scope);
    assert!(mistakes(loaded)[0].contains("must not have scope"));
}

#[test]
fn a_preset_and_rules_add_up_and_are_shown() {
    let allowed = |more: &[(&str, &str)]| load_with(&APP, more).unwrap();
    assert_eq!(allowed(&[]).config.proxy.allowed, None);
    let both = allowed(&[
        ("AUTH_SIDECAR_LISTEN__PRESET", "ingest-only"),
        ("AUTH_SIDECAR_LISTEN__ALLOW", "GET,HEAD /a/**; * /b;"),
    ]);
    let shown = both.to_string();
    assert!(
        shown.ends_with(
            "any other earns 403:\n  POST /report\n  POST /api/v2/wfproxy/**\n  \
             POST /api/v2/event\n  GET,HEAD /a/**\n  * /b\n"
        ),
        "{shown}"
    );
    let text = "[listen]\nallow = [\"GET /a b\", \"GET /ok\", \"/x\"]\npreset = \"write-only\"\n";
    let (directory, loaded) = file(text, &APP);
    let lines = mistakes(loaded).join("\n");
    let lines = lines.replace(&format!("{}/", directory.path().display()), "");
    for part in [
        "listen.preset (file test.toml:3): must be one of read-only, ingest-only",
        "listen.allow (file test.toml:2): rule 1 must have a path",
        "; rule 3 must be methods and a path",
    ] {
        assert!(lines.contains(part), "{lines}");
    }
    let (_directory, loaded) = file("[listen]\nallow = []\n", &APP);
    assert!(mistakes(loaded)[0].contains("must hold a rule"));
}

#[test]
fn text_that_is_not_utf_8_is_a_problem_for_our_variables_only() {
    use std::os::unix::ffi::OsStringExt;

    let odd = || OsString::from_vec(b"c4n4ry-s3cret\xff".to_vec());
    let mut sources = Sources::of_environment(APP);
    sources.environment.push(("LS_COLORS".into(), odd()));
    assert!(Config::load(&sources).is_ok());
    sources
        .environment
        .retain(|(name, _)| name != "CSP_APP_SECRET");
    sources.environment.push(("CSP_APP_SECRET".into(), odd()));
    assert_eq!(
        mistakes(Config::load(&sources)),
        ["auth.client_secret (environment variable CSP_APP_SECRET): must be UTF-8 text"]
    );
}

#[test]
fn debug_never_prints_a_secret() {
    let loaded = environment(&APP).unwrap();
    assert!(!format!("{loaded:?}").contains(CANARY));
}

/// The keys of a configuration file by its lines, set and only shown.
fn lines_of(text: &str) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut set, mut shown) = (BTreeSet::new(), BTreeSet::new());
    let mut section = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((key, _)) = line.split_once(" = ") {
            match key.strip_prefix('#') {
                Some(key) if key.starts_with(' ') => {}
                Some(key) => drop(shown.insert(format!("{section}.{key}"))),
                None => drop(set.insert(format!("{section}.{key}"))),
            }
        }
    }
    (set, shown)
}

#[test]
fn the_full_file_names_every_key_and_holds_every_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/auth-sidecar.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let (set, shown) = lines_of(&text);

    let mut known = BTreeSet::new();
    for kind in [
        "csp-oauth-app",
        "csp-api-token",
        "static-token",
        "oauth2-client-credentials",
    ] {
        let sources = Sources::of_environment([("AUTH_SIDECAR_AUTH__TYPE", kind)]);
        let mut reader = Reader::new(Layers::collect(&sources), None);
        assert!(sections::read(&mut reader).is_none());
        known.extend(reader.known().keys().cloned());
    }
    let named: BTreeSet<String> = set.union(&shown).cloned().collect();
    assert_eq!(named, known);
    assert!(known.len() > 40, "{}", known.len());

    let values = |sources: &Sources| {
        let rows = Config::load(sources).unwrap().resolved;
        rows.into_iter()
            .map(|row| (row.key, row.value))
            .collect::<Vec<_>>()
    };
    let defaults = Sources::of_environment(APP);
    let mut file = defaults.clone();
    file.flags.config = Some(path);
    assert_eq!(values(&defaults), values(&file));
}

#[test]
fn a_sandbox_is_the_default_and_its_absence_a_warning() {
    let loaded = environment(&APP).unwrap();
    assert!(loaded.config.process.sandbox);
    let off = [("AUTH_SIDECAR_PROCESS__SANDBOX", "false")];
    let loaded = load_with(&APP, &off).unwrap();
    assert!(!loaded.config.process.sandbox);
    let warning = loaded.config.warnings.join("\n");
    assert!(warning.starts_with("process.sandbox: "), "{warning}");
    let wrong = mistakes(load_with(&APP, &[("AUTH_SIDECAR_PROCESS__SANDBOX", "no")]));
    assert!(wrong[0].starts_with("process.sandbox (") && wrong.len() == 1);
}

#[test]
fn what_the_sidecar_writes_is_no_other_file_of_its_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name).display().to_string();
    for name in ["secret", "token"] {
        std::fs::write(at(name), CANARY).unwrap();
    }
    let auth = format!(
        "[upstream]\nurl = 'https://h.example'\n[auth]\ntype = 'oauth2-refresh-token'\n\
         token_url = 'https://t.example'\nclient_id = 'app'\nclient_secret_file = '{}'\n",
        at("secret")
    );
    for (refresh_token, log, expected) in [
        ("token", "log", None),
        ("secret", "log", Some("auth.refresh_token_file (")),
        ("token", "secret", Some("log.access_file (")),
        ("token", "./token", Some("log.access_file (")),
    ] {
        let (refresh_token, log) = (at(refresh_token), at(log));
        let text =
            format!("{auth}refresh_token_file = '{refresh_token}'\n[log]\naccess_file = '{log}'\n");
        let (_directory, loaded) = file(&text, &[]);
        let lines = match loaded {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        match expected {
            Some(expected) => assert!(
                lines.contains(expected) && lines.contains("is that of"),
                "{lines}"
            ),
            None => assert_eq!(lines, ""),
        }
    }
}
