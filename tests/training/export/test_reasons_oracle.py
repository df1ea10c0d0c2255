"""Reasons are those of the package shap, on all rows (``make test-reasons``)."""

import json

import numpy as np
import pytest

from serving.scoring.reasons import Reasons
from tests.support.reasons_oracle import COMMITTED, MEMBERS, SEED, ensemble_values, some_rows, stacked
from training.export.classifier import take_apart
from training.export.reasons import background, reasons_arrays

pytestmark = pytest.mark.reasons
CASES = {name: [member] for name, member in MEMBERS.items()} | {"all of them": list(MEMBERS.values())}


@pytest.mark.parametrize("members", CASES.values(), ids=CASES)
@pytest.mark.filterwarnings("ignore")  # shap's own
def test_all_rows_have_the_reasons_of_shap(members, real):
    ensemble = stacked(real, members)
    base, wanted = ensemble_values(ensemble, real.x)
    reasons = Reasons(reasons_arrays(take_apart(ensemble), background(real.x, SEED)), real.x.shape[1])
    assert reasons.base == pytest.approx(base, abs=1e-6)
    np.testing.assert_allclose(reasons.effects(real.x), wanted, atol=1e-6)
    assert np.abs(wanted).max() > 0.1


def test_committed_values_are_those_of_shap(real):
    committed = json.loads(COMMITTED.read_text())
    for name, member in MEMBERS.items():
        _, wanted = ensemble_values(stacked(real, [member]), real.x)
        np.testing.assert_allclose(committed[name]["effects"], wanted[some_rows(real)], atol=1e-5)
