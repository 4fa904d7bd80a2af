"""`surgery gains`: the numbers of every policy, by hand."""

import math

import pytest

from surgery.policies import POLICIES
from tests.surgery.cli.conftest import NUMBERS, SIGMA, rescaled

# |g| over its mean of 0.25 is 1.6, 0.4, 0.8, 1.2; its quantiles at 0.2, 0.5 and 0.8 are 0.64, 1 and 1.36
TAU = 0.35 * 0.72
MU = 1 - TAU * math.log(0.2 / 0.25)
SMOOTH = [0.8 + 0.45 / (1 + math.exp(-(x - MU) / TAU)) for x in (1.6, 0.4, 0.8, 1.2)]
UNALIGNED = [0.8 + 0.45 / (1 + math.exp(-(x - 1) / TAU)) for x in (1.6, 0.4, 0.8, 1.2)]


def two_sided(below, above):
    """The gates of double_smooth, z_score and robust_z at their default gains."""
    return [1 - 0.2 / (1 + math.exp(-b)) + 0.25 / (1 + math.exp(-a)) for b, a in zip(below, above, strict=True)]


X = (1.6, 0.4, 0.8, 1.2)
DOUBLE = two_sided([(0.64 - x) / 0.42 for x in X], [(x - 1.36) / 0.42 for x in X])
# x has mean and median 1, standard deviation √0.2 and a median distance of 0.4 from its median
Z, ROBUST = ([(x - 1) / deviation for x in X] for deviation in (math.sqrt(0.2), 1.4826 * 0.4))
TABLE = [
    (["identity"], [1, 1, 1, 1]),
    (["abs_select"], rescaled([1.25, 0.8, 1, 1])),
    (["abs_select", "--energy", "l2"], rescaled([1.25, 0.8, 1, 1], 2)),
    (["abs_select", "--energy", "none", "--amp", "2", "--core-frac", "0.5"], [2, 0.8, 1, 2]),
    (["abs_select", "--energy", "none", "--min-core-k", "4"], [1.25, 1.25, 1.25, 1.25]),
    (["abs_select", "--energy", "none", "--norm", "l2", "--noise-frac", "0"], [1.25, 1, 1, 1]),
    (["smooth_abs", "--energy", "none"], SMOOTH),
    (["smooth_abs"], rescaled(SMOOTH)),
    (["smooth_abs", "--energy", "none", "--no-align-mid"], UNALIGNED),
    (["double_smooth", "--energy", "none"], DOUBLE),
    (["double_smooth"], rescaled(DOUBLE)),
    (["z_score", "--energy", "none"], two_sided([(-0.5 - z) / 0.2 for z in Z], [(z - 1) / 0.2 for z in Z])),
    (
        ["z_score", "--energy", "none", "--core-z", "0.5", "--noise-z", "-1.5", "--softness", "1"],
        two_sided([-1.5 - z for z in Z], [z - 0.5 for z in Z]),
    ),
    (
        ["robust_z", "--energy", "none"],
        two_sided([(-0.5 - z) / 0.2 for z in ROBUST], [(z - 1) / 0.2 for z in ROBUST]),
    ),
    # numbers given by hand are one example, in which both magnitudes agree
    (["abs_select", "--magnitude", "abs_mean"], rescaled([1.25, 0.8, 1, 1])),
    (["grad_direction", "--energy", "none"], [math.exp(v) for v in (0.32, -0.8, -1.6, -2.4)]),
    (["grad_direction"], rescaled([math.exp(v) for v in (0.32, -0.8, -1.6, -2.4)])),
    (
        ["grad_direction", "--energy", "none", "--no-asymmetric", "--eta", "1"],
        [math.exp(v) for v in (1.6, -0.4, -0.8, -1.2)],
    ),
    (
        ["grad_direction", "--energy", "none", "--eta-suppress", "1", "--power", "2"],
        [math.exp(v) for v in (0.32, -0.16, -0.64, -1.44)],
    ),
    # one example with |g|² = 0.3: the step is g / (0.3 + 0.3·0.3)
    (
        ["natural_gradient", "--energy", "none"],
        [1 - 0.1 * g / (0.39 * s) for g, s in zip((-0.4, 0.1, 0.2, 0.3), (4, 3, 2, 1), strict=True)],
    ),
    (["power"], rescaled([s**-0.5 for s in SIGMA])),
    (["power", "--energy", "none", "--exponent", "0"], [1 / s for s in SIGMA]),
    (["power", "--energy", "functional", "--q", "1,1,1,1"], rescaled([s**-0.5 for s in SIGMA], 2)),
    # one round of x(2 − 1.5x² + 0.5x⁴) on σ/√30
    (["hns", "--fast", "0"], rescaled([2 - 1.5 * s**2 / 30 + 0.5 * s**4 / 900 for s in SIGMA])),
    (["top_shrink"], [2.5 / 4, 2.5 / 3, 1, 1]),
    (["tail_lift"], [1, 1, 1.25, 2.5]),
    (["clip", "--cap", "1"], [2.5 / 4, 2.5 / 3, 1, 1]),
    (["clip", "--cap", "inf"], [1, 1, 1, 1]),
    (
        ["functional_hns", "--fast", "0", "--alpha", "1", "--q", "4,1,1,1"],
        # 30 + 3·16 is the sum of (σ∘w)²
        rescaled([2 - 1.5 * x**2 / 78 + 0.5 * x**4 / 78**2 for x in (8, 3, 2, 1)]),
    ),
    (["functional_flat", "--q", "4,1,1,1"], rescaled([0.5 / 4, 1 / 3, 1 / 2, 1])),
    (["scale", "--gamma", "0.5", "--strength", "0.5"], [0.75, 0.75, 0.75, 0.75]),
    (["abs_select", "--strength", "0"], [1, 1, 1, 1]),
    (
        ["abs_select", "--energy", "none", "--strength", "1.5"],
        [1.375, 0.7, 1, 1],
    ),
    (["scale", "--gamma", "0.5"], [0.5, 0.5, 0.5, 0.5]),
    (["rank", "--keep", "2", "--energy", "l1"], rescaled([1, 1, 0, 0])),
    (["rank", "--keep", "2", "--by", "sensitivity"], [1, 0, 0, 1]),
    (["scale", "--energy", "none", "--gamma", "0.5", "--sigma-min", "1.2"], [0.5, 0.5, 0.6, 1.2]),
]


