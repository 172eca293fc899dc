//! Which server is spoken to, and in which shape: `--backend`.
//!
//! Rule: names, paths and ports are `bench_serving`'s. What other servers are asked and answer was read in their sources, which
//! [`Shape`] names. Deliberately not here: request bodies (`body`) and what answers mean ([`crate::wire`]).

use crate::wire::Endpoint;

/// A server, and which of its endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// `sglang`, `sglang-native`.
    #[default]
    Native,
    /// `sglang-oai`.
    Completions,
    /// `sglang-oai-chat`.
    Chat,
    /// `vllm`.
    Vllm,
    /// `vllm-chat`.
    VllmChat,
    /// `lmdeploy`.
    Lmdeploy,
    /// `lmdeploy-chat`.
    LmdeployChat,
    /// `trt`: `TensorRT-LLM` behind Triton.
    Triton,
}

/// What requests and answers look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// SGLang's own `/generate`.
    Native,
    /// `OpenAI`'s completions. vLLM's client (`vllm/benchmarks/lib/endpoint_request_func.py`) asks the same, with a
    /// `repetition_penalty` of 1 and `logprobs` of null besides; `LMDeploy` has the fields in
    /// `lmdeploy/serve/openai/protocol.py`. Both tell the counts in a last event without choices
    /// (`lmdeploy/serve/openai/endpoints/completions.py`); an older `LMDeploy` tells them in every event, so far.
    Completions,
    /// `OpenAI`'s chat. The length is asked for by `max_tokens`, which is out of date and which all of them know: an older
    /// `LMDeploy` passes over the `max_completion_tokens` that vLLM's client sends, and goes on to the end of its context.
    Chat,
    /// Triton's generate extension (`docs/protocol/extension_generate.md` of `triton-inference-server/server`) before
    /// `TensorRT-LLM`'s ensemble, whose inputs are in `inflight_batcher_llm/ensemble/config.pbtxt` of `tensorrtllm_backend` and, of
    /// later versions, of `NVIDIA/TensorRT-LLM`. What is none of its inputs is passed over, as is `accumulate_tokens`, which all
    /// clients send and only the model `tensorrt_llm_bls` has, as a setting of its own: an event brings a piece of text.
    Triton,
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Native,
        Self::Completions,
        Self::Chat,
        Self::Vllm,
        Self::VllmChat,
        Self::Lmdeploy,
        Self::LmdeployChat,
        Self::Triton,
    ];

    /// The name as in `--backend`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "sglang",
            Self::Completions => "sglang-oai",
            Self::Chat => "sglang-oai-chat",
            Self::Vllm => "vllm",
            Self::VllmChat => "vllm-chat",
            Self::Lmdeploy => "lmdeploy",
            Self::LmdeployChat => "lmdeploy-chat",
            Self::Triton => "trt",
        }
    }

    /// What requests and answers look like.
    pub fn shape(self) -> Shape {
        match self {
            Self::Native => Shape::Native,
            Self::Completions | Self::Vllm | Self::Lmdeploy => Shape::Completions,
            Self::Chat | Self::VllmChat | Self::LmdeployChat => Shape::Chat,
            Self::Triton => Shape::Triton,
        }
    }

    /// Path of the endpoint; Triton has one for streams and one for whole answers.
    pub fn path(self, stream: bool) -> &'static str {
        match (self.shape(), stream) {
            (Shape::Native, _) => "/generate",
            (Shape::Completions, _) => "/v1/completions",
            (Shape::Chat, _) => "/v1/chat/completions",
            (Shape::Triton, true) => "/v2/models/ensemble/generate_stream",
            (Shape::Triton, false) => "/v2/models/ensemble/generate",
        }
    }

    /// How the answers are read.
    pub fn endpoint(self) -> Endpoint {
        match self.shape() {
            Shape::Native => Endpoint::Generate,
            Shape::Completions => Endpoint::Completions,
            Shape::Chat => Endpoint::Chat,
            Shape::Triton => Endpoint::Triton,
        }
    }

    /// Token ids can be sent as the prompt.
    pub fn takes_tokens(self) -> bool {
        self.shape() == Shape::Native
    }

    /// Requests name a model.
    pub fn names_model(self) -> bool {
        matches!(self.shape(), Shape::Completions | Shape::Chat)
    }

    /// It is an SGLang server, or a router before some: it can be asked what it is, and may tell times of its own.
    pub fn is_sglang(self) -> bool {
        matches!(self, Self::Native | Self::Completions | Self::Chat)
    }

    /// Where such a server listens if nobody says otherwise.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Native | Self::Completions | Self::Chat => 30000,
            Self::Vllm | Self::VllmChat | Self::Triton => 8000,
            Self::Lmdeploy | Self::LmdeployChat => 23333,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_read_as_what_it_is() {
        for backend in Backend::ALL.into_iter().filter(|b| b.shape() != Shape::Triton) {
            assert_eq!(Endpoint::of_path(backend.path(true)), backend.endpoint(), "{}", backend.name());
            assert_eq!(backend.path(true), backend.path(false));
        }
    }
}
