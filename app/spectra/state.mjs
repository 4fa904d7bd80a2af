// What the Spectra page shows and what follows from it: every step returns a new state, nothing here touches
// the page. `m` is what the server sent, `choice` what is drawn of it.
import { model } from "./model.mjs"

const NEEDS = new Set(["mean", "magnitude"])

export function blank() {
  return { m: null, choice: null, imposed: undefined }
}

// the browser knows its choice better than the server, unless that imposes another
export function received(state, data) {
  const m = state.m?.data.key === data.key ? state.m : model(data)
  const choice = state.imposed === data.imposed ? state.choice : { ...data.choice }
  return { m, choice, imposed: data.imposed }
}

export function chosen(state, change) {
  return { ...state, choice: { ...state.choice, ...change } }
}

// one of the choices beside the figure; what it makes senseless is set back
export function selected(state, name, value) {
  return chosen(state, { [name]: value, ...(name === "module" && { component: 0 }), ...(name === "list" && { sort: "" }) })
}

export function opened(state, module, component = 0) {
  return chosen(state, { view: "one", module: module.name, component })
}

export const moduleOf = ({ m, choice }) => m.byName.get(choice.module)

const inModule = (state, module) =>
  chosen(state, { module: module.name, component: Math.min(state.choice.component, module.rank - 1) })

// the next module of the same family
export function stepped(state, by) {
  const module = moduleOf(state), members = state.m.members.get(module.family)
  return inModule(state, members[(members.indexOf(module) + by + members.length) % members.length])
}

// what was clicked: a component of the module, or another module
export function clicked(state, hit) {
  return state.choice.view === "one" ? chosen(state, { component: hit.component }) : opened(state, hit.module, hit.component)
}

// null for a key that means nothing here
export function keyed(state, key, shift) {
  const { view, component } = state.choice, module = moduleOf(state)
  const across = { ArrowLeft: -1, ArrowRight: 1 }[key] ?? 0, down = { ArrowUp: -1, ArrowDown: 1 }[key] ?? 0
  if (view === "stability" || !module) return null
  if (key === "Enter" || key === " ") return opened(state, module, component)
  if (key === "Home") return chosen(state, { component: 0 })
  if (key === "End") return chosen(state, { component: module.rank - 1 })
  if (!across && !down) return null
  if (view === "one" && down) return stepped(state, down)
  if (view === "one" || (view === "all" && shift && across))
    return chosen(state, { component: (component + across + module.rank) % module.rank })
  return walked(state, across, down)
}

// to the nearest module in that direction on the board
function walked(state, across, down) {
  const { row, column } = moduleOf(state)
  const ahead = state.m.modules.filter((each) =>
    across ? each.row === row && (each.column - column) * across > 0 : (each.row - row) * down > 0)
  const far = (each) => Math.abs(each.row - row) * 1e4 + Math.abs(each.column - column)
  return ahead.length ? inModule(state, ahead.reduce((best, each) => (far(each) < far(best) ? each : best))) : state
}

// a column of the list that is sorted by turns down and up
export function sorted(state, column) {
  return chosen(state, { sort: state.choice.sort === `-${column}` ? column : `-${column}` })
}

// the components of the chosen list in the order of its choice
export function listed({ m, choice }) {
  const found = m.measured.lists[choice.list].map((row) => ({ ...row, module: m.modules[row.module] }))
  const column = choice.sort.replace("-", ""), way = choice.sort.startsWith("-") ? -1 : 1
  const value = (row) => (column in row ? row[column] : row.module[column]) ?? -Infinity
  if (column) found.sort((a, b) => way * (column === "family" ? value(a).localeCompare(value(b)) : value(a) - value(b)))
  return found
}

export const lacks = ({ m, choice }) => choice.view === "all" && ((NEEDS.has(choice.show) && !m.measured) || (choice.show === "functional" && !m.functional))

// whether the view asks for what enters the modules, which was not measured
export const lacksInputs = ({ m, choice: { view, show, measure } }) =>
  !m.functional && ((view === "all" && show === "functional") || (view === "depth" && ["functional", "full"].includes(measure)))

// the name of the figure that is drawn; null where there is none, or nothing to draw it of
export function figureOf(state) {
  const { m, choice } = state
  if (!m.modules.length || lacks(state) || choice.view === "lists") return null
  if (choice.view === "stability" && !m.measured?.stability.length) return null
  return choice.view
}

export function heightOf({ m, choice }) {
  const rows = m.data.rows.length
  if (choice.view === "all") return Math.round(58 + rows * Math.max(34, Math.min(78, 440 / Math.max(rows, 1))))
  return { one: m.measured ? 520 : 300, depth: 380, stability: 330 }[choice.view]
}
