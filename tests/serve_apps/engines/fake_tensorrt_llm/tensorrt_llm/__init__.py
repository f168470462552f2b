"""A fake of TensorRT-LLM 1.2.1, as far as tensorrt_llm_contract.json goes: it behaves, on a CPU, with a small GPT-OSS.

Put its folder on sys.path to import it. It accepts no argument and has no attribute that the contract does not name, so
what runs on it keeps to the contract.
"""

from tensorrt_llm.llm import LLM
from tensorrt_llm.sampling_params import SamplingParams

__version__ = "1.2.1"
__all__ = ["LLM", "SamplingParams", "__version__"]
