"""Asks Perfetto's trace_processor for what the export must show.

usage: perfetto_events.py TRACE EVENTS   (77: trace_processor is not there)

The Python package `perfetto` fetches the program when it is first used; where that is not possible, TRACE_PROCESSOR names one.
"""
import json
import os
import sys

try:
    from perfetto.trace_processor import TraceProcessor, TraceProcessorConfig
except ImportError as absent:
    print(absent)
    sys.exit(77)

trace, events = sys.argv[1:]
binary = os.environ.get("TRACE_PROCESSOR")
if binary is None:
    print("TRACE_PROCESSOR does not name a trace_processor_shell")
    sys.exit(77)
with open(trace) as lines:
    records = [r for r in map(json.loads, lines) if r["kind"] == "request"]

processor = TraceProcessor(trace=events, config=TraceProcessorConfig(bin_path=binary))


def rows(sql):
    return list(processor.query(sql))


wrong = rows("select name, value from stats where severity in ('error', 'data_loss') and value > 0")
assert not wrong, [(row.name, row.value) for row in wrong]
found = {row.seq: (row.ts, row.dur) for row in rows(
    "select extract_arg(arg_set_id, 'args.seq') as seq, ts, dur from slice where category = 'request'")}
assert sorted(found) == sorted(r["seq"] for r in records)
first = min(records, key=lambda r: r["arrival_unix_ns"])
for record in records:
    ts, dur = found[record["seq"]]
    assert dur == record["end_ns"], (record["seq"], dur)
    assert ts - found[first["seq"]][0] == record["arrival_unix_ns"] - first["arrival_unix_ns"], record["seq"]
processes = {row.name for row in rows("select name from process where name is not null")}
assert processes >= {"router"} | {r["worker"] for r in records if "worker" in r}, processes
names = {row.name for row in rows("select distinct name from slice where depth = 1")}
assert names >= {"decision", "at worker", "server queue", "prefill", "decode"}, names
arrows = rows("select count(*) as n from flow")[0].n
sent = sum("router_send_ns" in r for r in records) + sum(len(r.get("failed_attempts", [])) for r in records)
assert arrows == sent, (arrows, sent)
print(f"{events}: {len(found)} requests, {arrows} arrows, as trace_processor sees them")
