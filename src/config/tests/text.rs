//! Text as people have it: marks, line ends and quotation marks that are no part of it.

use super::*;

const MARK: &str = "\u{feff}";

fn written(directory: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_file_may_begin_with_a_mark_and_end_its_lines_as_another_system_does() {
    let directory = tempfile::tempdir().unwrap();
    let secret_file = written(&directory, "secret", &format!("{MARK}{CANARY}\r\n"));
    let text = format!(
        "{MARK}[upstream]\r\nurl = \"https://h.example\"\r\n[auth]\r\ntype = \"csp-oauth-app\"\r\n\
         client_id = \"app\"\r\nclient_secret_file = \"{secret_file}\""
    );
    let (_directory, loaded) = file(&text, &[]);
    assert_eq!(secret(&loaded.unwrap()), CANARY);
    // Columns are counted without it.
    let (_directory, loaded) = file(&format!("{MARK}= 1"), &[]);
    assert!(mistakes(loaded)[0].contains("test.toml:1:1)"));
}

#[test]
fn a_variable_may_have_a_mark_and_the_line_ends_of_its_file() {
    let marked = format!("{MARK}https://h.example\r");
    let ended = format!("{CANARY}\r\n");
    let loaded = environment(&[
        ("WAVEFRONT_URL", &marked),
        ("CSP_APP_ID", "app\r"),
        ("CSP_APP_SECRET", &ended),
        ("AUTH_SIDECAR_UPSTREAM__VIA", "false\r"),
        ("AUTH_SIDECAR_LOG__LEVEL", "debug\n"),
    ])
    .unwrap();
    assert_eq!(secret(&loaded), CANARY);
    assert!(!loaded.config.proxy.via);
    assert!(
        loaded.config.warnings.is_empty(),
        "{:?}",
        loaded.config.warnings
    );

    let directory = tempfile::tempdir().unwrap();
    let url = written(&directory, "url", &format!("{MARK}https://h.example\r\n"));
    let config = written(&directory, "x.toml", "[upstream]\nvia = false\n");
    let config = format!("{config}\r");
    let loaded = environment(&[
        ("WAVEFRONT_URL_FILE", &url),
        ("WAVEFRONT_TOKEN", "a-token"),
        ("AUTH_SIDECAR_CONFIG", &config),
    ]);
    assert!(!loaded.unwrap().config.proxy.via);
}

/// An env file has left them: a shell would have taken them away, `docker --env-file` does not.
#[test]
fn quotation_marks_around_a_value_are_named() {
    let quoted = format!("\"{CANARY}\"");
    let loaded = load_with(
        &URL,
        &[("CSP_APP_ID", "'app'"), ("CSP_APP_SECRET", &quoted)],
    )
    .unwrap();
    // They may belong to it.
    assert_eq!(secret(&loaded), quoted);
    let warnings = &loaded.config.warnings;
    for key in [
        "auth.client_id (environment variable CSP_APP_ID)",
        "auth.client_secret (",
    ] {
        let named = warnings.iter().filter(|warning| warning.starts_with(key));
        assert_eq!(named.count(), 1, "{key}: {warnings:?}");
    }
    assert!(
        warnings
            .iter()
            .all(|warning| warning.contains("quotation marks"))
    );
    assert!(!warnings.concat().contains(CANARY));

    let directory = tempfile::tempdir().unwrap();
    let path = written(&directory, "secret", &format!("{quoted}\n"));
    let more = [
        ("CSP_APP_ID", "app"),
        ("CSP_APP_SECRET_FILE", path.as_str()),
    ];
    let warnings = load_with(&URL, &more).unwrap().config.warnings;
    let named = warnings.iter().any(|warning| {
        warning.starts_with("auth.client_secret_file") && warning.contains("quotation marks")
    });
    assert!(named, "{warnings:?}");

    // Where the value is wrong with them, the mistake says why.
    let lines = mistakes(load_with(
        &[],
        &[
            ("WAVEFRONT_URL", "\"https://h.example\""),
            ("WAVEFRONT_TOKEN", "a-token"),
            ("AUTH_SIDECAR_LOG__LEVEL", "'info'"),
            (
                "AUTH_SIDECAR_LISTEN__ALLOW_HOSTS",
                "\"h.example\",\"i.example\"",
            ),
        ],
    ));
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines.iter().all(|line| line.contains("quotation marks")),
        "{lines:?}"
    );
}

