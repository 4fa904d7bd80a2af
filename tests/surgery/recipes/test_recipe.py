"""Recipes: what is written is read again, and what cannot be read is refused with its place."""

import copy
import dataclasses

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from surgery.data import (
    APART,
    DATE,
    GIVEN,
    SAMPLED,
    TOGETHER,
    TOKENIZERS,
    CalibrationPlan,
    Encoding,
    EvaluationPlan,
    TaskPlan,
    TextPlan,
)
from surgery.edits import EditPlan
from surgery.errors import PolicyError, RecipeError, SurgeryError
from surgery.model import BaseChoice
from surgery.policies import POLICIES, GradDirection, SmoothAbs, knobs_of
from surgery.recipes import Recipe, demo_plans, dump_recipe, parse_recipe, read_recipe

PLAIN = Recipe(
    "some/adapter",
    "abc",
    BaseChoice("owner/name"),
    CalibrationPlan("rows.jsonl"),
    evaluation=EvaluationPlan("test.jsonl"),
)
RECORD = yaml.safe_load(dump_recipe(PLAIN))

# ---- every recipe that can be built ----

# everything that YAML can hold, line breaks, colons, accents and emoji included
texts = st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("\n\t: #'\"-{[é😀"), max_size=20)
counts = st.integers(1, 2**31)
encodings = st.builds(
    Encoding,
    st.sampled_from(["chat", "plain", "own.jinja"]),
    st.booleans(),
    st.booleans(),
    counts,
    st.sampled_from([TOGETHER, APART]),
    st.just("") | texts,
    st.sampled_from(["", '{"enable_thinking": false}']),
    st.sampled_from([DATE, "2026-01-31"]),
    st.sampled_from(TOKENIZERS),
)


@st.composite
def policies(draw):
    kind = draw(st.sampled_from(list(POLICIES.values())))
    values = {}
    for knob in knobs_of(kind):
        if knob.choices:
            values[knob.name] = draw(st.sampled_from(knob.choices))
        elif knob.kind is bool:
            values[knob.name] = draw(st.booleans())
        elif knob.kind is int:
            values[knob.name] = draw(st.integers(int(knob.low), int(knob.high)))
        else:
            values[knob.name] = draw(st.floats(knob.low, knob.high))
    return kind(**values)


recipes = st.builds(
    Recipe,
    adapter=texts,
    adapter_digest=st.text("0123456789abcdef", max_size=64),
    base=st.builds(
        BaseChoice, texts, st.none() | texts, texts, st.sampled_from(["float32", "bfloat16", "float16"])
    ),
    calibration=st.builds(
        CalibrationPlan,
        texts,
        counts,
        st.integers(0, 2**31),
        st.integers(0, 10**6),
        counts,
        encodings,
        st.booleans(),
        st.sampled_from(["prompt", "a: b", "{context}\n{q}: {{x}}"]),
        st.sampled_from(["answer", "{label}"]),
    ),
    edit=st.builds(
        EditPlan,
        policies(),
        st.sampled_from(["residual", "attention-inputs", "all", r"layers\.(1|2)\.", "5", "no", "null"]),
        st.sampled_from(["l1", "l2", "none"]),
        st.floats(0, 1e6),
        st.dictionaries(
            texts.filter(bool), st.dictionaries(st.integers(0, 300), st.floats(0, 1e3), min_size=1), max_size=3
        ),
    ),
    evaluation=st.none()
    | st.builds(
        EvaluationPlan,
        texts,
        st.none() | counts,
        st.integers(0, 100),
        st.booleans(),
        st.booleans(),
        counts,
        encodings,
    ),
    protected=st.lists(
        st.builds(CalibrationPlan, texts, counts, encoding=encodings, labels=st.sampled_from([GIVEN, SAMPLED])),
        max_size=2,
    ).map(tuple),
    guards=st.lists(
        st.builds(EvaluationPlan, texts, encoding=encodings, divergence=st.booleans())
        | st.builds(TextPlan, texts, st.none() | counts)
        | st.just(TaskPlan("arc_easy", 100, fewshot=0)),
        max_size=2,
    ).map(tuple),
).map(lambda recipe: recipe if recipe.evaluation else dataclasses.replace(recipe, guards=()))


@given(recipes)
def test_a_recipe_that_is_written_and_read_is_the_same_recipe(recipe):
    text = dump_recipe(recipe)
    found = parse_recipe(text)
    assert found == recipe
    for field in dataclasses.fields(found.edit.policy):
        assert type(getattr(found.edit.policy, field.name)) is type(getattr(recipe.edit.policy, field.name))
    assert dump_recipe(found) == text


