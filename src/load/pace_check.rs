//! How well this machine can keep a schedule: the pacer and one write a request, to a socket that only takes.
//!
//! Rule: the way is a run's own, from the pacer's thread through the runtime to the write, so that what is told is what a run
//! would add. Deliberately not here: answers, whose reading costs more CPU the more there is in them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::pacer;
use super::schedule::Schedule;
use crate::clock::{Clock, process_cpu_ns};

/// Connections that take turns.
const CONNECTIONS: usize = 64;
/// What is written for one request: about a head and a short body.
const REQUEST: [u8; 400] = [b'x'; 400];
/// From planning to the first arrival: time for the pacer's thread to start.
const LEAD_NS: u64 = 20_000_000;

/// What came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct PaceCheck {
    /// First write returned − scheduled of each request, microseconds, in order of size.
    pub late_us: Vec<f64>,
    /// From the first write to the last, as the schedule has it and as it was, seconds.
    pub planned_s: f64,
    /// As it was.
    pub took_s: f64,
    /// CPU time of this process over that time: 1 is one core.
    pub cpu_cores: f64,
}

/// Keeps `schedule` once.
///
/// # Errors
/// A socket or a thread is refused, or the schedule is empty.
pub async fn check(schedule: Schedule, clock: &Clock) -> io::Result<PaceCheck> {
    let (streams, _taking) = connect().await?;
    let (cpu_before_ns, start_ns) = (process_cpu_ns(), clock.mono_ns() + LEAD_NS);
    let schedule = Arc::new(schedule);
    let mut paced = pacer::start(Arc::clone(&schedule), start_ns, clock.clone())?;
    let mut writes = JoinSet::new();
    let mut sent_ns = vec![0_u64; schedule.at_ns.len()];
    loop {
        tokio::select! {
            biased;
            due = paced.next() => match due {
                None => break,
                Some(index) => {
                    let (stream, clock) = (Arc::clone(&streams[index % CONNECTIONS]), clock.clone());
                    pacer::begin(&mut writes, async move {
                        stream.writable().await?;
                        // A full socket would be the taker's fault; its part is counted as written.
                        let _ = stream.try_write(&REQUEST);
                        io::Result::Ok((index, clock.mono_ns()))
                    });
                }
            },
            Some(written) = writes.join_next(), if !writes.is_empty() => note(written, &mut sent_ns)?,
        }
    }
    while let Some(written) = writes.join_next().await {
        note(written, &mut sent_ns)?;
    }
    let cpu_ns = process_cpu_ns() - cpu_before_ns;
    measure(&schedule, start_ns, &sent_ns, cpu_ns).ok_or_else(|| io::Error::other("no request is due"))
}

type Written = Result<io::Result<(usize, u64)>, tokio::task::JoinError>;

fn note(written: Written, sent_ns: &mut [u64]) -> io::Result<()> {
    let (index, at_ns) = written.map_err(io::Error::other)??;
    sent_ns[index] = at_ns;
    Ok(())
}

/// Connections to a task that takes and forgets.
async fn connect() -> io::Result<(Vec<Arc<TcpStream>>, JoinSet<()>)> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let address = listener.local_addr()?;
    let (mut streams, mut taking) = (Vec::with_capacity(CONNECTIONS), JoinSet::new());
    for _ in 0..CONNECTIONS {
        let (ours, theirs) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (ours, mut theirs) = (ours?, theirs?.0);
        ours.set_nodelay(true)?;
        streams.push(Arc::new(ours));
        taking.spawn(async move {
            let mut taken = [0; 16 * 1024];
            while theirs.read(&mut taken).await.is_ok_and(|bytes| bytes > 0) {}
        });
    }
    Ok((streams, taking))
}

fn measure(schedule: &Schedule, start_ns: u64, sent_ns: &[u64], cpu_ns: u64) -> Option<PaceCheck> {
    let mut late_us: Vec<f64> = schedule
        .at_ns
        .iter()
        .zip(sent_ns)
        .map(|(at_ns, sent_ns)| sent_ns.saturating_sub(start_ns + at_ns) as f64 / 1e3)
        .collect();
    late_us.sort_by(f64::total_cmp);
    let (first_ns, last_ns) = (sent_ns.iter().min()?, sent_ns.iter().max()?);
    let took_s = (last_ns - first_ns) as f64 / 1e9;
    Some(PaceCheck {
        late_us,
        planned_s: (schedule.last_ns() - schedule.at_ns.first()?) as f64 / 1e9,
        took_s,
        cpu_cores: if took_s > 0.0 { cpu_ns as f64 / 1e9 / took_s } else { 0.0 },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::schedule::Rate;

    #[tokio::test]
    async fn every_request_is_written_and_none_before_its_time() {
        let schedule = Schedule::new(&Rate::PerSecond(1000.0).into(), 100, 1);
        let check = check(schedule.clone(), &Clock::system()).await.unwrap();
        assert_eq!(check.late_us.len(), 100);
        assert!(check.late_us[0] > 0.0 && check.late_us.is_sorted());
        assert!((check.planned_s - schedule.last_ns() as f64 / 1e9).abs() < 1e-9 && check.cpu_cores > 0.0);
        assert!(super::check(Schedule::default(), &Clock::system()).await.is_err());
    }

    #[test]
    fn lateness_is_from_the_schedule() {
        let schedule = Schedule { at_ns: vec![0, 1_000_000], ..Schedule::default() };
        let check = measure(&schedule, 5_000_000, &[5_010_000, 6_030_000], 510_000).unwrap();
        assert!((check.late_us[0] - 10.0).abs() < 1e-9 && (check.late_us[1] - 30.0).abs() < 1e-9);
        assert!((check.took_s - 1.02e-3).abs() < 1e-12 && (check.cpu_cores - 0.5).abs() < 1e-9);
    }
}
