//! `--split`: an experiment on live traffic, as arms with weights, and which of them a session is in.
//!
//! Rule: the arm is a function of the session's name and the weights alone, so it is the same after a restart and in every
//! router; where only the weights change, as few sessions as possible change theirs. Deliberately not here: what a session's
//! name is (`proxy::routing`), the policies.

use std::fmt;

use milepost_policies::salted_hash;

/// Most arms of one experiment: each is a series of every metric by arm.
pub const MAX_ARMS: usize = 16;
/// Other than that of the rings, or a session's arm would tell which worker it gets.
const SALT: u64 = 0x0073_706c_6974;

/// One arm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arm {
    /// Its policy, whose name is the arm's too.
    pub policy: String,
    /// Its part of the sum of all weights.
    pub weight: u32,
}

/// Two arms or more, each with a policy of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    arms: Vec<Arm>,
}

/// Why a text is no split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SplitError {
    /// The part of the text that is wrong.
    pub part: String,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for SplitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part, self.why)
    }
}

impl std::error::Error for SplitError {}

impl Split {
    /// Reads `cache_aware=50,shortest_queue=50`. Whether there are such policies is not asked here.
    pub fn parse(text: &str) -> Result<Self, SplitError> {
        let error = |part: &str, why: String| SplitError { part: part.to_owned(), why };
        let mut arms: Vec<Arm> = Vec::new();
        for part in text.split(',') {
            let part = part.trim();
            // The last sign: a weight has none.
            let (policy, weight) = part
                .rsplit_once('=')
                .filter(|(policy, _)| !policy.trim().is_empty())
                .ok_or_else(|| error(part, "expected POLICY=WEIGHT".to_owned()))?;
            let policy = policy.trim();
            let weight = weight.trim().parse().ok().filter(|weight| *weight > 0).ok_or_else(|| {
                error(part, format!("expected a whole number of 1 or more ({} at most)", u32::MAX))
            })?;
            if arms.iter().any(|arm| arm.policy == policy) {
                return Err(error(part, format!("{policy} has an arm already")));
            }
            arms.push(Arm { policy: policy.to_owned(), weight });
        }
        match arms.len() {
            2..=MAX_ARMS => Ok(Self { arms }),
            1 => Err(error(text, "expected two arms or more; for one policy there is --policy".to_owned())),
            many => Err(error(text, format!("expected at most {MAX_ARMS} arms, got {many}"))),
        }
    }

    /// The arms, in the order in which they were given.
    pub fn arms(&self) -> &[Arm] {
        &self.arms
    }

    /// Place of the arm that this session is in.
    pub fn arm_of(&self, session: &[u8]) -> usize {
        let sum: u64 = self.arms.iter().map(|arm| u64::from(arm.weight)).sum();
        // As far into the sum as the hash is into all hashes: with 1 and 1 the same as with 50 and 50.
        let point = (u128::from(salted_hash(session, SALT)) * u128::from(sum)) >> 64;
        let mut end = 0;
        let place = self.arms.iter().position(|arm| {
            end += u128::from(arm.weight);
            point < end
        });
        place.unwrap_or(self.arms.len() - 1)
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Arm { policy, weight }) in self.arms.iter().enumerate() {
            write!(f, "{}{policy}={weight}", if i == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(text: &str, sessions: u32) -> Vec<u32> {
        let split = Split::parse(text).unwrap();
        let mut counts = vec![0; split.arms().len()];
        for n in 0..sessions {
            counts[split.arm_of(format!("session-{n}").as_bytes())] += 1;
        }
        counts
    }

    /// The normal approximation of the binomial, 4 standard deviations: one table in 15,000 would fail, and this one is fixed.
    #[test]
    fn each_arm_gets_its_share_of_two_thousand_sessions() {
        for (text, parts) in [
            ("a=50,b=50", &[0.5, 0.5][..]),
            ("a=9,b=1", &[0.9, 0.1]),
            ("a=1,b=2,c=3", &[1.0 / 6.0, 1.0 / 3.0, 0.5]),
        ] {
            for (count, part) in shares(text, 2_000).into_iter().zip(parts) {
                let mean: f64 = 2_000.0 * part;
                let deviation = (mean * (1.0 - part)).sqrt();
                assert!((f64::from(count) - mean).abs() <= 4.0 * deviation, "{text}: {count} of {mean}");
            }
        }
    }

    #[test]
    fn the_arm_hangs_on_the_name_and_the_proportion_alone() {
        let arm = |text: &str, session: &str| Split::parse(text).unwrap().arm_of(session.as_bytes());
        let sessions = (0..200).map(|n| format!("user {n}"));
        for session in sessions {
            assert_eq!(arm("a=1,b=1", &session), arm(" a = 50 , b = 50 ", &session));
            // Of a longer first arm nobody leaves it.
            assert!(arm("a=80,b=20", &session) <= arm("a=50,b=50", &session));
        }
        // Over restarts, versions and routers.
        let drawn: Vec<usize> = ["", "a", "session-1", "0b9c"].iter().map(|s| arm("a=1,b=1", s)).collect();
        assert_eq!(drawn, [0, 1, 0, 1]);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_part() {
        let said = |text: &str| Split::parse(text).unwrap_err().to_string();
        assert_eq!(said("a=1,b=-3"), "b=-3: expected a whole number of 1 or more (4294967295 at most)");
        assert_eq!(said("a=1,b=0"), "b=0: expected a whole number of 1 or more (4294967295 at most)");
        assert_eq!(said("a=1,b=0.5"), "b=0.5: expected a whole number of 1 or more (4294967295 at most)");
        assert_eq!(said("a=1,b"), "b: expected POLICY=WEIGHT");
        assert_eq!(said("a=1,"), ": expected POLICY=WEIGHT");
        assert_eq!(said("=1,b=1"), "=1: expected POLICY=WEIGHT");
        assert_eq!(said("a=1,a=2"), "a=2: a has an arm already");
        assert_eq!(said("a=1"), "a=1: expected two arms or more; for one policy there is --policy");
        let many: Vec<String> = (0..17).map(|n| format!("p{n}=1")).collect();
        assert!(said(&many.join(",")).ends_with(": expected at most 16 arms, got 17"));
        assert_eq!(Split::parse("script:a=b.rhai=3,c=1").unwrap().arms()[0].policy, "script:a=b.rhai");
        assert_eq!(Split::parse(" a = 2 , b = 1 ").unwrap().to_string(), "a=2,b=1");
    }
}
