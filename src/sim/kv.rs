//! The prefix cache: a radix tree over token runs with a lock count and least-recently-used eviction of leaves, as SGLang's
//! `RadixCache` with page size 1.
//!
//! Rule: a locked node (a running request uses it) and every node above it stay; `tokens()` is always the sum of all runs.
//! Deliberately not here: the capacity and the tokens that requests hold privately (`engine`), and tiers below the GPU.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::Token;

/// A node of the tree; valid while it is locked or until the next eviction.
pub type NodeId = usize;

/// The empty prefix; always there.
pub const ROOT: NodeId = 0;

/// Tokens compared at once.
const STRETCH: usize = 64;

#[derive(Debug, Default)]
struct Node {
    parent: NodeId,
    children: BTreeMap<Token, NodeId>,
    run: Vec<Token>,
    locks: u32,
    last_used: u64,
}

/// The tree.
#[derive(Debug)]
pub struct PrefixCache {
    nodes: Vec<Node>,
    unused: Vec<NodeId>,
    /// Unlocked leaves by last use: the order of eviction.
    evictable_leaves: BTreeSet<(u64, NodeId)>,
    tick: u64,
    tokens: u64,
    evictable_tokens: u64,
}

impl Default for PrefixCache {
    fn default() -> Self {
        Self {
            nodes: vec![Node::default()],
            unused: Vec::new(),
            evictable_leaves: BTreeSet::new(),
            tick: 0,
            tokens: 0,
            evictable_tokens: 0,
        }
    }
}

impl PrefixCache {
    /// Tokens in the tree.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Tokens that eviction could free now.
    pub fn evictable_tokens(&self) -> u64 {
        self.evictable_tokens
    }

    /// The longest cached prefix of `tokens`: its length and the node that ends it. Counts as a use.
    pub fn find(&mut self, tokens: &[Token]) -> (usize, NodeId) {
        self.tick += 1;
        let (mut at, mut node) = (0, ROOT);
        while let Some(&child) = tokens.get(at).and_then(|first| self.nodes[node].children.get(first)) {
            let shared = shared_len(&self.nodes[child].run, &tokens[at..]);
            let reached =
                if shared < self.nodes[child].run.len() { self.split(child, shared) } else { child };
            self.touch(reached);
            at += shared;
            node = reached;
            if reached != child {
                break;
            }
        }
        (at, node)
    }

    /// Adds `tokens`; gives the node that ends them and how many of them were new.
    pub fn insert(&mut self, tokens: &[Token]) -> (NodeId, u64) {
        let (known, node) = self.find(tokens);
        let rest = &tokens[known..];
        let Some(&first) = rest.first() else {
            return (node, 0);
        };
        let fresh = Node { parent: node, run: rest.to_vec(), last_used: self.tick, ..Node::default() };
        let id = self.unused.pop().unwrap_or(self.nodes.len());
        if id == self.nodes.len() {
            self.nodes.push(fresh);
        } else {
            self.nodes[id] = fresh;
        }
        self.unlist(node);
        self.nodes[node].children.insert(first, id);
        self.list(id);
        self.tokens += rest.len() as u64;
        self.evictable_tokens += rest.len() as u64;
        (id, rest.len() as u64)
    }

    /// Keeps `node` and everything above it.
    pub fn lock(&mut self, node: NodeId) {
        let mut at = node;
        while at != ROOT {
            self.unlist(at);
            if self.nodes[at].locks == 0 {
                self.evictable_tokens -= self.nodes[at].run.len() as u64;
            }
            self.nodes[at].locks += 1;
            at = self.nodes[at].parent;
        }
    }

    /// Undoes one `lock` of the same node.
    pub fn unlock(&mut self, node: NodeId) {
        let mut at = node;
        while at != ROOT {
            self.nodes[at].locks -= 1;
            if self.nodes[at].locks == 0 {
                self.evictable_tokens += self.nodes[at].run.len() as u64;
                self.list(at);
            }
            at = self.nodes[at].parent;
        }
    }

    /// Frees at least `wanted` tokens if that many are evictable, whole leaves at a time, least recently used first; gives how
    /// many were freed.
    pub fn evict(&mut self, wanted: u64) -> u64 {
        let mut freed = 0;
        while freed < wanted {
            let Some((_, leaf)) = self.evictable_leaves.pop_first() else {
                break;
            };
            let node = std::mem::take(&mut self.nodes[leaf]);
            freed += node.run.len() as u64;
            self.nodes[node.parent].children.remove(&node.run[0]);
            self.list(node.parent);
            self.unused.push(leaf);
        }
        self.tokens -= freed;
        self.evictable_tokens -= freed;
        freed
    }

