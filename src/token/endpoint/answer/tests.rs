use super::*;

fn lifetime(body: &str) -> Result<Lifetime, Reason> {
    match granted(body.as_bytes()) {
        Ok(response) => Ok(response.lifetime),
        Err(error) => Err(error.reason),
    }
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
fn a_jwt_tells_its_lifetime_when_the_service_does_not() {
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
    let long = format!(r#"{{"access_token":"{}"}}"#, "a".repeat(20_000));
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
fn unknown_fields_and_deep_ones_are_ignored() {
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    let body = format!(r#"{{"x":{deep},"access_token":"t","token_type":"Bearer","expires_in":9}}"#);
    assert_eq!(lifetime(&body), Ok(limited(9.0)));
}

#[test]
fn refusals_are_told_apart() {
    for (status, body, reason) in [
        (400, r#"{"error":"invalid_grant"}"#, Reason::InvalidClient),
        (
            400,
            r#"{"moduleCode":340,"message":"invalid_grant: Invalid refresh token: canary"}"#,
            Reason::InvalidClient,
        ),
        (400, r#"{"message":"busy"}"#, Reason::BadStatus),
        (401, "", Reason::InvalidClient),
        (403, "", Reason::InvalidClient),
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
fn the_codes_for_the_vendors_support_are_told_and_nothing_that_could_be_a_secret() {
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
