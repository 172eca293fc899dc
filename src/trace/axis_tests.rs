//! Tests of the time axis.

use proptest::prelude::*;

use super::*;

fn snapshot(mono_ns: u64, unix_ns: u64) -> ClockSnapshot {
    ClockSnapshot { mono_ns, unix_ns, bracket_ns: 200 }
}

fn track(snapshots: &[ClockSnapshot]) -> ClockTrack {
    let mut track = ClockTrack::default();
    for s in snapshots.iter().rev() {
        track.add(*s);
    }
    track
}

const DAY_NS: u64 = 1_795_000_000_000_000_000;
const SECOND_NS: u64 = 1_000_000_000;

#[test]
fn unix_seconds_keep_their_resolution() {
    assert_eq!(nanos(4_111.736_765_916), 4_111_736_765_916);
    assert!(nanos(1_795_302_685.474_251_7).abs_diff(1_795_302_685_474_251_700) <= FLOAT_NS);
    assert_eq!(nanos(0.000_500_506_999_969_729_8), 500_507);
}

#[test]
fn wall_goes_through_the_nearest_snapshot() {
    assert_eq!(ClockTrack::default().place_unix(5, 5), None);
    let one = track(&[snapshot(10 * SECOND_NS, DAY_NS)]);
    let p = one.place_unix(signed(DAY_NS + SECOND_NS), 10 * SECOND_NS).unwrap();
    assert_eq!(p, Placed { mono_ns: signed(11 * SECOND_NS), bound_ns: 100 + 50_000 + FLOAT_NS });
    let two = track(&[
        snapshot(10 * SECOND_NS, DAY_NS),
        snapshot(20 * SECOND_NS, DAY_NS + 10 * SECOND_NS + 40_000),
    ]);
    let p = two.place_unix(signed(DAY_NS + SECOND_NS), 10 * SECOND_NS).unwrap();
    assert_eq!(p, Placed { mono_ns: signed(11 * SECOND_NS), bound_ns: 100 + 40_000 + FLOAT_NS });
    let p = two.place_unix(signed(DAY_NS + 9 * SECOND_NS + 40_000), 12 * SECOND_NS).unwrap();
    assert_eq!(p.mono_ns, signed(19 * SECOND_NS));
}

#[test]
fn the_two_sides_of_a_step_are_told_apart_by_the_requests_own_time() {
    // The wall clock jumps back 5 s at 20 s; the step record follows at once.
    let stepped = track(&[
        snapshot(10 * SECOND_NS, DAY_NS + 10 * SECOND_NS),
        snapshot(20 * SECOND_NS, DAY_NS + 20 * SECOND_NS),
        snapshot(20 * SECOND_NS + 1_000_000, DAY_NS + 15 * SECOND_NS + 1_000_000),
        snapshot(30 * SECOND_NS, DAY_NS + 25 * SECOND_NS),
    ]);
    let wall = signed(DAY_NS + 18 * SECOND_NS);
    let before = stepped.place_unix(wall, 18 * SECOND_NS).unwrap();
    let after = stepped.place_unix(wall, 23 * SECOND_NS).unwrap();
    assert_eq!((before.mono_ns, before.bound_ns), (signed(18 * SECOND_NS), 100 + FLOAT_NS));
    assert_eq!((after.mono_ns, after.bound_ns), (signed(23 * SECOND_NS), 100 + FLOAT_NS));
}

/// A wall clock that is set by `step_ns` at `at_ns`, with a reading every ten seconds and one 30 ms after the step.
fn stepped(at_ns: u64, step_ns: i64) -> ClockTrack {
    let mut track = ClockTrack::default();
    let wall = |mono_ns: u64| wall(mono_ns, at_ns, step_ns);
    for mono_ns in (1..10).map(|n| 10 * n * SECOND_NS) {
        track.add(snapshot(mono_ns, wall(mono_ns)));
    }
    let told = snapshot(at_ns + 30_000_000, wall(at_ns + 30_000_000));
    track.add_record(&ClockRecord {
        wall_step_us: Some(step_ns / 1_000),
        wall_step_after_ns: Some(at_ns - 2_000_000),
        ..ClockRecord::from(told)
    });
    track
}

fn wall(mono_ns: u64, step_at_ns: u64, step_ns: i64) -> u64 {
    (DAY_NS + mono_ns).wrapping_add_signed(if mono_ns < step_at_ns { 0 } else { step_ns })
}

