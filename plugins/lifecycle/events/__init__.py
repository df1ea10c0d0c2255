"""Runs that new files start: which event feeds which asset, the trigger that listens, and the sweep's listing.

Begin with ``feeds``: its table says it all. ``trigger`` is what Airflow's triggerer runs, ``brokers`` are the queues
that it listens to, ``files`` lists a folder. What a run does with a new file: ``lifecycle.tasks.arrivals``.
"""
