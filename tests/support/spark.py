"""A local Spark for the tests of ``make test-spark``."""

import os
import sys
from collections.abc import Iterator
from typing import Any


def local_session() -> Iterator[Any]:
    """A session in this process that ends with the fixture which yields from it."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    from pyspark.sql import SparkSession

    settings = {
        "spark.ui.enabled": "false", "spark.driver.bindAddress": "127.0.0.1", "spark.driver.host": "127.0.0.1",
        "spark.sql.shuffle.partitions": "2", "spark.log.level": "ERROR",
    }  # fmt: skip
    opened = SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
    yield opened
    opened.stop()
