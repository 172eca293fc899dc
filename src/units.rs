//! How raw numbers become text: Unix seconds for headers, short durations for people.
//!
//! Rule: a number carries its unit in its name until it is printed, and is printed here. Deliberately not here: parsing.

/// Unix seconds with nine decimals (`1795302685.059300200`), so that Python's `float()` reads it.
pub fn unix_seconds(unix_ns: u64) -> String {
    format!("{}.{:09}", unix_ns / 1_000_000_000, unix_ns % 1_000_000_000)
}

/// A duration in milliseconds with three decimals, the form of `Server-Timing`'s `dur`.
pub fn millis(ns: u64) -> String {
    format!("{}.{:03}", ns / 1_000_000, ns % 1_000_000 / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_seconds_keep_nine_decimals() {
        assert_eq!(
            unix_seconds(1_795_302_685_059_300_200),
            "1795302685.059300200"
        );
        assert_eq!(unix_seconds(7), "0.000000007");
    }

    #[test]
    fn millis_keep_three_decimals() {
        assert_eq!(millis(1_234_567), "1.234");
        assert_eq!(millis(999), "0.000");
    }
}
