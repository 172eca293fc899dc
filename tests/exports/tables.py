"""Reads a CSV or Parquet export with pandas, Polars and DuckDB and holds it against the trace it was made of.

usage: tables.py TRACE TABLE   (77: a package is not there)
"""
import json
import sys

try:
    import duckdb
    import pandas
    import polars
    import pyarrow.parquet
except ImportError as absent:
    print(absent)
    sys.exit(77)

trace, table = sys.argv[1:]
with open(trace) as lines:
    records = [r for r in map(json.loads, lines) if r["kind"] == "request"]
is_parquet = table.endswith(".parquet")

expected = {
    "seq": [r["seq"] for r in records],
    "arrival_unix_ns": [r["arrival_unix_ns"] for r in records],
    "request_id": [r["request_id"] for r in records],
    "prompt_tokens": [r.get("tokens", {}).get("prompt_tokens") for r in records],
    "server_request_received_ts": [r.get("server", {}).get("request_received_ts") for r in records],
    "stream": [r["stream"] for r in records],
}


def same(tool, column, found):
    found = [None if value is None or value != value else value for value in found]
    assert found == expected[column], (tool, column, found, expected[column])


frame = pandas.read_parquet(table) if is_parquet else pandas.read_csv(table)
sheet = polars.read_parquet(table) if is_parquet else polars.read_csv(table, infer_schema_length=None)
for column in expected:
    same("pandas", column, frame[column].tolist())
    same("polars", column, sheet[column].to_list())
    same("duckdb", column, [row[0] for row in duckdb.sql(f"select {column} from '{table}'").fetchall()])

# What a user asks of it: the TTFT by worker, and what the policy saw of each candidate.
by_worker = duckdb.sql(f"select worker, count(*), median(ttft_ns) from '{table}' group by worker order by 2 desc").fetchall()
assert sum(row[1] for row in by_worker) == len(records), by_worker
seen = duckdb.sql(f"select sum(json_array_length(decision_candidates::json)) from '{table}'").fetchall()[0][0]
assert seen == sum(len(r["decision"]["candidates"]) for r in records if "decision" in r), seen
assert frame["aligned_queue_end_ns"].notna().sum() >= 8, "server stamps on the router's clock"

if is_parquet:
    file = pyarrow.parquet.ParquetFile(table)
    types = {field.name: str(field.type) for field in file.schema_arrow}
    kinds = {"seq": "int64", "stream": "bool", "worker": "string", "server_request_received_ts": "double"}
    assert {name: types[name] for name in kinds} == kinds, types
    docs = json.loads(file.metadata.metadata[b"milepost.columns"])
    assert set(docs) == set(types), "each column has its meaning"
print(f"{table}: {len(frame)} rows, {len(frame.columns)} columns, read alike by pandas, Polars and DuckDB")
