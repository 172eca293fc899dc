//! How a fleet treats its workers.
//!
//! Rule: values that were checked where flags are read. Deliberately not here: who the workers are.

use milepost_policies::{PolicyConfig, PrefixIndex};

use super::health::HealthConfig;
use super::loads::LoadConfig;
use crate::config::TraceDecisions;
use crate::config::resilience::BreakerConfig;

/// Bytes that each prefix index may take, that of routing text and that of engine text where a policy wants one: about 10 GB of
/// unique prompt text at 256-byte blocks.
const INDEX_BYTES: usize = 512 * 1024 * 1024;

/// How a fleet treats its workers.
#[derive(Clone, Debug)]
pub struct FleetConfig {
    /// Health checks.
    pub health: HealthConfig,
    /// Questions to servers about their load.
    pub loads: LoadConfig,
    /// The circuit breaker of each worker.
    pub breaker: BreakerConfig,
    /// Each server is expanded into its data-parallel ranks.
    pub dp_aware: bool,
    /// Workers that such an expansion may lead to.
    pub max_workers: usize,
    /// Text that a worker is believed to hold at most, in bytes; `None`: the prefix index is bounded as a whole alone.
    pub worker_prefix_bytes: Option<u64>,
    /// What is told of each decision.
    pub decisions: TraceDecisions,
    /// What the policies are built with; a journal says it.
    pub policy_config: PolicyConfig,
}

impl FleetConfig {
    pub(super) fn prefix_index(&self) -> PrefixIndex {
        match self.worker_prefix_bytes {
            Some(worker_bytes) => PrefixIndex::with_worker_capacity(INDEX_BYTES, worker_bytes),
            None => PrefixIndex::new(INDEX_BYTES),
        }
    }
}

impl From<HealthConfig> for FleetConfig {
    /// No server is expanded.
    fn from(health: HealthConfig) -> Self {
        Self {
            health,
            loads: LoadConfig::default(),
            breaker: BreakerConfig::default(),
            dp_aware: false,
            max_workers: usize::MAX,
            worker_prefix_bytes: None,
            decisions: TraceDecisions::default(),
            policy_config: PolicyConfig::default(),
        }
    }
}
