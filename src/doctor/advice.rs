//! What to do about a token call that failed: the code that the service gave decides, or else what
//! happened on the way.

use super::access::whole_seconds;
use crate::{
    config::{Config, Credentials, advice as provider_advice},
    remedy,
    text::sentence,
    token::{
        FetchError, Reason,
        endpoint::{DISCOVERY, PROXY_REFUSES},
    },
};

/// What happened, what the service said of it, and what to do.
pub(super) fn explain(error: &FetchError, config: &Config) -> String {
    let detail = &error.detail;
    if error.reason == Reason::SecretUnreadable {
        // The detail names the key and the file. The service was never asked.
        return if detail.contains("cannot be replaced") {
            // It says what to do, too.
            format!("{detail}.")
        } else {
            format!(
                "{detail}. Put the credential there, and see that the user of the sidecar may read it"
            )
        };
    }
    let Credentials::Endpoint(request) = &config.auth.credentials else {
        return format!(
            "auth.token: {detail}. Put the API token into auth.token_file or WAVEFRONT_TOKEN"
        );
    };
    let service = request.url().host_str().unwrap_or("the token service");
    let refusal = error.refusal.as_deref();
    let said = refusal.and_then(|refusal| refusal.description.as_ref());
    let said = said.map_or_else(String::new, |said| format!(" It says: \"{said}\"."));
    let known = provider_advice(config.auth.provider, error).or_else(|| remedy::of_code(error));
    let advice = known.map_or_else(|| of_way(error), ToOwned::to_owned);
    format!("{service}: {detail}.{said} {}", sentence(&advice))
}

/// What to do where no code was given.
fn of_way(error: &FetchError) -> String {
    let detail = &error.detail;
    let advice = match error.reason {
        Reason::BadStatus | Reason::BadResponse if detail.starts_with(DISCOVERY) => {
            "check auth.issuer: it must be the name that the issuer gives itself, to the letter; or name \
             the token endpoint in auth.token_url instead"
        }
        _ if detail.contains(PROXY_REFUSES) || detail.starts_with("status 407") => {
            "the credentials of the proxy are missing or wrong: set the user in auth.proxy_url, \
             like http://user@host:port, and auth.proxy_password_file with its password"
        }
        Reason::InvalidClient if detail.starts_with("cannot connect") => {
            "it wants another client certificate, or one at all: check auth.client_cert_file and \
             auth.client_key_file"
        }
        Reason::InvalidClient | Reason::SecretUnreadable => {
            "it does not accept these credentials: check that the secret or API token is the \
             present one and has not ended, that it was copied whole, that it belongs to this \
             auth.client_id and auth.org_id (the long identifier), and that auth.preset or \
             auth.base_url names the cloud where it was made"
        }
        Reason::RateLimited => {
            return match error.retry_after {
                Some(after) => format!(
                    "too many token calls; it asks to wait {}",
                    whole_seconds(after)
                ),
                None => "too many token calls; wait a minute, and see what else uses these \
                         credentials"
                    .to_owned(),
            };
        }
        Reason::BadStatus if detail.starts_with("status 409") => {
            "it says that the request conflicts with its state: see in its console whether the app \
             or the API token is deactivated or is being changed"
        }
        Reason::BadStatus
            if detail.starts_with("status 401") || detail.starts_with("status 403") =>
        {
            "it refuses without a reason. Either something stands in between, a firewall or a proxy: \
             check the way to it, auth.base_url, auth.token_path or auth.token_url, and whether it needs \
             auth.proxy_url. Or it is a token endpoint that rejects a client without a word, as some do: \
             check auth.client_id, that the secret is the present one and was copied whole, and \
             auth.client_auth. A secret with characters like + / % : reaches all of them with \
             client_secret_post; with client_secret_basic some expect it in another spelling"
        }
        Reason::BadStatus if detail.starts_with("status 4") => {
            "this is no response of a token endpoint to the credentials: a firewall or proxy may \
             stand in between, or the address is wrong. Check the way to it, auth.base_url, \
             auth.token_path or auth.token_url, and whether it needs auth.proxy_url"
        }
        Reason::BadStatus if detail.starts_with("status 3") => {
            "something else responds in its place, a sign-in page or a moved address: check \
             auth.base_url, auth.token_path or auth.token_url"
        }
        Reason::BadStatus => {
            "it has trouble, or something else responds in its place: try again later, and check \
             auth.base_url, auth.token_path or auth.token_url"
        }
        Reason::BadResponse => {
            "this is no response of a token endpoint: check auth.base_url, auth.token_path or \
             auth.token_url, and whether a sign-in page or proxy stands in between"
        }
        Reason::Timeout => {
            "a firewall may swallow the connection: check the way to it, and whether it needs \
             auth.proxy_url"
        }
        Reason::Network => {
            return remedy::of_certificate(detail, "auth.ca_file").unwrap_or_else(|| {
                "nothing responds there: check auth.base_url or auth.token_url, the network, and \
                 whether it needs auth.proxy_url"
                    .to_owned()
            });
        }
    };
    advice.to_owned()
}
