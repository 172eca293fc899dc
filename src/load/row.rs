//! One request of a run: what the client saw, joined with what the router and the server told.
//!
//! Rule: every time is nanoseconds after the start of the run, every duration is taken inside one clock, an unknown is
//! `None`. Derived quantities are methods, so that a definition is written once. Deliberately not here: how rows become CSV,
//! JSON or statistics ([`crate::report`]), and how they are made (`join`).

use super::failure::Failure;
use crate::wire::answer::TokenTime;

/// A gap between two events that brought tokens, at the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gap {
    /// Its length in nanoseconds.
    pub ns: u64,
    /// Tokens the later event brought; at least 1.
    pub tokens: u32,
    /// Whose the later event is: members are numbered from 0 in the order of their first events.
    pub member: u32,
}

impl Gap {
    /// Between two events that follow each other.
    pub(super) fn between(pair: &[TokenTime]) -> Self {
        let tokens = pair[1].tokens.saturating_sub(pair[0].tokens).max(1);
        let ns = pair[1].at_ns.saturating_sub(pair[0].at_ns);
        Self { ns, tokens, member: pair[1].member }
    }
}

/// A worker that the router tried and that gave no answer to pass on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Its `host:port`.
    pub host: String,
    /// The router began to write to it; `None`: no connection was made.
    pub send_ns: Option<i64>,
    /// The attempt had failed.
    pub failed_ns: i64,
}

/// One request.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "one for each truth of the CSV")]
pub struct Row {
    /// The `x-request-id` sent.
    pub req_id: String,
    /// Why it did not succeed; `None` is success.
    pub failure: Option<Failure>,
    /// Status the client got.
    pub status: Option<u16>,
    /// `host:port` of the worker that answered.
    pub host: Option<String>,
    /// The answer held text.
    pub has_generated_text: bool,
    /// Words of the prompt.
    pub input_words: Option<u64>,
    /// Prompt tokens as planned.
    pub planned_tokens: u64,
    /// Output tokens asked for.
    pub max_new_tokens: Option<u64>,
    /// The server's count of prompt tokens.
    pub prompt_tokens: Option<u64>,
    /// The server's count of generated tokens.
    pub completion_tokens: Option<u64>,
    /// Prompt tokens the server found in its cache.
    pub cached_tokens: Option<u64>,
    /// Generated tokens as the router's trace has them.
    pub trace_completion_tokens: Option<u64>,
    /// Generated tokens as the client counted them event by event.
    pub counted_tokens: Option<u64>,
    /// The client had no room for the times of these tokens: `gaps` is empty.
    pub token_times_dropped: bool,

    /// The router had the request's head (without a router: the client began to write).
    pub arrival_ns: Option<i64>,
    /// The router's (last) decision was made.
    pub decided_ns: Option<i64>,
    /// Time in the policy and under its lock.
    pub decision_ns: Option<i64>,
    /// What the router waited for: the body, and a place under its limits.
    pub router_wait_ns: Option<i64>,
    /// The router began to write to the worker (without one: equal to arrival).
    pub router_send_ns: Option<i64>,
    /// The server accepted the request.
    pub created_ns: Option<i64>,
    /// It entered the scheduler's waiting queue.
    pub queue_start_ns: Option<i64>,
    /// It left that queue.
    pub queue_end_ns: Option<i64>,
    /// First token at the server, by the stamp that `ttft_source` names.
    pub server_first_token_ns: Option<i64>,
    /// Last byte of the answer at the router (without one: at the client).
    pub finish_ns: Option<i64>,
    /// First token, after arrival.
    pub ttft_ns: Option<i64>,
    /// What `ttft_ns` rests on: a [`crate::trace::align::TtftSource`], or `client` where there is no record of a router.
    pub ttft_source: &'static str,
    /// First token at the router, after arrival.
    pub ttft_router_ns: Option<i64>,
    /// Tokenising.
    pub tokenize_ns: Option<i64>,
    /// Time in the waiting queue, in the server's own clock.
    pub pure_queue_ns: Option<i64>,
    /// Created to first token, in the server's own clock.
    pub queue_in_server_ns: Option<i64>,
    /// How far aligned stamps may be off.
    pub clock_bound_ns: Option<u64>,
    /// The stamps are not in their order by more than the bound.
    pub order_broken: bool,
    /// Columns that stay empty, with the reason.
    pub missing: Vec<(&'static str, &'static str)>,

