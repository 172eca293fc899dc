//! Label values: each from a set that has an end.
//!
//! Rule: nothing that a client sends can make more series than these tables have places; what finds none is `other`.
//! Finding a place takes no lock and no hash. Deliberately not here: the numbers (`counts`), workers (their series go when
//! they go).

use std::sync::OnceLock;

use crate::wire::Endpoint;

/// What has no place of its own.
pub(super) const OTHER: &str = "other";
/// Longest value kept; a longer one is `other`.
const MAX_VALUE_BYTES: usize = 128;

/// Methods with a place; sglang-router's, with its word for the rest.
pub(super) const METHODS: [&str; 8] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "OTHER"];

/// Paths with a place, [`OTHER`] last. The first three are those of [`Endpoint`], at its numbers.
pub(super) const PATHS: [&str; 59] = [
    "/generate",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/classify",
    "/v1/models",
    "/v1/score",
    "/v1/messages",
    "/v1/tokenize",
    "/v1/detokenize",
    "/v1/loads",
    "/v1/conversations",
    "/v1/audio/transcriptions",
    "/abort_request",
    "/add_worker",
    "/classify",
    "/continue_generation",
    "/destroy_weights_update_group",
    "/detokenize",
    "/encode",
    "/engine_metrics",
    "/flush_cache",
    "/get_load",
    "/get_loads",
    "/get_model_info",
    "/get_server_info",
    "/get_weights_by_name",
    "/health",
    "/health_generate",
    "/init_weights_update_group",
    "/list_workers",
    "/liveness",
    "/load_lora_adapter",
    "/metrics",
    "/milepost/trace",
    "/model_info",
    "/pause_generation",
    "/readiness",
    "/release_memory_occupation",
    "/remove_worker",
    "/rerank",
    "/resume_memory_occupation",
    "/server_info",
    "/set_internal_state",
    "/start_profile",
    "/stop_profile",
    "/tokenize",
    "/unload_lora_adapter",
    "/update_weight_version",
    "/update_weights_from_disk",
    "/update_weights_from_distributed",
    "/update_weights_from_tensor",
    "/v1/responses/{id}",
    "/v1/conversations/{id}",
    "/v1/models/{id}",
    "/workers",
    OTHER,
];

/// Where the sorted part of [`PATHS`] begins and ends.
const SORTED: std::ops::Range<usize> = 15..54;

/// What stands before an id in a path, and the path's number.
const WITH_ID: [(&str, usize); 3] = [("/v1/responses/", 54), ("/v1/conversations/", 55), ("/v1/models/", 56)];

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
    let listed = PATHS[SORTED].binary_search(&path).ok().map(|i| SORTED.start + i);
    let other = PATHS.len() - 1;
    let listed = listed.or_else(|| PATHS[3..SORTED.start].iter().position(|p| *p == path).map(|i| 3 + i));
    listed.unwrap_or_else(|| {
        if path == "/workers" || path.starts_with("/workers/") {
            return other - 1;
        }
        let with_id =
            WITH_ID.iter().find(|(before, _)| path.strip_prefix(before).is_some_and(|id| !id.is_empty()));
        with_id.map_or(other, |(_, at)| *at)
    })
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
        Endpoint::Other => 7,
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
        assert!(PATHS[SORTED].is_sorted(), "a binary search needs that");
        for (i, path) in PATHS[..PATHS.len() - 1].iter().enumerate() {
            assert_eq!(path_index(Endpoint::of_path(path), path), i, "{path}");
        }
        let of = |path| PATHS[path_index(Endpoint::of_path(path), path)];
        assert_eq!(of("/v1/responses/resp_1/cancel"), "/v1/responses/{id}");
        assert_eq!(of("/workers/0-1"), "/workers");
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
