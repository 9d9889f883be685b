//! Bad configurations and the exact line that each earns; the shipped files; no secret in any of it.

use std::{
    collections::BTreeSet,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

/// Must show up nowhere.
const CANARY: &str = "c4n4ry-s3cret";

/// What `check` said.
struct Said {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// Runs the real program with this environment and nothing else.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_auth-sidecar"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let said = Said {
        code: output.status.code(),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    };
    for output in [&said.stdout, &said.stderr] {
        assert!(!output.contains(CANARY), "{arguments:?}: {output}");
    }
    said
}

/// `check` of a file, as `test.toml`.
fn check(file: &str, environment: &[(&str, &str)]) -> Said {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.toml");
    std::fs::write(&path, file).unwrap();
    let mut said = run(&["check", "--config", path.to_str().unwrap()], environment);
    let prefix = format!("{}/", directory.path().display());
    said.stderr = said.stderr.replace(&prefix, "");
    said
}

/// The least that works, for a file.
const GOOD: &str = "[upstream]
url = 'https://h.example'
[auth]
type = 'csp-oauth-app'
client_id = 'app'
client_secret = 'c4n4ry-s3cret'
";

/// The same, for the environment.
const APP: [(&str, &str); 3] = [
    ("WAVEFRONT_URL", "https://h.example"),
    ("CSP_APP_ID", "app"),
    ("CSP_APP_SECRET", CANARY),
];

/// Lines after [`GOOD`], the key that is named, and what is said.
const LINES: [(&str, &str, &str); 22] = [
    (
        "[listen]\naddress = '0.0.0.0:9797'",
        "listen.address",
        "loopback",
    ),
    (
        "[listen]\naddress = '10.0.0.1:9797'\nallow_remote = true",
        "listen.address",
        "listen.client_tokens_file",
    ),
    (
        "[listen]\ntls_cert_file = '/nonexistent/localhost.crt'\ntls_key_file = '/x'",
        "listen.tls_cert_file",
        "cannot read",
    ),
    (
        "[listen]\naddress = ['127.0.0.1:9797', '127.0.0.1:9797']",
        "listen.address",
        "twice",
    ),
    ("[listen]\nunix_mode = '0066'", "listen.unix_mode", "0600"),
    (
        "[listen]\nallow_users = ['c4n4ry-s3cret']",
        "listen.allow_users",
        "users that this system knows",
    ),
    (
        "[listen]\naddress = 'unix:run/x.sock'",
        "listen.address",
        "absolute path",
    ),
    (
        "[listen]\naddress = ['127.0.0.1:1', 7]",
        "listen.address",
        "text in quotes",
    ),
    ("[listen]\nworkers = -1", "listen.workers", "whole number"),
    (
        "[listen]\nmax_connections = 0",
        "listen.max_connections",
        "from 1 to",
    ),
    (
        "[listen]\ndrain_timeout = 25",
        "listen.drain_timeout",
        "unit is missing",
    ),
    (
        "[listen]\nkeep_alive_timeout = 'c4n4ry-s3cret'",
        "listen.keep_alive_timeout",
        "a time",
    ),
    (
        "[listen]\nmax_header_size = '1KiB'",
        "listen.max_header_size",
        "from 8KiB",
    ),
    (
        "[listen]\nmax_header_size = '64kb'",
        "listen.max_header_size",
        "a size",
    ),
    (
        "[listen]\nallow_hosts = ['*.c4n4ry-s3cret']",
        "listen.allow_hosts",
        "wildcards",
    ),
    (
        "[listen]\nallow_origins = ['h.example']",
        "listen.allow_origins",
        "origins like",
    ),
    (
        "[listen]\nadress = 'c4n4ry-s3cret'",
        "listen.adress",
        "did you mean listen.address",
    ),
    (
        "[admin]\naddress = '0.0.0.0:1'",
        "admin.address",
        "admin.allow_remote",
    ),
    (
        "[admin]\nallow_quit = 'c4n4ry-s3cret'",
        "admin.allow_quit",
        "true or false",
    ),
    (
        "[log]\nlevel = 'c4n4ry-s3cret'",
        "log.level",
        "off, error, warn",
    ),
    (
        "[log]\nformat = 'c4n4ry-s3cret'",
        "log.format",
        "text, json",
    ),
    ("[metrics]\nx = 'c4n4ry-s3cret'", "metrics.x", "unknown key"),
];

