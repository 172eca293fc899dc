//! A simulated worker: a process that listens, takes requests and answers them as was drawn.
//!
//! Rule: it reads what the router sends with a parser of its own and complains about whatever is no plain HTTP/1.1 request;
//! while it waits it watches its connection, so that it is known when the router closed. Deliberately not here: what it
//! answers (`fault`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milepost::net::{Io, Listener, PipeNet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use crate::asking::{Asked, Kind};
use crate::draw::{Draw, Of};
use crate::fault::{Answer, Fault, Part, draw_fault};
use crate::plan::{Plan, Step};
use crate::story::Story;

/// A request as a worker got it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Receipt {
    pub request: usize,
    pub port: u16,
    /// The connection had carried a request before.
    pub reused: bool,
    /// The connection had said something that nobody asked for: what its next answer is taken for is up to chance.
    pub tainted: bool,
    pub fault: Fault,
    pub answer: Answer,
    /// All of the body came.
    pub read_whole: bool,
    /// All of the answer was written.
    pub said_all: bool,
    /// When the router was seen to have closed, while there was more to say or to read, virtual nanoseconds.
    pub closed_ns: Option<u64>,
    /// When the head had come.
    pub at_ns: u64,
}

/// How a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    Sick,
    Hung,
    /// Ends what it has.
    Leaving,
    Dead,
}

/// A process's mood, and who waits for another one. Not tokio's `watch`, which wakes in an order drawn from outside the seed.
struct Mind {
    mood: Mutex<Mood>,
    changed: Notify,
}

impl Mind {
    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap()
    }

    fn set(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
        self.changed.notify_waiters();
    }

    /// Returns once the mood is such.
    async fn wait_for(&self, is: impl Fn(Mood) -> bool) {
        loop {
            let changed = self.changed.notified();
            if is(self.mood()) {
                return;
            }
            changed.await;
        }
    }
}

/// All processes, by port.
pub struct Workers {
    net: PipeNet,
    story: Story,
    seed: u64,
    faults: u32,
    idle: Duration,
    asked: Arc<BTreeMap<usize, Asked>>,
    moods: Mutex<BTreeMap<u16, Arc<Mind>>>,
}

impl Workers {
    pub fn new(plan: &Plan, net: &PipeNet, story: &Story) -> Arc<Self> {
        let all = plan.visits.iter().flat_map(|v| &v.requests).map(|r| (r.number, r.clone()));
        Arc::new(Self {
            net: net.clone(),
            story: story.clone(),
            seed: plan.seed,
            faults: plan.faults,
            idle: plan.worker_idle,
            asked: Arc::new(all.collect()),
            moods: Mutex::default(),
        })
    }

    /// Starts a process at this port, if none is there.
    pub fn start(self: &Arc<Self>, port: u16) {
        let mut moods = self.moods.lock().unwrap();
        if moods.get(&port).is_some_and(|mind| !matches!(mind.mood(), Mood::Dead | Mood::Leaving)) {
            return;
        }
        let mind = Arc::new(Mind { mood: Mutex::new(Mood::Well), changed: Notify::new() });
        moods.insert(port, Arc::clone(&mind));
        drop(moods);
        self.story.tell(format_args!("worker {port}"), "starts");
        tokio::spawn(Arc::clone(self).listen(self.net.listen(port), port, mind));
    }

    /// Does to a process what a step says; what is for the router is not done here.
    pub fn change(self: &Arc<Self>, step: Step) {
        let (port, mood) = match step {
            Step::Die(port) => (port, Mood::Dead),
            Step::Leave(port) => (port, Mood::Leaving),
            Step::Hang(port) => (port, Mood::Hung),
            Step::Sicken(port) => (port, Mood::Sick),
            Step::Recover(port) => (port, Mood::Well),
            Step::Start(port) => return self.start(port),
            Step::Add(_) | Step::Remove(_) => return,
        };
        let moods = self.moods.lock().unwrap();
        let Some(mind) = moods.get(&port).filter(|mind| !matches!(mind.mood(), Mood::Dead | Mood::Leaving))
        else {
            return;
        };
        self.story.tell(format_args!("worker {port}"), format_args!("{step:?}"));
        if matches!(mood, Mood::Dead | Mood::Leaving) {
            self.net.close(port);
        }
        mind.set(mood);
    }

    /// All processes die.
    pub fn end(&self) {
        for (port, mind) in &*self.moods.lock().unwrap() {
            self.net.close(*port);
            mind.set(Mood::Dead);
        }
    }

