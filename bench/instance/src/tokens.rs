//! The tokens of the token service: 800 bytes each, valid while current or the one before that.

/// As long as an access token of a real service, which is a signed JWT.
const LENGTH: usize = 800;

/// Everybody who ever asked for a token.
#[derive(Default)]
pub struct Tokens {
    clients: Vec<Client>,
}

struct Client {
    id: String,
    serial: u32,
    current: Token,
    /// Still valid: requests that carry it may be on their way when a new one is issued.
    previous: Option<Token>,
}

struct Token {
    /// The value of the `Authorization` field.
    field: Vec<u8>,
    /// The answer of `/small` to it, ready to send.
    small: Vec<u8>,
}

impl Tokens {
    /// A new token for this client, and its lifetime in seconds. A client whose name begins with
    /// "renew" gets one that lives so short that it has to be renewed about every second.
    pub fn issue(&mut self, id: &str) -> (String, u32) {
        let lifetime = if id.starts_with("renew") { 2 } else { 3600 };
        let known = self.clients.iter().position(|client| client.id == id);
        let number = known.unwrap_or(self.clients.len());
        let serial = known.map_or(0, |known| self.clients[known].serial + 1);
        let value = value(number, serial);
        let current = Token::new(&value);
        match known {
            Some(known) => {
                let client = &mut self.clients[known];
                client.serial = serial;
                client.previous = Some(std::mem::replace(&mut client.current, current));
            }
            None => self.clients.push(Client {
                id: id.to_owned(),
                serial,
                current,
                previous: None,
            }),
        }
        (value, lifetime)
    }

    /// The answer of `/small` to a request with this `Authorization`, if that is a valid one.
    pub fn small(&self, field: &[u8]) -> Option<&[u8]> {
        let valid = self
            .clients
            .iter()
            .flat_map(|client| [Some(&client.current), client.previous.as_ref()])
            .flatten();
        valid
            .filter(|token| token.field == field)
            .map(|token| token.small.as_slice())
            .next()
    }
}

impl Token {
    fn new(value: &str) -> Self {
        let head = &value[..24];
        let tail = &value[LENGTH - 12..];
        let body = format!(
            r#"{{"status":{{"result":"OK","code":200}},"response":{{"credential":"{head}…{tail}"}}}}"#
        );
        Self {
            field: format!("Bearer {value}").into_bytes(),
            small: body.into_bytes(),
        }
    }
}

/// The client's number comes early, so that a comparison with another client's token ends early.
fn value(number: usize, serial: u32) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut value = format!("eyJ{number:03}");
    let mut state = 0x9e37_79b9_u32;
    while value.len() < LENGTH - 8 {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        value.push(char::from(ALPHABET[(state >> 26) as usize]));
    }
    format!("{value}{serial:08}")
}
