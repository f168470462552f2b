"""From download to chat with 20B's own shapes: 2 of its 24 layers, with random weights, by the config for a laptop."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_apps.deployment.checked_model import check_model
from serve_apps.engines.engine_factory import create_engine
from serve_apps.generation.served_model import ServedModel
from tests.process_memory import PeakMemory
from tests.published_20b import write_published_20b
from tests.serve_apps.api_client import client_of, stream_chat
from tuneyard.checkpoints.gguf.node_gguf import FILE_NAME
from tuneyard.checkpoints.layout.json_files import read_json
from tuneyard.checkpoints.node_cache import cache_folder
from tuneyard.cli.main import main
from tuneyard.configs.serve import ServeConfig
from tuneyard.core.config_loading import load_config
from tuneyard.harmony.codec import HarmonyCodec
from tuneyard.planning.llama_cpp.replica_plan import plan_llama_cpp

CONFIG = Path("serve_apps/configs/gpt_oss_20b_laptop.yaml")
THREADS = ["models.0.engine.llama_cpp.n_threads=1", "models.0.replicas.num_cpus=1"]


@pytest.fixture
def download(tuneyard_home: Path) -> Iterator[Path]:
    """Where the config expects the model, as `hf download` leaves it: 3.2 GB, and its GGUF file as much."""
    folder = tuneyard_home / "models/base/gpt-oss-20b"
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_published_20b(folder, layers=2)
    yield folder
    # pytest keeps temporary folders of earlier sessions.
    shutil.rmtree(folder)
    shutil.rmtree(cache_folder())


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.usefixtures("cache")
async def test_adopt_serve_and_chat(download: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer is nonsense. Its tokens are of the whole vocabulary, and the memory is the planned one."""
    assert main(["models", "adopt", str(download)]) == 0
    assert main(["serve", "plan", str(CONFIG)]) == 0
    assert "main memory needed" in capsys.readouterr().out
    (config,) = load_config(ServeConfig, CONFIG, THREADS).models
    model = check_model(config)
    peak = PeakMemory()
    engine = create_engine(config.engine, model.folder)
    await engine.start()
    served = ServedModel(engine, HarmonyCodec.from_checkpoint(model.folder, model.codec), config.model_id, "0" * 16)
    async with client_of(served) as client:
        body = {"model": config.model_id, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 24}
        *events, done = await stream_chat(client, body | {"temperature": 0, "stream_options": {"include_usage": True}})
        assert done == "[DONE]"
        usage = events[-1]["usage"]
        assert (usage["prompt_tokens"], usage["completion_tokens"]) == (57, 24)
        long = "one two three four five " * 200
        events = await stream_chat(client, body | {"messages": [{"role": "user", "content": long}], "max_tokens": 4})
        assert events[-1] == "[DONE]"
    taken = peak.stop()
    await engine.shutdown()
    assert config.engine.llama_cpp is not None
    plan = plan_llama_cpp(config.engine.llama_cpp, read_json(download / "config.json"), is_mxfp4=True)
    (gguf,) = cache_folder().rglob(FILE_NAME)
    # The file has keys and the names of tokens besides.
    assert gguf.stat().st_size == pytest.approx(plan.weights_bytes, rel=0.01)
    print(f"took {taken:,}, planned {plan.allocated_bytes:,} and {plan.process_bytes:,} for the process")
    assert 0.85 * plan.allocated_bytes < taken < plan.allocated_bytes + plan.process_bytes
