//! The router's trace of this run, from a file or an address.
//!
//! Rule: only what was written after the run began counts as this run's requests (ids may have been used before); clocks and
//! workers count from the beginning. The router writes a little later than it answers, so records are waited for, up to a
//! limit. Deliberately not here: which files or pages those are (`follow`, `paged`), what the records mean for a row (`join`).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::client::Client;
use super::config::TraceSource;
use super::connections::Connections;
use super::follow::Following;
use super::paged::{Begun, NEWEST, Paging};
use super::spool::records::{Records, RecordsMaker, Wanted};
use super::target::Target;
use crate::clock::Clock;
use crate::net::dialer::Dialer;
use crate::trace::axis::{ClockTrack, Offsets};
use crate::trace::record::{Record, RequestRecord, RunRecord, WorkerRecord};
use crate::trace::schema::SCHEMA;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);
/// Time to get a trace over HTTP.
const GET_TIMEOUT: Duration = Duration::from_secs(30);

/// How the line of a request begins.
const OLD_REQUEST: &[u8] = b"{\"kind\":\"request\"";

/// Why a trace cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceError(String);

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--router-trace {}", self.0)
    }
}

impl std::error::Error for TraceError {}

/// One run of the router: its monotonic clock is compared with no other's.
#[derive(Debug, Default)]
pub struct RouterRun {
    /// Boot id of the router's host.
    pub boot_id: Option<String>,
    run: Option<RunRecord>,
    /// The router's clocks.
    pub clocks: ClockTrack,
    /// Clocks of remote workers.
    pub offsets: Offsets,
}

/// What a trace told about this run.
#[derive(Debug, Default)]
pub struct Traced {
    /// The records of this run's requests.
    pub(super) records: Records,
    /// The router's runs.
    pub runs: Vec<RouterRun>,
    /// Workers by URL, with all that was ever told of them.
    pub workers: BTreeMap<String, WorkerRecord>,
    /// Records whose id another record has too.
    pub repeated: u64,
    /// Requests for tokens that are none of this run's, its warm-up left out.
    pub strangers: u64,
    /// Requests the router could not write down.
    pub lost: u64,
    /// Requests that the router left out of its sample, or that ended while its capture was stopped.
    pub not_captured: u64,
    /// The address gives another file than when the run began; what the first held since then is not here.
    pub another: bool,
    /// The router had removed some of its trace before it was read.
    pub removed: bool,
    /// Where reading ended before the trace did, and why.
    pub cut: Option<String>,
    /// Lines that are records.
    pub readable: u64,
    /// Lines that are no records.
    pub unreadable: u64,
}

/// A trace that is being read.
struct Reading<'a> {
    traced: Traced,
    records: RecordsMaker,
    wanted: &'a Wanted<'a>,
}

impl<'a> Reading<'a> {
    fn of(wanted: &'a Wanted<'a>) -> Self {
        Self { traced: Traced::default(), records: RecordsMaker::new(wanted), wanted }
    }

    /// Every record is there.
    fn has_all(&self) -> bool {
        self.records.found() == self.wanted.count
    }

    /// Every record is there, or nobody waits any longer.
    fn is_over(&self, clock: &Clock, until_ns: u64) -> bool {
        self.has_all() || clock.mono_ns() >= until_ns
    }

    /// Takes one line. `ours`: it was written after the run began.
    fn take(&mut self, line: &[u8], ours: bool) -> Result<(), String> {
        // Requests of the time before are many, and none is needed: not worth reading.
        if line.trim_ascii().is_empty() || (!ours && line.starts_with(OLD_REQUEST)) {
            return Ok(());
        }
        let traced = &mut self.traced;
        let Ok(record) = serde_json::from_slice(line) else {
            traced.unreadable += 1;
            return Ok(());
        };
        traced.readable += 1;
        if traced.runs.is_empty() && !matches!(record, Record::Run(_)) {
            traced.runs.push(RouterRun::default());
        }
        match record {
            Record::Run(run) if run.schema > SCHEMA => {
                return Err(format!(
                    "the trace has schema {}, this milepost reads up to {SCHEMA}",
                    run.schema
                ));
            }
            Record::Run(run) => traced.run_begins(run),
            Record::Worker(worker) => {
                traced.last_run(|run| run.offsets.know(&worker));
                traced.add_worker(worker);
            }
            Record::Clock(clock) => traced.last_run(|run| run.clocks.add_record(&clock)),
            Record::Request(record) if ours => match (self.wanted.index)(&record.request_id) {
                Some(index) => {
                    traced.last_run(|run| run.offsets.learn(&record));
                    let run = traced.runs.len() - 1;
                    traced.repeated += u64::from(self.records.keep(index, run, record.arrival_mono_ns, line));
                }
                None => traced.strangers += u64::from(is_strange(&record)),
            },
            Record::Lost(lost) if ours => {
                traced.lost += lost.requests;
                traced.not_captured += lost.all_requests() - lost.requests;
            }
            Record::Request(_)
            | Record::Lost(_)
            | Record::Connection(_)
            | Record::Journal(_)
            | Record::Mark(_) => {}
        }
        Ok(())
    }