@pytest.mark.parametrize(("options", "expected"), TABLE, ids=lambda value: " ".join(map(str, value)))
def test_gains_prints_the_numbers_of_every_policy(options, expected, ok):
    record = ok("gains", *NUMBERS, "--json", "--policy", *options)
    assert set(record) == {"gains", "sigma"}
    assert record["gains"] == pytest.approx(expected, rel=1e-12)
    assert record["sigma"] == pytest.approx([a * s for a, s in zip(expected, SIGMA, strict=True)], rel=1e-12)


def test_the_table_above_covers_every_policy_but_the_random_one_and_that_which_needs_two_slices():
    assert {options[0] for options, _ in TABLE} == set(POLICIES) - {"random_index", "protected"}


def test_numbers_given_by_hand_have_no_slice_to_protect(fails):
    assert "no slice to protect" in fails("gains", "--policy", "protected", *NUMBERS)


def test_gains_of_a_random_control_depend_on_seed_and_module_name_alone(ok):
    def draw(*words, numbers=NUMBERS):
        record = ok("gains", *numbers, "--json", "--policy", "random_index", "--energy", "none", *words)
        return tuple(round(gain, 12) for gain in record["gains"])

    assert sorted(draw()) == [0.8, 1.0, 1.0, 1.25]
    assert draw() == draw("--seed", "0") == draw("--module", "module")
    assert draw() == draw(numbers=["--sigma", "9,8,7,6", "--sensitivity", "1,1,1,1"])
    assert len({draw("--seed", str(seed)) for seed in range(12)}) > 1
    assert len({draw("--module", f"layers.{i}.o_proj") for i in range(12)}) > 1


@pytest.mark.parametrize(
    "numbers",
    [
        ["--sigma", "4,3,2,1", "--sensitivity", "-0.4,0.1,0.2,0.3"],
        ["--sensitivity=-0.4,0.1,0.2,0.3", "--sigma=4,3,2,1"],
        ["--sensitivity", " -0.4, .1,2e-1 ,+0.3", "--sigma", "4.0,3,2,1e0"],
    ],
)
def test_a_list_may_begin_with_a_minus_sign(numbers, ok):
    record = ok("gains", "--json", "--policy", "abs_select", *numbers)
    assert record["gains"] == pytest.approx(rescaled([1.25, 0.8, 1, 1]), rel=1e-12)


def test_the_text_shows_the_same_numbers_in_a_table(ok):
    lines = ok("gains", *NUMBERS, "--policy", "abs_select", "--energy", "none").splitlines()
    assert [[float(cell) for cell in line.split()] for line in lines[1:]] == [
        [0, 4, 1.25, 5],
        [1, 3, 0.8, 2.4],
        [2, 2, 1, 2],
        [3, 1, 1, 1],
    ]


