//! Responses that come compressed although `identity` was asked for (RFC 9110 §8.4).

use std::io::Read;

use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, header::CONTENT_ENCODING};
use secrecy::zeroize::Zeroizing;

use crate::token::{FetchError, Reason};

/// The body as it was before it was compressed, `most` bytes at most.
pub(super) fn decoded(
    fields: &HeaderMap,
    body: Zeroizing<Vec<u8>>,
    most: usize,
) -> Result<Zeroizing<Vec<u8>>, FetchError> {
    let mut codings = Vec::new();
    for value in fields.get_all(CONTENT_ENCODING) {
        let value = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        let named = value.split(',').map(|coding| coding.trim().to_owned());
        codings.extend(named.filter(|coding| !coding.is_empty() && coding != "identity"));
    }
    let codings: Vec<&str> = codings.iter().map(String::as_str).collect();
    match codings.as_slice() {
        [] => Ok(body),
        ["gzip" | "x-gzip"] => all(MultiGzDecoder::new(body.as_slice()), most),
        // A zlib stream begins with a multiple of 31. Some servers send what is inside of it alone.
        ["deflate"] => match body.as_slice() {
            [0x78, second, ..] if (0x7800 + u16::from(*second)).is_multiple_of(31) => {
                all(ZlibDecoder::new(body.as_slice()), most)
            }
            raw => all(DeflateDecoder::new(raw), most),
        },
        _ => Err(bad(
            "the response has a content coding that was not asked for",
        )),
    }
}

fn all(decoder: impl Read, most: usize) -> Result<Zeroizing<Vec<u8>>, FetchError> {
    // With room for all of it: what outgrows its room leaves a copy behind that nobody wipes.
    let mut body = Zeroizing::new(Vec::with_capacity(most + 64));
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    decoder
        .take(limit)
        .read_to_end(&mut body)
        .map_err(|_| bad("the response is not compressed as its Content-Encoding has it"))?;
    if body.len() > most {
        return Err(bad("the response is larger than 256 KiB"));
    }
    Ok(body)
}

fn bad(detail: &str) -> FetchError {
    FetchError::new(Reason::BadResponse, detail)
}
