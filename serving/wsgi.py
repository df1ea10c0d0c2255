"""The application that gunicorn serves."""

import gc

from serving.app import create_app
from serving.cpu import cpu_limit
from serving.settings import read_settings

_settings = read_settings()
app = create_app(_settings, _settings.workers or cpu_limit())
# What is loaded stays loaded: the collector need not walk it, nor unshare its pages in the workers.
gc.freeze()
gc.enable()
