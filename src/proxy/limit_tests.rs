//! Tests of the limits in paused time: nobody over the limit, first come first served, nobody forgotten.

use proptest::prelude::*;

use super::*;

fn config(max_concurrent: Option<u32>, rate_per_second: Option<u32>, queue_size: usize) -> LimitConfig {
    LimitConfig { max_concurrent, rate_per_second, queue_size, queue_timeout: Duration::from_secs(60) }
}

fn limit(config: &LimitConfig) -> Arc<Limit> {
    Arc::new(Limit::new(config).unwrap().unwrap())
}

fn later(secs: u64) -> Instant {
    Instant::now() + Duration::from_secs(secs)
}

fn status(entered: Result<Slot, Problem>) -> u16 {
    entered.map_or_else(|problem| problem.status, |_| 200)
}

/// Asks in a task of its own, and lets it come as far as it can.
async fn asking(limit: &Arc<Limit>, deadline: Instant) -> tokio::task::JoinHandle<Result<Slot, Problem>> {
    let limit = Arc::clone(limit);
    let task = tokio::spawn(async move { limit.enter(deadline).await });
    tokio::task::yield_now().await;
    task
}

#[tokio::test(start_paused = true)]
async fn nothing_is_limited_unless_asked_and_a_limit_of_zero_is_refused() {
    assert!(Limit::new(&LimitConfig::default()).unwrap().is_none());
    for (zero, flag) in [
        (config(Some(0), None, 1), "--max-concurrent-requests: expected at least 1, got 0"),
        (config(None, Some(0), 1), "--rate-limit-tokens-per-second: expected at least 1, got 0"),
    ] {
        assert_eq!(Limit::new(&zero).unwrap_err().to_string(), flag);
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_turns_away_and_a_long_wait_ends() {
    let limit = limit(&config(Some(1), None, 1));
    let running = limit.enter(later(999)).await.unwrap();
    let waiting = asking(&limit, later(999)).await;
    assert_eq!(limit.look().unwrap_err().status, 429);
    let refused = limit.enter(later(999)).await.unwrap_err();
    assert_eq!((refused.status, refused.code), (429, "rate_limited"));
    let began = Instant::now();
    let refused = waiting.await.unwrap().unwrap_err();
    assert_eq!((refused.status, refused.code), (408, "queue_timeout"));
    assert!(refused.message.contains("in 60 s"), "{}", refused.message);
    assert_eq!(began.elapsed().as_secs(), 60);
    let counts = limit.counts();
    assert_eq!(counts, LimitCounts { allowed: 1, rejected: 2, timed_out: 1, queued: 0, running: 1 });
    drop(running);
    assert_eq!(limit.counts().running, 0);
}

#[tokio::test(start_paused = true)]
async fn the_time_out_of_the_request_ends_its_wait_too() {
    let limit = limit(&config(Some(1), None, 1));
    let _running = limit.enter(later(999)).await.unwrap();
    let refused = limit.enter(later(5)).await.unwrap_err();
    assert!(refused.message.contains("in 5 s"), "{}", refused.message);
}

#[tokio::test(start_paused = true)]
async fn without_a_queue_there_is_room_or_there_is_none() {
    let limit = limit(&config(Some(2), None, 0));
    let first = limit.enter(later(1)).await.unwrap();
    assert!(limit.look().is_ok());
    let _second = limit.enter(later(1)).await.unwrap();
    assert_eq!(status(limit.enter(later(1)).await), 429);
    drop(first);
    assert_eq!(status(limit.enter(later(1)).await), 200);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_leaves_frees_its_place_at_once() {
    let limit = limit(&config(Some(1), None, 1));
    let running = limit.enter(later(999)).await.unwrap();
    let gone = asking(&limit, later(999)).await;
    assert_eq!(limit.counts().queued, 1);
    gone.abort();
    assert!(gone.await.unwrap_err().is_cancelled());
    assert_eq!(limit.counts().queued, 0);
    let next = asking(&limit, later(999)).await;
    drop(running);
    assert_eq!(status(next.await.unwrap()), 200);
}

#[tokio::test(start_paused = true)]
async fn a_slot_given_to_one_that_has_just_left_goes_to_the_next() {
    let limit = limit(&config(Some(1), None, 2));
    let running = limit.enter(later(999)).await.unwrap();
    let (gone, next) = (asking(&limit, later(999)).await, asking(&limit, later(999)).await);
    // The slot is the first waiter's now, though it has not run since.
    drop(running);
    gone.abort();
    assert_eq!(status(next.await.unwrap()), 200);
}

#[tokio::test(start_paused = true)]
async fn a_rate_lets_one_seconds_starts_go_and_the_rest_evenly() {
    let limit = limit(&config(None, Some(4), 100));
    let began = Instant::now();
    let mut at_ms = Vec::new();
    for _ in 0..8 {
        // Not held: a rate says nothing about how long a request takes.
        drop(limit.enter(later(999)).await.unwrap());
        at_ms.push(began.elapsed().as_millis());
    }
    assert_eq!(at_ms, [0, 0, 0, 0, 250, 500, 750, 1000]);
    tokio::time::advance(Duration::from_secs(9)).await;
    for _ in 0..4 {
        assert!(limit.at_once().is_some());
    }
    assert!(limit.at_once().is_none(), "no more than one second's starts are saved up");
}

/// One request of a plan.
#[derive(Clone, Debug)]
struct Visit {
    arrives: Duration,
    stays: Duration,
    leaves_after: Option<Duration>,
}

fn visits() -> impl Strategy<Value = Vec<Visit>> {
    let ms = |ms: std::ops::Range<u64>| ms.prop_map(Duration::from_millis);
    let visit = (ms(0..400), ms(0..60), prop::option::weighted(0.3, ms(0..80)));
    let visit = visit.prop_map(|(arrives, stays, leaves_after)| Visit { arrives, stays, leaves_after });
    prop::collection::vec(visit, 1..60).prop_map(|mut all| {
        all.sort_by_key(|v| v.arrives);
        all
    })
}

/// What a plan came to: who got a place, in that order, and when.
#[derive(Default)]
struct Seen {
    running: u32,
    most: u32,
    starts: Vec<(usize, Instant)>,
}

async fn visit(limit: Arc<Limit>, number: usize, plan: Visit, seen: Arc<Mutex<Seen>>) -> bool {
    tokio::time::sleep(plan.arrives).await;
    let entering = limit.enter(later(999));
    let patience = plan.leaves_after.unwrap_or(Duration::from_secs(999));
    let Ok(entered) = tokio::time::timeout(patience, entering).await else {
        return false;
    };
    let slot = entered.expect("the queue is long and patient enough");
    {
        let mut seen = seen.lock().unwrap();
        seen.running += 1;
        seen.most = seen.most.max(seen.running);
        seen.starts.push((number, Instant::now()));
    }
    tokio::time::sleep(plan.stays).await;
    seen.lock().unwrap().running -= 1;
    drop(slot);
    true
}

async fn play(config: LimitConfig, plan: Vec<Visit>) {
    let limit = limit(&config);
    let seen: Arc<Mutex<Seen>> = Arc::default();
    let mut tasks = Vec::new();
    for (number, visitor) in plan.iter().enumerate() {
        tasks.push(tokio::spawn(visit(Arc::clone(&limit), number, visitor.clone(), Arc::clone(&seen))));
    }
    let mut served = 0;
    for (task, visitor) in tasks.into_iter().zip(&plan) {
        let ended = task.await.unwrap();
        assert!(ended || visitor.leaves_after.is_some(), "only those who leave are not served");
        served += u64::from(ended);
    }
    let seen = seen.lock().unwrap();
    assert!(config.max_concurrent.is_none_or(|max| seen.most <= max), "{} at one time", seen.most);
    // Those of one millisecond arrive in no order that can be told.
    let arrivals: Vec<Duration> = seen.starts.iter().map(|(number, _)| plan[*number].arrives).collect();
    assert!(arrivals.is_sorted(), "first come, first served: {arrivals:?}");
    if let Some(rate) = config.rate_per_second {
        for (n, (_, from)) in seen.starts.iter().enumerate() {
            let second = seen.starts[n..].iter().filter(|(_, at)| *at - *from < Duration::from_secs(1));
            assert!(second.count() < 2 * rate as usize, "more than a full bucket and what came in");
        }
    }
    let counts = limit.counts();
    assert_eq!((counts.allowed, counts.queued, counts.running), (served, 0, 0), "everything is back");
    assert!(limit.at_once().is_some() || config.rate_per_second.is_some());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nobody_is_over_the_limit_forgotten_or_overtaken(
        max in prop::option::of(1_u32..5),
        rate in prop::option::of(1_u32..200),
        plan in visits(),
    ) {
        prop_assume!(max.is_some() || rate.is_some());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let config = LimitConfig { queue_timeout: Duration::from_secs(999), ..config(max, rate, 100) };
        runtime.unwrap().block_on(play(config, plan));
    }
}
