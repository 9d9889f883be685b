//! The keys of what is sent to a collector.

use super::{legs, net, reader::Reader, values};
use crate::telemetry::spans::OtlpSettings;

const ENDPOINT: &str = "telemetry.otlp_endpoint";
const HEADERS_FILE: &str = "telemetry.otlp_headers_file";

/// Reads the settings of the collector; `None` where there is no collector.
pub(super) fn read(reader: &mut Reader) -> Option<OtlpSettings> {
    let endpoint = reader.optional(ENDPOINT, net::otlp_endpoint());
    let headers_file = reader.fields_in_file(HEADERS_FILE);
    let sample_ratio = reader.value("telemetry.otlp_sample_ratio", values::ratio());
    let service_name = reader.value("telemetry.service_name", values::text);
    let tls = legs::tls(reader, "telemetry");
    if endpoint.is_none() && headers_file.is_some() && !reader.has_problem(ENDPOINT) {
        reader.wrong(HEADERS_FILE, format!("also needs {ENDPOINT}"));
    }
    let endpoint = endpoint?;
    if endpoint.scheme() == "http" && headers_file.is_some() && !net::is_local(&endpoint) {
        reader.wrong(
            ENDPOINT,
            format!(
                "must begin with https://, or everybody on the way can read the key in {HEADERS_FILE}"
            ),
        );
    }
    if endpoint.port() == Some(4317) {
        reader.warnings.push(format!(
            "{ENDPOINT}: 4317 is usually the port of OTLP over gRPC; that of OTLP over HTTP, which is \
             used here, is usually 4318"
        ));
    }
    Some(OtlpSettings {
        endpoint,
        headers_file,
        tls,
        sample_ratio,
        service_name,
    })
}
