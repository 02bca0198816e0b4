"""Uses of the public API: `make check` accepts each line, and reports an ignore that is not needed."""

from __future__ import annotations

from pathlib import Path

import keraslm


def uses(path: Path) -> None:
    config = keraslm.preset("small", units=300, layer_units=(300, 200), clip_norm=None)
    run = keraslm.train(config, run=path / "run", train=[path / "a.txt", "b.txt"], context="sentence", epochs=3)
    keraslm.train(config.replace(lr_schedule="cosine"), backend="jax", verbose=0)
    print(keraslm.evaluate(run, path, temperature="tune", with_runs=[path]).perplexity, run.config.model.sizes)
    print(keraslm.export(run, "model.onnx", int8=True).bytes)
    print(keraslm.export(run, path / "lm.onnx", target="rasr").others)
    scorer = keraslm.load(["one.onnx", "two.onnx"], threads=1)
    print(scorer.score("a line") + scorer.logprobs(["a line"])[0].sum())
    keraslm.pairs(scorer, [("good", "bad")])
    mixed = keraslm.mix(scorer, path / "trigrams.arpa", weight=keraslm.tune_mix(scorer, "trigrams.arpa", path).weight)
    tuned = keraslm.tune_cache(scorer, path / "valid.txt", context="document", cache_theta=0.5)
    cached = keraslm.with_cache(scorer, tuned.cache_theta, tuned.cache_lambda, cache_window=1000)
    print(cached.perplexity(["a line"], "document"), tuned.perplexity - tuned.model_perplexity)
    print(mixed.score("a line"), keraslm.load_ngram(path).logprobs(["a", None]), keraslm.pairs(mixed, "blimp.jsonl"))
    print([found.best.text for found in keraslm.rescore_lattices(scorer, path / "a.slf", mix=0.5, beam=None)])
    keraslm.kenlm.Model("model.onnx").score("a line")
    print([item.word for item in keraslm.predict(scorer, "the comp", count=3).words])
    print(scorer.predict("the comp", k=3, exclude=["company"])[0].word)
    print(scorer.table(["a line"], level="word")["surprisal"], keraslm.table(scorer, ["a line"], columns=["word"]))
    print(scorer.show("a line", "word"), keraslm.ScoredText(scorer, ["a line"], context="document").lines[0].logprob)
    print(keraslm.predict_from(scorer.session, scorer.begin(), "comp")[0].probability)


def misuses(path: Path) -> None:
    keraslm.preset("small", epochs="3")  # type: ignore[arg-type]
    keraslm.preset("small", heads=3)  # type: ignore[call-arg]
    keraslm.train(context="line")  # type: ignore[arg-type]
    keraslm.train(layer_units="300,200")  # type: ignore[arg-type]
    keraslm.evaluate(path, path, temperature="find")  # type: ignore[arg-type]
    keraslm.table(keraslm.load(path), ["a line"], level="summary")  # type: ignore[arg-type]
    keraslm.load(3)  # type: ignore[arg-type]
    keraslm.mix("model.onnx", 3)  # type: ignore[arg-type]
    keraslm.export(path, path, target="kaldi")  # type: ignore[arg-type]
