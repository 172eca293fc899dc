//! The faithful mode of `cache_aware` against a port of sglang-router 0.3.2: the same branch, the same choice.
//!
//! Rule: both are asked about the same request in the same state, 10,000 times; the port's choice is what both remember. What
//! may differ is stated here and nothing else may: among equally loaded workers, and among holders of the same match, the port
//! takes the first and ours the least recently chosen of the least loaded; a match is in whole blocks with us, so that one which
//! is above the threshold by less than a block is left out and counted; a holder that is not available makes the port wipe it.
//! Deliberately not here: evictions, which are at other times in the two.

#[path = "../benches/sglang_router_032/mod.rs"]
mod sglang_router_032;

use milepost_policies::prefix::{LARGE_BLOCK_BYTES, SMALL_BLOCK_BYTES, SMALL_REGION_BYTES};
use milepost_policies::{
    Decision, Policy, PolicyConfig, PrefixIndex, PromptHashes, RequestView, Time, WorkerId, WorkerView,
    Workers, build,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sglang_router_032::{Choice, Port032, Thresholds, Worker};

const CASES: usize = 10_000;
const CASES_OF_A_WORLD: usize = 25;

/// How the texts of a world are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Texts {
    /// Texts that differ at the ends of blocks alone: both measure the same.
    WholeBlocks,
    /// Texts that differ anywhere and have any length.
    Any,
}

/// What became of the cases.
#[derive(Debug, Default)]
struct Tally {
    same: usize,
    tied: usize,
    near_threshold: usize,
    holder_gone: usize,
    imbalanced: usize,
    hits: usize,
    misses: usize,
}

impl Tally {
    fn compared(&self) -> usize {
        self.same + self.tied
    }
}

/// A fleet, its history, and both routers' view of it.
struct World {
    rng: ChaCha8Rng,
    kind: Texts,
    config: PolicyConfig,
    ours: Box<dyn Policy>,
    port: Port032,
    index: PrefixIndex,
    views: Vec<WorkerView>,
    /// What each worker was sent.
    sent: Vec<Vec<String>>,
    choices: u64,
}

