"""What watching costs, and what it writes: nnvis and other tools around the same hand-written loop.

    pip install wandb delve                  # those that are not installed are left out
    python tests/benchmarks/peers.py [--pairs 5] [--seconds 2] [--threads 1] [-o peers.md]

A 20 x 256 MLP, batches of 128, on the CPU. Each tool is paired with the bare loop, in turn (A B B A ...); the ratio is
taken within each pair. What is timed is the loop, without opening and closing the tool. Everything is as wide open as
the tool allows and measures at every step, unless its row says otherwise. The allocator keeps memory (watch.py).
"""

from __future__ import annotations

import argparse
import logging
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from watch import keep_memory

import nnvis
from nnvis.bench import paired

DEPTH, WIDTH, BATCH, CLASSES = 20, 256, 128, 10
Told = Callable[[int, float], None]  # after each backward pass: the step and its loss


class Tool(NamedTuple):
    """One way to watch."""

    name: str
    what: str
    package: str
    around: Callable[[nn.Module, torch.optim.Optimizer, Path], AbstractContextManager[Told]]


def watched(**options: Any) -> Callable[..., AbstractContextManager[Told]]:
    @contextmanager
    def around(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> Iterator[Told]:
        with nnvis.watch(model, optimizer, log_dir=folder, **options) as probe:
            yield lambda step, loss: probe.log(loss=loss)

    return around


@contextmanager
def naive(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> Iterator[Told]:
    """What people write who have no tool: four statistics of each output, the norm of each parameter's gradient."""
    from torch.utils.tensorboard import SummaryWriter

    writer, now = SummaryWriter(folder), 0

    def read(name: str, output: Tensor) -> None:
        x = output.detach()
        statistics = {"mean": x.mean(), "std": x.std(), "absmax": x.abs().max(), "zeros": (x == 0).float().mean()}
        for statistic, value in statistics.items():
            writer.add_scalar(f"{statistic}/{name}", value.item(), now)

    for name, module in model.named_modules():
        if not list(module.children()):
            module.register_forward_hook(lambda _, __, output, name=name: read(name, output))

    def told(step: int, loss: float) -> None:
        nonlocal now
        writer.add_scalar("loss", loss, step)
        for name, parameter in model.named_parameters():
            if parameter.grad is not None:
                writer.add_scalar(f"grad_norm/{name}", parameter.grad.norm().item(), step)
        now = step + 1

    with writer:
        yield told


@contextmanager
def wandb_watch(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> Iterator[Told]:
    import wandb  # pyright: ignore[reportMissingImports]

    settings = wandb.Settings(silent=True, console="off")
    with wandb.init(project="peers", mode="offline", dir=folder, settings=settings) as run:
        run.watch(model, log="all", log_freq=1)
        yield lambda step, loss: run.log({"loss": loss})


@contextmanager
def delve(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> Iterator[Told]:
    from delve import SaturationTracker  # pyright: ignore[reportMissingImports]

    logging.disable(logging.INFO)  # it tells every layer that it adds
    tracker = SaturationTracker(str(folder / "saturation"), save_to="csv", modules=model, stats=["lsat"], device="cpu")

    def told(step: int, loss: float) -> None:
        if step % 100 == 99:  # an epoch, say
            tracker.add_saturations()

    yield told
    tracker.close()


@contextmanager
def lightning(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> Iterator[Told]:
    """Its norms and its logger, in the same loop as the others."""
    from pytorch_lightning.loggers import TensorBoardLogger
    from pytorch_lightning.utilities import grad_norm

    logger = TensorBoardLogger(folder)
    yield lambda step, loss: logger.log_metrics({"loss": loss, **grad_norm(model, 2)}, step)
    logger.finalize("success")


TOOLS = [
    Tool("nnvis", "outputs, their gradients, parameters and updates", "nnvis", watched(every=1, histograms=False)),
    Tool("nnvis, histograms", "the same, and histograms of all three every 100 steps", "nnvis", watched(every=1)),
    Tool("nnvis, `every=10`", "the same, at every tenth step", "nnvis", watched(every=10)),
    Tool("hooks + SummaryWriter", "4 statistics of outputs, parameter gradient norms", "tensorboard", naive),
    Tool("Lightning `grad_norm`", "parameter gradient norms", "pytorch_lightning", lightning),
    Tool("delve", "saturation of outputs, every 100 steps", "delve", delve),
    Tool("`wandb.watch`, offline", "histograms of parameters and their gradients", "wandb", wandb_watch),
]  # fmt: skip


def bare(model: nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> AbstractContextManager[Told]:
    return nullcontext(lambda step, loss: None)


def train(around: Callable[..., AbstractContextManager[Told]], steps: int) -> tuple[float, float]:
    """Seconds that the loop takes, and bytes a step that are on the disk in the end."""
    torch.manual_seed(0)
    hidden = (layer for _ in range(DEPTH) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU()))
    model = nn.Sequential(*hidden, nn.Linear(WIDTH, CLASSES))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    inputs, targets = torch.randn(16, BATCH, WIDTH), torch.randint(CLASSES, (16, BATCH))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with around(model, optimizer, folder) as told:
            began = time.perf_counter()
            for step in range(steps):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(inputs[step % 16]), targets[step % 16])
                loss.backward()
                told(step, loss.item())
                optimizer.step()
            seconds = time.perf_counter() - began
        written = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return seconds, written / steps


def rows(pairs: int, seconds: float) -> Iterator[str]:
    """The table, line by line."""
    train(bare, 20)
    steps = 100 * max(1, math.ceil(seconds / train(bare, 100)[0]))
    yield "| around the loop | what it measures | time, bare loop = 1 (range) | bytes a step |"
    yield "|---|---|---|---|"
    step_ms = []
    for tool in TOOLS:
        if find_spec(tool.package) is None:
            print(f"{tool.name}: left out, {tool.package} is not installed", file=sys.stderr)
            continue
        train(tool.around, 20)
        written = []

        def theirs(tool: Tool = tool, written: list[float] = written) -> float:
            spent, bytes_a_step = train(tool.around, steps)
            written.append(bytes_a_step)
            return spent

        spent, spent_bare = paired(theirs, lambda: train(bare, steps)[0], pairs)
        step_ms += [1000 * one / steps for one in spent_bare]
        ratios = sorted(one / other for one, other in zip(spent, spent_bare, strict=True))
        ratio = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        yield f"| {tool.name} | {tool.what} | {ratio} | {statistics.median(written):,.0f} |"
    yield ""
    yield (
        f"{pairs} pairs of {steps} steps each; a step of the bare loop takes {statistics.median(step_ms):.1f} ms "
        f"(PyTorch {torch.__version__.split('+')[0]}, CPU, threads: {torch.get_num_threads()})."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of the bare loop, in each pair")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path, help="the table, as Markdown")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keep_memory()
    lines = []
    for line in rows(options.pairs, options.seconds):
        print(line, flush=True)
        lines.append(line)
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
