//! Text without a tokenizer: an estimate of the tokens in a text, and text of about so many tokens.
//!
//! Rule: these numbers plan a run, they never report one; reports use the servers' own counts. Deliberately not here: a
//! tokenizer (each model has another; the servers have theirs).

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::DatasetError;

/// Frequent English words, each one token (with the space before it) in the vocabularies of the common byte-pair encoders.
const WORDS: [&str; 128] = [
    "time",
    "year",
    "people",
    "way",
    "day",
    "man",
    "thing",
    "woman",
    "life",
    "child",
    "world",
    "school",
    "state",
    "family",
    "student",
    "group",
    "country",
    "problem",
    "hand",
    "part",
    "place",
    "case",
    "week",
    "company",
    "system",
    "program",
    "question",
    "work",
    "government",
    "number",
    "night",
    "point",
    "home",
    "water",
    "room",
    "mother",
    "area",
    "money",
    "story",
    "fact",
    "month",
    "lot",
    "right",
    "study",
    "book",
    "eye",
    "job",
    "word",
    "business",
    "issue",
    "side",
    "kind",
    "head",
    "house",
    "service",
    "friend",
    "father",
    "power",
    "hour",
    "game",
    "line",
    "end",
    "member",
    "law",
    "car",
    "city",
    "community",
    "name",
    "president",
    "team",
    "minute",
    "idea",
    "kid",
    "body",
    "information",
    "back",
    "parent",
    "face",
    "others",
    "level",
    "office",
    "door",
    "health",
    "person",
    "art",
    "war",
    "history",
    "party",
    "result",
    "change",
    "morning",
    "reason",
    "research",
    "girl",
    "guy",
    "moment",
    "air",
    "teacher",
    "force",
    "education",
    "foot",
    "boy",
    "age",
    "policy",
    "music",
    "process",
    "market",
    "sense",
    "nation",
    "plan",
    "college",
    "interest",
    "death",
    "experience",
    "effect",
    "use",
    "class",
    "control",
    "care",
    "field",
    "development",
    "role",
    "effort",
    "rate",
    "heart",
    "drug",
    "show",
    "leader",
];

/// Tokens in a text, roughly: a run of ASCII letters or digits counts one for each begun 6 characters, every other visible
/// character one. English words have 4 to 5 letters and mostly one token; a CJK character mostly one.
pub fn approximate_tokens(text: &str) -> u64 {
    let mut tokens = 0_u64;
    let mut run = 0_u64;
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            if run.is_multiple_of(6) {
                tokens += 1;
            }
            run += 1;
        } else {
            run = 0;
            tokens += u64::from(!c.is_whitespace());
        }
    }
    tokens
}

/// Bytes of random words that are held at most: all prompts of a run, as they are made before it.
const MOST_HELD_BYTES: u64 = 8_000_000_000;
/// Bytes of a random word with its space, on the average.
const WORD_BYTES: u64 = 6;

/// Refuses prompts that would fill the memory. `words`: of all of them at most; `flags`: what makes them fewer.
pub(super) fn check_held(words: u64, flags: &str) -> Result<(), DatasetError> {
    let bytes = words.saturating_mul(WORD_BYTES);
    if bytes <= MOST_HELD_BYTES {
        return Ok(());
    }
    let (gb, most_gb) = (bytes as f64 / 1e9, MOST_HELD_BYTES / 1_000_000_000);
    Err(DatasetError::new(format!(
        "all prompts together are up to {words} words, some {gb:.0} GB, and are held in memory: at most {most_gb} GB; give a smaller {flags}"
    )))
}

/// The word of this number, counted round and round.
pub(super) fn word(number: usize) -> &'static str {
    WORDS[number % WORDS.len()]
}

/// `count` words: about as many tokens, one more where the server adds a beginning-of-text token.
pub(super) fn random_words(rng: &mut ChaCha8Rng, count: u64) -> String {
    let mut text = String::with_capacity(count as usize * 7);
    for i in 0..count {
        if i > 0 {
            text.push(' ');
        }
        text.push_str(WORDS[rng.random_range(0..WORDS.len())]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn words_and_cjk_and_white_space() {
        assert_eq!(approximate_tokens(""), 0);
        assert_eq!(approximate_tokens(" \n\t"), 0);
        assert_eq!(approximate_tokens("Hello world"), 2);
        assert_eq!(approximate_tokens("Hello, world!"), 4);
        assert_eq!(approximate_tokens("你好世界"), 4);
        assert_eq!(approximate_tokens("internationalisation"), 4);
    }

    #[test]
    fn random_words_have_the_length_asked_for() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for count in [0, 1, 7, 300] {
            assert_eq!(random_words(&mut rng, count).split_whitespace().count() as u64, count);
        }
    }

    #[test]
    fn no_word_is_there_twice() {
        let all: std::collections::BTreeSet<_> = WORDS.iter().collect();
        assert_eq!(all.len(), WORDS.len());
    }
}
