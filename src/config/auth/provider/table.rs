//! The services that are known by name, as their documentation has them.

use super::{
    Advice, BEARER, CLIENT, CSP_APP, CSP_TOKEN, EXCHANGE, Endpoint, GITHUB, Need, Provider, REFRESH,
};
use crate::token::endpoint::Algorithm;

/// The table.
pub(in crate::config) static PROVIDERS: [Provider; 15] = [
    Provider {
        kinds: &[CLIENT, BEARER, REFRESH],
        endpoint: Endpoint::Template {
            url: "{base_url}/{tenant}/oauth2/v2.0/token",
            defaults: &[("auth.base_url", "https://login.microsoftonline.com")],
            special: None,
        },
        client_auth: Some("client_secret_post"),
        needs: &[Need {
            keys: &["auth.scopes", "auth.resource"],
            field: "scope",
            why: "the one scope that ends in /.default, or the resource that it begins with",
        }],
        resource_is_scope: true,
        certificate_algorithm: Some(Algorithm::Ps256),
        advice: &ENTRA,
        ..Provider::named("entra", "Microsoft Entra ID")
    },
    Provider {
        kinds: &[CLIENT, BEARER, EXCHANGE, REFRESH],
        endpoint: Endpoint::Template {
            url: "https://{domain}/oauth2/{authorization_server}/v1/token",
            defaults: &[("auth.authorization_server", "default")],
            special: Some((
                "auth.authorization_server",
                "org",
                "https://{domain}/oauth2/v1/token",
            )),
        },
        client_auth: Some("client_secret_basic"),
        needs: &[Need {
            keys: &["auth.scopes"],
            field: "scope",
            why: "Okta has no default scope, and returns invalid_scope without one",
        }],
        advice: &[
            Advice {
                code: "invalid_scope",
                word: "",
                text: "Okta has not granted this scope: add it to the authorization server that \
                       auth.authorization_server names (or, of the org server, to the app under Okta \
                       API Scopes), and put it into auth.scopes",
            },
            Advice {
                code: "invalid_dpop_proof",
                word: "",
                text: "the app requires DPoP, which the sidecar does not support: switch off Require \
                       Demonstrating Proof of Possession (DPoP) in the app's general settings",
            },
            Advice {
                code: "access_denied",
                word: "",
                text: "no access policy of the authorization server has a rule that lets this client \
                       use the client credentials grant with these scopes: add one",
            },
        ],
        ..Provider::named("okta", "Okta")
    },
    Provider {
        kinds: &[CLIENT, EXCHANGE, REFRESH],
        endpoint: Endpoint::Template {
            url: "https://{domain}/oauth/token",
            defaults: &[],
            special: None,
        },
        client_auth: Some("client_secret_post"),
        needs: &[Need {
            keys: &["auth.audience"],
            field: "audience",
            why: "the identifier of the API, without which Auth0 grants nothing",
        }],
        advice: &[
            Advice {
                code: "access_denied",
                word: "audience",
                text: "Auth0 knows no default audience: set auth.audience to the identifier of the API",
            },
            Advice {
                code: "access_denied",
                word: "not authorized to access",
                text: "the application is not authorized for this API: in the dashboard, under the \
                       API's Machine to Machine Applications, authorize it; and check auth.audience",
            },
            Advice {
                code: "unauthorized_client",
                word: "",
                text: "the application may not use this grant: switch it on under the application's \
                       Advanced Settings, Grant Types",
            },
        ],
        ..Provider::named("auth0", "Auth0")
    },
    Provider {
        kinds: &[CLIENT, EXCHANGE, BEARER, REFRESH],
        endpoint: Endpoint::Template {
            url: "{base_url}/realms/{realm}/protocol/openid-connect/token",
            defaults: &[],
            special: None,
        },
        client_auth: Some("client_secret_basic"),
        advice: &[
            Advice {
                code: "unauthorized_client",
                word: "service account",
                text: "the client has no service account: in the admin console, on the client's \
                       Settings, switch on Client authentication and Service accounts roles",
            },
            Advice {
                code: "unauthorized_client",
                word: "",
                text: "Keycloak returns this code for a wrong secret, and for a client without a service \
                       account: check the secret on the client's Credentials tab, auth.client_auth \
                       there, and that Service accounts roles is on",
            },
            Advice {
                code: "invalid_client",
                word: "",
                text: "the realm knows no such client, it is disabled, or its secret is another: check \
                       auth.realm, auth.client_id, and the client's Credentials tab",
            },
        ],
        ..Provider::named("keycloak", "Keycloak")
    },
    Provider {
        kinds: &[CLIENT, REFRESH],
        endpoint: Endpoint::Template {
            url: "https://{domain}/oauth2/token",
            defaults: &[],
            special: None,
        },
        client_auth: Some("client_secret_basic"),
        advice: &[
            Advice {
                code: "invalid_client",
                word: "",
                text: "the user pool knows no such app client, or its secret is another: an app client \
                       that was made without a secret cannot use this grant",
            },
            Advice {
                code: "unauthorized_client",
                word: "",
                text: "the app client does not allow the client credentials grant: switch it on under \
                       the app client's login pages settings, with a custom scope of a resource server",
            },
            Advice {
                code: "invalid_scope",
                word: "",
                text: "the app client is not allowed this scope: name it as RESOURCE_SERVER/SCOPE, and \
                       allow it for the app client",
            },
        ],
        ..Provider::named("cognito", "Amazon Cognito")
    },
    Provider {
        kinds: &[BEARER, EXCHANGE, REFRESH],
        endpoint: Endpoint::Template {
            url: "https://oauth2.googleapis.com/token",
            defaults: &[],
            special: None,
        },
        client_auth: Some("client_secret_post"),
        needs: &[Need {
            keys: &["auth.scopes"],
            field: "scope",
            why: "what the token is to be for, like https://www.googleapis.com/auth/cloud-platform",
        }],
        has_key_files: true,
        advice: &[
            Advice {
                code: "invalid_grant",
                word: "",
                text: "Google does not accept the assertion: the key was deleted or disabled, the \
                       service account is gone, or the clock of this machine is wrong",
            },
            Advice {
                code: "unauthorized_client",
                word: "",
                text: "the service account may not speak for auth.assertion_subject: an administrator of \
                       the domain has to delegate these scopes to it",
            },
        ],
        ..Provider::named("google", "Google Cloud")
    },
    Provider {
        kinds: &[BEARER, CLIENT, REFRESH],
        endpoint: Endpoint::Template {
            url: "https://{domain}/services/oauth2/token",
            defaults: &[],
            special: None,
        },
        client_auth: Some("client_secret_post"),
        audience: Some(|domain| {
            let is_sandbox = domain.contains(".sandbox.");
            let name = if is_sandbox { "test" } else { "login" };
            format!("https://{name}.salesforce.com")
        }),
        advice: &[
            Advice {
                code: "invalid_grant",
                word: "user hasn't approved",
                text: "the user has not agreed to this app: in Setup, let admin approved users use it, \
                       and give the user's profile or permission set access to it",
            },
            Advice {
                code: "invalid_grant",
                word: "",
                text: "check that auth.assertion_subject is the user's name in this org, that \
                       auth.assertion_audience is https://login.salesforce.com (of a sandbox \
                       https://test.salesforce.com), and that the app has the certificate of the key",
            },
            Advice {
                code: "invalid_client_id",
                word: "",
                text: "auth.client_id must be the consumer key of the app, which takes some minutes to be \
                       known after it was made",
            },
        ],
        ..Provider::named("salesforce", "Salesforce")
    },
    Provider {
        kinds: &[CLIENT, BEARER, REFRESH],
        endpoint: Endpoint::Template {
            url: "{base_url}/oauth/token",
            defaults: &[],
            special: None,
        },
        client_auth: Some("client_secret_basic"),
        advice: &[Advice {
            code: "invalid_client",
            word: "",
            text: "check client ID and secret of the service binding, or with a certificate that \
                   auth.base_url is the binding's certurl, and that the certificate has not ended",
        }],
        ..Provider::named("xsuaa", "SAP XSUAA")
    },
    Provider {
        kinds: &[CLIENT, EXCHANGE, REFRESH],
        endpoint: Endpoint::Template {
            url: "{base_url}/{tenant}/as/token",
            defaults: &[("auth.base_url", "https://auth.pingone.com")],
            special: None,
        },
        client_auth: Some("client_secret_basic"),
        ..Provider::named("ping", "PingOne")
    },
    Provider {
        kinds: &[CLIENT, BEARER, EXCHANGE, REFRESH],
        endpoint: Endpoint::Template {
            url: "https://{domain}/oauth/v2/token",
            defaults: &[],
            special: None,
        },
        client_auth: Some("client_secret_basic"),
        needs: &[Need {
            keys: &["auth.scopes"],
            field: "scope",
            why: "at least openid, and the audience scope of the project that the API belongs to",
        }],
        audience: Some(|domain| format!("https://{domain}")),
        ..Provider::named("zitadel", "Zitadel")
    },
    Provider {
        kinds: &[CLIENT, BEARER, REFRESH],
        endpoint: Endpoint::Template {
            url: "{base_url}/oauth2/token",
            defaults: &[],
            special: None,
        },
        client_auth: Some("client_secret_basic"),
        advice: &[Advice {
            code: "invalid_request",
            word: "audience",
            text: "Hydra has not allowed this audience for the client: add it to the client's audience \
                   list",
        }],
        ..Provider::named("hydra", "Ory Hydra")
    },
    Provider {
        kinds: &[GITHUB],
        ..Provider::named("github", "GitHub App")
    },
    Provider {
        kinds: &[CSP_APP, CSP_TOKEN],
        endpoint: Endpoint::Preset("vmware-cloud"),
        ..Provider::named("csp", "VMware Cloud Services")
    },
    Provider {
        kinds: &[CSP_APP, CSP_TOKEN],
        endpoint: Endpoint::Preset("tanzu-platform"),
        ..Provider::named("tanzu", "Tanzu Platform")
    },
    Provider {
        kinds: &[CSP_APP, CSP_TOKEN],
        endpoint: Endpoint::Preset("omnissa"),
        ..Provider::named("omnissa", "Omnissa")
    },
];

