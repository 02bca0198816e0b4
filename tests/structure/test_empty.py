"""A selection of files that was given and is empty is an error in every function of the Python API."""

from __future__ import annotations

import pytest

import keraslm
from keraslm.errors import KeraslmError
from keraslm.report.options import ScoreOptions
from tests.support.made_run import make_run

CALLS = {
    "train": lambda run, model: keraslm.train(train=[]),
    "valid": lambda run, model: keraslm.train(train="a.txt", valid=""),
    "data": lambda run, model: keraslm.train(keraslm.preset("tiny"), data=""),
    "run": lambda run, model: keraslm.train(run=""),
    "run of load_run": lambda run, model: keraslm.load_run(""),
    "run of load_model": lambda run, model: keraslm.load_model(""),
    "run of export": lambda run, model: keraslm.export(""),
    "path": lambda run, model: keraslm.export(run, ""),
    "text of export": lambda run, model: keraslm.export(run, "m.onnx", int8=True, text=""),
    "text": lambda run, model: keraslm.evaluate(run, []),
    "text in a list": lambda run, model: keraslm.evaluate(run, ["a.txt", ""]),
    "cache": lambda run, model: keraslm.evaluate(run, "a.txt", cache=""),
    "with_runs": lambda run, model: keraslm.evaluate(run, "a.txt", with_runs=[]),
    "tune_on": lambda run, model: keraslm.evaluate(run, "a.txt", temperature="tune", tune_on=[]),
    "output": lambda run, model: keraslm.average([run, run], ""),
    "models": lambda run, model: keraslm.score_files([], ["a.txt"], "out", ScoreOptions()),
    "files": lambda run, model: keraslm.score_files(model, [""], "out", ScoreOptions()),
    "output of score_files": lambda run, model: keraslm.score_files(model, ["a.txt"], "", ScoreOptions()),
    "models of filter_documents": lambda run, model: keraslm.filter_documents([], ["a.jsonl"]),
    "files of filter_documents": lambda run, model: keraslm.filter_documents(model, [""]),
    "output of filter_documents": lambda run, model: keraslm.filter_documents(model, ["a.jsonl"], ""),
    "histogram": lambda run, model: keraslm.filter_documents(model, ["a.jsonl"], histogram=""),
    "lists": lambda run, model: keraslm.rescore(model, ""),
    "scores": lambda run, model: keraslm.rescore(model, "a.tsv", scores=[]),
    "files of rescore_lattices": lambda run, model: keraslm.rescore_lattices(model, []),
    "words": lambda run, model: keraslm.rescore_lattices(model, "a.txt", format="kaldi", words=""),
    "sentences": lambda run, model: keraslm.pairs(model, ""),
    "columns": lambda run, model: ScoreOptions(columns=()),
}


@pytest.mark.parametrize("case", CALLS)
def test_an_empty_selection_is_refused(tmp_path, monkeypatch, fake, case):
    run = make_run(tmp_path, units=4)
    monkeypatch.chdir(tmp_path)
    before = {*tmp_path.rglob("*")}
    with pytest.raises(KeraslmError, match=rf"`{case.partition(' ')[0]}` is empty: ") as caught:
        CALLS[case](run, fake)
    assert caught.value.exit_code == 2 and {*tmp_path.rglob("*")} == before


@pytest.mark.parametrize("runs", [[], ()])
def test_an_average_of_nothing_is_refused(runs):
    with pytest.raises(KeraslmError, match="An average needs two or more runs"):
        keraslm.average(runs, "mean")


def test_none_means_not_given(tmp_path):
    config = keraslm.preset("tiny", train=None, valid=None, data=None, cache=None)
    assert config.data.train is None and make_run(tmp_path, train=None).config.data.train is None
