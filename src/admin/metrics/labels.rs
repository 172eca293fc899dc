//! Label values: each from a set that has an end.
//!
//! Rule: nothing that a client sends can make more series than these tables have places; what finds none is `other`.
//! Finding a place takes no lock and no hash. The router's own paths are those of its table. Deliberately not here: the
//! numbers (`counts`), workers (their series go when they go).

use std::sync::OnceLock;

use crate::admin::table;
use crate::wire::Endpoint;

/// What has no place of its own.
pub(super) const OTHER: &str = "other";
/// Longest value kept; a longer one is `other`.
const MAX_VALUE_BYTES: usize = 128;

/// Methods with a place; sglang-router's, with its word for the rest.
pub(super) const METHODS: [&str; 8] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "OTHER"];

/// Paths with a place that are a worker's. The first three are those of [`Endpoint`], at its numbers.
const PASSED: [&str; 22] = [
    "/generate",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/classify",
    "/v1/score",
    "/v1/messages",
    "/v1/tokenize",
    "/v1/detokenize",
    "/v1/conversations",
    "/v1/audio/transcriptions",
    "/classify",
    "/detokenize",
    "/encode",
    "/get_load",
    "/get_weights_by_name",
    "/metrics",
    "/open_session",
    "/rerank",
    "/tokenize",
];

/// What stands before an id, and the label of all such paths.
const WITH_ID: [(&str, &str); 3] = [
    ("/v1/responses/", "/v1/responses/{id}"),
    ("/v1/conversations/", "/v1/conversations/{id}"),
    ("/v1/models/", "/v1/models/{id}"),
];

/// Number of the first path of the router's own; the others follow in the order of its table.
const OWN: usize = PASSED.len();
/// Number of the first path with an id.
const IDS: usize = OWN + table::WHOLE.len();
/// Paths with a place, [`OTHER`] as the last of them included.
pub(super) const PATHS: usize = IDS + WITH_ID.len() + 1;

/// The path of a number.
pub(super) fn path_label(index: usize) -> &'static str {
    match index {
        ..OWN => PASSED[index],
        OWN..IDS => table::WHOLE[index - OWN].path,
        _ => WITH_ID.get(index - IDS).map_or(OTHER, |(_, label)| label),
    }
}

/// Endpoints, each at its own number; sglang-router's words.
pub(super) const ENDPOINTS: [&str; 8] =
    ["generate", "chat", "completions", "responses", "embeddings", "rerank", "classify", OTHER];

/// Number of a method.
pub(super) fn method_index(method: &str) -> usize {
    METHODS.iter().position(|m| *m == method).unwrap_or(METHODS.len() - 1)
}

/// Number of a path.
pub(super) fn path_index(endpoint: Endpoint, path: &str) -> usize {
    match endpoint {
        Endpoint::Generate => return 0,
        Endpoint::Chat => return 1,
        Endpoint::Completions => return 2,
        _ => {}
    }
    // A worker's page counts as the list of them.
    let own = if path.starts_with("/workers/") { "/workers" } else { path };
    let own = || table::place(own).map(|at| OWN + at);
    let with_id = || {
        let has = |(before, _): &(&str, _)| path.strip_prefix(*before).is_some_and(|id| !id.is_empty());
        WITH_ID.iter().position(has).map(|at| IDS + at)
    };
    PASSED.iter().position(|p| *p == path).or_else(own).or_else(with_id).unwrap_or(PATHS - 1)
}

/// Number of an endpoint.
pub(super) fn endpoint_index(endpoint: Endpoint) -> usize {
    match endpoint {
        Endpoint::Generate => 0,
        Endpoint::Chat => 1,
        Endpoint::Completions => 2,
        Endpoint::Responses => 3,
        Endpoint::Embeddings => 4,
        Endpoint::Rerank => 5,
        Endpoint::Classify => 6,
        Endpoint::Triton | Endpoint::Other => 7,
    }
}

/// The first `N` distinct words of a kind, each with a number for good; all others share the number `N`.
#[derive(Debug)]
pub(super) struct Names<const N: usize>([OnceLock<Box<str>>; N]);

impl<const N: usize> Names<N> {
    pub(super) fn new() -> Self {
        Self([const { OnceLock::new() }; N])
    }

    /// The number of a word, given out at its first use.
    pub(super) fn index(&self, word: &str) -> usize {
        if word.len() > MAX_VALUE_BYTES {
            return N;
        }
        // Whoever comes first fills a place; whoever meets it filled by another word goes on to the next.
        self.0.iter().position(|place| &**place.get_or_init(|| word.into()) == word).unwrap_or(N)
    }

    /// The word of a number, [`OTHER`] for `N`; `None` where none has come yet.
    pub(super) fn word(&self, index: usize) -> Option<&str> {
        match self.0.get(index) {
            Some(place) => place.get().map(|word| &**word),
            None => Some(OTHER),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_path_finds_its_own_place_and_no_other_one() {
        for i in 0..PATHS - 1 {
            let path = path_label(i);
            assert_eq!(path_index(Endpoint::of_path(path), path), i, "{path}");
        }
        let of = |path| path_label(path_index(Endpoint::of_path(path), path));
        assert_eq!(of("/v1/responses/resp_1/cancel"), "/v1/responses/{id}");
        assert_eq!(of("/workers/0-1"), "/workers");
        assert_eq!(
            ["/v1/loads", "/slow_down"].map(of),
            ["/v1/loads", "/slow_down"],
            "all of the router's own"
        );
        for path in ["", "/", "/v1/responses/", "/workersx", "/generate/", "/healthz", "*"] {
            assert_eq!(of(path), OTHER, "{path}");
        }
    }

    #[test]
    fn places_run_out_and_words_stay() {
        let names = Names::<2>::new();
        assert_eq!(["a", "b", "c", "a", "d"].map(|w| names.index(w)), [0, 1, 2, 0, 2]);
        assert_eq!([0, 1, 2].map(|i| names.word(i)), [Some("a"), Some("b"), Some(OTHER)]);
        let fresh = Names::<2>::new();
        assert_eq!((fresh.index(&"x".repeat(129)), fresh.word(0)), (2, None));
    }
}
