// What the map says of its state in words and numbers.
import { cellOf, measureOf, shownOf } from "./state.mjs"

// the numbers beside the map: name and value; null where there is not one map
export function numberRows(state) {
  const { table, data } = state
  if (table?.panels.length !== 1) return null
  const { mean, ratio, above, cells, where } = shownOf(state, table.panels[0], table.panels[0].summary)
  return [
    [`Mean ${where}`, mean === null ? "–" : mean.toFixed(3)],
    ["Against random", ratio === null ? "–" : `${ratio.toFixed(1)}×`],
    ["Beyond random", `${above.toLocaleString("en")} of ${cells.toLocaleString("en")}`],
    ["Expected by luck", (data.level * cells).toFixed(1)],
  ]
}

// `dotted`: cells are large enough for the mark
export function legendWords({ data, choice }, dotted) {
  if (!choice.marks) return data.legend
  return `${dotted ? "Dotted, faded" : "Faded"} cells are not distinguishable from random subspaces (one-sided, ${data.level * 100} % per cell). ` + data.legend
}

export function mapLabel(state) {
  const { table, choice } = state, [p, i, j] = choice.cell ?? []
  const cell = choice.cell && cellOf(state, p, i, j)
  const found = cell
    ? `${table.panels[p].rows[i]}, ${table.panels[p].columns[j]}: ${cell.value.toFixed(3)}, ${(cell.value / cell.reference).toFixed(1)} times random. `
    : ""
  return `${table.panels[p ?? 0].title}. ${found}Arrow keys choose a pair, Escape lets it go.`
}

export function tipLines(state, p, i, j) {
  const panel = state.table.panels[p], cell = cellOf(state, p, i, j), names = [panel.rows[i], panel.columns[j]]
  if (!cell) return [...names, "no value: other dimensions, or fewer components than k"]
  const { value, reference, chance } = cell
  return [
    ...names,
    `${panel.label[measureOf(state, panel)]} ${value.toFixed(3)} · ${(value / reference).toFixed(1)} × random`,
    value <= chance ? "not distinguishable from random" : `chance level ${chance.toFixed(4)}`,
  ]
}

// the coordinates that both leading directions share, a row each
export function sharedRows({ shared }) {
  return shared.map(([name, left, right, share]) =>
    [name, left.toFixed(3), right.toFixed(3), share === null ? "–" : `${(100 * share).toFixed(0)} %`])
}
