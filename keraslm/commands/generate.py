"""`keraslm generate`"""

from pathlib import Path

from keraslm.commands.flags import Integer, OptionalInteger, Others, Provider, Switch, TextName
from keraslm.errors import UsageError


def generate(
    model: Path,
    prompt: TextName = "",
    /,
    *,
    max_tokens: Integer = 100,
    temperature: float = 1.0,
    top_k: OptionalInteger = None,
    top_p: float = 1.0,
    min_p: float = 0.0,
    seed: OptionalInteger = None,
    through_lines: Switch = False,
    allow_unk: Switch = False,
    others: Others = (),
    provider: Provider = "auto",
) -> None:
    """Continue a prompt with text sampled from a model file.

    Parameters
    ----------
    model
        Model file written by keraslm export.
    prompt
        Beginning of a line; - reads it from standard input.
    max_tokens
        Stop after this many tokens.
    temperature
        Below 1: sharper; above 1: flatter; 0: always the most probable token.
    top_k
        Sample from the k most probable tokens only. Default: all.
    top_p
        Sample from the most probable tokens whose probabilities add up to this; 1: all.
    min_p
        Sample from tokens with at least this share of the highest probability; 0: all.
    seed
        The same seed gives the same text. Default: a different text each time.
    through_lines
        Continue after the end of a line instead of stopping there.
    allow_unk
        Allow the unknown token <unk>.
    others
        Another model file with the same tokenizer, to average probabilities with; may be repeated.
    provider
        Where onnxruntime computes. auto: CUDA if available, else the CPU.
    """
    from keraslm.scoring import sampler
    from keraslm.scoring.ensemble import open_models
    from keraslm.text.pieces import one_line

    prompt = one_line(_read_prompt() if prompt == "-" else prompt, "prompt")
    settings = sampler.Sampling(temperature, top_k, top_p, seed, min_p)
    session = open_models([model, *others], provider)
    if session.tokenizer.joins_words:
        prompt = prompt.rstrip()
    pieces = sampler.generate(session, prompt, max_tokens, settings, not through_lines, allow_unk, as_text=True)
    last = prompt
    print(prompt, end="", flush=True)
    for piece in pieces:
        print(piece, end="", flush=True)
        last = piece or last
    if not last.endswith("\n"):
        print()


def _read_prompt() -> str:
    from keraslm.text.files import TextFile
    from keraslm.text.paths import STDIN

    text = TextFile(STDIN, "replace")
    lines = list(text)
    if text.replaced:
        raise UsageError("standard input: not UTF-8. Convert the prompt to UTF-8.")
    if len(lines) > 1:
        raise UsageError(f"standard input: {len(lines)} lines, but a prompt is the beginning of one line.")
    return "".join(lines)
