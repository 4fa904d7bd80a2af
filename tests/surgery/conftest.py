from tests.helpers.fixtures import clear_choices, engine_calls, one_thread, place, workplace_files

__all__ = ["clear_choices", "engine_calls", "one_thread", "place", "workplace_files"]