impl World {
    fn new(seed: u64, kind: Texts) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let config = PolicyConfig {
            cache_threshold: [0.0, 0.3, 0.3, 0.5, 0.9, 1.0][rng.random_range(0..6)],
            balance_abs_threshold: [0, 2, 8, 64][rng.random_range(0..4)],
            balance_rel_threshold: [1.0, 1.5, 1.5, 3.0][rng.random_range(0..4)],
            ..PolicyConfig::default()
        };
        let workers = rng.random_range(1..=8u32);
        Self {
            ours: build("cache_aware", &config).expect("built in"),
            port: Port032::named("cache_aware", seed, Thresholds::from(&config)).expect("ported"),
            index: PrefixIndex::new(1 << 20),
            views: (0..workers)
                .map(|id| WorkerView { id: WorkerId(id), position: id, ..WorkerView::default() })
                .collect(),
            sent: vec![Vec::new(); workers as usize],
            choices: 0,
            rng,
            kind,
            config,
        }
    }

    /// A text that begins like one sent before, or like none.
    fn text(&mut self) -> String {
        let known: Vec<&String> = self.sent.iter().flatten().collect();
        let begin = if known.is_empty() || self.rng.random_bool(0.15) {
            ""
        } else {
            known[self.rng.random_range(0..known.len())]
        };
        let begin = begin.to_owned();
        if self.rng.random_bool(0.02) {
            return String::new();
        }
        match self.kind {
            Texts::WholeBlocks => self.whole_blocks(&begin),
            Texts::Any => {
                let kept = self.rng.random_range(0..=begin.len());
                let most = [30, 500, 5_000][self.rng.random_range(0..3)];
                let more = self.rng.random_range(0..=most);
                let tail = (0..more).map(|_| self.rng.random_range(b'a'..=b'd') as char);
                begin[..kept].chars().chain(tail).collect()
            }
        }
    }

    /// Some first blocks of `begin` and some new ones, each of one letter.
    fn whole_blocks(&mut self, begin: &str) -> String {
        let blocks =
            (1..=begin.len() / SMALL_BLOCK_BYTES).take_while(|&n| block_start(n) <= begin.len()).count();
        let kept = self.rng.random_range(0..=blocks);
        let most = [4, 80][self.rng.random_range(0..2)];
        let more = self.rng.random_range(1..=most);
        let mut text = begin[..block_start(kept)].to_owned();
        for block in kept..kept + more {
            let letter = self.rng.random_range(b'a'..=b'f') as char;
            text.extend(std::iter::repeat_n(letter, block_start(block + 1) - block_start(block)));
        }
        text
    }

    /// Loads of the kind that take every branch.
    fn load(&mut self) {
        let most = [1, 3, 20, 200][self.rng.random_range(0..4)];
        for view in &mut self.views {
            view.in_flight_requests = self.rng.random_range(0..=most);
        }
    }

    /// One case.
    fn ask(&mut self, tally: &mut Tally) {
        let text = self.text();
        self.load();
        let away = self.rng.random_bool(0.1).then(|| self.rng.random_range(0..self.views.len()));
        let away = away.filter(|_| self.views.len() > 1);
        let prompt = PromptHashes::of(text.as_bytes());
        let mut matched = vec![0; self.views.len()];
        self.index.match_into(&prompt, &mut matched);
        for (view, bytes) in self.views.iter_mut().zip(&matched) {
            view.prefix_match_bytes = (!text.is_empty()).then_some(*bytes);
        }
        let workers: Vec<Worker> = (0..).zip(&self.views).map(|(at, view)| shown(at, view, away)).collect();
        let theirs = self.port.choose(Time::default(), &text, &workers).expect("somebody is there");
        let ours = self.our_choice(&text, &prompt, away);
        self.compare(&text, &matched, away, (theirs, ours), tally);
        self.remember(&text, &prompt, away, theirs);
    }

    /// Index among all workers, and the branch by the port's names.
    fn our_choice(&mut self, text: &str, prompt: &PromptHashes, away: Option<usize>) -> Choice {
        let here: Vec<usize> = (0..self.views.len()).filter(|&index| Some(index) != away).collect();
        let views: Vec<WorkerView> = here.iter().map(|&index| self.views[index]).collect();
        let request = RequestView {
            seq: self.choices,
            prompt: Some(prompt),
            prompt_bytes: text.len() as u64,
            ..RequestView::default()
        };
        let mut decision = Decision::default();
        decision.clear(views.len());
        self.ours.choose(Time::default(), &request, &Workers::new(&views).expect("not empty"), &mut decision);
        let branch = if decision.reason() == "no_text" { "prefix_miss" } else { decision.reason() };
        Choice { index: here[decision.chosen().expect("chose")], branch }
    }

    fn compare(
        &self,
        text: &str,
        matched: &[u64],
        away: Option<usize>,
        (theirs, ours): (Choice, Choice),
        tally: &mut Tally,
    ) {
        let case = || format!("{theirs:?} {ours:?} away {away:?} {:?} {:?}", self.config, self.views);
        // The truth in bytes, which are characters here.
        let truth: Vec<usize> = self.sent.iter().map(|sent| longest_common(sent, text)).collect();
        let deepest = truth.iter().copied().max().unwrap_or(0);
        let block = if deepest > SMALL_REGION_BYTES { LARGE_BLOCK_BYTES } else { SMALL_BLOCK_BYTES };
        for (&truth, &matched) in truth.iter().zip(matched) {
            let lost = truth.checked_sub(matched as usize).expect("a match is sound");
            assert!(
                if self.kind == Texts::WholeBlocks { lost == 0 } else { lost < block },
                "{lost} {}",
                case()
            );
        }
        if theirs.branch == "holder_gone" {
            assert!(away.is_some() && ours.branch.starts_with("prefix_"), "{}", case());
            tally.holder_gone += 1;
            return;
        }
        let above = |bytes: usize| bytes as f64 / text.len().max(1) as f64 > self.config.cache_threshold;
        let in_blocks = matched.iter().copied().max().unwrap_or(0) as usize;
        if above(deepest) && !above(in_blocks) && theirs.branch == "prefix_hit" {
            assert_eq!((self.kind, ours.branch), (Texts::Any, "prefix_miss"), "{}", case());
            tally.near_threshold += 1;
            return;
        }
        assert_eq!(theirs.branch, ours.branch, "{}", case());
        let here = (0..self.views.len()).filter(|&index| Some(index) != away);
        let alike: Vec<usize> = if ours.branch == "prefix_hit" {
            tally.hits += 1;
            here.filter(|&index| truth[index] + block > deepest).collect()
        } else {
            let load = |&index: &usize| self.views[index].in_flight_requests;
            let fewest = here.clone().map(|index| load(&index)).min();
            *if ours.branch == "imbalanced" { &mut tally.imbalanced } else { &mut tally.misses } += 1;
            here.filter(|index| Some(load(index)) == fewest).collect()
        };
        assert!(alike.contains(&theirs.index) && alike.contains(&ours.index), "{alike:?} {}", case());
        if theirs.index == ours.index {
            tally.same += 1;
        } else {
            tally.tied += 1;
            assert!(alike.len() > 1 && self.is_our_tie(&alike, matched, &ours), "{alike:?} {}", case());
        }
    }

    /// Ours took the least loaded, then the least recently chosen, of those alike.
    fn is_our_tie(&self, alike: &[usize], matched: &[u64], ours: &Choice) -> bool {
        let deepest = alike.iter().map(|&index| matched[index]).max();
        let counts = |index: &&usize| ours.branch != "prefix_hit" || Some(matched[**index]) == deepest;
        let key =
            |&&index: &&usize| (self.views[index].in_flight_requests, self.views[index].last_chosen_seq);
        alike.iter().filter(counts).min_by_key(key) == Some(&ours.index)
    }

    /// What the port did, it did; both know the same from here on.
    fn remember(&mut self, text: &str, prompt: &PromptHashes, away: Option<usize>, theirs: Choice) {
        self.choices += 1;
        if theirs.branch == "holder_gone" {
            let gone = away.expect("nobody else can be gone");
            self.index.remove_worker(WorkerId(gone as u32));
            self.sent[gone].clear();
            return;
        }
        self.views[theirs.index].last_chosen_seq = self.choices;
        self.index.insert(prompt, WorkerId(theirs.index as u32));
        self.sent[theirs.index].push(text.to_owned());
    }
}

