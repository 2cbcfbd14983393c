"""gunicorn's settings for tests: those of the service, with less patience, and a port for each."""

import runpy

import patience

patience.PATIENCE = 1.0
globals().update(runpy.run_path("gunicorn.conf.py"))
