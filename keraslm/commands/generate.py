"""`keraslm generate`"""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from keraslm.commands.flags import Integer, OptionalInteger


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
    provider: Literal["cpu", "cuda", "auto"] = "auto",
) -> None:
    """Continue a prompt with words drawn from a model file.

    Parameters
    ----------
    model
        Model file, as keraslm export writes it.
    prompt
        Begin of a line.
    max_tokens
        Stop after so many words.
    temperature
        Below 1 sharper, above 1 flatter, 0 always the most likely word.
    top_k
        Draw from the k most likely words only; 0 means all.
    top_p
        Draw from the most likely words that together have this probability; 1 means all.
    seed
        The same seed gives the same text. Default: another text each time.
    through_lines
        Go on after the end of a line instead of stopping there.
    allow_unk
        Let the unknown word <unk> be drawn.
    provider
        Where onnxruntime computes; auto takes CUDA where it is there.
    """
    from keraslm.text.tokenizer import EOS
    from keraslm_onnx.sampler import Sampling, generate
    from keraslm_onnx.session import ModelSession

    sampling = Sampling(temperature, top_k, top_p, seed)
    session = ModelSession(model, provider)
    before = prompt = prompt.rstrip()
    tokens = generate(session, prompt, max_tokens, sampling, not through_lines, allow_unk)
    print(prompt, end="", flush=True)
    for token in tokens:
        text = "\n" if token == EOS else token if before in ("", "\n") else f" {token}"
        print(text, end="", flush=True)
        before = text
    if before != "\n":
        print()
