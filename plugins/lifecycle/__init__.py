"""What the DAGs do: operators, sensors and the modules behind them."""
