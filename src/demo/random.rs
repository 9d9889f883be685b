//! Random texts for the demo.
//!
//! `fastrand` can be predicted, so none of this would do for real credentials. What it names and protects here is
//! invented, lives on a loopback socket, and is gone when the demo stops.

use std::iter::repeat_with;

pub(super) fn alphanumeric(length: usize) -> String {
    repeat_with(fastrand::alphanumeric).take(length).collect()
}

pub(super) fn bytes(length: usize) -> Vec<u8> {
    repeat_with(|| fastrand::u8(..)).take(length).collect()
}

/// A UUID of version 4 (RFC 9562 §5.4).
pub(super) fn uuid() -> String {
    let bits = fastrand::u128(..);
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        bits >> 96,
        (bits >> 80) & 0xffff,
        (bits >> 64) & 0xfff,
        0x8000 | ((bits >> 48) & 0x3fff),
        bits & 0xffff_ffff_ffff,
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_uuid_has_the_shape_of_version_4() {
        for _ in 0..100 {
            let uuid = super::uuid();
            let groups: Vec<&str> = uuid.split('-').collect();
            assert_eq!(
                groups.iter().map(|group| group.len()).collect::<Vec<_>>(),
                [8, 4, 4, 4, 12]
            );
            assert!(groups[2].starts_with('4'));
            assert!(groups[3].starts_with(['8', '9', 'a', 'b']));
        }
    }
}
