//! What only the servers know of their load: asked again and again where a policy reads it.
//!
//! Rule: whatever is not a load that can be, told in time, is "unknown", and the policies hear so; never a number that wins.
//! A server gets one question at a time, from the first of its workers that is in the fleet, and none while all of them are
//! unhealthy or once they have left. The fleet's servers are asked spread over the interval. Deliberately not here: which
//! endpoint is asked (`asker`), what an answer holds (`wire::loads`), how old a word may be for a decision (the ledger of the
//! policies).

mod asker;
mod said;

use std::sync::Arc;
use std::time::Duration;

use milepost_policies::{Event, ServerLoad};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use self::asker::Asker;
pub use self::asker::{ENDPOINTS, Endpoint, MAX_ANSWER_BYTES};
pub use self::said::Said;
use super::Fleet;
use super::worker::Worker;
use crate::log::Rarely;
use crate::wire::loads::{RankLoad, total};

/// Intervals for which a server's word counts.
const LASTS_INTERVALS: u32 = 5;
/// A server that falls silent is told of no more often than this.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// How servers are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadConfig {
    /// Time between two questions to a server (`--load-monitor-interval`).
    pub interval: Duration,
    /// They are asked though no policy wants to know, for `/metrics`.
    pub always: bool,
}

impl Default for LoadConfig {
    /// Every second where a policy reads it.
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), always: false }
    }
}

impl LoadConfig {
    /// How long a server's word counts.
    pub(super) fn lasts(&self) -> Duration {
        self.interval * LASTS_INTERVALS
    }
}

/// Asks the worker's server until the task is aborted, from the moment at which somebody wants to know.
pub(super) async fn watch(fleet: Arc<Fleet>, worker: Arc<Worker>) {
    fleet.loads_are_wanted().await;
    let config = fleet.config.loads;
    let mut beat = interval_at(Instant::now() + phase(worker.url_hash, config.interval), config.interval);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut asker = Asker::new(config.interval);
    let mut complaints = Rarely::every(COMPLAIN_EVERY);
    let mut snapshots = Snapshots::default();
    let mut silent = false;
    loop {
        beat.tick().await;
        let workers = fleet.workers_at_server_of(&worker);
        if !workers.first().is_some_and(|first| Arc::ptr_eq(first, &worker)) {
            asker.forget();
            continue;
        }
        if !workers.iter().any(|rank| rank.is_healthy()) {
            asker.forget();
            workers.iter().filter(|rank| rank.load_said.forget()).for_each(|rank| fleet.load_unknown(rank));
            continue;
        }
        if asker.is_resting() {
            continue;
        }
        let told = asker.ask(&worker, fleet.clock()).await;
        let loads = told.and_then(|loads| snapshots.sift(loads, config.lasts()));
        if let Err(why) = &loads
            && !silent
        {
            complaints.warn(|| {
                format!(
                    "worker {} does not say how loaded it is, which is unknown to policies then: {why}",
                    worker.added_as
                )
            });
        }
        silent = loads.is_err();
        for rank in &workers {
            fleet.tell_load(rank, loads.as_ref().ok().and_then(|loads| of_worker(loads, rank)));
        }
    }
}

/// When in the interval the server at a URL with this hash is asked: spread, so that not all are asked at once.
fn phase(url_hash: u64, interval: Duration) -> Duration {
    interval.mul_f64((url_hash % 1024) as f64 / 1024.0)
}

/// The load of a rank, or of a worker that is a whole server the sum; `None` if nothing of it is known.
fn of_worker(loads: &[RankLoad], worker: &Worker) -> Option<ServerLoad> {
    let load = match worker.url.rank() {
        None => total(loads),
        rank => loads.iter().find(|load| load.rank == rank)?.load,
    };
    Some(load).filter(|load| *load != ServerLoad::default())
}

/// Since when each rank of a server has told the same numbers as those of one moment. From 0.5.23 on a server answers with
/// what its scheduler last wrote down, and goes on answering when that hangs.
#[derive(Debug, Default)]
struct Snapshots(Vec<(Option<u32>, f64, Instant)>);

