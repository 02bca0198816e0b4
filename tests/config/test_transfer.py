"""What a run takes over: fields, their forms and contradictions."""

from __future__ import annotations

import re

import pytest

from keraslm.config import Config, TransferConfig
from keraslm.errors import ConfigError


def test_values_have_one_form():
    config = TransferConfig(init_from="./runs/a/", init_weights="2M", freeze="embedding, lstm_0,embedding")
    assert (config.init_from, config.freeze) == ("runs/a", ("embedding", "lstm_0"))
    assert config.weights == 2_000_000 and config == TransferConfig(**{**vars(config), "init_weights": "2000000"})
    assert TransferConfig(init_from="a", init_weights="best").weights == "best"
    assert TransferConfig(freeze=("a,b", "c")).freeze == ("a", "b", "c")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"init_from": "a", "init_weights": "first"},
            "`init_weights` is 'first', but must be last, best or a number of",
        ),
        ({"init_from": "a", "init_weights": "0"}, "`init_weights` is '0', but must be"),
        ({"init_weights": "best"}, "`init_weights` needs `init_from`"),
        ({"extend_vocab": 5}, "`extend_vocab` needs `init_from`"),
        ({"init_from": "a", "extend_vocab": -1}, "`extend_vocab` is -1, but must be at least 0"),
        ({"init_from": "a", "embeddings": "b"}, "`embeddings` would replace the trained embeddings of `init_from`"),
        ({"freeze": "lstm_2"}, "no layer 'lstm_2'. Its layers are embedding, lstm_0, lstm_1, logits."),
        ({"freeze": "gru_0", "cell": "gru", "num_layers": 1}, ""),
        ({"freeze": "logits/kernel"}, ""),
        (
            {"freeze": "logits/kernel", "tie_weights": True},
            "no layer 'logits/kernel'. Its layers are embedding, lstm_0",
        ),
        ({"freeze": "embedding,lstm_0,lstm_1,logits"}, "`freeze` names every layer"),
        ({"freeze": "logits", "softmax": "adaptive"}, ""),
    ],
)
def test_contradictions_are_refused(fields, message):
    if not message:
        assert Config().replace(**fields).transfer.freeze == (fields["freeze"],)
        return
    with pytest.raises(ConfigError, match=re.escape(message)):
        Config().replace(**fields)


def test_a_configuration_without_the_section_has_its_defaults():
    values = Config().replace(units=7).to_dict()
    assert values.pop("transfer")["init_weights"] == "last"
    assert Config.from_dict(values) == Config().replace(units=7)


def test_a_second_validation_text_that_a_run_has_chosen_is_kept():
    chosen = Config().replace(init_from="a", also_valid="old.txt")
    assert Config().replace(init_from="a").as_chosen_by(chosen) == chosen
    other = Config().replace(init_from="a", also_valid="other.txt")
    assert other.as_chosen_by(chosen) == other and Config().as_chosen_by(chosen) == Config()
