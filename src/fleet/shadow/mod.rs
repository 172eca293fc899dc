//! `--shadow-policy`: what other policies would have chosen, found out by a thread of its own after the request has left.
//!
//! Rule: a decision pays for a copy of what was seen and for what a shadow needs found out (the prompt hashed and looked up, if
//! the policy that chooses does not want that anyway), and a request for nothing else; whoever is behind is passed over and that
//! is counted, so that no request waits for a shadow. `inbox` is what the decisions leave, `panel` asks the policies.
//!
//! A shadow has a state of its own and sees what the policy that chose saw: the same workers, loads and prefix matches, which
//! tell what was really sent where, not what would have been. It hears the same events. So its answers are those of a policy
//! that takes over for one request at a time. Deliberately not here: the record's fields (`trace::decision`).

mod inbox;
mod panel;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use milepost_policies::{Needs, Policy};

use crate::log;

pub use self::inbox::Asked;
pub(super) use self::inbox::Seen;
use self::inbox::{Batch, Inbox};
use self::panel::Panel;

/// Pause after a batch. Nobody is woken for a decision, as that costs more than the copy.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// Pause while there is nothing to do; shorter than the trace writer waits for an answer.
const LONGEST_PAUSE: Duration = Duration::from_millis(16);

/// How often, and after what pause each time, the thread is looked after at the end.
const LAST_LOOKS: u32 = 2_000;
const LAST_PAUSE: Duration = Duration::from_millis(1);

/// The shadows of one fleet.
#[derive(Debug)]
pub struct Shadows {
    pub(super) inbox: Arc<Inbox>,
    needs: Needs,
    counts: Arc<[Count]>,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// How often one shadow chose the same worker.
#[derive(Debug)]
pub struct Count {
    /// Its policy.
    pub policy: Arc<str>,
    /// Decisions in which it did.
    pub agreed: AtomicU64,
    /// Decisions in which it did not.
    pub differed: AtomicU64,
}

impl Count {
    fn of(policy: &dyn Policy) -> Self {
        Self { policy: policy.name().into(), agreed: AtomicU64::new(0), differed: AtomicU64::new(0) }
    }
}

impl Shadows {
    /// Starts the thread that asks these policies.
    pub fn start(policies: Vec<Box<dyn Policy>>) -> io::Result<Arc<Self>> {
        let needs = policies.iter().fold(Needs::default(), |needs, policy| needs.union(policy.needs()));
        let counts: Arc<[Count]> = policies.iter().map(|policy| Count::of(&**policy)).collect();
        let (inbox, stop) = (Arc::new(Inbox::new()), Arc::new(AtomicBool::new(false)));
        let mut panel = Panel::new(policies, Arc::clone(&counts));
        let (left, told) = (Arc::clone(&inbox), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("shadow".to_owned());
        let thread = thread.spawn(move || work(&left, &mut panel, &told))?;
        Ok(Arc::new(Self { inbox, needs, counts, stop, thread: Mutex::new(Some(thread)) }))
    }

    /// What any of them needs to find in the views.
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// One count a shadow, in the order in which they were named.
    pub fn counts(&self) -> &[Count] {
        &self.counts
    }

    /// Decisions and events that were passed over, as the shadows were behind.
    pub fn dropped(&self) -> [u64; 2] {
        self.inbox.dropped()
    }

    /// Answers what has been asked so far and ends the thread; later questions stay without an answer. A policy that does not
    /// come back is left behind after two seconds.
    pub fn finish(&self) {
        self.stop.store(true, Ordering::Release);
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        thread.thread().unpark();
        for _ in 0..LAST_LOOKS {
            if thread.is_finished() {
                return;
            }
            std::thread::sleep(LAST_PAUSE);
        }
        log::warn("a shadow policy does not come to an end; its last answers are missing in the trace");
    }
}

impl Drop for Shadows {
    fn drop(&mut self) {
        self.finish();
    }
}

fn work(inbox: &Inbox, panel: &mut Panel, stop: &AtomicBool) {
    let mut batch = Batch::new();
    let mut pause = SHORTEST_PAUSE;
    loop {
        // Read before the batch is taken, so that nothing that was asked before the stop is left.
        let stopping = stop.load(Ordering::Acquire);
        inbox.swap(&mut batch);
        let idle = batch.is_empty();
        panel.answer(&mut batch);
        if stopping {
            return;
        }
        pause = if idle { (pause * 2).min(LONGEST_PAUSE) } else { SHORTEST_PAUSE };
        std::thread::park_timeout(pause);
    }
}
