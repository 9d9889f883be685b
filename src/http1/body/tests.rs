use super::*;

/// Decodes it in pieces of so many bytes: the content, and how much was used.
fn decode_by(text: &[u8], piece: usize) -> Result<Option<(Vec<u8>, usize)>, BodyError> {
    let mut decoder = Decoder::of_request(Framing::Chunked);
    let (mut content, mut from) = (Vec::new(), 0);
    for to in (0..text.len())
        .step_by(piece)
        .map(|at| (at + piece).min(text.len()))
    {
        loop {
            let (framing, count) = decoder.next(&text[from..to])?;
            from += framing;
            content.extend_from_slice(&text[from..from + count]);
            from += count;
            decoder.consumed(count);
            if decoder.is_done() {
                return Ok(Some((content, from)));
            }
            if count == 0 {
                break;
            }
        }
    }
    Ok(None)
}

/// Decodes it whole and in pieces, and expects the same.
fn decode(text: &str) -> Result<Option<(String, usize)>, BodyError> {
    let whole = decode_by(text.as_bytes(), text.len().max(1));
    for piece in 1..text.len().min(64) {
        assert_eq!(
            decode_by(text.as_bytes(), piece),
            whole,
            "{text:?} by {piece}"
        );
    }
    whole.map(|done| done.map(|(content, used)| (String::from_utf8(content).unwrap(), used)))
}

#[test]
fn chunks_become_their_content_and_nothing_behind_them_is_touched() {
    let text = "a;x=\"y\"\r\n0123456789\r\n1\r\n\n\r\n0\r\nX: y\r\n\r\n";
    let (content, used) = decode(&format!("{text}GET")).unwrap().unwrap();
    assert_eq!((content.as_str(), used), ("0123456789\n", text.len()));
    assert_eq!(decode("3\r\nab").unwrap(), None);
}

#[test]
fn broken_chunks_are_found() {
    for body in [
        "x\r\n",
        "\r\n",
        "+3\r\n",
        "0x3\r\n",
        "-1\r\n",
        "3 \r\n",
        " 3\r\n",
        "3\n",
        "1234567890123456\r\n",
        "3\r\nabcd\r\n",
        "3\r\nabc\n",
        "3;a\nb\r\n",
        "3;a\u{0}\r\n",
        "0\r\nX y\r\n",
        "0\r\n y\r\n",
    ] {
        assert_eq!(decode(body), Err(BodyError::Malformed), "{body:?}");
    }
}

#[test]
fn what_cannot_become_framing_is_not_waited_for() {
    for begun in ["1\r\na\u{1}", "x", "1\r\nab", "0\r\nX: \u{1}", "3;a\u{0}"] {
        let decoded = decode_by(begun.as_bytes(), begun.len());
        assert_eq!(decoded, Err(BodyError::Malformed), "{begun:?}");
    }
    for begun in ["1\r\na\r", "1", "1;a=\"b\"\r", "0\r\nX: y\r", "0\r\n\r"] {
        assert_eq!(
            decode_by(begun.as_bytes(), begun.len()),
            Ok(None),
            "{begun:?}"
        );
    }
}

#[test]
fn everything_has_a_bound() {
    let extension = format!("1;{}", "x".repeat(5 * 1024));
    assert_eq!(
        decode_by(extension.as_bytes(), 512),
        Err(BodyError::Malformed)
    );
    let with_trailers = |count| format!("0\r\n{}\r\n", "X: y\r\n".repeat(count));
    assert!(decode(&with_trailers(100)).is_ok());
    assert_eq!(decode(&with_trailers(101)), Err(BodyError::Malformed));
    let endless = format!("0\r\nX: {}", "y".repeat(20 * 1024));
    assert_eq!(
        decode_by(endless.as_bytes(), 512),
        Err(BodyError::Malformed)
    );
}

#[test]
fn trailers_are_kept_apart() {
    let mut decoder = Decoder::of_request(Framing::Chunked);
    decoder
        .next(b"0\r\nX-Late: 1\r\nContent-Length: 9\r\n\r\n")
        .unwrap();
    assert!(decoder.is_done());
    let trailers = decoder.take_trailers().unwrap();
    assert_eq!(trailers.len(), 2);
    assert_eq!(trailers.named(b"x-late").next(), Some(&b"1"[..]));
}

#[test]
fn a_body_without_framing_ends_with_its_connection_and_no_other_does() {
    let mut decoder = Decoder::of_response(Framing::None);
    assert_eq!(decoder.next(b"all").unwrap(), (0, 3));
    assert_eq!(decoder.closed(), Ok(()));
    assert!(decoder.is_done());
    for framing in [Framing::Length(3), Framing::Chunked] {
        let mut decoder = Decoder::of_response(framing);
        decoder.consumed(2);
        assert_eq!(decoder.closed(), Err(BodyError::Cut));
    }
    assert_eq!(Decoder::of_request(Framing::None).closed(), Ok(()));
}