fn form(loaded: &Loaded) -> Vec<(String, String)> {
    let fields = request(loaded).form.iter();
    let plain = fields.filter_map(|(name, value)| match value {
        FormValue::Plain(value) => Some((name.clone(), value.clone())),
        _ => None,
    });
    plain.collect()
}

const OAUTH2: [(&str, &str); 5] = [
    ("WAVEFRONT_URL", "https://h.example"),
    ("AUTH_SIDECAR_AUTH__TYPE", "oauth2-client-credentials"),
    ("AUTH_SIDECAR_AUTH__TOKEN_URL", "https://t.example/token"),
    ("AUTH_SIDECAR_AUTH__CLIENT_ID", "app"),
    ("AUTH_SIDECAR_AUTH__CLIENT_SECRET", CANARY),
];

#[test]
fn scopes_in_a_variable_are_a_list_like_any_other() {
    for given in ["a,b", "a, b", "a b", "[\"a\", \"b\"]", "['a','b']"] {
        let loaded = load_with(&OAUTH2, &[("AUTH_SIDECAR_AUTH__SCOPES", given)]).unwrap();
        let scope = ("scope".to_owned(), "a b".to_owned());
        assert!(
            form(&loaded).contains(&scope),
            "{given}: {:?}",
            form(&loaded)
        );
    }
    // A comma may be part of one (RFC 6749 §3.3): a list says where each ends.
    let text = "[auth]\nscopes = [\"a,b\", \"c d\"]\n";
    let (_directory, loaded) = file(text, &OAUTH2);
    let scope = ("scope".to_owned(), "a,b c d".to_owned());
    assert!(form(&loaded.unwrap()).contains(&scope));
}

#[test]
fn any_list_in_a_variable_may_be_written_as_in_the_file() {
    let more = [
        (
            "AUTH_SIDECAR_LISTEN__ALLOW_HOSTS",
            "[\"h.example\", \"i.example\"]",
        ),
        ("AUTH_SIDECAR_LISTEN__ALLOW", "[\"GET /a\", \"POST /b\"]"),
        ("AUTH_SIDECAR_LISTEN__ADDRESS", "[::1]:9797"),
        ("AUTH_SIDECAR_LISTEN__REQUIRE_FIELD", "X-Sidecar"),
    ];
    let loaded = load_with(&APP, &more).unwrap();
    assert_eq!(loaded.config.proxy.allow_hosts.len(), 2);
    assert_eq!(loaded.config.proxy.allowed.unwrap().rules().len(), 2);
}

#[test]
fn a_table_in_a_variable_is_written_as_in_the_file() {
    let key = "AUTH_SIDECAR_AUTH__ENDPOINT_PARAMS";
    let table = format!("{{ audience = \"https://api\", resource = '{CANARY}' }}");
    let loaded = load_with(&OAUTH2, &[(key, &table)]).unwrap();
    let audience = ("audience".to_owned(), "https://api".to_owned());
    assert!(form(&loaded).contains(&audience), "{:?}", form(&loaded));
    let (shown, source) = row(&loaded, "auth.endpoint_params");
    assert_eq!(shown, "{audience=(set), resource=(set)}");
    assert_eq!(source, format!("environment variable {key}"));
    for wrong in [
        "{ audience = ",
        "audience=https://api",
        "{ scope = \"x\" }",
        "{ a = 1 }",
    ] {
        let lines = mistakes(load_with(&OAUTH2, &[(key, wrong)]));
        assert_eq!(lines.len(), 1, "{wrong}: {lines:?}");
        assert!(lines[0].starts_with("auth.endpoint_params ("), "{lines:?}");
    }
}

