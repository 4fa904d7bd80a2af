"""Maps of alignment hold the values they were given and their ratios to random."""

import numpy as np
import pytest

import viz

NAN = float("nan")


def heatmap(values: list[list[float]], title: str = "t", cut: float = 1.0) -> viz.Heatmap:
    found = np.array(values, float).reshape(len(values), -1 if values else 0)
    labels = [str(n) for n in range(len(values))]
    return viz.Heatmap(found, labels, labels, title, "overlap", np.full(len(values), 0.01), cut)


def test_a_map_holds_its_values_and_their_ratio_to_random() -> None:
    values = [[1.0, 0.2], [NAN, 1.0]]
    drawn = viz.alignment_heatmaps([heatmap(values)]).data[0]
    np.testing.assert_allclose(drawn.z, values)
    np.testing.assert_allclose(drawn.customdata, np.array(values) / 0.01)


def test_each_maps_colours_are_cut_where_it_says() -> None:
    values = [[1.0, 0.2], [0.3, 1.0]]
    assert viz.alignment_heatmaps([heatmap(values, cut=0.3)]).layout.coloraxis.cmax == 0.3
    two = viz.alignment_heatmaps([heatmap(values, cut=0.3), heatmap(values, cut=0.8)]).layout
    assert (two.coloraxis1.cmax, two.coloraxis2.cmax) == (0.3, 0.8)


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
