from tests.helpers.fixtures import clear_choices, engine_calls, one_thread, place, workplace_files
from tests.helpers.hub_server import elsewhere, hub

__all__ = ["clear_choices", "elsewhere", "engine_calls", "hub", "one_thread", "place", "workplace_files"]