#[test]
fn a_tls_address_needs_a_certificate_and_its_key() {
    let said = check(
        &format!("{GOOD}[listen]\naddress = 'tls:127.0.0.1:9443'\n"),
        &[],
    );
    assert_eq!(said.code, Some(2));
    for key in ["listen.tls_cert_file", "listen.tls_key_file"] {
        assert!(
            said.stderr.contains(&format!("{key}: missing")),
            "{}",
            said.stderr
        );
    }
}

#[test]
fn each_mistake_of_a_file_is_named_with_its_line() {
    for (more, key, expected) in LINES {
        let said = check(&format!("{GOOD}{more}\n"), &[]);
        let line = format!("{key} (file test.toml:8): ");
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{more}");
        assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
        assert!(said.stderr.starts_with(&line), "{more}: {}", said.stderr);
        assert!(said.stderr.contains(expected), "{more}: {}", said.stderr);
    }
}

/// Variable, value, and what the line names and says.
const VARIABLES: [(&str, &str, &str, &str); 32] = [
    (
        "WAVEFRONT_URL",
        "http://h.example",
        "upstream.url",
        "https://",
    ),
    (
        "WAVEFRONT_URL",
        "https://c4n4ry-s3cret@h.example",
        "upstream.url",
        "user name",
    ),
    (
        "WAVEFRONT_URL",
        "https://h.example/c4n4ry-s3cret",
        "upstream.url",
        "must end after the host, as https://h.example does: the client's path goes on",
    ),
    (
        "WAVEFRONT_URL",
        "https://h.example?t=c4n4ry-s3cret",
        "upstream.url",
        "a query",
    ),
    (
        "WAVEFRONT_URL",
        "c4n4ry-s3cret",
        "upstream.url",
        "must be a URL",
    ),
    (
        "CSP_API_URL",
        "http://csp.example",
        "auth.base_url",
        "auth.allow_insecure_http",
    ),
    (
        "CSP_API_URL",
        "https://csp.example/csp/gateway/am/api",
        "auth.base_url",
        "https://csp.example/csp/gateway/am/api/csp/gateway/am/api/auth/authorize",
    ),
    (
        "AUTH_SIDECAR_CONFIG",
        "missing.toml",
        "config",
        "cannot read the file missing.toml",
    ),
    ("CSP_APP_ID", "a:c4n4ry-s3cret", "auth.client_id", "a colon"),
    ("CSP_APP_ID", "a\nb", "auth.client_id", "control characters"),
    ("CSP_APP_SECRET", "\n", "auth.client_secret", "empty"),
    (
        "CSP_APP_SECRET",
        "c4n4ry\tc4n4ry-s3cret",
        "auth.client_secret",
        "control characters",
    ),
    (
        "CSP_APP_SECRET_FILE",
        "/nonexistent",
        "auth.client_secret",
        "set twice",
    ),
    ("CSP_API_TOKEN", CANARY, "auth.type", "keep one"),
    ("WAVEFRONT_TOKEN", CANARY, "auth.type", "keep one"),
    (
        "AUTH_SIDECAR_AUTH__TYPE",
        CANARY,
        "auth.type",
        "must be one of csp-oauth-app",
    ),
    (
        "AUTH_SIDECAR_AUTH__TOKEN",
        CANARY,
        "auth.token",
        "belongs to auth.type static-token",
    ),
    (
        "AUTH_SIDECAR_AUTH__PRESET",
        "c4n4ry-s3cret",
        "auth.preset",
        "must be one of vmware-cloud,",
    ),
    (
        "AUTH_SIDECAR_AUTH__TOKEN_PATH",
        "c4n4ry-s3cret",
        "auth.token_path",
        "begins with \"/\"",
    ),
    (
        "AUTH_SIDECAR_AUTH__TOKEN_PATH",
        "/token?c4n4ry-s3cret",
        "auth.token_path",
        "without a query",
    ),
    (
        "AUTH_SIDECAR_AUTH__API_TOKEN_FIELD",
        "refresh_token",
        "auth.api_token_field",
        "belongs to auth.type csp-api-token",
    ),
    (
        "AUTH_SIDECAR_AUTH__CLIENT_SECRET_NEXT_FILE",
        " ",
        "auth.client_secret_next_file",
        "must not be empty",
    ),
    (
        "AUTH_SIDECAR_AUTH__PROXY_URL",
        "socks5://user:c4n4ry-s3cret@h.example",
        "auth.proxy_url",
        "must be a URL like",
    ),
    (
        "AUTH_SIDECAR_AUTH__PROXY_URL",
        "http://user:c4n4ry-s3cret@h.example/path",
        "auth.proxy_url",
        "must end after the host",
    ),
    (
        "AUTH_SIDECAR_AUTH__NO_PROXY",
        "http://c4n4ry-s3cret@h.example",
        "auth.no_proxy",
        "must be hosts",
    ),
    (
        "AUTH_SIDECAR_AUTH__REQUEST_TIMEOUT",
        "61s",
        "auth.request_timeout",
        "from 100ms to 1m",
    ),
    (
        "AUTH_SIDECAR_AUTH__HOLD_TIMEOUT",
        "8",
        "auth.hold_timeout",
        "unit is missing",
    ),
    (
        "AUTH_SIDECAR_UPSTREAM__CA_FILE",
        "/nonexistent",
        "upstream.ca_file",
        "PEM",
    ),
    (
        "AUTH_SIDECAR_UPSTREAM__VIA",
        CANARY,
        "upstream.via",
        "true or false",
    ),
    (
        "AUTH_SIDECAR_AUTH__CLIENTSECRET",
        CANARY,
        "auth.clientsecret",
        "auth.client_secret",
    ),
    (
        "AUTH_SIDECAR_LISTEN_ADDRESS",
        CANARY,
        "listen_address",
        "AUTH_SIDECAR_LISTEN__ADDRESS",
    ),
    (
        "AUTH_SIDECAR_CONFIG",
        "/nonexistent",
        "config",
        "cannot read",
    ),
];

