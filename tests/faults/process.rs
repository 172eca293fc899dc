//! The binary as a process of its own, with workers and clients in the test.
//!
//! Rule: a row waits for what the process says or does, never for a time; a process ends with the value that started it.
//! Deliberately not here: flags and words of the binary (`tests/cli`).

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milepost::net::Listener;
use milepost::trace::record::Record;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tokio::net::TcpListener;

use crate::books::{counted, plain};
use crate::client::{Answer, Client};
use crate::door::{Door, Net};
use crate::events::Events;
use crate::table::Seen;
use crate::told;
use crate::worker::{Got, Reads, Step, Worker};

/// Between two looks at what a process says.
pub const LOOK: Duration = Duration::from_millis(2);
/// Looks before it has failed.
pub const LOOKS: u32 = 15_000;

/// What a row by processes works with.
pub struct Processes {
    folder: PathBuf,
    events: Arc<Events>,
    workers: RefCell<Vec<Worker>>,
}

/// A running `milepost`.
pub struct Process {
    child: Child,
    said: Arc<Mutex<String>>,
    /// Where its clients go.
    pub door: Door,
    /// Where its metrics are, if it has some.
    pub metrics: Option<Door>,
}

/// A row that plays with processes; what the client saw.
pub type Play = for<'a> fn(&'a Processes) -> Pin<Box<dyn Future<Output = String> + 'a>>;

/// Plays a row and reads the trace.
pub fn play(play: Play) -> Seen {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder =
        std::env::temp_dir().join(format!("milepost-faults-{}-{number}-process", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let seen = runtime.block_on(async {
        let events = Arc::new(Events::begin(false));
        let processes = Processes { folder: folder.clone(), events, workers: RefCell::default() };
        let client = play(&processes).await;
        let workers = processes.workers.into_inner();
        for worker in &workers {
            until("no connection outlives its router", || (worker.open() == 0).then_some(())).await;
        }
        let text = std::fs::read_to_string(folder.join("t.jsonl")).unwrap();
        let records: Vec<Record> = text.lines().map(|l| serde_json::from_str(l).expect(l)).collect();
        let ends: Vec<String> = workers.iter().flat_map(|w| w.ends(&processes.events, false)).collect();
        Seen {
            client,
            record: plain(&told::lines(&records, false), &workers),
            upstream: counted(ends, false),
        }
    });
    let _ = std::fs::remove_dir_all(&folder);
    seen
}

/// Looks until there is something.
pub async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..LOOKS {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(LOOK).await;
    }
    panic!("waited in vain until {what}");
}

impl Processes {
    /// A worker that follows a script.
    pub async fn worker(&self, script: impl Fn(&Got) -> Vec<Step> + Send + Sync + 'static) -> Worker {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let listener = Listener::Tcp(listener);
        let worker = Worker::start(url, listener, Reads::Whole, Arc::clone(&self.events), script);
        self.workers.borrow_mut().push(worker.clone());
        worker
    }

    /// A simulated worker as a process; `port` 0 takes a free one.
    pub async fn simulated_worker(&self, port: u16) -> Process {
        let command = format!("worker --speedup 1000 --port {port}");
        self.start("exec \"$0\" \"$@\"", &command, "SIMULATED SGLang worker").await
    }

    /// A router that has these flags and writes its trace to `t.jsonl`, up and with all its workers. `setup`: what the shell
    /// does before it becomes the router.
    pub async fn router(&self, setup: &str, flags: &str) -> Process {
        let ports = "--host 127.0.0.1 --port 0 --prometheus-host 127.0.0.1 --prometheus-port 0";
        let urls: Vec<String> = self.workers.borrow().iter().map(|w| w.url.clone()).collect();
        let urls = if urls.is_empty() { String::new() } else { format!("--worker-urls {}", urls.join(" ")) };
        let command = format!("route {ports} --policy round_robin --trace-log t.jsonl {flags} {urls}");
        let router = self.start(&format!("{setup} exec \"$0\" \"$@\""), &command, "routing on http://").await;
        router.line(" healthy").await;
        router
    }

    async fn start(&self, script: &str, args: &str, ready: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_milepost")]).args(args.split_whitespace());
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        follow(child.stdout.take().unwrap(), Arc::clone(&said));
        follow(child.stderr.take().unwrap(), Arc::clone(&said));
        let line = line(&said, ready).await;
        let addresses = line.split("http://").skip(1).map(|text| {
            let end = text.find([',', ' ', '/']).unwrap_or(text.len());
            text[..end].parse::<SocketAddr>().unwrap()
        });
        let mut doors = addresses.map(|address| Door::new(Net::Sockets, address, Arc::clone(&self.events)));
        Process { child, said, door: doors.next().unwrap(), metrics: doors.next() }
    }

    /// The trace as it is now.
    pub fn trace(&self) -> String {
        std::fs::read_to_string(self.folder.join("t.jsonl")).unwrap()
    }
}

impl Process {
    /// One request on a connection of its own.
    pub async fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        self.asking(request).await.answer().await
    }

    /// A client whose request is on its way.
    pub async fn asking(&self, request: impl AsRef<[u8]>) -> Client {
        let mut client = self.door.enter().await.unwrap();
        client.send(request).await;
        client
    }

    /// Waits for a line that holds `needle`.
    pub async fn line(&self, needle: &str) -> String {
        line(&self.said, needle).await
    }

    /// Lines so far that hold `needle`.
    pub fn lines(&self, needle: &str) -> usize {
        self.said.lock().unwrap().lines().filter(|line| line.contains(needle)).count()
    }

    /// A number of its metrics page.
    pub async fn gauge(&self, name: &str) -> f64 {
        self.metrics.as_ref().unwrap().gauge(name).await
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.door.address().port()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// No file of it may grow beyond this; none: as far as this process' may.
    pub fn limit_files(&self, bytes: Option<u64>) {
        self.limit(Resource::Fsize, bytes);
    }

    /// It may open no file if it has as many; none: as many as this process may.
    pub fn limit_descriptors(&self, files: Option<u64>) {
        self.limit(Resource::Nofile, files);
    }

    fn limit(&self, resource: Resource, current: Option<u64>) {
        let maximum = getrlimit(resource).maximum;
        let limit = Rlimit { current: current.or(maximum), maximum };
        prlimit(Some(Pid::from_child(&self.child)), resource, limit).unwrap();
    }

    /// Waits until it has ended; its exit code.
    pub async fn end(mut self) -> i32 {
        let ended = until("the process has ended", || self.child.try_wait().unwrap()).await;
        ended.code().unwrap_or(-1)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn line(said: &Mutex<String>, needle: &str) -> String {
    until(needle, || said.lock().unwrap().lines().find(|line| line.contains(needle)).map(str::to_owned)).await
}

fn follow(pipe: impl Read + Send + 'static, said: Arc<Mutex<String>>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            let Ok(line) = line else { return };
            let mut said = said.lock().unwrap();
            said.push_str(&line);
            said.push('\n');
        }
    });
}