#[test]
fn the_ecosystems_names_give_id_and_secret_to_whichever_type_the_file_chooses() {
    let text = "[auth]\ntype = \"oauth2-client-credentials\"\n\
                token_url = \"https://t.example/token\"\n";
    let (_directory, loaded) = file(text, &APP);
    let loaded = loaded.unwrap();
    assert_eq!(secret(&loaded), CANARY);
    assert!(
        matches!(&request(&loaded).client_auth, ClientAuth::Basic { client_id, .. } if client_id == "app")
    );

    let directory = tempfile::tempdir().unwrap();
    let path = written(&directory, "secret", CANARY);
    let by_file = with(
        &URL,
        &[("CSP_APP_ID", "app"), ("CSP_APP_SECRET_FILE", &path)],
    );
    let by_file: Vec<_> = by_file
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    let (_directory, loaded) = file(text, &by_file);
    assert_eq!(secret(&loaded.unwrap()), CANARY);

    let text = text.replace(
        "token_url",
        "client_auth = \"client_secret_post\"\ntoken_url",
    );
    let (_directory, loaded) = file(&text, &APP);
    assert_eq!(secret(&loaded.unwrap()), CANARY);
}

#[test]
fn credentials_that_the_chosen_type_cannot_use_stay_a_mistake() {
    let text = "[auth]\ntype = \"oauth2-client-credentials\"\n\
                token_url = \"https://t.example/token\"\n";
    for more in [
        ("CSP_API_TOKEN", CANARY),
        ("WAVEFRONT_TOKEN", CANARY),
        ("CSP_ORG_ID", "org"),
    ] {
        let variables = with(&APP, &[more]);
        let variables: Vec<_> = variables
            .iter()
            .map(|(a, b)| (a.as_str(), b.as_str()))
            .collect();
        let (_directory, loaded) = file(text, &variables);
        let lines = mistakes(loaded);
        assert!(
            lines[0].contains("several kinds of credentials"),
            "{lines:?}"
        );
        assert!(lines[0].contains(more.0), "{lines:?}");
    }
    let (_directory, loaded) = file("[auth]\ntype = \"csp-api-token\"\n", &APP);
    assert!(mistakes(loaded)[0].contains("several kinds of credentials"));
}

#[test]
fn a_missing_id_names_the_variables_that_would_give_it() {
    let lines = mistakes(load_with(
        &URL,
        &[
            ("AUTH_SIDECAR_AUTH__TYPE", "oauth2-client-credentials"),
            ("AUTH_SIDECAR_AUTH__TOKEN_URL", "https://t.example/token"),
        ],
    ));
    assert!(
        lines.iter().any(|line| line.contains("or CSP_APP_ID")),
        "{lines:?}"
    );
    assert!(
        lines.iter().any(|line| line.contains("or CSP_APP_SECRET")),
        "{lines:?}"
    );
}

#[test]
fn one_bad_certificate_of_a_bundle_is_a_warning() {
    let good = || {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec!["ca".to_owned()]).unwrap();
        parameters.self_signed(&key).unwrap().pem()
    };
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let directory = tempfile::tempdir().unwrap();
    let path = written(&directory, "ca.pem", &[&good(), broken, &good()].concat());
    for key in [
        "AUTH_SIDECAR_AUTH__CA_FILE",
        "AUTH_SIDECAR_UPSTREAM__CA_FILE",
    ] {
        let loaded = load_with(&APP, &[(key, path.as_str())]).unwrap();
        let warnings = &loaded.config.warnings;
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(
            warnings[0].contains(".ca_file: certificate 2 of "),
            "{warnings:?}"
        );
    }
    let path = written(&directory, "none.pem", broken);
    let lines = mistakes(load_with(
        &APP,
        &[("AUTH_SIDECAR_AUTH__CA_FILE", path.as_str())],
    ));
    assert!(lines[0].contains("with certificates"), "{lines:?}");
}

#[test]
fn a_key_in_a_variable_may_have_its_line_ends_written_out() {
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for key in [
        key.replace('\n', "\\n"),
        key.replace('\n', "\r\n"),
        format!("{MARK}{key}"),
        key.replace('\n', "\n  "),
    ] {
        let loaded = load_with(
            &OAUTH2[..4],
            &[
                ("AUTH_SIDECAR_AUTH__CLIENT_AUTH", "private_key_jwt"),
                ("AUTH_SIDECAR_AUTH__PRIVATE_KEY", &key),
            ],
        );
        assert!(loaded.is_ok(), "{:?}", loaded.unwrap_err());
    }
}