fn shown(at: usize, view: &WorkerView, away: Option<usize>) -> Worker {
    Worker { url: at as u64, load: u64::from(view.in_flight_requests), available: Some(at) != away }
}

/// Where block `index` of any text begins.
fn block_start(index: usize) -> usize {
    let small = SMALL_REGION_BYTES / SMALL_BLOCK_BYTES;
    index.min(small) * SMALL_BLOCK_BYTES + index.saturating_sub(small) * LARGE_BLOCK_BYTES
}

fn longest_common(sent: &[String], text: &str) -> usize {
    let common = |other: &String| other.bytes().zip(text.bytes()).take_while(|(a, b)| a == b).count();
    sent.iter().map(common).max().unwrap_or(0)
}

fn compare(kind: Texts, seed: u64) -> Tally {
    let mut tally = Tally::default();
    for world in 0..2 * CASES / CASES_OF_A_WORLD {
        let mut world = World::new(seed + world as u64, kind);
        for _ in 0..CASES_OF_A_WORLD {
            if tally.compared() == CASES {
                return tally;
            }
            world.ask(&mut tally);
        }
    }
    panic!("too few cases could be compared: {tally:?}");
}

#[test]
fn ten_thousand_cases_of_whole_blocks_take_the_same_branch_and_choose_alike() {
    let tally = compare(Texts::WholeBlocks, 1);
    assert_eq!((tally.compared(), tally.near_threshold), (CASES, 0), "{tally:?}");
    assert!(tally.imbalanced > 500 && tally.hits > 500 && tally.misses > 500, "{tally:?}");
    assert!(tally.same > CASES / 2 && tally.holder_gone < CASES / 20, "{tally:?}");
}

#[test]
fn ten_thousand_cases_of_any_text_differ_within_a_block_of_the_threshold_alone() {
    let tally = compare(Texts::Any, 1_000_000);
    assert_eq!(tally.compared(), CASES, "{tally:?}");
    assert!(tally.imbalanced > 500 && tally.hits > 500 && tally.misses > 500, "{tally:?}");
    assert!((1..CASES / 10).contains(&tally.near_threshold), "{tally:?}");
}

fn cache_aware(max_tree_chars: usize) -> Port032 {
    let thresholds = Thresholds { max_tree_chars, ..Thresholds::default() };
    Port032::named("cache_aware", 0, thresholds).expect("ported")
}

fn idle(count: u64) -> Vec<Worker> {
    (0..count).map(|url| Worker { url, load: 0, available: true }).collect()
}

