"""The application that gunicorn serves."""

import gc

from serving.app import create_app
from serving.cpu import cpu_limit
from serving.settings import SettingsError, not_started, settings_or_exit

_settings = settings_or_exit()
try:
    app = create_app(_settings, _settings.workers or cpu_limit())
except SettingsError as error:
    raise not_started(error) from None
# What is loaded stays loaded: the collector need not walk it, nor unshare its pages in the workers.
gc.freeze()
gc.enable()
