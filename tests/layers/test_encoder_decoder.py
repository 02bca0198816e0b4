import numpy as np
import pytest
from keras import ops
from keras.layers import Dense

from keraslm.layers.attention import CLOSED, AttentionDecoder, attention_shapes
from keraslm.layers.dropout import mask_like
from keraslm.layers.embedding import Embedding
from keraslm.layers.label_smoothing import LabelSmoothing
from keraslm.layers.padded import PaddedLSTM
from keraslm.layers.projection import TiedSoftmax
from tests.reference.differences import central_differences
from tests.reference.translation import attention_decoder, sentences_lstm, smoothed_cross_entropy
from tests.support.gradients import compiled, gradients, tensor

B, S, T, D, H = 3, 5, 3, 2, 3
LENGTHS = np.array([3, 5, 1])
PADDING = (np.arange(S) >= LENGTHS[:, None]).astype(np.float32)  # [B, S]
REAL = PADDING == 0

random = np.random.default_rng(11)
X = random.normal(size=(B, S, D))
H0, C0 = random.normal(size=(2, B, H))
ZEROS = np.zeros((2, B, H))
OF_LSTM = [random.normal(size=shape) for shape in [(B, S, H), (B, H), (B, H)]]  # factors on the outputs in a loss


def near(found, expected, tolerance=2e-6):
    np.testing.assert_allclose(ops.convert_to_numpy(found), expected, atol=tolerance)


def built(layer, *shape):
    """The layer with weights that no initializer draws."""
    layer.build(shape)
    draw = np.random.default_rng(12)
    for weight in layer.trainable_variables:
        weight.assign(draw.normal(size=weight.shape, scale=0.7))
    return layer


def weights_of(layer):
    return {w.name: ops.convert_to_numpy(w).astype(np.float64) for w in layer.trainable_variables}


def tensors(arrays):
    return [tensor(array, np.float32) for array in arrays]


def called(layer, weights, *arguments):
    """The outputs of a layer with different weights."""
    others = [ops.convert_to_tensor(w) for w in layer.non_trainable_variables]
    return layer.stateless_call(weights, others, *arguments)[0]


def weighted(values, factors):
    return sum(ops.sum(value * factor) for value, factor in zip(values, tensors(factors), strict=True))


# The LSTM over padded sentences


every_direction = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
every_case = pytest.mark.parametrize(("reverse", "given"), [(False, True), (False, False), (True, False)])


def lstm_layer(reverse):
    return built(PaddedLSTM(H, reverse, name="lstm"), B, S, D)


def run_lstm(layer, x=X, padding=PADDING, state=None):
    inputs = tensor(x, np.float32), None if padding is None else tensor(padding, np.float32)
    return compiled(lambda x: layer(x, inputs[1], None if state is None else tensors(state)))(inputs[0])


@every_case
def test_the_padded_lstm_runs_over_the_tokens_of_each_sentence(reverse, given):
    layer = lstm_layer(reverse)
    found = run_lstm(layer, state=(H0, C0) if given else None)
    expected = sentences_lstm(X, LENGTHS, *((H0, C0) if given else ZEROS), weights_of(layer).values(), reverse)
    for value, wanted in zip(found, expected, strict=True):
        near(value, wanted)
    assert not ops.convert_to_numpy(found[0])[~REAL].any()


@every_direction
def test_without_padding_all_steps_count(reverse):
    layer = lstm_layer(reverse)
    expected = sentences_lstm(X, [S] * B, H0, C0, weights_of(layer).values(), reverse)
    for padding in (None,) if reverse else (None, np.zeros((B, S))):
        for value, wanted in zip(run_lstm(layer, padding=padding, state=(H0, C0)), expected, strict=True):
            near(value, wanted)