impl Snapshots {
    /// Takes out the numbers that have been the same moment's for longer than `lasts`; an error if that leaves none.
    fn sift(&mut self, mut loads: Vec<RankLoad>, lasts: Duration) -> Result<Vec<RankLoad>, String> {
        let now = Instant::now();
        let mut seen = Vec::with_capacity(loads.len());
        for told in &mut loads {
            let Some(taken) = told.taken_unix_s else {
                continue;
            };
            let same =
                self.0.iter().find(|(rank, then, _)| *rank == told.rank && then.total_cmp(&taken).is_eq());
            let since = same.map_or(now, |(_, _, since)| *since);
            if now - since > lasts {
                told.load = ServerLoad::default();
            }
            seen.push((told.rank, taken, since));
        }
        self.0 = seen;
        if loads.iter().all(|told| told.load == ServerLoad::default()) {
            let for_s = lasts.as_secs_f64();
            return Err(format!(
                "it has told the numbers of the same moment for {for_s:.0} s: its scheduler may hang"
            ));
        }
        Ok(loads)
    }
}

impl Fleet {
    /// Returns once somebody wants to know how loaded the servers are.
    async fn loads_are_wanted(&self) {
        // The sender is the fleet's own.
        let _ = self.loads_wanted.subscribe().wait_for(|wanted| *wanted).await;
    }

    /// The workers at the same server in the order in which they joined, itself included while it is in the fleet.
    fn workers_at_server_of(&self, worker: &Worker) -> Vec<Arc<Worker>> {
        self.lock().workers.iter().filter(|other| other.is_at_server_of(worker)).cloned().collect()
    }

    /// What a worker's server answered; `None`: nothing that tells its load.
    fn tell_load(&self, worker: &Worker, load: Option<ServerLoad>) {
        let was_its_last = worker.load_said.set(load, self.clock.mono_ns());
        match load {
            Some(load) => self.observe_load(worker, &Event::Loaded { worker: worker.id, load }),
            None if was_its_last => self.load_unknown(worker),
            None => {}
        }
    }

    fn load_unknown(&self, worker: &Worker) {
        self.observe_load(worker, &Event::LoadUnknown { worker: worker.id });
    }

    fn observe_load(&self, worker: &Worker, event: &Event) {
        if self.needs().server_loads {
            let now = self.now();
            self.tell(now, worker, event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_of_a_large_fleet_are_asked_spread_over_the_interval() {
        let mut asked_in_tenths = [0; 10];
        for host in 0..500 {
            let url = format!("http://10.0.0.{}:{}", host % 250, 8000 + host / 250);
            let due = phase(milepost_policies::name_hash(url.as_bytes()), Duration::from_secs(1));
            asked_in_tenths[(due.as_secs_f64() * 10.0) as usize] += 1;
        }
        assert!(asked_in_tenths.iter().all(|asked| (25..=75).contains(asked)), "{asked_in_tenths:?}");
    }

    fn told(rank: u32, taken_unix_s: Option<f64>) -> RankLoad {
        let load = ServerLoad { queue_depth: Some(rank), ..ServerLoad::default() };
        RankLoad { rank: Some(rank), taken_unix_s, load }
    }

    #[tokio::test(start_paused = true)]
    async fn a_scheduler_that_writes_nothing_down_any_more_is_unknown_and_its_neighbour_is_not() {
        let (mut snapshots, lasts) = (Snapshots::default(), Duration::from_secs(5));
        let known = async |snapshots: &mut Snapshots, hung, other| {
            let loads = vec![told(0, Some(hung)), told(1, other), told(2, None)];
            let left = snapshots.sift(loads, lasts).unwrap();
            tokio::time::advance(Duration::from_secs(1)).await;
            left.iter().map(|rank| rank.load.queue_depth).collect::<Vec<_>>()
        };
        for second in 0..=5 {
            let all = known(&mut snapshots, 100.5, Some(f64::from(second))).await;
            assert_eq!(all, [Some(0), Some(1), Some(2)], "second {second}");
        }
        assert_eq!(known(&mut snapshots, 100.5, Some(6.0)).await, [None, Some(1), Some(2)]);
        assert_eq!(
            known(&mut snapshots, 100.25, None).await,
            [Some(0), Some(1), Some(2)],
            "whatever its clock says"
        );
    }
}
