"""`keraslm generate`"""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from keraslm.commands.flags import Integer, OptionalInteger, Others


def generate(
    model: Path,
    prompt: str = "",
    /,
    *,
    max_tokens: Integer = 100,
    temperature: float = 1.0,
    top_k: Integer = 0,
    top_p: float = 1.0,
    seed: OptionalInteger = None,
    through_lines: Annotated[bool, Parameter(negative="")] = False,
    allow_unk: Annotated[bool, Parameter(negative="")] = False,
    others: Others = (),
    provider: Literal["cpu", "cuda", "auto"] = "auto",
) -> None:
    """Continue a prompt with text drawn from a model file.

    Parameters
    ----------
    model
        Model file, as keraslm export writes it.
    prompt
        Begin of a line.
    max_tokens
        Stop after so many tokens.
    temperature
        Below 1 sharper, above 1 flatter, 0 always the most likely token.
    top_k
        Draw from the k most likely tokens only; 0 means all.
    top_p
        Draw from the most likely tokens that together have this probability; 1 means all.
    seed
        The same seed gives the same text. Default: another text each time.
    through_lines
        Go on after the end of a line instead of stopping there.
    allow_unk
        Let the unknown token <unk> be drawn.
    others
        Another model file with the same tokenizer; may be given more than once. Tokens are drawn from the mean of the
        probabilities that all of them give.
    provider
        Where onnxruntime computes; auto takes CUDA where it is there.
    """
    from keraslm.scoring import sampler
    from keraslm.scoring.ensemble import open_models

    settings = sampler.Sampling(temperature, top_k, top_p, seed)
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