    /// Due time.
    pub scheduled_ns: i64,
    /// Handed over by the pacer and free to go (a place under `--max-concurrency` in hand).
    pub dispatched_ns: Option<i64>,
    /// A connection was in hand.
    pub connected_ns: Option<i64>,
    /// Just before the first write: latencies from the send begin here, as `bench_serving`'s do.
    pub write_begun_ns: Option<i64>,
    /// The first write returned: lateness ends here. A client that is put off the processor in the write sees this late, when
    /// the answer may be there already, so that no latency may begin here.
    pub sent_ns: Option<i64>,
    /// First event with tokens, at the client; of several members that of the one whose first came last.
    pub client_first_token_ns: Option<i64>,
    /// Last byte, at the client.
    pub client_end_ns: Option<i64>,
    /// The event from which the gaps are counted: the first of any member whose tokens were counted.
    pub gaps_from_ns: Option<i64>,
    /// Gaps between events with tokens, at the client, whosever they are; each member's own are [`Row::stream_gaps`].
    pub gaps: Vec<Gap>,
    /// The body asked for a stream.
    pub streamed: bool,
    /// Workers the router tried.
    pub attempts: Option<u32>,
    /// Those before `host`, in order.
    pub tried: Vec<Tried>,
    /// Which group of a shared prefix the prompt is of.
    pub group: Option<u32>,
    /// Phase of the run that the request is of: what the schedule of failures makes of it, else what it told the router.
    pub phase: Option<String>,
    /// Members of the answer: prompts times samples of each; above 1 tokens are summed, created is the earliest and first token
    /// the latest.
    pub batch_size: Option<u32>,
    /// The router's policy.
    pub policy: Option<String>,
    /// Dead idle connections the client replaced.
    pub reconnects: u32,
    /// The client's connection had carried a request before.
    pub reused_connection: bool,
    /// The worker says that it is simulated (`Some(true)`) or real.
    pub simulated: Option<bool>,
    /// The router's record was found.
    pub in_trace: bool,
    /// Session and turn, each from 1.
    pub turn: Option<(u32, u32)>,
}

fn between(from: Option<i64>, to: Option<i64>) -> Option<i64> {
    Some(to? - from?)
}

impl Row {
    /// The whole answer arrived with at least one token and nobody saw it cut.
    pub fn success(&self) -> bool {
        self.failure.is_none()
    }

    /// When it began: free to go, or due where it never was. In a closed loop all are due at once.
    pub fn begun_ns(&self) -> i64 {
        self.dispatched_ns.unwrap_or(self.scheduled_ns)
    }

    /// The best count of generated tokens: the server's, the trace's, the client's.
    pub fn decode_length(&self) -> Option<u64> {
        self.completion_tokens.or(self.trace_completion_tokens).or(self.counted_tokens)
    }

    /// Prompt and generated tokens.
    pub fn total_tokens(&self) -> Option<u64> {
        Some(self.prompt_tokens? + self.completion_tokens?)
    }

    /// finish − `router_send`.
    pub fn server_latency_ns(&self) -> Option<i64> {
        between(self.router_send_ns, self.finish_ns)
    }

    /// finish − arrival: E2E at the router.
    pub fn total_latency_ns(&self) -> Option<i64> {
        between(self.arrival_ns, self.finish_ns)
    }

    /// `router_send` − arrival.
    pub fn queue_time_in_router_ns(&self) -> Option<i64> {
        between(self.arrival_ns, self.router_send_ns)
    }

    /// first token − created; holds the prefill. Of one clock where it can be, so that it is right for remote workers too.
    pub fn queue_time_in_server_ns(&self) -> Option<i64> {
        self.queue_in_server_ns.or_else(|| between(self.created_ns, self.server_first_token_ns))
    }

    /// first token − `queue_end`.
    pub fn prefill_ns(&self) -> Option<i64> {
        between(self.queue_end_ns, self.server_first_token_ns)
    }

    /// finish − first token.
    pub fn decode_ns(&self) -> Option<i64> {
        Some(self.total_latency_ns()? - self.ttft_ns?)
    }

    /// created − `router_send`: the way to the server.
    pub fn network_ns(&self) -> Option<i64> {
        between(self.router_send_ns, self.created_ns)
    }

    /// dispatched − scheduled.
    pub fn client_queue_ns(&self) -> Option<i64> {
        Some(self.dispatched_ns? - self.scheduled_ns)
    }

    /// `write_begun` − dispatched.
    pub fn client_connect_ns(&self) -> Option<i64> {
        between(self.dispatched_ns, self.write_begun_ns)
    }

