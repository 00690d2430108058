"""Memory plans of networks of MLPerf Tiny's size, and ResNet-8 on a board with 16 KB of RAM.

    python benchmarks/memory.py --resnet8 resnet8.onnx --images cifar10_jpeg.npz

Bytes depend on shapes only, so the networks beside ResNet-8 have random weights. ResNet-8 is compiled for the
HiFive1, verified there on real images, and its instructions are counted. Writes benchmarks/results/memory.json.
"""

import io
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from mcucompile.bench import bench_project
from mcucompile.driver import Options, Quantized, compile_model, quantize_model
from mcucompile.ir import Array
from mcucompile.plan import choose_streams, plan_arena
from mcucompile.project import devices, load_project
from mcucompile.verify import verify_devices
from PIL import Image
from torch import nn

RESULTS = Path(__file__).resolve().parent / "results" / "memory.json"
CALIBRATION, VERIFIED = 200, 20
MOBILENET = ((16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), *((128, 1),) * 5, (256, 2), (256, 1))


def separable(c_in: int, c_out: int, stride: int) -> list[nn.Module]:
    """Depthwise and pointwise convolution, each with batch-norm and a rectifier."""
    return [
        nn.Conv2d(c_in, c_in, 3, stride, 1, groups=c_in, bias=False), nn.BatchNorm2d(c_in), nn.ReLU6(),
        nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out), nn.ReLU6(),
    ]  # fmt: skip


def mobilenet() -> nn.Module:
    """MobileNetV1 at width 0.25, the person-detection network of MLPerf Tiny (arXiv:1704.04861, Table 1)."""
    layers: list[nn.Module] = [nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()]
    channels = 8
    for c_out, stride in MOBILENET:
        layers += separable(channels, c_out, stride)
        channels = c_out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 2))


def ds_cnn() -> nn.Module:
    """DS-CNN, the keyword-spotting network of MLPerf Tiny (arXiv:1711.07128)."""
    layers: list[nn.Module] = [nn.Conv2d(1, 64, (10, 4), 2, (5, 1), bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    for _ in range(4):
        layers += separable(64, 64, 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 12))


def images(path: Path, split: str, count: int) -> Array:
    """Return the first images of CIFAR-10, (count, 32, 32, 3) bytes."""
    with np.load(path) as data:
        jpeg, offsets = data[f"jpeg_{split}"], data[f"off_{split}"]
    ends = itertools.pairwise(offsets[: count + 1])
    return np.stack([np.asarray(Image.open(io.BytesIO(jpeg[a:b].tobytes())).convert("RGB")) for a, b in ends])


def plans(quantized: Quantized) -> dict[str, int]:
    """Return the bytes of the arena: all apart, outputs over inputs, row by row; and what none can go below."""
    graph = quantized.graph
    streamed = plan_arena(graph, choose_streams(graph))
    in_place = plan_arena(graph)
    return {
        "input_bytes": graph.input.bytes,
        "largest_tensor_bytes": max(tensor.bytes for tensor in graph.tensors.values()),
        "apart_bytes": plan_arena(graph, in_place=False).bytes,
        "in_place_bytes": in_place.bytes,
        "in_place_bound_bytes": in_place.lower_bound,
        "streamed_bytes": streamed.bytes,
        "streamed_bound_bytes": streamed.lower_bound,
    }


def random_network(network: nn.Module, shape: tuple[int, ...]) -> Quantized:
    """Quantize a network with random weights whose activations have the size that training gives them."""
    samples = torch.rand((32, *shape), generator=torch.Generator().manual_seed(0))
    network.train()
    for _ in range(30):
        network(samples)
    return quantize_model(network.eval(), samples.numpy(), Options(), (samples[:1],))


def on_hifive1(model: Path, data: Path) -> dict[str, Any]:
    """Compile ResNet-8 for 16 KB of RAM, verify it in QEMU and count in unicorn."""
    with tempfile.TemporaryDirectory() as directory:
        project = Path(directory) / "resnet8"
        samples = images(data, "train", CALIBRATION)
        compiled = compile_model(model, target="hifive1", samples=samples, output=project)
        if not compiled.fits:
            raise SystemExit(f"ResNet-8 on hifive1: {compiled.budget.shortfalls}")
        loaded = load_project(project)
        codes = images(data, "test", VERIFIED)[:, None].astype(np.int64)
        verified = verify_devices(loaded.graph, codes, devices(loaded, "qemu"), model_hash=loaded.digest)
        if not verified.ok:
            raise SystemExit(f"ResNet-8 on hifive1: {verified.first}")
        counts = bench_project(loaded, "unicorn", codes[:1])
        facts = compiled.facts()
    keys = ("flash_bytes", "ram_bytes", "ram_limit_bytes", "arena_bytes", "stack_bytes")
    return {key: facts[key] for key in keys} | {
        "inputs": verified.inputs,
        "mismatches": verified.mismatches,
        "layers": len(verified.layers),
        "instructions": counts.instructions,
    }


@click.command()
@click.option("--resnet8", type=click.Path(exists=True, path_type=Path), required=True, help="MLPerf Tiny's, float.")
@click.option("--images", "data", type=click.Path(exists=True, path_type=Path), required=True, help="CIFAR-10, JPEG.")
def main(resnet8: Path, data: Path) -> None:
    """Plan, measure, write the results."""
    torch.manual_seed(0)
    networks = {
        "ResNet-8": quantize_model(resnet8, images(data, "train", CALIBRATION), Options()),
        "MobileNetV1 0.25, 96x96x3": random_network(mobilenet(), (3, 96, 96)),
        "DS-CNN, 49x10": random_network(ds_cnn(), (1, 49, 10)),
    }
    content = {
        "networks": {name: plans(quantized) for name, quantized in networks.items()},
        "hifive1": on_hifive1(resnet8, data),
    }
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")
    print(RESULTS.read_text())


if __name__ == "__main__":
    main()
