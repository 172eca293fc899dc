//! A limit on a wait that is set anew for every request and almost never reached.
//!
//! Rule: moving the limit later costs nothing; the timer that is running is looked at when it rings and then set to what was
//! asked for meanwhile. A timer set for each request would be put into and taken out of tokio's wheel each time.
//! Deliberately not here: which limits there are.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

/// Rings once the time last set has come.
#[derive(Debug)]
pub struct Timer {
    sleep: Pin<Box<Sleep>>,
    at: Instant,
}

impl Timer {
    /// A timer for that moment.
    pub fn at(at: Instant) -> Self {
        Self { sleep: Box::pin(tokio::time::sleep_until(at)), at }
    }

    /// Sets it anew.
    pub fn set(&mut self, at: Instant) {
        self.at = at;
        if at < self.sleep.deadline() || self.sleep.is_elapsed() {
            self.sleep.as_mut().reset(at);
        }
    }

    /// Sets it anew if that is later.
    pub fn put_off(&mut self, at: Instant) {
        if at > self.at {
            self.set(at);
        }
    }

    /// Ready once the moment set last has come.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.sleep.as_mut().poll(cx));
            if self.at <= self.sleep.deadline() {
                return Poll::Ready(());
            }
            self.sleep.as_mut().reset(self.at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rings_at_the_time_set_last() {
        let start = Instant::now();
        let mut timer = Timer::at(start + Duration::from_secs(10));
        for (set_s, rings_s) in [(30, 30), (35, 35), (100, 100), (50, 100), (200, 200)] {
            timer.set(start + Duration::from_secs(set_s));
            poll_fn(|cx| timer.poll(cx)).await;
            assert_eq!(start.elapsed().as_secs(), rings_s, "set for {set_s}");
        }
        timer.set(start + Duration::from_secs(250));
        timer.put_off(start + Duration::from_secs(240));
        poll_fn(|cx| timer.poll(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 250, "it is not put off to an earlier time");
        timer.set(start + Duration::from_secs(300));
        timer.set(start + Duration::from_secs(270));
        poll_fn(|cx| timer.poll(cx)).await;
        assert_eq!(start.elapsed().as_secs(), 270, "an earlier time set later counts");
    }
}
