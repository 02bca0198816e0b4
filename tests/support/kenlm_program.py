"""A program written for KenLM's Python module, every name of it used; a test runs it with another import, too."""

import contextlib
import copy
import pickle

import kenlm


def error_of(call):
    """Class and message of what a call raises."""
    try:
        call()
    except Exception as error:
        return type(error).__name__, str(error)
    return None


def steps(model, words, begin):
    """A sentence word by word, in one state that is read and written at once."""
    state = kenlm.State()
    begin(state)
    return [model.BaseScore(state, word, state) for word in words]


def names_of_model(path):
    config = kenlm.Config()
    defaults = (config.load_method, config.show_progress, config.arpa_complain)
    config.load_method = kenlm.LoadMethod.READ
    config.show_progress = False
    config.arpa_complain = kenlm.ARPALoadComplain.NONE
    model = kenlm.Model(path, config)
    again = pickle.loads(pickle.dumps(model))
    older = kenlm.LanguageModel(path.encode())
    words = ["the", "zebra", "<unk>", "<s>", "</s>", "", "the cat", b"the", b"zebra"]
    return model, {
        "defaults": defaults,
        "methods": {n: getattr(kenlm.LoadMethod, n) for n in dir(kenlm.LoadMethod) if n.isupper()},
        "complaints": {n: getattr(kenlm.ARPALoadComplain, n) for n in dir(kenlm.ARPALoadComplain) if n.isupper()},
        "path": (model.path, again.path, older.path),
        "repr": (repr(model), repr(again), repr(older)),
        "known": {word: word in model for word in words},
        "order": type(model.order),
        "order can be set": error_of(lambda: setattr(model, "order", 3)) is None,
        "pickled": again.score("the cat") == model.score("the cat"),
        "older is one": isinstance(older, kenlm.Model),
    }


def scores_of(model, sentence):
    words = sentence.split()
    full = model.full_scores(sentence)
    return {
        "score": model.score(sentence),
        "without": [model.score(sentence, bos=bos, eos=eos) for bos in (True, False) for eos in (True, False)],
        "bytes": model.score(sentence.encode()),
        "explicit": model.score(f"{sentence} </s>", eos=False),
        "spaced": model.score(f"  {sentence.replace(' ', '   ')}\t"),
        "perplexity": model.perplexity(sentence),
        "generator": type(full).__name__,
        "full": list(full),
        "full without": [list(model.full_scores(sentence, bos=False, eos=eos)) for eos in (True, False)],
        "steps": steps(model, [*words, "</s>"], model.BeginSentenceWrite),
        "steps without": steps(model, [*words, "</s>"], model.NullContextWrite),
    }


def states_of(model):
    new, null, begin, after, other = (kenlm.State() for _ in range(5))
    model.NullContextWrite(null)
    model.BeginSentenceWrite(begin)
    full = model.BaseFullScore(begin, "the", after)
    score = model.BaseScore(begin, "the", other)
    kept = copy.copy(after)
    found = {
        "new is null": (new == null, hash(new) == hash(null)),
        "null and begin": (null == begin, null != begin, null < begin, null <= begin, null > begin, null >= begin),
        "same": (after == other, hash(after) == hash(other), after <= other, after < other),
        "moved": after == begin,
        "copied": (kept == after, kept is after, hash(kept) == hash(after)),
        "full": (full.log_prob == score, type(full.log_prob), type(full.ngram_length), full.oov),
        "repr": repr(full) == f"FullScoreReturn({full.log_prob!r}, {full.ngram_length!r}, False)",
        "made": repr(kenlm.FullScoreReturn(-1.5, 2, True)),
        "unknown": model.BaseFullScore(begin, "zebra", other).oov,
        "of new": model.BaseScore(new, "the", other) == model.BaseScore(null, "the", other),
    }
    model.BaseScore(after, "cat", after)
    found["kept"] = (kept == after, {kept: "the"}[copy.copy(kept)])
    with contextlib.suppress(TypeError):  # kenlm's own __deepcopy__ takes no memo
        assert copy.deepcopy(after) == after
    return found


def errors_of(model, path):
    state = kenlm.State()
    missing = f"{path}-is-not-there"
    return {
        "no file": error_of(lambda: kenlm.Model(missing))[0],
        "its words": error_of(lambda: kenlm.Model(missing))[1].startswith(f"Cannot read model '{missing}' ("),
        "path": error_of(lambda: kenlm.Model(3)),
        "config": error_of(lambda: kenlm.Model(path, 3))[0],
        "config's names": error_of(lambda: setattr(kenlm.Config(), "nothing", 1))[0],
        "score": error_of(lambda: model.score(3)),
        "full": (error_of(lambda: model.full_scores(3)), error_of(lambda: list(model.full_scores(3)))),
        "in": error_of(lambda: 3 in model),
        "word": error_of(lambda: model.BaseScore(state, b"the", state))[0],
        "word too": error_of(lambda: model.BaseFullScore(state, 3, state))[0],
        "result": error_of(lambda: setattr(model.BaseFullScore(state, "the", state), "oov", True)) is None,
    }


def main(path, sentences):
    model, names = names_of_model(path)
    scores = {sentence: scores_of(model, sentence) for sentence in sentences}
    return {"names": names, "scores": scores, "states": states_of(model), "errors": errors_of(model, path)}
