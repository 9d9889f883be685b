//! A second call where the first was rejected and what may have been wrong with it is known: the time that
//! an assertion was made at, or how the secret was spelled.

use secrecy::SecretString;

use super::{TokenEndpoint, may_be_the_secret, response::Granted, wants_time, weightier};
use crate::{
    secret::Which,
    token::{FetchError, Reason},
};

/// What a service has shown of how it reads our credentials.
#[derive(Debug, Default)]
pub(super) struct Habits {
    /// By how many seconds assertions are ahead of our clock.
    pub(super) ahead: i64,
    /// Whether the service reads HTTP Basic credentials as they are, without decoding them.
    pub(super) other_spelling: bool,
    /// The secrets that were rejected in a second call too, since a credential was accepted or changed.
    rejected_twice: Vec<Which>,
}

/// What may have been wrong with a call.
enum Guess {
    /// The clock; this one may be right.
    Clock(i64),
    /// The spelling of the secret.
    Spelling,
}

impl Habits {
    /// Has secrets be tried in both ways again.
    pub(super) fn forget_rejections(&mut self) {
        self.rejected_twice.clear();
    }

    fn follow(&mut self, guess: &Guess) {
        match guess {
            Guess::Clock(ahead) => self.ahead = *ahead,
            Guess::Spelling => self.other_spelling = !self.other_spelling,
        }
    }
}

impl TokenEndpoint {
    /// Gets a token, in two calls if need be.
    ///
    /// Where a secret was rejected in both, the calls of later attempts take turns: a client that is
    /// disabled costs its service one call an attempt and not two, and is still found the moment that
    /// its service knows it again, whichever way the service reads.
    pub(super) async fn ask(
        &mut self,
        which: Which,
        refresh_token: Option<&SecretString>,
    ) -> Result<Granted, FetchError> {
        let error = match self.ask_once(which, refresh_token).await {
            Err(error) if !wants_time(&error) => error,
            result => {
                if result.is_ok() {
                    self.habits.forget_rejections();
                }
                return result;
            }
        };
        let guess = match self.other_clock(&error, refresh_token.is_some()) {
            Some(other) => Guess::Clock(other),
            None if rejects_client(&error) && self.request.has_two_spellings(which) => {
                Guess::Spelling
            }
            None => return Err(error),
        };
        if self.habits.rejected_twice.contains(&which) {
            // Of two secrets in one attempt the second has its turn with the first.
            if which == self.accepted {
                self.habits.follow(&guess);
            }
            return Err(error);
        }
        let before = (self.habits.ahead, self.habits.other_spelling);
        self.habits.follow(&guess);
        let second = self.ask_once(which, refresh_token).await;
        match (&second, guess) {
            (Ok(_), Guess::Clock(seconds)) => {
                tracing::warn!(
                    seconds,
                    "the clock of the token service is ahead of this machine's by so many seconds (or \
                     behind it); assertions go by its clock"
                );
            }
            (Ok(_), Guess::Spelling) => {}
            (Err(error), _) => {
                (self.habits.ahead, self.habits.other_spelling) = before;
                // What never got there says nothing of the guess.
                if self.status.is_some() && !wants_time(error) {
                    self.habits.rejected_twice.push(which);
                }
            }
        }
        if second.is_ok() {
            self.habits.forget_rejections();
        }
        second.map_err(|second| weightier(error, second))
    }

    /// The clock to go by instead, where an assertion may have been rejected for its time: that of the
    /// response, or our own where the one that was learned no longer helps. A clock that helped stays in
    /// use, whatever the dates of other responses are: who dates them need not be who checks assertions.
    fn other_clock(&self, error: &FetchError, is_refresh: bool) -> Option<i64> {
        // Services say all kinds of things to an assertion that is not good at their time.
        let may_be_the_time = self.request.has_assertion() && error.reason != Reason::BadResponse;
        // Whatever is no plain rejection may have spent the refresh token.
        let is_safe = !is_refresh || rejects_client(error);
        if self.status.is_none() || !may_be_the_time || !is_safe {
            return None;
        }
        // Dates have whole seconds, and responses take their time.
        let ahead = self.habits.ahead;
        if self.dated.abs_diff(ahead) > 2 {
            Some(self.dated)
        } else {
            (ahead != 0).then_some(0)
        }
    }
}

/// Whether it is the client that was rejected, and not what the client asks for. Some services reject
/// it without a word.
fn rejects_client(error: &FetchError) -> bool {
    match &error.refusal {
        Some(refusal) => refusal.code == "invalid_client",
        None => may_be_the_secret(error),
    }
}
