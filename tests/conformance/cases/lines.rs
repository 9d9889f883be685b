//! The lines of a head (RFC 9112 §2.2, §3, §5): their ends, their names, their values.

use crate::case::{Case, End, Reply, SMUGGLED, Upstream, case, get, line};

const X: &str = "GET /x HTTP/1.1";

pub fn cases() -> Vec<Case> {
    [starts(), ends(), names(), values()].concat()
}

fn starts() -> Vec<Case> {
    let refused = |name, bytes: &[u8]| case("9112 §3", name, line(bytes)).refused(&[400]);
    vec![
        refused(
            "two spaces behind the method are refused",
            b"GET  /x HTTP/1.1",
        ),
        refused(
            "two spaces behind the target are refused",
            b"GET /x  HTTP/1.1",
        ),
        refused("a tab behind the method is refused", b"GET\t/x HTTP/1.1"),
        refused("a tab behind the target is refused", b"GET /x\tHTTP/1.1"),
        refused(
            "a vertical tab behind the target is refused",
            b"GET /x\x0bHTTP/1.1",
        ),
        refused("a space before the method is refused", b" GET /x HTTP/1.1"),
        refused("a space behind the version is refused", b"GET /x HTTP/1.1 "),
        refused("a space in the target is refused", b"GET /x y HTTP/1.1"),
        refused("a NUL in the target is refused", b"GET /x\0 HTTP/1.1"),
        refused("a bare CR in the target is refused", b"GET /x\r/y HTTP/1.1"),
        refused("a control in the target is refused", b"GET /x\x01 HTTP/1.1"),
        refused("a DEL in the target is refused", b"GET /x\x7f HTTP/1.1"),
        refused("a request without a target is refused", b"GET HTTP/1.1"),
        refused("an empty target is refused", b"GET  HTTP/1.1"),
        refused("a method with a bad byte is refused", b"G(T /x HTTP/1.1"),
        refused("a method with a NUL is refused", b"GE\0T /x HTTP/1.1"),
        case(
            "9112 §3.2",
            "a target that is no UTF-8 goes on, also where its line end comes in two",
            b"GET /\xff HTTP/1.1\r",
        )
        .then(b"\nHost: localhost\r\n\r\n")
        .forwarded(b"GET /\xff HTTP/1.1"),
        refused(
            "a method that is no ASCII is refused",
            b"G\xc9T /x HTTP/1.1",
        ),
        refused("a method with a colon is refused", b"GET: /x HTTP/1.1"),
        // The sidecar answers, and not its codec; nor does anybody wait for the end of the line.
        case(
            "9112 §3",
            "what cannot become a request is refused at once",
            b"\x16\x03\x01\x02\x00\x01",
        )
        .or_refused(&[400]),
        case(
            "9112 §5.1",
            "what cannot become a field is refused at once",
            b"GET /x HTTP/1.1\r\nX y",
        )
        .or_refused(&[400]),
        case(
            "9112 §2.2",
            "an empty line before a request is passed over",
            [b"\r\n".to_vec(), get("X-A: 1")].concat(),
        )
        .forwarded(X),
        // More than one is more than §2.2 asks for.
        case(
            "9112 §2.2",
            "several empty lines before a request are passed over or refused",
            [b"\r\n\r\n\r\n".to_vec(), get("X-A: 1")].concat(),
        )
        .forwarded(X)
        .or_refused(&[400]),
        case(
            "9112 §2.2",
            "a bare LF before a request is passed over or refused",
            [b"\n".to_vec(), get("X-A: 1")].concat(),
        )
        .forwarded(X)
        .or_refused(&[400]),
        case(
            "9112 §2.2",
            "endless empty lines are not",
            [b"\r\n".repeat(50_000), SMUGGLED.into()].concat(),
        )
        .or_refused(&[400, 408, 414, 431]),
        case(
            "9112 §2.2",
            "a bare CR before a request is refused",
            b"\rGET /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        )
        .refused(&[400]),
        case(
            "9112 §2.2",
            "a NUL before a request is refused",
            b"\0GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        )
        .refused(&[400]),
        case(
            "9112 §2.1",
            "a TLS handshake is refused",
            b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00\r\n\r\n",
        )
        .refused(&[400]),
        case("9112 §2.1", "a head may come byte by byte", "")
            .send("G")
            .then("ET /x HTT")
            .then("P/1.1\r")
            .then("\nHo")
            .then("st: localhost\r\n")
            .then("\r")
            .then("\n")
            .forwarded(X),
    ]
}

fn ends() -> Vec<Case> {
    // §2.2 lets a recipient take a bare LF for a line end; what is behind us might not.
    let refused = |name, bytes: &[u8]| case("9112 §2.2", name, bytes).refused(&[400]);
    vec![
        refused(
            "lines that end in LF are refused",
            b"GET /x HTTP/1.1\nHost: localhost\n\n",
        ),
        refused(
            "a request line that ends in LF is refused",
            b"GET /x HTTP/1.1\nHost: localhost\r\n\r\n",
        ),
        refused(
            "a field that ends in LF is refused",
            b"GET /x HTTP/1.1\r\nHost: localhost\n\r\n",
        ),
        refused(
            "a head that ends in LF is refused",
            b"GET /x HTTP/1.1\r\nHost: localhost\r\n\n",
        ),
        refused(
            "a line that ends in CR CR LF is refused",
            b"GET /x HTTP/1.1\r\r\nHost: localhost\r\n\r\n",
        ),
        refused(
            "lines that end in CR are refused",
            b"GET /x HTTP/1.1\rHost: localhost\r\r\r\n\r\n",
        ),
        refused(
            "a field that ends in CR is refused",
            b"GET /x HTTP/1.1\r\nX: y\rHost: localhost\r\n\r\n",
        ),
        refused(
            "white space before the first field is refused",
            b"GET /x HTTP/1.1\r\n Host: localhost\r\n\r\n",
        ),
        refused(
            "a line of white space before the first field is refused",
            b"GET /x HTTP/1.1\r\n \r\nHost: localhost\r\n\r\n",
        ),
        refused(
            "a line of white space is no end of a head",
            b"GET /x HTTP/1.1\r\nHost: localhost\r\n \r\n\r\n",
        ),
        case(
            "9112 §8",
            "a head that ends early is never forwarded",
            "GET /x HTTP/1.1\r\nHost: localhost\r\n",
        )
        .finish()
        .outcome(Upstream::Nothing, vec![], End::Closed)
        .outcome(Upstream::Nothing, vec![Reply::own(&[400])], End::Closed),
        case(
            "9112 §8",
            "a request line that ends early is never forwarded",
            "GET /x HT",
        )
        .finish()
        .outcome(Upstream::Nothing, vec![], End::Closed)
        .outcome(Upstream::Nothing, vec![Reply::own(&[400])], End::Closed),
    ]
}

fn names() -> Vec<Case> {
    let refused = |name, field: &[u8]| case("9112 §5.1", name, get(field)).refused(&[400]);
    vec![
        refused("a space before a colon is refused", b"X-A : 1"),
        refused("a tab before a colon is refused", b"X-A\t: 1"),
        refused("a space in a name is refused", b"X A: 1"),
        refused("an empty name is refused", b": 1"),
        refused("a field without a colon is refused", b"X-A"),
        refused("a name with a bracket is refused", b"X(A): 1"),
        refused("a name with an at sign is refused", b"X@A: 1"),
        refused("a name with a slash is refused", b"X/A: 1"),
        refused("a name with a comma is refused", b"X,A: 1"),
        refused("a name with quotes is refused", b"\"X-A\": 1"),
        refused("a name with a NUL is refused", b"X\0A: 1"),
        refused("a name with a control is refused", b"X\x01A: 1"),
        refused("a name with a DEL is refused", b"X\x7fA: 1"),
        refused("a name that is no ASCII is refused", b"X-\xc3\xa9: 1"),
        refused("a name with a CR is refused", b"X\rA: 1"),
        case(
            "9110 §5.6.2",
            "a name may be of every tchar",
            get("!#$%&'*+-.^_`|~0aA: 1"),
        )
        .forwarded(X)
        .with("!#$%&'*+-.^_`|~0aA", &["1"]),
        case(
            "9110 §5.1",
            "a name with an underscore goes on",
            get("X_A: 1"),
        )
        .forwarded(X)
        .with("x_a", &["1"]),
    ]
}

fn values() -> Vec<Case> {
    let refused = |name, field: &[u8]| case("9110 §5.5", name, get(field)).refused(&[400]);
    vec![
        refused("a NUL in a value is refused", b"X-A: a\0b"),
        refused("a bare CR in a value is refused", b"X-A: a\rb"),
        refused("a bare LF in a value is refused", b"X-A: a\nX-B: b"),
        refused("a bare CR at the end of a value is refused", b"X-A: a\r"),
        // §5.5 calls other controls invalid and leaves them to the recipient.
        refused("a control in a value is refused", b"X-A: a\x01b"),
        refused("an escape in a value is refused", b"X-A: \x1b[2J"),
        refused("a DEL in a value is refused", b"X-A: a\x7fb"),
        // §5.2: refused, or replaced by spaces.
        case(
            "9112 §5.2",
            "a folded value is refused",
            get("X-A: a\r\n b"),
        )
        .refused(&[400]),
        case(
            "9112 §5.2",
            "a value folded by a tab is refused",
            get("X-A: a\r\n\tb"),
        )
        .refused(&[400]),
        case(
            "9112 §5.2",
            "a folded field before the framing is refused",
            get("X-A: a\r\n Content-Length: 5"),
        )
        .refused(&[400]),
        case(
            "9110 §5.5",
            "a value goes on as it is, without the white space around it",
            get("X-A: \t a  b\tc \t"),
        )
        .forwarded(X)
        .with("x-a", &["a  b\tc"]),
        case("9110 §5.5", "a value may be empty", get("X-A:\r\nX-B: \t "))
            .forwarded(X)
            .with("x-a", &[""])
            .with("x-b", &[""]),
        case(
            "9110 §5.5",
            "a value may have bytes that are no ASCII",
            get(b"X-A: \xe9\xff\x80"),
        )
        .forwarded(X)
        .with("x-a", &["\u{e9}\u{ff}\u{80}"]),
        case(
            "9110 §5.5",
            "a value may have colons, quotes and commas",
            get("X-A: a:b, \"c,d\";e=f"),
        )
        .forwarded(X)
        .with("x-a", &["a:b, \"c,d\";e=f"]),
        case(
            "9110 §5.3",
            "repeated fields keep their order",
            get("X-A: 1\r\nX-B: 2\r\nx-a: 3\r\nX-A: 1"),
        )
        .forwarded(X)
        .with("x-a", &["1", "3", "1"]),
    ]
}
