//! What clocks here show.

/// How many seconds clocks here are ahead of UTC at a moment, given in seconds since 1970 (`localtime_r(3)`). Where nobody
/// has said, they show UTC.
pub fn offset_at(seconds: i64) -> i32 {
    // SAFETY: a structure of numbers and a pointer, for which zeros are valid values.
    let mut shown: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both point to values of ours that live until the call returns.
    let found = unsafe { libc::localtime_r(&seconds, &mut shown) };
    if found.is_null() { 0 } else { i32::try_from(shown.tm_gmtoff).unwrap_or(0) }
}

#[cfg(test)]
mod tests {
    #[test]
    fn clocks_are_less_than_a_day_apart() {
        assert!(super::offset_at(1_767_323_045).abs() < 86_400);
    }
}
