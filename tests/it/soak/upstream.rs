//! The upstream of the soak, which goes away and comes back at the same address.

use socket2::{Domain, Socket, Type};

use crate::support::{FakeCsp, FakeService, Validator};

/// See the module.
#[derive(Debug)]
pub struct Upstream {
    service: FakeService,
    validator: Validator,
    /// Of those that were stopped.
    unauthorized: usize,
    /// Bound, so that the port is given to nobody else while the service is away; not listening.
    _reserved: Socket,
}

impl Upstream {
    pub fn start_for(csp: &FakeCsp) -> Self {
        let reserved = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        // As the service's own listener: then both may be bound.
        reserved.set_reuse_address(true).unwrap();
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
        reserved.bind(&any.into()).unwrap();
        let address = reserved.local_addr().unwrap().as_socket().unwrap();
        Self {
            service: FakeService::start_at(address, csp.validator()),
            validator: csp.validator(),
            unauthorized: 0,
            _reserved: reserved,
        }
    }

    pub fn service(&self) -> &FakeService {
        &self.service
    }

    /// How many 401s it answered.
    pub fn unauthorized(&self) -> usize {
        self.unauthorized + self.service.unauthorized_count()
    }

    /// Closes the listener and every connection.
    pub fn stop(&mut self) {
        self.service.stop();
    }

    /// After [`Upstream::stop`]. What the old one recorded is forgotten, and fails the test where
    /// it must.
    pub fn start(&mut self) {
        self.unauthorized += self.service.unauthorized_count();
        let address = self.service.address();
        self.service = FakeService::start_at(address, self.validator.clone());
    }
}
