//! From prompts to requests that can be made.
//!
//! Rule: each body is made once before the clock of the run starts, so that what cannot be made is told then, and what it asks
//! for is read from it. Bodies are kept up to [`KEPT_BYTES`]; later ones are made again shortly before they are sent (`ahead`),
//! as all of them together may not fit. Deliberately not here: sending.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Uri};
use milepost_policies::{PieceHash, name_hash};

use super::body::{self, Backend, Body, RequestOptions};
use super::client::Outgoing;
use super::config::LoadConfig;
use super::dataset::{Content, Prompt, Prompts};
use crate::clock::Stamp;
use crate::wire::call::look;

/// Bodies made before the run that are kept.
const KEPT_BYTES: usize = 64 << 20;

/// What a body asks for, after `--extra-request-body`.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Output tokens.
    pub max_new_tokens: Option<u64>,
    /// Members of its answer: prompts times samples of each.
    pub batch_size: u32,
    /// A stream.
    pub stream: bool,
    /// Several answers in one.
    pub multiple: bool,
}

/// How prompts become requests.
#[derive(Clone, Debug)]
pub struct Maker {
    backend: Backend,
    model: String,
    request: RequestOptions,
    /// Of plain answers and of streams.
    paths: [Uri; 2],
    /// In ids that the data set does not give: unique over runs, as it is the start time.
    run: String,
}

/// The requests of a run, in order.
#[derive(Debug)]
pub struct Plan {
    /// What is said in each.
    pub prompts: Prompts,
    /// What the body of each asks for.
    pub asked: Vec<Asked>,
    /// XXH3 of the hashes of all bodies, in order.
    pub xxh3: String,
    maker: Maker,
    /// Bodies of the first.
    kept: Vec<Bytes>,
    /// Turns that wait for an answer, by the request that it answers.
    followers: BTreeMap<usize, Vec<usize>>,
    /// Requests whose answer is said again.
    said_again: BTreeSet<usize>,
}

impl Maker {
    /// For the requests of a run that begins now.
    ///
    /// # Errors
    /// The target's path is none.
    pub fn new(config: &LoadConfig, model: String, now: Stamp) -> Result<Self, String> {
        let path = |stream| -> Result<Uri, String> {
            let path = config.target.path(config.backend.path(stream));
            path.parse().map_err(|e| format!("path {path}: {e}"))
        };
        let paths = [path(false)?, path(true)?];
        let run = format!("{:x}", now.unix_ns / 1000);
        Ok(Self { backend: config.backend, model, request: config.request.clone(), paths, run })
    }

    /// The body of a prompt.
    pub fn body(&self, prompt: &Prompt) -> Result<Bytes, String> {
        body::make(self.backend, &self.model, prompt, &self.request).map(|body| body.bytes)
    }

    fn first_body(&self, prompt: &Prompt) -> Result<(Bytes, Asked), String> {
        let Body { bytes, max_new_tokens, stream } =
            body::make(self.backend, &self.model, prompt, &self.request)?;
        // --extra-request-body may ask for several answers in one.
        let seen = look(self.backend.endpoint(), &bytes);
        let batch_size = seen.prompts.max(1).saturating_mul(seen.samples_per_prompt.max(1));
        let asked = Asked { max_new_tokens, batch_size, stream, multiple: seen.multiple() };
        Ok((bytes, asked))
    }

    fn path(&self, stream: bool) -> &Uri {
        &self.paths[usize::from(stream)]
    }

    fn outgoing(&self, id: &str, asked: Asked, body: Bytes) -> Result<Outgoing, String> {
        let mut headers = HeaderMap::with_capacity(1);
        let id = HeaderValue::from_str(id).map_err(|_| format!("id {id:?} cannot be a header value"))?;
        headers.insert("x-request-id", id);
        let (path, endpoint, multiple) =
            (self.path(asked.stream).clone(), self.backend.endpoint(), asked.multiple);
        Ok(Outgoing { path, endpoint, multiple, body, keep_answer: false, headers })
    }

    /// The `count` warm-up requests: the first prompts again and again, with at most 32 output tokens as in `bench_serving`.
    pub fn warmup(&self, count: usize, prompts: &Prompts) -> Result<Vec<Outgoing>, String> {
        (1..=if prompts.is_empty() { 0 } else { count })
            .map(|number| {
                let prompt = prompts.get((number - 1) % prompts.len()).into_owned();
                let short = Prompt { output_tokens: prompt.output_tokens.min(32), ..prompt };
                let (body, asked) = self.first_body(&short)?;
                let id = format!("mp-{}-warmup-{number:06}", self.run);
                let mut outgoing = self.outgoing(&id, asked, body)?;
                outgoing.headers.insert("x-milepost-phase", HeaderValue::from_static("warmup"));
                Ok(outgoing)
            })
            .collect()
    }

    /// Plans the load.
    ///
    /// # Errors
    /// A request cannot be made of a prompt.
    pub fn plan(self, prompts: Prompts) -> Result<Plan, String> {
        self.plan_keeping(prompts, KEPT_BYTES)
    }

    /// The same with other room for bodies.
    pub(super) fn plan_keeping(self, prompts: Prompts, kept_bytes: usize) -> Result<Plan, String> {
        let (mut hash, mut room_bytes) = (PieceHash::default(), Some(kept_bytes));
        let (mut asked, mut kept) = (Vec::with_capacity(prompts.len()), Vec::new());
        let (mut followers, mut said_again) = (BTreeMap::<usize, Vec<usize>>::new(), BTreeSet::new());
        for (index, prompt) in prompts.iter().enumerate() {
            let (body, of_body) = self.first_body(&prompt)?;
            asked.push(of_body);
            hash.add(&name_hash(&body).to_le_bytes());
            room_bytes = room_bytes.and_then(|room| room.checked_sub(body.len()));
            kept.extend(room_bytes.map(|_| body));
            if let Some(after) = prompt.after() {
                followers.entry(after.prompt).or_default().push(index);
                if after.carries_reply {
                    said_again.insert(after.prompt);
                }
            }
        }
        let xxh3 = format!("{:016x}", hash.hash());
        Ok(Plan { prompts, asked, xxh3, maker: self, kept, followers, said_again })
    }
}

