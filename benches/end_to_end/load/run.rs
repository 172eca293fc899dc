//! The clients' side: sends a case's requests, checks every answer, notes the times.
//!
//! Rule: paced requests go out at their due times on whichever connection is free, or on a new one; an answer that is not the
//! worker's, whole, ends the run. Deliberately not here: the loop (`mod`), the worker (`worker`).

use std::net::TcpStream;

use super::case::{Case, Pace, Template};
use super::line::{Got, Line};
use super::message::Side;
use super::tally::Tally;
use super::worker::PLAIN_BYTES;
use super::{Load, Socket};
use crate::broken::Broken;
use crate::process;

/// The loop spins for the last stretch before a due time: longer than a late wake-up, short enough to let the core sleep.
const SPIN_NS: u64 = 60_000;
/// With no answer for this long a run is over.
const STALL_NS: u64 = 10_000_000_000;
/// More requests at one time than this is a proxy that cannot follow.
const MAX_IN_FLIGHT: usize = 1_024;
/// The same where answers take the time that a model does.
const MAX_IN_FLIGHT_SIMULATED: usize = 8_192;

/// A run in progress.
#[derive(Default)]
pub(super) struct Run {
    port: u16,
    stream: bool,
    is_scripted: bool,
    template: Option<Template>,
    /// Number of the last request.
    number: u64,
    issued: usize,
    requests: usize,
    closed: bool,
    idle: Vec<usize>,
    open: Vec<usize>,
    last_answer_ns: u64,
    begun_streams: usize,
    tally: Tally,
}

impl Load {
    /// Sends all requests of a case to a port of 127.0.0.1 and waits for their answers.
    pub fn run(&mut self, case: &Case, port: u16) -> Result<Tally, Broken> {
        let result = self.begin(case, port).and_then(|()| self.send_all(case));
        self.end();
        result
    }

    /// Opens so many streams and returns when each has had its first event; they go on until [`Self::end`].
    pub fn open_streams(&mut self, case: &Case, port: u16) -> Result<(), Broken> {
        self.begin(case, port)?;
        for at in self.run.open.clone() {
            self.send(at, 0)?;
            // A few at a time, as a burst would overflow the queue of connections.
            let until_ns = self.clock.mono_ns() + 200_000;
            self.turn(until_ns).map_err(Broken::Invalid)?;
        }
        self.run.idle.clear();
        while self.run.begun_streams < case.requests {
            self.wait(self.clock.mono_ns() + 20_000_000)?;
        }
        Ok(())
    }

    /// Closes all connections of the run.
    pub fn end(&mut self) {
        for at in std::mem::take(&mut self.run.open) {
            self.close(at);
        }
        self.run.idle.clear();
    }

    fn begin(&mut self, case: &Case, port: u16) -> Result<(), Broken> {
        self.run = Run {
            port,
            stream: case.events > 0,
            is_scripted: case.is_scripted,
            template: Some(case.template()),
            requests: case.requests,
            closed: matches!(case.pace, Pace::Closed(_)),
            last_answer_ns: self.clock.mono_ns(),
            ..Run::default()
        };
        self.run.tally.whole_ns.reserve(case.requests);
        for _ in 0..case.connections() {
            let at = self.connect()?;
            self.run.idle.push(at);
            let now_ns = self.clock.mono_ns();
            self.turn(now_ns).map_err(Broken::Invalid)?;
        }
        Ok(())
    }

    fn connect(&mut self) -> Result<usize, Broken> {
        let stream = TcpStream::connect(("127.0.0.1", self.run.port))
            .map_err(|e| Broken::invalid(format!("cannot connect: {e}")))?;
        let line = Line::new(stream, Side::Answers).map_err(|e| Broken::invalid(format!("a socket: {e}")))?;
        let at = self
            .enter(Socket::Client { line, sent_ns: 0, first_ns: None })
            .map_err(|e| Broken::invalid(format!("a socket: {e}")))?;
        self.run.open.push(at);
        Ok(at)
    }

