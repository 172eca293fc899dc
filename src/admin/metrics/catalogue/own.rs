//! The families under our own names: what a router that looks at its answers can say of each worker, and of itself.
//!
//! Rule: `worker` is the URL of a worker in the fleet, and its series go when it goes. A duration is taken in one clock, or
//! not at all. Deliberately not here: what a trace record says better, which is anything about one request.

use super::Family;
use super::Kind::{Counter, Gauge, Histogram};
use super::peer::families;

const BY_WORKER: &[&str] = &["worker"];

families! {
    REQUESTS_IN_FLIGHT = Gauge "milepost_requests_in_flight" &[], "requests",
        "Requests not yet ended.", "when one begins or ends";
    REQUESTS_ENDED = Counter "milepost_requests_ended_total" &["outcome"], "requests",
        "Requests ended, by the outcome in the trace.", "when the request ends";
    TTFT = Histogram "milepost_ttft_seconds" &[], "seconds",
        "Arrival to the first event with tokens, as the router saw it; streams only.", "when the request ends";
    ROUTER_QUEUE = Histogram "milepost_router_queue_seconds" &[], "seconds",
        "Arrival to router send: the time in the router, waits for limits and failed attempts included.",
        "when the request ends";
    FALLBACKS = Counter "milepost_policy_fallbacks_total" &["policy", "cause"], "decisions",
        "Decisions that a policy could not make, by the cause in the record's reason; shortest_queue made them.",
        "when the worker is chosen";
    UNREADABLE = Counter "milepost_connections_unreadable_total" &[], "connections",
        "Connections without a readable request, failed TLS handshakes included.", "when such a connection ends";
    ACCEPT_FAILURES = Counter "milepost_accept_failures_total" &[], "attempts",
        "Times that no connection could be accepted, for want of descriptors as a rule; it is tried again after 100 ms.",
        "when it fails";
    SPLIT_REQUESTS = Counter "milepost_split_requests_total" &["arm", "outcome"], "requests",
        "Requests ended in each arm of --split, by outcome; one that named its policy itself is in none.",
        "when the request ends";
    SPLIT_TTFT = Histogram "milepost_split_ttft_seconds" &["arm"], "seconds",
        "Arrival to the first event with tokens, by arm of --split; streams only.", "when the request ends";
    SPLIT_E2E = Histogram "milepost_split_e2e_seconds" &["arm"], "seconds",
        "Arrival to end of the good answers, by arm of --split.", "when the whole answer has been passed on";
    SHADOW_DECISIONS = Counter "milepost_shadow_decisions_total" &["policy", "agrees"], "decisions",
        "Decisions that each policy of --shadow-policy was asked about, by whether it would have chosen the same worker.",
        "some ms after the decision";
    SHADOW_DROPPED = Counter "milepost_shadow_dropped_total" &["kind"], "decisions or events",
        "Decisions and events that the shadow policies were not told of, as they were behind (decision, event).",
        "with the decision or event";
    SHADOW_MISSING = Counter "milepost_shadow_missing_total" &[], "records",
        "Request records that were written without the shadows' answer, as it came too late.", "when the record is written";
    WORKER_REQUESTS = Counter "milepost_worker_requests_total" &["worker", "outcome"], "requests",
        "Requests that ended at the worker, by outcome, and failed_attempt for attempts after which another followed or the router gave up.",
        "when the request or the attempt ends";
    WORKER_IN_FLIGHT = Gauge "milepost_worker_in_flight" BY_WORKER, "requests",
        "Requests in flight at the worker through this router.", "when a request is given to it and when that ends";
    WORKER_IDLE = Gauge "milepost_worker_idle_connections" BY_WORKER, "connections",
        "Connections to the worker that wait for a request; the ranks of one server share theirs.", "with each request";
    WORKER_TOKENS = Counter "milepost_worker_tokens_total" &["worker", "kind"], "tokens",
        "Tokens as the worker counted them: prompt, completion, cached (the prompt tokens it did not compute), and predicted_cached (how many of these the prefix index had promised).",
        "when the request ends, where the answer told";
    BELIEFS = Counter "milepost_prefix_beliefs_total" &["found"], "findings",
        "What answers showed of the prefixes that workers were believed to hold: held or lost, of one answer; a worker emptied, its capacity bounded or widened, of several that agree. Only for policies that match what the engine sees.",
        "when an answer tells its cached tokens";
    WORKER_TTFT = Histogram "milepost_worker_ttft_seconds" BY_WORKER, "seconds",
        "Router send to the first event with tokens, both at the router; streams only.", "when the request ends";
    WORKER_ITL = Histogram "milepost_worker_itl_seconds" BY_WORKER, "seconds",
        "Mean gap between tokens of one answer: first token to last byte at the router, by the completion tokens less one. One value a stream, of two tokens or more; none of several prompts or samples in one.",
        "when the whole stream has been passed on";
    WORKER_QUEUE = Histogram "milepost_worker_queue_seconds" BY_WORKER, "seconds",
        "In the worker's waiting queue, by its own clock (queue_time_end - queue_time_start, else queue_time).",
        "when the request ends, where meta_info told";
    WORKER_PREFILL = Histogram "milepost_worker_prefill_seconds" BY_WORKER, "seconds",
        "End of the waiting queue to first token, both by the worker's wall clock.",
        "when the request ends, where meta_info told both in that clock";
    WORKER_DECODE = Histogram "milepost_worker_decode_seconds" BY_WORKER, "seconds",
        "First token to end: of a stream at the router, of a plain answer by the worker's wall clock.",
        "when the whole answer has been passed on";
    WORKER_SERVER_QUEUE = Gauge "milepost_worker_server_queue_requests" BY_WORKER, "requests",
        "Requests in the server's waiting queue, as it said itself; absent while that is not known.", "when the server has been asked";
    WORKER_SERVER_RUNNING = Gauge "milepost_worker_server_running_requests" BY_WORKER, "requests",
        "Requests in the server's running batch, as it said itself; absent while that is not known.", "when the server has been asked";
    WORKER_SERVER_KV_USAGE = Gauge "milepost_worker_server_kv_usage_ratio" BY_WORKER, "share, 0 to 1",
        "Part of the server's KV cache in use, as it said itself; absent while that is not known.", "when the server has been asked";
    WORKER_SERVER_LOAD_AGE = Gauge "milepost_worker_server_load_age_seconds" BY_WORKER, "seconds",
        "Time since the server last said how loaded it is; absent before it did.", "always, and to 0 with each such answer";
    WORKER_SERVER_LOAD_FAILURES = Counter "milepost_worker_server_load_failures_total" BY_WORKER, "questions",
        "Questions about its load that the server did not answer, or with nothing that can be: its load is unknown then.",
        "when such a question ends";
    TRACE_OFFERED = Counter "milepost_trace_requests_offered_total" &[], "records",
        "Request records offered to the trace's buffer, the way to the file and to spans (--enable-trace), lost ones included.", "when a request ends, and a file is written or spans are sent";
    TRACE_LOST = Counter "milepost_trace_requests_lost_total" &[], "records",
        "Request records that the trace's buffer had no room for, or the file: the file, if there is one, says so too, and of the former there are no spans.", "when one is lost";
    TRACE_BUFFER = Gauge "milepost_trace_buffer_records" &[], "records",
        "Records that wait for the trace's writer, which spans come from too.", "always, if the trace is on";
    TRACE_CAPACITY = Gauge "milepost_trace_buffer_capacity_records" &[], "records",
        "Records that may wait; 0 with neither a trace nor spans.", "never";
    SPANS_REQUESTS = Counter "milepost_spans_requests_total" &["result"], "requests",
        "Requests whose spans were to be sent (--enable-trace): sent, or lost: overflow (no room), not_taken (nobody took them), refused; of what the trace's buffer lost none is here.",
        "when the collector has answered, or they are given up";
    SPANS_REFUSED = Counter "milepost_spans_refused_total" &[], "spans",
        "Spans that the collector refused of requests that it took.", "when it says so";
    SPANS_WAITING = Gauge "milepost_spans_waiting_requests" &[], "requests",
        "Requests that wait for their spans to be sent; there is room for 8192.", "when one ends or is sent";
    WALL_STEPS = Counter "milepost_wall_clock_steps_total" &[], "steps",
        "How often the wall clock of this host was set by more than slewing explains (500 ppm), as far as the trace's writer noticed.",
        "when one is noticed, if the trace is on";
    PROCESS_CPU = Counter "process_cpu_seconds_total" &[], "seconds",
        "CPU time of the process, user and system.", "always";
    PROCESS_RESIDENT = Gauge "process_resident_memory_bytes" &[], "bytes",
        "Memory of the process that is in RAM (Linux).", "always";
    PROCESS_FDS = Gauge "process_open_fds" &[], "descriptors",
        "Open file descriptors (Linux).", "always";
    PROCESS_MAX_FDS = Gauge "process_max_fds" &[], "descriptors",
        "File descriptors the process may have open; absent without a limit.", "never";
}
