"""Fixtures for the events' tests: settings that watch both folders, connection ``events``, and the alerts."""

import asyncio

import pytest
from airflow.models.connection import Connection

from lifecycle import settings
from lifecycle.events import brokers, trigger
from tests.plugins.events.scenarios import STARTING
from tests.support.airflow import make_settings


@pytest.fixture
def starting(monkeypatch):
    """Settings where new data and new outcomes start something."""
    found = make_settings(STARTING, events=settings.Events(listen=True))
    monkeypatch.setattr(settings, "load", lambda: found)
    return found


@pytest.fixture
def alerts(monkeypatch):
    """The alerts that were sent."""
    sent = []
    monkeypatch.setattr(trigger, "send", sent.append)
    return sent


@pytest.fixture
def connected(monkeypatch, starting, alerts):
    """Sets connection ``events``."""

    def connect(values):
        async def connection(conn_id):
            assert conn_id == brokers.CONNECTION_ID
            await asyncio.sleep(0)
            return Connection(conn_id=conn_id, **values)

        monkeypatch.setattr(brokers, "get_async_connection", connection)

    return connect
