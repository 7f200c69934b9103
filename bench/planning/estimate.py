"""Times on devices that are not here, from shapes and a device's speed. Imports no torch.

An estimate, not a measurement: of the order of magnitude, and for what limits what. FLOP of a model
with P parameters are 2 P per token read, 4 P per token to propagate back. Per update, with the
tokens that the policy reads once for all completions of a prompt, and those after them:

| part | FLOP, or bytes of memory read |
|---|---|
| policy, to train | 6 P per token; 8 P in several micro-batches, which are read twice |
| value model, if there is one | as the policy |
| reference; reward model | 2 P; 2 R per token |
| generation, prompts | 2 P per token |
| generation, per token of a row | 2 P per row, or weights and cache once: what takes longer |

Ranks of the learner share the work, and what adds up their gradients counts nothing. Weights are
handed over in a file in shared memory, at the rates below. Evaluation is not in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from bench.config import RunConfig
from bench.errors import UserError
from bench.planning.memory import DTYPE_BYTES, Shape
from bench.planning.predict import Measured
from bench.planning.simulation import Work

WRITE_S, READ_S = 0.55e-9, 0.2e-9  # per byte, checksum included; measured on one core of a CPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Devices that are all alike.

    Attributes:
        devices: how many.
        memory_bytes: of each.
        flops: per second, as sustained in training, not as advertised.
        bandwidth: bytes per second from the device's memory.
    """

    devices: int
    memory_bytes: int
    flops: float
    bandwidth: float

    @staticmethod
    def parse(text: str, teraflops: float, bandwidth_gb_per_s: float) -> Machine:
        """Return the machine of a text such as ``4x80``: four devices of 80 GB.

        Raises:
            UserError: it is not of this form, or a number is not above 0.
        """
        found = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", text)
        if found is None:
            raise UserError(f"--devices {text}: allowed is COUNTxGB, such as 4x80")
        for flag, value in (("--tflops", teraflops), ("--gb-per-s", bandwidth_gb_per_s)):
            if not 0 < value < 1e6:
                raise UserError(f"{flag} {value}: allowed is a number above 0 and below 1e6")
        return Machine(
            devices=int(found[1]),
            memory_bytes=int(found[2]) * 10**9,
            flops=teraflops * 1e12,
            bandwidth=bandwidth_gb_per_s * 1e9,
        )

    @property
    def ranks(self) -> int:
        """The learner's: one device is the engine's, if there is another one."""
        return max(1, self.devices - 1)

    @property
    def names(self) -> tuple[str, ...]:
        """The devices, as ``bench.processes.devices`` names them."""
        return tuple(f"cuda:{i}" for i in range(self.devices))

    @property
    def memory(self) -> dict[str, int]:
        """Bytes of each device."""
        return dict.fromkeys(self.names, self.memory_bytes)


def estimate(
    machine: Machine, config: RunConfig, policy: Shape, reward: Shape | None, prompt_tokens: int
) -> Measured:
    """Return what an update would take.

    With two devices or more, the engine has one and a rank of the learner each of the others; with
    one, they take turns.

    Args:
        machine: where.
        config: the run.
        policy: its shape.
        reward: the reward model's; None: rewards are by rule.
        prompt_tokens: of a prompt. Every completion counts with the most tokens that it may have.
    """
    k, after = config.algorithm.completions_per_prompt, config.max_completion_tokens
    rows = k * config.prompts_per_batch
    read = config.prompts_per_batch * prompt_tokens
    size, parameters = DTYPE_BYTES[config.dtype], policy.language_model

    twice = (config.microbatch_rows or rows) < rows
    trained = parameters
    if config.algorithm.needs_values:
        trained += (reward or policy).scorer
    per_token = (8 if twice else 6) * trained + 2 * parameters
    scored = 2 * reward.scorer * rows * (prompt_tokens + after) if reward else 0
    train_s = (per_token * (read + rows * after) + scored) / machine.flops / machine.ranks

    cache = 2 * size * policy.hidden * policy.layers * rows * (prompt_tokens + after / 2)
    token_s = max(
        2 * parameters * rows / machine.flops, (size * parameters + cache) / machine.bandwidth
    )
    generate_s = 2 * parameters * read / machine.flops + after * token_s

    if machine.devices == 1:
        whole = Work(generate_s=generate_s, train_s=train_s)
        return Measured(model=config.stage.model, whole=(whole,))
    handed = 4 * parameters
    split = Work(
        generate_s=generate_s,
        train_s=train_s,
        publish_s=WRITE_S * handed,
        load_s=READ_S * handed,
    )
    return Measured(model=config.stage.model, split=(split,))