    fn checked(self, place: &impl fmt::Display) -> Result<Traced, TraceError> {
        let mut traced = self.traced;
        if traced.readable == 0 && traced.unreadable > 0 {
            return Err(TraceError(format!(
                "{place}: not a milepost trace: none of its {} lines is a record",
                traced.unreadable
            )));
        }
        traced.records = self.records.finish();
        Ok(traced)
    }
}

impl Traced {
    /// A run begins, or another file of the one that is being read.
    fn run_begins(&mut self, run: RunRecord) {
        let earlier = self.runs.last().and_then(|earlier| earlier.run.as_ref());
        if !earlier.is_some_and(|earlier| run.continues(earlier)) {
            self.runs.push(RouterRun { boot_id: run.boot_id.clone(), ..RouterRun::default() });
        }
        self.last_run(|last| {
            last.clocks.add(run.clock);
            last.run = Some(run);
        });
    }

    fn last_run(&mut self, change: impl FnOnce(&mut RouterRun)) {
        if let Some(run) = self.runs.last_mut() {
            change(run);
        }
    }

    fn add_worker(&mut self, worker: WorkerRecord) {
        let known = self.workers.entry(worker.worker.to_string()).or_insert_with(|| worker.clone());
        known.model = worker.model.or(known.model.take());
        known.version = worker.version.or(known.version.take());
        known.max_running_requests = worker.max_running_requests.or(known.max_running_requests);
        known.simulated = worker.simulated.or(known.simulated);
        known.router = worker.router.or(known.router);
    }
}

/// The load generator's own questions about the server ask for no tokens.
fn is_strange(record: &RequestRecord) -> bool {
    record.endpoint.generates() && record.phase.as_deref() != Some("warmup")
}

/// A trace that is being written.
#[derive(Debug)]
pub struct Tracing {
    source: Source,
    /// Why it is not read as well as it might be.
    pub(super) note: Option<String>,
}

#[derive(Debug)]
enum Source {
    File(Following),
    /// An address that gives pages.
    Pages(Target, Client, Paging),
    /// One that gives a file whole, with what it gave when the run began.
    Whole(Target, Client, Begin),
}

/// What an address gave when the run began.
#[derive(Debug)]
struct Begin {
    bytes: usize,
    /// Each file of a capture begins with a record of the run that has the number of the file.
    first_line: Vec<u8>,
}

impl Begin {
    fn of(body: &[u8]) -> Self {
        Self { bytes: body.len(), first_line: first_line(body).to_vec() }
    }

    /// It is the same file, as far as can be seen: no shorter, and with the same beginning.
    fn goes_on_in(&self, body: &[u8]) -> bool {
        body.len() >= self.bytes && first_line(body).starts_with(&self.first_line)
    }
}

fn first_line(body: &[u8]) -> &[u8] {
    body.split(|b| *b == b'\n').next().unwrap_or_default()
}

impl Tracing {
    /// Remembers where the trace is now. `target` is sent `headers`, and nobody else is: they may hold its key.
    ///
    /// # Errors
    /// The file or address cannot be read.
    pub async fn begin(
        source: &TraceSource,
        (target, headers): (&Target, &HeaderMap),
        dialer: Dialer,
        clock: &Clock,
    ) -> Result<Self, TraceError> {
        match source {
            TraceSource::File(path) => {
                let fail = |what: String| TraceError(format!("{}: {what}", path.display()));
                let expected = "expected the file that `milepost route --trace-log` writes";
                let following = Following::begin(path).map_err(|e| fail(format!("{e}; {expected}")))?;
                Ok(Source::File(following).into())
            }
            TraceSource::Url(url) => {
                let fail = |what: String| TraceError(format!("{url}: {what}"));
                let connections = Connections::to(url, dialer, clock.clone());
                let connections = connections.await.map_err(|e| fail(e.to_string()))?;
                let server = |of: &Target| (of.host.clone(), of.port, of.https);
                let headers = if server(url) == server(target) { headers.clone() } else { HeaderMap::new() };
                let client = Client::new(connections, clock.clone(), &url.host_port(), &headers, GET_TIMEOUT)
                    .map_err(fail)?;
                let note = match Paging::begin(&client, path_of(url)).await {
                    Begun::Pages(paging) => return Ok(Source::Pages(url.clone(), client, paging).into()),
                    Begun::Wrong(why) => return Err(fail(why)),
                    Begun::NoPages => None,
                    Begun::Failed(why) => Some(whole_instead(url, &why)),
                };
                let begin = Begin::of(&get(&client, url).await?);
                Ok(Self { source: Source::Whole(url.clone(), client, begin), note })
            }
        }
    }

