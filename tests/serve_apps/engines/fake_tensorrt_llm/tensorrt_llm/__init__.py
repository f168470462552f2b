"""A fake of TensorRT-LLM that runs a small GPT-OSS on a CPU, limited to tensorrt_llm_contract.json.

Put its parent folder on sys.path to import it. It accepts no argument and has no attribute that the contract does not
list, so code that runs on it uses only what the contract lists. It behaves as 1.2.1, and as another version of the
contract where a test sets `__version__`.
"""

from tensorrt_llm.llm import LLM
from tensorrt_llm.sampling_params import SamplingParams

__version__ = "1.2.1"
__all__ = ["LLM", "SamplingParams", "__version__"]
