//! A decision as a pure step: what is known of the workers, the prefix index and the policies, without a clock or a lock.
//!
//! Rule: the same calls in the same order give the same decisions. The router calls it from its one critical section, an offline
//! replay and the benchmark in virtual time from their loops, so all three decide by the same code. Deliberately not here:
//! health, breakers and leases, which decide who is eligible.

use std::fmt;
use std::sync::Arc;

use crate::beliefs::Beliefs;
use crate::decision::Decision;
use crate::ledger::Ledger;
use crate::policy::{Event, Needs, Policy};
use crate::prefix::PrefixIndex;
use crate::view::{Labels, RequestView, Time, WorkerId, WorkerView, Workers};

/// Which of a chooser's policies; the default is the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicyId(usize);

impl PolicyId {
    /// Its number among the policies of its chooser, in the order in which they were added, from 0.
    pub fn number(self) -> usize {
        self.0
    }
}

/// A worker that comes in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Joining {
    /// Its slot, which no worker holds now.
    pub id: WorkerId,
    /// Hash of its URL.
    pub url_hash: u64,
    /// See [`WorkerView::priority`].
    pub priority: u32,
}

/// A worker that may take a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Eligible {
    /// Its place among all workers, in the order in which they joined.
    pub position: u32,
    /// Requests in flight there.
    pub in_flight_requests: u32,
}

/// Policies and all that they decide by.
pub struct Chooser {
    // Never empty.
    policies: Vec<Box<dyn Policy>>,
    needs: Needs,
    beliefs: Beliefs,
    ledger: Ledger,
    choices: u64,
    /// What somebody else wants to find in the views, whoever chooses.
    watched: Needs,
    watched_matches: [Vec<u64>; 2],
    /// The last choice is not yet marked in the views: position of who was chosen.
    unmarked: Option<u32>,
    /// All workers in the order in which they joined, as they were shown last.
    fleet: Vec<WorkerView>,
    /// Those that may take the request, where they are not all.
    some: Vec<WorkerView>,
    labels_by_slot: Vec<Arc<Labels>>,
    all_eligible: bool,
    matches: Vec<u64>,
    decision: Decision,
}

impl Chooser {
    /// No workers yet, and one policy.
    pub fn new(policy: Box<dyn Policy>, index: PrefixIndex) -> Self {
        let needs = Needs::default().union(policy.needs());
        let mut beliefs = Beliefs::new(index);
        beliefs.want(needs);
        Self {
            needs,
            policies: vec![policy],
            beliefs,
            ledger: Ledger::default(),
            choices: 0,
            watched: Needs::default(),
            watched_matches: [const { Vec::new() }; 2],
            unmarked: None,
            fleet: Vec::new(),
            some: Vec::new(),
            labels_by_slot: Vec::new(),
            all_eligible: false,
            matches: Vec::new(),
            decision: Decision::default(),
        }
    }

    /// Adds a policy, which is told of the workers there are.
    pub fn add_policy(&mut self, now: Time, policy: Box<dyn Policy>) -> PolicyId {
        self.policies.push(policy);
        let id = PolicyId(self.policies.len() - 1);
        self.introduce(now, id);
        id
    }

    /// Puts `policy` in the place of the one that `id` names, which is returned with all that it had learned.
    pub fn replace_policy(&mut self, now: Time, id: PolicyId, policy: Box<dyn Policy>) -> Box<dyn Policy> {
        let place = self.place(id);
        let replaced = std::mem::replace(&mut self.policies[place], policy);
        self.introduce(now, PolicyId(place));
        replaced
    }

    fn introduce(&mut self, now: Time, id: PolicyId) {
        let policy = &mut self.policies[id.0];
        self.needs = self.needs.union(policy.needs());
        self.beliefs.want(self.needs);
        for worker in &self.fleet {
            policy.observe(now, &Event::Joined { worker: worker.id });
        }
    }

    /// The policy with this number, as [`PolicyId::number`] tells it.
    pub fn policy_numbered(&self, number: usize) -> Option<PolicyId> {
        (number < self.policies.len()).then_some(PolicyId(number))
    }

