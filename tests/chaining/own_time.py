"""A router's own time per request, from the traces of a milepost before it and one behind it.

    python own_time.py BEFORE.jsonl BEHIND.jsonl

Both mileposts are on one host (one CLOCK_MONOTONIC; their boot ids say so). Requests join on `request_id`. Per request, in
milliseconds: `in` from the first milepost's send to the second one's arrival; `head`, `token` and `last` from the first byte of
the answer, the event with the first token (streams) and the last byte at the second to the same at the first; `own`, `in` and
`head` together. All hold the way over loopback.
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


def behind_after(later_ns, earlier_ns):
    return (later_ns - earlier_ns) / 1e6


def main():
    (boot, before), (other, behind) = read(sys.argv[1]), read(sys.argv[2])
    assert boot == other, "the two traces are of two hosts; their clocks do not compare"
    rows = []
    for request_id, front in before.items():
        back = behind.get(request_id)
        if back is None or front["method"] != "POST":
            continue
        row = {"in": behind_after(back["arrival_mono_ns"], at(front, "router_send_ns"))}
        for name, stamp in (("head", "first_byte_ns"), ("token", "first_token_ns"), ("last", "last_byte_ns")):
            if front.get(stamp) is not None and back.get(stamp) is not None:
                row[name] = behind_after(at(front, stamp), at(back, stamp))
        row["own"] = row["in"] + row["head"]
        rows.append(row)
    assert rows, "no request is in both traces"
    assert all(row["in"] > 0 and row["head"] > 0 for row in rows), "a request left before it came"
    print(f"{len(rows)} requests in both traces; ms")
    for name in ("in", "head", "token", "last", "own"):
        values = sorted(row[name] for row in rows if name in row)
        if values:
            part = lambda share: values[min(len(values) - 1, int(len(values) * share))]
            print(f"{name:5}  p50 {part(0.5):8.3f}  p90 {part(0.9):8.3f}  p99 {part(0.99):8.3f}  most {values[-1]:8.3f}")


if __name__ == "__main__":
    main()
