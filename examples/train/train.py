"""A small neural network that learns to tell two spirals apart, in nothing but Python.

It shows what ringtasks expects of a training program: one line an epoch with its metrics, a
checkpoint that is never half-written, and a start from the checkpoint where there is one.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

Layer = list[list[float]]  # one row a neuron: its weights, and its bias at the end


def spirals(count: int, rng: random.Random) -> list[tuple[list[float], float]]:
    """Points on two arms, each with its label; the radius and two waves of it help to learn."""
    points = []
    for n in range(count):
        label = n % 2
        angle = 0.5 + 2.6 * math.pi * n / count
        radius = angle / 9 + rng.gauss(0, 0.012)
        x = radius * math.cos(angle + math.pi * label)
        y = radius * math.sin(angle + math.pi * label)
        points.append(([x, y, math.sin(3 * x), math.sin(3 * y), x * y, math.hypot(x, y)], label))
    rng.shuffle(points)
    return points


def new_layer(inputs: int, outputs: int, rng: random.Random) -> Layer:
    spread = 1 / math.sqrt(inputs)
    return [[rng.uniform(-spread, spread) for _ in range(inputs + 1)] for _ in range(outputs)]


def forward(layer: Layer, inputs: list[float]) -> list[float]:
    return [math.tanh(sum(map(float.__mul__, row, inputs)) + row[-1]) for row in layer]


def predict(model: list[Layer], inputs: list[float]) -> list[list[float]]:
    """Every layer's output, the input in front."""
    outputs = [inputs]
    for layer in model:
        outputs.append(forward(layer, outputs[-1]))
    return outputs


def learn(model: list[Layer], inputs: list[float], target: float, rate: float) -> float:
    """One step of gradient descent; the squared error before it."""
    outputs = predict(model, inputs)
    error = outputs[-1][0] - target
    deltas = [2 * error * (1 - outputs[-1][0] ** 2)]
    for depth in range(len(model) - 1, -1, -1):
        layer, below = model[depth], outputs[depth]
        passed_on = [0.0] * len(below)
        for row, delta in zip(layer, deltas, strict=True):
            for n, value in enumerate(below):
                passed_on[n] += delta * row[n]
                row[n] -= rate * delta * value
            row[-1] -= rate * delta
        deltas = [up * (1 - value**2) for up, value in zip(passed_on, below, strict=True)]
    return error * error


def accuracy(model: list[Layer], points: list[tuple[list[float], float]]) -> float:
    right = sum((predict(model, x)[-1][0] > 0) == (label > 0) for x, label in points)
    return right / len(points)


def save(path: Path, content: object) -> None:
    """Write and rename: a concurrent copy of the folder has the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(content))
    fresh.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds to wait after each epoch")
    given = parser.parse_args()

    rng = random.Random(given.seed)
    points = [(x, 2.0 * label - 1.0) for x, label in spirals(1000, rng)]
    train, test = points[:800], points[800:]
    checkpoint = Path("checkpoint/state.json")
    if checkpoint.exists():
        state = json.loads(checkpoint.read_text())
        print(f"going on from epoch {state['epoch']}", flush=True)
    else:
        state = {"epoch": 0, "model": [new_layer(6, 20, rng), new_layer(20, 1, rng)]}
    model = state["model"]
    for epoch in range(state["epoch"] + 1, given.epochs + 1):
        rng.shuffle(train)
        rate = 0.1 / (1 + epoch / 20)
        loss = sum(learn(model, x, label, rate) for x, label in train) / len(train)
        print(
            f"epoch {epoch}/{given.epochs} loss={loss:.4f} accuracy={accuracy(model, test):.3f}",
            flush=True,
        )
        save(checkpoint, {"epoch": epoch, "model": model})
        time.sleep(given.pause)
    save(Path("model.json"), {"layers": model, "accuracy": accuracy(model, test)})


if __name__ == "__main__":
    main()