    /// The first policy with this name.
    pub fn policy_named(&self, name: &str) -> Option<PolicyId> {
        self.policies.iter().position(|policy| policy.name() == name).map(PolicyId)
    }

    /// A policy. Ids are given by this chooser, so the first is no silent stand-in.
    pub fn policy(&self, id: PolicyId) -> &dyn Policy {
        &*self.policies[self.place(id)]
    }

    fn place(&self, id: PolicyId) -> usize {
        if id.0 < self.policies.len() { id.0 } else { 0 }
    }

    /// What any of the policies needs; it only grows.
    pub fn needs(&self) -> Needs {
        self.needs
    }

    /// From now on the views have the estimates and loads that `needs` asks for, whoever chooses, and the texts are looked up for
    /// [`Chooser::watched_matches`]: somebody else decides by them as well.
    pub fn show_also(&mut self, needs: Needs) {
        self.watched = self.watched.union(needs);
        self.needs = self.needs.union(needs);
        self.beliefs.want(self.needs);
    }

    /// A worker comes in, the last in order.
    pub fn join(&mut self, now: Time, worker: Joining) {
        let slot = worker.id.0 as usize;
        if self.matches.len() <= slot {
            self.matches.resize(slot + 1, 0);
            self.labels_by_slot.resize_with(slot + 1, Arc::default);
        }
        self.ledger.join(worker.id);
        self.fleet.push(WorkerView {
            id: worker.id,
            position: self.fleet.len() as u32,
            url_hash: worker.url_hash,
            priority: worker.priority,
            ..WorkerView::default()
        });
        self.tell(now, &Event::Joined { worker: worker.id });
    }

    /// How long what a server said of its load counts: some intervals between two questions. 10 s until this is called.
    pub fn set_load_lasts(&mut self, us: u64) {
        self.ledger.set_load_lasts(us);
    }

    /// What an operator says of a worker that has joined, in place of what was said before.
    pub fn describe(&mut self, worker: WorkerId, priority: u32, labels: Arc<Labels>) {
        if let Some(view) = self.fleet.iter_mut().find(|view| view.id == worker) {
            view.priority = priority;
            self.labels_by_slot[worker.0 as usize] = labels;
        }
    }

    /// A worker goes; those behind it move up. Its requests may still end, and nothing is learned from that.
    pub fn leave(&mut self, now: Time, worker: WorkerId) {
        self.mark();
        self.fleet.retain(|view| view.id != worker);
        for (position, view) in self.fleet.iter_mut().enumerate() {
            view.position = position as u32;
        }
        self.beliefs.leave(worker);
        self.ledger.leave(worker);
        if let Some(labels) = self.labels_by_slot.get_mut(worker.0 as usize) {
            *labels = Arc::default();
        }
        self.tell(now, &Event::Left { worker });
    }

    /// Something happened to a request or a worker's load. Workers come and go by [`Chooser::join`] and [`Chooser::leave`].
    pub fn observe(&mut self, now: Time, event: &Event) {
        if self.needs.estimates || self.needs.server_loads {
            self.ledger.observe(now, event);
        }
        if self.needs.engine_text {
            self.beliefs.observe(event);
        }
        self.tell(now, event);
    }

    fn tell(&mut self, now: Time, event: &Event) {
        for policy in &mut self.policies {
            policy.observe(now, event);
        }
    }

