//! The load: clients and the scripted worker in one thread, one loop round one `epoll`.
//!
//! Rule: as little CPU of its own as can be, and no switch between threads on the way of a request, so that what is measured is
//! the proxy; who paces never waits for an answer. A run in which anything was not as it should be is [`Broken`] and no number.
//! Deliberately not here: proxies (`peers`), what is made of the numbers.

mod case;
mod line;
mod message;
mod run;
mod tally;
mod worker;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use milepost::clock::Clock;
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

pub use self::case::{Case, LATE_NS, Pace};
use self::line::{Got, Line};
use self::message::Side;
pub use self::tally::{Tally, quantile};
use self::worker::{Order, Stream};
pub use crate::broken::Broken;
use crate::process;

/// Most bytes read at once.
const ROOM_BYTES: usize = 256 * 1024;
/// Sockets looked at between two looks at the clock.
const EVENTS_AT_ONCE: usize = 256;

/// A socket of the loop.
enum Socket {
    Listener(TcpListener),
    Worker { line: Line, stream: Stream, serial: u64 },
    Client { line: Line, sent_ns: u64, first_ns: Option<u64> },
}

/// Clients, worker and loop.
pub struct Load {
    epoll: OwnedFd,
    clock: Clock,
    sockets: Vec<Option<Socket>>,
    free: Vec<usize>,
    ports: Vec<u16>,
    /// When which worker's stream has its next event; a serial number tells a socket's later holder apart.
    timers: BinaryHeap<Reverse<(u64, usize, u64)>>,
    serial: u64,
    room: Vec<u8>,
    out: Vec<u8>,
    answers: [Vec<u8>; 2],
    events: Vec<epoll::Event>,
    run: run::Run,
    sent: u64,
}

