"""A sweep of a thousand runs on one GPU; prints rates, ratios, memory and differences to the CPU.

    python benchmarks/gpu.py --members 1000 --epochs 25

For each network:

1. Correctness: the losses of a few steps of a small array in float32 on the GPU, without TF32,
   against the same array on the CPU.
2. A training step of the whole array: eagerly and as a CUDA graph, in float32, in TF32 and under
   bf16 autocast; the share of the card's own matrix rate, measured beside it; peak memory.
3. The convolutions of all members as one grouped convolution and as batched products.
4. The plain loop of one network on the same GPU.
5. The whole command, from its start to its table (`--command`).

scikit-learn's digits are the data: they need no download.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from contenders import CONF, LEARNING_RATE, Network, loss_of  # noqa: E402  # after sys.path
from hydra import compose, initialize_config_dir  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

from digitpairs.engines.pairs_lightning import make_module  # noqa: E402
from digitpairs.losses import loss_parts  # noqa: E402
from digitpairs.networks.layers import draw_masks, dropout_layers  # noqa: E402
from digitpairs.training import PairComparisonArray  # noqa: E402

CASES = {"siamese_mlp": 50, "siamese_cnn": 100}
PAIRS = 500
PRECISIONS = ("float32", "tf32", "bf16")


class ArrayStep:
    """A training step of an array of equal networks on random pairs, without Lightning."""

    def __init__(self, model: str, members: int, batch: int, device: str) -> None:
        with initialize_config_dir(CONF, version_base="1.3"):
            config = OmegaConf.to_container(compose("config", [f"model={model}"]), resolve=True)
        module = make_module(config)
        module.aux.start_epoch(0, [])
        self.array = PairComparisonArray([module] * members)
        generator = torch.Generator().manual_seed(0)
        # Drawn on the CPU, so that both devices are compared with the same masks.
        draw_masks(dropout_layers(self.array.network), batch, [generator] * members)
        self.array.train().to(device)
        self.optimizer = self.array.configure_optimizers()
        images = torch.rand(batch, 2, 14, 14, generator=generator)
        digits = torch.randint(10, (batch, 2), generator=generator)
        target = (digits[:, 0] <= digits[:, 1]).long()
        self.batch = [
            each.expand(members, *each.shape).contiguous().to(device)
            for each in (images, digits, target)
        ]
        self.optimizer.start_epoch(torch.full((50, members), 1e-3, dtype=torch.float64))

    def repeat_first_step(self) -> None:
        """Use the optimiser's numbers of the first step in all steps: a graph replays them."""
        for numbers in ("corrections", "rates"):
            setattr(
                self.optimizer, numbers, itertools.repeat(next(getattr(self.optimizer, numbers)))
            )

    def __call__(self) -> Tensor:
        """One step of all members; their losses (members,)."""
        images, digits, target = self.batch
        prediction = self.array.network(images)
        loss = self.array.aux(loss_parts(prediction, digits, target))
        for parameter in self.array.parameters():
            parameter.grad = None
        loss.backward(torch.ones_like(loss))
        self.optimizer.step_without_hooks()
        torch.clear_autocast_cache()  # casts of weights must not outlive an update
        return loss.detach()


@contextlib.contextmanager
def precision(name: str) -> Iterator[None]:
    """Matrix products and convolutions in float32, in TF32, or under bf16 autocast."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"
    with torch.autocast("cuda", torch.bfloat16, enabled=name == "bf16"):
        yield


def milliseconds(work: Callable[[], object], repetitions: int = 10) -> float:
    """The median time of a call on the GPU, after two calls that warm up."""
    times = []
    for number in range(repetitions + 2):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        if number > 1:
            times.append(start.elapsed_time(end))
    return statistics.median(times)


def captured(work: Callable[[], object]) -> Callable[[], None]:
    """The work as a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def matrix_rate(name: str) -> float:
    """TFLOP/s of a product of two square matrices of 8192."""
    dtype = torch.bfloat16 if name == "bf16" else torch.float32
    left, right = (torch.randn(8192, 8192, device="cuda", dtype=dtype) for _ in range(2))
    with precision("tf32" if name == "tf32" else "float32"):
        return 2 * 8192**3 / milliseconds(lambda: left @ right) / 1e9


def check_against_cpu(model: str, batch: int) -> None:
    """The losses of ten steps of three members on both devices."""
    with precision("float32"):
        losses = []
        for device in ("cpu", "cuda"):
            step = ArrayStep(model, 3, batch, device)
            losses.append(torch.stack([step().cpu() for _ in range(10)]))
    difference = ((losses[0] - losses[1]) / losses[0]).abs().max().item()
    verdict = "as expected" if difference < 1e-3 else "TOO LARGE"
    print(f"  loss over ten steps against the CPU: relative difference {difference:.1e}, {verdict}")