    /// Asks a policy for one of `eligible`, which are in the order in which they joined, and remembers the choice. `None` if
    /// nobody is eligible, or if the policy chose nobody.
    pub fn choose(
        &mut self,
        now: Time,
        policy: PolicyId,
        request: &RequestView<'_>,
        eligible: &[Eligible],
    ) -> Option<usize> {
        let place = self.place(policy);
        let needs = self.policies[place].needs();
        let asked = request;
        let request = &self.shown(request, needs);
        self.see(now, (asked, request), needs, eligible);
        let shown = if self.all_eligible { &self.fleet } else { &self.some };
        let workers = Workers::new(shown)?.with_labels(&self.labels_by_slot);
        self.choices += 1;
        self.decision.clear(shown.len());
        self.policies[place].choose(now, request, &workers, &mut self.decision);
        let chosen = self.decision.chosen()?;
        let mut worker = shown[chosen];
        self.unmarked = Some(worker.position);
        if self.needs.prefix_match {
            let matched_bytes = worker.prefix_match_bytes.filter(|_| needs.engine_text);
            let held_bytes = self.beliefs.remember(asked, self.needs, worker.id, matched_bytes);
            let held_tokens = || request.tokens_in_engine_text(held_bytes?);
            worker.prefix_match_tokens = worker.prefix_match_tokens.or_else(held_tokens);
        }
        if self.needs.estimates {
            self.ledger.route(now, request, &worker);
        }
        if self.needs.request_events {
            self.tell(now, &Event::Routed { seq: request.seq, worker: worker.id });
        }
        Some(chosen)
    }

    /// The request with the text that a policy of such `needs` reads, and its length in tokens.
    pub fn shown<'a>(&self, request: &RequestView<'a>, needs: Needs) -> RequestView<'a> {
        let (prompt, prompt_bytes) = request.text_for(needs);
        let prompt_tokens = request.prompt_tokens.or_else(|| self.ledger.tokens_of(prompt_bytes));
        RequestView { prompt, prompt_bytes, prompt_tokens, ..*request }
    }

    /// Marks the last choice in the views, which show what was before it for as long as nothing happens.
    fn mark(&mut self) {
        if let Some(position) = self.unmarked.take() {
            self.fleet[position as usize].last_chosen_seq = self.choices;
        }
    }

    /// Looks up the texts that somebody else asks for; `needs` is what the policy needs, for which it was done.
    fn match_watched(&mut self, asked: &RequestView<'_>, needs: Needs) {
        let wanted =
            [self.watched.matches_routing_text(), self.watched.prefix_match && self.watched.engine_text];
        for (engine_text, matches) in [false, true].into_iter().zip(&mut self.watched_matches) {
            if !wanted[usize::from(engine_text)] {
                continue;
            }
            matches.resize(self.matches.len(), 0);
            if needs.prefix_match && needs.engine_text == engine_text {
                matches.clone_from(&self.matches);
            } else {
                let needs = Needs { prefix_match: true, engine_text, ..Needs::default() };
                self.beliefs.match_into(asked, needs, matches);
            }
        }
    }

    /// Brings the views of who is eligible up to date, for a request as it came and as it is shown.
    fn see(
        &mut self,
        now: Time,
        (asked, request): (&RequestView<'_>, &RequestView<'_>),
        needs: Needs,
        eligible: &[Eligible],
    ) {
        self.mark();
        let prompt = request.prompt.filter(|_| needs.prefix_match);
        if prompt.is_some() {
            self.beliefs.match_into(asked, needs, &mut self.matches);
        }
        if self.watched.prefix_match {
            self.match_watched(asked, Needs { prefix_match: prompt.is_some(), ..needs });
        }
        self.all_eligible = eligible.len() == self.fleet.len();
        self.some.clear();
        for &Eligible { position, in_flight_requests } in eligible {
            let Some(view) = self.fleet.get_mut(position as usize) else {
                continue;
            };
            view.in_flight_requests = in_flight_requests;
            view.prefix_match_bytes = prompt.map(|_| self.matches[view.id.0 as usize]);
            view.prefix_match_tokens = None;
            if self.needs.estimates {
                view.prefix_match_tokens = view.prefix_match_bytes.and_then(|bytes| request.tokens_in(bytes));
                self.ledger.show_estimates(now, view);
            }
            if self.needs.server_loads {
                self.ledger.show_load(now, view);
            }
            if !self.all_eligible {
                self.some.push(*view);
            }
        }
    }

    /// What the policy said last.
    pub fn decision(&self) -> &Decision {
        &self.decision
    }

    /// What the policy saw last: those who were eligible, before its choice.
    pub fn views(&self) -> &[WorkerView] {
        if self.all_eligible { &self.fleet } else { &self.some }
    }

    /// What somebody else finds by [`Chooser::show_also`]: by slot, how many leading bytes of the routing text and of the engine
    /// text were found there; nothing of a text that nobody asks for.
    pub fn watched_matches(&self) -> [&[u64]; 2] {
        self.watched_matches.each_ref().map(Vec::as_slice)
    }

    /// Which worker was sent which prompt: engine text if any policy needs it, else routing text.
    pub fn index(&self) -> &PrefixIndex {
        self.beliefs.engine_index().unwrap_or(self.beliefs.routing_index())
    }

    /// What the workers are believed to hold.
    pub fn beliefs(&self) -> &Beliefs {
        &self.beliefs
    }
}

