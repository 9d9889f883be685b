use super::*;

fn issuer(name: &str) -> Issuer {
    Issuer::new(name.to_owned(), Url::parse(name).unwrap(), false)
}

fn read(issuer: &Issuer, body: &str) -> Result<String, &'static str> {
    let place = issuer.places()[0].clone();
    let read = issuer.read(&place, body.as_bytes(), false);
    read.map(|metadata| metadata.token_endpoint.to_string())
}

#[test]
fn the_metadata_are_at_the_two_places_of_the_standards() {
    for (name, first, second) in [
        (
            "https://h.example",
            "https://h.example/.well-known/oauth-authorization-server",
            "https://h.example/.well-known/openid-configuration",
        ),
        (
            "https://h.example/realms/a/",
            "https://h.example/.well-known/oauth-authorization-server/realms/a",
            "https://h.example/realms/a/.well-known/openid-configuration",
        ),
    ] {
        assert_eq!(issuer(name).places().map(String::from), [first, second]);
    }
}

#[test]
fn metadata_count_only_where_they_are_of_this_issuer_and_name_a_safe_endpoint() {
    let of = issuer("https://h.example/a");
    let with = |issuer: &str, endpoint: &str| {
        format!(r#"{{"issuer":"{issuer}","token_endpoint":"{endpoint}","x":[1]}}"#)
    };
    let right = with("https://h.example/a", "https://t.example/token?x=1");
    assert_eq!(read(&of, &right).unwrap(), "https://t.example/token?x=1");
    for (body, why) in [
        ("<html>", "no metadata"),
        ("[]", "no metadata"),
        ("{}", "no issuer"),
        (r#"{"issuer":7}"#, "no metadata"),
        (r#"{"issuer":"https://h.example/a"}"#, "no token_endpoint"),
        (
            &with("https://evil.example/a", "https://t.example/"),
            "another issuer",
        ),
        (
            &with("https://h.example/a/", "https://t.example/"),
            "the slash",
        ),
        (&with("https://h.example/a", "http://t.example/"), "http://"),
        (&with("https://h.example/a", "http://127.0.0.1/"), "http://"),
        (
            &with("https://h.example/a", "https://u:p@t.example/"),
            "user name",
        ),
        (
            &with("https://h.example/a", "https://t.example/#x"),
            "fragment",
        ),
        (&with("https://h.example/a", "/token"), "no URL"),
        (&with("https://h.example/a", "file:///etc"), "no https"),
    ] {
        let error = read(&of, body).unwrap_err();
        assert!(error.contains(why), "{body}: {error}");
    }
    let local = issuer("http://127.0.0.1:8080");
    let body = with("http://127.0.0.1:8080", "http://127.0.0.1:8080/token");
    assert!(read(&local, &body).is_ok());
    let away = with("http://127.0.0.1:8080", "http://t.example/token");
    assert!(read(&local, &away).is_err());
}

#[test]
fn a_client_with_a_certificate_is_sent_to_the_endpoint_that_asks_for_it() {
    let of = issuer("https://h.example");
    let body = r#"{"issuer":"https://h.example","token_endpoint":"https://h.example/t",
        "mtls_endpoint_aliases":{"token_endpoint":"https://mtls.h.example/t"}}"#;
    let place = of.places()[0].clone();
    let endpoint = |by_certificate| {
        let read = of.read(&place, body.as_bytes(), by_certificate).unwrap();
        read.token_endpoint.to_string()
    };
    assert_eq!(endpoint(true), "https://mtls.h.example/t");
    assert_eq!(endpoint(false), "https://h.example/t");
}

#[test]
fn whatever_an_issuer_says_is_metadata_or_an_error() {
    let of = issuer("https://h.example");
    let right = r#"{"issuer":"https://h.example","token_endpoint":"https://h.example/t"}"#;
    // Each byte taken out, doubled, or turned into another.
    for at in 0..right.len() {
        for other in [&b""[..], b"\"", b"\0", b"{", b"\xff", b"[["] {
            let mut bytes = right.as_bytes().to_vec();
            drop(bytes.splice(at..=at, other.iter().copied()));
            if let Ok(metadata) = of.read(&of.places()[0], &bytes, true) {
                assert_eq!(metadata.token_endpoint.scheme(), "https");
            }
        }
    }
}

#[test]
fn reading_again_backs_off_between_a_floor_and_a_ceiling() {
    for failures in [0, 1, 2, 5, 100, u32::MAX] {
        for random in [0.0, 0.5, 1.0] {
            let after = again_after(failures, random);
            assert!((FLOOR..=KEPT).contains(&after), "{failures}: {after:?}");
        }
    }
    assert!(again_after(3, 0.0) > again_after(1, 1.0));
}
