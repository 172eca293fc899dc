//! The tree of characters of sglang-router 0.3.2: which worker was sent which text, in one tree for all of them.
//!
//! Rule: a node is a piece of text with the workers (tenants) that were sent it, each with the number of its last use, and one
//! of them cached: the one for which the node was made. The cached one answers for the node while it holds it, whoever else came
//! later, which is why a hot prefix stays where it was first. The unit is the Unicode character.
//!
//! - An insert numbers the use of its last node alone; those on the way that are new to the tenant have number 0.
//! - A match numbers the use of the node found, for the cached tenant, once in eight numbers.
//! - An eviction takes leaves (of a tenant: no child has it too), the lowest number first, until the tenant is within its size,
//!   and nothing is bounded until the next one.
//!
//! A text is shared by its pieces, so that cutting one copies nothing. Deliberately not here: locks, when to evict.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::ops::Range;
use std::sync::Arc;

/// Stands for a worker's URL.
pub type Tenant = u64;

const ROOT: usize = 0;

/// See the module.
#[derive(Debug)]
pub struct Tree {
    nodes: Vec<Node>,
    free: Vec<usize>,
    chars: BTreeMap<Tenant, usize>,
    uses: u64,
}

#[derive(Debug, Default)]
struct Node {
    text: Arc<str>,
    range: Range<usize>,
    chars: usize,
    parent: usize,
    children: BTreeMap<char, usize>,
    /// With the number of the last use.
    tenants: Vec<(Tenant, u64)>,
    cached: Option<Tenant>,
}

/// What [`Tree::longest_match`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Characters from the beginning that are in the tree.
    pub matched_chars: usize,
    /// Characters of the text asked for.
    pub text_chars: usize,
    /// Who answers for the deepest node.
    pub holder: Option<Tenant>,
}

impl Default for Tree {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new(), chars: BTreeMap::new(), uses: 0 }
    }
}

impl Node {
    fn text(&self) -> &str {
        &self.text[self.range.clone()]
    }

    fn holds(&self, tenant: Tenant) -> bool {
        self.tenants.iter().any(|(other, _)| *other == tenant)
    }

    fn used(&mut self, tenant: Tenant, number: u64) {
        match self.tenants.iter_mut().find(|(other, _)| *other == tenant) {
            Some((_, last)) => *last = number,
            None => self.tenants.push((tenant, number)),
        }
    }
}

impl Tree {
    /// `text` was sent to `tenant`.
    pub fn insert(&mut self, text: &str, tenant: Tenant) {
        self.chars.entry(tenant).or_insert(0);
        if !self.nodes[ROOT].holds(tenant) {
            self.nodes[ROOT].used(tenant, 0);
        }
        let (mut at, mut node) = (0, ROOT);
        while let Some(first) = text[at..].chars().next() {
            let Some(&child) = self.nodes[node].children.get(&first) else {
                self.add_leaf(node, &text[at..], tenant);
                return;
            };
            let shared = shared_bytes(&text[at..], self.nodes[child].text());
            if shared < self.nodes[child].range.len() {
                self.cut(child, shared);
            }
            if !self.nodes[child].holds(tenant) {
                *self.chars.entry(tenant).or_insert(0) += self.nodes[child].chars;
                self.nodes[child].used(tenant, 0);
            }
            (at, node) = (at + shared, child);
        }
        let number = self.number();
        self.nodes[node].used(tenant, number);
    }

