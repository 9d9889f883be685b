use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use super::*;

const SOON: Duration = Duration::from_secs(10);

fn file(text: &str) -> (tempfile::TempDir, RefreshTokenFile) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("refresh-token");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    (directory, RefreshTokenFile::new(path))
}

fn secret(text: &str) -> SecretString {
    SecretString::from(text)
}

#[expect(clippy::disallowed_methods, reason = "the test asks what was read")]
fn token(held: &HeldRefreshToken) -> String {
    held.token().expose_secret().to_owned()
}

/// The file with the token that follows this one.
fn spare(directory: &tempfile::TempDir, token: &str) -> PathBuf {
    let name = spare_name(OsStr::new("refresh-token"), &secret(token));
    directory.path().join(name)
}

fn names(directory: &tempfile::TempDir) -> Vec<String> {
    let entries = fs::read_dir(directory.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[tokio::test]
async fn the_next_token_takes_the_place_of_the_last_with_its_mode_and_nothing_is_left_beside_it() {
    let (directory, file) = file("first\n");
    let held = file.hold(SOON).await.unwrap();
    assert_eq!(token(&held), "first");
    held.replace(secret("second")).await.unwrap();
    assert_eq!(fs::read_to_string(file.path()).unwrap(), "second\n");
    let mode = fs::metadata(file.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o640);
    assert_eq!(names(&directory), ["refresh-token"]);
    // One that is not rotated leaves nothing behind either.
    drop(file.hold(SOON).await.unwrap());
    assert_eq!(names(&directory), ["refresh-token"]);
}

#[tokio::test]
async fn a_token_that_was_written_and_not_renamed_is_found_at_the_next_start() {
    let (directory, file) = file("first\n");
    let spare = spare(&directory, "first");
    fs::write(&spare, "second\n").unwrap();
    assert_eq!(token(&file.hold(SOON).await.unwrap()), "second");
    assert_eq!(fs::read_to_string(file.path()).unwrap(), "second\n");
    assert_eq!(names(&directory), ["refresh-token"]);
}

#[tokio::test]
async fn whatever_the_clock_says_the_token_that_follows_is_found_and_one_put_there_by_hand_is_kept()
{
    let (directory, file) = file("first\n");
    let spare = spare(&directory, "first");
    let dated = |path: &Path, at: std::time::SystemTime| {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(at).unwrap();
    };
    let now = std::time::SystemTime::now();
    let hour = Duration::from_secs(3600);
    // The clock was set back before the next token was written.
    fs::write(&spare, "second\n").unwrap();
    dated(&spare, now - hour);
    assert_eq!(token(&file.hold(SOON).await.unwrap()), "second");
    // It was set back before somebody put another token there.
    fs::write(self::spare(&directory, "second"), "third\n").unwrap();
    fs::write(file.path(), "by hand\n").unwrap();
    dated(file.path(), now - hour);
    assert_eq!(token(&file.hold(SOON).await.unwrap()), "by hand");
    assert_eq!(names(&directory), ["refresh-token"]);
}

#[tokio::test]
async fn a_token_whose_file_is_gone_is_found_beside_it() {
    let (directory, file) = file("first\n");
    fs::write(spare(&directory, "first"), "second\n").unwrap();
    fs::remove_file(file.path()).unwrap();
    assert_eq!(token(&file.hold(SOON).await.unwrap()), "second");
    assert_eq!(names(&directory), ["refresh-token"]);
}

#[tokio::test]
async fn a_disk_that_hangs_is_waited_for_no_longer_than_its_time_and_by_nobody_else() {
    let (directory, mut file) = file("first\n");
    let mut held = file.hold(SOON).await.unwrap();
    file.disk_timeout = Duration::from_millis(100);
    held.file = file.clone();
    // Nobody reads it, so there is no end of writing.
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let mut full = File::from(writer);
    rustix::io::ioctl_fionbio(&full, true).unwrap();
    while full.write(&[0; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&full, false).unwrap();
    held.spare = full;
    let error = held.replace(secret("second")).await.unwrap_err();
    assert!(matches!(error, RefreshTokenError::Hanging { .. }));
    let path = file.path().display().to_string();
    assert!(error.to_string().contains(&path), "{error}");
    // What hangs is left alone, instead of being joined.
    let busy = file.hold(Duration::ZERO).await.unwrap_err();
    assert!(matches!(busy, RefreshTokenError::Busy(_)));
    drop(reader);
    let file = RefreshTokenFile::new(file.path().clone());
    assert_eq!(token(&file.hold(SOON).await.unwrap()), "first");
    drop(directory);
}

#[tokio::test]
async fn a_look_that_hangs_is_waited_for_no_longer_than_its_time_and_joined_by_no_other() {
    let (_directory, mut file) = file("first\n");
    file.disk_timeout = Duration::from_millis(100);
    let seen = file.look().await.unwrap();
    let hanging = Turn::take(&LOOKS, file.path()).unwrap();
    let error = file.look().await.unwrap_err();
    assert!(matches!(error, RefreshTokenError::Busy(_)));
    // What could not be seen has not changed.
    let changed = tokio::time::timeout(Duration::from_millis(500), file.changed(&seen));
    assert!(changed.await.is_err());
    drop(hanging);
    fs::write(file.path(), "second\n").unwrap();
    let changed = tokio::time::timeout(SOON, file.changed(&seen));
    changed.await.unwrap();
}

#[tokio::test]
async fn a_token_that_is_given_back_leaves_nothing_behind_and_can_be_held_again() {
    let (directory, file) = file("first\n");
    file.hold(SOON).await.unwrap().release().await;
    assert_eq!(names(&directory), ["refresh-token"]);
    let held = file.hold(Duration::ZERO).await.unwrap();
    let seen = held.replace(secret("second")).await.unwrap();
    assert_eq!(file.look().await.unwrap(), seen);
}

#[tokio::test]
async fn half_a_token_and_one_that_somebody_has_replaced_since_are_not_used() {
    let (directory, file) = file("first\n");
    let spare = spare(&directory, "first");
    for half in ["", "seco", "\n"] {
        fs::write(&spare, half).unwrap();
        assert_eq!(token(&file.hold(SOON).await.unwrap()), "first", "{half:?}");
    }
    fs::write(&spare, "second\n").unwrap();
    fs::write(file.path(), "by hand\n").unwrap();
    assert_eq!(token(&file.hold(SOON).await.unwrap()), "by hand");
    assert_eq!(names(&directory), ["refresh-token"]);
    fs::write(file.path(), "first\n").unwrap();
    // What a link leads to is nobody's token.
    let elsewhere = directory.path().join("elsewhere");
    fs::write(&elsewhere, "planted\n").unwrap();
    symlink(&elsewhere, &spare).unwrap();
    assert_eq!(token(&file.hold(SOON).await.unwrap()), "first");
    assert!(fs::symlink_metadata(&spare).is_err());
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "planted\n");
}

#[tokio::test]
async fn a_link_is_neither_read_nor_replaced() {
    let (directory, target) = file("first\n");
    let link = directory.path().join("link");
    symlink(target.path(), &link).unwrap();
    let error = RefreshTokenFile::new(link.clone()).hold(SOON).await;
    assert!(error.unwrap_err().to_string().contains("no link"));
    assert!(check(&link).is_err() && check(target.path()).is_ok());
}

#[tokio::test]
async fn what_could_not_be_replaced_is_not_sent() {
    if rustix::process::geteuid().is_root() {
        // Root may write anywhere; a directory in the place of the spare stops it all the same.
        let (directory, file) = file("first\n");
        let spare = spare(&directory, "first");
        fs::create_dir(&spare).unwrap();
        fs::write(spare.join("kept"), "").unwrap();
        let error = file.hold(SOON).await.unwrap_err().to_string();
        assert!(error.contains("cannot be replaced"), "{error}");
        return;
    }
    let (directory, file) = file("first\n");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o500)).unwrap();
    let error = file.hold(SOON).await.unwrap_err().to_string();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(error.contains("cannot be replaced"), "{error}");
}

#[tokio::test]
async fn of_two_who_want_the_same_token_the_second_gets_the_next() {
    let (_directory, file) = file("first\n");
    let held = file.hold(SOON).await.unwrap();
    let busy = file.hold(Duration::ZERO).await.unwrap_err();
    assert!(matches!(busy, RefreshTokenError::Busy(_)));
    let waiting = tokio::spawn({
        let file = file.clone();
        async move { token(&file.hold(SOON).await.unwrap()) }
    });
    tokio::task::yield_now().await;
    held.replace(secret("second")).await.unwrap();
    assert_eq!(waiting.await.unwrap(), "second");
}
