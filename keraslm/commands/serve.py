"""`keraslm serve`"""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from keraslm.commands.flags import Integer, OptionalInteger, Others, Provider, Switch, print_note


def serve(
    model: Path,
    /,
    *,
    host: str = "127.0.0.1",
    port: Integer = 8000,
    api_key: Annotated[str | None, Parameter(env_var="KERASLM_API_KEY")] = None,
    name: str | None = None,
    workers: Integer = 1,
    threads: OptionalInteger = None,
    context: Literal["sentence", "paragraph", "document"] | None = None,
    grace: float = 20.0,
    max_body: Integer = 4 << 20,
    max_prompts: Integer = 1024,
    max_tokens: Integer = 1 << 18,
    max_logprobs: Integer = 100,
    max_queue: Integer = 256,
    timeout: float = 600.0,
    cors_origins: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    log_prompts: Switch = False,
    others: Others = (),
    provider: Provider = "auto",
) -> None:
    """Serve a model file over HTTP: completions for OpenAI's clients, scores, and a page at /.

    Prints the address, then one line of JSON per request, on standard error. SIGTERM or Ctrl-C ends the server after
    the requests that are being answered.

    Parameters
    ----------
    model
        Model file written by keraslm export.
    host
        Address to listen at. The default is reached from this machine only; 0.0.0.0: from every machine.
    port
        Port to listen at. 0: a free one.
    api_key
        Requests must have the header "Authorization: Bearer KEY". Default: no key.
    name
        Name of the model in answers. Default: the name of its file.
    workers
        Processes that compute, each with a copy of the model.
    threads
        Threads per worker. Default: the cores, shared among the workers.
    context
        How far the state is carried in a text: to the end of the line, of the paragraph, or of the text. Default: as
        in training.
    grace
        Seconds after SIGTERM in which requests are completed.
    max_body
        Bytes of a request.
    max_prompts
        Prompts of a request, times completions per prompt.
    max_tokens
        Tokens of a request, in its prompts and completions together.
    max_logprobs
        Alternatives per token.
    max_queue
        Requests that are answered at a time; further ones get status 429.
    timeout
        Seconds until a request is given up.
    cors_origins
        Web page whose scripts may send requests, e.g. https://example.org; may be repeated. Default: none.
    log_prompts
        Write prompts into the log.
    others
        Another model file with the same tokenizer, to average probabilities with; may be repeated.
    provider
        Where onnxruntime computes. auto: CUDA if available, else the CPU.
    """
    from keraslm.system.backend import require

    for package in ("starlette", "uvicorn", "httptools", "prometheus_client"):
        require(package, extra="serve", purpose="keraslm serve")
    from keraslm.server import serve as room
    from keraslm.server.settings import Limits, Settings

    limits = Limits(max_body, max_prompts, max_tokens, max_logprobs, max_queue, timeout)
    settings = Settings(
        host, port, name, api_key, workers, threads, context, grace, tuple(cors_origins), log_prompts, limits
    )
    room.serve([model, *others], provider, settings, print_note)
