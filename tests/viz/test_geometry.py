"""Maps of alignment hold the values they were given and their ratios to random."""

import numpy as np
import pytest

import viz

NAN = float("nan")


def heatmap(values: list[list[float]], reference: float = 0.01, title: str = "t") -> viz.Heatmap:
    found = np.array(values)
    labels = [str(n) for n in range(len(values))]
    return viz.Heatmap(found, labels, labels, title, "overlap", np.full(len(values), reference))


def test_a_map_holds_its_values_and_their_ratio_to_random() -> None:
    values = [[1.0, 0.2], [NAN, 1.0]]
    drawn = viz.alignment_heatmaps([heatmap(values)]).data[0]
    np.testing.assert_allclose(drawn.z, values)
    np.testing.assert_allclose(drawn.customdata, np.array(values) / 0.01)


def test_colours_are_cut_at_the_largest_value_between_different_modules() -> None:
    assert viz.alignment_heatmaps([heatmap([[1.0, 0.2], [0.3, 1.0]])]).layout.coloraxis.cmax == pytest.approx(0.3)
    assert viz.alignment_heatmaps([heatmap([[1.0, NAN], [NAN, 1.0]])]).layout.coloraxis.cmax == 1.0
    assert viz.alignment_heatmaps([heatmap([[1.0, 0.01], [0.0, 1.0]], 0.02)]).layout.coloraxis.cmax == 0.08


@pytest.mark.parametrize("count", [2, 5, 14])
def test_several_maps_stand_in_two_rows_each_with_its_title(count: int) -> None:
    figure = viz.alignment_heatmaps([heatmap([[n / 20]], title=f"<map {n}>") for n in range(count)])
    assert [trace.z[0][0] for trace in figure.data] == [n / 20 for n in range(count)]
    assert {note.text for note in figure.layout.annotations} == {f"&lt;map {n}&gt;" for n in range(count)}


def test_a_map_of_components_holds_its_shares() -> None:
    shares = np.array([[0.5, NAN], [0.1, 0.2]])
    drawn = viz.component_map(shares, ["0", "<1>"], title="t", measure="share", reference=0.05).data[0]
    np.testing.assert_allclose(drawn.z, shares)
    np.testing.assert_allclose(drawn.customdata, shares / 0.05)
    assert list(drawn.y) == ["0", "&lt;1&gt;"]


@pytest.mark.parametrize(
    "figure",
    [
        viz.alignment_heatmaps([]),
        viz.alignment_heatmaps([heatmap([])]),
        viz.component_map(np.zeros((0, 3)), [], title="t", measure="m", reference=0.1),
    ],
    ids=["no map", "an empty map", "no component"],
)
def test_no_data_gives_an_empty_titled_figure(figure: object) -> None:
    assert figure.layout.title.text
    assert not figure.data
    assert figure.layout.annotations[0].text
