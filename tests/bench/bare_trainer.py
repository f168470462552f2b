"""A bare TorchTrainer with two workers and one collective, to compare start times with."""

import ray
import ray.train
import torch
import torch.distributed
from ray.train.torch import TorchConfig, TorchTrainer


def loop() -> None:
    value = torch.ones(1)
    torch.distributed.all_reduce(value)
    print("first step", flush=True)


if __name__ == "__main__":
    ray.init(address="auto")
    TorchTrainer(
        loop, torch_config=TorchConfig(backend="gloo"), scaling_config=ray.train.ScalingConfig(num_workers=2)
    ).fit()
