"""The official `openai` client against a router: python openai_client.py http://HOST:PORT [NAME ...]

NAME is one or more of chat, stream, completions, embeddings, models, errors; all of them without one. It prints one line
for each and ends with an assertion where an answer is not what the client's user would expect.
"""

import sys

import openai


def chat(client, model):
    answer = client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": "Say something short."}], max_tokens=8
    )
    assert answer.choices[0].message.content, answer
    assert answer.usage.completion_tokens == 8, answer.usage
    return f"{answer.usage.completion_tokens} tokens"


def stream(client, model):
    events = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": "Say something short."}],
        max_tokens=8,
        stream=True,
        stream_options={"include_usage": True},
    )
    parts, usage, finish = [], None, None
    for event in events:
        usage = event.usage or usage
        for choice in event.choices:
            parts.append(choice.delta.content or "")
            finish = choice.finish_reason or finish
    assert len([p for p in parts if p]) > 1, parts
    assert usage is not None and usage.completion_tokens == 8, usage
    assert finish is not None
    return f"{len(parts)} events, {usage.completion_tokens} tokens, finished by {finish}"


def completions(client, model):
    answer = client.completions.create(model=model, prompt="Once upon a time", max_tokens=5)
    assert answer.choices[0].text, answer
    # Token ids are a prompt too; sglang-router 0.3.2 refuses them.
    ids = client.completions.create(model=model, prompt=[1, 2, 3], max_tokens=5)
    assert ids.usage.completion_tokens == 5, ids
    return f"{answer.usage.completion_tokens} tokens"


def embeddings(client, model):
    answer = client.embeddings.create(model=model, input="one text", encoding_format="float")
    vector = answer.data[0].embedding
    assert vector and all(isinstance(x, float) for x in vector), answer
    return f"{len(vector)} numbers"


def models(client, model):
    names = [m.id for m in client.models.list().data]
    assert model in names, names
    return ", ".join(names)


def errors(client, model):
    try:
        client.chat.completions.create(model=model, messages=[], max_tokens=-5)
    except openai.BadRequestError as error:
        assert error.status_code == 400
        return f"status {error.status_code}, x-request-id {'there' if error.request_id else 'missing'}"
    raise AssertionError("a request that the engine refuses was not refused")


def main():
    url, names = sys.argv[1], sys.argv[2:]
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=30)
    model = client.models.list().data[0].id
    for call in (chat, stream, completions, embeddings, models, errors):
        if not names or call.__name__ in names:
            print(f"{call.__name__}: {call(client, model)}")


if __name__ == "__main__":
    main()
