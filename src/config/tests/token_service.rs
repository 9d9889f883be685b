//! The keys that say where the token service is, how to get there, and which secret follows.

use super::*;
use crate::{
    outbound::{NoProxy, OutboundProxy},
    secret::RotatingSecret,
};

const API_TOKEN: [(&str, &str); 2] = [
    ("WAVEFRONT_URL", "https://h.example"),
    ("CSP_API_TOKEN", CANARY),
];

fn url(loaded: &Loaded) -> &str {
    request(loaded).url().as_str()
}

fn proxy(loaded: &Loaded) -> Option<&OutboundProxy> {
    loaded.config.auth.endpoint.proxy.as_ref()
}

fn rotating(loaded: &Loaded) -> &RotatingSecret {
    let request = request(loaded);
    match &request.client_auth {
        ClientAuth::Basic { client_secret, .. } | ClientAuth::Post { client_secret, .. } => {
            client_secret
        }
        _ => match request.form.last() {
            Some((_, FormValue::Secret(named))) => &named.secret,
            other => panic!("{other:?}"),
        },
    }
}

#[test]
fn a_preset_gives_the_base_url_and_is_named_as_its_place() {
    let loaded = environment(&APP).unwrap();
    let default = ("https://console.cloud.vmware.com", "auth.preset (default)");
    assert_eq!(row(&loaded, "auth.base_url"), default);

    for (preset, base) in [
        ("vmware-cloud", "https://console.cloud.vmware.com"),
        (
            "vmware-cloud-staging",
            "https://console-stg.cloud.vmware.com",
        ),
        ("tanzu-platform", "https://console.tanzu.broadcom.com"),
        (
            "tanzu-platform-staging",
            "https://console-stg.tanzu.broadcom.com",
        ),
        ("omnissa", "https://connect.omnissa.com"),
    ] {
        let more = [("AUTH_SIDECAR_AUTH__PRESET", preset)];
        let loaded = load_with(&APP, &more).unwrap();
        assert!(
            url(&loaded).starts_with(&format!("{base}/csp/")),
            "{preset}"
        );
        let place = "auth.preset (environment variable AUTH_SIDECAR_AUTH__PRESET)";
        assert_eq!(row(&loaded, "auth.base_url"), (base, place));
    }
}

#[test]
fn a_base_url_goes_before_the_preset() {
    for name in ["CSP_API_URL", "AUTH_SIDECAR_AUTH__BASE_URL"] {
        let more = [
            ("AUTH_SIDECAR_AUTH__PRESET", "omnissa"),
            (name, "https://csp.example/"),
        ];
        let loaded = load_with(&APP, &more).unwrap();
        assert!(url(&loaded).starts_with("https://csp.example/csp/"));
        let place = format!("environment variable {name}");
        let expected = ("https://csp.example/", place.as_str());
        assert_eq!(row(&loaded, "auth.base_url"), expected);
    }
    let lines = mistakes(load_with(&APP, &[("AUTH_SIDECAR_AUTH__PRESET", CANARY)]));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("must be one of vmware-cloud, vmware-cloud-staging, tanzu"));
}

#[test]
fn path_and_field_can_be_those_of_another_server() {
    let more = [
        (
            "AUTH_SIDECAR_AUTH__TOKEN_PATH",
            "/csp/gateway/am/api/auth/token",
        ),
        ("AUTH_SIDECAR_AUTH__API_TOKEN_FIELD", "refresh_token"),
    ];
    let loaded = load_with(&API_TOKEN, &more).unwrap();
    assert_eq!(
        url(&loaded),
        "https://console.cloud.vmware.com/csp/gateway/am/api/auth/token"
    );
    assert_eq!(request(&loaded).form.last().unwrap().0, "refresh_token");
    assert_eq!(secret(&loaded), CANARY);

    let loaded = load_with(&APP, &more[..1]).unwrap();
    assert!(url(&loaded).ends_with("/auth/token"));
    let usual = environment(&API_TOKEN).unwrap();
    assert_eq!(request(&usual).form.last().unwrap().0, "api_token");
    assert!(url(&usual).ends_with("/auth/api-tokens/authorize"));
}

