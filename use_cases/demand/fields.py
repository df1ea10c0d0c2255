"""The columns of the sales, and what a series is: a store's item, week by week."""

from serving.scoring.contract import Field
from training.forecasting.definition import Known, Quantity, Series

STORE = Field("store", "category", "The store", "S01", role="carried", drift=False)
ITEM = Field("item", "category", "The item", "I001", role="carried", drift=False)
PRICE = Field("price", "number", "Price of one piece in that week", 2.49, unit="EUR", minimum=0.01, maximum=10000.0)
DEAL = Field("deal", "integer", "Whether the price is an offer", 0, minimum=0, maximum=1)
ADVERTISED = Field("advertised", "integer", "Whether the leaflet shows it", 0, minimum=0, maximum=1)
OUT_OF_STOCK = Field(
    "out_of_stock", "integer", "Days without stock, known afterwards", 0, unit="days", minimum=0, maximum=7
)

FIELDS = (STORE, ITEM, PRICE, DEAL, ADVERTISED, OUT_OF_STOCK)

SERIES = Series(
    key=(STORE.name, ITEM.name),
    time="week",
    label=Quantity("units", unit="pieces"),
    known=(Known(PRICE.name, "last"), Known(DEAL.name, "zero"), Known(ADVERTISED.name, "zero")),
    unknown=(OUT_OF_STOCK.name,),
    censored=OUT_OF_STOCK.name,
    absent="zero",
    season=52,
    horizon=13,
    gap=1,
    ended_after=13,
    levels=((), (STORE.name,), (ITEM.name,)),
)
