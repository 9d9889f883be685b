//! What was built: the version, the commit, and what is in the program.

use std::sync::LazyLock;

/// The version of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that was built, abbreviated; `unknown` where nobody said.
pub const COMMIT: &str = env!("AUTH_SIDECAR_COMMIT");

/// The kind of machine that it was built for.
pub const TARGET: &str = env!("AUTH_SIDECAR_TARGET");

/// `release` or `debug`.
pub const PROFILE: &str = env!("AUTH_SIDECAR_PROFILE");

/// Version and commit, as `auth-sidecar -V` and the log show them.
pub const SHORT: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("AUTH_SIDECAR_COMMIT"),
    ")"
);

/// What is in the program and is not in every build of it.
pub const FEATURES: &[&str] = &[
    "http2",
    "tls-aws-lc",
    #[cfg(target_os = "linux")]
    "landlock",
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    "seccomp",
];

/// The same at length, as `auth-sidecar --version` shows it.
#[must_use]
pub fn long() -> &'static str {
    static LONG: LazyLock<String> = LazyLock::new(|| {
        let features = FEATURES.join(", ");
        format!("{SHORT}\ntarget: {TARGET}, {PROFILE}\nfeatures: {features}")
    });
    &LONG
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_from_a_checkout_knows_its_commit() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let is_name = COMMIT.len() == 12 && COMMIT.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(is_name || !root.join(".git").exists(), "{COMMIT}");
        assert!(long().starts_with(SHORT) && SHORT.contains(COMMIT));
    }
}