#[test]
fn the_next_secret_need_not_exist() {
    for (base, key) in [
        (&APP[..], "client_secret_next_file"),
        (&API_TOKEN, "api_token_next_file"),
    ] {
        let name = format!("AUTH_SIDECAR_AUTH__{}", key.to_uppercase());
        let loaded = load_with(base, &[(&name, "/nonexistent/next")]).unwrap();
        let secret = rotating(&loaded);
        assert_eq!(
            secret.next_file.as_deref(),
            Some(Path::new("/nonexistent/next"))
        );
        assert_eq!(exposed(&secret.current), CANARY);
        let shown = row(&loaded, &format!("auth.{key}")).0;
        assert_eq!(shown, "/nonexistent/next");
        assert_eq!(rotating(&load_with(base, &[]).unwrap()).next_file, None);
    }

    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), CANARY).unwrap();
    let path = secret.path().to_str().unwrap();
    let same = [
        ("CSP_API_TOKEN_FILE", path),
        ("AUTH_SIDECAR_AUTH__API_TOKEN_NEXT_FILE", path),
    ];
    assert_eq!(
        mistakes(load_with(&URL, &same)),
        [
            "auth.api_token_next_file (environment variable AUTH_SIDECAR_AUTH__API_TOKEN_NEXT_FILE): \
          must be another file than auth.api_token_file"
        ]
    );
    let post = "[upstream]\nurl='https://h.example'\n[auth]\ntype='oauth2-client-credentials'\n\
                token_url='https://login.example/token'\nclient_id='a'\nclient_secret='s'\n\
                client_auth='client_secret_post'\nclient_secret_next_file='/next'";
    let (_directory, loaded) = file(post, &[]);
    assert!(rotating(&loaded.unwrap()).next_file.is_some());
}

#[test]
fn a_proxy_is_used_only_where_it_is_configured() {
    let surroundings = [
        ("HTTPS_PROXY", "http://other.example:3128"),
        ("https_proxy", "http://other.example:3128"),
        ("ALL_PROXY", "http://other.example:3128"),
        ("NO_PROXY", "http://this is \u{1b} nonsense@"),
    ];
    let loaded = load_with(&APP, &surroundings).unwrap();
    assert_eq!(proxy(&loaded), None);
    assert_eq!(row(&loaded, "auth.no_proxy"), ("(not set)", "default"));

    let more = [(
        "AUTH_SIDECAR_AUTH__PROXY_URL",
        "http://user:c4n4ry-s3cret@proxy.example:3128",
    )];
    let loaded = load_with(&APP, &more).unwrap();
    let expected = OutboundProxy {
        url: more[0].1.parse().unwrap(),
        password_file: None,
        no_proxy: NoProxy::default(),
    };
    assert_eq!(proxy(&loaded), Some(&expected));
    assert_eq!(
        row(&loaded, "auth.proxy_url").0,
        "http://…@proxy.example:3128/"
    );
    assert!(!loaded.to_string().contains(CANARY) && !format!("{loaded:?}").contains(CANARY));
    let lines = mistakes(load_with(&URL, &[("WAVEFRONT_TOKEN", "t"), more[0]]));
    assert!(lines.len() == 1 && lines[0].contains("belongs to auth.type csp-oauth-app or"));
}