def test_a_recipe_file_reads_as_the_documentation_shows_it(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(
        """
recipe: 2
adapter: {source: demo:kinship, digest: ''}
base: {location: demo:smollm2}
calibration: {data: demo:kinship/calibration, examples: 64, separator: false}
edit:
  scope: all
  policy: smooth_abs
  knobs: {temperature: 1, align_mid: no}
  sigma_min: 0
  manual:
    model.layers.0.self_attn.o_proj: {0: 2, 3: 0.5}
""",
        encoding="utf-8",
    )
    recipe = read_recipe(file)
    assert recipe == Recipe(
        "demo:kinship",
        "",
        BaseChoice("demo:smollm2", None, "cpu", "float32"),
        CalibrationPlan("demo:kinship/calibration", 64, 0, 0, 8, Encoding("chat", False, True, 1024)),
        EditPlan(
            SmoothAbs(temperature=1.0, align_mid=False),
            scope="all",
            energy="l1",
            sigma_min=0.0,
            manual={"model.layers.0.self_attn.o_proj": {0: 2.0, 3: 0.5}},
        ),
        evaluation=None,
    )
    assert read_recipe(str(file)) == recipe


def test_the_written_recipe_can_be_read_by_a_person():
    assert RECORD["recipe"] == 2
    assert list(RECORD) == ["recipe", "adapter", "base", "calibration", "edit", "evaluation"]
    assert RECORD["edit"]["policy"] == "grad_direction"
    assert RECORD["edit"]["knobs"] == {f.name: f.default for f in dataclasses.fields(GradDirection)}
    assert "encoding" not in RECORD["calibration"]
    assert RECORD["calibration"]["template"] == "chat"


def test_the_plans_of_a_demo_name_its_base_and_two_different_slices():
    base, calibration, evaluation = demo_plans("demo:kinship")
    assert base == BaseChoice("demo:smollm2")
    # the demos were trained with the paper's space before the answer
    assert calibration == CalibrationPlan("demo:kinship/calibration", encoding=Encoding(separator=True))
    assert evaluation == EvaluationPlan("demo:kinship/test", encoding=Encoding(separator=True))


@given(recipes)
def test_a_recipe_of_the_first_schema_goes_on_as_it_did_and_says_so(recipe):
    record = yaml.safe_load(dump_recipe(recipe))
    record["recipe"] = 1
    sections = [record[name] for name in ("calibration", "evaluation") if name in record]
    for section in [*sections, *record.get("protected", []), *record.get("guards", [])]:
        for name in ("separator", "tokenised", "system", "template_args", "date", "tokenizer"):
            section.pop(name, None)
    found = parse_recipe(yaml.safe_dump(record))
    rows = [guard for guard in found.guards if isinstance(guard, EvaluationPlan)]
    for plan in filter(None, (found.calibration, found.evaluation, *found.protected, *rows)):
        assert (plan.encoding.tokenised, plan.encoding.separator, plan.encoding.tokenizer) == (APART, True, "base")
    (note,) = found.notes
    assert "apart" in note
    # written again it is what earlier versions wrote, so that its digest stays
    again = yaml.safe_load(dump_recipe(found))
    assert again["recipe"] == 1
    assert not {"tokenised", "date", "tokenizer"} & again["calibration"].keys()


def test_a_recipe_of_now_has_no_note():
    assert PLAIN.notes == ()


# ---- what is refused ----


def message_of(error: SurgeryError) -> str:
    """The one line that an error says, with both of its halves."""
    assert len(str(error).splitlines()) == 1
    assert error.problem
    assert error.remedy
    return str(error)


def refusal(text: str) -> str:
    """The message with which a recipe is refused."""
    with pytest.raises((RecipeError, PolicyError)) as caught:
        parse_recipe(text)
    return message_of(caught.value)


def changed(path: str, value) -> str:
    """The plain recipe with one setting put to `value`."""
    record = copy.deepcopy(RECORD)
    *parents, last = path.split(".")
    place = record
    for name in parents:
        place = place[name]
    place[last] = value
    return yaml.safe_dump(record)


def test_a_recipe_of_before_fields_were_named_takes_prompt_and_answer():
    record = copy.deepcopy(RECORD)
    for name in ("prompt_field", "answer_field"):
        del record["calibration"][name]
    assert parse_recipe(yaml.safe_dump(record)) == PLAIN


@pytest.mark.parametrize("value", ["", "{", "{}", 5, None])
def test_a_field_or_template_that_cannot_be_read_is_refused_with_its_place(value):
    for name in ("prompt_field", "answer_field"):
        assert "calibration" in refusal(changed(f"calibration.{name}", value))


@pytest.mark.parametrize("schema", [3, 0, "1", None, "x", [1], True, 1.5])
def test_another_schema_is_refused(schema):
    assert "recipe: 2" in refusal(changed("recipe", schema))


def test_a_file_without_a_schema_is_refused():
    for text in ("", "null", "[]", "- recipe: 1", "text", "{}", "adapter: {source: a, digest: b}"):
        assert "recipe: 2" in refusal(text)


@pytest.mark.parametrize("section", ["adapter", "base", "calibration", "edit"])
def test_a_missing_section_is_named(section):
    record = {name: value for name, value in RECORD.items() if name != section}
    assert repr(section) in refusal(yaml.safe_dump(record))


@pytest.mark.parametrize(
    "path",
    [
        "extra",
        "base.extra",
        "calibration.extra",
        "calibration.limit",
        "edit.extra",
        "edit.gain",
        "evaluation.extra",
        "evaluation.examples",
        "adapter.extra",
    ],
)
def test_an_unknown_key_is_named(path):
    assert path.rpartition(".")[2] in refusal(changed(path, 1))


def test_an_unknown_knob_or_a_knob_of_another_policy_is_named():
    assert "'amp'" in refusal(changed("edit.knobs", {"amp": 1.0}))
    assert "'no_such'" in refusal(changed("edit.knobs", {"no_such": 1.0}))
    assert "gradient" in refusal(changed("edit.policy", "gradient"))


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("adapter", [None, [], "text", 1]),
        ("adapter.source", [None, 1, [], {}]),
        ("adapter.digest", [None, 1, False]),
        ("base", [None, [], "owner/name"]),
        ("base.location", [None, 1, ["x"]]),
        ("base.revision", [1, [], True]),
        ("base.device", [None, 0]),
        ("base.dtype", [None, "int8", "float64", 32]),
        ("calibration", [None, [], "rows.jsonl"]),
        ("calibration.data", [None, 1]),
        ("calibration.examples", [None, "128", 1.5, True, -1]),
        ("calibration.seed", [None, "0", 0.5, -1]),
        ("calibration.start", [None, -1]),
        ("calibration.batch_size", [None, "8", -8]),
        ("calibration.separator", [None, 1, "yes"]),
        ("calibration.eos", [0, "true"]),
        ("calibration.max_length", [None, "long", -5]),
        ("calibration.template", [None, 1]),
        ("edit", [[], "identity"]),
        ("edit.policy", [None, 1, ["identity"], {}]),
        ("edit.knobs", [[], "amp: 1", 3]),
        ("edit.knobs.eta", ["0.2", None, True, [], -1, float("nan"), 10**400]),
        ("edit.sigma_min", [None, "0", True, [], 10**400]),
        ("edit.manual", [[], "text", 5]),
        ("edit.manual.o_proj", [[1.0], "text", {"0": 1.0}, {0: "1"}, {0: None}, {True: 1.0}]),
        ("evaluation", [[], "test.jsonl", 5]),
        ("evaluation.data", [None]),
        ("evaluation.limit", ["10", 1.5, -1]),
        ("evaluation.random", [None, -1, 2.5]),
    ],
)
def test_a_value_of_the_wrong_type_is_named(path, values):
    for value in values:
        message = refusal(changed(path, value))
        assert path.rpartition(".")[2] in message or path.partition(".")[0] in message


