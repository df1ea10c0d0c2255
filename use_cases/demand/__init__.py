"""Weekly demand: what each store will sell of each item in the next quarter, so that people can order in time."""

from training.forecasting.definition import ForecastThresholds
from training.use_case import UseCase
from use_cases.demand.fields import FIELDS, SERIES

USE_CASE = UseCase(
    name="demand",
    title="Weekly Demand Forecasts",
    description="Pieces that each store will sell of each item, week by week, with an interval for each figure.",
    owner="mlops",
    fields=FIELDS,
    label=SERIES.label,
    series=SERIES,
    forecast_thresholds=ForecastThresholds(maximum_wape=0.6, minimum_value_added=0.05),
    purpose="It forecasts weekly sales by store and item for 13 weeks, so that people can order and plan in time.",
    misuse=(
        "It is not made to judge the people of a store, and it does not know what a change of prices outside the plan, "
        "a new competitor or a closed road would do. A week without stock says nothing about demand."
    ),
    entities="weeks of sales",
    model="weekly_demand",
    trials=4,
    score_schedule="0 6 * * 1",
    online=False,
)
