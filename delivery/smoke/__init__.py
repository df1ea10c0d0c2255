"""``make azure-smoke``: the small environment on a real subscription, once through, compared with this machine.

It makes the environment, rolls Airflow out, lets the same DAGs train, release, close a night, score a table and roll
back, compares what came of it with the embedded stack's results, writes a report, and takes everything down: also
when a step has failed, the time is over, or it was stopped. ``DRY=yes`` goes the same way with stand-ins for the
programs that would reach Azure, and the embedded stack in the place of the cluster's Airflow.
"""
