//! Workers' labels as a script sees them.
//!
//! Rule: made once for as long as an operator says nothing new, as that is text and a decision has no time for it. Deliberately
//! not here: labels of workers that are not shown.

use rhai::{Dynamic, Map};

use crate::view::{Labels, Workers};

/// A map for each place among the workers shown.
#[derive(Debug, Default)]
pub(super) struct LabelMaps {
    /// The script names them.
    wanted: bool,
    kept: Vec<(Labels, Dynamic)>,
    /// Of a script that does not ask.
    none: Dynamic,
}

impl LabelMaps {
    pub(super) fn new(wanted: bool) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// How many labels a script is shown.
    pub(super) fn count(&self, workers: &Workers<'_>) -> usize {
        if self.wanted { (0..workers.len()).map(|index| workers.labels(index).len()).sum() } else { 0 }
    }

    /// The labels of the worker at `index`; `()` if the script does not name them.
    pub(super) fn at(&mut self, workers: &Workers<'_>, index: usize) -> &Dynamic {
        if !self.wanted {
            return &self.none;
        }
        let labels = workers.labels(index);
        if self.kept.len() <= index {
            self.kept.resize_with(index + 1, || (Labels::new(), Dynamic::from_map(Map::new())));
        }
        let (known, map) = &mut self.kept[index];
        if known != labels {
            *known = labels.clone();
            let entries = labels.iter().map(|(name, value)| (name.as_str().into(), value.into()));
            *map = Dynamic::from_map(entries.collect());
        }
        map
    }
}
