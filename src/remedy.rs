//! What an operator can do about a failure, by its code or its reason: for the log, `doctor`, `/status`
//! and the page.

use std::borrow::Cow;

use crate::{
    proxy::responses,
    token::{FetchError, Reason},
};

/// About a token that cannot be got.
pub(crate) fn of_token(failure: &FetchError) -> Cow<'static, str> {
    if let Some(of_code) = of_code(failure) {
        return of_code.into();
    }
    let of_certificate = match failure.reason {
        Reason::Network => of_certificate(&failure.detail, "auth.ca_file"),
        _ => None,
    };
    of_certificate.map_or_else(|| of_reason(failure.reason).into(), Cow::from)
}

/// The same by the code that the service gave, if that is what matters.
pub(crate) fn of_code(failure: &FetchError) -> Option<&'static str> {
    // Whoever calls too often gets no advice about the credential, whatever code comes with it.
    let refusal = failure.refusal.as_ref();
    let refusal = refusal.filter(|_| failure.reason != Reason::RateLimited)?;
    of_refusal(&refusal.code)
}

/// What the error codes of RFC 6749 §5.2 mean, those of its extensions that such services have, and
/// what the responses of VMware Cloud Services come to.
fn of_refusal(code: &str) -> Option<&'static str> {
    Some(match code {
        "invalid_request" => {
            "it misses something in the request, or does not know a field: check \
             auth.endpoint_params, auth.scopes, auth.client_auth and auth.api_token_field"
        }
        "invalid_client" => {
            "it does not know this client, or its secret is another: check auth.client_id, that the \
             secret is the present one and was copied whole, that auth.client_auth is the method that \
             the client is registered for, and that auth.preset or auth.base_url names the cloud \
             where it was made"
        }
        "invalid_grant" => {
            "it does not accept these credentials: check that the secret, API token, refresh token or key \
             is the present one, was copied whole, has not ended and was not revoked, that it belongs to this \
             auth.client_id and auth.org_id (the long identifier), and that auth.preset or \
             auth.base_url names the cloud where it was made"
        }
        "unauthorized_client" => {
            "it knows the client, which may not use this grant: have its owner allow the client \
             credentials grant for it, or whichever auth.type means. Another secret will not help"
        }
        "unsupported_grant_type" => {
            "it does not have this grant: check auth.type, and that auth.token_url (or \
             auth.token_path) is its token endpoint"
        }
        "invalid_scope" => {
            "it accepts the credentials, but not what was asked for: check auth.scopes (of Microsoft \
             it is one scope that ends in /.default). Another secret will not help"
        }
        "access_denied" => {
            "it accepts the credentials and grants nothing: the client lacks a role, or a policy \
             forbids it. Ask its owner; another secret will not help"
        }
        "invalid_target" => {
            "it does not know what the token is to be for: check auth.resource, auth.audience and \
             auth.endpoint_params"
        }
        "use_dpop_nonce" | "invalid_dpop_proof" => {
            "it wants tokens that are bound to a key by DPoP (RFC 9449), which the sidecar does not \
             support: have the client registered for bearer tokens. Another secret will not help"
        }
        "github_app" => {
            "GitHub does not accept the app's signature: check auth.app_id, that the key in \
             auth.private_key_file is one of this app and was not deleted, and the clock of this machine"
        }
        "github_installation" => {
            "the app has no such installation: check auth.installation_id, and that it was not \
             uninstalled; its number is at the end of the address of its settings page"
        }
        "github_suspended" => {
            "the installation is suspended: an owner of the account has to unsuspend it"
        }
        "server_error" | "temporarily_unavailable" => {
            "it has trouble of its own, and the credentials were not checked: try again later"
        }
        "organization_not_found" => {
            "it does not know the organisation: auth.org_id must be the long identifier, as the \
             console shows it under the name of the organisation, and the client must belong to it. \
             To try again will not help"
        }
        "unknown_api_token" => {
            "it does not know this API token: it was revoked or was not copied whole, or belongs to \
             another cloud than auth.preset or auth.base_url names. Make a new one"
        }
        _ => return None,
    })
}

