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
    """Write ``bundle``, three tables to score and the embedded engine's ``tables`` of each into ``folder``."""
    os.environ.setdefault("TESTS_SHARED", str(folder / "shared"))
    from tests.support.bundles import make_bundle

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    use_case = load("attrition")
    bundle = make_bundle(folder / "bundle", 1)
    frame = make_rows(use_case, 500, 5).drop(columns=[use_case.label.field])
    number = next(field for field in use_case.features if field.kind == "integer" and field.maximum)
    frame.loc[[3, 40], number.name] = (number.maximum or 0) + 1
    frame.to_parquet(folder / "in.parquet", index=False)
    frame.to_csv(folder / "in.csv", index=False)
    lines = (folder / "in.csv").read_bytes().splitlines()
    lines[7] += b",more"
    lines[8] += b",,"
    lines[9] = b'"a"b,' + lines[9]
    lines[11] = lines[11].replace(lines[11].split(b",")[1], b"M\xfcller")
    lines[12] = b"x" * 140_000 + lines[12]
    lines[13] = lines[13].replace(b",", b" , ")
    lines.append(b"1,2")
    (folder / "broken.csv").write_bytes(b"\r\n".join(lines))
    for name in ("in.parquet", "in.csv", "broken.csv"):
        score_table(use_case, bundle, PINNED, str(folder / name), folder / "tables" / name, DAY)
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