@pytest.mark.parametrize("scope", [["o_proj", "down_proj"], 5, None, {"a": 1}, True, "("])
def test_a_scope_that_is_no_usable_text_is_refused_when_the_recipe_is_read(scope):
    # a list, turned into text, would be a character class that matches nearly every path
    assert "scope" in refusal(changed("edit.scope", scope))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("edit.energy", "l3"),
        ("edit.energy", None),
        ("edit.energy", ["l1"]),
        ("edit.sigma_min", -1.0),
        ("edit.sigma_min", float("nan")),
        ("calibration.template", "chatty"),
        ("calibration.batch_size", 0),
        ("calibration.examples", 0),
        ("calibration.max_length", 0),
        ("evaluation.batch_size", 0),
        ("evaluation.limit", 0),
    ],
)
def test_a_value_out_of_range_is_refused_when_the_recipe_is_read(path, value):
    # later would be after minutes of calibration
    assert path.rpartition(".")[2] in refusal(changed(path, value))


@pytest.mark.parametrize("component", [1.5, -1, float("nan"), float("inf")])
def test_a_manual_gain_on_what_is_no_component_is_refused(component):
    assert "manual" in refusal(changed("edit.manual", {"o_proj": {component: 1.0}}))


@pytest.mark.parametrize("gain", [-1.0, float("nan"), float("inf")])
def test_a_manual_gain_that_is_no_gain_is_refused(gain):
    assert "manual" in refusal(changed("edit.manual", {"o_proj": {0: gain}}))


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "a: b: c",
        "\t",
        "recipe: 1\n\x00",
        "recipe: 1\nbase: !!python/object/apply:os.getcwd []",
        "recipe: 1\nbase: 2020-13-45",
        "recipe: 1\nbase: !!int ''",
        "recipe: 1\nbase: !!float x",
        "recipe: 1\nbase: " + "1" * 5000,
        "{[a]: 1}",
        "a: *missing",
        "[" * 1000,
        "recipe: 1\nrecipe: 1\n---\nrecipe: 1",
    ],
    ids=lambda text: repr(text[:30]),
)
def test_text_that_is_no_yaml_is_refused(text):
    refusal(text)