impl Provider {
    /// A provider of which nothing else is said.
    const fn named(name: &'static str, title: &'static str) -> Self {
        Self {
            name,
            title,
            kinds: &[],
            endpoint: Endpoint::None,
            client_auth: None,
            needs: &[],
            has_key_files: false,
            resource_is_scope: false,
            certificate_algorithm: None,
            audience: None,
            advice: &[],
        }
    }
}

const fn aadsts(code: &'static str, text: &'static str) -> Advice {
    Advice {
        code,
        word: "",
        text,
    }
}

/// The codes of Microsoft's identity platform, which say more than those of OAuth 2.0.
static ENTRA: [Advice; 14] = [
    aadsts(
        "AADSTS7000215",
        "check that auth.client_secret is the present secret: its value, which is shown once, and not its \
         ID",
    ),
    aadsts(
        "AADSTS7000222",
        "the client secret has expired: make a new one under Certificates & secrets",
    ),
    aadsts(
        "AADSTS7000112",
        "the application is disabled in this tenant: enable its enterprise application",
    ),
    aadsts(
        "AADSTS700016",
        "this tenant knows no such application: check auth.client_id (the application ID) and \
         auth.tenant, and that an administrator has added it there",
    ),
    aadsts(
        "AADSTS90002",
        "there is no such tenant: check auth.tenant, and that auth.base_url is that of its cloud",
    ),
    aadsts(
        "AADSTS900023",
        "auth.tenant is neither the ID of a tenant nor one of its domains",
    ),
    aadsts(
        "AADSTS50034",
        "the user does not exist in this tenant: check auth.tenant. Client credentials need no user, so \
         something else than the application signs in",
    ),
    aadsts(
        "AADSTS70011",
        "the scope is none: auth.scopes must be one scope, the application ID URI of the API followed by \
         /.default",
    ),
    aadsts(
        "AADSTS1002012",
        "the scope must end in /.default: client credentials ask for all that was granted at once",
    ),
    aadsts(
        "AADSTS500011",
        "this tenant knows no such resource: check the application ID URI in auth.scopes or \
         auth.resource, and that the API has an enterprise application in this tenant",
    ),
    aadsts(
        "AADSTS700027",
        "the assertion is not accepted: upload the certificate in auth.assertion_cert_file under \
         Certificates & secrets, and check that the key belongs to it",
    ),
    aadsts(
        "AADSTS700024",
        "the assertion is not valid at this time: check the clock of this machine, and that the token in \
         auth.client_assertion_file is renewed",
    ),
    aadsts(
        "AADSTS700213",
        "no federated credential of the application fits the token in auth.client_assertion_file: issuer, \
         subject and audience (api://AzureADTokenExchange) must be the same to the letter",
    ),
    aadsts(
        "AADSTS70021",
        "no federated credential of the application fits the token in auth.client_assertion_file: issuer, \
         subject and audience (api://AzureADTokenExchange) must be the same to the letter",
    ),
];