    fn send_all(&mut self, case: &Case) -> Result<Tally, Broken> {
        let (cpu_ns, start_ns) = (process::own_cpu_ns(), self.clock.mono_ns());
        self.run.last_answer_ns = start_ns;
        if self.run.closed {
            for at in std::mem::take(&mut self.run.idle) {
                self.send(at, 0)?;
            }
        }
        while self.run.tally.answers() < case.requests {
            if self.run.closed || self.run.issued == case.requests {
                self.wait(u64::MAX)?;
                continue;
            }
            let due_ns = start_ns + case.due_ns(self.run.issued);
            let now_ns = self.clock.mono_ns();
            if now_ns >= due_ns {
                let at = self.free_connection()?;
                self.send(at, due_ns)?;
                // Answers are read between two requests that are both late.
                self.wait(now_ns)?;
            } else {
                self.wait(due_ns.saturating_sub(SPIN_NS))?;
            }
        }
        let mut tally = std::mem::take(&mut self.run.tally);
        tally.wall_ns = self.run.last_answer_ns - start_ns;
        tally.own_cpu_ns = process::own_cpu_ns().saturating_sub(cpu_ns);
        tally.sort();
        Ok(tally)
    }

    fn free_connection(&mut self) -> Result<usize, Broken> {
        if let Some(at) = self.run.idle.pop() {
            return Ok(at);
        }
        let most = if self.run.is_scripted { MAX_IN_FLIGHT } else { MAX_IN_FLIGHT_SIMULATED };
        if self.run.open.len() >= most {
            let answered = self.run.tally.answers();
            return Err(Broken::invalid(format!(
                "cannot follow: {most} requests at once after {answered} answers"
            )));
        }
        self.connect()
    }

    fn send(&mut self, at: usize, due_ns: u64) -> Result<(), Broken> {
        self.run.number += 1;
        self.run.issued += 1;
        self.sent += 1;
        let now_ns = self.clock.mono_ns();
        let (Some(template), Some(Socket::Client { line, sent_ns, first_ns })) =
            (&mut self.run.template, &mut self.sockets[at])
        else {
            return Err(Broken::invalid("a client's connection was closed"));
        };
        (*sent_ns, *first_ns) = (now_ns, None);
        if due_ns > 0 {
            self.run.tally.late_ns.push(now_ns - due_ns);
        }
        let written = line.write(template.numbered(self.run.number));
        self.written(at, &written).map_err(Broken::Invalid)
    }

    /// One turn of the loop, which ends at `until_ns` at the latest; the run ends if nothing is answered any more.
    fn wait(&mut self, until_ns: u64) -> Result<(), Broken> {
        process::check()?;
        let now_ns = self.clock.mono_ns();
        if now_ns.saturating_sub(self.run.last_answer_ns) > STALL_NS {
            let (answers, requests) = (self.run.tally.answers(), self.run.requests);
            return Err(Broken::invalid(format!("no answer for 10 s, after {answers} of {requests}")));
        }
        self.turn(until_ns.min(now_ns + 100_000_000)).map_err(Broken::Invalid)
    }

    /// A client's socket has something to read.
    pub(super) fn client_readable(&mut self, at: usize) -> Result<(), String> {
        let Some(Socket::Client { line, sent_ns, first_ns }) = &mut self.sockets[at] else { return Ok(()) };
        let got = line.read(&mut self.room).map_err(|e| format!("an answer cannot be read: {e}"))?;
        let now_ns = self.clock.mono_ns();
        if first_ns.is_none() && line.reader.body_bytes > 0 {
            *first_ns = Some(now_ns);
            self.run.begun_streams += 1;
            self.run.last_answer_ns = now_ns;
        }
        match got {
            Got::Part => return Ok(()),
            Got::Closed => return Err("the proxy closed a connection before its answer had ended".to_owned()),
            Got::Message => {}
        }
        let reader = &line.reader;
        if reader.status != 200 {
            return Err(format!("an answer with status {}", reader.status));
        }
        let whole = match (self.run.stream, self.run.is_scripted) {
            (true, _) => reader.is_done_stream(),
            (false, true) => reader.body_bytes == PLAIN_BYTES,
            (false, false) => reader.body_bytes > 0,
        };
        if !whole {
            return Err(format!("an answer that is not the worker's: {} bytes", reader.body_bytes));
        }
        self.run.last_answer_ns = now_ns;
        self.run.tally.whole_ns.push(now_ns - *sent_ns);
        self.run.tally.first_ns.push(first_ns.unwrap_or(now_ns) - *sent_ns);
        let closes = reader.closes;
        self.next(at, closes)
    }

    /// A connection has its answer.
    fn next(&mut self, at: usize, closes: bool) -> Result<(), String> {
        if closes {
            return Err("the proxy closes its connections after one answer".to_owned());
        }
        if !self.run.closed {
            self.run.idle.push(at);
            return Ok(());
        }
        if self.run.issued < self.run.requests {
            self.send(at, 0).map_err(|broken| broken.to_string())?;
        }
        Ok(())
    }
}
