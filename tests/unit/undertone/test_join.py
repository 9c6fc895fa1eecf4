"""A join on disk: what is not whole is refused in three parts."""

import json

import pytest

from undertone.errors import VerificationError
from undertone.join import Feature, Join, Partner, features, names
from undertone.model_folder import JOIN

LABELS = ("negative", "neutral", "positive")
SARCASM = ("not_sarcastic", "sarcastic")


def join_of():
    told = names(LABELS, {"sarcasm": SARCASM})
    return Join(
        labels=LABELS,
        partners={"sarcasm": Partner(version=1, manifest_sha256="a" * 64, labels=SARCASM)},
        adopted=True,
        why="it helps",
        features=tuple(Feature(name=name, mean=0.5, scale=2.0) for name in told),
        weights=tuple(tuple(0.1 * (row + 1) * place for place in range(len(told))) for row in range(3)),
        bias=(0.1, 0.2, 0.3),
        review_below=0.4,
    )


def test_what_is_written_is_read(tmp_path):
    join = join_of()
    join.write(tmp_path)
    assert Join.read(tmp_path, LABELS) == join
    assert Join.read(tmp_path / "elsewhere", LABELS) is None


def test_probabilities_sum_to_one_at_the_ends_too():
    for own in ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.2, 0.3, 0.5)):
        for sarcastic in (0.0, 1.0, 0.5):
            found = join_of().probabilities(own, {"sarcasm": (1 - sarcastic, sarcastic)})
            assert sum(found) == pytest.approx(1)
            assert min(found) > 0


def test_names_and_features_go_together():
    emotions = ("anger", "joy")
    heard = {"sarcasm": (SARCASM, (0.2, 0.8)), "emotion": (emotions, (0.5, 0.5))}
    values = features(LABELS, (0.1, 0.2, 0.7), heard)
    told = dict(zip(names(LABELS, {"sarcasm": SARCASM, "emotion": emotions}), values, strict=True))
    assert told["sarcasm heard x P(positive)"] == pytest.approx(0.7 * told["sarcasm heard"])
    assert told["log P(anger)"] == told["log P(joy)"]


@pytest.mark.parametrize(
    "break_it",
    [
        lambda text: text[:-20],
        lambda text: text.replace('"sarcasm heard"', '"sarcasm"'),
        lambda text: text.replace('"not_sarcastic","sarcastic"', '"a","b"').replace('"sarcastic"', '"b"'),
        lambda text: json.dumps(json.loads(text) | {"bias": [0.0]}),
        lambda text: json.dumps(json.loads(text) | {"bias": [0.0, 0.0, float("nan")]}),
        lambda text: json.dumps(json.loads(text) | {"weights": [[1.0]] * 3}),
        lambda text: json.dumps(json.loads(text) | {"code": "x"}),
        lambda text: json.dumps(json.loads(text) | {"partners": {}}),
        lambda text: "\udcff",
    ],
    ids=["cut", "feature", "labels", "bias", "nan", "weights", "unknown", "partners", "bytes"],
)
def test_a_bad_join_is_refused_in_three_parts(tmp_path, break_it):
    join_of().write(tmp_path)
    path = tmp_path / JOIN
    path.write_bytes(break_it(path.read_text()).encode(errors="surrogateescape"))
    with pytest.raises(VerificationError) as refused:
        Join.read(tmp_path, LABELS)
    assert JOIN in refused.value.expected
    assert all(refused.value.as_dict().values())


def test_a_join_of_other_labels_is_refused(tmp_path):
    join_of().write(tmp_path)
    with pytest.raises(VerificationError, match="bad, good"):
        Join.read(tmp_path, ("bad", "good"))
