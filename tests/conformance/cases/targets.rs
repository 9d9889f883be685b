//! Request targets (RFC 9112 §3.2): what may come, and that it goes on byte for byte.

use crate::case::{Case, End, Reply, Upstream, case, line};

pub fn cases() -> Vec<Case> {
    [paths(), odd(), absolute(), others()].concat()
}

fn request(target: &[u8]) -> Vec<u8> {
    [b"GET ", target, b" HTTP/1.1"].concat()
}

fn paths() -> Vec<Case> {
    let as_it_came = |name, target: &str| {
        let bytes = request(target.as_bytes());
        case("9110 §7.7", name, line(&bytes)).forwarded(&bytes)
    };
    vec![
        as_it_came("the root goes on", "/"),
        as_it_came("two slashes at the beginning stay", "//evil.example/x"),
        as_it_came("two slashes in the middle stay", "/a//b"),
        as_it_came("a slash at the end stays", "/a/b/"),
        as_it_came("a dot segment stays", "/a/./b"),
        as_it_came("two dots stay", "/a/../b"),
        as_it_came("two dots above the root stay", "/../../etc/passwd"),
        as_it_came("two encoded dots stay", "/a/%2e%2e/b"),
        as_it_came("an encoded slash stays", "/a%2Fb"),
        as_it_came("the case of an encoded slash stays", "/a%2fb"),
        as_it_came("an encoded letter stays", "/%61"),
        as_it_came("an encoded percent stays", "/%252F"),
        as_it_came("an encoded NUL stays", "/a%00b"),
        as_it_came("an encoded line end stays", "/a%0d%0aX-Evil:%201"),
        as_it_came("a percent that encodes nothing stays", "/100%"),
        as_it_came("a percent before other letters stays", "/%zz"),
        as_it_came("a semicolon stays", "/a;b=c/d;e"),
        as_it_came("the case of a path stays", "/API/v2/Chart"),
        as_it_came("every other character of a path stays", "/!$&'()*+,-.:=@_~"),
        as_it_came("an empty query stays", "/x?"),
        as_it_came("a query with question marks stays", "/x?a=b?c"),
        as_it_came("an encoded query stays", "/x?q=ts%28%22cpu%22%29&q=a+b"),
        as_it_came(
            "a query with slashes and dots stays",
            "/x?u=http://evil.example/../y",
        ),
        as_it_came("a query with semicolons stays", "/x?a;b;c=&&d"),
        as_it_came(
            "a query with brackets of its own kind stays",
            "/x?a=(1)&b=!'*",
        ),
        as_it_came(
            "a token in a query is the client's business",
            "/x?token=abc&access_token=def",
        ),
        as_it_came("a path that names a scheme stays", "/http://evil.example/x"),
        as_it_came(
            "a path of our own admin listener belongs to the upstream",
            "/metrics",
        ),
    ]
}

/// What RFC 3986 has no place for, and clients send: as it came, whatever the byte.
fn odd() -> Vec<Case> {
    let as_it_came = |name, target: &[u8]| {
        let bytes = request(target);
        case("contract", name, line(&bytes)).forwarded(&bytes)
    };
    let printable: Vec<u8> = (b'!'..=b'~').filter(|byte| *byte != b'#').collect();
    let high: Vec<u8> = (0x80..=0xff).collect();
    vec![
        as_it_came(
            "bytes that are no ASCII in a path are not bent",
            b"/caf\xc3\xa9",
        ),
        as_it_came(
            "bytes that are no UTF-8 in a path are not bent",
            b"/\xff\xfe",
        ),
        as_it_came(
            "bytes that are no ASCII in a query are not bent",
            b"/x?q=\xc3\xa9",
        ),
        as_it_came("a backslash is not bent", b"/a\\b"),
        as_it_came("a backslash before two dots is not bent", b"/a\\..\\b"),
        as_it_came("a vertical bar is not bent", b"/a|b"),
        as_it_came("curly brackets are not bent", b"/{a}"),
        as_it_came("square brackets are not bent", b"/a[1]?b[]=c"),
        as_it_came("a circumflex is not bent", b"/a^b"),
        as_it_came("a backtick is not bent", b"/a`b"),
        as_it_came("quotes in a path are not bent", b"/a\"b"),
        as_it_came("quotes in a query are not bent", b"/x?q=ts(\"cpu\")"),
        as_it_came(
            "quotes in a query of a chart are not bent",
            b"/api/v2/chart/api?q=ts(\"cpu.usage\")",
        ),
        as_it_came("angle brackets in a path are not bent", b"/<a>"),
        as_it_came("angle brackets in a query are not bent", b"/x?q=<a>"),
        as_it_came(
            "every printable byte of a path but # is not bent",
            &[b"/", &printable[..]].concat(),
        ),
        as_it_came(
            "every printable byte of a query but # is not bent",
            &[b"/x?", &printable[..]].concat(),
        ),
        as_it_came(
            "every high byte of a path is not bent",
            &[b"/", &high[..]].concat(),
        ),
        as_it_came(
            "every high byte of a query is not bent",
            &[b"/x?", &high[..]].concat(),
        ),
        as_it_came(
            "odd bytes right behind the slash are not bent",
            b"/\"\x80<>",
        ),
        case(
            "contract",
            "odd bytes of an address are not bent",
            line(request(b"http://localhost/\"a\"\xff?q=<\xe9>")),
        )
        .forwarded(request(b"/\"a\"\xff?q=<\xe9>")),
    ]
}

