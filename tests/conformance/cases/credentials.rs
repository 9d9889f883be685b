//! Every spelling of a credential: exactly one reaches the upstream, ours (the contract). That it
//! is there, alone and whole, is judged for every request of the whole table.

use crate::case::{Case, case, get};

const X: &str = "GET /x HTTP/1.1";

pub fn cases() -> Vec<Case> {
    let replaced = |name, fields: &str| {
        case("contract", name, get(fields))
            .forwarded(X)
            .never("evil-credential")
    };
    let gone = |name, fields: &str| replaced(name, fields);
    vec![
        replaced("a bearer token is replaced", "Authorization: Bearer evil-credential"),
        replaced("another scheme is replaced", "Authorization: Basic evil-credential"),
        replaced("an empty credential is replaced", "Authorization:"),
        replaced("two credentials are replaced by one", "Authorization: Bearer evil-credential\r\nAuthorization: Bearer evil-credential"),
        replaced("a credential in small letters is replaced", "authorization: bearer evil-credential"),
        replaced("a credential in capitals is replaced", "AUTHORIZATION: BEARER evil-credential"),
        replaced("credentials of mixed case are replaced by one", "Authorization: a evil-credential\r\naUTHORIZATION: b evil-credential\r\nX-A: 1"),
        replaced("a credential for the proxy ends here", "Proxy-Authorization: Basic evil-credential"),
        gone("X-AUTH-TOKEN ends here", "X-AUTH-TOKEN: evil-credential"),
        gone("csp-auth-token ends here", "csp-auth-token: evil-credential"),
        gone("names that programs behind a server take for these end here", "X_AUTH_TOKEN: evil-credential\r\ncsp_auth_token: evil-credential"),
        gone("a credential with one underscore ends here", "X-AUTH_TOKEN: evil-credential\r\nX_AUTH-TOKEN: evil-credential\r\ncsp-auth_token: evil-credential"),
        gone("a credential in capitals with underscores ends here", "CSP_AUTH_TOKEN: evil-credential\r\nX_Auth_Token: evil-credential"),
        gone("a credential for the proxy with an underscore ends here", "Proxy_Authorization: Basic evil-credential"),
        gone("a credential by the name of a variable ends here", "HTTP_AUTHORIZATION: Bearer evil-credential\r\nhttp_authorization: evil-credential"),
        replaced("a nominated credential with an underscore ends here", "Connection: x_auth_token\r\nX_AUTH_TOKEN: evil-credential"),
        replaced("Connection cannot take the credential away", "Connection: authorization"),
        replaced("Connection cannot take ours away with the client's", "Connection: Authorization, close-not\r\nAuthorization: Bearer evil-credential"),
        replaced("Connection in two fields cannot take it away", "Connection: keep-alive\r\nConnection: AUTHORIZATION"),
        case("9112 §5.2", "a folded credential is refused", get("Authorization: Bearer\r\n evil-credential")).refused(&[400]),
        case("9112 §5.1", "a credential with white space before its colon is refused", get("Authorization : Bearer evil-credential")).refused(&[400]),
        case("9112 §5", "a credential behind a bare LF is refused", get("X-A: 1\nAuthorization: Bearer evil-credential")).refused(&[400]),
        case("contract", "a cookie is no credential of ours", get("Cookie: session=abc"))
            .forwarded(X)
            .with("cookie", &["session=abc"]),
        case("contract", "what the upstream says of credentials does not hold our own", get("X-A: 1"))
            .answer("HTTP/1.1 200 OK\r\nAuthentication-Info: nextnonce=\"x\"\r\nContent-Length: 2\r\n\r\nok")
            .gives(&[200])
            .reply_with("authentication-info", &["nextnonce=\"x\""]),
    ]
}
