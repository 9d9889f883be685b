//! Services that are known by name: each of the table is asked as its documentation has it.

use super::*;
use crate::token::endpoint::Location;

const PLAIN: &str = "client_id = 'app'\nclient_secret = 's'\n";

fn load(text: &str) -> Result<Loaded, ConfigError> {
    let text = format!("[upstream]\nurl = 'https://h.example'\n[auth]\n{text}");
    file(&text, &[]).1
}

fn form(loaded: &Loaded) -> Vec<(&str, &str)> {
    let form = request(loaded).form.iter();
    form.map(|(name, value)| match value {
        FormValue::Plain(value) => (name.as_str(), value.as_str()),
        _ => (name.as_str(), "…"),
    })
    .collect()
}

type Check = fn(&ClientAuth) -> bool;

#[test]
fn each_provider_has_its_endpoint_and_its_way_of_proving_who_asks() {
    let basic = |auth: &ClientAuth| matches!(auth, ClientAuth::Basic { .. });
    let post = |auth: &ClientAuth| matches!(auth, ClientAuth::Post { .. });
    let all: [(&str, &str, &str, Check); 14] = [
        (
            "entra",
            "tenant = 'contoso.example'\nscopes = ['api://x/.default']",
            "https://login.microsoftonline.com/contoso.example/oauth2/v2.0/token",
            post,
        ),
        (
            "entra",
            "base_url = 'https://login.microsoftonline.us/'\ntenant = 'a b/c'\nscopes = 'x/.default'",
            "https://login.microsoftonline.us/a%20b%2Fc/oauth2/v2.0/token",
            post,
        ),
        (
            "okta",
            "domain = 'e.okta.com'\nscopes = 'a'",
            "https://e.okta.com/oauth2/default/v1/token",
            basic,
        ),
        (
            "okta",
            "domain = 'e.okta.com'\nauthorization_server = 'aus1'\nscopes = 'a'",
            "https://e.okta.com/oauth2/aus1/v1/token",
            basic,
        ),
        (
            "okta",
            "domain = 'e.okta.com'\nauthorization_server = 'org'\nscopes = 'a'",
            "https://e.okta.com/oauth2/v1/token",
            basic,
        ),
        (
            "auth0",
            "domain = 'e.eu.auth0.com'\naudience = 'https://api.example'",
            "https://e.eu.auth0.com/oauth/token",
            post,
        ),
        (
            "keycloak",
            "base_url = 'https://k.example/auth'\nrealm = 'a b'",
            "https://k.example/auth/realms/a%20b/protocol/openid-connect/token",
            basic,
        ),
        (
            "cognito",
            "domain = 'e.auth.eu-central-1.amazoncognito.com'",
            "https://e.auth.eu-central-1.amazoncognito.com/oauth2/token",
            basic,
        ),
        (
            "xsuaa",
            "base_url = 'https://e.authentication.eu10.hana.ondemand.com'",
            "https://e.authentication.eu10.hana.ondemand.com/oauth/token",
            basic,
        ),
        (
            "ping",
            "tenant = 'env-1'",
            "https://auth.pingone.com/env-1/as/token",
            basic,
        ),
        (
            "ping",
            "base_url = 'https://auth.pingone.eu'\ntenant = 'env-1'",
            "https://auth.pingone.eu/env-1/as/token",
            basic,
        ),
        (
            "zitadel",
            "domain = 'e.zitadel.cloud'\nscopes = 'openid'",
            "https://e.zitadel.cloud/oauth/v2/token",
            basic,
        ),
        (
            "hydra",
            "base_url = 'https://hydra.example'",
            "https://hydra.example/oauth2/token",
            basic,
        ),
        (
            "salesforce",
            "type = 'oauth2-client-credentials'\ndomain = 'e.my.salesforce.com'",
            "https://e.my.salesforce.com/services/oauth2/token",
            post,
        ),
    ];
    for (name, keys, url, is_right) in all {
        let loaded = load(&format!("provider = '{name}'\n{PLAIN}{keys}\n")).unwrap();
        assert_eq!(request(&loaded).url().as_str(), url);
        assert!(is_right(&request(&loaded).client_auth), "{name}");
        assert_eq!(loaded.config.auth.kind, "oauth2-client-credentials");
        let (shown, place) = row(&loaded, "auth.token_url");
        assert!(
            shown == url && place.starts_with("auth.provider (file"),
            "{place}"
        );
    }
}