    /// Cuts `node` after `at` tokens; the upper half is new and gets its id, so locks on `node` stay right.
    fn split(&mut self, node: NodeId, at: usize) -> NodeId {
        let lower_run = self.nodes[node].run.split_off(at);
        let upper_run = std::mem::replace(&mut self.nodes[node].run, lower_run);
        let (parent, locks, last_used) =
            (self.nodes[node].parent, self.nodes[node].locks, self.nodes[node].last_used);
        let upper = self.unused.pop().unwrap_or(self.nodes.len());
        let (upper_first, lower_first) = (upper_run[0], self.nodes[node].run[0]);
        let children = BTreeMap::from([(lower_first, node)]);
        let fresh = Node { parent, children, run: upper_run, locks, last_used };
        if upper == self.nodes.len() {
            self.nodes.push(fresh);
        } else {
            self.nodes[upper] = fresh;
        }
        self.nodes[parent].children.insert(upper_first, upper);
        self.nodes[node].parent = upper;
        upper
    }

    fn touch(&mut self, node: NodeId) {
        self.unlist(node);
        self.nodes[node].last_used = self.tick;
        self.list(node);
    }

    fn unlist(&mut self, node: NodeId) {
        self.evictable_leaves.remove(&(self.nodes[node].last_used, node));
    }

    fn list(&mut self, node: NodeId) {
        let n = &self.nodes[node];
        if node != ROOT && n.locks == 0 && n.children.is_empty() {
            self.evictable_leaves.insert((n.last_used, node));
        }
    }
}

fn shared_len(a: &[Token], b: &[Token]) -> usize {
    // A stretch at a time is one comparison of memory; most of a long run is the same.
    let stretches = a.chunks_exact(STRETCH).zip(b.chunks_exact(STRETCH));
    let whole = stretches.take_while(|(x, y)| x == y).count() * STRETCH;
    whole + a[whole..].iter().zip(&b[whole..]).take_while(|(x, y)| x == y).count()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_prefix_is_found_to_the_token() {
        let mut cache = PrefixCache::default();
        assert_eq!(cache.insert(&[1, 2, 3, 4, 5]).1, 5);
        assert_eq!(cache.insert(&[1, 2, 3, 9]).1, 1);
        assert_eq!(cache.find(&[1, 2, 3, 9, 9]).0, 4);
        assert_eq!(cache.find(&[1, 2, 7]).0, 2);
        assert_eq!(cache.find(&[7]).0, 0);
        assert_eq!(cache.tokens(), 6);
    }

    #[test]
    fn the_least_recently_used_leaf_goes_first_and_a_locked_one_stays() {
        let mut cache = PrefixCache::default();
        let (a, _) = cache.insert(&[1, 1, 1]);
        cache.insert(&[2, 2, 2]);
        cache.insert(&[3, 3, 3]);
        cache.lock(a);
        cache.find(&[2, 2, 2]);
        assert_eq!(cache.evict(1), 3);
        assert_eq!(cache.find(&[3, 3, 3]).0, 0, "oldest unlocked");
        assert_eq!(cache.evict(100), 3);
        assert_eq!(cache.find(&[1, 1, 1]).0, 3, "locked");
        cache.unlock(a);
        assert_eq!(cache.evict(100), 3);
        assert_eq!((cache.tokens(), cache.evictable_tokens()), (0, 0));
    }

    #[test]
    fn a_lock_survives_a_split_of_its_node() {
        let mut cache = PrefixCache::default();
        let (a, _) = cache.insert(&[1, 2, 3, 4]);
        cache.lock(a);
        cache.insert(&[1, 2, 9]);
        assert_eq!(cache.evict(100), 1, "only the new branch");
        cache.unlock(a);
        assert_eq!(cache.evict(100), 4);
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_prefixes(runs in prop::collection::vec(prop::collection::vec(0u32..3, 1..12), 1..30)) {
            let mut cache = PrefixCache::default();
            let mut prefixes: BTreeSet<Vec<Token>> = BTreeSet::new();
            for run in &runs {
                let expected = (0..=run.len()).rev().find(|n| *n == 0 || prefixes.contains(&run[..*n])).unwrap_or(0);
                prop_assert_eq!(cache.find(run).0, expected);
                cache.insert(run);
                prefixes.extend((1..=run.len()).map(|n| run[..n].to_vec()));
                prop_assert_eq!(cache.tokens(), prefixes.len() as u64);
                prop_assert_eq!(cache.evictable_tokens(), cache.tokens());
            }
            prop_assert_eq!(cache.evict(u64::MAX), prefixes.len() as u64);
        }
    }
}