impl Plan {
    /// The `x-request-id` of a request.
    pub fn id(&self, index: usize) -> String {
        let own = self.prompts.id(index).map(str::to_owned);
        own.unwrap_or_else(|| format!("mp-{}-{:06}", self.maker.run, index + 1))
    }

    /// The path of a request.
    pub fn path(&self, index: usize) -> &str {
        self.maker.path(self.asked[index].stream).path()
    }

    /// Turns that wait for the answer to a request.
    pub fn followers(&self, index: usize) -> &[usize] {
        self.followers.get(&index).map(Vec::as_slice).unwrap_or_default()
    }

    /// The answer to a request is said again.
    pub fn keeps_answer(&self, index: usize) -> bool {
        self.said_again.contains(&index)
    }

    /// How many of the first requests have their body at hand.
    pub(super) fn kept(&self) -> usize {
        self.kept.len()
    }

    /// The body of a request: as it was made, or made again.
    pub fn body(&self, index: usize) -> Result<Bytes, String> {
        match self.kept.get(index) {
            Some(body) => Ok(body.clone()),
            None => self.maker.body(&self.prompts.get(index)),
        }
    }

    /// The body of a turn that says all that was said.
    pub fn body_saying(&self, index: usize, said: &[String]) -> Result<Bytes, String> {
        let planned = self.prompts.get(index);
        self.maker.body(&Prompt {
            id: None,
            content: Content::Conversation(said.to_vec()),
            planned_tokens: planned.planned_tokens,
            output_tokens: planned.output_tokens,
            group: None,
            turn: None,
        })
    }

    /// A request with its body, ready to be sent.
    pub fn outgoing(&self, index: usize, body: Bytes) -> Result<Outgoing, String> {
        let request = self.maker.outgoing(&self.id(index), self.asked[index], body)?;
        Ok(Outgoing { keep_answer: self.keeps_answer(index), ..request })
    }
}

/// Which request has an id.
#[derive(Debug)]
pub struct Ids<'a> {
    plan: &'a Plan,
    /// Hashes of the ids that the data set gives, in order, and whose they are.
    given: Vec<(u64, usize)>,
}

impl<'a> Ids<'a> {
    /// Of these requests.
    pub fn of(plan: &'a Plan) -> Self {
        let given = plan.prompts.listed().iter().enumerate();
        let mut given: Vec<_> =
            given.filter_map(|(index, p)| Some((name_hash(p.id.as_ref()?.as_bytes()), index))).collect();
        given.sort_unstable();
        Self { plan, given }
    }

    /// The request with this id.
    pub fn index(&self, id: &str) -> Option<usize> {
        let hash = name_hash(id.as_bytes());
        let from = self.given.partition_point(|(of, _)| *of < hash);
        let given = self.given[from..].iter().take_while(|(of, _)| *of == hash).map(|(_, index)| *index);
        let numbered = || {
            let number = id.strip_prefix("mp-")?.strip_prefix(&*self.plan.maker.run)?.strip_prefix('-')?;
            number.parse::<usize>().ok()?.checked_sub(1)
        };
        let mut candidates = given.chain(numbered());
        candidates.find(|index| *index < self.plan.prompts.len() && self.plan.id(*index) == id)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::load::dataset::{Dataset, RandomOptions};
    use crate::load::target::Target;

    /// `count` requests whose bodies are kept up to so many bytes.
    pub fn plan(count: usize, kept_bytes: usize) -> Plan {
        let options = RandomOptions { input_tokens: 30, output_tokens: 1, range_ratio: 0.0 };
        let dataset = Dataset::Random(options);
        let prompts = dataset.open(count, 1, true).unwrap().prompts;
        let config = LoadConfig::new(Target::parse("http://a:1").unwrap(), dataset);
        let now = Stamp { mono_ns: 0, unix_ns: 0 };
        Maker::new(&config, String::new(), now).unwrap().plan_keeping(prompts, kept_bytes).unwrap()
    }

    #[test]
    fn an_id_leads_to_its_request_and_a_stranger_to_none() {
        let mut plan = plan(3, 0);
        let mut listed: Vec<Prompt> = plan.prompts.iter().map(Cow::into_owned).collect();
        listed[1].id = Some("own".to_owned());
        plan.prompts = listed.into();
        let ids = Ids::of(&plan);
        assert_eq!([0, 1, 2].map(|index| ids.index(&plan.id(index))), [Some(0), Some(1), Some(2)]);
        for strange in ["mp-0-000002", "mp-0-000004", "mp-0-1", "mp-0-+00001", "mp-1-000001", "Own", ""] {
            assert_eq!(ids.index(strange), None, "{strange}");
        }
    }

    #[test]
    fn a_body_that_is_made_again_is_the_one_that_was_hashed() {
        let plan = plan(20, 1000);
        assert!((1..20).contains(&plan.kept()), "{}", plan.kept());
        let each = (0..20).flat_map(|index| name_hash(&plan.body(index).unwrap()).to_le_bytes());
        assert_eq!(plan.xxh3, format!("{:016x}", name_hash(&each.collect::<Vec<u8>>())));
    }
}
