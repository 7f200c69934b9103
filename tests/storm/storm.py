"""Disturbs a command until it has been interrupted often enough, then lets it end and compares."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random

from bench.paths import CHECKPOINTS

from . import plan
from .comparison import changed_numbers, files_left
from .plan import INT, ITSELF, KILL, TERM, Strike
from .processes import HELPER, MAIN, POLL_S, Process, Watch
from .scenarios import Reference, Sandbox, Scenario, undisturbed
from .tally import Tally

ENDS_S = 10.0  # for the main process after a signal, and for all others after it
SLOWER = 5.0  # than undisturbed may a command be that was not told to end
STARTS_S = 60.0  # and this much on top
# A command may end before, too; by the signal itself while Python starts or ends.
ENDINGS = {INT: (130, -INT), TERM: (143, -TERM), KILL: (-KILL,)}
NEVER_SAID = ("Traceback", "resource_tracker")


class Storm:
    """Rounds over scenarios, in turn; each is drawn from the seed and its number alone."""

    def __init__(self, scenarios: Sequence[Scenario], directory: Path, seed: int) -> None:
        """Prepare; ``directory`` is empty and gets all files."""
        self.tally = Tally()
        self._scenarios = scenarios
        self._directory = directory
        self._seed = seed
        self._references: dict[str, Reference] = {}
        self._checkpoints: Path | None = None

    def prepare(self, say: Callable[[str], None] = print) -> None:
        """Run each scenario undisturbed. The first one trains what the others start from.

        Raises:
            RuntimeError: one fails.
        """
        for scenario in self._scenarios:
            say(scenario.name)
            place = self._directory / f"reference-{scenario.name}"
            reference = undisturbed(scenario, place, self._checkpoints)
            self._references[scenario.name] = reference
            self._checkpoints = self._checkpoints or reference.results / CHECKPOINTS

    def round(self, number: int) -> None:
        """Do one round; its files stay if it finds a fault."""
        scenario = self._scenarios[number % len(self._scenarios)]
        reference = self._references[scenario.name]
        name = f"round-{number}-{scenario.name}"
        start_from = self._checkpoints if scenario.has_checkpoints else None
        sandbox = Sandbox(scenario, self._directory / name, start_from)
        before = len(self.tally.lines)
        one = Round(sandbox, reference, name, self.tally)
        try:
            one.run(plan.draw(Random(f"{self._seed}/{number}"), scenario, reference.wall_s))
        finally:
            one.watch.kill_all()
        self.tally.rounds[scenario.name] += 1
        if len(self.tally.lines) == before:
            shutil.rmtree(sandbox.directory)


class Round:
    """A command, started again and again in one directory until it ends by itself."""

    def __init__(self, sandbox: Sandbox, reference: Reference, name: str, tally: Tally) -> None:
        """Start nothing yet."""
        self.watch = Watch(f"{name}-{time.time_ns()}")
        self._sandbox = sandbox
        self._reference = reference
        self._name = name
        self._tally = tally
        self._limit_s = SLOWER * reference.wall_s + STARTS_S

    def run(self, sittings: Sequence[Sequence[Strike]]) -> None:
        """Disturb the command, let it end and compare."""
        for strikes in sittings:
            self._tally.sittings += 1
            if self._sitting(strikes) == 0:
                break
        else:
            if self._sitting(()) != 0:
                return  # a fault, counted there
        results = self._sandbox.results
        if count := changed_numbers(self._reference, results):
            self._tally.fault("changed numbers", f"{self._name}: {count} values", count)
        left = files_left(results, self._sandbox.temporary, self.watch.run_directories)
        for path in left:
            if path.name not in self._reference.temporary_names:
                self._tally.fault("files left", f"{self._name}: {path}")

    def _sitting(self, strikes: Sequence[Strike]) -> int | None:
        """Start the command, disturb it and wait for its end; return its status."""
        process = self._sandbox.start(self.watch.mark)
        self.watch.start(process.pid, self._sandbox.results / CHECKPOINTS)
        struck: list[str] = []
        asked = None  # the signal that is to end the main process
        for strike in strikes:
            if (kind := self._strike(strike, process)) is None:
                break
            struck.append(f"{strike.move} to {kind} after {strike.after_s:.2f} s")
            if asked := strike.move.ends_main(kind):
                break
        where = f"{self._name}: {'; '.join(struck) or 'undisturbed'}"
        limit_s = self._limit_s if asked is None else ENDS_S
        if not _ends(process, limit_s):
            self._tally.fault("waits too long", f"{where}: still there after {limit_s:.0f} s")
            self.watch.kill_all()
            process.wait()
            return None
        if left := self.watch.wait_until_gone(ENDS_S):
            names = ", ".join(f"{one.kind} {one.pid}" for one in left)
            self._tally.fault("orphans", f"{where}: {names}", len(left))
            self.watch.kill_all()
        said = self._sandbox.errors.read_text(errors="replace")
        allowed = {0, *ENDINGS.get(asked, ((1,) if struck else ()))}
        if process.returncode not in allowed or any(word in said for word in NEVER_SAID):
            self._tally.fault("wrong endings", f"{where}: status {process.returncode}: {said}")
        return process.returncode

    def _strike(self, strike: Strike, process: subprocess.Popen[bytes]) -> str | None:
        """Wait for the moment and strike; return what was hit, None if the command ended before."""
        move = strike.move
        while process.poll() is None:
            now, alive = time.monotonic(), self.watch.look()
            seen_s = self.watch.first_seen_s.get(strike.kind, now)
            possible = self._candidates(alive, strike) if now > seen_s + strike.after_s else []
            if possible:
                victim = possible[int(strike.choice * len(possible))]
                if self.watch.send(victim, move.first):
                    if move.then is not None:
                        time.sleep(strike.pause_s)
                        main = Process(process.pid, MAIN)
                        self.watch.send(victim if move.to == ITSELF else main, move.then)
                    self._tally.strikes[victim.kind, str(move)] += 1
                    return victim.kind
            time.sleep(POLL_S)
        return None

    def _candidates(self, alive: Sequence[Process], strike: Strike) -> list[Process]:
        """Return those of the kind or, if there are none any more, all that may be hit."""
        if strike.move.to == MAIN:
            # Python has to be up before a worker can ask to be woken when its parent dies.
            alive = [one for one in alive if one.kind != MAIN and self.watch.has_threads(one)]
        alive = [one for one in alive if one.kind != HELPER]
        return [one for one in alive if one.kind == strike.kind] or list(alive)


def _ends(process: subprocess.Popen[bytes], limit_s: float) -> bool:
    """Wait for a command; return whether it ends in time."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(limit_s)
    return process.returncode is not None
