"""The page of the file formats; their versions come from the code that writes them."""

from __future__ import annotations

import keraslm.bulk.records
import keraslm.runs.checkpoint
import keraslm.runs.folder
import keraslm.scoring.contract
import keraslm.text.store
from keraslm.filtering.documents import FORMATS as DOCUMENTS
from keraslm.lattices.rescore import FORMATS as LATTICES
from keraslm.rescoring.nbest import FORMATS as LISTS
from keraslm.scoring.contract import OPSET, readable
from keraslm.system import VERSION

RUN = keraslm.runs.folder.FORMAT_VERSION
CHECKPOINT = keraslm.runs.checkpoint.FORMAT_VERSION
MODEL = keraslm.scoring.contract.FORMAT_VERSION
RECORD = keraslm.bulk.records.FORMAT_VERSION
CACHE = keraslm.text.store.FORMAT_VERSION


def names(formats: tuple[str, ...]) -> str:
    """Names of formats as inline code."""
    return ", ".join(f"`{name}`" for name in formats)


def page() -> str:
    """The whole of docs/reference/formats.md."""
    return f"""\
# File formats

Written by `make docs` with the versions in the sources; a test holds the two equal.

## Files with a version

| file | version | this keraslm reads | of a different version |
|---|---|---|---|
| [run folder](run-folder.md), `config.json` | {RUN} | 1 to {RUN} | [RunError](errors.md#runerror) |
| [checkpoint](run-folder.md#checkpoints), `state.json` | {CHECKPOINT} | {CHECKPOINT} | [RunError](errors.md#runerror) |
| [model file](onnx-file.md#metadata), `format_version` in the metadata | {MODEL} | {readable()} \
| [ModelFileError](errors.md#modelfileerror): export the run again |
| [record of a bulk job](../how-to/bulk.md#the-folder), `*.json` beside each output | {RECORD} | {RECORD} \
| [UsageError](errors.md#usageerror): score again with `--overwrite` |
| cache of encoded texts, `text.json` | {CACHE} | {CACHE} | the text is encoded again |

Run folder 1 had different names and values of some fields, and model file 3 different names of fields inside `config`;
keraslm translates both. Model files 3 and 4 return no hidden states, which `keraslm score --neural-cache` needs. The
model file is ONNX with operators of opset {OPSET}.

## The promise

- A new version of keraslm reads every version of a run folder and of a model file that the table lists. A release that
  stops reading one says so in the [changes](../../CHANGELOG.md), under "Removed".
- A file that an older keraslm would misread gets a new version number. The older keraslm then refuses it, with the
  error in the table, and changes nothing.
- Checkpoints belong to one unfinished training, and are not translated to a new version. The weights of a run,
  `*.safetensors`, stay readable as long as its run folder does.
- Records and the cache can be made again from their texts, so they are not translated either.
- Tables of scores have named columns, and their names are part of the interface. A new column may appear; a column
  keeps its name and meaning, except as the changes say. Read columns by name, not by position.
- Before version 1.0 (this is {VERSION}), flags, names in Python and columns may still change between releases. The
  changes list them.

## Files in other programs' formats

These have no version of keraslm's own.

| file | format | read | written |
|---|---|---|---|
| `tokenizer.json` | of the `tokenizers` library; [its rules](onnx-file.md#the-tokenizer) | yes | yes |
| `tokens.txt`, sentencepiece `.model` | vocabularies of recognisers, and of sentencepiece | yes | no |
| `*.safetensors` | weights by name, of the `safetensors` library | yes | yes |
| `metrics.jsonl` | JSON Lines, [one row per epoch](run-folder.md#metrics) | yes | yes |
| n-gram models | ARPA, and KenLM's binary files | yes | no |
| embeddings | text files of word2vec and GloVe | yes | no |
| [n-best lists](../how-to/rescoring.md#formats) | {names(LISTS)} | yes | yes |
| [lattices](../how-to/rescoring.md#formats-of-lattices) | {names(LATTICES)}: HTK's and Kaldi's | yes | yes |
| [documents to filter](../how-to/filtering.md#documents) | {names(DOCUMENTS)} | yes | yes |
| [scores](../how-to/scoring.md#formats) | tab-separated, CSV, JSON Lines; as KenLM and SRILM print them | no | yes |
| [files for other programs](../how-to/targets.md) | of sherpa-onnx, RASR, transformers, browsers | no | yes |

Texts and tables may be compressed with gzip, bzip2, xz or zstd.
"""
