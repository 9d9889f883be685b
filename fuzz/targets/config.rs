//! Files and environments: never a panic, never a secret in a message, and whatever is accepted is
//! safe to run.
#![no_main]

use std::{net::SocketAddr, path::PathBuf, sync::LazyLock};

use arbitrary::Arbitrary;
use auth_sidecar::{
    config::{Config, Credentials, Flags, Loaded, Sources},
    server::Address,
};
use libfuzzer_sys::fuzz_target;

const CANARY: &str = "c4n4ry-s3cret-value";

/// The full file: it names every key.
const DEFAULTS: &str = include_str!("../../config/auth-sidecar.toml");

/// Every key with its default or its example.
static KEYS: LazyLock<Vec<(String, String, String)>> = LazyLock::new(|| {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in DEFAULTS.lines() {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|line| line.strip_suffix(']'))
        {
            section = name.to_owned();
        } else if let Some((name, value)) = line.trim_start_matches('#').split_once(" = ")
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            keys.push((section.clone(), name.to_owned(), value.to_owned()));
        }
    }
    assert!(keys.len() > 40, "only {} keys", keys.len());
    keys
});

const NAMES: [&str; 12] = [
    "WAVEFRONT_URL",
    "CSP_API_URL",
    "CSP_APP_ID",
    "CSP_APP_SECRET",
    "CSP_ORG_ID",
    "CSP_API_TOKEN",
    "WAVEFRONT_TOKEN",
    "CSP_APP_SECRET_FILE",
    "CSP_API_TOKEN_FILE",
    "WAVEFRONT_URL_FILE",
    "NO_PROXY",
    "no_proxy",
];

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    file: Vec<(u8, Given<'a>)>,
    variables: Vec<(u8, Given<'a>)>,
    ecosystem: Vec<(u8, Given<'a>)>,
    /// Appended to the file as it is.
    raw: Option<&'a str>,
}

#[derive(Arbitrary, Debug)]
enum Given<'a> {
    /// Its default or its example.
    Usual,
    /// Something that some key takes.
    Fitting(u8),
    Secret,
    Text(&'a str),
    Number(i64),
    Truth(bool),
    List(Vec<&'a str>),
    Raw(&'a str),
}

const FITTING: [&str; 16] = [
    "https://h.example",
    "http://127.0.0.1:9",
    "http://h.example/api/",
    "127.0.0.1:0",
    "[::1]:1",
    "0.0.0.0:80",
    "localhost:7, 127.0.0.2:8",
    "csp-oauth-app",
    "csp-api-token",
    "static-token",
    "oauth2-client-credentials",
    "5s",
    "64KiB",
    "true",
    "off",
    "http://u:c4n4ry-s3cret-value@proxy.example:3128",
];

impl Given<'_> {
    /// As a value of TOML, and as the value of a variable.
    fn written(&self, key: &str, usual: &str) -> (String, String) {
        let text = |text: &str| (format!("{text:?}"), text.to_owned());
        match self {
            Self::Usual => (usual.to_owned(), usual.trim_matches('"').to_owned()),
            Self::Fitting(number) => text(FITTING[usize::from(*number) % FITTING.len()]),
            // A path is told; who puts a secret there has told it the file system already.
            Self::Secret if key.to_ascii_lowercase().ends_with("file") => text("/nowhere"),
            Self::Secret => text(CANARY),
            Self::Text(given) => text(given),
            Self::Number(number) => (number.to_string(), number.to_string()),
            Self::Truth(yes) => (yes.to_string(), yes.to_string()),
            Self::List(items) => (format!("{items:?}"), items.join(",")),
            Self::Raw(raw) => ((*raw).to_owned(), (*raw).to_owned()),
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    let mut file = String::new();
    let mut environment = Vec::new();
    let mut section = "";
    let place = |number: &u8| &KEYS[usize::from(*number) % KEYS.len()];
    let mut entries: Vec<_> = input.file.iter().collect();
    entries.sort_by_key(|(number, _)| usize::from(*number) % KEYS.len());
    for (number, given) in entries {
        let (of, name, usual) = place(number);
        if of != section {
            file.push_str(&format!("[{of}]\n"));
            section = of;
        }
        file.push_str(&format!("{name} = {}\n", given.written(name, usual).0));
    }
    file.push_str(input.raw.unwrap_or_default());
    for (number, given) in &input.variables {
        let (of, name, usual) = place(number);
        let variable = format!("AUTH_SIDECAR_{of}__{name}").to_uppercase();
        environment.push((variable, given.written(name, usual).1));
    }
    for (number, given) in &input.ecosystem {
        let name = NAMES[usize::from(*number) % NAMES.len()];
        let usual = if name.ends_with("FILE") {
            "/nowhere"
        } else {
            CANARY
        };
        environment.push((name.to_owned(), given.written(name, usual).1));
    }
    // Files of the machine are none of the input's: some of them never end.
    let everything = format!("{file}{environment:?}");
    if everything.contains("/dev") || everything.contains("/proc") || everything.contains("/sys") {
        return;
    }
    // Text of the fuzzer's own that has the secret in it could be a key, or a path.
    let written = format!("{:?}", (&input.raw, texts(&input)));
    if written.contains(&CANARY[..8]) {
        return;
    }
    let path = PathBuf::from(format!(
        "/tmp/auth-sidecar-fuzz-{}.toml",
        std::process::id()
    ));
    std::fs::write(&path, &file).unwrap();
    let mut sources = Sources::of_environment(environment.iter().cloned());
    sources.flags = Flags {
        config: Some(path),
        ..Flags::default()
    };
    match Config::load(&sources) {
        Err(error) => {
            let text = format!("{error} {error:?}");
            assert!(!text.contains(CANARY), "{text}");
            assert!(!error.problems().is_empty());
        }
        Ok(loaded) => accepted(&loaded),
    }
});

fn texts<'a>(input: &'a Input<'a>) -> Vec<&'a str> {
    let all = [&input.file, &input.variables, &input.ecosystem];
    all.into_iter()
        .flatten()
        .flat_map(|(_, given)| match given {
            Given::Text(text) | Given::Raw(text) => vec![*text],
            Given::List(items) => items.clone(),
            _ => Vec::new(),
        })
        .collect()
}

fn accepted(loaded: &Loaded) {
    let config = &loaded.config;
    let is_loopback = |address: &SocketAddr| address.ip().to_canonical().is_loopback();
    assert!(!config.listen.addresses.is_empty(), "nothing to listen on");
    let resolved = |key: &str| loaded.resolved.iter().find(|one| one.key == key);
    let says = |key: &str| resolved(key).is_some_and(|one| one.value.contains("true"));
    let may_be_remote = says("listen.allow_remote");
    for address in config.listen.addresses.iter().filter_map(Address::socket) {
        assert!(is_loopback(&address) || may_be_remote, "an open listener");
        let asks = config.listen.client_tokens_file.is_some() || config.listen.tls.is_some();
        assert!(is_loopback(&address) || asks, "open to everybody");
    }
    if config
        .admin
        .address
        .as_ref()
        .and_then(Address::socket)
        .is_some_and(|address| !is_loopback(&address))
    {
        assert!(says("admin.allow_remote"), "an open admin listener");
    }
    let url = &config.upstream.url;
    let is_local = matches!(url.host_str(), Some(host) if host == "localhost"
        || host.starts_with("127.") || host == "[::1]" || host.starts_with("[::ffff:7f"));
    assert!(url.scheme() == "https" || is_local || says("upstream.allow_insecure_http"));
    assert!(url.username().is_empty() && url.password().is_none());
    let keys = loaded.resolved.iter().filter(|one| one.value == "(set)");
    assert!(
        keys.count() <= 4,
        "several credentials: {:?}",
        loaded.resolved
    );
    // Secrets are known to be such: whatever prints a configuration hides them.
    for one in loaded.resolved.iter() {
        let is_secret = ["secret", "_token", "auth.token", "private_key", "service_account"]
            .iter()
            .any(|name| one.key.ends_with(name));
        assert!(!is_secret || !one.value.contains(CANARY), "{one:?}");
        assert!(
            one.key != "auth.proxy_url" || !one.value.contains(CANARY),
            "{one:?}"
        );
    }
    if let Credentials::Static(source) = &config.auth.credentials {
        assert!(!format!("{source:?}").contains(CANARY));
    }
    assert!(config.proxy.replay_body_limit <= config.proxy.replay_buffer_total);
    assert!(config.listen.server.max_connections > 0 && config.proxy.max_in_flight > 0);
    assert!(!config.listen.server.header_read_timeout.is_zero());
    assert!(!config.proxy.response_timeout.is_zero());
}
