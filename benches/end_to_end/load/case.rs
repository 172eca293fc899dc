//! What is sent in one run, and when.
//!
//! Rule: every prompt of a run is another one (it begins with the request's number and the case's word), and the next run of
//! the same case sends the same again. Deliberately not here: sending.

use super::worker::Order;

/// Digits of the number that a prompt begins with.
const DIGITS: usize = 12;
/// The prompt after its number and its order.
const FILL: &[u8] = b"lorem ipsum ";

/// Lateness that makes no difference to what a request costs.
pub const LATE_NS: u64 = 2_000_000;

/// When requests are sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Each of so many connections sends the next request when it has its answer.
    Closed(usize),
    /// So many a second, whatever the answers do, on as many connections as it takes.
    PerSecond(f64),
}

/// One kind of run.
#[derive(Clone, Debug)]
pub struct Case {
    /// The word for `--cases`.
    pub key: &'static str,
    /// The head of its column.
    pub title: String,
    /// Bytes of the prompt.
    pub prompt_bytes: usize,
    /// Events of each answer; 0: a plain answer.
    pub events: u64,
    /// Microseconds between two events.
    pub gap_us: u64,
    /// When.
    pub pace: Pace,
    /// How many.
    pub requests: usize,
    /// A paced run is one only if 99 of 100 requests went out so soon after their due time.
    pub late_ns: u64,
    /// The load's own worker answers, so that every byte of an answer is known.
    pub is_scripted: bool,
}

impl Case {
    /// Plain answers.
    pub fn plain(
        key: &'static str,
        title: impl Into<String>,
        prompt_bytes: usize,
        pace: Pace,
        requests: usize,
    ) -> Self {
        Self {
            key,
            title: title.into(),
            prompt_bytes,
            events: 0,
            gap_us: 0,
            pace,
            requests,
            late_ns: LATE_NS,
            is_scripted: true,
        }
    }

    /// What costs are counted by: requests, or events.
    pub fn units(&self) -> u64 {
        self.requests as u64 * self.events.max(1)
    }

    /// When request `index` is due after the start, in nanoseconds: evenly, each moved by up to a quarter of the gap either
    /// way, so that nothing falls into step with a timer. Zero in a closed loop.
    pub fn due_ns(&self, index: usize) -> u64 {
        let Pace::PerSecond(rate) = self.pace else { return 0 };
        // A fixed sequence of the golden ratio: spread as well as can be, the same in each run.
        let moved = (index as f64 * 0.618_033_988_75).fract() / 2.0 - 0.25;
        ((index as f64 + 0.25 + moved) / rate * 1e9) as u64
    }

    /// Connections open before the first request.
    pub fn connections(&self) -> usize {
        match self.pace {
            Pace::Closed(clients) => clients.min(self.requests),
            Pace::PerSecond(_) if self.events > 0 => 64,
            Pace::PerSecond(_) => 16,
        }
    }

    /// The bytes of its requests, with a place for the number.
    pub fn template(&self) -> Template {
        let mut prompt = vec![b'0'; DIGITS];
        prompt.push(b' ');
        Order::push(&mut prompt, self.events, self.gap_us);
        prompt.extend_from_slice(self.key.as_bytes());
        prompt.push(b' ');
        while prompt.len() < self.prompt_bytes {
            let left = self.prompt_bytes - prompt.len();
            prompt.extend_from_slice(&FILL[..left.min(FILL.len())]);
        }
        let body = format!(
            r#"{{"text":"{}","sampling_params":{{"max_new_tokens":16}},"stream":{}}}"#,
            String::from_utf8_lossy(&prompt),
            self.events > 0
        );
        let head = format!(
            "POST /generate HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        Template { number_at: head.len() + r#"{"text":""#.len(), bytes: (head + body.as_str()).into_bytes() }
    }
}

/// A request whose number can be set.
pub struct Template {
    bytes: Vec<u8>,
    number_at: usize,
}

impl Template {
    /// The request with this number.
    pub fn numbered(&mut self, mut number: u64) -> &[u8] {
        for place in self.bytes[self.number_at..self.number_at + DIGITS].iter_mut().rev() {
            *place = b'0' + (number % 10) as u8;
            number /= 10;
        }
        &self.bytes
    }
}
