"""Weekly forecasts of real sales, by the protocol of Microsoft's forecasting repository.

``make bench-demand`` (``ARGS="--trials 20"`` tunes as well; ``ARGS="--package file.deb"`` where there is no apt).

The sales are Dominick's refrigerated orange juice: 83 stores, 11 brands, 121 weeks. They ship in Debian's package
``r-cran-bayesm``, which is fetched and not kept here. Ten rounds: round ``r`` knows sales up to week ``135 + 2 r`` and
forecasts weeks ``137 + 2 r`` and ``138 + 2 r``. Price, deal and feature of these weeks are known, as they are in the
protocol. Each round fits again.

The recipe was chosen on weeks up to 135 alone (``--trials``), so no test week had a say in it; so was the way in which
intervals are corrected: of ten rounds that end with week 135, three origins and whole weeks left out covered 79%, five
origins and single rows 75%. In the results ``mape``,
``wape`` and ``bias`` are per cent, and ``coverage`` is the share of sales within the interval from the 10% to the 90%
quantile. ``this project`` forecasts what makes MAPE least, as the protocol counts by it; ``this project, median``
is the 50% quantile of the same run, which is what a release would use.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from training.forecasting.backtest import backtest, with_actuals
from training.forecasting.definition import Known, Quantity, Series
from training.forecasting.metrics import Errors, errors
from training.forecasting.recipe import FIRST_CHAMPION, Boosting, Recipe
from training.forecasting.series import split
from training.forecasting.tune import best, tune

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "demand.json"
CACHE = ROOT / ".lifecycle-benchmarks"
PACKAGE = "r-cran-bayesm"
INSIDE = "usr/lib/R/site-library/bayesm/data/orangeJuice.rda"
ROWS = 106139
READ_RDA = """
import sys, rdata
found = rdata.read_rda(sys.argv[1])["orangeJuice"]
found["yx"].to_parquet(sys.argv[2], index=False)
found["storedemo"].to_parquet(sys.argv[3], index=False)
"""
"""R's format is read in an environment of its own: the package for it wants nothing of ours."""

FIRST_DAY = date(1989, 9, 14)
"""Of week 1."""
ROUNDS, HORIZON, GAP = 10, 2, 2
FIRST_ORIGIN = 135
BRANDS = 11
RECIPE = Recipe(
    kind="boosted",
    point="percent",
    boosting=Boosting(iterations=200, learning_rate=0.1, leaves=31, rows_in_leaf=20, features=0.2),
    origins=3,
    per_week=1,
)


def fetch(package: Path | None) -> tuple[Path, Path]:
    """Sales and stores as Parquet files, from the Debian package."""
    CACHE.mkdir(exist_ok=True)
    sales, stores = CACHE / "sales.parquet", CACHE / "stores.parquet"
    if sales.is_file() and stores.is_file():
        return sales, stores
    if package is None:
        subprocess.run(["apt-get", "download", PACKAGE], cwd=CACHE, check=True)
        package = next(CACHE.glob(f"{PACKAGE}_*.deb"))
    subprocess.run(["dpkg-deb", "-x", str(package), str(CACHE / "package")], check=True)
    command = [sys.executable, "-m", "uv", "run", "--no-project", "--isolated", "--with", "rdata==1.1.0"]
    command += ["--with", "pyarrow", "python", "-c", READ_RDA, str(CACHE / "package" / INSIDE), str(sales), str(stores)]
    subprocess.run(command, check=True)
    return sales, stores


def read(sales: Path, stores: Path) -> tuple[Series, pd.DataFrame, pd.DataFrame]:
    """The definition, the history, and the plan: what was known of each week."""
    frame = pd.read_parquet(sales).astype({"store": int, "brand": int, "week": int})
    if len(frame) != ROWS:
        raise SystemExit(f"{sales} has {len(frame)} rows, where {ROWS} are known: another version of the data?")
    prices = frame[[f"price{number}" for number in range(1, BRANDS + 1)]].to_numpy(float)
    frame["price"] = prices[np.arange(len(frame)), frame["brand"] - 1]
    frame["units"] = np.exp(frame["logmove"]).round()
    frame["day"] = [np.datetime64(day_of(week), "D") for week in frame["week"]]
    people = pd.read_parquet(stores).rename(columns=str.lower).astype({"store": int})
    static = tuple(name for name in people.columns if name != "store")
    definition = Series(
        key=("store", "brand"),
        time="day",
        label=Quantity("units"),
        known=(Known("price", "last"), Known("deal", "zero"), Known("feat", "zero")),
        static=static,
        absent="unknown",  # a week without a row is missing in this data, and not zero
        horizon=HORIZON,
        gap=GAP,
        levels=(),
    )
    whole = frame.merge(people, on="store")
    return definition, whole[list(definition.columns)], whole[list(definition.plan_columns)]


