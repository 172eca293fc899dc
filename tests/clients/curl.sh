#!/bin/sh
# curl against a router: sh curl.sh http://HOST:PORT
# One line for each request; ends with an error at the first that is not as it should be.
set -eu
url=$1
fail() { echo "curl: $1" >&2; exit 1; }
# A body that is large enough for curl to ask `Expect: 100-continue` first.
large=$(mktemp)
trap 'rm -f "$large"' EXIT
awk 'BEGIN { printf "{\"text\":\""; for (i = 0; i < 100000; i++) printf "word "; printf "\",\"sampling_params\":{\"max_new_tokens\":1}}" }' >"$large"

body='{"text":"one two three","sampling_params":{"max_new_tokens":4}}'
answer=$(curl -sSf -m 30 "$url/generate" -H 'Content-Type: application/json' -d "$body")
echo "$answer" | grep -q '"meta_info"' || fail "/generate has no meta_info: $answer"
echo "generate: ok"

stream='{"text":"one two three","sampling_params":{"max_new_tokens":4},"stream":true}'
last=$(curl -sSfN -m 30 "$url/generate" -H 'Content-Type: application/json' -d "$stream" | grep '^data:' | tail -1)
[ "$last" = "data: [DONE]" ] || fail "the stream ends with: $last"
echo "stream: ok"

id=$(curl -sSf -m 30 -o /dev/null -D - "$url/generate" -H 'X-Request-Id: from-curl' -H 'Content-Type: application/json' -d "$body" |
    tr -d '\r' | sed -n 's/^x-request-id: //p')
[ "$id" = "from-curl" ] || fail "x-request-id came back as: $id"
echo "request id: ok"

chat='{"model":"m","messages":[{"role":"user","content":"hello"}],"max_tokens":4}'
answer=$(curl -sSf -m 30 "$url/v1/chat/completions" -H 'Content-Type: application/json' -d "$chat")
echo "$answer" | grep -q '"chat.completion"' || fail "/v1/chat/completions: $answer"
echo "chat: ok"

status=$(curl -sS -m 30 -o /dev/null -w '%{http_code}' "$url/generate" -H 'Content-Type: application/json' -H 'Expect: 100-continue' -d "@$large")
[ "$status" = 200 ] || fail "a large body: status $status"
echo "large body: ok"

first=$(curl -sSf -m 30 -o /dev/null -w '%{num_connects}' "$url/health")
both=$(curl -sSf -m 30 -o /dev/null -o /dev/null -w '%{num_connects} ' "$url/health" "$url/health")
[ "$first" = 1 ] && [ "$both" = "1 0 " ] || fail "the connection was not kept: $first, $both"
echo "connection kept: ok"
