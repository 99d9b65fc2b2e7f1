"""Evaluates an XGBoost model as XGBoost saves it in JSON, without XGBoost: with what it needs that is 138 MB.

What is computed is what the library computes, to the bit where the C library's ``expf`` rounds as it should: 32-bit
features, thresholds and sums, added tree by tree onto the margin of the base score. Doubles round to the same 32 bits
as 32-bit arithmetic would, for a single addition or division, so an ``array('f')`` does the rounding.

https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html
"""

import math
from array import array
from collections.abc import Sequence
from typing import Any, Final

import msgspec

# XGBoost's own: beyond it expf would overflow, and the 1e-16 keeps its quotient from a division by zero.
_LARGEST_EXPONENT: Final = 88.7
_EPSILON: Final = 1e-16
# Deeper trees than anybody trains, and safely below Python's limit of recursion.
_DEEPEST: Final = 64
_NO_CHILD: Final = -1


class UnsupportedModelError(ValueError):
    """The file is no XGBoost model of the kind that is evaluated here; the message says why not."""


class _TreeParameters(msgspec.Struct, frozen=True):
    size_leaf_vector: str = "1"


class _Tree(msgspec.Struct, frozen=True):
    left_children: list[int]
    right_children: list[int]
    split_indices: list[int]
    split_conditions: list[float]
    default_left: list[int]
    split_type: list[int] = []
    tree_param: _TreeParameters = _TreeParameters()


class _Trees(msgspec.Struct, frozen=True):
    trees: list[_Tree]


class _Booster(msgspec.Struct, frozen=True):
    name: str
    model: _Trees


class _Parameters(msgspec.Struct, frozen=True):
    base_score: str
    num_feature: str
    num_class: str = "0"
    num_target: str = "1"


class _Objective(msgspec.Struct, frozen=True):
    name: str


class _Learner(msgspec.Struct, frozen=True):
    gradient_booster: _Booster
    learner_model_param: _Parameters
    objective: _Objective
    feature_names: list[str] = []


class _Model(msgspec.Struct, frozen=True):
    learner: _Learner
    version: list[int]


# A leaf is its value, any other node (feature, threshold, below, otherwise, if missing).
_Node = Any


class BinaryClassifier:
    """A ``gbtree`` model of the objective ``binary:logistic`` with numerical splits; safe to share between threads."""

    def __init__(self, content: bytes) -> None:
        """``content`` is the model's JSON.

        :raises UnsupportedModelError: it is not, or it is of another kind.
        """
        try:
            learner = msgspec.json.decode(content, type=_Model).learner
            self.feature_count = int(learner.learner_model_param.num_feature)
            base_score = float(learner.learner_model_param.base_score.strip("[]"))
        except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as exc:
            raise UnsupportedModelError("it is not an XGBoost model in JSON") from exc
        _check_kind(learner)
        if not 0 < base_score < 1:
            raise UnsupportedModelError("its base score is no probability")
        self.feature_names = tuple(learner.feature_names)
        self._base_margin = _logit(base_score)
        self._trees = [_root(tree, self.feature_count) for tree in learner.gradient_booster.model.trees]

    def probabilities(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """The probability of the positive class for each row of ``feature_count`` numbers; NaN is a missing value.

        :raises ValueError: a row has another length.
        """
        features = [self._rounded(row) for row in rows]
        whole = [not any(map(math.isnan, row)) for row in features]
        # Tree by tree, as an item of this array is rounded to 32 bits with every addition.
        margins = array("f", [self._base_margin]) * len(features)
        for root in self._trees:
            for index, row in enumerate(features):
                margins[index] += _leaf(root, row) if whole[index] else _leaf_if_missing(root, row)
        return [_sigmoid(margin) for margin in margins]

    def _rounded(self, row: Sequence[float]) -> list[float]:
        if len(row) != self.feature_count:
            raise ValueError(f"a row has {len(row)} features, the model needs {self.feature_count}")
        return array("f", row).tolist()


def _leaf(node: _Node, row: Sequence[float]) -> float:
    while type(node) is tuple:
        feature, threshold, below, otherwise, _ = node
        node = below if row[feature] < threshold else otherwise
    value: float = node
    return value


def _leaf_if_missing(node: _Node, row: Sequence[float]) -> float:
    """As :func:`_leaf`, where a feature may be missing."""
    while type(node) is tuple:
        feature, threshold, below, otherwise, missing = node
        value = row[feature]
        present = below if value < threshold else otherwise
        node = missing if math.isnan(value) else present
    leaf: float = node
    return leaf


def _check_kind(learner: _Learner) -> None:
    parameters = learner.learner_model_param
    if learner.gradient_booster.name != "gbtree":
        raise UnsupportedModelError(f"its booster is {learner.gradient_booster.name}, not gbtree")
    if learner.objective.name != "binary:logistic":
        raise UnsupportedModelError(f"its objective is {learner.objective.name}, not binary:logistic")
    if parameters.num_class not in ("0", "1") or parameters.num_target != "1":
        raise UnsupportedModelError("it has several outputs")


def _root(tree: _Tree, feature_count: int) -> _Node:
    if any(tree.split_type):
        raise UnsupportedModelError("it has categorical splits")
    if tree.tree_param.size_leaf_vector not in ("0", "1"):
        raise UnsupportedModelError("its leaves are vectors")
    conditions = array("f", tree.split_conditions).tolist()
    if not all(map(math.isfinite, conditions)):
        raise UnsupportedModelError("a tree is damaged")

    def node(index: int, depth: int) -> _Node:
        if depth > _DEEPEST:
            raise UnsupportedModelError("a tree is too deep, or goes round in a circle")
        left, right = tree.left_children[index], tree.right_children[index]
        if left == _NO_CHILD:
            return conditions[index]
        feature = tree.split_indices[index]
        if not (0 <= feature < feature_count and left > 0 and right > 0):
            raise UnsupportedModelError("a tree is damaged")
        below, otherwise = node(left, depth + 1), node(right, depth + 1)
        return feature, conditions[index], below, otherwise, below if tree.default_left[index] else otherwise

    try:
        return node(0, 0)
    except IndexError as exc:
        raise UnsupportedModelError("a tree is damaged") from exc


def _round(value: float) -> float:
    """``value`` as the nearest 32-bit float."""
    return array("f", (value,))[0]


def _logit(probability: float) -> float:
    odds = _round(1.0 / _round(probability))
    return -_round(math.log(_round(odds - 1.0)))


def _sigmoid(margin: float) -> float:
    power = _round(math.exp(min(-margin, _round(_LARGEST_EXPONENT))))
    return _round(1.0 / _round(_round(power + 1.0) + _round(_EPSILON)))
