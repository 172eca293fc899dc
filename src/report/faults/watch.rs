//! What came of one fault, found out one request at a time.
//!
//! Rule: any number of requests fits; of those that began after the fault 8 bytes each are kept, as whether all was as before is
//! asked in the order in which they began. Deliberately not here: which requests are good (`recovery`).

use super::aftermath::{Aftermath, Detection, InFlight};
use super::recovery::{Band, Begun, Recovery};
use crate::load::faults::{Conducted, Phase};
use crate::load::row::Row;

/// A fault that was begun, while the requests are gone through.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    conducted: &'a Conducted,
    fault: usize,
    /// Its worker.
    host: Option<&'a str>,
    /// The same where the rows tell which of them were at it.
    at: Option<&'a str>,
    began_ns: i64,
    ended_ns: Option<i64>,
    /// When the next fault was begun.
    next_ns: i64,
    detection: Detection,
    in_flight: InFlight,
    failed_later: u64,
    after: Vec<Begun>,
}

/// A send to a worker, or an attempt at it: when it began and when it was over.
struct Stay {
    from_ns: i64,
    to_ns: i64,
}

/// All stays of a request at a worker; of an unknown one its whole way.
fn stays<'a>(row: &'a Row, host: Option<&'a str>) -> impl Iterator<Item = Stay> + 'a {
    let tried = row.tried.iter().filter(move |tried| host == Some(tried.host.as_str()));
    let tried = tried.map(|t| Stay { from_ns: t.send_ns.unwrap_or(t.failed_ns), to_ns: t.failed_ns });
    // Of a request that failed at its last attempt the host is the worker of that attempt.
    let failed_there = row.host.is_some()
        && !row.success()
        && row.tried.last().is_some_and(|t| Some(&t.host) == row.host.as_ref());
    let from_ns = if host.is_none() { row.write_begun_ns } else { row.router_send_ns.or(row.write_begun_ns) };
    let last = from_ns.zip(row.client_end_ns).map(|(from_ns, to_ns)| Stay { from_ns, to_ns });
    let is_there = host.is_none() || (row.host.as_deref() == host && !failed_there);
    tried.chain(last.filter(|_| is_there))
}

fn is_there(row: &Row, host: Option<&str>, at_ns: i64) -> bool {
    stays(row, host).any(|stay| stay.from_ns <= at_ns && at_ns < stay.to_ns)
}

fn earliest(known: &mut Option<i64>, ns: i64) {
    *known = Some(known.map_or(ns, |known| known.min(ns)));
}

impl<'a> Watch<'a> {
    /// `names_workers`: some request tells at which worker it was. `None` if the fault was never begun.
    pub(super) fn begin(conducted: &'a Conducted, fault: usize, names_workers: bool) -> Option<Self> {
        let began_ns = conducted.act(fault, false)?.began_ns;
        let end = conducted.act(fault, true).filter(|act| !act.restores && act.failure.is_none());
        let begins = conducted.acts.iter().filter(|act| !act.ends && act.began_ns > began_ns);
        let host = conducted.hosts.get(fault).and_then(|host| host.as_deref());
        Some(Self {
            conducted,
            fault,
            host,
            at: host.filter(|_| names_workers),
            began_ns,
            ended_ns: end.map(|act| act.done_ns),
            next_ns: begins.map(|act| act.began_ns).min().unwrap_or(i64::MAX),
            detection: Detection::default(),
            in_flight: InFlight::default(),
            failed_later: 0,
            after: Vec::new(),
        })
    }

    /// The next request, with its phase.
    pub(super) fn add(&mut self, row: &Row, phase: Option<&Phase>, is_bad: bool) {
        let there = is_there(row, self.at, self.began_ns);
        self.see(row);
        self.count(row, there);
        let of_it = || phase.is_some_and(|phase| phase.faults.contains(&(self.fault + 1)));
        self.failed_later += u64::from(!row.success() && !there && of_it());
        if self.is_within(row.begun_ns()) {
            self.after.push(Begun::of(row.begun_ns(), is_bad));
        }
    }

    /// From its beginning to that of the next fault.
    fn is_within(&self, at_ns: i64) -> bool {
        (self.began_ns..self.next_ns).contains(&at_ns)
    }

    /// Signs of the fault in a request.
    fn see(&mut self, row: &Row) {
        let began_ns = self.began_ns;
        let failed_ns = row.client_end_ns.filter(|ns| !row.success() && self.is_within(*ns));
        if let Some(ns) = failed_ns {
            earliest(&mut self.detection.first_error_ns, ns - began_ns);
        }
        let Some(host) = self.at else { return };
        if let Some(ns) = left_for_another(row, host, began_ns).filter(|ns| self.is_within(*ns)) {
            earliest(&mut self.detection.first_rerouted_ns, ns - began_ns);
        }
        let over_ns = self.ended_ns.unwrap_or(i64::MAX);
        for from_ns in stays(row, self.at).map(|stay| stay.from_ns) {
            let seen = &mut self.detection;
            if (began_ns..over_ns.min(self.next_ns)).contains(&from_ns) {
                seen.chosen += 1;
                seen.last_chosen_ns = seen.last_chosen_ns.max(Some(from_ns - began_ns));
            }
            if from_ns >= over_ns {
                earliest(&mut seen.back_ns, from_ns - over_ns);
            }
        }
    }

    /// What became of a request, if it was at the worker.
    fn count(&mut self, row: &Row, there: bool) {
        let became = &mut self.in_flight;
        if !there {
            let unplaced = self.at.is_some() && row.host.is_none() && row.tried.is_empty();
            became.unplaced += u64::from(unplaced && is_there(row, None, self.began_ns));
            return;
        }
        became.requests += 1;
        match &row.failure {
            Some(failure) => *became.lost.entry(failure.class.name()).or_insert(0) += 1,
            None if self.at.is_none() || row.host.as_deref() == self.at => became.answered += 1,
            None => became.answered_elsewhere += 1,
        }
    }

    /// After the last request.
    pub(super) fn end(self, band: &Band) -> Aftermath {
        Aftermath {
            number: self.fault + 1,
            what: self.conducted.plan.faults[self.fault].to_string(),
            host: self.host.map(str::to_owned),
            placed: self.at.is_some(),
            began_ns: self.began_ns,
            ended_ns: self.ended_ns,
            detection: self.detection,
            recovery: Recovery::of(band, self.after, self.began_ns),
            in_flight: self.in_flight,
            failed_later: self.failed_later,
        }
    }
}

/// When a request left for another worker as its attempt at this one had failed since `began_ns`.
fn left_for_another(row: &Row, host: &str, began_ns: i64) -> Option<i64> {
    if row.host.as_deref() == Some(host) {
        return None;
    }
    let at = row.tried.iter().position(|t| t.host == host && t.failed_ns >= began_ns)?;
    let next = row.tried.get(at + 1).and_then(|tried| tried.send_ns);
    next.or(row.router_send_ns).filter(|ns| *ns >= row.tried[at].failed_ns)
}