@every_direction
def test_the_contents_and_the_number_of_padded_steps_change_nothing(reverse):
    layer = lstm_layer(reverse)
    expected = run_lstm(layer)
    wider = np.concatenate([np.where(REAL[..., None], X, 50.0), np.full((B, 3, D), -50.0)], axis=1)
    found = run_lstm(layer, wider, np.concatenate([PADDING, np.ones((B, 3))], axis=1))
    near(found[0], np.pad(ops.convert_to_numpy(expected[0]), ((0, 0), (0, 3), (0, 0))), 1e-7)
    for value, wanted in zip(found[1:], expected[1:], strict=True):
        near(value, ops.convert_to_numpy(wanted), 1e-7)


@every_case
def test_gradients_of_the_padded_lstm_equal_differences_of_the_reference(reverse, given):
    layer, state = lstm_layer(reverse), [H0.copy(), C0.copy()] if given else []
    arrays = [X.copy(), *state, *weights_of(layer).values()]

    def split(x, *rest):
        return x, list(rest[: len(state)]), rest[len(state) :]

    def expected():
        x, given, weights = split(*arrays)
        found = sentences_lstm(x, LENGTHS, *(given or ZEROS), weights, reverse)
        return sum((value * factor).sum() for value, factor in zip(found, OF_LSTM, strict=True))

    def loss(*arguments):
        x, given, weights = split(*arguments)
        return weighted(called(layer, weights, x, tensor(PADDING), given or None), OF_LSTM)

    found = gradients(compiled(loss), tensors(arrays))
    for value, wanted in zip(found, central_differences(expected, arrays), strict=True):
        near(value, wanted, 2e-5)
    assert not found[0][~REAL].any()


def test_both_directions_equal_torchs_own_packed_lstm(backend):
    if backend != "torch":
        pytest.skip("only torch packs sentences")
    import torch

    layers = [lstm_layer(reverse) for reverse in (False, True)]
    theirs, x = torch.nn.LSTM(D, H, batch_first=True, bidirectional=True), tensor(X, np.float32).requires_grad_()
    for layer, end in zip(layers, ("", "_reverse"), strict=True):
        for name, kind in (("kernel", "weight_ih"), ("recurrent_kernel", "weight_hh"), ("bias", "bias_ih")):
            getattr(theirs, f"{kind}_l0{end}").data = tensor(weights_of(layer)[name].T, np.float32)
        getattr(theirs, f"bias_hh_l0{end}").data.zero_()
    packed, (h, c) = theirs(torch.nn.utils.rnn.pack_padded_sequence(x, LENGTHS, True, enforce_sorted=False))
    outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(packed, True, total_length=S)
    expected = [[outputs[..., :H], h[0], c[0]], [outputs[..., H:], h[1], c[1]]]
    found = [layer(x, tensor(PADDING)) for layer in layers]
    for one, other in zip(found, expected, strict=True):
        for value, wanted in zip(one, other, strict=True):
            near(value, wanted.detach().numpy())
    (slope,), (wanted,) = (
        torch.autograd.grad(sum(weighted(values, OF_LSTM) for values in both), x) for both in (found, expected)
    )
    near(slope, wanted.numpy())


# The decoder with attention


KEYS, MEMORY = np.where(REAL[..., None], random.normal(size=(2, B, S, H)), 50.0)  # the reference reads no padding
INPUTS = random.normal(size=(B, T, D))
every_attention = pytest.mark.parametrize("attention", ["luong", "scaled_luong", "bahdanau"])
every_depth = pytest.mark.parametrize("layers", [1, 2])


def decoder(attention, layers, dropout=0.0):
    return built(AttentionDecoder(H, layers, attention, dropout, name="decoder"), B, T, D)


def first_state(layers):
    return list(np.random.default_rng(13).normal(size=(2 * layers + 1, B, H)))


def by_reference(weights, attention, state, inputs=INPUTS, keys=KEYS, memory=MEMORY, masks=None):
    """Outputs `(B, T, H)`, a list of states `(B, H)`, and weights of each step `(B, T, S)`, which are 0 at padding."""
    outputs, states, seen = [], [], np.zeros((B, inputs.shape[1], S))
    for b, length in enumerate(LENGTHS):
        row = [part[b] for part in state], weights, attention, None if masks is None else [m[b] for m in masks]
        found = attention_decoder(inputs[b], keys[b, :length], memory[b, :length], *row)
        outputs.append(found[0])
        states.append(found[1])
        seen[b, :, :length] = found[2]
    return np.array(outputs), [np.array(part) for part in zip(*states, strict=True)], seen


