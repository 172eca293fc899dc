//! Idle connections to one server.
//!
//! Rule: the newest idle connection is used first and polled once before use; none is kept idle for longer than
//! [`IDLE_LIMIT`], because uvicorn closes at 5.0 s and a request written into that moment is lost. Deliberately not here:
//! sending, and the decision to reconnect.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::connection::Connection;

/// Longest idle time of a kept connection. SGLang's uvicorn closes idle ones after 5.0 s (`SGLANG_TIMEOUT_KEEP_ALIVE`).
pub const IDLE_LIMIT: Duration = Duration::from_secs(4);

/// Most idle connections kept for one server; more are closed on return.
const MAX_IDLE: usize = 1024;

/// The idle connections to one server, the longest idle first.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<Vec<Idle>>,
    // Read under the lock by whoever adds one.
    closed: AtomicBool,
}

#[derive(Debug)]
struct Idle {
    since_ns: u64,
    connection: Connection,
}

impl Pool {
    /// The newest idle connection that is alive.
    pub fn checkout(&self, now_ns: u64) -> Option<Connection> {
        loop {
            let newest = self.lock().pop()?;
            if now_ns.saturating_sub(newest.since_ns) >= limit_ns() {
                // The newest is too old, so are the others.
                self.reap(now_ns);
                return None;
            }
            let mut connection = newest.connection;
            if connection.is_ready() {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose response ended at `since_ns`; one that cannot carry another request is closed.
    pub fn park(&self, mut connection: Connection, since_ns: u64) {
        if connection.is_ready() {
            let mut idle = self.lock();
            if idle.len() < MAX_IDLE && !self.closed.load(Ordering::Acquire) {
                // Nearly always the last place: only a client that took its time brings one back that has waited longer.
                let at = idle.iter().rposition(|other| other.since_ns <= since_ns).map_or(0, |i| i + 1);
                idle.insert(at, Idle { since_ns, connection });
            }
        }
    }

    /// Closes what has been idle for too long.
    pub fn reap(&self, now_ns: u64) {
        let mut idle = self.lock();
        let stale = idle.iter().take_while(|i| now_ns.saturating_sub(i.since_ns) >= limit_ns()).count();
        let closed: Vec<Idle> = idle.drain(..stale).collect();
        drop(idle);
        drop(closed);
    }

    /// Closes all of them, and whatever is parked from now on.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.clear();
    }

    /// Closes all of them.
    pub fn clear(&self) {
        let closed = std::mem::take(&mut *self.lock());
        drop(closed);
    }

    /// Idle connections now.
    pub fn idle(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn limit_ns() -> u64 {
    u64::try_from(IDLE_LIMIT.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;
    use std::task::Poll;

    use bytes::Bytes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::clock::Clock;
    use crate::http1::Outgoing;
    use crate::net::{Connector, Io, Listener, PipeNet};

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

    async fn pair(net: &PipeNet, listener: &mut Listener, clock: &Clock) -> (Connection, Io) {
        let addr = ([127, 0, 0, 1], 1).into();
        let (near, link) = Connector::Pipes(net.clone()).connect(&[addr]).await.unwrap();
        let (far, _) = listener.accept().await.unwrap();
        (Connection::new(near, link, clock.clone()), far)
    }

    /// Asks and takes an answer of up to two bytes.
    async fn ask(connection: &mut Connection, far: &mut Io) -> Bytes {
        exchange(connection, far, 2).await.unwrap()
    }

    async fn exchange(connection: &mut Connection, far: &mut Io, max_bytes: usize) -> Result<Bytes, String> {
        let answering = async {
            let mut head = [0; 256];
            assert!(far.read(&mut head).await.unwrap() > 0);
            far.write_all(ANSWER).await.unwrap();
        };
        let (response, ()) = tokio::join!(connection.send(Outgoing::new([REQUEST]), false), answering);
        assert_eq!(response.unwrap().status, 200);
        connection.collect(max_bytes).await
    }

    #[tokio::test(start_paused = true)]
    async fn stamps_are_of_the_request_in_progress() {
        let clock = Clock::virtual_time(1_000, 0);
        let net = PipeNet::default();
        let (mut connection, mut far) = pair(&net, &mut net.listen(1), &clock).await;
        assert_eq!((connection.first_write_ns(), connection.is_reused()), (None, false));
        for _ in 0..2 {
            tokio::time::advance(Duration::from_millis(5)).await;
            let now_ns = clock.mono_ns();
            assert_eq!(ask(&mut connection, &mut far).await, "ok");
            assert_eq!(connection.first_write_ns(), Some(now_ns));
            assert_eq!(connection.first_read_ns(), Some(now_ns));
        }
        assert!(connection.is_reused() && connection.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn a_death_soon_after_the_write_is_a_race_and_a_later_one_is_not() {
        for (held, race) in [(Duration::ZERO, true), (Duration::from_secs(2), false)] {
            let clock = Clock::virtual_time(1_000, 0);
            let net = PipeNet::default();
            let (mut connection, mut far) = pair(&net, &mut net.listen(1), &clock).await;
            ask(&mut connection, &mut far).await;
            let dying = async move {
                assert!(far.read(&mut [0; 256]).await.unwrap() > 0);
                tokio::time::advance(held).await;
                drop(far);
            };
            let (response, ()) = tokio::join!(connection.send(Outgoing::new([REQUEST]), false), dying);
            let error = response.unwrap_err();
            assert_eq!((error.response_began, error.closing_race), (false, race), "{held:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_over_the_limit_is_refused() {
        let clock = Clock::virtual_time(1_000, 0);
        let net = PipeNet::default();
        let (mut connection, mut far) = pair(&net, &mut net.listen(1), &clock).await;
        let error = exchange(&mut connection, &mut far, 1).await.unwrap_err();
        assert!(error.contains("longer than 1 bytes"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_living_connection_comes_first_and_old_ones_go() {
        let clock = Clock::virtual_time(1_000, 0);
        let net = PipeNet::default();
        let mut listener = net.listen(1);
        let pool = Pool::default();
        let mut far_ends = Vec::new();
        for at_ns in 0..4 {
            let (mut connection, mut far) = pair(&net, &mut listener, &clock).await;
            for _ in 0..=at_ns {
                ask(&mut connection, &mut far).await;
            }
            pool.park(connection, at_ns);
            far_ends.push(Some(far));
        }
        assert_eq!(pool.idle(), 4);
        far_ends[3] = None;
        let newest = pool.checkout(10).unwrap();
        assert!(newest.is_reused(), "the closed one was passed over");
        assert_eq!(pool.idle(), 2);
        // Nothing is kept that its peer has closed.
        far_ends[2] = None;
        pool.park(newest, 10);
        assert_eq!(pool.idle(), 2);
        pool.reap(limit_ns());
        assert_eq!(pool.idle(), 1);
        assert!(pool.checkout(1 + limit_ns()).is_none());
        assert_eq!(pool.idle(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_comes_back_late_is_no_reason_to_close_younger_ones() {
        let clock = Clock::virtual_time(1_000, 0);
        let net = PipeNet::default();
        let mut listener = net.listen(1);
        let pool = Pool::default();
        let mut far_ends = Vec::new();
        // The client of the second one took its time, so its worker has been idle for longer.
        for since_ns in [limit_ns(), 1] {
            let (mut connection, mut far) = pair(&net, &mut listener, &clock).await;
            ask(&mut connection, &mut far).await;
            pool.park(connection, since_ns);
            far_ends.push(far);
        }
        assert!(pool.checkout(1 + limit_ns()).is_some(), "the younger one is as good as before");
        pool.reap(1 + limit_ns());
        assert_eq!(pool.idle(), 0, "the older one goes when its time is over");
    }

    #[tokio::test]
    async fn a_task_that_has_read_a_lot_still_finds_out_that_a_connection_is_closed() {
        let clock = Clock::virtual_time(1_000, 0);
        let net = PipeNet::default();
        let (mut connection, mut far) = pair(&net, &mut net.listen(1), &clock).await;
        ask(&mut connection, &mut far).await;
        drop(far);
        let ready = poll_fn(|cx| {
            // Until the runtime wants others to have their turn.
            while pin!(tokio::task::consume_budget()).poll(cx).is_ready() {}
            Poll::Ready(connection.is_ready())
        });
        assert!(!ready.await);
    }
}