def measure_steps(model: str, members: int, batch: int, rates: dict[str, float]) -> None:
    """Prints the step's time, its rate and memory in each precision, eagerly and as a graph."""
    for name in PRECISIONS:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        with precision(name):
            step = ArrayStep(model, members, batch, "cuda")
            step.repeat_first_step()
            single = ArrayStep(model, 1, batch, "cpu")
            with FlopCounterMode(display=False) as counter:
                single()
            eager = milliseconds(step)
            graph = milliseconds(captured(step))
        rate = members * counter.get_total_flops() / min(eager, graph) / 1e9
        print(
            f"  {name:8} step of {members} members: {eager:.2f} ms, as a graph {graph:.2f} ms; "
            f"{rate:.1f} TFLOP/s, {100 * rate / rates[name]:.0f} % of {rates[name]:.0f}; "
            f"peak memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB",
            flush=True,
        )
        del step


def measure_masks(model: str, members: int, batch: int) -> None:
    """Prints what drawing the dropout masks costs, if there are any."""
    step = ArrayStep(model, members, batch, "cuda")
    dropouts = dropout_layers(step.array.network)
    if dropouts:
        generators = [torch.Generator().manual_seed(member) for member in range(members)]
        spent = milliseconds(lambda: draw_masks(dropouts, batch, generators), 3)
        print(f"  dropout masks of a step: {spent:.2f} ms")


def measure_convolutions(members: int, batch: int) -> None:
    """Prints the time of both convolutions, forward and backward, in two ways."""
    for inputs, outputs, side in ((1, 32, 14), (32, 64, 6)):
        images = torch.randn(members, 2 * batch, inputs, side, side, device="cuda")
        weight = torch.randn(members, outputs, inputs, 3, 3, device="cuda", requires_grad=True)
        images.requires_grad_(inputs > 1)

        def grouped(images: Tensor = images, weight: Tensor = weight) -> None:
            rows = images.transpose(0, 1).flatten(1, 2)
            F.conv2d(rows, weight.flatten(0, 1), groups=len(weight)).sum().backward()

        def batched(images: Tensor = images, weight: Tensor = weight) -> None:
            windows = images.unfold(3, 3, 1).unfold(4, 3, 1)  # (M, B, in, h, w, 3, 3)
            columns = windows.permute(0, 1, 3, 4, 2, 5, 6).flatten(4).flatten(1, 3)
            torch.bmm(columns, weight.flatten(2).mT).sum().backward()

        for name in ("float32", "tf32"):
            with precision(name):
                times = [milliseconds(each, 5) for each in (grouped, batched)]
            print(
                f"  convolution {inputs} to {outputs} channels, {name}: "
                f"grouped {times[0]:.2f} ms, batched products {times[1]:.2f} ms",
                flush=True,
            )


def plain_loop_step(model: str, batch: int) -> float:
    """Milliseconds of a step of one network, as a user writes it, with torch's fused Adam."""
    network = Network(model).cuda()
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE, fused=True)
    images = torch.rand(batch, 2, 14, 14, device="cuda")
    digits = torch.randint(10, (batch, 2), device="cuda")
    target = (digits[:, 0] <= digits[:, 1]).float()

    def step() -> None:
        comparison, logits = network(images)
        loss = loss_of(comparison, logits, digits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    start = time.perf_counter()
    for number in range(220):
        if number == 20:
            torch.cuda.synchronize()
            start = time.perf_counter()
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1000 / 200


def whole_command(model: str, members: int, batch: int, epochs: int, limit: int) -> None:
    """Prints the wall time of the whole command, or that it takes longer than the limit."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "train.py", f"model={model}", "data=digits", f"data.pairs={PAIRS}"),
            *(f"data.batch_size={batch}", f"trainer.max_epochs={epochs}", "-m"),
            *("trainer.accelerator=gpu", f"sweep.array_size={members}", f"output={folder}"),
            f"seed=0..{members - 1}",
        ]
        start = time.perf_counter()
        try:
            done = subprocess.run(command, cwd=ROOT, timeout=limit, capture_output=True, text=True)
        except subprocess.TimeoutExpired as late:
            seen = (late.stdout or b"").decode().strip().splitlines()[-2:]
            print(f"  the whole command takes over {limit} s; last lines: {seen}", flush=True)
            return
        seconds = time.perf_counter() - start
        print(
            f"  the whole command, {members} seeds, {epochs} epochs: {seconds:.1f} s, status ",
            end="",
        )
        print(
            done.returncode,
            *(done.stdout + done.stderr).strip().splitlines()[-6:],
            sep="\n    ",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--models", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--command", type=int, metavar="SECONDS", help="run it, at most so long")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if not torch.cuda.is_available():
        sys.exit("there is no GPU that torch can use")
    torch.set_num_threads(1)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, CUDA {torch.version.cuda}")
    rates = {name: matrix_rate(name) for name in PRECISIONS}
    for model in options.models:
        batch = CASES[model]
        print(f"{model}, batch {batch}", flush=True)
        check_against_cpu(model, batch)
        measure_steps(model, options.members, batch, rates)
        measure_masks(model, options.members, batch)
        if model == "siamese_cnn":
            measure_convolutions(min(options.members, 200), batch)
        loop = plain_loop_step(model, batch)
        print(f"  plain loop: {loop:.2f} ms a step of one network, {loop * options.members:.0f} ms")
        if options.command:
            torch.cuda.empty_cache()
            whole_command(model, options.members, batch, options.epochs, options.command)


if __name__ == "__main__":
    main()
