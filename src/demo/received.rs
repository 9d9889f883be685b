//! What the demo's service instance remembers of the data that reached it, to show that bodies arrive unchanged.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::http::Request;

const REMEMBERED: usize = 256;

/// The last reports, with sizes and checksums; bodies are opaque and are not kept.
#[derive(Debug, Default)]
pub(super) struct Received {
    count: u64,
    bytes: u64,
    last: VecDeque<Report>,
}

#[derive(Debug)]
struct Report {
    number: u64,
    target: String,
    content_type: Option<String>,
    content_encoding: Option<String>,
    length: usize,
    crc32: u32,
}

impl Received {
    pub(super) fn record(&mut self, request: &Request) {
        let body = &request.body;
        self.count += 1;
        self.bytes += body.len() as u64;
        if self.last.len() == REMEMBERED {
            self.last.pop_front();
        }
        self.last.push_back(Report {
            number: self.count,
            target: request.target().into_owned(),
            content_type: text(request, b"content-type"),
            content_encoding: text(request, b"content-encoding"),
            length: body.len(),
            crc32: crc32(body),
        });
    }

    /// The totals, and the remembered reports with a number above `after`.
    pub(super) fn after(&self, after: u64) -> Value {
        let reports = self
            .last
            .iter()
            .filter(|report| report.number > after)
            .map(|report| {
                json!({
                    "number": report.number,
                    "target": report.target,
                    "contentType": report.content_type,
                    "contentEncoding": report.content_encoding,
                    "length": report.length,
                    "crc32": format!("{:08x}", report.crc32),
                })
            })
            .collect::<Vec<_>>();
        json!({ "count": self.count, "bytes": self.bytes, "reports": reports })
    }
}

fn text(request: &Request, name: &[u8]) -> Option<String> {
    let value = request.head.fields.named(name).next()?;
    Some(String::from_utf8_lossy(value).into_owned())
}

/// The checksum of gzip and zlib (RFC 1952 §8), bit by bit: every scripting language can compare it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;
    use crate::message::RequestHead;

    fn report(body: &'static str) -> Request {
        let mut head = RequestHead::to(Method::POST, b"/report?f=wavefront");
        head.fields.push(b"content-encoding", b"gzip");
        Request {
            head,
            body: body.into(),
        }
    }

    #[test]
    fn remembers_how_a_report_looked() {
        let mut received = Received::default();
        // The check value of this CRC, found in every list of CRCs.
        received.record(&report("123456789"));
        assert_eq!(
            received.after(0),
            json!({ "count": 1, "bytes": 9, "reports": [{
                "number": 1, "target": "/report?f=wavefront", "contentType": null,
                "contentEncoding": "gzip", "length": 9, "crc32": "cbf43926",
            }] })
        );
    }

    #[test]
    fn forgets_the_oldest_but_counts_all() {
        let mut received = Received::default();
        for _ in 0..300 {
            received.record(&report("x"));
        }
        let shown = received.after(0);
        assert_eq!(
            (&shown["count"], &shown["bytes"]),
            (&json!(300), &json!(300))
        );
        assert_eq!(shown["reports"].as_array().unwrap().len(), REMEMBERED);
        assert_eq!(shown["reports"][0]["number"], 45);
        assert_eq!(received.after(299)["reports"].as_array().unwrap().len(), 1);
    }
}