def test_a_module_left_alone_says_why_in_both_forms(ok):
    words = ["gains", "--sigma", "2,1", "--sensitivity", "0,0", "--policy", "abs_select"]
    assert "gradient" in ok(*words, "--json")["skipped"]
    assert "left alone: " in ok(*words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--policy", "gradient"], "gradient"),
        (["--policy", "identity", "--amp", "2"], "amp"),
        (["--policy", "scale", "--amp", "2"], "gamma"),
        (["--policy", "abs_select", "--align-mid"], "align_mid"),
        (["--policy", "abs_select", "--vigour", "2"], "--vigour"),
        (["--policy", "abs_select", "--strength", "2"], "from 0 to 1.5"),
        (["--policy", "abs_select", "--strength", "nan"], "--strength"),
        (["--policy", "functional_hns"], "--q"),
        (["--policy", "abs_select", "--energy", "functional"], "--q"),
        (["--policy", "functional_flat", "--q", "1,2"], "4 singular values met 2 second moments"),
        (["--policy", "functional_flat", "--q", "1,2,3,-4"], "negative"),
        (["--policy", "functional_flat", "--q", "1,2,3,inf"], "--q"),
        (["--policy", "power", "--exponent", "inf"], "--exponent"),
        (["--policy", "clip", "--cap", "nan"], "cap"),
        (["--policy", "abs_select", "--am", "2"], "--am"),
        (["--policy", "abs_select", "--amp"], "--amp"),
        (["--policy", "abs_select", "--amp", "big"], "--amp"),
        (["--policy", "abs_select", "--amp", "nan"], "--amp"),
        (["--policy", "abs_select", "--amp", "inf"], "--amp"),
        (["--policy", "abs_select", "--amp", "99"], "amp"),
        (["--policy", "abs_select", "--amp", "-1"], "amp"),
        (["--policy", "scale", "--gamma", "-1e-3"], "gamma"),
        (["--policy", "abs_select", "--norm", "max"], "norm"),
        (["--policy", "abs_select", "--magnitude", "max"], "mean_abs, abs_mean"),
        (["--policy", "z_score", "--core-frac", "0.2"], "core_frac"),
        (["--policy", "abs_select", "--min-core-k", "1.5"], "min_core_k"),
        (["--policy", "abs_select", "--energy", "l3"], "l3"),
        (["--policy", "abs_select", "--sigma-min", "-1"], "sigma_min"),
        (["--policy", "abs_select", "--sigma-min", "x"], "--sigma-min"),
        (["--policy", "smooth_abs", "--mid", "2"], "align_mid"),
        (["--policy"], "--policy"),
        ([], "--policy"),
        (["--policy", "identity", "stray"], "stray"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_policy_knob_or_value_is_one_line_and_exit_code_2(words, said, fails):
    assert said in fails("gains", *NUMBERS, "--json", *words)


@pytest.mark.parametrize(
    ("sigma", "g", "said"),
    [
        ("3,2", "1", "2 singular values"),
        ("3,x", "1,2", "--sigma"),
        ("", "1", "--sigma"),
        ("3,,2", "1,2,3", "--sigma"),
        ("3,2", "1,nan", "--sensitivity"),
        ("inf,2", "1,2", "--sigma"),
        ("3,-2", "1,2", "negative"),
        ("3;2", "1,2", "--sigma"),
        ("-3,2\nx", "1,2", "--sigma"),
    ],
)
def test_a_list_that_is_no_list_of_numbers_is_one_line(sigma, g, said, fails):
    assert said in fails("gains", "--policy", "identity", "--sigma", sigma, "--sensitivity", g)


def test_sensitivities_are_asked_for_where_a_policy_works_from_them_and_nowhere_else(ok, fails):
    for policy in POLICIES.values():
        words = ["gains", "--sigma", "4,3,2,1", "--policy", policy.name]
        if policy().needs_gradient:
            assert "--sensitivity" in fails(*words)
            continue
        words += ["--q", "1,2,3,4"] if policy.needs_q else []
        assert ok(*words, "--json") == ok(*words, "--json", "--sensitivity", "-0.4,0.1,0.2,0.3")
    # what the refusal proposes works
    assert ok("gains", "--sigma", "3,2,1", "--policy", "abs_select", "--sensitivity", "0.1,-0.4,0.2")
    assert ok("gains", "--sigma", "3,2,1", "--policy", "functional_flat", "--q", "1.5,0.2,0.9")
    assert ok("gains", "--sigma", "3,2,1", "--policy", "power", "--energy", "functional", "--q", "1.5,0.2,0.9")