#[test]
fn the_presets_of_vmware_are_providers_too() {
    for (name, base) in [
        ("csp", "https://console.cloud.vmware.com/"),
        ("tanzu", "https://console.tanzu.broadcom.com/"),
        ("omnissa", "https://connect.omnissa.com/"),
    ] {
        let loaded = load(&format!("provider = '{name}'\n{PLAIN}")).unwrap();
        assert!(request(&loaded).url().as_str().starts_with(base), "{name}");
        assert_eq!(row(&loaded, "auth.type").0, "csp-oauth-app");
        let token = format!("provider = '{name}'\ntype = 'csp-api-token'\napi_token = 't'\n");
        assert!(
            request(&load(&token).unwrap())
                .url()
                .as_str()
                .starts_with(base)
        );
    }
}

#[test]
fn what_a_provider_lacks_and_what_it_does_not_take_is_said() {
    for (text, expected) in [
        (
            "provider = 'entra'\nscopes = 'x/.default'",
            "auth.tenant: missing; set auth.tenant or auth.token_url",
        ),
        (
            "provider = 'entra'\ntenant = 't'",
            "auth.scopes: missing; set auth.scopes or auth.resource",
        ),
        (
            "provider = 'entra'\ntenant = 't'\nscopes = 'x/.default'\nresource = 'api://x'",
            "means the scope RESOURCE/.default",
        ),
        (
            "provider = 'okta'\ndomain = 'e.okta.com'",
            "auth.scopes: missing",
        ),
        (
            "provider = 'auth0'\ndomain = 'e.auth0.com'",
            "auth.audience: missing",
        ),
        (
            "provider = 'keycloak'\nrealm = 'r'",
            "auth.base_url: missing",
        ),
        (
            "provider = 'cognito'\ndomain = 'https://e'",
            "must be the name of a host",
        ),
        (
            "provider = 'cognito'\ndomain = 'u@e'",
            "must be the name of a host",
        ),
        (
            "provider = 'hydra'\nbase_url = 'http://hydra.example'",
            "must begin with https://",
        ),
        (
            "provider = 'hydra'\nbase_url = 'https://h.example'\nrealm = 'r'",
            "is nothing that auth.provider hydra needs",
        ),
        (
            "type = 'oauth2-client-credentials'\ntoken_url = 'https://t.example'\ntenant = 't'",
            "is only for auth.provider entra, ping",
        ),
        (
            "provider = 'github'\ntype = 'oauth2-client-credentials'\ntoken_url = 'https://t.example'",
            "which takes auth.type github-app",
        ),
        ("provider = 'acme'", "must be one of entra, okta"),
        (
            "type = 'oauth2-client-credentials'\ntoken_url = 'https://t.example'\nissuer = 'https://i.example'",
            "set twice",
        ),
        (
            "type = 'oauth2-client-credentials'",
            "set auth.token_url, auth.issuer or auth.provider",
        ),
    ] {
        let lines = mistakes(load(&format!("{text}\n{PLAIN}"))).join("\n");
        assert!(lines.contains(expected), "{text}: {lines}");
    }
    // What stands in endpoint_params is there, too; and a token_url needs no place.
    for text in [
        "provider = 'auth0'\ndomain = 'e.auth0.com'\nendpoint_params = { audience = 'x' }",
        "provider = 'keycloak'\ntoken_url = 'https://k.example/t'",
    ] {
        assert!(load(&format!("{text}\n{PLAIN}")).is_ok(), "{text}");
    }
}

