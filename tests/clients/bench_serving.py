"""sglang's own bench_serving against a router, without its engine: python bench_serving.py HOST PORT [BACKEND]

`pip install --no-deps sglang==0.4.9.post6` and `pip install aiohttp numpy requests tqdm transformers` are enough: the file is
run by itself, the package around it is not imported. The tokenizer is made here, so nothing is downloaded. BACKEND is sglang
(/generate) or sglang-oai-chat (/v1/chat/completions).
"""

import importlib.util
import json
import os
import runpy
import sys
import tempfile
from pathlib import Path

PROMPTS = 12
OUTPUT_TOKENS = 6


def client_file():
    """sglang/bench_serving.py, found without importing sglang; None where it is not there or is not one file alone."""
    package = importlib.util.find_spec("sglang")
    if package is None or package.origin is None:
        return None
    path = Path(package.origin).parent / "bench_serving.py"
    alone = path.exists() and "from sglang.benchmark" not in path.read_text()
    return path if alone else None


def make_tokenizer(folder):
    """One token a word: enough for counting."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<unk>": 0} | {f"w{n}": n for n in range(1, 2000)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")
    fast.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    fast.save_pretrained(folder)


def main():
    if sys.argv[1:] == ["--where"]:
        print(client_file() or "not there")
        return
    host, port = sys.argv[1], sys.argv[2]
    backend = sys.argv[3] if len(sys.argv) > 3 else "sglang"
    file = client_file()
    assert file is not None, "no sglang with a bench_serving.py of its own; see the text at the top"
    with tempfile.TemporaryDirectory() as folder:
        make_tokenizer(folder)
        out = os.path.join(folder, "out.jsonl")
        flags = {
            "--backend": backend,
            "--host": host,
            "--port": port,
            "--model": "simulated-8b",
            "--tokenizer": folder,
            "--dataset-name": "random-ids",
            "--num-prompts": PROMPTS,
            "--random-input-len": 20,
            "--random-output-len": OUTPUT_TOKENS,
            "--random-range-ratio": 1.0,
            "--request-rate": 50,
            "--output-file": out,
        }
        sys.argv = [str(file)] + [str(part) for pair in flags.items() for part in pair] + ["--disable-tqdm"]
        runpy.run_path(str(file), run_name="__main__")
        result = json.loads(Path(out).read_text().splitlines()[-1])
    assert result["completed"] == PROMPTS, result
    assert result["total_output_tokens"] == PROMPTS * OUTPUT_TOKENS, result
    assert 0 < result["median_ttft_ms"] <= result["median_e2e_latency_ms"], result
    print(f"bench_serving: {result['completed']} requests, {result['total_output_tokens']} tokens")


if __name__ == "__main__":
    main()