@pytest.mark.parametrize("path", ["nowhere.yaml", "", ".", "x" * 5000, "a\0b", "~no-such-user-here/recipe.yaml"])
def test_a_file_that_cannot_be_read_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    message_of(caught.value)


def test_a_file_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfer\x00")
    with pytest.raises(RecipeError, match="recipe"):
        read_recipe(tmp_path / "recipe.yaml")


leaves = [
    path
    for section, values in RECORD.items()
    for path in ([f"{section}.{name}" for name in values] if isinstance(values, dict) else [section])
]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)


@given(
    path=st.sampled_from([*leaves, "edit.knobs.eta", "edit.knobs.asymmetric", "edit.manual"]),
    value=st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(scalars, inner, max_size=2),
        max_leaves=5,
    ),
)
def test_any_value_anywhere_gives_a_recipe_or_one_line(path, value):
    text = changed(path, value)
    try:
        recipe = parse_recipe(text)
    except (RecipeError, PolicyError) as error:
        message_of(error)
    else:
        # NaN is not equal to itself
        assert parse_recipe(dump_recipe(recipe)) == recipe or ".nan" in text


def test_a_recipe_that_multiplies_itself_by_aliases_is_refused_before_it_grows():
    bomb = "recipe: 1\na: &a [x, x, x, x, x, x, x, x]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{new}: &{new} [*{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}, *{old}]\n"
    with pytest.raises(RecipeError) as caught:
        parse_recipe(bomb)
    assert "alias" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_the_rows_that_chose_an_edit_are_part_of_its_recipe():
    tuning = CalibrationPlan("rows.jsonl", start=128)
    recipe = dataclasses.replace(PLAIN, tuning=tuning)
    assert parse_recipe(dump_recipe(recipe)) == recipe
    assert recipe.seen == [recipe.calibration, tuning]
    assert PLAIN.seen == [PLAIN.calibration]


def test_protected_slices_keep_the_digests_of_their_rows_and_count_as_seen():
    slices = (CalibrationPlan("other.jsonl", 4), CalibrationPlan("text.jsonl", labels=SAMPLED))
    recipe = dataclasses.replace(PLAIN, protected=slices, protected_digests=("a", "b"))
    assert parse_recipe(dump_recipe(recipe)) == recipe
    assert recipe.seen == [PLAIN.calibration, *slices]
    assert "protected" not in RECORD
    assert "labels" not in RECORD["calibration"]


@pytest.mark.parametrize(
    ("protected", "word"),
    [("rows.jsonl", "list"), ([3], r"protected\[0\]"), ([{"data": "a"}, {}], r"protected\[1\]"),
     ([{"data": "a", "digest": 3}], r"protected\[0\].digest"), ([{"data": "a", "labels": "mine"}], "labels")],
)  # fmt: skip
def test_a_broken_list_of_protected_slices_is_refused_with_its_place(protected, word):
    with pytest.raises(RecipeError, match=word):
        parse_recipe(yaml.safe_dump({**RECORD, "protected": protected}))


def test_slices_that_an_edit_was_chosen_on_are_kept_and_count_as_seen():
    slices = (CalibrationPlan("judges.jsonl", 5, start=9), CalibrationPlan("demo:arithmetic/tuning"))
    recipe = dataclasses.replace(PLAIN, chosen=slices)
    assert parse_recipe(dump_recipe(recipe)) == recipe
    assert set(slices) <= set(recipe.seen)
    assert "chosen" not in RECORD
    with pytest.raises(RecipeError, match=r"chosen\[0\]"):
        parse_recipe(yaml.safe_dump({**RECORD, "chosen": [3]}))


def test_guards_stand_beside_an_evaluation():
    record = copy.deepcopy(RECORD)
    record["guards"] = [{"text": "demo:text", "limit": 20}, {"task": "arc_easy"}]
    assert parse_recipe(yaml.safe_dump(record)).guards == (TextPlan("demo:text", 20), TaskPlan("arc_easy"))
    del record["evaluation"]
    assert "guards and no evaluation" in refusal(yaml.safe_dump(record))
    record["guards"] = [{"text": "demo:text", "windw": 3}]
    assert "guards[0]" in refusal(yaml.safe_dump(record))
