//! The moment from which the router itself ends what is open.
//!
//! Rule: said once and for ever; what is dropped from then on was dropped by the router and not by its client, and the record
//! says so. Deliberately not here: why (the grace period is over, a second signal).

use tokio::sync::watch;

/// See the module.
#[derive(Debug, Default)]
pub struct Cut(watch::Sender<bool>);

impl Cut {
    /// Says it.
    pub fn now(&self) {
        self.0.send_replace(true);
    }

    /// It was said.
    pub fn is_now(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once it was said.
    pub async fn wait(&self) {
        // The sender is this value, so it is not gone.
        let _ = self.0.subscribe().wait_for(|now| *now).await;
    }
}
