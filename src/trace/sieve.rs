//! What stands between the records that came and those that are written: the sample, the key of prompts, and who else wants them.
//!
//! Rule: followers are offered what is written, and besides what a client's trace needs though it is not in the sample: whoever began
//! that trace has decided that it is recorded. They are offered it before it is written, and whether or not it can be. Deliberately not
//! here: how a request is judged ([`super::sample`]), what becomes of records elsewhere ([`Follower`]).

use super::outlet::{Follower, MAX_BATCH_RECORDS};
use super::prompt::PromptKey;
use super::record::{Record, RequestRecord};
use super::sample::{Sampler, Sampling, Verdict};

/// See the module.
pub(super) struct Sieve {
    sampler: Option<Sampler>,
    key: PromptKey,
    followers: Vec<Box<dyn Follower>>,
    /// Requests that were left out of the sample and are not told of yet.
    pub(super) left_out: u64,
}

impl Sieve {
    pub(super) fn new(sampling: Sampling, key: PromptKey) -> Self {
        Self { sampler: Sampler::new(sampling), key, followers: Vec::new(), left_out: 0 }
    }

    /// Each of them is offered what is written from now on.
    pub(super) fn follow(&mut self, followers: Vec<Box<dyn Follower>>) {
        self.followers = followers;
    }

    /// Somebody wants records even if none are written.
    pub(super) fn is_followed(&self) -> bool {
        !self.followers.is_empty()
    }

    /// Not all requests are kept.
    pub(super) fn is_sampling(&self) -> bool {
        self.sampler.is_some()
    }

    /// Tells the key, and nothing of it.
    pub(super) fn key_id(&self) -> String {
        self.key.id()
    }

    /// Leaves out what is not in the sample, keys the hashes of the prompts of the others, and offers what there is to the followers.
    pub(super) fn sift(&mut self, records: &mut Vec<Record>) {
        let (sampler, key, left_out) = (&mut self.sampler, self.key, &mut self.left_out);
        let is_followed = !self.followers.is_empty();
        let mut beside = Vec::new();
        records.retain_mut(|record| {
            let Record::Request(request) = record else { return true };
            match sampler.as_mut().map(|sampler| sampler.judge(request)) {
                Some(Verdict::LeftOut) => {
                    *left_out += 1;
                    if is_followed && is_asked_for(request) {
                        beside.push(Record::Request(std::mem::take(request)));
                    }
                    return false;
                }
                Some(Verdict::For(why)) => request.kept_for = Some(why.into()),
                Some(Verdict::InShare) | None => {}
            }
            if let Some(blocks) = &mut request.prompt_hashes {
                blocks.key(key);
            }
            true
        });
        for batch in
            [beside.as_slice(), records.as_slice()].into_iter().flat_map(|all| all.chunks(MAX_BATCH_RECORDS))
        {
            self.followers.iter_mut().for_each(|follower| follower.offer(batch));
        }
    }
}

/// Its client's trace is recorded.
fn is_asked_for(request: &RequestRecord) -> bool {
    request.parent_span_id.is_some() && request.trace_sampled == Some(true)
}
