use super::*;

fn lifetime(body: &str) -> Result<Lifetime, Reason> {
    let granted = granted(body.as_bytes(), &Expected::default());
    let response = granted.and_then(|granted| granted.response);
    response
        .map(|response| response.lifetime)
        .map_err(|error| error.reason)
}

fn limited(seconds: f64) -> Lifetime {
    Lifetime::Limited(Duration::from_secs_f64(seconds))
}

#[test]
fn every_shape_of_expires_in_has_a_meaning() {
    for (expires_in, expected) in [
        ("1799", Ok(limited(1799.0))),
        ("\"1799\"", Ok(limited(1799.0))),
        ("1", Ok(limited(1.0))),
        ("1.5", Ok(limited(1.5))),
        ("1799.0", Ok(limited(1799.0))),
        ("1e12", Ok(limited(1e12))),
        ("1e300", Ok(Lifetime::Limited(Duration::MAX))),
        ("18446744073709551616", Ok(Lifetime::Limited(Duration::MAX))),
        ("0", Err(Reason::BadResponse)),
        ("-5", Err(Reason::BadResponse)),
        ("\"-5\"", Err(Reason::BadResponse)),
        ("null", Ok(Lifetime::Unknown)),
        ("\"soon\"", Ok(Lifetime::Unknown)),
        ("\"NaN\"", Ok(Lifetime::Unknown)),
        ("{}", Ok(Lifetime::Unknown)),
        ("true", Ok(Lifetime::Unknown)),
    ] {
        let body = format!(r#"{{"access_token":"t","expires_in":{expires_in}}}"#);
        assert_eq!(lifetime(&body), expected, "{expires_in}");
    }
    assert_eq!(lifetime(r#"{"access_token":"t"}"#), Ok(Lifetime::Unknown));
}

#[test]
fn a_jwt_gives_its_lifetime_where_the_service_gives_none() {
    let jwt = |claims: &str| {
        let claims = BASE64_URL_SAFE_NO_PAD.encode(claims);
        format!(r#"{{"access_token":"e30.{claims}.sig"}}"#)
    };
    assert_eq!(
        lifetime(&jwt(r#"{"iat":100,"exp":400}"#)),
        Ok(limited(300.0))
    );
    assert_eq!(
        lifetime(&jwt(r#"{"iat":400,"exp":100}"#)),
        Ok(Lifetime::Unknown)
    );
    assert_eq!(lifetime(&jwt(r#"{"sub":"x"}"#)), Ok(Lifetime::Unknown));
    assert_eq!(lifetime(&jwt("not json")), Ok(Lifetime::Unknown));
}

#[test]
fn what_is_no_token_is_a_bad_response() {
    let deep = format!(r#"{{"access_token":{}"#, "[".repeat(100_000));
    let long = format!(r#"{{"access_token":"{}"}}"#, "a".repeat(64 * 1024 + 1));
    for body in [
        "",
        "null",
        "[]",
        "<html>busy</html>",
        r#"{"access_token":null}"#,
        r#"{"access_token":""}"#,
        r#"{"access_token":7}"#,
        r#"{"access_token":"a b"}"#,
        r#"{"access_token":"a\r\nX: y"}"#,
        r#"{"access_token":"ä"}"#,
        r#"{"access_token":"t","token_type":"DPoP"}"#,
        r#"{"access_token":"t""#,
        r#"{"error":"something"}"#,
        &deep,
        &long,
    ] {
        assert_eq!(lifetime(body), Err(Reason::BadResponse), "{body:.60}");
    }
    let rejected = r#"{"error":"invalid_grant"}"#;
    assert_eq!(lifetime(rejected), Err(Reason::InvalidClient));
}

#[test]
fn the_longest_token_is_as_long_as_a_secret_may_be() {
    let body = format!(r#"{{"access_token":"{}"}}"#, "a".repeat(64 * 1024));
    assert_eq!(lifetime(&body), Ok(Lifetime::Unknown));
}

#[test]
fn a_response_may_begin_with_a_mark_and_end_its_lines_in_any_way() {
    let body = "\u{feff}{\r\n\"access_token\":\"t\",\r\n\"expires_in\":9}\r\n";
    assert_eq!(lifetime(body), Ok(limited(9.0)));
    let refusal = "\u{feff}{\"error\":\"invalid_grant\"}\r\n";
    let error = refused(StatusCode::BAD_REQUEST, None, refusal.as_bytes());
    assert_eq!(error.reason, Reason::InvalidClient);
}

#[test]
fn a_bearer_token_is_known_by_each_of_its_names() {
    let read = |kind: &str| lifetime(&format!(r#"{{"access_token":"t","token_type":{kind}}}"#));
    for bearer in [
        "\"Bearer\"",
        "\"bearer\"",
        "\"BEARER\"",
        "\"BearerToken\"",
        "\"bearer_token\"",
        "\"Bearer Token\"",
        "\" Bearer\"",
        "\"\"",
        "null",
    ] {
        assert_eq!(read(bearer), Ok(Lifetime::Unknown), "{bearer}");
    }
    for other in ["mac", "DPoP", "N_A", "pop", "bearers", "unbearer", "token"] {
        let read = read(&format!("\"{other}\""));
        assert_eq!(read, Err(Reason::BadResponse), "{other}");
    }
}

#[test]
fn unknown_fields_and_deep_ones_are_ignored() {
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let body = format!(r#"{{"x":{deep},"access_token":"t","token_type":"Bearer","expires_in":9}}"#);
    assert_eq!(lifetime(&body), Ok(limited(9.0)));
}

#[test]
fn refusals_are_classified() {
    for (status, body, reason) in [
        (400, r#"{"error":"invalid_grant"}"#, Reason::InvalidClient),
        (
            400,
            r#"{"moduleCode":340,"message":"invalid_grant: Invalid refresh token: canary"}"#,
            Reason::InvalidClient,
        ),
        (400, r#"{"message":"busy"}"#, Reason::BadStatus),
        // Whoever stands in between does not know the credential.
        (401, "", Reason::BadStatus),
        (401, "<html>canary</html>", Reason::BadStatus),
        (403, "", Reason::BadStatus),
        (403, "<html>blocked: canary</html>", Reason::BadStatus),
        (403, r#"{"message":"blocked"}"#, Reason::BadStatus),
        (400, "<html>", Reason::BadStatus),
        // The service itself does, in its own words.
        (401, r#"{"error":"Unauthorized"}"#, Reason::InvalidClient),
        (401, r#"{"error":"invalid_token"}"#, Reason::InvalidClient),
        (401, r#"{"cspErrorCode":"auth.1"}"#, Reason::InvalidClient),
        (403, r#"{"error":"access_denied"}"#, Reason::InvalidClient),
        (403, r#"{"error":"account_locked"}"#, Reason::InvalidClient),
        (403, r#"{"moduleCode":"340"}"#, Reason::InvalidClient),
        (403, r#"{"error":"Blocked by policy"}"#, Reason::BadStatus),
        (404, r#"{"moduleCode":"540"}"#, Reason::InvalidClient),
        (404, "<html>", Reason::BadStatus),
        (409, "{}", Reason::BadStatus),
        (429, "", Reason::RateLimited),
        (302, "", Reason::BadStatus),
        (500, r#"{"error":"invalid_client"}"#, Reason::BadStatus),
        (503, "<html>busy</html>", Reason::BadStatus),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let error = refused(status, None, body.as_bytes());
        assert_eq!(error.reason, reason, "{status} {body}");
        assert!(!error.to_string().contains("canary"));
    }
}

#[test]
fn the_codes_for_the_vendors_support_are_shown_and_nothing_that_could_be_a_secret() {
    let body = format!(
        r#"{{"cspErrorCode":"csp.1","moduleCode":540,"requestId":"ab-12","traceId":"{}","errorCode":"a b"}}"#,
        "x".repeat(65)
    );
    let error = refused(StatusCode::NOT_FOUND, None, body.as_bytes());
    assert_eq!(
        error.detail,
        "status 404, cspErrorCode csp.1, moduleCode 540, requestId ab-12"
    );
}

#[test]
fn retry_after_is_read_in_both_forms_and_nonsense_is_none() {
    let read = |text: &str| {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, text.parse().unwrap());
        retry_after(&headers)
    };
    assert_eq!(read("7"), Some(Duration::from_secs(7)));
    for nonsense in [
        "0",
        "-3",
        "soon",
        "",
        "1.5",
        "Sun, 06 Nov 1994 08:49:37 GMT",
    ] {
        assert_eq!(read(nonsense), None, "{nonsense}");
    }
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
    let asked = read(&date).unwrap().as_secs();
    assert!((58..=60).contains(&asked), "{asked}");
}

#[test]
fn a_refresh_token_is_another_one_or_none_or_cannot_be_used_and_the_access_token_is_good() {
    let read = |refresh_token: &str| {
        let body = format!(r#"{{"access_token":"a","refresh_token":{refresh_token}}}"#);
        let granted = granted(body.as_bytes(), &Expected::default()).unwrap();
        assert!(granted.response.is_ok(), "{refresh_token}");
        granted.refresh_token
    };
    assert!(matches!(read("null"), NextRefreshToken::Same));
    assert!(matches!(read("\"r\""), NextRefreshToken::Given(_)));
    let long = format!("\"{}\"", "r".repeat(MAX_TOKEN_BYTES));
    for (given, why) in [
        ("7", "no string"),
        ("{}", "no string"),
        ("[\"r\"]", "no string"),
        ("false", "no string"),
        ("\"\"", "empty"),
        (&long, "longer"),
        ("\"a b\"", "characters"),
        ("\"a\\nb\"", "characters"),
        ("\"ä\"", "characters"),
    ] {
        let NextRefreshToken::Unusable(said) = read(given) else {
            panic!("{given} can be used");
        };
        assert!(said.contains(why), "{given}: {said}");
    }
}