fn absolute() -> Vec<Case> {
    let becomes = |name, target: &str, path: &str| {
        case("9112 §3.2.2", name, line(request(target.as_bytes())))
            .forwarded(request(path.as_bytes()))
    };
    let refused = |name, target: &str, status: &[u16]| {
        case("9112 §3.2.2", name, line(request(target.as_bytes()))).refused(status)
    };
    let misdirected = |name, target: &str, host: &str| {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        case("9110 §7.4", name, bytes).denied(421).by_name()
    };
    vec![
        becomes(
            "a whole address of ours becomes its path",
            "http://localhost/x?y=z",
            "/x?y=z",
        ),
        becomes(
            "an address with a port becomes its path",
            "http://localhost:9797/x",
            "/x",
        ),
        becomes(
            "an address by number becomes its path",
            "http://127.0.0.1/x",
            "/x",
        ),
        becomes(
            "an address in capitals becomes its path",
            "HTTP://LOCALHOST/X",
            "/X",
        ),
        becomes(
            "an address without a path becomes the root",
            "http://localhost",
            "/",
        ),
        becomes(
            "an address with a query and no path becomes the root and the query",
            "http://localhost?a=b",
            "/?a=b",
        ),
        becomes(
            "the path of an address stays as it came",
            "http://localhost//a/../b%2F",
            "//a/../b%2F",
        ),
        misdirected(
            "another host in the target is misdirected",
            "http://evil.example/x",
            "localhost",
        ),
        misdirected(
            "another host in Host is misdirected, whatever the target says",
            "http://localhost/x",
            "evil.example",
        ),
        misdirected(
            "another host in both is misdirected",
            "http://evil.example/x",
            "evil.example",
        ),
        misdirected(
            "an address of the cloud's metadata is misdirected",
            "http://169.254.169.254/latest",
            "localhost",
        ),
        misdirected(
            "a port of another host is misdirected",
            "http://evil.example:9797/x",
            "localhost",
        ),
        refused(
            "user information is refused",
            "http://user@localhost/x",
            &[400],
        ),
        refused(
            "user information with a password is refused",
            "http://user:secret@localhost/x",
            &[400],
        ),
        refused(
            "an address that looks like ours in front of another is refused",
            "http://localhost@evil.example/x",
            &[400],
        ),
        refused("an address without a host is refused", "http:///x", &[400]),
        refused(
            "an address with half a port is refused",
            "http://localhost:80x/x",
            &[400],
        ),
        refused(
            "an address with a port over 16 bit is refused",
            "http://localhost:99999/x",
            &[400],
        )
        .by_name(),
        refused(
            "another scheme is refused",
            "ftp://localhost/x",
            &[400, 421],
        ),
        refused("a file is refused", "file:///etc/passwd", &[400]),
        refused("a script is refused", "javascript:alert(1)", &[400]),
        refused(
            "a fragment of an address is refused",
            "http://localhost/x#y",
            &[400],
        )
        .detail("target: byte 18, '#'"),
        // RFC 9112 §3.2.4 wants `*`; hyper's type for targets does not tell no path from the root.
        case(
            "9112 §3.2.4",
            "OPTIONS of an address without a path is about the server",
            line("OPTIONS http://localhost HTTP/1.1"),
        )
        .forwarded("OPTIONS * HTTP/1.1")
        .outcome(
            Upstream::Requests(vec![crate::case::Want::new("OPTIONS / HTTP/1.1", "")]),
            vec![Reply::status(&[200])],
            End::Usable,
        ),
    ]
}

fn others() -> Vec<Case> {
    let refused =
        |name, target: &[u8]| case("9112 §3.2", name, line(request(target))).refused(&[400]);
    vec![
        case(
            "9112 §3.2.4",
            "an asterisk belongs to OPTIONS",
            line("OPTIONS * HTTP/1.1"),
        )
        .forwarded("OPTIONS * HTTP/1.1"),
        refused("an asterisk does not belong to GET", b"*"),
        refused("an asterisk with a query is refused", b"*?a=b"),
        refused("two asterisks are refused", b"**"),
        refused("an authority does not belong to GET", b"localhost:9797"),
        refused("a name does not belong to GET", b"localhost"),
        refused("a path without a slash is refused", b"x/y"),
        refused("a query without a path is refused", b"?a=b"),
        refused("two dots without a slash are refused", b"../x"),
        refused("a fragment is refused", b"/x#y").detail("target: byte 2, '#'"),
        refused("an empty fragment is refused", b"/x#").detail("target: byte 2, '#'"),
        refused("a fragment behind a query is refused", b"/x?y#z").detail("target: byte 4, '#'"),
        refused(
            "a fragment of a long query is refused, and its place is named",
            b"/api/v2/chart/api?q=cpu.usage.x#y",
        )
        .detail("target: byte 31, '#'"),
        refused(
            "a number sign behind quotes and bytes that are no ASCII is refused",
            b"/\"\xc3\xa9\"?#",
        )
        .detail("target: byte 6, '#'"),
        refused("a space in a target is refused", b"/a b"),
        refused("a NUL in a target is refused", b"/a\0b").detail("target: byte 2, 0x00"),
        refused("a control in a target is refused", b"/a\x01b").detail("target: byte 2, 0x01"),
        refused("a control in a query is refused", b"/x?\x1b[2J").detail("target: byte 3, 0x1b"),
        refused("a tab in a target is refused", b"/x?a\tb").detail("target: byte 4, 0x09"),
        refused("a DEL in a target is refused", b"/a\x7f").detail("target: byte 2, 0x7f"),
        refused(
            "of several bad bytes of a target the first is named",
            b"/a\x7f#\x01",
        )
        .detail("target: byte 2, 0x7f"),
    ]
}
