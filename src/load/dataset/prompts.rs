//! The prompts of a run: listed, or drawn again whenever one is asked for.
//!
//! Rule: prompts that follow from a seed are not held, so that ten million of them take 8 bytes each; what a file said is. Drawn
//! prompts are no sessions and have no ids of their own. Deliberately not here: how a prompt is drawn (`random`), the order of
//! sessions (`sessions`).

use std::borrow::Cow;

use super::random::Draws;
use super::{After, Prompt, sessions};
use crate::load::schedule::Wait;

/// All prompts, in the order in which they are sent.
#[derive(Clone, Debug)]
pub enum Prompts {
    /// Held.
    Listed(Vec<Prompt>),
    /// Made when they are asked for.
    Drawn(Draws),
}

impl From<Vec<Prompt>> for Prompts {
    fn from(prompts: Vec<Prompt>) -> Self {
        Self::Listed(prompts)
    }
}

impl Prompts {
    /// How many.
    pub fn len(&self) -> usize {
        match self {
            Self::Listed(prompts) => prompts.len(),
            Self::Drawn(draws) => draws.len(),
        }
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One of them.
    pub fn get(&self, index: usize) -> Cow<'_, Prompt> {
        match self {
            Self::Listed(prompts) => Cow::Borrowed(&prompts[index]),
            Self::Drawn(draws) => Cow::Owned(draws.at(index)),
        }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Cow<'_, Prompt>> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// Those that are held: only they may wait for others, or have ids.
    pub fn listed(&self) -> &[Prompt] {
        match self {
            Self::Listed(prompts) => prompts,
            Self::Drawn(_) => &[],
        }
    }

    /// The same, to be changed.
    pub fn listed_mut(&mut self) -> &mut [Prompt] {
        match self {
            Self::Listed(prompts) => prompts,
            Self::Drawn(_) => &mut [],
        }
    }

    /// The id that the data set gives to one.
    pub fn id(&self, index: usize) -> Option<&str> {
        self.listed().get(index)?.id.as_deref()
    }

    /// What one waits for.
    pub fn after(&self, index: usize) -> Option<&After> {
        self.listed().get(index)?.after()
    }

    /// What the user says in one, where a later turn says it again.
    pub fn question(&self, index: usize) -> Option<&String> {
        self.listed().get(index)?.question()
    }

    /// How many have a due time of their own.
    pub fn starts(&self) -> usize {
        match self {
            Self::Listed(prompts) => sessions::starts(prompts),
            Self::Drawn(draws) => draws.len(),
        }
    }

    /// The first `most` with due times of their own, then the turns that follow from them.
    #[must_use]
    pub fn arranged(self, most: usize) -> Self {
        match self {
            Self::Listed(prompts) => Self::Listed(sessions::arrange(prompts, most)),
            Self::Drawn(draws) => Self::Drawn(draws.first(most)),
        }
    }

    /// What each waits for that waits, in order.
    pub fn waits(&self) -> Vec<Wait> {
        sessions::waits(self.listed())
    }
}
