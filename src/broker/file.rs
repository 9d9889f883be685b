//! A file that holds the current token, for programs that read one: replaced whole at each renewal,
//! gone when the token ends and when the program does. `content` is what is in it, `place` how it
//! gets there.

mod content;
mod place;

use std::{io, path::PathBuf, time::Duration};

use tokio::time::{Instant, sleep_until};

pub use self::content::FileFormat;
use self::{content::content, place::Place};
use crate::token::{AccessToken, TokenHandle};

/// Where a token goes, whose the file is, and what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileSettings {
    /// The file. Its directory has to exist.
    pub path: PathBuf,
    /// The permissions of the file.
    pub mode: u32,
    /// The id of its owner; `None` leaves it ours.
    pub owner: Option<u32>,
    /// The id of its group; `None` leaves it ours.
    pub group: Option<u32>,
    /// The format of the content.
    pub format: FileFormat,
}

/// A file that follows a token. Dropped, it is removed, unless it is another one by then.
#[derive(Debug)]
pub struct TokenFile {
    settings: FileSettings,
    place: Place,
    /// The generation and the end of the token in it.
    holds: Option<Held>,
    /// Whether what may be left of an earlier run is gone.
    is_clean: bool,
}

type Held = (u64, Option<Instant>);

/// The least time between two attempts to write a file; the most is five times as long.
const PAUSE: Duration = Duration::from_secs(1);
/// A moment that no program sees.
const NEVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

impl TokenFile {
    /// Sees whether the file can be written, owner and mode included, and leaves what is there.
    ///
    /// # Errors
    /// When the directory is not there or may not be written to, the owner may not be given, or
    /// something else than a file of ours is in the place. `random` gives the names of new files.
    pub fn new(settings: FileSettings, random: fn() -> u64) -> io::Result<Self> {
        let place = Place::new(&settings, random)?;
        place.check()?;
        Ok(Self {
            settings,
            place,
            holds: None,
            is_clean: false,
        })
    }

    /// Follows the token, for ever. `looked` is called once the file is as the token has it for the
    /// first time; `wrote` after each attempt to write, with the settings, the token, and whether that
    /// succeeded.
    pub async fn keep(
        mut self,
        tokens: TokenHandle,
        looked: impl FnOnce(),
        wrote: impl Fn(&FileSettings, &AccessToken, bool),
    ) {
        let mut looked = Some(looked);
        let mut snapshot = tokens.snapshot();
        loop {
            let now = Instant::now();
            let token = snapshot.usable(now);
            let mut again = now + NEVER;
            if let Err(error) = self.show(token.map(|token| &**token), now, &wrote) {
                let path = self.settings.path.display();
                tracing::error!(%path, %error, "cannot keep the file of the token; trying again");
                again = now + PAUSE + PAUSE.mul_f64(fastrand::f64() * 4.0);
            }
            if let Some(looked) = looked.take() {
                looked();
            }
            // What ends first: the token that there is, or the one that could not be replaced.
            let ends = [
                token.and_then(|token| token.expires_at),
                self.holds.and_then(|(_, end)| end),
            ];
            let ends = ends.into_iter().flatten().filter(|end| *end > now);
            let next = ends.min().map_or(again, |end| end.min(again));
            tokio::select! {
                changed = tokens.changed(&snapshot) => snapshot = changed,
                () = sleep_until(next) => {}
            }
        }
    }

    /// Has the file hold this token, or be gone where there is none.
    fn show(
        &mut self,
        token: Option<&AccessToken>,
        now: Instant,
        wrote: &impl Fn(&FileSettings, &AccessToken, bool),
    ) -> io::Result<()> {
        let wanted = token.map(|token| (token.generation, token.expires_at));
        if self.is_clean && wanted == self.holds {
            return Ok(());
        }
        let has_ended =
            |(_, end): Held| token.is_none() || end.is_some_and(|end| end <= Instant::now());
        let result = match token {
            Some(token) => {
                let content = content(token, self.settings.format, now);
                let result = self.place.write(&content);
                wrote(&self.settings, token, result.is_ok());
                result
            }
            None if self.is_clean => {
                self.place.remove();
                Ok(())
            }
            None => self.place.clear(),
        };
        match &result {
            Ok(()) => {
                self.is_clean = true;
                self.holds = wanted;
            }
            // Better none than one that has ended.
            Err(_) if self.holds.is_some_and(has_ended) => {
                self.place.remove();
                self.holds = None;
            }
            Err(_) => {}
        }
        result
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use secrecy::SecretString;

    use super::*;
    use crate::token::Bearer;

    fn token(name: &str) -> AccessToken {
        let now = Instant::now();
        AccessToken {
            bearer: Bearer::new(&SecretString::from(name)).unwrap(),
            generation: 1,
            requested_at: now,
            expires_at: Some(now + Duration::from_secs(60)),
        }
    }

    fn file(path: &Path) -> TokenFile {
        let settings = FileSettings {
            path: path.to_owned(),
            mode: 0o440,
            owner: None,
            group: None,
            format: FileFormat::Raw,
        };
        TokenFile::new(settings, || 7).unwrap()
    }

    #[test]
    fn what_an_earlier_run_has_left_goes_before_the_first_token() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        fs::write(&path, "stale").unwrap();
        let mut file = file(&path);
        assert!(path.exists());
        file.show(None, Instant::now(), &|_, _, _| ()).unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_token_that_has_ended_does_not_stay_because_the_next_cannot_be_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let mut file = file(&path);
        let now = Instant::now();
        let mut ended = token("old");
        ended.expires_at = Some(now);
        file.show(Some(&ended), now, &|_, _, _| ()).unwrap();
        assert!(path.exists());
        // No name is left for a new one.
        fs::write(directory.path().join(".token.0000000000000007.new"), "").unwrap();
        let new = token("new");
        assert!(file.show(Some(&new), now, &|_, _, _| ()).is_err());
        assert!(!path.exists());
    }
}