#[test]
fn a_step_spoils_nothing_on_either_side_of_it() {
    let hour_ns = signed(3_600 * SECOND_NS);
    for step_ns in [hour_ns, -hour_ns] {
        let at_ns = 45 * SECOND_NS;
        let track = stepped(at_ns, step_ns);
        assert_eq!(track.steps(), 1);
        for mono_ns in [41 * SECOND_NS, 44_900_000_000, 46 * SECOND_NS, 49 * SECOND_NS] {
            let stamp = signed(wall(mono_ns, at_ns, step_ns));
            let placed = track.place_unix_within(stamp, mono_ns - SECOND_NS, mono_ns + SECOND_NS).unwrap();
            assert_eq!(placed.mono_ns, signed(mono_ns), "{step_ns}");
            assert!(placed.bound_ns < 1_000_000, "{placed:?}");
        }
    }
}

#[test]
fn a_moment_that_may_lie_on_either_side_of_a_step_has_a_bound_with_both() {
    let track = stepped(45 * SECOND_NS, -signed(5 * SECOND_NS));
    // 42 s, or 47 s after the clock was set back: the request was there all the time.
    let placed =
        track.place_unix_within(signed(DAY_NS + 42 * SECOND_NS), 41 * SECOND_NS, 48 * SECOND_NS).unwrap();
    assert!(placed.bound_ns >= 5 * SECOND_NS, "{placed:?}");
    let short =
        track.place_unix_within(signed(DAY_NS + 42 * SECOND_NS), 41 * SECOND_NS, 43 * SECOND_NS).unwrap();
    assert!(short.bound_ns < 1_000_000, "{short:?}");
}

proptest! {
    #[test]
    fn truth_is_within_the_bound_whatever_the_step(
        at_ns in 31 * SECOND_NS..60 * SECOND_NS,
        step_ns in -20_000_000_000_i64..20_000_000_000,
        around in -25_000_000_000_i64..25_000_000_000,
        before_ns in 0..8 * SECOND_NS,
        after_ns in 0..8 * SECOND_NS,
    ) {
        prop_assume!(step_ns.abs() > 6_000_000);
        let mono_ns = at_ns.checked_add_signed(around).unwrap();
        let stamp = signed(wall(mono_ns, at_ns, step_ns));
        let track = stepped(at_ns, step_ns);
        let placed = track.place_unix_within(stamp, mono_ns - before_ns.min(mono_ns), mono_ns + after_ns).unwrap();
        prop_assert!(placed.mono_ns.abs_diff(signed(mono_ns)) <= placed.bound_ns, "{placed:?} of {mono_ns}");
    }
}

/// One exchange with a worker whose wall clock is `offset_ns` ahead of the router's monotonic clock.
fn exchange_record(at_ns: u64, out_ns: u64, held_ns: u64, back_ns: u64, offset_ns: u64) -> RequestRecord {
    let seconds = |ns: u64| ns as f64 / 1e9;
    RequestRecord {
        worker: Some("w".into()),
        same_host: Some(false),
        outcome: Outcome::Done,
        arrival_mono_ns: at_ns,
        router_send_ns: Some(0),
        sse_events: 2,
        first_event_ns: Some(out_ns + held_ns + back_ns),
        server: ServerStamps {
            request_received_ts: Some(seconds(at_ns + out_ns + offset_ns)),
            response_sent_to_client_ts: Some(seconds(at_ns + out_ns + held_ns + offset_ns)),
            ..ServerStamps::default()
        },
        ..RequestRecord::default()
    }
}

#[test]
fn the_least_delay_wins_and_is_the_bound() {
    let mut offsets = Offsets::default();
    offsets.learn(&exchange_record(SECOND_NS, 900_000, 5_000_000, 100_000, DAY_NS));
    offsets.learn(&exchange_record(2 * SECOND_NS, 50_000, 5_000_000, 50_000, DAY_NS));
    let p = offsets.place_unix("w", signed(DAY_NS + 2 * SECOND_NS), 2 * SECOND_NS, None).unwrap();
    assert!(p.mono_ns.abs_diff(signed(2 * SECOND_NS)) < 1_000, "{p:?}");
    assert!((50_000..52_000).contains(&p.bound_ns), "{p:?}");
    assert_eq!(offsets.place_unix("other", 0, 0, None), None);
    assert_eq!(offsets.place_unix("w", 0, 500 * SECOND_NS, None), None);
}

