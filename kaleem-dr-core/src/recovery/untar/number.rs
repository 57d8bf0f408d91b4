//! Decodes numbers and times in tar headers.

/// A number in a header: octal digits, or GNU's binary form for larger values. An empty field is 0.
pub(super) fn field(bytes: &[u8]) -> Option<i64> {
    let (&first, rest) = bytes.split_first()?;
    if first & 0x80 != 0 {
        // Two's complement; the sign is the bit after the mark.
        let negative = first & 0x40 != 0;
        let mut value: i64 =
            if negative { i64::from(first.cast_signed()) } else { i64::from(first & 0x3f) };
        for &byte in rest {
            value = value.checked_mul(256)?.checked_add(i64::from(byte))?;
        }
        return Some(value);
    }
    let text = std::str::from_utf8(bytes).ok()?.trim_matches([' ', '\0']);
    if text.is_empty() {
        Some(0)
    } else {
        i64::from_str_radix(text, 8).ok().filter(|&value| value >= 0)
    }
}

/// A pax time: seconds, possibly negative or with a fraction. The nanoseconds count forward.
pub(super) fn time(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_binary() {
        assert_eq!(field(b"0000644\0"), Some(0o644));
        assert_eq!(field(b"   644 \0"), Some(0o644));
        assert_eq!(field(&[0; 8]), Some(0));
        assert_eq!(field(&[0x80, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 1]), Some((2 << 56) + 1));
        assert_eq!(field(&[0xff; 12]), Some(-1));
        assert_eq!(
            field(&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            None
        );
        for bad in [&b"64x"[..], b"-644", b"8", b"\xc3\x28"] {
            assert!(field(bad).is_none_or(|value| value < 0), "{bad:?}");
        }
    }

    #[test]
    fn times_have_fractions_and_may_lie_before_1970() {
        assert_eq!(time("1234567890"), Some((1_234_567_890, 0)));
        assert_eq!(time("1.5"), Some((1, 500_000_000)));
        assert_eq!(time("1.1234567899"), Some((1, 123_456_789)));
        assert_eq!(time("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(time("-0.25"), Some((-1, 750_000_000)));
        assert_eq!(time("1.-5"), None);
        assert_eq!(time("x"), None);
    }
}
