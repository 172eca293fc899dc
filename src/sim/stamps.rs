//! A worker's stamps on its own two clocks, and dates as text.
//!
//! Rule: the engine's times are `CLOCK_MONOTONIC` of this host; a worker's clock is that plus its offset, and its wall time is
//! carried from the pair of clocks read when the request came, so that one request's stamps keep their order. Deliberately not
//! here: which of them a server tells (`meta_info`).

use crate::clock::Stamp;

/// The clocks of a worker, as read when a request came.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    created: Stamp,
    offset_us: i64,
}

impl Clocks {
    /// Clocks of a request accepted at `created` on a worker that is `offset_us` ahead of this host.
    pub fn new(created: Stamp, offset_us: i64) -> Self {
        Self { created, offset_us }
    }

    /// When the request was accepted, on the engine's timeline.
    pub fn created_ns(self) -> u64 {
        self.created.mono_ns
    }

    /// `time.time()` at a moment of the engine's timeline.
    pub fn unix_s(self, at_ns: u64) -> f64 {
        self.shifted(self.created.unix_ns_at(at_ns)) as f64 / 1e9
    }

    /// `time.perf_counter()` at a moment of the engine's timeline.
    pub fn perf_counter_s(self, at_ns: u64) -> f64 {
        self.shifted(at_ns) as f64 / 1e9
    }

    /// Whole Unix seconds at which the request was accepted.
    pub fn created_unix(self) -> u64 {
        u64::try_from(self.shifted(self.created.unix_ns) / 1_000_000_000).unwrap_or(0)
    }

    /// May be negative: a `perf_counter` of a host that is said to be younger than this one.
    fn shifted(self, ns: u64) -> i64 {
        i64::try_from(ns).unwrap_or(i64::MAX).saturating_add(self.offset_us.saturating_mul(1_000))
    }
}

/// Seconds from nanoseconds.
pub fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// Seconds between two moments; 0 if the second is not later.
pub fn span_s(from_ns: u64, to_ns: u64) -> f64 {
    seconds(to_ns.saturating_sub(from_ns))
}

/// `Sat, 21 Nov 2026 23:11:24 GMT`.
pub fn http_date(unix_ns: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (days, (hour, minute, second)) = split(unix_ns);
    let (year, month, day) = civil(days);
    let weekday = DAYS[(days % 7) as usize];
    format!("{weekday}, {day:02} {} {year} {hour:02}:{minute:02}:{second:02} GMT", MONTHS[month as usize - 1])
}

/// `2026-11-21T22:25:30.197854+00:00`.
pub fn iso_date(unix_ns: u64) -> String {
    let (days, (hour, minute, second)) = split(unix_ns);
    let (year, month, day) = civil(days);
    let micros = unix_ns % 1_000_000_000 / 1_000;
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}+00:00")
}

fn split(unix_ns: u64) -> (u64, (u64, u64, u64)) {
    let s = unix_ns / 1_000_000_000;
    (s / 86_400, (s / 3_600 % 24, s / 60 % 60, s % 60))
}

/// Year, month, day of a day after 1970-01-01 (Hinnant's `civil_from_days`).
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, doe) = (z / 146_097, z % 146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + u64::from(month <= 2), month, doy - (153 * mp + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_a_captured_answer() {
        assert_eq!(http_date(1_795_302_684_000_000_000), "Sat, 21 Nov 2026 23:11:24 GMT");
        assert_eq!(iso_date(1_795_299_930_197_854_000), "2026-11-21T22:25:30.197854+00:00");
        assert_eq!(iso_date(951_782_400_000_000_000), "2000-02-29T00:00:00.000000+00:00");
    }

    #[test]
    fn the_offset_moves_both_clocks() {
        let clocks = Clocks::new(Stamp { mono_ns: 10_000_000_000, unix_ns: 100_000_000_000 }, -2_000_000);
        assert!((clocks.unix_s(11_000_000_000) - 99.0).abs() < 1e-9);
        assert!((clocks.perf_counter_s(11_000_000_000) - 9.0).abs() < 1e-9);
        assert_eq!(clocks.created_unix(), 98);
    }
}
