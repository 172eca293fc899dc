"""Reads an OTLP export with protobuf's own parser, holds it against the trace, and has it sent to a stand-in for a collector.

usage: MILEPOST=target/debug/milepost otlp_spans.py TRACE SPANS   (77: a package is not there)
"""
import json
import os
import subprocess
import sys

try:
    from otlp import JSON, Collector, read_json, read_protobuf, spans
except ImportError as absent:
    print(absent)
    sys.exit(77)

trace, file = sys.argv[1:]
with open(trace) as lines:
    records = [r for r in map(json.loads, lines) if r["kind"] == "request"]
with open(file) as lines:
    requests = [read_json(line) for line in lines]
found = [span for request in requests for span in spans(request)]
by_id = {span["span_id"]: span for span in found}
assert len(by_id) == len(found) and {span["service"] for span in found} == {"milepost"}
assert all(read_protobuf(request.SerializeToString()) == request for request in requests)

roots = {span["attributes"]["milepost.seq"]: span for span in found if "milepost.seq" in span["attributes"]}
assert sorted(roots) == sorted(r["seq"] for r in records)
for record in records:
    root, tokens = roots[record["seq"]], record.get("tokens", {})
    assert (root["start_ns"], root["end_ns"] - root["start_ns"]) == (record["arrival_unix_ns"], record["end_ns"]), root
    told = {
        "http.request.method": record["method"], "http.response.status_code": record.get("status"),
        "gen_ai.usage.input_tokens": tokens.get("prompt_tokens"), "gen_ai.usage.output_tokens": tokens.get("completion_tokens"),
        "milepost.request_id": record["request_id"], "milepost.worker": record.get("worker"),
    }
    assert {name: root["attributes"].get(name) for name in told} == told, root
for span in found:
    parent = by_id.get(span["parent_span_id"])
    assert (parent is None) == (span in roots.values()), span
    assert parent is None or parent["start_ns"] <= span["start_ns"] <= span["end_ns"] <= parent["end_ns"], (span, parent)

collector = Collector()
out = f"http://127.0.0.1:{collector.http_port}"
subprocess.run([os.environ["MILEPOST"], "trace", "export", trace, "--to", "otlp", "--out", out], check=True, timeout=120)
assert collector.spans() == found and set(collector.asked) == {f"http {JSON}"}, collector.asked
collector.stop()
print(f"{file}: {len(found)} spans of {len(records)} requests, as OpenTelemetry's schema has them")
