//! `cache_aware` of sglang-router 0.3.2.
//!
//! Rule: loads are compared over those available; both balance thresholds and the match rate are strict; the least loaded is the
//! first in the list; the match is of the deepest node of the tree, whoever holds it, and its one cached holder gets the request.
//! A holder that is not available is wiped from the tree, and the request goes to the first that is, without being remembered.
//! Numbers are single precision, as there. Deliberately not here: the tree.

use milepost_policies::{PolicyConfig, Time};

use super::{Choice, Tree, Worker};

/// What its command line sets.
#[derive(Clone, Copy, Debug)]
pub struct Thresholds {
    /// `--cache-threshold`.
    pub cache: f32,
    /// `--balance-abs-threshold`.
    pub balance_abs: u64,
    /// `--balance-rel-threshold`.
    pub balance_rel: f32,
    /// `--eviction-interval-secs` in microseconds.
    pub eviction_interval_us: u64,
    /// `--max-tree-size`, characters a worker.
    pub max_tree_chars: usize,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            cache: 0.3,
            balance_abs: 64,
            balance_rel: 1.5,
            eviction_interval_us: 60_000_000,
            max_tree_chars: 1 << 26,
        }
    }
}

impl From<&PolicyConfig> for Thresholds {
    /// Those of our policy, and the defaults for the tree.
    fn from(config: &PolicyConfig) -> Self {
        Self {
            cache: config.cache_threshold as f32,
            balance_abs: config.balance_abs_threshold,
            balance_rel: config.balance_rel_threshold as f32,
            ..Self::default()
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct CacheAware {
    thresholds: Thresholds,
    /// What was sent where.
    pub tree: Tree,
    next_eviction: Time,
}

impl CacheAware {
    /// Nothing was sent yet. Evictions are due from time 0 on.
    pub fn new(thresholds: Thresholds) -> Self {
        let next_eviction = Time { us: thresholds.eviction_interval_us };
        Self { thresholds, tree: Tree::default(), next_eviction }
    }

    pub(super) fn choose(
        &mut self,
        now: Time,
        text: &str,
        workers: &[Worker],
        available: &[usize],
    ) -> Choice {
        self.evict_if_due(now);
        let load = |index: usize| workers[index].load;
        // The first of the least, as `min_by_key` gives it.
        let least_loaded = available.iter().copied().min_by_key(|&index| load(index)).unwrap_or(0);
        let most = available.iter().map(|&index| load(index)).max().unwrap_or(0);
        let fewest = load(least_loaded);
        if most - fewest > self.thresholds.balance_abs
            && most as f32 > fewest as f32 * self.thresholds.balance_rel
        {
            self.tree.insert(text, workers[least_loaded].url);
            return Choice { index: least_loaded, branch: "imbalanced" };
        }
        let found = self.tree.longest_match(text);
        let rate = if text.is_empty() { 0.0 } else { found.matched_chars as f32 / found.text_chars as f32 };
        let (holder, branch) = if rate > self.thresholds.cache {
            (found.holder, "prefix_hit")
        } else {
            (Some(workers[least_loaded].url), "prefix_miss")
        };
        if let Some(index) = available.iter().copied().find(|&index| Some(workers[index].url) == holder) {
            self.tree.insert(text, workers[index].url);
            return Choice { index, branch };
        }
        if let Some(holder) = holder {
            self.tree.remove_tenant(holder);
        }
        Choice { index: available[0], branch: "holder_gone" }
    }

    fn evict_if_due(&mut self, now: Time) {
        let interval_us = self.thresholds.eviction_interval_us;
        if interval_us == 0 || now < self.next_eviction {
            return;
        }
        self.tree.evict(self.thresholds.max_tree_chars);
        // One wake-up for all that was slept through.
        self.next_eviction.us += (now.us - self.next_eviction.us) / interval_us * interval_us + interval_us;
    }
}