    /// arrival − `write_begun`, where a router told its arrival.
    pub fn to_router_ns(&self) -> Option<i64> {
        between(self.write_begun_ns, self.arrival_ns).filter(|_| self.in_trace)
    }

    /// decided − arrival, less the decision itself where its time is told.
    pub fn router_in_ns(&self) -> Option<i64> {
        Some(between(self.arrival_ns, self.decided_ns)? - self.decision_ns.unwrap_or(0))
    }

    /// `router_send` − decided.
    pub fn router_out_ns(&self) -> Option<i64> {
        between(self.decided_ns, self.router_send_ns)
    }

    /// client end − finish, where a router told its finish.
    pub fn network_back_ns(&self) -> Option<i64> {
        between(self.finish_ns, self.client_end_ns).filter(|_| self.in_trace)
    }

    /// `router_send` − arrival, less what the router waited for others.
    pub fn router_overhead_ns(&self) -> Option<i64> {
        let waited_ns = self.router_wait_ns.filter(|_| self.in_trace)?;
        Some((self.queue_time_in_router_ns()? - waited_ns).max(0))
    }

    /// Members of the answer, at least 1.
    pub fn members(&self) -> u64 {
        self.batch_size.unwrap_or(1).max(1).into()
    }

    /// Generated tokens less the first one of each member.
    pub fn tokens_after_first(&self) -> Option<u64> {
        Some(self.decode_length()?.saturating_sub(self.members()))
    }

    /// (client E2E − client TTFT) / (tokens − 1), nanoseconds; none below two tokens. Of several members, which begin and end
    /// apart: their times from first to last token added up / (tokens − members); none where the events do not tell all of them.
    pub fn tpot_client_ns(&self) -> Option<f64> {
        let after_first = self.tokens_after_first().filter(|n| *n > 0)?;
        let ns = if self.members() == 1 {
            self.client_latency_ns()? - self.ttft_client_ns()?
        } else {
            let told = self.gaps.iter().map(|gap| u64::from(gap.member)).max()? + 1;
            let ns = self.stream_gaps().fold(0, |sum: u64, (gap, _)| sum.saturating_add(gap.ns));
            i64::try_from(ns).ok().filter(|_| told == self.members())?
        };
        Some(ns as f64 / after_first as f64)
    }

    /// (E2E − TTFT) / (tokens − 1), nanoseconds; none below two tokens, and none of several members: how many tokens came after
    /// the first of the last of them is not told.
    pub fn tpot_ns(&self) -> Option<f64> {
        let after_first = self.tokens_after_first().filter(|n| *n > 0 && self.members() == 1)?;
        Some(self.decode_ns()? as f64 / after_first as f64)
    }

    /// Gaps between two events of one member, in the order of their ends, and when each ended, in nanoseconds after
    /// [`Row::gaps_from_ns`]. Of one member they are [`Row::gaps`].
    pub fn stream_gaps(&self) -> impl Iterator<Item = (Gap, u64)> + '_ {
        let (mut now_ns, mut last_ns) = (0_u64, vec![0]);
        self.gaps.iter().filter_map(move |gap| {
            now_ns = now_ns.saturating_add(gap.ns);
            let Some(last_ns) = last_ns.get_mut(gap.member as usize) else {
                // Its first event: members are numbered as they begin.
                last_ns.push(now_ns);
                return None;
            };
            let ns = now_ns - std::mem::replace(last_ns, now_ns);
            Some((Gap { ns, ..*gap }, now_ns))
        })
    }

    /// Mean gap for each token after its member's first event, nanoseconds.
    pub fn itl_mean_ns(&self) -> Option<f64> {
        let add = |(ns, tokens): (u64, u64), (gap, _): (Gap, u64)| {
            (ns.saturating_add(gap.ns), tokens + u64::from(gap.tokens))
        };
        let (ns, tokens) = self.stream_gaps().fold((0, 0), add);
        (tokens > 0).then(|| ns as f64 / tokens as f64)
    }

    /// First token at the client, after the first write was begun.
    pub fn ttft_client_ns(&self) -> Option<i64> {
        between(self.write_begun_ns, self.client_first_token_ns)
    }

    /// First token at the client, after the due time: what a user waited.
    pub fn ttft_from_schedule_ns(&self) -> Option<i64> {
        Some(self.client_first_token_ns? - self.scheduled_ns)
    }

    /// Last byte at the client, after the first write was begun: never less than the router's E2E.
    pub fn client_latency_ns(&self) -> Option<i64> {
        between(self.write_begun_ns, self.client_end_ns)
    }

    /// Last byte at the client, after the due time.
    pub fn latency_from_schedule_ns(&self) -> Option<i64> {
        Some(self.client_end_ns? - self.scheduled_ns)
    }

    /// sent − scheduled.
    pub fn lateness_ns(&self) -> Option<i64> {
        Some(self.sent_ns? - self.scheduled_ns)
    }
}

