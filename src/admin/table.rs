//! Which paths are the router's own: one table of path, methods, access and what answers.
//!
//! Rule: whether a path is owned, who may ask and what is done are read from the same line, so they cannot disagree. The
//! table is searched for each request, so it is sorted by path. Deliberately not here: checking of keys (`proxy`), answers.
//!
//! What stays a worker's though it is no generation, because one worker's answer is the answer: `/get_weights_by_name`,
//! `/tokenize`, `/open_session`, `/v1/models/{name}`, and whatever is meant for one instance with an address of its own
//! (`/send_weights_to_remote_instance`, `/scale_elastic_ep`, `/pd_role_switch`).

use http::Method;

use crate::trace::record::RequestKind;

/// Who may ask for a path, in sglang-router's classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody: probes and descriptions.
    Public,
    /// Whoever has the `--api-key`; counted by the limits. Everything that goes to one worker.
    Proxied,
    /// Whoever may steer the fleet.
    Control,
}

/// What answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// 200 while the process runs.
    Alive,
    /// `probes::readiness`.
    Readiness,
    /// `workers`: all of them.
    Workers,
    /// `workers`: one of them.
    Worker,
    /// `legacy`: before 0.2.2.
    AddWorker,
    /// `legacy`.
    RemoveWorker,
    /// `legacy`.
    ListWorkers,
    /// `trace_tail`: the trace file.
    Trace,
    /// `capture`: what the last part of the path says.
    Capture,
    /// `live`: the page.
    LivePage,
    /// `live::fleet`.
    Fleet,
    /// `live::tail`.
    Requests,
    /// Under `/milepost/`, but nothing.
    Nothing,
    /// `describe`: the models of all workers.
    Models,
    /// `describe`: one engine's own answer.
    Info,
    /// `describe`: does any engine generate?
    HealthGenerate,
    /// `loads`: one number a worker.
    Loads,
    /// `loads`: each worker's own answer.
    EngineLoads,
    /// `engine_metrics`.
    EngineMetrics,
    /// `control`: sglang-router's shape.
    FlushCache,
    /// `control`: the request to every worker.
    Everywhere,
    /// `control`: to the worker that holds the request.
    Abort,
    /// `responses`: to all, as nobody knows which worker holds it.
    Response,
}

/// One path of the router's own.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The path, or what it begins with.
    pub path: &'static str,
    /// Methods, as in an `Allow` header.
    pub methods: &'static str,
    /// Who may ask.
    pub access: Access,
    /// What answers.
    pub handler: Handler,
}

impl Entry {
    /// True for a method in the list.
    pub fn takes(&self, method: &Method) -> bool {
        self.methods.split(", ").any(|m| m == method.as_str())
    }
}

impl Handler {
    /// What the trace says: did workers have to be asked?
    pub fn request_kind(self) -> RequestKind {
        match self {
            Self::Alive
            | Self::Readiness
            | Self::Workers
            | Self::Worker
            | Self::AddWorker
            | Self::RemoveWorker
            | Self::ListWorkers
            | Self::Trace
            | Self::Capture
            | Self::LivePage
            | Self::Fleet
            | Self::Requests
            | Self::Nothing => RequestKind::Local,
            _ => RequestKind::FanOut,
        }
    }
}

use self::Access::{Control, Proxied, Public};

const GET: &str = "GET, HEAD";
const POST: &str = "POST";
/// As the engines have it; a HEAD would do what nobody asked for.
const EITHER: &str = "GET, POST";

const fn entry(path: &'static str, methods: &'static str, access: Access, handler: Handler) -> Entry {
    Entry { path, methods, access, handler }
}

/// A control endpoint of the engines that is of use only if every worker does it.
const fn everywhere(path: &'static str, methods: &'static str) -> Entry {
    entry(path, methods, Control, Handler::Everywhere)
}

