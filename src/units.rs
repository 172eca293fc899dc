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

#[cfg(test)]
mod tests {
    use super::*;

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
