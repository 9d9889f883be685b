//! A file that holds the current token, for programs that read one: replaced whole at each renewal,
//! gone when the token ends and when the program does. `content` is what is in it, `place` how it
//! gets there.

mod content;
mod place;

use std::{
    convert::identity,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, TryLockError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

pub use self::content::FileFormat;
use self::{content::content, place::Place};
use crate::{
    disk,
    token::{AccessToken, TokenHandle},
};

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

/// The time that a disk has for one file.
pub(crate) const DISK_TIMEOUT: Duration = Duration::from_secs(2);
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
        self,
        tokens: TokenHandle,
        looked: impl FnOnce(),
        wrote: impl Fn(&FileSettings, &AccessToken, bool),
    ) {
        let settings = self.settings.clone();
        let mut holds = self.holds;
        let file = Arc::new(Mutex::new(self));
        let mut has_failed = false;
        let mut looked = Some(looked);
        let mut snapshot = tokens.snapshot();
        loop {
            let now = Instant::now();
            let token = snapshot.usable(now).cloned();
            let mut again = now + NEVER;
            let shown = show_in_time(&file, token.clone(), now).await;
            let result = shown.map(|(held, is_written)| {
                holds = held;
                is_written
            });
            // One that took too long may have been written since.
            if let Some(token) = &token
                && (has_failed || !matches!(result, Ok(false)))
            {
                wrote(&settings, token, result.is_ok());
            }
            has_failed = result.is_err();
            if let Err(error) = result {
                let path = settings.path.display();
                tracing::error!(%path, %error, "cannot keep the file of the token; trying again");
                again = now + PAUSE + PAUSE.mul_f64(fastrand::f64() * 4.0);
            }
            if let Some(looked) = looked.take() {
                looked();
            }
            // What ends first: the token that there is, or the one that could not be replaced.
            let ends = [
                token.and_then(|token| token.expires_at),
                holds.and_then(|(_, end)| end),
            ];
            let ends = ends.into_iter().flatten().filter(|end| *end > now);
            let next = ends.min().map_or(again, |end| end.min(again));
            tokio::select! {
                changed = tokens.changed(&snapshot) => snapshot = changed,
                () = sleep_until(next) => {}
            }
        }
    }

    /// Has the file hold this token, or be gone where there is none. Says whether anything had to be done.
    fn show(&mut self, token: Option<&AccessToken>, now: Instant) -> io::Result<bool> {
        let wanted = token.map(|token| (token.generation, token.expires_at));
        if self.is_clean && wanted == self.holds {
            return Ok(false);
        }
        let has_ended =
            |(_, end): Held| token.is_none() || end.is_some_and(|end| end <= Instant::now());
        let result = match token {
            Some(token) => {
                let content = content(token, self.settings.format, now);
                self.place.write(&content)
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
        result.map(|()| true)
    }
}

/// Has the file hold a token as [`TokenFile::show`] does, within the time of its disk, and says what it holds
/// then. Where its disk still hangs from before, nothing more waits for it.
async fn show_in_time(
    file: &Arc<Mutex<TokenFile>>,
    token: Option<Arc<AccessToken>>,
    now: Instant,
) -> io::Result<(Option<Held>, bool)> {
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the disk still does not respond",
        ));
    }
    let file = Arc::clone(file);
    let show = move || {
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        let is_written = file.show(token.as_deref(), now)?;
        Ok((file.holds, is_written))
    };
    disk::TOKEN_FILES
        .within(DISK_TIMEOUT, show)
        .await
        .and_then(identity)
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
        file.show(None, Instant::now()).unwrap();
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
        file.show(Some(&ended), now).unwrap();
        assert!(path.exists());
        // No name is left for a new one.
        fs::write(directory.path().join(".token.0000000000000007.new"), "").unwrap();
        let new = token("new");
        assert!(file.show(Some(&new), now).is_err());
        assert!(!path.exists());
    }

    #[expect(
        clippy::await_holding_lock,
        reason = "the thread of a disk that hangs holds it so"
    )]
    #[tokio::test]
    async fn a_disk_that_hangs_is_a_failure_each_time_and_takes_one_thread() {
        let directory = tempfile::tempdir().unwrap();
        let file = Arc::new(Mutex::new(file(&directory.path().join("token"))));
        let new = Arc::new(token("new"));
        let at_work = file.lock().unwrap();
        let begun = Instant::now();
        let shown = show_in_time(&file, Some(Arc::clone(&new)), begun).await;
        assert_eq!(shown.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(begun.elapsed() < DISK_TIMEOUT);
        drop(at_work);
        let (_, is_written) = show_in_time(&file, Some(new), begun).await.unwrap();
        assert!(is_written);
    }
}