/// Whole paths, sorted.
pub(super) const WHOLE: &[Entry] = &[
    entry("/abort_request", POST, Control, Handler::Abort),
    everywhere("/add_external_corpus", POST),
    entry("/add_worker", EITHER, Control, Handler::AddWorker),
    everywhere("/begin_weight_update", POST),
    everywhere("/clear_hicache_storage_backend", EITHER),
    // A session is opened at one worker, which only that worker knows of when it is to be closed.
    everywhere("/close_session", EITHER),
    everywhere("/configure_logging", EITHER),
    everywhere("/continue_generation", POST),
    everywhere("/destroy_weights_update_group", POST),
    everywhere("/dump_expert_distribution_record", EITHER),
    everywhere("/end_weight_update", POST),
    entry("/engine_metrics", GET, Public, Handler::EngineMetrics),
    entry("/flush_cache", EITHER, Control, Handler::FlushCache),
    everywhere("/freeze_gc", EITHER),
    entry("/get_loads", GET, Control, Handler::Loads),
    entry("/get_model_info", GET, Public, Handler::Info),
    entry("/get_server_info", GET, Public, Handler::Info),
    entry("/health", GET, Public, Handler::Alive),
    entry("/health_generate", GET, Public, Handler::HealthGenerate),
    everywhere("/hicache/storage-backend", "GET, PUT, DELETE"),
    everywhere("/hicache/storage-backend/clear", POST),
    // The same body goes to all: of use with one worker, or where the engines tell their ranks apart themselves.
    everywhere("/init_weights_update_group", POST),
    entry("/list_workers", GET, Control, Handler::ListWorkers),
    entry("/liveness", GET, Public, Handler::Alive),
    everywhere("/load_lora_adapter", POST),
    everywhere("/load_lora_adapter_from_tensors", POST),
    entry("/milepost/fleet", GET, Control, Handler::Fleet),
    entry("/milepost/live", GET, Public, Handler::LivePage),
    entry("/milepost/requests", GET, Control, Handler::Requests),
    entry("/milepost/trace", GET, Control, Handler::Trace),
    entry("/milepost/trace/mark", POST, Control, Handler::Capture),
    entry("/milepost/trace/rotate", POST, Control, Handler::Capture),
    entry("/milepost/trace/start", POST, Control, Handler::Capture),
    entry("/milepost/trace/status", GET, Control, Handler::Capture),
    entry("/milepost/trace/stop", POST, Control, Handler::Capture),
    entry("/model_info", GET, Public, Handler::Info),
    everywhere("/pause_generation", POST),
    entry("/readiness", GET, Public, Handler::Readiness),
    everywhere("/release_memory_occupation", EITHER),
    everywhere("/remove_external_corpus", POST),
    entry("/remove_worker", EITHER, Control, Handler::RemoveWorker),
    everywhere("/resume_memory_occupation", EITHER),
    entry("/server_info", GET, Public, Handler::Info),
    everywhere("/set_internal_state", "POST, PUT"),
    everywhere("/set_trace_level", EITHER),
    everywhere("/slow_down", EITHER),
    everywhere("/start_expert_distribution_record", EITHER),
    everywhere("/start_profile", EITHER),
    everywhere("/stop_expert_distribution_record", EITHER),
    everywhere("/stop_profile", EITHER),
    everywhere("/unload_lora_adapter", POST),
    everywhere("/update_weight_version", POST),
    everywhere("/update_weights_from_disk", POST),
    everywhere("/update_weights_from_distributed", POST),
    everywhere("/update_weights_from_ipc", POST),
    everywhere("/update_weights_from_tensor", POST),
    entry("/v1/loads", GET, Control, Handler::EngineLoads),
    entry("/v1/models", GET, Public, Handler::Models),
    everywhere("/weights_checker", EITHER),
    entry("/workers", "GET, HEAD, POST", Control, Handler::Workers),
];

static NOTHING: Entry = entry("/milepost/", "GET, HEAD, POST, PUT, DELETE, PATCH", Control, Handler::Nothing);
static WORKER: Entry = entry("/workers/", "GET, HEAD, PUT, DELETE", Control, Handler::Worker);
static RESPONSE: Entry = entry("/v1/responses/", "GET, HEAD, DELETE", Proxied, Handler::Response);
static RESPONSE_CANCEL: Entry = entry("/v1/responses/", POST, Proxied, Handler::Response);
static RESPONSE_ITEMS: Entry = entry("/v1/responses/", GET, Proxied, Handler::Response);

