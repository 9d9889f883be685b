//! One connection of the instance and of the token service: HTTP/1.1, as much as the subjects send.

use std::{cell::RefCell, io, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use memchr::memmem;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::tokens::Tokens;

/// The most that is written at a time, which is what TLS encrypts at a time.
const PIECE: usize = 256 * 1024;
static LARGE: LazyLock<Vec<u8>> =
    LazyLock::new(|| b"0123456789abcde\n".repeat(16 * 1024 * 1024 / 16));

struct Request {
    /// Method, path and version.
    line: String,
    authorization: Option<Vec<u8>>,
    authorizations: usize,
    content_length: usize,
    is_chunked: bool,
    closes: bool,
}

/// Answers requests until the peer has no more. An instance answers 401 to any but one current token.
pub async fn serve<S>(mut stream: S, tokens: &RefCell<Tokens>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut input = Vec::with_capacity(16 * 1024);
    let mut output = Vec::with_capacity(128 * 1024);
    loop {
        let end = loop {
            if let Some(end) = memmem::find(&input, b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
        };
        let request = parse(&input[..end]);
        let total = end + request.content_length;
        while input.len() < total {
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
        }
        let body = &input[end..total];
        output.clear();
        let rest = answer(&request, body, tokens, &mut output);
        stream.write_all(&output).await?;
        for piece in rest.chunks(PIECE) {
            stream.write_all(piece).await?;
        }
        stream.flush().await?;
        if request.closes {
            return stream.shutdown().await;
        }
        input.drain(..total);
    }
}

fn parse(head: &[u8]) -> Request {
    let mut lines = head
        .split(|byte| *byte == b'\n')
        .map(|line| line.trim_ascii_end());
    let line = lines.next().unwrap_or_default();
    let mut request = Request {
        line: String::from_utf8_lossy(line).into_owned(),
        authorization: None,
        authorizations: 0,
        content_length: 0,
        is_chunked: false,
        closes: false,
    };
    for line in lines {
        let Some(colon) = memchr::memchr(b':', line) else {
            continue;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"authorization") {
            request.authorization = Some(value.to_vec());
            request.authorizations += 1;
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let value = std::str::from_utf8(value).ok();
            request.content_length = value.and_then(|value| value.parse().ok()).unwrap_or(0);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            request.is_chunked = true;
        } else if name.eq_ignore_ascii_case(b"connection") {
            request.closes = value.eq_ignore_ascii_case(b"close");
        }
    }
    request
}

/// Writes the head, and the body if it is not large; gives what is to follow it.
fn answer(
    request: &Request,
    body: &[u8],
    tokens: &RefCell<Tokens>,
    output: &mut Vec<u8>,
) -> &'static [u8] {
    if request.is_chunked {
        head(request, "501 Not Implemented", 0, output);
        return &[];
    }
    let mut words = request.line.split(' ');
    let (_, path) = (words.next(), words.next().unwrap_or_default());
    if matches!(path, "/csp/gateway/am/api/auth/authorize" | "/oauth2/token") {
        let Some(client) = client(request, body) else {
            head(request, "401 Unauthorized", 0, output);
            return &[];
        };
        let (token, lifetime) = tokens.borrow_mut().issue(&client);
        let body = format!(
            r#"{{"access_token":"{token}","token_type":"bearer","expires_in":{lifetime},"scope":"ALL_PERMISSIONS"}}"#
        );
        head(request, "200 OK", body.len(), output);
        output.extend_from_slice(body.as_bytes());
        return &[];
    }
    let tokens = tokens.borrow();
    let field = request.authorization.as_deref().unwrap_or_default();
    let Some(small) = tokens.small(field).filter(|_| request.authorizations == 1) else {
        head(request, "401 Unauthorized", 0, output);
        return &[];
    };
    let large = match path {
        "/64k" => 64 * 1024,
        "/16m" => LARGE.len(),
        "/small" => {
            head(request, "200 OK", small.len(), output);
            output.extend_from_slice(small);
            return &[];
        }
        "/length" => {
            let length = format!("{{\"length\":{}}}", body.len());
            head(request, "200 OK", length.len(), output);
            output.extend_from_slice(length.as_bytes());
            return &[];
        }
        _ => {
            head(request, "404 Not Found", 0, output);
            return &[];
        }
    };
    head(request, "200 OK", large, output);
    // What fits goes out with the head.
    let (first, rest) = LARGE[..large].split_at(large.min(64 * 1024));
    output.extend_from_slice(first);
    rest
}

fn head(request: &Request, status: &str, length: usize, output: &mut Vec<u8>) {
    let connection = if request.closes {
        "Connection: close\r\n"
    } else {
        ""
    };
    for part in [
        "HTTP/1.1 ",
        status,
        "\r\nServer: instance\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
         Content-Type: application/json\r\nCache-Control: no-store\r\n\
         Strict-Transport-Security: max-age=31536000\r\nX-Frame-Options: SAMEORIGIN\r\n",
        connection,
        "Content-Length: ",
        &length.to_string(),
        "\r\n\r\n",
    ] {
        output.extend_from_slice(part.as_bytes());
    }
}

/// Who asks for a token: by HTTP Basic, or in the form.
fn client(request: &Request, body: &[u8]) -> Option<String> {
    if let Some(field) = &request.authorization {
        let field = std::str::from_utf8(field).ok()?.strip_prefix("Basic ")?;
        let pair = String::from_utf8(STANDARD.decode(field).ok()?).ok()?;
        return Some(pair.split_once(':')?.0.to_owned());
    }
    let form = std::str::from_utf8(body).ok()?;
    let field = form
        .split('&')
        .find_map(|field| field.strip_prefix("client_id="));
    field.map(str::to_owned)
}
