"""Scorers in other processes, with every start method."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from weakref import WeakSet

import joblib
import pytest

import keraslm
from keraslm import kenlm
from keraslm.errors import ModelFileError
from keraslm.scoring import session
from tests.support import fake_model
from tests.support.fake_model import BY_HISTORY, BY_ID

pytestmark = pytest.mark.filterwarnings("ignore:.*fork")  # of JAX, and of Python 3.12: this process has threads

LINES = ["the cat sat", "", "the bird the dog sat"] * 20
METHODS = multiprocessing.get_all_start_methods()
SCORER: keraslm.Scorer | None = None  # of the process that forks


@pytest.fixture
def paths(tmp_path):
    return [fake_model.write(tmp_path / f"{n}.onnx", table) for n, table in enumerate((BY_HISTORY, BY_ID))]


@pytest.fixture(params=["one", "ensemble"])
def scorer(paths, request):
    loaded = keraslm.load(paths if request.param == "ensemble" else paths[0], "cpu", threads=2)
    loaded.score("the cat")  # start the threads
    return loaded


def scores(scorer):
    return [line.tolist() for line in scorer.logprobs(LINES)]


def inherited(_):
    return scores(SCORER)


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_of_processes_gives_the_same_scores(scorer, method):
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        assert list(pool.map(scores, [scorer] * 3, timeout=120)) == [scores(scorer)] * 3


def test_joblib_gives_the_same_scores(scorer):
    found = joblib.Parallel(2)(joblib.delayed(scorer.score)(line) for line in LINES[:3])
    assert found == [scorer.score(line) for line in LINES[:3]]


@pytest.mark.skipif("fork" not in METHODS, reason="this system has no fork")
def test_a_forked_process_opens_the_file_again(scorer, monkeypatch, tmp_path):
    monkeypatch.setitem(globals(), "SCORER", scorer)
    expected = scores(scorer)
    monkeypatch.chdir("/")
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map_async(inherited, range(2)).get(120) == [expected] * 2
    assert scores(scorer) == expected


FORK = """
import gc, os, sys, keraslm
scorers = [keraslm.load(path, "cpu", threads=2) for path in sys.argv[1:] * 2]
expected = [scorer.score("the cat") for scorer in scorers]
last = scorers.pop()
last.itself, last = last, None  # garbage of the parent process
child = os.fork()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
gc.collect()
del scorers[1]
os._exit(int(scorers[0].score("the cat") != expected[0]))  # as multiprocessing ends a process
"""


@pytest.mark.skipif("fork" not in METHODS, reason="this system has no fork")
def test_a_forked_process_may_free_its_scorers(paths):
    subprocess.run([sys.executable, "-c", FORK, *paths], check=True, timeout=60)


def test_a_pickled_scorer_keeps_its_settings(scorer, monkeypatch):
    data = pickle.dumps(scorer)
    monkeypatch.chdir("/")
    again = pickle.loads(data)
    assert scores(again) == scores(scorer) and repr(again) == repr(scorer)
    assert [m._opened_with for m in again.session.members] == [m._opened_with for m in scorer.session.members]
    context = pickle.loads(pickle.dumps(scorer.advance(scorer.begin(), 2)[1]))
    assert again.advance(context, 3)[0] == scorer.advance(context, 3)[0]


def test_a_file_that_has_changed_is_refused(paths, monkeypatch):
    monkeypatch.setattr(session, "_OPEN", WeakSet())
    scorer = keraslm.load(paths[0], "cpu")
    data = pickle.dumps(scorer), pickle.dumps(kenlm.Model(str(paths[0])))
    fake_model.write(paths[0], BY_ID)
    message = r"0\.onnx: the file has changed since it was opened \(SHA-256 \w{12}… then, \w{12}… now\)\. Load it again"
    for pickled in data:
        with pytest.raises(ModelFileError, match=message):
            pickle.loads(pickled)
    assert scorer.score("the cat")  # in this process the file is not read again
    session._forget_sessions()  # as after a fork
    with pytest.raises(ModelFileError, match=message):
        scorer.score("the cat")
    paths[0].unlink()
    with pytest.raises(ModelFileError, match="cannot be read"):
        pickle.loads(data[0])