#[test]
fn what_teaches_nothing() {
    let mut offsets = Offsets::default();
    let good = exchange_record(SECOND_NS, 9, 9, 9, DAY_NS);
    offsets.learn(&RequestRecord { same_host: Some(true), ..good.clone() });
    offsets.learn(&RequestRecord { outcome: Outcome::ClientGone, ..good.clone() });
    offsets.learn(&RequestRecord { router_send_ns: None, ..good.clone() });
    offsets.learn(&RequestRecord { server: ServerStamps::default(), ..good.clone() });
    assert_eq!(offsets.contradictions(), 0);
    offsets.learn(&RequestRecord {
        first_event_ns: Some(1),
        server: exchange_record(SECOND_NS, 9, 9_000_000, 9, DAY_NS).server,
        ..good
    });
    assert_eq!(offsets.contradictions(), 1);
    assert_eq!(offsets.place_unix("w", 0, SECOND_NS, None), None);
}

#[test]
fn plain_answers_teach_by_their_end() {
    let mut offsets = Offsets::default();
    let mut record = exchange_record(SECOND_NS, 100_000, 0, 0, DAY_NS);
    record.sse_events = 0;
    record.first_byte_ns = Some(7_200_000);
    record.server = ServerStamps {
        server_created_time: record.server.request_received_ts,
        e2e_latency: Some(0.007),
        ..ServerStamps::default()
    };
    offsets.learn(&record);
    let p = offsets.place_unix("w", signed(DAY_NS + SECOND_NS), SECOND_NS, None).unwrap();
    assert!(p.mono_ns.abs_diff(signed(SECOND_NS)) < 1_000 && p.bound_ns < 101_000, "{p:?}");
}

#[test]
fn what_is_forgotten_is_the_past_alone() {
    let mut offsets = Offsets::default();
    for at in [SECOND_NS, 200 * SECOND_NS] {
        offsets.learn(&exchange_record(at, 100_000, 0, 0, DAY_NS));
    }
    offsets.forget_before(100 * SECOND_NS);
    let is_known = |offsets: &Offsets, at| offsets.place_unix("w", signed(DAY_NS + at), at, None).is_some();
    assert_eq!((is_known(&offsets, SECOND_NS), is_known(&offsets, 200 * SECOND_NS)), (false, true));
    offsets.forget_before(400 * SECOND_NS);
    assert!(!is_known(&offsets, 200 * SECOND_NS));
}

#[test]
fn a_long_exchange_with_a_fast_clock_neither_wins_nor_is_believed_too_far() {
    // 40 ppm fast: a request held 30 s looks 1.2 ms longer at the server, and its way of 1.4 ms like one of 0.2 ms.
    let (held_ns, fast_ns) = (30 * SECOND_NS, 1_200_000);
    let mut long = exchange_record(SECOND_NS, 1_300_000, held_ns + fast_ns, 0, DAY_NS);
    (long.sse_events, long.first_byte_ns) = (0, Some(1_300_000 + held_ns + 100_000));
    let short = exchange_record(SECOND_NS + 1_000_000, 300_000, 5_000_000, 300_000, DAY_NS);
    let taken = SECOND_NS + 1_300_000;
    let place = |records: &[&RequestRecord], mono_ns: u64, drifted_ns: u64| {
        let mut offsets = Offsets::default();
        for record in records {
            offsets.learn(record);
        }
        let stamp = signed(DAY_NS + mono_ns + drifted_ns);
        let placed = offsets.place_unix("w", stamp, SECOND_NS, None).unwrap();
        (placed.mono_ns.abs_diff(signed(mono_ns)), placed.bound_ns)
    };
    let (off_ns, bound_ns) = place(&[&long], taken, 0);
    assert!(off_ns > 500_000 && off_ns <= bound_ns, "{off_ns} {bound_ns}");
    let (off_ns, bound_ns) = place(&[&short, &long], taken, 0);
    assert!(off_ns < 2_000 && bound_ns < 310_000, "the short one wins: {off_ns} {bound_ns}");
    let (off_ns, bound_ns) = place(&[&short], taken + held_ns, fast_ns);
    assert!(off_ns > 1_000_000 && off_ns <= bound_ns, "far from where it was learned: {off_ns} {bound_ns}");
    // Faster ways than the drift: no contradiction.
    let mut fast = exchange_record(SECOND_NS, 600_000, held_ns + fast_ns, 0, DAY_NS);
    (fast.sse_events, fast.first_byte_ns) = (0, Some(600_000 + held_ns + 400_000));
    let (off_ns, bound_ns) = place(&[&fast], SECOND_NS + 600_000, 0);
    assert!(off_ns <= bound_ns, "{off_ns} {bound_ns}");
}