impl Load {
    /// A loop with a worker on `workers` free ports of 127.0.0.1.
    pub fn new(workers: usize) -> io::Result<Self> {
        let mut load = Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            clock: Clock::system(),
            sockets: Vec::new(),
            free: Vec::new(),
            ports: Vec::new(),
            timers: BinaryHeap::new(),
            serial: 0,
            room: vec![0; ROOM_BYTES],
            out: Vec::new(),
            answers: [worker::whole_answer(Order::Plain), worker::whole_answer(Order::Describe)],
            events: Vec::with_capacity(EVENTS_AT_ONCE),
            run: run::Run::default(),
            sent: 0,
        };
        for _ in 0..workers {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            listener.set_nonblocking(true)?;
            load.ports.push(listener.local_addr()?.port());
            load.enter(Socket::Listener(listener))?;
        }
        Ok(load)
    }

    /// The worker's ports.
    pub fn ports(&self) -> &[u16] {
        &self.ports
    }

    /// Requests sent in all runs, answered or not.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Answers for this long, and sends nothing.
    pub fn serve(&mut self, time: Duration) -> Result<(), Broken> {
        let until_ns = self.clock.mono_ns() + time.as_nanos() as u64;
        loop {
            process::check()?;
            let now_ns = self.clock.mono_ns();
            if now_ns >= until_ns {
                return Ok(());
            }
            self.turn(until_ns.min(now_ns + 50_000_000)).map_err(Broken::Invalid)?;
        }
    }

    fn enter(&mut self, socket: Socket) -> io::Result<usize> {
        let at = self.free.pop().unwrap_or(self.sockets.len());
        let data = epoll::EventData::new_u64(at as u64);
        let added = match &socket {
            Socket::Listener(listener) => epoll::add(&self.epoll, listener, data, epoll::EventFlags::IN),
            Socket::Worker { line, .. } | Socket::Client { line, .. } => {
                epoll::add(&self.epoll, line, data, epoll::EventFlags::IN)
            }
        };
        if at == self.sockets.len() {
            self.sockets.push(None);
        }
        if let Err(error) = added {
            self.free.push(at);
            return Err(error.into());
        }
        self.sockets[at] = Some(socket);
        Ok(at)
    }

    fn close(&mut self, at: usize) {
        if self.sockets[at].take().is_some() {
            self.free.push(at);
        }
    }

    /// One turn: events of streams that are due, then whatever sockets have, waited for until `until_ns` at most.
    fn turn(&mut self, until_ns: u64) -> Result<(), String> {
        let now_ns = self.clock.mono_ns();
        while let Some(Reverse((due_ns, at, serial))) = self.timers.peek().copied() {
            if due_ns > now_ns {
                break;
            }
            self.timers.pop();
            self.next_event(at, serial, due_ns);
        }
        let next_ns = self.timers.peek().map_or(u64::MAX, |Reverse((due_ns, ..))| *due_ns);
        let wake_ns = next_ns.min(until_ns);
        if !self.poll(&Timespec::default())? && wake_ns > now_ns {
            // `epoll` itself counts in milliseconds.
            let left = timespec(wake_ns.saturating_sub(self.clock.mono_ns()));
            let waited = poll(&mut [PollFd::new(&self.epoll, PollFlags::IN)], Some(&left));
            if let Err(error) = waited.map_err(io::Error::from)
                && error.kind() != io::ErrorKind::Interrupted
            {
                return Err(format!("poll: {error}"));
            }
            self.poll(&Timespec::default())?;
        }
        let mut events = std::mem::take(&mut self.events);
        let handled = events.iter().try_for_each(|event| {
            let flags = event.flags;
            self.handle(event.data.u64() as usize, flags)
        });
        events.clear();
        self.events = events;
        handled
    }

    /// True if some socket has something.
    fn poll(&mut self, timeout: &Timespec) -> Result<bool, String> {
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), Some(timeout)) {
            Ok(found) => Ok(found > 0),
            Err(rustix::io::Errno::INTR) => Ok(false),
            Err(error) => Err(format!("epoll: {error}")),
        }
    }

    fn handle(&mut self, at: usize, flags: epoll::EventFlags) -> Result<(), String> {
        if flags.contains(epoll::EventFlags::OUT)
            && let Err(error) = self.flush(at)
        {
            // Whoever asked the worker has left, as after a run that was given up: no matter of the run at hand.
            if matches!(self.sockets.get(at), Some(Some(Socket::Worker { .. }))) {
                self.close(at);
                return Ok(());
            }
            return Err(error);
        }
        match self.sockets.get_mut(at).and_then(Option::as_mut) {
            Some(Socket::Listener(listener)) => {
                let came = listener.accept();
                self.accept(came)
            }
            Some(Socket::Worker { line, .. }) => match line.read(&mut self.room) {
                Ok(Got::Part) => Ok(()),
                Ok(Got::Message) => self.answer(at),
                // Proxies close what they do not need, in whichever way.
                Ok(Got::Closed) | Err(_) => {
                    self.close(at);
                    Ok(())
                }
            },
            Some(Socket::Client { .. }) => self.client_readable(at),
            None => Ok(()),
        }
    }

    fn accept(
        &mut self,
        came: io::Result<(std::net::TcpStream, std::net::SocketAddr)>,
    ) -> Result<(), String> {
        match came {
            Ok((stream, _)) => {
                self.serial += 1;
                let line =
                    Line::new(stream, Side::Requests).map_err(|e| format!("the worker's socket: {e}"))?;
                let socket = Socket::Worker { line, stream: Stream::default(), serial: self.serial };
                self.enter(socket).map_err(|e| format!("the worker's socket: {e}")).map(drop)
            }
            Err(error)
                if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::ConnectionAborted) =>
            {
                Ok(())
            }
            Err(error) => Err(format!("the worker cannot accept: {error}")),
        }
    }

    /// The worker has read a request.
    fn answer(&mut self, at: usize) -> Result<(), String> {
        let Some(Socket::Worker { line, stream, serial }) = &mut self.sockets[at] else { return Ok(()) };
        match Order::of(line.reader.is_generate, &line.reader.body) {
            Order::Stream(ordered) => {
                (*stream, self.serial) = (ordered, self.serial + 1);
                *serial = self.serial;
                let serial = *serial;
                let now_ns = self.clock.mono_ns();
                self.next_event(at, serial, now_ns);
            }
            order => {
                let written = line.write(&self.answers[usize::from(order == Order::Describe)]);
                self.written(at, &written)?;
            }
        }
        Ok(())
    }

    fn next_event(&mut self, at: usize, wanted: u64, due_ns: u64) {
        let Some(Some(Socket::Worker { line, stream, serial })) = self.sockets.get_mut(at) else { return };
        if *serial != wanted {
            return;
        }
        self.out.clear();
        let ended = stream.push_next(&mut self.out);
        if !ended {
            self.timers.push(Reverse((due_ns + stream.gap_ns(), at, wanted)));
        }
        let written = line.write(&self.out);
        if self.written(at, &written).is_err() {
            // Whoever asked has left, which is for the client's side to judge.
            self.close(at);
        }
    }

    fn flush(&mut self, at: usize) -> Result<(), String> {
        let Some(Some(Socket::Worker { line, .. } | Socket::Client { line, .. })) = self.sockets.get_mut(at)
        else {
            return Ok(());
        };
        let flushed = line.flush();
        if matches!(flushed, Ok(false)) {
            let data = epoll::EventData::new_u64(at as u64);
            epoll::modify(&self.epoll, line.as_fd(), data, epoll::EventFlags::IN)
                .map_err(|e| format!("epoll: {e}"))?;
        }
        flushed.map(drop).map_err(|e| format!("a write failed: {e}"))
    }

    /// After a write: waits for room if some is left.
    fn written(&mut self, at: usize, written: &io::Result<bool>) -> Result<(), String> {
        match written {
            Ok(false) => Ok(()),
            Ok(true) => {
                let Some(Some(Socket::Worker { line, .. } | Socket::Client { line, .. })) =
                    self.sockets.get(at)
                else {
                    return Ok(());
                };
                let both = epoll::EventFlags::IN | epoll::EventFlags::OUT;
                let data = epoll::EventData::new_u64(at as u64);
                epoll::modify(&self.epoll, line.as_fd(), data, both).map_err(|e| format!("epoll: {e}"))
            }
            Err(error) => Err(format!("a write failed: {error}")),
        }
    }
}

fn timespec(ns: u64) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX),
        tv_nsec: i64::try_from(ns % 1_000_000_000).unwrap_or(0),
    }
}