#[test]
fn audiences_and_resources_are_fields_of_their_own_and_an_issuer_stands_for_a_token_url() {
    let text = format!(
        "type = 'oauth2-client-credentials'\nissuer = 'https://i.example/realm'\n{PLAIN}\
         audience = ['a', 'b']\nresource = 'https://r.example'\nscopes = 's'\n\
         endpoint_params = {{ x = 'y' }}\n"
    );
    let loaded = load(&text).unwrap();
    assert_eq!(
        form(&loaded),
        [
            ("grant_type", "client_credentials"),
            ("scope", "s"),
            ("audience", "a"),
            ("audience", "b"),
            ("resource", "https://r.example"),
            ("x", "y"),
        ]
    );
    assert!(matches!(request(&loaded).endpoint, Location::Issuer(_)));
    let place = row(&loaded, "auth.token_url");
    assert!(
        place
            .0
            .contains("/.well-known/oauth-authorization-server/realm"),
        "{place:?}"
    );
    for (wrong, expected) in [
        ("resource = 'relative'", "must be absolute URIs"),
        ("resource = 'https://r.example/#x'", "must be absolute URIs"),
        (
            "resource = 'https://r.example'\nendpoint_params = { resource = 'x' }",
            "must not have resource",
        ),
    ] {
        let text = format!(
            "type = 'oauth2-client-credentials'\ntoken_url = 'https://t.example'\n{PLAIN}{wrong}"
        );
        let lines = mistakes(load(&text)).join("\n");
        assert!(lines.contains(expected), "{lines}");
    }
}

#[test]
fn a_second_key_beside_a_key_file_and_a_key_that_is_not_read_are_mistakes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("key.json");
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let account = serde_json::json!({
        "client_email": "robot@project.example",
        "private_key": key,
        "token_uri": "https://oauth2.example/token",
    });
    std::fs::write(&path, account.to_string()).unwrap();
    let google = format!(
        "provider = 'google'\nscopes = 'a'\nservice_account_file = '{}'\n",
        path.display()
    );
    let loaded = load(&google).unwrap();
    assert_eq!(
        request(&loaded).url().as_str(),
        "https://oauth2.example/token"
    );
    assert!(matches!(request(&loaded).client_auth, ClientAuth::None));
    for (more, expected) in [
        ("key_id = 'k'", "auth.key_id"),
        (
            "client_secret = 's'",
            "belongs to auth.client_auth client_secret_basic",
        ),
        (
            "refresh_token_file = '/x'",
            "belongs to auth.type oauth2-refresh-token",
        ),
    ] {
        let lines = mistakes(load(&format!("{google}{more}\n"))).join("\n");
        assert!(lines.contains(expected), "{lines}");
    }
    let github = "provider = 'github'\napp_id = 1\ninstallation_id = 2\nassertion_audience = 'x'\n";
    let lines = mistakes(load(github)).join("\n");
    assert!(lines.contains("belongs to auth.type oauth2-"), "{lines}");
    assert!(lines.contains("auth.private_key: missing"), "{lines}");
}

#[test]
fn an_entra_resource_is_a_scope_and_a_certificate_signs_as_entra_wants_it() {
    let entra = "provider = 'entra'\ntenant = 't'\nresource = 'api://x'\n";
    let loaded = load(&format!("{entra}{PLAIN}")).unwrap();
    assert_eq!(form(&loaded)[1..], [("scope", "api://x/.default")]);
    let workload =
        format!("{entra}client_id = 'app'\nclient_assertion_file = '/nonexistent/token'\n");
    let lines = mistakes(load(&workload)).join("\n");
    assert!(lines.contains("auth.client_assertion_file"), "{lines}");
}

#[test]
fn a_name_that_is_dots_alone_is_another_path_and_no_name() {
    for (provider, key) in [
        ("provider = 'entra'\n", "tenant"),
        (
            "provider = 'keycloak'\nbase_url = 'https://k.example'\n",
            "realm",
        ),
        (
            "provider = 'okta'\ndomain = 'd.example'\nscopes = ['s']\n",
            "authorization_server",
        ),
        ("provider = 'github'\napp_id = 1\n", "installation_id"),
        ("provider = 'github'\ninstallation_id = 1\n", "app_id"),
    ] {
        for dots in [".", ".."] {
            let lines = mistakes(load(&format!("{provider}{key} = '{dots}'\n"))).join("\n");
            let wrong = format!("auth.{key} (");
            assert!(lines.contains(&wrong), "{lines}");
        }
        let lines = mistakes(load(&format!("{provider}{key} = 'a.b'\nbogus = 1\n"))).join("\n");
        assert!(!lines.contains(&format!("auth.{key} (")), "{lines}");
    }
}
