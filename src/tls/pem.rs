//! PEM (RFC 7468) as people put it together: with marks, indents and line ends of any system, files
//! joined without a line end, line ends that are written out.

use std::path::Path;

use rustls::pki_types::{CertificateDer, pem::PemObject};
use secrecy::zeroize::Zeroizing;

use super::TlsError;
use crate::named_file::{self, FileError};

/// Everything that a system trusts, with its explanations, is below 1 MiB; a larger file is a mistake.
const LARGEST: u64 = 16 << 20;

const BEGIN: &[u8] = b"-----BEGIN ";

/// The certificates of a text, and the numbers (from 1) of those that are broken.
#[derive(Debug, Default)]
pub(crate) struct Bundle {
    /// Each with its number.
    pub(crate) certificates: Vec<(usize, CertificateDer<'static>)>,
    pub(super) broken: Vec<usize>,
}

/// Reads a file of certificates.
///
/// # Errors
/// When it cannot be read. That nothing is in it is no error here.
pub(crate) fn bundle(path: &Path) -> Result<Bundle, TlsError> {
    let bytes = named_file::read(path, LARGEST).map_err(|error| {
        let path = path.to_owned();
        match error {
            FileError::Io(error) => TlsError::Unreadable {
                path,
                kind: error.kind(),
            },
            FileError::NotRegular => TlsError::NotRegular { path },
            FileError::TooLarge => TlsError::NoCertificate { path },
        }
    })?;
    let text = tidied(&bytes);
    let mut bundle = Bundle::default();
    let starts: Vec<usize> = memchr::memmem::find_iter(&text, BEGIN).collect();
    let ends = starts.iter().skip(1).copied().chain([text.len()]);
    let sections = starts.iter().zip(ends);
    let sections = sections.filter_map(|(start, end)| text.get(*start..end));
    let certificates = sections.filter(|section| section.starts_with(b"-----BEGIN CERTIFICATE"));
    for (number, section) in (1..).zip(certificates) {
        // An empty one is no certificate either.
        match CertificateDer::from_pem_slice(section) {
            Ok(certificate) if !certificate.is_empty() => {
                bundle.certificates.push((number, certificate));
            }
            _ => bundle.broken.push(number),
        }
    }
    Ok(bundle)
}

/// The same text with nothing around its lines. Wiped afterwards: it may hold a private key.
pub(super) fn tidied(text: &[u8]) -> Zeroizing<Vec<u8>> {
    // With room for all of it: what outgrows its room leaves a copy behind that nobody wipes.
    let mut tidy = Zeroizing::new(Vec::with_capacity(2 * text.len() + 1));
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let is_start = tidy.last().is_none_or(|last| *last == b'\n');
        if let Some(after) = rest.strip_prefix(b"\xef\xbb\xbf") {
            rest = after;
            continue;
        }
        if let Some(after) = rest.strip_prefix(br"\n") {
            tidy.push(b'\n');
            rest = after;
            continue;
        }
        // The file before this one had no line end.
        if rest.starts_with(BEGIN) && !is_start {
            tidy.push(b'\n');
        }
        match byte {
            b'\r' => tidy.push(b'\n'),
            b' ' | b'\t' if is_start => {}
            _ => tidy.push(byte),
        }
        rest = after;
    }
    tidy
}
