use std::{future::poll_fn, io};

use tokio::io::AsyncReadExt;

use super::*;
use crate::http1::{Decoder, Framing};

/// Writes the parts through a pipe that takes so much at a time, and gives what came out.
async fn written(mut encoder: Encoder, parts: &[Vec<u8>], room: usize) -> io::Result<Vec<u8>> {
    let (mut near, mut far) = tokio::io::duplex(room);
    let write = async move {
        let mut output = Output::default();
        output.pending().extend_from_slice(b"head\r\n\r\n");
        for part in parts {
            let mut rest = part.as_slice();
            while !rest.is_empty() {
                let count =
                    poll_fn(|cx| output.poll_write(&mut near, cx, &mut encoder, rest)).await?;
                rest = &rest[count..];
            }
        }
        output.finish(&mut encoder, None)?;
        poll_fn(|cx| output.poll_flush(&mut near, cx)).await?;
        assert!(output.is_flushed());
        io::Result::Ok(())
    };
    let mut all = Vec::new();
    let (done, read) = tokio::join!(write, far.read_to_end(&mut all));
    read?;
    done.map(|()| all)
}

fn parts() -> Vec<Vec<u8>> {
    [1, 5000, 0, 20_000, 3, 100_000, 16 * 1024]
        .into_iter()
        .enumerate()
        .map(|(number, size)| vec![b'a' + u8::try_from(number).unwrap(); size])
        .collect()
}

#[tokio::test]
async fn a_body_arrives_whole_whatever_the_connection_takes_at_a_time() {
    let whole = parts().concat();
    for room in [1, 7, 1000, 1 << 20] {
        let length = Encoder::Length(whole.len() as u64);
        for encoder in [length, Encoder::UntilClose] {
            let all = written(encoder, &parts(), room).await.unwrap();
            assert!(all.strip_prefix(b"head\r\n\r\n").unwrap() == whole);
        }
        let all = written(Encoder::Chunked, &parts(), room).await.unwrap();
        let mut rest = all.strip_prefix(b"head\r\n\r\n").unwrap();
        let mut decoder = Decoder::of_request(Framing::Chunked);
        let mut content = Vec::new();
        while !decoder.is_done() {
            let (framing, count) = decoder.next(rest).unwrap();
            content.extend_from_slice(&rest[framing..framing + count]);
            rest = &rest[framing + count..];
            decoder.consumed(count);
        }
        assert!(content == whole && rest.is_empty());
    }
}

#[tokio::test]
async fn a_body_is_as_long_as_was_said() {
    let parts = [b"hello".to_vec()];
    let too_short = written(Encoder::Length(6), &parts, 100).await.unwrap_err();
    assert_eq!(too_short.kind(), io::ErrorKind::UnexpectedEof);
    let too_long = written(Encoder::Length(4), &parts, 100).await.unwrap_err();
    assert_eq!(too_long.kind(), io::ErrorKind::InvalidInput);
    let none = written(Encoder::None, &parts, 100).await.unwrap();
    assert_eq!(none, b"head\r\n\r\n");
}