/// Where a whole path stands among [`WHOLE`].
pub(super) fn place(path: &str) -> Option<usize> {
    WHOLE.binary_search_by(|entry| entry.path.cmp(path)).ok()
}

/// The line of a path (without its query), if the path is the router's own.
pub fn find(path: &str) -> Option<&'static Entry> {
    if let Some(at) = place(path) {
        return Some(&WHOLE[at]);
    }
    if let Some(rest) = path.strip_prefix("/v1/responses/") {
        return response(rest);
    }
    if path.starts_with("/milepost/") {
        return Some(&NOTHING);
    }
    path.starts_with("/workers/").then_some(&WORKER)
}

/// `{id}`, `{id}/cancel` and `{id}/input_items`; whatever else there is one day is a worker's.
fn response(rest: &str) -> Option<&'static Entry> {
    let (id, of) = rest.split_once('/').unwrap_or((rest, ""));
    match of {
        _ if id.is_empty() => None,
        "" => Some(&RESPONSE),
        "cancel" => Some(&RESPONSE_CANCEL),
        "input_items" => Some(&RESPONSE_ITEMS),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Endpoint;

    #[test]
    fn every_line_is_found_under_its_path_and_knows_its_methods() {
        assert!(WHOLE.is_sorted_by(|a, b| a.path < b.path), "sorted, none twice");
        let methods = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"];
        for entry in WHOLE.iter().chain([&NOTHING, &WORKER, &RESPONSE, &RESPONSE_CANCEL]) {
            assert!(entry.methods.split(", ").all(|m| methods.contains(&m)), "{}", entry.path);
        }
        for entry in WHOLE {
            assert_eq!(find(entry.path).map(|e| e.path), Some(entry.path));
            assert!(find(&format!("{}x", entry.path)).is_none_or(|e| e.path != entry.path));
            assert_eq!(Endpoint::of_path(entry.path), Endpoint::Other, "those are not looked up here");
        }
    }

    #[test]
    fn the_documentation_has_each_line_once_and_no_other() {
        let page = include_str!("../../docs/endpoints.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| `/")?.split_once(" |"));
        let mut told: Vec<String> = rows
            .filter_map(|(path, rest)| {
                let mut cells = rest.split(" | ");
                let (methods, access) = (cells.next()?.trim(), cells.next()?);
                let known = matches!(access, "public" | "proxied" | "control");
                known.then(|| format!("/{} {methods} {access}", path.trim_end_matches('`')))
            })
            .collect();
        let row = |path: &str| {
            let entry = find(path).unwrap();
            format!("{path} {} {}", entry.methods, format!("{:?}", entry.access).to_lowercase())
        };
        let more = ["{id}", "{id}/cancel", "{id}/input_items"].map(|rest| format!("/v1/responses/{rest}"));
        let more = more.iter().map(String::as_str).chain(["/workers/{id}"]);
        let mut expected: Vec<String> = WHOLE.iter().map(|e| e.path).chain(more).map(row).collect();
        told.sort();
        expected.sort();
        assert_eq!(told, expected);
    }

    #[test]
    fn what_goes_to_one_worker_is_not_owned() {
        let proxied = [
            "/generate",
            "/v1/chat/completions",
            "/v1/completions",
            "/v1/embeddings",
            "/v1/responses",
            "/v1/responses/",
            "/v1/responses/a/b",
            "/v1/models/tiny",
            "/get_weights_by_name",
            "/get_load",
            "/milepost",
            "/workersx",
            "/",
            "",
        ];
        for path in proxied {
            assert!(find(path).is_none(), "{path}");
        }
        let handler = |path: &str| find(path).map(|e| (e.handler, e.methods));
        assert_eq!(handler("/v1/responses/r1"), Some((Handler::Response, "GET, HEAD, DELETE")));
        assert_eq!(handler("/v1/responses/r1/cancel"), Some((Handler::Response, "POST")));
        assert_eq!(handler("/milepost/trace").map(|h| h.0), Some(Handler::Trace));
        assert_eq!(handler("/milepost/x").map(|h| h.0), Some(Handler::Nothing));
        assert_eq!(handler("/workers/x").map(|h| h.0), Some(Handler::Worker));
    }
}
