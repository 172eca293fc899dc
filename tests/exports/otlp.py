"""Spans as OpenTelemetry's own schema has them, and a stand-in for a collector that takes them.

Needs `opentelemetry-proto`, and `grpcio` for gRPC; whoever imports this says what an ImportError means. What is sent is read by
the parsers of protobuf, which refuse a field that the schema does not have; OTLP's one exception, ids in hexadecimal where
protobuf's JSON has base64, is undone before. A stand-in: it takes all that is valid, holds it in memory, and sends nothing on.
"""
import base64
import gzip
import json
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

JSON, PROTOBUF = "application/json", "application/x-protobuf"
DIGITS = {"traceId": 32, "spanId": 16, "parentSpanId": 16}


def with_base64_ids(value):
    """OTLP's JSON as protobuf's: ids of the right length, and no id of zeros."""
    if isinstance(value, list):
        return [with_base64_ids(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {}
    for key, item in value.items():
        if key in DIGITS:
            assert re.fullmatch(f"[0-9a-f]{{{DIGITS[key]}}}", item) and item.strip("0"), (key, item)
            item = base64.b64encode(bytes.fromhex(item)).decode()
        made[key] = with_base64_ids(item)
    return made


def read_json(body):
    return json_format.ParseDict(with_base64_ids(json.loads(body)), ExportTraceServiceRequest())


def read_protobuf(body):
    request = ExportTraceServiceRequest()
    request.ParseFromString(body)
    return request


def value_of(any_value):
    kind = any_value.WhichOneof("value")
    return getattr(any_value, kind) if kind in ("string_value", "int_value", "double_value", "bool_value") else kind


def attributes(of):
    return {attribute.key: value_of(attribute.value) for attribute in of.attributes}


def spans(request):
    """The spans of a request, each with the name of the service it is of."""
    for resource in request.resource_spans:
        service = attributes(resource.resource).get("service.name")
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield {
                    "service": service, "name": span.name, "kind": span.kind, "trace_id": span.trace_id.hex(),
                    "span_id": span.span_id.hex(), "parent_span_id": span.parent_span_id.hex() or None,
                    "start_ns": span.start_time_unix_nano, "end_ns": span.end_time_unix_nano,
                    "failed": span.status.code == 2, "attributes": attributes(span),
                }


class Collector:
    """Takes spans at `/v1/traces` of 127.0.0.1:http_port (0: any, see `http_port`) and, if one is given, by gRPC at grpc_port."""

    def __init__(self, http_port=0, grpc_port=None):
        self.lock, self.taken, self.asked = threading.Lock(), [], {}
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                kind = self.headers["content-type"].split(";")[0]
                status, answer = 404, b""
                if self.path == "/v1/traces":
                    status, answer = 200, b"{}" if kind == JSON else ExportTraceServiceResponse().SerializeToString()
                    try:
                        collector.take(f"http {kind}", read_json(body) if kind == JSON else read_protobuf(body))
                    except (AssertionError, ValueError, json_format.ParseError) as wrong:
                        print(f"collector: refused: {wrong}")
                        status, answer = 400, json.dumps({"message": str(wrong)}).encode()
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", http_port), Handler)
        self.http.daemon_threads = True
        self.http_port = self.http.server_address[1]
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.grpc = self.serve_grpc(grpc_port) if grpc_port is not None else None

    def serve_grpc(self, port):
        import grpc
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as service

        collector = self

        class Servicer(service.TraceServiceServicer):
            def Export(self, request, _):
                collector.take("grpc", request)
                return ExportTraceServiceResponse()

        server = grpc.server(ThreadPoolExecutor(max_workers=2))
        service.add_TraceServiceServicer_to_server(Servicer(), server)
        assert server.add_insecure_port(f"127.0.0.1:{port}") == port, f"port {port} is taken"
        server.start()
        return server

    def take(self, how, request):
        with self.lock:
            self.asked[how] = self.asked.get(how, 0) + 1
            self.taken.extend(spans(request))

    def spans(self):
        with self.lock:
            return list(self.taken)

    def stop(self):
        self.http.shutdown()
        if self.grpc:
            self.grpc.stop(None)
