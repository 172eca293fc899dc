"""A router's own time per request, from the traces of a milepost before it and one behind it.

    python own_time.py BEFORE.jsonl BEHIND.jsonl

Both mileposts are on one host (one CLOCK_MONOTONIC; their boot ids say so). Requests join on `request_id`. Per request, in
milliseconds: `in` from the first milepost's send to the second one's arrival, `out` from the first byte of the answer at the
second to that at the first, `last` the same for the last byte, and `own`, the first two together. All hold the way over
loopback, twice each.
"""

import json
import sys


def read(path):
    boot, requests = None, {}
    with open(path, encoding="utf-8") as lines:
        for line in lines:
            record = json.loads(line)
            if record["kind"] == "run":
                boot = record["boot_id"]
            elif record["kind"] == "request" and record["request_kind"] == "routed" and record["outcome"] == "done":
                requests[record["request_id"]] = record
    return boot, requests


def at(record, name):
    return record["arrival_mono_ns"] + record[name]


def main():
    (boot, before), (other, behind) = read(sys.argv[1]), read(sys.argv[2])
    assert boot == other, "the two traces are of two hosts; their clocks do not compare"
    rows = []
    for request_id, front in before.items():
        back = behind.get(request_id)
        if back is None or front["method"] != "POST":
            continue
        ms = lambda later, earlier: (later - earlier) / 1e6
        way_in = ms(back["arrival_mono_ns"], at(front, "router_send_ns"))
        way_out = ms(at(front, "first_byte_ns"), at(back, "first_byte_ns"))
        last = ms(at(front, "last_byte_ns"), at(back, "last_byte_ns"))
        rows.append({"in": way_in, "out": way_out, "last": last, "own": way_in + way_out})
    assert rows, "no request is in both traces"
    assert all(row["in"] > 0 and row["out"] > 0 for row in rows), "a request left before it came"
    print(f"{len(rows)} requests in both traces; ms")
    for name in ("in", "out", "last", "own"):
        values = sorted(row[name] for row in rows)
        middle, high = values[len(values) // 2], values[min(len(values) - 1, len(values) * 99 // 100)]
        print(f"{name:5} p50 {middle:8.3f}  p99 {high:8.3f}  most {values[-1]:8.3f}")


if __name__ == "__main__":
    main()
