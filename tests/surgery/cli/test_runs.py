"""`surgery runs`."""


def test_runs_lists_what_ships_with_the_demos_and_tells_it(ok):
    shipped = ok("runs", "--adapter", "demo:kinship", "--json")["runs"]
    assert [(run["adapter"], run["shipped"], run["finished"]) for run in shipped] == [("demo:kinship", True, True)]
    assert "; shipped with the demo; edit (grad_direction)" in ok("runs", "--adapter", "demo:kinship")
    (key,) = [run["run"] for run in shipped]
    assert f"kept as run {key}" in ok("runs", key)
