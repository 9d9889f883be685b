//! What the access log and the spans are made of: all that is known of a request once it is over.

use std::{net::IpAddr, time::Duration};

use http::Version;

use super::HandedOut;
use crate::{
    client_token::ClientName,
    message::{RequestHead, RequestId},
    server::Peer,
};

/// What is known of a request that is over.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The id of the request in the log and in our own responses.
    pub id: RequestId,
    /// Whether it came to the admin listener.
    pub is_admin: bool,
    /// Who sent the request.
    pub client: Client<'a>,
    /// From where, unless it came through a unix socket.
    pub address: Option<IpAddr>,
    /// Whether the client's connection is encrypted.
    pub is_tls: bool,
    /// The method, path, query and version, as far as they were read.
    pub asked: Option<Asked<'a>>,
    /// The status that the client got; `None` when the client went away before.
    pub status: Option<u16>,
    /// Who sent the response; `None` when there was none.
    pub origin: Option<&'static str>,
    /// What went wrong: the type of RFC 9209 where there is one, and our own word for it.
    pub error: Option<(&'static str, &'static str)>,
    /// Bytes of the request's body that were taken.
    pub request_bytes: u64,
    /// Bytes of the response's body that were taken by the client's connection.
    pub response_bytes: u64,
    /// From the whole head of the request to its end.
    pub duration: Duration,
    /// To the head of the upstream's response, from that of the request.
    pub first_byte: Option<Duration>,
    /// The part of it that the upstream took, from when the request was given to a connection.
    pub upstream: Option<Duration>,
    /// The part of it that was waited for a token.
    pub held: Duration,
    /// Which of our tokens it went with.
    pub generation: Option<u64>,
    /// Whether it was sent again with a newer token.
    pub is_replayed: bool,
    /// A token that the client was given, by the broker.
    pub handed_out: Option<HandedOut>,
}

impl<'a> Record<'a> {
    /// A request of which nothing more is known than who sent it.
    #[must_use]
    pub fn of(id: RequestId, client: Option<&'a ClientName>, peer: &'a Peer) -> Self {
        Self {
            id,
            is_admin: false,
            client: Client::of(client, peer),
            address: peer.address(),
            is_tls: peer.is_tls,
            asked: None,
            status: None,
            origin: None,
            error: None,
            request_bytes: 0,
            response_bytes: 0,
            duration: Duration::ZERO,
            first_byte: None,
            upstream: None,
            held: Duration::ZERO,
            generation: None,
            is_replayed: false,
            handed_out: None,
        }
    }
}

/// Who sent a request, by what is known best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client<'a> {
    /// The name of a local token.
    Token(&'a str),
    /// The subject of a client certificate.
    Certificate(&'a str),
    /// The user of a process, by its number.
    User(u32),
    /// Nobody knows more than the address.
    Unknown,
}

impl<'a> Client<'a> {
    /// The sender at the other end of a connection, with the local token of that client where there is one.
    #[must_use]
    pub fn of(client: Option<&'a ClientName>, peer: &'a Peer) -> Self {
        match (client, &peer.certificate, peer.user) {
            (Some(name), _, _) => Self::Token(name.as_str()),
            (None, Some(subject), _) => Self::Certificate(subject),
            (None, None, Some(user)) => Self::User(user),
            (None, None, None) => Self::Unknown,
        }
    }
}

/// The line of a request.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method.
    pub method: &'a str,
    /// Path and query, as they came.
    pub target: &'a [u8],
    /// The version of HTTP.
    pub version: &'static str,
}

impl<'a> Asked<'a> {
    /// What a request asks for.
    #[must_use]
    pub fn of(request: &'a RequestHead) -> Self {
        Self {
            method: request.method.as_str(),
            target: request.target(),
            version: match request.version {
                Version::HTTP_10 => "1.0",
                Version::HTTP_2 => "2",
                _ => "1.1",
            },
        }
    }

    /// The path, and the query behind its mark.
    pub(super) fn split(self) -> (&'a [u8], &'a [u8]) {
        let end = memchr::memchr(b'?', self.target).unwrap_or(self.target.len());
        self.target
            .split_at_checked(end)
            .unwrap_or((self.target, b""))
    }

    /// The path alone.
    #[must_use]
    pub fn path(self) -> &'a [u8] {
        self.split().0
    }
}