impl fmt::Debug for Chooser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let policies: Vec<_> = self.policies.iter().map(|policy| policy.name()).collect();
        f.debug_struct("Chooser")
            .field("policies", &policies)
            .field("fleet", &self.fleet)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prefix::PromptHashes;
    use crate::registry::{PolicyConfig, build};

    const NOW: Time = Time { us: 5 };

    fn chooser(policy: &str, workers: u32) -> Chooser {
        let policy = build(policy, &PolicyConfig::default()).expect("listed");
        let mut chooser = Chooser::new(policy, PrefixIndex::new(1 << 20));
        for id in 0..workers {
            chooser.join(NOW, Joining { id: WorkerId(id), url_hash: u64::from(id), priority: 50 });
        }
        chooser
    }

    fn idle(positions: &[u32]) -> Vec<Eligible> {
        positions.iter().map(|&position| Eligible { position, in_flight_requests: 0 }).collect()
    }

    #[test]
    fn the_index_returned_is_one_among_the_eligible_and_views_are_theirs() {
        let mut chooser = chooser("shortest_queue", 4);
        let eligible =
            [(1, 5), (3, 2)].map(|(position, in_flight_requests)| Eligible { position, in_flight_requests });
        let chosen = chooser.choose(NOW, PolicyId::default(), &RequestView::default(), &eligible);
        assert_eq!(chosen, Some(1));
        let seen: Vec<_> = chooser.views().iter().map(|view| (view.id, view.in_flight_requests)).collect();
        assert_eq!(seen, [(WorkerId(1), 5), (WorkerId(3), 2)]);
        assert_eq!(chooser.choose(NOW, PolicyId::default(), &RequestView::default(), &[]), None);
    }

    #[test]
    fn a_choice_is_remembered_by_turn_whoever_was_eligible() {
        let mut chooser = chooser("shortest_queue", 3);
        let mut ask = |positions: &[u32]| {
            let chosen = chooser.choose(NOW, PolicyId::default(), &RequestView::default(), &idle(positions));
            positions[chosen.expect("somebody")]
        };
        assert_eq!([ask(&[0, 1, 2]), ask(&[0, 2]), ask(&[0, 1, 2]), ask(&[0, 1, 2])], [0, 2, 1, 0]);
    }

    #[test]
    fn views_are_those_before_the_choice_and_hold_what_somebody_else_asks_for() {
        let mut chooser = chooser("shortest_queue", 2);
        let prompt = PromptHashes::of(&[b'x'; 200]);
        let request = RequestView { prompt: Some(&prompt), prompt_bytes: 200, ..RequestView::default() };
        let mut seen = || {
            chooser.choose(NOW, PolicyId::default(), &request, &idle(&[0, 1]));
            let views = chooser.views();
            views.iter().map(|view| (view.last_chosen_seq, view.prefix_match_bytes)).collect::<Vec<_>>()
        };
        assert_eq!(seen(), [(0, None), (0, None)]);
        assert_eq!(seen(), [(1, None), (0, None)]);
        chooser.show_also(Needs { prefix_match: true, ..Needs::default() });
        chooser.choose(NOW, PolicyId::default(), &request, &idle(&[0, 1]));
        assert_eq!(chooser.watched_matches(), [&[0, 0][..], &[]]);
        chooser.choose(NOW, PolicyId::default(), &request, &idle(&[0, 1]));
        assert_eq!(chooser.watched_matches(), [&[200, 0][..], &[]]);
        assert!(
            chooser.views().iter().all(|view| view.prefix_match_bytes.is_none()),
            "the policy does not ask"
        );
    }

    #[test]
    fn whoever_stays_moves_up_and_a_slot_that_is_taken_again_knows_nothing() {
        let mut chooser = chooser("round_robin", 3);
        chooser.leave(NOW, WorkerId(1));
        chooser.choose(NOW, PolicyId::default(), &RequestView::default(), &idle(&[0, 1]));
        let places: Vec<_> = chooser.views().iter().map(|view| (view.id.0, view.position)).collect();
        assert_eq!(places, [(0, 0), (2, 1)]);
        chooser.join(NOW, Joining { id: WorkerId(1), url_hash: 9, priority: 1 });
        chooser.choose(NOW, PolicyId::default(), &RequestView::default(), &idle(&[0, 1, 2]));
        let last = chooser.views()[2];
        assert_eq!(
            (last.id, last.position, last.url_hash, last.priority, last.last_chosen_seq),
            (WorkerId(1), 2, 9, 1, 0)
        );
    }

    /// Chooses whoever has the label that the request's model names, else the one with the highest priority.
    struct ByLabel;

    impl Policy for ByLabel {
        fn name(&self) -> &'static str {
            "by_label"
        }

        fn choose(&mut self, _: Time, request: &RequestView<'_>, workers: &Workers<'_>, out: &mut Decision) {
            let labelled = (0..workers.len())
                .find(|i| workers.labels(*i).get("model").map(String::as_str) == request.model);
            let first =
                workers.iter().enumerate().max_by_key(|(_, worker)| worker.priority).map(|(index, _)| index);
            out.choose(labelled.or(first).unwrap_or(0), "label");
        }
    }

    #[test]
    fn what_an_operator_says_of_a_worker_reaches_the_policies_and_goes_with_it() {
        let mut chooser = Chooser::new(Box::new(ByLabel), PrefixIndex::new(1 << 20));
        for id in 0..3 {
            chooser.join(NOW, Joining { id: WorkerId(id), url_hash: u64::from(id), priority: 50 });
        }
        chooser.describe(WorkerId(1), 90, Arc::default());
        chooser.describe(WorkerId(2), 50, Arc::new(Labels::from([("model".into(), "m".into())])));
        chooser.describe(WorkerId(7), 99, Arc::default());
        let ask = |chooser: &mut Chooser, model, positions: &[u32]| {
            let request = RequestView { model: Some(model), ..RequestView::default() };
            chooser.choose(NOW, PolicyId::default(), &request, &idle(positions)).map(|i| positions[i])
        };
        assert_eq!(ask(&mut chooser, "m", &[0, 1, 2]), Some(2));
        assert_eq!(ask(&mut chooser, "m", &[1, 2]), Some(2), "found by slot where not all are eligible");
        assert_eq!(ask(&mut chooser, "x", &[0, 1, 2]), Some(1));
        chooser.leave(NOW, WorkerId(2));
        chooser.join(NOW, Joining { id: WorkerId(2), url_hash: 9, priority: 50 });
        assert_eq!(
            ask(&mut chooser, "m", &[0, 1, 2]),
            Some(1),
            "whoever comes into the slot has its own labels"
        );
    }

    #[test]
    fn a_policy_that_is_added_or_put_in_anothers_place_is_told_of_the_workers() {
        let mut chooser = chooser("round_robin", 2);
        let ring = || build("consistent_hashing", &PolicyConfig::default()).expect("listed");
        let id = chooser.add_policy(NOW, ring());
        assert_eq!(
            (chooser.policy_named("consistent_hashing"), chooser.policy_named("bucket")),
            (Some(id), None)
        );
        let keyed = RequestView { routing_key: Some("k"), ..RequestView::default() };
        let first = chooser.choose(NOW, id, &keyed, &idle(&[0, 1]));
        assert!(first.is_some());
        chooser.replace_policy(NOW, PolicyId::default(), ring());
        assert_eq!(chooser.choose(NOW, PolicyId::default(), &keyed, &idle(&[0, 1])), first);
    }
}