    /// Reads until every wanted id is there or the wait is over.
    ///
    /// # Errors
    /// The file or address cannot be read (any more).
    pub(super) async fn collect(
        self,
        wanted: &Wanted<'_>,
        clock: &Clock,
        wait: Duration,
    ) -> Result<Traced, TraceError> {
        let until_ns = clock.mono_ns() + wait.as_nanos() as u64;
        match self.source {
            Source::File(following) => follow(following, wanted, clock, until_ns).await,
            Source::Pages(url, client, paging) => {
                page_through(&client, &url, paging, wanted, clock, until_ns).await
            }
            Source::Whole(url, client, begin) => fetch(&client, &url, &begin, wanted, clock, until_ns).await,
        }
    }
}

impl From<Source> for Tracing {
    fn from(source: Source) -> Self {
        Self { source, note: None }
    }
}

/// What the summary says of an address that did not say whether it gives pages.
fn whole_instead(url: &Target, why: &str) -> String {
    format!(
        "--router-trace {url}?from={NEWEST}, asked for pages, failed ({why}); the address is read as one file instead: what the router \
         rotated away is not seen"
    )
}

fn path_of(url: &Target) -> &str {
    if url.prefix.is_empty() { "/" } else { &url.prefix }
}

async fn get(client: &Client, url: &Target) -> Result<Bytes, TraceError> {
    let fail = |what: String| TraceError(format!("{url}: {what}"));
    let answer = client.simple(Method::GET, path_of(url), GET_TIMEOUT).await.map_err(fail)?;
    if answer.status == 401 || answer.status == 403 {
        let sent = "--header is sent with it only where it is the target's address; FILE takes no key";
        return Err(fail(format!("status {}: a key is missing or refused; {sent}", answer.status)));
    }
    if answer.status != 200 {
        return Err(fail(format!("status {}", answer.status)));
    }
    Ok(answer.body)
}