#[test]
fn each_mistake_of_the_environment_is_named_with_its_variable() {
    for (name, value, key, expected) in VARIABLES {
        let kept = APP.iter().filter(|(other, _)| *other != name).copied();
        let environment: Vec<_> = kept.chain([(name, value)]).collect();
        let said = run(&["check"], &environment);
        assert_eq!((said.code, said.stdout.as_str()), (Some(2), ""), "{name}");
        assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
        assert!(
            said.stderr.starts_with(&format!("{key} (")),
            "{name}: {}",
            said.stderr
        );
        assert!(said.stderr.contains(name), "{name}: {}", said.stderr);
        assert!(said.stderr.contains(expected), "{name}: {}", said.stderr);
    }
}

#[test]
fn each_mistake_of_a_flag_is_named_with_its_flag() {
    for (flag, key) in [
        ("--listen", "listen.address"),
        ("--upstream", "upstream.url"),
        ("--admin", "admin.address"),
        ("--log-level", "log.level"),
        ("--log-format", "log.format"),
        ("--config", "config"),
    ] {
        for command in [&["check"][..], &["run"], &[]] {
            let arguments: Vec<&str> = command.iter().copied().chain([flag, "nonsense"]).collect();
            let said = run(&arguments, &APP);
            assert_eq!(said.code, Some(2));
            assert!(
                said.stderr.starts_with(&format!("{key} (flag {flag}): ")),
                "{}",
                said.stderr
            );
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    for (arguments, key, file) in [
        (
            &["--config", "nowhere.toml"][..],
            "config (flag --config)",
            "nowhere.toml",
        ),
        (
            &["--config", "nowhere"],
            "config (flag --config)",
            "nowhere",
        ),
        (
            &["--config", "/nonexistent/x"],
            "config (flag --config)",
            "/nonexistent/x",
        ),
    ] {
        let arguments: Vec<&str> = arguments.iter().copied().chain(["check"]).collect();
        let said = run(&arguments, &APP);
        assert_eq!(said.code, Some(2));
        let line = format!("{key}: cannot read the file {file}: ");
        assert!(said.stderr.starts_with(&line), "{}", said.stderr);
    }
    for (name, value, key) in [
        (
            "AUTH_SIDECAR_UPSTREAM__CA_FILE",
            "ca.pem",
            "upstream.ca_file",
        ),
        (
            "AUTH_SIDECAR_AUTH__CA_FILE",
            "/nonexistent/ca.pem",
            "auth.ca_file",
        ),
        ("CSP_ORG_ID_FILE", "org.txt", "auth.org_id"),
    ] {
        let environment: Vec<_> = APP.into_iter().chain([(name, value)]).collect();
        let said = run(&["check"], &environment);
        assert!(said.stderr.starts_with(key), "{}", said.stderr);
        assert!(said.stderr.contains(value), "{}", said.stderr);
    }
}

#[test]
fn a_base_url_with_a_path_is_a_warning_that_shows_where_tokens_are_asked_for() {
    let variable = ("CSP_API_URL", "https://gateway.example/csp-west/");
    let environment: Vec<_> = APP.into_iter().chain([variable]).collect();
    let said = run(&["check"], &environment);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    let asked = "https://gateway.example/csp-west/csp/gateway/am/api/auth/authorize";
    let warning = said
        .stdout
        .lines()
        .find(|line| line.starts_with("warning: "));
    let warning = warning.unwrap();
    assert!(
        warning.contains("auth.base_url") && warning.contains(asked),
        "{warning}"
    );
}

#[test]
fn only_what_was_set_is_shown_on_request() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.toml");
    std::fs::write(&path, GOOD).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let path = path.to_str().unwrap();
    let workers = [("AUTH_SIDECAR_LISTEN__WORKERS", "2")];
    let said = run(
        &["--config", path, "check", "--changed", "--admin", "off"],
        &workers,
    );
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    let rows: Vec<Vec<&str>> = said
        .stdout
        .lines()
        .map(|line| {
            line.split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .collect()
        })
        .collect();
    let keys: Vec<&str> = rows.iter().map(|row| row[0]).collect();
    let expected = [
        "listen.workers",
        "upstream.url",
        "auth.type",
        "auth.client_id",
        "auth.client_secret",
        "admin.address",
    ];
    assert_eq!(keys, expected, "{}", said.stdout);
    assert_eq!(
        rows[0][2],
        "environment variable AUTH_SIDECAR_LISTEN__WORKERS"
    );
    assert!(rows[1][2].ends_with("test.toml:2"));
    assert_eq!(rows[5][1..], ["off", "flag --admin"]);
}

#[test]
fn programs_are_told_what_came_of_a_configuration_or_what_is_wrong() {
    let json = |said: &Said| serde_json::from_str::<serde_json::Value>(&said.stdout).unwrap();
    let said = run(&["check", "--output", "json"], &APP);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    let document = json(&said);
    assert_eq!(document["valid"], true);
    let keys = document["keys"].as_array().unwrap();
    let row = |key: &str| keys.iter().find(|row| row["key"] == key).unwrap();
    assert_eq!(row("auth.client_secret")["value"], "(set)");
    assert_eq!(row("admin.address")["source"], "default");
    assert_eq!(
        row("upstream.url")["source"],
        "environment variable WAVEFRONT_URL"
    );
    let said = run(&["--output=json", "check", "--listen", "nonsense"], &APP);
    assert_eq!((said.code, said.stderr.as_str()), (Some(2), ""));
    let document = json(&said);
    assert_eq!(document["valid"], false);
    assert_eq!(document["problems"][0]["key"], "listen.address");
    assert_eq!(document["problems"][0]["source"], "flag --listen");
}

#[test]
fn all_mistakes_come_at_once() {
    let said = check(
        "[listen]\nworkers = 'c4n4ry-s3cret'\n[auth]\ntype = 'csp-oauth-app'\nclient_secret = 7\n",
        &[("AUTH_SIDECAR_LOG__LEVEL", CANARY)],
    );
    let keys: Vec<&str> = said
        .stderr
        .lines()
        .map(|line| line.split([' ', ':']).next().unwrap())
        .collect();
    let expected = [
        "listen.workers",
        "upstream.url",
        "auth.client_id",
        "auth.client_secret",
        "log.level",
    ];
    assert_eq!(
        (said.code, keys.as_slice()),
        (Some(2), &expected[..]),
        "{}",
        said.stderr
    );
}

#[test]
fn a_syntax_error_does_not_quote_its_line() {
    let said = check("[auth]\nclient_secret = c4n4ry-s3cret\n", &[]);
    assert_eq!(said.code, Some(2));
    assert!(
        said.stderr
            .starts_with("config (file test.toml:2:17): is no TOML")
    );
    assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
}

#[test]
fn a_good_configuration_is_shown_with_its_places() {
    let said = check(GOOD, &[("AUTH_SIDECAR_LISTEN__WORKERS", "2")]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    let row = |key: &str| {
        let line = said.stdout.lines().find(|line| line.starts_with(key));
        line.unwrap()
            .split("  ")
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .collect()
    };
    let cells: Vec<&str> = row("listen.workers");
    assert_eq!(
        cells[1..],
        ["2", "environment variable AUTH_SIDECAR_LISTEN__WORKERS"]
    );
    let cells: Vec<&str> = row("auth.client_secret");
    assert!(
        cells[1] == "(set)" && cells[2].ends_with("test.toml:6"),
        "{cells:?}"
    );
    let cells: Vec<&str> = row("admin.address");
    assert_eq!(cells[1..], ["127.0.0.1:9798", "default"]);
}

#[test]
fn the_password_of_a_proxy_is_not_shown() {
    let variable = (
        "AUTH_SIDECAR_AUTH__PROXY_URL",
        "http://user:c4n4ry-s3cret@proxy.example:3128",
    );
    let said = check(GOOD, &[variable, ("NO_PROXY", ".h.example")]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    assert!(said.stdout.contains("http://…@proxy.example:3128/"));
    assert!(said.stdout.contains("environment variable NO_PROXY\n"));
}

#[test]
fn every_shipped_file_works_once_its_secret_is_there() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let secrets = tempfile::tempdir().unwrap();
    let secret = secrets.path().join("secret");
    std::fs::write(&secret, CANARY).unwrap();
    let secret = secret.to_str().unwrap();

    let mut seen = BTreeSet::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        // The full file leaves open what has no default.
        let mut environment = if name == "auth-sidecar.toml" {
            APP.to_vec()
        } else {
            Vec::new()
        };
        let keys = text.lines().filter_map(|line| line.split_once(" = "));
        let file_key = keys
            .map(|(key, _)| key)
            .find(|key| key.ends_with("_file") && !key.starts_with('#'));
        let variable = file_key.map(|key| format!("AUTH_SIDECAR_AUTH__{}", key.to_uppercase()));
        environment.extend(variable.as_deref().map(|variable| (variable, secret)));
        let said = run(&["check", "--config", path.to_str().unwrap()], &environment);
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{name}");
        seen.insert(name);
    }
    let shipped = [
        "auth-sidecar.toml",
        "csp-api-token.toml",
        "csp-oauth-app.toml",
        "oauth2.toml",
        "static-token.toml",
    ];
    assert_eq!(seen, shipped.map(str::to_owned).into());
}

#[test]
fn the_command_line_is_checked_too() {
    for (arguments, code) in [
        (&["--help"][..], 0),
        (&["check", "--help"], 0),
        (&["--version"], 0),
        (&["nonsense"], 2),
        (&["--client-secret", CANARY], 2),
        (&["check", "--client-secret=c4n4ry-s3cret"], 2),
        (&["wait", "--timeout", "soon"], 2),
        (&["completions", "tcsh"], 2),
        (&["completions", "zsh"], 0),
        (&["schema"], 0),
        (&["man"], 0),
    ] {
        assert_eq!(run(arguments, &[]).code, Some(code), "{arguments:?}");
    }
}

#[test]
fn a_service_behind_tls_needs_authorities_and_the_start_says_so() {
    let nowhere = [
        ("SSL_CERT_FILE", "/nonexistent/certificates.pem"),
        ("SSL_CERT_DIR", "/nonexistent"),
    ];
    let upstream = [
        ("WAVEFRONT_URL", "https://h.example"),
        ("WAVEFRONT_TOKEN", CANARY),
    ];
    let token_service = [
        ("WAVEFRONT_URL", "http://127.0.0.1:1"),
        ("CSP_API_URL", "https://h.example"),
        ("CSP_API_TOKEN", CANARY),
    ];
    for variables in [&upstream[..], &token_service] {
        let environment = [&nowhere[..], variables].concat();
        let said = run(&["--listen", "127.0.0.1:0", "--admin", "off"], &environment);
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        let expected = "no certificate authorities found on this system";
        assert!(said.stderr.contains(expected), "{}", said.stderr);
    }
}

#[test]
fn a_key_for_a_collector_does_not_travel_in_the_clear() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fields");
    std::fs::write(&path, "Authorization: Bearer c4n4ry-s3cret\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = path.to_str().unwrap();
    let said = |endpoint: &str, headers_file: Option<&str>| {
        let mut variables = vec![("AUTH_SIDECAR_TELEMETRY__OTLP_ENDPOINT", endpoint)];
        variables
            .extend(headers_file.map(|file| ("AUTH_SIDECAR_TELEMETRY__OTLP_HEADERS_FILE", file)));
        check(GOOD, &variables)
    };
    let plain = "http://collector.example:4318";
    let refused = said(plain, Some(file));
    assert_eq!((refused.code, &*refused.stdout), (Some(2), ""));
    let line =
        "telemetry.otlp_endpoint (environment variable AUTH_SIDECAR_TELEMETRY__OTLP_ENDPOINT): ";
    assert!(refused.stderr.starts_with(line), "{}", refused.stderr);
    assert!(refused.stderr.contains("https://"), "{}", refused.stderr);
    // Without a key, on this machine, or encrypted.
    for (endpoint, headers_file) in [
        (plain, None),
        ("http://localhost:4318", Some(file)),
        ("http://[::1]:4318/", Some(file)),
        ("https://collector.example/otlp", Some(file)),
    ] {
        let good = said(endpoint, headers_file);
        assert_eq!((good.code, &*good.stderr), (Some(0), ""), "{endpoint}");
        assert!(!good.stdout.contains("c4n4ry"), "{}", good.stdout);
    }
    for (endpoint, expected) in [
        (
            "https://c4n4ry-s3cret@collector.example",
            "otlp_headers_file",
        ),
        (
            "https://collector.example/?key=c4n4ry-s3cret",
            "otlp_headers_file",
        ),
        ("grpc://collector.example:4317", "must be a URL"),
    ] {
        let wrong = said(endpoint, None);
        assert_eq!((wrong.code, &*wrong.stdout), (Some(2), ""), "{endpoint}");
        assert!(wrong.stderr.contains(expected), "{}", wrong.stderr);
        assert!(!wrong.stderr.contains("c4n4ry"), "{}", wrong.stderr);
    }
    let warned = said("http://localhost:4317", None);
    assert_eq!(warned.code, Some(0));
    assert!(warned.stdout.contains("usually 4318"), "{}", warned.stdout);
    // A file for nobody, and one that holds no fields.
    let alone = check(GOOD, &[("AUTH_SIDECAR_TELEMETRY__OTLP_HEADERS_FILE", file)]);
    assert_eq!(alone.code, Some(2));
    let expected = "also needs telemetry.otlp_endpoint";
    assert!(alone.stderr.contains(expected), "{}", alone.stderr);
    for text in ["c4n4ry-s3cret", "Host: c4n4ry-s3cret", "# c4n4ry-s3cret"] {
        std::fs::write(&path, text).unwrap();
        let wrong = said("http://localhost:4318", Some(file));
        assert_eq!((wrong.code, &*wrong.stdout), (Some(2), ""), "{text}");
        let expected = "must be header fields";
        assert!(wrong.stderr.contains(expected), "{}", wrong.stderr);
        assert!(!wrong.stderr.contains("c4n4ry"), "{}", wrong.stderr);
    }
}

#[test]
fn a_part_of_the_traces_is_a_number_from_0_to_1() {
    let shown = |value: &str| {
        let variable = [("AUTH_SIDECAR_TELEMETRY__OTLP_SAMPLE_RATIO", value)];
        check(&format!("{GOOD}[log]\nlevel = 'info'\n"), &variable)
    };
    assert_eq!(shown("0.25").code, Some(0));
    for wrong in ["1.5", "10%", "c4n4ry-s3cret"] {
        let said = shown(wrong);
        assert_eq!(said.code, Some(2));
        assert!(said.stderr.contains("from 0.0 to 1.0"), "{}", said.stderr);
        assert!(!said.stderr.contains(wrong), "{}", said.stderr);
    }
    let said = check(
        &format!("{GOOD}[telemetry]\notlp_sample_ratio = 0.5\n"),
        &[],
    );
    let row = |line: &&str| line.starts_with("telemetry.otlp_sample_ratio ");
    let row = said.stdout.lines().find(row).unwrap().to_owned();
    assert!(
        row.contains(" 0.5 ") && row.ends_with("test.toml:8"),
        "{row}"
    );
}