/// As seen live: twelve different prompts one after another all go to the first of two workers.
#[test]
fn the_port_has_the_cold_herd() {
    let mut port = cache_aware(1 << 26);
    for n in 0..12 {
        let choice = port.choose(Time::default(), &format!("{n} is a prompt of its own"), &idle(2));
        assert_eq!(choice, Some(Choice { index: 0, branch: "prefix_miss" }));
    }
}

/// The holder for which a node was made answers for it, also when others were sent the same.
#[test]
fn the_port_keeps_a_prefix_where_it_was_first_and_wipes_who_is_away() {
    let mut port = cache_aware(1 << 26);
    let mut workers = idle(2);
    let mut ask = |workers: &[Worker]| {
        let choice = port.choose(Time::default(), "a hot prompt", workers).expect("somebody");
        (choice.index, choice.branch)
    };
    assert_eq!(ask(&workers), (0, "prefix_miss"));
    workers[0].load = 65;
    assert_eq!(ask(&workers), (1, "imbalanced"));
    workers[0].load = 64;
    assert_eq!(ask(&workers), (0, "prefix_hit"));
    workers[0].available = false;
    assert_eq!(ask(&workers), (1, "holder_gone"));
    workers = idle(2);
    assert_eq!(ask(&workers), (1, "prefix_hit"));
}

#[test]
fn the_port_evicts_at_its_interval_and_not_before() {
    let mut port = cache_aware(1_000);
    let mut ask = |us: u64, text: &str| {
        let choice = port.choose(Time { us }, text, &idle(1)).expect("somebody");
        let Port032::CacheAware(policy) = &port else { unreachable!("made as such") };
        (choice.branch, policy.tree.chars_of(0))
    };
    for n in 0..50u8 {
        ask(u64::from(n), &char::from(b'0' + n).to_string().repeat(100));
    }
    assert_eq!(ask(59_999_999, &"0".repeat(100)), ("prefix_hit", 5_000));
    // The one used last stays, with nine of the others.
    assert_eq!(ask(60_000_000, &"0".repeat(100)), ("prefix_hit", 1_000));
    assert_eq!(ask(60_000_001, &"1".repeat(100)), ("prefix_miss", 1_100));
}

#[test]
fn the_port_counts_characters_and_cuts_between_them() {
    let mut port = cache_aware(1 << 26);
    // Three of ten characters match, which is not more than the threshold; of the bytes it would be. The fourth letters share
    // their first byte.
    let (one, other) = ("абвгдеёжзи", "абвжxxxxxx");
    assert_eq!(port.choose(Time::default(), one, &idle(1)).expect("somebody").branch, "prefix_miss");
    assert_eq!(port.choose(Time::default(), other, &idle(1)).expect("somebody").branch, "prefix_miss");
    let Port032::CacheAware(policy) = &mut port else { unreachable!("made as such") };
    let found = policy.tree.longest_match("абвжy");
    assert_eq!((found.matched_chars, found.text_chars, policy.tree.chars_of(0)), (4, 5, 17));
}

#[test]
fn of_the_ports_two_a_failed_poll_wins_and_without_polls_the_first() {
    let Some(Port032::PowerOfTwo(mut policy)) = Port032::named("power_of_two", 7, Thresholds::default())
    else {
        unreachable!("made as such")
    };
    policy.polled(0, Some(10));
    policy.polled(1, None);
    let mut port = Port032::PowerOfTwo(policy);
    let mut ask = || port.choose(Time::default(), "", &idle(2)).expect("somebody").index;
    assert!((0..50).all(|_| ask() == 1));
    let mut port = Port032::named("power_of_two", 7, Thresholds::default()).expect("ported");
    let busy = [Worker { url: 0, load: 90, available: true }, Worker { url: 1, load: 0, available: true }];
    let counts =
        (0..400).filter(|_| port.choose(Time::default(), "", &busy).expect("somebody").index == 0).count();
    assert!((150..250).contains(&counts), "loads do not count: {counts} of 400");
}

#[test]
fn the_ports_turns_go_by_those_available() {
    let mut port = Port032::named("round_robin", 0, Thresholds::default()).expect("ported");
    let mut workers = idle(3);
    let mut ask = |workers: &[Worker]| port.choose(Time::default(), "", workers).expect("somebody").index;
    assert_eq!([ask(&workers), ask(&workers)], [0, 1]);
    workers[0].available = false;
    assert_eq!([ask(&workers), ask(&workers), ask(&workers)], [1, 2, 1]);
}