    fn number(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    fn add_leaf(&mut self, parent: usize, text: &str, tenant: Tenant) {
        let (number, chars) = (self.number(), text.chars().count());
        *self.chars.entry(tenant).or_insert(0) += chars;
        let leaf = self.place(Node {
            text: text.into(),
            range: 0..text.len(),
            chars,
            parent,
            children: BTreeMap::new(),
            tenants: vec![(tenant, number)],
            cached: Some(tenant),
        });
        let first = self.nodes[leaf].text().chars().next();
        first.and_then(|first| self.nodes[parent].children.insert(first, leaf));
    }

    fn place(&mut self, node: Node) -> usize {
        if let Some(place) = self.free.pop() {
            self.nodes[place] = node;
            return place;
        }
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Leaves the first `bytes` of a node where it is and puts the rest below it; both have the same tenants.
    fn cut(&mut self, head: usize, bytes: usize) {
        let node = &mut self.nodes[head];
        let middle = node.range.start + bytes;
        let tail_range = middle..node.range.end;
        let head_chars = node.text[node.range.start..middle].chars().count();
        let tail = Node {
            text: Arc::clone(&node.text),
            range: tail_range,
            chars: node.chars - head_chars,
            parent: head,
            children: std::mem::take(&mut node.children),
            tenants: node.tenants.clone(),
            cached: node.cached,
        };
        node.range.end = middle;
        node.chars = head_chars;
        let first = tail.text().chars().next();
        let below: Vec<usize> = tail.children.values().copied().collect();
        let tail = self.place(tail);
        for child in below {
            self.nodes[child].parent = tail;
        }
        first.and_then(|first| self.nodes[head].children.insert(first, tail));
    }

    /// How much of `text` anybody was sent, and who answers for it.
    pub fn longest_match(&mut self, text: &str) -> Found {
        let (mut at, mut node) = (0, ROOT);
        while let Some(&child) = text[at..].chars().next().and_then(|c| self.nodes[node].children.get(&c)) {
            let shared = shared_bytes(&text[at..], self.nodes[child].text());
            (at, node) = (at + shared, child);
            if shared < self.nodes[child].range.len() {
                break;
            }
        }
        let number = self.number();
        let found = &mut self.nodes[node];
        let cached = found.cached.filter(|&tenant| found.holds(tenant));
        let holder = cached.or_else(|| found.tenants.first().map(|(tenant, _)| *tenant));
        found.cached = holder;
        if let (0, Some(holder)) = (number % 8, holder) {
            found.used(holder, number);
        }
        let matched_chars = text[..at].chars().count();
        Found { matched_chars, text_chars: matched_chars + text[at..].chars().count(), holder }
    }

    /// Forgets everything about `tenant`, by a walk over the whole tree.
    pub fn remove_tenant(&mut self, tenant: Tenant) {
        self.chars.remove(&tenant);
        let mut stack = vec![ROOT];
        let mut order = Vec::new();
        while let Some(node) = stack.pop() {
            order.push(node);
            stack.extend(self.nodes[node].children.values().copied());
        }
        // Children before their parents, so that what is empty goes from below.
        for node in order.into_iter().rev() {
            self.nodes[node].tenants.retain(|(other, _)| *other != tenant);
            self.drop_if_empty(node);
        }
    }

    fn drop_if_empty(&mut self, node: usize) {
        let gone = &self.nodes[node];
        if node == ROOT || !gone.tenants.is_empty() || !gone.children.is_empty() {
            return;
        }
        let (parent, first) = (gone.parent, gone.text().chars().next());
        first.and_then(|first| self.nodes[parent].children.remove(&first));
        self.nodes[node] = Node::default();
        self.free.push(node);
    }

    /// Takes leaves from every tenant that has more than `max_chars` until it has not.
    pub fn evict(&mut self, max_chars: usize) {
        if self.chars.values().all(|&chars| chars <= max_chars) {
            return;
        }
        let mut leaves = BinaryHeap::new();
        let mut stack = vec![ROOT];
        while let Some(node) = stack.pop() {
            stack.extend(self.nodes[node].children.values().copied());
            let tenants = self.nodes[node].tenants.iter();
            leaves.extend(
                tenants
                    .filter(|(tenant, _)| node != ROOT && self.is_leaf(node, *tenant))
                    .map(|&(tenant, number)| Reverse((number, tenant, node))),
            );
        }
        while let Some(Reverse((_, tenant, node))) = leaves.pop() {
            let held = self.chars.get_mut(&tenant).filter(|held| **held > max_chars);
            let Some(held) = held else {
                continue;
            };
            *held = held.saturating_sub(self.nodes[node].chars);
            let parent = self.nodes[node].parent;
            self.nodes[node].tenants.retain(|(other, _)| *other != tenant);
            self.drop_if_empty(node);
            if parent != ROOT
                && self.is_leaf(parent, tenant)
                && let Some(&(_, number)) = self.nodes[parent].tenants.iter().find(|(t, _)| *t == tenant)
            {
                leaves.push(Reverse((number, tenant, parent)));
            }
        }
    }

    fn is_leaf(&self, node: usize, tenant: Tenant) -> bool {
        let node = &self.nodes[node];
        node.holds(tenant) && !node.children.values().any(|&child| self.nodes[child].holds(tenant))
    }

    /// Characters that `tenant` is believed to hold.
    pub fn chars_of(&self, tenant: Tenant) -> usize {
        self.chars.get(&tenant).copied().unwrap_or(0)
    }
}

/// Length of what two texts have in common from the beginning, in bytes and whole characters.
fn shared_bytes(one: &str, other: &str) -> usize {
    let (one_bytes, other_bytes) = (one.as_bytes(), other.as_bytes());
    let most = one_bytes.len().min(other_bytes.len());
    // Long runs are equal or not as a whole, which is quicker than byte by byte.
    let mut at = 0;
    while at + 256 <= most && one_bytes[at..at + 256] == other_bytes[at..at + 256] {
        at += 256;
    }
    let alike = one_bytes[at..most].iter().zip(&other_bytes[at..most]).take_while(|(a, b)| a == b).count();
    let mut end = at + alike;
    while !one.is_char_boundary(end) || !other.is_char_boundary(end) {
        end -= 1;
    }
    end
}