def arguments_of(state, inputs=INPUTS, keys=KEYS, memory=MEMORY):
    return tensor(inputs, np.float32), [*tensors([keys, memory]), tensor(PADDING * np.float32(CLOSED))], tensors(state)


@every_depth
@every_attention
def test_the_decoder_equals_the_reference_step_by_step(attention, layers):
    layer, state = decoder(attention, layers), first_state(layers)
    outputs, last, seen = by_reference(weights_of(layer), attention, state)

    run = compiled(lambda inputs, memory, state: layer(inputs, memory, state))
    inputs, memory, carried = arguments_of(state)
    found = run(inputs, memory, carried)
    near(found[0], outputs)
    for value, wanted in zip(found[1], last, strict=True):
        near(value, wanted)
    near(found[2], seen[:, -1])

    for step in range(T):
        output, carried, weights = run(inputs[:, step : step + 1], memory, list(carried))
        near(output[:, 0], outputs[:, step])
        near(weights, seen[:, step])
        near(ops.sum(weights, axis=1), np.ones(B))
        assert not ops.convert_to_numpy(weights)[~REAL].any()
    for value, wanted in zip(carried, last, strict=True):
        near(value, wanted)


@pytest.mark.parametrize(("attention", "layers"), [("scaled_luong", 1), ("bahdanau", 2)])
def test_gradients_of_the_decoder_equal_differences_of_the_reference(attention, layers):
    layer = decoder(attention, layers)
    names = list(weights_of(layer))
    arrays = [INPUTS.copy(), KEYS.copy(), MEMORY.copy(), *first_state(layers), *weights_of(layer).values()]
    shapes = [(B, T, H), *[(B, H)] * (2 * layers + 1), (B, S)]
    factors = [np.random.default_rng(14 + number).normal(size=shape) for number, shape in enumerate(shapes)]
    ends = 3, 4 + 2 * layers  # of the inputs and of the state among the arrays

    def expected():
        weights = dict(zip(names, arrays[ends[1] :], strict=True))
        outputs, last, seen = by_reference(weights, attention, arrays[ends[0] : ends[1]], *arrays[:3])
        return sum((v * f).sum() for v, f in zip((outputs, *last, seen[:, -1]), factors, strict=True))

    def loss(inputs, keys, memory, *more):
        state, weights = list(more[: 2 * layers + 1]), more[2 * layers + 1 :]
        closed = tensor(PADDING * np.float32(CLOSED))
        outputs, last, seen = called(layer, weights, inputs, [keys, memory, closed], state)
        return weighted((outputs, *last, seen), factors)

    found = gradients(compiled(loss), tensors(arrays))
    for value, wanted in zip(found, central_differences(expected, arrays), strict=True):
        near(value, wanted, 2e-5)
    for value in found[1:3]:
        assert not value[~REAL].any()


def test_dropout_of_the_decoder_has_one_mask_per_call_and_layer(monkeypatch):
    layer, state, drawn = decoder("luong", 3, dropout=0.5), first_state(3), []

    def recorded(*given):
        drawn.append(mask_like(*given))
        return drawn[-1]

    monkeypatch.setattr("keraslm.layers.attention.mask_like", recorded)
    calls, arguments = [], arguments_of(state)
    for _ in range(2):
        outputs, *_ = layer(*arguments, training=True)
        calls.append([ops.convert_to_numpy(mask) for mask in drawn])
        drawn.clear()
        near(outputs, by_reference(weights_of(layer), "luong", state, masks=calls[-1])[0])
    masks = [mask for call in calls for mask in call[:2]]
    assert set(np.unique(masks)) == {0.0, 2.0}
    assert len({mask.tobytes() for mask in masks}) == 4
    near(layer(*arguments, training=False)[0], by_reference(weights_of(layer), "luong", state)[0])
    assert not drawn


