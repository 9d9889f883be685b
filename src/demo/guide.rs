//! The text that `auth-sidecar demo` prints.

use std::{fmt, net::SocketAddr, time::Duration};

/// What runs where. Shown, it says what to try; each of its `curl` lines works as it stands.
pub(super) struct Guide {
    pub(super) sidecar: SocketAddr,
    pub(super) admin: Option<SocketAddr>,
    pub(super) token_service: SocketAddr,
    pub(super) service_instance: SocketAddr,
    pub(super) token_lifetime: Duration,
    /// For the line that creates an integration: an external id works once.
    pub(super) external_id: String,
}

impl fmt::Display for Guide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sidecar,
            token_service,
            service_instance,
            external_id,
            ..
        } = self;
        let lifetime = self.token_lifetime.as_secs();
        write!(
            f,
            "\
auth-sidecar demo: everything below runs in this one process, for this machine only.

  http://{sidecar}  the sidecar: takes requests without any token
  http://{service_instance}  the service instance: accepts only requests with a live token
  http://{token_service}  the token service: issues tokens that live {lifetime} seconds
"
        )?;
        if let Some(admin) = self.admin {
            writeln!(f, "  http://{admin}  the sidecar's admin listener")?;
        }
        write!(
            f,
            "
Try these in another terminal.

  # Straight to the instance: refused, there is no token.
  curl -sS http://{service_instance}/api/v2/cloudintegration

  # The same through the sidecar.
  curl -sS http://{sidecar}/api/v2/cloudintegration

  # Ask for the external id of a new AWS integration.
  curl -sS -X POST http://{sidecar}/api/v2/cloudintegration/awsExternalId

  # Create an integration. Its external id was issued for this line; it works once.
  curl -sS -H 'Content-Type: application/json' -d '{{\"name\":\"AWS\",\"service\":\"CLOUDWATCH\",\"cloudWatch\":{{\"baseCredentials\":{{\"roleArn\":\"arn:aws:iam::123456789012:role/demo\",\"externalId\":\"{external_id}\"}}}}}}' http://{sidecar}/api/v2/cloudintegration

  # Report a metric (202: accepted), then see what the instance received.
  curl -sS -w '%{{http_code}}\\n' -d 'demo.requests 42 source=demo' 'http://{sidecar}/report?f=wavefront'
  curl -sS http://{sidecar}/demo/received

  # A request that outlives its token.
  curl -sS 'http://{sidecar}/demo/slow?ms=4000'
"
        )?;
        if let Some(admin) = self.admin {
            write!(
                f,
                "
  # How the sidecar sees it.
  curl -sS http://{admin}/status
  curl -sS http://{admin}/metrics
"
            )?;
        }
        write!(
            f,
            "
  # Watch the number of the token change while every request succeeds.
  while sleep 1; do curl -sS http://{sidecar}/demo/whoami; done

Ctrl-C stops the demo.
"
        )
    }
}