/// A row as the worked example of the CSV's definitions has it, for tests.
#[cfg(test)]
pub(crate) fn example() -> Row {
    Row {
        req_id: "a-1".to_owned(),
        host: Some("127.0.0.1:31000".to_owned()),
        has_generated_text: true,
        input_words: Some(2),
        planned_tokens: 2,
        max_new_tokens: Some(5),
        prompt_tokens: Some(3),
        completion_tokens: Some(5),
        cached_tokens: Some(1),
        trace_completion_tokens: Some(5),
        arrival_ns: Some(1_000_000_000),
        decided_ns: Some(1_000_700_000),
        decision_ns: Some(50_000),
        router_wait_ns: Some(200_000),
        router_send_ns: Some(1_001_000_000),
        created_ns: Some(1_002_000_000),
        queue_start_ns: Some(1_003_000_000),
        queue_end_ns: Some(1_013_000_000),
        server_first_token_ns: Some(1_021_000_000),
        finish_ns: Some(1_061_000_000),
        ttft_ns: Some(21_000_000),
        ttft_source: "server_patch",
        ttft_router_ns: Some(22_000_000),
        tokenize_ns: Some(1_000_000),
        pure_queue_ns: Some(10_000_000),
        clock_bound_ns: Some(500),
        scheduled_ns: 999_000_000,
        dispatched_ns: Some(999_100_000),
        write_begun_ns: Some(999_400_000),
        sent_ns: Some(999_500_000),
        client_first_token_ns: Some(1_022_500_000),
        client_end_ns: Some(1_062_000_000),
        gaps_from_ns: Some(1_022_500_000),
        gaps: vec![
            Gap { ns: 10_000_000, tokens: 1, member: 0 },
            Gap { ns: 30_000_000, tokens: 3, member: 0 },
        ],
        streamed: true,
        attempts: Some(1),
        group: Some(2),
        batch_size: Some(1),
        policy: Some("round_robin".to_owned()),
        simulated: Some(false),
        in_trace: true,
        status: Some(200),
        ..Row::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three members that begin at 0, 5 and 5 ms; one ends with its first token.
    fn three() -> Row {
        let gap = |ms: u64, tokens, member| Gap { ns: ms * 1_000_000, tokens, member };
        Row {
            completion_tokens: Some(11),
            batch_size: Some(3),
            gaps: vec![gap(5, 1, 1), gap(0, 1, 2), gap(5, 2, 0), gap(10, 4, 1), gap(0, 2, 0)],
            ..example()
        }
    }

    #[test]
    fn times_between_tokens_are_of_one_member_each() {
        let row = three();
        let gaps: Vec<_> = row.stream_gaps().map(|(gap, at)| (gap.ns, gap.tokens, gap.member, at)).collect();
        assert_eq!(
            gaps,
            [(10_000_000, 2, 0, 10_000_000), (15_000_000, 4, 1, 20_000_000), (10_000_000, 2, 0, 20_000_000)]
        );
        // 20 ms of one, 15 ms of another, for eight tokens that were no first ones.
        assert_eq!((row.itl_mean_ns(), row.tpot_client_ns()), (Some(35e6 / 8.0), Some(35e6 / 8.0)));
        let one = example();
        assert_eq!(one.stream_gaps().map(|(gap, _)| gap).collect::<Vec<_>>(), one.gaps);
    }

    #[test]
    fn a_time_a_token_of_several_members_needs_to_know_whose_they_are() {
        let untold = Row { gaps: example().gaps, ..three() };
        let dropped = Row { gaps: Vec::new(), ..three() };
        let no_more = Row { completion_tokens: Some(3), ..three() };
        for row in [untold, dropped, no_more] {
            assert_eq!(row.tpot_client_ns(), None, "{row:?}");
        }
        // From the first of the last member to the end came some of eight tokens; nobody at the router counts which.
        assert_eq!((three().tpot_ns(), example().tpot_ns()), (None, Some(10e6)));
    }
}