    async fn listen(self: Arc<Self>, mut listener: Listener, port: u16, mind: Arc<Mind>) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = mind.wait_for(|m| matches!(m, Mood::Dead | Mood::Leaving)) => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((io, _)) = accepted else { return };
            self.story.told().open_at_workers += 1;
            let (this, mind) = (Arc::clone(&self), Arc::clone(&mind));
            tokio::spawn(async move {
                let mut connection = Connection {
                    workers: this,
                    io,
                    port,
                    mind,
                    buffer: Vec::new(),
                    carried: 0,
                    tainted: false,
                };
                connection.serve().await;
                connection.workers.story.told().open_at_workers -= 1;
            });
        }
    }
}

struct Connection {
    workers: Arc<Workers>,
    io: Io,
    port: u16,
    mind: Arc<Mind>,
    buffer: Vec<u8>,
    carried: usize,
    tainted: bool,
}

/// The connection, or its process, is no more.
struct Gone;

impl Connection {
    async fn serve(&mut self) {
        // A process that dies takes its connections with it, wherever they stand.
        let mind = Arc::clone(&self.mind);
        tokio::select! {
            biased;
            () = mind.wait_for(|m| m == Mood::Dead) => {}
            _ = self.converse() => {}
        }
    }

    async fn converse(&mut self) -> Result<(), Gone> {
        loop {
            let (head, length) = self.head().await?;
            if self.mind.mood() == Mood::Hung {
                self.hang().await?;
            }
            match number_of(&head) {
                Some(request) => self.client(request, &head, length).await?,
                None => self.small_talk(length).await?,
            }
            self.carried += 1;
            if self.mind.mood() == Mood::Leaving {
                return Ok(());
            }
        }
    }