#[test]
fn the_exceptions_are_those_of_the_environment_unless_there_are_own() {
    let given = ("AUTH_SIDECAR_AUTH__PROXY_URL", "http://proxy.example");
    let load = |text: &str, more: &[(&str, &str)]| {
        let text = format!("[auth]\n{text}\n");
        let (_directory, loaded) = file(&text, &[&APP[..], &[given], more].concat());
        let loaded = loaded.unwrap();
        let no_proxy = proxy(&loaded).unwrap().no_proxy.clone();
        let place = row(&loaded, "auth.no_proxy").1.to_owned();
        (no_proxy, place)
    };
    let list = |list: &str| NoProxy::parse(list.split(',').filter(|entry| !entry.is_empty())).0;
    let expected = |text: &str, place: &str| (list(text), place.to_owned());
    let (upper, lower) = (("NO_PROXY", "a.example, .b"), ("no_proxy", "c"));
    assert_eq!(load("", &[]), expected("", "default"));
    let from_upper = expected("a.example,.b", "environment variable NO_PROXY");
    assert_eq!(load("", &[lower, upper]), from_upper);
    let from_lower = expected("c", "environment variable no_proxy");
    assert_eq!(load("", &[lower, ("NO_PROXY", "")]), from_lower);

    let (found, place) = load("no_proxy = ['x', '10.0.0.0/8']", &[upper]);
    assert_eq!(found, list("x,10.0.0.0/8"));
    assert!(place.ends_with("test.toml:2"), "{place}");
    assert_eq!(load("no_proxy = ''", &[upper]).0, list(""));
    let own = ("AUTH_SIDECAR_AUTH__NO_PROXY", "y");
    assert_eq!(load("no_proxy = 'x'", &[upper, own]).0, list("y"));
}

#[test]
fn no_url_is_quoted_with_its_user() {
    let oauth2 = [
        ("WAVEFRONT_URL", "https://h.example"),
        ("AUTH_SIDECAR_AUTH__TYPE", "oauth2-client-credentials"),
        ("AUTH_SIDECAR_AUTH__CLIENT_ID", "a"),
        ("AUTH_SIDECAR_AUTH__CLIENT_SECRET", "s"),
    ];
    for value in [
        "https://user:c4n4ry-s3cret@h.example",
        "https://c4n4ry-s3cret@h.example/path?q#f",
        "http://user:c4n4ry-s3cret@h.example",
        "https:user:c4n4ry-s3cret@h.example",
        "https://user:c4n4ry-s3cret@h.example:99999",
        "https://user:c4n4ry-s3cret@",
    ] {
        for (base, name) in [
            (&APP[1..], "WAVEFRONT_URL"),
            (&APP, "CSP_API_URL"),
            (&oauth2, "AUTH_SIDECAR_AUTH__TOKEN_URL"),
        ] {
            let lines = mistakes(load_with(base, &[(name, value)]));
            assert_eq!(lines.len(), 1, "{name}: {lines:?}");
        }
    }
}

#[test]
fn one_token_call_is_bounded() {
    for (value, is_right) in [
        ("99ms", false),
        ("100ms", true),
        ("60s", true),
        ("61s", false),
    ] {
        let loaded = load_with(&APP, &[("AUTH_SIDECAR_AUTH__REQUEST_TIMEOUT", value)]);
        assert_eq!(loaded.is_ok(), is_right, "{value}");
    }
}

#[test]
fn two_loads_of_the_same_are_equal_and_name_their_file() {
    let text = "[upstream]\nurl='https://h.example'\n[auth]\ntype='csp-api-token'\n\
                api_token='c4n4ry-s3cret'";
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.toml");
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Config::load(&Sources::of_file(&path)).unwrap()
    };
    let (first, second) = (load(text), load(text));
    assert_eq!(first.config, second.config);
    assert_eq!(first.file.as_deref(), Some(path.as_path()));
    let other = load(&text.replace("s3cret", "other"));
    assert_ne!(first.config, other.config);
    assert_eq!(environment(&APP).unwrap().file, None);
    let path = path.to_str().unwrap();
    let named = environment(&[("AUTH_SIDECAR_CONFIG", path)]).unwrap();
    assert_eq!(named.file, Some(path.into()));
}
