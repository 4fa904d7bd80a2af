// What the map knows and what follows from it: every step returns a new state, nothing here touches the page.
// The server computes every value for every k.
import { shades, shorts } from "../components/sheet.mjs"

export function blank() {
  return { data: null, table: null, choice: null, detail: null, serial: 0, untold: false }
}

export function received(state, data) {
  const next = {
    ...state,
    data,
    table: data.table ? decoded(data.table) : state.table,
    shades: state.shades ?? shades(data.palette.shares),
  }
  if (data.serial < state.serial && state.choice) return next
  // what was changed since and not told yet stays
  return { ...next, serial: data.serial, choice: state.untold ? state.choice : data.choice, detail: data.detail }
}

function decoded(table) {
  const panels = table.panels.map((panel) => ({ ...panel, principal: shorts(panel.principal), overlap: shorts(panel.overlap) }))
  return { ...table, panels }
}

export function chosen(state, changes) {
  return { ...state, choice: { ...state.choice, ...changes }, untold: true }
}

// the choice as the server is told it
export function told(state) {
  const serial = state.serial + 1
  return { ...state, serial, untold: false, words: { ...state.choice, serial, have: state.table?.key } }
}

// the cell beside the chosen one; null for a key that leads nowhere
export function moved(state, key) {
  const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[key]
  if (!step || !state.table?.panels.length) return null
  const [p, i, j] = state.choice.cell ?? [0, -step[0], -step[1]]
  const panel = state.table.panels[p], clamp = (at, size) => Math.min(size - 1, Math.max(0, at))
  return chosen(state, { cell: [p, clamp(i + step[0], panel.rows.length), clamp(j + step[1], panel.columns.length)] })
}

export const usesK = ({ choice }) => choice.measure === "overlap" || choice.view === "wall"

// where k stands among those of the table
export const atK = ({ table, choice }) => Math.max(0, table.ks.indexOf(choice.k))

export const measureOf = ({ choice }, panel) => panel.measure || choice.measure

// of what the server says for principal similarity once and for overlap at every k, the part that is shown
export function shownOf(state, panel, both) {
  return measureOf(state, panel) === "principal" ? both.principal : both.overlap[atK(state)]
}

// what a panel shows: codes row by row, each row's random reference and chance level, where colours are cut
export function panelOf(state, p) {
  const { table, choice } = state, panel = table.panels[p], cells = panel.rows.length * panel.columns.length
  const at = atK(state), principal = measureOf(state, panel) === "principal"
  const of = (kind) => panel.space.map((space) => shownOf(state, panel, table.random[space][kind]))
  return {
    codes: principal ? panel.principal : panel.overlap.subarray(at * cells, (at + 1) * cells),
    reference: of("reference"),
    chance: of("chance"),
    cut: shownOf(state, panel, panel.cut)[choice.ratio ? "ratio" : "value"],
  }
}

// the value of a code; null where there is none
export function valueOf({ unit, unknown }, code) {
  return code === unknown || code === undefined ? null : code / unit
}

// value, random reference and chance level of one cell; null where there is none
export function cellOf(state, p, i, j) {
  const { codes, reference, chance } = panelOf(state, p), { columns } = state.table.panels[p]
  const value = valueOf(state.table, codes[i * columns.length + j])
  return value === null ? null : { value, reference: reference[i], chance: chance[i] }
}

// which of the 257 shades a value has
export function shadeOf(value, reference, cut, ratio) {
  const share = ratio ? Math.log(Math.max(value / reference, 0.5) / 0.5) / Math.log(cut / 0.5) : value / cut
  return Math.min(256, Math.max(0, Math.round(256 * share)))
}
