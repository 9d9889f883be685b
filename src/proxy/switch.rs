//! The proxy that is in use now, for as long as the next configuration does not bring another.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::Response;

use super::Proxy;
use crate::{
    message::RequestHead,
    server::{Exchange, Handler, Pass, Peer, Refusal},
};

/// A proxy that can be exchanged while it is in use: requests in flight end with the old one.
#[derive(Debug, Clone)]
pub struct Switch(Arc<ArcSwap<Proxy>>);

impl Switch {
    /// Begins with this one.
    #[must_use]
    pub fn new(proxy: Proxy) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(proxy)))
    }

    /// Requests go to this one from now on.
    pub fn set(&self, proxy: Proxy) {
        self.0.store(Arc::new(proxy));
    }
}

impl Handler for Switch {
    async fn handle(&self, mut request: RequestHead, peer: Peer, exchange: &mut impl Exchange) {
        let proxy = Proxy::clone(&self.0.load());
        proxy.handle(&mut request, peer, exchange).await;
    }

    fn admits(&self, pass: Pass) -> bool {
        self.0.load().admits(pass)
    }

    fn refuse(&self, refusal: Refusal, peer: &Peer) -> Response<Bytes> {
        self.0.load().refuse(refusal, peer)
    }
}
