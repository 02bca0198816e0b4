"""Coverage-guided fuzzing of everything that keraslm parses.

    pip install atheris
    python tests/fuzz/run.py config --seconds 120
    python tests/fuzz/run.py --all --seconds 60

Each target (`targets.py`) runs in its own process and starts from valid samples (`seeds.py`). Inputs are changed by
bytes or, in JSON, by values. Each find is saved in --save, one file per line of code that raised. A crash, a hang
(20 s) or memory beyond 3 GiB ends a target and counts as a find. Prints a table:

    target, executions, coverage (of libFuzzer, counters of Python code), features, corpus, finds
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "export")]

HANG = 20  # seconds of one input
MEMORY = 3 << 10  # MiB
LARGEST = 1 << 14  # bytes of an input
ENDED = "ended by libFuzzer"


def fuzz(name: str, seconds: int, folder: Path, save: Path, seed: int) -> None:
    """Fuzz one target in this process; does not return."""
    import atheris

    with atheris.instrument_imports(include=["keraslm", "keraslm_export"]):
        from tests.fuzz import seeds
        from tests.fuzz.targets import TARGETS, is_refused

    target, found = TARGETS[name], set()

    def one(data: bytes) -> None:
        try:
            is_refused(target, data)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            place = _place(error)
            if place not in found:
                found.add(place)
                (save / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}").write_bytes(data)
                print(f"FIND {name}: {place}: {str(error)[:300]!r}", flush=True)

    corpus = folder / "corpus"
    corpus.mkdir()
    for number, sample in enumerate(seeds.SEEDS[name]()):
        (corpus / f"seed-{number}").write_bytes(sample)
        assert not is_refused(target, sample) or number, f"the first sample of {name} is refused"
    words = folder / "words"
    words.write_text("".join(f'"{_escaped(word)}"\n' for word in seeds.dictionary(name)))
    flags = [f"-max_total_time={seconds}", f"-timeout={HANG}", f"-rss_limit_mb={MEMORY}", f"-max_len={LARGEST}"]
    flags += [f"-dict={words}", f"-artifact_prefix={save}/{name}-", f"-seed={seed}", "-print_final_stats=1"]

    def change(data: bytes, most: int, seed: int) -> bytes:
        """Half of the time a value of the JSON, where it is JSON; else libFuzzer's changes of bytes."""
        rng = random.Random(seed)
        changed = _changed_json(data, rng) if rng.random() < 0.5 else None
        return atheris.Mutate(data, most) if changed is None or len(changed) > most else changed

    atheris.Setup([sys.argv[0], *flags, str(corpus)], one, custom_mutator=change)
    atheris.Fuzz()


def _changed_json(data: bytes, rng: random.Random) -> bytes | None:
    """One line of JSON with a value replaced, removed or renamed; None if the line is not JSON."""
    from tests.fuzz.strategies import ODD, places

    lines = data.split(b"\n")
    number = rng.randrange(len(lines))
    try:
        value = json.loads(lines[number])
        path = rng.choice(places(value)[1:])
    except (ValueError, RecursionError, IndexError):
        return None
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    change = rng.randrange(4)
    if change == 0:
        del inner[path[-1]]
    elif change == 1 and isinstance(inner, dict):
        inner[rng.choice(("x", "", *inner))] = rng.choice(ODD)
    else:
        inner[path[-1]] = rng.choice(ODD)
    lines[number] = json.dumps(value).encode()
    return b"\n".join(lines)


def _place(error: BaseException) -> str:
    """Class of an error, and the last line of keraslm in its traceback."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if str(ROOT) in f.filename]
    last = frames[-1]
    return f"{type(error).__name__} at {Path(last.filename).relative_to(ROOT)}:{last.lineno}"


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in word)


def row(name: str, seconds: int, save: Path, seed: int) -> tuple[str, ...]:
    """Fuzz one target in a process of its own; its row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, name, "--seconds", str(seconds), "--save", str(save), "--seed", str(seed)]
        done = subprocess.run(
            [*command, "--inside", folder],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=os.environ | {"RUST_BACKTRACE": "0", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
            check=False,
        )
    text = done.stdout.decode(errors="replace")
    finds = re.findall(r"^FIND (.*)", text, re.MULTILINE)
    if done.returncode:
        finds.append(f"{name}: {ENDED} with code {done.returncode}: {' | '.join(text.strip().splitlines()[-3:])}")
    for find in finds:
        print(f"find: {find}", file=sys.stderr, flush=True)
    progress = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", text) or [("?", "?", "?")]
    executions = re.findall(r"stat::number_of_executed_units:\s*(\d+)", text) or ["?"]
    return name, executions[-1], *progress[-1], str(len(finds))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("targets", nargs="*", help="names; see tests/fuzz/targets.py")
    parser.add_argument("--all", action="store_true", help="every target")
    parser.add_argument("--seconds", type=int, default=60, help="of each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--save", type=Path, default=Path("fuzz-finds"), help="folder for what was found")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.save.mkdir(parents=True, exist_ok=True)
    if options.inside:
        fuzz(options.targets[0], options.seconds, options.inside, options.save, options.seed)
    from tests.fuzz.targets import TARGETS

    names = list(TARGETS) if options.all else options.targets
    if unknown := [name for name in names if name not in TARGETS] or not names:
        parser.error(f"{unknown if names else 'no target'}: give names of {', '.join(TARGETS)}, or --all")
    print("target", "executions", "coverage", "features", "corpus", "finds", sep="\t")
    finds = 0
    for name in names:
        found = row(name, options.seconds, options.save, options.seed)
        print(*found, sep="\t", flush=True)
        finds += int(found[-1])
    return int(finds > 0)


if __name__ == "__main__":
    sys.exit(main())
