"""llama.cpp splits text as each of the tokenizers that a GGUF file can name."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
import xllamacpp
from tokenizers import Regex, Tokenizer
from tokenizers.pre_tokenizers import ByteLevel, Digits, PreTokenizer, Sequence, Split

from tests.gguf_files import read_fields
from tuneyard.checkpoints.gguf.gguf_types import GgufType
from tuneyard.checkpoints.gguf.writing import write_gguf
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.harmony.settings import CodecSettings
from tuneyard.harmony.tokenizer_file.tokenizer_rules import O200K_PATTERN

GPT_2 = ByteLevel(add_prefix_space=False)
SMOLLM = Sequence([Digits(individual_digits=True), ByteLevel(add_prefix_space=False)])
O200K = Sequence([Split(Regex(O200K_PATTERN), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)])

TEXTS = [
    "Hello, world! 12345 it's we'll I'D",
    "  \n\n\ttabs  and   spaces ",
    "naïve café – 漢字かな 🎉🏳️ ",
    "def f(x):\n    return x**2\r\n\r\n",
    "HTTPServer camelCase ÀÉÎ İstanbul ß",
    "１２３ 四五 ٣٤٥ ½",
    "e\u0301 a\u0308 \u200d\u200b x",
    "https://a.b/c?d=e&f#g //// ...",
    "Привет, мир! שלום עולם مرحبا 안녕하세요",
]


@pytest.mark.parametrize(("name", "splitter"), [("gpt-2", GPT_2), ("smollm", SMOLLM), ("gpt-4o", O200K)])
def test_llama_cpp_splits_text_as_the_tokenizer_does(tiny_oss_copy: Path, name: str, splitter: PreTokenizer) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_oss_copy / "tokenizer.json"))
    tokenizer.pre_tokenizer = splitter
    tokenizer.save(str(tiny_oss_copy / "tokenizer.json"))
    path = tiny_oss_copy / "m.gguf"
    write_gguf(tiny_oss_copy, path, GgufType.F32)
    assert read_fields(path)["tokenizer.ggml.pre"] == name
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = 256
    params.verbosity = -1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    codec = HarmonyCodec.from_checkpoint(tiny_oss_copy, CodecSettings())
    for text in TEXTS:
        body = {"content": text, "parse_special": False, "add_special": False}
        ids = httpx.post(f"{server.listening_address}/tokenize", json=body).json()["tokens"]
        assert ids == codec.encode_text(text), text
