//! Memory for bodies, all together: of requests, and of answers that are read at their end.
//!
//! Rule: memory is reserved as bytes arrive, not as they are announced, and given back when the value is dropped.
//! Deliberately not here: the limit of one body.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A limit on the bytes held at one time.
#[derive(Debug)]
pub struct Budget {
    limit_bytes: u64,
    used_bytes: AtomicU64,
}

/// Bytes reserved from a [`Budget`].
#[derive(Debug)]
pub struct Reserved {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Budget {
    /// A budget of `limit_bytes`.
    pub fn new(limit_bytes: u64) -> Arc<Self> {
        Arc::new(Self { limit_bytes, used_bytes: AtomicU64::new(0) })
    }

    /// Nothing yet, to be grown.
    pub fn reserve(self: &Arc<Self>) -> Reserved {
        Reserved { budget: Arc::clone(self), bytes: 0 }
    }

    /// Bytes held now.
    pub fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }
}

impl Reserved {
    /// Adds `bytes`; `false` if the budget is spent, in which case nothing was added.
    #[must_use]
    pub fn grow(&mut self, bytes: u64) -> bool {
        let used = self.budget.used_bytes.fetch_add(bytes, Ordering::Relaxed);
        if used + bytes > self.budget.limit_bytes {
            self.budget.used_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes += bytes;
        true
    }

    /// As [`Self::grow`], to so many in all.
    #[must_use]
    pub fn grow_to(&mut self, bytes: u64) -> bool {
        bytes <= self.bytes || self.grow(bytes - self.bytes)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.budget.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_a_limit_and_comes_back() {
        let budget = Budget::new(100);
        let (mut a, mut b) = (budget.reserve(), budget.reserve());
        assert!(a.grow(60) && !b.grow(41) && b.grow(40));
        assert_eq!(budget.used_bytes(), 100);
        drop((a, b));
        assert_eq!(budget.used_bytes(), 0);
    }
}