proptest! {
    /// A simulated world: whatever the delays, the truth lies within the published bound.
    #[test]
    fn the_truth_lies_within_the_bound(
        offset in 0u64..2_000_000_000_000_000_000,
        exchanges in prop::collection::vec((0u64..60 * SECOND_NS, 0u64..2_000_000, 0u64..1_000_000_000, 0u64..2_000_000), 1..20),
        at in 0u64..60 * SECOND_NS,
    ) {
        let mut offsets = Offsets::default();
        for (at, out, held, back) in exchanges {
            offsets.learn(&exchange_record(at, out, held, back, offset));
        }
        // A delay of a few hundred ns can turn negative through the resolution of a double; such pairs are dropped.
        if let Some(p) = offsets.place_unix("w", signed(at + offset), at, None) {
            prop_assert!(p.mono_ns.abs_diff(signed(at)) <= p.bound_ns + 2 * FLOAT_NS, "{:?}", p);
        }
    }
}

/// Numbers that look drawn, the same for a seed.
struct Draw(u64);

impl Draw {
    fn below(&mut self, most: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % most.max(1)
    }

    /// A way of 50 us to 1 ms, one in ten of up to 20 ms: the ways there and back have nothing to do with each other.
    fn way_ns(&mut self) -> u64 {
        let slow = if self.below(10) == 0 { 20_000_000 } else { 1_000_000 };
        50_000 + self.below(slow)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    /// A worker's clock that drifts and is stepped three times in five minutes: 99 records of 100 are placed within the bound
    /// that is published with them.
    #[test]
    fn the_bound_holds_through_drift_and_steps(seed in 0u64..u64::MAX, drift_ppm in -45i64..=45) {
        const LENGTH_NS: u64 = 300 * SECOND_NS;
        let mut draw = Draw(seed);
        let mut steps: Vec<(u64, i64)> = (0..3)
            .map(|_| {
                let by_ns = signed(20_000_000 + draw.below(2_000_000_000));
                (draw.below(LENGTH_NS), if draw.below(2) == 0 { by_ns } else { -by_ns })
            })
            .collect();
        steps.sort_unstable();
        let offset_at = |mono_ns: u64| {
            let stepped: i64 = steps.iter().filter(|(at, _)| *at <= mono_ns).map(|(_, by)| by).sum();
            let drifted = signed(mono_ns) / 1_000_000 * drift_ppm;
            u64::try_from(signed(DAY_NS) + stepped + drifted).unwrap()
        };
        let records: Vec<(u64, RequestRecord)> = (0..2_000)
            .map(|_| {
                let (at, out, held, back) =
                    (draw.below(LENGTH_NS), draw.way_ns(), draw.below(400_000_000), draw.way_ns());
                let taken = at + out;
                (taken, exchange_record(at, out, held, back, offset_at(taken)))
            })
            .collect();
        let mut offsets = Offsets::default();
        for (_, record) in &records {
            offsets.learn(record);
        }
        let (mut outside, mut bounds) = (0, Vec::new());
        for (taken, record) in &records {
            let stamp = nanos(record.server.request_received_ts.unwrap());
            let own = exchange(record).and_then(Result::ok);
            let placed = offsets.place_unix("w", stamp, record.arrival_mono_ns, own).unwrap();
            outside += u64::from(placed.mono_ns.abs_diff(signed(*taken)) > placed.bound_ns + FLOAT_NS);
            bounds.push(placed.bound_ns);
        }
        bounds.sort_unstable();
        prop_assert!(outside <= 20, "{outside} of 2000 are outside their bound");
        prop_assert!(bounds[1000] < 1_000_000, "half of them within {} ns", bounds[1000]);
    }
}

#[test]
fn what_is_forgotten_takes_its_step_with_it_and_what_is_left_places_as_before() {
    let at = |s: u64, set_s: u64| snapshot(s * SECOND_NS, DAY_NS + (s + set_s) * SECOND_NS);
    let whole = track(&[at(10, 0), at(20, 5), at(30, 5), at(40, 9), at(50, 9)]);
    let placed = |track: &ClockTrack| track.place_unix(signed(DAY_NS + 54 * SECOND_NS), 45 * SECOND_NS);
    for (before_s, at_most, readings, steps) in [
        (5, 9, 5, 2),
        (10, 9, 5, 2),
        (29, 9, 4, 1),
        (35, 9, 3, 1),
        (45, 9, 2, 0),
        (99, 9, 1, 0),
        (5, 2, 2, 0),
    ] {
        let mut left = whole.clone();
        left.forget_before(before_s * SECOND_NS, at_most);
        assert_eq!((left.readings.len(), left.steps()), (readings, steps), "{before_s}");
        if readings > 1 {
            assert_eq!(placed(&left).map(|p| p.mono_ns), placed(&whole).map(|p| p.mono_ns), "{before_s}");
        }
    }
}
