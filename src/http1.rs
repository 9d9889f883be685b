//! HTTP/1.1 (RFC 9112) for both roles: heads of bytes and bytes of heads, bodies in and out of
//! their framing, and the buffers for both. Each byte is read once, here, and strictly: what could
//! be read in two ways is refused.
//!
//! Who reads and writes is elsewhere: `server::http1` is the connection of a client,
//! `proxy::upstream::http1` one to the service.

mod body;
mod chunk;
mod head;
mod input;
mod output;
mod partial;
mod rewound;

pub use self::{
    body::{BodyError, Decoder},
    head::{Framing, HeadError, Limits, Reader, RequestLine, StatusLine},
    input::Input,
    output::{Encoder, Output},
    rewound::Rewound,
};