    /// Reads a head; an idle connection is closed, as uvicorn does it.
    async fn head(&mut self) -> Result<(String, usize), Gone> {
        let idle = tokio::time::sleep(self.workers.idle);
        tokio::pin!(idle);
        let mind = Arc::clone(&self.mind);
        loop {
            if let Some(end) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.buffer[..end + 4]).into_owned();
                self.buffer.drain(..end + 4);
                let length = self.inspect(&head);
                return Ok((head, length));
            }
            tokio::select! {
                biased;
                read = self.io.read_buf(&mut self.buffer) => {
                    if !matches!(read, Ok(1..)) {
                        return Err(Gone);
                    }
                }
                () = &mut idle, if self.buffer.is_empty() => return Err(Gone),
                () = mind.wait_for(|m| m == Mood::Leaving), if self.buffer.is_empty() => return Err(Gone),
            }
        }
    }

    /// One unambiguous request; returns its length.
    fn inspect(&self, head: &str) -> usize {
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default();
        let fields: Vec<(String, &str)> =
            lines.filter_map(|l| l.split_once(": ")).map(|(n, v)| (n.to_ascii_lowercase(), v)).collect();
        let values =
            |name: &str| fields.iter().filter(|(n, _)| n == name).map(|(_, v)| *v).collect::<Vec<_>>();
        let who = format!("worker {}", self.port);
        if !first.ends_with(" HTTP/1.1") || first.split(' ').count() != 3 {
            self.workers.story.complain(&who, format_args!("got the request line {first:?}"));
        }
        let lengths = values("content-length");
        if lengths.len() > 1 || !values("transfer-encoding").is_empty() || values("host").len() != 1 {
            self.workers.story.complain(&who, format_args!("got an ambiguous head {head:?}"));
        }
        lengths.first().and_then(|v| v.parse().ok()).unwrap_or(0)
    }

    /// Reads the body; how much of it came.
    async fn body(&mut self, length: usize) -> (Vec<u8>, bool) {
        while self.buffer.len() < length {
            if !matches!(self.io.read_buf(&mut self.buffer).await, Ok(1..)) {
                return (std::mem::take(&mut self.buffer), false);
            }
        }
        (self.buffer.drain(..length).collect(), true)
    }

    /// The router's own questions, and an operator's.
    async fn small_talk(&mut self, length: usize) -> Result<(), Gone> {
        if !self.body(length).await.1 {
            return Err(Gone);
        }
        let status = if self.mind.mood() == Mood::Sick { "503 Sick" } else { "200 OK" };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}");
        self.io.write_all(answer.as_bytes()).await.map_err(|_| Gone)
    }

    /// Says nothing until it is well again.
    async fn hang(&mut self) -> Result<(), Gone> {
        let mind = Arc::clone(&self.mind);
        loop {
            tokio::select! {
                biased;
                read = self.io.read_buf(&mut self.buffer) => {
                    if !matches!(read, Ok(1..)) {
                        return Err(Gone);
                    }
                }
                () = mind.wait_for(|m| m != Mood::Hung) => return Ok(()),
            }
        }
    }

    async fn client(&mut self, request: usize, head: &str, length: usize) -> Result<(), Gone> {
        let Some(asked) = self.workers.asked.get(&request).cloned() else {
            return self.small_talk(length).await;
        };
        let receipt = self.workers.story.told().receipts.iter().filter(|r| r.request == request).count();
        let draw = &mut Draw::new(self.workers.seed, Of::Receipt { request, receipt });
        let reused = self.carried > 0;
        let is_sick = self.mind.mood() == Mood::Sick;
        let fault = draw_fault(draw, asked.kind, self.workers.faults, reused);
        let fault = if is_sick { Fault::Status(503) } else { fault };
        let tag = format!("r{request}@{}#{receipt}", self.port);
        let answer = Answer::with(fault, asked.kind, &tag, draw);
        let who = format!("worker {}", self.port);
        let on = if reused { "reused" } else { "fresh" };
        self.workers.story.tell(&who, format_args!("gets r{request} on a {on} connection: {fault:?}"));
        let wanted = format!("{} {} HTTP/1.1\r\n", asked.kind.method(), asked.kind.target());
        // An engine may know one of two names alone, so the router asks under the other, too.
        if !head.starts_with(&wanted) && asked.kind != Kind::Info {
            self.workers.story.complain(&who, format_args!("r{request} came as {:?}", head.lines().next()));
        }
        let place = self.workers.story.told().receipts.len();
        let at_ns = self.workers.story.now_ns();
        self.workers.story.told().receipts.push(Receipt {
            request,
            port: self.port,
            reused,
            tainted: self.tainted,
            fault,
            answer: answer.clone(),
            read_whole: false,
            said_all: false,
            closed_ns: None,
            at_ns,
        });
        self.tainted |= fault == Fault::BytesAfter;
        let done = self.answer(place, &asked, length, (fault, answer), draw).await;
        let now_ns = self.workers.story.now_ns();
        if let Err(by_router) = &done
            && *by_router
        {
            self.workers.story.tell(&who, format_args!("finds r{request} given up"));
            self.workers.story.told().receipts[place].closed_ns = Some(now_ns);
        }
        done.map_err(|_| Gone)
    }

    /// `Err(true)`: the router has closed; `Err(false)`: this worker has.
    async fn answer(
        &mut self,
        place: usize,
        asked: &Asked,
        length: usize,
        (fault, answer): (Fault, Answer),
        draw: &mut Draw,
    ) -> Result<(), bool> {
        if !matches!(fault, Fault::CloseAtHead | Fault::Early) {
            self.read_request(place, asked, length).await?;
        }
        let think = draw.weighted(&[(3, 0), (1, 1), (2, 30), (1, 400)]);
        self.wait(Duration::from_millis(draw.number(0..think + 1))).await?;
        let grain = draw.weighted(&[(4, usize::MAX), (1, 1), (1, 23)]);
        for part in answer.parts {
            match part {
                Part::Write(bytes) => self.write(&bytes, grain).await.map_err(|_| true)?,
                Part::Wait(pause) => self.wait(pause).await?,
                Part::Close => {
                    self.workers.story.told().receipts[place].said_all = true;
                    return Err(false);
                }
                Part::Stall => loop {
                    self.wait(Duration::from_secs(3_600)).await?;
                },
            }
        }
        self.workers.story.told().receipts[place].said_all = true;
        if fault == Fault::Early {
            self.read_request(place, asked, length).await?;
        }
        Ok(())
    }

    async fn read_request(&mut self, place: usize, asked: &Asked, length: usize) -> Result<(), bool> {
        let (body, whole) = self.body(length).await;
        let as_sent = if whole { body == asked.body } else { asked.body.starts_with(&body) };
        if !as_sent {
            let (who, number) = (format!("worker {}", self.port), asked.number);
            self.workers.story.complain(who, format_args!("got another body for r{number} than was sent"));
        }
        self.workers.story.told().receipts[place].read_whole = whole;
        if whole { Ok(()) } else { Err(true) }
    }

    async fn write(&mut self, bytes: &[u8], grain: usize) -> std::io::Result<()> {
        for piece in bytes.chunks(grain) {
            self.io.write_all(piece).await?;
            if piece.len() < bytes.len() {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// A pause, in which a close by the router is noticed.
    async fn wait(&mut self, pause: Duration) -> Result<(), bool> {
        if pause.is_zero() {
            return Ok(());
        }
        let until = tokio::time::sleep(pause);
        tokio::pin!(until);
        loop {
            tokio::select! {
                biased;
                read = self.io.read_buf(&mut self.buffer) => {
                    if !matches!(read, Ok(1..)) {
                        return Err(true);
                    }
                }
                () = &mut until => return Ok(()),
            }
        }
    }
}

/// The number of a client's request; `None` for the router's own questions.
fn number_of(head: &str) -> Option<usize> {
    let line = head.lines().find_map(|l| l.strip_prefix("x-request-id: r"))?;
    line.trim().parse().ok()
}
