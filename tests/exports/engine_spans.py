"""Shows that the spans of a real SGLang server continue those of the router; by hand, as it needs such a server.

usage: engine_spans.py ENGINE_URL [MILEPOST [HTTP_PORT GRPC_PORT]]     (77: a package is not there)

ENGINE_URL is a server that sends its spans to this script, by gRPC:

    pip install 'sglang[tracing]'
    python -m sglang.launch_server .. --enable-metrics --enable-trace --otlp-traces-endpoint localhost:4317

or by HTTP, with OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=http/protobuf and --otlp-traces-endpoint http://localhost:4318/v1/traces.
MILEPOST is the program (target/debug/milepost); this Python needs opentelemetry-proto and grpcio. Listens on both ports (4318,
4317) with the stand-in of `otlp.py`, starts `milepost route` before the server, sends streamed and plain requests with a client's
traceparent and without, and one that its client does not sample. COLLECTOR=HOST:PORT sends the router's spans to a collector there,
by HTTP, which is to pass them on to GRPC_PORT. Of each request it checks: one trace; the server's one root is a child of the
router's span of the attempt; every span lies within its parent. Prints the first tree, and how far the server's own times are from
what the router made of its stamps.
"""
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

try:
    import grpc  # noqa: F401, what the stand-in needs
    from otlp import Collector
except ImportError as absent:
    print(absent)
    sys.exit(77)

# A span of the server may end this much after the one of the router that it is part of: the router's ends with the last byte that
# it read, and the server stamps its end on another way than it sends that byte.
SLACK_NS = 2_000_000
WAIT_S = 60
TEXT = "The quick brown fox jumps over the lazy dog. "
CLIENT_SPAN = "00f067aa0ba902b7"


def ask(url, body=None, headers=()):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"content-type": "application/json", **dict(headers)})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return answer.read()


def until(what, found):
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        if result := found():
            return result
        time.sleep(0.1)
    raise SystemExit(f"not in {WAIT_S} s: {what}")


def is_ready(url):
    try:
        return ask(f"{url}/readiness")
    except urllib.error.HTTPError:
        return None


def started_router(milepost, engine, collector, folder):
    command = [milepost, "route", "--host", "127.0.0.1", "--port", "0", "--prometheus-port", "0", "--worker-urls", engine,
               "--enable-trace", "--otlp-traces-endpoint", collector, "--trace-log", f"{folder}/trace.jsonl"]
    log = Path(folder, "router.log")
    router = subprocess.Popen(command, stdout=log.open("w"), stderr=subprocess.STDOUT)
    try:
        url = until("the router listens", lambda: re.search(r"routing on (http://[^,\s]+)", log.read_text()))[1]
        until("the router finds the server healthy", lambda: is_ready(url))
    except BaseException:
        router.terminate()
        print(log.read_text()[-2000:], file=sys.stderr)
        raise
    return router, url


def requests(model):
    """Name, path, body and the client's traceparent, if it has one, of each request."""
    sampling = {"max_new_tokens": 12, "temperature": 0, "ignore_eos": True}
    generate = {"text": TEXT * 8, "sampling_params": sampling}
    chat = {"model": model, "messages": [{"role": "user", "content": TEXT}], "max_tokens": 12}
    for number, (path, body) in enumerate([("/generate", generate), ("/v1/chat/completions", chat)], start=1):
        for stream in (True, False):
            name = f"{path}, {'streamed' if stream else 'plain'}"
            trace = f"4bf92f3577b34da6a3ce929d0e0e47{number}{int(stream)}"
            yield name, path, {**body, "stream": stream}, None
            yield f"{name}, in a client's trace", path, {**body, "stream": stream}, f"00-{trace}-{CLIENT_SPAN}-01"
    yield "not sampled", "/generate", generate, f"00-{'ab' * 16}-{CLIENT_SPAN}-00"


def lies_in(span, parent):
    return parent["start_ns"] - SLACK_NS <= span["start_ns"] and span["end_ns"] <= parent["end_ns"] + SLACK_NS


def checked(name, parent, trace):
    """The server's root and the router's span that it continues."""
    by_id = {span["span_id"]: span for span in trace}
    ours, theirs = ([span for span in trace if (span["service"] == "milepost") == own] for own in (True, False))
    [server] = [span for span in ours if span["kind"] == 2]
    [attempt] = [span for span in ours if span["kind"] == 3]
    expected = parent.split("-")[1:3] if parent else [server["trace_id"], None]
    assert [server["trace_id"], server["parent_span_id"]] == expected, (name, server)
    own_ids = {span["span_id"] for span in theirs}
    [root] = [span for span in theirs if span["parent_span_id"] not in own_ids]
    assert root["parent_span_id"] == attempt["span_id"] and attempt["parent_span_id"] == server["span_id"], (name, root, attempt)
    for span in trace:
        above = by_id.get(span["parent_span_id"])
        assert above is None or lies_in(span, above), (name, span, above)
    return root, attempt