def day_of(week: int) -> date:
    """The first day of a week."""
    return FIRST_DAY + timedelta(weeks=week - 1)


def naive(definition: Series, history: pd.DataFrame, origin: date) -> pd.DataFrame:
    """The last known sales of each series for all weeks of the horizon; it has no interval."""
    known, _ = split(history, definition, origin)
    key = list(definition.key)
    last = known.sort_values("day").groupby(key, as_index=False).last()[[*key, "units"]]
    parts = [
        last[key].assign(
            day=pd.Timestamp(origin) + pd.Timedelta(weeks=step), horizon=step - GAP + 1, forecast=last["units"]
        )
        for step in definition.steps
    ]
    rows = pd.concat(parts, ignore_index=True).assign(origin=pd.Timestamp(origin))
    return rows.assign(**{name: rows["forecast"] for name in ("q10", "q50", "q90")})


def rounds(
    make: Callable[[date], pd.DataFrame], definition: Series, count: int, kept: Path
) -> tuple[pd.DataFrame, float]:
    """The rows of all rounds beside what came, and the seconds that they took.

    A round that is done is kept in a folder, so that a run which was stopped goes on where it was.
    """
    kept.mkdir(parents=True, exist_ok=True)
    parts = []
    for number in range(count):
        file = kept / f"{number}.parquet"
        if not file.is_file():
            started = time.monotonic()
            rows = make(day_of(FIRST_ORIGIN + HORIZON * number))
            rows.assign(wall_s=time.monotonic() - started).to_parquet(file)
        parts.append(pd.read_parquet(file))
        found = errors(parts[-1], definition)
        print(f"  round {number + 1}: MAPE {100 * found.mape:.2f}, coverage {found.coverage:.3f}", flush=True)
    return pd.concat(parts, ignore_index=True), sum(float(part["wall_s"].iloc[0]) for part in parts)


def row(system: str, found: Errors, seconds: float, *, interval: bool = True) -> dict[str, Any]:
    """One entry of the results."""
    return {
        "system": system,
        **{name: round(100 * getattr(found, name), 2) for name in ("mape", "wape", "bias")},
        "rmsse": round(found.rmsse, 3),
        "coverage": round(found.coverage, 3) if interval else None,
        "wall_s": round(seconds, 1),
    }


def tuned(definition: Series, history: pd.DataFrame, plan: pd.DataFrame, trials: int) -> Recipe:
    """The best recipe of ``trials`` trials on the weeks that the first round knows, from one horizon to the next."""
    known, _ = split(history, definition, day_of(FIRST_ORIGIN))
    found = tune(
        RECIPE,
        definition,
        known,
        plan[plan["day"] <= pd.Timestamp(day_of(FIRST_ORIGIN))],
        trials=trials,
        origins=4,
        record=lambda trial: print(
            f"  trial {trial.number}: {100 * trial.score:.2f} {trial.recipe.boosting}", flush=True
        ),
    )
    return best(found)


def content(told: Recipe | None) -> str:
    """A digest of a recipe and of the code that follows it: rounds of another one are not taken up."""
    digest = hashlib.sha256(msgspec.json.encode(told))
    for file in [Path(__file__), *sorted((ROOT / "training" / "forecasting").glob("*.py"))]:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--package", type=Path, help="the Debian package, where apt-get cannot fetch it")
    parser.add_argument("--trials", type=int, default=0, help="tune first, on weeks up to 135")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    definition, history, plan = read(*fetch(arguments.package))
    recipe = tuned(definition, history, plan, arguments.trials) if arguments.trials else RECIPE

    rows, seconds = {}, {}
    for system, make, told in (
        ("this project", lambda origin: backtest(recipe, definition, history, plan, [origin]), recipe),
        (
            "seasonal naive",
            lambda origin: backtest(FIRST_CHAMPION, definition, history, plan, [origin]),
            FIRST_CHAMPION,
        ),
        ("naive", lambda origin: with_actuals(naive(definition, history, origin), history, definition), None),
    ):
        print(system, flush=True)
        kept = CACHE / "rounds" / f"{system} {content(told)}"
        rows[system], seconds[system] = rounds(make, definition, arguments.rounds, kept)
    ours = rows["this project"]
    results = [
        row("this project", errors(ours, definition), seconds["this project"]),
        row("this project, median", errors(ours.assign(forecast=ours["q50"]), definition), seconds["this project"]),
        row("seasonal naive", errors(rows["seasonal naive"], definition), seconds["seasonal naive"]),
        row("naive", errors(rows["naive"], definition), seconds["naive"], interval=False),
    ]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(results, indent=1) + "\n")
    print(pd.DataFrame(results).to_string(index=False))


if __name__ == "__main__":
    main()
