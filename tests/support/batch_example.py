"""A bundle, a table to score and what the embedded engine makes of it, and a partition of forecasts, for the tests on
Spark, whose environment trains nothing: ``python -m tests.support.batch_example FOLDER``.
"""

import os
import shutil
import sys
from datetime import date
from pathlib import Path

from training.batch.run import score_table
from training.batch.score import Pinned
from training.data.synthetic import make_rows
from training.use_case import load

DAY = date(2026, 11, 2)
PINNED = Pinned("7", "sha256:" + "a" * 64, explain=True)


def main(folder: Path) -> None:
    """Write ``bundle``, ``in.parquet``, ``in.csv`` and the embedded engine's ``tables`` into ``folder``."""
    os.environ.setdefault("TESTS_SHARED", str(folder / "shared"))
    from tests.support.bundles import make_bundle

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    use_case = load("attrition")
    bundle = make_bundle(folder / "bundle", 1)
    frame = make_rows(use_case, 500, 5).drop(columns=[use_case.label.field])
    number = next(field for field in use_case.features if field.kind == "integer" and field.maximum)
    frame.loc[[3, 40], number.name] = (number.maximum or 0) + 1
    for name in ("in.parquet", "in.csv"):
        location = folder / name
        (frame.to_parquet if name == "in.parquet" else frame.to_csv)(location, index=False)
        score_table(use_case, bundle, PINNED, str(location), folder / "tables" / name, DAY)
    forecasts(folder / "forecasts")


def forecasts(folder: Path) -> None:
    """Write ``scores`` of made-up shops, as the embedded engine keeps them, into ``folder``."""
    from training.forecasting.forecaster import Forecaster
    from training.forecasting.limits import ForecastLimits
    from training.forecasting.recipe import FIRST_CHAMPION
    from training.forecasting.score import Order, run
    from training.registry.content import content_digest
    from use_cases.demand.sample import make_shops

    use_case, shops, bundle = load("demand"), make_shops(2, 3, 120, 3), folder / "bundle"
    Forecaster.fit(FIRST_CHAMPION, use_case.forecast, shops.history, shops.plan).save(bundle)
    for name in ("history", "plan"):
        getattr(shops, name).to_csv(folder / f"{name}.csv", index=False)
    order = Order(
        source=str(folder / "history.csv"), plan=str(folder / "plan.csv"), day=DAY, version="1",
        bundle_digest=content_digest(bundle),
    )  # fmt: skip
    run(use_case, bundle, order, folder / "tables", ForecastLimits())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