def draw(trace, span, depth=0):
    zero_ns = min(s["start_ns"] for s in trace)
    from_ms, to_ms = ((ns - zero_ns) / 1e6 for ns in (span["start_ns"], span["end_ns"]))
    name = re.sub(r"host:\w+ \| pid:\d+", "host | pid", span["name"])
    print(f"{'  ' * depth + name:<46} {span['service']:<9} {from_ms:9.3f} {to_ms:9.3f}")
    below = [s for s in trace if s["parent_span_id"] == span["span_id"]]
    for child in sorted(below, key=lambda s: (s["start_ns"], -s["end_ns"])):
        draw(trace, child, depth + 1)


def main():
    if not 2 <= len(sys.argv) <= 5:
        raise SystemExit(__doc__)
    engine, milepost, http_port, grpc_port = (sys.argv[1:] + ["target/debug/milepost", "4318", "4317"][len(sys.argv) - 2:])[:4]
    collector = Collector(int(http_port), int(grpc_port))
    model = json.loads(ask(f"{engine}/v1/models"))["data"][0]["id"]
    with tempfile.TemporaryDirectory() as folder:
        router, url = started_router(milepost, engine, os.environ.get("COLLECTOR", f"127.0.0.1:{http_port}"), folder)
        try:
            sent = {}
            for number, (name, path, body, parent) in enumerate(requests(model)):
                headers = {"x-request-id": f"engine-spans-{number}"}
                ask(f"{url}{path}", body, {**headers, "traceparent": parent} if parent else headers)
                sent[headers["x-request-id"]] = (name, parent)
        finally:
            router.terminate()
            router.wait(30)
    is_sampled = {key: not (parent or "-01").endswith("-00") for key, (_, parent) in sent.items()}

    def all_there():
        of, spans = {}, collector.spans()
        for span in spans:
            if span["attributes"].get("milepost.request_id") in sent:
                of[span["attributes"]["milepost.request_id"]] = [s for s in spans if s["trace_id"] == span["trace_id"]]
        # A server's root is sent when it has ended, and the spans below it have by then.
        names = [{s["span_id"] for s in t if s["kind"] == 3} & {s["parent_span_id"] for s in t if s["service"] != "milepost"}
                 for t in of.values()]
        return of if len(of) == sum(is_sampled.values()) and all(names) else None

    until("the spans of both sides", all_there)
    # What was begun later by another process of the server comes in a batch of its own.
    time.sleep(3)
    traces = all_there()
    unsampled = [parent.split("-")[1] for key, (_, parent) in sent.items() if not is_sampled[key]]
    assert not [span for span in collector.spans() if span["trace_id"] in unsampled], "nobody records what its client does not"
    begin_ms, end_ms = [], []
    for key, trace in traces.items():
        root, attempt = checked(*sent[key], trace)
        begin_ms.append((root["start_ns"] - attempt["start_ns"]) / 1e6)
        end_ms.append((attempt["end_ns"] - root["end_ns"]) / 1e6)
        stages = {s["name"]: s for s in trace if s["service"] == "milepost"}
        theirs = {s["name"]: s for s in trace if s["service"] != "milepost"}
        line = [f"{sent[key][0]}: {len(trace)} spans"]
        for own, other in [("server queue", "prefill_waiting"), ("prefill", "prefill_forward")]:
            if own in stages and other in theirs:
                far = [(theirs[other][end] - stages[own][end]) / 1e3 for end in ("start_ns", "end_ns")]
                line.append(f"{other} less {own}: {far[0]:+.0f} and {far[1]:+.0f} us")
        print("; ".join(line))
    first = next(iter(traces.values()))
    print(f"\n{'span':<46} {'service':<9} {'from, ms':>9} {'to, ms':>9}")
    draw(first, next(span for span in first if span["kind"] == 2))
    foreign = {span["trace_id"] for span in collector.spans()} - {trace[0]["trace_id"] for trace in traces.values()}
    print(f"\n{len(traces)} traces, and {len(foreign)} of the server alone; the server's root begins {min(begin_ms):.2f} to {max(begin_ms):.2f} ms after the attempt and ends "
          f"{min(end_ms):.2f} to {max(end_ms):.2f} ms before it; asked: {collector.asked}")
    collector.stop()


main()
