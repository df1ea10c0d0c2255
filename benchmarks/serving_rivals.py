"""The two other systems of the serving benchmark, as WSGI applications.

``ceiling()``: an empty Flask route that reads the body and returns as many bytes as the scoring server would.
``naive(...)``: the usual way, Flask with pandas, the scikit-learn models and SciPy's tests.
"""

import json
import pickle
import uuid
from pathlib import Path
from typing import Any

from flask import Flask, Response, request


def ceiling() -> Flask:
    """``POST /predict?bytes=N`` answers N bytes."""
    app = Flask(__name__)
    constants: dict[int, bytes] = {}

    @app.post("/predict")
    def predict() -> Response:
        request.get_data()
        size = int(request.args["bytes"])
        body = constants.setdefault(size, b" " * size)
        return Response(body, content_type="application/json")

    @app.get("/readyz")
    def readyz() -> dict[str, str]:
        return {"status": "ready"}

    return app


def naive(models: str) -> Flask:
    """The same answer as the scoring server's, in the way most would write it; ``models``: a pickle of them."""
    import pandas as pd
    from scipy.stats import chi2_contingency, ks_2samp

    app = Flask(__name__)
    parts: dict[str, Any] = pickle.loads(Path(models).read_bytes())  # noqa: S301 - written by this benchmark
    reference, fields = parts["reference"], parts["fields"]

    def p_value(name: str, kind: str, sample: Any) -> float:
        known = reference[name].dropna()
        if kind != "category":
            return float(ks_2samp(known, sample.astype(float).dropna()).pvalue)
        table = pd.concat([known.value_counts(), sample.value_counts()], axis=1).fillna(0)
        return float(chi2_contingency(table.T.to_numpy()).pvalue)

    @app.post("/predict")
    def predict() -> dict[str, Any]:
        frame = pd.DataFrame(request.get_json())
        app.logger.warning(json.dumps({"type": "InputData", "data": frame.to_dict("records")}))
        x = parts["encode"](frame)
        p_values = {name: p_value(name, kind, frame[name]) for name, kind in fields}
        scores = parts["outliers"].scores(x)
        answer = {
            "request_id": uuid.uuid4().hex,
            "classifier__predictions": parts["classifier"].predict_proba(x)[:, 1].tolist(),
            "drift__threshold": 0.05,
            "drift__is_drift": {name: p < 0.05 for name, p in p_values.items()},
            "drift__p_value": p_values,
            "drift__magnitude": {name: 1 - p for name, p in p_values.items()},
            "outliers__is_outlier": (scores > 0).tolist(),
            "outliers__score": scores.tolist(),
        }
        app.logger.warning(json.dumps({"type": "OutputData", "data": answer}))
        return answer

    @app.get("/readyz")
    def readyz() -> dict[str, str]:
        return {"status": "ready"}

    return app
