//! Sizes and times as they are given in flags. Those that are printed are Docker's.

pub(crate) use docker::units::{age, binary_bytes, bytes, go_time};

/// Reads a number of bytes, perhaps with a unit of powers of 1024: the `value_parser` of all flags with sizes.
pub(crate) fn size(text: &str) -> Result<u64, &'static str> {
    base::bytes::parse_binary(text).ok_or("write bytes or, for example, 512m or 10GB")
}

/// Reads a time.
pub(crate) fn time(text: &str) -> Result<std::time::Duration, &'static str> {
    base::time::parse_duration(text).ok_or("write a time such as 48h or 90m")
}

/// Reads a size, or -1 for no limit.
pub(crate) fn size_or_unlimited(text: &str) -> Result<i64, &'static str> {
    match text {
        "-1" => Ok(-1),
        text => Ok(i64::try_from(size(text)?).unwrap_or(i64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_flags_are_binary_and_only_limits_may_be_negative() {
        assert_eq!((size("64m"), size_or_unlimited("64m")), (Ok(64 << 20), Ok(64 << 20)));
        assert_eq!(size_or_unlimited("-1"), Ok(-1));
        for bad in ["much", "", "-1", "1x"] {
            assert!(size(bad).is_err(), "{bad}");
        }
        for bad in ["x", "-2"] {
            assert!(size_or_unlimited(bad).is_err(), "{bad}");
        }
    }
}
