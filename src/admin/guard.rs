//! Who may have the admin listener act, and who sees more of it than metrics and health.

use http::StatusCode;

use super::{AdminResponse, text};
use crate::{
    admission::{Denied, Rules, prove},
    client_token::ClientName,
    message::RequestHead,
    server::{Node, Peer},
};

/// What stands before the routes that are not for everybody.
#[derive(Debug, Default)]
pub struct Guard {
    /// What requests of the data listener have to show, and so have orders.
    pub proofs: Rules,
    /// Whether requests come by unix sockets or with certificates alone, and so do orders: by a unix
    /// socket, since there is no TLS here.
    pub takes_file: bool,
    /// Whether other machines reach the address.
    pub is_remote: bool,
}

impl Guard {
    /// Why a request for what is neither metrics nor health is refused, if it is.
    pub(super) fn refuses_place(&self) -> Option<AdminResponse> {
        self.is_remote.then(|| {
            refusal(
                "Other machines can reach this address, so it has metrics and health alone. For the rest\n\
                 set admin.address to a loopback address or a unix socket.\n",
            )
        })
    }

    /// Whose local token an order shows, where such are asked for.
    ///
    /// # Errors
    /// Why it is refused.
    pub(super) fn admit_order(
        &self,
        head: &RequestHead,
        peer: &Peer,
    ) -> Result<Option<ClientName>, &'static str> {
        // Whoever could connect to the file was let in by its permissions and listen.allow_users.
        if peer.node == Node::Unix {
            return Ok(None);
        }
        if self.takes_file {
            return Err(
                "Whoever may use the sidecar proves who they are, which cannot be done here. Set\n\
                 admin.address to a unix socket, or listen.client_tokens_file.\n",
            );
        }
        match prove(&head.fields, &self.proofs) {
            Ok(admitted) => Ok(admitted.client),
            Err(Denied::FieldMissing) => Err(
                "The field of listen.require_field is missing or wrong: orders take it as requests do.\n",
            ),
            Err(_) => Err(
                "Orders take a local token, as requests do: as Authorization: Bearer or X-AUTH-TOKEN.\n\
                 Without one they come by a unix socket (admin.address).\n",
            ),
        }
    }
}

pub(super) fn refusal(why: &str) -> AdminResponse {
    text(StatusCode::FORBIDDEN, why)
}