async fn fetch(
    client: &Client,
    url: &Target,
    begin: &Begin,
    wanted: &Wanted<'_>,
    clock: &Clock,
    until_ns: u64,
) -> Result<Traced, TraceError> {
    loop {
        let body = get(client, url).await?;
        let mut reading = Reading::of(wanted);
        reading.traced.another = !begin.goes_on_in(&body);
        let begin_bytes = if reading.traced.another { 0 } else { begin.bytes };
        let mut place = 0;
        for line in body.split(|b| *b == b'\n') {
            reading.take(line, place >= begin_bytes).map_err(|what| TraceError(format!("{url}: {what}")))?;
            place += line.len() + 1;
        }
        if reading.is_over(clock, until_ns) {
            return reading.checked(url);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Reads on until what the trace holds when the wait is over has been read, however long that takes.
async fn page_through(
    client: &Client,
    url: &Target,
    mut paging: Paging,
    wanted: &Wanted<'_>,
    clock: &Clock,
    until_ns: u64,
) -> Result<Traced, TraceError> {
    let fail = |what: String| TraceError(format!("{url}: {what}"));
    let mut reading = Reading::of(wanted);
    let mut end = None;
    loop {
        let page = match paging.next(client).await {
            Ok(page) => page,
            Err(why) => return cut(reading, &paging, &why).checked(url),
        };
        for (line, is_new) in page.lines() {
            reading.take(line, is_new).map_err(fail)?;
        }
        reading.traced.removed = paging.has_gap;
        let is_read = end.as_ref().is_some_and(|end| paging.has_reached(end) || !page.goes_on);
        if reading.has_all() || is_read {
            return reading.checked(url);
        }
        if end.is_none() && clock.mono_ns() >= until_ns {
            // Others may write on for ever.
            end = match paging.end(client).await {
                Ok(end) => Some(end),
                Err(why) => return cut(reading, &paging, &why).checked(url),
            };
        } else if !page.goes_on {
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// What was read is worth having.
fn cut<'a>(mut reading: Reading<'a>, paging: &Paging, why: &str) -> Reading<'a> {
    reading.traced.cut = Some(format!("{}: {why}", paging.place()));
    reading
}

async fn follow(
    mut following: Following,
    wanted: &Wanted<'_>,
    clock: &Clock,
    until_ns: u64,
) -> Result<Traced, TraceError> {
    let mut reading = Reading::of(wanted);
    loop {
        let looked = following.look(&mut |line, ours| reading.take(line, ours));
        looked.map_err(|e| TraceError(format!("{}: {e}", following.path().display())))?;
        if reading.is_over(clock, until_ns) {
            return reading.checked(&following.path().display());
        }
        tokio::time::sleep(LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::net::{Connector, PipeNet};

    #[test]
    fn a_file_that_goes_on_is_told_from_another() {
        let begin = Begin::of(b"{\"part\":1}\n{}\n");
        assert!(begin.goes_on_in(b"{\"part\":1}\n{}\n{}\n"));
        assert!(!begin.goes_on_in(b"{\"part\":2}\n{}\n{}\n{}\n"), "longer than the first, and another");
        assert!(!begin.goes_on_in(b"{\"part\":1}\n"), "begun anew");
        assert!(Begin::of(b"").goes_on_in(b"{\"part\":1}\n"));
        assert!(Begin::of(b"{\"pa").goes_on_in(b"{\"part\":1}\n"), "a line that was being written");
    }

    /// A server that answers each path and query so; the third is a header.
    async fn begin(
        answers: &'static [(&'static str, &'static str, &'static str)],
    ) -> Result<Tracing, TraceError> {
        let net = PipeNet::default();
        let mut listener = net.listen(1);
        tokio::spawn(async move {
            while let Ok((mut io, _)) = listener.accept().await {
                let mut read = Vec::new();
                while !read.ends_with(b"\r\n\r\n") && io.read_buf(&mut read).await.unwrap() > 0 {}
                let head = String::from_utf8(read).unwrap();
                let asked = head.split(' ').nth(1).unwrap();
                let (_, status, field) = answers.iter().find(|(path, ..)| *path == asked).unwrap();
                let answer = format!("HTTP/1.1 {status}\r\n{field}content-length: 0\r\n\r\n");
                io.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let url = Target::parse("http://pipe:1/t").unwrap();
        let (clock, headers) = (Clock::virtual_time(1_000, 0), HeaderMap::new());
        let source = TraceSource::Url(url.clone());
        Tracing::begin(&source, (&url, &headers), Connector::Pipes(net).into(), &clock).await
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_does_not_say_whether_it_gives_pages_is_read_whole_and_that_is_told() {
        let tracing = begin(&[("/t?from=newest", "503 Busy", ""), ("/t", "200 OK", "")]).await.unwrap();
        let note = tracing.note.unwrap();
        assert!(matches!(tracing.source, Source::Whole(..)));
        assert!(note.contains("http://pipe:1/t?from=newest, asked for pages, failed (status 503)"), "{note}");
        assert!(note.contains("read as one file instead"), "{note}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_plain_file_is_read_whole_without_a_word_and_pages_are_pages() {
        for first in [("/t?from=newest", "200 OK", ""), ("/t?from=newest", "400 What", "")] {
            let answers = Box::leak(Box::new([first, ("/t", "200 OK", "")]));
            let tracing = begin(answers).await.unwrap();
            assert!(matches!(tracing.source, Source::Whole(..)) && tracing.note.is_none());
        }
        let next = "x-milepost-trace-next: t.jsonl/3/17\r\n";
        let answers = Box::leak(Box::new([("/t?from=newest", "200 OK", next)]));
        let tracing = begin(answers).await.unwrap();
        assert!(matches!(tracing.source, Source::Pages(..)) && tracing.note.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_cannot_be_is_a_failure_and_no_other_way_is_tried() {
        let garbled = "x-milepost-trace-next: here\r\n";
        for (status, field, said) in [
            ("410 Gone", "", "/t?from=newest: status 410: the end of a trace is never gone"),
            ("200 OK", garbled, "/t?from=newest: its next page is \"here\", which is no place in a trace"),
        ] {
            let answers = Box::leak(Box::new([("/t?from=newest", status, field), ("/t", "200 OK", "")]));
            let error = begin(answers).await.unwrap_err().to_string();
            assert!(error.ends_with(said), "{error}");
        }
    }
}