def test_a_decoder_of_one_layer_drops_nothing():
    layer, state = decoder("luong", 1, dropout=0.9), first_state(1)
    near(layer(*arguments_of(state), training=True)[0], by_reference(weights_of(layer), "luong", state)[0])


# Label smoothing

V, SHARE = 7, 0.3
HIDDEN, TARGETS, WEIGHTS = random.normal(size=(B, T, H)), random.integers(V, size=(B, T)), random.uniform(size=(B, T))


def smoothing(tied):
    """The layer with a built softmax layer, and the kernel `(H, V)` and bias of that."""
    if tied:
        table = built(Embedding(V, H, name="embedding"), B, T)
        projection = built(TiedSoftmax(table, name="logits"), B, T, H)
        kernel = weights_of(table)["embeddings"].T
    else:
        projection = built(Dense(V, name="logits"), B, T, H)
        kernel = weights_of(projection)["kernel"]
    layer = LabelSmoothing(SHARE, projection)
    layer.build([])
    return layer, kernel, weights_of(projection)["bias"]


def added_by_reference(hidden, kernel, bias):
    logits = hidden @ kernel + bias
    plain, smoothed = (smoothed_cross_entropy(logits, TARGETS, share) for share in (0.0, SHARE))
    return (WEIGHTS * (smoothed - plain)).sum()


every_softmax = pytest.mark.parametrize("tied", [False, True], ids=["own", "tied"])


@every_softmax
def test_label_smoothing_adds_the_difference_of_both_losses(tied):
    layer, kernel, bias = smoothing(tied)
    arguments = [tensor(HIDDEN, np.float32), tensor(TARGETS, np.int32), tensor(WEIGHTS, np.float32)]
    near(layer(arguments, training=True), HIDDEN.astype(np.float32), 0)
    (added,) = layer.losses
    near(added, added_by_reference(HIDDEN, kernel, bias), 1e-5)
    near(layer(arguments, training=False), HIDDEN.astype(np.float32), 0)
    assert not layer.losses


@every_softmax
def test_gradients_of_label_smoothing_equal_differences_of_the_reference(tied):
    layer, kernel, bias = smoothing(tied)
    arrays = {"hidden": HIDDEN.copy(), "kernel": kernel.copy(), "embeddings": kernel.T.copy(), "bias": bias}
    names = ["hidden", *(w.name for w in layer.trainable_variables)]
    assert set(names[1:]) == {"embeddings" if tied else "kernel", "bias"}
    moved = [arrays[name] for name in names]

    def expected():
        return added_by_reference(arrays["hidden"], arrays["embeddings"].T if tied else arrays["kernel"], bias)

    def loss(hidden, *weights):
        inputs = [hidden, tensor(TARGETS, np.int32), tensor(WEIGHTS, np.float32)]
        *_, losses = layer.stateless_call(weights, [], inputs, training=True, return_losses=True)
        return sum(losses)

    for value, wanted in zip(
        gradients(compiled(loss), tensors(moved)), central_differences(expected, moved), strict=True
    ):
        near(value, wanted, 1e-5)


def test_a_given_state_of_a_reversed_layer_with_padding_is_refused():
    """The layer would change it in the padded steps, which come first."""
    with pytest.raises(ValueError, match="leave it out"):
        PaddedLSTM(H, reverse=True)(*tensors([X, PADDING]), tensors([H0, C0]))


def test_an_unknown_attention_is_refused():
    with pytest.raises(ValueError, match="`attention` is 'dot', but must be one of luong, scaled_luong, bahdanau"):
        AttentionDecoder(H, 1, "dot")


@pytest.mark.parametrize("attention", ["luong", "scaled_luong", "bahdanau"])
def test_weights_have_the_documented_shapes(attention):
    layer = decoder(attention, layers=2)
    assert {w.name: tuple(w.shape) for w in layer.trainable_variables} == attention_shapes(H, D, 2, attention)


@pytest.mark.parametrize("layer", [PaddedLSTM(H, reverse=True), AttentionDecoder(H, 2, "bahdanau", 0.1, seed=4)])
def test_layers_are_saved_as_their_arguments(layer):
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
