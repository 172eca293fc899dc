//! The difference between the client's monotonic clock and a router's on another host.
//!
//! Rule: taken from the requests themselves, with a bound; nothing is asked of the clocks' settings. Deliberately not here:
//! workers' clocks, see [`crate::trace::axis`].

/// One request seen from both sides, each in its own monotonic clock.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::struct_field_names, reason = "the unit comes last in every raw number")]
pub(super) struct Pair {
    pub sent_ns: i64,
    pub received_ns: i64,
    pub router_arrival_ns: i64,
    pub router_end_ns: i64,
}

/// Client clock − router clock, and how far it may be off: of the request that spent least on the way, as NTP does it.
pub(super) fn offset(pairs: impl Iterator<Item = Pair>) -> Option<(i64, i64)> {
    let best = pairs.min_by_key(|p| (p.received_ns - p.sent_ns) - (p.router_end_ns - p.router_arrival_ns))?;
    let there = best.sent_ns - best.router_arrival_ns;
    let back = best.received_ns - best.router_end_ns;
    Some((i64::midpoint(there, back), (back - there).abs() / 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_is_known_without_a_request() {
        assert_eq!(offset(std::iter::empty()), None);
    }

    proptest! {
        /// Whatever the ways there and back take, the true difference lies within the bound.
        #[test]
        fn the_bound_holds(
            difference in -1_000_000_000_000_i64..1_000_000_000_000,
            trips in proptest::collection::vec((0_i64..5_000_000, 0_i64..5_000_000, 1_i64..50_000_000), 1..20),
        ) {
            let pairs = trips.iter().enumerate().map(|(i, (there, back, held))| {
                let sent_ns = i64::try_from(i).unwrap() * 100_000_000;
                let router_arrival_ns = sent_ns + there - difference;
                let router_end_ns = router_arrival_ns + held;
                Pair { sent_ns, router_arrival_ns, router_end_ns, received_ns: sent_ns + there + held + back }
            });
            let (offset_ns, bound_ns) = offset(pairs).unwrap();
            prop_assert!((offset_ns - difference).abs() <= bound_ns + 1, "{offset_ns} {bound_ns}");
            let least = trips.iter().map(|(there, back, _)| there + back).min().unwrap();
            prop_assert!(bound_ns <= least);
        }
    }
}
