"""The plugin for pytest, for ``-p nats_ev.testing.plugin`` where installed plugins are not loaded.

Its fixtures are in the module `pytest_nats_ev`, which pytest loads without this package.
"""

pytest_plugins = ("pytest_nats_ev",)
