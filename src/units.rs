//! How raw numbers become text: Unix seconds for headers, short durations for people, digits for the trace.
//!
//! Rule: a number carries its unit in its name until it is printed, and is printed here. The `push_` forms write digits
//! without `core::fmt`, which cost 7 % of a small request's instructions. Deliberately not here: parsing.

/// "00" to "99": two digits a division.
const PAIRS: [[u8; 2]; 100] = {
    let mut pairs = [[b'0'; 2]; 100];
    let mut n = 0;
    while n < 100 {
        pairs[n] = [b'0' + (n / 10) as u8, b'0' + (n % 10) as u8];
        n += 1;
    }
    pairs
};

/// Appends decimal digits.
pub fn push_u64(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    while n >= 10 {
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[(n % 100) as usize]);
        n /= 100;
    }
    // One digit is left of an odd count, or the leading zero of an even one.
    if n > 0 || at == digits.len() {
        at -= 1;
        digits[at] = b'0' + n as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends the lowest `WIDTH` decimal digits, zeros in front.
fn push_padded<const WIDTH: usize>(out: &mut Vec<u8>, mut n: u64) {
    let mut digits = [b'0'; WIDTH];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (n % 10) as u8;
        n /= 10;
    }
    out.extend_from_slice(&digits);
}

/// Appends Unix seconds with nine decimals (`1795302685.059300200`), so that Python's `float()` reads it.
pub fn push_unix_seconds(out: &mut Vec<u8>, unix_ns: u64) {
    push_u64(out, unix_ns / 1_000_000_000);
    out.push(b'.');
    push_padded::<9>(out, unix_ns % 1_000_000_000);
}

/// Appends a duration in milliseconds with three decimals, the form of `Server-Timing`'s `dur`.
pub fn push_millis(out: &mut Vec<u8>, ns: u64) {
    push_u64(out, ns / 1_000_000);
    out.push(b'.');
    push_padded::<3>(out, ns % 1_000_000 / 1_000);
}

/// Wall time for a line of the log: `2026-11-22T04:24:44.276Z`.
pub fn utc(unix_ns: u64) -> String {
    let (days, ms) = (unix_ns / 86_400_000_000_000, unix_ns / 1_000_000 % 86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}

/// Year, month and day of a day since the epoch. Years are counted from March, so that a leap day is the last of its year.
fn civil(days: u64) -> (u64, u64, u64) {
    let day = days + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_is_the_calendars() {
        for (unix_ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_000, "2024-02-29T23:59:59.000Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000Z"),
            (1_795_321_484_276, "2026-11-22T04:24:44.276Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(utc(unix_ms * 1_000_000), text);
        }
        assert!(utc(u64::MAX).starts_with("2554-07-21T"));
    }

    fn text(push: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn digits_are_those_of_fmt() {
        for n in [0, 7, 10, 99, 100, 12_345, u64::MAX] {
            assert_eq!(text(|o| push_u64(o, n)), n.to_string());
        }
    }

    #[test]
    fn unix_seconds_keep_nine_decimals() {
        assert_eq!(text(|o| push_unix_seconds(o, 1_795_302_685_059_300_200)), "1795302685.059300200");
        assert_eq!(text(|o| push_unix_seconds(o, 7)), "0.000000007");
    }

    #[test]
    fn millis_keep_three_decimals() {
        assert_eq!(text(|o| push_millis(o, 1_234_567)), "1.234");
        assert_eq!(text(|o| push_millis(o, 999)), "0.000");
    }
}