fn of_reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Network => {
            "Check the network to the token service, auth.base_url or auth.token_url, and auth.proxy_url"
        }
        Reason::Timeout => {
            "Check the way to the token service: a firewall may swallow the connection"
        }
        Reason::BadStatus => {
            "The token service has trouble, or something else responds in its place: \
             `auth-sidecar doctor` says more"
        }
        Reason::BadResponse => {
            "Something else responds in the place of the token service: check auth.base_url, \
             auth.token_path or auth.token_url"
        }
        Reason::InvalidClient => {
            "The token service rejects the credential: put in the present one; \
             `auth-sidecar doctor` says what it complains of"
        }
        Reason::SecretUnreadable => {
            "Put the credential into that file, and see that the user of the sidecar may read it (and, \
             of a refresh token, write to its directory); it is noticed within a second"
        }
        Reason::RateLimited => {
            "Wait, and see what else uses these credentials: the token service allows only so many calls"
        }
    }
}

/// About an upstream that fails, by the label of the failure and what happened.
pub(crate) fn of_upstream(label: &str, detail: &str) -> Cow<'static, str> {
    if label == responses::CERTIFICATE.label
        && let Some(remedy) = of_certificate(detail, "upstream.ca_file")
    {
        return remedy.into();
    }
    let row = responses::of(label);
    // A response that broke off was none of ours.
    let otherwise = "Check the service and the way to it; `auth-sidecar doctor` tries both";
    row.map_or(otherwise, |row| row.remedy).into()
}

/// What is wrong with a certificate, from the words of the TLS library; `ca_file` is the key that
/// names other authorities to trust.
pub(crate) fn of_certificate(why: &str, ca_file: &str) -> Option<String> {
    if why.contains("UnknownIssuer") || why.contains("BadSignature") {
        Some(format!(
            "nobody whom this machine trusts has signed its certificate. If it is your own \
             authority, or a proxy that opens TLS, set {ca_file} to its certificate"
        ))
    } else if why.contains("NotValidForName") || why.contains("not valid for name") {
        Some(
            "its certificate is for another name: check the host in the URL, and that nobody \
             responds in its place"
                .to_owned(),
        )
    } else if why.contains("NotValidYet") || why.contains("not valid yet") {
        Some("its certificate is not valid yet: check the clock of this machine".to_owned())
    } else if why.to_lowercase().contains("expired") {
        Some(
            "its certificate has expired: its owner has to renew it, or the clock of this machine \
             is wrong"
                .to_owned(),
        )
    } else if why.contains("certificate") {
        Some(format!("its certificate is not trusted; see {ca_file}"))
    } else {
        None
    }
}

/// About an upstream that responds 401 to fresh tokens.
pub(crate) const UNAUTHORIZED: &str = "check that the credential belongs to this upstream (organisation, \
     roles), and that it is the one that was meant; `auth-sidecar doctor` shows what its token claims";

/// About an upstream that responds 403.
pub(crate) const FORBIDDEN: &str = "give the app, user or service account of the credential the role \
     for this request, or do not send it; `auth-sidecar doctor` shows what its token may do";

/// About lines of the log that cannot be written.
pub(crate) const LINES_LOST: &str = "make room on its disk, or see why whoever reads it does not; \
     requests are served all the same";

/// About a credential that has ended.
pub(crate) const ENDED: &str = "Replace it; a changed file is noticed within a second";

/// About a refresh token that cannot be used.
pub(crate) const REFRESH_TOKEN: &str = "if the service has rotated the refresh token, it rejects the one in \
     auth.refresh_token_file next time, and somebody has to agree anew: see what it sends, and whether \
     rotation can be switched off for this client";

/// About a configuration that was rejected.
pub(crate) const REJECTED: &str =
    "Mend the configuration file, and look at it with `auth-sidecar check`";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_and_every_reason_has_a_remedy_of_its_own() {
        let codes = [
            "invalid_request",
            "invalid_client",
            "invalid_grant",
            "unauthorized_client",
            "unsupported_grant_type",
            "invalid_scope",
            "access_denied",
            "invalid_target",
            "use_dpop_nonce",
            "github_app",
            "github_installation",
            "github_suspended",
            "server_error",
            "organization_not_found",
            "unknown_api_token",
        ];
        let of_codes = codes.map(|code| of_refusal(code).unwrap());
        let mut all: Vec<_> = of_codes.into_iter().collect();
        all.extend(Reason::ALL.map(of_reason));
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert_eq!(of_refusal("something_else"), None);
    }
}
